//! `grpc-timeout`, and then a silent client: the member itself must end the call.
//!
//! The client is a raw one, because every library hangs up by itself when the time is over. etcd
//! 3.5.1 answers UNKNOWN where its later versions and ours answer DEADLINE_EXCEEDED; the text is
//! the same.

use std::time::{Duration, Instant};

use glass_etcd::{
    clock,
    pb::{
        etcdserverpb::{
            LeaseKeepAliveRequest, PutRequest, RangeRequest, RangeResponse, WatchCreateRequest,
            WatchRequest, watch_request::RequestUnion,
        },
        glasspb::ObserveRequest,
        v3electionpb::{CampaignRequest, LeaderRequest},
        v3lockpb::LockRequest,
    },
};
use prost::Message as _;
use tonic_health::pb::HealthCheckRequest;

use crate::{
    client::eventually,
    cluster::Cluster,
    locks::{Locks, WITHIN, revision},
    programs::{Kind, left_out},
    raw::{Answer, Call, Raw},
};

const LOCK: &str = "/v3lockpb.Lock/Lock";
const CAMPAIGN: &str = "/v3electionpb.Election/Campaign";
const RANGE: &str = "/etcdserverpb.KV/Range";
const PUT: &str = "/etcdserverpb.KV/Put";

/// How much later than its deadline a call may end, on a machine with other load.
const LATE_MAX: Duration = Duration::from_millis(900);

/// Asserts that a call ended because its time was over, neither before nor long after.
fn is_over(answer: &Answer, start: Instant, time: Duration) {
    let took = start.elapsed();
    let (code, text) = answer.status().unwrap_or_else(|| panic!("{answer:?}"));
    assert_eq!(text, "context deadline exceeded");
    assert!(code == 4 || code == 2 && Kind::subject() != Kind::Glass, "code {code}");
    // The member counts from the arrival of the call.
    assert!(time <= took + Duration::from_millis(5) && took < time + LATE_MAX, "after {took:?}");
}

/// The keys below a name, read once.
fn queue(raw: &mut Raw, name: &str) -> usize {
    let (key, range_end) = (format!("{name}/").into(), format!("{name}0").into());
    let request = RangeRequest { key, range_end, ..RangeRequest::default() };
    let answer = raw.ask(&Call::new(RANGE, &request));
    RangeResponse::decode(&answer.data[5..]).unwrap().kvs.len()
}

/// Goal: a call for a lock or for leadership waits as long as its client allows; and once the
/// client reads that the time is over, the call has left the queue. Method: a held name, one
/// second, silence, and a look at the queue as soon as there is an answer; at a leader and at a
/// follower.
#[tokio::test]
async fn a_call_waits_for_a_lock_until_its_deadline() {
    let cluster = Cluster::start(&Kind::subject(), 3).await;
    for at in 0..3 {
        let mut locks = Locks::of(&cluster, at);
        let (name, leases) = (format!("n{at}"), [1, 2].map(|lease| lease + 10 * at as i64));
        for lease in leases {
            locks.grant(lease, 600).await;
        }
        locks.lock(&name, leases[0]).await.unwrap();
        locks.campaign(&format!("e{at}"), leases[0], "").await.unwrap();
        let mut raw = Raw::connect(&cluster, at);
        let lease = leases[1];
        let lock = LockRequest { name: name.clone().into(), lease };
        let campaign = CampaignRequest { name: format!("e{at}").into(), lease, value: "v".into() };
        let calls = [Call::new(LOCK, &lock), Call::new(CAMPAIGN, &campaign)];
        for (call, name) in calls.into_iter().zip([name, format!("e{at}")]) {
            let start = clock::now();
            let answer = raw.ask(&call.with("grpc-timeout", "1S"));
            is_over(&answer, start, Duration::from_secs(1));
            assert_eq!(queue(&mut raw, &name), 1, "{name} of m{at}");
        }
    }
}

/// Goal: streams end at their deadline too, with a status after their last message. Method: every
/// kind of stream, with half a second, and then silence; and calls that send no message at all.
#[tokio::test]
async fn streams_end_in_time() {
    let cluster = Cluster::start(&Kind::subject(), 1).await;
    let create = WatchCreateRequest { key: "k".into(), ..WatchCreateRequest::default() };
    let watch = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let renew = LeaseKeepAliveRequest { id: 7 };
    let (keep_alive, watches) = ("/etcdserverpb.Lease/LeaseKeepAlive", "/etcdserverpb.Watch/Watch");
    let observe = "/v3electionpb.Election/Observe";
    let mut calls = vec![
        Call::new(watches, &watch).open(),
        Call::new(watches, &watch),
        Call::silent(watches),
        Call::new(keep_alive, &renew).open(),
        Call::new(observe, &LeaderRequest { name: "nobody".into() }),
        Call::silent(RANGE),
        Call::silent(LOCK),
    ];
    if Kind::subject() == Kind::Glass {
        // etcd ends these differently, or does not have them.
        let health = HealthCheckRequest { service: String::new() };
        calls.push(Call::new("/grpc.health.v1.Health/Watch", &health));
        calls.push(Call::new("/glasspb.Observe/Observe", &ObserveRequest::default()));
    }
    let mut raw = Raw::connect(&cluster, 0);
    for call in calls {
        let start = clock::now();
        let answer = raw.ask(&call.clone().with("grpc-timeout", "500m"));
        is_over(&answer, start, Duration::from_millis(500));
    }
}

/// Goal: a call whose time is over before it begins is not begun, and a malformed time is refused,
/// as by etcd 3.5.33. Method: a put and other calls, with a time of zero; and the put must not have
/// happened.
#[tokio::test]
async fn no_time_at_all_is_over_and_nonsense_is_refused() {
    if Kind::subject() != Kind::Glass {
        left_out("times of nothing: with etcd 3.5.1 that is a matter of luck");
        return;
    }
    let cluster = Cluster::start(&Kind::Glass, 1).await;
    let mut raw = Raw::connect(&cluster, 0);
    let status = "/etcdserverpb.Maintenance/Status";
    for time in ["0n", "1n", "0S", "00000000H"] {
        for call in [Call::new(PUT, &put()), Call::silent(RANGE), Call::new(status, &())] {
            let answer = raw.ask(&call.with("grpc-timeout", time));
            let expected = Some((4, "context deadline exceeded".to_owned()));
            assert_eq!(answer.status(), expected, "{time}");
        }
    }
    assert_eq!(queue(&mut raw, "k"), 0);
    for time in ["", "5", "S", "5x", "-5S", "1.5S", "123456789n", "5S "] {
        let answer = raw.ask(&Call::new(PUT, &put()).with("grpc-timeout", time));
        let (code, text) = answer.status().unwrap();
        assert!(code == 13 && text.starts_with("malformed grpc-timeout: "), "{time}: {text}");
        assert!(answer.fields.contains(&(":status".to_owned(), "400".to_owned())));
    }
    for time in ["99999999H", "99999999n", "10M"] {
        assert!(raw.ask(&Call::new(PUT, &put()).with("grpc-timeout", time)).is_ok(), "{time}");
    }
}

/// Goal: without a leader, a call ends at its own deadline and not after the member's 7 s. Method:
/// the last of three members, once it knows that there is no leader.
#[tokio::test]
async fn a_member_without_a_leader_ends_calls_in_their_time() {
    if Kind::subject() != Kind::Glass {
        left_out("calls without a leader: etcd answers some of them with another status");
        return;
    }
    let mut cluster = Cluster::start(&Kind::Glass, 3).await;
    let mut locks = Locks::of(&cluster, 0);
    locks.grant(1, 600).await;
    cluster.kill(1);
    cluster.kill(2);
    eventually("there is no leader", WITHIN, || {
        let mut client = locks.client.clone();
        async move {
            let status = client.status().await.map_err(|status| status.to_string())?;
            if status.leader == 0 { Ok(()) } else { Err(format!("{} leads", status.leader)) }
        }
    })
    .await;
    let mut raw = Raw::connect(&cluster, 0);
    let range = RangeRequest { key: "k".into(), ..RangeRequest::default() };
    let lock = LockRequest { name: "n".into(), lease: 1 };
    for call in [Call::new(PUT, &put()), Call::new(RANGE, &range), Call::new(LOCK, &lock)] {
        let start = clock::now();
        let answer = raw.ask(&call.with("grpc-timeout", "700m"));
        is_over(&answer, start, Duration::from_millis(700));
    }
}

fn put() -> PutRequest {
    PutRequest { key: "k/1".into(), value: "v".into(), ..PutRequest::default() }
}

/// Goal: a write whose time is over may still be applied, and a call for a lock whose key is being
/// put deletes the key afterwards; a call that waits has deleted it before the answer. Method: a
/// disk so slow that the time is over in between.
#[tokio::test]
async fn a_write_whose_time_is_over_may_still_be_carried_out() {
    if Kind::subject() != Kind::Glass {
        left_out("a slow disk: failpoints are our own");
        return;
    }
    let slow = [("FAILPOINTS", "wal-before-fsync=sleep(300)")];
    let cluster = Cluster::start_with(&Kind::Glass, 1, &slow).await;
    let mut locks = Locks::of(&cluster, 0);
    locks.grant(1, 600).await;
    let mut raw = Raw::connect(&cluster, 0);
    let lock = LockRequest { name: "n".into(), lease: 1 };
    for call in [Call::new(PUT, &put()), Call::new(LOCK, &lock)] {
        let start = clock::now();
        let answer = raw.ask(&call.with("grpc-timeout", "100m"));
        is_over(&answer, start, Duration::from_millis(100));
    }
    locks.wait_queue("k", 1).await;
    // The key was put and deleted: two revisions after the put.
    eventually("the lock is given back", WITHIN, || {
        let mut client = locks.client.clone();
        async move {
            let all = client.everything(false).await.map_err(|status| status.to_string())?;
            let revision = revision(&all.header);
            if (revision, all.count) == (4, 1) { Ok(()) } else { Err(format!("{all:?}")) }
        }
    })
    .await;
    locks.grant(2, 600).await;
    locks.lock("n", 2).await.unwrap();
    let start = clock::now();
    let answer = raw.ask(&Call::new(LOCK, &lock).with("grpc-timeout", "2S"));
    is_over(&answer, start, Duration::from_secs(2));
    assert_eq!(queue(&mut raw, "n"), 1);
}
