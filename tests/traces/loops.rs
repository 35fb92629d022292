//! Every background loop of a member has its stages, or a reason for having none.
//!
//! A loop begins where something is spawned. So each place in the code that spawns has its line
//! here, and a place without a line, or a line without its place, fails. The other tests of this
//! folder check that the stages are recorded: the first of them demands the whole vocabulary.

use std::{collections::BTreeMap, fs, path::Path};

use glass_etcd::trace::Stage;

/// A place that spawns.
struct Loop {
    /// The file below `src`.
    file: &'static str,
    /// Its purpose and, if it has no stages, the reason.
    what: &'static str,
    /// Its stages.
    stages: &'static [Stage],
}

const fn with(file: &'static str, what: &'static str, stages: &'static [Stage]) -> Loop {
    Loop { file, what, stages }
}

const fn without(file: &'static str, why: &'static str) -> Loop {
    Loop { file, what: why, stages: &[] }
}

/// Stages of the member's own proposals, under an id of their own.
const PROPOSED: &[Stage] = &[Stage::RaftPropose, Stage::RaftInbox, Stage::ApplyEntry];

const LOOPS: &[Loop] = &[
    with("member/start.rs", "raft", &[Stage::RaftEntry, Stage::RaftCommit, Stage::RaftRole]),
    with("member/start.rs", "apply", &[Stage::ApplyEntry, Stage::ApplyBatch]),
    with(
        "member/compaction.rs",
        "compaction",
        &[Stage::CompactIndex, Stage::CompactPause, Stage::CompactBatch],
    ),
    with("member/start.rs", "watchers that are behind, and victims", &[Stage::WatchSync]),
    with("member/start.rs", "rounds of ReadIndex", &[Stage::ReadIndexRound]),
    with("member/start.rs", "outcomes: each ends", &[Stage::RaftPropose]),
    with("member/start.rs", "refusals of raft: each ends", &[Stage::RaftPropose]),
    with("member/start.rs", "the cluster's version", &[Stage::Rpc]),
    with("member/start.rs", "leases whose time is over", &[Stage::LeaseExpire]),
    with("member/start.rs", "the alarm of a full backend", PROPOSED),
    with("member/start.rs", "v2 nodes whose time is over", &[Stage::Rpc, Stage::V2Apply]),
    without("member/start.rs", "sends peers what to keep: the trace does not trace itself"),
    without("member/start.rs", "the flight recorder: the trace does not trace itself"),
    with("member/start.rs", "checkpoints of leases", &[Stage::LeaseCheckpoint]),
    with("member/start.rs", "automatic compaction", &[Stage::RaftPropose, Stage::MvccCompact]),
    with("member/start.rs", "its own publication", &[Stage::Rpc]),
    without(
        "member/start.rs",
        "writes the flight recorder's file: the trace does not trace itself",
    ),
    without("member/keep.rs", "sends what to keep to one peer: the trace does not trace itself"),
    without("member/otlp.rs", "collects spans for the collector: the export is not exported"),
    without("member/otlp.rs", "sends spans to it: the export is not exported"),
    without("member/otlp/send.rs", "a connection to it: the export is not exported"),
    with(
        "server/snapshots.rs",
        "snapshots of the member, and old files",
        &[Stage::SnapshotMake, Stage::LogPurge],
    ),
    with("server/lease/expiry.rs", "one revocation", &[Stage::LeaseExpire, Stage::LeaseRevoke]),
    with("server/corruption.rs", "periodic comparisons of all keys", &[Stage::CorruptCheck]),
    with("server/corruption.rs", "comparisons after compactions", &[Stage::CorruptCheck]),
    without("api/v3/snapshot.rs", "it closes the file of a copy whose stream has ended"),
    with(
        "server/blocking.rs",
        "one long read, or the file's commit before a compaction is answered",
        &[Stage::ReadThread, Stage::CompactCommit, Stage::ThreadReturn],
    ),
    with("server/concurrency.rs", "a call that outlives its client", &[Stage::LockRelease]),
    with("api/front.rs", "accepts connections", &[Stage::ConnectionAccept]),
    with("api/front.rs", "one connection", &[Stage::Rpc]),
    with("raft/rafthttp/transport.rs", "the peer thread", &[Stage::RaftSend, Stage::RaftReceive]),
    with("raft/rafthttp/transport.rs", "one peer", &[Stage::RaftSend]),
    with("raft/rafthttp/transport.rs", "requests to cut links", &[Stage::RaftLink]),
    with("raft/rafthttp/peer.rs", "one stream", &[Stage::RaftReceive]),
    without("raft/rafthttp/peer.rs", "probes measure the way, and are part of no request"),
    with("raft/rafthttp/peer.rs", "one snapshot", &[Stage::SnapshotSend]),
    with("raft/rafthttp/snapshot_sender.rs", "copies the database", &[Stage::SnapshotSend]),
    without("raft/rafthttp/snapshot_sender.rs", "a connection: the snapshot has the stage"),
    without("raft/rafthttp/snapshot_sender.rs", "reads the copy: the snapshot has the stage"),
    with("raft/rafthttp/snapshot_receiver.rs", "writes the file", &[Stage::SnapshotReceive]),
    with("raft/rafthttp/database.rs", "writes the file", &[Stage::SnapshotReceive]),
    with("raft/rafthttp/pipeline.rs", "one request of the pipeline", &[Stage::RaftSend]),
    with("raft/rafthttp/server.rs", "one connection", &[Stage::RaftReceive]),
    without("raft/rafthttp/questions.rs", "a connection: the question has the stages"),
    without("raft/rafthttp/dial.rs", "a connection; probes of `/raft/probing` carry nothing"),
    with("storage/wal/writer.rs", "the log", &[Stage::WalWrite, Stage::WalFsync]),
    without("storage/wal/ahead.rs", "space for the next segment: a wait for it is in `wal.write`"),
    with("storage/backend.rs", "the file", &[Stage::BufferFreeze, Stage::BackendCommit]),
    with(
        "trace/collect.rs",
        "the collector",
        &[
            Stage::Keyframe,
            Stage::RaftMembers,
            Stage::Usual,
            Stage::Lost,
            Stage::Brief,
            Stage::Shared,
        ],
    ),
];

/// How often each file below `src` spawns something; tests do not count.
fn spawned(dir: &Path, found: &mut BTreeMap<String, usize>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.display().to_string();
        if path.is_dir() {
            spawned(&path, found);
            continue;
        }
        if !name.ends_with(".rs") || name.ends_with("tests.rs") || name.contains("/tests/") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let count: usize = code.lines().map(spawns).sum();
        if count != 0 {
            let file = name.split("src/").last().unwrap().to_owned();
            found.insert(file, count);
        }
    }
}

/// Calls in a line of code that spawn. For our own functions of that name, the spawn inside is
/// counted.
fn spawns(line: &str) -> usize {
    let code = line.split("//").next().unwrap_or("");
    let is_call = |(at, _): &(usize, &str)| {
        let before = &code[..*at];
        !["fn ", "rafthttp::", "wal::"].iter().any(|own| before.ends_with(own))
    };
    let calls = |name: &str| code.match_indices(name).filter(is_call).count();
    calls("spawn(") + calls("spawn_blocking(") + calls("spawn_local(")
}

/// Goal: every loop has stages, or a reason for having none.
#[test]
fn every_background_loop_has_its_stages_or_a_reason_to_have_none() {
    let mut found = BTreeMap::new();
    spawned(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    let mut listed: BTreeMap<String, usize> = BTreeMap::new();
    for of in LOOPS {
        *listed.entry(of.file.to_owned()).or_default() += 1;
        assert!(!of.what.is_empty() && of.stages.iter().all(|stage| Stage::ALL.contains(stage)));
    }
    assert_eq!(found, listed, "what is spawned, by file, and the lines of this test");
    assert_eq!(2, spawns("a.spawn(b); tokio::task::spawn_blocking(c); // spawn(d)"));
    assert_eq!(0, spawns("pub fn spawn(a: u8) { wal::spawn(a) }"));
}
