//! Maintenance.Hash: the same number on all members, and another one after each write.

use std::time::Duration;

use glass_etcd::pb::etcdserverpb::{HashRequest, HashResponse};

use crate::{
    client::eventually,
    cluster::Cluster,
    programs::{self, Kind},
};

/// Goal: members agree, a write changes the hash, and the header says at which revision; as etcd
/// does it. Method: the same on both.
#[tokio::test]
async fn all_members_hash_the_same_and_a_write_changes_it() {
    for kind in [Some(Kind::subject()), programs::reference()].into_iter().flatten() {
        let cluster = Cluster::start(&kind, 3).await;
        let mut client = cluster.client(0);
        let mut hashes = Vec::new();
        for number in 0..3 {
            let revision = client.put("a", &number.to_string()).await.unwrap();
            hashes.push(agreed(&cluster, revision).await);
        }
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 3, "{kind:?}");
    }
}

/// Waits until all members say the same at this revision. The cluster's version and the members'
/// names are in it as well, and come when they come.
async fn agreed(cluster: &Cluster, revision: i64) -> u32 {
    let members = cluster.members.len();
    eventually("the same hash", Duration::from_secs(30), || async {
        let mut hashes = Vec::new();
        for at in 0..members {
            let HashResponse { header, hash } = ask(cluster, at).await?;
            let header = header.ok_or("no header")?;
            let status = cluster.client(at).status().await.map_err(|status| status.to_string())?;
            let own = status.header.ok_or("no header")?;
            if header.revision != revision {
                return Err(format!("m{at} at {}", header.revision));
            }
            assert_eq!((header.cluster_id, header.member_id), (own.cluster_id, own.member_id));
            assert!(0 < header.raft_term);
            hashes.push(hash);
        }
        if hashes.iter().all(|hash| *hash == hashes[0]) {
            Ok(hashes[0])
        } else {
            Err(format!("{hashes:?}"))
        }
    })
    .await
}

async fn ask(cluster: &Cluster, at: usize) -> Result<HashResponse, String> {
    let hash = cluster.client(at).maintenance.hash(HashRequest {}).await;
    Ok(hash.map_err(|status| status.to_string())?.into_inner())
}
