//! The results of apply: the same on every member, and returned to the client by one of them.
//!
//! Apply sends [`Outcome`]s to the grpc thread, where [`wait`](super::wait) finds the request that
//! waits for each.

use super::{Error, members::Member, mvcc::Reply, v2store};
use crate::pb::etcdserverpb::{AlarmMember, LeaseGrantResponse, LeaseRevokeResponse};

/// The results of the proposals that apply, or raft, has finished together.
#[derive(Debug)]
pub(crate) struct Outcomes {
    /// One for each proposal.
    pub(crate) list: Vec<Outcome>,
    /// The raw tick at which they were handed over, for the trace.
    pub(crate) since: u64,
}

/// The result of one proposal, as every member computes it.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The id under which the request was proposed.
    pub(crate) id: u64,
    /// An error is a result like any other: apply has carried it out by refusing the request.
    pub(crate) result: Result<Response, Error>,
}

/// The result of a request that was carried out.
#[derive(Debug)]
pub(crate) enum Response {
    /// The result of a KV request, whose reads are planned, but not done yet.
    Kv(Reply),
    /// The alarms that were listed, raised or disarmed.
    Alarm(Vec<AlarmMember>),
    /// The lease that was granted.
    LeaseGrant(LeaseGrantResponse),
    /// A lease was revoked, and its keys are deleted.
    LeaseRevoke(LeaseRevokeResponse),
    /// All members after a change of the members.
    Members(Vec<Member>),
    /// What became of a request for the v2 store, which has errors of its own.
    V2(v2store::Applied),
    /// The result of a request whose answer carries nothing.
    Empty,
}

impl Response {
    /// The reply to a request of the KV service. Panics for a result of another kind, as the
    /// methods below do.
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

    /// The members after a change.
    pub(super) fn members(self) -> Vec<Member> {
        match self {
            Response::Members(members) => members,
            other => unexpected(&other),
        }
    }

    /// The result of a request for the v2 store.
    pub(super) fn v2(self) -> v2store::Applied {
        match self {
            Response::V2(applied) => applied,
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

/// Apply answers each kind of [`Command`](super::command::Command) with its own kind of response.
fn unexpected<T>(response: &Response) -> T {
    unreachable!("apply answered with another request's response: {response:?}")
}
