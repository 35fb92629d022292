//! What members tell each other through the log without being asked: a member's name and client
//! URLs, and the version that the cluster has.
//!
//! Both go as etcd 3.5 sends them, as v2 requests, which every 3.5 member understands.

use std::time::Duration;

use super::{
    Server,
    members::{Attributes, hex},
};
use crate::pb::etcdserverpb::Request;

/// The pause before another try.
const PAUSE: Duration = Duration::from_millis(100);

impl Server {
    /// Publishes this member's attributes, again and again until it works. A member is ready to
    /// serve once they have come back to it through the log.
    pub async fn publish(&self, attributes: &Attributes) {
        let val = serde_json::to_string(attributes).expect("attributes are plain data");
        let path = format!("/0/members/{}/attributes", hex(self.member_id));
        loop {
            let id = self.ids.next(false);
            let request = put_request(id, path.clone(), val.clone());
            match self.propose_v2(id, &request).await {
                Ok(_) => return,
                Err(super::Error::Stopped) => return std::future::pending().await,
                Err(error) => tracing::warn!(?error, "could not publish this member yet"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Leader: proposes the cluster's version.
    pub async fn set_cluster_version(&self, version: &str) {
        let id = self.ids.next(false);
        let request = put_request(id, "/0/version".to_owned(), version.to_owned());
        if let Err(error) = self.propose_v2(id, &request).await {
            tracing::warn!(?error, version, "could not set the cluster version yet");
        }
    }

    /// The cluster version, if it is decided.
    pub fn cluster_version(&self) -> Option<String> {
        self.members.version()
    }
}

fn put_request(id: u64, path: String, val: String) -> Request {
    Request {
        id: Some(id),
        method: Some("PUT".to_owned()),
        path: Some(path),
        val: Some(val),
        ..Request::default()
    }
}
