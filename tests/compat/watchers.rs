//! Watchers beside the random stream: the same ones on a cluster of ours and on etcd's.
//!
//! ```text
//!   stream of requests ──▶ both clusters ──▶ one stream of watchers a member and side
//!                                    └─────▶ the log: a watcher of everything, from revision 1
//! ```
//!
//! Which watcher is served first, and how many events a response holds, is a matter of chance; so
//! the test compares each watcher's sequence of events, after all of it has arrived. The log says
//! how much has to arrive. A split revision is detected as the responses arrive. Responses other
//! than events (created, cancelled, progress) are compared one by one, including the revision; for
//! that the test waits for each before it sends the next request.
//!
//! A watcher that reads the past must finish before a compaction, or chance decides whether it is
//! cancelled. Where no event of the past would prove that, the test writes one.
//!
//! Left out, because 3.5.1 has bugs there that were fixed later:
//! * a start at the compacted revision itself, whose deletions 3.5.1 has lost;
//! * progress of a stream without watchers, or with one that begins in the future, which 3.5.1
//!   reports.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use glass_etcd::pb::{
    etcdserverpb::{
        HashKvRequest, PutRequest, RangeRequest, WatchCancelRequest, WatchCreateRequest,
        WatchProgressRequest, WatchRequest, WatchResponse, watch_client::WatchClient,
        watch_request::RequestUnion,
    },
    mvccpb::{Event, event::EventType},
};
use tokio::{
    sync::{
        Notify,
        mpsc::{UnboundedSender, unbounded_channel},
    },
    task::JoinHandle,
    time::timeout,
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Streaming, transport::Endpoint};

use super::requests::Stream;
use crate::{client::Client, cluster::Cluster};

/// Any expected response arrives within this time.
const PATIENCE: Duration = Duration::from_secs(20);
/// Live watchers at most.
const WATCHERS_MAX: usize = 40;

/// Responses of one stream that were not compared yet.
#[derive(Default)]
struct Heard {
    events: BTreeMap<i64, Vec<Event>>,
    /// Revision of each watcher's last event.
    last: BTreeMap<i64, i64>,
    controls: Vec<String>,
    flaws: Vec<String>,
}

impl Heard {
    fn add(&mut self, response: WatchResponse) {
        let id = response.watch_id;
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        if response.created || response.canceled || response.events.is_empty() {
            return self.controls.push(format!(
                "watcher {id} at {revision}: created {}, cancelled {} {:?}, compacted {}",
                response.created,
                response.canceled,
                response.cancel_reason,
                response.compact_revision
            ));
        }
        let of = |event: &Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        let (first, last) = (of(&response.events[0]), response.events.last().map_or(0, of));
        let before = self.last.insert(id, last).unwrap_or(0);
        if first <= before || revision < last {
            self.flaws.push(format!("watcher {id}: {first} to {last} after {before}, {revision}"));
        }
        self.events.entry(id).or_default().extend(response.events);
    }
}

/// One stream of watchers on one member, and the task that reads it.
struct Ear {
    requests: UnboundedSender<WatchRequest>,
    heard: Arc<Mutex<Heard>>,
    changed: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Ear {
    async fn open(cluster: &Cluster, at: usize) -> Self {
        let url = format!("http://{}", cluster.members[at].client_address());
        let channel = Endpoint::from_shared(url).unwrap().connect().await.unwrap();
        let (requests, receiver) = unbounded_channel();
        let mut client = WatchClient::new(channel).max_decoding_message_size(64 << 20);
        // etcd sends the response headers only with the first message. This request is refused, and
        // so leaves nothing behind.
        let empty =
            WatchCreateRequest { key: "b".into(), range_end: "a".into(), ..Default::default() };
        requests.send(create(&empty)).unwrap();
        let responses = client.watch(UnboundedReceiverStream::new(receiver)).await.unwrap();
        let mut responses = responses.into_inner();
        responses.message().await.unwrap().unwrap();
        let (heard, changed) = (Arc::default(), Arc::new(Notify::new()));
        let task = tokio::spawn(listen(responses, Arc::clone(&heard), changed.clone()));
        Self { requests, heard, changed, task }
    }

    fn send(&self, request: &WatchRequest) {
        self.requests.send(request.clone()).unwrap();
    }

    /// Waits until `take` finds what it looks for.
    async fn wait<T>(&self, what: &str, mut take: impl FnMut(&mut Heard) -> Option<T>) -> T {
        let found = timeout(PATIENCE, async {
            loop {
                if let Some(found) = take(&mut self.heard.lock().unwrap()) {
                    return found;
                }
                self.changed.notified().await;
            }
        });
        match found.await {
            Ok(found) => found,
            Err(_) => {
                let heard = self.heard.lock().unwrap();
                let counts: Vec<_> = heard.events.iter().map(|(id, e)| (*id, e.len())).collect();
                panic!("{what}: does not come; events {counts:?}, {:?}", heard.controls)
            }
        }
    }

    async fn control(&self, what: &str) -> String {
        self.wait(what, |heard| (!heard.controls.is_empty()).then(|| heard.controls.remove(0)))
            .await
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(
    mut from: Streaming<WatchResponse>,
    heard: Arc<Mutex<Heard>>,
    changed: Arc<Notify>,
) {
    loop {
        let message = from.message().await;
        let mut heard = heard.lock().unwrap();
        match message {
            Ok(Some(response)) => heard.add(response),
            ended => {
                heard.flaws.push(format!("the stream ended: {ended:?}"));
                heard.controls.push("the end".to_owned());
                return changed.notify_one();
            }
        }
        changed.notify_one();
    }
}

fn progress() -> WatchRequest {
    let request_union = Some(RequestUnion::ProgressRequest(WatchProgressRequest {}));
    WatchRequest { request_union }
}

/// A watcher on both clusters.
struct Watcher {
    at: usize,
    id: i64,
    asked: WatchCreateRequest,
    /// Its first revision.
    from: i64,
    /// Changes of the log that it was compared with.
    compared: usize,
}

impl Watcher {
    fn wants(&self, event: &Event) -> bool {
        let Some(kv) = &event.kv else { return false };
        self.from <= kv.mod_revision
            && covers(&self.asked, &kv.key)
            && !self.asked.filters.contains(&event.r#type)
    }
}

/// Whether a watcher with this key and this end receives events of `key`.
fn covers(asked: &WatchCreateRequest, key: &Bytes) -> bool {
    let (from, end) = (&asked.key, &asked.range_end);
    match &end[..] {
        // No key at all stands for the first possible key.
        [] if from.is_empty() => key == "\0",
        [] => key == from,
        b"\0" => from <= key,
        _ => from <= key && key < end,
    }
}

/// All watchers of a run; in each pair, ours is first.
pub(super) struct Watchers {
    ears: Vec<[Ear; 2]>,
    clients: Vec<[Client; 2]>,
    all: [Ear; 2],
    /// Every change, as both clusters reported it.
    log: Vec<Event>,
    live: Vec<Watcher>,
    /// How many comparisons of each kind were made, for the last line.
    counts: BTreeMap<&'static str, usize>,
}

impl Watchers {
    pub(super) async fn open(ours: &Cluster, theirs: &Cluster) -> Self {
        let (mut ears, mut clients) = (Vec::new(), Vec::new());
        for at in 0..3 {
            ears.push([Ear::open(ours, at).await, Ear::open(theirs, at).await]);
            clients.push([ours.client(at), theirs.client(at)]);
        }
        let all = [Ear::open(ours, 0).await, Ear::open(theirs, 0).await];
        let everything = Bytes::from_static(b"\0");
        let asked = WatchCreateRequest {
            key: everything.clone(),
            range_end: everything,
            start_revision: 1,
            prev_kv: true,
            ..Default::default()
        };
        for ear in &all {
            ear.send(&create(&asked));
            ear.control("the log is created").await;
        }
        let (log, live, counts) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { ears, clients, all, log, live, counts }
    }

    /// Creates, cancels or asks for progress; returns a put that has to come next.
    pub(super) async fn act(&mut self, stream: &mut Stream) -> Option<PutRequest> {
        let at = stream.below(3) as usize;
        match stream.below(10) {
            0..6 if WATCHERS_MAX <= self.live.len() => self.cancel(stream).await,
            0..6 => return self.create(stream, at).await,
            6..8 if self.may_hear_of_progress(at, stream.revision) => {
                self.settle(stream.revision).await;
                self.catch_up(at).await;
                self.same_control(at, &progress(), "progress").await;
            }
            8 => {
                // This gets no answer.
                let cancel = RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 7777 });
                let cancel = WatchRequest { request_union: Some(cancel) };
                self.ears[at].iter().for_each(|ear| ear.send(&cancel));
            }
            9 if !self.live.is_empty() => self.cancel(stream).await,
            _ => (),
        }
        None
    }

    /// Whether this member has watchers, none of which waits for a revision that is still far.
    fn may_hear_of_progress(&self, at: usize, newest: i64) -> bool {
        let mut watchers = self.live.iter().filter(|watcher| watcher.at == at).peekable();
        watchers.peek().is_some() && watchers.all(|watcher| watcher.asked.start_revision <= newest)
    }

    async fn create(&mut self, stream: &mut Stream, at: usize) -> Option<PutRequest> {
        self.settle(stream.revision).await;
        self.catch_up(at).await;
        let (newest, compacted) = (stream.revision, stream.compacted);
        let mut asked = stream.watch();
        if asked.start_revision == compacted {
            asked.start_revision += 1;
        }
        let of_the_past = (1..=newest).contains(&asked.start_revision);
        let from = if asked.start_revision == 0 { newest + 1 } else { asked.start_revision };
        let mut watcher = Watcher { at, id: 0, asked, from, compared: 0 };
        let needs_proof = of_the_past && !self.log.iter().any(|event| watcher.wants(event));
        if needs_proof {
            watcher.asked.filters.retain(|filter| *filter != EventType::Put as i32);
        }
        let control = self.same_control(at, &create(&watcher.asked), "create").await;
        if !control.contains("cancelled false") {
            return None;
        }
        let id = control.split(' ').nth(1).and_then(|id| id.parse().ok());
        watcher.id = id.expect("the line was made here");
        if of_the_past && from < compacted {
            let [ours, theirs] = &self.ears[at];
            let what = "the cancellation of a watcher that is too late";
            let controls = tokio::join!(ours.control(what), theirs.control(what));
            assert_eq!(controls.0, controls.1, "m{at}, {:?}", watcher.asked);
            *self.counts.entry("too late").or_default() += 1;
            return None;
        }
        for ear in &self.ears[at] {
            // The number may have been another watcher's.
            ear.heard.lock().unwrap().last.remove(&watcher.id);
        }
        let key =
            if watcher.asked.key.is_empty() { "\0".into() } else { watcher.asked.key.clone() };
        self.live.push(watcher);
        needs_proof.then(|| PutRequest { key, ..Default::default() })
    }

    async fn cancel(&mut self, stream: &mut Stream) {
        self.settle(stream.revision).await;
        let watcher = self.live.swap_remove(stream.below(self.live.len() as u64) as usize);
        self.catch_up(watcher.at).await;
        let cancel = RequestUnion::CancelRequest(WatchCancelRequest { watch_id: watcher.id });
        let cancel = WatchRequest { request_union: Some(cancel) };
        self.same_control(watcher.at, &cancel, "cancel").await;
    }

    /// Sends the request to both and compares the responses; returns them.
    async fn same_control(
        &mut self,
        at: usize,
        request: &WatchRequest,
        what: &'static str,
    ) -> String {
        let [ours, theirs] = &self.ears[at];
        ours.send(request);
        theirs.send(request);
        let controls = tokio::join!(ours.control(what), theirs.control(what));
        assert_eq!(controls.0, controls.1, "ours and etcd's m{at}, {request:?}");
        *self.counts.entry(what).or_default() += 1;
        controls.0
    }

    /// Waits until a member has applied everything that was answered.
    async fn catch_up(&mut self, at: usize) {
        for client in &mut self.clients[at] {
            let range = RangeRequest { key: "a".into(), ..Default::default() };
            client.kv.range(range).await.unwrap();
        }
    }

    /// Waits until every watcher has received all changes up to this revision, and compares.
    pub(super) async fn settle(&mut self, newest: i64) {
        let of = |event: &Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        let mut logs = Vec::new();
        for ear in &self.all {
            let known = self.log.last().map_or(1, of);
            let take = |heard: &mut Heard| {
                let last = heard.last.values().next().copied().unwrap_or(1);
                (newest <= last.max(known)).then(|| std::mem::take(&mut heard.events))
            };
            let events = ear.wait(&format!("the log up to {newest}"), take).await;
            logs.push(events.into_values().flatten().collect::<Vec<Event>>());
        }
        assert!(logs[0] == logs[1], "the logs differ: {:?} and {:?}", logs[0], logs[1]);
        self.log.append(&mut logs[0]);
        for watcher in &mut self.live {
            let due: Vec<&Event> =
                self.log[watcher.compared..].iter().filter(|event| watcher.wants(event)).collect();
            watcher.compared = self.log.len();
            let mut both = Vec::new();
            for ear in &self.ears[watcher.at] {
                let what =
                    format!("{} events for watcher {} of m{}", due.len(), watcher.id, watcher.at);
                let take = |heard: &mut Heard| {
                    let events = heard.events.entry(watcher.id).or_default();
                    (due.len() <= events.len()).then(|| std::mem::take(events))
                };
                both.push(ear.wait(&what, take).await);
            }
            let name = format!("watcher {} of m{}, {:?}", watcher.id, watcher.at, watcher.asked);
            assert!(both[0] == both[1], "{name}\nours: {:?}\netcd: {:?}", both[0], both[1]);
            let plain = |event: &Event| Event { prev_kv: None, ..event.clone() };
            assert!(
                due.iter().map(|event| plain(event)).eq(both[0].iter().map(plain)),
                "{name}\nheard: {:?}\ndue: {due:?}",
                both[0]
            );
            *self.counts.entry("events").or_default() += due.len();
        }
        for ear in self.all.iter().chain(self.ears.iter().flatten()) {
            let flaws = &ear.heard.lock().unwrap().flaws;
            assert!(flaws.is_empty(), "torn or moved back: {flaws:?}");
        }
    }

    /// Checks that the hash of all rows, and of those up to some revision, is the same everywhere;
    /// but 3.5.1 has none for the compacted revision itself.
    pub(super) async fn same_hashes(&mut self, stream: &mut Stream) {
        self.settle(stream.revision).await;
        let back = (stream.revision - stream.compacted.max(1)).max(0) as u64;
        let some = stream.revision - stream.below(back + 3) as i64 + 1;
        for revision in [0, some] {
            let mut hashes = Vec::new();
            for at in 0..3 {
                self.catch_up(at).await;
                let both = if revision == stream.compacted { 1 } else { 2 };
                for client in &mut self.clients[at][..both] {
                    let hash = client.maintenance.hash_kv(HashKvRequest { revision }).await;
                    hashes.push(match hash {
                        Ok(hash) => {
                            let hash = hash.into_inner();
                            let now = hash.header.map_or(0, |header| header.revision);
                            format!("{} at {now}, from {}", hash.hash, hash.compact_revision)
                        }
                        Err(status) => status.message().to_owned(),
                    });
                }
            }
            let same = hashes.iter().all(|hash| *hash == hashes[0]);
            assert!(same, "hashes at {revision}, ours and etcd's in turn: {hashes:#?}");
            *self.counts.entry("hashes").or_default() += 1;
        }
    }

    /// Describes what was compared; panics if that was too little to mean anything.
    pub(super) fn summary(&self, requests: usize) -> String {
        let count = |what| self.counts.get(what).copied().unwrap_or(0);
        assert_eq!(count("hashes"), 22, "{:?}", self.counts);
        for (what, least) in
            [("create", requests / 50), ("cancel", 5), ("progress", 5), ("events", requests / 2)]
        {
            assert!(least <= count(what) || requests < 2000, "{what}: {:?}", self.counts);
        }
        format!("changes {}, compared {:?}", self.log.len(), self.counts)
    }
}

fn create(asked: &WatchCreateRequest) -> WatchRequest {
    WatchRequest { request_union: Some(RequestUnion::CreateRequest(asked.clone())) }
}
