//! The raft thread's inbox: everything that can happen to the consensus loop, as a closed list.
//!
//! The queue is bounded. A sender whose item must not be lost (the WAL's acknowledgements, apply's
//! answers) waits for room, which the raft thread always makes; proposals, reads and messages of
//! peers are refused when it is full, because Raft and its clients retry them.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use bytes::Bytes;
use raft::eraftpb::{ConfChange, ConfState, Message};

/// How many inputs may wait. The apply gap of 5000 entries bounds proposals well below it.
const CAPACITY: usize = 16 * 1024;

/// Everything that can happen to the raft loop.
#[derive(Debug)]
pub enum Input {
    /// A client's request, encoded. Its result leaves through apply, under the same id.
    Propose {
        /// Names the waiting request; it is also inside `data`.
        id: u64,
        /// What every member will apply.
        data: Bytes,
        /// The raw tick at which it was handed over, for the trace.
        since: u64,
    },
    /// The leader's own decision, encoded: void unless this member still leads in that term.
    ProposeInTerm {
        /// What every member will apply; the id is inside.
        data: Bytes,
        /// The term in which it was decided.
        term: u64,
    },
    /// "Which index is committed right now, as a quorum confirms?"
    ReadIndex {
        /// The id of the attempt; it travels as eight big-endian bytes.
        round: u64,
    },
    /// A message from another member.
    Step(Box<Message>),
    /// The WAL has everything up to and including this Ready on disk.
    Persisted(u64),
    /// Apply has decided on a membership change; raft carries it out and answers.
    ApplyConfChange {
        /// The index of the entry that carries it.
        index: u64,
        /// Translated to raft-rs's numbers; node 0 when nothing changes.
        change: ConfChange,
        /// Takes the configuration that results.
        answer: SyncSender<ConfState>,
    },
    /// A message to this peer could not be sent.
    Unreachable(u64),
    /// A snapshot to this peer has arrived, or has not.
    SnapshotSent {
        /// The peer.
        peer: u64,
        /// Whether it took the snapshot.
        ok: bool,
    },
    /// Finish the turn and return.
    Stop,
}

/// The sending side; every thread has its own clone.
#[derive(Clone, Debug)]
pub struct Inbox {
    sender: SyncSender<Input>,
}

/// The inbox has no room, or the raft thread has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too much waits already.
    #[error("the raft inbox is full")]
    Full,
    /// The member is shutting down.
    #[error("the raft thread has ended")]
    Stopped,
}

/// Makes the inbox and the end that the raft thread keeps.
pub fn inbox() -> (Inbox, Receiver<Input>) {
    let (sender, receiver) = sync_channel(CAPACITY);
    (Inbox { sender }, receiver)
}

impl Inbox {
    /// Hands over an input, or refuses it when there is no room. Never waits.
    pub fn offer(&self, input: Input) -> Result<(), Refused> {
        self.sender.try_send(input).map_err(|error| match error {
            TrySendError::Full(_) => Refused::Full,
            TrySendError::Disconnected(_) => Refused::Stopped,
        })
    }

    /// Hands over an input that must not be lost, waiting for room.
    pub fn send(&self, input: Input) -> Result<(), Refused> {
        self.sender.send(input).map_err(|_| Refused::Stopped)
    }
}
