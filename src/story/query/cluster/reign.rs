//! A term with a leader, and what shows when that was lost.
//!
//! Members forget heartbeats of older times, so the newest one in a recording need not be the last
//! one that came. It is the last if all records of its receiver from then on are there, or if a
//! member has measured how long it had not heard of the leader. Otherwise the time without a leader
//! begins with the end of the leader's own records or, without these, with what shows the loss: so
//! it is never longer than the records prove.

use super::Sign;
use crate::story::{Recording, order::Order, query::thinned::Frames};

/// How far the last messages of one leader to two members may be apart, in nanoseconds.
const BEAT_NS: i128 = 250_000_000;

/// A time before a record in which a process writes several keyframes, if all of them are kept; in
/// nanoseconds.
const WHOLE_NS: i128 = 300_000_000;

/// A term with a leader.
#[derive(Clone, Debug, Default)]
pub(super) struct Reign {
    pub(super) leader: u64,
    /// Its own `raft.role`, or the first event of another that names it.
    pub(super) began: Option<usize>,
    /// When a member first heard of it in this term.
    pub(super) first: Option<i128>,
    /// The last event by which another member heard of it in this term, and when.
    pub(super) heard: Option<(i128, usize)>,
    /// When a member last heard of it that has measured its silence since.
    pub(super) measured: Option<i128>,
    /// The last event of its own in the start in which it led.
    pub(super) own: Option<(i128, usize)>,
    /// Its step-down.
    pub(super) ended: Option<(i128, usize)>,
    /// The events that show that somebody missed it, and its own step-down.
    pub(super) missed: Vec<(i128, usize)>,
    /// When other members missed it.
    pub(super) noticed: Vec<i128>,
    /// When members asked for votes of the next term, and the events.
    pub(super) asked: Vec<(i128, usize)>,
}

/// The leader after another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Next {
    pub(super) since: i128,
    pub(super) began: Option<usize>,
    pub(super) led_by: (u64, u64),
}

impl Reign {
    /// Whether nobody else had missed it since its last sign when it stepped down: it led until
    /// then, however few had heard of it.
    fn gave_up(&self) -> bool {
        let heard = self.heard.map_or(i128::MIN, |(heard, _)| heard);
        let before = |(ended, _): (i128, usize)| {
            !self.noticed.iter().any(|noticed| (heard..=ended).contains(noticed))
        };
        self.ended.is_some_and(before)
    }

    /// When the time after this leader began, with which sign, and the position of its event.
    /// `None` if nothing shows that anybody was without a leader.
    pub(super) fn end(
        &self,
        (recording, order): (&Recording, &Order),
        frames: &Frames,
        next: Option<Next>,
    ) -> Option<(i128, Sign, Option<usize>)> {
        let own = || self.ended.or(self.own).map(|(time, at)| (time, Sign::Own, Some(at)));
        // A leader that nobody hears any more does not lead, even if it records that it does.
        let (from, sign, last) = match self.heard {
            Some((time, at)) if !self.gave_up() => (time, Sign::Heard, Some(at)),
            _ => own()?,
        };
        let from = next.map_or(from, |next| from.min(next.since));
        let Some((_, at)) = self.heard.filter(|_| sign == Sign::Heard) else {
            return Some((from, sign, last));
        };
        let since = |list: &[(i128, usize)]| {
            list.iter().map(|(time, _)| *time).filter(|time| from <= *time).min()
        };
        let shown = since(&self.missed).into_iter().chain(since(&self.asked)).min();
        let lost = shown.into_iter().chain(next.map(|next| next.since)).min()?;
        let lane = |at: usize| (recording.events[at].member, recording.events[at].boot);
        let is_measured = self.measured.is_some_and(|known| from <= known + BEAT_NS);
        if is_measured || frames.is_whole(lane(at), (order.times[at], lost)) {
            return Some((from, sign, last));
        }
        // Later messages of the leader may have been forgotten. Its own records end where it did,
        // if none of them was.
        let is_whole = |(time, at): &(i128, usize)| {
            frames.is_whole(lane(*at), (time - WHOLE_NS, *time)) && *time < lost
        };
        match (self.own.filter(is_whole), shown) {
            (Some((own, _)), _) if own <= from => Some((from, sign, last)),
            (Some((own, at)), _) => Some((own, Sign::Own, Some(at))),
            (None, Some(shown)) => Some((shown.min(lost), Sign::Shown, None)),
            (None, None) => None,
        }
    }
}
