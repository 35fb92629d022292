//! The state of each member at every step of a recording of a cluster with faults: walking forward
//! and walking backward agree, and the final state is what the members report themselves.

use glass_etcd::{
    story::{
        self, Recording,
        order::Order,
        state::{States, Value, Watermark},
    },
    trace::{self, Stage},
};

use super::{
    Scene,
    listen::HEARD_WITHIN,
    order::sampled,
    told::{Told, place_of},
};
use crate::client::eventually;

#[path = "../../src/story/state/tests/walk.rs"]
mod walk;

/// Puts in each of the three periods: before, while and after one member is down.
const PUTS: usize = 12;

/// Goal: a recording gives the true state of each member at every step. Method: puts at all
/// members, one of which is killed in between and restarts; then the test walks through the records
/// in both directions, and queries the members.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_state_of_a_killed_and_restarted_member_is_known_at_every_step_and_true() {
    let Some(mut scene) = Scene::start("states").await else { return };
    let [leader, killed, other] = scene.parts().await;
    puts(&scene, "before", &[leader, killed, other]).await;
    scene.cluster.kill(killed);
    puts(&scene, "meanwhile", &[leader, other]).await;
    scene.cluster.spawn(killed);
    scene.cluster.wait_ready(killed).await;
    puts(&scene, "after", &[leader, killed, other]).await;
    let recording = said_by_the_members(&scene).await;
    let order = Order::of(&recording);
    let states = States::of(&recording, &order);
    let walked = walk::walk(&recording, &order, &states);
    println!("{} events, {walked:?}, losses: {:?}", recording.events.len(), states.losses());
    // The last records of a killed member are lost, and requests that are not kept are not
    // recorded.
    assert!(walked.changes * 9 / 10 < walked.known_before, "{walked:?}");
    both_boots_are_known(&recording, &states, killed);
    assert_eq!(None, super::causes::cycle(&recording, &super::causes::links(&recording)));
}

async fn puts(scene: &Scene, when: &str, members: &[usize]) {
    let mut last = String::new();
    for number in 0..PUTS {
        for at in members {
            last = format!("state/{when}/{at}/{number}");
            let put = glass_etcd::pb::etcdserverpb::PutRequest {
                key: last.clone().into(),
                value: "v".into(),
                ..Default::default()
            };
            scene.cluster.client(*at).kv.put(sampled(put)).await.unwrap();
        }
    }
    let is_down = members.len() < 3;
    let is_told = |told: &Told| {
        let known = told.story.missing.iter().filter(|missing| {
            members.iter().any(|at| place_of(&told.recording, *at) == missing.member)
        });
        if known.count() == 0 || is_down { Ok(()) } else { Err(told.text()) }
    };
    scene.listener.told(("KV/Put", &last), is_told).await;
}

/// Waits until each member's final state agrees with its status and its counters.
async fn said_by_the_members(scene: &Scene) -> Recording {
    eventually("the members' own words", HEARD_WITHIN, || async {
        // Queried first, so the records received afterwards are at least as new.
        let mut asked = Vec::new();
        for at in 0..3 {
            asked.push(scene.cluster.client(at).status().await.map_err(|e| e.to_string())?);
        }
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let recording = scene.listener.recording();
        let order = Order::of(&recording);
        let states = States::of(&recording, &order);
        for (at, status) in asked.iter().enumerate() {
            let place = place_of(&recording, at);
            let header = status.header.unwrap();
            let role = if status.leader == header.member_id { 2 } else { 0 };
            for (water, expected) in [
                (Watermark::Term, status.raft_term),
                (Watermark::Leader, status.leader),
                (Watermark::Role, role),
                (Watermark::Commit, status.raft_index),
                (Watermark::Applied, status.raft_applied_index),
                (Watermark::Written, status.raft_index),
                (Watermark::Synced, status.raft_index),
                (Watermark::Stored, status.raft_applied_index),
                (Watermark::Revision, u64::try_from(header.revision).unwrap()),
                (Watermark::StoredRevision, u64::try_from(header.revision).unwrap()),
                (Watermark::Frozen, 0),
                (Watermark::Active, 0),
            ] {
                let value = states.at(place, order.rows.len(), water);
                if value != Value::Known(expected) {
                    return Err(format!("{water:?} of m{at}: {value:?}, and says {expected}"));
                }
            }
            if role == 2 {
                leader_knows_its_peers(
                    &recording,
                    &states,
                    (place, order.rows.len()),
                    status.raft_index,
                )?;
            }
            counts_agree(scene, at, &states, (place, order.rows.len()))?;
        }
        Ok(recording)
    })
    .await
}

fn leader_knows_its_peers(
    recording: &Recording,
    states: &States,
    (leader, rows): (u8, usize),
    index: u64,
) -> Result<(), String> {
    let own = recording.members[usize::from(leader)].member_id;
    for peer in recording.members.iter().map(|member| member.member_id).filter(|id| *id != own) {
        let value = states.at(leader, rows, Watermark::Match(peer));
        if value != Value::Known(index) {
            return Err(format!("match of {peer:x}: {value:?} and not {index}"));
        }
    }
    Ok(())
}

/// Checks that `/metrics` counts the committed and applied entries too.
fn counts_agree(
    scene: &Scene,
    at: usize,
    states: &States,
    (place, rows): (u8, usize),
) -> Result<(), String> {
    let text = super::coverage::fetch(&scene.cluster.members[at].client_address(), "/metrics");
    for (name, water) in [
        ("etcd_server_proposals_committed_total", Watermark::Commit),
        ("etcd_server_proposals_applied_total", Watermark::Applied),
    ] {
        let line = text.lines().find(|line| line.starts_with(name)).ok_or("no such metric")?;
        let value: f64 = line.split_whitespace().next_back().unwrap().parse().unwrap();
        let known = states.at(place, rows, water).known();
        if known.is_none_or(|known| (known as f64 - value).abs() > 0.5) {
            return Err(format!("{line}, and the state is {known:?}"));
        }
    }
    Ok(())
}

/// The final state of its first boot is known, and its second began there or later.
fn both_boots_are_known(recording: &Recording, states: &States, killed: usize) {
    let place = place_of(recording, killed);
    let boots: Vec<u16> =
        recording.members[usize::from(place)].boots.iter().map(|boot| boot.boot).collect();
    assert_eq!(2, boots.len(), "{boots:?}");
    let last = |water| states.at_moment(place, (boots[0], u64::MAX), water);
    let first = |water| states.at_moment(place, (boots[1], u64::MAX), water);
    for water in [Watermark::Commit, Watermark::Applied, Watermark::Synced, Watermark::Revision] {
        let (before, after) = (last(water).known(), first(water).known());
        assert!(before.is_some() && before < after, "{water:?}: {before:?}, then {after:?}");
    }
    let has = |stage| recording.events.iter().any(|e| (e.member, e.stage) == (place, stage));
    assert!(has(Stage::RaftRole) && has(Stage::Keyframe));
}
