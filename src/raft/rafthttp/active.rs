//! Which peers are heard: read by other threads.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use super::stream::Channel;
use crate::clock;

/// Which peers this member hears, and since when. (etcd: peerStatus)
///
/// A peer counts while at least one of the two streams that this member reads from it is up; a
/// stream that stays silent for five seconds is not.
#[derive(Debug, Default)]
pub struct Active {
    peers: Mutex<HashMap<u64, Heard>>,
    removed: AtomicBool,
}

#[derive(Clone, Copy, Debug)]
struct Heard {
    since: Instant,
    channels: u8,
}

impl Active {
    /// Since when this peer is heard without a gap, or `None` if it is not.
    pub fn since(&self, peer: u64) -> Option<Instant> {
        self.lock().get(&peer).map(|heard| heard.since)
    }

    /// How many peers are heard.
    pub fn connected(&self) -> usize {
        self.lock().len()
    }

    /// The peers that are heard and since when, in the order of their ids.
    pub fn peers(&self) -> Vec<(u64, Instant)> {
        let mut peers: Vec<_> = self.lock().iter().map(|(&id, heard)| (id, heard.since)).collect();
        peers.sort_unstable_by_key(|&(id, _)| id);
        peers
    }

    /// Whether a peer has said that this member was removed from the cluster for good. The member
    /// should stop itself.
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Relaxed)
    }

    /// Notes it, and says whether that is news.
    pub(super) fn set_removed(&self) -> bool {
        !self.removed.swap(true, Ordering::Relaxed)
    }

    pub(super) fn up(&self, peer: u64, channel: Channel) {
        let fresh = Heard { since: clock::now(), channels: 0 };
        self.lock().entry(peer).or_insert(fresh).channels |= channel.bit();
    }

    pub(super) fn down(&self, peer: u64, channel: Channel) {
        let mut peers = self.lock();
        let Some(heard) = peers.get_mut(&peer) else { return };
        heard.channels &= !channel.bit();
        if heard.channels == 0 {
            peers.remove(&peer);
        }
    }

    pub(super) fn forget(&self, peer: u64) {
        self.lock().remove(&peer);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Heard>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_heard_while_one_of_its_streams_is_up() {
        let active = Active::default();
        active.up(7, Channel::Message);
        let since = active.since(7).unwrap();
        active.up(7, Channel::MsgApp);
        active.down(7, Channel::Message);
        assert_eq!(active.since(7), Some(since));
        assert_eq!((active.connected(), active.peers()), (1, vec![(7, since)]));
        active.down(7, Channel::MsgApp);
        active.down(7, Channel::MsgApp);
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
