//! Which members left out the quick steps of a request, because they were under load.
//!
//! ```text
//!   trace.brief on=1        on=0
//!   ───────┼─────────────────┼────────▶
//!       a request of this time that was kept only because it failed or was slow has no record of
//!       its checks and look-ups, nor of other steps that were short
//! ```
//!
//! What was left out was never recorded, so it is neither missing nor lost, and `show` says it in a
//! line of its own. If the record that began the state was not captured, nothing is known, and
//! nothing is said.

use std::collections::HashMap;

use super::Story;
use crate::{
    field,
    story::{Event, Recording},
    trace::{id, stage::Stage},
};

/// When each start of a member began to leave out quick steps, and when it ended: the clock, and
/// whether it began. In the order of the clock.
#[derive(Debug, Default)]
pub(super) struct Briefs {
    changes: HashMap<(u8, u16), Vec<(u64, bool)>>,
}

impl Briefs {
    pub(super) fn of(recording: &Recording) -> Briefs {
        let mut changes: HashMap<(u8, u16), Vec<(u64, bool)>> = HashMap::new();
        for event in recording.events.iter().filter(|event| event.stage == Stage::Brief) {
            let own = changes.entry((event.member, event.boot)).or_default();
            own.push((event.clock, field!(event, Brief, on) == 1));
        }
        changes.values_mut().for_each(|own| own.sort_unstable());
        Briefs { changes }
    }

    /// Whether the state held at some moment between these clocks.
    fn held(&self, lane: (u8, u16), (begin, end): (u64, u64)) -> bool {
        let Some(own) = self.changes.get(&lane) else { return false };
        let before = own.partition_point(|(clock, _)| *clock < begin);
        let during = own[before..].iter().take_while(|(clock, _)| *clock <= end);
        let last = before.checked_sub(1).map(|at| own[at]);
        last.is_some_and(|(_, on)| on) || during.into_iter().any(|(_, on)| *on)
    }

    /// Notes which members left out quick steps while they worked for this request, and strikes
    /// these steps from the list of what is missing.
    pub(super) fn note(&self, recording: &Recording, story: &mut Story) {
        if self.changes.is_empty() || is_chosen(recording, story.id) {
            return;
        }
        let mut lives: HashMap<u8, (u16, u64, u64)> = HashMap::new();
        let own = story.steps.iter().map(|step| &recording.events[step.event]);
        for Event { member, boot, clock, clock_end, .. } in own.filter(|event| event.id == story.id)
        {
            let life = lives.entry(*member).or_insert((*boot, *clock, *clock_end));
            *life = (life.0, life.1.min(*clock), life.2.max(*clock_end));
        }
        let held = |(member, (boot, begin, end)): (u8, (u16, u64, u64))| {
            self.held((member, boot), (begin, end)).then_some(member)
        };
        story.brief = lives.into_iter().filter_map(held).collect();
        story.brief.sort_unstable();
        let brief = &story.brief;
        story.missing.retain(|missing| {
            !(missing.stage.is_usually_short() && brief.contains(&missing.member))
        });
    }
}

/// Whether all members knew from the start that the request would be kept.
fn is_chosen(recording: &Recording, id: u64) -> bool {
    let is_ours = recording.members.iter().any(|member| member.member_id & 0xffff == id >> 48);
    if is_ours { id & 1 == 1 } else { id::hash(id).is_multiple_of(id::ONE_IN) }
}
