//! A follower whose apply is stuck: its answers do not come, for each reason that etcd knows, and
//! then it refuses writes because too much waits for apply.

use std::time::Duration;

use glass_etcd::{
    pb::etcdserverpb::{
        CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest,
        RangeRequest, RequestOp, TxnRequest, request_op::Request as Op,
    },
    trace::Reason,
};
use tokio::task::JoinSet;

use super::{
    super::{Scene, listen::Listener},
    COMPACT, DELETE, Failing, GRANT, PUT, RANGE, REVOKE, TXN, all_wrong, failing,
};
use crate::{
    client::eventually,
    cluster::Cluster,
    programs::{Kind, left_out},
    proxy::Wires,
};

/// After some batches of entries apply sleeps, for longer than the test runs.
const STUCK: &str = "mvcc-batch-before-index=20*off->sleep(600000)";
/// Shorter than an election timeout.
const CUT: Duration = Duration::from_millis(300);
/// After the last message of the leader, and before an election.
const HALF_AN_ELECTION: Duration = Duration::from_millis(500);
/// Entries that may wait for apply before writes are refused.
const GAP: u64 = 5000;
const SOON: Duration = Duration::from_secs(60);

fn a_put() -> PutRequest {
    PutRequest { key: "stuck/1".into(), value: "v".into(), ..PutRequest::default() }
}

fn put(text: &'static str, reason: Reason) -> Failing {
    failing(PUT, &a_put(), (14, text), reason, "raft.propose")
}

/// Puts through another member until more than this number of entries wait for apply on the stuck
/// one.
async fn is_stuck(cluster: &Cluster, other: usize, stuck: usize, entries: u64) {
    let mut writers = JoinSet::new();
    for writer in 0..16 {
        let mut client = cluster.client(other);
        writers.spawn(async move {
            loop {
                client.put(&format!("stuck/{writer}"), "v").await.unwrap();
            }
        });
    }
    eventually("entries wait for apply", SOON, || async {
        let status = cluster.client(stuck).status().await.map_err(|status| status.to_string())?;
        let waiting = status.raft_index.saturating_sub(status.raft_applied_index);
        if entries < waiting { Ok(()) } else { Err(format!("{waiting}")) }
    })
    .await;
}

/// Goal: a call whose answer does not come says for which reason that etcd knows, and one that is
/// refused meanwhile says so. Method: a follower whose apply sleeps; its wire is cut for a moment,
/// then its leader is stopped, then thousands of entries wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_to_a_member_whose_apply_is_stuck_say_why_they_fail() {
    if Kind::subject() != Kind::Glass {
        left_out("a stuck apply: etcd leaves no traces");
        return;
    }
    let kinds = [Kind::Glass, Kind::Glass, Kind::Glass];
    let fast = [("ETCD_UNSAFE_NO_FSYNC", "true")];
    let (cluster, wires) = Cluster::start_wired(&kinds, &[&fast, &fast, &fast]).await;
    let leader = cluster.leader().await;
    let stuck = (leader + 1) % 3;
    let mut scene = Scene { listener: Listener::start(&cluster).await, cluster };
    scene.cluster.kill(stuck);
    scene.cluster.set_env(stuck, &[fast[0], ("FAILPOINTS", STUCK)]);
    scene.cluster.spawn(stuck);
    scene.cluster.wait_ready(stuck).await;
    is_stuck(&scene.cluster, leader, stuck, 10).await;
    let mut wrong = waits(&scene, stuck).await;
    wrong.extend(cut(&scene, &wires, stuck).await);
    wrong.extend(leaderless(&scene, leader, stuck).await);
    scene.cluster.wait_ready(leader).await;
    is_stuck(&scene.cluster, leader, stuck, GAP).await;
    wrong.extend(all_wrong(&scene, stuck, 400, refused()).await);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Nothing else happens.
async fn waits(scene: &Scene, stuck: usize) -> Vec<String> {
    let range = RangeRequest { key: "stuck/1".into(), ..RangeRequest::default() };
    let text = "etcdserver: request timed out, waiting for the applied index took too long";
    let late = Reason::TimeoutWaitAppliedIndex;
    let calls = vec![
        put("etcdserver: request timed out", Reason::Timeout),
        failing(RANGE, &range, (14, text), late, "read.wait_applied"),
    ];
    all_wrong(scene, stuck, 100, calls).await
}

/// The streams to the leader end meanwhile, and are opened again.
async fn cut(scene: &Scene, wires: &Wires, stuck: usize) -> Vec<String> {
    let text = "etcdserver: request timed out, possibly due to connection lost";
    let calls = vec![put(text, Reason::TimeoutDueToConnectionLost)];
    let cut = async {
        tokio::time::sleep(CUT).await;
        scene.cluster.cut_off(wires, &[stuck]).await;
        tokio::time::sleep(CUT).await;
        scene.cluster.cut_off(wires, &[]).await;
    };
    futures_util::future::join(all_wrong(scene, stuck, 200, calls), cut).await.0
}

/// The leader falls silent shortly before the put, and another one is elected while it waits.
async fn leaderless(scene: &Scene, leader: usize, stuck: usize) -> Vec<String> {
    let text = "etcdserver: request timed out, possibly due to previous leader failure";
    let calls = vec![put(text, Reason::TimeoutDueToLeaderFail)];
    scene.cluster.pause(leader);
    tokio::time::sleep(HALF_AN_ELECTION).await;
    let wrong = all_wrong(scene, stuck, 300, calls).await;
    scene.cluster.resume(leader);
    wrong
}

/// Writes, each of which is refused before it is proposed.
fn refused() -> Vec<Failing> {
    // etcd declares another code, and sends this one.
    let end = (2, "etcdserver: too many requests");
    let op = RequestOp { request: Some(Op::RequestPut(a_put())) };
    let txn = TxnRequest { success: vec![op], ..TxnRequest::default() };
    let delete = DeleteRangeRequest { key: "stuck/1".into(), ..DeleteRangeRequest::default() };
    let compact = CompactionRequest { revision: 1, physical: false };
    let (grant, revoke) = (LeaseGrantRequest { ttl: 600, id: 0 }, LeaseRevokeRequest { id: 9 });
    let refused = Reason::TooManyRequests;
    vec![
        failing(PUT, &a_put(), end, refused, "admit"),
        failing(TXN, &txn, end, refused, "admit"),
        failing(DELETE, &delete, end, refused, "admit"),
        failing(COMPACT, &compact, end, refused, "admit"),
        failing(GRANT, &grant, end, refused, "admit"),
        failing(REVOKE, &revoke, end, refused, "admit"),
    ]
}
