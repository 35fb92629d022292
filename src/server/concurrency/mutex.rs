//! The Lock service: the owner of the oldest key below a name has the lock (etcd: `Mutex`).

use std::sync::Arc;

use bytes::Bytes;

use super::{Concurrency, Outcome, attended};
use crate::{
    pb::{
        etcdserverpb::DeleteRangeRequest,
        v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse},
    },
    server::Error,
};

impl Concurrency {
    /// Lock.Lock: returns when the caller has the lock. It has the lock until the key is deleted,
    /// which is at the end of its lease at the latest.
    pub(crate) async fn lock(
        self: &Arc<Self>,
        id: u64,
        request: LockRequest,
    ) -> Result<LockResponse, Error> {
        let this = Arc::clone(self);
        attended(move |client| async move {
            let lease = this.session(id, request.lease).await?;
            if client.has_gone() {
                return Err(Error::Canceled);
            }
            let entered = this.enter(id, &request.name, lease, Bytes::new()).await?;
            match this.hold(id, &entered, client).await? {
                Outcome::First(header) => Ok(LockResponse { header, key: entered.queued.key }),
                Outcome::Lost => Err(Error::SessionExpired),
            }
        })
        .await
    }

    /// Lock.Unlock: deletes the key. The caller need not be its owner.
    pub(crate) async fn unlock(
        &self,
        id: u64,
        request: UnlockRequest,
    ) -> Result<UnlockResponse, Error> {
        let delete = DeleteRangeRequest { key: request.key, ..DeleteRangeRequest::default() };
        let header = self.kv.own_delete(id, delete).await?.header;
        Ok(UnlockResponse { header })
    }
}
