//! The times of the raft loop, from the command line.

use std::time::Duration;

/// The times of the raft loop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// The length of a tick (`--heartbeat-interval`).
    pub(crate) tick: Duration,
    /// Ticks to skip once, when the member can reach others; 0 for none.
    pub(crate) advance: usize,
    /// Whether this member is the only one, and need not wait for others before it skips.
    pub(crate) is_alone: bool,
    /// How long a proposal may wait for a leader.
    pub(crate) patience: Duration,
}
