//! The steps of a member from the order to stop to its end, so that clients lose nothing.
//!
//! ```text
//!   no more connections, GOAWAY ──▶ hand the leadership over ──▶ answer what is under way
//!                                                            ──▶ last records to the observers
//! ```
//!
//! A leader hands its leadership over first (etcd: `TransferLeadership`). Without that the others
//! would notice its absence only after an election timeout. The requests of its own clients that
//! are under way wait for the new leader, are forwarded to it, and are answered. Streams, and calls
//! that wait for a lock or for a compaction, end at once: their clients continue at another member.
//! Calls under way have [`GRACE`] to be answered, and connections twice that to close; then the
//! member ends.

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};

use crate::{raft::inbox::Input, server::Server, trace::Collector};

/// How long calls under way have to be answered, and half of what connections have to close. A
/// working cluster answers in milliseconds; etcd waits for seven seconds, whenever a watch is open.
const GRACE: Duration = Duration::from_secs(2);

/// How often to check whether all proposals are answered.
const LOOK: Duration = Duration::from_millis(2);

/// Stops serving. `clients` is the client port, which ends when all its connections are closed.
pub(super) async fn leave(
    server: &Server,
    collector: &Arc<Collector>,
    clients: Pin<&mut impl Future<Output = std::io::Result<()>>>,
) {
    server.stopping.give();
    let quiet = async {
        hand_over_leadership(server).await;
        while server.proposer.wait.pending() != 0 {
            sleep(LOOK).await;
        }
    };
    let left = async {
        let _ = timeout(GRACE, quiet).await;
        collector.finish();
    };
    // Clients' connections close meanwhile, those of observers last.
    let closed = async { tokio::join!(left, clients) };
    if timeout(2 * GRACE, closed).await.is_err() {
        tracing::warn!("some clients have not read their answers in time");
    }
}

/// Returns once another member leads, or after an election timeout: the chosen voter does not
/// answer then, and the others have to elect a leader by themselves.
async fn hand_over_leadership(server: &Server) {
    let own = server.member_id;
    if server.status.leader() != own || server.proposer.peers.connected() == 0 {
        return;
    }
    let mut leadership = server.status.leadership();
    if server.proposer.inbox.offer(Input::HandOver { to: None }).is_err() {
        return;
    }
    let another = leadership.wait_for(|now| now.leader != 0 && now.leader != own);
    let patience: Duration = server.settings.election;
    match timeout(patience, another).await {
        Ok(Ok(now)) => {
            tracing::info!(leader = %format!("{:x}", now.leader), "handed the leadership over");
        }
        Ok(Err(_)) => {}
        Err(_) => tracing::warn!(?patience, "could not hand the leadership over"),
    }
}
