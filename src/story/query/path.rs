//! The critical path: what a request waited for, from the arrival of its first byte to the last
//! byte of its answer, as far as these were captured; otherwise from its rpc's start to its end.
//!
//! ```text
//!            rpc.queue                                                         answer.flush
//!   serving   ├───┤ … ┤ … ┤                                      ├ … ┤ apply.entry ┤ … ├───┤
//!   leader                ├ in transit ┤ … ┤        ├ in transit ┤ … ┤
//!   a third                                ├ wal.fsync ┤
//! ```
//!
//! A piece is named by what was recorded. One that begins and ends with a step is time in that
//! step. What is handed from thread to thread waits until the other thread takes it, and the one
//! who takes it records for how long: that is a piece of its own, named by who takes it. Any other
//! piece (`…` above) is named by the two points between which it lies: the records do not say what
//! happened there, and a name would be a guess.
//!
//! The path is a chain of events in which each had to wait for the one before. Of the followers,
//! only the one whose acknowledgement completed the quorum is on it: the others worked in parallel.
//! A piece between two events of one member is measured by that member's clock. A piece between two
//! members is a message in transit. Its length depends on how [`Order`] has aligned the clocks: it
//! is an estimate, and so is every other piece that begins by one member's clock and ends by
//! another's. No other piece is.
//!
//! The part of a piece in which a member's process stood still is a piece of its own ([`stalls`]).
//!
//! Invariant: the pieces leave no gap, so they add up to the duration of the whole. Where an event
//! of the chain was not captured, the piece around it is [`Wait::Unknown`], not distributed by a
//! guess. A request that failed, or whose client disconnected, waited in vain for the first event
//! that did not come before its end ([`Wait::InVain`]), whether that event came later or never.
//! Once the wait itself has ended with the failure, it waits for nothing more.

mod cut;
mod edge;
mod entry;
mod stalls;
mod waits;

pub use super::wait::{Awaited, Point, Side, Taker, Wait};
use super::{
    Story,
    graph::{Graph, Steps},
    method_of,
};
use crate::{
    field,
    story::{Event, Recording, order::Order},
    trace::{
        message,
        record::{FLAG_CANCELLED, FLAG_ERROR, Kind},
        stage::Stage,
    },
};

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
    /// Its end, in nanoseconds since 1970 on the common axis.
    pub until: i128,
    /// The clocks that measured its beginning and its end.
    pub clocks: [Clock; 2],
}

impl Segment {
    /// Whether its length depends on how the clocks of two members were set against each other.
    pub fn is_estimated(&self) -> bool {
        self.clocks[0] != self.clocks[1]
    }
}

/// The clock of one start of a member: the member, by position, and the number of the start.
pub type Clock = (u8, u16);

pub(super) fn clock_of(event: &Event) -> Clock {
    (event.member, event.boot)
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
        clocks: [clock_of(event); 2],
        from: Edge::Start(rpc),
        is_broken: false,
        is_brief: story.brief.contains(&event.member),
        awaited: Awaited::Step,
        gave_up: event.result != 0 || event.flags & FLAG_CANCELLED != 0,
        segments: Vec::new(),
    };
    let serving = event.member;
    chain.arrive(serving, rpc);
    let is_proposed = steps.start(Stage::RaftPropose, serving).is_some();
    // A call without a lease waits for one first.
    chain.whole(Stage::SessionGrant, serving);
    if method_of(event) == "Election/Observe" {
        chain.observe(serving);
    } else if is_proposed || story.entry.is_some() {
        chain.write(serving, story, graph);
        chain.after_apply(serving, graph);
    } else if steps.start(Stage::LeaseForward, serving).is_some() {
        chain.forward(graph);
    } else if steps.start(Stage::ReadIndexWait, serving).is_some() {
        if chain.ask(serving, graph) {
            chain.read(serving);
        }
    } else if steps.start(Stage::MvccRange, serving).is_some() {
        chain.read(serving);
    } else {
        chain.hash(serving, graph);
    }
    chain.until(Some(Edge::End(rpc)));
    chain.leave(serving);
    let through = &graph.through;
    Some(stalls::apart(&steps, through, through.cut(recording, order, chain.segments)))
}

/// A point in time at an event, by its position.
#[derive(Clone, Copy)]
enum Edge {
    Start(usize),
    End(usize),
    /// Before it starts: where it was handed over to the one who takes it now.
    HandedOver(usize),
    /// Before it ends: where its result was handed over to the call that waits for it.
    Answered(usize),
    /// Where that which has ended with the first event was taken, to bring about the second.
    Taken(usize, usize),
    /// Before it starts: where the wal thread has taken the first write of the group.
    Gathered(usize),
}

impl Edge {
    fn at(self) -> usize {
        let (Edge::Start(at)
        | Edge::End(at)
        | Edge::HandedOver(at)
        | Edge::Answered(at)
        | Edge::Taken(_, at)
        | Edge::Gathered(at)) = self;
        at
    }
}

/// The thread that takes the hand-over before a step of this stage.
fn taker(stage: Stage) -> Taker {
    match stage {
        Stage::RaftSend => Taker::Peer,
        Stage::WalWrite => Taker::Wal,
        Stage::ApplyEntry => Taker::Apply,
        Stage::ReadThread | Stage::CompactCommit => Taker::Blocking,
        Stage::RaftPropose | Stage::ReadIndexRound | Stage::ReadIndexWait => Taker::Grpc,
        _ => Taker::Raft,
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

    /// How long that which leads to this event waited to be taken, in nanoseconds; 0 if the record
    /// does not say so.
    fn waited_ns(&self, at: usize) -> u64 {
        field!(
            self.event(at),
            RaftInbox
                | RaftEntry
                | RaftStable
                | RaftCommit
                | RaftSend
                | ApplyEntry
                | ReadThread
                | CompactCommit,
            waited
        )
    }

    /// How long the result of this step waited for the call to wake, in nanoseconds; 0 if the
    /// record does not say so.
    fn woken_ns(&self, at: usize) -> u64 {
        field!(self.event(at), RaftPropose | ReadIndexRound | ReadIndexWait, woken)
    }

    /// Whether this step has failed, or was cancelled.
    fn has_failed(&self, at: usize) -> bool {
        let event = self.event(at);
        let flags = FLAG_CANCELLED | FLAG_ERROR;
        event.result != 0 || event.reason.is_some() || event.flags & flags != 0
    }

    /// Whether the raft thread of this member takes here what belongs to an id.
    fn is_inbox(&self, at: usize, member: u8, id: u64) -> bool {
        let event = self.event(at);
        (event.member, event.id) == (member, id)
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
    /// The clocks that measured where the chain stands, and the end.
    clocks: [Clock; 2],
    from: Edge,
    is_broken: bool,
    /// Whether the serving member left out steps.
    is_brief: bool,
    /// What the request waits for where the chain stands, or where it is broken.
    awaited: Awaited,
    /// Whether the request has failed.
    gave_up: bool,
    segments: Vec<Segment>,
}

impl Chain<'_> {
    /// Advances to the next edge. If that is unknown, the next known edge ends an unknown piece.
    fn until(&mut self, edge: Option<Edge>) {
        match edge {
            Some(edge) => self.advance(edge, self.name(edge)),
            None => self.is_broken = true,
        }
    }

    /// As [`Chain::until`], for a step that a member under load leaves out: then the next piece
    /// begins with the step before.
    fn perhaps(&mut self, edge: Option<Edge>) {
        if edge.is_some() || !self.is_brief {
            self.until(edge);
        }
    }

    /// From here on the request waits for this.
    fn awaits(&mut self, what: Awaited) {
        if !self.is_broken {
            self.awaited = what;
        }
    }

    /// Advances to the edge at which what was handed over is taken.
    fn until_taken(&mut self, edge: Edge, taker: Taker) {
        self.advance(edge, Wait::HandOver(taker));
    }

    fn advance(&mut self, edge: Edge, name: Wait) {
        let raw = self.time(edge);
        let time = raw.clamp(self.now, self.end);
        let to = self.steps.event(edge.at());
        let [now, end] = self.clocks;
        let clock = match () {
            () if raw < self.now => now,
            () if self.end < raw => end,
            () => clock_of(to),
        };
        // The request gave up: this is the end of the whole, or of a wait that ends with it.
        let is_giving_up = match to.stage {
            Stage::Rpc | Stage::RaftPropose | Stage::ReadIndexWait | Stage::LockWait => true,
            // A round without an answer.
            Stage::ReadIndexRound => to.reason.is_some(),
            _ => false,
        };
        let gave_up_first =
            self.gave_up && (self.is_broken && is_giving_up || self.end < raw && !is_giving_up);
        self.segments.push(Segment {
            from: self.from.at(),
            to: edge.at(),
            member: to.member,
            wait: match self.is_broken {
                _ if gave_up_first => Wait::InVain(self.awaited),
                true => Wait::Unknown(self.point(self.from), self.point(edge)),
                false => name,
            },
            ns: u64::try_from(time - self.now).unwrap_or(0),
            until: time,
            clocks: [now, clock],
        });
        self.clocks[0] = clock;
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
            (Stage::RaftSend, Stage::RaftReceive)
            | (Stage::LeaseForward, Stage::LeaseServe)
            | (Stage::LeaseServe, Stage::LeaseForward) => Wait::Network(from, to),
            (stage, same) if stage == same && (from.side, to.side) == (Side::Start, Side::End) => {
                Wait::Step(stage)
            }
            _ => Wait::Between(from, to),
        }
    }

    fn point(&self, edge: Edge) -> Point {
        let event = self.steps.event(edge.at());
        let side = match edge {
            Edge::HandedOver(_) | Edge::Answered(_) => Side::HandedOver(taker(event.stage)),
            Edge::Taken(..) | Edge::Gathered(_) => Side::Taken(taker(event.stage)),
            _ if event.kind == Kind::Mark => Side::Whole,
            Edge::Start(_) => Side::Start,
            Edge::End(_) => Side::End,
        };
        Point { stage: event.stage, side }
    }

    /// A message: its hand-over to the peer thread, its encoding, its transit.
    fn message(&mut self, ends: (Option<usize>, Option<usize>)) {
        let (sent, received) = ends;
        self.step(sent);
        if let Some(at) = sent.filter(|at| self.steps.event(*at).kind == Kind::Span) {
            self.until(Some(Edge::End(at)));
        }
        self.until(received.map(Edge::End));
    }

    /// Advances to the start of a step; by way of its hand-over, where its record says when that
    /// was.
    fn step(&mut self, at: Option<usize>) {
        match at.filter(|at| self.steps.waited_ns(*at) != 0) {
            Some(at) => {
                self.until(Some(Edge::HandedOver(at)));
                self.until_taken(Edge::Start(at), taker(self.steps.event(at).stage));
            }
            None => self.until(at.map(Edge::Start)),
        }
    }

    /// Advances to what the raft thread does with the message, or the report of the disk, at which
    /// the chain stands.
    fn effect(&mut self, at: Option<usize>) {
        let is_handed = |at: usize| {
            let stage = self.steps.event(at).stage;
            matches!(stage, Stage::RaftReceive | Stage::WalFsync)
        };
        if let (Edge::End(handed), Some(at)) = (self.from, at)
            && !self.is_broken
            && is_handed(handed)
            && self.steps.waited_ns(at) != 0
        {
            self.until_taken(Edge::Taken(handed, at), Taker::Raft);
        }
        self.until(at.map(Edge::End));
    }

    /// Advances to the raft thread's taking of what belongs to a read round, if that was captured.
    /// A member may have sent several messages about one round: the one at which the chain stands
    /// was taken after it had arrived.
    fn perhaps_inbox(&mut self, member: u8, round: u64, from: u64) {
        let steps = self.steps;
        let arrived = match self.from {
            Edge::End(at) if steps.event(at).stage == Stage::RaftReceive => steps.rank(at),
            _ => 0,
        };
        let mut taken = steps.all(Stage::RaftInbox).filter(|at| steps.is_inbox(*at, member, round));
        let taken = taken.find(|at| {
            field!(steps.event(*at), RaftInbox, from) == from && arrived <= steps.rank(*at)
        });
        if let Some(at) = taken
            && !self.is_broken
        {
            self.until_taken(Edge::End(at), Taker::Raft);
        }
    }

    /// Advances to the end of a step that waits for an answer; by way of the hand-over of the
    /// answer, where the step's record says when that was.
    fn answer(&mut self, at: Option<usize>) {
        match at.filter(|at| self.steps.woken_ns(*at) != 0) {
            Some(at) => {
                self.until(Some(Edge::Answered(at)));
                self.until_taken(Edge::End(at), Taker::Grpc);
            }
            None => self.until(at.map(Edge::End)),
        }
    }

    /// A step of the member, if it has ended.
    fn whole(&mut self, stage: Stage, serving: u8) {
        if let Some(end) = self.last_end(stage, serving) {
            self.until(self.steps.start(stage, serving));
            self.until(Some(end));
        }
    }

    /// The last question to the leader over HTTP, whose answer was the request's.
    fn forward(&mut self, graph: &Graph) {
        let steps = self.steps;
        let Some(forward) = graph.forwards.last().copied() else { return self.until(None) };
        let link = steps.event(forward).link;
        let served = steps.all(Stage::LeaseServe).find(|at| steps.event(*at).link == link);
        self.until(Some(Edge::Start(forward)));
        let Some(served) = served else {
            self.until(None);
            return self.until(Some(Edge::End(forward)));
        };
        self.until(Some(Edge::Start(served)));
        _ = self.ask(steps.event(served).member, graph);
        self.until(Some(Edge::End(served)));
        self.until(Some(Edge::End(forward)));
    }

    /// The part from the checks until the member may read. `false` if a wait of that failed: then
    /// nothing else was waited for.
    fn ask(&mut self, serving: u8, graph: &Graph) -> bool {
        let steps = self.steps;
        self.until(steps.start(Stage::ReadIndexWait, serving));
        self.awaits(Awaited::Round);
        let first = graph.round.and_then(|round| round.first);
        let round = graph.round.and_then(|round| round.event);
        match first {
            Some(first) => self.until_taken(Edge::Start(first), Taker::Coordinator),
            None => self.until(None),
        }
        self.awaits(Awaited::Confirmation);
        // The question of a later attempt is asked later.
        if let Some(asked) = graph.round.filter(|round| round.attempt == round.id) {
            self.perhaps_inbox(serving, asked.id, 0);
        }
        if !steps.is_alone() {
            self.confirm(serving, graph);
        }
        self.answer(round);
        let wait = steps.first(Stage::ReadIndexWait, serving);
        self.answer(wait);
        if wait.is_some_and(|at| steps.has_failed(at)) {
            return false;
        }
        self.awaits(Awaited::Apply);
        self.perhaps(steps.start(Stage::ReadWaitApplied, serving));
        self.perhaps(steps.end(Stage::ReadWaitApplied, serving));
        self.awaits(Awaited::Step);
        let applied = steps.first(Stage::ReadWaitApplied, serving);
        !applied.is_some_and(|at| steps.has_failed(at))
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
            self.perhaps_inbox(leader, id, steps.member_id(serving));
        }
        // The round ends with the last answer that the leader took before it confirmed.
        match graph.confirmed_by.last().and_then(|by| steps.place(*by)) {
            Some(by) => {
                self.message(steps.message(leader, by, |at| of_round(at, message::HEARTBEAT)));
                self.perhaps_inbox(by, id, steps.member_id(leader));
                let answers = |at| of_round(at, message::HEARTBEAT_RESP);
                self.message(steps.message(by, leader, answers));
                self.perhaps_inbox(leader, id, steps.member_id(by));
            }
            None => self.until(None),
        }
        self.until(Some(Edge::End(confirmed)));
        if serving != leader {
            let tells = |at| of_round(at, message::READ_INDEX_RESP);
            self.message(steps.message(leader, serving, tells));
            self.perhaps_inbox(serving, id, steps.member_id(leader));
        }
    }

    /// A read that finds no room for its answer is repeated once there is room.
    fn read(&mut self, serving: u8) {
        self.wait(serving);
        if !self.reads_rows(serving) {
            return self.look_up(serving);
        }
        self.awaits(Awaited::Rows);
        let begins =
            [Stage::MvccRange, Stage::TreeIndexGet].map(|it| self.steps.start(it, serving));
        // A transaction plans all of its ranges, and then reads them.
        let first = begins.into_iter().flatten().min_by_key(|place| self.time(*place));
        // The ranges are planned on the thread for long reads, or before.
        let thread = self.steps.first(Stage::ReadThread, serving);
        let is_later =
            |at| first.is_some_and(|first| self.time(first) < self.time(Edge::Start(at)));
        let (before, after) = match thread {
            Some(at) if is_later(at) => (None, thread),
            _ => (thread, None),
        };
        if before.is_some() {
            self.step(before);
        }
        self.perhaps(first);
        if after.is_some() {
            self.step(after);
        }
        self.perhaps(self.last_end(Stage::MvccRange, serving));
        if let end @ Some(_) = self.last_end(Stage::ReadThread, serving) {
            self.until(end);
            self.thread_return(self.last_end(Stage::ThreadReturn, serving).map(Edge::at));
        }
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
        let step = |at| i128::from(self.steps.waited_ns(at));
        match place {
            Edge::HandedOver(at) => self.time(Edge::Start(at)) - step(at),
            Edge::Answered(at) => self.order.times[at] - i128::from(self.steps.woken_ns(at)),
            Edge::Taken(handed, at) => self.order.times[handed] + step(at),
            Edge::Gathered(at) => {
                let gathered = field!(self.steps.event(at), WalWrite, gathered);
                self.time(Edge::Start(at)) - i128::from(gathered)
            }
            // A send stands where it starts.
            Edge::End(at) if self.steps.event(at).stage == Stage::RaftSend => {
                self.order.times[at] + i128::from(self.steps.event(at).took_ns)
            }
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
