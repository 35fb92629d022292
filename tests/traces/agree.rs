//! The player and `glass trace show`, each on the live members, say the same of the same request.

use std::collections::BTreeMap;

use glass_etcd::{
    pb::etcdserverpb::{
        Compare, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
        WatchCreateRequest, WatchRequest, compare, request_op, watch_client::WatchClient,
        watch_request::RequestUnion,
    },
    trace::{Grain, Stage},
};
use tokio_stream::StreamExt as _;
use tonic::transport::Endpoint;

use super::{Scene, commands::glass, news::next, told::Told};
use crate::locks::Locks;

/// The two commands align the members' clocks each for itself, by all messages that they have.
const ALIGNED_US: f64 = 1_000.0;
/// Spans of which the player shows only the beginning among the steps of a story.
const BEGINNINGS: [&str; 2] = ["raft.propose", "read_index.wait"];

/// What one of the two says of a request.
#[derive(Debug, PartialEq)]
struct Said {
    member: String,
    result: String,
    took_us: f64,
    /// The steps of each member, in its order, with their times since the request began.
    steps: BTreeMap<String, Vec<(String, f64)>>,
}

/// Goal: they never disagree. Method: a request of each kind, with both commands on the live
/// members.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_player_and_show_say_the_same_of_the_same_live_request() {
    let Some(scene) = Scene::start("the player and show").await else { return };
    let mut news = watched(&scene).await;
    requests(&scene).await;
    assert_eq!(1, next(&mut news).await.events.len(), "the watcher has its event");
    let is_over = |told: &Told| told.is_complete();
    let requests = [
        ("KV/Put", "agree/put"),
        ("KV/Range", "agree/put"),
        ("KV/Txn", "agree/txn"),
        ("KV/Put", "agree/watched"),
        ("Lock/Lock", "agree/lock"),
        ("internal/LeaseExpire", "agree/leased"),
    ];
    for what in requests {
        let told = scene.listener.told(what, is_over).await;
        let id = format!("{:016x}", told.story.id);
        let shown = glass(&scene, &["trace", "show", &id]).await;
        let played = glass(&scene, &["play", "--plain"]).await;
        let headline = format!("{} {} on ", what.0, what.1);
        let block = played.split("\n\n").find(|block| block.contains(&headline));
        let block = block.unwrap_or_else(|| panic!("no {headline}in\n{played}"));
        agree(&of_show(&shown), &of_player(block, &headline), &format!("{shown}\n{block}"));
    }
}

async fn watched(scene: &Scene) -> tonic::Streaming<glass_etcd::pb::etcdserverpb::WatchResponse> {
    let create = WatchCreateRequest { key: "agree/watched".into(), ..Default::default() };
    let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let url = format!("http://{}", scene.cluster.members[1].client_address());
    let channel = Endpoint::from_shared(url).unwrap().connect().await.unwrap();
    let requests = tokio_stream::iter([create]).chain(tokio_stream::pending());
    let mut news = WatchClient::new(channel).watch(requests).await.unwrap().into_inner();
    assert!(next(&mut news).await.created);
    news
}

/// One request of each kind, on a follower where it matters.
async fn requests(scene: &Scene) {
    let [leader, follower, _] = scene.parts().await;
    let mut client = scene.cluster.client(follower);
    let grant = LeaseGrantRequest { id: 0x7a9, ttl: 1 };
    client.lease.lease_grant(grant).await.unwrap();
    let (key, value) = ("agree/leased".into(), "v".into());
    client.kv.put(PutRequest { key, value, lease: 0x7a9, ..Default::default() }).await.unwrap();
    client.put("agree/put", "v").await.unwrap();
    client.put("agree/watched", "v").await.unwrap();
    let get = RangeRequest { key: "agree/put".into(), ..Default::default() };
    client.kv.range(get).await.unwrap();
    let put = PutRequest { key: "agree/txn".into(), value: "v".into(), ..Default::default() };
    let compare = Compare {
        key: "agree/txn".into(),
        target: compare::CompareTarget::Version.into(),
        target_union: Some(compare::TargetUnion::Version(0)),
        ..Default::default()
    };
    let txn = TxnRequest {
        compare: vec![compare],
        success: vec![RequestOp { request: Some(request_op::Request::RequestPut(put)) }],
        failure: Vec::new(),
    };
    assert!(client.kv.txn(txn).await.unwrap().into_inner().succeeded);
    Locks::of(&scene.cluster, leader).lock("agree/lock", 0).await.unwrap();
}

/// Checks that both say the same.
fn agree(shown: &Said, played: &Said, text: &str) {
    assert_eq!((&shown.member, &shown.result), (&played.member, &played.result), "{text}");
    assert_near(shown.took_us, played.took_us, text);
    assert!(3 < shown.steps.values().map(Vec::len).sum::<usize>(), "{text}");
    let names = |said: &Said| -> BTreeMap<String, Vec<String>> {
        let of = |(member, steps): (&String, &Vec<(String, f64)>)| {
            (member.clone(), steps.iter().map(|(name, _)| name.clone()).collect())
        };
        said.steps.iter().map(of).collect()
    };
    assert_eq!(names(shown), names(played), "{text}");
    let pairs = shown.steps.values().flatten().zip(played.steps.values().flatten());
    pairs.for_each(|(shown, played)| assert_near(shown.1, played.1, text));
}

/// Durations of the player have two or three digits.
fn assert_near(shown: f64, played: f64, text: &str) {
    let room = ALIGNED_US + shown.abs() / 10.0;
    assert!((shown - played).abs() <= room, "{shown} and {played} us\n{text}");
}

/// The story as `show` prints it.
fn of_show(text: &str) -> Said {
    let facts = text.lines().nth(1).unwrap();
    let facts: Vec<&str> = facts.split("  ").collect();
    let fact = |begins: &str| facts.iter().find_map(|fact| fact.strip_prefix(begins));
    let mut steps: BTreeMap<String, Vec<(String, f64)>> = BTreeMap::new();
    for line in text.lines().filter(|line| line.trim_start().starts_with(['+', '-'])) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (stage, is_begin) = (words[3], words.get(4) == Some(&"begins"));
        let of_story =
            Stage::ALL.iter().any(|known| known.name() == stage && known.grain() == Grain::Story);
        if is_begin || !of_story || BEGINNINGS.contains(&stage) {
            continue;
        }
        let message = words.iter().find_map(|word| word.strip_prefix("type="));
        let at: f64 = words[0].parse().unwrap();
        let own = steps.entry(words[2].to_owned()).or_default();
        own.push((message.unwrap_or(stage).to_owned(), at * 1_000.0));
    }
    let took = fact("took ").unwrap().trim_end_matches(" ms");
    let after_took = facts.iter().skip_while(|fact| !fact.starts_with("took ")).nth(1);
    Said {
        member: fact("served by ").unwrap().to_owned(),
        result: (*after_took.unwrap()).to_owned(),
        took_us: took.parse::<f64>().unwrap() * 1_000.0,
        steps,
    }
}

/// The story as the player's text has it.
fn of_player(block: &str, headline: &str) -> Said {
    let mut lines = block.lines().skip_while(|line| !line.contains(headline));
    let facts = lines.next().unwrap();
    let (_, facts) = facts.split_once(headline).unwrap();
    let facts: Vec<&str> = facts.split("   ").collect();
    let mut steps: BTreeMap<String, Vec<(String, f64)>> = BTreeMap::new();
    let mut took_us = 0.0;
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_step = words.len() > 4 && words[1].starts_with(['+', '-']);
        if !is_step {
            continue;
        }
        let at = micros(words[1], words[2]);
        let Some(name) = done(&words[4..]) else { continue };
        steps.entry(words[3].to_owned()).or_default().push((name, at));
    }
    for line in block.lines().filter(|line| !line.starts_with("  ")) {
        // The row of the list: the result follows the duration.
        let words: Vec<&str> = line.split_whitespace().collect();
        let unit = words.iter().rposition(|word| ["ns", "µs", "ms", "s"].contains(word));
        took_us = unit.map_or(took_us, |at| micros(words[at - 1], words[at]));
    }
    let result = facts.last().unwrap().trim().to_owned();
    Said { member: facts[0].trim().to_owned(), result, took_us, steps }
}

/// The name of a step that is done; `None` for one that begins.
fn done(words: &[&str]) -> Option<String> {
    if let Some(message) = words.iter().find(|word| word.starts_with("Msg")) {
        return Some((*message).to_owned());
    }
    let waits = ["read_index.round", "lock.wait", "answer.room", "read.queue"];
    match words {
        ["rpc", "answers" | "fails", ..] => Some("rpc".to_owned()),
        ["rpc", ..] => None,
        ["becomes", ..] => Some("raft.role".to_owned()),
        [name, ..] if BEGINNINGS.contains(name) => None,
        [name, "done", ..] if waits.contains(name) => Some((*name).to_owned()),
        [name, ..] if waits.contains(name) => None,
        [_, "begins", ..] => None,
        [name, ..] => Some((*name).to_owned()),
        [] => None,
    }
}

fn micros(number: &str, unit: &str) -> f64 {
    let factor = match unit {
        "ns" => 0.001,
        "µs" => 1.0,
        "ms" => 1_000.0,
        "s" => 1_000_000.0,
        _ => panic!("{unit}"),
    };
    number.parse::<f64>().unwrap() * factor
}
