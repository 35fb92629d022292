//! Logging the remaining time of leases (etcd: `LeaseCheckpoint`).
//!
//! Without it a new leader starts every lease with its whole TTL, and where leaders change more
//! often than a lease lasts, the lease never ends. With `--experimental-enable-lease-checkpoint`
//! the leader logs, every five minutes, the remaining time of the leases that live longer than
//! that. The next leader continues from there.
//!
//! ```text
//!   granted 900 s ──5 min──▶ checkpoint 600 ──5 min──▶ checkpoint 300 ──▶ ends
//!                                 │
//!                                 ├─ leader changes: continues with 600 s, and not with 900
//!                                 └─ renewal: checkpoint 0 ("whole"), then 900 s again
//! ```
//!
//! A renewal costs an entry only if there was a checkpoint since the last one. All renewals that
//! wait for such an entry share it; etcd proposes one for each.
//!
//! Invariants
//! * Both kinds of checkpoints count only in the term of the leader that made them, and the first
//!   kind only after a quorum has confirmed that leader: one that was replaced without knowing it
//!   shortens no lease.
//! * A renewal is answered after its "whole" has been applied, as in etcd. If this leader has the
//!   flag off but an earlier one had it on, the checkpoint is cleared, where etcd would continue
//!   with the old remaining time.
//! * Whether the row is written as well is each member's own flag, as in etcd 3.5.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval as ticks_of},
};

use super::requests::LeaseServer;
use crate::{
    clock,
    pb::etcdserverpb::{LeaseCheckpoint, LeaseCheckpointRequest},
    server::{Error, command::Command, internal::Internal, lessor::Clear},
};

/// How often to log the remaining time of a lease (etcd: defaultLeaseCheckpointInterval).
const INTERVAL: Duration = Duration::from_secs(5 * 60);

/// How often to check for leases that are due.
const POLL_EVERY: Duration = Duration::from_millis(500);

/// Upper limit on the checkpoints in one entry (etcd: maxLeaseCheckpointBatchSize).
const BATCH_MAX: usize = 1000;

/// Upper limit on the entries proposed after one check (etcd: leaseCheckpointRate / 2).
const BATCHES_MAX: usize = 500;

/// Five minutes, unless a test shortens the interval.
pub fn interval() -> Duration {
    fail::fail_point!("lease-checkpoint-interval", |ms| {
        ms.and_then(|ms| ms.parse().ok()).map_or(INTERVAL, Duration::from_millis)
    });
    INTERVAL
}

/// Logs the leases that are due, and clears those of waiting renewals, for as long as the member
/// runs.
pub(crate) async fn run(leases: Arc<LeaseServer>) {
    let Some(mut clears) = leases.primary.lessor().take_clears() else { return };
    let mut ticks = ticks_of(POLL_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            clear = clears.recv() => match clear {
                Some(clear) => leases.clear_checkpoints(clear, &mut clears).await,
                None => return,
            },
            _ = ticks.tick() => leases.checkpoint_due().await,
        }
    }
}

impl LeaseServer {
    /// Clears, with one entry, the remaining time of all leases whose renewals wait now.
    async fn clear_checkpoints(&self, first: Clear, clears: &mut mpsc::Receiver<Clear>) {
        let mut waiting = vec![first];
        while waiting.len() < BATCH_MAX
            && let Ok(next) = clears.try_recv()
        {
            waiting.push(next);
        }
        let whole = |clear: &Clear| LeaseCheckpoint { id: clear.lease, remaining_ttl: 0 };
        let checkpoints = waiting.iter().map(whole).collect();
        let is_done = match self.primary.lessor().primary() {
            Some(term) => self.propose_checkpoints(checkpoints, term).await.is_ok(),
            None => false,
        };
        for clear in waiting {
            // A renewal that has given up needs no answer.
            let _ = clear.done.send(is_done);
        }
    }

    /// Logs the remaining time of the leases that are due.
    async fn checkpoint_due(&self) {
        let lessor = self.primary.lessor();
        let Some(term) = lessor.primary() else { return };
        if !lessor.has_checkpoints(clock::now()) || !self.is_confirmed(term).await {
            return;
        }
        for _ in 0..BATCHES_MAX {
            let due = lessor.take_checkpoints(clock::now(), BATCH_MAX);
            if due.is_empty() {
                return;
            }
            let leases = due.len();
            if let Err(error) = self.propose_checkpoints(due, term).await {
                tracing::warn!(?error, leases, "could not checkpoint leases yet");
                return;
            }
        }
    }

    async fn propose_checkpoints(
        &self,
        checkpoints: Vec<LeaseCheckpoint>,
        term: u64,
    ) -> Result<(), Error> {
        let id = self.proposer.ids.of_member(false);
        let command = Command::LeaseCheckpoint(LeaseCheckpointRequest { checkpoints });
        let proposed = async {
            let header = self.proposer.prepare(id)?;
            self.proposer.propose_in_term(header, command, term).await
        };
        Internal::LeaseCheckpoint.request(id, proposed).await.map(drop)
    }
}
