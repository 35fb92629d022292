//! Background work of members: compacting old revisions, resuming that after a kill, carrying
//! leases over a change of leader, and ending streams when there is no leader.
//!
//! Where etcd 3.5.1 has the feature, it runs the same test, so that the test claims no more than
//! etcd does.

mod auto_compaction;
mod checkpoints;
mod heal;
mod members;
mod no_leader;
mod restore;
mod resume;
mod snapshots;

use std::time::Duration;

use glass_etcd::pb::etcdserverpb::{HashKvRequest, HashKvResponse};

use crate::{client::eventually, cluster::Cluster};

/// Enough for a step that takes a second or two.
const SOON: Duration = Duration::from_secs(30);

/// The hash of one member at a revision; 0 is its newest.
async fn hash_kv(cluster: &Cluster, at: usize, revision: i64) -> Result<HashKvResponse, String> {
    let mut client = cluster.client(at);
    let hash = client.maintenance.hash_kv(HashKvRequest { revision }).await;
    Ok(hash.map_err(|status| status.to_string())?.into_inner())
}

/// Waits until all members have applied a revision, and asserts that their hashes agree.
async fn same_hashes(cluster: &Cluster, revision: i64) {
    let mut hashes = Vec::new();
    for at in 0..cluster.members.len() {
        let what = format!("m{at} has revision {revision}");
        let hash = eventually(&what, SOON, || hash_kv(cluster, at, revision)).await;
        hashes.push(hash.hash);
    }
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?} at {revision}");
}
