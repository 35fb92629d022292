//! The alarm of a member whose backend is full (etcd: `quotaAlarmer`, and the end of `apply`).
//!
//! ```text
//!   check_quota: a write was refused ─┐             ┌─▶ Alarm(Activate) ──▶ raft ··· apply
//!   apply: an entry found no room ────┴─▶ NoSpace ──┘        │
//!                      the write is answered "no space" ◀────┘
//! ```
//!
//! There are two who find out, because members may have different quotas and files of different
//! size: the one that is asked, and every member that applies. Each raises its own alarm.
//!
//! Invariant: at most one proposal of it is on its way, and none while it stands, however many
//! writes are refused: a full cluster must not fill its log as well. (etcd proposes one for each.)
//! As in etcd a write is answered after the alarm is raised, or has failed to be.

use std::sync::Arc;

use tokio::sync::{Notify, watch};

use super::{Server, command::Command};
use crate::pb::etcdserverpb::{AlarmRequest, AlarmType, alarm_request::AlarmAction};

/// Wishes for the alarm.
#[derive(Debug, Default)]
pub struct NoSpace {
    wake: Notify,
    /// How many wishes have been seen to.
    answered: watch::Sender<u64>,
}

impl NoSpace {
    /// There is no room: this member's alarm is to be raised. Never waits.
    pub(super) fn wish(&self) {
        self.wake.notify_one();
    }
}

impl Server {
    /// Raises this member's NOSPACE alarm, and waits until that is done or has failed.
    pub(super) async fn raise_no_space(&self) {
        let mut answered = self.no_space.answered.subscribe();
        if self.alarms.has(AlarmType::Nospace, self.member_id) {
            return;
        }
        self.no_space.wish();
        // The member is its sender.
        let _ = answered.changed().await;
    }
}

/// Sees to the wishes, one proposal at a time, for as long as the member runs.
pub async fn run(server: Arc<Server>) {
    loop {
        server.no_space.wake.notified().await;
        if !server.alarms.has(AlarmType::Nospace, server.member_id) {
            raise(&server).await;
        }
        server.no_space.answered.send_modify(|answered| *answered += 1);
    }
}

/// Its story is kept by all members: it is rare, and somebody will want to know.
async fn raise(server: &Server) {
    let (used, limit) = (server.backend.used(), server.settings.quota_bytes);
    tracing::warn!(used, limit, "the backend is full: raising the alarm");
    let id = server.ids.next(true);
    let alarm = AlarmRequest {
        action: AlarmAction::Activate as i32,
        member_id: server.member_id,
        alarm: AlarmType::Nospace as i32,
    };
    if let Err(error) = server.propose(id, Command::Alarm(alarm)).await {
        // The next write that finds no room tries again.
        tracing::warn!(?error, "could not raise the alarm yet");
    }
}
