//! How long a request lasted, as far as that is known.

use super::Ended;
use crate::{
    story::{
        Event, Recording,
        order::Order,
        query::{
            Story,
            cluster::{Cluster, Leaderless, start_time},
            silence::{Silence, Silences},
        },
    },
    trace::{Kind, stage::Stage},
};

/// The time of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Period {
    pub(super) from: i128,
    pub(super) to: i128,
    /// The process that serves it, by member and start, if the end of the request is unknown.
    lane: Option<(u8, u16)>,
    pub(super) ended: Option<Ended>,
    pub(super) silence: Option<Silence>,
}

impl Period {
    /// From the beginning of the request to its end.
    pub(super) fn of(recording: &Recording, order: &Order, story: &Story) -> Option<Period> {
        let events = || story.steps.iter().map(|step| step.event);
        let is_rpc = |at: &usize| {
            let event = &recording.events[*at];
            (event.stage, event.id) == (Stage::Rpc, story.id)
        };
        let end = events().find(|at| is_rpc(at) && recording.events[*at].kind == Kind::Span);
        if let Some(end) = end {
            let from = start_time(recording, order, end);
            return Some(Period {
                from,
                to: order.times[end].max(from),
                lane: None,
                ended: None,
                silence: None,
            });
        }
        let all = || recording.events.iter().zip(&order.times);
        let Some(begun) = events().find(is_rpc) else {
            let from = start_time(recording, order, events().next()?);
            let to = events().map(|at| order.times[at]).max()?.max(from);
            return Some(Period { from, to, lane: None, ended: None, silence: None });
        };
        let Event { member, boot, .. } = recording.events[begun];
        let from = start_time(recording, order, begun);
        let own = all().filter(|(event, _)| (event.member, event.boot) == (member, boot));
        let to = own.map(|(_, time)| *time).max()?.max(from);
        let starts = recording.events.iter().filter(|event| event.member == member);
        let next = starts.map(|event| event.boot).filter(|later| boot < *later).min();
        let ended = next.map(|next| Ended { member, next, at: to });
        let lane = (member, boot);
        let mut missing = story.missing.iter();
        let is_over = missing.any(|one| one.stage == Stage::Rpc && one.not_by.is_none());
        let silence = Silences::of(recording, order).of_process(lane).filter(|_| !is_over);
        Some(Period { from, to, lane: Some(lane), ended, silence })
    }

    /// The time without a leader that began when the process that serves the request was lost, if
    /// that led.
    pub(super) fn its_end<'a>(
        &self,
        recording: &Recording,
        order: &Order,
        cluster: &'a Cluster,
    ) -> Option<&'a Leaderless> {
        let (member, boot) = self.lane?;
        let own = recording.members.get(usize::from(member))?.member_id;
        let led = |gap: &&Leaderless| (gap.before, gap.boot) == (own, Some(boot));
        let gap = cluster.leaderless.iter().rfind(led)?;
        let has_ceased = cluster.step_downs.iter().any(|known| known.term == gap.term);
        // It still ran when another led already, or when somebody missed it.
        let lost = gap.to.or(gap.shown.map(|at| order.times[at]));
        let has_run_on = lost.is_some_and(|lost| lost <= self.to);
        (!has_ceased && !has_run_on).then_some(gap)
    }
}
