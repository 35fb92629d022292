//! `--trace-chrome`: the files that members write, read more strictly than by any viewer.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

use bytes::Bytes;
use glass_etcd::{
    clock,
    pb::etcdserverpb::{PutRequest, RangeRequest},
    trace::Stage,
};
use serde_json::Value;

use super::order::sampled;
use crate::{
    client::eventually,
    cluster::Cluster,
    programs::{Kind, left_out},
};

/// How long a record may take to reach the file: a flush per second, and a busy machine.
const WRITTEN_WITHIN: Duration = Duration::from_secs(20);
const KEY: &str = "a-key-that-stays-here";
const VALUE: &str = "a-value-that-stays-here";

/// A put's steps on the asked member, below its `rpc`, in the order of their beginnings.
const PUT_STAGES: [Stage; 11] = [
    Stage::RpcValidate,
    Stage::QuotaCheck,
    Stage::Admit,
    Stage::AuthAuthenticate,
    Stage::RaftPropose,
    Stage::RaftEntry,
    Stage::ApplyEntry,
    Stage::AuthAuthorize,
    Stage::MvccWrite,
    Stage::TreeIndexPut,
    Stage::BufferPut,
];
/// A put's steps on every member.
const ON_ALL: [Stage; 5] =
    [Stage::RaftEntry, Stage::ApplyEntry, Stage::MvccWrite, Stage::TreeIndexPut, Stage::BufferPut];
/// The passes of loops that a put must have, and the fields that say what they cover.
const COVERING: [(Stage, &str, &str); 4] = [
    (Stage::WalWrite, "written.old", "written.new"),
    (Stage::WalFsync, "synced.old", "synced.new"),
    (Stage::RaftCommit, "commit.old", "commit.new"),
    (Stage::BackendCommit, "index.old", "index.new"),
];

/// A pair of `b` and `e`, or an `n` or `i`, which has no separate end.
#[derive(Clone, Debug)]
struct Pair {
    /// The id of the request or round; empty for the instant of a loop.
    row: String,
    name: String,
    /// Microseconds since 1970.
    begin: f64,
    end: f64,
    depth: usize,
    /// The args of the `e`.
    args: Value,
}

/// The pairs of a file, in the order of their beginnings.
struct Seen {
    process: u64,
    pairs: Vec<Pair>,
}

impl Seen {
    /// Reads entries; an error names what a viewer would drop or draw wrongly.
    fn of(entries: &[Value], name: &str) -> Result<Self, String> {
        let process = entries[0]["pid"].as_u64().ok_or("no pid")?;
        if entries[0]["args"]["name"] != name {
            return Err(format!("the process is not {name}: {}", entries[0]));
        }
        let mut seen = Self { process, pairs: Vec::new() };
        let mut open: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let mut threads = BTreeSet::new();
        // Viewers sort the entries by their times. What precedes an rpc comes after its beginning.
        let mut entries: Vec<&Value> = entries.iter().collect();
        let time = |entry: &Value| entry["ts"].as_f64().filter(|_| entry["ph"] != "M");
        entries.sort_by(|a, b| time(a).unwrap_or(0.0).total_cmp(&time(b).unwrap_or(0.0)));
        for entry in entries {
            let complain = |what: &str| Err(format!("{what}: {entry}"));
            if entry["pid"] != process {
                return complain("another process");
            }
            let thread = entry["tid"].as_u64().ok_or("no thread")?;
            match entry["ph"].as_str().unwrap_or_default() {
                "M" => _ = threads.insert(thread),
                "i" if entry["name"] == "member" => (),
                _ if !threads.contains(&thread) => return complain("a thread without a name"),
                "b" => {
                    let row = entry["id2"]["local"].as_str().ok_or("no row")?.to_owned();
                    let stack = open.entry(row.clone()).or_default();
                    let begin = entry["ts"].as_f64().ok_or("no time")?;
                    let name = entry["name"].as_str().unwrap_or_default().to_owned();
                    if Stage::from_name(&name).is_none() {
                        return complain("no stage");
                    }
                    stack.push(seen.pairs.len());
                    let (end, depth, args) = (f64::NAN, stack.len(), Value::Null);
                    seen.pairs.push(Pair { row, name, begin, end, depth, args });
                }
                "e" => {
                    let row = entry["id2"]["local"].as_str().unwrap_or_default();
                    let Some(at) = open.get_mut(row).and_then(Vec::pop) else {
                        return complain("an end without a beginning");
                    };
                    let pair = &mut seen.pairs[at];
                    pair.end = entry["ts"].as_f64().ok_or("no time")?;
                    pair.args = entry["args"].clone();
                    if entry["name"] != pair.name.as_str() || pair.end < pair.begin {
                        return complain("the end of something else");
                    }
                }
                "n" | "i" => {
                    let row = entry["id2"]["local"].as_str().unwrap_or_default().to_owned();
                    let depth = open.get(&row).map_or(0, Vec::len) + 1;
                    let begin = entry["ts"].as_f64().ok_or("no time")?;
                    let name = entry["name"].as_str().unwrap_or_default().to_owned();
                    let args = entry["args"].clone();
                    if (entry["ph"] == "n") == row.is_empty() || Stage::from_name(&name).is_none() {
                        return complain("no row, or no stage");
                    }
                    seen.pairs.push(Pair { row, name, begin, end: begin, depth, args });
                }
                _ => return complain("unknown phase"),
            }
        }
        Ok(seen)
    }

    /// A complete file, as a stopped member leaves it.
    fn whole(path: &Path, name: &str) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
        let entries: Vec<Value> = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        Self::of(&entries, name)
    }

    /// A file that is being written, or whose member was killed: a line per entry, without the
    /// bracket.
    fn lines(path: &Path, name: &str) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
        let mut lines = text.lines();
        if lines.next() != Some("[") {
            return Err("nothing is there".to_owned());
        }
        let entry = |line: &str| serde_json::from_str(line.trim_end_matches(','));
        // A flush may come between an entry and its comma.
        let entries: Vec<Value> = (lines.filter(|line| *line != ","))
            .map(|line| entry(line).map_err(|error| format!("{error}: {line}")))
            .collect::<Result<_, _>>()?;
        if entries.is_empty() { Err("no entries".to_owned()) } else { Self::of(&entries, name) }
    }

    fn of_stage(&self, stage: Stage) -> impl Iterator<Item = &Pair> {
        self.pairs.iter().filter(move |pair| pair.name == stage.name())
    }

    /// The rpc of this method, if its pair is complete.
    fn has_rpc(&self, method: &str) -> Result<&Pair, String> {
        let mut calls = self.of_stage(Stage::Rpc);
        let call = calls.find(|pair| pair.args["method"] == method && pair.args["bytes_in"] != 0);
        call.ok_or_else(|| format!("no rpc of {method} in {} pairs", self.pairs.len()))
    }

    /// The steps of a request before its rpc or after it.
    fn at_the_edge(&self, row: &str) -> Vec<&Pair> {
        let is_meant = |pair: &&Pair| pair.row == row && is_at_edge(pair);
        self.pairs.iter().filter(is_meant).collect()
    }

    /// Checks that the loops have covered the entry with this index.
    fn covers(&self, index: u64) -> Result<(), String> {
        for (stage, old, new) in COVERING {
            let number = |pair: &Pair, name: &str| pair.args[name].as_u64().unwrap_or(u64::MAX);
            let is_meant = |pair: &Pair| number(pair, old) < index && index <= number(pair, new);
            if !self.of_stage(stage).any(is_meant) {
                return Err(format!("no {} covers {index}", stage.name()));
            }
        }
        Ok(())
    }
}

/// Checks the put in the file of the asked member. Returns its id and its index.
fn check_put(seen: &Seen) -> (String, u64) {
    let rpc = seen.has_rpc("KV/Put").unwrap();
    assert_eq!(1, rpc.depth);
    assert_eq!(rpc.row, rpc.args["request_id"].as_str().unwrap());
    let of_rpc = |pair: &&Pair| pair.row == rpc.row && !is_at_edge(pair);
    let in_row: Vec<&Pair> = seen.pairs.iter().filter(of_rpc).collect();
    for pair in &in_row {
        assert!(rpc.begin <= pair.begin && pair.end <= rpc.end, "{pair:?} is outside {rpc:?}");
    }
    let names: Vec<&str> = in_row.iter().skip(1).map(|pair| pair.name.as_str()).collect();
    let mut left = names.iter();
    for stage in PUT_STAGES {
        assert!(left.any(|name| *name == stage.name()), "{} in {names:?}", stage.name());
    }
    check_edges(seen, rpc);
    let entry = in_row.iter().find(|pair| pair.name == Stage::RaftEntry.name()).unwrap();
    (rpc.row.clone(), entry.args["index"].as_u64().unwrap())
}

fn is_at_edge(pair: &Pair) -> bool {
    Stage::from_name(&pair.name).is_some_and(Stage::is_at_edge)
}

/// Checks that the steps at the edge stand beside the rpc, in its row: those before it end before
/// it begins, and the flush of its answer begins after its end.
fn check_edges(seen: &Seen, rpc: &Pair) {
    let edges = seen.at_the_edge(&rpc.row);
    let names: BTreeSet<&str> = edges.iter().map(|pair| pair.name.as_str()).collect();
    for stage in [Stage::RpcQueue, Stage::AnswerFlush] {
        assert!(names.contains(stage.name()), "{} in {names:?}", stage.name());
    }
    for pair in edges {
        let is_flush = pair.name == Stage::AnswerFlush.name();
        let is_beside = if is_flush { rpc.end < pair.begin } else { pair.end < rpc.begin };
        assert!(is_beside && pair.depth == 1, "{pair:?} beside {rpc:?}");
        assert!(pair.args["past_ns"].is_null() && pair.args["took_ns"].is_null(), "{pair:?}");
        // A queue of the same machine's loopback: not an hour, and not the time since 1970.
        assert!(pair.end - pair.begin < 60e6, "{pair:?}");
    }
}

/// Checks the put in a member's file.
fn check_part(seen: &Seen, id: &str, index: u64) -> Result<(), String> {
    for stage in ON_ALL {
        if !seen.of_stage(stage).any(|pair| pair.row == id) {
            return Err(format!("no {} of the put", stage.name()));
        }
    }
    seen.covers(index)
}

/// Checks the get in the file of the asked member, and the round that it waited for.
fn check_get(seen: &Seen) {
    let get = seen.has_rpc("KV/Range").unwrap();
    for stage in [Stage::ReadIndexWait, Stage::MvccRange, Stage::TreeIndexGet] {
        let is_of_get = |pair: &Pair| pair.row == get.row && 1 < pair.depth;
        assert!(seen.of_stage(stage).any(is_of_get), "{} of the get", stage.name());
    }
    let of_get = |pair: &&Pair| pair.row == get.row;
    let mut waits = seen.of_stage(Stage::ReadIndexWait).filter(of_get);
    let round = waits.next().unwrap().args["round"].as_str().unwrap();
    assert!(seen.of_stage(Stage::ReadIndexRound).any(|pair| pair.row == round), "round {round}");
}

/// Goal: each member's file holds a kept put completely, nested as it happened, with the passes of
/// the loops that carried it, in wall-clock time, and without key and value; the file of a killed
/// member, up to the last second. Method: a put and a get that ask to be kept, on a follower of
/// three members that share one directory for their files.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_member_writes_its_part_of_a_kept_put_into_its_own_file() {
    if Kind::subject() != Kind::Glass {
        left_out("--trace-chrome: etcd does not have it");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let began = clock::wall().as_micros() as f64;
    let env = [("ETCD_TRACE_CHROME", dir.path().to_str().unwrap())];
    let mut cluster = Cluster::start_with(&Kind::Glass, 3, &env).await;
    let leader = cluster.leader().await;
    let [asked, killed] = [(leader + 1) % 3, (leader + 2) % 3];
    let mut client = cluster.client(asked);
    let (key, value) = (Bytes::from_static(KEY.as_bytes()), Bytes::from_static(VALUE.as_bytes()));
    let put = PutRequest { key: key.clone(), value, ..Default::default() };
    client.kv.put(sampled(put)).await.unwrap();
    let get = RangeRequest { key, ..Default::default() };
    client.kv.range(sampled(get)).await.unwrap();
    let path = |at: usize| dir.path().join(format!("m{at}.trace.json"));
    let (id, index) = eventually("the put in the file", WRITTEN_WITHIN, || async {
        let seen = Seen::lines(&path(asked), &format!("m{asked}"))?;
        let put = seen.has_rpc("KV/Put")?;
        seen.has_rpc("KV/Range")?;
        let flushed = seen.at_the_edge(&put.row);
        let is_flushed = flushed.iter().any(|pair| pair.name == Stage::AnswerFlush.name());
        if is_flushed { Ok(check_put(&seen)) } else { Err("its answer is not flushed".to_owned()) }
    })
    .await;
    eventually("the put in the file of the member to be killed", WRITTEN_WITHIN, || async {
        Seen::lines(&path(killed), &format!("m{killed}"))?.covers(index)
    })
    .await;
    cluster.kill(killed);
    for at in [asked, leader] {
        cluster.terminate(at);
    }
    for at in [asked, leader] {
        assert!(cluster.wait_exit(at, WRITTEN_WITHIN).await.unwrap().success());
    }
    let ended = clock::wall().as_micros() as f64;
    let mut processes = BTreeSet::new();
    for at in 0..3 {
        let (name, read) = (format!("m{at}"), if at == killed { Seen::lines } else { Seen::whole });
        let seen = read(&path(at), &name).unwrap();
        assert!(processes.insert(seen.process), "the number of another process");
        check_part(&seen, &id, index).unwrap_or_else(|what| panic!("{name}: {what}"));
        for pair in &seen.pairs {
            assert!(began <= pair.begin && pair.begin <= ended, "{pair:?} is not of this time");
        }
        let text = fs::read_to_string(path(at)).unwrap();
        assert!(!text.contains(VALUE) && !text.contains(KEY), "{name} tells key or value");
    }
    let seen = Seen::whole(&path(asked), &format!("m{asked}")).unwrap();
    assert_eq!((id, index), check_put(&seen));
    check_get(&seen);
}

/// Goal: a full disk costs the file, not the member. Method: a file that accepts no bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_trace_file_is_on_a_full_disk_keeps_running() {
    if Kind::subject() != Kind::Glass || !Path::new("/dev/full").exists() {
        left_out("--trace-chrome on a full disk: no glass, or no /dev/full");
        return;
    }
    let env = [("ETCD_TRACE_CHROME", "/dev/full")];
    let mut cluster = Cluster::start_with(&Kind::Glass, 1, &env).await;
    let mut client = cluster.client(0);
    client.put("full/before", "v").await.unwrap();
    eventually("a line in the log", WRITTEN_WITHIN, || async {
        let log = cluster.log(0);
        let lines = log.matches("the file of --trace-chrome cannot be written").count();
        if lines == 0 { Err("no line yet".to_owned()) } else { Ok(()) }
    })
    .await;
    client.put("full/after", "v").await.unwrap();
    assert_eq!(2, client.everything(false).await.unwrap().kvs.len());
    assert_eq!(None, cluster.exited(0));
    cluster.terminate(0);
    assert!(cluster.wait_exit(0, WRITTEN_WITHIN).await.unwrap().success());
    let log = cluster.log(0);
    assert_eq!(1, log.matches("--trace-chrome").count(), "said once: {log}");
    assert!(!log.contains("panicked"), "{log}");
}
