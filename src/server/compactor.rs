//! Automatic compaction by the leader (etcd: `v3compactor`).
//!
//! ```text
//!   periodic, 1h:   revisions every 6 minutes   12 15 19 19 23 31 40 40 41 55 60 ─▶ compact 12
//!                   (the oldest sample is the revision of an hour ago)
//!   revision, 1000: every 5 minutes             compact newest − 1000
//! ```
//!
//! A [`Compactor`] decides when to compact, and at which revision. It reads neither the clock nor
//! the key space: time and revision are arguments, so tests run a day of it in no time. The
//! compaction itself is a request like a client's, and every member keeps its trace.
//!
//! Invariants
//! * Every member takes samples; only the leader compacts. So a new leader already knows the past,
//!   and the wait does not start again.
//! * A revision that a client has compacted first counts as compacted.
//!
//! Left out: periods of less than ten nanoseconds, with which etcd never sleeps. Here the shortest
//! pause is a millisecond.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Error, internal::Internal, kv_server::KvServer};
use crate::{clock, config::AutoCompaction, pb::etcdserverpb::CompactionRequest};

/// How often to check for a compaction by revisions (etcd: revInterval).
const REVISION_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// The time between two compactions by time is the period, but not more than this.
const INTERVAL_MAX: Duration = Duration::from_secs(60 * 60);

/// Attempts at a compaction by time in one interval (etcd: retryDivisor).
const TRIES: u32 = 10;

/// Decides when to compact, and at which revision.
#[derive(Debug)]
enum Compactor {
    Periodic(Periodic),
    Revision(Revision),
}

/// Keeps the revisions that are younger than a period.
#[derive(Debug)]
struct Periodic {
    period: Duration,
    /// The key space's revision at the last wake-ups, oldest first.
    samples: VecDeque<i64>,
    compacted: i64,
    compacted_at: Instant,
    /// The time from a success to the next compaction. At first it is the whole period, so that
    /// samples of that age exist.
    base: Duration,
}

/// Keeps a number of revisions.
#[derive(Debug)]
struct Revision {
    /// Number of revisions that stay readable.
    retention: i64,
    compacted: i64,
}

impl Compactor {
    /// A compactor whose first period begins `now`.
    fn new(what: AutoCompaction, now: Instant) -> Compactor {
        match what {
            AutoCompaction::Periodic(period) => Compactor::Periodic(Periodic {
                period,
                samples: VecDeque::new(),
                compacted: 0,
                compacted_at: now,
                base: period,
            }),
            AutoCompaction::Revision(retention) => {
                Compactor::Revision(Revision { retention, compacted: 0 })
            }
        }
    }

    /// The pause between [`Compactor::sample`] and [`Compactor::due`].
    fn interval(&self) -> Duration {
        match self {
            Compactor::Periodic(periodic) => periodic.interval(),
            Compactor::Revision(_) => REVISION_INTERVAL,
        }
    }

    /// Notes the key space's revision. Must come before each pause.
    fn sample(&mut self, revision: i64) {
        if let Compactor::Periodic(periodic) = self {
            periodic.samples.push_back(revision);
            if periodic.retentions() < periodic.samples.len() {
                periodic.samples.pop_front();
            }
        }
    }

    /// After the pause: the revision to compact now, if one is due. `revision` is the key space's.
    fn due(&self, now: Instant, revision: i64) -> Option<i64> {
        match self {
            Compactor::Periodic(periodic) => {
                let oldest = *periodic.samples.front()?;
                let waited = now.saturating_duration_since(periodic.compacted_at);
                let is_due = periodic.base <= waited && oldest != periodic.compacted;
                is_due.then_some(oldest)
            }
            Compactor::Revision(by) => {
                let wanted = revision.saturating_sub(by.retention);
                (0 < wanted && wanted != by.compacted).then_some(wanted)
            }
        }
    }

    /// Notes that a compaction has succeeded. Without this, it is due again after the next pause.
    fn done(&mut self, revision: i64, now: Instant) {
        match self {
            Compactor::Periodic(periodic) => {
                (periodic.compacted, periodic.compacted_at) = (revision, now);
                periodic.base = periodic.period.min(INTERVAL_MAX);
            }
            Compactor::Revision(by) => by.compacted = revision,
        }
    }

    fn log_start(&self, revision: i64) {
        match self {
            Compactor::Periodic(Periodic { period, .. }) => {
                tracing::info!(revision, "compact-period" = ?period, "starting auto periodic compaction");
            }
            Compactor::Revision(Revision { retention, .. }) => tracing::info!(
                revision,
                "revision-compaction-retention" = retention,
                "starting auto revision compaction"
            ),
        }
    }

    fn log_end(&self, revision: i64, took: Duration) {
        match self {
            Compactor::Periodic(Periodic { period, .. }) => tracing::info!(
                revision,
                "compact-period" = ?period,
                ?took,
                "completed auto periodic compaction"
            ),
            Compactor::Revision(Revision { retention, .. }) => tracing::info!(
                revision,
                "revision-compaction-retention" = retention,
                ?took,
                "completed auto revision compaction"
            ),
        }
    }

    fn log_failure(&self, revision: i64, error: Error) {
        let retry = self.interval();
        match self {
            Compactor::Periodic(Periodic { period, .. }) => tracing::warn!(
                revision,
                "compact-period" = ?period,
                "retry-interval" = ?retry,
                ?error,
                "failed auto periodic compaction"
            ),
            Compactor::Revision(Revision { retention, .. }) => tracing::warn!(
                revision,
                "revision-compaction-retention" = retention,
                "retry-interval" = ?retry,
                ?error,
                "failed auto revision compaction"
            ),
        }
    }
}

impl Periodic {
    fn interval(&self) -> Duration {
        (self.period.min(INTERVAL_MAX) / TRIES).max(Duration::from_millis(1))
    }

    /// Number of samples that reach back one period (etcd: getRetentions).
    fn retentions(&self) -> usize {
        let samples = self.period.as_nanos() / self.interval().as_nanos() + 1;
        usize::try_from(samples).unwrap_or(usize::MAX)
    }
}

/// Compacts while this member leads, for as long as it runs.
pub(crate) async fn run(kv: Arc<KvServer>, what: AutoCompaction) {
    let mut compactor = Compactor::new(what, clock::now());
    loop {
        compactor.sample(kv.store.revision());
        tokio::time::sleep(compactor.interval()).await;
        if !kv.proposer.leads() {
            continue;
        }
        let start = clock::now();
        let Some(revision) = compactor.due(start, kv.store.revision()) else { continue };
        compactor.log_start(revision);
        // Kept always, because there is usually one in an hour.
        let id = kv.proposer.ids.of_member(true);
        let request = CompactionRequest { revision, physical: false };
        match Internal::AutoCompact.request(id, kv.compact(id, request)).await {
            Ok(_) | Err(Error::Compacted) => {
                let now = clock::now();
                compactor.log_end(revision, now.saturating_duration_since(start));
                compactor.done(revision, now);
            }
            Err(error) => compactor.log_failure(revision, error),
        }
    }
}

#[cfg(test)]
mod tests;
