//! `glass boot`: members that are started from what the disks had at a moment.

use std::{fs, process::Command};

use super::links::Scene;

const GLASS: &str = env!("CARGO_BIN_EXE_glass");

/// Runs `glass boot` beside the scene's `glass up`, and returns what it prints.
fn boot(scene: &Scene, args: &[&str]) -> String {
    let output = Command::new(GLASS)
        .args(["boot", "--endpoints", &scene.endpoints()])
        .args(args)
        .current_dir(scene.cluster.dir())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Goal: members that start from the disks of this moment have every write that was acknowledged,
/// and those that run notice nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_after_a_power_failure_now() {
    let Some(scene) = Scene::start().await else { return };
    let mut client = scene.cluster.client(0);
    let mut revision = 0;
    for number in 0..20 {
        revision = client.put(&format!("k{number}"), "value").await.unwrap();
    }
    let before = scene.leader().await;
    let said = boot(&scene, &[]);
    assert!(said.contains("in common: these survive"), "{said}");
    let revision = format!("revision {revision}");
    assert_eq!(said.matches(&revision).count(), 3, "{revision} in {said}");
    assert_eq!(said.matches(" leads term ").count(), 1, "{said}");
    assert_eq!(scene.leader().await, before, "the others met nobody");
    let left = fs::read_dir(scene.cluster.dir().join(".glass")).unwrap();
    let left = left.filter(|entry| {
        entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("moment-")
    });
    assert_eq!(left.count(), 0, "the copies are removed");
}

/// Goal: a write that only a cut-off leader has is not counted as safe: it is lost if the others
/// have elected a leader by then, and undecided before. Either way all members agree afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_of_one_disk_is_said_to_be_undecided() {
    let Some(scene) = Scene::start().await else { return };
    let (leader, _) = scene.leader().await;
    scene.cluster.client(leader).put("k", "old").await.unwrap();
    scene.run(&["cut", &format!("m{leader}")]);
    let mut client = scene.cluster.client(leader);
    let put = tokio::spawn(async move { client.put("k", "alone").await });
    scene
        .listener
        .until("the entry on one disk", |recording| {
            let synced = |place: u8| {
                use glass_etcd::{field, trace::Stage};
                let events = recording.events.iter();
                let own = events.filter(|e| e.member == place && e.stage == Stage::Keyframe);
                own.map(|e| field!(e, Keyframe, synced)).max().unwrap_or(0)
            };
            let all = [synced(0), synced(1), synced(2)];
            if all.iter().max() == all.iter().min() { Err(format!("{all:?}")) } else { Ok(()) }
        })
        .await;
    let said = boot(&scene, &[]);
    let is_told = ["survive if it is elected", "are lost"].iter().any(|word| said.contains(word));
    assert!(is_told, "{said}");
    assert_eq!(said.matches("revision ").count(), 3, "{said}");
    put.abort();
}
