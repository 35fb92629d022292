//! Raw HTTP/2 on the client port: each setting of `src/api/http2.rs`, and each way to abuse it.
//!
//! A client's abuse of its own connection must not affect another one, so during each flood a
//! [`Neighbour`] puts one key after the other. Requests that Go's server serves are served on the
//! same connection, too; these tests pass with etcd, and the others say why they do not.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use glass_etcd::{
    clock,
    pb::etcdserverpb::{
        PutRequest, RangeRequest, WatchCreateRequest, WatchRequest, watch_request::RequestUnion,
    },
};

use crate::{
    cluster::Cluster,
    programs::{Kind, left_out},
    raw::{
        Answer, CONTINUATION, Call, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Frame,
        GOAWAY, HEADERS, PING, RST_STREAM, Raw, SETTINGS, WINDOW_UPDATE, frame, goaway,
        header_frames, integer, literal, prefixed, settings,
    },
};

const RANGE: &str = "/etcdserverpb.KV/Range";
const PUT: &str = "/etcdserverpb.KV/Put";
const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// How long the neighbour's slowest put may take, on a machine with other load.
const PATIENCE: Duration = Duration::from_secs(5);
/// Memory in megabytes that a flood may leave behind, after the same flood has run before.
const LEFT_MAX: u64 = 24;

fn range() -> RangeRequest {
    RangeRequest { key: "k".into(), ..RangeRequest::default() }
}

fn put(key: &str, len: usize) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: vec![b'v'; len].into(), ..Default::default() }
}

fn watch(key: &str) -> WatchRequest {
    let create = WatchCreateRequest { key: key.to_owned().into(), ..Default::default() };
    WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
}

/// A client on a separate connection that must not be affected.
struct Neighbour {
    stop: Arc<AtomicBool>,
    task: JoinHandle<(usize, Duration)>,
}

impl Neighbour {
    fn of(cluster: &Cluster) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (mut raw, is_over) = (Raw::connect(cluster, 0), stop.clone());
        let task = thread::spawn(move || {
            let (mut puts, mut slowest) = (0, Duration::ZERO);
            while !is_over.load(Ordering::Relaxed) {
                let start = clock::now();
                assert!(raw.ask(&Call::new(PUT, &put("neighbour", 8))).is_ok());
                slowest = slowest.max(start.elapsed());
                puts += 1;
                thread::sleep(Duration::from_millis(5));
            }
            (puts, slowest)
        });
        Self { stop, task }
    }

    fn has_not_noticed(self) {
        self.stop.store(true, Ordering::Relaxed);
        let (puts, slowest) = self.task.join().unwrap();
        println!("the neighbour: {puts} puts, the slowest in {slowest:?}");
        assert!(0 < puts && slowest < PATIENCE, "{puts} puts, {slowest:?}");
    }
}

/// A member's memory in megabytes; 0 if unknown.
fn memory(cluster: &Cluster) -> u64 {
    let status = format!("/proc/{}/status", cluster.process_id(0));
    let status = fs::read_to_string(status).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) / 1024
}

/// Runs the flood three times; after the third the member must not use more memory than after the
/// second.
fn memory_comes_back(cluster: &Cluster, mut flood: impl FnMut()) {
    let mut after = Vec::new();
    for _ in 0..3 {
        flood();
        after.push(memory(cluster));
    }
    println!("memory after each: {after:?} MB");
    assert!(after[2] <= after[1] + LEFT_MAX, "{after:?}");
}

/// The GOAWAY of a connection that the server ends.
fn ended(raw: &mut Raw) -> (u32, String) {
    loop {
        match raw.frame(crate::raw::WITHIN) {
            Some(frame) if frame.kind == GOAWAY => return goaway(&frame),
            Some(Frame { kind: u8::MAX, .. }) => panic!("closed without a word"),
            Some(_) => {}
            None => panic!("the connection stays open"),
        }
    }
}

/// A header block whose fields are all indexes, and the block that defines them.
fn indexed(extra: &[u8], count: usize) -> (Vec<u8>, Vec<u8>) {
    let with = |first: &[u8], value: &[u8]| [first, &integer(value.len()), value].concat();
    let known = [
        vec![0x83, 0x86],
        with(&[0x44], RANGE.as_bytes()),
        with(&[0x41], b"a"),
        with(&[0x5f], b"application/grpc"),
        extra.to_vec(),
    ];
    let newest = if extra.is_empty() { 0xbe } else { 0xbf };
    let indexes = [0x83, 0x86, newest + 2, newest + 1, newest];
    (known.concat(), [&indexes[..], &vec![0xbe; count]].concat())
}

async fn member() -> Cluster {
    Cluster::start(&Kind::subject(), 1).await
}

/// Whether the subject is etcd, which has no such bound.
fn is_etcd(what: &str) -> bool {
    let is_etcd = Kind::subject() != Kind::Glass;
    if is_etcd {
        left_out(&format!("{what}: that is our own bound"));
    }
    is_etcd
}

/// Goal: a client that cancels calls does not lose its connection, and watchers on it are not
/// affected. Method: 21 calls, each with its reset, in one write, where h2 by itself allows 20; two
/// hundred reads that are cancelled as soon as they are sent; a hundred thousand frames.
#[tokio::test]
async fn cancelled_calls_do_not_end_the_connection() {
    let cluster = member().await;
    let mut raw = Raw::connect(&cluster, 0);
    let watcher = raw.call(&Call::new(WATCH, &watch("watched")).open());
    let mut given_up = |count, is_one_write: bool| {
        let mut bytes = Vec::new();
        for _ in 0..count {
            let stream = raw.stream();
            let call = Call::new(RANGE, &range());
            bytes.extend(frame(HEADERS, END_HEADERS, stream, &call.block()));
            bytes.extend(frame(DATA, END_STREAM, stream, &prefixed(&message(&range()))));
            bytes.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
            if !is_one_write {
                raw.send(&std::mem::take(&mut bytes));
            }
        }
        raw.send(&bytes);
    };
    given_up(21, true);
    given_up(200, false);
    given_up(2000, true);
    let neighbour = Neighbour::of(&cluster);
    given_up(30_000, true);
    neighbour.has_not_noticed();
    let mut other = Raw::connect(&cluster, 0);
    assert!(other.ask(&Call::new(PUT, &put("watched", 3))).is_ok());
    // One notice that the watcher was created, and the event that it waits for.
    let mut told = 0;
    while told < 2 {
        let frame = raw.frame(crate::raw::WITHIN).expect("the watcher gets an event");
        told += usize::from((frame.kind, frame.stream) == (DATA, watcher));
        assert_ne!(frame.kind, u8::MAX, "the connection ends");
    }
    assert!(raw.ask(&Call::new(RANGE, &range())).is_ok());
}

fn message(message: &impl prost::Message) -> Vec<u8> {
    message.encode_to_vec()
}

/// Goal: a flood that no gRPC client produces, calls without a message that are reset at once, ends
/// its own connection and no other, and leaves no memory behind. Method: as fast as the socket
/// accepts them.
#[tokio::test]
async fn a_flood_of_resets_ends_its_own_connection_only() {
    if is_etcd("a flood of resets") {
        return;
    }
    let cluster = member().await;
    let neighbour = Neighbour::of(&cluster);
    memory_comes_back(&cluster, || {
        let mut raw = Raw::connect(&cluster, 0);
        let (known, indexes) = indexed(&[], 0);
        let first = raw.stream();
        let mut bytes = frame(HEADERS, END_HEADERS | END_STREAM, first, &known);
        for _ in 0..60_000 {
            let stream = raw.stream();
            bytes.extend(frame(HEADERS, END_HEADERS, stream, &indexes));
            bytes.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        }
        raw.send(&bytes);
        assert_eq!(ended(&mut raw), (ENHANCE_YOUR_CALM, "too_many_resets".to_owned()));
    });
    neighbour.has_not_noticed();
}

/// Goal: an error in one call ends that call only, however often it happens in the life of a
/// connection. Method: three thousand malformed calls, where h2 by itself allows 1024.
#[tokio::test]
async fn errors_of_calls_do_not_end_the_connection() {
    if is_etcd("calls that are malformed") {
        return;
    }
    let cluster = member().await;
    let mut raw = Raw::connect(&cluster, 0);
    let bad = |raw: &mut Raw| {
        let stream = raw.stream();
        let block = [Call::silent(RANGE).block(), literal(b"connection", b"close")].concat();
        raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &block));
        stream
    };
    for _ in 0..3000 {
        bad(&mut raw);
    }
    let last = bad(&mut raw);
    assert_eq!(raw.answer(last).reset, Some(1), "PROTOCOL_ERROR");
    assert!(raw.ask(&Call::new(RANGE, &range())).is_ok());
}

/// Goal: metadata is accepted up to its bound; above it the call alone is refused, and at
/// unreasonable sizes the connection is closed. Method: one size after the other.
#[tokio::test]
async fn metadata_is_served_up_to_a_megabyte() {
    let cluster = member().await;
    let of = |bytes: usize| {
        let mut call = Call::new(RANGE, &range());
        for at in 0..bytes / 15_000 {
            call = call.with(&format!("m{at}"), "v".repeat(15_000));
        }
        call.with("rest", "v".repeat(bytes % 15_000))
    };
    let ask = |raw: &mut Raw, bytes: usize| -> Answer {
        let stream = raw.stream();
        let mut frames = header_frames(stream, &of(bytes).block(), 0);
        frames.extend(frame(DATA, END_STREAM, stream, &prefixed(&message(&range()))));
        raw.send(&frames);
        raw.answer(stream)
    };
    let mut raw = Raw::connect(&cluster, 0);
    for bytes in [15_000, 17_000, 100_000, 1_000_000] {
        let answer = ask(&mut raw, bytes);
        assert!(answer.is_ok(), "{bytes} bytes: {answer:?}");
    }
    if is_etcd("more metadata") {
        return;
    }
    for bytes in [1_060_000, 2_000_000, 4_100_000] {
        let (code, text) = ask(&mut raw, bytes).status().unwrap();
        assert_eq!(code, 8, "{text}");
        assert!(text.starts_with("grpc: received metadata larger than max ("), "{text}");
        assert!(raw.ask(&Call::new(RANGE, &range())).is_ok());
    }
    // Between h2's decoding limit and the size at which it hangs up, h2 answers as a web server
    // does.
    let answer = ask(&mut raw, 4_300_000);
    assert!(answer.fields.contains(&(":status".to_owned(), "431".to_owned())), "{answer:?}");
    assert!(raw.ask(&Call::new(RANGE, &range())).is_ok());
    let neighbour = Neighbour::of(&cluster);
    let answer = ask(&mut raw, 15_000_000);
    assert_eq!(answer.goaway.unwrap().0, ENHANCE_YOUR_CALM);
    neighbour.has_not_noticed();
}

/// Goal: calls that bring metadata and then nothing cannot fill the member's memory. Method: calls
/// of a megabyte each, without a message, until one is refused; then a smaller one is refused as
/// well, until one of the first is cancelled; and header blocks full of indexes, which cost the
/// client a byte per field.
#[tokio::test]
async fn the_metadata_of_a_connection_is_bounded() {
    if is_etcd("the metadata of all calls") {
        return;
    }
    let cluster = member().await;
    let mut raw = Raw::connect(&cluster, 0);
    let heavy = Call::silent(RANGE).with("m", "v".repeat(1_000_000));
    let begin = |raw: &mut Raw, call: &Call<'_>| {
        let stream = raw.stream();
        raw.send(&header_frames(stream, &call.block(), 0));
        stream
    };
    let held: Vec<u32> = (0..16).map(|_| begin(&mut raw, &heavy)).collect();
    let one_more = begin(&mut raw, &heavy);
    let (code, text) = raw.answer(one_more).status().unwrap();
    assert_eq!(code, 8, "{text}");
    assert!(text.starts_with("grpc: metadata of all calls larger than max ("), "{text}");
    raw.reset(held[0]);
    assert!(raw.ask(&Call::new(RANGE, &range())).is_ok());
    let neighbour = Neighbour::of(&cluster);
    memory_comes_back(&cluster, || {
        let mut raw = Raw::connect(&cluster, 0);
        let (known, indexes) = indexed(&literal_indexed(b"x", b""), 480);
        let first = raw.stream();
        let mut bytes = frame(HEADERS, END_HEADERS, first, &known);
        let mut last = first;
        for _ in 0..4000 {
            last = raw.stream();
            bytes.extend(frame(HEADERS, END_HEADERS, last, &indexes));
        }
        raw.send(&bytes);
        assert_eq!(raw.answer(last).status().unwrap().0, 8);
    });
    neighbour.has_not_noticed();
}

/// A literal that is stored in the table.
fn literal_indexed(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[0x40][..], &literal(name, value)[1..]].concat()
}

/// Goal: an endless header block is cut off. Method: CONTINUATION frames, empty and full.
#[tokio::test]
async fn a_header_block_without_end_ends_its_own_connection_only() {
    if is_etcd("header blocks without end") {
        return;
    }
    let cluster = member().await;
    let neighbour = Neighbour::of(&cluster);
    for piece in [Vec::new(), literal(b"x", &[b'v'; 16_000])] {
        memory_comes_back(&cluster, || {
            let mut raw = Raw::connect(&cluster, 0);
            let stream = raw.stream();
            let mut bytes = frame(HEADERS, 0, stream, &Call::silent(RANGE).block());
            let more = frame(CONTINUATION, 0, stream, &piece);
            (0..1500).for_each(|_| bytes.extend(&more));
            raw.send(&bytes);
            assert_eq!(ended(&mut raw), (ENHANCE_YOUR_CALM, "too_many_continuations".to_owned()));
        });
    }
    neighbour.has_not_noticed();
}

/// Goal: unread streams do not block the others of their connection. Method: forty Watch streams
/// create 1.5 MB of watchers each, as far as the windows allow, small ones and large ones; the
/// client lets none answer. Then half a megabyte is put.
#[tokio::test]
async fn streams_that_are_not_read_do_not_stop_uploads() {
    let cluster = member().await;
    let mut raw = Raw::connect(&cluster, 0);
    // No window for any stream: the server cannot send a message on one.
    raw.send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]));
    assert!(raw.frame(crate::raw::WITHIN).is_some());
    for at in 0..40 {
        let stream = raw.stream();
        raw.send(&frame(HEADERS, END_HEADERS, stream, &Call::silent(WATCH).block()));
        let create = prefixed(&message(&watch(&"k".repeat(if at == 0 { 20 } else { 1000 }))));
        let (mut sent, mut window) = (0, raw.windows.1);
        while sent < 1_500_000 {
            if create.len() <= window.min(raw.windows.0) {
                raw.send(&frame(DATA, 0, stream, &create));
                (sent, window) = (sent + create.len(), window - create.len());
                raw.windows.0 -= create.len();
                continue;
            }
            let Some(frame) = raw.frame(Duration::from_millis(50)) else { break };
            assert!(![GOAWAY, u8::MAX].contains(&frame.kind), "after {sent} bytes: {frame:?}");
            if (frame.kind, frame.stream) == (WINDOW_UPDATE, stream) {
                window += u32::from_be_bytes(frame.payload[..4].try_into().unwrap()) as usize;
            }
        }
        // etcd has room for its responses to 1500 of them.
        assert!(sent < 1_500_000 || Kind::subject() != Kind::Glass, "the windows were not full");
    }
    raw.send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]));
    let (sent, answer) = raw.upload(&Call::new(PUT, &put("large", 500_000)), PATIENCE);
    assert!(answer.as_ref().is_some_and(Answer::is_ok), "{sent} bytes: {answer:?}");
}

/// Goal: the announced settings are those of the table, and answers contain no unnecessary fields.
/// Method: the first frames, and an answer.
#[tokio::test]
async fn the_settings_are_announced() {
    if is_etcd("our own settings") {
        return;
    }
    let cluster = member().await;
    let mut raw = Raw::connect(&cluster, 0);
    let first = raw.frame(crate::raw::WITHIN).unwrap();
    assert_eq!((first.kind, first.flags), (SETTINGS, 0));
    let (streams, stream_window, frame_size, header_list) = (3, 4, 5, 6);
    let mut announced = settings(&first);
    announced.sort_unstable();
    let expected = [
        (streams, 32_768),
        (stream_window, 131_072),
        (frame_size, 16_384),
        (header_list, 4_194_304),
    ];
    assert_eq!(announced, expected);
    let answer = raw.ask(&Call::new(RANGE, &range()));
    let names: Vec<&str> = answer.fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, [":status", "content-type", "grpc-status"]);
    assert_eq!(raw.windows, (16_777_216, 131_072));
    // Longer than a frame may be.
    raw.send(&frame(DATA, 0, 1, &[0; 16_385]));
    assert_eq!(ended(&mut raw).0, 6);
}

/// Goal: `--max-concurrent-streams` refuses excess streams one by one. Method: three watchers, then
/// thousands of calls, none of which is accepted until a watcher ends.
#[tokio::test]
async fn too_many_streams_are_refused_one_by_one() {
    let env = [("ETCD_MAX_CONCURRENT_STREAMS", "3")];
    if is_etcd("streams that are refused") {
        return;
    }
    let cluster = Cluster::start_with(&Kind::Glass, 1, &env).await;
    let mut raw = Raw::connect(&cluster, 0);
    let watchers: Vec<u32> =
        (0..3).map(|_| raw.call(&Call::new(WATCH, &watch("k")).open())).collect();
    for _ in 0..3000 {
        let refused = raw.ask(&Call::new(RANGE, &range()));
        assert_eq!(refused.reset, Some(7), "REFUSED_STREAM: {refused:?}");
    }
    raw.reset(watchers[0]);
    assert!(raw.ask(&Call::new(RANGE, &range())).is_ok());
}

/// Goal: a client that pings more often than `--grpc-keepalive-min-time` allows is disconnected,
/// with the text from which gRPC's clients learn the reason; others are not. Method: the flag is a
/// minute, and three pings in a row are too many: with a running watch, and without any call.
/// Before that, answers reset the strikes ten times. The last ping arrives byte by byte.
#[tokio::test]
async fn a_client_that_pings_too_often_is_disconnected() {
    let env = [("ETCD_GRPC_KEEPALIVE_MIN_TIME", "1m")];
    let cluster = Cluster::start_with(&Kind::subject(), 1, &env).await;
    let mut watcher = Raw::connect(&cluster, 0);
    watcher.call(&Call::new(WATCH, &watch("k")).open());
    let mut told = 0;
    for is_watching in [true, false] {
        let mut raw = Raw::connect(&cluster, 0);
        if is_watching {
            watching(&mut raw);
        }
        for _ in 0..10 {
            assert!(raw.ask(&Call::new(PUT, &put("k", 8))).is_ok());
            told += 1;
            // The first one after an answer is free.
            (0..3).for_each(|_| pinged(&mut raw));
        }
        let ping = frame(PING, 0, 0, &[7; 8]);
        ping.iter().for_each(|byte| _ = raw.send(&[*byte]));
        assert_eq!(ended(&mut raw), (ENHANCE_YOUR_CALM, "too_many_pings".to_owned()));
        assert_eq!(raw.frame(crate::raw::WITHIN).map(|frame| frame.kind), Some(u8::MAX), "closed");
    }
    // The first message says that the watcher was created.
    while 0 <= told {
        let frame = watcher.frame(crate::raw::WITHIN).expect("the watcher gets an event");
        assert_ne!(frame.kind, u8::MAX, "its connection ends");
        told -= i32::from(frame.kind == DATA);
    }
}

/// Watches a key that is never written, and waits for the answer.
fn watching(raw: &mut Raw) {
    let stream = raw.call(&Call::new(WATCH, &watch("nothing")).open());
    loop {
        let frame = raw.frame(crate::raw::WITHIN).expect("a watcher is created");
        if (frame.kind, frame.stream) == (DATA, stream) {
            return;
        }
    }
}

/// Goal: the number of open calls bounds short answers without a window, which no sum of bytes
/// counts; the client can still read them later. Method: more calls than a connection may have
/// open, on a connection without windows for streams; then one window opens.
#[tokio::test]
async fn answers_without_a_window_are_bounded_by_their_number() {
    if is_etcd("the number of open calls") {
        return;
    }
    let cluster = member().await;
    let neighbour = Neighbour::of(&cluster);
    let mut raw = Raw::connect(&cluster, 0);
    raw.send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]));
    let (known, indexes) = indexed(&[], 0);
    let data = prefixed(&message(&range()));
    let begin = |raw: &mut Raw, block: &[u8]| {
        let stream = raw.stream();
        let headers = frame(HEADERS, END_HEADERS, stream, block);
        raw.send(&[headers, frame(DATA, END_STREAM, stream, &data)].concat());
        stream
    };
    let first = begin(&mut raw, &known);
    for number in 2..=32_768 {
        let last = begin(&mut raw, &indexes);
        // The answers begin: their headers need no window.
        while number % 512 == 0 && raw.frame(crate::raw::WITHIN).unwrap().stream != last {}
    }
    let refused = begin(&mut raw, &indexes);
    assert_eq!(raw.answer(refused).reset, Some(7), "REFUSED_STREAM");
    raw.send(&frame(WINDOW_UPDATE, 0, first, &65_535_u32.to_be_bytes()));
    assert!(raw.answer(first).is_ok());
    assert!(memory(&cluster) < 1500, "{} MB", memory(&cluster));
    neighbour.has_not_noticed();
}

/// Pings, and waits for the answer.
fn pinged(raw: &mut Raw) {
    raw.send(&frame(PING, 0, 0, &[7; 8]));
    loop {
        let frame = raw.frame(crate::raw::WITHIN).expect("a ping is answered");
        assert!(![GOAWAY, u8::MAX].contains(&frame.kind), "{frame:?}");
        if (frame.kind, frame.flags, &frame.payload[..]) == (PING, 1, &[7; 8]) {
            return;
        }
    }
}

/// Goal: a client that pings as often as allowed stays connected. Method: ten pings, each as soon
/// as the member allows it, with a running watch.
#[tokio::test]
async fn a_client_that_pings_in_time_stays() {
    let min_time = Duration::from_millis(20);
    let env = [("ETCD_GRPC_KEEPALIVE_MIN_TIME", "20ms")];
    let cluster = Cluster::start_with(&Kind::subject(), 1, &env).await;
    let mut raw = Raw::connect(&cluster, 0);
    watching(&mut raw);
    for _ in 0..10 {
        pinged(&mut raw);
        // The previous ping arrived before its answer, so the next one arrives later than that.
        assert!(raw.frame(min_time).is_none_or(|frame| frame.kind != GOAWAY));
    }
    assert!(raw.ask(&Call::new(RANGE, &range())).is_ok());
}

/// Goal: a client with any authority is served, including its later calls. Method: invalid
/// authorities, plain and in HPACK's Huffman code, each on a connection of its own, with indexing,
/// so that later calls name them by an index.
#[tokio::test]
async fn every_authority_is_served() {
    let cluster = member().await;
    let plain = |text: &str| [&integer(text.len()), text.as_bytes()].concat();
    let authorities = [
        plain(""),
        plain("http://127.0.0.1:2379"),
        plain("#initially=[a]"),
        plain("-"),
        // Nothing, "a{" and "\\}", in HPACK's Huffman code.
        vec![0x80],
        vec![0x83, 0x1f, 0xff, 0xef],
        vec![0x85, 0xff, 0xfe, 0x1f, 0xfe, 0xff],
    ];
    let mut fields = authorities.map(|value| [[&[0x41], &value[..]].concat(), vec![0xbe]]).to_vec();
    // Nothing, as the index that Go's encoder sends.
    fields.push([vec![0x81], vec![0x81]]);
    for authority in fields {
        let mut raw = Raw::connect(&cluster, 0);
        for field in &authority {
            let stream = raw.stream();
            let block = Call::silent(RANGE).block_with(field);
            raw.send(&frame(HEADERS, END_HEADERS, stream, &block));
            raw.send(&frame(DATA, END_STREAM, stream, &prefixed(&message(&range()))));
            let answer = raw.answer(stream);
            assert!(answer.is_ok(), "{authority:x?}: {answer:?}");
        }
    }
}
