//! The traces are true: a step that is slow on one member is slow on that member and on no other,
//! and concurrent steps are shown as concurrent.

use std::time::Duration;

use glass_etcd::{
    clock,
    story::{Event, Recording},
    trace::{Kind, Stage, message},
};

use super::{
    Scene, ahead,
    commands::glass,
    puts,
    told::{Told, place_of},
};

/// Duration of a slowed fsync, in nanoseconds, and the limit for one that is not slowed.
const SLOW_NS: u64 = 50_000_000;
const QUICK_NS: u64 = 40_000_000;
/// Number of puts examined.
const PUTS: usize = 5;
/// The period that `why-slow` covers.
const LOOKED_AT: Duration = Duration::from_millis(1500);
/// Clients that write while the leader's disk is slow, and puts of each.
const WRITERS: usize = 8;

const SLOW_DISK: [(&str, &str); 1] = [("FAILPOINTS", "wal-before-fsync=sleep(50)")];

/// Goal: a trace shows where the time went. Method: first one follower's fsync is 50 ms late, then
/// those of all members, and the leader does not wait for its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_disk_is_slow_in_the_trace_and_the_leader_does_not_wait_for_its_own() {
    let Some(mut scene) = Scene::start("slow disks").await else { return };
    let [leader, slow, quick] = scene.parts().await;
    restart_with_slow_disks(&mut scene, &[slow]).await;
    let mut fsyncs: [Vec<u64>; 3] = Default::default();
    for number in 0..PUTS {
        let key = format!("slow/{number}");
        scene.cluster.client(leader).put(&key, "v").await.unwrap();
        let told = scene.listener.told(("KV/Put", &key), puts::is_complete).await;
        for (at, fsyncs) in fsyncs.iter_mut().enumerate() {
            fsyncs.push(told.one(at, Stage::WalFsync).event.took_ns);
        }
    }
    fsyncs.iter_mut().for_each(|fsyncs| fsyncs.sort_unstable());
    assert!(SLOW_NS <= fsyncs[slow][0], "m{slow} was slowed: {fsyncs:?}");
    for at in [leader, quick] {
        assert!(fsyncs[at][PUTS / 2] < QUICK_NS, "m{at} was not slowed: {fsyncs:?}");
    }
    restart_with_slow_disks(&mut scene, &[leader, quick]).await;
    the_leader_commits_while_its_disk_is_busy(&scene).await;
    the_disk_is_named_as_the_cause(&scene).await;
}

/// Goal: `why-slow` ranks the real cause first. Method: one client that puts continuously while all
/// disks are slow, and a query for part of that time.
async fn the_disk_is_named_as_the_cause(scene: &Scene) {
    let leader = scene.cluster.leader().await;
    let mut client = scene.cluster.client(leader);
    let begun = clock::now();
    let (over, mut is_over) = tokio::sync::watch::channel(false);
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let writer = tokio::spawn(async move {
        let mut ready = Some(ready);
        while !*is_over.borrow_and_update() {
            client.put("cause", "v").await.unwrap();
            // From here on the period contains nothing else.
            if 2 * LOOKED_AT < clock::now() - begun
                && let Some(ready) = ready.take()
            {
                ready.send(()).unwrap();
            }
        }
    });
    is_ready.await.unwrap();
    let last = format!("{}ms", LOOKED_AT.as_millis());
    let text = glass(scene, &["trace", "why-slow", "--last", &last]).await;
    let json = glass(scene, &["trace", "why-slow", "--last", &last, "--json"]).await;
    over.send_replace(true);
    writer.await.unwrap();
    let first = text.lines().skip_while(|line| !line.trim_start().starts_with("SHARE")).nth(1);
    assert!(first.is_some_and(|line| line.contains("  wal.fsync  ")), "{text}");
    let lines: Vec<serde_json::Value> =
        json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(Some("wal.fsync"), lines[1]["wait"].as_str(), "{json}");
    // For the newest requests, not all members have sent all records yet.
    let [ended, waited] = [&lines[0]["ended"], &lines[1]["requests"]].map(|n| n.as_u64().unwrap());
    assert!(ended <= 2 * waited, "hardly one waited: {json}");
    assert!(SLOW_NS <= lines[1]["worst_ns"].as_u64().unwrap(), "{json}");
    let sum: u64 = (lines[1..].iter())
        .filter(|line| line["wait"].is_string())
        .map(|line| line["ns"].as_u64().unwrap())
        .sum();
    assert_eq!(Some(sum), lines[0]["total_ns"].as_u64(), "{json}");
    // `show` knows its worst request, and reports the same about it.
    let worst = lines[1]["worst"].as_str().unwrap();
    let text = glass(scene, &["trace", "show", worst]).await;
    assert!(text.lines().any(|line| line.contains('%') && line.contains("  wal.fsync")), "{text}");
}

async fn restart_with_slow_disks(scene: &mut Scene, members: &[usize]) {
    for at in members {
        scene.cluster.kill(*at);
        scene.cluster.set_env(*at, &SLOW_DISK);
    }
    members.iter().for_each(|at| scene.cluster.spawn(*at));
    for at in members {
        scene.cluster.wait_ready(*at).await;
    }
}

async fn the_leader_commits_while_its_disk_is_busy(scene: &Scene) {
    let leader = scene.cluster.leader().await;
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let mut client = scene.cluster.client(leader);
            tokio::spawn(async move {
                for number in 0..PUTS {
                    client.put(&format!("meanwhile/{writer}/{number}"), "v").await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let mut behind = None;
    for writer in 0..WRITERS {
        for number in 0..PUTS {
            let key = format!("meanwhile/{writer}/{number}");
            let told = scene.listener.told(("KV/Put", &key), Told::is_complete).await;
            sends_before_its_own_fsync_ends(&told, leader);
            if ahead::fsyncs_ahead(&told) != 0 {
                behind = Some(told);
            }
        }
    }
    let behind = behind.expect("with eight writers some put waits for the disk behind others");
    ahead::show_names_the_fsync(scene, &behind).await;
    let recording = scene.listener.recording();
    let fsyncs = appended_during_fsyncs(&recording, place_of(&recording, leader));
    assert!(1 < fsyncs, "no entry was appended while the leader's disk was busy");
}

fn sends_before_its_own_fsync_ends(told: &Told, leader: usize) {
    let index = told.story.entry.unwrap().1;
    let fsync = told.one(leader, Stage::WalFsync);
    assert!(SLOW_NS <= fsync.event.took_ns);
    let mut sends = told.on(leader, Stage::RaftSend);
    sends.retain(|send| {
        let carries = send.field("index") < index && index <= send.field("last");
        send.field("type") == message::APP && carries
    });
    assert_eq!(2, sends.len(), "{}", told.text());
    for send in sends {
        assert!(
            send.event.clock_end < fsync.event.clock_end,
            "m{leader} waited for its disk\n{}",
            told.text()
        );
    }
}

/// How many fsyncs of the member had entries appended during them that they do not cover.
fn appended_during_fsyncs(recording: &Recording, member: u8) -> usize {
    let of = |stage: Stage, kind: Kind| {
        let is_meant =
            move |event: &&Event| (event.member, event.stage, event.kind) == (member, stage, kind);
        recording.events.iter().filter(is_meant)
    };
    let is_during = |fsync: &Event, entry: &Event| {
        let is_later = fsync.field("last") < entry.field("index");
        let (boot, clock) = (entry.boot, entry.clock);
        is_later && fsync.boot == boot && (fsync.clock..fsync.clock_end).contains(&clock)
    };
    of(Stage::WalFsync, Kind::Span)
        .filter(|fsync| of(Stage::RaftEntry, Kind::Mark).any(|entry| is_during(fsync, entry)))
        .count()
}
