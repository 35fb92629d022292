//! What `glass trace export` writes of a live cluster can be drawn, and holds all of a put.

use super::{Scene, commands::glass};

#[path = "../../src/trace/export/chrome/tests/strict.rs"]
#[allow(dead_code, reason = "the tests of the library ask it for more")]
mod strict;

/// Goal: a file for the viewers has the put on all members, and nothing that viewers would drop.
/// Method: export of live members, read by a strict reader.
pub(super) async fn a_put_is_exported_whole(scene: &Scene, id: u64) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("put.json").display().to_string();
    glass(scene, &["trace", "export", "--chrome", &file, "--for", "1"]).await;
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains("a value"), "the put's value is in the file");
    let seen = strict::parse(&text).unwrap();
    assert_eq!(3, seen.processes.len(), "{:?}", seen.processes);
    let hex = format!("{id:016x}");
    let steps = |name: &str| {
        seen.pairs.iter().filter(|pair| pair.1.starts_with(&hex) && pair.2 == name).count()
    };
    assert_eq!((1, 3), (steps("rpc"), steps("apply.entry")));
    let batches = |name: &str| seen.flows.iter().filter(|flow| flow.1 == name).count();
    for name in ["wal.fsync", "backend.commit", "MsgApp", "MsgAppResp"] {
        assert!(2 <= batches(name), "{} arrows of {name}", batches(name));
    }
    assert!(!seen.slices.is_empty() && !seen.marks.is_empty());
}
