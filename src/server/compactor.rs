//! Forgetting the past by itself: the leader compacts now and then (etcd: `v3compactor`).
//!
//! ```text
//!   periodic, 1h:   revisions every 6 minutes   12 15 19 19 23 31 40 40 41 55 60 ─▶ compact 12
//!                   (the oldest sample is what stood an hour ago)
//!   revision, 1000: every 5 minutes             compact newest − 1000
//! ```
//!
//! When to compact, and at which revision, is decided by a [`Compactor`], which knows neither clock
//! nor key space: it is told the time and the revision, so a day of it is tested in no time. The
//! compaction itself is a request like a client's, with an id of its own that every member keeps
//! the trace of.
//!
//! Invariants
//! * Every member takes samples; only the leader compacts. So a new leader knows the past already,
//!   and does not begin to wait anew.
//! * A revision counts as compacted when the cluster says so, also if somebody else was faster.
//!
//! Left out: etcd's period of less than ten nanoseconds, with which it never sleeps; here the
//! shortest pause is a millisecond.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Error, Server};
use crate::{clock, config::AutoCompaction, pb::etcdserverpb::CompactionRequest};

/// How often a compaction by revisions is due (etcd: revInterval).
const REVISION_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// The longest between two compactions by time; with a shorter period, that.
const INTERVAL_MAX: Duration = Duration::from_secs(60 * 60);

/// So often a compaction by time is tried in one interval (etcd: retryDivisor).
const TRIES: u32 = 10;

/// Decides when to compact, and what.
#[derive(Debug)]
pub enum Compactor {
    /// By time.
    Periodic(Periodic),
    /// By number of revisions.
    Revision(Revision),
}

/// Keeps what is younger than a period.
#[derive(Debug)]
pub struct Periodic {
    period: Duration,
    /// The newest revision at each of the last wake-ups, oldest first.
    samples: VecDeque<i64>,
    compacted: i64,
    compacted_at: Instant,
    /// How long after a success the next one is due: at first the whole period, so that something
    /// is that old.
    base: Duration,
}

/// Keeps so many revisions.
#[derive(Debug)]
pub struct Revision {
    retention: i64,
    compacted: i64,
}

impl Compactor {
    /// Begins at this moment.
    pub fn new(what: AutoCompaction, now: Instant) -> Compactor {
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
    pub fn interval(&self) -> Duration {
        match self {
            Compactor::Periodic(periodic) => periodic.interval(),
            Compactor::Revision(_) => REVISION_INTERVAL,
        }
    }

    /// Notes the key space's revision, before the pause.
    pub fn sample(&mut self, revision: i64) {
        if let Compactor::Periodic(periodic) = self {
            periodic.samples.push_back(revision);
            if periodic.retentions() < periodic.samples.len() {
                periodic.samples.pop_front();
            }
        }
    }

    /// After the pause: what is to be compacted now, given the key space's revision.
    pub fn due(&self, now: Instant, revision: i64) -> Option<i64> {
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

    /// It was compacted; otherwise it is due again after the next pause.
    pub fn done(&mut self, revision: i64, now: Instant) {
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

    /// So many samples reach back one period (etcd: getRetentions).
    fn retentions(&self) -> usize {
        let samples = self.period.as_nanos() / self.interval().as_nanos() + 1;
        usize::try_from(samples).unwrap_or(usize::MAX)
    }
}

/// Compacts while this member leads, for as long as it runs.
pub async fn run(server: Arc<Server>, what: AutoCompaction) {
    let mut compactor = Compactor::new(what, clock::now());
    loop {
        compactor.sample(server.store.revision());
        tokio::time::sleep(compactor.interval()).await;
        if server.status.leader() != server.member_id {
            continue;
        }
        let start = clock::now();
        let Some(revision) = compactor.due(start, server.store.revision()) else { continue };
        compactor.log_start(revision);
        // One an hour, most of the time: worth keeping each.
        let id = server.ids.next(server.sampler.keep_next(true));
        let request = CompactionRequest { revision, physical: false };
        match server.compact(id, request).await {
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
