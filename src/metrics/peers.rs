//! What is counted for each peer.
//!
//! The transport asks once for the counts of a peer and keeps them, so that counting takes no lock.
//! A peer's series begin at 0, and stay after the member has left the cluster, as in etcd; they
//! are few, because only members of the cluster have some.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{Counter, Gauge, Histogram};

/// The most peers with counts of their own. The next ones share the last ones' place and are not
/// shown: no cluster has so many members in the life of a process.
const PEERS_MAX: usize = 256;

/// One direction of the snapshots between this member and a peer.
#[derive(Debug)]
pub struct Snapshots {
    /// Snapshots that have arrived whole.
    pub succeeded: Counter,
    /// Snapshots that have not.
    pub failed: Counter,
    /// Snapshots under way.
    pub in_flight: Gauge,
    /// How long those took that have arrived.
    pub took: Histogram,
}

impl Snapshots {
    const fn new() -> Self {
        Self {
            succeeded: Counter::new(),
            failed: Counter::new(),
            in_flight: Gauge::new(),
            took: Histogram::seconds(100_000, 10),
        }
    }

    /// One that was in flight has ended.
    pub fn ended(&self, has_succeeded: bool, took: Duration) {
        self.in_flight.add(-1);
        match has_succeeded {
            true => {
                self.succeeded.increment();
                self.took.observe_duration(took);
            }
            false => self.failed.increment(),
        }
    }
}

/// The counts of one peer.
#[derive(Debug)]
pub struct Peer {
    /// The id of this member.
    pub local: u64,
    /// The id of the peer.
    pub remote: u64,
    /// Bytes of messages and snapshots that were sent to the peer.
    pub sent_bytes: Counter,
    /// Messages that could not be sent to it.
    pub sent_failures: Counter,
    /// Bytes of messages and snapshots that came from it.
    pub received_bytes: Counter,
    /// Messages from it that could not be taken.
    pub received_failures: Counter,
    /// How long it takes to answer a probe.
    pub round_trip: Histogram,
    /// 1 while this member hears it.
    pub active: Gauge,
    /// How often this member has ceased to hear it.
    pub disconnected: Counter,
    /// Snapshots to the peer.
    pub snapshots_sent: Snapshots,
    /// Snapshots from the peer.
    pub snapshots_received: Snapshots,
}

impl Peer {
    fn new(local: u64, remote: u64) -> Self {
        Self {
            local,
            remote,
            sent_bytes: Counter::new(),
            sent_failures: Counter::new(),
            received_bytes: Counter::new(),
            received_failures: Counter::new(),
            round_trip: Histogram::seconds(100, 16),
            active: Gauge::new(),
            disconnected: Counter::new(),
            snapshots_sent: Snapshots::new(),
            snapshots_received: Snapshots::new(),
        }
    }
}

static PEERS: Mutex<Vec<Arc<Peer>>> = Mutex::new(Vec::new());

/// The counts that member `local` keeps of its peer `remote`; made when they are first asked for.
pub fn peer(local: u64, remote: u64) -> Arc<Peer> {
    let mut peers = PEERS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(peer) = peers.iter().find(|peer| (peer.local, peer.remote) == (local, remote)) {
        return Arc::clone(peer);
    }
    let peer = Arc::new(Peer::new(local, remote));
    if peers.len() < PEERS_MAX {
        peers.push(Arc::clone(&peer));
    }
    peer
}

/// The counts of all peers.
pub fn peers() -> Vec<Arc<Peer>> {
    PEERS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_one_set_of_counts_however_often_it_is_dialled() {
        peer(u64::MAX, 7).sent_bytes.add(3);
        peer(u64::MAX, 7).sent_bytes.add(4);
        peer(u64::MAX, 8).sent_bytes.add(1);
        let mine = peers().into_iter().filter(|peer| peer.local == u64::MAX);
        let sent: Vec<_> = mine.map(|peer| (peer.remote, peer.sent_bytes.get())).collect();
        assert_eq!(sent, [(7, 7), (8, 1)]);
    }
}
