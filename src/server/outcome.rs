//! What apply makes of a request: the same on every member, and told to the client of one.
//!
//! Apply puts [`Outcome`]s into the channel to the grpc thread, where [`wait`](super::wait) looks up
//! who waits for each.

use super::{Error, mvcc::Reply};
use crate::pb::etcdserverpb::{AlarmMember, LeaseGrantResponse, LeaseRevokeResponse};

/// How one proposal ended, as every member computes it.
#[derive(Debug)]
pub struct Outcome {
    /// The proposal's id.
    pub id: u64,
    /// What the client is told.
    pub result: Result<Response, Error>,
}

/// What a request is answered with.
#[derive(Debug)]
pub enum Response {
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

/// Apply answers each request with its own kind of response.
pub(super) fn unexpected<T>(response: &impl std::fmt::Debug) -> T {
    unreachable!("apply answered with another request's response: {response:?}")
}
