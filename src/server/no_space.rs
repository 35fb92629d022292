//! The alarm of a member whose backend is full (etcd: `quotaAlarmer`, and the end of `apply`).
//!
//! ```text
//!   check_quota: a write is refused ─┐             ┌─▶ Alarm(Activate) ──▶ raft ··· apply
//!   apply: an entry finds no room ───┴─▶ NoSpace ──┘        │
//!                     the write is answered "no space" ◀────┘
//! ```
//!
//! Members may have different quotas, and files of different sizes. So both the member that gets a
//! request and every member that applies its entry look for room, and each raises its own alarm.
//!
//! Invariant: at most one proposal of the alarm is in flight, and none while the alarm is raised,
//! however many writes are refused. A full cluster must not fill its log as well. (etcd proposes
//! one for each write.) As in etcd, a write is answered after the alarm is raised, or has failed to
//! be.

use std::sync::Arc;

use super::{Error, command::Command, internal::Internal, propose::Proposer};
use crate::pb::etcdserverpb::{AlarmRequest, AlarmType, alarm_request::AlarmAction};

impl Proposer {
    /// Raises this member's NOSPACE alarm. Returns when it is raised or has failed to be.
    pub(super) async fn raise_no_space(&self) {
        let mut answered = self.no_space.answered.subscribe();
        if self.alarms.has(AlarmType::Nospace, self.member_id) {
            return;
        }
        self.no_space.wish();
        // The sender is a part of the proposer, so the channel does not close.
        let _ = answered.changed().await;
    }

    /// Every member keeps the trace of this request: it is rare, and an operator will look for it.
    async fn propose_no_space(&self) -> Result<(), Error> {
        let (used, limit) = (self.backend.used(), self.settings.quota_bytes);
        tracing::warn!(used, limit, "the backend is full: raising the alarm");
        let id = self.ids.next(true);
        let alarm = AlarmRequest {
            action: AlarmAction::Activate as i32,
            member_id: self.member_id,
            alarm: AlarmType::Nospace as i32,
        };
        let raised = async {
            let header = self.prepare(id)?;
            self.propose(header, Command::Alarm(alarm)).await
        };
        Internal::RaiseAlarm.request(id, raised).await.map(drop)
    }
}

/// Raises the alarm when asked to, one proposal at a time, for as long as the member runs.
pub(crate) async fn run(proposer: Arc<Proposer>) {
    loop {
        proposer.no_space.wake.notified().await;
        if !proposer.alarms.has(AlarmType::Nospace, proposer.member_id)
            && let Err(error) = proposer.propose_no_space().await
        {
            // The next write that finds no room tries again.
            tracing::warn!(?error, "could not raise the alarm yet");
        }
        proposer.no_space.answered.send_modify(|answered| *answered += 1);
    }
}
