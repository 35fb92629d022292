//! Records that are kept although their ids do not ask for it: slow requests, and the last moments
//! of a member. And records that must not contain keys: those of members that redact.

use std::{fs, io::BufReader, path::PathBuf, time::Duration};

use glass_etcd::{
    pb::{
        etcdserverpb::{PutRequest, RangeRequest},
        glasspb::{ObserveRequest, observe_client::ObserveClient},
    },
    story::{order::Order, query, recording},
    trace::{Kind, Stage, id},
};
use nix::sys::signal::Signal;
use tokio::task::JoinSet;
use tonic::{Code, transport::Endpoint};

use super::{
    Scene,
    commands::glass,
    listen::Listener,
    told::{Told, place_of},
};
use crate::{
    client::{Client, eventually},
    cluster::Cluster,
    programs::{Kind as Program, left_out},
};

/// Concurrent writers.
const WRITERS: usize = 60;
/// Puts of each writer.
const PUTS: usize = 12;
/// Interval of the gets beside them on each member: more than 50 requests a second, so that not all
/// are kept, however slow the disks are.
const GET_EVERY: Duration = Duration::from_millis(5);
/// Longer than `--trace-slow-ms`, which is 100.
const SLOW_DISKS: [(&str, &str); 1] = [("FAILPOINTS", "wal-before-fsync=sleep(120)")];
/// Longer than a millisecond.
const SLOW_DISKS_A_LITTLE: (&str, &str) = ("FAILPOINTS", "wal-before-fsync=sleep(3)");
/// How long a file may take to appear.
const FILE_WITHIN: Duration = Duration::from_secs(15);

/// Goal: a slow put is complete on all members, even if its id does not ask for it to be kept.
/// Method: disks so slow that every put is slow, and beside them enough gets, which need no disk,
/// that hardly a request is kept by its id.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_put_that_was_not_kept_by_its_id_is_complete_on_all_members() {
    let Some(mut scene) = Scene::start("slow requests").await else { return };
    for at in 0..3 {
        scene.cluster.kill(at);
        scene.cluster.set_env(at, &SLOW_DISKS);
    }
    (0..3).for_each(|at| scene.cluster.spawn(at));
    for at in 0..3 {
        scene.cluster.wait_ready(at).await;
    }
    let mut readers = JoinSet::new();
    (0..3).for_each(|at| _ = readers.spawn(read_often(scene.cluster.client(at))));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let mut client = scene.cluster.client(writer % 3);
            tokio::spawn(async move {
                for number in 0..PUTS {
                    client.put(&format!("slow/{writer}/{number}"), "v").await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let told = scene
        .listener
        .until("a slow put that is whole, and not kept by its id", |recording| {
            let requests = query::requests(recording);
            let order = Order::of(recording);
            // The tables are built once for all of them.
            let stories = query::Stories::new(recording, &order);
            let is_late =
                |request: &&query::Summary| request.method == "KV/Put" && !id::kept(request.id);
            let late: Vec<_> = requests.iter().filter(is_late).collect();
            let is_whole = |id| stories.of(id).is_some_and(|story| story.missing.is_empty());
            let whole = late.iter().find(|request| is_whole(request.id));
            let told = whole.and_then(|request| Told::of(recording, request.id));
            told.ok_or_else(|| format!("{} of {} were pinned", late.len(), requests.len()))
        })
        .await;
    assert!(!id::kept(told.story.id), "the id says nothing");
    for at in 0..3 {
        for stage in [Stage::RaftEntry, Stage::WalFsync, Stage::ApplyEntry, Stage::BackendCommit] {
            assert!(!told.on(at, stage).is_empty(), "{} of m{at}\n{}", stage.name(), told.text());
        }
    }
}

/// Goal: under load a request that is kept afterwards lacks its quick steps, except the one that
/// failed, and is said to lack them. Method: members that are always under load, enough gets that
/// hardly a request is kept by its id, and puts without a key, which fail in a quick step.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_that_fails_under_load_lacks_quick_steps_and_that_is_told() {
    let Some((mut scene, _readers)) = under_load(&[]).await else { return };
    let mut client = scene.cluster.client(0);
    let mut writer = JoinSet::new();
    writer.spawn(async move {
        let mut turns = tokio::time::interval(GET_EVERY);
        loop {
            turns.tick().await;
            let refused = client.kv.put(PutRequest::default()).await.unwrap_err();
            assert_eq!(Code::InvalidArgument, refused.code());
        }
    });
    let told = brief_put(&mut scene, |request, told| {
        // A call that was not kept records at its end from where it came.
        request.code == Some(3) && told.on(0, Stage::RpcConnection).len() == 1
    })
    .await;
    let steps: Vec<_> = (told.story.steps.iter())
        .map(|step| &told.recording.events[step.event])
        .filter(|event| event.stage.is_quick())
        .map(|event| (event.stage, event.kind, event.reason.is_some()))
        .collect();
    assert_eq!([(Stage::RpcValidate, Kind::Mark, true)], steps[..], "{}", told.text());
    let id = format!("{:016x}", told.story.id);
    let text = glass(&scene, &["trace", "show", &id]).await;
    assert!(text.contains("quick steps, which were left out under load"), "{text}");
}

/// Goal: under load a put that turns out to be slow has its entry on each member and the step in
/// which it waited. `show` says that the members left out short steps, and calls nothing missing.
/// Method: members that are always under load, to which a millisecond is slow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_put_under_load_lacks_short_steps_and_nothing_is_missing() {
    let slow = [("ETCD_TRACE_SLOW_MS", "1"), SLOW_DISKS_A_LITTLE];
    let Some((mut scene, _readers)) = under_load(&slow).await else { return };
    let mut client = scene.cluster.client(0);
    let mut writer = JoinSet::new();
    writer.spawn(async move {
        let mut turns = tokio::time::interval(GET_EVERY);
        loop {
            turns.tick().await;
            client.put("slow", "v").await.unwrap();
        }
    });
    let told = brief_put(&mut scene, |_, told| {
        (0..3).any(|at| told.on(at, Stage::ApplyEntry).is_empty()) && told.story.missing.is_empty()
    })
    .await;
    for at in 0..3 {
        assert_eq!(1, told.on(at, Stage::RaftEntry).len(), "m{at}\n{}", told.text());
        assert!(told.on(at, Stage::MvccWrite).is_empty(), "m{at}\n{}", told.text());
    }
    assert!(3_000_000 <= told.one(0, Stage::RaftPropose).event.took_ns, "{}", told.text());
    let id = format!("{:016x}", told.story.id);
    let text = glass(&scene, &["trace", "show", &id]).await;
    assert!(text.contains("quick steps, which were left out under load"), "{text}");
    let pieces = text.lines().filter(|line| line.contains('%'));
    assert!(pieces.into_iter().all(|line| !line.contains("not captured")), "{text}");
}

/// Members that are always under load, with these settings, and gets enough that hardly a request
/// is kept by its id.
async fn under_load(settings: &[(&str, &str)]) -> Option<(Scene, JoinSet<()>)> {
    let mut scene = Scene::start("quick steps").await?;
    for at in 0..3 {
        scene.cluster.kill(at);
        scene.cluster.set_env(at, &[&[("ETCD_TRACE_BRIEF_ABOVE", "0")], settings].concat());
    }
    (0..3).for_each(|at| scene.cluster.spawn(at));
    for at in 0..3 {
        scene.cluster.wait_ready(at).await;
    }
    let mut readers = JoinSet::new();
    (0..3).for_each(|at| _ = readers.spawn(read_often(scene.cluster.client(at))));
    Some((scene, readers))
}

/// A put like this that was not kept by its id, and of which some member left out quick steps.
async fn brief_put(scene: &mut Scene, is_so: impl Fn(&query::Summary, &Told) -> bool) -> Told {
    scene
        .listener
        .until("a put that was not kept by its id, and is brief", |recording| {
            let requests = query::requests(recording);
            let is_late =
                |request: &&query::Summary| request.method == "KV/Put" && !id::kept(request.id);
            let mut told = requests.iter().filter(is_late).filter_map(|request| {
                let told = Told::of(recording, request.id)?;
                let members = &told.story.brief;
                (!members.is_empty() && is_so(request, &told)).then_some(told)
            });
            told.next_back().ok_or_else(|| "no put was told to be brief".to_owned())
        })
        .await
}

/// Serializable gets, until the task is dropped.
async fn read_often(mut client: Client) {
    let mut turns = tokio::time::interval(GET_EVERY);
    loop {
        turns.tick().await;
        let get = RangeRequest { key: "k".into(), serializable: true, ..RangeRequest::default() };
        client.kv.range(get).await.unwrap();
    }
}

/// The file for this cause that a member has written, once it exists.
pub(super) async fn flight_of(cluster: &Cluster, at: usize, cause: &str) -> PathBuf {
    let directory = cluster.members[at].data_dir.join("glass");
    eventually("a file of the flight recorder", FILE_WITHIN, || async {
        let entries = fs::read_dir(&directory).map_err(|error| error.to_string())?;
        let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let ending = format!("-{cause}.ndjson");
        let found = paths.find(|path| path.to_str().is_some_and(|path| path.ends_with(&ending)));
        found.ok_or_else(|| format!("nothing of {cause} yet"))
    })
    .await
}

/// Goal: on request, when a thread panics, and when the disk fails, the last moments of the member
/// are in a recording that our own commands read. Method: a signal; then failpoints that panic and
/// that make an fsync fail, while a put is running.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_moments_of_a_member_are_in_its_flight_recorder() {
    let Some(mut scene) = Scene::start("the flight recorder").await else { return };
    let [leader, first, second] = scene.parts().await;
    scene.cluster.client(leader).put("flight/asked", "v").await.unwrap();
    scene.cluster.signal(leader, Signal::SIGUSR1);
    let path = flight_of(&scene.cluster, leader, "asked").await;
    let read = recording::read(BufReader::new(fs::File::open(&path).unwrap())).unwrap();
    assert_eq!((1, 0, false), (read.recording.members.len(), read.unknown, read.is_cut));
    let requests = query::requests(&read.recording);
    assert!(requests.iter().any(|request| request.method == "KV/Put"), "{requests:?}");
    let list = glass(&scene, &["trace", "list", "--from", &path.display().to_string()]).await;
    assert!(list.contains("flight/asked"), "{list}");
    assert_eq!(None, scene.cluster.exited(leader), "a member that was asked continues");

    for (at, cause, failpoint) in [
        (first, "panic", "wal-before-fsync=8*off->panic"),
        (second, "storage", "wal-fsync-error=8*off->return"),
    ] {
        scene.cluster.kill(at);
        scene.cluster.set_env(at, &[("FAILPOINTS", failpoint)]);
        scene.cluster.spawn(at);
        let deadline = eventually("the member ends", FILE_WITHIN, || {
            // Each put causes another fsync; the member ends at one of them.
            let mut client = scene.cluster.client(leader);
            let exit = scene.cluster.exited(at);
            async move {
                let _ = client.put("flight/last", "v").await;
                exit.ok_or_else(|| "it still runs".to_owned())
            }
        })
        .await;
        assert!(!deadline.success());
        let path = flight_of(&scene.cluster, at, cause).await;
        let read = recording::read(BufReader::new(fs::File::open(&path).unwrap())).unwrap();
        let place = place_of(&read.recording, at);
        let has = |stage: Stage, kind: Kind| {
            let is_meant = |event: &&glass_etcd::story::Event| {
                (event.member, event.stage, event.kind) == (place, stage, kind)
            };
            read.recording.events.iter().filter(is_meant).count()
        };
        let (begun, ended) = (has(Stage::WalFsync, Kind::Begin), has(Stage::WalFsync, Kind::Span));
        assert!(0 < ended, "{cause}: the fsyncs that went well are there");
        assert!(ended <= begun, "{cause}: {begun} begun, {ended} ended");
        scene.cluster.set_env(at, &[]);
        scene.cluster.spawn(at);
        scene.cluster.wait_ready(at).await;
    }
}

/// Goal: `--trace-redact-keys` leaves keys out of all records, but keeps their length. Method:
/// search the records, and the flight recorder's file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_redacts_sends_no_key() {
    if Program::subject() != Program::Glass {
        left_out("redaction: etcd leaves no traces");
        return;
    }
    let redact = [("ETCD_TRACE_REDACT_KEYS", "true")];
    let cluster = Cluster::start_with(&Program::Glass, 1, &redact).await;
    let listener = Listener::start(&cluster).await;
    let key = "a-key-that-nobody-may-see";
    cluster.client(0).put(key, "v").await.unwrap();
    let length = listener
        .until("the put's story", |recording| {
            let requests = query::requests(recording);
            let put = requests.iter().find(|request| request.method == "KV/Put");
            let key = put.and_then(|put| put.key.clone()).ok_or("no put with a key")?;
            Ok((key.bytes.len(), key.length))
        })
        .await;
    assert_eq!((0, key.len() as u64), length);
    let url = format!("http://{}", cluster.members[0].client_address());
    let mut observe = ObserveClient::new(Endpoint::from_shared(url).unwrap().connect_lazy());
    let guess = ObserveRequest { key_prefix: "a-key".into(), ..ObserveRequest::default() };
    let refused = observe.observe(guess).await.unwrap_err();
    assert_eq!(Code::PermissionDenied, refused.code(), "a key could be found out by guessing");
    cluster.signal(0, Signal::SIGUSR1);
    let path = flight_of(&cluster, 0, "asked").await;
    let mut written = Vec::new();
    recording::write(&mut written, &listener.recording()).unwrap();
    for bytes in [listener.raw(), fs::read(path).unwrap(), written] {
        assert!(!bytes.is_empty());
        for part in ["a-key-that", "nobody", "may-see"] {
            let is_told = bytes.windows(part.len()).any(|at| at == part.as_bytes());
            assert!(!is_told, "{part} was sent");
        }
    }
}
