//! A member that is left alone: writes and linearizable reads time out, or end earlier, at their
//! deadline or with their client.

use glass_etcd::{
    pb::etcdserverpb::{
        AlarmRequest, CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest,
        MemberListRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
        request_op::Request as Op,
    },
    story::{Event, Recording, query::callers},
    trace::{Reason, Stage},
};

use super::{
    super::Scene, COMPACT, DELETE, Failed, Failing, GRANT, PUT, RANGE, REVOKE, TXN, all_wrong,
    call_of, ended, failing, untold,
};
use crate::{cluster::Cluster, raw::Raw};

const TIMED_OUT: (u32, &str) = (14, "etcdserver: request timed out");

fn put() -> PutRequest {
    PutRequest { key: "alone/1".into(), value: "v".into(), ..PutRequest::default() }
}

/// Writes, and one with a deadline before their timeout.
fn writes() -> Vec<Failing> {
    let delete = DeleteRangeRequest { key: "alone/1".into(), ..DeleteRangeRequest::default() };
    let compact = CompactionRequest { revision: 1, physical: false };
    let grant = LeaseGrantRequest { ttl: 600, id: 0 };
    let revoke = LeaseRevokeRequest { id: 9 };
    const ALARM: &str = "/etcdserverpb.Maintenance/Alarm";
    let alarm = AlarmRequest::default();
    let write = "raft.propose";
    let late = Failing {
        timeout: Some("500m"),
        reason: None,
        ..failing(PUT, &put(), (4, "context deadline exceeded"), Reason::Timeout, write)
    };
    vec![
        failing(PUT, &put(), TIMED_OUT, Reason::Timeout, write),
        failing(DELETE, &delete, TIMED_OUT, Reason::Timeout, write),
        failing(COMPACT, &compact, TIMED_OUT, Reason::Timeout, write),
        failing(GRANT, &grant, TIMED_OUT, Reason::Timeout, write),
        failing(REVOKE, &revoke, TIMED_OUT, Reason::Timeout, write),
        failing(ALARM, &alarm, TIMED_OUT, Reason::Timeout, write),
        late,
    ]
}

/// Reads that need a quorum, and end so.
fn reads(end: (u32, &'static str), reason: Reason) -> Vec<Failing> {
    const MEMBERS: &str = "/etcdserverpb.Cluster/MemberList";
    let range = RangeRequest { key: "alone/1".into(), ..RangeRequest::default() };
    let op = RequestOp { request: Some(Op::RequestRange(range.clone())) };
    let txn = TxnRequest { success: vec![op], ..TxnRequest::default() };
    let members = MemberListRequest { linearizable: true };
    vec![
        failing(RANGE, &range, end, reason, "read_index.wait"),
        failing(TXN, &txn, end, reason, "read_index.wait"),
        failing(MEMBERS, &members, end, reason, "read_index.wait"),
    ]
}

/// A put whose client resets its stream once it waits for apply.
async fn cancelled(scene: &Scene, at: usize, number: u64) -> Vec<String> {
    let put = failing(PUT, &put(), TIMED_OUT, Reason::Timeout, "raft.propose");
    let mut raw = Raw::connect(&scene.cluster, at);
    let stream = raw.call(&call_of(&put, number));
    let is_waiting = |recording: &Recording| {
        let contexts = callers::contexts(recording);
        let is_own = |event: &&Event| {
            event.stage == Stage::RaftPropose
                && contexts.get(&event.id).is_some_and(|context| context.span == number)
        };
        recording.events.iter().find(is_own).map(|_| ()).ok_or("it does not wait".to_owned())
    };
    scene.listener.until("a put that waits", is_waiting).await;
    raw.reset(stream);
    let what = format!("a cancelled put on m{at}");
    let id = ended(scene, &what, number).await;
    let steps = vec!["raft.propose", "rpc"];
    untold(scene, &[Failed { what, id, asked: at, code: 1, reason: None, steps }]).await
}

fn others(cluster: &Cluster, at: usize) -> impl Iterator<Item = usize> + use<> {
    (0..cluster.members.len()).filter(move |other| *other != at)
}

/// Goal: what a lone member cannot do, it does not do in vain without saying why. Method: the
/// leader while both followers are stopped, and then a follower while the two others are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_without_a_quorum_say_what_they_waited_for_in_vain() {
    let Some(scene) = Scene::start("no quorum").await else { return };
    let mut wrong = Vec::new();
    // A read that comes while another is asked about waits for the next round, which does not end
    // with the leader. On a busy machine that is chance, so there is more than one try.
    for attempt in 1..=3 {
        wrong = with_each_alone(&scene, attempt * 1000).await;
        if wrong.is_empty() {
            break;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is wrong with the calls to a leader alone, and with those to a follower alone. The numbers
/// of the calls begin with `base`.
async fn with_each_alone(scene: &Scene, base: u64) -> Vec<String> {
    let mut wrong = Vec::new();
    for is_leader in [true, false] {
        let [leader, follower, _] = scene.parts().await;
        let (asked, first) = if is_leader { (leader, base) } else { (follower, base + 100) };
        others(&scene.cluster, asked).for_each(|at| scene.cluster.pause(at));
        // The reads wait for a leader that is lost meanwhile.
        let changed = (14, "etcdserver: leader changed");
        let (timed_out, changed, gone) = tokio::join!(
            all_wrong(scene, asked, first, writes()),
            all_wrong(scene, asked, first + 20, reads(changed, Reason::LeaderChanged)),
            cancelled(scene, asked, first + 40),
        );
        wrong.extend([timed_out, changed, gone].into_iter().flatten());
        // There is no leader to be lost any more.
        wrong.extend(all_wrong(scene, asked, first + 60, reads(TIMED_OUT, Reason::Timeout)).await);
        others(&scene.cluster, asked).for_each(|at| scene.cluster.resume(at));
        scene.cluster.wait_ready(asked).await;
    }
    wrong
}
