//! The Maintenance service.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};

use super::snapshot::{self, Sender};
use crate::{
    api::{
        answers, header,
        interceptor::{Method, begin},
    },
    pb::etcdserverpb::{
        AlarmRequest, AlarmResponse, DefragmentRequest, DefragmentResponse, DowngradeRequest,
        DowngradeResponse, HashKvRequest, HashKvResponse, HashRequest, HashResponse,
        MoveLeaderRequest, MoveLeaderResponse, ResponseHeader, SnapshotRequest, StatusRequest,
        StatusResponse, maintenance_server::Maintenance,
    },
    server::Server,
};

/// Serves Maintenance for a member.
pub struct MaintenanceService {
    server: Arc<Server>,
}

impl MaintenanceService {
    /// Serves requests with this server.
    pub fn new(server: Arc<Server>) -> Self {
        Self { server }
    }
}

#[async_trait]
impl Maintenance for MaintenanceService {
    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        let call = begin(&self.server, Method::Status, &request, None)?;
        let mut response = self.server.status_for(call.id());
        header::fill(&mut response.header, &self.server);
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        call.respond(Ok(response), revision)
    }

    async fn alarm(
        &self,
        request: Request<AlarmRequest>,
    ) -> Result<Response<AlarmResponse>, Status> {
        let call = begin(&self.server, Method::Alarm, &request, None)?;
        let mut result = self.server.alarm(call.id(), request.into_inner()).await;
        if let Ok(response) = &mut result {
            header::fill(&mut response.header, &self.server);
        }
        call.respond(result, self.server.store.revision())
    }

    async fn defragment(
        &self,
        request: Request<DefragmentRequest>,
    ) -> Result<Response<DefragmentResponse>, Status> {
        let call = begin(&self.server, Method::Defragment, &request, None)?;
        let done = self.server.defragment(call.id()).await;
        // As in etcd, the answer has no header.
        let response = done.map(|()| DefragmentResponse::default());
        call.respond(response, self.server.store.revision())
    }

    async fn hash(&self, request: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        let call = begin(&self.server, Method::Hash, &request, None)?;
        let result = self.server.hash(call.id()).await.map(|(hash, revision)| {
            let mut header = Some(ResponseHeader { revision, ..ResponseHeader::default() });
            header::fill(&mut header, &self.server);
            HashResponse { header, hash }
        });
        call.respond(result, self.server.store.revision())
    }

    async fn hash_kv(
        &self,
        request: Request<HashKvRequest>,
    ) -> Result<Response<HashKvResponse>, Status> {
        let call = begin(&self.server, Method::HashKv, &request, None)?;
        let result = self.server.hash_kv(call.id(), request.into_inner().revision).await;
        let result = result.map(|hash| {
            let revision = hash.revision;
            let mut header = Some(ResponseHeader { revision, ..ResponseHeader::default() });
            header::fill(&mut header, &self.server);
            HashKvResponse {
                header,
                hash: hash.hash,
                compact_revision: hash.compacted,
                hash_revision: hash.hash_revision,
            }
        });
        call.respond(result, self.server.store.revision())
    }

    type SnapshotStream = snapshot::Messages;

    async fn snapshot(
        &self,
        request: Request<SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let call = begin(&self.server, Method::Snapshot, &request, None)?;
        answers::stream();
        let copy = match self.server.snapshot(call.id()).await {
            Ok(copy) => copy,
            Err(error) => return call.finish(Err(error), 0, 0),
        };
        let sender = Sender::new(Arc::clone(&self.server), call, copy);
        Ok(Response::new(sender.stream()))
    }

    async fn move_leader(
        &self,
        request: Request<MoveLeaderRequest>,
    ) -> Result<Response<MoveLeaderResponse>, Status> {
        let call = begin(&self.server, Method::MoveLeader, &request, None)?;
        let moved = self.server.move_leader(call.id(), request.get_ref().target_id).await;
        // As in etcd, the answer has no header.
        let response = moved.map(|()| MoveLeaderResponse::default());
        call.respond(response, self.server.store.revision())
    }

    async fn downgrade(
        &self,
        request: Request<DowngradeRequest>,
    ) -> Result<Response<DowngradeResponse>, Status> {
        let call = begin(&self.server, Method::Downgrade, &request, None)?;
        let refused = self.server.downgrade(call.id(), request.get_ref()).await;
        call.respond(Err(refused), self.server.store.revision())
    }
}
