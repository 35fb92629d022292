//! The loop that revokes expired leases (etcd: `revokeExpiredLeases`).
//!
//! Only this loop promotes this member to primary and demotes it, so the two cannot race. A quorum
//! must confirm that this member leads before it sets deadlines, and before each pass of
//! revocations: a leader that was paused for a while does not know that another member leads now.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{MissedTickBehavior, interval},
};

use super::requests::LeaseServer;
use crate::{
    clock, mark,
    metrics::recorded,
    pb::etcdserverpb::LeaseRevokeRequest,
    raft::Leadership,
    server::{Error, command::Command, internal::Internal, lessor::Due},
};

/// How often to check for expired leases.
const INTERVAL: Duration = Duration::from_millis(500);

/// Upper limit on the revocations of one pass: a thousand per second (etcd: leaseRevokeRate).
const PER_PASS: usize = 500;

/// Upper limit on revocations in flight, so that clients' requests find room between them (etcd:
/// maxPendingRevokes).
const PENDING_MAX: usize = 16;

/// Follows the leadership and revokes expired leases, for as long as the member runs.
pub(crate) async fn run(leases: Arc<LeaseServer>) {
    let mut leadership = leases.primary.status.leadership();
    let room = Arc::new(Semaphore::new(PENDING_MAX));
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        if let Some(term) = leases.follow_leadership().await {
            revoke_due(&leases, term, &room).await;
        }
        tokio::select! {
            _ = ticks.tick() => {}
            changed = leadership.changed() => if changed.is_err() { return },
        }
    }
}

impl LeaseServer {
    /// Promotes this member to primary if it leads, and demotes it otherwise. Returns the term in
    /// which it is the primary.
    async fn follow_leadership(&self) -> Option<u64> {
        let lessor = self.primary.lessor();
        let term = self.primary.status.term();
        if self.proposer.leads() && lessor.primary() == Some(term) {
            return Some(term);
        }
        if lessor.primary().is_some() {
            lessor.demote();
        }
        if !self.proposer.leads() || !self.is_confirmed(term).await {
            return None;
        }
        lessor.promote(term, self.proposer.settings.election, clock::now());
        Some(term)
    }

    /// Whether a quorum confirms that this member leads in `term`. If so, this member has also
    /// applied everything that was committed before the call.
    pub(super) async fn is_confirmed(&self, term: u64) -> bool {
        let round = self.proposer.ids.next(false);
        self.primary.reads.linearize(round).await.is_ok()
            && self.proposer.leads()
            && self.primary.status.term() == term
    }

    async fn revoke_expired(&self, due: Due, term: u64) {
        let id = self.proposer.ids.of_member(false);
        let overdue = due.overdue.as_nanos();
        recorded::LEASES_EXPIRED.increment();
        mark!(LeaseExpire, 0, lease = due.lease.cast_unsigned(), request = id, overdue = overdue);
        let revoked = self.propose_revocation(id, due.lease, term);
        match Internal::LeaseExpire.request(id, revoked).await {
            Ok(()) | Err(Error::LeaseNotFound) => {}
            Err(error) => {
                tracing::warn!(?error, lease = due.lease, "could not revoke a lease yet");
            }
        }
    }

    async fn propose_revocation(&self, id: u64, lease: i64, term: u64) -> Result<(), Error> {
        let header = self.proposer.prepare(id)?;
        let command = Command::LeaseRevoke(LeaseRevokeRequest { id: lease });
        self.proposer.propose_in_term(header, command, term).await.map(drop)
    }
}

async fn revoke_due(leases: &Arc<LeaseServer>, term: u64, room: &Arc<Semaphore>) {
    let lessor = leases.primary.lessor();
    if !lessor.has_due(clock::now()) || !leases.is_confirmed(term).await {
        return;
    }
    for due in lessor.take_due(clock::now(), PER_PASS) {
        let leadership = leases.primary.status.leadership();
        let Some(permit) = permit(room, leadership).await else { return };
        if !leases.primary.leads() {
            return;
        }
        if !lessor.is_over(due.lease, clock::now()) {
            continue;
        }
        let leases = Arc::clone(leases);
        tokio::spawn(async move {
            leases.revoke_expired(due, term).await;
            drop(permit);
        });
    }
}

/// Waits for a permit, but not beyond a change of leader. Without a quorum, permits are returned
/// only when their requests time out, and until then this member would be neither demoted nor
/// promoted.
async fn permit(
    room: &Arc<Semaphore>,
    mut leadership: watch::Receiver<Leadership>,
) -> Option<OwnedSemaphorePermit> {
    tokio::select! {
        permit = Arc::clone(room).acquire_owned() => permit.ok(),
        _ = leadership.changed() => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_of_leader_ends_the_wait_behind_revocations_without_an_answer() {
        let (room, leadership) = (Arc::new(Semaphore::new(1)), watch::Sender::default());
        let first = permit(&room, leadership.subscribe()).await.expect("there is room");
        let both = async {
            tokio::join!(permit(&room, leadership.subscribe()), async {
                leadership.send_replace(Leadership { term: 2, leader: 0 })
            })
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), both).await;
        let (second, _) = waited.expect("it does not wait for the permit");
        assert!(second.is_none());
        drop(first);
        assert!(permit(&room, leadership.subscribe()).await.is_some());
    }
}
