//! `--auto-compaction-retention`, with real time.

use std::{collections::BTreeSet, time::Duration};

use glass_etcd::{
    story::{Event, Recording},
    trace::Stage,
};

use super::{SOON, hash_kv, same_hashes};
use crate::{
    client::eventually,
    cluster::Cluster,
    programs::{self, Kind},
    traces::listen::Listener,
};

/// A leader's log line at the start; with the word `completed` at the end.
const STARTING: &str = "starting auto periodic compaction";

/// Goal: only the leader compacts what is older than the retention; all members forget the same;
/// and the next leader continues. Method: a retention of one second, puts throughout, on ours and
/// on etcd.
#[tokio::test]
async fn the_leader_compacts_beyond_the_retention_and_so_does_the_next_one() {
    let env = [("ETCD_AUTO_COMPACTION_RETENTION", "1s")];
    for kind in [Some(Kind::subject()), programs::reference()].into_iter().flatten() {
        let mut cluster = Cluster::start_with(&kind, 3, &env).await;
        let leader = cluster.leader().await;
        let listener = match kind {
            Kind::Glass => Some(Listener::start(&cluster).await),
            Kind::Etcd(_) => None,
        };
        let first = compacted_beyond(&cluster, leader, 5).await;
        let compactors: Vec<usize> =
            (0..3).filter(|at| cluster.log(*at).contains(STARTING)).collect();
        if cluster.leader().await == leader {
            assert_eq!(compactors, [leader], "{kind:?}");
        }
        assert!(cluster.log(leader).contains("completed auto periodic compaction"), "{kind:?}");
        if let Some(listener) = listener {
            listener.until("each member tells of one compaction", is_told_by_all).await;
        }
        cluster.kill(leader);
        let next = cluster.leader().await;
        compacted_beyond(&cluster, next, first).await;
        assert!(cluster.log(next).contains(STARTING), "{kind:?}");
        cluster.spawn(leader);
        cluster.wait_ready(leader).await;
        let revision = cluster.client(next).put("last", "").await.unwrap();
        same_hashes(&cluster, revision).await;
    }
}

/// A compaction by the member itself has an id like a client's, and is proposed and applied under
/// it.
fn is_told_by_all(recording: &Recording) -> Result<(), String> {
    let of = |stage: Stage, id: u64| {
        let is_meant = move |event: &&Event| (event.stage, event.id) == (stage, id);
        recording.events.iter().filter(is_meant).map(|event| event.member).collect::<BTreeSet<_>>()
    };
    let compactions = recording.events.iter().filter(|event| event.stage == Stage::MvccCompact);
    let mut ids: Vec<u64> = compactions.map(|event| event.id).filter(|id| *id != 0).collect();
    ids.dedup();
    let told = |id: &&u64| {
        let members = [Stage::MvccCompact, Stage::ApplyEntry, Stage::RaftPropose];
        members.map(|stage| of(stage, **id).len()) == [3, 3, 1]
    };
    ids.iter().find(told).map(drop).ok_or_else(|| format!("{} compactions", ids.len()))
}

/// Puts on one member until it has compacted a revision beyond this one; returns that revision.
async fn compacted_beyond(cluster: &Cluster, at: usize, revision: i64) -> i64 {
    let client = cluster.client(at);
    eventually("a compaction", SOON, || {
        let mut client = client.clone();
        async move {
            client.put("past", "").await.map_err(|status| status.to_string())?;
            // The member checks ten times a second: each check should find another revision.
            tokio::time::sleep(Duration::from_millis(30)).await;
            let compacted = hash_kv(cluster, at, 0).await?.compact_revision;
            if revision < compacted { Ok(compacted) } else { Err(format!("at {compacted}")) }
        }
    })
    .await
}

/// Goal: an invalid retention keeps the member from starting, with etcd's words.
#[tokio::test]
async fn a_retention_that_is_none_is_refused() {
    for kind in [Some(Kind::subject()), programs::reference()].into_iter().flatten() {
        for (name, value, text) in [
            ("ETCD_AUTO_COMPACTION_MODE", "weekly", "unknown auto-compaction-mode"),
            (
                "ETCD_AUTO_COMPACTION_RETENTION",
                "1d",
                "error parsing CompactionRetention: time: unknown unit",
            ),
            (
                "ETCD_AUTO_COMPACTION_RETENTION",
                "-1",
                "error parsing CompactionRetention: time: missing unit in duration",
            ),
        ] {
            let mut cluster = Cluster::prepare(&kind, 1);
            cluster.set_env(0, &[(name, value)]);
            cluster.spawn(0);
            let exit = cluster.wait_exit(0, SOON).await.expect("it does not start");
            assert_eq!(exit.code(), Some(1), "{kind:?} {value}");
            assert!(cluster.log(0).contains(text), "{kind:?} {value}: {}", cluster.log(0));
        }
    }
}
