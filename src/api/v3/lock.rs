//! The Lock service (etcd: `v3lock.lockServer`). Its errors reach clients as UNKNOWN, because etcd
//! serves it through a client of its own.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};

use crate::{
    api::{
        header,
        interceptor::{Method, begin},
    },
    pb::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse, lock_server::Lock},
    server::Server,
};

/// Serves Lock for a member.
pub struct LockService {
    server: Arc<Server>,
}

impl LockService {
    /// Serves requests with this server.
    pub fn new(server: Arc<Server>) -> Self {
        Self { server }
    }
}

#[async_trait]
impl Lock for LockService {
    async fn lock(&self, request: Request<LockRequest>) -> Result<Response<LockResponse>, Status> {
        let call = begin(&self.server, Method::Lock, &request, Some(&request.get_ref().name))?;
        let mut result = self.server.concurrency.lock(call.id(), request.into_inner()).await;
        let revision = header::fill_in(&mut result, &self.server, |answer| &mut answer.header);
        call.respond(result, revision)
    }

    async fn unlock(
        &self,
        request: Request<UnlockRequest>,
    ) -> Result<Response<UnlockResponse>, Status> {
        let call = begin(&self.server, Method::Unlock, &request, Some(&request.get_ref().key))?;
        let mut result = self.server.concurrency.unlock(call.id(), request.into_inner()).await;
        let revision = header::fill_in(&mut result, &self.server, |answer| &mut answer.header);
        call.respond(result, revision)
    }
}
