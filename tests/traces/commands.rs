//! The stories printed by `glass trace` are those that the members recorded.

use std::process::Command;

use glass_etcd::{story::recording, trace::Kind};

use super::{Scene, puts, told::Told};

/// Runs `glass` with the cluster's endpoints and returns its output.
pub(super) async fn glass(scene: &Scene, args: &[&str]) -> String {
    let endpoints: Vec<String> =
        scene.cluster.members.iter().map(crate::cluster::Member::client_address).collect();
    let mut command = Command::new(env!("CARGO_BIN_EXE_glass"));
    command.args(args);
    if !args.contains(&"--from") {
        command.args(["--endpoints", &endpoints.join(",")]);
    }
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}{text}", String::from_utf8_lossy(&output.stderr));
    text
}

/// The steps in the text of a story: member, stage, and whether it begins.
pub(super) fn steps_of(text: &str) -> Vec<(String, String, bool)> {
    let steps = text.lines().filter(|line| line.trim_start().starts_with(['+', '-']));
    steps
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words[2].to_owned(), words[3].to_owned(), words.get(4) == Some(&"begins"))
        })
        .collect()
}

/// Goal: `show`, `show --json`, `list`, and all of them on a recording, show the same story.
/// Method: each for one put that is complete.
pub(super) async fn show_list_and_record_tell_the_same(scene: &Scene, id: u64) {
    let hex = format!("{id:016x}");
    let told = Told::of(&scene.listener.recording(), id).unwrap();
    let mut expected: Vec<_> = told
        .steps()
        .map(|seen| {
            let name = &told.recording.members[usize::from(seen.event.member)].name;
            let stage = seen.event.stage.name();
            (name.clone(), stage.to_owned(), seen.event.kind == Kind::Begin)
        })
        .collect();
    expected.sort();
    let text = glass(scene, &["trace", "show", &hex, "--plain"]).await;
    assert!(!text.contains("unknown"), "{text}");
    let steps = steps_of(&text);
    let mut sorted = steps.clone();
    sorted.sort();
    assert_eq!(expected, sorted, "{text}\n{}", told.text());

    let json = glass(scene, &["trace", "show", &hex, "--json"]).await;
    let read = recording::read(json.as_bytes()).unwrap();
    assert_eq!((expected.len(), 0), (read.recording.events.len(), read.unknown));

    let list = glass(scene, &["trace", "list"]).await;
    let line = list.lines().find(|line| line.starts_with(&hex)).unwrap_or_else(|| panic!("{list}"));
    assert!(line.ends_with("KV/Put traces/put") && line.contains("  ok  "), "{line}");

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("put.ndjson").display().to_string();
    glass(scene, &["trace", "record", &file, "--for", "1"]).await;
    let again = glass(scene, &["trace", "show", &hex, "--plain", "--from", &file]).await;
    let mut recorded = steps_of(&again);
    recorded.sort();
    assert_eq!(expected, recorded, "{again}");
    let recorded = recording::read(std::fs::read(&file).unwrap().as_slice()).unwrap().recording;
    let recorded = Told::of(&recorded, id).unwrap();
    puts::is_complete(&recorded).unwrap();
}
