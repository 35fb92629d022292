//! What a member's export has come to, for `/metrics`: of this process, since it started.

use std::sync::atomic::{AtomicU64, Ordering};

/// Spans that a collector has taken.
pub static EXPORTED: Count = Count(AtomicU64::new(0));
/// Spans that were given up: the queue was full, the collector refused them, or it was away too
/// long. Also steps that were lost before they became spans.
pub static DROPPED: Count = Count(AtomicU64::new(0));
/// Attempts that failed, and were tried again or given up.
pub static FAILED: Count = Count(AtomicU64::new(0));

/// A number that only grows.
#[derive(Debug)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds.
    pub fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    /// How many so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
