//! The file of `--trace-chrome`, in memory: its content, and the behaviour when it cannot grow.

use std::sync::{Barrier, Mutex, MutexGuard, PoisonError};

use glass_etcd::{
    mark, past, stage,
    trace::{self, id, note_peer},
};
use serde_json::Value;
use tracing::subscriber::with_default;
use tracing_subscriber::{Registry, layer::SubscriberExt as _};

use super::*;

/// The bridge is one per process, and so are the senders of `tracing-chrome`.
static ALONE: Mutex<()> = Mutex::new(());

const INDEX: u64 = 700;

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A writer in memory that fails beyond a given length.
#[derive(Clone, Default)]
struct Memory {
    text: Arc<Mutex<Vec<u8>>>,
    room: Option<usize>,
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut text = self.text.lock().unwrap();
        if self.room.is_some_and(|room| room < text.len() + bytes.len()) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Memory {
    fn text(&self) -> String {
        String::from_utf8(self.text.lock().unwrap().clone()).unwrap()
    }
}

/// A request that is kept. Only one, at an index of its own: the process has one set of rings, and
/// other tests that listen to them receive at most 50 requests a second, and count entries.
fn request() -> u64 {
    note_peer(0x5ee0);
    let kept = 0x5ee0_0000_0000_0001;
    assert!(id::kept(kept));
    kept
}

/// Content of the file after `work` has run with the bridge on.
fn written(memory: &Memory, limit: u64, work: impl FnOnce()) -> Arc<Valve> {
    let file = TraceFile::new(Box::new(memory.clone()), "a file".into(), "m0", limit);
    let valve = Arc::clone(&file.valve);
    let (layer, finish) = build::<Registry>(file).unwrap();
    with_default(tracing_subscriber::registry().with(layer), || {
        bridge::set_on(true);
        work();
        bridge::set_on(false);
    });
    drop(finish);
    valve
}

fn put(id: u64) {
    let mut rpc = stage!(Rpc, id, method = 2_u8, bytes_in = 9_u8);
    mark!(RaftEntry, id, term = 2_u8, index = INDEX, bytes = 30_u8);
    drop(stage!(ApplyEntry, id, term = 2_u8, index = INDEX));
    glass_etcd::set!(rpc, Rpc, bytes_out = 11_u8);
}

fn entries(text: &str) -> Vec<Value> {
    serde_json::from_str::<Value>(text).unwrap().as_array().unwrap().clone()
}

fn is(entry: &Value, ph: &str, name: &str) -> bool {
    entry["ph"] == ph && entry["name"] == name
}

#[test]
fn a_request_is_one_row_of_pairs_with_fields_at_their_ends() {
    let _alone = alone();
    let (memory, id) = (Memory::default(), request());
    written(&memory, FILE_MAX, || put(id));
    let entries = entries(&memory.text());
    assert_eq!("m0", entries[0]["args"]["name"]);
    let pairs: Vec<(&str, &str)> = (entries.iter())
        .filter(|entry| entry["cat"] == "glass::stage")
        .map(|entry| (entry["ph"].as_str().unwrap(), entry["name"].as_str().unwrap()))
        .collect();
    let expected = [
        ("b", "rpc"),
        ("n", "raft.entry"),
        ("b", "apply.entry"),
        ("e", "apply.entry"),
        ("e", "rpc"),
    ];
    assert_eq!(expected.as_slice(), pairs);
    let hex = format!("{id:016x}");
    for entry in &entries {
        assert_eq!(std::process::id(), entry["pid"]);
        let is_pair = entry["cat"] == "glass::stage";
        assert_eq!(is_pair, entry["id2"]["local"] == hex.as_str(), "{entry}");
    }
    let end = entries.iter().find(|entry| is(entry, "e", "rpc")).unwrap();
    assert_eq!(Value::from(hex), end["args"]["request_id"]);
    let said = ["method", "bytes_in", "bytes_out"].map(|name| end["args"][name].clone());
    assert_eq!([Value::from("KV/Put"), Value::from(9), Value::from(11)], said);
}

#[test]
fn times_are_those_of_the_wall_clock_and_ids_stay_text() {
    let memory = Memory::default();
    let mut file = TraceFile::new(Box::new(memory.clone()), "a file".into(), "m0", FILE_MAX);
    file.began = 1.8e15;
    let args = json!({
        "request_id": "0000000000001234", "count": "12", "zero": "0", "flag": "true", "text": "x",
        "long": "1234567890123456",
    });
    let mut entry = json!({ "ph": "b", "pid": 1, "id": 5, "ts": 2.5, "args": args });
    file.mend(entry.as_object_mut().unwrap());
    assert_eq!(1.8e15 + 2.5, entry["ts"]);
    assert_eq!(json!({ "local": "0000000000001234" }), entry["id2"]);
    assert!(entry["id"].is_null());
    let expected = json!({
        "request_id": "0000000000001234", "count": 12, "zero": 0, "flag": true, "text": "x",
        "long": "1234567890123456",
    });
    assert_eq!(expected, entry["args"]);
    let mut loops = json!({ "ph": "b", "id": u64::MAX, "args": { "first": "7" } });
    file.mend(loops.as_object_mut().unwrap());
    assert_eq!(json!({ "local": format!("loop {}", u64::MAX) }), loops["id2"]);
}

/// An entry about a request, at this time in microseconds.
fn about(phase: &str, name: &str, time: f64, args: &Value) -> Map<String, Value> {
    let id2 = json!({ "local": "0000000000001234" });
    let entry = json!({ "ph": phase, "name": name, "ts": time, "id2": id2, "args": args });
    entry.as_object().unwrap().clone()
}

/// Goal: a step that was over before it was told is a pair at the time when it happened, beside the
/// rpc and not below it, although the rpc's own entries are a little early and late. Method: the
/// entries of a call, by hand.
#[test]
fn a_step_that_is_told_late_is_a_pair_beside_its_rpc() {
    let mut rpcs = Rpcs::default();
    let mut told = |phase, name, time, args| rpcs.at_the_edge(about(phase, name, time, &args));
    let past = |past_ns: u64, took_ns: u64| json!({ "past_ns": past_ns, "took_ns": took_ns });
    let times = |entries: &[Map<String, Value>]| -> Vec<(String, f64)> {
        let time = |entry: &Map<String, Value>| {
            (entry["ph"].as_str().unwrap().to_owned(), entry["ts"].as_f64().unwrap())
        };
        entries.iter().map(time).collect()
    };
    assert_eq!(1, told("b", "rpc", 1000.0, json!({})).len());
    // From 900 to 902, from 901 on, as it seems, and up to 1004: the rpc is 4 microseconds earlier
    // in the file than in its record.
    let lay = told("n", "socket.queue", 1010.0, past(110_000, 2_000));
    assert_eq!([("b".to_owned(), 900.0), ("e".to_owned(), 902.0)], times(&lay)[..]);
    let receive = told("n", "rpc.receive", 1010.0, past(109_000, 101_000));
    assert_eq!([("b".to_owned(), 902.0), ("e".to_owned(), 999.75)], times(&receive)[..]);
    let queue = told("n", "rpc.queue", 1010.0, past(8_000, 2_000));
    assert_eq!([("b".to_owned(), 999.75), ("e".to_owned(), 999.75)], times(&queue)[..]);
    assert_eq!(None, queue[0].get("args"));
    assert_eq!(json!({}), queue[1]["args"], "the fields are at the end");
    told("e", "rpc", 1100.0, json!({}));
    let flush = told("n", "answer.flush", 1200.0, past(103_000, 102_000));
    assert_eq!([("b".to_owned(), 1100.25), ("e".to_owned(), 1199.0)], times(&flush)[..]);
    let instant = told("n", "raft.entry", 1300.0, json!({ "index": 7 }));
    assert_eq!([("n".to_owned(), 1300.0)], times(&instant)[..]);
}

#[test]
fn a_request_s_steps_at_the_edge_are_in_its_row() {
    let _alone = alone();
    let (memory, id) = (Memory::default(), request());
    written(&memory, FILE_MAX, || {
        let first = trace::Moment::now();
        let span = stage!(Rpc, id, method = 2_u8);
        past!(RpcQueue, id, first, span.began());
    });
    let entries = entries(&memory.text());
    let at = |ph: &str, name: &str| {
        let found = entries.iter().find(|entry| is(entry, ph, name));
        found.unwrap_or_else(|| panic!("{ph} of {name} in {entries:?}")).clone()
    };
    let (begin, end, rpc) = (at("b", "rpc.queue"), at("e", "rpc.queue"), at("b", "rpc"));
    assert_eq!(rpc["id2"], begin["id2"]);
    assert_eq!(rpc["id2"], end["id2"]);
    let time = |entry: &Value| entry["ts"].as_f64().unwrap();
    assert!(time(&begin) <= time(&end) && time(&end) < time(&rpc), "{entries:?}");
}

#[test]
fn events_of_other_crates_are_not_in_the_file() {
    let _alone = alone();
    let memory = Memory::default();
    written(&memory, FILE_MAX, || {
        let theirs = tracing::info_span!(target: "h2::proto", "poll", state = 1).entered();
        tracing::warn!(target: "h2::codec", parent: &theirs, "theirs");
        drop(theirs);
        tracing::info!("a line for the log");
    });
    assert_eq!("[\n\n]", memory.text());
}

#[test]
fn a_disk_that_is_full_closes_the_valve_and_nothing_panics() {
    let _alone = alone();
    let memory = Memory { room: Some(300), ..Memory::default() };
    let valve = written(&memory, FILE_MAX, || (0..200).for_each(|_| put(request())));
    assert!(valve.is_closed());
    assert!(!bridge::is_on());
    assert!(memory.text().len() <= 300);
}

#[test]
fn a_file_that_has_its_largest_size_is_ended_in_good_order() {
    let _alone = alone();
    let memory = Memory::default();
    let valve = written(&memory, 40_000, || (0..200).for_each(|_| put(request())));
    assert!(valve.is_closed());
    let text = memory.text();
    // The limit, one more buffer, and the closing lines.
    assert!((40_000..60_000).contains(&text.len()), "{}", text.len());
    let entries = entries(&text);
    let label = &entries.last().unwrap()["args"]["labels"];
    assert!(label.as_str().unwrap().starts_with("cut"), "{label}");
}

#[test]
fn the_file_always_ends_between_two_entries() {
    let memory = Memory::default();
    let mut file = TraceFile::new(Box::new(memory.clone()), "a file".into(), "m0", FILE_MAX);
    let whole = "[\n{\"a\":1},\n{\"b\":\"two\"},\n{\"c\":3}\n]";
    for at in 0..whole.len() {
        file.write_all(&whole.as_bytes()[at..=at]).unwrap();
        let text = memory.text();
        assert!(text.is_empty() || text.ends_with('\n'), "{text}");
        for line in text.lines().skip(1).map(|line| line.trim_end_matches(',')) {
            let is_whole = line == "]" || serde_json::from_str::<Value>(line).is_ok();
            assert!(is_whole, "{line}");
        }
    }
    file.flush().unwrap();
    assert_eq!(4, entries(&memory.text()).len());
    assert_eq!(4, file.valve.taken.load(Ordering::Relaxed), "newlines that were counted");
}

#[test]
fn too_much_under_way_turns_the_bridge_off_until_half_of_it_is_taken() {
    let _alone = alone();
    let valve = Valve::default();
    bridge::set_on(true);
    (1..BACKLOG_MAX).for_each(|_| valve.sent());
    assert!(bridge::is_on());
    valve.sent();
    assert!(!bridge::is_on());
    let half = usize::try_from(BACKLOG_MAX / 2).unwrap();
    valve.taken(half);
    assert!(!bridge::is_on());
    valve.taken(1);
    assert!(bridge::is_on());
    assert_eq!(1, valve.pauses.load(Ordering::Relaxed));
    valve.close();
    valve.taken(half);
    assert!(!bridge::is_on());
}

/// A sender turns the bridge off late, when the writer has already turned it on.
#[test]
fn a_pause_that_is_over_at_once_leaves_the_bridge_on() {
    const ROUNDS: usize = 20_000;
    let _alone = alone();
    let all = usize::try_from(BACKLOG_MAX).unwrap();
    let valve = Valve::default();
    valve.sent.store(BACKLOG_MAX - 1, Ordering::Relaxed);
    let both = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..ROUNDS {
                both.wait();
                valve.sent();
                both.wait();
            }
        });
        let mut lost = 0;
        for round in 1..=ROUNDS {
            bridge::set_on(true);
            both.wait();
            while valve.pauses.load(Ordering::Relaxed) < round as u64 {
                std::hint::spin_loop();
            }
            valve.taken(all);
            both.wait();
            // The flush of the next second.
            valve.taken(0);
            lost += usize::from(!bridge::is_on());
            valve.sent.fetch_add(BACKLOG_MAX - 1, Ordering::Relaxed);
        }
        assert_eq!(0, lost, "times that the bridge stayed off, of {ROUNDS}");
    });
    bridge::set_on(false);
}

/// A sender waits for the lock until nothing is in flight any more.
#[test]
fn entries_taken_meanwhile_do_not_pause_the_bridge() {
    let _alone = alone();
    let valve = Valve::default();
    bridge::set_on(true);
    valve.pause();
    assert!(bridge::is_on());
    assert_eq!(0, valve.pauses.load(Ordering::Relaxed));
    bridge::set_on(false);
}

/// Takes everything in flight with each write, and records the bridge's state.
struct Taker {
    valve: Arc<Valve>,
    is_on: Arc<AtomicBool>,
}

impl Write for Taker {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.valve.taken(usize::try_from(BACKLOG_MAX).unwrap());
        self.is_on.store(bridge::is_on(), Ordering::Relaxed);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn draining_at_the_end_does_not_turn_the_bridge_on_again() {
    let _alone = alone();
    let mut file = TraceFile::new(Box::new(io::sink()), "a file".into(), "m0", FILE_MAX);
    let (valve, is_on) = (Arc::clone(&file.valve), Arc::new(AtomicBool::new(true)));
    file.out = Box::new(Taker { valve: Arc::clone(&valve), is_on: Arc::clone(&is_on) });
    let (_layer, finish) = build::<Registry>(file).unwrap();
    finish.open();
    assert!(bridge::is_on());
    (0..BACKLOG_MAX).for_each(|_| valve.sent());
    drop(finish);
    assert!(!is_on.load(Ordering::Relaxed), "on while the last entries were written");
    assert!(!bridge::is_on());
    assert_eq!(1, valve.pauses.load(Ordering::Relaxed));
}

#[test]
fn a_file_that_has_failed_is_not_opened() {
    let _alone = alone();
    let valve = Valve::default();
    valve.close();
    valve.open();
    assert!(!bridge::is_on());
}

#[test]
fn the_file_of_a_killed_member_is_kept_at_its_next_start() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let [path, old] = ["trace", "trace.1"].map(|name| dir.path().join(name));
    fs::write(&path, "first").unwrap();
    drop(layer::<Registry>(&path, "m0").unwrap());
    assert_eq!("first", fs::read_to_string(&old).unwrap());
    let second = fs::read_to_string(&path).unwrap();
    assert_eq!("[\n\n]", second);
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    drop(layer::<Registry>(&link, "m0").unwrap());
    assert_eq!(second, fs::read_to_string(&old).unwrap(), "one old file, beside a link's target");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    fs::write(&path, "").unwrap();
    drop(open(&path).unwrap());
    assert_eq!(second, fs::read_to_string(&old).unwrap(), "nothing is no reason to lose something");
    fs::write(&path, "kept").unwrap();
    fs::remove_file(&old).unwrap();
    fs::create_dir(&old).unwrap();
    let error = layer::<Registry>(&path, "m0").err().unwrap().to_string();
    assert!(error.contains("cannot be kept as "), "{error}");
    assert_eq!("kept", fs::read_to_string(&path).unwrap());
}

#[test]
fn a_file_whose_opening_blocks_is_refused_and_a_device_is_not_moved() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let socket = dir.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for path in [&fifo, &socket] {
        let (said, hears) = channel();
        let asked = path.clone();
        // Opening a FIFO would wait for its reader, so the test opens it on a thread of its own.
        thread::spawn(move || said.send(open(&asked).map(drop).unwrap_err().to_string()));
        let error = hears.recv_timeout(FINISH_WITHIN).expect("it is refused, and not waited for");
        assert!(error.contains("neither a file nor a directory"), "{error}");
    }
    assert_eq!(2, fs::read_dir(dir.path()).unwrap().count());
    drop(open(Path::new("/dev/null")).unwrap());
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    assert!(!Path::new("/dev/null.1").exists());
}

#[test]
fn a_directory_gets_one_file_a_member() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    for name in ["etcd-01", "a/b"] {
        drop(layer::<Registry>(dir.path(), name).unwrap());
    }
    let mut files: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(["a_b.trace.json", "etcd-01.trace.json"].as_slice(), files);
    let missing = dir.path().join("no such directory/file");
    let error = layer::<Registry>(&missing, "m0").err().unwrap().to_string();
    assert!(error.starts_with("cannot open --trace-chrome "), "{error}");
}
