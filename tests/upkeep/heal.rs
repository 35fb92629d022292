//! A member with a damaged database, whose log has lost its beginning, is healed by another one.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use glass_etcd::pb::etcdserverpb::{AlarmRequest, AlarmType};
use tonic::Code;

use super::{SOON, same_hashes};
use crate::{
    client::eventually,
    cluster::Cluster,
    programs::{Kind, left_out},
};

/// Snapshots come often, segments are short, and old ones go at once.
const SHORT: &[(&str, &str)] = &[
    ("ETCD_SNAPSHOT_COUNT", "100"),
    ("ETCD_EXPERIMENTAL_SNAPSHOT_CATCHUP_ENTRIES", "10"),
    ("ETCD_MAX_WALS", "1"),
    ("FAILPOINTS", "wal-segment-bytes=return(40000);purge-every-ms=return(200)"),
];

/// Runs `glass utl drop-database`, and returns whether it has, and what it says.
fn drop_database(data_dir: &Path, peers: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_glass"));
    command.args(["utl", "drop-database", "--data-dir"]).arg(data_dir);
    let output = command.args(peers).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

/// Disarms the one alarm that the damaged member has raised at its refused start.
async fn disarm(cluster: &Cluster, at: usize) {
    let (mut client, alarm) = (cluster.client(at), AlarmType::Corrupt as i32);
    let refused = client.put("while/it/is/raised", "1").await.unwrap_err();
    assert_eq!(refused.code(), Code::DataLoss, "{refused}");
    let all = AlarmRequest { action: 0, member_id: 0, alarm };
    let raised = client.maintenance.alarm(all).await.unwrap().into_inner().alarms;
    assert_eq!(raised.len(), 1, "{raised:?}");
    let end = AlarmRequest { action: 2, member_id: raised[0].member_id, alarm };
    client.maintenance.alarm(end).await.unwrap();
}

fn database(cluster: &Cluster, at: usize) -> PathBuf {
    cluster.members[at].data_dir.join("member/snap/db")
}

/// Puts values until the first segment of this member is gone.
async fn outgrow(cluster: &Cluster, through: usize, at: usize) -> i64 {
    let first = "0000000000000000-0000000000000000.wal";
    let first = cluster.members[at].data_dir.join("member/wal").join(first);
    let (mut client, mut revision) = (cluster.client(through), 0);
    for number in 0..4000 {
        let value = format!("{number:04}").repeat(100);
        revision = client.put(&format!("h/{}", number % 50), &value).await.unwrap();
        if 300 < number && !first.exists() {
            break;
        }
    }
    eventually("the first segment is gone", SOON, async || {
        if first.exists() { Err("it is there".to_owned()) } else { Ok(()) }
    })
    .await;
    revision
}

/// Goal: the advice of a member that refuses its damaged database can be followed by a command, and
/// ends in a member with everything, whose log it keeps. A database that nobody could make anew
/// stays. Method: zeros in the file of a follower whose first segments are gone; the command
/// without and with another member; then the same without one that runs, and with the member's own
/// log cut short.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_database_is_dropped_by_a_command_and_given_anew_by_another_member() {
    if Kind::subject() != Kind::Glass {
        return left_out("healing by other members: etcd has no way to do that");
    }
    let mut cluster = Cluster::start_with(&Kind::Glass, 3, SHORT).await;
    let leader = cluster.leader().await;
    let bad = (leader + 1) % 3;
    let last = outgrow(&cluster, leader, bad).await;
    let (db, data_dir) = (database(&cluster, bad), cluster.members[bad].data_dir.clone());
    let (dropped, said) = drop_database(&data_dir, &[]);
    assert!(!dropped && said.contains("is in use"), "{said}");
    cluster.terminate(bad);
    cluster.wait_exit(bad, SOON).await.expect("it ends after SIGTERM");
    fs::write(&db, [0; 64 << 10]).unwrap();
    cluster.spawn(bad);
    let end = cluster.wait_exit(bad, SOON).await.expect("it refuses to start");
    let log = cluster.log(bad);
    assert_eq!(end.code(), Some(1), "{log}");
    assert!(log.contains("glass utl drop-database") && log.contains("another member"), "{log}");
    assert!(log.contains("raised the alarm CORRUPT"), "{log}");
    disarm(&cluster, leader).await;
    let (dropped, said) = drop_database(&data_dir, &[]);
    assert!(!dropped && said.contains("the log begins with entry "), "{said}");
    let stranger = "--peer-urls=http://127.0.0.1:1";
    let (dropped, said) = drop_database(&data_dir, &[stranger]);
    assert!(!dropped && said.contains("no member of cluster "), "{said}");
    assert!(db.exists(), "it stays while nothing makes it anew");
    let peers = format!("--peer-urls={}", cluster.members[leader].peer_url());
    let (dropped, said) = drop_database(&data_dir, &[&peers]);
    assert!(dropped && said.contains("db.dropped"), "{said}");
    assert!(!db.exists() && db.with_extension("dropped").exists());
    cluster.spawn(bad);
    cluster.wait_ready(bad).await;
    same_hashes(&cluster, last).await;
    let log = cluster.log(bad);
    assert!(log.contains("another member has given its database"), "{log}");
    let last = cluster.client(bad).put("after", "1").await.unwrap();
    same_hashes(&cluster, last).await;
    alone_it_refuses_and_behind_it_takes_the_log_over(&mut cluster, bad, leader).await;
}

/// While no other member runs, the member refuses in words. A database that is ahead of its log
/// takes the log's place, also if the member is killed before the log says so.
async fn alone_it_refuses_and_behind_it_takes_the_log_over(
    cluster: &mut Cluster,
    bad: usize,
    leader: usize,
) {
    cluster.kill(bad);
    let last = cluster.client(leader).put("while/it/is/away", "1").await.unwrap();
    fs::remove_file(database(cluster, bad)).unwrap();
    let others = [(bad + 1) % 3, (bad + 2) % 3];
    others.iter().for_each(|at| cluster.pause(*at));
    others.iter().for_each(|at| cluster.kill(*at));
    cluster.spawn(bad);
    let end = cluster.wait_exit(bad, SOON).await.expect("nobody gives it a database");
    let log = cluster.log(bad);
    assert_eq!(end.code(), Some(1), "{log}");
    assert!(log.contains("no other member has given its database (http://"), "{log}");
    others.iter().for_each(|at| cluster.spawn(*at));
    for at in others {
        cluster.wait_ready(at).await;
    }
    let killed: Vec<(&str, &str)> = SHORT[..3]
        .iter()
        .copied()
        .chain([("FAILPOINTS", "wal-segment-bytes=return(40000);heal-before-record=panic")])
        .collect();
    cluster.set_env(bad, &killed);
    cluster.spawn(bad);
    cluster.wait_exit(bad, SOON).await.expect("it is killed before the log has the record");
    cluster.set_env(bad, SHORT);
    cluster.spawn(bad);
    cluster.wait_ready(bad).await;
    same_hashes(cluster, last).await;
    // What it was given is durable.
    cluster.kill(bad);
    cluster.spawn(bad);
    cluster.wait_ready(bad).await;
    let last = cluster.client(bad).put("at/the/end", "1").await.unwrap();
    same_hashes(cluster, last).await;
}
