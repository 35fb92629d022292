//! What made a step happen, and what it made happen, within one story.
//!
//! ```text
//!   raft.receive ◄── message ── raft.send        the two ends of a message
//!        │
//!        ▼ the same member
//!   raft.entry ──► wal.write ──► wal.fsync ──► raft.send (the acknowledgement)
//! ```
//!
//! A message was sent, so a receive is made by its send. On one member a table says which steps
//! hand over to which; the cause is the last of those before the step. The effect of a step is the
//! first later step whose cause it is. So the way back from an effect leads to where one came from.
//!
//! A cause that was not captured is said to be unknown, and not guessed from the step before.

use glass_etcd::{
    field,
    story::{Event, query::chain::woken_by},
    trace::{
        Stage::{self, *},
        message,
    },
};

use super::{
    super::story::{Moment, Step},
    Steps,
};

/// How many rows later an effect is looked for.
const FAR: usize = 5_000;

/// For each stage, the stages of the same member that hand over to it.
const CAUSES: &[(Stage, &[Stage])] = &[
    (RpcReceive, &[SocketQueue]),
    (RpcQueue, &[RpcReceive, SocketQueue]),
    (Rpc, &[RpcQueue, RpcReceive, SocketQueue]),
    (RpcValidate, &[Rpc]),
    (QuotaCheck, &[RpcValidate]),
    (Admit, &[QuotaCheck, RpcValidate]),
    (RaftPropose, &[Admit, QuotaCheck, RpcValidate]),
    (RaftInbox, &[RaftPropose, ReadIndexRound]),
    (RaftEntry, &[RaftInbox, RaftReceive, RaftRole]),
    (WalWrite, &[RaftEntry]),
    (WalFsync, &[WalWrite, RaftEntry]),
    (RaftStable, &[WalFsync]),
    (RaftCommit, &[RaftProgress, RaftReceive]),
    (ApplyBatch, &[RaftCommit]),
    (ApplyEntry, &[ApplyBatch, RaftCommit]),
    (TxnCompare, &[ApplyEntry]),
    (TxnBranch, &[TxnCompare]),
    (MvccWrite, &[TxnBranch, ApplyEntry]),
    (TreeIndexPut, &[MvccWrite]),
    (TreeIndexTombstone, &[MvccWrite]),
    (BufferPut, &[TreeIndexPut, TreeIndexTombstone, MvccWrite]),
    (LeaseAttach, &[MvccWrite]),
    (WatchNotify, &[MvccWrite]),
    (WatchQueue, &[WatchNotify]),
    (WatchSend, &[WatchNotify, WatchForward]),
    (BufferFreeze, &[BufferPut]),
    (BackendCommit, &[BufferFreeze, BufferPut]),
    (ReadIndexWait, &[RpcValidate, Rpc]),
    (ReadIndexRound, &[ReadIndexWait]),
    (ReadIndexConfirmed, &[RaftReceive]),
    (ReadWaitApplied, &[ReadIndexRound]),
    (MvccRange, &[ReadWaitApplied, ReadIndexRound, RpcValidate]),
    (TreeIndexGet, &[MvccRange]),
    (BufferGet, &[TreeIndexGet]),
    (BackendGet, &[TreeIndexGet]),
    (ElectionCampaign, &[ElectionTimeout, ElectionTransfer, ElectionTally]),
    (ElectionVote, &[RaftReceive]),
    (ElectionTally, &[RaftReceive]),
    (RaftRole, &[ElectionTally, ElectionCampaign, RaftReceive]),
    (AnswerFlush, &[Rpc]),
    (LockWait, &[LockEnter]),
    (LockAcquired, &[LockWait, LockEnter]),
];

/// What an answer, or the end of a wait, follows from.
const ENDS: &[(Stage, &[Stage])] = &[
    (
        Rpc,
        &[
            LockAcquired,
            RaftPropose,
            BackendGet,
            BufferGet,
            TreeIndexGet,
            MvccRange,
            ApplyEntry,
            RpcValidate,
        ],
    ),
    (RaftPropose, &[ApplyEntry]),
    (ReadIndexRound, &[ReadIndexConfirmed, RaftReceive]),
    (ReadIndexWait, &[ReadIndexRound]),
];

/// What a message follows from, by its type.
fn of_message(kind: u64) -> &'static [Stage] {
    match kind {
        message::PROP => &[RaftPropose, RaftInbox],
        message::APP => &[RaftEntry, RaftCommit, RaftRole],
        message::APP_RESP => &[WalFsync, RaftEntry, RaftReceive],
        message::VOTE | message::PRE_VOTE => &[ElectionCampaign],
        message::VOTE_RESP | message::PRE_VOTE_RESP => &[ElectionVote],
        message::HEARTBEAT | message::READ_INDEX => &[ReadIndexRound, RaftInbox, RaftReceive],
        message::HEARTBEAT_RESP => &[RaftReceive],
        message::READ_INDEX_RESP => &[ReadIndexConfirmed],
        _ => &[],
    }
}

/// The stages that hand over to this step.
fn makers(step: &Step) -> &'static [Stage] {
    let stage = step.event.stage;
    if stage == RaftSend {
        return of_message(field!(&step.event, RaftSend, type));
    }
    let begins = matches!(stage, Rpc | RaftPropose | ReadIndexRound | ReadIndexWait);
    let table = if begins && step.moment == Moment::Done { ENDS } else { CAUSES };
    table.iter().find(|row| row.0 == stage).map_or(&[], |row| row.1)
}

/// The other end of a message.
pub(crate) fn other_end(steps: &[Step], at: usize) -> Option<usize> {
    let arrow = steps[at].arrow?;
    let link = |event: &Event| event.link;
    let wanted = link(&steps[at].event);
    let is_it = |other: &Step| {
        other.arrow.is_some_and(|one| one.is_out != arrow.is_out) && link(&other.event) == wanted
    };
    (0..steps.len()).find(|other| wanted != 0 && is_it(&steps[*other]))
}

/// The step that made this one happen.
pub(crate) fn cause(steps: &[Step], at: usize) -> Option<usize> {
    let step = &steps[at];
    if step.event.stage == RaftReceive {
        return other_end(steps, at);
    }
    if step.event.stage == RaftProgress {
        return counted(steps, at);
    }
    if let Some(by) = woken_by(&step.event) {
        return waker(steps, at, by);
    }
    let makers = makers(step);
    let is_near = |other: &Step| other.lane == step.lane && other.is_own == step.is_own;
    let before = (0..at).rev().filter(|other| is_near(&steps[*other]));
    let mut before = before.filter(|other| makers.contains(&steps[*other].event.stage));
    before.next()
}

/// Where the request that ended a wait did so: what it told the watchers of this member, or how it
/// was applied here.
fn waker(steps: &[Step], at: usize, by: u64) -> Option<usize> {
    let is_its = |other: &Step| {
        let is_work = matches!(
            other.event.stage,
            WatchQueue | WatchNotify | MvccWrite | TreeIndexTombstone | ApplyEntry
        );
        is_work && other.event.id == by && other.lane == steps[at].lane
    };
    (0..at).rev().find(|other| is_its(&steps[*other]))
}

/// What made a leader count a disk: an acknowledgement of that member, or its own sync.
fn counted(steps: &[Step], at: usize) -> Option<usize> {
    let step = &steps[at];
    let peer = field!(&step.event, RaftProgress, peer);
    // The messages of others name this member; in a cluster of one there are none.
    let names_it = |other: &&Step| other.arrow.is_some_and(|arrow| arrow.peer == step.lane);
    let named = steps.iter().find(names_it).map(|other| peer_of(&other.event));
    let is_own_disk = named.is_none_or(|own| own == peer);
    let is_it = |other: &Step| match other.event.stage {
        RaftStable | WalFsync => is_own_disk,
        RaftReceive => !is_own_disk && peer_of(&other.event) == peer,
        _ => false,
    };
    let is_near = |other: &Step| other.lane == step.lane && other.is_own == step.is_own;
    (0..at).rev().find(|other| is_near(&steps[*other]) && is_it(&steps[*other]))
}

fn peer_of(event: &Event) -> u64 {
    field!(event, RaftSend | RaftReceive, peer)
}

/// The first step that this one made happen.
pub(crate) fn effect(steps: &[Step], at: usize) -> Option<usize> {
    let far = steps.len().min(at + FAR);
    (at + 1..far).find(|later| cause(steps, *later) == Some(at))
}

/// A step that belongs to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relative {
    /// The other end of the message.
    OtherEnd,
    /// What made the step happen.
    Cause,
    /// What it made happen first.
    Effect,
}

impl Steps {
    /// Moves to another step that belongs to this one, which may be of a finer grain.
    pub(crate) fn follow(&mut self, to: Relative) {
        let Some(step) = self.steps.get(self.now) else { return };
        let (place, missing) = match to {
            Relative::OtherEnd if step.arrow.is_none() => (None, "this step is no message"),
            Relative::OtherEnd => {
                let other = other_end(&self.steps, self.now);
                (other, "the other end of this message was not captured")
            }
            Relative::Cause => {
                let cause = cause(&self.steps, self.now);
                let is_woken = woken_by(&step.event).is_some();
                let missing = match is_woken {
                    true => "another request woke it, as `by` says: no step of that one is here",
                    false => "no captured step of this story is known to have caused it",
                };
                (cause, missing)
            }
            Relative::Effect => {
                let effect = effect(&self.steps, self.now);
                (effect, "no captured step of this story is known to follow from it")
            }
        };
        self.notice = if place.is_none() { Some(missing) } else { None };
        if let Some(place) = place {
            self.go(place);
        }
    }

    /// Moves to a row, and shows its grain.
    pub(crate) fn go(&mut self, place: usize) {
        let Some(step) = self.steps.get(place) else { return };
        self.grain = self.grain.max(step.grain);
        if self.focus.is_some_and(|lane| lane != step.lane) {
            self.focus = None;
        }
        (self.now, self.look, self.is_waiting) = (place, place, false);
        self.is_playing = false;
    }
}

#[cfg(test)]
mod tests {
    use glass_etcd::story::recording;

    use super::*;
    use crate::state::story::Subject;

    /// Goal: the end of a wait for a lock leads to the request that gave the lock back, as the
    /// chain of requests says. Method: a recording of a real cluster.
    #[test]
    fn the_end_of_a_wait_was_made_by_the_request_that_the_chain_names() {
        let text = include_str!("../../../tests/recordings/lease.ndjson");
        let recording = recording::read(text.as_bytes()).unwrap().recording;
        let calls = recording.events.iter().filter_map(|event| {
            let by = woken_by(event)?;
            Some((event.id, by))
        });
        let calls: Vec<(u64, u64)> = calls.collect();
        assert!(!calls.is_empty());
        for (call, by) in calls {
            let mut story = Steps::open(&recording, Subject::Request(call));
            let is_end = |step: &Step| woken_by(&step.event) == Some(by);
            let end = story.steps.iter().position(is_end).unwrap();
            story.go(end);
            story.follow(Relative::Cause);
            assert_eq!(None, story.notice);
            let cause = &story.steps[story.now];
            assert_eq!((by, story.steps[end].lane), (cause.event.id, cause.lane));
            story.follow(Relative::Effect);
            assert!(story.now <= end, "{:?}", story.steps[story.now].event);
        }
    }

    const PUT: &str = include_str!("../../../book/src/figures/five-minutes.ndjson");

    /// Goal: the way back from a count leads to the disk that was counted. Method: in the put of
    /// the book, each count of a follower is followed to the acknowledgement, its send, and the
    /// sync on that follower.
    #[test]
    fn a_count_was_made_by_the_disk_that_it_names() {
        let recording = recording::read(PUT.as_bytes()).unwrap().recording;
        let steps = Steps::open(&recording, Subject::Request(0x2eda_a22f_1b5a_380b)).steps;
        let counts = (0..steps.len()).filter(|at| steps[*at].event.stage == RaftProgress);
        let mut disks = Vec::new();
        for count in counts.filter(|at| steps[*at].is_own) {
            let peer = field!(&steps[count].event, RaftProgress, peer);
            let mut at = cause(&steps, count).expect("what was counted");
            if steps[at].event.stage == RaftReceive {
                at = cause(&steps, at).expect("its send");
                at = cause(&steps, at).expect("what it acknowledged");
            }
            let place = usize::from(steps[at].event.member);
            assert_eq!(recording.members[place].member_id, peer, "{:?}", steps[at].event);
            disks.push(steps[at].event.stage);
        }
        assert!(disks.contains(&WalFsync), "{disks:?}");
    }
}
