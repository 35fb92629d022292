//! `glass trace diff` on a live cluster, and batches in `show`: the differences that they print are
//! the real ones.

use std::collections::BTreeMap;

use bytes::Bytes;
use glass_etcd::{
    pb::etcdserverpb::{PutRequest, RangeRequest},
    story::query::{self, graph::Graph},
};
use serde_json::Value;

use super::{Scene, commands::glass, order::sampled, puts, told::Told};

/// Concurrent puts.
const AT_ONCE: usize = 256;
/// How many rounds of them may pass without a captured put in a batch.
const ATTEMPTS: usize = 5;

async fn put(scene: &Scene, at: usize, key: &str) -> Told {
    scene.cluster.client(at).put(key, "v").await.unwrap();
    scene.listener.told(("KV/Put", key), puts::is_complete).await
}

async fn get(scene: &Scene, at: usize, key: &str, serializable: bool) -> Told {
    let key_bytes = Bytes::copy_from_slice(key.as_bytes());
    let request = RangeRequest { key: key_bytes, serializable, ..RangeRequest::default() };
    scene.cluster.client(at).kv.range(request).await.unwrap();
    // The key names both reads; the last is meant, and only a linearizable one has a round.
    let is_meant = |told: &Told| {
        let has_round = told.steps().any(|seen| seen.event.stage.name() == "read_index.round");
        told.is_complete()?;
        if has_round == serializable { Err("the other read".to_owned()) } else { Ok(()) }
    };
    scene.listener.told(("KV/Range", key), is_meant).await
}

async fn diff(scene: &Scene, a: &Told, b: &Told, form: &str) -> String {
    let ids = [a, b].map(|told| format!("{:016x}", told.story.id));
    glass(scene, &["trace", "diff", &ids[0], &ids[1], form]).await
}

/// Goal: a put on a follower and one on the leader differ by the forwarded proposal, in the text
/// and in the JSON. Method: one of each on an idle cluster.
pub(super) async fn a_put_on_a_follower_differs_by_its_proposal(scene: &Scene) {
    let [leader, follower, _] = scene.parts().await;
    let a = put(scene, follower, "diff/follower").await;
    let b = put(scene, leader, "diff/leader").await;
    let text = diff(scene, &a, &b, "--plain").await;
    let first = "A was sent to a follower, which forwarded the proposal to the leader; \
        B was sent to the leader.";
    assert_eq!(Some(first), text.lines().next(), "{text}");
    let line_of = |words: [&str; 2]| {
        let is_meant = |line: &&str| words.iter().all(|word| line.contains(word));
        text.lines().find(is_meant).unwrap_or_else(|| panic!("{words:?}: {text}"))
    };
    assert!(line_of(["MsgProp", "followers to leader"]).starts_with("  only A "), "{text}");
    let fact = line_of(["its role", "A: follower"]);
    assert!(fact.ends_with("B: leader"), "{text}");
    assert!(!text.contains("unknown"), "{text}");
    for both in ["MsgApp ", "MsgAppResp", "apply.entry", "backend.commit", "wal.fsync"] {
        let line = line_of([both, ""]);
        assert!(!line.contains("only"), "{line}\n{text}");
    }
    let json = diff(scene, &a, &b, "--json").await;
    let lines: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (&Value::Bool(false), &Value::Bool(true)),
        (&lines[0]["a"]["is_leader"], &lines[0]["b"]["is_leader"])
    );
    let sides = [("a", "a_ns"), ("b", "b_ns")];
    for (side, ns) in sides {
        let sum: u64 = lines.iter().filter_map(|line| line[ns].as_u64()).sum();
        // Each piece is rounded to a nanosecond by itself.
        let took = lines[0][side]["took_ns"].as_u64().unwrap();
        assert!(sum.abs_diff(took) <= lines.len() as u64, "{sum} {took}: {json}");
    }
}

/// Goal: a serializable read is distinguished from a linearizable one. Method: both on one
/// follower.
pub(super) async fn a_serializable_get_differs_by_its_round(scene: &Scene) {
    let [_, follower, _] = scene.parts().await;
    let key = "diff/read";
    put(scene, follower, key).await;
    let a = get(scene, follower, key, false).await;
    let b = get(scene, follower, key, true).await;
    let text = diff(scene, &a, &b, "--plain").await;
    let first = "A went through the leader's ReadIndex round, B did not: B was serializable.";
    assert_eq!(Some(first), text.lines().next(), "{text}");
    for step in ["read_index.round", "read_index.confirmed", "MsgReadIndex ", "MsgHeartbeatResp"] {
        // The lines before the list of steps may name the largest part, which is one of these.
        let mut steps = text.lines().skip_while(|line| !line.starts_with("steps"));
        let line = steps.find(|line| line.contains(step));
        assert!(line.is_some_and(|line| line.starts_with("  only A ")), "{step}: {text}");
    }
    // In how many pieces a call arrives, and how long it lay there, is chance.
    let is_at_edge = |line: &&str| {
        let edges = glass_etcd::trace::Stage::ALL.iter().filter(|stage| stage.is_at_edge());
        edges.map(|stage| stage.name()).any(|name| line.contains(name))
    };
    let of_b: Vec<_> = text.lines().filter(|line| line.starts_with("  only B ")).collect();
    assert!(of_b.iter().all(is_at_edge), "{text}");
}

/// Goal: for a lone put, `show` says that its fsyncs were for it alone; for one of many, how many
/// shared them. Method: a put on an idle cluster; then 256 at once, of which one captured put
/// shared the leader's fsync, according to its records.
pub(super) async fn a_put_alone_has_no_companions_and_one_of_many_has(scene: &Scene) {
    let [leader, ..] = scene.parts().await;
    // Earlier entries must be on all disks, or a slow disk syncs both together.
    put(scene, leader, "batch/before").await;
    let alone = put(scene, leader, "batch/alone").await;
    let fsyncs = fsyncs_of(&show(scene, alone.story.id).await);
    assert_eq!(3, fsyncs.len(), "{fsyncs:?}");
    for words in fsyncs.values() {
        assert_eq!("for this entry alone", words, "{fsyncs:?}");
    }
    for attempt in 0..ATTEMPTS {
        many_at_once(scene, leader, attempt).await;
        let Some((told, entries)) = told_in_a_batch(scene, leader, attempt).await else { continue };
        let fsyncs = fsyncs_of(&show(scene, told.story.id).await);
        let others = entries - 1;
        let entry = if others == 1 { "entry" } else { "entries" };
        let words = format!("shared with {others} other {entry}");
        assert_eq!(Some(&words), fsyncs.get(&format!("m{leader}")), "{fsyncs:?}");
        let text = diff(scene, &alone, &told, "--plain").await;
        let first = format!("The leader's fsync was {words} in B, and for this entry alone in A.");
        assert_eq!(Some(first.as_str()), text.lines().next(), "{text}");
        return;
    }
    panic!("no put of {ATTEMPTS} times {AT_ONCE} shared an fsync");
}

async fn many_at_once(scene: &Scene, leader: usize, attempt: usize) {
    let puts: Vec<_> = (0..AT_ONCE)
        .map(|number| {
            let mut client = scene.cluster.client(leader);
            let key = Bytes::from(format!("batch/{attempt}/{number}"));
            let mut request =
                PutRequest { key, value: Bytes::from_static(b"v"), ..PutRequest::default() };
            request.prev_kv = false;
            // Some of them are kept at any load.
            let is_sampled = number % 16 == 0;
            tokio::spawn(async move {
                match is_sampled {
                    true => client.kv.put(sampled(request)).await.map(|_| ()),
                    false => client.kv.put(request).await.map(|_| ()),
                }
            })
        })
        .collect();
    for put in puts {
        put.await.unwrap().unwrap();
    }
}

/// A complete put among these that shared the leader's fsync, and how many entries the fsync had.
async fn told_in_a_batch(scene: &Scene, leader: usize, attempt: usize) -> Option<(Told, u64)> {
    let prefix = format!("batch/{attempt}/");
    let sampled = AT_ONCE / 16;
    let all = scene.listener.until("the puts that were sampled", |recording| {
        let is_meant = |request: &&query::Summary| {
            let key = request.key.as_ref().map(glass_etcd::story::KeyText::display);
            request.method == "KV/Put" && key.is_some_and(|key| key.starts_with(&prefix))
        };
        let requests = query::requests(recording);
        let told: Vec<Told> = (requests.iter().filter(is_meant))
            .filter_map(|request| Told::of(recording, request.id))
            .filter(|told| puts::is_complete(told).is_ok())
            .take(sampled)
            .collect();
        if told.len() == sampled { Ok(told) } else { Err(format!("{}", told.len())) }
    });
    let in_batch = |told: Told| {
        let graph = Graph::of(&told.recording, &told.order, &told.story);
        let leader = super::told::place_of(&told.recording, leader);
        let entries = graph.fsync_on(leader)?.entries;
        (1 < entries).then_some((told, entries))
    };
    all.await.into_iter().find_map(in_batch)
}

async fn show(scene: &Scene, id: u64) -> String {
    glass(scene, &["trace", "show", &format!("{id:016x}"), "--plain"]).await
}

/// The lines about fsyncs, by member: `  an fsync on m0: 88 bytes, for this entry alone`.
fn fsyncs_of(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("  an fsync on "));
    lines
        .map(|line| {
            let (member, rest) = line.split_once(": ").unwrap();
            (member.to_owned(), rest.split_once(", ").unwrap().1.to_owned())
        })
        .collect()
}
