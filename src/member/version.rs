//! The leader decides which version the cluster has: the lowest of all members' (etcd:
//! monitorVersions).

use std::{sync::Arc, time::Duration};

use serde::Deserialize;

use super::peers;
use crate::{
    config::ETCD_VERSION,
    server::{Server, members::Member},
};

/// How often the leader checks the versions (etcd: monitorVersionInterval).
const INTERVAL: Duration = Duration::from_secs(4);

/// How long a member may take to answer with its version.
const PATIENCE: Duration = Duration::from_secs(1);

/// The cluster's version while not all members have been asked.
const LOWEST: &str = "3.0.0";

/// Major and minor version number.
type Version = (u32, u32);

/// Checks the versions periodically, and when the leadership changes, for as long as the member
/// runs.
pub async fn monitor(server: Arc<Server>) {
    let mut leadership = server.status.leadership();
    loop {
        if server.status.leader() == server.member_id {
            decide(&server).await;
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            changed = leadership.changed() => if changed.is_err() { return },
        }
    }
}

async fn decide(server: &Server) {
    let lowest = lowest(server).await;
    let now = server.members.version().as_deref().and_then(parse);
    let next = match (now, lowest) {
        (None, None) => LOWEST.to_owned(),
        (None, Some(lowest)) => text(lowest),
        (Some(now), Some(lowest)) if now < lowest => text(lowest),
        (Some(_), _) => return,
    };
    server.proposer.set_cluster_version(&next).await;
}

/// The lowest version of all members, if all of them answer.
async fn lowest(server: &Server) -> Option<Version> {
    let mut lowest = parse(ETCD_VERSION)?;
    for member in server.members.list() {
        if member.id != server.member_id {
            lowest = lowest.min(version_of(&member).await?);
        }
    }
    Some(lowest)
}

async fn version_of(member: &Member) -> Option<Version> {
    #[derive(Deserialize)]
    struct Versions {
        etcdserver: String,
    }
    for url in &member.peer_urls {
        let Some(answer) = peers::get(url, "/version", PATIENCE).await else { continue };
        let versions: Option<Versions> = serde_json::from_slice(&answer.body).ok();
        if let Some(version) = versions.and_then(|versions| parse(&versions.etcdserver)) {
            return Some(version);
        }
    }
    None
}

fn parse(version: &str) -> Option<Version> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn text((major, minor): Version) -> String {
    format!("{major}.{minor}.0")
}
