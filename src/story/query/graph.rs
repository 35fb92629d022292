//! What one request shared with others, and who did what for it: the causes behind a story's steps.
//!
//! ```text
//!   rpc ─▶ entry ─▶ fsync (3 entries) on etcd-01 ─▶ acknowledgement ─▶ commit ─▶ backend.commit
//!               └─▶ fsync (3 entries) on etcd-03 ─▶ too late             └─▶ watch.notify, send
//! ```
//!
//! Everything is taken from the steps that the story has; each part names its event, so that a
//! reader can show it. Numbers only, no text: the words are the reader's.
//!
//! Invariant: what was not captured is `None`, or absent, and never guessed. Who leads is known
//! from who counts acknowledgements or sends the entry, not from whom a follower believed.

use crate::{
    field, fields,
    story::{Event, Recording, order::Order, query::Story},
    trace::{message, record::Kind, stage::Stage},
};

/// One fsync that put the entry on a member's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fsync {
    /// The member, by place.
    pub member: u8,
    /// The `wal.fsync`, by place.
    pub event: usize,
    /// How many entries it made durable, this one among them.
    pub entries: u64,
    /// Bytes that it made durable.
    pub bytes: u64,
}

/// What an acknowledgement was good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It was counted, and the quorum was not complete yet.
    Counted,
    /// With it the quorum was complete.
    Completed,
    /// The entry was committed already.
    Late,
    /// The leader's commit was not captured.
    Unknown,
}

/// A member that told the leader, or is the leader and knows, that the entry is on its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The member, by raft's id: it may be one that was never heard.
    pub member_id: u64,
    /// The leader's `raft.progress`, or the leader's own `wal.fsync`, by place.
    pub event: usize,
    /// Whether it is the leader's own disk.
    pub is_own: bool,
    /// What it was good for.
    pub verdict: Verdict,
}

/// How the entry was committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quorum {
    /// The leader, by place.
    pub leader: Option<u8>,
    /// The leader's `raft.commit` that covers the entry, by place.
    pub commit: Option<usize>,
    /// Who completed the quorum, by raft's id.
    pub completed_by: Option<u64>,
    /// Who had it when, in playback order.
    pub acks: Vec<Ack>,
}

/// The round of ReadIndex that let a read go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// Its id.
    pub id: u64,
    /// Its `read_index.round`, by place.
    pub event: Option<usize>,
    /// How many reads shared it, this one among them.
    pub reads: Option<u64>,
    /// The leader's `read_index.confirmed`, by place.
    pub confirmed: Option<usize>,
    /// How many members, the leader among them, had confirmed by then.
    pub acks: Option<u64>,
}

/// A transaction that put the write into a member's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The member, by place.
    pub member: u8,
    /// The `backend.commit`, by place.
    pub event: usize,
    /// How many writes it held.
    pub writes: u64,
}

/// A watcher that heard of the write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The member that serves the watcher, by place.
    pub member: u8,
    /// The watcher's number on that member.
    pub watcher: u64,
    /// Its id in its stream.
    pub watch_id: u64,
    /// The `watch.queue`, by place.
    pub queued: Option<usize>,
    /// The `watch.send`, by place.
    pub sent: Option<usize>,
    /// 0: from apply; 1: caught up. Known when it was sent.
    pub path: Option<u64>,
}

/// What stands behind a story.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    /// The rpc's end, by place, on the member that serves it.
    pub rpc: Option<usize>,
    /// The fsyncs that cover the entry, in playback order.
    pub fsyncs: Vec<Fsync>,
    /// How it was committed; of a request that became no entry, nothing.
    pub quorum: Quorum,
    /// The round that let it read.
    pub round: Option<Round>,
    /// The other reads that shared the round, as far as they were captured.
    pub fellows: Vec<u64>,
    /// The members, by raft's id, whose answers confirmed the round, as far as they were captured.
    pub confirmed_by: Vec<u64>,
    /// Where it is stored.
    pub stored: Vec<Stored>,
    /// Who heard of it.
    pub heard: Vec<Heard>,
    /// Messages of the story that were sent, or received while their send was not captured.
    pub messages: usize,
}

impl Graph {
    /// What stands behind this story.
    pub fn of(recording: &Recording, order: &Order, story: &Story) -> Graph {
        Graph::with_fellows(recording, order, story, |round| {
            fellows(recording, story.id, round).collect()
        })
    }

    /// The same, for who knows without a look at the whole recording which other reads waited for
    /// a round.
    pub(super) fn with_fellows(
        recording: &Recording,
        order: &Order,
        story: &Story,
        fellows: impl Fn(u64) -> Vec<u64>,
    ) -> Graph {
        let steps = Steps::new(recording, order, story);
        let is_kept = story.entry.is_some() && !story.is_lost;
        let round = steps.round();
        let voters = recording.members.len() + story.unheard.len();
        Graph {
            rpc: steps.list.iter().copied().find(|at| {
                let event = steps.event(*at);
                (event.stage, event.kind, event.id) == (Stage::Rpc, Kind::Span, story.id)
            }),
            fsyncs: steps.fsyncs(),
            quorum: if is_kept { steps.quorum(voters) } else { Quorum::default() },
            round,
            fellows: round
                .filter(|round| round.id != 0)
                .map_or(Vec::new(), |round| fellows(round.id)),
            confirmed_by: round.map_or(Vec::new(), |round| steps.confirmed_by(round)),
            stored: steps.stored(),
            heard: steps.heard(),
            messages: steps.messages(),
        }
    }

    /// The fsync on a member.
    pub fn fsync_on(&self, member: u8) -> Option<Fsync> {
        self.fsyncs.iter().copied().find(|fsync| fsync.member == member)
    }
}

/// A story's steps, to be asked.
pub(super) struct Steps<'a> {
    recording: &'a Recording,
    order: &'a Order,
    /// Places of events, in playback order.
    pub(super) list: Vec<usize>,
}

/// A message's two ends, as far as they were captured.
pub(super) type Ends = (Option<usize>, Option<usize>);

impl<'a> Steps<'a> {
    pub(super) fn new(recording: &'a Recording, order: &'a Order, story: &Story) -> Steps<'a> {
        let list = story.steps.iter().map(|step| step.event).collect();
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

    /// Whether there is only one member, as far as anybody knows.
    pub(super) fn is_alone(&self) -> bool {
        self.recording.members.len() == 1 && self.messages() == 0
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

    /// The first message from one member to the other that is meant.
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

    /// Who leads: whoever counts acknowledgements or sends the entry; alone, the only one.
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

    fn quorum(&self, voters: usize) -> Quorum {
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
        // The disk may have been done before the raft thread was told: had it counted, the quorum
        // would have been complete without the last of the others.
        let counted = acks.iter().filter(|ack| ack.verdict <= Verdict::Completed).count();
        let is_over = voters / 2 + 1 < counted && by != Some(self.member_id(leader));
        for own in acks.iter_mut().filter(|ack| is_over && ack.is_own) {
            own.verdict = Verdict::Late;
        }
        Quorum { leader: Some(leader), commit, completed_by: by, acks }
    }

    fn round(&self) -> Option<Round> {
        let wait = self.all(Stage::ReadIndexWait).next()?;
        let id = field!(self.event(wait), ReadIndexWait, round);
        let of_round = |stage| self.all(stage).find(|at| id != 0 && self.event(*at).id == id);
        let event = of_round(Stage::ReadIndexRound);
        let confirmed = of_round(Stage::ReadIndexConfirmed);
        Some(Round {
            id,
            event,
            reads: event.map(|at| field!(self.event(at), ReadIndexRound, reads)),
            confirmed,
            acks: confirmed.map(|at| field!(self.event(at), ReadIndexConfirmed, acks)),
        })
    }

    /// Who answered the leader's question first: as many as it had counted when it was content.
    fn confirmed_by(&self, round: Round) -> Vec<u64> {
        let Some((confirmed, acks)) = round.confirmed.zip(round.acks) else { return Vec::new() };
        let others = usize::try_from(acks.saturating_sub(1)).unwrap_or(usize::MAX);
        let answers = self.all(Stage::RaftReceive).filter(|at| {
            let event = self.event(*at);
            (event.id, event.member) == (round.id, self.event(confirmed).member)
                && field!(event, RaftReceive, type) == message::HEARTBEAT_RESP
        });
        answers.take(others).map(|at| field!(self.event(at), RaftReceive, peer)).collect()
    }

    fn stored(&self) -> Vec<Stored> {
        let stored = |at: usize| Stored {
            member: self.event(at).member,
            event: at,
            writes: field!(self.event(at), BackendCommit, writes),
        };
        self.all(Stage::BackendCommit).map(stored).collect()
    }

    /// Each watcher that has it in its queue, or got it.
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
            let known = heard.iter().position(|who| (who.member, who.watcher) == (member, watcher));
            let known = known.unwrap_or_else(|| {
                let (queued, sent, path) = (None, None, None);
                heard.push(Heard { member, watcher, watch_id, queued, sent, path });
                heard.len() - 1
            });
            let who = &mut heard[known];
            if is_queue {
                who.queued = who.queued.or(Some(at));
            } else if who.sent.is_none() {
                (who.sent, who.path) = (Some(at), Some(field!(event, WatchSend, path)));
            }
        }
        heard
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
