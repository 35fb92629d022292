//! Watch: one script to a cluster of ours and to one of etcd's. [`etcdctl`] has the real tool's
//! `watch`, [`rows`] the rules of a watcher's life one by one.

mod etcdctl;
mod rows;

use std::time::Duration;

use bytes::Bytes;
use glass_etcd::pb::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest, WatchCancelRequest,
    WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse, request_op::Request,
    watch_client::WatchClient, watch_request::RequestUnion,
};
use tokio::{sync::mpsc::UnboundedSender, time::timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, Streaming, transport::Endpoint};

use crate::{
    client::Client,
    cluster::Cluster,
    programs::{self, Kind, left_out},
};

/// If nothing arrives for this long, nothing more will: several times the 100 ms of a sync pass.
const SILENCE: Duration = Duration::from_millis(700);
/// Any expected response arrives within this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// A stream of watchers on one member.
struct Stream {
    requests: Option<UnboundedSender<WatchRequest>>,
    responses: Streaming<WatchResponse>,
    /// Silence after which the script assumes that nothing more will arrive.
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
        // etcd sends the response headers only with the first message. This request is refused, and
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
        Ok(next.expect("a response is due")?.expect("the stream continues"))
    }

    /// Everything that arrives until nothing more does, by watcher, because the order between
    /// watchers is a matter of chance.
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
/// while another takes the puts; the responses must be the same, except for what is specific to a
/// cluster.
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
    etcdctl::same_outputs(&subject, &reference).await;
    needs_leader(&mut subject).await;
}

/// Goal: quiet watchers with progress_notify get a response at the flag's interval, with any id and
/// beside any other watcher. Method: a short interval; on each stream one watcher that asks for
/// progress, one that does not, and one of the future, and writes elsewhere.
#[tokio::test]
async fn quiet_watchers_hear_of_progress() {
    let env = [("ETCD_EXPERIMENTAL_WATCH_PROGRESS_NOTIFY_INTERVAL", "200ms")];
    for kind in [Some(Kind::subject()), programs::reference()].into_iter().flatten() {
        let cluster = Cluster::start_with(&kind, 1, &env).await;
        let mut writer = cluster.client(0);
        // -1 stands for all watchers of a stream in responses, but is an ordinary id in requests.
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
                    // A response sent before the put may arrive first.
                    if response.header.unwrap().revision == revision {
                        break;
                    }
                }
            }
        }
    }
}

/// Goal: a stream that requires a leader ends when there is none. Method: kill two of three.
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

/// The script and its result: each step's name, and then its responses.
struct Script<'c> {
    cluster: &'c Cluster,
    at: usize,
    stream: Stream,
    /// Writes to another member than the watched one.
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

    /// Waits until the watched member has applied everything written.
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

    /// More previous values than are read on the gRPC thread.
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
        // Megabytes take their time in a debug build.
        self.stream.silence = 4 * SILENCE;
        self.step("large").await;
        self.stream.silence = SILENCE;
        drop(self.stream.requests.take());
        self.put("f", "still heard").await;
        self.step("half closed").await;
    }
}

/// Goal: a slow reader loses nothing and blocks no other stream. Method: one stream is not read
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
