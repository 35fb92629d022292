//! What apply makes of a request: the same on every member, and told to the client of one.
//!
//! Apply puts [`Outcome`]s into the channel to the grpc thread, where [`wait`](super::wait) looks up
//! who waits for each.

use super::{Error, mvcc::Reply};
use crate::pb::etcdserverpb::{AlarmMember, LeaseGrantResponse, LeaseRevokeResponse};

/// How one proposal ended, as every member computes it.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The proposal's id.
    pub(crate) id: u64,
    /// What the client is told.
    pub(crate) result: Result<Response, Error>,
}

/// What a request is answered with.
#[derive(Debug)]
pub(crate) enum Response {
    /// One of the KV service; what it reads is not read yet.
    Kv(Reply),
    /// The alarms that were listed, raised or ended.
    Alarm(Vec<AlarmMember>),
    /// The lease that was made.
    LeaseGrant(LeaseGrantResponse),
    /// A lease is gone.
    LeaseRevoke(LeaseRevokeResponse),
    /// Done; there is nothing to say.
    Empty,
}

impl Response {
    /// The reply to a request to the key space.
    pub(super) fn kv(self) -> Reply {
        match self {
            Response::Kv(reply) => reply,
            other => unexpected(&other),
        }
    }

    /// The answer to an alarm request.
    pub(super) fn alarms(self) -> Vec<AlarmMember> {
        match self {
            Response::Alarm(alarms) => alarms,
            other => unexpected(&other),
        }
    }

    /// The answer to the grant of a lease.
    pub(super) fn lease_grant(self) -> LeaseGrantResponse {
        match self {
            Response::LeaseGrant(granted) => granted,
            other => unexpected(&other),
        }
    }

    /// The answer to the revocation of a lease.
    pub(super) fn lease_revoke(self) -> LeaseRevokeResponse {
        match self {
            Response::LeaseRevoke(revoked) => revoked,
            other => unexpected(&other),
        }
    }
}

/// Apply answers each request with its own kind of response: [`Command`](super::command::Command).
fn unexpected<T>(response: &Response) -> T {
    unreachable!("apply answered with another request's response: {response:?}")
}
