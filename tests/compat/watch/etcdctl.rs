//! The real etcdctl's `watch`, against each member of a cluster of ours and of one of etcd's.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use glass_etcd::pb::etcdserverpb::DeleteRangeRequest;

use super::{SILENCE, text};
use crate::{
    cluster::Cluster,
    compat::normal::Names,
    programs::{self, Etcdctl},
};

/// The same command against each member of both clusters.
pub(super) async fn same_outputs(subject: &Cluster, reference: &Cluster) {
    let tools = programs::etcdctls();
    let names = [Names::of(subject).await, Names::of(reference).await];
    let dir = tempfile::tempdir().unwrap();
    let hook = hook_in(dir.path());
    for (tool, at) in tools.iter().zip([2, 1]) {
        let mut outputs = Vec::new();
        for (cluster, names) in [subject, reference].into_iter().zip(&names) {
            let mut writer = cluster.client(0);
            let prefix = format!("ctl-{}/", tool.version);
            let revision = writer.put(&format!("{prefix}a"), "1").await.unwrap();
            writer.put(&format!("{prefix}a"), "2").await.unwrap();
            writer.put(&format!("{prefix}b"), "1").await.unwrap();
            let words = watches(&tool.version, &prefix, revision, &hook);
            let mut children = Vec::new();
            for words in &words {
                let mut child =
                    tool_command(tool, cluster, at).args(words.split(' ')).spawn().unwrap();
                if words.starts_with("watch -i") {
                    let mut input = child.stdin.take().unwrap();
                    writeln!(input, "no such command\n").unwrap();
                    writeln!(input, "watch {prefix}a --rev {revision} -- {hook} line").unwrap();
                    tokio::time::sleep(SILENCE).await;
                    writeln!(input, "progress").unwrap();
                    child.stdin = Some(input);
                }
                children.push(child);
            }
            tokio::time::sleep(SILENCE).await;
            writer.put(&format!("{prefix}a"), "3").await.unwrap();
            let delete =
                DeleteRangeRequest { key: text(&format!("{prefix}a")), ..Default::default() };
            writer.kv.delete_range(delete).await.unwrap();
            tokio::time::sleep(SILENCE).await;
            for (words, mut child) in words.iter().zip(children) {
                child.kill().unwrap();
                let output = child.wait_with_output().unwrap();
                let [out, err] = [output.stdout, output.stderr]
                    .map(|bytes| names.apply(&String::from_utf8_lossy(&bytes), false));
                let is_heard = out.contains("ctl-") || out.contains("Y3Rs");
                assert!(is_heard || words.ends_with("table"), "{words}: {out}{err}");
                assert_eq!(out.contains("hook "), words.contains("hook") || words.contains("-i"));
                outputs.push(format!("{} {words}\n{out}\n{err}", tool.version));
            }
        }
        let theirs = outputs.split_off(outputs.len() / 2);
        // From here on revisions may not differ between the clusters: the same has happened to
        // both, except for the slow reader.
        let comparable =
            |outputs: Vec<String>| outputs.into_iter().map(|output| without_revisions(&output));
        for (ours, theirs) in comparable(outputs).zip(comparable(theirs)) {
            assert_eq!(ours, theirs);
        }
    }
}

/// A program that a watcher runs at each event; it prints its arguments and environment.
fn hook_in(dir: &Path) -> String {
    let hook = dir.join("hook");
    fs::write(&hook, "#!/bin/sh\necho \"hook $1\"\nenv | grep ETCD_WATCH | sort\n").unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    hook.display().to_string()
}

/// The arguments of the tool.
fn watches(version: &str, prefix: &str, revision: i64, hook: &str) -> [String; 8] {
    let progress = if version.starts_with("3.4.") { "" } else { "--progress-notify " };
    [
        format!("watch {prefix}a --rev {revision} -- {hook} a"),
        format!("watch {prefix}a {prefix}c --rev {revision} -- {hook} range"),
        format!("watch {prefix}a --rev {revision} -w table"),
        format!("watch {prefix} --prefix --rev {revision}"),
        format!("watch {prefix}a --prev-kv {progress}--rev {revision} -w json"),
        format!("watch {prefix}a -w fields --rev {revision}"),
        "watch -i".to_owned(),
        "watch -i -w json".to_owned(),
    ]
}

fn tool_command(tool: &Etcdctl, cluster: &Cluster, at: usize) -> Command {
    let mut command = Command::new(&tool.path);
    command.env("ETCDCTL_API", "3").args(["--endpoints", &cluster.members[at].client_address()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Numbers of more than one digit are revisions; the tool prints no other numbers of that length.
fn without_revisions(output: &str) -> String {
    let mut out = String::new();
    let mut digits = 0;
    for c in output.chars() {
        digits = if c.is_ascii_digit() { digits + 1 } else { 0 };
        match digits {
            0 | 1 => out.push(c),
            2 => {
                out.pop();
                out.push('N');
            }
            _ => {}
        }
    }
    out
}
