//! The closed list of errors with which a request can end.
//!
//! There is one variant for each error that etcd documents. Only `api::status` knows their gRPC
//! codes and texts. An error that apply returns is data: every member computes the same one, except
//! [`Error::NoSpace`], which depends on the member's own file and quota. A storage failure is not
//! in this list, because it ends the member.

use super::members::Refusal;
use crate::trace::{Reason, Span};

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
    /// A nested transaction does not decode. In etcd this error comes from gRPC, which decodes all
    /// levels at once.
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
    /// raft: ErrProposalDropped. Raft dropped the proposal, although it knows a leader.
    ProposalDropped,
    /// gRPC in Go: the answer is longer than `math.MaxInt32`. The request is carried out
    /// nevertheless.
    AnswerTooLong {
        /// Its length when it was found to be too long; the whole answer may be longer.
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
    /// etcd: ErrNotLeader.
    NotLeader,
    /// etcd: ErrBadLeaderTransferee.
    BadLeaderTransferee,
    /// etcd: ErrTimeoutLeaderTransfer.
    TimeoutLeaderTransfer,
    /// The database file could not be copied, because its disk is full for example. The member's
    /// log has the cause.
    NotCopied,
    /// etcd: ErrUnknownMethod. An action that Downgrade does not have.
    UnknownMethod,
    /// etcd: ErrWrongDowngradeVersionFormat.
    WrongDowngradeVersion,
    /// etcd: ErrInvalidDowngradeTargetVersion.
    InvalidDowngradeTarget,
    /// etcd: ErrClusterVersionUnavailable.
    ClusterVersionUnavailable,
    /// etcd: ErrNoInflightDowngrade.
    NoInflightDowngrade,
    /// etcd: ErrGRPCWatchCanceled. The client has reset its stream of watchers.
    WatchCanceled,
    /// etcd: ErrLeaseExists.
    LeaseExists,
    /// etcd: ErrLeaseTTLTooLarge.
    LeaseTtlTooLarge,
    /// The client has disconnected, or its deadline has passed.
    Canceled,
    /// etcd: concurrency.ErrSessionExpired. The lock's key was deleted while the call waited.
    SessionExpired,
    /// etcd: concurrency.ErrElectionNotLeader.
    ElectionNotLeader,
    /// etcd: concurrency.ErrElectionNoLeader.
    ElectionNoLeader,
    /// etcd: v3election.ErrMissingLeaderKey.
    MissingLeaderKey,
    /// A change of the members is refused.
    Members(Refusal),
    /// etcd: ErrGPRCNotSupportedForLearner.
    NotSupportedForLearner,
}

impl Error {
    /// The reason that the record of a failed step carries.
    pub fn reason(self) -> Reason {
        match self {
            Error::EmptyKey => Reason::EmptyKey,
            Error::KeyNotFound => Reason::KeyNotFound,
            Error::ValueProvided => Reason::ValueProvided,
            Error::LeaseProvided => Reason::LeaseProvided,
            Error::TooManyOps => Reason::TooManyOps,
            Error::Malformed => Reason::Malformed,
            Error::DuplicateKey => Reason::DuplicateKey,
            Error::InvalidSortOption => Reason::InvalidSortOption,
            Error::Compacted => Reason::Compacted,
            Error::FutureRevision => Reason::FutureRevision,
            Error::NoSpace => Reason::NoSpace,
            Error::LeaseNotFound => Reason::LeaseNotFound,
            Error::RequestTooLarge => Reason::RequestTooLarge,
            Error::TooManyRequests => Reason::TooManyRequests,
            Error::ProposalDropped => Reason::ProposalDropped,
            Error::AnswerTooLong { .. } => Reason::AnswerTooLong,
            Error::Corrupt => Reason::Corrupt,
            Error::NoLeader => Reason::NoLeader,
            Error::LeaderChanged => Reason::LeaderChanged,
            Error::Stopped => Reason::Stopped,
            Error::Timeout => Reason::Timeout,
            Error::TimeoutDueToLeaderFail => Reason::TimeoutDueToLeaderFail,
            Error::TimeoutDueToConnectionLost => Reason::TimeoutDueToConnectionLost,
            Error::TimeoutWaitAppliedIndex => Reason::TimeoutWaitAppliedIndex,
            Error::Unhealthy => Reason::Unhealthy,
            Error::NotLeader => Reason::NotLeader,
            Error::BadLeaderTransferee => Reason::BadLeaderTransferee,
            Error::TimeoutLeaderTransfer => Reason::TimeoutLeaderTransfer,
            Error::NotCopied => Reason::NotCopied,
            Error::UnknownMethod => Reason::UnknownMethod,
            Error::WrongDowngradeVersion => Reason::WrongDowngradeVersion,
            Error::InvalidDowngradeTarget => Reason::InvalidDowngradeTarget,
            Error::ClusterVersionUnavailable => Reason::ClusterVersionUnavailable,
            Error::NoInflightDowngrade => Reason::NoInflightDowngrade,
            Error::WatchCanceled => Reason::WatchCanceled,
            Error::LeaseExists => Reason::LeaseExists,
            Error::LeaseTtlTooLarge => Reason::LeaseTtlTooLarge,
            Error::Canceled => Reason::Canceled,
            Error::SessionExpired => Reason::SessionExpired,
            Error::ElectionNotLeader => Reason::ElectionNotLeader,
            Error::ElectionNoLeader => Reason::ElectionNoLeader,
            Error::MissingLeaderKey => Reason::MissingLeaderKey,
            Error::Members(refusal) => refusal.reason(),
            Error::NotSupportedForLearner => Reason::NotSupportedForLearner,
        }
    }
}

/// Records an error as the reason why this step failed.
pub(crate) fn note<T>(span: &mut Span, result: Result<T, Error>) -> Result<T, Error> {
    if let Err(error) = &result {
        span.fail(error.reason());
    }
    result
}
