//! Handing a write to raft, and waiting for what apply makes of it.
//!
//! etcd: `processInternalRaftRequestOnce`. Every wait has an end: after five seconds and two
//! election timeouts the client is told that the request timed out, and as far as it is known why.
//! It is not told that the request failed, because it may still be committed.

use std::time::Instant;

use bytes::Bytes;

use super::{Error, Server, command::Command, outcome::Response};
use crate::{
    clock,
    pb::etcdserverpb::{AlarmType, RequestHeader},
    raft::inbox::{Input, Refused},
    stage, trace,
};

impl Server {
    /// Proposes a command under `id` and waits until it has been applied.
    pub(crate) async fn propose(&self, id: u64, command: Command) -> Result<Response, Error> {
        let data = self.encode(id, command)?;
        let result = self.propose_bytes(id, data, None).await;
        // Apply found no room, and raises the alarm; as in etcd, the client hears of it after that.
        if matches!(result, Err(Error::NoSpace)) && !self.alarms.is_raised(AlarmType::Nospace) {
            self.raise_no_space().await;
        }
        result
    }

    /// Proposes a command only as the leader of this term: a member that is not, or not any more, must
    /// not ask somebody else to do what it has decided for itself.
    pub(crate) async fn propose_in_term(
        &self,
        id: u64,
        command: Command,
        term: u64,
    ) -> Result<Response, Error> {
        let data = self.encode(id, command)?;
        self.propose_bytes(id, data, Some(term)).await
    }

    fn encode(&self, id: u64, command: Command) -> Result<Bytes, Error> {
        self.admit(id)?;
        let user = self.auth.authenticate(id);
        let (username, auth_revision) = (user.name, user.auth_revision);
        let data = command.encode(RequestHeader { id, username, auth_revision });
        if self.settings.max_request_bytes < data.len() {
            return Err(Error::RequestTooLarge);
        }
        Ok(data)
    }

    /// Proposes what the members tell each other without being asked, also while apply is behind.
    pub(super) async fn announce(&self, id: u64, command: Command) -> Result<Response, Error> {
        let data = command.encode(RequestHeader { id, ..RequestHeader::default() });
        self.propose_bytes(id, data, None).await
    }

    async fn propose_bytes(
        &self,
        id: u64,
        data: Bytes,
        term: Option<u64>,
    ) -> Result<Response, Error> {
        let leader = self.status.leader();
        let mut span = stage!(RaftPropose, id, bytes = data.len(), leader = leader).begun();
        let result = self.outcome(id, data, term).await;
        if result.is_err() {
            span.flag(trace::FLAG_ERROR);
        }
        result
    }

    /// Hands a proposal over, and waits for what apply makes of it.
    async fn outcome(&self, id: u64, data: Bytes, term: Option<u64>) -> Result<Response, Error> {
        let start = clock::now();
        let mut waiting = self.wait.register(id);
        let proposal = match term {
            None => Input::Propose { id, data, since: trace::raw_clock::now() },
            Some(term) => Input::ProposeInTerm { data, term },
        };
        self.inbox.offer(proposal).map_err(refused)?;
        let outcome = tokio::time::timeout(self.settings.request_timeout, &mut waiting.outcome);
        match outcome.await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Error::Stopped),
            Err(_) => Err(self.why_timed_out(start)),
        }
    }

    /// What is known about a request that waited in vain since `start` (etcd: parseProposeCtxErr).
    pub(crate) fn why_timed_out(&self, start: Instant) -> Error {
        if let Some(elected) = self.status.elected_at() {
            let lost = elected.checked_sub(2 * self.settings.election);
            if lost.is_some_and(|lost| lost < start) && start < elected {
                return Error::TimeoutDueToLeaderFail;
            }
        }
        let leader = self.status.leader();
        let connected = match leader {
            0 => true,
            own if own == self.member_id => self.peers.quorum_since(start, self.members.voters()),
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
