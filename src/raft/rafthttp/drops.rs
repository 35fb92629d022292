//! Records of messages that this member drops, as few as say how many were dropped.
//!
//! A peer that is gone costs a message for each heartbeat, and a stuck one thousands a second. So
//! for each peer, type and direction there is one record in [`EVERY`], with the number since the
//! last. The counts stand on the thread that drops the messages: the peer thread, or the raft
//! thread when the peer thread itself is stuck.

use std::{
    cell::RefCell,
    collections::HashMap,
    time::{Duration, Instant},
};

use raft::eraftpb::{Message, MessageType};

use super::glass;
use crate::{clock, mark, trace};

/// The least time between two records of a kind.
const EVERY: Duration = Duration::from_millis(100);
/// The most kinds that are counted: peers can make up the ids of senders.
const KINDS_MAX: usize = 256;

/// A peer, a message type, whether the messages came from there, and whether the link is cut.
type Kind = (u64, MessageType, bool, bool);

/// Counts of messages that no record has told yet.
#[derive(Debug, Default)]
struct Drops {
    counts: HashMap<Kind, Count>,
}

#[derive(Debug)]
struct Count {
    told_at: Instant,
    untold: u64,
}

impl Drops {
    /// Counts a message. Returns the number to be told now, if it is time.
    fn count(&mut self, kind: Kind, now: Instant) -> Option<u64> {
        let Some(count) = self.counts.get_mut(&kind) else {
            if KINDS_MAX <= self.counts.len() {
                self.counts.clear();
            }
            self.counts.insert(kind, Count { told_at: now, untold: 0 });
            return Some(1);
        };
        count.untold += 1;
        if now.duration_since(count.told_at) < EVERY {
            return None;
        }
        count.told_at = now;
        Some(std::mem::take(&mut count.untold))
    }
}

thread_local! {
    static DROPS: RefCell<Drops> = RefCell::default();
}

/// Notes that a message to a peer is not sent. What belongs to a kept request or round is recorded
/// as a step of it, each message by itself.
pub(super) fn unsent(message: &Message) {
    note_message(message, (message.to, message.get_msg_type(), false, false));
}

/// Notes that a message ends here because the link to its sender, or its receiver, is cut.
pub(super) fn cut(message: &Message, is_received: bool) {
    let peer = if is_received { message.from } else { message.to };
    note_message(message, (peer, message.get_msg_type(), is_received, true));
}

fn note_message(message: &Message, kind: Kind) {
    let id = glass::id(message);
    if trace::kept(id) {
        return tell(id, kind, message.term, 1);
    }
    note(kind, message.term);
}

/// Notes that a message of this type and term, from this peer, is not taken.
pub(super) fn untaken(peer: u64, kind: MessageType, term: u64) {
    note((peer, kind, true, false), term);
}

fn note(kind: Kind, term: u64) {
    let told = DROPS.with_borrow_mut(|drops| drops.count(kind, clock::now()));
    if let Some(messages) = told {
        tell(0, kind, term, messages);
    }
}

fn tell(id: u64, (peer, kind, is_received, is_cut): Kind, term: u64, messages: u64) {
    mark!(
        RaftDrop,
        id,
        peer = peer,
        type = kind as u64,
        term = term,
        messages = messages,
        received = is_received,
        cut = is_cut,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_all_later_ones_are_in_some_count() {
        let (mut drops, start) = (Drops::default(), clock::now());
        let kind = (7, MessageType::MsgHeartbeat, false, false);
        assert_eq!(drops.count(kind, start), Some(1));
        let later = |ms| start + Duration::from_millis(ms);
        let told: Vec<u64> = (1..=1000).filter_map(|ms| drops.count(kind, later(ms))).collect();
        assert_eq!(told, [100; 10]);
        assert_eq!(drops.count((8, MessageType::MsgHeartbeat, false, false), later(1001)), Some(1));
        assert_eq!(drops.count((7, MessageType::MsgAppend, false, false), later(1001)), Some(1));
        assert_eq!(drops.count((7, MessageType::MsgHeartbeat, true, false), later(1001)), Some(1));
        assert_eq!(drops.count((7, MessageType::MsgHeartbeat, false, true), later(1001)), Some(1));
    }

    #[test]
    fn made_up_senders_do_not_fill_the_memory() {
        let (mut drops, now) = (Drops::default(), clock::now());
        for peer in 0..5000 {
            drops.count((peer, MessageType::MsgAppend, true, false), now);
        }
        assert!(drops.counts.len() <= KINDS_MAX);
    }
}
