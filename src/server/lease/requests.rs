//! The requests of the Lease service, one line per step.

use std::{sync::Arc, time::Duration};

use super::{Asking, Primary, Question, Refusal, forward};
use crate::{
    pb::etcdserverpb::{
        LeaseGrantRequest, LeaseGrantResponse, LeaseLeasesResponse, LeaseRevokeRequest,
        LeaseRevokeResponse, LeaseStatus,
    },
    server::{
        Error,
        admit::GRANT_COST,
        answer::{Connection, UnsentBytes},
        command::Command,
        lessor::View,
        members::Members,
        propose::Proposer,
        wait_step::WaitStep,
    },
    set, stage,
    trace::Reason,
};

/// The pause before the leader is asked again.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves Lease: through the log, or by asking the leader.
pub(crate) struct LeaseServer {
    /// Answers while this member leads.
    pub(crate) primary: Primary,
    pub(crate) proposer: Arc<Proposer>,
    /// Has the leader's peer URLs.
    pub(crate) members: Arc<Members>,
}

impl LeaseServer {
    /// Lease.LeaseGrant. A grant without an id gets one here, before it goes into the log.
    pub(crate) async fn grant(
        &self,
        id: u64,
        mut grant: LeaseGrantRequest,
    ) -> Result<LeaseGrantResponse, Error> {
        self.proposer.check_quota(id, GRANT_COST).await?;
        while grant.id == 0 {
            grant.id = (self.proposer.ids.next(false) & (u64::MAX >> 1)).cast_signed();
        }
        let header = self.proposer.prepare(id)?;
        Ok(self.proposer.propose(header, Command::LeaseGrant(grant)).await?.lease_grant())
    }

    /// Lease.LeaseRevoke: deletes the lease and its keys, through the log.
    pub(crate) async fn revoke(
        &self,
        id: u64,
        revoke: LeaseRevokeRequest,
    ) -> Result<LeaseRevokeResponse, Error> {
        let header = self.proposer.prepare(id)?;
        Ok(self.proposer.propose(header, Command::LeaseRevoke(revoke)).await?.lease_revoke())
    }

    /// One message of Lease.LeaseKeepAlive. Returns the renewed TTL in seconds, or `None` if no
    /// lease has this id.
    pub(crate) async fn renew(&self, id: u64, lease: i64) -> Result<Option<i64>, Error> {
        let is_forwarded = !self.proposer.leads();
        let lease_id = lease.cast_unsigned();
        let span = stage!(LeaseRenew, id, lease = lease_id, forwarded = is_forwarded);
        let mut step = WaitStep::begin(span);
        let view = self.ask_leader(id, Question::KeepAlive(lease)).await;
        let view = step.end(view)?;
        match &view {
            Some(view) => {
                set!(step.span, LeaseRenew, ttl = view.ttl);
            }
            None => step.span.fail(Reason::LeaseNotFound),
        }
        Ok(view.map(|view| view.ttl))
    }

    /// Lease.LeaseTimeToLive: `None` if no lease has this id; and the bytes of the answer, which
    /// are counted until it is sent. This member counts them before it asks the leader, by the keys
    /// that it knows: calls that wait for the leader together would otherwise all pass before the
    /// first answer is counted.
    pub(crate) async fn time_to_live(
        &self,
        id: u64,
        lease: i64,
        with_keys: bool,
        from: &Arc<Connection>,
    ) -> Result<(Option<View>, UnsentBytes), Error> {
        from.ready(id, self.proposer.settings.request_timeout).await?;
        let keys = if with_keys { self.primary.lessor().keys_bytes(lease) } else { 0 };
        let unsent = from.hold(keys);
        let (is_forwarded, lease_id) = (!self.proposer.leads(), lease.cast_unsigned());
        let span = stage!(LeaseRemaining, id, lease = lease_id, forwarded = is_forwarded);
        let mut step = WaitStep::begin(span);
        let view = self.ask_leader(id, Question::TimeToLive(lease, with_keys)).await;
        let view = step.end(view)?;
        match &view {
            Some(View { ttl, granted, keys }) => {
                let keys = keys.len();
                set!(step.span, LeaseRemaining, ttl = *ttl, granted = *granted, keys = keys);
            }
            None => step.span.fail(Reason::LeaseNotFound),
        }
        Ok((view, unsent))
    }

    /// Lease.LeaseLeases: every lease whose grant was acknowledged before the call, and none whose
    /// revocation was. etcd 3.5 lists the leases of the entries that the member has applied so far.
    pub(crate) async fn list(
        &self,
        id: u64,
        from: &Connection,
    ) -> Result<LeaseLeasesResponse, Error> {
        self.primary.reads.linearize(id).await?;
        from.ready(id, self.proposer.settings.request_timeout).await?;
        let mut span = stage!(LeaseList, id);
        let leases = self.primary.lessor().list();
        set!(span, LeaseList, leases = leases.len());
        let leases = leases.into_iter().map(|id| LeaseStatus { id }).collect();
        Ok(LeaseLeasesResponse { header: None, leases })
    }

    /// Asks until a leader has answered, which may be another one by then.
    async fn ask_leader(&self, id: u64, question: Question) -> Result<Option<View>, Error> {
        let asking = async {
            loop {
                match self.ask_once(id, question).await {
                    Ok(view) => return Ok(Some(view)),
                    Err(Refusal::NotFound) => return Ok(None),
                    Err(Refusal::Behind) => return Err(Error::TimeoutWaitAppliedIndex),
                    Err(Refusal::NotPrimary | Refusal::Silent) => {
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        };
        match tokio::time::timeout(self.proposer.settings.request_timeout, asking).await {
            Ok(answer) => answer,
            Err(_) if self.primary.status.leader() == 0 => Err(Error::NoLeader),
            Err(_) => Err(Error::Timeout),
        }
    }

    async fn ask_once(&self, id: u64, question: Question) -> Result<View, Refusal> {
        let leader = self.primary.status.leader();
        if leader == self.proposer.member_id {
            return self.primary.answer(id, question).await;
        }
        let Some(member) = self.members.get(leader) else { return Err(Refusal::NotPrimary) };
        for url in &member.peer_urls {
            match self.forward(id, (leader, url), question).await {
                Err(Refusal::NotPrimary | Refusal::Silent) => {}
                answer => return answer,
            }
        }
        Err(Refusal::NotPrimary)
    }

    /// Asks the leader at one of its URLs.
    async fn forward(
        &self,
        id: u64,
        (leader, url): (u64, &str),
        question: Question,
    ) -> Result<View, Refusal> {
        // An id of this member is a number that no other question has.
        let link = self.proposer.ids.next(false);
        let mut span = stage!(LeaseForward, id, lease = question.lease(), leader = leader);
        span.link(link);
        let mut step = WaitStep::begin(span);
        let asking = Asking { id, link, member: self.proposer.member_id };
        let view = forward::ask(url, question, asking).await;
        let view = step.end_for(view, |refusal| refusal.reason())?;
        set!(step.span, LeaseForward, ttl = view.ttl);
        Ok(view)
    }
}
