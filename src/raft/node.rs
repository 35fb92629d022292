//! The consensus loop: one thread, one inbox, one turn at a time.
//!
//! A turn takes everything that waits in the inbox, then takes Readys until there are none:
//!
//! 1. entries go into the log storage, where raft-rs can read them back;
//! 2. entries and hard state go to the `wal` thread, which writes and syncs them while this thread
//!    goes on;
//! 3. a leader's messages leave at once, in parallel with its own disk write (Raft thesis 10.2.1);
//!    everybody else's wait in [`HeldMessages`] until the disk has promised;
//! 4. committed entries go to apply, read states to the reads that wait.
//!
//! Invariants: nothing else touches the `RawNode`, so nothing is locked. The loop never waits for
//! apply, for a peer or for a write; what a follower has missed is read back from the segments here,
//! so much at a time as `member` allows to be in flight. Only entries that this member has on disk are handed to
//! apply (raft-rs sees to it), so an acknowledged write is on a majority of disks, this one among
//! them. A change of term or vote holds back all messages of its Ready, a new leader's too.
//!
//! A commit index alone is not worth a write: it travels with the next entries, or with the next
//! tick. After a crash it may be behind what was applied; `member` starts with the greater one.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, Sender},
    },
    time::{Duration, Instant},
};

use raft::{
    RawNode, ReadState, Ready, SnapshotStatus, StateRole,
    eraftpb::{Entry, EntryType, HardState, Message, MessageType},
};
use tokio::sync::mpsc::UnboundedSender;

use super::{
    Leadership, Status,
    changes::{Changes, Expected},
    first_election,
    held::HeldMessages,
    inbox::{Input, Inputs},
    log::LogStorage,
    rafthttp,
};
use crate::{clock, mark, pb, storage::wal, trace};

/// How many inputs one turn takes before it looks at the clock again.
const INPUTS_PER_TURN: usize = 4096;

/// How many proposals, and how many reads, wait while there is no leader.
const PARKED_MAX: usize = 5000;

/// A forwarded batch of proposals is cut at this size, as etcd's messages are.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// Committed entries that one Ready hands over, in bytes.
pub const COMMITTED_BYTES_MAX: u64 = 16 << 20;

/// While so many bytes wait for apply, entries are handed over one a turn: a log that is applied
/// anew, or a leader that is faster than this member's apply, must not fill the memory.
const BACKLOG_BYTES_MAX: usize = 64 << 20;

/// Committed entries on their way to apply.
#[derive(Debug)]
pub struct Committed {
    /// In log order.
    pub entries: Vec<Entry>,
    /// The raw tick at which they were handed over.
    pub since: u64,
}

/// The answer to a read round.
#[derive(Clone, Copy, Debug)]
pub struct ReadRound {
    /// The attempt's id.
    pub round: u64,
    /// The index that was committed when the quorum answered.
    pub index: u64,
    /// The term of this member when it handed the answer over, which is never before it came.
    pub term: u64,
}

/// Where the loop's results go.
pub struct Outputs {
    /// To the log files.
    pub wal: wal::Writer,
    /// To the other members.
    pub peers: rafthttp::Sender,
    /// Which of them can be reached.
    pub active: Arc<rafthttp::Active>,
    /// To apply. Unbounded: raft must never wait for apply; but it hands over slowly while much
    /// waits.
    pub committed: Sender<Committed>,
    /// To the coordinator of linearizable reads. Unbounded; one round is in flight at a time.
    pub reads: UnboundedSender<ReadRound>,
    /// Ids of proposals that raft refused. Unbounded; bounded by the proposals in flight.
    pub dropped: UnboundedSender<Vec<u64>>,
}

/// How the loop measures time.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// `--heartbeat-interval`: one tick.
    pub tick: Duration,
    /// Ticks to skip once, when the member can reach others; 0 for none.
    pub advance: usize,
    /// Whether this member is the only one, and need not wait for others before it skips.
    pub is_alone: bool,
    /// How long a proposal may wait for a leader.
    pub patience: Duration,
}

/// A member's raft state machine, and what it owes to others.
pub struct Node {
    raw: RawNode<LogStorage>,
    inbox: Inputs,
    outputs: Outputs,
    status: Arc<Status>,
    timing: Timing,
    /// Until when ticks may be skipped.
    advance_until: Instant,
    next_tick: Instant,
    changes: Changes,
    held: HeldMessages,
    /// Readys on their way to the disk: number and last index, if they have entries.
    writes: VecDeque<(u64, u64)>,
    last_write: u64,
    last_ready: u64,
    /// A commit index that the WAL does not have yet.
    unwritten: Option<HardState>,
    /// Term and vote that the WAL has been given.
    written_vote: (u64, u64),
    proposals: Vec<Entry>,
    parked: VecDeque<(Instant, Entry)>,
    parked_reads: VecDeque<Message>,
    applied: u64,
    backlog: Backlog,
    stopping: bool,
}

/// What was handed to apply and is not applied yet.
#[derive(Debug, Default)]
struct Backlog {
    /// Last index and bytes of each hand-over.
    parts: VecDeque<(u64, usize)>,
    bytes: usize,
}

impl Backlog {
    fn add(&mut self, entries: &[Entry]) {
        let bytes = entries.iter().map(|entry| entry.data.len()).sum();
        self.parts.push_back((entries.last().map_or(0, |last| last.index), bytes));
        self.bytes += bytes;
    }

    fn applied(&mut self, index: u64) {
        while let Some((_, bytes)) = self.parts.pop_front_if(|(last, _)| *last <= index) {
            self.bytes -= bytes;
        }
    }
}

impl Node {
    /// Wraps a recovered state machine.
    pub fn new(
        raw: RawNode<LogStorage>,
        inbox: Inputs,
        outputs: Outputs,
        status: Arc<Status>,
        timing: Timing,
    ) -> Self {
        Self {
            changes: Changes::of(&raw.raft),
            written_vote: (raw.raft.term, raw.raft.vote),
            applied: status.applied(),
            next_tick: clock::now() + timing.tick,
            advance_until: clock::now() + timing.patience,
            raw,
            inbox,
            outputs,
            status,
            timing,
            held: HeldMessages::default(),
            writes: VecDeque::new(),
            last_write: 0,
            last_ready: 0,
            unwritten: None,
            proposals: Vec::new(),
            parked: VecDeque::new(),
            parked_reads: VecDeque::new(),
            backlog: Backlog::default(),
            stopping: false,
        }
    }

    /// Runs until [`Input::Stop`], or until every sender of the inbox is gone.
    pub fn run(mut self) {
        trace::set_thread("raft");
        self.publish(true);
        self.process_readies();
        while !self.stopping {
            self.take_inputs();
            self.tick_if_due();
            self.propose();
            self.note_applied();
            self.process_readies();
            self.publish(false);
        }
        if let Some(hard_state) = self.unwritten.take() {
            self.write(Vec::new(), Some(hard_state), false);
        }
        // Nobody takes from the inbox any more: who waits for room in it must not wait for ever.
        let Node { inbox, outputs, .. } = self;
        drop(inbox);
        outputs.wal.stop();
    }

    fn take_inputs(&mut self) {
        let patience = self.next_tick.saturating_duration_since(clock::now());
        let first = self.inbox.recv_timeout(patience);
        self.wake_last();
        let first = match first {
            Ok(input) => input,
            Err(RecvTimeoutError::Timeout) => return,
            Err(RecvTimeoutError::Disconnected) => return self.stopping = true,
        };
        self.take(first);
        // Take all that is waiting: one fsync then serves many proposals.
        for _ in 0..INPUTS_PER_TURN {
            match self.inbox.try_recv() {
                Ok(input) => self.take(input),
                Err(_) => break,
            }
        }
    }

    /// For tests: after a stop of the process, all other threads go on before this one.
    fn wake_last(&self) {
        fail::fail_point!("raft-wakes-last", !self.status.is_awake(clock::now()), |_| ());
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Propose { id, data, since } => {
                let waited = trace::tick::to_ns(trace::tick::now().saturating_sub(since));
                mark!(RaftInbox, id, queued = self.proposals.len() + 1, waited = waited);
                self.proposals.push(Entry { data, ..Entry::default() });
            }
            Input::ProposeInTerm { data, term } => self.propose_in_term(data, term),
            Input::ReadIndex { round } => self.read(read_message(round)),
            Input::Step(message) => self.step(*message),
            Input::Persisted(number) => self.persisted(number),
            Input::ApplyConfChange { index, change, answer } => {
                let conf_state = match self.raw.apply_conf_change(&change) {
                    Ok(conf_state) => conf_state,
                    Err(error) => {
                        tracing::error!(%error, index, "raft refused a configuration change");
                        self.raw.raft.prs().conf().to_conf_state()
                    }
                };
                self.raw.mut_store().set_conf_state(conf_state.clone());
                self.held.conf_applied(index);
                // Apply waits for it; if it has gone, the member is shutting down.
                let _ = answer.send(conf_state);
                self.note_changes(self.raw.raft.id);
            }
            Input::Unreachable(peer) => self.raw.report_unreachable(peer),
            Input::SnapshotSent { peer, ok } => {
                let status = if ok { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
                self.raw.report_snapshot(peer, status);
            }
            Input::Stop => self.stopping = true,
        }
    }

    /// Takes a message of another member. Proposals and reads that cannot be dealt with now wait.
    fn step(&mut self, message: Message) {
        let from = message.from;
        match message.get_msg_type() {
            // raft-rs takes an empty one for a mistake of the program.
            MessageType::MsgPropose if message.entries.is_empty() => return,
            MessageType::MsgReadIndex if message.entries.is_empty() => return,
            // The log would take it, and not be read again.
            _ if message.entries.iter().any(is_bare_change) => return,
            MessageType::MsgReadIndex => return self.read(message),
            MessageType::MsgSnapshot => {
                tracing::error!(
                    from,
                    "a snapshot was sent to this member, which cannot take one yet"
                );
                return;
            }
            _ => {}
        }
        let expected = Expected::before(&self.raw.raft, &message);
        if let Err(error) = self.raw.step(message) {
            // A stray message, say from a removed member, is the sender's trouble and not ours.
            tracing::debug!(%error, from, "raft refused a message");
        }
        expected.after(&self.raw.raft);
        self.note_changes(from);
    }

    /// Appends at once or not at all: were it gathered with the others, a message of this same turn
    /// could end the term, and it would be sent on to the next leader.
    fn propose_in_term(&mut self, data: bytes::Bytes, term: u64) {
        let entry = [Entry { data, ..Entry::default() }];
        if self.raw.raft.state == StateRole::Leader && self.raw.raft.term == term {
            self.propose_batch(&entry);
        } else {
            self.refuse(&entry);
        }
        self.inbox.proposals_done(entry[0].data.len());
    }

    /// Starts a read round, or keeps it until there is a leader who may answer it: raft-rs would
    /// drop it, and the reader would lose half a second (etcd: pendingReadIndexMessages).
    fn read(&mut self, message: Message) {
        let raft = &self.raw.raft;
        let can_answer = match raft.state {
            StateRole::Leader => raft.commit_to_current_term(),
            _ => raft.leader_id != 0,
        };
        if can_answer {
            let _ = self.raw.step(message);
        } else if self.parked_reads.len() < PARKED_MAX {
            self.parked_reads.push_back(message);
        }
    }

    /// The WAL has everything up to the Ready `number` on disk.
    fn persisted(&mut self, number: u64) {
        // Readys with nothing to write have no write of their own: the last write covers them.
        let upto = if self.last_write <= number { self.last_ready } else { number };
        while let Some((_, last)) = self.writes.pop_front_if(|(ready, _)| *ready <= number) {
            // What a later write overwrites is not on disk as the log now has it.
            self.raw.mut_store().stable_to(last);
        }
        self.raw.on_persist_ready(upto);
        self.held.persisted(number);
        self.note_changes(self.raw.raft.id);
    }

    fn tick_if_due(&mut self) {
        let now = clock::now();
        if now < self.next_tick {
            return;
        }
        // A member that was stopped for a while ticks once, not a hundred times.
        self.next_tick = now + self.timing.tick;
        self.status.note_tick(now, self.timing.tick);
        // Once only, and only for the first election: later it would start one nobody needs.
        if self.raw.raft.leader_id != 0 || self.advance_until < now {
            self.timing.advance = 0;
        }
        let connected = self.outputs.active.connected();
        if let Some(ticks) = first_election::skip(&self.raw.raft, &self.timing, connected) {
            self.timing.advance = 0;
            (0..ticks).for_each(|_| _ = self.raw.tick());
        }
        let (term, leader) = (self.raw.raft.term, self.raw.raft.leader_id);
        let was_follower = self.raw.raft.state == StateRole::Follower;
        self.raw.tick();
        if was_follower && self.raw.raft.state != StateRole::Follower {
            mark!(ElectionTimeout, 0, term = term, leader = leader);
        }
        self.note_changes(self.raw.raft.id);
        if let Some(hard_state) = self.unwritten.take() {
            self.write(Vec::new(), Some(hard_state), false);
        }
        let oldest = now.checked_sub(self.timing.patience).unwrap_or(now);
        // Their clients have given up; proposing them now would surprise everybody.
        while let Some((_, entry)) = self.parked.pop_front_if(|(since, _)| *since < oldest) {
            self.inbox.proposals_done(entry.data.len());
        }
    }

    /// Proposes what this turn has gathered, as one message.
    fn propose(&mut self) {
        if self.proposals.is_empty() && self.parked.is_empty() && self.parked_reads.is_empty() {
            return;
        }
        if self.raw.raft.leader_id == 0 {
            let now = clock::now();
            let room = PARKED_MAX.saturating_sub(self.parked.len());
            let refused = self.proposals.split_off(room.min(self.proposals.len()));
            self.parked.extend(self.proposals.drain(..).map(|entry| (now, entry)));
            self.inbox.proposals_done(data_len(&refused));
            return self.refuse(&refused);
        }
        for message in std::mem::take(&mut self.parked_reads) {
            self.read(message);
        }
        let mut entries: Vec<Entry> = self.parked.drain(..).map(|(_, entry)| entry).collect();
        entries.append(&mut self.proposals);
        let mut rest = entries.as_slice();
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(batch_len(rest));
            self.propose_batch(batch);
            rest = later;
        }
        self.inbox.proposals_done(data_len(&entries));
        self.note_changes(self.raw.raft.id);
    }

    fn propose_batch(&mut self, entries: &[Entry]) {
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.raw.raft.id;
        message.set_entries(entries.to_vec().into());
        if self.raw.step(message).is_err() {
            self.refuse(entries);
        }
    }

    /// Tells the waiting requests that raft did not take them.
    fn refuse(&self, entries: &[Entry]) {
        let ids: Vec<u64> = entries.iter().map(|entry| pb::entry_id(&entry.data)).collect();
        if !ids.is_empty() {
            // A closed channel means that the member is shutting down.
            let _ = self.outputs.dropped.send(ids);
        }
    }

    fn note_applied(&mut self) {
        let applied = self.status.applied();
        if self.applied < applied {
            self.applied = applied;
            self.backlog.applied(applied);
            self.raw.advance_apply_to(applied);
        }
    }

    fn process_readies(&mut self) {
        while self.raw.has_ready() {
            let is_behind = BACKLOG_BYTES_MAX < self.backlog.bytes;
            // With no bytes to spend, raft-rs hands over one entry.
            let bytes = if is_behind { 0 } else { COMMITTED_BYTES_MAX };
            self.raw.raft.set_max_committed_size_per_ready(bytes);
            let ready = self.raw.ready();
            self.process_ready(ready);
            if is_behind {
                break;
            }
        }
        let free = self.held.release();
        self.send(free);
    }

    /// Carries out what one [`Ready`] asks for; the numbers are those of the module's essay.
    // ANCHOR: process_ready
    fn process_ready(&mut self, mut ready: Ready) {
        self.last_ready = ready.number();
        let committed = ready.take_committed_entries();
        let is_leader = self.raw.raft.state == StateRole::Leader;
        let conf_index = if is_leader { 0 } else { last_conf_change(&committed) };

        // 1. In memory first: from here on raft-rs reads the entries back from the log storage.
        let entries = ready.take_entries();
        self.note_entries(&entries);
        self.raw.mut_store().append(&entries);

        // 2. The wal thread writes and syncs; its answer comes through the inbox.
        let vote_changed = self.persist(entries, ready.hs().cloned());

        // 3. A leader sends while the disk works, unless it has just voted for itself.
        let messages = ready.take_messages();
        if vote_changed {
            self.held.hold(self.last_write, conf_index, messages);
        } else {
            self.send(messages);
        }
        self.held.hold(self.last_write, conf_index, ready.take_persisted_messages());

        // 4. What is committed, and on this disk, goes to apply.
        self.hand_over(committed, ready.take_read_states());
        self.raw.advance_append_async(ready);
        if self.writes.is_empty() {
            self.raw.on_persist_ready(self.last_ready);
        }
    }
    // ANCHOR_END: process_ready

    /// Hands entries and hard state to the WAL. Returns whether term or vote have changed.
    fn persist(&mut self, entries: Vec<Entry>, hard_state: Option<HardState>) -> bool {
        let vote = hard_state.as_ref().map(|state| (state.term, state.vote));
        let vote_changed = vote.is_some_and(|vote| vote != self.written_vote);
        if let Some(vote) = vote {
            self.written_vote = vote;
        }
        if hard_state.is_some() {
            self.unwritten = hard_state;
        }
        if !entries.is_empty() || vote_changed {
            let hard_state = self.unwritten.take();
            self.write(entries, hard_state, true);
        }
        vote_changed
    }

    /// A tick's write of a commit index bears the number of the last Ready: it syncs nothing, so it
    /// is reported only together with a sync that covers that Ready too.
    fn write(&mut self, entries: Vec<Entry>, hard_state: Option<HardState>, sync: bool) {
        let ready = self.last_ready;
        // What these entries overwrite is no longer what the WAL will have.
        if let Some(first) = entries.first().map(|entry| entry.index) {
            for (_, last) in &mut self.writes {
                *last = (*last).min(first - 1);
            }
        }
        self.writes.push_back((ready, entries.last().map_or(0, |entry| entry.index)));
        self.last_write = ready;
        self.outputs.wal.write(wal::Write { entries, hard_state, sync, ready });
    }

    fn note_entries(&self, entries: &[Entry]) {
        for entry in entries {
            mark!(
                RaftEntry,
                pb::entry_id(&entry.data),
                term = entry.term,
                index = entry.index,
                bytes = entry.data.len()
            );
        }
    }

    fn send(&self, messages: Vec<Message>) {
        if !messages.is_empty() {
            self.outputs.peers.send(messages);
        }
    }

    fn hand_over(&mut self, entries: Vec<Entry>, reads: Vec<ReadState>) {
        // A closed channel means the receiver is shutting down, and Stop is on its way to us.
        if !entries.is_empty() {
            self.backlog.add(&entries);
            let _ = self.outputs.committed.send(Committed { entries, since: trace::tick::now() });
        }
        for read in reads {
            let Ok(round) = read.request_ctx.as_slice().try_into().map(u64::from_be_bytes) else {
                continue;
            };
            let term = self.raw.raft.term;
            let _ = self.outputs.reads.send(ReadRound { round, index: read.index, term });
        }
    }

    fn note_changes(&mut self, by: u64) {
        if self.changes.note(&self.raw.raft, by) {
            self.publish(true);
        }
    }

    /// Lets the other threads see where raft stands.
    fn publish(&self, leadership: bool) {
        let raft = &self.raw.raft;
        self.status.set_log(raft.raft_log.committed, raft.raft_log.last_index());
        if leadership {
            let now = Leadership { term: raft.term, leader: raft.leader_id };
            self.status.set_leadership(raft.state, now, raft.vote);
        }
    }
}

/// A local read, as `RawNode::read_index` makes it.
fn read_message(round: u64) -> Message {
    let mut message = Message::default();
    message.set_msg_type(MessageType::MsgReadIndex);
    let context = Entry { data: round.to_be_bytes().to_vec().into(), ..Entry::default() };
    message.set_entries(vec![context].into());
    message
}

fn last_conf_change(entries: &[Entry]) -> u64 {
    let is_change = |entry: &&Entry| entry.get_entry_type() != EntryType::EntryNormal;
    entries.iter().rev().find(is_change).map_or(0, |entry| entry.index)
}

fn data_len(entries: &[Entry]) -> usize {
    entries.iter().map(|entry| entry.data.len()).sum()
}

/// A change of membership that changes nothing, and does not say so.
fn is_bare_change(entry: &Entry) -> bool {
    entry.get_entry_type() == EntryType::EntryConfChange && entry.data.is_empty()
}

/// How many of the first entries make a batch: at least one.
fn batch_len(entries: &[Entry]) -> usize {
    let mut bytes = 0;
    let fits = |entry: &&Entry| {
        bytes += entry.data.len();
        bytes <= BATCH_BYTES_MAX
    };
    entries.iter().take_while(fits).count().max(1)
}
