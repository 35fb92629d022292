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

use super::Story;
use crate::{
    field,
    story::{Event, Recording},
    trace::{id, stage::Stage},
};

/// The members that left out quick steps while they worked for this request, by position.
pub fn brief(recording: &Recording, story: &Story) -> Vec<u8> {
    if is_chosen(recording, story.id) {
        return Vec::new();
    }
    let members = 0..u8::try_from(recording.members.len()).unwrap_or(u8::MAX);
    members.filter(|member| was_brief(recording, story, *member)).collect()
}

/// Strikes what a member left out from the list of what is missing.
pub(super) fn excuse(recording: &Recording, story: &mut Story) {
    if story.missing.iter().any(|missing| missing.stage.is_usually_short()) {
        let brief = brief(recording, story);
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

fn was_brief(recording: &Recording, story: &Story, member: u8) -> bool {
    let own = story.steps.iter().map(|step| &recording.events[step.event]);
    let own = own.filter(|event| event.member == member && event.id == story.id);
    let life = own.map(|event| (event.boot, event.clock, event.clock_end));
    let Some((boot, begin, end)) = life.reduce(|a, b| (a.0, a.1.min(b.1), a.2.max(b.2))) else {
        return false;
    };
    let changes = recording.events.iter().filter(|event| {
        (event.stage, event.member, event.boot) == (Stage::Brief, member, boot)
            && event.clock <= end
    });
    let on = |event: &Event| field!(event, Brief, on) == 1;
    let (before, during): (Vec<_>, Vec<_>) = changes.partition(|event| event.clock < begin);
    let last = before.into_iter().max_by_key(|event| event.clock);
    last.is_some_and(on) || during.into_iter().any(on)
}
