//! Logs whose end is missing: how members start from them.

use std::{
    fs::{self, OpenOptions},
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    time::Duration,
};

use super::bad_start::{copy, refused};
use crate::{
    client::eventually,
    cluster::Cluster,
    programs::{Kind, left_out},
};

/// Puts before the log is cut; the last three records are among them.
const PUTS: usize = 20;
/// Bytes of the last three entries with their frames: each is about 90 bytes.
const TAIL: u64 = 270;
/// A step that does not divide a record's length, so that the cuts fall on all its parts.
const STEP: usize = 37;

/// Goal: a tail torn off by a crash costs its own content and nothing else. Method: a backend that
/// is behind (it never commits by itself), and the log cut at many places in its last three
/// records; every start must serve exactly the puts before the cut.
#[tokio::test]
async fn a_member_starts_with_everything_before_the_cut() {
    if Kind::subject() != Kind::Glass {
        return left_out("cut logs: the backend must be held back by our flags");
    }
    let mut cluster =
        Cluster::start_with(&Kind::Glass, 1, &[("ETCD_BACKEND_BATCH_INTERVAL", "1h")]).await;
    for number in 0..PUTS {
        cluster.client(0).put(&format!("k{number:02}"), "value").await.unwrap();
    }
    cluster.kill(0);
    let whole = cluster.members[0].data_dir.clone();
    let end = end_of_records(&segment(&whole));
    let mut fewest = PUTS;
    for back in (1..TAIL).step_by(STEP) {
        let cut = whole.with_extension(format!("cut-{back}"));
        copy(&whole, &cut);
        OpenOptions::new().write(true).open(segment(&cut)).unwrap().set_len(end - back).unwrap();
        cluster.members[0].data_dir = cut;
        cluster.spawn(0);
        cluster.wait_ready(0).await;
        let all = cluster.client(0).everything(true).await.unwrap();
        let keys: Vec<String> =
            all.kvs.iter().map(|pair| String::from_utf8_lossy(&pair.key).into_owned()).collect();
        let expected: Vec<String> = (0..keys.len()).map(|number| format!("k{number:02}")).collect();
        assert_eq!(keys, expected, "cut {back} bytes before the end");
        // The last record may be a commit index, which contains no put.
        assert!((PUTS - 4..=PUTS).contains(&keys.len()), "cut {back}: {} keys left", keys.len());
        fewest = fewest.min(keys.len());
        cluster.kill(0);
    }
    assert!(fewest < PUTS - 1, "the cuts went through no entries");
}

/// Goal: a member whose database is ahead of its log does not run: what it has applied may be on no
/// other disk. Method: the log cut before entries that the database has.
#[tokio::test]
async fn a_backend_ahead_of_its_log_is_refused_with_both_indexes() {
    if Kind::subject() != Kind::Glass {
        return left_out("a backend ahead of its log: etcd starts, and its revisions drift");
    }
    let mut cluster = Cluster::start(&Kind::Glass, 1).await;
    for key in ["a", "b", "c"] {
        let before = commits(&cluster);
        cluster.client(0).put(key, "value").await.unwrap();
        eventually("the backend commits", Duration::from_secs(10), || async {
            let now = commits(&cluster);
            if before < now { Ok(()) } else { Err(format!("{now} commits")) }
        })
        .await;
    }
    let applied = cluster.client(0).status().await.unwrap().raft_applied_index;
    cluster.kill(0);
    let segment = segment(&cluster.members[0].data_dir);
    let end = end_of_records(&segment);
    OpenOptions::new().write(true).open(&segment).unwrap().set_len(end - TAIL).unwrap();
    // The last commit may have been running before the last put: then the index is one less.
    let log_before = cluster.log(0).len();
    refused(&mut cluster, 0, &["the database has applied entry", "the wal ends at entry"]).await;
    let log = cluster.log(0)[log_before..].to_owned();
    let has = |index: u64| log.contains(&format!("has applied entry {index},"));
    assert!(has(applied) || has(applied - 1), "not at {applied}:\n{log}");
}

/// The member's only log file.
fn segment(data_dir: &Path) -> PathBuf {
    let files = fs::read_dir(data_dir.join("member/wal")).unwrap();
    let mut files: Vec<PathBuf> = files.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "wal"));
    assert_eq!(files.len(), 1);
    files.remove(0)
}

/// Offset at which the zeros begin.
fn end_of_records(segment: &Path) -> u64 {
    let bytes = fs::read(segment).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1
}

/// The member's counter of backend commits.
fn commits(cluster: &Cluster) -> u64 {
    let mut stream = TcpStream::connect(cluster.members[0].client_address()).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: glass\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("etcd_disk_backend_commit_duration_seconds_count "));
    line.unwrap().parse().unwrap()
}
