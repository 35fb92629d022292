//! Starts that must fail, with one clear line and a non-zero exit, and without harm to the others.

use std::{fs, net::TcpListener, path::Path, time::Duration};

use crate::{client::eventually, cluster::Cluster, programs::Kind};

/// How long a refused member may take to end.
const REFUSED_WITHIN: Duration = Duration::from_secs(20);

/// As many descriptors as etcd keeps for itself.
const FEW: &str = "ulimit -n 150; exec \"$0\" \"$@\"";

/// Goal: a member that cannot run says why and ends. Method: one member alone, for each reason.
#[tokio::test]
async fn a_member_that_cannot_run_says_why_and_ends() {
    let kind = Kind::subject();
    let mut taken = Cluster::prepare(&kind, 1);
    let _client = TcpListener::bind(taken.members[0].client_address()).unwrap();
    refused(&mut taken, 0, &["address already in use"]).await;

    let mut taken = Cluster::prepare(&kind, 1);
    let _peer = TcpListener::bind(("127.0.0.1", taken.members[0].peer_port)).unwrap();
    refused(&mut taken, 0, &["address already in use"]).await;

    let mut few = Cluster::prepare(&kind, 1);
    few.members[0].prefix = ["sh", "-c", FEW].map(str::to_owned).to_vec();
    refused(&mut few, 0, &["file descriptor"]).await;

    // Below a file no directory can be made, not even by root.
    let mut unwritable = Cluster::prepare(&kind, 1);
    let file = unwritable.members[0].data_dir.with_extension("file");
    fs::write(&file, "").unwrap();
    unwritable.members[0].data_dir = file.join("data");
    refused(&mut unwritable, 0, &["not a directory"]).await;
}

/// Goal: a member with the wrong data harms no other member. Method: in a running cluster of three,
/// one member comes back first with the data of another cluster, then without any.
#[tokio::test]
async fn a_member_with_the_wrong_data_is_kept_out_and_the_others_go_on() {
    let kind = Kind::subject();
    let mut cluster = Cluster::start(&kind, 3).await;
    for at in 0..3 {
        cluster.client(at).put(&format!("before/{at}"), "x").await.unwrap();
    }
    let leader = cluster.leader().await;
    let at = (leader + 1) % 3;
    cluster.kill(at);

    let own = cluster.members[at].data_dir.clone();
    let foreign = own.with_extension("foreign");
    // Three members there as well: one alone would elect itself and serve.
    let mut other = Cluster::start(&kind, 3).await;
    (0..3).for_each(|at| other.kill(at));
    copy(&other.members[0].data_dir, &foreign);
    cluster.members[at].data_dir = foreign;
    is_kept_out(&mut cluster, at).await;
    others_go_on(&cluster, at, "with the data of another cluster").await;

    cluster.members[at].data_dir = own.clone();
    fs::remove_dir_all(&own).unwrap();
    refused(&mut cluster, at, &["has already been bootstrapped"]).await;
    others_go_on(&cluster, at, "with no data").await;
}

/// Starts a member that must end by itself, with an error that contains all these words.
pub(super) async fn refused(cluster: &mut Cluster, at: usize, words: &[&str]) {
    let before = cluster.log(at).len();
    cluster.spawn(at);
    let exit = cluster.wait_exit(at, REFUSED_WITHIN).await;
    let log = cluster.log(at)[before..].to_lowercase();
    let exit = exit.unwrap_or_else(|| panic!("still runs; expected: {words:?}\n{log}"));
    assert!(!exit.success(), "{exit}; expected: {words:?}");
    assert_eq!(exit.code().map(|code| code != 101), Some(true), "panicked or was killed: {exit}");
    for word in words {
        assert!(log.contains(word), "not in the log: {word}\n{log}");
    }
}

/// etcd starts a member with foreign data, and its peers reject it; to end with a clear line is as
/// good. Either way some log names the mismatch, and the member serves nothing.
async fn is_kept_out(cluster: &mut Cluster, at: usize) {
    cluster.spawn(at);
    let mismatch = |log: String| {
        let log = log.to_lowercase();
        log.contains("cluster id mismatch") || log.contains("another cluster")
    };
    let deadline = REFUSED_WITHIN;
    eventually("the mismatch is named", deadline, || async {
        let named = (0..3).any(|at| mismatch(cluster.log(at)));
        if named { Ok(()) } else { Err("no log names it".to_owned()) }
    })
    .await;
    let mut client = cluster.client(at);
    let answer = tokio::time::timeout(Duration::from_secs(2), client.everything(false)).await;
    assert!(!matches!(answer, Ok(Ok(_))), "it serves linearizable reads");
    match cluster.exited(at) {
        Some(exit) => assert!(!exit.success(), "{exit}"),
        None => cluster.kill(at),
    }
}

async fn others_go_on(cluster: &Cluster, without: usize, what: &str) {
    for at in (0..3).filter(|at| *at != without) {
        let mut client = cluster.client(at);
        client.put(&format!("{what}/{at}"), "x").await.unwrap();
        let all = client.everything(false).await.unwrap();
        assert!(all.kvs.iter().any(|pair| pair.key.starts_with(b"before/")), "{what}");
    }
}

pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
