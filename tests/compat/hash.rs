//! Maintenance.Hash: the same number on all members, and another one after each write. HashKV:
//! etcd's number, also after a compaction.

use std::time::Duration;

use bytes::Bytes;
use glass_etcd::pb::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, HashKvRequest, HashRequest, HashResponse,
};

use crate::{
    client::eventually,
    cluster::Cluster,
    programs::{self, Kind, left_out},
};

/// Goal: members agree, a write changes the hash, and the header has the revision, as with etcd.
/// Method: the same requests to both.
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

/// Goal: compacted revisions have etcd's hashes, even if compaction has removed everything. Method:
/// three histories with a compaction each, and every revision that 3.5.1 answers for. 3.5.1 refuses
/// the compacted revision itself, which must have a hash here; below that both refuse.
#[tokio::test]
async fn the_rows_after_a_compaction_have_etcds_hashes() {
    let Some(reference) = programs::reference() else {
        return left_out("hashes beside etcd: no etcd 3.5.1");
    };
    let subject = Kind::subject();
    for (history, compacted) in [("a b a -b c a", 5), ("a a -a", 3), ("a b -a -b a -a", 5)] {
        let (ours, theirs) =
            tokio::join!(Cluster::start(&subject, 1), Cluster::start(&reference, 1));
        let mut said = Vec::new();
        for cluster in [&ours, &theirs] {
            let mut client = cluster.client(0);
            for (number, step) in history.split(' ').enumerate() {
                if let Some(key) = step.strip_prefix('-') {
                    let delete = DeleteRangeRequest {
                        key: Bytes::copy_from_slice(key.as_bytes()),
                        ..Default::default()
                    };
                    client.kv.delete_range(delete).await.unwrap();
                } else {
                    client.put(step, &number.to_string()).await.unwrap();
                }
            }
            let compact = CompactionRequest { revision: compacted, physical: true };
            client.kv.compact(compact).await.unwrap();
            let mut hashes = Vec::new();
            for revision in compacted - 1..=8 {
                let hash = client.maintenance.hash_kv(HashKvRequest { revision }).await;
                hashes
                    .push(hash.map(|hash| (hash.get_ref().hash, hash.get_ref().compact_revision)));
            }
            said.push(hashes);
        }
        let [ours, theirs] = said.try_into().unwrap();
        for (at, (ours, theirs)) in ours.into_iter().zip(theirs).enumerate() {
            let what = format!("{history}, compacted {compacted}, {}", compacted + at as i64 - 1);
            match (ours, theirs) {
                (Ok((_, ours)), _) if at == 1 => assert_eq!(ours, compacted, "{what}"),
                (Ok(ours), Ok(theirs)) => assert_eq!(ours, theirs, "{what}"),
                (Err(ours), Err(theirs)) => {
                    assert_eq!(ours.message(), theirs.message(), "{what}");
                }
                (ours, theirs) => panic!("{what}: {ours:?}, etcd {theirs:?}"),
            }
        }
    }
}

/// Waits until all members report the same hash at this revision. The cluster's version and the
/// members' names are included, and are written some time after the start.
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
