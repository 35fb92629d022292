//! The closed list of ways in which a request can end other than well.
//!
//! One variant for each error that etcd documents. `api::status` is the only place that knows
//! their gRPC codes and texts. A variant that apply returns is data: every member computes the
//! same one, but for [`Error::NoSpace`], which depends on the member's own file and quota. A storage failure is not in this list, because it ends the member.

/// Why a request was refused, or has no known outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Error {
    /// etcd: ErrEmptyKey.
    EmptyKey,
    /// etcd: ErrKeyNotFound.
    KeyNotFound,
    /// etcd: ErrValueProvided.
    ValueProvided,
    /// etcd: ErrLeaseProvided.
    LeaseProvided,
    /// etcd: ErrTooManyOps.
    TooManyOps,
    /// A nested transaction does not decode. gRPC's own, in etcd as well: it decodes all at once.
    Malformed,
    /// etcd: ErrDuplicateKey.
    DuplicateKey,
    /// etcd: ErrInvalidSortOption.
    InvalidSortOption,
    /// etcd: ErrCompacted.
    Compacted,
    /// etcd: ErrFutureRev.
    FutureRevision,
    /// etcd: ErrNoSpace.
    NoSpace,
    /// etcd: ErrLeaseNotFound.
    LeaseNotFound,
    /// etcd: ErrRequestTooLarge.
    RequestTooLarge,
    /// etcd: ErrTooManyRequests.
    TooManyRequests,
    /// raft: ErrProposalDropped. Raft did not take the proposal, though it knows a leader.
    ProposalDropped,
    /// gRPC in Go: the answer is longer than `math.MaxInt32`. What was asked for is done all the
    /// same.
    AnswerTooLong {
        /// How long it was when that was seen; there may be more of it.
        bytes: usize,
    },
    /// etcd: ErrCorrupt.
    Corrupt,
    /// etcd: ErrNoLeader.
    NoLeader,
    /// etcd: ErrLeaderChanged.
    LeaderChanged,
    /// etcd: ErrStopped.
    Stopped,
    /// etcd: ErrTimeout.
    Timeout,
    /// etcd: ErrTimeoutDueToLeaderFail.
    TimeoutDueToLeaderFail,
    /// etcd: ErrTimeoutDueToConnectionLost.
    TimeoutDueToConnectionLost,
    /// etcd: ErrTimeoutWaitAppliedIndex.
    TimeoutWaitAppliedIndex,
    /// etcd: ErrUnhealthy.
    Unhealthy,
    /// etcd: ErrGRPCWatchCanceled. The client has reset its stream of watchers.
    WatchCanceled,
    /// etcd: ErrLeaseExists.
    LeaseExists,
    /// etcd: ErrLeaseTTLTooLarge.
    LeaseTtlTooLarge,
    /// The client went away, or its deadline passed.
    Canceled,
    /// etcd: concurrency.ErrSessionExpired. The lock's key went while the call waited.
    SessionExpired,
    /// etcd: concurrency.ErrElectionNotLeader.
    ElectionNotLeader,
    /// etcd: concurrency.ErrElectionNoLeader.
    ElectionNoLeader,
    /// etcd: v3election.ErrMissingLeaderKey.
    MissingLeaderKey,
}
