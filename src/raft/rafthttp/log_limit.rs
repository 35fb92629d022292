//! One line of log instead of ten a second.
//!
//! A peer of another cluster redials every 100 ms for as long as it lives. The refusal is worth a
//! line, and worth repeating now and then; not more.

use std::{
    cell::RefCell,
    collections::HashMap,
    time::{Duration, Instant},
};

/// How long the same complaint about the same peer is kept back.
const REPEAT_AFTER: Duration = Duration::from_secs(30);
/// Complaints that are remembered. Peers can make up ids, so there has to be an end.
const COMPLAINTS_MAX: usize = 1024;

/// Remembers the last line of each kind, and its time.
#[derive(Debug, Default)]
pub(super) struct LogLimit {
    said: RefCell<HashMap<(u64, String), Instant>>,
}

impl LogLimit {
    /// Whether this complaint about this peer should be logged now.
    pub(super) fn allows(&self, peer: u64, complaint: &str, now: Instant) -> bool {
        let mut said = self.said.borrow_mut();
        if COMPLAINTS_MAX <= said.len() {
            said.clear();
        }
        let key = (peer, complaint.to_owned());
        if said.get(&key).is_some_and(|at| now.duration_since(*at) < REPEAT_AFTER) {
            return false;
        }
        said.insert(key, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn a_complaint_is_repeated_only_after_a_while() {
        let (limit, start) = (LogLimit::default(), clock::now());
        assert!(limit.allows(1, "refused", start));
        assert!(!limit.allows(1, "refused", start + REPEAT_AFTER / 2));
        assert!(limit.allows(1, "silent", start));
        assert!(limit.allows(2, "refused", start));
        assert!(limit.allows(1, "refused", start + REPEAT_AFTER));
    }

    #[test]
    fn made_up_ids_do_not_fill_the_memory() {
        let (limit, now) = (LogLimit::default(), clock::now());
        for peer in 0..5000 {
            limit.allows(peer, "refused", now);
        }
        assert!(limit.said.borrow().len() <= COMPLAINTS_MAX);
    }
}
