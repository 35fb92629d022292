//! When to log the remaining time of each lease. Reads no clock.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

/// The leases whose remaining time is to be logged, by the moment at which that is due.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// `None` without `--experimental-enable-lease-checkpoint`: nothing is ever due.
    interval: Option<Duration>,
    queue: BTreeSet<(Instant, i64)>,
    /// The moment under which a lease is in `queue`.
    places: HashMap<i64, Instant>,
}

impl Schedule {
    /// A schedule without leases.
    pub(super) fn every(interval: Duration) -> Schedule {
        Schedule { interval: Some(interval), ..Schedule::default() }
    }

    /// Makes a lease with `left` seconds due in one interval, if it lives longer than that. This
    /// replaces an earlier plan (etcd: scheduleCheckpointIfNeeded).
    pub(super) fn plan(&mut self, lease: i64, left: i64, now: Instant) {
        self.forget(lease);
        let Some(interval) = self.interval else { return };
        if u64::try_from(left).is_ok_and(|left| interval.as_secs() < left) {
            let at = now + interval;
            self.queue.insert((at, lease));
            self.places.insert(lease, at);
        }
    }

    /// Drops the plan of a lease, for example because the lease is revoked.
    pub(super) fn forget(&mut self, lease: i64) {
        if let Some(at) = self.places.remove(&lease) {
            self.queue.remove(&(at, lease));
        }
    }

    /// Drops all plans: this member is no longer the primary.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.places.clear();
    }

    /// Whether [`Schedule::take_due`] would return a lease.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.queue.first().is_some_and(|(at, _)| *at <= now)
    }

    /// Takes the plan of the lease that has been due longest.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<i64> {
        let (_, lease) = *self.queue.first().filter(|(at, _)| *at <= now)?;
        self.forget(lease);
        Some(lease)
    }
}
