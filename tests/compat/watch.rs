//! Watch: one script to a cluster of ours and to one of etcd's, and the real etcdctl's `watch`.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use glass_etcd::pb::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest, WatchCancelRequest,
    WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse, request_op::Request,
    watch_client::WatchClient, watch_request::RequestUnion,
};
use tokio::{sync::mpsc::UnboundedSender, time::timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, Streaming, transport::Endpoint};

use super::{http, normal::Names};
use crate::{
    client::Client,
    cluster::Cluster,
    programs::{self, Etcdctl, Kind, left_out},
};

/// Nothing more comes, if nothing has come for so long: several times the 100 ms of a sync pass.
const SILENCE: Duration = Duration::from_millis(700);
/// By then something that must come has come.
const PATIENCE: Duration = Duration::from_secs(10);

/// A stream of watchers on one member.
struct Stream {
    requests: Option<UnboundedSender<WatchRequest>>,
    responses: Streaming<WatchResponse>,
    /// After which it is believed that nothing more comes.
    silence: Duration,
}

impl Stream {
    async fn open(cluster: &Cluster, at: usize) -> Stream {
        Self::open_with(cluster, at, false).await
    }

    async fn open_with(cluster: &Cluster, at: usize, needs_leader: bool) -> Stream {
        let url = format!("http://{}", cluster.members[at].client_address());
        let channel = Endpoint::from_shared(url).unwrap().connect().await.unwrap();
        let (requests, receiver) = tokio::sync::mpsc::unbounded_channel();
        let mut client = WatchClient::new(channel).max_decoding_message_size(64 << 20);
        // etcd sends the head of its answer with the first message only. This one is refused, and
        // so leaves nothing behind.
        let refused = RequestUnion::CreateRequest(create("b", "a", 0));
        requests.send(WatchRequest { request_union: Some(refused) }).unwrap();
        let mut request = tonic::Request::new(UnboundedReceiverStream::new(receiver));
        if needs_leader {
            request.metadata_mut().insert("hasleader", "true".parse().unwrap());
        }
        let responses = client.watch(request).await.unwrap();
        let responses = responses.into_inner();
        let mut stream = Stream { requests: Some(requests), responses, silence: SILENCE };
        stream.next().await.unwrap();
        stream
    }

    fn send(&self, request: WatchRequest) {
        self.requests.as_ref().unwrap().send(request).unwrap();
    }

    fn create(&self, create: WatchCreateRequest) {
        self.send(WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) });
    }

    fn cancel(&self, watch_id: i64) {
        let cancel = RequestUnion::CancelRequest(WatchCancelRequest { watch_id });
        self.send(WatchRequest { request_union: Some(cancel) });
    }

    async fn next(&mut self) -> Result<WatchResponse, Status> {
        let next = timeout(PATIENCE, self.responses.message()).await;
        Ok(next.expect("a response is due")?.expect("the stream goes on"))
    }

    /// Everything that comes until nothing comes any more; by watcher, as who of them is told
    /// first is a matter of chance.
    async fn rest(&mut self) -> Vec<String> {
        let mut lines: Vec<(i64, String)> = Vec::new();
        let mut end = None;
        while let Ok(message) = timeout(self.silence, self.responses.message()).await {
            match message {
                Ok(Some(mut response)) => {
                    if let Some(header) = &mut response.header {
                        (header.cluster_id, header.member_id, header.raft_term) = (0, 0, 0);
                    }
                    for event in &mut response.events {
                        let kvs = [&mut event.kv, &mut event.prev_kv];
                        for kv in kvs.into_iter().flatten().filter(|kv| 1000 < kv.value.len()) {
                            kv.value = Bytes::from(format!("{} bytes", kv.value.len()));
                        }
                    }
                    lines.push((response.watch_id, format!("{response:?}")));
                }
                Ok(None) => end = Some("end".to_owned()),
                Err(status) => end = Some(format!("{:?} {}", status.code(), status.message())),
            }
            if end.is_some() {
                break;
            }
        }
        lines.sort_by_key(|(watch_id, _)| *watch_id);
        lines.into_iter().map(|(_, line)| line).chain(end).collect()
    }
}

fn progress() -> WatchRequest {
    let request_union = Some(RequestUnion::ProgressRequest(WatchProgressRequest {}));
    WatchRequest { request_union }
}

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn create(key: &str, end: &str, start_revision: i64) -> WatchCreateRequest {
    let (key, range_end) = (text(key), text(end));
    WatchCreateRequest { key, range_end, start_revision, ..Default::default() }
}

fn put_op(key: &str, value: &str) -> RequestOp {
    let put = PutRequest { key: text(key), value: text(value), ..Default::default() };
    RequestOp { request: Some(Request::RequestPut(put)) }
}

/// Goal: a client's watchers see no difference. Method: the same messages, watched on one member
/// while another takes the puts; the responses must be the same, but for what is the cluster's own.
#[tokio::test]
async fn watchers_see_no_difference() {
    let Some(reference) = programs::reference() else {
        return left_out("compat of watch: no etcd 3.5.1");
    };
    let subject = Kind::subject();
    let (mut subject, reference) =
        tokio::join!(Cluster::start(&subject, 3), Cluster::start(&reference, 3));
    for at in 0..3 {
        let (ours, theirs) = tokio::join!(script(&subject, at), script(&reference, at));
        let pairs = ours.iter().zip(&theirs).filter(|(ours, theirs)| ours != theirs);
        let differences: Vec<String> =
            pairs.map(|(ours, theirs)| format!("ours: {ours:#?}\netcd: {theirs:#?}\n")).collect();
        assert!(differences.is_empty(), "watching m{at}:\n{}", differences.join("\n"));
        assert_eq!(ours.len(), theirs.len());
    }
    slow_reader(&subject).await;
    etcdctl(&subject, &reference).await;
    needs_leader(&mut subject).await;
}

/// Goal: quiet watchers with progress_notify get a response as often as the flag says, with any id and
/// beside any other watcher. Method: a short interval; on each stream one watcher that asks for
/// progress, one that does not, and one of the future, and writes elsewhere.
#[tokio::test]
async fn quiet_watchers_hear_of_progress() {
    let env = [("ETCD_EXPERIMENTAL_WATCH_PROGRESS_NOTIFY_INTERVAL", "200ms")];
    for kind in [Some(Kind::subject()), programs::reference()].into_iter().flatten() {
        let cluster = Cluster::start_with(&kind, 1, &env).await;
        let mut writer = cluster.client(0);
        // -1 stands for all of a stream in responses, but is an id like others in requests.
        for watch_id in [77, -1] {
            let mut stream = Stream::open(&cluster, 0).await;
            let quiet = create("a", "", 0);
            stream.create(quiet.clone());
            stream.create(WatchCreateRequest { watch_id, progress_notify: true, ..quiet });
            stream.create(create("a", "", 1_000_000));
            for created in [0, watch_id, 1] {
                assert_eq!(stream.next().await.unwrap().watch_id, created);
            }
            for _ in 0..3 {
                let revision = writer.put("b", "1").await.unwrap();
                loop {
                    let response = stream.next().await.unwrap();
                    let heard = (response.watch_id, response.events.len());
                    assert_eq!(heard, (watch_id, 0), "{kind:?}");
                    // One that was on its way before the put may come first.
                    if response.header.unwrap().revision == revision {
                        break;
                    }
                }
            }
        }
    }
}

/// Goal: a stream that needs a leader ends when there is none. Method: two of three are killed.
async fn needs_leader(cluster: &mut Cluster) {
    let mut with = Stream::open_with(cluster, 0, true).await;
    let mut without = Stream::open(cluster, 0).await;
    for at in [1, 2] {
        cluster.kill(at);
    }
    let end = timeout(PATIENCE, with.responses.message()).await.unwrap().unwrap_err();
    assert_eq!((end.code(), end.message()), (Code::Unavailable, "etcdserver: no leader"));
    assert_eq!(without.rest().await, Vec::<String>::new());
}

/// The script, and what is heard of it: each step's name, and then its responses.
struct Script<'c> {
    cluster: &'c Cluster,
    at: usize,
    stream: Stream,
    /// Writes on another member than the one that is watched.
    writer: Client,
    heard: Vec<Vec<String>>,
}

async fn script(cluster: &Cluster, at: usize) -> Vec<Vec<String>> {
    let stream = Stream::open(cluster, at).await;
    let writer = cluster.client((at + 1) % 3);
    let mut script = Script { cluster, at, stream, writer, heard: Vec::new() };
    let first = script.put("a", "1").await;
    script.creations().await;
    let revision = script.writes().await;
    script.starts(first, revision).await;
    script.compaction(revision).await;
    script.long_past().await;
    script.large().await;
    script.heard
}

impl Script<'_> {
    fn key(&self, name: &str) -> String {
        format!("w{}/{name}", self.at)
    }

    /// The keys of this member's turn.
    fn prefix(&self, start_revision: i64) -> WatchCreateRequest {
        create(&self.key(""), &format!("w{}0", self.at), start_revision)
    }

    async fn put(&mut self, name: &str, value: &str) -> i64 {
        let key = self.key(name);
        let revision = self.writer.put(&key, value).await.unwrap();
        self.catch_up().await;
        revision
    }

    /// Waits until the member that is watched has all that was written.
    async fn catch_up(&self) {
        self.cluster.client(self.at).everything(false).await.unwrap();
    }

    async fn step(&mut self, name: &str) {
        let responses = self.stream.rest().await;
        self.heard.push([vec![name.to_owned()], responses].concat());
    }

    async fn creations(&mut self) {
        let b = create(&self.key("b"), "", 0);
        self.stream.create(self.prefix(0));
        self.stream.create(WatchCreateRequest { prev_kv: true, ..b });
        self.stream.create(WatchCreateRequest { filters: vec![0], ..self.prefix(0) });
        self.step("created").await;
        self.stream.create(create("b", "a", 0));
        self.stream.create(create("b", "b", 0));
        self.stream.create(WatchCreateRequest { watch_id: 2, ..create("a", "", 0) });
        self.stream.create(WatchCreateRequest { watch_id: 40, ..create("", "\0", 0) });
        self.stream.create(create("", "", 0));
        self.step("refused and chosen").await;
    }

    /// Returns the revision of the last write, a deletion.
    async fn writes(&mut self) -> i64 {
        self.put("b", "1").await;
        self.put("b", "2").await;
        self.step("two puts").await;
        let ops = [("c", "1"), ("b", "3"), ("a", "2")];
        let success = ops.map(|(name, value)| put_op(&self.key(name), value)).to_vec();
        self.writer.kv.txn(TxnRequest { success, ..Default::default() }).await.unwrap();
        self.step("one txn").await;
        let WatchCreateRequest { key, range_end, .. } = self.prefix(0);
        let delete = DeleteRangeRequest { key, range_end, prev_kv: false };
        let deleted = self.writer.kv.delete_range(delete).await.unwrap().into_inner();
        self.step("a range is deleted").await;
        deleted.header.unwrap().revision
    }

    async fn starts(&mut self, first: i64, revision: i64) {
        self.stream.create(self.prefix(first));
        self.step("from the past").await;
        self.stream.create(WatchCreateRequest { prev_kv: true, ..self.prefix(revision - 1) });
        self.step("from the past, with what was before").await;
        self.stream.create(self.prefix(revision));
        self.step("from the present").await;
        let future = create(&self.key("f"), "", revision + 2);
        self.stream.create(WatchCreateRequest { watch_id: 50, ..future });
        self.put("f", "too early").await;
        self.put("f", "in time").await;
        self.step("from the future").await;
        for watch_id in [0, 0, 7777, 40, 3, 50, 2, 4, 5] {
            self.stream.cancel(watch_id);
        }
        self.step("cancelled").await;
        self.stream.send(progress());
        self.step("progress").await;
    }

    async fn compaction(&mut self, revision: i64) {
        let compaction = CompactionRequest { revision, physical: true };
        self.writer.kv.compact(compaction).await.unwrap();
        self.catch_up().await;
        self.stream.create(WatchCreateRequest { watch_id: 60, ..self.prefix(revision - 1) });
        self.step("compacted").await;
        let there = create(&self.key("f"), "", revision);
        self.stream.create(WatchCreateRequest { watch_id: 61, ..there });
        self.step("at the compaction").await;
        self.stream.cancel(60);
        self.step("cancelled, but it was already").await;
    }

    /// More previous values than are read while others wait.
    async fn long_past(&mut self) {
        let first = self.put("long", "0").await;
        for value in 1..200 {
            self.writer.put(&self.key("long"), &value.to_string()).await.unwrap();
        }
        self.catch_up().await;
        let create = create(&self.key("long"), "", first);
        self.stream.create(WatchCreateRequest { prev_kv: true, watch_id: 70, ..create });
        self.step("a long past, with what was before").await;
        self.stream.cancel(70);
        self.step("the long past is cancelled").await;
    }

    async fn large(&mut self) {
        let value = "x".repeat(1_200_000);
        let first = self.put("large", &value).await;
        self.put("large", &value).await;
        self.put("large", &value).await;
        for fragment in [false, true] {
            let create = create(&self.key("large"), "", first);
            self.stream.create(WatchCreateRequest { fragment, prev_kv: true, ..create });
        }
        // Megabytes take their time in a test build.
        self.stream.silence = 4 * SILENCE;
        self.step("large").await;
        self.stream.silence = SILENCE;
        drop(self.stream.requests.take());
        self.put("f", "still heard").await;
        self.step("half closed").await;
    }
}

/// Goal: who reads slowly loses nothing and holds up nobody. Method: a stream that is not read
/// while far more is written than queues and windows hold; another one is read all the time.
async fn slow_reader(cluster: &Cluster) {
    let mut slow = Stream::open(cluster, 0).await;
    let mut quick = Stream::open(cluster, 0).await;
    for stream in [&mut slow, &mut quick] {
        stream.create(create("slow", "", 0));
        assert!(stream.next().await.unwrap().created);
    }
    let mut writer = cluster.client(1);
    let value = "x".repeat(64 << 10);
    let (mut first, mut last) = (0, 0);
    for n in 0..300 {
        last = writer.put("slow", &format!("{n}{value}")).await.unwrap();
        if n == 0 {
            first = last;
        }
        assert_eq!(quick.next().await.unwrap().events.len(), 1);
    }
    let mut next = first;
    while next <= last {
        for event in slow.next().await.unwrap().events {
            assert_eq!(event.kv.unwrap().mod_revision, next);
            next += 1;
        }
    }
    assert_eq!(next, last + 1);
}

/// The real tool: the same command against each member of both clusters.
async fn etcdctl(subject: &Cluster, reference: &Cluster) {
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
        // Revisions may differ between the clusters no more: the same has happened to both, but for
        // the slow reader.
        let comparable =
            |outputs: Vec<String>| outputs.into_iter().map(|output| without_revisions(&output));
        for (ours, theirs) in comparable(outputs).zip(comparable(theirs)) {
            assert_eq!(ours, theirs);
        }
    }
}

/// A program that a watcher runs at each event; it shows what it is told.
fn hook_in(dir: &Path) -> String {
    let hook = dir.join("hook");
    fs::write(&hook, "#!/bin/sh\necho \"hook $1\"\nenv | grep ETCD_WATCH | sort\n").unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    hook.display().to_string()
}

/// What the tool is called with.
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

/// Numbers of more than one digit are revisions, as the tool shows nothing else that long.
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

/// A row: the rule, what is sent, what comes back, and whether etcd 3.5.1 is asked too.
type Row = (&'static str, RequestUnion, &'static [&'static str], bool);

/// What a response says, without ids of the cluster.
fn said(response: &WatchResponse) -> String {
    let revision = response.header.as_ref().map_or(-1, |header| header.revision);
    let WatchResponse { watch_id, created, canceled, compact_revision, cancel_reason, .. } =
        response;
    let flags = [(*created, "created "), (*canceled, "canceled ")];
    let flags: String = flags.iter().filter(|(is, _)| *is).map(|(_, name)| *name).collect();
    format!("{flags}{watch_id} at {revision} compacted {compact_revision} [{cancel_reason}]")
}

/// The key space stands at 5, and 4 is compacted.
fn rows() -> Vec<Row> {
    let create =
        |id, request| RequestUnion::CreateRequest(WatchCreateRequest { watch_id: id, ..request });
    let cancel = |watch_id| RequestUnion::CancelRequest(WatchCancelRequest { watch_id });
    let ask = || RequestUnion::ProgressRequest(WatchProgressRequest {});
    let all = |start_revision| super::watch::create("a", "\0", start_revision);
    vec![
        ("ids from 0 on", create(0, all(0)), &["created 0 at 5 compacted 0 []"], true),
        ("the next", create(0, all(6)), &["created 1 at 5 compacted 0 []"], true),
        ("chosen", create(9, all(0)), &["created 9 at 5 compacted 0 []"], true),
        (
            "chosen twice",
            create(9, all(0)),
            &["created canceled -1 at 5 compacted 0 [mvcc: duplicate watch ID provided on the \
               WatchStream]"],
            true,
        ),
        (
            "empty range",
            create(0, super::watch::create("b", "a", 0)),
            &["created canceled -1 at 5 compacted 0 [mvcc: watcher range is empty]"],
            true,
        ),
        // 3.5.1 takes it for the present.
        (
            "negative",
            create(0, all(-1)),
            &[
                "created canceled -1 at 5 compacted 0 [etcdserver: mvcc: required revision has been \
               compacted]",
            ],
            false,
        ),
        (
            "compacted",
            create(20, all(3)),
            &["created 20 at 5 compacted 0 []", "canceled 20 at 0 compacted 4 []"],
            true,
        ),
        ("the future", create(21, all(99)), &["created 21 at 5 compacted 0 []"], true),
        ("cancel", cancel(1), &["canceled 1 at 5 compacted 0 []"], true),
        ("cancel twice, and nobody", cancel(1), &[], true),
        ("cancel nobody", cancel(777), &[], true),
        // 3.5.1 says so also to those who wait for a later revision (etcd #20221).
        ("no progress before the start", ask(), &[], false),
        ("cancel the future", cancel(21), &["canceled 21 at 5 compacted 0 []"], true),
        ("progress", ask(), &["-1 at 5 compacted 0 []"], true),
    ]
}

/// The rest of the life of this stream: ids below zero, and no watchers.
fn later_rows() -> Vec<Row> {
    let create =
        |id, request| RequestUnion::CreateRequest(WatchCreateRequest { watch_id: id, ..request });
    let cancel = |watch_id| RequestUnion::CancelRequest(WatchCancelRequest { watch_id });
    let ask = || RequestUnion::ProgressRequest(WatchProgressRequest {});
    let all = |start_revision| super::watch::create("a", "\0", start_revision);
    vec![
        ("-1 is an id like others", create(-1, all(0)), &["created -1 at 5 compacted 0 []"], true),
        (
            "and so is the least",
            create(i64::MIN, all(3)),
            &[
                "created -9223372036854775808 at 5 compacted 0 []",
                "canceled -9223372036854775808 at 0 compacted 4 []",
            ],
            true,
        ),
        ("progress with -1", ask(), &["-1 at 5 compacted 0 []"], true),
        ("cancel -1", cancel(-1), &["canceled -1 at 5 compacted 0 []"], true),
        ("cancel -1 twice", cancel(-1), &[], true),
        ("cancel 0", cancel(0), &["canceled 0 at 5 compacted 0 []"], true),
        ("cancel 9", cancel(9), &["canceled 9 at 5 compacted 0 []"], true),
        // Not since 3.5.8: one that a compaction has ended is no watcher either.
        ("no progress without watchers", ask(), &[], false),
        ("ids go on", create(0, all(0)), &["created 2 at 5 compacted 0 []"], true),
        ("progress again", ask(), &["-1 at 5 compacted 0 []"], true),
        ("another one", create(0, all(0)), &["created 3 at 5 compacted 0 []"], true),
    ]
}

/// Goal: each rule of a watcher's life has its answer. Method: the rows in order on one stream, of
/// ours and of etcd; a row without an answer is passed over by the next one's.
#[tokio::test]
async fn every_row_of_the_watchers_table_is_answered_as_it_says() {
    let mut wrong = Vec::new();
    for kind in [Some(Kind::subject()), programs::reference()].into_iter().flatten() {
        let cluster = Cluster::start(&kind, 1).await;
        let mut client = cluster.client(0);
        for key in ["a", "b", "c", "d"] {
            client.put(key, "").await.unwrap();
        }
        client.kv.compact(CompactionRequest { revision: 4, physical: true }).await.unwrap();
        let mut stream = Stream::open(&cluster, 0).await;
        for (rule, request, expected, etcd) in rows().into_iter().chain(later_rows()) {
            if kind != Kind::Glass && !etcd {
                continue;
            }
            stream.send(WatchRequest { request_union: Some(request) });
            for expected in expected {
                let answer = said(&stream.next().await.unwrap());
                if answer != *expected {
                    wrong.push(format!("{kind:?}: {rule}: {answer:?}, not {expected:?}"));
                }
            }
        }
        // Those that were neither refused nor cancelled; etcd goes on counting those that a
        // compaction has ended.
        let metric = |name| http::metric(&cluster, 0, &format!("etcd_debugging_mvcc_{name}"));
        let watchers = if kind == Kind::Glass { 2 } else { 4 };
        assert_eq!(metric("watcher_total"), Some(watchers), "{kind:?}");
        assert_eq!(metric("slow_watcher_total"), Some(0), "{kind:?}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
