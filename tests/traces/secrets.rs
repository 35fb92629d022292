//! Values must be in no record, recording or export; keys in none of a member that redacts.
//!
//! Everything that leaves a member is searched as bytes: the stream of the observe service, the
//! output and files of `glass trace`, the exports for other viewers, what an OpenTelemetry
//! collector receives while the member runs, and the flight recorder's file.

use std::fs;

use bytes::Bytes;
use glass_etcd::pb::{
    etcdserverpb::{
        Compare, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp,
        TxnRequest, compare, request_op::Request,
    },
    v3electionpb::{CampaignRequest, LeaderRequest, ProclaimRequest, ResignRequest},
    v3lockpb::{LockRequest, UnlockRequest},
};
use nix::sys::signal::Signal;

use super::{
    Scene, commands::glass, kept::flight_of, listen::Listener, order::sampled, otlp::Collector,
};
use crate::{
    cluster::Cluster,
    locks::Locks,
    programs::{Kind as Program, left_out},
};

/// Part of every value.
const VALUE: &str = "value-Nobody-May-Ever-See-It";
/// Part of every key, name of a lock and end of a range.
const KEY: &str = "key-That-Is-Told-Or-Redacted";

/// Goal: no value leaves a member, and no key leaves one that redacts. Method: marked values and
/// keys in all requests that take them, valid and invalid, and then a search through everything
/// that leaves a member.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_leave_no_member_and_keys_only_members_that_do_not_redact() {
    if Program::subject() != Program::Glass {
        left_out("secrets: etcd leaves no traces");
        return;
    }
    for is_redacting in [false, true] {
        let collector = Collector::start(0).await;
        let export = ("ETCD_TRACE_OTLP", collector.url.as_str());
        let env = [export, ("ETCD_TRACE_REDACT_KEYS", "true")];
        let env = if is_redacting { &env[..] } else { &env[..1] };
        let cluster = Cluster::start_with(&Program::Glass, 1, env).await;
        let listener = Listener::start(&cluster).await;
        let scene = Scene { cluster, listener };
        writes(&scene).await;
        locks(&scene).await;
        for (what, bytes) in everything_told(&scene, &collector).await {
            let has = |text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
            assert!(!bytes.is_empty(), "{what} is empty");
            // A field has eight bytes: part of a value in a field would fill one, or be split
            // across two.
            for part in [VALUE, &VALUE[..8], &VALUE[6..14], &VALUE[13..21]] {
                assert!(!has(part), "{what}: it contains a value");
            }
            if is_redacting {
                for part in [KEY, &KEY[..8], &KEY[4..12], &KEY[12..20]] {
                    assert!(!has(part), "{what}: it contains a key");
                }
            } else {
                // A record holds the first eight bytes of a key separately.
                let is_there = has(&KEY[8..]);
                assert!(is_there, "{what}: not even keys are there: the search proves nothing");
            }
        }
    }
}

fn key(name: &str) -> Bytes {
    format!("{KEY}/{name}").into()
}

fn value(name: &str) -> Bytes {
    format!("{VALUE}/{name}").into()
}

fn put(name: &str) -> PutRequest {
    PutRequest { key: key(name), value: value(name), ..PutRequest::default() }
}

async fn writes(scene: &Scene) {
    let mut client = scene.cluster.client(0);
    let grant = LeaseGrantRequest { ttl: 600, id: 0 };
    let lease = client.lease.lease_grant(grant).await.unwrap().into_inner().id;
    client.kv.put(sampled(put("put"))).await.unwrap();
    let again = PutRequest { lease, prev_kv: true, ..put("put") };
    client.kv.put(sampled(again)).await.unwrap();
    // There is no such lease: the request fails in apply, and is recorded as failed.
    let fails = PutRequest { lease: 77, ..put("fails") };
    client.kv.put(sampled(fails)).await.unwrap_err();
    let is_same = Compare {
        result: compare::CompareResult::Equal as i32,
        target: compare::CompareTarget::Value as i32,
        key: key("put"),
        target_union: Some(compare::TargetUnion::Value(value("compared"))),
        ..Default::default()
    };
    let puts = ["success", "failure"]
        .map(|name| vec![RequestOp { request: Some(Request::RequestPut(put(name))) }]);
    let [success, failure] = puts;
    let txn = TxnRequest { compare: vec![is_same], success, failure };
    client.kv.txn(sampled(txn)).await.unwrap();
    let range = RangeRequest { key: key(""), range_end: key("~"), ..RangeRequest::default() };
    client.kv.range(sampled(range)).await.unwrap();
    let delete = DeleteRangeRequest { key: key("put"), prev_kv: true, ..Default::default() };
    client.kv.delete_range(sampled(delete)).await.unwrap();
}

async fn locks(scene: &Scene) {
    let mut locks = Locks::of(&scene.cluster, 0);
    let lock = LockRequest { name: key("lock"), lease: 0 };
    let held = locks.lock.lock(sampled(lock)).await.unwrap().into_inner().key;
    locks.lock.unlock(sampled(UnlockRequest { key: held })).await.unwrap();
    let campaign = CampaignRequest { name: key("election"), lease: 0, value: value("campaign") };
    let leader = locks.election.campaign(sampled(campaign)).await.unwrap().into_inner().leader;
    let proclaim = ProclaimRequest { leader: leader.clone(), value: value("proclaim") };
    locks.election.proclaim(sampled(proclaim)).await.unwrap();
    let name = LeaderRequest { name: key("election") };
    locks.election.leader(sampled(name)).await.unwrap();
    locks.election.resign(sampled(ResignRequest { leader })).await.unwrap();
}

/// All forms in which a trace leaves a member, by name.
async fn everything_told(scene: &Scene, collector: &Collector) -> Vec<(&'static str, Vec<u8>)> {
    scene
        .listener
        .until("the last request, stored", |recording| {
            let resign = glass_etcd::story::query::requests(recording)
                .into_iter()
                .find(|request| request.method == "Election/Resign" && request.end.is_some())
                .ok_or("not there")?;
            let order = glass_etcd::story::order::Order::of(recording);
            let story = glass_etcd::story::query::Story::of(recording, &order, resign.id);
            let missing = story.ok_or("no story")?.missing;
            if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?}")) }
        })
        .await;
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (recorded, exported) = (path("recording.ndjson"), path("export.json"));
    let lines = path("export.jsonl");
    glass(scene, &["trace", "record", &recorded, "--for", "1"]).await;
    glass(scene, &["trace", "export", "--chrome", &exported, "--for", "1"]).await;
    glass(scene, &["trace", "export", "--otlp", &lines, "--for", "1"]).await;
    scene.cluster.signal(0, Signal::SIGUSR1);
    let flight = flight_of(&scene.cluster, 0, "asked").await;
    let mut heard = Vec::new();
    glass_etcd::story::recording::write(&mut heard, &scene.listener.recording()).unwrap();
    vec![
        ("the observe stream", scene.listener.raw()),
        ("the recording of a listener", heard),
        ("glass trace record", fs::read(&recorded).unwrap()),
        ("glass trace export --chrome", fs::read(&exported).unwrap()),
        ("glass trace export --otlp", fs::read(&lines).unwrap()),
        ("--trace-otlp", exported_live(collector).await),
        ("the flight recorder", fs::read(flight).unwrap()),
        ("glass trace list", glass(scene, &["trace", "list"]).await.into()),
        ("glass trace list --json", glass(scene, &["trace", "list", "--json"]).await.into()),
        (
            "glass trace tail --from",
            glass(scene, &["trace", "tail", "--grain", "raw", "--from", &recorded]).await.into(),
        ),
    ]
}

/// The requests that a collector has received once the last one is there: then all earlier ones are
/// there too.
async fn exported_live(collector: &Collector) -> Vec<u8> {
    let look = |got: &super::otlp::Got| {
        let has = |name: &str| got.spans.values().any(|(span, _)| span.name == name);
        let is_there =
            ["v3electionpb.Election/Resign", "etcdserverpb.KV/Txn", "v3lockpb.Lock/Lock"]
                .into_iter()
                .all(has);
        if is_there { Ok(got.raw.clone()) } else { Err("not all requests".to_owned()) }
    };
    collector.until("the last request, exported", look).await
}
