//! The Lock service: whose key is the oldest below a name, has the lock (etcd: `Mutex`).

use std::sync::Arc;

use bytes::Bytes;

use super::{Outcome, attended, hold};
use crate::{
    pb::{
        etcdserverpb::DeleteRangeRequest,
        v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse},
    },
    server::{Error, Server},
};

impl Server {
    /// Lock.Lock: returns when the caller has the lock. It has it as long as the key is there,
    /// which is as long as its lease at most.
    pub(crate) async fn lock(
        self: &Arc<Self>,
        id: u64,
        request: LockRequest,
    ) -> Result<LockResponse, Error> {
        let server = Arc::clone(self);
        attended(move |caller| async move {
            let lease = server.session(id, request.lease).await?;
            if caller.has_gone() {
                return Err(Error::Canceled);
            }
            let entered = server.enter(id, &request.name, (lease, Bytes::new())).await?;
            match hold(&server, id, &entered, caller).await? {
                Outcome::First(header) => Ok(LockResponse { header, key: entered.queued.key }),
                Outcome::Lost => Err(Error::SessionExpired),
            }
        })
        .await
    }

    /// Lock.Unlock: deletes the key, whoever asks.
    pub(crate) async fn unlock(
        &self,
        id: u64,
        request: UnlockRequest,
    ) -> Result<UnlockResponse, Error> {
        let delete = DeleteRangeRequest { key: request.key, ..DeleteRangeRequest::default() };
        let header = self.own_delete(id, delete).await?.header;
        Ok(UnlockResponse { header })
    }
}
