//! What an intake has forgotten, so that it does not come back in pieces.
//!
//! A member sends its history again when its connection was broken. That history has only the
//! member's own part of a forgotten request. A request that was forgotten while it ran still sends
//! its end. In a list, both would look like requests that lost nearly all their records.
//!
//! Invariant: after a request was forgotten as a whole, the intake takes nothing that would bring
//! it back into a list. Both notes are bounded: one clock for each boot of a member, and
//! [`OPEN_MAX`] ids.

use std::collections::{HashMap, HashSet};

use crate::{
    story::Event,
    trace::{record::Kind, stage::Stage},
};

/// Ids of requests that were forgotten while they ran. A reader forgets such requests last, so this
/// bound is hardly ever reached; beyond it the list begins anew.
const OPEN_MAX: usize = 4096;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Forgotten {
    /// Up to which member clock events went, by member and boot.
    upto: HashMap<(u8, u16), u64>,
    /// Requests that had not ended.
    open: HashSet<u64>,
}

impl Forgotten {
    /// Notes the events that do not stay, by place.
    pub(super) fn note(&mut self, events: &[Event], stays: impl Fn(usize) -> bool) {
        for (at, event) in events.iter().enumerate() {
            if stays(at) {
                continue;
            }
            let upto = self.upto.entry((event.member, event.boot)).or_default();
            *upto = (*upto).max(event.clock_end);
            if event.stage == Stage::Rpc && event.kind == Kind::Begin {
                self.open.insert(event.id);
            }
        }
        let ends = events.iter().filter(|event| is_end(event));
        ends.for_each(|event| _ = self.open.remove(&event.id));
        if OPEN_MAX < self.open.len() {
            self.open.clear();
        }
    }

    /// Whether the event belongs to what was forgotten. To be asked once for each event.
    pub(super) fn has(&mut self, event: &Event) -> bool {
        let upto = self.upto.get(&(event.member, event.boot));
        if upto.is_some_and(|upto| event.clock_end <= *upto) {
            return true;
        }
        if self.open.is_empty() || event.id == 0 {
            return false;
        }
        match is_end(event) {
            true => self.open.remove(&event.id),
            false => self.open.contains(&event.id),
        }
    }
}

fn is_end(event: &Event) -> bool {
    event.stage == Stage::Rpc && event.kind == Kind::Span
}
