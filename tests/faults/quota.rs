//! The bytes that the quota counts, and how much fits into it.

use std::{fs, os::unix::fs::MetadataExt as _, time::Duration};

use bytes::Bytes;
use glass_etcd::pb::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, PutRequest, StatusResponse,
};
use tonic::Code;

use crate::{
    client::{Client, eventually},
    cluster::Cluster,
    compat::http::metric,
    programs::{Kind, left_out, reference},
};

use super::ledger::Ledger;

const QUOTA: i64 = 32 << 20;
const ROOM: &[(&str, &str)] = &[("ETCD_QUOTA_BACKEND_BYTES", "33554432")];
/// A page, so with its key slightly more: a careless layout would use a page per value.
const VALUE: usize = 4096;
const KEYS: usize = 100;
/// Concurrent puts. Their writes within a commit interval may exceed the quota.
const CLIENTS: usize = 8;
/// How far the file may exceed the quota: one growth step, and concurrent writes.
const STEP: i64 = 16 << 20;
const BATCH: i64 = 8 << 20;
const SOON: Duration = Duration::from_secs(20);

/// Goal: the quota measures the space on disk, and as much fits as in etcd; `Status`, `/metrics`
/// and the disk agree on it, also after a compaction and after a kill.
#[tokio::test]
async fn as_much_fits_as_in_etcd_and_the_sizes_are_those_of_the_disk() {
    let mut cluster = Cluster::start_with(&Kind::subject(), 1, ROOM).await;
    let revision = fill(&cluster).await;
    let full = settled(&cluster).await;
    check_sizes(&cluster, &full, revision);
    assert!(QUOTA * 95 / 100 < full.db_size_in_use, "in use: {}", full.db_size_in_use);
    assert!(full.db_size < QUOTA + BATCH, "the file takes {}", full.db_size);

    let compact = CompactionRequest { revision, physical: true };
    cluster.client(0).kv.compact(compact).await.unwrap();
    let few = i64::try_from(KEYS * VALUE).unwrap();
    let after = eventually("pages are free", SOON, || async {
        let status = settled(&cluster).await;
        let in_use = status.db_size_in_use;
        if in_use < full.db_size / 4 { Ok(status) } else { Err(format!("{in_use} in use")) }
    })
    .await;
    assert!(few < after.db_size_in_use, "{} for {few} bytes", after.db_size_in_use);
    // The file keeps its blocks, unless it is truncated.
    assert!(after.db_size <= full.db_size + (1 << 20), "{} of {}", after.db_size, full.db_size);

    cluster.kill(0);
    cluster.spawn(0);
    cluster.wait_ready(0).await;
    let again = settled(&cluster).await;
    let near = |new: i64, old: i64| new.abs_diff(old) < 256 << 10;
    assert!(near(again.db_size, after.db_size), "{} was {}", again.db_size, after.db_size);
    assert!(again.db_size_in_use < after.db_size_in_use + (256 << 10), "{again:?}");
    check_sizes(&cluster, &again, 1);
    let all = cluster.client(0).everything(false).await.unwrap();
    assert_eq!(all.kvs.len(), KEYS);
    for pair in &all.kvs {
        let number = std::str::from_utf8(&pair.value[..8]).unwrap().parse().unwrap();
        assert!(pair.key == key(number) && pair.value == value(number), "{:?}", pair.key);
    }
    if Kind::subject() == Kind::Glass {
        refill(&cluster, revision).await;
    }
    drop(cluster);

    if Kind::subject() != Kind::Glass {
        return left_out("how much fits into etcd: it is the subject");
    }
    let Some(etcd) = reference() else { return left_out("how much fits into etcd") };
    let theirs = fill(&Cluster::start_with(&etcd, 1, ROOM).await).await;
    println!("{revision} values of {VALUE} bytes fit, {theirs} into etcd");
    assert!(theirs <= revision, "{revision} values fit, {theirs} into etcd");
}

/// The space that the compaction has freed is usable again without a defragmentation, and the file
/// does not exceed its limit.
async fn refill(cluster: &Cluster, before: i64) {
    let mut client = cluster.client(0);
    let member_id = client.status().await.unwrap().header.unwrap().member_id;
    let end = AlarmRequest { action: 2, member_id, alarm: AlarmType::Nospace as i32 };
    client.maintenance.alarm(end).await.unwrap();
    let again = fill(cluster).await - before;
    assert!(before * 9 / 10 < again, "{again} values fit after a compaction, {before} before");
    let size = settled(cluster).await.db_size;
    let most = QUOTA + STEP + BATCH;
    assert!(size < most, "the file takes {size}, and {most} would be too much");
}

/// Puts until there is no room; returns the last revision.
async fn fill(cluster: &Cluster) -> i64 {
    let puts = (0..CLIENTS).map(|first| {
        let mut client = cluster.client(0);
        tokio::spawn(async move {
            for number in (first..).step_by(CLIENTS) {
                if put(&mut client, number).await {
                    return;
                }
            }
        })
    });
    for put in puts.collect::<Vec<_>>() {
        put.await.unwrap();
    }
    cluster.client(0).everything(false).await.unwrap().header.unwrap().revision
}

/// Puts a value; returns whether there is no room.
async fn put(client: &mut Client, number: usize) -> bool {
    let put = PutRequest { key: key(number), value: value(number), ..PutRequest::default() };
    let Err(status) = client.kv.put(put).await else { return false };
    let expected = (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded");
    assert_eq!((status.code(), status.message()), expected);
    true
}

fn key(number: usize) -> Bytes {
    format!("quota/{}", number % KEYS).into()
}

/// A value filled with its number.
fn value(number: usize) -> Bytes {
    format!("{number:08}").repeat(VALUE / 8).into()
}

/// The member's status once its commits have caught up.
async fn settled(cluster: &Cluster) -> StatusResponse {
    let mut last = StatusResponse::default();
    let deadline = glass_etcd::clock::now() + SOON;
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let status = cluster.client(0).status().await.unwrap();
        let size = |status: &StatusResponse| (status.db_size, status.db_size_in_use);
        if size(&status) == size(&last) {
            return status;
        }
        assert!(glass_etcd::clock::now() < deadline, "the size does not stay: {status:?}");
        last = status;
    }
}

/// Checks that `Status`, the metrics and the disk agree about the file.
fn check_sizes(cluster: &Cluster, status: &StatusResponse, revisions: i64) {
    let name = |name| metric(cluster, 0, name).and_then(|value| i64::try_from(value).ok());
    assert_eq!(name("etcd_mvcc_db_total_size_in_bytes"), Some(status.db_size));
    assert_eq!(name("etcd_mvcc_db_total_size_in_use_in_bytes"), Some(status.db_size_in_use));
    assert_eq!(name("etcd_server_quota_backend_bytes"), Some(QUOTA));
    assert!(status.db_size_in_use <= status.db_size, "{status:?}");
    assert!(revisions * i64::try_from(VALUE).unwrap() <= status.db_size_in_use, "{status:?}");
    let file = fs::metadata(cluster.members[0].data_dir.join("member/snap/db")).unwrap();
    let given = i64::try_from(file.blocks() * 512).unwrap();
    // The file system's own metadata about the file's blocks is included.
    let notes = given - status.db_size;
    assert!((-4096..1 << 20).contains(&notes), "{} and {given} on the disk", status.db_size);
}

/// Goal: if the disk is full when a commit writes, the member ends with a message that names the
/// file, and no acknowledged write is lost. Method: a failpoint at the file's writes.
#[tokio::test]
async fn a_full_disk_below_the_database_ends_the_member_and_loses_nothing() {
    if Kind::subject() != Kind::Glass {
        return left_out("a full disk: etcd has no failpoints of ours");
    }
    let mut cluster = Cluster::start(&Kind::Glass, 1).await;
    cluster.kill(0);
    cluster.set_env(0, &[("FAILPOINTS", "db-disk-full=100*off->return")]);
    cluster.spawn(0);
    cluster.wait_ready(0).await;
    let mut ledger = Ledger::default();
    let mut client = cluster.client(0);
    let end = loop {
        let (key, value) = (format!("k{}", ledger.len()), "v".repeat(VALUE));
        match client.put(&key, &value).await {
            Ok(revision) => ledger.add(key, value, revision),
            Err(_) => break cluster.wait_exit(0, SOON).await,
        }
    };
    assert_eq!(end.and_then(|end| end.code()), Some(1));
    let log = cluster.log(0);
    for said in ["member/snap/db has failed", "No space left on device"] {
        assert!(log.contains(said), "{said} is not said: {log}");
    }
    cluster.set_env(0, &[]);
    cluster.spawn(0);
    cluster.wait_ready(0).await;
    ledger.check_everywhere(&cluster).await;
}
