//! Streams that require a leader, `hasleader: true` (etcd: `monitorLeader`).
//!
//! A single request of that kind is refused at once if the member knows no leader. A stream is open
//! for a long time, and an election is no reason to end it; but if there is still no leader after
//! three election timeouts, its client should look for another member.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};
use tonic::metadata::MetadataMap;

use super::interceptor::wants_leader;
use crate::server::Server;

/// Election timeouts in a row without a leader that end a stream (etcd: maxNoLeaderCnt).
const MISSED_MAX: u32 = 3;

/// Checks whether the member knows a leader, for one stream.
pub struct LeaderCheck {
    ticks: Option<Interval>,
    missed: u32,
}

impl LeaderCheck {
    /// A check for a stream that was opened with this metadata.
    pub fn new(server: &Server, metadata: &MetadataMap) -> LeaderCheck {
        LeaderCheck {
            ticks: wants_leader(metadata).then(|| ticks(server.settings.election)),
            missed: 0,
        }
    }

    /// Returns when there was no leader for three election timeouts; never for a stream that
    /// requires none. Cancel-safe.
    pub async fn lost(&mut self, server: &Server) {
        while self.missed < MISSED_MAX {
            tick(&mut self.ticks).await;
            self.missed = if server.status.leader() == 0 { self.missed + 1 } else { 0 };
        }
    }
}

/// Ticks that start one period from now.
pub fn ticks(period: Duration) -> Interval {
    let mut ticks = interval(period);
    // The first tick would come at once.
    ticks.reset();
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Waits for the next tick; for ever if `ticks` is `None`.
pub async fn tick(ticks: &mut Option<Interval>) {
    match ticks {
        Some(ticks) => _ = ticks.tick().await,
        None => std::future::pending().await,
    }
}
