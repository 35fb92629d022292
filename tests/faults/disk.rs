//! Power failures and crashes inside a commit, by failpoints of our own server.
//!
//! SIGKILL leaves the page cache intact, so it proves nothing about fsync. With `disk-lossy` the
//! WAL's file layer keeps what was not synced to itself: a kill then loses it, as a power failure
//! would. With `wal-skip-fsync` on top the WAL lies about its fsync, and the test must notice.

use std::time::Duration;

use super::ledger::Ledger;
use crate::{
    cluster::Cluster,
    programs::{Kind, left_out},
};

/// Puts before the power fails.
const PUTS: usize = 100;
/// Failpoints around the transaction that stores buffer, consistent index and conf state.
const COMMIT_FAILPOINTS: [&str; 2] = ["backend-before-commit", "backend-after-commit"];

/// Goal: an acknowledgement means that a majority has fsynced. Method: unsynced bytes are lost on
/// all members at once; nothing acknowledged may be missing. And the proof that this can fail:
/// without fsync something is.
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

/// Writes, then kills all members at once. They start without failpoints next time.
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

/// True if the cluster comes up without some of it, or a majority refuses to come up because its
/// file is ahead of its log.
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
            return (0..3).any(|at| cluster.log(at).contains("index"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("neither serves nor ends");
}

/// Goal: data and consistent index stand at one entry boundary, wherever the process dies.
/// Method: one member dies in the middle of its third backend commit, at each failpoint; after
/// the restart every acknowledged put is there once. Data without its index would be applied
/// again (version 2, more revisions than puts); an index without its data would lose puts.
#[tokio::test]
async fn a_crash_inside_a_backend_commit_keeps_data_and_index_together() {
    if Kind::subject() != Kind::Glass {
        return left_out("crash in a commit: etcd has no failpoints of ours");
    }
    for point in COMMIT_FAILPOINTS {
        // Armed only at the second start: commits of the bootstrap are not what this is about.
        let mut cluster = Cluster::start(&Kind::Glass, 1).await;
        cluster.kill(0);
        let failpoints = format!("{point}=3*off->panic");
        cluster.set_env(0, &[("FAILPOINTS", &failpoints)]);
        cluster.spawn(0);
        cluster.wait_ready(0).await;
        let mut acknowledged = 0i64;
        let mut client = cluster.client(0);
        while cluster.exited(0).is_none() {
            let key = format!("k{acknowledged:06}");
            match client.put(&key, "x").await {
                Ok(revision) => assert_eq!(revision, acknowledged + 2, "{point}"),
                Err(_) => {
                    let exit = cluster.wait_exit(0, Duration::from_secs(10)).await;
                    assert!(exit.is_some(), "{point}: a put failed and the process lives");
                    break;
                }
            }
            acknowledged += 1;
            assert!(acknowledged < 100_000, "{point} never fires");
        }
        cluster.set_env(0, &[]);
        cluster.spawn(0);
        cluster.wait_ready(0).await;
        let state = cluster.client(0).everything(false).await.unwrap();
        let count = i64::try_from(state.kvs.len()).unwrap();
        // The put that was under way may have made it into the log.
        assert!((acknowledged..=acknowledged + 1).contains(&count), "{point}: {count} keys");
        assert_eq!(state.header.unwrap().revision, count + 1, "{point}");
        for (number, pair) in (2..).zip(&state.kvs) {
            let seen = (pair.create_revision, pair.mod_revision, pair.version);
            assert_eq!(seen, (number, number, 1), "{point}: {pair:?}");
        }
    }
}
