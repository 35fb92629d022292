//! The consensus loop: one thread, one inbox, one turn at a time.
//!
//! A turn takes all inputs that wait, then processes Readys until there are none:
//!
//! 1. entries go into the log storage, where raft-rs can read them back;
//! 2. entries and hard state go to the `wal` thread, which writes and syncs them while this thread
//!    continues;
//! 3. a leader's messages leave at once, in parallel with its own disk write (Raft thesis 10.2.1);
//!    those of a follower or candidate wait in [`DeferredMessages`] for the sync;
//! 4. committed entries go to apply, read states to the reads that wait.
//!
//! Invariants: nothing else touches the `RawNode`, so nothing is locked. The loop never waits for
//! apply, for a peer or for a write; entries that a follower has missed are read back from the
//! segments here, as many at a time as `member` allows to be in flight. Only entries that this
//! member has on disk are handed to apply (raft-rs ensures it), so an acknowledged write is on a
//! majority of disks, this one among them. A change of term or vote holds back all messages of its
//! Ready, a new leader's too.
//!
//! A commit index alone is not worth a write: it travels with the next entries, or with the next
//! tick. After a crash it may be behind the applied entries; `member` starts with the greater one.

mod membership;
mod outputs;
mod snapshots;

use std::{
    collections::VecDeque,
    sync::{Arc, mpsc::RecvTimeoutError},
    time::{Duration, Instant},
};

use raft::{
    RawNode, ReadState, Ready, SnapshotStatus, StateRole,
    eraftpb::{Entry, EntryType, Message, MessageType},
};

pub(crate) use outputs::{Committed, Outputs, ReadRound, Refusal};

use membership::{Accepted, Held};

use super::{
    Leadership, Status,
    arrivals::Arrivals,
    backlog::Backlog,
    changes::{Changes, Expected, PendingReads, Ticked},
    deferred::DeferredMessages,
    first_election,
    inbox::{Input, Inputs},
    leader,
    log::LogStorage,
    proposals::{self, Forwarded, Proposal, Proposals, Reason},
    rafthttp,
    reads::{self, ParkedReads},
    snapshot::{self, Arriving},
    sound::{self, Fault},
    status,
    timing::Timing,
    writes::Persisted,
};
use crate::{
    clock, mark, pb,
    raft::heartbeats::Heartbeats,
    trace::{self, EntryMarks, NewEntry},
};

/// The most inputs of one turn, before the clock is read again.
const INPUTS_PER_TURN: usize = 4096;

/// The least time between two log lines about ignored messages.
const COMPLAINTS_EVERY: Duration = Duration::from_secs(5);

/// The most bytes of committed entries that one Ready hands over.
pub(crate) const COMMITTED_BYTES_MAX: u64 = 16 << 20;

/// A member's raft state machine, with its inputs and outputs.
pub(crate) struct Node {
    raw: RawNode<LogStorage>,
    inbox: Inputs,
    outputs: Outputs,
    status: Arc<Status>,
    timing: Timing,
    /// When the raft thread took the last message by which the leader holds off an election.
    leader_heard: Option<Instant>,
    /// Until when ticks may be skipped.
    advance_until: Instant,
    next_tick: Instant,
    turn_began: Instant,
    /// Until then the log is silent about ignored messages.
    quiet_until: Instant,
    changes: Changes,
    arrivals: Arrivals,
    heartbeats: Heartbeats,
    deferred: DeferredMessages,
    proposals: Proposals,
    reads: ParkedReads,
    applied: u64,
    backlog: Backlog,
    /// The removal of this member, which leads, until another one does.
    held: Option<Held>,
    /// Changes of the members that others have forwarded while an earlier one is not applied.
    later_changes: VecDeque<(Instant, Message)>,
    arriving: Arriving,
    stopping: bool,
}

impl Node {
    /// Wraps a recovered state machine.
    pub(crate) fn new(
        raw: RawNode<LogStorage>,
        inbox: Inputs,
        outputs: Outputs,
        status: Arc<Status>,
        timing: Timing,
    ) -> Self {
        Self {
            changes: Changes::of(&raw.raft),
            arrivals: Arrivals::default(),
            heartbeats: Heartbeats::default(),
            proposals: Proposals::new(raw.raft.id),
            applied: status.applied(),
            next_tick: clock::now() + timing.tick,
            turn_began: clock::now(),
            leader_heard: None,
            quiet_until: clock::now(),
            advance_until: clock::now() + timing.patience,
            raw,
            inbox,
            outputs,
            status,
            timing,
            deferred: DeferredMessages::default(),
            reads: ParkedReads::default(),
            backlog: Backlog::default(),
            held: None,
            later_changes: VecDeque::new(),
            arriving: Arriving::default(),
            stopping: false,
        }
    }

    /// Runs until [`Input::Stop`], or until every sender of the inbox is gone.
    pub(crate) fn run(mut self) {
        trace::set_thread("raft");
        status::configured(self.applied, &self.raw.raft.prs().conf().to_conf_state());
        self.publish(true);
        self.process_readies();
        while !self.stopping {
            self.take_inputs();
            self.tick_if_due();
            self.settle_held();
            self.propose();
            self.note_applied();
            self.process_readies();
            self.publish(false);
        }
        // Drops the inbox, so that senders that wait for room fail instead of waiting for ever.
        let Node { inbox, outputs, .. } = self;
        drop(inbox);
        outputs.writes.stop();
    }

    fn take_inputs(&mut self) {
        let patience = match self.proposals.has_gathered() {
            true => Duration::ZERO,
            false => self.next_tick.saturating_duration_since(clock::now()),
        };
        let first = self.inbox.recv_timeout(patience);
        self.wake_last();
        self.turn_began = clock::now();
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

    /// For tests: when a stopped process continues, all other threads run before this one.
    fn wake_last(&self) {
        fail::fail_point!(
            "raft-wakes-last",
            self.next_tick + 2 * self.timing.tick < clock::now(),
            |_| ()
        );
    }

    fn take(&mut self, input: Input) {
        let waited = input.waited_ns();
        self.arrivals.taken(waited);
        match input {
            Input::Propose { id, data, kind, .. } => {
                let since = self.turn_began;
                let queued = self.proposals.gather(Proposal { id, data, kind, since });
                if !trace::is_too_short(trace::Stage::RaftInbox, id, || waited) {
                    mark!(RaftInbox, id, queued = queued, waited = waited);
                }
            }
            Input::ProposeInTerm { data, term, .. } => self.propose_in_term(data, term),
            Input::ReadIndex { round, .. } => {
                mark!(RaftInbox, round, waited = waited);
                self.reads.ask(reads::question(round), &mut self.raw);
            }
            Input::Step { message, .. } => self.step(*message),
            Input::Persisted { ready, .. } => self.persisted(ready),
            Input::ApplyConfChange { index, change, answer } => {
                self.apply_conf_change(Accepted { index, change, answer });
            }
            Input::AskMatch { member, answer } => _ = answer.send(self.matched(member)),
            Input::HandOver { to } => self.hand_over_leadership(to),
            Input::Unreachable(peer) => self.raw.report_unreachable(peer),
            Input::SnapshotMade(made) => self.snapshot_made(&made),
            Input::SnapshotSent { peer, ok } => {
                let status = if ok { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
                self.raw.report_snapshot(peer, status);
            }
            Input::Stop => self.stopping = true,
        }
    }

    /// Takes a message from another member. Proposals and reads that cannot be served yet wait.
    fn step(&mut self, message: Message) {
        let from = message.from;
        let round = rafthttp::round(&message);
        if round != 0 {
            mark!(RaftInbox, round, waited = self.arrivals.waited_ns(), from = from);
        }
        let (kind, term) = (message.get_msg_type(), message.term);
        let is_proposal = kind == MessageType::MsgPropose;
        if is_proposal {
            // Raft empties a change of the members while it does not know the last one as applied.
            self.note_applied();
        }
        let forwarded = |reason| Forwarded { peer: from, sent_term: message.log_term, reason };
        if let Some(fault) = sound::fault(&message, &self.raw.raft) {
            if is_proposal {
                let forwarded = forwarded(Some(fault.reason()));
                proposals::note_refused(&proposals::ids(&message), forwarded, &self.raw.raft);
            }
            return self.complain(from, fault);
        }
        let forwarded = forwarded(None);
        match kind {
            MessageType::MsgPropose
                if proposals::is_stale(&message, &self.raw.raft)
                    || self.leaves_before(&message) =>
            {
                let ids = proposals::ids(&message);
                return proposals::note_refused(&ids, forwarded, &self.raw.raft);
            }
            MessageType::MsgPropose if self.waits_for_change(&message) => {
                return self.hold_change(message);
            }
            MessageType::MsgReadIndex => return self.reads.ask(message, &mut self.raw),
            _ => {}
        }
        let brings = !message.entries.is_empty();
        if kind == MessageType::MsgTimeoutNow && self.arriving.is_under_way() {
            return;
        }
        let expected = Expected::before(&self.raw.raft, &message);
        let asked = PendingReads::before(&self.raw.raft, message.term);
        let is_refused = is_proposal && !proposals::can_append(&self.raw.raft);
        let refused = is_refused.then(|| proposals::ids(&message));
        if let Err(error) = self.raw.step(message) {
            // A stray message, for example from a removed member, is no error of this member.
            tracing::debug!(%error, from, "raft refused a message");
            if let Some(ids) = refused {
                proposals::note_refused(&ids, forwarded, &self.raw.raft);
            }
        }
        if leader::is_heard(kind, (from, term), &self.raw.raft) {
            self.leader_heard = Some(self.turn_began);
        }
        if brings {
            self.arrivals.brought(self.raw.raft.raft_log.last_index());
        }
        expected.after(&self.raw.raft);
        asked.after(&self.raw.raft);
        self.note_changes(from);
    }

    /// Logs a message that is ignored; rarely, because a peer that sends one sends many.
    fn complain(&mut self, from: u64, fault: Fault) {
        let now = clock::now();
        if self.quiet_until <= now {
            self.quiet_until = now + COMPLAINTS_EVERY;
            let from = format!("{from:x}");
            tracing::error!(from, "ignored a message from this member: {fault}");
        }
    }

    /// Appends at once or not at all. If it were gathered with the other proposals, a message of
    /// the same turn could end the term, and it would be forwarded to the next leader.
    fn propose_in_term(&mut self, data: bytes::Bytes, term: u64) {
        let (id, kind) = (pb::entry_id(&data), EntryType::EntryNormal);
        let proposal = [Proposal { id, data, kind, since: self.turn_began }];
        let waited = self.arrivals.waited_ns();
        mark!(RaftInbox, proposal[0].id, queued = 1_u64, waited = waited);
        if self.raw.raft.state == StateRole::Leader && self.raw.raft.term == term {
            self.propose_batch(&proposal, false);
        } else {
            self.refuse(&proposal);
        }
        self.inbox.proposals_done(proposals::data_len(&proposal));
    }

    /// Begins a transfer of the leadership, in place of one to another member that is under way.
    /// Raft gives a transfer up after an election timeout.
    fn hand_over_leadership(&mut self, to: Option<u64>) {
        let raft = &self.raw.raft;
        let Some(to) = leader::transferee(raft, &self.outputs.active, to) else { return };
        let matched = raft.prs().get(to).map_or(0, |progress| progress.matched);
        let last = raft.raft_log.last_index();
        mark!(ElectionTransfer, 0, term = raft.term, to = to, matched = matched, last = last);
        self.raw.transfer_leader(to);
    }

    /// Notes that the WAL has synced everything up to the Ready `number`.
    fn persisted(&mut self, number: u64) {
        let Persisted { ready, index } = self.outputs.writes.persisted(number);
        let before = self.raw.store().stable();
        self.raw.mut_store().stable_to(index);
        if index != 0 {
            let (now, waited) = (self.raw.store().stable(), self.arrivals.waited_ns());
            mark!(RaftStable, 0, stable_old = before, stable_new = now, waited = waited);
        }
        self.raw.on_persist_ready(ready);
        self.install_if_persisted(ready);
        self.deferred.persisted(number);
        self.note_changes(self.raw.raft.id);
    }

    fn tick_if_due(&mut self) {
        // What follows is caused by no input.
        self.arrivals.taken(0);
        let now = clock::now();
        if now < self.next_tick {
            return;
        }
        // A process that was stopped for a while ticks once, not once for each missed tick.
        self.next_tick = now + self.timing.tick;
        if self.arriving.is_under_way() {
            return;
        }
        // Once, and only for the first election: later it would cause a needless one.
        if self.raw.raft.leader_id != 0 || self.advance_until < now {
            self.timing.advance = 0;
        }
        let connected = self.outputs.active.connected();
        if let Some(ticks) = first_election::skip(&self.raw.raft, &self.timing, connected) {
            self.timing.advance = 0;
            (0..ticks).for_each(|_| _ = self.raw.tick());
        }
        let ticked = Ticked::before(&self.raw.raft);
        self.raw.tick();
        let silent = self.leader_heard.map(|heard| now.duration_since(heard));
        ticked.after(&self.raw.raft, silent.unwrap_or_default());
        self.note_changes(self.raw.raft.id);
        self.outputs.writes.write_commit();
        let oldest = now.checked_sub(self.timing.patience).unwrap_or(now);
        self.inbox.proposals_done(self.proposals.expire(oldest));
        while self.later_changes.pop_front_if(|(since, _)| *since < oldest).is_some() {}
    }

    /// Proposes what this turn has gathered, in one message. Proposals wait while there is no
    /// leader, or while the leader hands over.
    fn propose(&mut self) {
        self.step_later_changes();
        if self.proposals.is_empty() && self.reads.is_empty() {
            return;
        }
        let has_leader = self.raw.raft.leader_id != 0;
        self.reads.release(&mut self.raw);
        self.note_applied();
        self.leave_before_removal();
        if !has_leader || self.raw.raft.lead_transferee.is_some() {
            let refused = self.proposals.park(self.raw.raft.term);
            self.inbox.proposals_done(proposals::data_len(&refused));
            return self.refuse(&refused);
        }
        let all = self.proposals.take(self.takes_change(), self.raw.raft.term);
        let is_repeatable = self.leader_drops_stale_proposals();
        let mut rest = all.as_slice();
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(proposals::batch_len(rest));
            self.propose_batch(batch, is_repeatable);
            rest = later;
        }
        self.inbox.proposals_done(proposals::data_len(&all));
        self.note_changes(self.raw.raft.id);
    }

    fn leader_drops_stale_proposals(&self) -> bool {
        let raft = &self.raw.raft;
        raft.leader_id == raft.id || self.outputs.active.speaks_glass(raft.leader_id)
    }

    fn propose_batch(&mut self, batch: &[Proposal], is_repeatable: bool) {
        let term = self.raw.raft.term;
        let message = proposals::message(batch, &self.raw.raft);
        match self.raw.step(message) {
            Ok(()) => self.proposals.sent(batch, term, is_repeatable),
            Err(_) => self.refuse(batch),
        }
    }

    /// Reports to the waiting requests that raft has refused them.
    fn refuse(&self, proposals: &[Proposal]) {
        self.answer(proposals.iter().map(|proposal| proposal.id).collect(), Reason::Dropped);
    }

    fn answer(&self, ids: Vec<u64>, reason: Reason) {
        if !ids.is_empty() {
            // A closed channel means that the member is shutting down.
            let _ = self.outputs.refused.send(Refusal { ids, reason });
        }
    }

    /// Looks for proposals that these committed entries prove to be lost.
    fn note_committed(&mut self, entries: &[Entry]) {
        let lost = self.proposals.committed(entries);
        let committed_term = entries.last().map_or(0, |last| last.term);
        let mut unanswered = Vec::new();
        for lost in lost {
            let again = u8::from(lost.again.is_some());
            mark!(
                RaftLost,
                lost.id,
                term = lost.term,
                committed_term = committed_term,
                again = again
            );
            match lost.again {
                Some(bytes) => self.inbox.proposals_again(bytes),
                None => unanswered.push(lost.id),
            }
        }
        self.answer(unanswered, Reason::LeaderChanged);
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
            let is_behind = self.backlog.is_full();
            // With no bytes to spend, raft-rs hands over one entry.
            let bytes = if is_behind { 0 } else { COMMITTED_BYTES_MAX };
            self.raw.raft.set_max_committed_size_per_ready(bytes);
            let ready = self.raw.ready();
            self.process_ready(ready);
            if is_behind {
                break;
            }
        }
        let free = self.deferred.release();
        self.send(free);
    }

    /// Carries out what one [`Ready`] asks for; the numbers are those of the module's essay.
    // ANCHOR: process_ready
    fn process_ready(&mut self, mut ready: Ready) {
        // Before any message is sent: this member must know the state that it reports to others.
        self.publish(false);
        self.outputs.writes.begin(ready.number());
        let committed = ready.take_committed_entries();
        let is_leader = self.raw.raft.state == StateRole::Leader;
        let conf_index = if is_leader { 0 } else { last_conf_change(&committed) };

        // 1. In memory first: from here on raft-rs reads the entries back from the log storage.
        let received = snapshots::received(&ready);
        if let Some(snapshot) = &received {
            self.accept_snapshot(snapshot);
        }
        let entries = ready.take_entries();
        self.raw.mut_store().append(&entries);
        self.note_entries(&entries);

        // ANCHOR: send_before_sync
        // 2. The wal thread writes and syncs; its answer comes through the inbox.
        let hard_state = ready.hs().cloned();
        let vote_changed = self.outputs.writes.persist(received.as_ref(), entries, hard_state);

        // 3. A leader sends while the disk works, unless it has just voted for itself.
        let messages = ready.take_messages();
        if vote_changed {
            self.deferred.hold(self.outputs.writes.last(), conf_index, messages);
        } else {
            self.send(messages);
        }
        self.deferred.hold(self.outputs.writes.last(), conf_index, ready.take_persisted_messages());
        // ANCHOR_END: send_before_sync

        // 4. Entries that are committed, and on this disk, go to apply.
        self.hand_over(committed, ready.take_read_states());
        self.raw.advance_append_async(ready);
        if self.outputs.writes.is_empty() {
            self.raw.on_persist_ready(self.outputs.writes.last_ready());
        }
    }
    // ANCHOR_END: process_ready

    fn note_entries(&mut self, entries: &[Entry]) {
        let mut marks = EntryMarks::default();
        for entry in entries {
            let (id, bytes) = (pb::entry_id(&entry.data), entry.data.len() as u64);
            let waited_ns = self.arrivals.entry_waited_ns(entry.index);
            let (term, index) = (entry.term, entry.index);
            if !marks.takes(NewEntry { id, term, index, bytes, waited_ns }) {
                mark!(RaftEntry, id, term = term, index = index, bytes = bytes, waited = waited_ns);
            }
        }
        self.arrivals.entries_noted();
    }

    fn send(&mut self, messages: Vec<Message>) {
        if !messages.is_empty() {
            self.heartbeats.sent(&messages, self.raw.raft.term, self.timing.tick);
            self.outputs.peers.send(messages);
        }
    }

    fn hand_over(&mut self, entries: Vec<Entry>, reads: Vec<ReadState>) {
        // A closed channel means the receiver is shutting down, and Stop is on its way to us.
        if !entries.is_empty() {
            self.note_committed(&entries);
            self.backlog.add(&entries);
            let since = trace::handed_over();
            let _ = self.outputs.committed.send(Committed { entries, since, snapshot: None });
        }
        for read in reads {
            let Ok(round) = read.request_ctx.as_slice().try_into().map(u64::from_be_bytes) else {
                continue;
            };
            let (term, since) = (self.raw.raft.term, trace::handed_over());
            let _ = self.outputs.reads.send(ReadRound { round, index: read.index, term, since });
        }
    }

    fn note_changes(&mut self, by: u64) {
        if let Some(change) = self.changes.step(&self.raw.raft) {
            self.publish(change.is_leadership());
            change.record(by, self.arrivals.waited_ns());
            change.log(self.raw.raft.id);
        }
    }

    /// Publishes raft's state to the other threads.
    fn publish(&self, leadership: bool) {
        let raft = &self.raw.raft;
        self.status.set_commit(raft.raft_log.committed);
        if leadership {
            let now = Leadership { term: raft.term, leader: raft.leader_id };
            self.status.set_leadership(raft.state, now, raft.vote);
        }
    }
}

fn last_conf_change(entries: &[Entry]) -> u64 {
    let is_change = |entry: &&Entry| entry.get_entry_type() != EntryType::EntryNormal;
    entries.iter().rev().find(is_change).map_or(0, |entry| entry.index)
}
