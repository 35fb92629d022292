//! The verdicts about requests, as many as there is room for.
//!
//! Requests of the past are not heard of again, so their verdicts go: those of which no record came
//! while a whole generation of others was decided. A request whose rpc has not ended may be a
//! stream of hours; its verdict stays, because what was let through in part is no whole trace.

use std::{
    collections::{HashMap, HashSet},
    mem,
};

use super::Verdict;

/// The most verdicts of one generation; there are two.
const GENERATION_MAX: usize = 8192;
/// The most that go over into the next generation because their rpc is open.
const OPEN_MAX: usize = GENERATION_MAX / 2;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    young: HashMap<u64, Verdict>,
    old: HashMap<u64, Verdict>,
    /// The requests that this member serves now.
    open: HashSet<u64>,
}

impl Verdicts {
    /// Takes the verdict about a request out, to be put back.
    pub(super) fn take(&mut self, id: u64) -> Option<Verdict> {
        self.young.remove(&id).or_else(|| self.old.remove(&id))
    }

    /// The rpc of this request begins here, or has ended.
    pub(super) fn note_rpc(&mut self, id: u64, begins: bool) {
        if !begins {
            self.open.remove(&id);
        } else if self.open.len() < OPEN_MAX {
            self.open.insert(id);
        }
    }

    /// Puts a verdict in.
    pub(super) fn put(&mut self, id: u64, verdict: Verdict) {
        if GENERATION_MAX <= self.young.len() {
            let old = mem::replace(&mut self.old, mem::take(&mut self.young));
            let open = &self.open;
            self.young.extend(old.into_iter().filter(|(id, _)| open.contains(id)));
        }
        self.young.insert(id, verdict);
    }
}
