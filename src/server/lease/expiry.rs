//! The loop that revokes leases whose time is over (etcd: `revokeExpiredLeases`).
//!
//! It is also the one place that makes this member the primary and takes that away again, so that
//! the two cannot overtake each other. A quorum is asked first in both cases: before counting
//! begins, and before each pass of revocations, because a leader that was stopped for a while does
//! not know that it is none any more.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{MissedTickBehavior, interval},
};

use super::lessor::Due;
use crate::{
    clock, mark,
    pb::etcdserverpb::LeaseRevokeRequest,
    raft::Leadership,
    server::{Error, Server, command::Command},
};

/// How often deadlines are looked at.
const INTERVAL: Duration = Duration::from_millis(500);

/// Revocations of one pass: a thousand a second (etcd: leaseRevokeRate).
const PER_PASS: usize = 500;

/// Revocations that may be on their way at a time, so that clients' requests find room between
/// them (etcd: maxPendingRevokes).
const PENDING_MAX: usize = 16;

/// Runs for as long as the member does.
pub async fn run(server: Arc<Server>) {
    let mut leadership = server.status.leadership();
    let room = Arc::new(Semaphore::new(PENDING_MAX));
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        if let Some(term) = server.follow_leadership().await {
            revoke_due(&server, term, &room).await;
        }
        tokio::select! {
            _ = ticks.tick() => {}
            changed = leadership.changed() => if changed.is_err() { return },
        }
    }
}

impl Server {
    /// Makes the lessor follow raft. Returns the term in which this member is the primary.
    async fn follow_leadership(&self) -> Option<u64> {
        let lessor = self.store.lessor();
        let term = self.status.term();
        if self.status.leader() == self.member_id && lessor.primary() == Some(term) {
            return Some(term);
        }
        if lessor.primary().is_some() {
            lessor.demote();
        }
        if self.status.leader() != self.member_id || !self.is_confirmed(term).await {
            return None;
        }
        lessor.promote(term, self.settings.election, clock::now());
        Some(term)
    }

    /// Whether a quorum still follows this member in `term`; then it has also applied what was
    /// committed before.
    pub(super) async fn is_confirmed(&self, term: u64) -> bool {
        let round = self.ids.next(false);
        self.linearize(round).await.is_ok()
            && self.status.leader() == self.member_id
            && self.status.term() == term
    }

    async fn revoke_expired(&self, due: Due, term: u64) {
        let id = self.ids.next(self.sampler.keep_next(false));
        let overdue = due.overdue.as_nanos();
        mark!(LeaseExpire, 0, lease = due.lease.cast_unsigned(), request = id, overdue = overdue);
        let command = Command::LeaseRevoke(LeaseRevokeRequest { id: due.lease });
        match self.propose_in_term(id, command, term).await {
            Ok(_) | Err(Error::LeaseNotFound) => {}
            Err(error) => {
                tracing::warn!(?error, lease = due.lease, "could not revoke a lease yet");
            }
        }
    }
}

async fn revoke_due(server: &Arc<Server>, term: u64, room: &Arc<Semaphore>) {
    let lessor = server.store.lessor();
    if !lessor.has_due(clock::now()) || !server.is_confirmed(term).await {
        return;
    }
    for due in lessor.take_due(clock::now(), PER_PASS) {
        let Some(place) = place(room, server.status.leadership()).await else { return };
        if !server.primary.leads() {
            return;
        }
        if !lessor.is_over(due.lease, clock::now()) {
            continue;
        }
        let server = Arc::clone(server);
        tokio::spawn(async move {
            server.revoke_expired(due, term).await;
            drop(place);
        });
    }
}

/// Waits for a place, but not beyond a change of leader: without a quorum the places come back only
/// when their requests time out, and until then nobody would be demoted or promoted.
async fn place(
    room: &Arc<Semaphore>,
    mut leadership: watch::Receiver<Leadership>,
) -> Option<OwnedSemaphorePermit> {
    tokio::select! {
        place = Arc::clone(room).acquire_owned() => place.ok(),
        _ = leadership.changed() => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_of_leader_is_not_waited_out_behind_revocations_that_get_no_answer() {
        let (room, leadership) = (Arc::new(Semaphore::new(1)), watch::Sender::default());
        let first = place(&room, leadership.subscribe()).await.expect("there is room");
        let both = async {
            tokio::join!(place(&room, leadership.subscribe()), async {
                leadership.send_replace(Leadership { term: 2, leader: 0 })
            })
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), both).await;
        let (second, _) = waited.expect("it does not wait for the place");
        assert!(second.is_none());
        drop(first);
        assert!(place(&room, leadership.subscribe()).await.is_some());
    }
}
