//! Leases as they come out of the log: made, and taken away with their keys.

use crate::{
    clock,
    pb::etcdserverpb::{
        LeaseCheckpointRequest, LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest,
        LeaseRevokeResponse,
    },
    server::{
        Error,
        mvcc::{Asker, Batch, KeyRange, plan::header},
    },
    set, stage, trace,
};

impl Batch<'_> {
    /// Makes a lease. A TTL below `min_ttl` seconds is raised to it.
    ///
    /// The clock is read for the deadline only, which is this member's own and not in the answer.
    pub fn lease_grant(
        &mut self,
        id: u64,
        request: &LeaseGrantRequest,
        min_ttl: i64,
    ) -> Result<LeaseGrantResponse, Error> {
        let ttl = request.ttl.max(min_ttl);
        let lease = request.id.cast_unsigned();
        let mut span = stage!(LeaseGrant, id, lease = lease, ttl = ttl);
        let lessor = self.lessor();
        let granted = lessor.grant((request.id, ttl), clock::now(), self.backend());
        if let Err(error) = granted {
            span.flag(trace::FLAG_ERROR);
            return Err(error);
        }
        let header = header(self.revision());
        Ok(LeaseGrantResponse { header, id: request.id, ttl, error: String::new() })
    }

    /// Takes a lease away, and deletes its keys in one revision, in their order.
    pub fn lease_revoke(
        &mut self,
        id: u64,
        request: &LeaseRevokeRequest,
    ) -> Result<LeaseRevokeResponse, Error> {
        let mut span = stage!(LeaseRevoke, id, lease = request.id.cast_unsigned());
        let lessor = self.lessor();
        let Some(keys) = lessor.keys(request.id) else {
            span.flag(trace::FLAG_ERROR);
            return Err(Error::LeaseNotFound);
        };
        set!(span, LeaseRevoke, keys = keys.len());
        if !keys.is_empty() {
            let mut txn = self.write_txn(id, Asker::Elsewhere);
            for key in &keys {
                txn.delete_range(KeyRange::new(key, b""));
            }
        }
        lessor.remove(request.id, self.backend());
        Ok(LeaseRevokeResponse { header: header(self.revision()) })
    }

    /// Notes how long leases have still to live; in their rows as well if it is to be `persisted`.
    ///
    /// The clock is read for the leader's own next look at them only.
    pub fn lease_checkpoint(&mut self, id: u64, request: &LeaseCheckpointRequest, persisted: bool) {
        let checkpoints = &request.checkpoints;
        let mut span = stage!(LeaseCheckpoint, id, leases = checkpoints.len());
        if let Some(first) = checkpoints.first() {
            let remaining = u64::try_from(first.remaining_ttl).unwrap_or(0);
            set!(span, LeaseCheckpoint, lease = first.id.cast_unsigned(), remaining = remaining);
        }
        let lessor = self.lessor();
        let backend = persisted.then(|| self.backend());
        lessor.checkpoint(checkpoints, clock::now(), backend);
    }
}
