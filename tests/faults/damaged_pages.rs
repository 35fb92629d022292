//! Pages of the database that a disk has lost, and the member that comes across them.

use std::{
    fs,
    os::unix::fs::FileExt as _,
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use glass_etcd::{
    clock,
    pb::etcdserverpb::{HashKvRequest, PutRequest},
};

use super::bad_start::copy;
use crate::{
    client::Client,
    cluster::Cluster,
    programs::{Kind, left_out},
};

const PAGE: u64 = 4096;
/// How many of the file's pages are lost, one at a time.
const TRIES: u64 = 40;
/// A member that comes across the page has ended by then, or serves.
const PATIENCE: Duration = Duration::from_secs(20);

/// Goal: a malformed page ends the member with the file's name and a way out, and the way out
/// works. Method: one page after the other is filled with zeros in a copy; the last one that ended
/// the member is repaired as its message says.
#[tokio::test]
async fn a_lost_page_of_the_database_is_named_and_the_log_replaces_it() {
    if Kind::subject() != Kind::Glass {
        return left_out("pages of the database: etcd's has others");
    }
    let mut cluster = Cluster::start(&Kind::Glass, 1).await;
    let mut client = cluster.client(0);
    for number in 0..200 {
        let (key, value) = (Bytes::from(format!("k{number:03}")), Bytes::from(vec![7; 2000]));
        client.kv.put(PutRequest { key, value, ..PutRequest::default() }).await.unwrap();
    }
    let whole = hash(&mut client).await;
    cluster.terminate(0);
    cluster.wait_exit(0, PATIENCE).await.expect("it ends after SIGTERM");
    let good = cluster.members[0].data_dir.clone();
    let pages = fs::metadata(good.join("member/snap/db")).unwrap().len() / PAGE;
    let mut ended = None;
    for at in 0..TRIES {
        let data = good.with_extension(format!("page-{at}"));
        copy(&good, &data);
        lose(&data, at * pages / TRIES);
        cluster.members[0].data_dir = data.clone();
        let before = cluster.log(0).len();
        if serves(&mut cluster).await {
            cluster.kill(0);
        } else {
            names_a_way_out(&cluster.log(0)[before..]);
            ended = Some(data);
        }
    }
    let data = ended.expect("no page was missed");
    fs::remove_file(data.join("member/snap/db")).unwrap();
    cluster.members[0].data_dir = data;
    cluster.spawn(0);
    cluster.wait_ready(0).await;
    assert_eq!(hash(&mut cluster.client(0)).await, whole);
}

fn lose(data: &Path, page: u64) {
    let file = fs::OpenOptions::new().write(true).open(data.join("member/snap/db")).unwrap();
    file.write_all_at(&[0; PAGE as usize], page * PAGE).unwrap();
}

/// Starts the member, and says whether it gets as far as to serve. If not, it ends as it should.
async fn serves(cluster: &mut Cluster) -> bool {
    cluster.spawn(0);
    let until: Instant = clock::now() + PATIENCE;
    while clock::now() < until {
        if let Some(exit) = cluster.exited(0) {
            assert_eq!(exit.code(), Some(1), "{}", cluster.log(0));
            return false;
        }
        if cluster.client(0).everything(false).await.is_ok() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it neither serves nor ends: {}", cluster.log(0));
}

fn names_a_way_out(log: &str) {
    assert!(!log.contains("panicked") && !log.contains("stack backtrace"), "{log}");
    assert!(log.contains("member/snap/db"), "no file: {log}");
}

async fn hash(client: &mut Client) -> u32 {
    client.maintenance.hash_kv(HashKvRequest::default()).await.unwrap().into_inner().hash
}
