//! The raft thread's inbox: everything that can happen to the consensus loop, as a closed list.
//!
//! The queue is bounded, in number and in bytes. The senders of items that must not be lost (the
//! WAL's acknowledgements, apply's answers) wait for room, which the raft thread always makes.
//! Proposals, reads and messages from peers are refused when it is full, because clients and Raft
//! retry them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel},
    },
    time::Duration,
};

use bytes::Bytes;
use raft::eraftpb::{ConfChange, ConfState, EntryType, Message};
use tokio::sync::oneshot;

use crate::trace;

/// The most inputs in the queue.
const CAPACITY: usize = 16 * 1024;

/// The most bytes of proposals that wait, here or for a leader; and the most bytes of entries in
/// messages from peers. A larger one still passes if no other waits.
const BYTES_MAX: usize = 64 << 20;

/// Everything that can happen to the raft loop.
#[derive(Debug)]
pub(crate) enum Input {
    /// A client's request, encoded. Its result leaves through apply, under the same id.
    Propose {
        /// The request's id, under which the client's call waits; it is also inside `data`.
        id: u64,
        /// The encoded request, which every member will apply.
        data: Bytes,
        /// Whether it is a request or a change of the members.
        kind: EntryType,
        /// The raw tick at which it was handed over, for the trace.
        since: u64,
    },
    /// A decision of the leader, encoded. It is dropped unless this member still leads in that
    /// term.
    ProposeInTerm {
        /// The encoded request, with its id inside.
        data: Bytes,
        /// The term in which the leader decided.
        term: u64,
        /// The raw tick at which it was handed over, for the trace.
        since: u64,
    },
    /// Asks for the commit index, which a quorum must confirm.
    ReadIndex {
        /// The id of the attempt; it travels as eight big-endian bytes.
        round: u64,
        /// The raw tick at which it was handed over, for the trace.
        since: u64,
    },
    /// A message from another member.
    Step {
        /// The message.
        message: Box<Message>,
        /// The raw tick at which it was handed over, for the trace.
        since: u64,
    },
    /// The WAL has everything up to and including a Ready on disk.
    Persisted {
        /// The number of the Ready.
        ready: u64,
        /// The raw tick at which that was reported, for the trace.
        since: u64,
    },
    /// Apply has accepted or refused a membership change; raft carries it out and answers.
    ApplyConfChange {
        /// The index of the entry that carries it.
        index: u64,
        /// Translated to raft-rs's numbers; node 0 when nothing changes.
        change: ConfChange,
        /// Receives the resulting configuration.
        answer: SyncSender<ConfState>,
    },
    /// Asks how much of the log another member has on its disk.
    AskMatch {
        /// The member's id.
        member: u64,
        /// Receives what this member knows of it as the leader, or `None` if it does not lead.
        answer: oneshot::Sender<Option<Matched>>,
    },
    /// If this member leads, it hands the leadership to this voter; without one, because the member
    /// is about to stop, to the one that has most of the log.
    HandOver {
        /// The voter's id; `None` lets the leader choose.
        to: Option<u64>,
    },
    /// A message to this peer could not be sent.
    Unreachable(u64),
    /// The result of sending a snapshot to a peer.
    SnapshotSent {
        /// The receiver of the snapshot.
        peer: u64,
        /// Whether the peer has taken the snapshot.
        ok: bool,
    },
    /// Finish the turn and return.
    Stop,
}

/// How much of the log a member has, as its leader knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Matched {
    /// The highest index that the member is known to have on its disk; `None` for an unknown one.
    pub(crate) member: Option<u64>,
    /// The same of the leader itself.
    pub(crate) leader: u64,
}

/// The sending side of the inbox; each thread has its own clone.
#[derive(Clone, Debug)]
pub(crate) struct Inbox {
    sender: SyncSender<Input>,
    waiting: Arc<WaitingBytes>,
}

/// The receiving side of the inbox, owned by the raft thread.
#[derive(Debug)]
pub(crate) struct Inputs {
    receiver: Receiver<Input>,
    waiting: Arc<WaitingBytes>,
}

/// Bytes of waiting inputs.
#[derive(Debug, Default)]
struct WaitingBytes {
    /// Bytes of proposals, from the inbox until raft has taken or refused them.
    proposals: AtomicUsize,
    /// Bytes of messages, until they are taken out of the inbox.
    messages: AtomicUsize,
}

/// The inbox has no room, or the raft thread has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// The queue has no room for this input.
    #[error("the raft inbox is full")]
    Full,
    /// The member is shutting down.
    #[error("the raft thread has ended")]
    Stopped,
}

/// Makes both ends of an empty inbox.
pub(crate) fn inbox() -> (Inbox, Inputs) {
    let (sender, receiver) = sync_channel(CAPACITY);
    let waiting = Arc::<WaitingBytes>::default();
    (Inbox { sender, waiting: Arc::clone(&waiting) }, Inputs { receiver, waiting })
}

impl WaitingBytes {
    /// The counter of an input, and its bytes.
    fn of(&self, input: &Input) -> (&AtomicUsize, usize) {
        match input {
            Input::Propose { data, .. } | Input::ProposeInTerm { data, .. } => {
                (&self.proposals, data.len())
            }
            Input::Step { message, .. } => {
                (&self.messages, message.entries.iter().map(|entry| entry.data.len()).sum())
            }
            _ => (&self.messages, 0),
        }
    }
}

impl Input {
    /// How long the input has waited in the inbox, in nanoseconds; 0 where that is not measured.
    pub(super) fn waited_ns(&self) -> u64 {
        match self {
            Input::Propose { since, .. }
            | Input::ProposeInTerm { since, .. }
            | Input::ReadIndex { since, .. }
            | Input::Step { since, .. }
            | Input::Persisted { since, .. } => trace::waited_ns(*since),
            Input::ApplyConfChange { .. }
            | Input::AskMatch { .. }
            | Input::HandOver { .. }
            | Input::Unreachable(_)
            | Input::SnapshotSent { .. }
            | Input::Stop => 0,
        }
    }
}

impl Inputs {
    /// Waits for the next input, at most for `patience`.
    pub(super) fn recv_timeout(&self, patience: Duration) -> Result<Input, RecvTimeoutError> {
        self.receiver.recv_timeout(patience).inspect(|input| self.taken(input))
    }

    /// The next input, if one waits.
    pub(super) fn try_recv(&self) -> Result<Input, TryRecvError> {
        self.receiver.try_recv().inspect(|input| self.taken(input))
    }

    fn taken(&self, input: &Input) {
        if let Input::Step { .. } = input {
            let (waiting, bytes) = self.waiting.of(input);
            waiting.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Counts a lost proposal of `bytes` that waits once more.
    pub(super) fn proposals_again(&self, bytes: usize) {
        self.waiting.proposals.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Releases the room of proposals of `bytes` that raft has taken or refused.
    pub(super) fn proposals_done(&self, bytes: usize) {
        self.waiting.proposals.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Inbox {
    /// Hands over an input, or refuses it when there is no room. Never waits.
    pub(crate) fn offer(&self, input: Input) -> Result<(), Refused> {
        let (waiting, bytes) = self.waiting.of(&input);
        let before = waiting.fetch_add(bytes, Ordering::Relaxed);
        if bytes != 0 && before != 0 && BYTES_MAX < before + bytes {
            waiting.fetch_sub(bytes, Ordering::Relaxed);
            return Err(Refused::Full);
        }
        self.sender.try_send(input).map_err(|error| {
            waiting.fetch_sub(bytes, Ordering::Relaxed);
            match error {
                TrySendError::Full(_) => Refused::Full,
                TrySendError::Disconnected(_) => Refused::Stopped,
            }
        })
    }

    /// Hands over an input that must not be lost, and waits for room. Such inputs are answers and
    /// orders of a few bytes.
    pub(crate) fn send(&self, input: Input) -> Result<(), Refused> {
        self.sender.send(input).map_err(|_| Refused::Stopped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposal(bytes: usize) -> Input {
        Input::Propose {
            id: 1,
            data: vec![0; bytes].into(),
            kind: EntryType::EntryNormal,
            since: 0,
        }
    }

    fn append(bytes: usize) -> Input {
        let mut message = Message::default();
        let entry = raft::eraftpb::Entry { data: vec![0; bytes].into(), ..Default::default() };
        message.set_entries(vec![entry].into());
        Input::Step { message: Box::new(message), since: 0 }
    }

    #[test]
    fn proposals_are_refused_beyond_their_bytes_until_raft_has_dealt_with_some() {
        let (inbox, inputs) = inbox();
        (0..4).for_each(|_| inbox.offer(proposal(BYTES_MAX / 4)).unwrap());
        assert_eq!(Err(Refused::Full), inbox.offer(proposal(1)));
        inputs.try_recv().unwrap();
        assert_eq!(Err(Refused::Full), inbox.offer(proposal(1)), "it still waits for a leader");
        inbox.offer(append(BYTES_MAX)).unwrap();
        inputs.proposals_done(BYTES_MAX / 4);
        inbox.offer(proposal(1)).unwrap();
    }

    #[test]
    fn messages_count_until_they_are_taken_and_heartbeats_always_pass() {
        let (inbox, inputs) = inbox();
        inbox.offer(append(BYTES_MAX + 1)).expect("one that is too large passes alone");
        assert_eq!(Err(Refused::Full), inbox.offer(append(1)));
        inbox.offer(Input::Step { message: Box::default(), since: 0 }).unwrap();
        inbox.offer(proposal(1)).unwrap();
        inputs.try_recv().unwrap();
        inbox.offer(append(1)).unwrap();
    }

    #[test]
    fn inputs_that_do_not_fit_in_number_do_not_count_in_bytes() {
        let (inbox, inputs) = inbox();
        (0..CAPACITY).for_each(|_| inbox.offer(proposal(1)).unwrap());
        (0..CAPACITY)
            .for_each(|_| assert_eq!(Err(Refused::Full), inbox.offer(proposal(BYTES_MAX / 2))));
        inputs.try_recv().unwrap();
        inbox.offer(proposal(BYTES_MAX / 2)).unwrap();
    }
}
