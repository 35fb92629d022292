//! Streams that need a leader, and end when their member has lost sight of it.
//!
//! A client that asks for a leader (clientv3.WithRequireLeader) is refused by a member without one.
//! If the member loses its leader later, streams of such clients end with "etcdserver: no leader", so
//! that the client goes to another member (etcd: newStreamInterceptor, monitorLeader). One check a
//! stream, on its own task: nothing runs for streams that did not ask.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::server::Server;

/// A member without leader for so many election timeouts ends the streams that need one
/// (etcd: maxNoLeaderCnt).
const NO_LEADER_MAX: u32 = 3;

/// Watches whether the member knows a leader, for streams that need one.
pub(super) struct LeaderCheck {
    ticks: Option<Interval>,
    missed: u32,
}

impl LeaderCheck {
    /// For a stream of this member that needs a leader, or does not.
    pub(super) fn new(server: &Server, is_wanted: bool) -> LeaderCheck {
        LeaderCheck { ticks: is_wanted.then(|| ticks(server.election())), missed: 0 }
    }

    /// Returns when there was no leader for three election timeouts. May be dropped at any time.
    pub(super) async fn lost(&mut self, server: &Server) {
        while self.missed < NO_LEADER_MAX {
            tick(&mut self.ticks).await;
            self.missed = if server.leader() == 0 { self.missed + 1 } else { 0 };
        }
    }
}

/// Ticks of this period, the first one after it.
pub(super) fn ticks(period: Duration) -> Interval {
    let mut ticks = interval(period);
    // The first tick would come at once.
    ticks.reset();
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Waits for the next tick, and for ever if there is none to come.
pub(super) async fn tick(ticks: &mut Option<Interval>) {
    match ticks {
        Some(ticks) => _ = ticks.tick().await,
        None => std::future::pending().await,
    }
}
