//! Histograms of the two waits that every write depends on, in the buckets of etcd's metrics.
//!
//! A histogram is a few counters that any thread may increment. It is fed where the span closes, so
//! that metric and trace agree. (etcd: `etcd_disk_wal_fsync_duration_seconds`,
//! `etcd_disk_backend_commit_duration_seconds`.)

use std::sync::atomic::{AtomicU64, Ordering};

/// Buckets below infinity: 1 ms, doubled thirteen times.
pub const BUCKETS: usize = 14;

const FIRST_NS: u64 = 1_000_000;

/// Durations of `wal.fsync`, for `/metrics`.
pub static WAL_FSYNC: Histogram = Histogram::new();

/// Durations of `backend.commit`, for `/metrics`.
pub static BACKEND_COMMIT: Histogram = Histogram::new();

/// Counts of durations, by bucket.
#[derive(Debug)]
pub struct Histogram {
    /// The durations in each bucket and in no lower one; the last bucket is unbounded.
    counts: [AtomicU64; BUCKETS + 1],
    sum_ns: AtomicU64,
}

/// The counts of a histogram at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// For each bucket, the durations up to its bound; the last number counts all.
    pub cumulative: [u64; BUCKETS + 1],
    /// The sum of all durations, in nanoseconds.
    pub sum_ns: u64,
}

impl Histogram {
    /// A histogram without observations.
    pub const fn new() -> Histogram {
        Histogram { counts: [const { AtomicU64::new(0) }; BUCKETS + 1], sum_ns: AtomicU64::new(0) }
    }

    /// Counts a duration, given in nanoseconds.
    pub fn observe(&self, ns: u64) {
        let bucket = (0..BUCKETS).find(|bucket| ns <= FIRST_NS << bucket).unwrap_or(BUCKETS);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// A copy of the counts; while other threads count, they may be a few durations apart.
    pub fn snapshot(&self) -> Snapshot {
        let mut sum = 0;
        let cumulative = std::array::from_fn(|bucket| {
            sum += self.counts[bucket].load(Ordering::Relaxed);
            sum
        });
        Snapshot { cumulative, sum_ns: self.sum_ns.load(Ordering::Relaxed) }
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

/// The upper bound of a bucket, in seconds.
pub fn bound_seconds(bucket: usize) -> f64 {
    (FIRST_NS << bucket) as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_its_bucket_and_in_all_above() {
        let histogram = Histogram::new();
        histogram.observe(1_000_000);
        histogram.observe(1_000_001);
        histogram.observe(u64::from(u32::MAX) * 1000);
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.cumulative[..3], [1, 2, 2]);
        assert_eq!(snapshot.cumulative[BUCKETS - 1..], [2, 3]);
    }
}
