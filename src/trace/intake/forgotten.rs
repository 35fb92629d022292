//! What was forgotten, so that it is not heard again in pieces.
//!
//! A member whose connection broke tells its history anew. Of a request that was forgotten, that
//! history has only this member's half; and a request that was forgotten while it ran still has its
//! end before it. Taken in, both would look like requests of which nearly everything was lost.
//!
//! Invariant: of a request that was forgotten as a whole, nothing is taken in afterwards that would
//! bring it back. Both notes are bounded: a clock for each boot of a member, and [`OPEN_MAX`] ids.

use std::collections::{HashMap, HashSet};

use crate::trace::{event::Event, record::Kind, stage::Stage};

/// Requests that were forgotten while they ran. They go only when these alone are too much to be
/// kept, so that this is more than there will be; beyond it, all are let go.
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
    /// Notes what goes: the events that do not stay, by place.
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
