//! Remembers what an intake has forgotten, so that no parts of it come back.
//!
//! A member sends its history again after a broken connection. That history has only the member's
//! own part of a forgotten request. A request forgotten while it ran still sends its end. In a
//! list, both would look like requests that lost nearly all their records.
//!
//! Invariant: once a request was forgotten as a whole, the intake takes nothing that would bring it
//! back into a list. Both notes are bounded: one clock per boot of a member, and [`OPEN_MAX`] ids.

use std::collections::{HashMap, HashSet};

use crate::{
    story::Event,
    trace::{record::Kind, stage::Stage},
};

/// Largest number of ids of requests forgotten while they ran. A reader forgets such requests last,
/// so this bound is rarely reached; beyond it the set starts again.
const OPEN_MAX: usize = 4096;

/// Notes of forgotten events; see the essay of this module.
#[derive(Debug, Default)]
pub(super) struct Forgotten {
    /// The member clock up to which events were forgotten, by member and boot.
    upto: HashMap<(u8, u16), u64>,
    /// Requests that had not ended when they were forgotten.
    open: HashSet<u64>,
}

impl Forgotten {
    /// Records the events that `stays` rejects, by position.
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

    /// Whether the event belongs to something forgotten. Call it once per event.
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
