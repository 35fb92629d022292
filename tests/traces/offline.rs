//! Recordings of runs with faults: everything sent live is in the file, and replays without the
//! members.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use glass_etcd::{
    pb::etcdserverpb::PutRequest,
    story::{
        Event, Recording,
        order::Order,
        query::{self, Story},
    },
    trace::{Kind, Stage},
};
use nix::sys::signal::Signal;

use super::{
    Scene,
    broken::{self, Counts, FAULT},
    commands::{glass, steps_of},
    listen::Listener,
    order::sampled,
    recorder::Recorder,
    told::place_of,
};
use crate::{
    client::{Client, eventually},
    cluster::Cluster,
    programs::{Kind as Program, left_out},
};

/// Period before its death, in nanoseconds, of which a killed member may not have sent all records.
const UNTOLD_NS: u64 = 500_000_000;
/// Clients that write while one reader is stopped, and how many bytes the other readers receive
/// meanwhile: far more than a connection buffers, for far longer than batches are kept for a
/// reader.
const WRITERS: usize = 8;
const UNREAD_BYTES: usize = 8 << 20;
/// How long that may take.
const MUCH_WITHIN: Duration = Duration::from_secs(60);

/// Goal: a recording of a run with faults replays offline completely. Method: random traffic; a
/// member is killed and restarted, the leader is stopped and resumed; beside a listener a `glass
/// trace record` writes everything to a file. Then each story is looked up in the file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_of_a_run_with_faults_replays_offline_with_nothing_missing() {
    let Some(mut scene) = Scene::start("recordings of faults").await else { return };
    let recorder = Recorder::start(&scene.cluster).await;
    let [leader, killed, _] = scene.parts().await;
    let (over, counts) = broken::traffic(&scene.cluster, &[0, 1, 2]);
    tokio::time::sleep(FAULT / 2).await;
    scene.cluster.kill(killed);
    tokio::time::sleep(FAULT / 2).await;
    scene.cluster.spawn(killed);
    scene.cluster.wait_ready(killed).await;
    scene.cluster.pause(leader);
    tokio::time::sleep(FAULT).await;
    scene.cluster.resume(leader);
    scene.cluster.wait_ready(leader).await;
    over.send_replace(true);
    let all = broken::sum(counts).await;
    let live = broken::quiet(&scene).await;
    // Those of the killed member, of which only the others tell, come after all others.
    let last = query::requests(&live).into_iter().rfind(|request| request.has_rpc).unwrap().id;
    recorder.until("the last put, whole", |recording| is_whole(recording, last)).await;
    let hex = format!("{last:016x}");
    let file = recorder.file.display().to_string();
    let shown = [
        glass(&scene, &["trace", "show", &hex, "--plain"]).await,
        glass(&scene, &["trace", "show", &hex, "--plain", "--from", &file]).await,
    ]
    .map(|text| steps_of(&text).into_iter().collect::<BTreeSet<_>>());
    assert_eq!(shown[0], shown[1], "live, and from the file");
    let (status, said, offline) = recorder.stop();
    assert!(status.success(), "{said}");
    broken::check(&offline, &all);
    the_file_has_all_events_that_arrived(&live, &offline, killed, &all);
}

fn is_whole(recording: &Recording, id: u64) -> Result<(), String> {
    let story = Story::of(recording, &Order::of(recording), id).ok_or("no story")?;
    if story.missing.is_empty() { Ok(()) } else { Err(format!("{:?}", story.missing)) }
}

/// The identity of an event: member, boot, clocks, stage and kind.
type Moment = (u64, u16, u64, u64, Stage, Kind);

fn moment(recording: &Recording, event: &Event) -> Moment {
    let member_id = recording.members[usize::from(event.member)].member_id;
    (member_id, event.boot, event.clock, event.clock_end, event.stage, event.kind)
}

/// Checks that every story that is complete for the listener is complete in the file, with all its
/// steps.
fn the_file_has_all_events_that_arrived(
    live: &Recording,
    offline: &Recording,
    killed: usize,
    all: &Counts,
) {
    let place = place_of(live, killed);
    let is_of_killed = |event: &Event| event.member == place && event.boot == 1;
    let told = live.events.iter().filter(|event| is_of_killed(event));
    let death = told.map(|event| event.at_ns + event.took_ns).max().unwrap();
    let near_death =
        |event: &Event| is_of_killed(event) && death < event.at_ns + event.took_ns + UNTOLD_NS;
    let orders = [Order::of(live), Order::of(offline)];
    let moments: HashMap<Moment, &Event> =
        offline.events.iter().map(|event| (moment(offline, event), event)).collect();
    let mut whole = HashMap::new();
    for request in query::requests(live) {
        let story = Story::of(live, &orders[0], request.id).unwrap();
        let steps = || story.steps.iter().map(|step| &live.events[step.event]);
        if request.code != Some(0) || !story.missing.is_empty() || steps().any(near_death) {
            continue;
        }
        *whole.entry(request.method).or_insert(0) += 1;
        let in_file = Story::of(offline, &orders[1], request.id);
        let in_file = in_file.unwrap_or_else(|| panic!("not in the file: {request:?}"));
        assert!(in_file.missing.is_empty(), "{request:?}: {:?}", in_file.missing);
        for step in steps() {
            let same = moments.get(&moment(live, step));
            let same = same.unwrap_or_else(|| panic!("not in the file: {step:?}"));
            assert_eq!((step.id, step.link, step.fields), (same.id, same.link, same.fields));
        }
    }
    println!("{whole:?} are whole, of {all:?}");
    let of = |method| whole.get(method).copied().unwrap_or(0);
    assert!(all.puts / 2 < of("KV/Put") && all.gets / 2 < of("KV/Range"), "{whole:?} of {all:?}");
}

/// Goal: a reader that is too slow, or stopped, loses records, which are counted and named; its
/// member continues, and so does the recording afterwards. Method: SIGSTOP for a recorder while
/// much is written; then a full disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_readers_losses_are_counted_and_a_full_disk_ends_only_the_recording() {
    if Program::subject() != Program::Glass {
        left_out("slow readers of traces: etcd leaves no traces");
        return;
    }
    let cluster = Cluster::start(&Program::Glass, 1).await;
    let recorder = Recorder::start(&cluster).await;
    let listener = Listener::start(&cluster).await;
    recorder.signal(Signal::SIGSTOP);
    let (over, is_over) = tokio::sync::watch::channel(false);
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write(cluster.client(0), writer, is_over.clone())))
        .collect();
    eventually("many received records", MUCH_WITHIN, || async {
        let told = listener.raw().len();
        if UNREAD_BYTES < told { Ok(()) } else { Err(format!("{told} bytes")) }
    })
    .await;
    over.send_replace(true);
    for writer in writers {
        writer.await.unwrap();
    }
    recorder.signal(Signal::SIGCONT);
    recorder
        .until("losses that are counted", |recording| {
            if recording.dropped[0] == 0 { Err("none".to_owned()) } else { Ok(()) }
        })
        .await;
    // Repeated, because records may also be lost while the recorder still catches up.
    let puts = tokio::spawn(write_now_and_then(cluster.client(0)));
    recorder
        .until("what comes later", |recording| {
            let is_meant = |request: &query::Summary| {
                request.key.as_ref().is_some_and(|key| key.bytes == b"read/again")
            };
            let puts = query::requests(recording).into_iter().filter(is_meant);
            let puts: Vec<_> = puts.map(|put| is_whole(recording, put.id)).collect();
            if puts.iter().any(Result::is_ok) { Ok(()) } else { Err(format!("{puts:?}")) }
        })
        .await;
    puts.abort();
    let (status, said, recording) = recorder.stop();
    assert!(status.success() && said.contains(&format!("lost {}", recording.dropped[0])), "{said}");
    a_full_disk_ends_the_recording_only(&cluster).await;
}

/// Puts until it is stopped. Each put must succeed.
async fn write(mut client: Client, writer: usize, is_over: tokio::sync::watch::Receiver<bool>) {
    for number in 0.. {
        if *is_over.borrow() {
            return;
        }
        let key = format!("unread/{writer}/{number}").into();
        client.kv.put(sampled(PutRequest { key, ..PutRequest::default() })).await.unwrap();
    }
}

async fn write_now_and_then(mut client: Client) {
    loop {
        let put = PutRequest { key: "read/again".into(), ..PutRequest::default() };
        client.kv.put(sampled(put)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn a_full_disk_ends_the_recording_only(cluster: &Cluster) {
    const FULL: &str = "/dev/full";
    if !std::path::Path::new(FULL).exists() {
        left_out("a recording on a full disk: no /dev/full");
        return;
    }
    let address = cluster.members[0].client_address();
    let mut record = std::process::Command::new(env!("CARGO_BIN_EXE_glass"));
    record.args(["trace", "record", FULL, "--for", "20", "--endpoints", &address]);
    let output = tokio::task::spawn_blocking(move || record.output().unwrap()).await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(Some(1), output.status.code(), "{said}");
    assert!(said.contains("No space left on device"), "{said}");
    cluster.client(0).put("after/it", "v").await.unwrap();
}
