//! The critical path: what a request waited for, from the beginning of its rpc to its end.
//!
//! ```text
//!   serving   ├ checks ┤ inbox ┤                                      ├ backlog ┤ apply ┤ answer ┤
//!   leader                     ├ network ┤ raft ┤        ├ raft ┤ commit ┤
//!   a third                                      ├ fsync ┤
//! ```
//!
//! The path is a chain of events in which each had to wait for the one before. Of the followers,
//! only the one whose acknowledgement completed the quorum is on it: the others worked in parallel.
//! A piece between two events of one member is measured by that member's clock. A piece between two
//! members is a message in transit. Its length depends on how [`Order`] has aligned the clocks: it
//! is marked as an estimate.
//!
//! Invariant: the pieces leave no gap, so they add up to the rpc's duration. Where an event of the
//! chain was not captured, the piece around it is [`Wait::Unknown`], not distributed by a guess. A
//! request that failed, or whose client disconnected, waited in vain for the first event that did
//! not come before its end ([`Wait::NotInTime`]), whether that event came later or never.

use super::{
    Story,
    graph::{Graph, Steps},
};
use crate::{
    field, fields,
    story::{Recording, order::Order},
    trace::{message, record::FLAG_CANCELLED, record::Kind, stage::Stage},
};

/// The causes for which a request waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wait {
    /// The checks before the request is proposed, asks the quorum, or reads.
    Checks,
    /// The inbox of the raft thread.
    Inbox,
    /// The raft thread, until it has passed the work on.
    Raft,
    /// A message in transit from one member to another: an estimate.
    Network,
    /// The WAL thread, which is busy or writes: from the log in memory to the start of the fsync.
    WalQueue,
    /// The fsync that covers the entry.
    Fsync,
    /// Apply, which is busy with earlier committed entries.
    Backlog,
    /// The request's own application.
    Apply,
    /// The end of an earlier round of ReadIndex.
    Round,
    /// The request's own read.
    Read,
    /// Its turn for a lock or an election: an earlier key is still there.
    LockQueue,
    /// The removal of rows by a compaction whose end the client asked for.
    Compaction,
    /// A permit to read: as many long reads as are allowed are in progress.
    LongReads,
    /// Room for its answer: other clients do not read theirs.
    Room,
    /// The wake-up of the request's task.
    Wake,
    /// The building of the answer.
    Answer,
    /// Only the member that serves it.
    Own,
    /// An event that had not come when the request gave up: most often a majority.
    NotInTime,
    /// The cause was not captured.
    Unknown,
}

impl Wait {
    /// A short name for JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Wait::Checks => "checks",
            Wait::Inbox => "inbox",
            Wait::Raft => "raft",
            Wait::Network => "network",
            Wait::WalQueue => "wal_queue",
            Wait::Fsync => "fsync",
            Wait::Backlog => "apply_backlog",
            Wait::Apply => "apply",
            Wait::Round => "read_round",
            Wait::Read => "read",
            Wait::LockQueue => "lock_queue",
            Wait::Compaction => "compaction",
            Wait::LongReads => "read_queue",
            Wait::Room => "answer_room",
            Wait::Wake => "wake",
            Wait::Answer => "answer",
            Wait::Own => "own",
            Wait::NotInTime => "not_in_time",
            Wait::Unknown => "not_captured",
        }
    }
}

/// One piece of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Position of the event at which it begins.
    pub from: usize,
    /// Position of the event at which it ends.
    pub to: usize,
    /// The member that is waited for, by position: the one of the event at its end.
    pub member: u8,
    /// The cause of the wait.
    pub wait: Wait,
    /// The length of the piece, in nanoseconds.
    pub ns: u64,
    /// Whether the duration depends on how the members' clocks were set against each other.
    pub is_estimated: bool,
}

/// The critical path of a request. `None` if the end of its rpc was not captured.
pub fn critical_path(
    recording: &Recording,
    order: &Order,
    story: &Story,
    graph: &Graph,
) -> Option<Vec<Segment>> {
    let steps = Steps::new(recording, order, story);
    let rpc = graph.rpc?;
    let end = order.times[rpc];
    let event = steps.event(rpc);
    let mut chain = Chain {
        steps: &steps,
        order,
        now: end - i128::from(event.took_ns),
        end,
        from: rpc,
        is_broken: false,
        gave_up: event.result != 0 || event.flags & FLAG_CANCELLED != 0,
        segments: Vec::new(),
    };
    let serving = event.member;
    let is_proposed = steps.start(Stage::RaftPropose, serving).is_some();
    if is_proposed || story.entry.is_some() {
        chain.write(serving, story, graph);
        chain.wait(serving);
    } else if steps.start(Stage::ReadIndexWait, serving).is_some() {
        chain.ask(serving, graph);
        chain.read(serving);
    } else if steps.start(Stage::MvccRange, serving).is_some() {
        chain.read(serving);
    }
    let last = if chain.segments.is_empty() { Wait::Own } else { Wait::Answer };
    chain.until(last, Some(Edge::End(rpc)));
    Some(chain.segments)
}

/// A point of the chain.
#[derive(Clone, Copy)]
enum Edge {
    Start(usize),
    End(usize),
}

impl Steps<'_> {
    /// Where a span of a member begins: known from its beginning, or from its end.
    fn start(&self, stage: Stage, member: u8) -> Option<Edge> {
        let begin = || {
            self.list.iter().copied().find(|at| {
                let event = self.event(*at);
                (event.stage, event.member, event.kind) == (stage, member, Kind::Begin)
            })
        };
        self.first(stage, member).or_else(begin).map(Edge::Start)
    }

    fn end(&self, stage: Stage, member: u8) -> Option<Edge> {
        self.first(stage, member).map(Edge::End)
    }

    /// Whether the event is a message of this type.
    fn is_type(&self, at: usize, kind: u64) -> bool {
        field!(self.event(at), RaftSend | RaftReceive, type) == kind
    }
}

struct Chain<'a> {
    steps: &'a Steps<'a>,
    order: &'a Order,
    now: i128,
    end: i128,
    from: usize,
    is_broken: bool,
    /// Whether the request has failed.
    gave_up: bool,
    segments: Vec<Segment>,
}

impl Chain<'_> {
    /// Advances to the next point. If that is unknown, the next known point ends an unknown piece.
    fn until(&mut self, wait: Wait, place: Option<Edge>) {
        let Some(place) = place else {
            self.is_broken = true;
            return;
        };
        let (Edge::Start(at) | Edge::End(at)) = place;
        let raw = self.time(place);
        let time = raw.clamp(self.now, self.end);
        let (from, to) = (self.steps.event(self.from), self.steps.event(at));
        let is_one_clock = (from.member, from.boot) == (to.member, to.boot);
        // The request gave up: this is the end of the whole, or of a wait that ends with it.
        let is_giving_up =
            matches!(to.stage, Stage::Rpc | Stage::RaftPropose | Stage::ReadIndexWait);
        let gave_up_first =
            self.gave_up && (self.is_broken && is_giving_up || self.end < raw && !is_giving_up);
        self.segments.push(Segment {
            from: self.from,
            to: at,
            member: to.member,
            wait: match self.is_broken {
                _ if gave_up_first => Wait::NotInTime,
                true => Wait::Unknown,
                false => wait,
            },
            ns: u64::try_from(time - self.now).unwrap_or(0),
            is_estimated: !is_one_clock || time != raw,
        });
        (self.now, self.from, self.is_broken) = (time, at, false);
    }

    fn message(&mut self, ends: (Option<usize>, Option<usize>)) {
        self.until(Wait::Raft, ends.0.map(Edge::Start));
        self.until(Wait::Network, ends.1.map(Edge::End));
    }

    /// The part from the checks to the answer of apply.
    fn write(&mut self, serving: u8, story: &Story, graph: &Graph) {
        let steps = self.steps;
        self.until(Wait::Checks, steps.start(Stage::RaftPropose, serving));
        self.until(Wait::Inbox, steps.end(Stage::RaftInbox, serving));
        match (graph.quorum.leader, story.entry) {
            (Some(leader), Some((_, index))) => self.replicate(serving, leader, index, graph),
            _ => self.until(Wait::Raft, None),
        }
        self.until(Wait::Backlog, steps.start(Stage::ApplyEntry, serving));
        self.until(Wait::Apply, steps.end(Stage::ApplyEntry, serving));
        self.until(Wait::Wake, steps.end(Stage::RaftPropose, serving));
    }

    /// The waits that follow a call's own entry, or precede its read: its turn, the end of the
    /// compaction, room for the answer, and the end of other long reads.
    fn wait(&mut self, serving: u8) {
        let waits = [
            (Stage::LockWait, Wait::LockQueue),
            (Stage::CompactWait, Wait::Compaction),
            (Stage::AnswerRoom, Wait::Room),
            (Stage::ReadQueue, Wait::LongReads),
        ];
        for (stage, wait) in waits {
            if let Some(end) = self.last_end(stage, serving) {
                self.until(Wait::Checks, self.steps.start(stage, serving));
                self.until(wait, Some(end));
            }
        }
    }

    /// The part from the inbox of the serving member until that member knows of the commit.
    fn replicate(&mut self, serving: u8, leader: u8, index: u64, graph: &Graph) {
        let steps = self.steps;
        if serving != leader {
            let ends = steps.message(serving, leader, |at| steps.is_type(at, message::PROP));
            self.message(ends);
        }
        self.until(Wait::Raft, steps.end(Stage::RaftEntry, leader));
        let by = graph.quorum.completed_by.and_then(|member_id| steps.place(member_id));
        match by {
            None => self.until(Wait::Fsync, None),
            Some(by) if by == leader => self.fsync(leader, graph),
            Some(by) => {
                let carries = |at: usize| {
                    let [before, last] =
                        fields!(steps.event(at), RaftSend | RaftReceive: index, last);
                    steps.is_type(at, message::APP) && before < index && index <= last
                };
                self.message(steps.message(leader, by, carries));
                self.fsync(by, graph);
                let tells = |at: usize| steps.is_type(at, message::APP_RESP);
                self.message(steps.message(by, leader, tells));
            }
        }
        self.until(Wait::Raft, graph.quorum.commit.map(Edge::End));
        if serving != leader {
            let tells = |at: usize| {
                (steps.is_type(at, message::APP) || steps.is_type(at, message::HEARTBEAT))
                    && index <= field!(steps.event(at), RaftSend | RaftReceive, commit)
            };
            self.message(steps.message(leader, serving, tells));
            self.until(Wait::Raft, steps.end(Stage::RaftCommit, serving));
        }
    }

    fn fsync(&mut self, member: u8, graph: &Graph) {
        let fsync = graph.fsync_on(member).map(|fsync| fsync.event);
        self.until(Wait::WalQueue, fsync.map(Edge::Start));
        self.until(Wait::Fsync, fsync.map(Edge::End));
    }

    /// The part from the checks until the member may read.
    fn ask(&mut self, serving: u8, graph: &Graph) {
        let steps = self.steps;
        self.until(Wait::Checks, steps.start(Stage::ReadIndexWait, serving));
        let round = graph.round.and_then(|round| round.event);
        self.until(Wait::Round, round.map(Edge::Start));
        if !steps.is_alone() {
            self.confirm(serving, graph);
        }
        self.until(Wait::Raft, round.map(Edge::End));
        self.until(Wait::Wake, steps.end(Stage::ReadIndexWait, serving));
        self.until(Wait::Backlog, steps.end(Stage::ReadWaitApplied, serving));
    }

    /// The leader's question to the others, with the way to the leader and back.
    fn confirm(&mut self, serving: u8, graph: &Graph) {
        let steps = self.steps;
        let Some((id, confirmed)) = graph.round.and_then(|r| Some((r.id, r.confirmed?))) else {
            return self.until(Wait::Raft, None);
        };
        let leader = steps.event(confirmed).member;
        let of_round = |at: usize, kind| steps.event(at).id == id && steps.is_type(at, kind);
        if serving != leader {
            let asks = |at| of_round(at, message::READ_INDEX);
            self.message(steps.message(serving, leader, asks));
        }
        let rank = steps.rank(confirmed);
        // The round ends with the last answer before it was confirmed.
        let last = steps
            .all(Stage::RaftReceive)
            .filter(|at| {
                steps.event(*at).member == leader
                    && of_round(*at, message::HEARTBEAT_RESP)
                    && steps.rank(*at) < rank
            })
            .last();
        match last.and_then(|at| steps.place(field!(steps.event(at), RaftReceive, peer))) {
            Some(by) => {
                self.message(steps.message(leader, by, |at| of_round(at, message::HEARTBEAT)));
                let answers = |at| of_round(at, message::HEARTBEAT_RESP);
                self.message(steps.message(by, leader, answers));
            }
            None => self.until(Wait::Network, None),
        }
        self.until(Wait::Raft, Some(Edge::End(confirmed)));
        if serving != leader {
            let tells = |at| of_round(at, message::READ_INDEX_RESP);
            self.message(steps.message(leader, serving, tells));
        }
    }

    /// A read that finds no room for its answer is repeated once there is room.
    fn read(&mut self, serving: u8) {
        self.wait(serving);
        let begins =
            [Stage::MvccRange, Stage::TreeIndexGet].map(|it| self.steps.start(it, serving));
        // A transaction plans all of its ranges, and then reads them.
        let first = begins.into_iter().flatten().min_by_key(|place| self.time(*place));
        self.until(Wait::Checks, first);
        self.until(Wait::Read, self.last_end(Stage::MvccRange, serving));
    }

    /// Where the last span of a stage ends on a member before the rpc does. A long answer reads
    /// rows after that, while it is sent.
    fn last_end(&self, stage: Stage, member: u8) -> Option<Edge> {
        let ends = self.steps.all(stage).filter(|at| {
            let event = self.steps.event(*at);
            (event.member, event.kind) == (member, Kind::Span) && self.order.times[*at] <= self.end
        });
        ends.last().map(Edge::End)
    }

    /// The time of an edge, in nanoseconds since 1970 on the common axis.
    fn time(&self, place: Edge) -> i128 {
        match place {
            Edge::End(at) => self.order.times[at],
            Edge::Start(at) => {
                let event = self.steps.event(at);
                let is_at_end = event.kind == Kind::Span && event.stage != Stage::RaftSend;
                let took = if is_at_end { i128::from(event.took_ns) } else { 0 };
                self.order.times[at] - took
            }
        }
    }
}
