//! Histograms with etcd's buckets: a first bound that is doubled for each further bucket.
//!
//! ```text
//!   bound      first   2·first   4·first   …   +Inf
//!   counts[i]  what is above the bound before and not above this one
//! ```
//!
//! An observation is one relaxed addition to its bucket and one to the sum; the bucket follows from
//! the position of the highest bit. A snapshot adds the buckets up, as Prometheus wants them.
//!
//! Durations of RPCs have Prometheus's own bounds instead, which are listed.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The most buckets below infinity: those of a lease's TTL.
const BUCKETS_MAX: usize = 24;

/// Counts of observations, by bucket.
#[derive(Debug)]
pub struct Histogram {
    /// The observations in each bucket and in no lower one; the last one in use is unbounded.
    counts: [AtomicU64; BUCKETS_MAX + 1],
    sum: AtomicU64,
    bounds: Bounds,
    /// How many of what is observed make one of what is shown.
    unit: f64,
}

/// The bounds of the buckets below infinity.
#[derive(Clone, Copy, Debug)]
enum Bounds {
    /// The first bound, and how many there are.
    Doubled(u64, usize),
    Listed(&'static [u64]),
}

/// The bounds of Prometheus's clients where a program names none, in nanoseconds.
const DEFAULT_NS: [u64; 11] = [
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// A histogram at one moment, in the unit that is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The bounds, and the observations up to each.
    pub buckets: Vec<(f64, u64)>,
    /// All observations.
    pub count: u64,
    /// The sum of all observations.
    pub sum: f64,
}

impl Histogram {
    /// Durations, shown in seconds. `first_us` is the bound of the first bucket in microseconds.
    pub const fn seconds(first_us: u64, buckets: usize) -> Histogram {
        Self::new(first_us * 1000, buckets, 1e9)
    }

    /// Durations, shown in milliseconds. `first_us` is the bound of the first bucket in
    /// microseconds.
    pub const fn milliseconds(first_us: u64, buckets: usize) -> Histogram {
        Self::new(first_us * 1000, buckets, 1e6)
    }

    /// Plain numbers, from a first bound of 1.
    pub const fn numbers(buckets: usize) -> Histogram {
        Self::new(1, buckets, 1.0)
    }

    /// Durations, shown in seconds, with Prometheus's own bounds.
    pub const fn default_seconds() -> Histogram {
        Self::with(Bounds::Listed(&DEFAULT_NS), 1e9)
    }

    const fn new(first: u64, buckets: usize, unit: f64) -> Histogram {
        assert!(0 < first && buckets <= BUCKETS_MAX);
        Self::with(Bounds::Doubled(first, buckets), unit)
    }

    const fn with(bounds: Bounds, unit: f64) -> Histogram {
        let counts = [const { AtomicU64::new(0) }; BUCKETS_MAX + 1];
        Histogram { counts, sum: AtomicU64::new(0), bounds, unit }
    }

    /// Counts a number, or a duration in nanoseconds.
    pub fn observe(&self, observed: u64) {
        let bucket = match self.bounds {
            Bounds::Doubled(first, buckets) => {
                // How often the first bound has to be doubled to reach the observation.
                let times = observed.saturating_sub(1) / first;
                ((u64::BITS - times.leading_zeros()) as usize).min(buckets)
            }
            Bounds::Listed(bounds) => bounds.partition_point(|bound| *bound < observed),
        };
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(observed, Ordering::Relaxed);
    }

    /// Counts a duration.
    pub fn observe_duration(&self, duration: Duration) {
        self.observe(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// A copy of the counts; while other threads count, they may be a few observations apart.
    pub fn snapshot(&self) -> Snapshot {
        let bounds: Vec<u64> = match self.bounds {
            Bounds::Doubled(first, buckets) => (0..buckets).map(|times| first << times).collect(),
            Bounds::Listed(bounds) => bounds.to_vec(),
        };
        let mut count = 0;
        let mut up_to = |bucket: usize| {
            count += self.counts[bucket].load(Ordering::Relaxed);
            count
        };
        let shown = bounds.iter().enumerate();
        let buckets = shown.map(|(at, bound)| (*bound as f64 / self.unit, up_to(at))).collect();
        let count = up_to(bounds.len());
        Snapshot { buckets, count, sum: self.sum.load(Ordering::Relaxed) as f64 / self.unit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_counts_in_its_bucket_and_in_all_above() {
        let histogram = Histogram::seconds(1000, 14);
        for ns in [0, 1, 1_000_000, 1_000_001, 2_000_000, 2_000_001, u64::MAX / 2] {
            histogram.observe(ns);
        }
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.buckets[..3], [(0.001, 3), (0.002, 5), (0.004, 6)]);
        assert_eq!(snapshot.buckets.last(), Some(&(8.192, 6)));
        assert_eq!((snapshot.buckets.len(), snapshot.count), (14, 7));
    }

    #[test]
    fn listed_bounds_are_those_of_prometheus() {
        let histogram = Histogram::default_seconds();
        for ns in [5_000_000, 5_000_001, 10_000_000_000, 10_000_000_001] {
            histogram.observe(ns);
        }
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.buckets[..2], [(0.005, 1), (0.01, 2)]);
        assert_eq!((snapshot.buckets.last(), snapshot.count), (Some(&(10.0, 3)), 4));
    }

    #[test]
    fn units_are_shown_as_etcd_shows_them() {
        let [pause, ttl] = [Histogram::milliseconds(500, 14), Histogram::numbers(24)];
        pause.observe(1_500_000);
        ttl.observe(60);
        let (pause, ttl) = (pause.snapshot(), ttl.snapshot());
        assert_eq!(pause.buckets[..3], [(0.5, 0), (1.0, 0), (2.0, 1)]);
        assert_eq!((ttl.sum, ttl.buckets[5], ttl.buckets[6]), (60.0, (32.0, 0), (64.0, 1)));
        assert_eq!(ttl.buckets[23].0, 8_388_608.0);
    }
}
