//! The Election service: the owner of the oldest key below a name leads, and proclaims the key's
//! value (etcd: `Election`). It has nothing to do with raft's elections.

use std::sync::Arc;

use super::{Concurrency, Entered, Outcome, attended, oldest, prefix_of};
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
        Error,
        answer::{Connection, UnsentBytes},
    },
};

impl Concurrency {
    /// Election.Campaign: returns when the caller leads. As in etcd, the answer has the header of
    /// the transaction that put its key.
    pub(crate) async fn campaign(
        self: &Arc<Self>,
        id: u64,
        request: CampaignRequest,
    ) -> Result<CampaignResponse, Error> {
        let this = Arc::clone(self);
        attended(move |client| async move {
            let lease = this.session(id, request.lease).await?;
            if client.has_gone() {
                return Err(Error::Canceled);
            }
            let entered = this.enter(id, &request.name, lease, request.value.clone()).await?;
            this.renew_value(id, &entered, &request, lease).await?;
            match this.hold(id, &entered, client).await? {
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

    /// Puts a new value into the key of a candidate that is already in the queue.
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

    /// Election.Proclaim: the leader puts a new value into its key.
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

    /// Election.Leader: the present leader's key, read after a read round; and the bytes of the
    /// answer, which are counted until it is sent.
    pub(crate) async fn election_leader(
        &self,
        id: u64,
        request: LeaderRequest,
        client: &Arc<Connection>,
    ) -> Result<(LeaderResponse, UnsentBytes), Error> {
        let range = oldest(&prefix_of(&request.name));
        let patience = self.kv.settings.request_timeout;
        let (mut response, unsent) = self.kv.range_for(id, &range, client, patience).await?;
        match response.kvs.pop() {
            Some(kv) => Ok((LeaderResponse { header: response.header, kv: Some(kv) }, unsent)),
            None => Err(Error::ElectionNoLeader),
        }
    }

    /// Election.Resign. As in etcd, the answer does not say whether the caller still led.
    pub(crate) async fn resign(
        &self,
        id: u64,
        request: ResignRequest,
    ) -> Result<ResignResponse, Error> {
        let leader = request.leader.ok_or(Error::MissingLeaderKey)?;
        // The lease is not used, but in etcd a call without one leaves one behind, too.
        self.session(id, leader.lease).await?;
        let header = self.resign_at(id, &leader.key, leader.rev).await?;
        Ok(ResignResponse { header })
    }
}
