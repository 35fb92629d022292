//! The names of the pieces of a critical path.
//!
//! A name says what was recorded, and no more: a step, a hand-over with its taker, or the two
//! points between which the records say nothing.

use std::fmt;

use crate::trace::stage::Stage;

/// The name of a piece of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wait {
    /// From the start of a step to its end.
    Step(Stage),
    /// From one point to the next, without a step that covers the time.
    Between(Point, Point),
    /// From a hand-over until it is taken.
    HandOver(Taker),
    /// A message in transit from one member to another, between these two points. The records do
    /// not tell its parts from each other: the write to the sender's socket, the way, and the
    /// reading there.
    Network(Point, Point),
    /// The leader was not heard any more, and nobody had asked for votes yet.
    SilentLeader,
    /// An election, until a member led.
    NoLeader,
    /// What had not come when the request ended without success, as far as captured: a deadline ran
    /// out, the client went, or the member gave up for a reason of its own.
    InVain(Awaited),
    /// The recording lacks steps between these points.
    Unknown(Point, Point),
}

/// What a request waits for in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Awaited {
    /// A place for its entry in a leader's log.
    Entry,
    /// The commit of its entry: a majority with the entry on disk.
    Quorum,
    /// The news of the commit, on the member that serves the request.
    News,
    /// Apply, on that member: of its entry, or of the entries that a read needs.
    Apply,
    /// The start of the read round, which comes after the one in progress.
    Round,
    /// The confirmation of its read: a majority that still follows the leader.
    Confirmation,
    /// The reading of its rows.
    Rows,
    /// The next step of another kind.
    Step,
}

impl Wait {
    /// Whether it is a wait for one member. Without a leader there is none to wait for.
    pub fn is_for_member(self) -> bool {
        self != Wait::NoLeader
    }
}

impl fmt::Display for Awaited {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Awaited::Entry => "a place in a leader's log",
            Awaited::Quorum => "a majority with the entry on disk",
            Awaited::News => "the news of the commit",
            Awaited::Apply => "apply",
            Awaited::Round => "its read round",
            Awaited::Confirmation => "a majority that follows the leader",
            Awaited::Rows => "its rows",
            Awaited::Step => "the next step",
        })
    }
}

/// A point of the path: where a step starts or ends. A step that takes no time has only one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Point {
    /// The stage of the step.
    pub stage: Stage,
    /// Which point of it.
    pub side: Side,
}

/// The one who takes what another thread has handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Taker {
    /// The raft thread, from its inbox.
    Raft,
    /// The peer thread, for a message to another member. The wait includes that for room in the
    /// socket.
    Peer,
    /// The wal thread, which is busy while it writes and syncs what came before.
    Wal,
    /// The apply thread, which is busy while it applies what came before.
    Apply,
    /// The grpc thread, which wakes a call, or the round of reads.
    Grpc,
    /// The coordinator of read rounds, which runs one round at a time.
    Coordinator,
    /// A thread for long reads.
    Blocking,
}

impl fmt::Display for Taker {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Taker::Raft => "raft",
            Taker::Peer => "peer",
            Taker::Wal => "wal",
            Taker::Apply => "apply",
            Taker::Grpc => "grpc",
            Taker::Coordinator => "the next read round",
            Taker::Blocking => "a blocking thread",
        })
    }
}

/// Which point of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Where it is handed over to the one who then takes the step.
    HandedOver(Taker),
    /// Where it is taken, just before the step.
    Taken(Taker),
    /// Where it starts.
    Start,
    /// Where it ends.
    End,
    /// It takes no time.
    Whole,
    /// The last sign of a leader that is lost.
    LastSign,
    /// Where the next leader leads.
    NewLeader,
}

impl fmt::Display for Point {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.stage.name();
        match self.side {
            Side::HandedOver(taker) => write!(out, "hand-over to {taker}"),
            Side::Taken(taker) => write!(out, "{taker} takes it"),
            Side::Start => write!(out, "start of {name}"),
            Side::End => write!(out, "end of {name}"),
            Side::Whole => out.write_str(name),
            Side::LastSign => out.write_str("the last sign of the leader"),
            Side::NewLeader => out.write_str("a new leader"),
        }
    }
}

/// The name that text and JSON show.
impl fmt::Display for Wait {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wait::Step(stage) => out.write_str(stage.name()),
            Wait::Between(from, to) => write!(out, "{from} to {to}"),
            Wait::HandOver(taker) => write!(out, "hand-over to {taker}"),
            Wait::Network(from, to) => write!(out, "in transit, {from} to {to}"),
            Wait::SilentLeader => out.write_str("silent leader"),
            Wait::NoLeader => out.write_str("no leader"),
            Wait::InVain(what) => write!(out, "in vain: {what}"),
            Wait::Unknown(from, to) => write!(out, "not captured, {from} to {to}"),
        }
    }
}
