//! Applying requests to leases.

use crate::{
    clock,
    pb::etcdserverpb::{
        LeaseCheckpointRequest, LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest,
        LeaseRevokeResponse,
    },
    server::{
        Error,
        error::note,
        mvcc::{Batch, KeyRange, ReplyTo, plan::header},
    },
    set, stage,
};

impl Batch<'_> {
    /// Grants a lease. A TTL below `min_ttl` seconds is raised to it.
    ///
    /// The clock is read for the deadline only, which is local to this member and not in the
    /// answer.
    pub(crate) fn lease_grant(
        &mut self,
        id: u64,
        request: &LeaseGrantRequest,
        min_ttl: i64,
    ) -> Result<LeaseGrantResponse, Error> {
        let ttl = request.ttl.max(min_ttl);
        let lease = request.id.cast_unsigned();
        let mut span = stage!(LeaseGrant, id, lease = lease, ttl = ttl);
        if ttl != request.ttl {
            set!(span, LeaseGrant, raised = true, asked = request.ttl.cast_unsigned());
        }
        let lessor = self.lessor();
        let granted = lessor.grant(request.id, ttl, clock::now(), self.backend());
        note(&mut span, granted)?;
        let header = header(self.revision());
        Ok(LeaseGrantResponse { header, id: request.id, ttl, error: String::new() })
    }

    /// Revokes a lease, and deletes its keys at one main revision, in the order of keys.
    pub(crate) fn lease_revoke(
        &mut self,
        id: u64,
        request: &LeaseRevokeRequest,
    ) -> Result<LeaseRevokeResponse, Error> {
        let mut span = stage!(LeaseRevoke, id, lease = request.id.cast_unsigned());
        let lessor = self.lessor();
        let Some(keys) = lessor.keys(request.id) else {
            return note(&mut span, Err(Error::LeaseNotFound));
        };
        set!(span, LeaseRevoke, keys = keys.len());
        if !keys.is_empty() {
            let mut txn = self.write_txn(id, ReplyTo::Nobody);
            for key in &keys {
                txn.delete_range(KeyRange::new(key, b""));
            }
        }
        lessor.remove(request.id, self.backend());
        Ok(LeaseRevokeResponse { header: header(self.revision()) })
    }

    /// Records the remaining time of leases, and also in their rows if `is_persisted`.
    ///
    /// The clock is read only for the time of the leader's next checkpoint.
    pub(crate) fn lease_checkpoint(
        &mut self,
        id: u64,
        request: &LeaseCheckpointRequest,
        is_persisted: bool,
    ) {
        let checkpoints = &request.checkpoints;
        let mut span = stage!(LeaseCheckpoint, id, leases = checkpoints.len());
        if let Some(first) = checkpoints.first() {
            let remaining = u64::try_from(first.remaining_ttl).unwrap_or(0);
            set!(span, LeaseCheckpoint, lease = first.id.cast_unsigned(), remaining = remaining);
        }
        let lessor = self.lessor();
        let backend = is_persisted.then(|| self.backend());
        lessor.checkpoint(checkpoints, clock::now(), backend);
    }
}
