//! Writing down how long leases have still to live (etcd: `LeaseCheckpoint`).
//!
//! Without it a new leader gives every lease its whole time again, and where leaders change more
//! often than a lease lasts, it never ends. With `--experimental-enable-lease-checkpoint` the
//! leader puts into the log, every five minutes, what is left of the leases that live longer than
//! that; the next leader begins with what it finds there.
//!
//! ```text
//!   granted 900 s ──5 min──▶ checkpoint 600 ──5 min──▶ checkpoint 300 ──▶ ends
//!                                 │
//!                                 ├─ leader changes: goes on with 600 s, and not with 900
//!                                 └─ renewal: checkpoint 0 ("whole"), then 900 s again
//! ```
//!
//! A renewal costs an entry only if there was a checkpoint since the last one. All renewals that
//! wait for that share one entry; etcd proposes one each.
//!
//! Invariants
//! * Both kinds of checkpoints count only in the term of the leader that made them, and the first
//!   kind only after a quorum has confirmed it: who was replaced unawares shortens nobody's life.
//! * A renewal is answered after its "whole" has been applied. etcd does so too; and if the leader
//!   of today has the flag off, but an earlier one had it on, we clear, where etcd would go on with
//!   the old remainder.
//! * Whether the row is written as well is each member's own flag, as in etcd 3.5.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval as ticks_of},
};

use crate::{
    clock,
    pb::etcdserverpb::{LeaseCheckpoint, LeaseCheckpointRequest},
    server::{Error, Server, command::Command},
};

/// How often a lease's remaining time is written down (etcd: defaultLeaseCheckpointInterval).
const INTERVAL: Duration = Duration::from_secs(5 * 60);

/// How often it is looked which leases are due.
const TICK: Duration = Duration::from_millis(500);

/// The most checkpoints of one entry (etcd: maxLeaseCheckpointBatchSize).
const BATCH_MAX: usize = 1000;

/// The most entries of one look (etcd: leaseCheckpointRate / 2).
const BATCHES_MAX: usize = 500;

/// A renewal that waits until its lease is known to have its whole time.
#[derive(Debug)]
pub struct Clear {
    /// Which lease.
    pub lease: i64,
    /// Takes whether it has been applied.
    pub done: oneshot::Sender<bool>,
}

/// Which lease is to be written down when. Knows no clock.
#[derive(Debug, Default)]
pub struct Schedule {
    /// `None` when nothing is written down.
    interval: Option<Duration>,
    queue: BTreeSet<(Instant, i64)>,
    places: HashMap<i64, Instant>,
}

impl Schedule {
    /// An empty one.
    pub fn every(interval: Duration) -> Schedule {
        Schedule { interval: Some(interval), ..Schedule::default() }
    }

    /// A lease that has `left` seconds comes in one interval, if it lives longer than that; a plan
    /// that was made for it before is void (etcd: scheduleCheckpointIfNeeded).
    pub fn plan(&mut self, lease: i64, left: i64, now: Instant) {
        self.forget(lease);
        let Some(interval) = self.interval else { return };
        if u64::try_from(left).is_ok_and(|left| interval.as_secs() < left) {
            let at = now + interval;
            self.queue.insert((at, lease));
            self.places.insert(lease, at);
        }
    }

    /// The lease is gone.
    pub fn forget(&mut self, lease: i64) {
        if let Some(at) = self.places.remove(&lease) {
            self.queue.remove(&(at, lease));
        }
    }

    /// Somebody else counts.
    pub fn clear(&mut self) {
        self.queue.clear();
        self.places.clear();
    }

    /// Whether a lease is due.
    pub fn is_due(&self, now: Instant) -> bool {
        self.queue.first().is_some_and(|(at, _)| *at <= now)
    }

    /// The next lease that is due; its plan is used up.
    pub fn take_due(&mut self, now: Instant) -> Option<i64> {
        let (_, lease) = *self.queue.first().filter(|(at, _)| *at <= now)?;
        self.forget(lease);
        Some(lease)
    }
}

/// The interval: five minutes, unless a test that cannot wait so long says otherwise.
pub fn interval() -> Duration {
    fail::fail_point!("lease-checkpoint-interval", |ms| {
        ms.and_then(|ms| ms.parse().ok()).map_or(INTERVAL, Duration::from_millis)
    });
    INTERVAL
}

/// Runs for as long as the member does.
pub async fn run(server: Arc<Server>) {
    let Some(mut clears) = server.store.lessor().take_clears() else { return };
    let mut ticks = ticks_of(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            clear = clears.recv() => match clear {
                Some(clear) => server.clear_checkpoints(clear, &mut clears).await,
                None => return,
            },
            _ = ticks.tick() => server.checkpoint_due().await,
        }
    }
}

impl Server {
    /// Clears the remaining time of all leases whose renewals wait now, with one entry.
    async fn clear_checkpoints(&self, first: Clear, clears: &mut mpsc::Receiver<Clear>) {
        let mut waiting = vec![first];
        while waiting.len() < BATCH_MAX
            && let Ok(next) = clears.try_recv()
        {
            waiting.push(next);
        }
        let whole = |clear: &Clear| LeaseCheckpoint { id: clear.lease, remaining_ttl: 0 };
        let checkpoints = waiting.iter().map(whole).collect();
        let is_done = match self.store.lessor().primary() {
            Some(term) => self.propose_checkpoints(checkpoints, term).await.is_ok(),
            None => false,
        };
        for clear in waiting {
            // Whoever does not wait any more has given up.
            let _ = clear.done.send(is_done);
        }
    }

    /// Writes down what is left of the leases that are due.
    async fn checkpoint_due(&self) {
        let lessor = self.store.lessor();
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
        let id = self.ids.next(self.sampler.keep_next(false));
        let command = Command::LeaseCheckpoint(LeaseCheckpointRequest { checkpoints });
        self.propose_in_term(id, command, term).await.map(drop)
    }
}
