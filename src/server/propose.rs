//! Encoding a write, handing it to raft, and waiting for the result from apply.
//!
//! etcd: `processInternalRaftRequestOnce`. Every wait has a limit: after five seconds and two
//! election timeouts the client gets a timeout error, which names the cause if it is known. The
//! error does not say that the request failed, because it may still be committed.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use raft::eraftpb::EntryType;

use super::{
    Error, Settings,
    alarm::{Alarms, NoSpace},
    auth::AuthStore,
    command::Command,
    error::note,
    ids::RequestIds,
    members::Members,
    outcome::Response,
    wait::{Answer, Wait},
    wait_step::WaitStep,
};
use crate::{
    clock,
    metrics::recorded,
    pb::etcdserverpb::{AlarmType, RequestHeader},
    raft::{
        Status,
        inbox::{Inbox, Input, Refused},
        rafthttp,
    },
    set, stage,
    storage::backend::Backend,
    trace,
};

/// Proposes commands. The checks before that are in [`admit`](super::admit).
pub(crate) struct Proposer {
    pub(crate) member_id: u64,
    pub(crate) settings: Settings,
    pub(crate) ids: Arc<RequestIds>,
    /// To the raft thread.
    pub(crate) inbox: Inbox,
    pub(crate) status: Arc<Status>,
    /// The proposals that wait for apply.
    pub(crate) wait: Arc<Wait>,
    pub(crate) auth: Arc<AuthStore>,
    pub(crate) alarms: Arc<Alarms>,
    /// Asks for the alarm of a full backend.
    pub(crate) no_space: Arc<NoSpace>,
    /// Compared with the quota.
    pub(crate) backend: Arc<Backend>,
    /// With `peers`, tells why a proposal has timed out.
    pub(crate) members: Arc<Members>,
    pub(crate) peers: Arc<rafthttp::Active>,
}

/// How a command enters the log.
#[derive(Clone, Copy)]
enum How {
    /// As an ordinary entry, wherever the leader is.
    Request,
    /// As an ordinary entry, but only if this member leads in this term.
    InTerm(u64),
    /// As a change of the members.
    Change,
}

impl Proposer {
    /// Whether this member leads, as far as it knows.
    pub(crate) fn leads(&self) -> bool {
        self.status.leader() == self.member_id
    }

    /// Proposes a command under the header from [`prepare`](Self::prepare), and waits until it has
    /// been applied.
    pub(super) async fn propose(
        &self,
        header: RequestHeader,
        command: Command,
    ) -> Result<Response, Error> {
        let id = header.id;
        let data = self.encode(header, command)?;
        let result = self.propose_bytes(id, data, How::Request).await;
        // Apply found no room and asks for the alarm; as in etcd, the client gets its answer after
        // the alarm is raised.
        if matches!(result, Err(Error::NoSpace)) && !self.alarms.is_raised(AlarmType::Nospace) {
            self.raise_no_space().await;
        }
        result
    }

    /// Proposes a command only as the leader of `term`. A leader's own decisions are never
    /// forwarded: if another member leads by then, raft drops the proposal.
    pub(super) async fn propose_in_term(
        &self,
        header: RequestHeader,
        command: Command,
        term: u64,
    ) -> Result<Response, Error> {
        let id = header.id;
        let data = self.encode(header, command)?;
        self.propose_bytes(id, data, How::InTerm(term)).await
    }

    fn encode(&self, header: RequestHeader, command: Command) -> Result<Bytes, Error> {
        let id = header.id;
        let data = command.encode(header);
        if self.settings.max_request_bytes < data.len() {
            let leader = self.status.leader();
            let mut span = stage!(RaftPropose, id, bytes = data.len(), leader = leader);
            return note(&mut span, Err(Error::RequestTooLarge));
        }
        Ok(data)
    }

    /// Proposes what members publish unasked, even while apply is behind.
    pub(super) async fn announce(&self, id: u64, command: Command) -> Result<Response, Error> {
        let data = command.encode(RequestHeader { id, ..RequestHeader::default() });
        self.propose_bytes(id, data, How::Request).await
    }

    /// Proposes a change of the members, which carries `id`, and waits until it has been applied.
    pub(super) async fn propose_change(&self, id: u64, data: Bytes) -> Result<Response, Error> {
        self.propose_bytes(id, data, How::Change).await
    }

    async fn propose_bytes(&self, id: u64, data: Bytes, how: How) -> Result<Response, Error> {
        let leader = self.status.leader();
        let span = stage!(RaftPropose, id, bytes = data.len(), leader = leader);
        let mut step = WaitStep::begin(span);
        let (outcome, woken) = self.outcome(id, data, how).await;
        set!(step.span, RaftPropose, woken = woken);
        step.end(outcome)
    }

    /// Hands a proposal to the raft thread, and waits for its result from apply. Returns also how
    /// long that result waited for this call to wake, in nanoseconds.
    async fn outcome(&self, id: u64, data: Bytes, how: How) -> (Result<Response, Error>, u64) {
        let start = clock::now();
        let mut waiting = self.wait.register(id);
        let since = trace::handed_over();
        let kind = match how {
            How::Change => EntryType::EntryConfChange,
            How::Request | How::InTerm(_) => EntryType::EntryNormal,
        };
        let proposal = match how {
            How::InTerm(term) => Input::ProposeInTerm { data, term, since },
            How::Request | How::Change => Input::Propose { id, data, kind, since },
        };
        if let Err(full) = self.inbox.offer(proposal) {
            recorded::PROPOSALS_FAILED.increment();
            return (Err(refused(full)), 0);
        }
        let outcome = tokio::time::timeout(self.settings.request_timeout, &mut waiting.outcome);
        match outcome.await {
            Ok(Ok(Answer { result, since })) => (result, trace::waited_ns(since)),
            Ok(Err(_)) => (Err(Error::Stopped), 0),
            Err(_) => {
                recorded::PROPOSALS_FAILED.increment();
                (Err(self.why_timed_out(start)), 0)
            }
        }
    }

    /// The known cause of a timeout, for a request that has waited since `start` (etcd:
    /// parseProposeCtxErr).
    fn why_timed_out(&self, start: Instant) -> Error {
        if let Some(elected) = self.status.elected_at() {
            let lost = elected.checked_sub(2 * self.settings.election);
            if lost.is_some_and(|lost| lost < start) && start < elected {
                return Error::TimeoutDueToLeaderFail;
            }
        }
        let leader = self.status.leader();
        let connected = match leader {
            0 => true,
            own if own == self.member_id => {
                let voters = self.members.voters();
                let is_voter = |id: &u64| voters.iter().any(|voter| voter.id == *id);
                voters.len() / 2 < self.peers.active_since(start).filter(is_voter).count() + 1
            }
            other => self.peers.connected_since(other, start),
        };
        if connected { Error::Timeout } else { Error::TimeoutDueToConnectionLost }
    }
}

pub(super) fn refused(refused: Refused) -> Error {
    match refused {
        Refused::Full => Error::TooManyRequests,
        Refused::Stopped => Error::Stopped,
    }
}
