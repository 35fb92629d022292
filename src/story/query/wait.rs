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
    /// A message in transit from one member to another, from handing it to the connection to its
    /// decoding there: an estimate.
    Network,
    /// The leader was not heard any more, and nobody had asked for votes yet: an estimate.
    SilentLeader,
    /// An election, until a member led: an estimate.
    NoLeader,
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
            Wait::Network => out.write_str("in transit"),
            Wait::SilentLeader => out.write_str("silent leader"),
            Wait::NoLeader => out.write_str("no leader"),
            Wait::NotInTime => out.write_str("not in time"),
            Wait::Unknown => out.write_str("not captured"),
        }
    }
}
