//! The third part of keyframes: what the process uses, what its disk takes, which alarms it knows.

use glass_etcd::{
    field, fields,
    pb::etcdserverpb::{AlarmRequest, AlarmType},
    story::{Event, Recording},
    trace::Stage,
};

use super::Scene;

/// Goal: each member's keyframes have its memory, the fsyncs of its log, and an alarm with the
/// member that raised it, until it is disarmed. Method: puts, then the alarm of one member.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keyframes_tell_memory_fsyncs_and_whose_alarm_it_is() {
    let Some(scene) = Scene::start("vitals").await else { return };
    let mut client = scene.cluster.client(0);
    let owner = client.status().await.unwrap().header.unwrap().member_id;
    for number in 0..20 {
        client.put(&format!("vitals/{number}"), "x").await.unwrap();
    }
    let is_busy = |event: &&Event| {
        let [memory, fsyncs, p99] = fields!(event, KeyframeProcess: memory, fsyncs, fsync_p99);
        1 << 20 < memory && 0 < fsyncs && 1_000 < p99
    };
    on_each_member(&scene, "memory and fsyncs", is_busy).await;
    let is_raised = |event: &&Event| {
        fields!(event, KeyframeProcess: alarms, no_space, corrupt) == [1, owner, 0]
    };
    let mut alarm = AlarmRequest { action: 1, member_id: owner, alarm: AlarmType::Nospace as i32 };
    client.maintenance.alarm(alarm).await.unwrap();
    on_each_member(&scene, "an alarm", is_raised).await;
    alarm.action = 2;
    client.maintenance.alarm(alarm).await.unwrap();
    scene.listener.until("no alarm after it", no_more).await;
}

async fn on_each_member(scene: &Scene, what: &str, is_so: impl Fn(&&Event) -> bool) {
    let all = |recording: &Recording| {
        let frames = || recording.events.iter().filter(is_frame);
        let told: Vec<bool> =
            (0..3).map(|place| frames().filter(|e| e.member == place).any(|e| is_so(&e))).collect();
        if told == [true; 3] { Ok(()) } else { Err(format!("{told:?}")) }
    };
    scene.listener.until(what, all).await;
}

fn is_frame(event: &&Event) -> bool {
    event.stage == Stage::KeyframeProcess
}

/// Whether the last keyframe of each member has no alarm.
fn no_more(recording: &Recording) -> Result<(), String> {
    let last = |place: u8| {
        let own = recording.events.iter().filter(is_frame).filter(|e| e.member == place);
        own.max_by_key(|event| event.clock).map(|event| field!(event, KeyframeProcess, alarms))
    };
    let last: Vec<Option<u64>> = (0..3).map(last).collect();
    if last == [Some(0); 3] { Ok(()) } else { Err(format!("{last:?}")) }
}
