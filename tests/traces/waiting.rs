//! The caller's wait: what happens before an rpc begins and after it ends, on the member that the
//! client talks to. The parts of a path add up to what the caller has measured.

use std::{collections::HashMap, thread, time::Duration};

use bytes::Bytes;
use glass_etcd::{
    clock,
    pb::etcdserverpb::PutRequest,
    story::{
        KeyText, Recording,
        order::Order,
        query::{
            Stories, Story,
            graph::Graph,
            path::{Segment, Wait, critical_path},
            requests,
        },
    },
    trace::Stage,
};

use super::{
    Scene,
    commands::glass,
    told::{Told, place_of},
};
use crate::{
    cluster::Cluster,
    raw::{Call, Raw},
};

const PUT: &str = "/etcdserverpb.KV/Put";
/// A caller that wants a trace.
const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// How long a follower is stopped.
const STOPPED: Duration = Duration::from_secs(2);
/// Before the put is sent to it.
const ALREADY: Duration = Duration::from_millis(400);
/// Clients that put at the same time, each on a connection of its own.
const CLIENTS: usize = 24;
/// Requests whose waits are compared.
const SAMPLES: usize = 1000;
/// Puts of each client. No more than 500 a second are kept.
const PUTS: usize = 100;

fn path_of(told: &Told) -> Vec<Segment> {
    let graph = Graph::of(&told.recording, &told.order, &told.story);
    critical_path(&told.recording, &told.order, &told.story, &graph).expect("the rpc has ended")
}

fn sum(path: &[Segment]) -> u64 {
    path.iter().map(|segment| segment.ns).sum()
}

/// Goal: the story says what a client waits for before its member can read anything, and why.
/// Method: a follower is stopped for two seconds, and a put is sent to it meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_to_a_stopped_follower_tells_that_the_process_stood_still() {
    let Some(scene) = Scene::start("standstills").await else { return };
    let [_, follower, _] = scene.parts().await;
    let mut client = Raw::connect(&scene.cluster, follower);
    client.note_arrivals();
    assert!(client.ask(&put("waiting/before")).is_ok());
    scene.cluster.pause(follower);
    tokio::time::sleep(ALREADY).await;
    let sent = clock::wall();
    let stream = client.call(&put("waiting/stopped"));
    let arrived = clock::wall();
    tokio::time::sleep(STOPPED - ALREADY).await;
    let lay_at_least = clock::wall() - arrived;
    scene.cluster.resume(follower);
    let answer = move || (client.answer(stream).is_ok(), client.arrived);
    let (is_ok, answered) = tokio::task::spawn_blocking(answer).await.unwrap();
    let waited = answered.expect("the kernel notes it") - sent;
    assert!(is_ok && lay_at_least <= waited, "{waited:?}");
    let told = scene
        .listener
        .told(("KV/Put", "waiting/stopped"), |told| {
            let has = |stage| !told.on(follower, stage).is_empty();
            let all = [Stage::ProcessStalled, Stage::SocketQueue, Stage::AnswerFlush, Stage::Rpc];
            if all.into_iter().all(has) { Ok(()) } else { Err("incomplete".to_owned()) }
        })
        .await;
    let lay = told.one(follower, Stage::SocketQueue).event.took_ns;
    assert!(lay_at_least.as_nanos() <= lay.into(), "{lay}\n{}", told.text());
    let path = path_of(&told);
    let (ns, waited_ns) = (sum(&path), u64::try_from(waited.as_nanos()).unwrap());
    assert!(ns.abs_diff(waited_ns) < waited_ns / 20, "{ns} of {waited_ns}\n{}", told.text());
    let stalled = path.iter().find(|piece| piece.wait == Wait::Step(Stage::ProcessStalled));
    let stalled = stalled.expect("the process stood still");
    assert_eq!(place_of(&told.recording, follower), stalled.member);
    assert!(waited_ns * 9 / 10 < stalled.ns, "{stalled:?}\n{}", told.text());
    let id = format!("{:016x}", told.story.id);
    let text = glass(&scene, &["trace", "show", &id, "--plain"]).await;
    let line = format!("the process of m{follower} stood still");
    let line = text.lines().find(|told| told.contains(&line)).unwrap_or_else(|| panic!("{text}"));
    assert!(line.contains("before `rpc`"), "{line}");
}

/// Goal: the story says what a client waits for whose connection is not taken, although no byte of
/// its request has arrived yet. Method: a client that waits for the settings connects to a stopped
/// follower.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_on_a_new_connection_to_a_stopped_follower_tells_that_the_connection_waited() {
    let Some(scene) = Scene::start("late connections").await else { return };
    let [_, follower, _] = scene.parts().await;
    scene.cluster.pause(follower);
    tokio::time::sleep(ALREADY).await;
    let began = clock::wall();
    let mut client = Raw::connect(&scene.cluster, follower);
    client.note_arrivals();
    let connected = clock::wall();
    tokio::time::sleep(STOPPED - ALREADY).await;
    let lay_at_least = clock::wall() - connected;
    scene.cluster.resume(follower);
    let ask = move || {
        client.settle();
        (client.ask(&put("waiting/connected")).is_ok(), client.arrived)
    };
    let (is_ok, answered) = tokio::task::spawn_blocking(ask).await.unwrap();
    let waited = answered.expect("the kernel notes it") - began;
    assert!(is_ok);
    let told = scene
        .listener
        .told(("KV/Put", "waiting/connected"), |told| {
            let has = |stage| !told.on(follower, stage).is_empty();
            let all = [Stage::ProcessStalled, Stage::ConnectionAccept, Stage::AnswerFlush];
            if all.into_iter().all(has) { Ok(()) } else { Err("incomplete".to_owned()) }
        })
        .await;
    let lay = u128::from(told.one(follower, Stage::ConnectionAccept).event.took_ns);
    let tick = 10_000_000;
    assert!(lay_at_least.as_nanos() <= lay + tick, "{lay}\n{}", told.text());
    let path = path_of(&told);
    let (ns, waited_ns) = (sum(&path), u64::try_from(waited.as_nanos()).unwrap());
    assert!(ns.abs_diff(waited_ns) < waited_ns / 20, "{ns} of {waited_ns}\n{}", told.text());
    let stalled = path.iter().filter(|piece| piece.wait == Wait::Step(Stage::ProcessStalled));
    let stalled: u64 = stalled.map(|piece| piece.ns).sum();
    assert!(waited_ns * 9 / 10 < stalled, "{path:?}\n{}", told.text());
}

fn put(key: &str) -> Call<'static> {
    let key = Bytes::copy_from_slice(key.as_bytes());
    let value = Bytes::from_static(&[7; 256]);
    Call::new(PUT, &PutRequest { key, value, ..PutRequest::default() })
}

/// Goal: the parts of a path add up to what the callers wait for, under load too. Method: many
/// clients put at once, and ask for traces. Each measures from before its write until the kernel
/// has the answer, so that its own wait for a CPU does not count. Sums are compared, over a
/// thousand requests whose parts were all captured.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_parts_of_a_path_add_up_to_the_wait_of_its_caller() {
    let Some(scene) = Scene::start("the sum of the parts").await else { return };
    let cluster = &scene.cluster;
    let waits: HashMap<String, u64> = thread::scope(|scope| {
        let clients = (0..CLIENTS).map(|client| scope.spawn(move || put_often(cluster, client)));
        let clients: Vec<_> = clients.collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    let recording = scene
        .listener
        .until("enough requests", |recording| {
            let answers = recording.events.iter().filter(|e| e.stage == Stage::AnswerFlush);
            let answers = answers.count();
            if SAMPLES <= answers { Ok(recording.clone()) } else { Err(format!("{answers}")) }
        })
        .await;
    let parts = parts(&recording);
    let both = parts.iter().filter_map(|(key, parts)| Some((*parts, *waits.get(key)?)));
    let both: Vec<(u64, u64)> = both.collect();
    let sums = both.iter().fold([0, 0], |[a, b], (parts, waited)| [a + parts, b + waited]);
    let [told, waited] = sums.map(|sum| sum / both.len().max(1) as u64);
    eprintln!("{} requests, {told} ns told, {waited} ns waited", both.len());
    assert!(SAMPLES * 9 / 10 <= both.len(), "{} of {}", both.len(), waits.len());
    assert!(told.abs_diff(waited) <= waited / 20, "{told} ns are told, {waited} ns were waited");
}

/// Puts of one client: their keys, and how long each waited, in nanoseconds.
fn put_often(cluster: &Cluster, client: usize) -> Vec<(String, u64)> {
    let mut raw = Raw::connect(cluster, client % 3);
    raw.note_arrivals();
    (0..PUTS)
        .map(|number| {
            let key = format!("sum/{client}/{number}");
            let call = put(&key).with("traceparent", SAMPLED);
            let sent = clock::wall();
            assert!(raw.ask(&call).is_ok(), "{key}");
            let waited = raw.arrived.expect("the kernel notes it").saturating_sub(sent);
            (key, u64::try_from(waited.as_nanos()).unwrap())
        })
        .collect()
}

/// The sum of the parts of each request of which all parts were captured, by key.
fn parts(recording: &Recording) -> HashMap<String, u64> {
    let order = Order::of(recording);
    let stories = Stories::new(recording, &order);
    let is_whole = |story: &Story| {
        [Stage::SocketQueue, Stage::RpcQueue, Stage::AnswerFlush]
            .into_iter()
            .all(|stage| story.steps.iter().any(|step| recording.events[step.event].stage == stage))
    };
    let mut sums = HashMap::new();
    for request in requests(recording) {
        let Some(key) = request.key.as_ref().map(KeyText::display) else { continue };
        let story = stories.of(request.id).filter(is_whole);
        let path = story
            .and_then(|story| critical_path(recording, &order, &story, &stories.graph(&story)));
        if let Some(path) = path {
            sums.insert(key, sum(&path));
        }
    }
    sums
}
