//! Streams that want a leader, `hasleader: true` (etcd: `monitorLeader`).
//!
//! A single request of that kind is refused at once when the member knows no leader. A stream is
//! open for long, and an election is no reason to end it; but if there is still nobody after three
//! election timeouts, its client should look for another member.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};
use tonic::metadata::MetadataMap;

use super::interceptor::wants_leader;
use crate::server::Server;

/// For so many election timeouts in a row there must have been none (etcd: maxNoLeaderCnt).
const MISSED_MAX: u32 = 3;

/// Watches whether the member knows a leader, on behalf of one stream.
pub struct LeaderCheck {
    ticks: Option<Interval>,
    missed: u32,
}

impl LeaderCheck {
    /// For a stream that was opened with this metadata.
    pub fn new(server: &Server, metadata: &MetadataMap) -> LeaderCheck {
        LeaderCheck {
            ticks: wants_leader(metadata).then(|| ticks(server.settings.election)),
            missed: 0,
        }
    }

    /// Returns when there was no leader for three election timeouts; never for a stream that does
    /// not care. May be dropped and called again at any time.
    pub async fn lost(&mut self, server: &Server) {
        while self.missed < MISSED_MAX {
            tick(&mut self.ticks).await;
            self.missed = if server.status.leader() == 0 { self.missed + 1 } else { 0 };
        }
    }
}

/// Ticks from one period from now on.
pub fn ticks(period: Duration) -> Interval {
    let mut ticks = interval(period);
    // The first tick would come at once.
    ticks.reset();
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Waits for the next tick; for ever where there are none.
pub async fn tick(ticks: &mut Option<Interval>) {
    match ticks {
        Some(ticks) => _ = ticks.tick().await,
        None => std::future::pending().await,
    }
}
