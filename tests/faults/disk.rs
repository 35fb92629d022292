//! Power failures and crashes inside a commit, by failpoints of our own server.
//!
//! SIGKILL leaves the page cache intact, so it proves nothing about fsync. With `disk-lossy` the
//! WAL's file layer holds unsynced bytes back: a kill then loses them, as a power failure would.
//! With `wal-skip-fsync` in addition the WAL pretends to fsync, and the test must notice.

use std::time::Duration;

use glass_etcd::pb::etcdserverpb::{PutRequest, RequestOp, TxnRequest, request_op::Request};

use super::ledger::Ledger;
use crate::{
    cluster::Cluster,
    programs::{Kind, left_out},
};

/// Puts before the power fails.
const PUTS: usize = 100;
/// Txns within which a failpoint must fire: several hundred commits.
const TXNS_MAX: i64 = 100_000;
/// Failpoints around the transaction that stores buffer, consistent index and conf state.
const COMMIT_FAILPOINTS: [&str; 6] = [
    "backend-before-freeze",
    "backend-after-freeze",
    "backend-before-begin",
    "backend-before-commit",
    "backend-after-commit",
    "backend-before-drop-frozen",
];

/// Goal: an acknowledgement means that a majority has fsynced. Method: unsynced bytes are lost on
/// all members at once, and no acknowledged put may be missing. The counter-check: without fsync,
/// some are.
#[tokio::test]
async fn a_power_failure_loses_nothing_acknowledged_unless_fsync_is_taken_out() {
    if Kind::subject() != Kind::Glass {
        return left_out("power failure: etcd has no failpoints of ours");
    }
    let (mut cluster, ledger) = cluster_after_power_failure("disk-lossy=return").await;
    for at in 0..3 {
        cluster.spawn(at);
    }
    for at in 0..3 {
        cluster.wait_ready(at).await;
    }
    ledger.check_everywhere(&cluster).await;
    drop(cluster);

    let lying = "disk-lossy=return;wal-skip-fsync=return";
    let (mut cluster, ledger) = cluster_after_power_failure(lying).await;
    (0..3).for_each(|at| cluster.spawn(at));
    assert!(has_lost(&mut cluster, &ledger).await, "nothing was lost: the test proves nothing");
}

/// Writes, then kills all members at once. They will start without failpoints.
async fn cluster_after_power_failure(failpoints: &str) -> (Cluster, Ledger) {
    let mut cluster = Cluster::start_with(&Kind::Glass, 3, &[("FAILPOINTS", failpoints)]).await;
    let mut ledger = Ledger::default();
    for number in 0..PUTS {
        let (key, value) = (format!("k{number}"), format!("v{number}"));
        let revision = cluster.client(number % 3).put(&key, &value).await.unwrap();
        ledger.add(key, value, revision);
    }
    for at in 0..3 {
        cluster.kill(at);
        cluster.set_env(at, &[]);
    }
    (cluster, ledger)
}

/// Whether the cluster comes up with puts missing, or a majority refuses to start because its file
/// is ahead of its log.
async fn has_lost(cluster: &mut Cluster, ledger: &Ledger) -> bool {
    for _ in 0..500 {
        for at in 0..3 {
            if let Ok(state) = cluster.client(at).everything(false).await {
                return !ledger.missing_in(&state).is_empty();
            }
        }
        let ended = |cluster: &mut Cluster, at| {
            cluster.exited(at).is_some_and(|exit| !exit.success() && exit.code() != Some(101))
        };
        let refused = (0..3).filter(|at| ended(cluster, *at)).count();
        if refused != 0 {
            // The error must be about the log, not a bad flag.
            let complains = |at| cluster.log(at).to_lowercase().contains("wal");
            return (0..3).any(complains);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("neither serves nor ends");
}

/// Goal: data and consistent index are stored together, wherever the process dies. Method: one
/// member dies in its fourth backend commit, at each failpoint in turn, while txns of two puts are
/// written; after the restart every acknowledged txn is there once and whole. Data without its
/// index would be applied again (version 2, more revisions than txns); an index without its data
/// would lose txns.
#[tokio::test]
async fn a_crash_inside_a_backend_commit_keeps_data_and_index_together() {
    if Kind::subject() != Kind::Glass {
        return left_out("crash in a commit: etcd has no failpoints of ours");
    }
    let mut cluster = Cluster::start(&Kind::Glass, 1).await;
    let mut txns = 0;
    for point in COMMIT_FAILPOINTS {
        // Armed from the second start on: the test is not about the commits of the bootstrap.
        cluster.kill(0);
        let failpoints = format!("{point}=3*off->panic");
        cluster.set_env(0, &[("FAILPOINTS", &failpoints)]);
        cluster.spawn(0);
        cluster.wait_ready(0).await;
        let acknowledged = write_until_it_dies(&mut cluster, point, txns).await;
        cluster.set_env(0, &[]);
        cluster.spawn(0);
        cluster.wait_ready(0).await;
        let state = cluster.client(0).everything(false).await.unwrap();
        txns = i64::try_from(state.kvs.len()).unwrap() / 2;
        // The txn in flight may have reached the log.
        let expected = acknowledged..=acknowledged + 1;
        assert!(expected.contains(&txns), "{point}: {txns} txns, {acknowledged} acknowledged");
        assert_eq!(state.header.unwrap().revision, txns + 1, "{point}");
        for (number, pair) in state.kvs.iter().enumerate() {
            let revision = i64::try_from(number).unwrap() / 2 + 2;
            let seen = (pair.create_revision, pair.mod_revision, pair.version);
            assert_eq!(seen, (revision, revision, 1), "{point}: {pair:?}");
        }
    }
}

/// Writes txns one after the other; returns how many were acknowledged, including earlier ones.
async fn write_until_it_dies(cluster: &mut Cluster, point: &str, before: i64) -> i64 {
    let mut client = cluster.client(0);
    for number in before..before + TXNS_MAX {
        let put = |half: &str| RequestOp {
            request: Some(Request::RequestPut(PutRequest {
                key: format!("{number:08}/{half}").into(),
                ..Default::default()
            })),
        };
        let txn = TxnRequest { success: vec![put("a"), put("b")], ..Default::default() };
        match client.kv.txn(txn).await {
            Ok(response) => {
                let revision = response.into_inner().header.unwrap().revision;
                assert_eq!(revision, number + 2, "{point}");
            }
            Err(status) => {
                let exit = cluster.wait_exit(0, Duration::from_secs(10)).await;
                assert!(exit.is_some(), "{point}: {status}, and the process lives");
                return number;
            }
        }
    }
    panic!("{point} never fires")
}
