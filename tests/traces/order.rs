//! A whole busy period: playback order, chains of old and new values, and no values of keys.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hasher, RandomState},
};

use bytes::Bytes;
use glass_etcd::{
    pb::etcdserverpb::{
        Compare, PutRequest, RangeRequest, RequestOp, TxnRequest, compare, request_op::Request,
    },
    story::{
        Recording,
        order::{Order, point},
        query, recording, uncaptured,
    },
    trace::Stage,
};

use super::{
    Scene,
    told::{Told, place_of},
    unknown,
};
use crate::{client::Client, random::Random};

/// Clients at each member, and requests of each.
const CLIENTS: usize = 3;
const REQUESTS: usize = 30;
/// Keys that they share.
const KEYS: u64 = 7;
/// Requests a trace at any load (W3C trace context: version, trace, parent, sampled).
pub(super) const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// The changes whose chains must have no gap.
const CHAINS: [&str; 6] = ["commit", "applied", "revision", "written", "synced", "index"];

/// Goal: the recording is a possible history, nothing is missing, and it contains no value. Method:
/// clients at all members put, get and compare at random; the values carry a marker.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_period_is_recorded_in_order_without_gaps_and_without_values() {
    let Some(scene) = Scene::start("order of traces").await else { return };
    let seed = seed();
    println!("GLASS_IT_SEED={seed}");
    let mut random = Random::new(seed);
    let marker = format!("marker-{:016x}-of-the-value", random.next());
    // The start of a cluster has entries of its own; from here on each belongs to a client.
    put(&scene, "busy/first").await;
    let from = scene.listener.recording().events.len();
    let workers: Vec<_> = (0..3 * CLIENTS)
        .map(|worker| {
            let client = scene.cluster.client(worker % 3);
            tokio::spawn(work(client, random.split(), marker.clone()))
        })
        .collect();
    let mut requests = 0;
    for worker in workers {
        requests += worker.await.unwrap();
    }
    let recording = everything_told(&scene, requests).await;
    sends_come_first_and_clocks_only_rise(&recording);
    assert_eq!(
        None,
        super::causes::cycle(&recording, &super::causes::links(&recording)),
        "a cycle of causes"
    );
    chains_have_no_holes(&recording, from);
    no_value_is_told(&scene, &recording, &marker);
    unknown::a_paused_member_is_unknown_and_then_captured(&scene).await;
}

/// The seed in `GLASS_IT_SEED`, or a new one each time.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("GLASS_IT_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| RandomState::new().build_hasher().finish())
}

/// Sends requests one after the other and returns how many entries they made.
async fn work(mut client: Client, mut random: Random, marker: String) -> usize {
    let mut writes = 0;
    for number in 0..REQUESTS {
        let key = Bytes::from(format!("busy/{}", random.below(KEYS)));
        let value = Bytes::from(format!("{marker}{number}"));
        let put = PutRequest { key: key.clone(), value: value.clone(), ..Default::default() };
        let range = RangeRequest { key: key.clone(), ..Default::default() };
        match random.below(4) {
            0 | 1 => _ = client.kv.put(sampled(put)).await.unwrap(),
            2 => {
                client.kv.range(sampled(range)).await.unwrap();
                continue;
            }
            _ => {
                let is_same = Compare {
                    result: compare::CompareResult::Equal as i32,
                    target: compare::CompareTarget::Value as i32,
                    key,
                    target_union: Some(compare::TargetUnion::Value(value)),
                    ..Default::default()
                };
                let put = RequestOp { request: Some(Request::RequestPut(put)) };
                let txn =
                    TxnRequest { compare: vec![is_same], failure: vec![put], ..Default::default() };
                client.kv.txn(sampled(txn)).await.unwrap();
            }
        }
        writes += 1;
    }
    writes
}

/// A request that asks to be kept.
pub(super) fn sampled<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("traceparent", SAMPLED.parse().unwrap());
    request
}

/// Puts one key and waits until its story is complete.
async fn put(scene: &Scene, key: &str) {
    let value = Bytes::from_static(b"v");
    let put =
        PutRequest { key: Bytes::copy_from_slice(key.as_bytes()), value, ..PutRequest::default() };
    scene.cluster.client(0).kv.put(sampled(put)).await.unwrap();
    scene.listener.told(("KV/Put", key), Told::is_complete).await;
}

/// Waits until the stories of all the clients' writes are complete.
async fn everything_told(scene: &Scene, writes: usize) -> Recording {
    // One more put, after which nothing is running: its backend commit covers all the others.
    put(scene, "busy/last").await;
    let recording = scene.listener.recording();
    let list = query::requests(&recording);
    let ids: Vec<u64> = (list.iter())
        .filter(|request| ["KV/Put", "KV/Txn"].contains(&request.method))
        .map(|request| request.id)
        .collect();
    assert_eq!(writes + 2, ids.len(), "requests that asked for a trace and have none");
    let order = Order::of(&recording);
    for id in ids {
        let story = query::Story::of(&recording, &order, id).unwrap();
        assert!(story.missing.is_empty(), "{:016x}: {:?}", id, story.missing);
    }
    recording
}

fn sends_come_first_and_clocks_only_rise(recording: &Recording) {
    let order = Order::of(recording);
    assert_eq!((recording.events.len(), 0), (order.rows.len(), order.withheld));
    let rank: HashMap<usize, usize> =
        order.rows.iter().enumerate().map(|(rank, place)| (*place, rank)).collect();
    assert_eq!(recording.events.len(), rank.len(), "an event is played twice");
    let mut clocks: HashMap<(u8, u16), u64> = HashMap::new();
    for place in &order.rows {
        let event = &recording.events[*place];
        let last = clocks.insert((event.member, event.boot), point(event)).unwrap_or(0);
        assert!(last <= point(event), "the member's clock goes back: {event:?}");
    }
    let mut pairs = 0;
    for (from, to) in &order.partner {
        if recording.events[*from].stage == Stage::RaftSend {
            pairs += 1;
            assert!(rank[from] < rank[to], "{:?}", recording.events[*to]);
        }
    }
    assert!(100 < pairs, "hardly a message has two ends: {pairs}");
}

fn chains_have_no_holes(recording: &Recording, from: usize) {
    let is_lossy = |member: u8| {
        let lost =
            |event: &glass_etcd::story::Event| (event.member, event.stage) == (member, Stage::Lost);
        0 < recording.dropped[usize::from(member)] || recording.events.iter().any(lost)
    };
    let mut gaps = uncaptured::gaps(recording);
    gaps.retain(|gap| {
        let member = recording.events[gap.event].member;
        from <= gap.event && CHAINS.contains(&gap.field) && !is_lossy(member)
    });
    let shown: Vec<_> = gaps.iter().map(|gap| (gap, &recording.events[gap.event])).collect();
    assert!(gaps.is_empty(), "{shown:#?}");
    for (stage, field) in [
        (Stage::RaftCommit, "commit.new"),
        (Stage::ApplyEntry, "applied.new"),
        (Stage::MvccWrite, "revision.new"),
        (Stage::WalFsync, "synced.new"),
    ] {
        let last = [0, 1, 2].map(|at| {
            let member = place_of(recording, at);
            let of = recording.events.iter().filter(|e| (e.member, e.stage) == (member, stage));
            of.filter_map(|event| event.field(field)).max().unwrap()
        });
        let [first, ..] = last;
        assert_eq!([first; 3], last, "the members tell of different ends of {field}");
    }
}

fn no_value_is_told(scene: &Scene, recording: &Recording, marker: &str) {
    let mut file = Vec::new();
    recording::write(&mut file, recording).unwrap();
    for (what, bytes) in [("raw batches", scene.listener.raw()), ("NDJSON", file)] {
        let has = |text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(has("busy/"), "{what}: not even the keys are there, so the search proves nothing");
        assert!(!has(marker), "{what}: it contains a value");
        // A field has eight bytes: part of a value in a field would fill one, or be split across
        // two.
        assert!(
            !has(&marker[7..15]) && !has(&marker[11..19]),
            "{what}: a part of it contains a value"
        );
    }
}
