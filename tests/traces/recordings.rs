//! Makes the recordings of broken clusters in `tests/recordings`, of which the tests of the binary
//! say that the player and `glass trace` tell what was done.
//!
//! Each scene starts a cluster that `m0` leads, does one thing to it with requests under way, and
//! writes all that the members recorded meanwhile. The scenes have fixed names, members and keys,
//! so that a recording can be made again, and the same tests hold; only its times and ids differ.
//! `tests/recordings/README.md` says how, and what was done.

use std::{fs::File, path::Path, time::Duration};

use bytes::Bytes;
use glass_etcd::{
    pb::etcdserverpb::RangeRequest,
    story::{Event, Recording, order::Order, recording},
    trace::{Kind, Stage, value::LEADER},
};
use tokio::task::JoinHandle;

use super::{
    Scene,
    commands::glass,
    listen::Listener,
    told::{Told, place_of},
};
use crate::{client::Client, cluster::Cluster, faults::links};

/// How long after its last step a scene is recorded: until the others know, and have stored it.
const AFTER: Duration = Duration::from_millis(400);
/// How long before its first put a recording begins, in nanoseconds.
const BEFORE_NS: i128 = 60_000_000;
/// The term of the first leader, if it is elected at once.
const FIRST_TERM: u64 = 2;
/// How often a cluster is started until `m0` leads it.
const STARTS: usize = 20;
/// How many stories a second are kept of those of the busy cluster.
const BUSY_TRACES: u32 = 300;
/// How long before and after that the members' figures are kept, in nanoseconds.
const FIGURES_NS: i128 = 250_000_000;
/// How much of it is kept, in nanoseconds.
const BUSY_NS: i128 = 12_000_000;

/// How many records the long recording has at least.
const LONG_RECORDS: usize = 100_000;
/// One of its loads.
const LONG_LOAD: [&str; 8] = ["bench", "put", "--clients", "32", "--conns", "4", "--seconds", "3"];

/// A cluster that `m0` leads.
async fn led_by_m0() -> Scene {
    for _ in 0..STARTS {
        let scene = Scene::start("recordings").await.expect("the subject is glass");
        let status = scene.cluster.client(0).status().await.unwrap();
        let is_led = status.header.is_some_and(|header| header.member_id == status.leader);
        if is_led && status.raft_term == FIRST_TERM {
            return scene;
        }
    }
    panic!("m0 never led in {STARTS} starts");
}

fn write(recording: &Recording, name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings");
    recording::write(File::create(folder.join(name)).unwrap(), recording).unwrap();
}

/// Keeps all from shortly before the scene's first put, except the figures of what is usual, which
/// are long and say nothing of the scene.
async fn keep(listener: &Listener, name: &str) {
    tokio::time::sleep(AFTER).await;
    let mut recording = listener.recording();
    let order = Order::of(&recording);
    let is_first = |event: &Event| {
        let key = event.key.as_ref().map(glass_etcd::story::KeyText::display);
        event.stage == Stage::Rpc && key.as_deref() == Some("told/before")
    };
    let first = recording.events.iter().position(is_first).unwrap();
    let from = order.times[first] - BEFORE_NS;
    let mut times = order.times.iter();
    recording.events.retain(|event| {
        let at = times.next().copied().unwrap_or_default();
        from <= at && event.stage != Stage::Usual
    });
    write(&recording, name);
}

fn put(cluster: &Cluster, at: usize, key: &'static str) -> JoinHandle<bool> {
    let mut client = cluster.client(at);
    tokio::spawn(async move { client.put(key, "v").await.is_ok() })
}

/// A put while all is well, whose story is recorded before anything else is done.
async fn before((cluster, listener): (&Cluster, &Listener), at: usize) {
    assert!(put(cluster, at, "told/before").await.unwrap());
    listener.told(("KV/Put", "told/before"), Told::is_complete).await;
}

/// Waits until member `at` has recorded this stage of the put.
async fn until(scene: &Scene, key: &'static str, at: usize, stage: Stage) {
    let is_there = |told: &Told| match told.on(at, stage).len() {
        0 => Err(format!("no {}", stage.name())),
        _ => Ok(()),
    };
    scene.listener.told(("KV/Put", key), is_there).await;
}

/// Waits until a member other than this one leads.
async fn another_leads(scene: &Scene, old: usize) -> usize {
    scene
        .listener
        .until("another leader", |recording| {
            let roles = recording.events.iter().filter(|event| event.stage == Stage::RaftRole);
            let leads = roles.filter(|event| event.field("role.new") == Some(LEADER));
            let newest = leads.max_by_key(|event| event.field("term.new")).ok_or("no election")?;
            let is_it = |at: &usize| place_of(recording, *at) == newest.member;
            let at = (0..3).find(is_it).filter(|at| *at != old);
            at.ok_or_else(|| format!("{newest:?}"))
        })
        .await
}

/// `m2` is stopped for 2 s. A put is sent to it meanwhile, and one to `m1`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes a recording; tests/recordings/README.md says how"]
async fn follower_stopped() {
    let scene = led_by_m0().await;
    before((&scene.cluster, &scene.listener), 1).await;
    // Its connection is there before: only then does the kernel say when the put came.
    let mut client = scene.cluster.client(2);
    client.put("told/connected", "v").await.unwrap();
    scene.cluster.pause(2);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let stopped = tokio::spawn(async move { client.put("told/stopped", "v").await.is_ok() });
    assert!(put(&scene.cluster, 1, "told/beside").await.unwrap());
    tokio::time::sleep(Duration::from_millis(1700)).await;
    scene.cluster.resume(2);
    assert!(stopped.await.unwrap());
    scene.listener.told(("KV/Put", "told/stopped"), Told::is_complete).await;
    keep(&scene.listener, "follower_stopped.ndjson").await;
}

/// `m1` and `m2` are stopped, `m0` takes a put and sends it to them, and is killed. They go on with
/// what is in their sockets: the entry outlives its leader, and its client never learns of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes a recording; tests/recordings/README.md says how"]
async fn leader_killed() {
    let mut scene = led_by_m0().await;
    before((&scene.cluster, &scene.listener), 1).await;
    scene.cluster.pause(1);
    scene.cluster.pause(2);
    let under_way = put(&scene.cluster, 0, "told/killed");
    until(&scene, "told/killed", 0, Stage::WalFsync).await;
    scene.cluster.kill(0);
    assert!(!under_way.await.unwrap());
    scene.cluster.resume(1);
    scene.cluster.resume(2);
    another_leads(&scene, 0).await;
    assert!(put(&scene.cluster, 1, "told/after").await.unwrap());
    keep(&scene.listener, "leader_killed.ndjson").await;
}

/// `m0` is stopped for 0.7 s with a put on its way to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes a recording; tests/recordings/README.md says how"]
async fn leader_stopped() {
    let scene = led_by_m0().await;
    before((&scene.cluster, &scene.listener), 1).await;
    scene.cluster.pause(0);
    let under_way = put(&scene.cluster, 1, "told/stopped");
    tokio::time::sleep(Duration::from_millis(700)).await;
    scene.cluster.resume(0);
    assert!(under_way.await.unwrap());
    scene.listener.told(("KV/Put", "told/stopped"), Told::is_complete).await;
    assert_eq!(0, scene.cluster.leader().await, "the machine was too slow: make it again");
    keep(&scene.listener, "leader_stopped.ndjson").await;
}

/// `m0` is stopped for 2.5 s with a put on its way to it, and another member is elected.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes a recording; tests/recordings/README.md says how"]
async fn leader_replaced() {
    let scene = led_by_m0().await;
    before((&scene.cluster, &scene.listener), 1).await;
    scene.cluster.pause(0);
    let under_way = put(&scene.cluster, 1, "told/replaced");
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    scene.cluster.resume(0);
    assert!(under_way.await.unwrap());
    assert_ne!(0, scene.cluster.leader().await, "nobody was elected: make it again");
    keep(&scene.listener, "leader_replaced.ndjson").await;
}

/// `m1` and `m2` are killed, `m0` takes a put and is killed; the two start again and elect a
/// leader, whose entry replaces the put's when `m0` starts again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes a recording; tests/recordings/README.md says how"]
async fn entry_lost() {
    let mut scene = led_by_m0().await;
    before((&scene.cluster, &scene.listener), 0).await;
    scene.cluster.kill(1);
    scene.cluster.kill(2);
    let lost = put(&scene.cluster, 0, "told/lost");
    until(&scene, "told/lost", 0, Stage::WalFsync).await;
    scene.cluster.kill(0);
    assert!(!lost.await.unwrap());
    scene.cluster.spawn(1);
    scene.cluster.spawn(2);
    scene.cluster.wait_ready(1).await;
    assert!(put(&scene.cluster, 1, "told/instead").await.unwrap());
    scene.cluster.spawn(0);
    scene.cluster.wait_ready(0).await;
    let is_cut = |recording: &Recording| {
        let cut = |event: &Event| {
            (event.member, event.stage) == (place_of(recording, 0), Stage::LogTruncate)
        };
        if recording.events.iter().any(cut) { Ok(()) } else { Err("no log.truncate".to_owned()) }
    };
    scene.listener.until("the lost entry is cut off", is_cut).await;
    keep(&scene.listener, "entry_lost.ndjson").await;
}

/// `m1` and `m2` are killed; `m0` is asked for a put and a linearizable get, which fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes a recording; tests/recordings/README.md says how"]
async fn no_quorum() {
    let mut scene = led_by_m0().await;
    before((&scene.cluster, &scene.listener), 0).await;
    scene.cluster.kill(1);
    scene.cluster.kill(2);
    let failed = put(&scene.cluster, 0, "told/alone");
    let mut client = scene.cluster.client(0);
    client.everything(false).await.unwrap_err();
    assert!(!failed.await.unwrap());
    keep(&scene.listener, "no_quorum.ndjson").await;
}

/// How long after a call a member may still propose its write once more: until then it is not known
/// that it has no effect.
const FORGOTTEN: Duration = Duration::from_millis(1_500);

fn get(mut client: Client, key: &'static str) -> JoinHandle<bool> {
    let key = Bytes::from_static(key.as_bytes());
    let request = RangeRequest { key, ..RangeRequest::default() };
    tokio::spawn(async move { client.kv.range(request).await.is_ok() })
}

/// All links of `m1` are cut, and a get and a put are sent to it; the get ends when it misses its
/// leader. Then it is asked for another get, which fails, as the put does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes a recording; tests/recordings/README.md says how"]
async fn cut_off() {
    let mut starts = 0;
    let scene = loop {
        let scene = links::Scene::start().await.expect("the subject is glass");
        if scene.leader().await == (0, FIRST_TERM) {
            break scene;
        }
        starts += 1;
        assert!(starts < STARTS, "m0 never led in {STARTS} starts");
    };
    before((&scene.cluster, &scene.listener), 1).await;
    scene.run(&["cut", "m1"]);
    let put = put(&scene.cluster, 1, "told/cut");
    assert!(!get(scene.cluster.client(1), "told/read").await.unwrap());
    assert!(!get(scene.cluster.client(1), "told/late").await.unwrap());
    assert!(!put.await.unwrap());
    tokio::time::sleep(FORGOTTEN).await;
    keep(&scene.listener, "cut_off.ndjson").await;
}

/// `m2` is killed; two puts; it starts again, and serves a put.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes a recording; tests/recordings/README.md says how"]
async fn restarted() {
    let mut scene = led_by_m0().await;
    before((&scene.cluster, &scene.listener), 2).await;
    scene.cluster.kill(2);
    assert!(put(&scene.cluster, 0, "told/without").await.unwrap());
    assert!(put(&scene.cluster, 1, "told/beside").await.unwrap());
    scene.cluster.spawn(2);
    scene.cluster.wait_ready(2).await;
    assert!(put(&scene.cluster, 2, "told/again").await.unwrap());
    scene.listener.told(("KV/Put", "told/again"), Told::is_complete).await;
    keep(&scene.listener, "restarted.ndjson").await;
}

/// The leader is killed and starts again, three times, with a put to a follower under way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes a recording; tests/recordings/README.md says how"]
async fn elections() {
    let mut scene = led_by_m0().await;
    before((&scene.cluster, &scene.listener), 1).await;
    let mut leader = 0;
    for key in ["told/first", "told/second", "told/third"] {
        let follower = (leader + 1) % 3;
        scene.cluster.pause(leader);
        let under_way = put(&scene.cluster, follower, key);
        until(&scene, key, follower, Stage::RaftInbox).await;
        scene.cluster.kill(leader);
        let next = another_leads(&scene, leader).await;
        scene.cluster.spawn(leader);
        scene.cluster.wait_ready(leader).await;
        assert!(under_way.await.unwrap());
        leader = next;
    }
    keep(&scene.listener, "elections.ndjson").await;
}

/// `glass bench put` with 64 clients; of its middle a part is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes a recording; tests/recordings/README.md says how"]
async fn busy() {
    let mut scene = led_by_m0().await;
    scene.listener = Listener::start_at(&scene.cluster, &[0, 1, 2], BUSY_TRACES).await;
    let args = ["bench", "put", "--clients", "64", "--conns", "8", "--seconds", "2"];
    let said = glass(&scene, &args).await;
    eprintln!("{said}");
    let whole = scene.listener.recording();
    write(&middle(&whole), "busy.ndjson");
}

/// A part from the middle of the load, with all members' events in it.
fn middle(recording: &Recording) -> Recording {
    let order = Order::of(recording);
    let is_rpc = |at: &usize| {
        let event = &recording.events[*at];
        (event.stage, event.kind) == (Stage::Rpc, Kind::Span)
    };
    let mut ends: Vec<i128> =
        (0..recording.events.len()).filter(is_rpc).map(|at| order.times[at]).collect();
    ends.sort_unstable();
    let from = ends[ends.len() / 2];
    let to = from + BUSY_NS;
    let mut part = recording.clone();
    let mut times = order.times.iter();
    part.events.retain(|event| {
        let at = times.next().copied().unwrap_or_default();
        // The figures before and after say how much the members did in between.
        let is_figure = event.kind == Kind::Keyframe && event.stage != Stage::Usual;
        let around = if is_figure { FIGURES_NS } else { 0 };
        (from - around..to + around).contains(&at)
    });
    part
}

/// Loads of puts; before each of the later ones the leader is killed, with the put of another
/// client under way, and then it starts again. The recording is for measurements, and too long for
/// the repository: it goes where programs are built.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes target/long.ndjson; tests/recordings/README.md says how"]
async fn long() {
    let mut scene = led_by_m0().await;
    scene.listener = Listener::start_at(&scene.cluster, &[0, 1, 2], BUSY_TRACES).await;
    let mut leader = 0;
    for round in 0.. {
        eprintln!("{}", glass(&scene, &LONG_LOAD).await);
        let records = scene.listener.recording().events.len();
        eprintln!("round {round}: {records} records");
        if LONG_RECORDS <= records && 1 < round {
            break;
        }
        let under_way = put(&scene.cluster, (leader + 1) % 3, "told/under-way");
        scene.cluster.kill(leader);
        let next = another_leads(&scene, leader).await;
        scene.cluster.spawn(leader);
        scene.cluster.wait_ready(leader).await;
        // Whether it comes through depends on where it was.
        _ = under_way.await;
        leader = next;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/long.ndjson");
    recording::write(File::create(path).unwrap(), &scene.listener.recording()).unwrap();
}
