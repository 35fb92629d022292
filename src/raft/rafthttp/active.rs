//! The peers that are active, for other threads to read.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use super::{channel::Channel, traffic::Traffic};
use crate::clock;

/// The peers that send to this member, and since when. (etcd: peerStatus)
///
/// A peer counts as active while at least one of the two streams that this member reads from it is
/// up; a stream that stays silent for five seconds is not.
#[derive(Debug, Default)]
pub(crate) struct Active {
    peers: Mutex<HashMap<u64, Streams>>,
    removed: AtomicBool,
    /// Counts of messages.
    pub(crate) traffic: Traffic,
}

/// The streams with one peer that are up.
#[derive(Clone, Copy, Debug, Default)]
struct Streams {
    heard_since: Option<Instant>,
    read: u8,
    written: u8,
    /// Whether the peer speaks glass, as the newest stream says that it has opened for messages.
    is_glass: bool,
}

impl Active {
    /// Whether this peer has been active without a gap since `start`.
    pub(crate) fn connected_since(&self, peer: u64, start: Instant) -> bool {
        self.since(peer).is_some_and(|since| since <= start)
    }

    /// The peers that have been active without a gap since `start`.
    pub(crate) fn active_since(&self, start: Instant) -> impl Iterator<Item = u64> {
        self.peers().into_iter().filter(move |(_, since)| *since <= start).map(|(id, _)| id)
    }

    /// Since when this peer has been active without a gap, or `None` if it is not.
    pub(crate) fn since(&self, peer: u64) -> Option<Instant> {
        self.lock().get(&peer).and_then(|streams| streams.heard_since)
    }

    /// Number of active peers.
    pub(crate) fn connected(&self) -> usize {
        self.lock().values().filter(|streams| streams.heard_since.is_some()).count()
    }

    /// The active peers and since when, in the order of their ids.
    pub(crate) fn peers(&self) -> Vec<(u64, Instant)> {
        let mut peers: Vec<_> = self
            .lock()
            .iter()
            .filter_map(|(&id, streams)| Some((id, streams.heard_since?)))
            .collect();
        peers.sort_unstable_by_key(|&(id, _)| id);
        peers
    }

    /// Whether all four streams with this peer are up: two that it writes, and two that it reads. A
    /// peer that sends but does not read is behind a broken network.
    #[cfg(test)]
    pub(super) fn is_complete(&self, peer: u64) -> bool {
        let all = Channel::MsgApp.bit() | Channel::Message.bit();
        self.lock().get(&peer).is_some_and(|streams| streams.read & streams.written == all)
    }

    /// Whether this peer speaks glass: it then appends a forwarded proposal only in the term in
    /// which it was sent.
    pub(crate) fn speaks_glass(&self, peer: u64) -> bool {
        self.lock().get(&peer).is_some_and(|streams| streams.is_glass)
    }

    /// Whether a peer has answered that this member was removed from the cluster. The member should
    /// stop itself.
    pub(crate) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Relaxed)
    }

    /// Notes that this member was removed. Returns false if that was known.
    pub(super) fn set_removed(&self) -> bool {
        !self.removed.swap(true, Ordering::Relaxed)
    }

    /// This member has begun, or ended, to read a stream of the peer's. Returns whether the peer
    /// counts as active now, if that has changed.
    pub(super) fn set_read(&self, peer: u64, channel: Channel, is_up: bool) -> Option<bool> {
        let mut peers = self.lock();
        let streams = peers.entry(peer).or_default();
        let was_active = streams.read != 0;
        streams.read = with_bit(streams.read, channel, is_up);
        match streams.read {
            0 => streams.heard_since = None,
            _ => streams.heard_since = streams.heard_since.or_else(|| Some(clock::now())),
        }
        let is_active = streams.read != 0;
        (was_active != is_active).then_some(is_active)
    }

    /// The peer has begun, or ended, to read a stream of this member's.
    pub(super) fn set_written(&self, peer: u64, channel: Channel, is_up: bool) {
        let mut peers = self.lock();
        let streams = peers.entry(peer).or_default();
        streams.written = with_bit(streams.written, channel, is_up);
    }

    /// The peer has opened a stream for messages; it speaks glass, or not.
    pub(super) fn set_glass(&self, peer: u64, is_glass: bool) {
        self.lock().entry(peer).or_default().is_glass = is_glass;
    }

    pub(super) fn forget(&self, peer: u64) {
        self.lock().remove(&peer);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Streams>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn with_bit(bits: u8, channel: Channel, is_up: bool) -> u8 {
    if is_up { bits | channel.bit() } else { bits & !channel.bit() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_active_while_one_of_its_streams_is_read() {
        let active = Active::default();
        active.set_written(7, Channel::Message, true);
        assert_eq!((active.since(7), active.connected()), (None, 0));
        active.set_read(7, Channel::Message, true);
        let since = active.since(7).unwrap();
        active.set_read(7, Channel::MsgApp, true);
        assert!(!active.is_complete(7));
        active.set_written(7, Channel::MsgApp, true);
        assert!(active.is_complete(7));
        active.set_read(7, Channel::Message, false);
        assert_eq!(active.since(7), Some(since));
        assert_eq!((active.connected(), active.peers()), (1, vec![(7, since)]));
        active.set_read(7, Channel::MsgApp, false);
        active.set_read(7, Channel::MsgApp, false);
        assert_eq!((active.since(7), active.connected()), (None, 0));
    }

    #[test]
    fn being_removed_is_news_once() {
        let active = Active::default();
        assert!(!active.is_removed());
        assert!(active.set_removed());
        assert!(!active.set_removed());
        assert!(active.is_removed());
    }
}
