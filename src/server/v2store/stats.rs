//! How often each kind of request has succeeded and failed (etcd: `v2store.Stats`).
//!
//! Some refusals of etcd's store are counted as successes, because the error does not reach the
//! variable that the counting looks at. They are counted the same here, or the numbers of two
//! members of a cluster would differ.

use std::sync::atomic::{AtomicU64, Ordering};

/// A kind of request that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Set,
    Delete,
    Update,
    Create,
    CompareAndSwap,
    CompareAndDelete,
}

/// Counted writes: the same on every member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Writes {
    /// By kind: how many have succeeded.
    pub(crate) succeeded: [u64; 6],
    /// By kind: how many have failed.
    pub(crate) failed: [u64; 6],
    /// The nodes whose time was over.
    pub(crate) expired: u64,
}

impl Writes {
    pub(super) fn count(&mut self, kind: Kind, is_success: bool) {
        let counts = if is_success { &mut self.succeeded } else { &mut self.failed };
        counts[kind as usize] += 1;
    }
}

/// Counted reads of this member, since it has started.
#[derive(Debug, Default)]
pub(super) struct Reads {
    succeeded: AtomicU64,
    failed: AtomicU64,
}

impl Reads {
    pub(super) fn count(&self, is_success: bool) {
        let count = if is_success { &self.succeeded } else { &self.failed };
        count.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> [u64; 2] {
        [&self.succeeded, &self.failed].map(|count| count.load(Ordering::Relaxed))
    }
}

/// All counters at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stats {
    /// Reads that succeeded, and reads that failed.
    pub(crate) reads: [u64; 2],
    pub(crate) writes: Writes,
    /// The watchers that wait now.
    pub(crate) watchers: usize,
}
