//! Steps that were not captured are unknown, and nothing is invented for them.

use glass_etcd::trace::Stage;

use super::{
    Scene,
    commands::glass,
    puts,
    told::{Seen, Told},
};

/// Goal: the steps of a silent member are unknown, and are not omitted silently. Method: SIGSTOP
/// for a follower, a put, and a `show` that receives nothing from the stopped member.
pub(super) async fn a_paused_member_is_unknown_and_then_captured(scene: &Scene) {
    let key = "unknown/put";
    let [leader, paused, _] = scene.parts().await;
    scene.cluster.pause(paused);
    scene.cluster.client(leader).put(key, "v").await.unwrap();
    let told = scene
        .listener
        .told(("KV/Put", key), |told| {
            // Everything of the others is there; the missing steps are those of the silent member.
            let place = super::told::place_of(&told.recording, paused);
            let others = told.story.missing.iter().filter(|missing| missing.member != place);
            if others.count() == 0 { Ok(()) } else { Err("others are missing".to_owned()) }
        })
        .await;
    let member_id = told.member_id(paused);
    assert!(!told.story.missing.is_empty());
    nothing_is_invented(&told, paused);

    let id = format!("{:016x}", told.story.id);
    let text = glass(scene, &["trace", "show", &id, "--plain"]).await;
    let name = format!("m{paused}");
    let (short, hex) = (format!("  {name}  "), format!("{member_id:016x}"));
    let about: Vec<&str> =
        text.lines().filter(|line| line.contains(&short) || line.contains(&hex)).collect();
    assert!(about.iter().any(|line| line.contains("unknown")), "{text}");
    let is_step = |line: &&&str| line.trim_start().starts_with('+') && line.contains(&short);
    assert_eq!(None, about.iter().find(is_step), "{text}");
    let address = scene.cluster.members[paused].client_address();
    let line = format!("unknown  {address}  no records from there: silent for 1 s");
    assert!(text.lines().any(|found| found.trim_start() == line), "{text}");
    let json = glass(scene, &["trace", "show", &id, "--json"]).await;
    let last: serde_json::Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    let silent = serde_json::json!([{"endpoint": address, "reason": "silent for 1 s"}]);
    assert_eq!((&silent, &serde_json::json!([hex])), (&last["silent"], &last["unheard"]), "{last}");

    scene.cluster.resume(paused);
    scene.cluster.wait_ready(paused).await;
    // A stream on which nothing was read for 5 s is closed, with the frames in it. So a member that
    // was stopped for longer may miss a frame, and the leader sends the entry again.
    let is_complete = |told: &Told| {
        let to_paused = |seen: &Seen<'_>| {
            seen.event.stage == Stage::RaftSend && seen.field("peer") == member_id
        };
        told.is_complete_but_for(to_paused)?;
        puts::both_have_acknowledged(told)
    };
    let told = scene.listener.told(("KV/Put", key), is_complete).await;
    told.assert_no_strangers(&[]);
}

fn nothing_is_invented(told: &Told, paused: usize) {
    let place = super::told::place_of(&told.recording, paused);
    let invented = told.steps().find(|seen| seen.event.member == place);
    assert!(invented.is_none(), "{invented:?}\n{}", told.text());
}
