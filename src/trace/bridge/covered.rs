//! Decides, before a pass of a loop begins, whether the pass may cover an entry of a kept request.
//!
//! ```text
//!   raft.entry of a kept request, index 7 ──▶ wanted = 7
//!   wal.write   covered up to 6 ──▶ open ──▶ ends at 9 ──▶ nothing is wanted any more
//!   wal.fsync   covered up to 6 ──▶ open ──▶ ...
//! ```
//!
//! The collector sees afterwards what a pass has covered. A span must be opened before that is
//! known. So while a loop has not reached the newest wanted entry, all its passes are opened. That
//! misses none, and now and then opens one too many: a pass that was about to begin when the entry
//! came.
//!
//! The numbers are read and written one by one, so they may not match. The result is a span too
//! many or, when entries are replaced by those of a new leader, one too few. Nothing depends on it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::super::stage::Stage;

/// The loops that cover entries by index, and the field with the index that each has reached.
const LOOPS: [(Stage, usize); 5] = [
    (Stage::WalWrite, Stage::WalWrite.slot("written.new")),
    (Stage::WalFsync, Stage::WalFsync.slot("synced.new")),
    (Stage::RaftCommit, Stage::RaftCommit.slot("commit.new")),
    (Stage::BufferFreeze, Stage::BufferFreeze.slot("index")),
    (Stage::BackendCommit, Stage::BackendCommit.slot("index.new")),
];

static COVERED: Covered = Covered::new();

/// The index that each loop has reached, and the newest index that is wanted.
#[derive(Debug)]
struct Covered {
    wanted: AtomicU64,
    upto: [AtomicU64; LOOPS.len()],
}

/// Notes that this entry, which is about to be written, belongs to a kept request.
pub(super) fn entry(index: u64) {
    COVERED.entry(index);
}

/// Whether the next pass of this loop is to be opened.
pub(super) fn wants(stage: Stage) -> bool {
    COVERED.wants(stage)
}

/// Notes how far a pass has come.
pub(super) fn ended(stage: Stage, fields: &[u64; 8]) {
    COVERED.ended(stage, fields);
}

impl Covered {
    const fn new() -> Covered {
        Covered { wanted: AtomicU64::new(0), upto: [const { AtomicU64::new(0) }; LOOPS.len()] }
    }

    fn entry(&self, index: u64) {
        self.wanted.store(index, Ordering::Relaxed);
        for upto in &self.upto {
            // An index comes a second time when a new leader's entry replaces the first.
            upto.fetch_min(index.saturating_sub(1), Ordering::Relaxed);
        }
    }

    fn wants(&self, stage: Stage) -> bool {
        place(stage).is_some_and(|at| {
            self.upto[at].load(Ordering::Relaxed) < self.wanted.load(Ordering::Relaxed)
        })
    }

    fn ended(&self, stage: Stage, fields: &[u64; 8]) {
        if let Some(at) = place(stage) {
            self.upto[at].store(fields[LOOPS[at].1], Ordering::Relaxed);
        }
    }
}

fn place(stage: Stage) -> Option<usize> {
    LOOPS.iter().position(|(known, _)| *known == stage)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pass of this loop up to this index, as far as it was opened.
    fn pass(covered: &Covered, stage: Stage, upto: u64) -> bool {
        let is_open = covered.wants(stage);
        let mut fields = [0; 8];
        fields[LOOPS[place(stage).unwrap()].1] = upto;
        if is_open {
            covered.ended(stage, &fields);
        }
        is_open
    }

    #[test]
    fn each_loop_is_opened_until_it_has_covered_the_entry() {
        let covered = Covered::new();
        for (stage, _) in LOOPS {
            assert!(!pass(&covered, stage, 6), "nobody has asked for {}", stage.name());
        }
        covered.entry(7);
        for (stage, _) in LOOPS {
            let seen = [6, 9, 11].map(|upto| pass(&covered, stage, upto));
            assert_eq!([true, true, false], seen, "{}", stage.name());
        }
        assert!(!covered.wants(Stage::WatchSync), "it covers no entries");
        covered.entry(12);
        assert!(covered.wants(Stage::WalFsync));
    }

    #[test]
    fn an_entry_in_the_place_of_a_lost_one_is_covered_again() {
        let covered = Covered::new();
        covered.entry(20);
        assert!(pass(&covered, Stage::WalFsync, 20));
        covered.entry(15);
        assert!(pass(&covered, Stage::WalFsync, 15));
        assert!(!pass(&covered, Stage::WalFsync, 16));
    }
}
