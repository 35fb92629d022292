//! Many watchers on keys of their own, many on one prefix, and many puts.
//!
//! Versions count the puts of a key, revisions all puts: so each watcher knows what must come next,
//! and one number per watcher is enough.

use std::{
    env,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use glass_etcd::{
    clock,
    pb::etcdserverpb::{
        PutRequest, WatchCreateRequest, WatchRequest, WatchResponse, watch_client::WatchClient,
        watch_request::RequestUnion,
    },
};
use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    task::JoinSet,
    time::timeout,
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Streaming, transport::Endpoint};

use super::history::pair;
use crate::{client::Client, cluster::Cluster, programs::Kind};

/// Streams of each kind.
const STREAMS: usize = 10;
/// Clients that put.
const WRITERS: usize = 32;
/// A response arrives within this time, until all have arrived.
const PATIENCE: Duration = Duration::from_secs(60);

/// The size of the test.
#[derive(Clone, Copy, Debug)]
struct Size {
    /// Watchers with a key of their own.
    own: usize,
    /// Watchers of the prefix that all keys share.
    prefix: usize,
    /// Puts, to the keys in turn.
    puts: usize,
}

impl Size {
    fn of_environment() -> Self {
        let number = |name: &str, short: usize| {
            env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(short)
        };
        Self {
            own: number("GLASS_IT_WATCHERS", 1000),
            prefix: number("GLASS_IT_PREFIX_WATCHERS", 50),
            puts: number("GLASS_IT_PUTS", 2500),
        }
    }

    /// Puts of the key with this number.
    fn puts_of(&self, key: usize) -> usize {
        self.puts / self.own + usize::from(key < self.puts % self.own)
    }
}

/// Goal: nothing is lost, repeated or out of order, however many watchers there are. Method: see
/// the essay of this file; the watchers are spread over all members, and so are the puts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_watchers_receive_everything_in_order() {
    let size = Size::of_environment();
    eprintln!("{size:?}");
    let cluster = Cluster::start(&Kind::subject(), 3).await;
    let first = cluster.client(0).put("before", "").await.unwrap() + 1;
    let told = Arc::new(AtomicU64::new(0));
    let mut watching = JoinSet::new();
    for number in 0..STREAMS {
        let port = cluster.members[number % 3].client_port;
        let keys: Vec<usize> = (0..size.own).filter(|key| key % STREAMS == number).collect();
        let stream = create(port, keys.iter().map(|key| own(*key, first)).collect()).await;
        watching.spawn(own_keys(stream, keys, size, told.clone()));
        let count = (0..size.prefix).filter(|watcher| watcher % STREAMS == number).count();
        let stream = create(port, (0..count).map(|_| prefix(first)).collect()).await;
        watching.spawn(whole_prefix(stream, count, (first, size), told.clone()));
    }
    let began = clock::now();
    let next = Arc::new(AtomicU64::new(0));
    let mut putting = JoinSet::new();
    for writer in 0..WRITERS {
        putting.spawn(put(cluster.client(writer % 3), next.clone(), size));
    }
    while let Some(ended) = putting.join_next().await {
        ended.unwrap();
    }
    eprintln!("{} puts after {:?}", size.puts, began.elapsed());
    while let Some(ended) = watching.join_next().await {
        ended.unwrap();
    }
    let expected = size.puts as u64 * (1 + size.prefix as u64);
    assert_eq!(told.load(Ordering::Relaxed), expected);
    eprintln!("{expected} events after {:?}", began.elapsed());
    the_load_generator_counts_the_same(&cluster);
}

/// Goal: `glass bench watch` knows how many events to expect, and receives them. Method: 30
/// watchers over 7 keys in turn, and 50 puts to the same keys in turn.
fn the_load_generator_counts_the_same(cluster: &Cluster) {
    let endpoints: Vec<String> =
        cluster.members.iter().map(|member| member.client_address()).collect();
    let flags = "--streams 3 --watch-per-stream 10 --watched-key-total 7 --put-total 50 --json";
    let output = Command::new(env!("CARGO_BIN_EXE_glass"))
        .args(["bench", "watch", "--endpoints", &endpoints.join(",")])
        .args(flags.split(' '))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let requests = ["create", "put", "events"].map(|part| report[part]["requests"].as_u64());
    // Key 0 is put 8 times and the others 7 times; keys 0 and 1 have 5 watchers, the others 4.
    assert_eq!(requests, [Some(30), Some(50), Some(8 * 5 + 7 * 5 + 5 * 7 * 4)], "{report}");
}

fn key(number: usize) -> String {
    format!("w/{number:06}")
}

fn own(number: usize, start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest { key: key(number).into(), start_revision, ..Default::default() }
}

fn prefix(start_revision: i64) -> WatchCreateRequest {
    let (key, range_end) = ("w/".into(), "w0".into());
    WatchCreateRequest { key, range_end, start_revision, ..Default::default() }
}

async fn put(mut client: Client, next: Arc<AtomicU64>, size: Size) {
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed) as usize;
        if size.puts <= number {
            return;
        }
        let key = key(number % size.own).into();
        client.kv.put(PutRequest { key, ..Default::default() }).await.unwrap();
    }
}

type Stream = (UnboundedSender<WatchRequest>, Streaming<WatchResponse>);

/// A stream with these watchers, numbered from 0.
async fn create(port: u16, asked: Vec<WatchCreateRequest>) -> Stream {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
    let mut client = WatchClient::new(endpoint.connect().await.unwrap());
    let (requests, receiver) = unbounded_channel();
    let count = asked.len();
    assert!(0 < count, "fewer watchers than streams");
    for create in asked {
        let request_union = Some(RequestUnion::CreateRequest(create));
        requests.send(WatchRequest { request_union }).unwrap();
    }
    let responses = client.watch(UnboundedReceiverStream::new(receiver)).await.unwrap();
    let mut responses = responses.into_inner();
    for number in 0..count as i64 {
        let response = timeout(PATIENCE, responses.message()).await.expect("it is due");
        let response = response.unwrap().unwrap();
        assert!(response.created && response.watch_id == number, "{response:?}");
    }
    (requests, responses)
}

async fn next(stream: &mut Stream) -> (usize, WatchResponse) {
    let response = timeout(PATIENCE, stream.1.message()).await.expect("more is due");
    let response = response.unwrap().expect("the stream continues");
    assert!(!response.canceled, "{response:?}");
    (usize::try_from(response.watch_id).expect("only watchers were created"), response)
}

/// Checks that the versions of each key are consecutive.
async fn own_keys(mut stream: Stream, keys: Vec<usize>, size: Size, told: Arc<AtomicU64>) {
    let mut left: usize = keys.iter().map(|key| size.puts_of(*key)).sum();
    let mut versions = vec![0; keys.len()];
    while 0 < left {
        let (at, response) = next(&mut stream).await;
        for event in &response.events {
            let kv = pair(event);
            versions[at] += 1;
            assert_eq!((kv.version, &kv.key[..]), (versions[at], key(keys[at]).as_bytes()));
        }
        left = left.checked_sub(response.events.len()).expect("not more than was put");
        told.fetch_add(response.events.len() as u64, Ordering::Relaxed);
    }
}

/// Checks that each watcher's revisions are consecutive.
async fn whole_prefix(
    mut stream: Stream,
    count: usize,
    (first, size): (i64, Size),
    told: Arc<AtomicU64>,
) {
    let mut left = count * size.puts;
    let mut revisions = vec![first - 1; count];
    while 0 < left {
        let (at, response) = next(&mut stream).await;
        for event in &response.events {
            revisions[at] += 1;
            assert_eq!(event.kv.as_ref().map(|kv| kv.mod_revision), Some(revisions[at]));
        }
        left = left.checked_sub(response.events.len()).expect("not more than was put");
        told.fetch_add(response.events.len() as u64, Ordering::Relaxed);
    }
}
