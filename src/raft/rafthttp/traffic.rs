//! Counts of messages with other members, for `/v2/stats` (etcd: `v2stats`).
//!
//! etcd's latency of a follower is the time in which a message is encoded and written. Here it is
//! the time from raft to the stream: what a MsgApp waits while the link is busy.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// The counts of a member since its start.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    sent: AtomicU64,
    received: AtomicU64,
    peers: Mutex<BTreeMap<u64, Latency>>,
}

/// The MsgApps to one peer: how many, and how long they took, in milliseconds (etcd:
/// `FollowerStats`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Latency {
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    pub(crate) current: f64,
    pub(crate) minimum: f64,
    pub(crate) maximum: f64,
    sum: f64,
    sum_of_squares: f64,
}

impl Latency {
    fn count(&mut self, millis: f64) {
        self.minimum = if self.succeeded == 0 { millis } else { self.minimum.min(millis) };
        self.maximum = self.maximum.max(millis);
        self.current = millis;
        self.succeeded += 1;
        self.sum += millis;
        self.sum_of_squares += millis * millis;
    }

    /// The mean, and the standard deviation from it.
    #[allow(clippy::cast_precision_loss, reason = "a mean need not be exact")]
    pub(crate) fn average_and_deviation(&self) -> (f64, f64) {
        let count = self.succeeded.max(1) as f64;
        let average = self.sum / count;
        let variance = (self.sum_of_squares / count - average * average).max(0.0);
        (average, variance.sqrt())
    }
}

impl Traffic {
    /// A MsgApp was handed over for a peer.
    pub(super) fn note_sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// A MsgApp has come.
    pub(super) fn note_received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    /// A MsgApp is in its stream, this many nanoseconds after raft has handed it over.
    #[allow(clippy::cast_precision_loss, reason = "as above")]
    pub(super) fn note_written(&self, peer: u64, nanos: u64) {
        self.of(peer, |latency| latency.count(nanos as f64 / 1e6));
    }

    /// A MsgApp was dropped.
    pub(super) fn note_failed(&self, peer: u64) {
        self.of(peer, |latency| latency.failed += 1);
    }

    /// The counts by peer.
    pub(crate) fn peers(&self) -> BTreeMap<u64, Latency> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The MsgApps that were sent, and those that have come.
    pub(crate) fn appends(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.received.load(Ordering::Relaxed))
    }

    fn of(&self, peer: u64, note: impl FnOnce(&mut Latency)) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        note(peers.entry(peer).or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_have_their_mean_and_their_deviation() {
        let traffic = Traffic::default();
        for millis in [1, 2, 3] {
            traffic.note_written(7, millis * 1_000_000);
        }
        traffic.note_failed(7);
        let latency = traffic.peers()[&7];
        assert_eq!((latency.succeeded, latency.failed), (3, 1));
        assert_eq!([latency.current, latency.minimum, latency.maximum], [3.0, 1.0, 3.0]);
        let (average, deviation) = latency.average_and_deviation();
        assert!((average - 2.0).abs() < 1e-9 && (deviation - (2.0_f64 / 3.0).sqrt()).abs() < 1e-9);
    }
}
