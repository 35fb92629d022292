//! What is checked before a write is proposed: room in the backend, and whether apply keeps up.
//!
//! etcd: `quotaKVServer`, and the first lines of `processInternalRaftRequestOnce`.

use super::{
    Error, Server,
    txn::{Branches, Txn},
};
use crate::{
    pb::etcdserverpb::{PutRequest, RequestOp, TxnRequest, request_op::Request},
    stage,
};

/// How far apply may be behind before new writes are refused (etcd: maxGapBetweenApplyAndCommitIndex).
const APPLY_GAP_MAX: u64 = 5000;

/// What a key costs beside its own bytes (etcd: kvOverhead).
const KEY_OVERHEAD: u64 = 256;

/// What a lease costs against the quota (etcd: leaseOverhead).
pub(super) const GRANT_COST: u64 = 64;

impl Server {
    /// Refuses a write for which the backend has no room, when the alarm is raised.
    pub(crate) async fn check_quota(&self, id: u64, cost: u64) -> Result<(), Error> {
        let Some(limit) = self.settings.quota_bytes else { return Ok(()) };
        let used = self.backend.used();
        drop(stage!(QuotaCheck, id, used = used, limit = limit));
        if cost == 0 || used.saturating_add(cost) <= limit {
            return Ok(());
        }
        self.raise_no_space().await;
        Err(Error::NoSpace)
    }

    /// Refuses a proposal while too many committed entries wait to be applied.
    pub(crate) fn admit(&self, id: u64) -> Result<(), Error> {
        let (commit, applied) = (self.status.commit(), self.status.applied());
        let _span = stage!(Admit, id, commit = commit, applied = applied);
        if APPLY_GAP_MAX < commit.saturating_sub(applied) {
            return Err(Error::TooManyRequests);
        }
        Ok(())
    }
}

/// What a put would add to the backend, by etcd's reckoning.
pub(crate) fn put_cost(put: &PutRequest) -> u64 {
    KEY_OVERHEAD + (put.key.len() + put.value.len()) as u64
}

/// What a transaction would add at most: the dearer of its two branches, and so for those in it.
pub(crate) fn txn_cost(txn: &Txn) -> u64 {
    // Inner ones have the greater numbers, so they are done before those around them.
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
