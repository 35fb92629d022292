//! Counts of the span export for `/metrics`, since the process started.

use std::sync::atomic::{AtomicU64, Ordering};

/// Spans that a collector has accepted.
pub static EXPORTED: Count = Count(AtomicU64::new(0));
/// Spans that were dropped: the queue was full, or the collector refused them or did not answer for
/// too long. Includes steps that were lost before they became spans.
pub static DROPPED: Count = Count(AtomicU64::new(0));
/// Failed attempts to export, whether repeated or given up.
pub static FAILED: Count = Count(AtomicU64::new(0));

/// A number that only grows.
#[derive(Debug)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds `number`; the count never decreases.
    pub fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    /// The count since the process started.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
