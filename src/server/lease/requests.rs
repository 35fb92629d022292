//! The Lease service's requests, a line a step.

use std::{sync::Arc, time::Duration};

use super::{Question, Refusal, View, forward};
use crate::{
    pb::etcdserverpb::{
        LeaseGrantRequest, LeaseGrantResponse, LeaseLeasesResponse, LeaseRevokeRequest,
        LeaseRevokeResponse, LeaseStatus,
    },
    server::{
        Error, Server,
        admit::GRANT_COST,
        answer::{Connection, Held},
        command::Command,
    },
    set, stage, trace,
};

/// The pause before the leader is asked again.
const PAUSE: Duration = Duration::from_millis(50);

impl Server {
    /// Lease.LeaseGrant. Who names no id gets one, before the request goes into the log.
    pub(crate) async fn lease_grant(
        &self,
        id: u64,
        mut grant: LeaseGrantRequest,
    ) -> Result<LeaseGrantResponse, Error> {
        self.check_quota(id, GRANT_COST).await?;
        while grant.id == 0 {
            grant.id = (self.ids.next(false) & (u64::MAX >> 1)).cast_signed();
        }
        Ok(self.propose(id, Command::LeaseGrant(grant)).await?.lease_grant())
    }

    /// Lease.LeaseRevoke.
    pub(crate) async fn lease_revoke(
        &self,
        id: u64,
        revoke: LeaseRevokeRequest,
    ) -> Result<LeaseRevokeResponse, Error> {
        Ok(self.propose(id, Command::LeaseRevoke(revoke)).await?.lease_revoke())
    }

    /// One message of Lease.LeaseKeepAlive: the TTL that the lease has again, or `None` when it is
    /// gone.
    pub(crate) async fn lease_renew(&self, id: u64, lease: i64) -> Result<Option<i64>, Error> {
        let is_forwarded = self.status.leader() != self.member_id;
        let lease_id = lease.cast_unsigned();
        let span = stage!(LeaseRenew, id, lease = lease_id, forwarded = is_forwarded);
        let mut span = span.begun();
        let view = self.ask_leader(id, Question::KeepAlive(lease)).await;
        match &view {
            Ok(view) => {
                let ttl = view.as_ref().map_or(0, |view| view.ttl);
                set!(span, LeaseRenew, ttl = ttl);
            }
            Err(_) => span.flag(trace::FLAG_ERROR),
        }
        Ok(view?.map(|view| view.ttl))
    }

    /// Lease.LeaseTimeToLive: `None` when the lease is gone; and the bytes of the answer, which are
    /// counted until it is sent. This member counts them before it asks the leader, by the keys
    /// that it knows: calls that wait for the leader together would otherwise all pass before the
    /// first answer is counted.
    pub(crate) async fn lease_time_to_live(
        &self,
        id: u64,
        (lease, with_keys): (i64, bool),
        from: &Arc<Connection>,
    ) -> Result<(Option<View>, Held), Error> {
        from.ready(id, self.settings.request_timeout).await?;
        let keys = if with_keys { self.store.lessor().keys_bytes(lease) } else { 0 };
        let held = from.hold(keys);
        Ok((self.ask_leader(id, Question::TimeToLive(lease, with_keys)).await?, held))
    }

    /// Lease.LeaseLeases: every lease whose grant was acknowledged before the call, and none whose
    /// revocation was. etcd 3.5 lists what the member happens to have applied.
    pub(crate) async fn lease_leases(
        &self,
        id: u64,
        from: &Connection,
    ) -> Result<LeaseLeasesResponse, Error> {
        self.linearize(id).await?;
        from.ready(id, self.settings.request_timeout).await?;
        let leases = self.store.lessor().list();
        let leases = leases.into_iter().map(|id| LeaseStatus { id }).collect();
        Ok(LeaseLeasesResponse { header: None, leases })
    }

    /// Asks until the leader has answered, whoever that is by then.
    async fn ask_leader(&self, id: u64, question: Question) -> Result<Option<View>, Error> {
        let asking = async {
            loop {
                match self.ask_once(id, question).await {
                    Ok(view) => return Ok(Some(view)),
                    Err(Refusal::NotFound) => return Ok(None),
                    Err(Refusal::Behind) => return Err(Error::TimeoutWaitAppliedIndex),
                    Err(Refusal::NotPrimary) => tokio::time::sleep(PAUSE).await,
                }
            }
        };
        match tokio::time::timeout(self.settings.request_timeout, asking).await {
            Ok(answer) => answer,
            Err(_) if self.status.leader() == 0 => Err(Error::NoLeader),
            Err(_) => Err(Error::Timeout),
        }
    }

    async fn ask_once(&self, id: u64, question: Question) -> Result<View, Refusal> {
        let leader = self.status.leader();
        if leader == self.member_id {
            return self.primary.answer(id, question).await;
        }
        let Some(member) = self.members.get(leader) else { return Err(Refusal::NotPrimary) };
        for url in &member.peer_urls {
            match forward::ask(url, question).await {
                Err(Refusal::NotPrimary) => {}
                answer => return answer,
            }
        }
        Err(Refusal::NotPrimary)
    }
}
