//! The critical path: what a request waited for, from the arrival of its first byte to the last
//! byte of its answer, as far as these are known; otherwise from the beginning of its rpc to its
//! end.
//!
//! ```text
//!            rpc.queue                                                         answer.flush
//!   serving   ├───┤ … ┤ … ┤                                      ├ … ┤ apply.entry ┤ … ├───┤
//!   leader                ├ in transit ┤ … ┤        ├ in transit ┤ … ┤
//!   a third                                ├ wal.fsync ┤
//! ```
//!
//! A piece is named by what was recorded. One that begins and ends with a step is time in that
//! step. Any other piece (`…` above) is named by the two points between which it lies: the records
//! do not say what happened there, and a name would be a guess.
//!
//! The path is a chain of events in which each had to wait for the one before. Of the followers,
//! only the one whose acknowledgement completed the quorum is on it: the others worked in parallel.
//! A piece between two events of one member is measured by that member's clock. A piece between two
//! members is a message in transit. Its length depends on how [`Order`] has aligned the clocks: it
//! is marked as an estimate.
//!
//! While the process of a member stood still, it did nothing else: this part of a piece is named
//! after it ([`stalls`]).
//!
//! Invariant: the pieces leave no gap, so they add up to the duration of the whole. Where an event
//! of the chain was not captured, the piece around it is [`Wait::Unknown`], not distributed by a
//! guess. A request that failed, or whose client disconnected, waited in vain for the first event
//! that did not come before its end ([`Wait::NotInTime`]), whether that event came later or never.

use std::fmt;

use super::{
    Story,
    graph::{Graph, Steps},
};
use crate::{
    field, fields,
    story::{Recording, order::Order},
    trace::{message, record::FLAG_CANCELLED, record::Kind, stage::Stage},
};

mod stalls;

/// The name of a piece of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wait {
    /// From the start of a step to its end.
    Step(Stage),
    /// From one point to the next, without a step that covers the time.
    Between(Point, Point),
    /// A message in transit from one member to another, from handing it to the connection to its
    /// decoding there: an estimate.
    Network,
    /// An event that had not come when the request gave up: most often a majority.
    NotInTime,
    /// The recording lacks the records of this time.
    Unknown,
}

/// A point of the path: where a step starts or ends. A step that takes no time has only one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Point {
    /// The stage of the step.
    pub stage: Stage,
    /// Which point of it.
    pub side: Side,
}

/// Which point of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Where it starts.
    Start,
    /// Where it ends.
    End,
    /// It takes no time.
    Whole,
}

impl fmt::Display for Point {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.stage.name();
        match self.side {
            Side::Start => write!(out, "start of {name}"),
            Side::End => write!(out, "end of {name}"),
            Side::Whole => out.write_str(name),
        }
    }
}

/// The name that text and JSON show.
impl fmt::Display for Wait {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wait::Step(stage) => out.write_str(stage.name()),
            Wait::Between(from, to) => write!(out, "{from} to {to}"),
            Wait::Network => out.write_str("in transit"),
            Wait::NotInTime => out.write_str("not in time"),
            Wait::Unknown => out.write_str("not captured"),
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
        from: Edge::Start(rpc),
        is_broken: false,
        gave_up: event.result != 0 || event.flags & FLAG_CANCELLED != 0,
        segments: Vec::new(),
    };
    let serving = event.member;
    let began = chain.arrive(serving, rpc);
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
    chain.until(Some(Edge::End(rpc)));
    chain.leave(serving);
    Some(stalls::apart(&steps, order, began, chain.segments))
}

/// Where an event starts or ends, by its position.
#[derive(Clone, Copy)]
enum Edge {
    Start(usize),
    End(usize),
}

impl Edge {
    fn at(self) -> usize {
        let (Edge::Start(at) | Edge::End(at)) = self;
        at
    }
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
    from: Edge,
    is_broken: bool,
    /// Whether the request has failed.
    gave_up: bool,
    segments: Vec<Segment>,
}

impl Chain<'_> {
    /// Advances to the next edge. If that is unknown, the next known edge ends an unknown piece.
    fn until(&mut self, edge: Option<Edge>) {
        let Some(edge) = edge else {
            self.is_broken = true;
            return;
        };
        let raw = self.time(edge);
        let time = raw.clamp(self.now, self.end);
        let (from, to) = (self.steps.event(self.from.at()), self.steps.event(edge.at()));
        let is_one_clock = (from.member, from.boot) == (to.member, to.boot);
        // The request gave up: this is the end of the whole, or of a wait that ends with it.
        let is_giving_up =
            matches!(to.stage, Stage::Rpc | Stage::RaftPropose | Stage::ReadIndexWait);
        let gave_up_first =
            self.gave_up && (self.is_broken && is_giving_up || self.end < raw && !is_giving_up);
        self.segments.push(Segment {
            from: self.from.at(),
            to: edge.at(),
            member: to.member,
            wait: match self.is_broken {
                _ if gave_up_first => Wait::NotInTime,
                true => Wait::Unknown,
                false => self.name(edge),
            },
            ns: u64::try_from(time - self.now).unwrap_or(0),
            is_estimated: !is_one_clock || time != raw,
        });
        (self.now, self.from, self.is_broken) = (time, edge, false);
    }

    /// Advances to an edge that not every path has. If it was not captured, the piece is longer.
    fn perhaps_until(&mut self, edge: Option<Edge>) {
        if edge.is_some() && !self.is_broken {
            self.until(edge);
        }
    }

    /// The name of the piece from where the chain stands to `to`.
    fn name(&self, to: Edge) -> Wait {
        let (from, to) = (self.point(self.from), self.point(to));
        match (from.stage, to.stage) {
            (Stage::RaftSend, Stage::RaftReceive) => Wait::Network,
            (stage, same) if stage == same && (from.side, to.side) == (Side::Start, Side::End) => {
                Wait::Step(stage)
            }
            _ => Wait::Between(from, to),
        }
    }

    fn point(&self, edge: Edge) -> Point {
        let event = self.steps.event(edge.at());
        let side = match edge {
            _ if event.kind == Kind::Mark => Side::Whole,
            Edge::Start(_) => Side::Start,
            Edge::End(_) => Side::End,
        };
        Point { stage: event.stage, side }
    }

    /// The part before the rpc. Returns where the path begins.
    fn arrive(&mut self, serving: u8, rpc: usize) -> i128 {
        let stages = [Stage::SocketQueue, Stage::RpcReceive, Stage::RpcQueue];
        let known: Vec<usize> =
            stages.into_iter().filter_map(|stage| self.steps.first(stage, serving)).collect();
        let began = self.now;
        let starts = known.iter().map(|at| self.time(Edge::Start(*at)));
        self.now = starts.min().unwrap_or(began).min(began);
        let start = self.now;
        for at in known {
            let is_last = self.steps.event(at).stage == Stage::RpcQueue;
            let end = if is_last { began } else { self.time(Edge::End(at)) };
            self.edge(at, end.clamp(self.now, began));
        }
        if let Some(last) = self.segments.last_mut().filter(|_| self.now == began) {
            last.to = rpc;
        }
        // If `rpc.queue` was not captured.
        self.until(Some(Edge::Start(rpc)).filter(|_| self.now != began));
        (self.now, self.from, self.is_broken) = (began, Edge::Start(rpc), false);
        start
    }

    /// The part after the rpc.
    fn leave(&mut self, serving: u8) {
        if let Some(at) = self.steps.first(Stage::AnswerFlush, serving) {
            self.end = self.time(Edge::End(at)).max(self.now);
            self.edge(at, self.end);
        }
    }

    /// A step at the edge of the member, which begins where the one before it ended.
    fn edge(&mut self, at: usize, end: i128) {
        let event = self.steps.event(at);
        self.segments.push(Segment {
            from: if self.segments.is_empty() { at } else { self.from.at() },
            to: at,
            member: event.member,
            wait: Wait::Step(event.stage),
            ns: u64::try_from(end - self.now).unwrap_or(0),
            is_estimated: false,
        });
        (self.now, self.from) = (end, Edge::End(at));
    }

    fn message(&mut self, ends: (Option<usize>, Option<usize>)) {
        self.until(ends.0.map(Edge::Start));
        self.until(ends.1.map(Edge::End));
    }

    /// The part from the checks to the answer of apply.
    fn write(&mut self, serving: u8, story: &Story, graph: &Graph) {
        let steps = self.steps;
        self.until(steps.start(Stage::RaftPropose, serving));
        self.until(steps.end(Stage::RaftInbox, serving));
        match (graph.quorum.leader, story.entry) {
            (Some(leader), Some((_, index))) => self.replicate(serving, leader, index, graph),
            _ => self.until(None),
        }
        self.until(steps.start(Stage::ApplyEntry, serving));
        self.until(steps.end(Stage::ApplyEntry, serving));
        self.until(steps.end(Stage::RaftPropose, serving));
    }

    /// The waits that follow a call's own entry, or precede its read: for the lock, for the end of
    /// the compaction, for room for the answer, for other long reads.
    fn wait(&mut self, serving: u8) {
        for stage in [Stage::LockWait, Stage::CompactWait, Stage::AnswerRoom, Stage::ReadQueue] {
            if let Some(end) = self.last_end(stage, serving) {
                self.until(self.steps.start(stage, serving));
                self.until(Some(end));
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
        self.until(steps.end(Stage::RaftEntry, leader));
        let by = graph.quorum.completed_by.and_then(|member_id| steps.place(member_id));
        match by {
            None => self.until(None),
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
        self.until(graph.quorum.commit.map(Edge::End));
        if serving != leader {
            let tells = |at: usize| {
                (steps.is_type(at, message::APP) || steps.is_type(at, message::HEARTBEAT))
                    && index <= field!(steps.event(at), RaftSend | RaftReceive, commit)
            };
            self.message(steps.message(leader, serving, tells));
            self.until(steps.end(Stage::RaftCommit, serving));
        }
    }

    fn fsync(&mut self, member: u8, graph: &Graph) {
        let fsync = graph.fsync_on(member).map(|fsync| fsync.event);
        self.perhaps_until(self.steps.start(Stage::WalWrite, member));
        self.perhaps_until(self.steps.end(Stage::WalWrite, member));
        self.until(fsync.map(Edge::Start));
        self.until(fsync.map(Edge::End));
    }

    /// The part from the checks until the member may read.
    fn ask(&mut self, serving: u8, graph: &Graph) {
        let steps = self.steps;
        self.until(steps.start(Stage::ReadIndexWait, serving));
        let first = graph.round.and_then(|round| round.first);
        let round = graph.round.and_then(|round| round.event);
        self.until(first.map(Edge::Start));
        if !steps.is_alone() {
            self.confirm(serving, graph);
        }
        self.until(round.map(Edge::End));
        self.until(steps.end(Stage::ReadIndexWait, serving));
        self.until(steps.start(Stage::ReadWaitApplied, serving));
        self.until(steps.end(Stage::ReadWaitApplied, serving));
    }

    /// The leader's question to the others, with the way to the leader and back.
    fn confirm(&mut self, serving: u8, graph: &Graph) {
        let steps = self.steps;
        let Some((id, confirmed)) = graph.round.and_then(|r| Some((r.attempt, r.confirmed?)))
        else {
            return self.until(None);
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
            None => self.until(None),
        }
        self.until(Some(Edge::End(confirmed)));
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
        self.until(first);
        self.until(self.last_end(Stage::MvccRange, serving));
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
