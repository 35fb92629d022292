//! The causes behind a story's steps: what one request shared with others, and which members did
//! what for it.
//!
//! ```text
//!   rpc ─▶ entry ─▶ fsync (3 entries) on etcd-01 ─▶ acknowledgement ─▶ commit ─▶ backend.commit
//!               └─▶ fsync (3 entries) on etcd-03 ─▶ too late             └─▶ watch.notify, send
//! ```
//!
//! Everything comes from the steps of the story; each part names its event, so that a reader can
//! show it. This module has numbers only; the reader supplies the words.
//!
//! Invariant: a step that was not captured is `None`, or absent, and never guessed. The leader is
//! the member that counts acknowledgements or sends the entry, not the one that a follower took for
//! the leader.

use crate::{
    field, fields,
    story::{
        Event, Recording,
        order::Order,
        query::{Relation, Story, cluster::Cluster, through::Through},
    },
    trace::{
        message,
        record::{FLAG_CANCELLED, FLAG_ERROR, Kind},
        stage::Stage,
    },
};

/// One fsync that put the entry on a member's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fsync {
    /// The member, by position.
    pub member: u8,
    /// Position of the `wal.fsync`.
    pub event: usize,
    /// Number of entries that it made durable, including this one.
    pub entries: u64,
    /// Number of bytes that it made durable.
    pub bytes: u64,
}

/// The contribution of an acknowledgement to the quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It was counted, but the quorum was not complete yet.
    Counted,
    /// It completed the quorum.
    Completed,
    /// It came after the commit.
    Late,
    /// The leader's commit was not captured.
    Unknown,
}

/// An acknowledgement: a follower reported, or the leader noticed, that the entry is on its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The member, by raft's id: it may be one that sent no records.
    pub member_id: u64,
    /// Position of the leader's `raft.progress`, or of its own `wal.fsync`.
    pub event: usize,
    /// Whether it is about the leader's own disk.
    pub is_own: bool,
    /// Its contribution to the quorum.
    pub verdict: Verdict,
}

/// How the entry was committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quorum {
    /// The leader, by position.
    pub leader: Option<u8>,
    /// Position of the leader's `raft.commit` that covers the entry.
    pub commit: Option<usize>,
    /// The member that completed the quorum, by raft's id.
    pub completed_by: Option<u64>,
    /// All acknowledgements, in playback order.
    pub acks: Vec<Ack>,
}

/// When a read gave up waiting for its round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GaveUp {
    /// Before the round began.
    BeforeRound,
    /// Before the round's answer came to it.
    BeforeAnswer,
}

/// The round of ReadIndex that confirmed a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// Id of the round, which all its reads share.
    pub id: u64,
    /// Id of the attempt that was answered; of the last one, if none was.
    pub attempt: u64,
    /// Position of the `read_index.round` of the first attempt, or of its beginning.
    pub first: Option<usize>,
    /// Position of the `read_index.round` that ended with the answer; of the last one, if none did.
    pub event: Option<usize>,
    /// Number of reads that shared it, including this one.
    pub reads: Option<u64>,
    /// Position of the leader's `read_index.confirmed`.
    pub confirmed: Option<usize>,
    /// Number of members, including the leader, that had confirmed by then.
    pub acks: Option<u64>,
    /// Set if the read failed, or was cancelled, while it waited.
    pub gave_up: Option<GaveUp>,
}

/// A transaction that wrote the request to a member's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The member, by position.
    pub member: u8,
    /// Position of the `backend.commit`.
    pub event: usize,
    /// Number of writes in it.
    pub writes: u64,
}

/// A watcher that received the write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The member that serves the watcher, by position.
    pub member: u8,
    /// The watcher's number on that member.
    pub watcher: u64,
    /// Its id within its stream.
    pub watch_id: u64,
    /// Position of the `watch.queue`.
    pub queued: Option<usize>,
    /// Position of the `watch.send`.
    pub sent: Option<usize>,
    /// 0: from apply; 1: caught up. `None` if the send was not captured.
    pub path: Option<u64>,
    /// The lock, campaign or observe call whose watcher it is. `None` for a client's stream.
    pub call: Option<u64>,
}

/// The causes behind a story.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    /// Position of the rpc's end, on the member that serves it.
    pub rpc: Option<usize>,
    /// The fsyncs that cover the entry, in playback order.
    pub fsyncs: Vec<Fsync>,
    /// How the entry was committed; empty for a request that became no entry.
    pub quorum: Quorum,
    /// The round that confirmed its read.
    pub round: Option<Round>,
    /// Ids of the other captured reads that shared the round.
    pub fellows: Vec<u64>,
    /// The members, by raft's id, whose captured answers confirmed the round; the last of them
    /// completed its quorum.
    pub confirmed_by: Vec<u64>,
    /// The transactions that stored it.
    pub stored: Vec<Stored>,
    /// The watchers that received it.
    pub heard: Vec<Heard>,
    /// Positions of the questions to the leader over HTTP.
    pub forwards: Vec<usize>,
    /// Number of messages in the story: captured sends, and receives whose send was not captured.
    pub messages: usize,
    /// Whether the cluster has one member, as far as captured.
    pub is_alone: bool,
    /// What happened to the cluster while the request ran.
    pub through: Through,
}

impl Graph {
    /// Collects the causes behind this story.
    pub fn of(recording: &Recording, order: &Order, story: &Story) -> Graph {
        let mut graph = Graph::with_fellows(recording, order, story, |round| {
            fellows(recording, story.id, round).collect()
        });
        graph.through = Through::of(recording, order, &Cluster::of(recording, order), story);
        graph
    }

    /// [`Graph::of`] for a caller that knows which other reads waited for a round without reading
    /// the whole recording.
    pub(super) fn with_fellows(
        recording: &Recording,
        order: &Order,
        story: &Story,
        fellows: impl Fn(u64) -> Vec<u64>,
    ) -> Graph {
        let steps = Steps::new(recording, order, story);
        let is_kept = story.entry.is_some() && !story.is_lost;
        let round = steps.round();
        Graph {
            rpc: steps.list.iter().copied().find(|at| {
                let event = steps.event(*at);
                (event.stage, event.kind, event.id) == (Stage::Rpc, Kind::Span, story.id)
            }),
            fsyncs: steps.fsyncs(),
            quorum: if is_kept { steps.quorum(story.voters) } else { Quorum::default() },
            round,
            fellows: round
                .filter(|round| round.id != 0)
                .map_or(Vec::new(), |round| fellows(round.id)),
            confirmed_by: round.map_or(Vec::new(), |round| steps.confirmed_by(round)),
            stored: steps.stored(),
            heard: steps.heard(),
            forwards: steps.all(Stage::LeaseForward).collect(),
            messages: steps.messages(),
            is_alone: steps.is_alone(),
            through: Through::default(),
        }
    }

    /// The fsync on a member.
    pub fn fsync_on(&self, member: u8) -> Option<Fsync> {
        self.fsyncs.iter().copied().find(|fsync| fsync.member == member)
    }
}

/// A story's steps, prepared for queries.
pub(super) struct Steps<'a> {
    recording: &'a Recording,
    order: &'a Order,
    /// Positions of events, in playback order.
    pub(super) list: Vec<usize>,
}

/// Both ends of a message, as far as they were captured.
pub(super) type Ends = (Option<usize>, Option<usize>);

impl<'a> Steps<'a> {
    pub(super) fn new(recording: &'a Recording, order: &'a Order, story: &Story) -> Steps<'a> {
        // Other requests have entries and disks of their own.
        let is_own = |relation| !matches!(relation, Relation::Part | Relation::Delivery);
        let own = story.steps.iter().filter(|step| is_own(step.relation));
        let list = own.map(|step| step.event).collect();
        Steps { recording, order, list }
    }

    pub(super) fn event(&self, at: usize) -> &'a Event {
        &self.recording.events[at]
    }

    pub(super) fn member_id(&self, place: u8) -> u64 {
        self.recording.members.get(usize::from(place)).map_or(0, |member| member.member_id)
    }

    pub(super) fn place(&self, member_id: u64) -> Option<u8> {
        let at = self.recording.members.iter().position(|member| member.member_id == member_id)?;
        u8::try_from(at).ok()
    }

    /// Whether the cluster has one member, as far as captured: no message to another one, either.
    pub(super) fn is_alone(&self) -> bool {
        let is_message = |event: &Event| {
            matches!(event.stage, Stage::RaftSend | Stage::RaftReceive | Stage::RaftDrop)
        };
        self.recording.members.len() == 1 && !self.recording.events.iter().any(is_message)
    }

    /// The ends and marks of a stage, in playback order.
    pub(super) fn all(&self, stage: Stage) -> impl Iterator<Item = usize> + '_ {
        let is_meant = move |at: &usize| {
            let event = self.event(*at);
            event.stage == stage && event.kind != Kind::Begin
        };
        self.list.iter().copied().filter(is_meant)
    }

    /// The first end or mark of a stage on a member.
    pub(super) fn first(&self, stage: Stage, member: u8) -> Option<usize> {
        self.all(stage).find(|at| self.event(*at).member == member)
    }

    pub(super) fn rank(&self, at: usize) -> usize {
        self.list.iter().position(|other| *other == at).unwrap_or(usize::MAX)
    }

    /// The first message from one member to the other that `is_meant` accepts.
    pub(super) fn message(&self, from: u8, to: u8, is_meant: impl Fn(usize) -> bool) -> Ends {
        let end = |stage, own: u8, peer: u8| {
            let peer = self.member_id(peer);
            self.all(stage).find(|at| {
                let event = self.event(*at);
                let other = field!(event, RaftSend | RaftReceive, peer);
                event.member == own && other == peer && is_meant(*at)
            })
        };
        let partner = |at: usize| self.order.partner.get(&at).copied();
        match end(Stage::RaftSend, from, to) {
            Some(send) => {
                let receive = partner(send).or_else(|| end(Stage::RaftReceive, to, from));
                (Some(send), receive)
            }
            None => {
                let receive = end(Stage::RaftReceive, to, from);
                (receive.and_then(partner), receive)
            }
        }
    }

    fn messages(&self) -> usize {
        let is_unsent = |at: &usize| !self.order.partner.contains_key(at);
        self.all(Stage::RaftSend).count() + self.all(Stage::RaftReceive).filter(is_unsent).count()
    }

    fn fsyncs(&self) -> Vec<Fsync> {
        let fsync = |at: usize| {
            let event = self.event(at);
            let [first, last, bytes] = fields!(event, WalFsync: first, last, bytes);
            let entries = last.saturating_add(1).saturating_sub(first);
            Fsync { member: event.member, event: at, entries, bytes }
        };
        self.all(Stage::WalFsync).map(fsync).collect()
    }

    /// The leader: the member that counts acknowledgements or sends the entry; in a cluster of one,
    /// that member.
    fn leader(&self) -> Option<u8> {
        let sends = self.all(Stage::RaftSend).filter(|at| {
            let [kind, index, last] = fields!(self.event(*at), RaftSend: type, index, last);
            kind == message::APP && index < last
        });
        let known = self.all(Stage::RaftProgress).chain(sends).next();
        let own = || {
            self.all(Stage::RaftPropose).find(|at| {
                let event = self.event(*at);
                field!(event, RaftPropose, leader) == self.member_id(event.member)
            })
        };
        known.or_else(own).map(|at| self.event(at).member)
    }

    fn quorum(&self, voters: Option<usize>) -> Quorum {
        let Some(leader) = self.leader() else { return Quorum::default() };
        let commit = self.first(Stage::RaftCommit, leader);
        let by = commit.map(|at| field!(self.event(at), RaftCommit, completed_by));
        let by = by.filter(|by| *by != 0);
        let verdict = |member_id: u64, at: usize| match commit {
            None => Verdict::Unknown,
            Some(_) if by == Some(member_id) => Verdict::Completed,
            Some(commit) if self.rank(commit) < self.rank(at) => Verdict::Late,
            Some(_) => Verdict::Counted,
        };
        let own = self.first(Stage::WalFsync, leader);
        let progress = self.all(Stage::RaftProgress).filter(|at| self.event(*at).member == leader);
        // A learner's disk counts for nothing.
        let progress = progress.filter(|at| field!(self.event(*at), RaftProgress, learner) == 0);
        let mut acks: Vec<Ack> = progress
            .map(|at| (field!(self.event(at), RaftProgress, peer), at, false))
            .chain(own.map(|at| (self.member_id(leader), at, true)))
            .map(|(member_id, event, is_own)| Ack {
                member_id,
                event,
                is_own,
                verdict: verdict(member_id, event),
            })
            .collect();
        acks.sort_by_key(|ack| self.rank(ack.event));
        // The disk may have finished before the raft thread learned of it. If the ack had counted,
        // the quorum would have been complete without the last of the others.
        let counted = acks.iter().filter(|ack| ack.verdict <= Verdict::Completed).count();
        let is_over = voters.is_some_and(|voters| voters / 2 + 1 < counted)
            && by != Some(self.member_id(leader));
        for own in acks.iter_mut().filter(|ack| is_over && ack.is_own) {
            own.verdict = Verdict::Late;
        }
        Quorum { leader: Some(leader), commit, completed_by: by, acks }
    }

    fn round(&self) -> Option<Round> {
        let is_end = |at: &usize| self.event(*at).kind != Kind::Begin;
        // The beginning names the round too: a kept read keeps the round that it has joined.
        let waits =
            || self.list.iter().copied().filter(|at| self.event(*at).stage == Stage::ReadIndexWait);
        let wait = waits().find(is_end).or_else(|| waits().next())?;
        let id = field!(self.event(wait), ReadIndexWait, round);
        let of_round = |at: &usize| {
            let event = self.event(*at);
            id != 0 && (event.id == id || event.link == id)
        };
        let attempts = || self.all(Stage::ReadIndexRound).filter(of_round);
        let answered = attempts().find(|at| field!(self.event(*at), ReadIndexRound, index) != 0);
        let event = answered.or_else(|| attempts().filter(is_end).last());
        let attempt = match self.event(wait).link {
            0 => event.map_or(id, |at| answered_attempt(self.event(at))),
            answered => answered,
        };
        let first = attempts().next();
        // A question that is answered after the read has given up confirms nothing for it.
        let own = self.event(wait);
        let has_failed = own.result != 0
            || own.reason.is_some()
            || own.flags & (FLAG_CANCELLED | FLAG_ERROR) != 0;
        let until = if has_failed { self.rank(wait) } else { usize::MAX };
        let gave_up = has_failed.then(|| self.gave_up(wait, of_round));
        let confirmed = self
            .all(Stage::ReadIndexConfirmed)
            .find(|at| self.event(*at).id == attempt && self.rank(*at) < until);
        Some(Round {
            id,
            attempt,
            first,
            event,
            reads: event.map(|at| field!(self.event(at), ReadIndexRound, reads)),
            confirmed,
            acks: confirmed.map(|at| field!(self.event(at), ReadIndexConfirmed, acks)),
            gave_up,
        })
    }

    /// When a read gave up whose wait ended with this step.
    fn gave_up(&self, wait: usize, of_round: impl Fn(&usize) -> bool) -> GaveUp {
        let begins = |at: usize| {
            let event = self.event(at);
            let took_ns = if event.kind == Kind::Begin { 0 } else { event.took_ns };
            self.order.times[at] - i128::from(took_ns)
        };
        let rounds = self.list.iter().copied();
        let rounds =
            rounds.filter(|at| self.event(*at).stage == Stage::ReadIndexRound && of_round(at));
        match rounds.map(begins).min() {
            Some(began) if self.order.times[wait] < began => GaveUp::BeforeRound,
            _ => GaveUp::BeforeAnswer,
        }
    }

    /// The members that answered the leader's question first: as many as it had counted when it
    /// confirmed, in the order in which its raft thread took their answers.
    fn confirmed_by(&self, round: Round) -> Vec<u64> {
        let Some((confirmed, acks)) = round.confirmed.zip(round.acks) else { return Vec::new() };
        let others = usize::try_from(acks.saturating_sub(1)).unwrap_or(usize::MAX);
        let (leader, until) = (self.event(confirmed).member, self.rank(confirmed));
        let is_answer = |at: &usize| {
            let event = self.event(*at);
            (event.id, event.member) == (round.attempt, leader) && self.rank(*at) < until
        };
        let arrived: Vec<(usize, u64)> = (self.all(Stage::RaftReceive).filter(is_answer))
            .map(|at| (at, fields!(self.event(at), RaftReceive: type, peer)))
            .filter(|(_, [kind, _])| *kind == message::HEARTBEAT_RESP)
            .map(|(at, [_, peer])| (self.rank(at), peer))
            .collect();
        // A follower's question has the id of its answer, and was taken before that came.
        let mut taken = Vec::new();
        for at in self.all(Stage::RaftInbox).filter(is_answer) {
            let from = field!(self.event(at), RaftInbox, from);
            let has_arrived =
                arrived.iter().any(|(rank, peer)| *peer == from && *rank < self.rank(at));
            if has_arrived && !taken.contains(&from) {
                taken.push(from);
            }
        }
        // Members of earlier versions did not record what their raft thread took.
        if taken.is_empty() {
            taken = arrived.into_iter().map(|(_, peer)| peer).collect();
        }
        taken.truncate(others);
        taken
    }

    fn stored(&self) -> Vec<Stored> {
        let stored = |at: usize| Stored {
            member: self.event(at).member,
            event: at,
            writes: field!(self.event(at), BackendCommit, writes),
        };
        self.all(Stage::BackendCommit).map(stored).collect()
    }

    /// The watchers that have the write queued, or received it.
    fn heard(&self) -> Vec<Heard> {
        let mut heard: Vec<Heard> = Vec::new();
        for at in self.list.iter().copied() {
            let event = self.event(at);
            let is_queue = event.stage == Stage::WatchQueue;
            if !(is_queue || event.stage == Stage::WatchSend) || event.kind == Kind::Begin {
                continue;
            }
            let member = event.member;
            let [watcher, watch_id] = fields!(event, WatchQueue | WatchSend: watcher, watch_id);
            let known = heard.iter().position(|one| (one.member, one.watcher) == (member, watcher));
            let known = known.unwrap_or_else(|| {
                let (queued, sent, path, call) = (None, None, None, None);
                heard.push(Heard { member, watcher, watch_id, queued, sent, path, call });
                heard.len() - 1
            });
            let one = &mut heard[known];
            if is_queue {
                one.queued = one.queued.or(Some(at));
                let [creator, of_call] = fields!(event, WatchQueue: created_by, of_call);
                one.call = (of_call != 0).then_some(creator);
            } else if one.sent.is_none() {
                (one.sent, one.path) = (Some(at), Some(field!(event, WatchSend, path)));
            }
        }
        heard
    }
}

/// Which attempt got the answer that ended this `read_index.round`.
fn answered_attempt(round: &Event) -> u64 {
    match field!(round, ReadIndexRound, answered) {
        0 => round.id,
        earlier => earlier,
    }
}

/// Other reads that waited for the same round.
fn fellows(recording: &Recording, own: u64, round: u64) -> impl Iterator<Item = u64> {
    let is_fellow = move |event: &&Event| {
        event.stage == Stage::ReadIndexWait
            && event.kind != Kind::Begin
            && event.id != own
            && field!(event, ReadIndexWait, round) == round
    };
    recording.events.iter().filter(is_fellow).map(|event| event.id)
}
