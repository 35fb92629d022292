//! The one table from the server's errors to gRPC codes and etcd's texts (etcd: `rpctypes`).

use std::borrow::Cow;

use tonic::{Code, Status};

use crate::server::{Error, answer::writer::LONGEST, members::Refusal};

// Texts that would take lines of their own in the table.
const WRONG_VERSION: &str = "etcdserver: wrong downgrade target version format";
const WRONG_TARGET: &str = "etcdserver: invalid downgrade target version";
const NO_VERSION: &str = "etcdserver: cluster version not found during downgrade";
const NO_DOWNGRADE: &str = "etcdserver: no inflight downgrade job";
const TRANSFER: &str = "etcdserver: request timed out, leader transfer took too long";
const TOO_LONG: &str = "grpc: trying to send message larger than max";
const LEADER_FAIL: &str = "etcdserver: request timed out, possibly due to previous leader failure";

/// Code and text of an error. Clients compare the text.
pub fn code_and_text(error: Error) -> (Code, Cow<'static, str>) {
    let Error::AnswerTooLong { bytes } = error else {
        let (code, text) = fixed(error);
        return (code, text.into());
    };
    let text = format!("grpc: trying to send message larger than max ({bytes} vs. {LONGEST})");
    (Code::ResourceExhausted, text.into())
}

/// etcd has no such error.
const NOT_COPIED: &str =
    "etcdserver: the database file could not be copied; the member's log says why";

/// Errors with a fixed text; [`code_and_text`] has the other one.
fn fixed(error: Error) -> (Code, &'static str) {
    use Code::{
        Cancelled, DataLoss, FailedPrecondition, Internal, InvalidArgument, NotFound, OutOfRange,
        ResourceExhausted, Unavailable, Unknown,
    };
    match error {
        Error::EmptyKey => (InvalidArgument, "etcdserver: key is not provided"),
        Error::KeyNotFound => (InvalidArgument, "etcdserver: key not found"),
        Error::ValueProvided => (InvalidArgument, "etcdserver: value is provided"),
        Error::LeaseProvided => (InvalidArgument, "etcdserver: lease is provided"),
        Error::TooManyOps => (InvalidArgument, "etcdserver: too many operations in txn request"),
        Error::Malformed => (Internal, "failed to decode Protobuf message: RequestOp.request_txn"),
        Error::DuplicateKey => (InvalidArgument, "etcdserver: duplicate key given in txn request"),
        Error::InvalidSortOption => (InvalidArgument, "etcdserver: invalid sort option"),
        Error::RequestTooLarge => (InvalidArgument, "etcdserver: request is too large"),
        Error::Compacted => (OutOfRange, "etcdserver: mvcc: required revision has been compacted"),
        Error::FutureRevision => {
            (OutOfRange, "etcdserver: mvcc: required revision is a future revision")
        }
        Error::NoSpace => (ResourceExhausted, "etcdserver: mvcc: database space exceeded"),
        Error::LeaseNotFound => (NotFound, "etcdserver: requested lease not found"),
        // Declared as ResourceExhausted, but etcd's server sends the client's error value.
        Error::TooManyRequests => (Unknown, "etcdserver: too many requests"),
        Error::AnswerTooLong { .. } => (ResourceExhausted, TOO_LONG),
        Error::ProposalDropped => (Unknown, "raft proposal dropped"),
        Error::Corrupt => (DataLoss, "etcdserver: corrupt cluster"),
        Error::NoLeader => (Unavailable, "etcdserver: no leader"),
        Error::LeaderChanged => (Unavailable, "etcdserver: leader changed"),
        Error::Stopped => (Unavailable, "etcdserver: server stopped"),
        Error::Unhealthy => (Unavailable, "etcdserver: unhealthy cluster"),
        Error::NotLeader => (FailedPrecondition, "etcdserver: not leader"),
        Error::BadLeaderTransferee => (FailedPrecondition, "etcdserver: bad leader transferee"),
        // etcd's table of codes lacks these two, so gRPC calls them unknown.
        Error::TimeoutLeaderTransfer => (Unknown, TRANSFER),
        Error::NotCopied => (Unknown, NOT_COPIED),
        Error::UnknownMethod => (Unknown, "etcdserver: unknown method"),
        Error::WrongDowngradeVersion => (InvalidArgument, WRONG_VERSION),
        Error::InvalidDowngradeTarget => (InvalidArgument, WRONG_TARGET),
        Error::ClusterVersionUnavailable => (Unavailable, NO_VERSION),
        Error::NoInflightDowngrade => (FailedPrecondition, NO_DOWNGRADE),
        Error::Timeout => (Unavailable, "etcdserver: request timed out"),
        Error::TimeoutDueToLeaderFail => (Unavailable, LEADER_FAIL),
        Error::TimeoutDueToConnectionLost => {
            (Unavailable, "etcdserver: request timed out, possibly due to connection lost")
        }
        Error::TimeoutWaitAppliedIndex => (
            Unavailable,
            "etcdserver: request timed out, waiting for the applied index took too long",
        ),
        Error::WatchCanceled => (Cancelled, "etcdserver: watch canceled"),
        Error::LeaseExists => (FailedPrecondition, "etcdserver: lease already exists"),
        Error::LeaseTtlTooLarge => (OutOfRange, "etcdserver: too large lease TTL"),
        Error::Canceled => (Cancelled, "etcdserver: request canceled"),
        Error::SessionExpired => (Unknown, "mutex: session is expired"),
        Error::ElectionNotLeader => (Unknown, "election: not leader"),
        Error::ElectionNoLeader => (Unknown, "election: no leader"),
        Error::Members(refusal) => of_members(refusal),
        // FailedPrecondition from 3.6 on.
        Error::NotSupportedForLearner => (Unavailable, "etcdserver: rpc not supported for learner"),
        Error::MissingLeaderKey => (Unknown, "\"leader\" field must be provided"),
    }
}

/// Code and text of a refused change of the members.
fn of_members(refusal: Refusal) -> (Code, &'static str) {
    use Code::{FailedPrecondition, Internal, InvalidArgument, NotFound, Unknown};
    match refusal {
        Refusal::BadUrls => (InvalidArgument, "etcdserver: given member URLs are invalid"),
        Refusal::NotFound | Refusal::Removed => (NotFound, "etcdserver: member not found"),
        Refusal::Exists => (FailedPrecondition, "etcdserver: member ID already exist"),
        Refusal::PeerUrlExists => (FailedPrecondition, "etcdserver: Peer URLs already exists"),
        Refusal::NotLearner => {
            (FailedPrecondition, "etcdserver: can only promote a learner member")
        }
        Refusal::TooManyLearners => {
            (FailedPrecondition, "etcdserver: too many learner members in cluster")
        }
        Refusal::NotReady => (
            FailedPrecondition,
            "etcdserver: can only promote a learner member which is in sync with leader",
        ),
        // Declared as FailedPrecondition, but etcd's server sends the client's error value.
        Refusal::NotEnoughStarted => {
            (Unknown, "etcdserver: re-configuration failed due to not enough started members")
        }
        Refusal::Malformed => (Internal, "etcdserver: the change carries no member"),
    }
}

/// The gRPC status of an error.
pub fn status(error: Error) -> Status {
    let (code, text) = code_and_text(error);
    Status::new(code, text)
}

/// The status of an error of Lock and Election. etcd serves them through a client inside the
/// member, whose errors have lost their codes. Two kinds keep theirs: errors found before that
/// client, and the stop of the member, which etcd's clients see as a broken connection: they try
/// another member.
pub fn plain_status(error: Error) -> Status {
    match error {
        Error::NoLeader | Error::Canceled | Error::Stopped => status(error),
        other => Status::unknown(code_and_text(other).1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_too_long_is_refused_as_by_grpc_in_go() {
        let status = status(Error::AnswerTooLong { bytes: 2_147_483_700 });
        let text = "grpc: trying to send message larger than max (2147483700 vs. 2147483647)";
        assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, text));
    }

    #[test]
    fn codes_and_texts_are_those_of_etcd() {
        let rows = [
            (Error::EmptyKey, 3, "etcdserver: key is not provided"),
            (Error::KeyNotFound, 3, "etcdserver: key not found"),
            (Error::ValueProvided, 3, "etcdserver: value is provided"),
            (Error::LeaseProvided, 3, "etcdserver: lease is provided"),
            (Error::TooManyOps, 3, "etcdserver: too many operations in txn request"),
            (Error::Malformed, 13, "failed to decode Protobuf message: RequestOp.request_txn"),
            (Error::DuplicateKey, 3, "etcdserver: duplicate key given in txn request"),
            (Error::InvalidSortOption, 3, "etcdserver: invalid sort option"),
            (Error::RequestTooLarge, 3, "etcdserver: request is too large"),
            (Error::Compacted, 11, "etcdserver: mvcc: required revision has been compacted"),
            (Error::FutureRevision, 11, "etcdserver: mvcc: required revision is a future revision"),
            (Error::NoSpace, 8, "etcdserver: mvcc: database space exceeded"),
            (Error::LeaseNotFound, 5, "etcdserver: requested lease not found"),
            (Error::LeaseExists, 9, "etcdserver: lease already exists"),
            (Error::NotLeader, 9, "etcdserver: not leader"),
            (Error::BadLeaderTransferee, 9, "etcdserver: bad leader transferee"),
            (
                Error::TimeoutLeaderTransfer,
                2,
                "etcdserver: request timed out, leader transfer took too long",
            ),
            (Error::LeaseTtlTooLarge, 11, "etcdserver: too large lease TTL"),
            (Error::TooManyRequests, 2, "etcdserver: too many requests"),
            (Error::NoLeader, 14, "etcdserver: no leader"),
            (Error::LeaderChanged, 14, "etcdserver: leader changed"),
            (Error::Stopped, 14, "etcdserver: server stopped"),
            (Error::Unhealthy, 14, "etcdserver: unhealthy cluster"),
            (Error::ProposalDropped, 2, "raft proposal dropped"),
            (Error::Timeout, 14, "etcdserver: request timed out"),
            (
                Error::TimeoutDueToLeaderFail,
                14,
                "etcdserver: request timed out, possibly due to previous leader failure",
            ),
            (
                Error::TimeoutDueToConnectionLost,
                14,
                "etcdserver: request timed out, possibly due to connection lost",
            ),
            (
                Error::TimeoutWaitAppliedIndex,
                14,
                "etcdserver: request timed out, waiting for the applied index took too long",
            ),
            (Error::WatchCanceled, 1, "etcdserver: watch canceled"),
            (Error::Canceled, 1, "etcdserver: request canceled"),
            (Error::Corrupt, 15, "etcdserver: corrupt cluster"),
            (Error::NotSupportedForLearner, 14, "etcdserver: rpc not supported for learner"),
        ];
        for (error, code, text) in rows {
            let status = status(error);
            assert_eq!((status.code() as i32, status.message()), (code, text), "{error:?}");
        }
    }

    #[test]
    fn refused_changes_of_the_members_have_the_codes_and_texts_of_etcd() {
        let rows = [
            (Refusal::BadUrls, 3, "given member URLs are invalid"),
            (Refusal::NotFound, 5, "member not found"),
            (Refusal::Removed, 5, "member not found"),
            (Refusal::Exists, 9, "member ID already exist"),
            (Refusal::PeerUrlExists, 9, "Peer URLs already exists"),
            (Refusal::NotLearner, 9, "can only promote a learner member"),
            (Refusal::TooManyLearners, 9, "too many learner members in cluster"),
            (
                Refusal::NotReady,
                9,
                "can only promote a learner member which is in sync with leader",
            ),
            (
                Refusal::NotEnoughStarted,
                2,
                "re-configuration failed due to not enough started members",
            ),
        ];
        for (refusal, code, text) in rows {
            let status = status(Error::Members(refusal));
            let text = format!("etcdserver: {text}");
            assert_eq!((status.code() as i32, status.message()), (code, &*text), "{refusal:?}");
        }
    }

    #[test]
    fn a_downgrade_is_refused_with_codes_and_texts_of_etcd() {
        let rows = [
            (Error::UnknownMethod, 2, "unknown method"),
            (Error::WrongDowngradeVersion, 3, "wrong downgrade target version format"),
            (Error::InvalidDowngradeTarget, 3, "invalid downgrade target version"),
            (Error::ClusterVersionUnavailable, 14, "cluster version not found during downgrade"),
            (Error::NoInflightDowngrade, 9, "no inflight downgrade job"),
        ];
        for (error, code, text) in rows {
            let (status, expected) = (status(error), format!("etcdserver: {text}"));
            assert_eq!((status.code() as i32, status.message()), (code, &*expected), "{error:?}");
        }
    }
}
