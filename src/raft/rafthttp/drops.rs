//! Records of messages that this member drops, as few as say how many were dropped.
//!
//! A peer that is gone costs a message for each heartbeat, and a stuck one thousands a second. So
//! for each peer, type and direction there is one record in [`EVERY`], with the number since the
//! last. The counts stand on the thread that drops the messages: the peer thread, or the raft
//! thread when the peer thread itself is stuck.
//!
//! A record says which entries the messages would have brought, so that the stories of these have
//! it. One that would have brought the entry of a kept request has a record of its own.

use std::{
    cell::RefCell,
    collections::HashMap,
    time::{Duration, Instant},
};

use raft::eraftpb::{Message, MessageType};

use super::glass;
use crate::{clock, mark, metrics::recorded, trace};

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
    untold: Told,
}

/// What a record tells of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Told {
    messages: u64,
    /// The entries that they would have brought: above the first index, up to the last one. Both
    /// are 0 if they bring none.
    entries: [u64; 2],
}

impl Told {
    fn one(entries: [u64; 2]) -> Told {
        Told { messages: 1, entries }
    }

    /// Adds a message with these entries.
    fn add(&mut self, entries: [u64; 2]) {
        self.messages += 1;
        let [after, last] = self.entries;
        self.entries = match entries {
            [_, 0] => self.entries,
            entries if last == 0 => entries,
            [first, newest] => [after.min(first), last.max(newest)],
        };
    }
}

impl Drops {
    /// Counts a message with these entries. Returns what is to be told now, if it is time.
    fn count(&mut self, kind: Kind, entries: [u64; 2], now: Instant) -> Option<Told> {
        let Some(count) = self.counts.get_mut(&kind) else {
            if KINDS_MAX <= self.counts.len() {
                self.counts.clear();
            }
            self.counts.insert(kind, Count { told_at: now, untold: Told::default() });
            return Some(Told::one(entries));
        };
        count.untold.add(entries);
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
    recorded::PEER_MESSAGES_DROPPED.increment();
    let (id, entries) = (glass::id(message), glass::entries(message));
    if trace::kept(id) || glass::brings_kept(message) {
        return tell(id, kind, message.term, Told::one(entries));
    }
    note(kind, message.term, entries);
}

/// Notes that a message of this type and term, from this peer, is not taken.
pub(super) fn untaken(peer: u64, kind: MessageType, term: u64) {
    recorded::PEER_MESSAGES_DROPPED.increment();
    note((peer, kind, true, false), term, [0; 2]);
}

fn note(kind: Kind, term: u64, entries: [u64; 2]) {
    let told = DROPS.with_borrow_mut(|drops| drops.count(kind, entries, clock::now()));
    if let Some(told) = told {
        tell(0, kind, term, told);
    }
}

fn tell(id: u64, (peer, kind, is_received, is_cut): Kind, term: u64, told: Told) {
    let [index, last] = told.entries;
    mark!(
        RaftDrop,
        id,
        peer = peer,
        type = kind as u64,
        term = term,
        messages = told.messages,
        received = is_received,
        cut = is_cut,
        index = index,
        last = last,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_all_later_ones_are_in_some_count() {
        let (mut drops, start) = (Drops::default(), clock::now());
        let kind = (7, MessageType::MsgHeartbeat, false, false);
        let one = Some(Told::one([0; 2]));
        assert_eq!(drops.count(kind, [0; 2], start), one);
        let later = |ms| start + Duration::from_millis(ms);
        let told = (1..=1000).filter_map(|ms| drops.count(kind, [0; 2], later(ms)));
        assert_eq!(told.map(|told| told.messages).collect::<Vec<_>>(), [100; 10]);
        for other in [
            (8, MessageType::MsgHeartbeat, false, false),
            (7, MessageType::MsgAppend, false, false),
            (7, MessageType::MsgHeartbeat, true, false),
            (7, MessageType::MsgHeartbeat, false, true),
        ] {
            assert_eq!(drops.count(other, [0; 2], later(1001)), one);
        }
    }

    #[test]
    fn a_record_says_which_entries_its_messages_would_have_brought() {
        let (mut drops, start) = (Drops::default(), clock::now());
        let kind = (7, MessageType::MsgAppend, false, true);
        let mut told = |ms, entries| drops.count(kind, entries, start + Duration::from_millis(ms));
        assert_eq!(told(0, [41, 42]), Some(Told::one([41, 42])));
        assert_eq!(told(1, [42, 44]), None);
        assert_eq!(told(2, [0, 0]), None, "a MsgApp without entries");
        let entries = Told { messages: 3, entries: [42, 47] };
        assert_eq!(told(100, [45, 47]), Some(entries));
    }

    #[test]
    fn made_up_senders_do_not_fill_the_memory() {
        let (mut drops, now) = (Drops::default(), clock::now());
        for peer in 0..5000 {
            drops.count((peer, MessageType::MsgAppend, true, false), [0; 2], now);
        }
        assert!(drops.counts.len() <= KINDS_MAX);
    }
}
