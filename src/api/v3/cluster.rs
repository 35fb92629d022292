//! The Cluster service: it lists the members, and changes them.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};

use crate::{
    api::{
        header,
        interceptor::{Method, begin},
    },
    pb::etcdserverpb::{
        self, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
        MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse,
        MemberUpdateRequest, MemberUpdateResponse, cluster_server::Cluster,
    },
    server::{Server, members::Member},
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

fn listed(members: Vec<Member>) -> Vec<etcdserverpb::Member> {
    members.into_iter().map(etcdserverpb::Member::from).collect()
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
        request: Request<MemberAddRequest>,
    ) -> Result<Response<MemberAddResponse>, Status> {
        let call = begin(&self.server, Method::MemberAdd, &request, None)?;
        let MemberAddRequest { peer_ur_ls, is_learner } = request.into_inner();
        let added = self.server.membership.add(call.id(), &peer_ur_ls, is_learner).await;
        let result = added.map(|(member, members)| MemberAddResponse {
            header: header::without_revision(&self.server),
            member: Some(member.into()),
            members: listed(members),
        });
        call.respond(result, 0)
    }

    async fn member_remove(
        &self,
        request: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        let call = begin(&self.server, Method::MemberRemove, &request, None)?;
        let removed = self.server.membership.remove(call.id(), request.get_ref().id).await;
        let result = removed.map(|members| MemberRemoveResponse {
            header: header::without_revision(&self.server),
            members: listed(members),
        });
        call.respond(result, 0)
    }

    async fn member_update(
        &self,
        request: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        let call = begin(&self.server, Method::MemberUpdate, &request, None)?;
        let MemberUpdateRequest { id, peer_ur_ls } = request.into_inner();
        let updated = self.server.membership.update(call.id(), id, &peer_ur_ls).await;
        let result = updated.map(|members| MemberUpdateResponse {
            header: header::without_revision(&self.server),
            members: listed(members),
        });
        call.respond(result, 0)
    }

    async fn member_promote(
        &self,
        request: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        let call = begin(&self.server, Method::MemberPromote, &request, None)?;
        let promoted = self.server.membership.promote(call.id(), request.get_ref().id).await;
        let result = promoted.map(|members| MemberPromoteResponse {
            header: header::without_revision(&self.server),
            members: listed(members),
        });
        call.respond(result, 0)
    }
}
