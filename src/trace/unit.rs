//! The kinds of stages, and the numbers of a record: each has a name and a unit, by which readers
//! show it.

/// Whether a stage belongs to one request or to a loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// One request; the record's id is the request's.
    Request,
    /// A loop that serves many; the record's id is 0, or that of a round.
    Loop,
}

/// How much detail a reader wants: `Story` is always shown, `Raw` only on request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grain {
    /// The steps that make the story of a request.
    Story,
    /// Every boundary between layers.
    Stage,
    /// Every record, finer steps and samples included.
    Raw,
}

/// The unit of a field's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A plain number: a count, or a name such as a watch id.
    Count,
    /// A size in bytes.
    Bytes,
    /// A duration in nanoseconds.
    Nanos,
    /// A position in the raft log.
    Index,
    /// A term of raft.
    Term,
    /// A revision of the key space.
    Revision,
    /// A member id, shown as hex.
    Member,
    /// 1 for yes, 0 for no.
    Flag,
    /// A method: an index into [`METHODS`](super::methods::METHODS).
    Method,
    /// A raft message type, by etcd's number.
    Message,
    /// 0 follower, 1 candidate, 2 leader, 3 pre-candidate.
    Role,
    /// A request or round id, shown as hex.
    Id,
    /// A stage, by its number in [`Stage::ALL`](super::Stage::ALL).
    Stage,
    /// A number that may be below zero, in two's complement.
    Signed,
    /// What a comparison of a transaction looks at, by etcd's number.
    Target,
    /// How a comparison of a transaction compares, by etcd's number.
    Operator,
    /// 1 for the operations of a transaction whose comparisons hold, 0 for the others.
    Branch,
    /// Why a watcher ended: an index into [`WATCH_ENDS`](super::value::WATCH_ENDS).
    WatchEnd,
    /// What a blocking thread does: an index into [`POOLS`](super::value::POOLS).
    Pool,
    /// How the members change: an index into [`CHANGES`](super::value::CHANGES).
    Change,
    /// What a request of v2 does: an index into [`V2_ACTIONS`](super::value::V2_ACTIONS).
    V2Action,
}

/// One of the record's eight words: its name and its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name; `x.old` and `x.new` make a change.
    pub name: &'static str,
    /// The unit of its number.
    pub unit: Unit,
}
