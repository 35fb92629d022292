//! The traces are true: what takes long on one member is long on that member and on no other, and
//! what happens meanwhile is told as happening meanwhile.

use glass_etcd::trace::{Event, Kind, Recording, Stage, message};

use super::{
    Scene, puts,
    told::{Told, place_of},
};

/// How long a slowed fsync takes, in nanoseconds, and what one that is not slowed must stay below.
const SLOW_NS: u64 = 50_000_000;
const QUICK_NS: u64 = 40_000_000;
/// Puts that are looked at.
const PUTS: usize = 5;
/// Clients that write while the leader's disk is slow, and how many puts each of them sends.
const WRITERS: usize = 8;

const SLOW_DISK: [(&str, &str); 1] = [("FAILPOINTS", "wal-before-fsync=sleep(50)")];

/// Goal: a trace says where the time went. Method: first one follower's fsync is 50 ms late, then
/// everybody's, and the leader does not wait for its own.
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
    the_leader_goes_on_while_its_disk_works(&scene).await;
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

async fn the_leader_goes_on_while_its_disk_works(scene: &Scene) {
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
    for writer in 0..WRITERS {
        for number in 0..PUTS {
            let key = format!("meanwhile/{writer}/{number}");
            let told = scene.listener.told(("KV/Put", &key), Told::is_complete).await;
            sends_before_its_own_fsync_ends(&told, leader);
        }
    }
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

/// How many fsyncs of the member saw entries appended that they do not cover.
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
