//! Snapshots: a follower that needs entries which its leader has dropped gets the database.

use std::{collections::BTreeMap, fs, time::Duration};

use glass_etcd::{
    change, field, fields,
    pb::etcdserverpb::{
        WatchCreateRequest, WatchRequest, watch_client::WatchClient, watch_request::RequestUnion,
    },
    storage::backend::{Backend, Options},
    story::{Event, Recording},
    trace::{Kind as RecordKind, Stage},
};
use tokio_stream::StreamExt as _;
use tonic::transport::Endpoint;

use super::{SOON, members, same_hashes};
use crate::{
    client::eventually,
    cluster::Cluster,
    programs::{Kind, left_out},
    traces::listen::Listener,
};

/// Snapshots come often, and few entries stay for followers.
const OFTEN: [(&str, &str); 3] = [
    ("ETCD_SNAPSHOT_COUNT", "100"),
    ("ETCD_EXPERIMENTAL_SNAPSHOT_CATCHUP_ENTRIES", "10"),
    ("ETCD_MAX_SNAPSHOTS", "2"),
];

/// The environment of [`OFTEN`], and these failpoints.
fn often_with(failpoints: &str) -> Vec<(&str, &str)> {
    OFTEN.into_iter().chain([("FAILPOINTS", failpoints)]).collect()
}

/// The `.snap` files of a member.
fn snap_files(cluster: &Cluster, at: usize) -> Vec<String> {
    let dir = cluster.members[at].data_dir.join("member/snap");
    let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().file_name());
    let names = files.map(|name| name.into_string().unwrap());
    names.filter(|name| name.ends_with(".snap")).collect()
}

/// Puts `count` values below the key `prefix`, through members that run.
async fn puts(cluster: &Cluster, at: usize, prefix: &str, count: usize) -> i64 {
    let mut client = cluster.client(at);
    let mut revision = 0;
    for number in 0..count {
        let key = format!("{prefix}/{}", number % 50);
        revision = client.put(&key, &format!("{number}")).await.unwrap();
    }
    revision
}

/// Goal: a follower that was away for longer than the log reaches back catches up while writes go
/// on; a watcher on it, and one that was there before, see every event once. Method: snapshots
/// come every hundred entries; a follower is stopped for five hundred puts, and continues in the
/// middle of more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_has_fallen_behind_the_log_gets_the_database_under_load() {
    let kind = Kind::subject();
    let often = often_with("purge-every-ms=return(500)");
    let mut cluster = Cluster::start_with(&kind, 3, &often).await;
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    let listener = match kind {
        Kind::Glass => Some(Listener::start(&cluster).await),
        _ => None,
    };
    puts(&cluster, leader, "w", 5).await;
    let first = puts(&cluster, leader, "w", 1).await;
    // A paused process keeps its watcher; a killed one would lose it.
    let mut events = watch(&cluster, follower, first + 1).await;
    cluster.pause(follower);
    puts(&cluster, leader, "w", 500).await;
    cluster.resume(follower);
    let last = puts(&cluster, leader, "w", 300).await;
    let mut seen = BTreeMap::new();
    while !seen.contains_key(&last) {
        let next = tokio::time::timeout(SOON, events.next()).await.expect("events come");
        let answer = next.expect("the watcher goes on").unwrap();
        assert!(!answer.canceled, "{answer:?}");
        for event in answer.events {
            let kv = event.kv.unwrap();
            let before = seen.insert(kv.mod_revision, kv.value);
            assert_eq!(before, None, "revision {} came twice", kv.mod_revision);
        }
    }
    let expected: Vec<i64> = (first + 1..=last).collect();
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), expected);
    same_hashes(&cluster, last).await;
    if let Some(listener) = listener {
        told(&listener, leader, follower).await;
        let log = cluster.log(follower);
        assert!(log.contains("applied a snapshot that was received"), "{log}");
        assert!(snap_files(&cluster, leader).len() >= 2);
        // What it received is durable: it starts from there.
        cluster.kill(follower);
        cluster.spawn(follower);
        cluster.wait_ready(follower).await;
        same_hashes(&cluster, last).await;
    }
}

/// Goal: a member that joins a cluster whose log no longer begins with the first entry gets the
/// database, also if it is killed before it has got anything. Method: its first start drops all
/// messages of the others, and is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_joins_gets_the_database_even_if_it_is_killed_before() {
    if Kind::subject() != Kind::Glass {
        return left_out("joining by snapshot: it has no failpoints");
    }
    let mut cluster = Cluster::start_with(&Kind::Glass, 3, &OFTEN).await;
    let leader = cluster.leader().await;
    let last = puts(&cluster, leader, "j", 300).await;
    let at = cluster.prepare_another(&Kind::Glass);
    let id = members::add(&mut cluster, leader, at, false).await;
    cluster.set_env(at, &often_with("peer-drop-receive=return"));
    cluster.spawn(at);
    let dialled = format!("peer {id:x}: message stream opened");
    eventually("the others reach it", SOON, || async {
        let log = cluster.log(leader);
        if log.contains(&dialled) { Ok(()) } else { Err(log) }
    })
    .await;
    cluster.kill(at);
    cluster.set_env(at, &OFTEN);
    cluster.spawn(at);
    cluster.wait_ready(at).await;
    same_hashes(&cluster, last).await;
    let log = cluster.log(at);
    assert!(log.contains("applied a snapshot that was received"), "{log}");
}

/// Goal: each step of a snapshot has its record, on the member that takes it. Method: the records
/// of the leader and of the follower.
async fn told(listener: &Listener, leader: usize, follower: usize) {
    let of = |recording: &Recording, at: usize, stage: Stage| {
        let name = format!("m{at}");
        let is_meant = |event: &&Event| {
            recording.members[usize::from(event.member)].name == name
                && (event.stage, event.result) == (stage, 0)
                && event.kind != RecordKind::Begin
        };
        let found = recording.events.iter().rfind(is_meant).cloned();
        found.ok_or_else(|| format!("m{at} has no {}", stage.name()))
    };
    let look = |recording: &Recording| {
        let sent = of(recording, leader, Stage::SnapshotSend)?;
        let received = of(recording, follower, Stage::SnapshotReceive)?;
        let accepted = of(recording, follower, Stage::SnapshotAccept)?;
        let installed = of(recording, follower, Stage::SnapshotInstall)?;
        of(recording, leader, Stage::LogCompact)?;
        of(recording, leader, Stage::LogPurge)?;
        let made = of(recording, leader, Stage::SnapshotMake)?;
        Ok([sent, received, accepted, installed, made])
    };
    let [sent, received, accepted, installed, made] =
        listener.until("every step of a snapshot", look).await;
    let [index, term, bytes] = fields!(sent, SnapshotSend: index, term, bytes);
    assert_eq!(fields!(received, SnapshotReceive: index, term, bytes), [index, term, bytes]);
    assert_eq!(change!(accepted, SnapshotAccept, last)[1], index);
    let [old, new] = change!(installed, SnapshotInstall, applied);
    assert!(old < new && new == index, "{old} {new} {index}");
    let [before, after] = change!(installed, SnapshotInstall, revision);
    assert!(before < after, "{before} {after}");
    assert_eq!(field!(installed, SnapshotInstall, watchers), 1);
    let [index, stored] = fields!(made, SnapshotMake: index, stored);
    assert!(index <= stored, "the file has what the snapshot says");
}

async fn watch(
    cluster: &Cluster,
    at: usize,
    start_revision: i64,
) -> tonic::Streaming<glass_etcd::pb::etcdserverpb::WatchResponse> {
    let create = WatchCreateRequest {
        key: "w/".into(),
        range_end: "w0".into(),
        start_revision,
        ..Default::default()
    };
    let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let url = format!("http://{}", cluster.members[at].client_address());
    let channel = Endpoint::from_shared(url).unwrap().connect().await.unwrap();
    let requests = tokio_stream::iter([create]).chain(tokio_stream::pending());
    let mut news = WatchClient::new(channel).watch(requests).await.unwrap().into_inner();
    assert!(news.message().await.unwrap().unwrap().created);
    news
}

/// The steps of receiving and installing, in their order; behind each of the failpoints the member
/// dies.
const STEPS: [&str; 8] = [
    "snapshot-chunk-received",
    "snap-before-rename",
    "snapshot-received",
    "snapshot-before-install",
    "install-before-rename",
    "install-after-rename",
    "install-after-sync",
    "snapshot-after-install",
];

/// Goal: wherever a follower is killed while it receives and installs a database, it has the old
/// state or the new one at its next start, and catches up. Method: it dies at each step in turn;
/// its file is looked at, and then it starts again, without failpoints. Once the file that it has
/// received is spoiled meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_killed_at_any_step_of_an_install_has_the_old_state_or_the_new_one() {
    if Kind::subject() != Kind::Glass {
        return left_out("kills inside an install: etcd has no failpoints of ours");
    }
    let mut cluster = Cluster::start_with(&Kind::Glass, 3, &OFTEN).await;
    let mut last = puts(&cluster, 0, "k", 20).await;
    for step in STEPS {
        let leader = cluster.leader().await;
        let victim = (leader + 1) % 3;
        same_hashes(&cluster, last).await;
        cluster.kill(victim);
        let old = applied(&cluster, victim);
        puts(&cluster, leader, "k", 250).await;
        let failpoints = format!("{step}=panic");
        cluster.set_env(victim, &often_with(&failpoints));
        cluster.spawn(victim);
        let deadline = glass_etcd::clock::now() + SOON;
        while cluster.exited(victim).is_none() {
            assert!(glass_etcd::clock::now() < deadline, "{step}: it does not get there");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let found = applied(&cluster, victim);
        // Before it was killed its log had some entries that its file did not have.
        let is_old = found <= old + 50;
        assert!(is_old || old + 250 <= found, "{step}: {old} before, and now {found}");
        cluster.set_env(victim, &OFTEN);
        let is_spoiled = step == "snapshot-before-install";
        if is_spoiled {
            spoil_received(&cluster, victim);
        }
        cluster.spawn(victim);
        cluster.wait_ready(victim).await;
        last = puts(&cluster, leader, "k", 1).await;
        same_hashes(&cluster, last).await;
        let log = cluster.log(victim);
        assert!(!is_spoiled || log.contains("a database that was received is removed: "), "{log}");
        let leftovers = cluster.members[victim].data_dir.join("member/snap");
        eventually(&format!("{step}: nothing is left over"), SOON, || async {
            let files = fs::read_dir(&leftovers).unwrap().map(|file| file.unwrap().file_name());
            let names = files.map(|name| name.into_string().unwrap());
            match names.filter(|name| name.starts_with("received-")).collect::<Vec<_>>() {
                left if left.is_empty() => Ok(()),
                left => Err(format!("{left:?}")),
            }
        })
        .await;
    }
}

/// Damages a database that was received and is not installed yet. The log has the record of its
/// snapshot, so another member has to give the database.
fn spoil_received(cluster: &Cluster, at: usize) {
    let dir = cluster.members[at].data_dir.join("member/snap");
    let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let mut received = files.filter(|path| path.to_string_lossy().ends_with(".snap.db"));
    let path = received.next().expect("it is not installed yet");
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096..].fill(0);
    fs::write(path, bytes).unwrap();
}

/// The last entry that the database of a member that does not run has.
fn applied(cluster: &Cluster, at: usize) -> u64 {
    let path = cluster.members[at].data_dir.join("member/snap/db");
    let backend = Backend::open(&path, Options::default()).unwrap();
    let (index, _) = backend.consistent_index();
    backend.stop();
    index
}
