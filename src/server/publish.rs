//! What members tell each other through the log without being asked: a member's name and client
//! URLs, and the version that the cluster has.
//!
//! How they are written there says [`command`](super::command).

use std::{future::pending, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::sync::watch;

use super::{Error, Server, command::Command, members::Attributes, outcome::Response};
use crate::raft::Leadership;

/// The pause behind a try that was refused.
const PAUSE: Duration = Duration::from_millis(100);

impl Server {
    /// Publishes this member's attributes, again and again until it works. A member is ready to
    /// serve once they have come back to it through the log.
    ///
    /// A publication can be lost on its way to a leader, or with one, and nobody would say so until
    /// its time is over. Publishing twice changes nothing, so there is another try whenever the
    /// leader has changed, and after an election timeout, two, four; the earlier ones still count.
    pub async fn publish(&self, attributes: &Attributes) {
        let mut leadership = self.status.leadership();
        let (mut tries, mut patience) = (FuturesUnordered::new(), None);
        loop {
            tokio::select! {
                Some(result) = tries.next() => match result {
                    Ok(_) => return,
                    Err(Error::Stopped) => return pending().await,
                    Err(error) => {
                        tracing::warn!(?error, "could not publish this member yet");
                        tokio::time::sleep(PAUSE).await;
                        patience = None;
                    }
                },
                () = worth_a_try(&mut leadership, patience) => {
                    tries.push(self.publish_once(attributes.clone()));
                    let longer = |patience: Duration| (2 * patience).min(self.settings.request_timeout);
                    patience = Some(patience.map_or(self.settings.election, longer));
                }
            }
        }
    }

    /// Each try has an id of its own, under which its outcome comes back.
    async fn publish_once(&self, attributes: Attributes) -> Result<Response, Error> {
        let command = Command::SetAttributes(self.member_id, attributes);
        self.announce(self.ids.next(false), command).await
    }

    /// Leader: proposes the cluster's version.
    pub async fn set_cluster_version(&self, version: &str) {
        let command = Command::SetVersion(version.to_owned());
        if let Err(error) = self.announce(self.ids.next(false), command).await {
            tracing::warn!(?error, version, "could not set the cluster version yet");
        }
    }
}

/// Returns when there is a leader to publish to, and, behind a try, when there is a new one or the
/// try's time is over.
async fn worth_a_try(leadership: &mut watch::Receiver<Leadership>, patience: Option<Duration>) {
    if let Some(patience) = patience {
        // Whichever comes first.
        let _ = tokio::time::timeout(patience, leadership.changed()).await;
    }
    if leadership.wait_for(|now| now.leader != 0).await.is_err() {
        // The member ends.
        pending::<()>().await;
    }
}
