//! The checks before a write is proposed: room in the backend, the backlog of apply, and the user.
//!
//! etcd: `quotaKVServer`, and the first lines of `processInternalRaftRequestOnce`.

use super::{
    Error,
    propose::Proposer,
    txn::{Branches, Txn},
};
use crate::{
    pb::etcdserverpb::{PutRequest, RequestHeader, RequestOp, TxnRequest, request_op::Request},
    set, stage,
    trace::Reason,
};

/// Upper limit on committed entries that are not applied yet. Beyond it new writes are refused
/// (etcd: maxGapBetweenApplyAndCommitIndex).
const APPLY_GAP_MAX: u64 = 5000;

/// Bytes that a key costs against the quota, in addition to its own and its value's (etcd:
/// kvOverhead).
const KEY_OVERHEAD: u64 = 256;

/// Bytes that a lease costs against the quota (etcd: leaseOverhead).
pub(super) const GRANT_COST: u64 = 64;

impl Proposer {
    /// Refuses a write of `cost` bytes for which the backend has no room, after the alarm is
    /// raised.
    pub(super) async fn check_quota(&self, id: u64, cost: u64) -> Result<(), Error> {
        let Some(limit) = self.settings.quota_bytes else { return Ok(()) };
        let used = self.backend.used();
        let mut span = stage!(QuotaCheck, id, used = used, limit = limit, adds = cost);
        set!(span, QuotaCheck, in_use = self.backend.size_in_use(), file = self.backend.size());
        if cost == 0 || used.saturating_add(cost) <= limit {
            return Ok(());
        }
        span.fail(Reason::NoSpace);
        drop(span);
        self.raise_no_space().await;
        Err(Error::NoSpace)
    }

    /// The checks of every proposal except those of [`announce`](Self::announce). Returns the
    /// header under which request `id` is proposed.
    pub(super) fn prepare(&self, id: u64) -> Result<RequestHeader, Error> {
        self.admit(id)?;
        let user = self.auth.authenticate(id);
        Ok(RequestHeader { id, username: user.name, auth_revision: user.auth_revision })
    }

    /// Refuses a proposal while too many committed entries wait to be applied.
    fn admit(&self, id: u64) -> Result<(), Error> {
        let (commit, applied) = (self.status.commit(), self.status.applied());
        let mut span = stage!(Admit, id, commit = commit, applied = applied);
        if APPLY_GAP_MAX < commit.saturating_sub(applied) {
            span.fail(Reason::TooManyRequests);
            return Err(Error::TooManyRequests);
        }
        Ok(())
    }
}

/// Bytes that a put would add to the backend, as etcd estimates them.
pub(crate) fn put_cost(put: &PutRequest) -> u64 {
    KEY_OVERHEAD + (put.key.len() + put.value.len()) as u64
}

/// Upper limit on the bytes that a transaction would add to the backend: of each transaction, also
/// of nested ones, the more expensive branch counts.
pub(crate) fn txn_cost(txn: &Txn) -> u64 {
    // A nested transaction has a higher level than its parent, so it is summed up first.
    let mut inner = vec![0; txn.levels() - 1];
    let mut cost = 0;
    for level in (0..txn.levels()).rev() {
        let TxnRequest { success, failure, .. } = txn.request(level);
        let both =
            [(success, Branches::Success), (failure, Branches::Failure)].map(|(ops, taken)| {
                let nested: u64 = txn.inner(level, taken).map(|level| inner[level - 1]).sum();
                nested + puts_cost(ops)
            });
        cost = both[0].max(both[1]);
        if 0 < level {
            inner[level - 1] = cost;
        }
    }
    cost
}

fn puts_cost(operations: &[RequestOp]) -> u64 {
    let cost = |operation: &RequestOp| match &operation.request {
        Some(Request::RequestPut(put)) => put_cost(put),
        _ => 0,
    };
    operations.iter().map(cost).sum()
}
