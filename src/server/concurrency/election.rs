//! The Election service: whose key is the oldest below a name, leads, and the key's value is what
//! it proclaims (etcd: `Election`). Has nothing to do with raft's elections.

use std::sync::Arc;

use super::{Entered, Outcome, attended, hold, oldest, prefix_of};
use crate::{
    mark,
    pb::{
        etcdserverpb::PutRequest,
        v3electionpb::{
            CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse,
            ProclaimRequest, ProclaimResponse, ResignRequest, ResignResponse,
        },
    },
    server::{
        Error, Server,
        answer::{Connection, Held},
    },
};

impl Server {
    /// Election.Campaign: returns when the caller leads. The answer's header is that of the
    /// moment in which it began to stand, as in etcd.
    pub(crate) async fn campaign(
        self: &Arc<Self>,
        id: u64,
        request: CampaignRequest,
    ) -> Result<CampaignResponse, Error> {
        let server = Arc::clone(self);
        attended(move |caller| async move {
            let lease = server.session(id, request.lease).await?;
            if caller.has_gone() {
                return Err(Error::Canceled);
            }
            let put = (lease, request.value.clone());
            let entered = server.enter(id, &request.name, put).await?;
            server.renew_value(id, &entered, &request, lease).await?;
            match hold(&server, id, &entered, caller).await? {
                Outcome::First(_) => {
                    let (key, rev) = (entered.queued.key, entered.queued.created);
                    let leader = Some(LeaderKey { name: request.name, key, rev, lease });
                    Ok(CampaignResponse { header: entered.header, leader })
                }
                Outcome::Lost => Err(Error::ElectionNotLeader),
            }
        })
        .await
    }

    /// Who stands already, and now with another value, puts that into the key.
    async fn renew_value(
        &self,
        id: u64,
        entered: &Entered,
        request: &CampaignRequest,
        lease: i64,
    ) -> Result<(), Error> {
        let Some(before) = &entered.before else { return Ok(()) };
        if before.value == request.value {
            return Ok(());
        }
        let (queued, request_id) = (&entered.queued, self.next_of(id));
        mark!(CampaignProclaim, id, own = queued.created, request = request_id);
        let (key, value) = (queued.key.clone(), request.value.clone());
        let put = PutRequest { key, value, lease, ..PutRequest::default() };
        let result = self.proclaim_at(request_id, queued.created, put).await;
        if result.is_err() && result != Err(Error::ElectionNotLeader) {
            self.release(id, queued).await;
        }
        result.map(|_| ())
    }

    /// Election.Proclaim: the leader has something new to say.
    pub(crate) async fn proclaim(
        &self,
        id: u64,
        request: ProclaimRequest,
    ) -> Result<ProclaimResponse, Error> {
        let leader = request.leader.ok_or(Error::MissingLeaderKey)?;
        let lease = self.session(id, leader.lease).await?;
        let (key, value) = (leader.key, request.value);
        let put = PutRequest { key, value, lease, ..PutRequest::default() };
        let header = self.proclaim_at(id, leader.rev, put).await?;
        Ok(ProclaimResponse { header })
    }

    /// Election.Leader: who leads now, as a quorum confirms it; and the bytes of the answer, which
    /// are counted until it is sent.
    pub(crate) async fn election_leader(
        &self,
        id: u64,
        request: LeaderRequest,
        client: &Arc<Connection>,
    ) -> Result<(LeaderResponse, Held), Error> {
        let range = oldest(&prefix_of(&request.name));
        let client = (client, self.settings.request_timeout);
        let (mut response, held) = self.range_for(id, &range, client).await?;
        match response.kvs.pop() {
            Some(kv) => Ok((LeaderResponse { header: response.header, kv: Some(kv) }, held)),
            None => Err(Error::ElectionNoLeader),
        }
    }

    /// Election.Resign. Who does not lead any more gets the same answer as who does, as in etcd.
    pub(crate) async fn resign(
        &self,
        id: u64,
        request: ResignRequest,
    ) -> Result<ResignResponse, Error> {
        let leader = request.leader.ok_or(Error::MissingLeaderKey)?;
        // Not needed for anything, but a call without a lease leaves one behind in etcd, too.
        self.session(id, leader.lease).await?;
        let header = self.resign_at(id, &leader.key, leader.rev).await?;
        Ok(ResignResponse { header })
    }
}
