//! Small answers that a client leaves unread. Their bound is that the later calls of the connection
//! wait.
//!
//! In each test one client sends many calls on one connection and reads nothing. Their answers have
//! 100 MB in all, and the member keeps 16 MiB of them. Another client puts and gets meanwhile. Then
//! the first one reads, and every call must be answered.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};
use glass_etcd::pb::{
    etcdserverpb::{
        LeaseGrantRequest, LeaseLeasesRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest,
        RequestOp, TxnRequest, request_op::Request,
    },
    v3electionpb::LeaderRequest,
};
use h2::{RecvStream, client::ResponseFuture};
use prost::Message;
use tokio::time::timeout;

use super::unread_answers::{MB, PATIENCE, can_measure, go_on, held, nothing_is_held};
use crate::{
    client::{Client, eventually},
    cluster::Cluster,
    programs::Kind,
    silent::{Silent, growth, read_whole},
};

/// Bytes of all answers of a test.
const ASKED: usize = 100 * MB;
/// Bytes that the unread answers of a connection may hold: the member's limit of 16 MiB, and the
/// answers that are being read when it is reached.
const HELD_MAX: u64 = 24_000_000;
/// The limit itself, which the calls must reach.
const HELD_MIN: u64 = 14_000_000;
/// Bytes by which the member may grow: that, what encoding takes for a moment, and what it needs
/// for everything else.
const GROWTH_MAX: u64 = 48_000_000;
/// How long the client may take to read everything.
const LONG: Duration = Duration::from_secs(60);

/// A service and its method.
type Method = (&'static str, &'static str);

const RANGE: Method = ("etcdserverpb.KV", "Range");

/// Sends the calls on one connection, and reads nothing until others have worked for a while.
async fn leave_unread(
    cluster: &Cluster,
    at: usize,
    (method, len): (Method, usize),
    message: &impl Message,
) {
    let (pid, address) = (cluster.process_id(at), cluster.members[at].client_address());
    let mut silent = Silent::connect(&address).await;
    let mut client = cluster.client(at);
    let work = async {
        let mut calls = Vec::new();
        for _ in 0..ASKED / len {
            calls.push(silent.send_to(method.0, method.1, message).await);
        }
        (calls, go_on(&mut client, 50).await)
    };
    let ((calls, longest), grown) = growth(&[pid], work).await;
    let held_bytes = held(&address);
    assert!((HELD_MIN..HELD_MAX).contains(&held_bytes), "{method:?}: {held_bytes} bytes are held");
    assert!(grown[0] < GROWTH_MAX, "{method:?}: it has grown by {} bytes", grown[0]);
    assert!(longest < PATIENCE, "{method:?}: {longest:?}");
    all_are_answered(calls, method).await;
    drop(silent);
    nothing_is_held(&address).await;
}

/// Reads the answers at the same time, because together they have one window.
async fn all_are_answered(calls: Vec<ResponseFuture>, method: Method) {
    let all = timeout(LONG, try_join_all(calls.into_iter().map(read_whole))).await;
    let all = all.expect("all are answered").unwrap_or_else(|error| panic!("{method:?}: {error}"));
    let total: usize = all.iter().sum();
    assert!(95 * MB < total && total < 110 * MB, "{method:?}: {total} bytes");
}

async fn put(client: &mut Client, key: &str, len: usize) {
    let key = Bytes::copy_from_slice(key.as_bytes());
    client
        .kv
        .put(PutRequest { key, value: vec![7; len].into(), ..Default::default() })
        .await
        .unwrap();
}

/// Goal: ranges whose rows are read away from the gRPC thread, and ranges that are read at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_ranges_that_nobody_reads_have_a_bound() {
    if !can_measure("small ranges") {
        return;
    }
    let cluster = Cluster::start(&Kind::Glass, 1).await;
    let mut client = cluster.client(0);
    for at in 0..5 {
        put(&mut client, &format!("row/{at}"), MB / 10).await;
    }
    put(&mut client, "one", MB / 2).await;
    let many = RangeRequest { key: "row/".into(), range_end: "row0".into(), ..Default::default() };
    leave_unread(&cluster, 0, (RANGE, MB / 2), &many).await;
    leave_unread(
        &cluster,
        0,
        (RANGE, MB / 2),
        &RangeRequest { key: "one".into(), ..Default::default() },
    )
    .await;
}

/// Goal: Leader, which looks for the oldest of many keys and so reads on another thread.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_that_nobody_reads_have_a_bound() {
    if !can_measure("answers of Election") {
        return;
    }
    let cluster = Cluster::start(&Kind::Glass, 1).await;
    put(&mut cluster.client(0), "name/1", MB).await;
    let leader = LeaderRequest { name: "name".into() };
    leave_unread(&cluster, 0, (("v3electionpb.Election", "Leader"), MB), &leader).await;
}

/// Goal: LeaseTimeToLive with keys, which a follower asks of its leader.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_leases_that_nobody_reads_have_a_bound() {
    if !can_measure("keys of leases") {
        return;
    }
    let cluster = Cluster::start(&Kind::Glass, 3).await;
    let leader = cluster.leader().await;
    let mut client = cluster.client(leader);
    let id = 7;
    client.lease.lease_grant(LeaseGrantRequest { ttl: 600, id }).await.unwrap();
    for portion in 0..40 {
        let ops = (0..100).map(|at| {
            let key = format!("{portion:04}/{at:0245}").into();
            let put = PutRequest { key, lease: id, ..PutRequest::default() };
            RequestOp { request: Some(Request::RequestPut(put)) }
        });
        let txn = TxnRequest { success: ops.collect(), ..TxnRequest::default() };
        client.kv.txn(txn).await.unwrap();
    }
    let method = ("etcdserverpb.Lease", "LeaseTimeToLive");
    let question = LeaseTimeToLiveRequest { id, keys: true };
    leave_unread(&cluster, leader, (method, MB), &question).await;
    leave_unread(&cluster, (leader + 1) % 3, (method, MB), &question).await;
}

/// Goal: LeaseLeases, whose answer is made at once, but after a read round that all calls share.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_of_leases_that_nobody_reads_have_a_bound() {
    if !can_measure("lists of leases") {
        return;
    }
    let cluster = Cluster::start(&Kind::Glass, 1).await;
    let client = cluster.client(0);
    // Each of them takes 12 bytes of the answer.
    for portion in 0..20 {
        let grants = (0..1000).map(|at| {
            let (mut client, id) = (client.clone(), i64::MAX - portion * 1000 - at);
            async move { client.lease.lease_grant(LeaseGrantRequest { ttl: 600, id }).await }
        });
        try_join_all(grants).await.unwrap();
    }
    let method = ("etcdserverpb.Lease", "LeaseLeases");
    leave_unread(&cluster, 0, (method, 240_000), &LeaseLeasesRequest {}).await;
}

/// Goal: Observe's messages are counted, both the leader that it finds and the values that the
/// leader proclaims later; and a stream that has waited for long is still served. Method: a leader
/// with 10 kB, which is read, and then with 1 MB, which is not read for longer than the request
/// timeout.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn observed_values_that_nobody_reads_have_a_bound() {
    if !can_measure("observers") {
        return;
    }
    let cluster = Cluster::start(&Kind::Glass, 1).await;
    let (pid, address) = (cluster.process_id(0), cluster.members[0].client_address());
    let mut client = cluster.client(0);
    put(&mut client, "name/1", MB / 100).await;
    let mut silent = Silent::connect(&address).await;
    let work = async {
        let mut calls = Vec::new();
        for _ in 0..ASKED / MB {
            let observe = LeaderRequest { name: "name".into() };
            calls.push(silent.send_to("v3electionpb.Election", "Observe", &observe).await);
        }
        // All but what fits into the window of the connection.
        let all = u64::try_from(calls.len() * MB / 100).unwrap() - 100_000;
        eventually("all have found the leader", PATIENCE, || async {
            let held = held(&address);
            if all <= held { Ok(()) } else { Err(format!("{held} bytes are held")) }
        })
        .await;
        let mut bodies = Vec::new();
        for call in calls {
            bodies.push(call.await.unwrap().into_body());
        }
        join_all(bodies.iter_mut().map(|body| read_some(body, MB / 100))).await;
        nothing_is_held(&address).await;
        put(&mut client, "name/1", MB).await;
        (bodies, go_on(&mut client, 400).await)
    };
    let ((mut bodies, longest), grown) = growth(&[pid], work).await;
    let held_bytes = held(&address);
    assert!((HELD_MIN..HELD_MAX).contains(&held_bytes), "{held_bytes} bytes are held");
    assert!(grown[0] < GROWTH_MAX, "it has grown by {} bytes", grown[0]);
    assert!(longest < PATIENCE, "{longest:?}");
    let rest = bodies.iter_mut().map(|body| read_some(body, MB));
    timeout(LONG, join_all(rest)).await.expect("all are sent the value");
    drop((bodies, silent));
    nothing_is_held(&address).await;
}

/// Reads until it has at least this many bytes.
async fn read_some(body: &mut RecvStream, least: usize) {
    let mut len = 0;
    while len < least {
        let piece = body.data().await.expect("the stream has not ended").unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        len += piece.len();
    }
}
