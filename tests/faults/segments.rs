//! A log whose next segment cannot be created.

use std::{fs, path::PathBuf, time::Duration};

use super::bad_start::copy;
use crate::{
    client::eventually,
    cluster::Cluster,
    programs::{Kind, left_out, reference},
};

const SHORT: &[(&str, &str)] = &[("FAILPOINTS", "wal-segment-bytes=return(200000)")];

fn segments(cluster: &Cluster) -> Vec<PathBuf> {
    let files = fs::read_dir(cluster.members[0].data_dir.join("member/wal")).unwrap();
    let mut files: Vec<PathBuf> = files.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "wal"));
    files.sort();
    files
}

/// Puts `count` values of this length to ten keys.
async fn put(cluster: &Cluster, count: usize, len: usize) {
    let (mut client, value) = (cluster.client(0), "v".repeat(len));
    for number in 0..count {
        client.put(&format!("k{}", number % 10), &value).await.unwrap();
    }
}

/// Goal: a segment that cannot be created costs no write and no member. Method: a directory is in
/// its place; a megabyte of puts; then the directory is removed.
#[tokio::test]
async fn a_member_writes_on_while_its_next_segment_cannot_be_made() {
    if Kind::subject() != Kind::Glass {
        return left_out("a segment that cannot be made ends an etcd");
    }
    let mut cluster = Cluster::start_with(&Kind::Glass, 1, SHORT).await;
    let obstacle = cluster.members[0].data_dir.join("member/wal/1.tmp");
    fs::create_dir(&obstacle).unwrap();
    put(&cluster, 100, 10_000).await;
    assert_eq!(segments(&cluster).len(), 1);
    let log = cluster.log(0);
    let told = "the log's next segment cannot be prepared";
    let line = log.lines().find(|line| line.contains(told)).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("1.tmp") && line.contains("Is a directory"), "{line}");
    assert_eq!(log.matches(told).count(), 1, "{log}");
    fs::remove_dir(&obstacle).unwrap();
    eventually("the next segment comes", Duration::from_secs(30), || async {
        put(&cluster, 1, 10).await;
        if 1 < segments(&cluster).len() { Ok(()) } else { Err("one segment".to_owned()) }
    })
    .await;
    let before = cluster.client(0).everything(false).await.unwrap();
    cluster.kill(0);
    cluster.spawn(0);
    cluster.wait_ready(0).await;
    let after = cluster.client(0).everything(false).await.unwrap();
    assert_eq!((before.kvs, before.count), (after.kvs, 10));
}

/// Goal: a segment that has grown past its size is still in etcd's format. Method: 70 MB in one
/// segment, and a real etcd on a copy of the log, which must have the same keys and revisions.
#[tokio::test]
async fn etcd_reads_a_segment_that_has_grown() {
    let Some(etcd) = reference() else { return left_out("etcd on a long segment: no etcd 3.5") };
    if Kind::subject() != Kind::Glass {
        return left_out("etcd on a long segment of ours");
    }
    let mut cluster = Cluster::start(&Kind::Glass, 1).await;
    fs::create_dir(cluster.members[0].data_dir.join("member/wal/1.tmp")).unwrap();
    put(&cluster, 70, 1_000_000).await;
    let ours = cluster.client(0).everything(false).await.unwrap();
    cluster.kill(0);
    let [segment] = &segments(&cluster)[..] else { panic!("one segment") };
    assert!(64_000_000 < fs::metadata(segment).unwrap().len());
    let data_dir = cluster.members[0].data_dir.with_extension("etcd");
    copy(&cluster.members[0].data_dir.join("member/wal"), &data_dir.join("member/wal"));
    fs::remove_dir(data_dir.join("member/wal/1.tmp")).unwrap();
    (cluster.members[0].kind, cluster.members[0].data_dir) = (etcd, data_dir);
    cluster.spawn(0);
    cluster.wait_ready(0).await;
    let theirs = cluster.client(0).everything(false).await.unwrap();
    assert!(ours.kvs == theirs.kvs, "the same keys, values and revisions");
    cluster.client(0).put("and it", "goes on").await.unwrap();
}
