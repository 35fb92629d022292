//! Watchers on every member, while writers write, compaction runs, and members are killed.
//!
//! ```text
//!   4 writers ──▶ m0 m1 m2 ──▶ watchers that resume where they were  ──┐
//!   compaction ─▶  ▲           watchers that come, stay a while, go  ──┼─▶ sessions ─▶ nine checks
//!                  └ SIGKILL,  the watcher of everything ─▶ record   ──┘       ▲
//!                    restart                  └── answers of the writers ──────┘
//! ```
//!
//! etcd 3.5.1 does not pass: a watcher that begins at a compacted revision does not receive the
//! deletions there, as in later 3.5, and Resumable reports that.

use std::{
    env,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use glass_etcd::{
    clock,
    pb::{
        etcdserverpb::{
            DeleteRangeRequest, HashKvRequest, PutRequest, RequestOp, TxnRequest,
            WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
            request_op::Request, watch_client::WatchClient, watch_request::RequestUnion,
        },
        mvccpb::Event,
    },
};
use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Streaming, transport::Endpoint};

use super::{
    history::{Answer, Record, Session, revision},
    nine::{self, Broken},
    traffic::{self, KEYS, Shared, Writer, key},
};
use crate::{client::Client, cluster::Cluster, programs::Kind, random::Random};

/// Seconds of a run; `GLASS_IT_SECONDS` overrides it.
const SECONDS: u64 = 10;
/// Clients that write.
const WRITERS: u64 = 4;
/// Time within which a watcher receives the last change.
const LAST_NEWS: Duration = Duration::from_secs(60);
/// How long a stream may be quiet before its watcher requests progress.
const QUIET: Duration = Duration::from_millis(150);
/// Time limit to connect and create a watcher.
const CONNECT: Duration = Duration::from_secs(3);

/// Goal: the nine properties hold under all faults; no acknowledged write is lost or changed; all
/// members end up with the same rows. Method: see the essay of this file, and `nine`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_nine_properties_of_watch_hold_while_members_are_killed() {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("GLASS_IT_SEED").unwrap_or(1);
    let seconds = number("GLASS_IT_SECONDS").unwrap_or(SECONDS);
    eprintln!("GLASS_IT_SEED={seed} GLASS_IT_SECONDS={seconds}");
    let progress = [("ETCD_EXPERIMENTAL_WATCH_PROGRESS_NOTIFY_INTERVAL", "200ms")];
    let mut cluster = Cluster::start_with(&Kind::subject(), 3, &progress).await;
    let mut random = Random::new(seed);
    let shared = Arc::new(Shared::default());
    let sessions = Arc::new(Mutex::new(Vec::new()));
    let clients: Vec<Client> = (0..3).map(|at| cluster.client(at)).collect();
    let ports: Vec<u16> = cluster.members.iter().map(|member| member.client_port).collect();
    let recorder = tokio::spawn(record(ports.clone(), shared.clone()));
    let mut writers = JoinSet::new();
    for name in 0..WRITERS {
        let random = random.split();
        let (clients, shared) = (clients.clone(), shared.clone());
        writers.spawn(Writer { name, clients, random, shared }.run());
    }
    writers.spawn(traffic::compact(clients.clone(), random.clone(), shared.clone()));
    let watchers = watchers(&ports, &mut random, &shared, &sessions);
    let kills = disturb(&mut cluster, &mut random, Duration::from_secs(seconds)).await;
    shared.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
    let end = last_changes(&clients[0], &shared).await;
    let record = Record::new(recorder.await.unwrap());
    for watcher in watchers {
        watcher.await.unwrap();
    }
    let sessions = std::mem::take(&mut *sessions.lock().unwrap());
    judge(&record, &sessions, &shared);
    assert_eq!(record.newest(), end);
    same_everywhere(&clients, &record).await;
    enough(&record, &sessions, &shared, kills);
}

/// Kills leaders and followers in turn, and restarts them.
async fn disturb(cluster: &mut Cluster, random: &mut Random, time: Duration) -> usize {
    let until = clock::now() + time;
    let mut kills = 0;
    loop {
        sleep(Duration::from_millis(700 + random.below(1500))).await;
        if until <= clock::now() {
            return kills;
        }
        let leader = cluster.leader().await;
        let follower = (leader + 1 + random.index(2)) % 3;
        let at = if kills % 2 == 0 { leader } else { follower };
        cluster.kill(at);
        kills += 1;
        sleep(Duration::from_millis(random.below(1500))).await;
        cluster.spawn(at);
        cluster.wait_ready(at).await;
    }
}

/// Puts all keys, and then deletes them: every remaining watcher receives one of the two.
async fn last_changes(client: &Client, shared: &Shared) -> i64 {
    let values: Vec<Bytes> = (0..KEYS).map(|at| shared.send(format!("last/{at}"))).collect();
    let put = |at: usize| PutRequest {
        key: key(at as u64),
        value: values[at].clone(),
        ..Default::default()
    };
    let success: Vec<RequestOp> =
        (0..KEYS).map(|at| RequestOp { request: Some(Request::RequestPut(put(at))) }).collect();
    let mut client = client.clone();
    let txn = TxnRequest { success, ..Default::default() };
    let header = client.kv.txn(txn).await.unwrap().into_inner().header;
    let changes = (0..KEYS).map(|at| (key(at as u64), Some(values[at].clone()))).collect();
    shared.acknowledge(header, changes);
    let delete = DeleteRangeRequest { key: "k/".into(), range_end: "k0".into(), prev_kv: false };
    let header = client.kv.delete_range(delete).await.unwrap().into_inner().header;
    let end = shared.acknowledge(header, (0..KEYS).map(|at| (key(at as u64), None)).collect());
    shared.end.store(end, Ordering::Relaxed);
    end
}

fn judge(record: &Record, sessions: &[Session], shared: &Shared) {
    let flaws = record.flaws();
    assert!(flaws.is_empty(), "the record: {}", first_lines(&flaws));
    let contradictions = shared.contradictions(record);
    assert!(contradictions.is_empty(), "the answers: {}", first_lines(&contradictions));
    let mut broken = Vec::new();
    for session in sessions {
        for (property, what) in nine::check(record, session) as Vec<Broken> {
            broken.push(format!("{property:?}: {}: {what}, {:?}", session.name, session.asked));
        }
    }
    assert!(broken.is_empty(), "{} broken: {}", broken.len(), first_lines(&broken));
}

fn first_lines(lines: &[String]) -> String {
    lines.iter().take(10).map(|line| format!("\n{line}")).collect()
}

/// Checks that all members have the keys of the record, and the same rows.
async fn same_everywhere(clients: &[Client], record: &Record) {
    let mut hashes = Vec::new();
    for client in clients {
        let mut client = client.clone();
        let all = client.everything(false).await.unwrap();
        assert_eq!(all.kvs, record.state());
        let hash = client.maintenance.hash_kv(HashKvRequest { revision: 0 }).await;
        let hash = hash.unwrap().into_inner();
        hashes.push((hash.hash, hash.compact_revision, hash.header.map(|header| header.revision)));
    }
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
}

/// A run in which little happened proves little.
fn enough(record: &Record, sessions: &[Session], shared: &Shared, kills: usize) {
    let count = |wanted: fn(&Answer) -> bool| -> usize {
        sessions.iter().flat_map(|s| &s.answers).filter(|answer| wanted(answer)).count()
    };
    let events: usize = sessions.iter().map(|session| session.events().count()).sum();
    let progress = count(|answer| matches!(answer, Answer::Progress(_)));
    let compacted = count(|answer| matches!(answer, Answer::Compacted(_)));
    let (acknowledged, unknown) = shared.counts();
    eprintln!(
        "{kills} kills, {} revisions, {acknowledged} acknowledged, {unknown} unknown or refused; \
         {} sessions, {events} events, {progress} times progress, {compacted} too late",
        record.newest(),
        sessions.len()
    );
    assert!(2 <= kills && 200 < acknowledged && 2000 < events && 5 < compacted && 5 < progress);
}

// ---- watchers ----

/// The member that a watcher uses, and where it reports its events.
#[derive(Clone)]
struct Post {
    port: u16,
    name: String,
    shared: Arc<Shared>,
    sessions: Arc<Mutex<Vec<Session>>>,
}

/// Permanent and temporary watchers, on each member.
fn watchers(
    ports: &[u16],
    random: &mut Random,
    shared: &Arc<Shared>,
    sessions: &Arc<Mutex<Vec<Session>>>,
) -> Vec<JoinHandle<()>> {
    let mut tasks = Vec::new();
    let create = |key: &'static str, end: &'static str| WatchCreateRequest {
        key: key.into(),
        range_end: end.into(),
        start_revision: 1,
        ..Default::default()
    };
    for (at, &port) in ports.iter().enumerate() {
        let templates = [
            WatchCreateRequest { prev_kv: true, ..create("k/", "k0") },
            WatchCreateRequest { progress_notify: true, ..create("k/3", "") },
            WatchCreateRequest { prev_kv: true, start_revision: 0, ..create("k/2", "k/6") },
            WatchCreateRequest { filters: vec![0], ..create("k/5", "\0") },
            WatchCreateRequest { filters: vec![1], prev_kv: true, ..create("\0", "\0") },
        ];
        for (number, asked) in templates.into_iter().enumerate() {
            let name = format!("m{at}, follower {number}");
            let post = Post { port, name, shared: shared.clone(), sessions: sessions.clone() };
            tasks.push(tokio::spawn(follow(post, asked)));
        }
        for number in 0..2 {
            let name = format!("m{at}, visitor {number}");
            let post = Post { port, name, shared: shared.clone(), sessions: sessions.clone() };
            tasks.push(tokio::spawn(visit(post, random.split())));
        }
    }
    tasks
}

/// The watcher of everything: moves from member to member, and returns all changes.
async fn record(ports: Vec<u16>, shared: Arc<Shared>) -> Vec<Event> {
    let all = Bytes::from_static(b"\0");
    let mut asked = WatchCreateRequest {
        key: all.clone(),
        range_end: all,
        start_revision: 1,
        ..Default::default()
    };
    let mut events: Vec<Event> = Vec::new();
    for port in ports.iter().cycle() {
        let next = events.last().map_or(1, revision) + 1;
        asked.start_revision = next;
        let until_end = |session: &Session| {
            let seen = session.known();
            shared.seen.fetch_max(seen, Ordering::Relaxed);
            at_the_end(&shared, seen)
        };
        let session = watch(*port, "the record", &asked, &shared, until_end).await;
        for answer in session.into_iter().flat_map(|session| session.answers) {
            match answer {
                Answer::Events(more, _) => events.extend(more),
                Answer::Progress(_) => (),
                Answer::Compacted(at) => panic!("the record at {next} is compacted up to {at}"),
            }
        }
        if at_the_end(&shared, events.last().map_or(1, revision)) {
            return events;
        }
        sleep(Duration::from_millis(20)).await;
    }
    unreachable!("the ports go round")
}

/// Whether nothing more will arrive. Deletions are the last change; a watcher that filters them
/// received the puts before.
fn at_the_end(shared: &Shared, known: i64) -> bool {
    let end = shared.end.load(Ordering::Relaxed);
    end != 0 && end <= known
}

/// Stays until the end, and resumes whenever its stream ends.
async fn follow(post: Post, mut asked: WatchCreateRequest) {
    let (mut deadline, mut known) = (None, 0);
    loop {
        let shared = &post.shared;
        let done = |session: &Session| at_the_end(shared, session.known().max(known));
        let session = watch(post.port, &post.name, &asked, shared, done).await;
        if let Some(session) = session {
            known = known.max(session.known());
            let compacted = session.answers.iter().find_map(|answer| match answer {
                Answer::Compacted(at) => Some(*at),
                Answer::Events(..) | Answer::Progress(_) => None,
            });
            let next = compacted.unwrap_or(session.known() + 1).max(session.from());
            if 0 < session.created {
                asked.start_revision = next;
            }
            post.sessions.lock().unwrap().push(session);
        }
        let end = shared.end.load(Ordering::Relaxed);
        if end != 0 && end <= known {
            return;
        }
        if end != 0 {
            let deadline = *deadline.get_or_insert(clock::now() + LAST_NEWS);
            assert!(clock::now() < deadline, "{}: at {known}, the end is {end}", post.name);
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Starts at a past or future revision, stays a while, and ends.
async fn visit(post: Post, mut random: Random) {
    while !post.shared.stop.load(Ordering::Relaxed) {
        let first = random.below(KEYS as u64);
        let seen = post.shared.seen.load(Ordering::Relaxed);
        let asked = WatchCreateRequest {
            key: key(first),
            range_end: [Bytes::new(), "k0".into(), "\0".into()][random.index(3)].clone(),
            start_revision: [0, (seen + 100 - random.below(300) as i64).max(1)]
                [usize::from(random.below(4) != 0)],
            filters: [vec![], vec![], vec![0], vec![1]][random.index(4)].clone(),
            prev_kv: random.below(2) == 0,
            progress_notify: random.below(2) == 0,
            ..Default::default()
        };
        let until = clock::now() + Duration::from_millis(random.below(1000));
        let done = |_: &Session| until <= clock::now();
        let session = watch(post.port, &post.name, &asked, &post.shared, done).await;
        post.sessions.lock().unwrap().extend(session);
        sleep(Duration::from_millis(20)).await;
    }
}

/// One session, until its stream ends or `done`; `None` if it could not start.
async fn watch(
    port: u16,
    name: &str,
    asked: &WatchCreateRequest,
    shared: &Shared,
    mut done: impl FnMut(&Session) -> bool,
) -> Option<Session> {
    let opened = timeout(CONNECT, open(port, asked)).await;
    let (requests, mut responses, created) = opened.ok()??;
    let (name, asked) = (name.to_owned(), asked.clone());
    let mut session = Session { name, asked, created, answers: Vec::new() };
    while !done(&session) {
        match timeout(QUIET, responses.message()).await {
            // With more frequent requests, nothing but answers to them would arrive.
            Err(_) => _ = requests.send(progress()),
            Ok(Ok(Some(response))) => {
                let over = response.canceled;
                session.answers.extend(answer(response, shared));
                if over {
                    break;
                }
            }
            Ok(Ok(None) | Err(_)) => break,
        }
    }
    Some(session)
}

fn answer(response: WatchResponse, shared: &Shared) -> Option<Answer> {
    if response.canceled {
        let (reason, at) = (response.cancel_reason, response.compact_revision);
        assert_ne!(at, 0, "cancelled for no reason: {reason}");
        let asked = shared.compacted.load(Ordering::Relaxed);
        assert!(at <= asked, "compacted up to {at}, asked for was {asked}");
        return Some(Answer::Compacted(at));
    }
    let header = response.header.map_or(0, |header| header.revision);
    if response.events.is_empty() {
        return Some(Answer::Progress(header));
    }
    let newest = response.events.last().map_or(0, revision);
    assert!(newest <= header, "an event of {newest} in a response of {header}");
    Some(Answer::Events(response.events, shared.compacted.load(Ordering::Relaxed)))
}

type Stream = (UnboundedSender<WatchRequest>, Streaming<WatchResponse>, i64);

/// Connects and creates the watcher.
async fn open(port: u16, asked: &WatchCreateRequest) -> Option<Stream> {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
    let channel = endpoint.connect().await.ok()?;
    let (requests, receiver) = unbounded_channel();
    let create = RequestUnion::CreateRequest(asked.clone());
    requests.send(WatchRequest { request_union: Some(create) }).unwrap();
    let mut client = WatchClient::new(channel).max_decoding_message_size(64 << 20);
    let responses = client.watch(UnboundedReceiverStream::new(receiver)).await.ok()?;
    let mut responses = responses.into_inner();
    let created = responses.message().await.ok()??;
    assert!(created.created && !created.canceled, "{created:?}");
    Some((requests, responses, created.header.map_or(0, |header| header.revision)))
}

fn progress() -> WatchRequest {
    let request_union = Some(RequestUnion::ProgressRequest(WatchProgressRequest {}));
    WatchRequest { request_union }
}
