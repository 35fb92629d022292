//! Disks that are full, or that fail a sync, below one member of three.

use std::time::Duration;

use super::ledger::Ledger;
use crate::{
    client::eventually,
    cluster::Cluster,
    programs::{Kind, left_out},
};

const SOON: Duration = Duration::from_secs(30);

/// Snapshots come often, and few entries stay for followers.
const OFTEN: [(&str, &str); 2] =
    [("ETCD_SNAPSHOT_COUNT", "60"), ("ETCD_EXPERIMENTAL_SNAPSHOT_CATCHUP_ENTRIES", "5")];

/// The failpoint, the exit code if the member ends there, and what its log says.
type Case = (&'static str, Option<i32>, &'static [&'static str]);

const FULL: &str = "No space left on device";

/// Where a member writes while it runs. What has its acknowledgement in it ends the member, because
/// nobody knows what the disk has. A snapshot only costs its file: the log keeps its entries, or
/// the leader sends another.
const CASES: [Case; 8] = [
    ("wal-disk-full=20*off->return", Some(1), &["writing ", "/member/wal/", FULL]),
    (
        "wal-fsync-error=20*off->return",
        Some(1),
        &["syncing ", "/member/wal/", "Input/output error"],
    ),
    ("db-disk-full=60*off->return", Some(1), &["member/snap/db has failed: ", FULL]),
    ("snap-disk-full=return", None, &["no snapshot was made: writing failed: ", ".snap.tmp", FULL]),
    ("snapshot-after-commit=panic", Some(101), &[]),
    ("snapshot-after-file=panic", Some(101), &[]),
    ("wal-before-fsync=sleep(30)", None, &[]),
    ("received-disk-full=2*return->off", None, &["its snapshot was not taken", "received-", FULL]),
];

/// Goal: a member whose disk fails stops, or continues without what it could not write, says so in
/// one line with the file, and loses nothing that was acknowledged. Method: one follower fails at
/// each place in turn while puts go on; it is started again without failpoints.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_anywhere_stops_its_member_or_costs_a_file_and_no_write() {
    if Kind::subject() != Kind::Glass {
        return left_out("full disks: etcd has no failpoints of ours");
    }
    let mut cluster = Cluster::start_with(&Kind::Glass, 3, &OFTEN).await;
    let mut ledger = Ledger::default();
    for (failpoint, code, said) in CASES {
        let leader = cluster.leader().await;
        let victim = (leader + 1) % 3;
        cluster.kill(victim);
        if failpoint.starts_with("received") {
            // It falls behind the log of its leader.
            puts(&cluster, leader, &mut ledger, 150).await;
        }
        let env: Vec<_> = OFTEN.into_iter().chain([("FAILPOINTS", failpoint)]).collect();
        cluster.set_env(victim, &env);
        cluster.spawn(victim);
        puts(&cluster, leader, &mut ledger, 150).await;
        if let Some(code) = code {
            let (mut end, deadline) = (None, glass_etcd::clock::now() + SOON);
            while end.is_none() && glass_etcd::clock::now() < deadline {
                puts(&cluster, leader, &mut ledger, 20).await;
                end = cluster.exited(victim);
            }
            assert_eq!(end.and_then(|end| end.code()), Some(code), "{failpoint}");
        }
        eventually(&format!("{failpoint}: it says so in one line"), SOON, async || {
            let log = cluster.log(victim);
            let says = |line: &str| said.iter().all(|part| line.contains(part));
            if said.is_empty() || log.lines().any(says) { Ok(()) } else { Err(log) }
        })
        .await;
        if code.is_none() {
            cluster.wait_ready(victim).await;
            ledger.check_everywhere(&cluster).await;
            cluster.kill(victim);
        }
        cluster.set_env(victim, &OFTEN);
        cluster.spawn(victim);
        cluster.wait_ready(victim).await;
        ledger.check_everywhere(&cluster).await;
    }
}

async fn puts(cluster: &Cluster, at: usize, ledger: &mut Ledger, count: usize) {
    let mut client = cluster.client(at);
    for _ in 0..count {
        let (key, value) = (format!("d{}", ledger.len()), format!("v{}", ledger.len()));
        let revision = client.put(&key, &value).await.unwrap();
        ledger.add(key, value, revision);
    }
}
