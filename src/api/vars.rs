//! `/debug/vars`: the process's command line, its limit of descriptors, and raft's state, as JSON.
//!
//! etcd prints what Go's `expvar` knows, a line for each variable. Here are those that mean the
//! same in any program. Left out: `memstats`, which is about Go's allocator, and raft's `progress`,
//! which only the raft thread knows; a leader's is empty.

use std::{env, sync::atomic::Ordering};

use nix::sys::resource::{Resource, getrlimit};
use serde_json::json;

use crate::{
    server::Server,
    trace::{value::LEADER, watermarks},
};

/// The page.
pub(super) fn page(server: &Server) -> String {
    let command: Vec<String> =
        env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
    let lines = [
        format!("\"cmdline\": {}", json!(command)),
        format!("\"file_descriptor_limit\": {limit}"),
        format!("\"raft.status\": {}", raft_status(server)),
    ];
    format!("{{\n{}\n}}\n", lines.join(",\n"))
}

/// Raft's state, with the fields of etcd's in their order.
fn raft_status(server: &Server) -> String {
    let marks = watermarks();
    let [vote, role] = [&marks.vote, &marks.role].map(|mark| mark.load(Ordering::Relaxed));
    let status = &server.status;
    let state = match role {
        LEADER => "StateLeader",
        1 => "StateCandidate",
        3 => "StatePreCandidate",
        _ => "StateFollower",
    };
    format!(
        r#"{{"id":"{:x}","term":{},"vote":"{vote:x}","commit":{},"lead":"{:x}","raftState":"{state}","applied":{},"progress":{{}},"leadtransferee":"0"}}"#,
        server.member_id,
        status.term(),
        status.commit(),
        status.leader(),
        status.applied(),
    )
}
