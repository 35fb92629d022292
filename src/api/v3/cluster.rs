//! The Cluster service. It lists members; membership changes are not implemented yet, and `front`
//! answers those methods as unknown.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};

use crate::{
    api::{
        header,
        interceptor::{Method, begin},
    },
    pb::etcdserverpb::{
        MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
        MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse,
        MemberUpdateRequest, MemberUpdateResponse, cluster_server::Cluster,
    },
    server::Server,
};

/// Serves Cluster for a member.
pub struct ClusterService {
    server: Arc<Server>,
}

impl ClusterService {
    /// Serves requests with this server.
    pub fn new(server: Arc<Server>) -> Self {
        Self { server }
    }
}

fn not_yet<T>(method: &str) -> Result<Response<T>, Status> {
    Err(Status::unimplemented(format!("unknown method {method} for service etcdserverpb.Cluster")))
}

#[async_trait]
impl Cluster for ClusterService {
    async fn member_list(
        &self,
        request: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        let call = begin(&self.server, Method::MemberList, &request, None)?;
        let result = self.server.member_list(call.id(), request.get_ref().linearizable).await;
        let result = result.map(|members| MemberListResponse {
            header: header::without_revision(&self.server),
            members,
        });
        call.respond(result, 0)
    }

    async fn member_add(
        &self,
        _request: Request<MemberAddRequest>,
    ) -> Result<Response<MemberAddResponse>, Status> {
        not_yet("MemberAdd")
    }

    async fn member_remove(
        &self,
        _request: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        not_yet("MemberRemove")
    }

    async fn member_update(
        &self,
        _request: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        not_yet("MemberUpdate")
    }

    async fn member_promote(
        &self,
        _request: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        not_yet("MemberPromote")
    }
}
