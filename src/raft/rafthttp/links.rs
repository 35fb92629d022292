//! Links that are cut: peers with which this member does not talk, because `glass up` asks for it.
//!
//! A cut link behaves as a network that drops packets. Raft's messages are dropped in both
//! directions, each is counted in `raft.drop`, and the sender learns nothing. Connections stay
//! open; without heartbeats their readers close them after five seconds, and dialling waits for an
//! answer in vain, as every question to the peer does. Both ends of a link get the request, so each
//! direction is dropped where it begins; what was on its way is dropped where it arrives.
//!
//! Invariants
//! * The requests come through one channel, which the member's starter hands over. A member that
//!   was started without it has none, and no peer or client can ask.
//! * A link is named by the peer's URLs. Raft's messages know its id, questions only its address.
//! * A change of a link is recorded (`raft.link`) before a message is dropped because of it.
//!
//! Left out, and why
//! * A cut of one direction: over TCP, which needs its acknowledgements, that is a cut of both.
//! * TCP's repetitions: what was dropped is not sent again when the link is healed. Raft repeats.
//! * Answers to a peer that was not asked to cut the link, such as one of etcd's: raft's messages
//!   of it are dropped, its `/version` is answered.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::{Notify, watch};

use super::dial;
use crate::mark;

/// The peer URLs to which links are cut, for as long as the sender sends no others.
pub type Cuts = watch::Receiver<Vec<String>>;

/// Which links are cut. The peer thread changes it; the threads that ask questions read it, too.
#[derive(Debug, Default)]
pub(crate) struct Links {
    known: Mutex<Known>,
    /// Whether any is: the lock is not taken otherwise.
    is_any: AtomicBool,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Known {
    /// The hosts and ports of each peer.
    peers: HashMap<u64, Vec<String>>,
    /// The hosts and ports to which links are cut.
    wanted: HashSet<String>,
    /// The peers to which they are.
    cut: HashSet<u64>,
}

impl Known {
    /// The peers whose link is cut by now and was not, and those whose link was and is not.
    fn settle(&mut self) -> (Vec<u64>, Vec<u64>) {
        let is_cut = |(_, addresses): &(&u64, &Vec<String>)| {
            addresses.iter().any(|address| self.wanted.contains(address))
        };
        let now: HashSet<u64> = self.peers.iter().filter(is_cut).map(|(id, _)| *id).collect();
        let news = now.difference(&self.cut).copied().collect();
        let healed = self.cut.difference(&now).copied().collect();
        self.cut = now;
        (news, healed)
    }
}

impl Links {
    /// Follows the requests until their sender is gone. Then the links stay as they are.
    pub(super) async fn follow(&self, mut cuts: Cuts) {
        while cuts.changed().await.is_ok() {
            let wanted = cuts.borrow_and_update().clone();
            self.want(&wanted);
        }
    }

    /// From now on exactly the links to these URLs are cut.
    pub(super) fn want(&self, urls: &[String]) {
        let wanted = addresses(urls).collect();
        self.change(|known| known.wanted = wanted);
    }

    /// Learns the URLs of a peer, or others than before.
    pub(super) fn learn(&self, peer: u64, urls: &[String]) {
        let addresses = addresses(urls).collect();
        self.change(|known| _ = known.peers.insert(peer, addresses));
    }

    /// Forgets a peer that was removed from the cluster.
    pub(super) fn forget(&self, peer: u64) {
        self.change(|known| _ = known.peers.remove(&peer));
    }

    /// Whether the link to this peer is cut.
    pub(super) fn is_cut(&self, peer: u64) -> bool {
        self.is_any.load(Ordering::Relaxed) && self.lock().cut.contains(&peer)
    }

    /// Whether the link to the peer at this host and port is cut.
    pub(super) fn is_cut_at(&self, authority: &str) -> bool {
        self.is_any.load(Ordering::Relaxed) && self.lock().wanted.contains(authority)
    }

    /// Waits until the link to this peer is not cut.
    pub(super) async fn healed(&self, peer: u64) {
        loop {
            // Made before the look, so that no change is missed.
            let changed = self.changed.notified();
            if !self.is_cut(peer) {
                return;
            }
            changed.await;
        }
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.lock();
        change(&mut known);
        let (cut, healed) = known.settle();
        for (peers, is_cut) in [(&cut, true), (&healed, false)] {
            for peer in peers {
                record(*peer, is_cut);
            }
        }
        self.is_any.store(!known.wanted.is_empty(), Ordering::Relaxed);
        drop(known);
        self.changed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The hosts and ports of these URLs.
fn addresses(urls: &[String]) -> impl Iterator<Item = String> {
    urls.iter().filter_map(|url| dial::target(url)).map(|target| target.authority)
}

fn record(peer: u64, is_cut: bool) {
    mark!(RaftLink, 0, peer = peer, cut_old = !is_cut, cut_new = is_cut);
    let news = if is_cut { "cut" } else { "healed" };
    tracing::warn!("peer {peer:x}: the link is {news}, as glass up asks");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(urls: &[&str]) -> Vec<String> {
        urls.iter().map(|url| (*url).to_owned()).collect()
    }

    #[test]
    fn a_link_is_cut_by_any_url_of_the_peer_and_healed_by_its_absence() {
        let links = Links::default();
        links.want(&urls(&["http://a:1", "http://c:3"]));
        assert!(!links.is_cut(2), "nobody is known at these URLs");
        assert!(links.is_cut_at("a:1"), "a question knows no ids");
        links.learn(2, &urls(&["http://b:2", "http://a:1"]));
        links.learn(3, &urls(&["http://d:4"]));
        assert_eq!([2, 3].map(|peer| links.is_cut(peer)), [true, false]);
        links.learn(2, &urls(&["http://b:2"]));
        assert!(!links.is_cut(2), "it has moved");
        links.want(&urls(&["http://d:4"]));
        assert_eq!([2, 3].map(|peer| links.is_cut(peer)), [false, true]);
        links.forget(3);
        links.learn(3, &urls(&["http://d:4"]));
        assert!(links.is_cut(3));
        links.want(&[]);
        assert!(!links.is_cut(3) && !links.is_cut_at("d:4"));
    }

    #[tokio::test]
    async fn who_waits_for_a_heal_is_woken_by_it_and_by_nothing_else() {
        let (sender, cuts) = watch::channel(urls(&["http://a:1", "http://b:2"]));
        let links = Links::default();
        links.learn(2, &urls(&["http://a:1"]));
        links.learn(3, &urls(&["http://b:2"]));
        links.want(&cuts.borrow().clone());
        let wait = async {
            links.healed(3).await;
            assert!(links.is_cut(2), "that link is still cut");
            sender.send_replace(Vec::new());
            links.healed(2).await;
            drop(sender);
        };
        let heal = async {
            assert!(links.is_cut(3));
            links.want(&urls(&["http://a:1"]));
            links.follow(cuts).await;
        };
        tokio::join!(wait, heal);
    }
}
