//! The output of `glass trace export` for a live cluster can be drawn, and has all of a put.

use std::collections::HashSet;

use serde_json::Value;

use super::{Scene, commands::glass};

#[path = "../../src/export/chrome/tests/strict.rs"]
#[allow(dead_code, reason = "the tests of the library ask it for more")]
mod strict;

/// Goal: a file for the viewers has the put on all members, and nothing that viewers would drop.
/// Method: an export of live members, read by a strict reader.
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
    otlp(scene, &hex, &dir.path().join("put.jsonl").display().to_string()).await;
    page(scene, &hex, &dir.path().join("put.html").display().to_string()).await;
}

/// The page of the put: what the members remember, without listening for more.
async fn page(scene: &Scene, hex: &str, file: &str) {
    glass(scene, &["trace", "export", "--html", file, hex]).await;
    let page = std::fs::read_to_string(file).unwrap();
    assert!(!page.contains("a value"), "the put's value is in the file");
    assert_eq!(1, page.matches("<figure class=\"glass\"").count());
    assert_eq!(3, page.matches("<span class=\"head ").count(), "its three members");
    assert!(page.contains("client asks (inferred)") && page.contains("One story of live members"));
}

/// The export for OpenTelemetry: JSON lines, one trace for the put, found by the request's id.
async fn otlp(scene: &Scene, hex: &str, file: &str) {
    glass(scene, &["trace", "export", "--otlp", file, "--for", "1"]).await;
    let text = std::fs::read_to_string(file).unwrap();
    assert!(!text.contains("a value"), "the put's value is in the file");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let spans: Vec<Value> = lines
        .flat_map(|line| {
            let spans = &line["resourceSpans"][0]["scopeSpans"][0]["spans"];
            spans.as_array().unwrap().clone()
        })
        .collect();
    let of_put = |span: &&Value| span["traceId"].as_str().unwrap().starts_with(hex);
    let steps = |name: &str| {
        spans.iter().filter(of_put).filter(|span| span["name"] == name).cloned().collect::<Vec<_>>()
    };
    let (rpc, applied) = (steps("etcdserverpb.KV/Put"), steps("apply.entry"));
    assert_eq!((1, 3), (rpc.len(), applied.len()));
    let ids: HashSet<&str> = spans.iter().map(|span| span["spanId"].as_str().unwrap()).collect();
    assert_eq!(spans.len(), ids.len(), "a span is there twice");
    for span in &spans {
        let links = span["links"].as_array().unwrap().iter().map(|link| &link["spanId"]);
        for id in links.chain(span.get("parentSpanId")) {
            // A message sent before the listener started is not in the file; its receive is.
            let is_known = ids.contains(id.as_str().unwrap()) || span["name"] == "raft.receive";
            assert!(is_known, "{span} names a span that is not there");
        }
    }
}
