//! What a member does between the order to stop and its end, so that the others lose nothing by it.
//!
//! A leader hands its leadership over first (etcd: `TransferLeadership`). Without that the others
//! would notice its absence only after an election timeout. Meanwhile its clients are still served:
//! their proposals wait for the new leader and are forwarded to it.

use std::time::Duration;

use tokio::time::timeout;

use crate::{raft::inbox::Input, server::Server};

/// Returns once another member leads, or when that has taken longer than an election: then the
/// voter that was chosen does not answer, and the others will find out for themselves.
pub(super) async fn hand_over_leadership(server: &Server) {
    let own = server.member_id();
    if server.leader() != own || !server.has_heard_peers() {
        return;
    }
    let mut leadership = server.leadership();
    if server.inbox().offer(Input::HandOver).is_err() {
        return;
    }
    let another = leadership.wait_for(|now| now.leader != 0 && now.leader != own);
    let patience: Duration = server.election();
    match timeout(patience, another).await {
        Ok(Ok(now)) => {
            tracing::info!(leader = %format!("{:x}", now.leader), "handed the leadership over");
        }
        Ok(Err(_)) => {}
        Err(_) => tracing::warn!(?patience, "could not hand the leadership over"),
    }
}
