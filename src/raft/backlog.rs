//! Committed entries that were handed to apply and are not applied yet.
//!
//! Raft never waits for apply. But a log that is replayed at a start, or a leader that is faster
//! than this member's apply, must not fill the memory. So beyond [`BYTES_MAX`] raft hands over one
//! entry a turn.

use std::collections::VecDeque;

use raft::eraftpb::Entry;

/// Bytes beyond which raft hands over one entry a turn.
const BYTES_MAX: usize = 64 << 20;

/// The entries that apply has not applied yet, by bytes.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    /// Last index and bytes of each hand-over.
    parts: VecDeque<(u64, usize)>,
    bytes: usize,
}

impl Backlog {
    /// Adds entries that are handed to apply.
    pub(crate) fn add(&mut self, entries: &[Entry]) {
        let bytes = entries.iter().map(|entry| entry.data.len()).sum();
        self.parts.push_back((entries.last().map_or(0, |last| last.index), bytes));
        self.bytes += bytes;
    }

    /// Removes the entries up to `index`, which are applied.
    pub(crate) fn applied(&mut self, index: u64) {
        while let Some((_, bytes)) = self.parts.pop_front_if(|(last, _)| *last <= index) {
            self.bytes -= bytes;
        }
    }

    /// Whether apply has more than [`BYTES_MAX`] to do.
    pub(crate) fn is_full(&self) -> bool {
        BYTES_MAX < self.bytes
    }
}
