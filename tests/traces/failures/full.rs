//! A backend without room: writes that need some are refused, by the check before they are
//! proposed, or by apply while the alarm is raised.

use glass_etcd::{
    pb::etcdserverpb::{
        AlarmRequest, AlarmType, LeaseGrantRequest, PutRequest, RequestOp, TxnRequest,
        request_op::Request as Op,
    },
    trace::Reason,
};

use super::{
    super::{Scene, listen::Listener},
    Failing, GRANT, PUT, TXN, all_wrong, failing,
};
use crate::{
    cluster::Cluster,
    programs::{Kind, left_out},
};

/// A put, a transaction that puts, and a grant.
fn writes(steps: &'static str) -> Vec<Failing> {
    let end = (8, "etcdserver: mvcc: database space exceeded");
    let put = PutRequest { key: "full/1".into(), value: "v".into(), ..PutRequest::default() };
    let op = RequestOp { request: Some(Op::RequestPut(put.clone())) };
    let txn = TxnRequest { success: vec![op], ..TxnRequest::default() };
    let grant = LeaseGrantRequest { ttl: 600, id: 0 };
    vec![
        failing(PUT, &put, end, Reason::NoSpace, steps),
        failing(TXN, &txn, end, Reason::NoSpace, steps),
        failing(GRANT, &grant, end, Reason::NoSpace, steps),
    ]
}

/// Goal: a write without room says at which step it was refused. Method: members whose quota is one
/// byte, which the empty file exceeds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_find_no_room_before_they_are_proposed_say_so() {
    if Kind::subject() != Kind::Glass {
        left_out("a full backend: etcd leaves no traces");
        return;
    }
    let quota = [("ETCD_QUOTA_BACKEND_BYTES", "1")];
    let cluster = Cluster::start_with(&Kind::Glass, 3, &quota).await;
    let listener = Listener::start(&cluster).await;
    let scene = Scene { cluster, listener };
    let [leader, follower, _] = scene.parts().await;
    let mut wrong = all_wrong(&scene, leader, 100, writes("quota.check")).await;
    wrong.extend(all_wrong(&scene, follower, 200, writes("quota.check")).await);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Goal: the same for writes that apply refuses, on every member. Method: the alarm, raised by
/// hand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_apply_refuses_for_want_of_room_say_so() {
    let Some(scene) = Scene::start("a raised alarm").await else { return };
    let [leader, follower, _] = scene.parts().await;
    let mut client = scene.cluster.client(leader);
    let member_id = client.status().await.unwrap().header.unwrap().member_id;
    let raise = AlarmRequest { action: 1, member_id, alarm: AlarmType::Nospace as i32 };
    client.maintenance.alarm(raise).await.unwrap();
    let mut wrong = all_wrong(&scene, leader, 100, writes("apply.entry raft.propose")).await;
    wrong.extend(all_wrong(&scene, follower, 200, writes("apply.entry raft.propose")).await);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
