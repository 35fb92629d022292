//! `glass bench watch` and `glass bench watch-latency`: many watchers, then puts to their keys.
//!
//! ```text
//!   streams x watchers ──create──▶ 1: how long a creation takes
//!   puts ─────────────────────────▶ 2: the load, as in `put`
//!   events ──▶ number in the value ▶ 3: from the sending of a put to each watcher's event
//! ```
//!
//! Both commands are one program: `watch` spreads its watchers over many keys and puts as fast as
//! it can, `watch-latency` has all of them on one key and puts at a steady rate. Watchers use an
//! ordinary gRPC client, which costs more than the server does: the rate of events measures the
//! client as much as the server.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    io::{self, Write},
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use glass_etcd::{
    clock,
    pb::{
        etcdserverpb::{
            PutRequest, WatchCreateRequest, WatchRequest, WatchResponse, watch_client::WatchClient,
            watch_request::RequestUnion,
        },
        mvccpb::Event,
    },
};
use serde_json::json;
use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    task::JoinSet,
    time,
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Streaming, transport::Endpoint};

use super::{
    Common, Error, check_key_space, lean, load,
    proc::Usage,
    stats::{Latency, Report},
    write_key,
};

/// Digits of a put's number, at the start of its value.
const DIGITS: usize = 8;
/// Events that do not arrive within this time count as missing.
const LAST_EVENTS: Duration = Duration::from_secs(10);

/// The flags of `glass bench watch`, after etcd's `benchmark watch`.
#[derive(clap::Args, Clone)]
pub(crate) struct Args {
    /// Number of watch streams, over all members.
    #[arg(long, default_value_t = 10)]
    pub(crate) streams: usize,
    /// Watchers on each stream.
    #[arg(long, default_value_t = 100, alias = "watchers-per-stream")]
    pub(crate) watch_per_stream: usize,
    /// Number of keys watched; watchers take them in turn.
    #[arg(long, default_value_t = 1)]
    pub(crate) watched_key_total: u64,
    /// Puts per second at most; 0 for no limit.
    #[arg(long, default_value_t = 0)]
    pub(crate) put_rate: u64,
    /// Number of puts in the whole run.
    #[arg(long, default_value_t = 1000)]
    pub(crate) put_total: u64,
    /// Bytes of a key.
    #[arg(long, default_value_t = 32)]
    pub(crate) key_size: usize,
    /// Bytes of a value; 8 at least.
    #[arg(long, default_value_t = 32)]
    pub(crate) val_size: usize,
    /// Ask for the previous key-value pair.
    #[arg(long)]
    pub(crate) prevkv: bool,
    /// Ask for progress notifications.
    #[arg(long)]
    pub(crate) progress_notify: bool,
}

/// The flags of `glass bench watch-latency`, after etcd's `benchmark watch-latency`.
#[derive(clap::Args, Clone)]
pub(crate) struct LatencyArgs {
    /// Number of watch streams, over all members.
    #[arg(long, default_value_t = 10)]
    pub(crate) streams: usize,
    /// Watchers on each stream, all on one key.
    #[arg(long, default_value_t = 10, alias = "watch-per-stream")]
    pub(crate) watchers_per_stream: usize,
    /// Puts per second, evenly spaced.
    #[arg(long, default_value_t = 100)]
    pub(crate) put_rate: u64,
    /// Number of puts in the whole run.
    #[arg(long, default_value_t = 1000)]
    pub(crate) put_total: u64,
    /// Bytes of the key.
    #[arg(long, default_value_t = 256)]
    pub(crate) key_size: usize,
    /// Bytes of a value; 8 at least.
    #[arg(long, default_value_t = 32)]
    pub(crate) val_size: usize,
    /// Ask for the previous key-value pair.
    #[arg(long)]
    pub(crate) prevkv: bool,
}

impl From<&LatencyArgs> for Args {
    fn from(args: &LatencyArgs) -> Self {
        Self {
            streams: args.streams,
            watch_per_stream: args.watchers_per_stream,
            watched_key_total: 1,
            put_rate: args.put_rate,
            put_total: args.put_total,
            key_size: args.key_size,
            val_size: args.val_size,
            prevkv: args.prevkv,
            progress_notify: false,
        }
    }
}

/// A stream of created watchers; they end when it is dropped.
pub(crate) struct Stream {
    _requests: UnboundedSender<WatchRequest>,
    responses: Streaming<WatchResponse>,
}

/// State shared by the sender of puts and the readers of events.
#[derive(Default)]
struct Events {
    /// When each put was sent, by its number.
    sent: RefCell<HashMap<u64, Instant>>,
    latency: RefCell<Latency>,
    /// Events expected for the puts sent so far.
    due: Cell<u64>,
    last: Cell<Option<Instant>>,
}

/// Creates the watchers, runs the puts, and prints three reports; true if every event arrived.
pub(crate) async fn run(common: &Common, args: &Args) -> Result<bool, Error> {
    check_key_space(args.key_size, args.watched_key_total)?;
    if args.val_size < DIGITS {
        return Err(Error::Flags("--val-size must be at least 8"));
    }
    let endpoints = load::endpoints(common).await?;
    let of_stream = |stream: usize| -> Vec<WatchCreateRequest> {
        let watchers = stream * args.watch_per_stream..(stream + 1) * args.watch_per_stream;
        watchers.map(|watcher| create(args, watcher as u64)).collect()
    };
    let asked = (0..args.streams).map(of_stream).collect();
    let (streams, created) = open(&endpoints, asked).await?;
    let events = Rc::new(Events::default());
    let mut readers = JoinSet::new();
    for stream in streams {
        readers.spawn_local(read(stream, events.clone()));
    }
    let began = clock::now();
    let puts = put(common, args, events.clone()).await?;
    let missing = wait(&events).await;
    readers.abort_all();
    let mut errors = BTreeMap::new();
    if missing != 0 {
        errors.insert("missing events".to_owned(), missing);
    }
    let took = events.last.get().map_or(Duration::ZERO, |last| last - began);
    let latency = events.latency.take();
    let title = "events, measured from the sending of the put".to_owned();
    let events = Report { title, latency, errors, took, usage: Usage::default() };
    print(common, [&created, &puts, &events])?;
    Ok(missing == 0 && 0 < events.latency.count())
}

fn create(args: &Args, watcher: u64) -> WatchCreateRequest {
    WatchCreateRequest {
        key: key(args, watcher),
        prev_kv: args.prevkv,
        progress_notify: args.progress_notify,
        ..Default::default()
    }
}

fn key(args: &Args, number: u64) -> Bytes {
    let mut key = BytesMut::zeroed(args.key_size);
    write_key(&mut key, number % args.watched_key_total);
    key.freeze()
}

fn print(common: &Common, reports: [&Report; 3]) -> Result<(), Error> {
    let text = if common.json {
        let [create, put, events] = reports.map(Report::to_json);
        format!("{:#}\n", json!({"create": create, "put": put, "events": events}))
    } else {
        reports.map(|report| report.to_text(common.precise)).join("\n")
    };
    Ok(io::stdout().write_all(text.as_bytes())?)
}

/// Opens one stream per list of watchers, with endpoints in turn, and creates the watchers of each
/// stream one after the other.
pub(crate) async fn open(
    endpoints: &[String],
    asked: Vec<Vec<WatchCreateRequest>>,
) -> Result<(Vec<Stream>, Report), Error> {
    let latency = Rc::new(RefCell::new(Latency::default()));
    let (began, mut opening, mut streams) = (clock::now(), JoinSet::new(), Vec::new());
    for (endpoint, asked) in endpoints.iter().cycle().zip(asked) {
        opening.spawn_local(open_one(endpoint.clone(), asked, latency.clone()));
    }
    while let Some(opened) = opening.join_next().await {
        streams.push(opened.map_err(|error| io::Error::other(error.to_string()))??);
    }
    let report = Report {
        title: "watch creation".to_owned(),
        latency: latency.take(),
        errors: BTreeMap::new(),
        took: began.elapsed(),
        usage: Usage::default(),
    };
    Ok((streams, report))
}

async fn open_one(
    endpoint: String,
    asked: Vec<WatchCreateRequest>,
    latency: Rc<RefCell<Latency>>,
) -> Result<Stream, Error> {
    let problem = |detail: String| Error::Watch { endpoint: endpoint.clone(), detail };
    let channel = Endpoint::from_shared(format!("http://{endpoint}"))
        .map_err(|error| problem(error.to_string()))?
        .connect()
        .await
        .map_err(|error| problem(error.to_string()))?;
    let (requests, receiver) = unbounded_channel();
    let mut client = WatchClient::new(channel);
    let mut asked = asked
        .into_iter()
        .map(|create| WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) });
    let Some(first) = asked.next() else {
        return Err(Error::Flags("a stream needs at least one watcher"));
    };
    // etcd sends the response headers only with the first message.
    let mut sent = clock::now();
    let _ = requests.send(first);
    let responses = client.watch(UnboundedReceiverStream::new(receiver)).await;
    let mut responses = responses.map_err(|status| problem(status.to_string()))?.into_inner();
    loop {
        let response = responses.message().await.map_err(|status| problem(status.to_string()))?;
        let response = response.ok_or_else(|| problem("the stream has ended".to_owned()))?;
        if !response.created || response.canceled {
            return Err(problem(format!("no watcher was created: {}", response.cancel_reason)));
        }
        latency.borrow_mut().add(sent.elapsed());
        let Some(next) = asked.next() else { break };
        sent = clock::now();
        let _ = requests.send(next);
    }
    Ok(Stream { _requests: requests, responses })
}

/// The load: puts that carry their numbers in their values.
async fn put(common: &Common, args: &Args, events: Rc<Events>) -> Result<Report, Error> {
    let plan = load::Plan {
        path: "/etcdserverpb.KV/Put",
        title: "put".to_owned(),
        total: args.put_total,
        rate: args.put_rate,
    };
    let (args, watchers) = (args.clone(), (args.streams * args.watch_per_stream) as u64);
    let frame = move |number: u64| {
        let mut value = BytesMut::zeroed(args.val_size);
        write_key(&mut value[..DIGITS], number);
        value[DIGITS..].fill(b'x');
        let (key, value) = (key(&args, number), value.freeze());
        let frame = lean::frame(&PutRequest { key, value, ..Default::default() }).freeze();
        let keys = args.watched_key_total;
        let others = u64::from(number % keys < watchers % keys);
        events.due.set(events.due.get() + watchers / keys + others);
        events.sent.borrow_mut().insert(number, clock::now());
        frame
    };
    load::drive(common, &plan, frame).await
}

async fn read(mut stream: Stream, events: Rc<Events>) {
    while let Ok(Some(response)) = stream.responses.message().await {
        let now = clock::now();
        for event in &response.events {
            let sent = number(event).and_then(|number| events.sent.borrow().get(&number).copied());
            if let Some(sent) = sent {
                events.latency.borrow_mut().add(now.saturating_duration_since(sent));
                events.last.set(Some(now));
            }
        }
    }
}

/// The number of the put that caused an event.
fn number(event: &Event) -> Option<u64> {
    std::str::from_utf8(event.kv.as_ref()?.value.get(..DIGITS)?).ok()?.parse().ok()
}

/// Waits until all events have arrived, or no more do. Returns how many are missing.
async fn wait(events: &Events) -> u64 {
    let ended = clock::now();
    loop {
        let missing = events.due.get().saturating_sub(events.latency.borrow().count());
        let quiet_since = events.last.get().map_or(ended, |last| last.max(ended));
        if missing == 0 || LAST_EVENTS < quiet_since.elapsed() {
            return missing;
        }
        time::sleep(Duration::from_millis(5)).await;
    }
}

#[cfg(test)]
mod tests {
    use glass_etcd::pb::mvccpb::KeyValue;

    use super::*;

    #[test]
    fn an_event_has_the_number_of_its_put() {
        let event = |value: &'static [u8]| {
            let kv = KeyValue { value: Bytes::from_static(value), ..Default::default() };
            Event { kv: Some(kv), ..Default::default() }
        };
        assert_eq!(number(&event(b"00000042xxxx")), Some(42));
        assert_eq!(number(&event(b"0000004")), None);
        assert_eq!(number(&event(b"somebody else's")), None);
    }
}
