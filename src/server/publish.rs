//! The facts that a member publishes through the log: its name and its client URLs, and, if it
//! leads, the version of the cluster. [`command`](super::command) has their forms.

use std::{future::pending, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::sync::watch;

use super::{
    Error, command::Command, internal::Internal, members::Attributes, outcome::Response,
    propose::Proposer,
};
use crate::raft::Leadership;

/// The pause after a refused attempt.
const PAUSE: Duration = Duration::from_millis(100);

impl Proposer {
    /// Publishes this member's attributes, and retries until an attempt succeeds. The member is
    /// ready to serve once the entry has come back through the log.
    ///
    /// A proposal can be lost on its way to a leader, or with a leader, and this member notices
    /// only at the timeout. To publish twice changes nothing, so there is another attempt whenever
    /// the leader has changed, and after one election timeout, then two, then four. Earlier
    /// attempts still count.
    pub(crate) async fn publish(&self, attributes: &Attributes) {
        let mut leadership = self.status.leadership();
        let (mut attempts, mut patience) = (FuturesUnordered::new(), None);
        loop {
            tokio::select! {
                Some(result) = attempts.next() => match result {
                    Ok(_) => return,
                    Err(Error::Stopped) => return pending().await,
                    Err(error) => {
                        tracing::warn!(?error, "could not publish this member yet");
                        tokio::time::sleep(PAUSE).await;
                        patience = None;
                    }
                },
                () = until_worth_an_attempt(&mut leadership, patience) => {
                    attempts.push(self.publish_once(attributes.clone()));
                    let limit = self.settings.request_timeout;
                    let longer = |patience: Duration| (2 * patience).min(limit);
                    patience = Some(patience.map_or(self.settings.election, longer));
                }
            }
        }
    }

    /// Each attempt has its own id, because outcomes are found by it.
    async fn publish_once(&self, attributes: Attributes) -> Result<Response, Error> {
        let command = Command::SetAttributes(self.member_id, attributes);
        let id = self.ids.of_member(false);
        Internal::Publish.request(id, self.announce(id, command)).await
    }

    /// Proposes the version of the cluster. Only the leader may.
    pub(crate) async fn set_cluster_version(&self, version: &str) {
        let command = Command::SetVersion(version.to_owned());
        let id = self.ids.of_member(false);
        let proposed = Internal::SetVersion.request(id, self.announce(id, command)).await;
        if let Err(error) = proposed {
            tracing::warn!(?error, version, "could not set the cluster version yet");
        }
    }
}

/// Returns when there is a leader to publish to. After an attempt it first waits for a new leader,
/// but no longer than `patience`.
async fn until_worth_an_attempt(
    leadership: &mut watch::Receiver<Leadership>,
    patience: Option<Duration>,
) {
    if let Some(patience) = patience {
        let _ = tokio::time::timeout(patience, leadership.changed()).await;
    }
    if leadership.wait_for(|now| now.leader != 0).await.is_err() {
        // The member is stopping.
        pending::<()>().await;
    }
}
