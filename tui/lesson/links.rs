//! What the members of a scenario say about the links between them.
//!
//! `glass up` answers as soon as it has written to both ends that a link is cut. A member cuts it
//! when it has read that, and records so (`raft.link`). Only then is the link cut.

use std::collections::BTreeMap;

use glass_etcd::{fields, story::Event, trace::Stage};

/// Whether a member has cut the link to another one: by its id, and that of the other.
#[derive(Debug, Default)]
pub(super) struct Links(BTreeMap<[u64; 2], bool>);

impl Links {
    /// Reads what the member with this id says.
    pub(super) fn learn(&mut self, member: u64, event: &Event) {
        if event.stage == Stage::RaftLink {
            let [peer, is_cut] = fields!(event, RaftLink: peer, cut_new);
            self.0.insert([member, peer], is_cut != 0);
        }
    }

    /// Whether the ends of a link that run say that it is cut, or that it is not.
    pub(super) fn is_so(&self, ends: [(u64, bool); 2], is_cut: bool) -> bool {
        let [a, b] = ends;
        [(a, b), (b, a)].iter().all(|((own, is_running), (other, _))| {
            let said = self.0.get(&[*own, *other]).copied().unwrap_or(false);
            said == is_cut || !is_running
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `raft.link`: whether the link to this member is cut.
    fn said(peer: u64, is_cut: bool) -> Event {
        let mut event = Event::mark(0, Stage::RaftLink, 1);
        event.fields[..3].copy_from_slice(&[peer, u64::from(!is_cut), u64::from(is_cut)]);
        event
    }

    #[test]
    fn a_link_is_cut_once_both_ends_that_run_say_so() {
        let mut links = Links::default();
        let is_cut = |links: &Links, runs| links.is_so([(1, true), (2, runs)], true);
        assert!(!is_cut(&links, true) && links.is_so([(1, true), (2, true)], false));
        links.learn(1, &said(2, true));
        assert!(!is_cut(&links, true), "the other end still sends");
        assert!(is_cut(&links, false), "an end that does not run sends nothing");
        links.learn(2, &said(1, true));
        assert!(is_cut(&links, true) && !links.is_so([(1, true), (3, true)], true));
        links.learn(2, &said(1, false));
        assert!(!is_cut(&links, true) && !links.is_so([(1, true), (2, true)], false));
    }
}
