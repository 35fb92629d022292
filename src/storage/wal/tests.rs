use std::{
    env, fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, atomic::Ordering, mpsc},
};

use bytes::Bytes;
use raft::eraftpb::{Entry, HardState};

use super::{
    record::{Frame, Kind},
    segment::Name,
    *,
};
use crate::{
    pb::walpb,
    random::Random,
    storage::{
        disk::File,
        own_process::{self, alone},
    },
};

mod compacted;
mod copied;
mod first;
mod growth;
mod large;

const METADATA: Metadata = Metadata { node_id: 0x264a_e6bc_59e9_9892, cluster_id: 0x1234 };

fn options(segment_bytes: u64) -> Options {
    Options { fsync: true, segment_bytes }
}

/// An entry whose data has no zeros, and depends on its place.
fn entry(index: u64, term: u64, len: usize) -> Entry {
    let byte = |at: usize| (at as u64 * 31 + index * 7 + term) as u8 | 1;
    let data: Bytes = (0..len).map(byte).collect::<Vec<u8>>().into();
    Entry { index, term, data, ..Entry::default() }
}

fn entries(low: u64, high: u64, term: u64, len: usize) -> Vec<Entry> {
    (low..high).map(|index| entry(index, term, len)).collect()
}

fn state(term: u64, vote: u64, commit: u64) -> HardState {
    HardState { term, vote, commit, ..HardState::default() }
}

struct Log {
    _temp: tempfile::TempDir,
    dir: PathBuf,
}

impl Log {
    fn new() -> Log {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("member").join("wal");
        Log { _temp: temp, dir }
    }

    fn segments(&self) -> Vec<PathBuf> {
        segment::list(&self.dir).unwrap().into_iter().map(|name| name.path(&self.dir)).collect()
    }

    /// Opens it, and reads all that it has.
    fn read(&self, segment_bytes: u64) -> Result<(Recovered, Vec<Entry>), Error> {
        let (_wal, locations, recovered) = open(&self.dir, &options(segment_bytes))?;
        let entries =
            locations.entries(recovered.first_index, recovered.last_index + 1, u64::MAX)?;
        Ok((recovered, entries))
    }
}

/// Where each frame of a segment begins, and where the last one ends.
fn frames(bytes: &[u8]) -> Vec<usize> {
    let mut offsets = vec![0];
    loop {
        let at = *offsets.last().unwrap();
        let Some(word) = bytes.get(at..at + 8) else { return offsets };
        let frame = Frame::new(word.try_into().unwrap());
        if frame.is_zero() {
            return offsets;
        }
        offsets.push(at + frame.total() as usize);
    }
}

#[test]
fn saved_entries_come_back() {
    let log = Log::new();
    assert!(!exists(&log.dir).unwrap());
    assert!(matches!(open(&log.dir, &options(4096)), Err(Error::Missing(_))));
    let (mut wal, locations) = create(&log.dir, &METADATA, &options(1 << 20)).unwrap();
    assert!(exists(&log.dir).unwrap());
    assert!(matches!(create(&log.dir, &METADATA, &options(4096)), Err(Error::Exists(_))));
    assert!(matches!(open(&log.dir, &options(4096)), Err(Error::InUse(_))));
    assert_eq!((locations.first_index(), locations.last_index()), (1, 0));
    wal.save(&entries(1, 6, 2, 100), Some(&state(2, 7, 3)), true).unwrap();
    wal.save(&[], Some(&state(2, 7, 5)), false).unwrap();
    assert!(matches!(wal.save(&[entry(7, 2, 1)], None, true), Err(Error::Gap { .. })));
    drop((wal, locations));
    let (recovered, read) = log.read(1 << 20).unwrap();
    assert_eq!(read, entries(1, 6, 2, 100));
    assert_eq!(recovered.metadata, METADATA);
    assert_eq!(recovered.hard_state, state(2, 7, 5));
    assert_eq!(recovered.snapshot.index(), 0);
    let Recovered { first_index, last_index, last_term, .. } = recovered;
    assert_eq!((first_index, last_index, last_term), (1, 5, 2));
}

#[test]
fn an_empty_log_and_an_empty_entry_come_back() {
    let log = Log::new();
    drop(create(&log.dir, &METADATA, &options(4096)).unwrap());
    let (recovered, read) = log.read(4096).unwrap();
    assert_eq!((recovered.first_index, recovered.last_index, read.len()), (1, 0, 0));
    let (mut wal, ..) = open(&log.dir, &options(4096)).unwrap();
    wal.save(&[entry(1, 1, 0)], None, true).unwrap();
    drop(wal);
    assert_eq!(log.read(4096).unwrap().1, [entry(1, 1, 0)]);
}

#[test]
fn segments_are_cut_and_read_as_one_log() {
    let log = Log::new();
    let (mut wal, locations) = create(&log.dir, &METADATA, &options(2048)).unwrap();
    for index in 1..60 {
        wal.save(&[entry(index, 1 + index / 20, 150)], Some(&state(3, 1, index)), true).unwrap();
    }
    let expected: Vec<Entry> = (1..60).map(|index| entry(index, 1 + index / 20, 150)).collect();
    assert!(5 < log.segments().len());
    // While it is open, across all segments, and in parts.
    assert_eq!(locations.entries(1, 60, u64::MAX).unwrap(), expected);
    assert_eq!(locations.entries(17, 23, u64::MAX).unwrap(), expected[16..22]);
    assert_eq!(locations.entries(17, 23, 300).unwrap(), expected[16..18]);
    assert_eq!(locations.entries(17, 23, 0).unwrap(), expected[16..17]);
    assert_eq!(locations.entries(17, 17, 0).unwrap(), []);
    assert!(matches!(locations.entries(50, 61, 9), Err(Error::OutOfRange { .. })));
    assert_eq!(
        [0, 19, 20, 59, 60].map(|index| locations.term(index)),
        [Some(0), Some(1), Some(2), Some(3), None]
    );
    drop((wal, locations));
    for _ in 0..2 {
        let (recovered, read) = log.read(2048).unwrap();
        assert_eq!((read, recovered.hard_state), (expected.clone(), state(3, 1, 59)));
    }
    let (mut wal, locations, _) = open(&log.dir, &options(2048)).unwrap();
    wal.save(&entries(60, 90, 4, 150), None, true).unwrap();
    wal.save(&entries(90, 92, 4, 150), None, true).unwrap();
    drop((wal, locations));
    assert_eq!(log.read(2048).unwrap().1[59..], entries(60, 92, 4, 150));
    // Without one of its segments the log is refused.
    fs::remove_file(&log.segments()[2]).unwrap();
    let error = log.read(2048).unwrap_err();
    assert!(matches!(error, Error::Corrupt { reason: Reason::Name, .. }), "{error}");
}

#[test]
fn a_conflicting_suffix_replaces_the_old_one() {
    let log = Log::new();
    let (mut wal, locations) = create(&log.dir, &METADATA, &options(2048)).unwrap();
    wal.save(&entries(1, 30, 1, 100), Some(&state(1, 0, 5)), true).unwrap();
    wal.save(&entries(10, 12, 2, 100), Some(&state(2, 0, 5)), true).unwrap();
    let mut expected = entries(1, 10, 1, 100);
    expected.extend(entries(10, 12, 2, 100));
    assert_eq!(locations.last_index(), 11);
    assert_eq!(locations.entries(1, 12, u64::MAX).unwrap(), expected);
    drop((wal, locations));
    let (recovered, read) = log.read(2048).unwrap();
    assert_eq!((read, recovered.last_index, recovered.last_term), (expected, 11, 2));
}

#[test]
fn a_snapshot_ahead_of_the_log_takes_its_place_once_it_is_committed() {
    let log = Log::new();
    let (mut wal, locations) = create(&log.dir, &METADATA, &options(4096)).unwrap();
    wal.save(&entries(1, 4, 1, 10), Some(&state(1, 0, 3)), true).unwrap();
    let snapshot = walpb::Snapshot { index: Some(50), term: Some(2), conf_state: None };
    wal.save_snapshot(&snapshot);
    drop((wal, locations));
    // The hard state that makes it count was lost.
    let (recovered, read) = log.read(4096).unwrap();
    assert_eq!((recovered.snapshot.index(), read.len()), (0, 3));
    let (mut wal, ..) = open(&log.dir, &options(4096)).unwrap();
    wal.save_snapshot(&snapshot);
    wal.save(&entries(51, 53, 2, 10), Some(&state(2, 0, 50)), true).unwrap();
    drop(wal);
    let (recovered, read) = log.read(4096).unwrap();
    assert_eq!((recovered.snapshot, recovered.first_index), (snapshot, 51));
    assert_eq!(read, entries(51, 53, 2, 10));
}

/// Makes a log with entries of these lengths, and returns its file's content.
fn written(log: &Log, lens: &[usize]) -> Vec<u8> {
    let (mut wal, _) = create(&log.dir, &METADATA, &options(16384)).unwrap();
    for (at, len) in lens.iter().enumerate() {
        let index = at as u64 + 1;
        wal.save(&[entry(index, 1, *len)], Some(&state(1, 9, index)), true).unwrap();
    }
    fs::read(&log.segments()[0]).unwrap()
}

/// Whether the rule of the torn tail takes `bytes`, cut at `cut` and filled with zeros, for torn.
fn zeros_fill_a_sector(bytes: &[u8], frame: usize, cut: usize) -> bool {
    let size = u64::from_le_bytes(bytes[frame..frame + 8].try_into().unwrap()) & 0xff_ffff;
    let end = frame + 8 + size as usize;
    let mut start = frame + 8;
    while start < end {
        let next = (start - start % 512 + 512).min(end);
        if cut <= start {
            return true;
        }
        start = next;
    }
    false
}

#[test]
fn a_tail_cut_at_any_byte_opens_with_everything_before_it() {
    let log = Log::new();
    let lens = [100, 700, 60, 1500, 20];
    let bytes = written(&log, &lens);
    let expected: Vec<Entry> =
        lens.iter().enumerate().map(|(at, len)| entry(at as u64 + 1, 1, *len)).collect();
    let offsets = frames(&bytes);
    let (end, path) = (*offsets.last().unwrap(), log.segments()[0].clone());
    // The last three entries, each with its hard state.
    let start = offsets[offsets.len() - 7];
    let (mut opened, mut refused) = (0, 0);
    for cut in start..=end {
        let frame = *offsets.iter().rfind(|offset| **offset <= cut).unwrap();
        let whole = offsets.iter().position(|offset| *offset == frame).unwrap() - 3;
        // Truncated: entries and states alternate.
        fs::write(&path, &bytes[..cut]).unwrap();
        let (recovered, read) = log.read(16384).unwrap();
        assert_eq!(read, expected[..whole.div_ceil(2)], "cut at {cut}");
        assert_eq!(recovered.hard_state.commit, whole as u64 / 2, "cut at {cut}");
        // Filled with zeros.
        let mut zeroed = bytes.clone();
        zeroed[cut..].fill(0);
        fs::write(&path, &zeroed).unwrap();
        let next = offsets.iter().copied().find(|offset| frame < *offset).unwrap_or(end);
        let is_whole = zeroed[frame..next] == bytes[frame..next];
        let is_torn = cut == frame || zeros_fill_a_sector(&zeroed, frame, cut);
        let whole = whole + usize::from(is_whole && frame < cut);
        match log.read(16384) {
            Ok((_, read)) => {
                assert!(is_torn || is_whole, "zeros from {cut} were taken for torn");
                assert_eq!(read, expected[..whole.div_ceil(2)], "zeros from {cut}");
                opened += 1;
            }
            Err(error) => {
                assert!(!is_torn && !is_whole, "zeros from {cut}: {error}");
                let Error::Corrupt { offset, .. } = error else { panic!("{error}") };
                assert_eq!(offset, frame as u64);
                refused += 1;
            }
        }
    }
    // A record inside one sector cannot be torn, so both must have been seen.
    assert!(1000 < opened && 100 < refused, "{opened} opened, {refused} refused");
}

#[test]
fn a_torn_tail_is_kept_beside_the_log_and_can_be_written_over() {
    let log = Log::new();
    let bytes = written(&log, &[100, 1500]);
    let offsets = frames(&bytes);
    let path = log.segments()[0].clone();
    let mut torn = bytes[..offsets[5]].to_vec();
    // The second of the sectors never reached the disk.
    let sector = (offsets[5] / 512 + 1) * 512;
    torn.extend_from_slice(&bytes[offsets[5]..]);
    torn[sector..sector + 512].fill(0);
    fs::write(&path, &torn).unwrap();
    let (mut wal, locations, recovered) = open(&log.dir, &options(16384)).unwrap();
    assert_eq!((recovered.last_index, recovered.hard_state), (1, state(1, 9, 1)));
    let mut broken = path.clone().into_os_string();
    broken.push(".broken");
    assert_eq!(fs::read(broken).unwrap(), torn);
    let clean = fs::read(&path).unwrap();
    assert_eq!(clean.len(), 16384);
    assert!(clean[offsets[5]..].iter().all(|byte| *byte == 0));
    wal.save(&[entry(2, 3, 9)], None, true).unwrap();
    drop((wal, locations));
    assert_eq!(log.read(16384).unwrap().1, [entry(1, 1, 100), entry(2, 3, 9)]);
}

#[test]
fn a_flipped_bit_in_an_earlier_record_is_refused_with_file_and_offset() {
    let log = Log::new();
    let bytes = written(&log, &[0, 5, 700, 64, 3]);
    let offsets = frames(&bytes);
    let path = log.segments()[0].clone();
    let mut flips = 0;
    // Everything but the last entry and its state, which may be torn.
    for at in 0..offsets[offsets.len() - 3] {
        // Every bit of small records and of the large one's ends, some bits in the middle.
        let frame = *offsets.iter().rfind(|offset| **offset <= at).unwrap();
        for bit in 0..8 {
            if 64 < at - frame && !at.is_multiple_of(13) {
                continue;
            }
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            fs::write(&path, &flipped).unwrap();
            let error = log
                .read(16384)
                .map(|(recovered, _)| recovered)
                .expect_err(&format!("byte {at}, bit {bit}"));
            let Error::Corrupt { path: file, offset, .. } = &error else { panic!("{error}") };
            assert_eq!((file, *offset), (&path, frame as u64), "byte {at}, bit {bit}: {error}");
            flips += 1;
        }
    }
    assert!(2000 < flips);
    assert!(!log.dir.join("0000000000000000-0000000000000000.wal.broken").exists());
}

/// A log whose third but last frame begins in the last word of a sector; its record has `size`.
fn log_with_a_word_at_the_end_of_a_sector(size: u64) -> (Log, Vec<u8>, usize) {
    for first in (200..712).step_by(8) {
        for second in 30..90 {
            let log = Log::new();
            let bytes = written(&log, &[first, second]);
            let at = frames(&bytes)[5];
            if at % 512 != 504 {
                break;
            }
            if Frame::new(bytes[at..at + 8].try_into().unwrap()).size == size {
                return (log, bytes, at);
            }
        }
    }
    panic!("no such log");
}

#[test]
fn a_word_that_one_flipped_bit_makes_zero_does_not_end_the_log() {
    let (log, mut bytes, at) = log_with_a_word_at_the_end_of_a_sector(64);
    assert_eq!(bytes[at..at + 8], [64, 0, 0, 0, 0, 0, 0, 0]);
    bytes[at] = 0;
    fs::write(&log.segments()[0], &bytes).unwrap();
    let error = log.read(16384).unwrap_err();
    assert!(matches!(error, Error::Corrupt { offset, .. } if offset == at as u64), "{error}");
    // But a sector that was lost, with a word of more than one bit at its end, was never synced.
    let (log, mut bytes, at) = log_with_a_word_at_the_end_of_a_sector(65);
    bytes[at..at + 8].fill(0);
    fs::write(&log.segments()[0], &bytes).unwrap();
    assert_eq!(log.read(16384).unwrap().0.last_index, 1);
}

#[test]
fn a_log_of_random_bytes_is_refused_without_a_panic() {
    let log = Log::new();
    let bytes = written(&log, &[50, 600, 3]);
    let end = *frames(&bytes).last().unwrap();
    let path = log.segments()[0].clone();
    let mut random = Random::new(42);
    for _ in 0..500 {
        let mut wild = bytes.clone();
        for _ in 0..3 {
            wild[random.index(end)] = random.byte();
        }
        fs::write(&path, &wild).unwrap();
        // The entries that are read must be the first of those that were written.
        if let Ok((_, read)) = log.read(16384) {
            let all = [entry(1, 1, 50), entry(2, 1, 600), entry(3, 1, 3)];
            assert_eq!(read, all[..read.len()]);
        }
    }
}

#[test]
fn a_damaged_older_segment_is_never_taken_for_torn() {
    let log = Log::new();
    let (mut wal, _) = create(&log.dir, &METADATA, &options(2048)).unwrap();
    (1..40).for_each(|index| wal.save(&[entry(index, 1, 300)], None, true).unwrap());
    drop(wal);
    let path = log.segments()[1].clone();
    let bytes = fs::read(&path).unwrap();
    for cut in [bytes.len() - 1, bytes.len() - 200, 300, 1, 0] {
        fs::write(&path, &bytes[..cut]).unwrap();
        let error = log.read(2048).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    }
    // Cut at a record's end: the next segment's checksum, or its name, disagrees.
    let offsets = frames(&bytes);
    fs::write(&path, &bytes[..offsets[offsets.len() - 2]]).unwrap();
    assert!(matches!(log.read(2048), Err(Error::Corrupt { .. })));
    fs::write(&path, &bytes).unwrap();
    assert_eq!(log.read(2048).unwrap().1.len(), 39);
}

#[test]
fn a_group_shares_one_fsync_and_is_reported_in_order() {
    let log = Log::new();
    let (wal, locations) = create(&log.dir, &METADATA, &options(1 << 20)).unwrap();
    let (reported, reports) = mpsc::channel();
    let (gate, gates) = mpsc::channel::<()>();
    let gates = Mutex::new(gates);
    let writer = spawn(wal, move |ready| {
        reported.send((ready, std::thread::current().name().map(str::to_owned))).unwrap();
        let _ = gates.lock().unwrap().recv();
    });
    let write =
        |ready, entries, sync| writer.write(Write { entries, sync, ready, ..Write::default() });
    write(1, vec![entry(1, 1, 9)], true);
    assert_eq!(reports.recv().unwrap(), (1, Some("wal".to_owned())));
    let watermarks = writer.watermarks();
    assert_eq!(watermarks.fsyncs.load(Ordering::Relaxed), 1);
    // The thread is held in `done`, so all of these wait; the last one needs no sync itself.
    for ready in 2..=40 {
        write(ready, vec![entry(ready, 1, 9)], ready < 40);
    }
    gate.send(()).unwrap();
    assert_eq!(reports.recv().unwrap().0, 40);
    assert_eq!(watermarks.fsyncs.load(Ordering::Relaxed), 2);
    assert_eq!(watermarks.synced.load(Ordering::Relaxed), 40);
    assert_eq!(locations.entries(1, 41, u64::MAX).unwrap(), entries(1, 41, 1, 9));
    gate.send(()).unwrap();
    // A group without need of a sync gets none.
    write(41, vec![], false);
    assert_eq!(reports.recv().unwrap().0, 41);
    assert_eq!(watermarks.fsyncs.load(Ordering::Relaxed), 2);
    drop(gate);
    writer.stop();
    drop(locations);
    assert_eq!(log.read(1 << 20).unwrap().0.last_index, 40);
}

#[test]
fn a_lossy_disk_loses_exactly_the_unsynced_writes() {
    alone("storage::wal::tests::a_lossy_disk_loses_exactly_the_unsynced_writes", || {
        fail::cfg("disk-lossy", "return").unwrap();
        let log = Log::new();
        let (mut wal, locations) = create(&log.dir, &METADATA, &options(8192)).unwrap();
        wal.save(&entries(1, 4, 1, 700), Some(&state(1, 2, 0)), true).unwrap();
        wal.save(&entries(4, 6, 1, 700), Some(&state(1, 2, 3)), false).unwrap();
        assert_eq!(locations.entries(1, 6, u64::MAX).unwrap(), entries(1, 6, 1, 700));
        drop((wal, locations));
        let (recovered, read) = log.read(8192).unwrap();
        assert_eq!((read, recovered.hard_state), (entries(1, 4, 1, 700), state(1, 2, 0)));
        // A disk that lies about its fsync is found out.
        let (mut wal, ..) = open(&log.dir, &options(8192)).unwrap();
        fail::cfg("wal-skip-fsync", "return").unwrap();
        wal.save(&[entry(4, 1, 9)], None, true).unwrap();
        drop(wal);
        assert_eq!(log.read(8192).unwrap().0.last_index, 3);
    });
}

/// Goal: a log whose newest segment is gone is not taken for a shorter one. Method: it is removed;
/// then what names it is torn, or old, which says nothing.
#[test]
fn a_log_without_its_newest_segment_is_refused() {
    let log = Log::new();
    let (mut wal, _) = create(&log.dir, &METADATA, &options(8192)).unwrap();
    for index in 1..=30 {
        wal.save(&entries(index, index + 1, 1, 700), Some(&state(1, 2, index)), true).unwrap();
    }
    drop(wal);
    let segments = log.segments();
    assert!(2 < segments.len());
    assert_eq!(log.read(8192).unwrap().0.last_index, 30);
    fs::remove_file(segments.last().unwrap()).unwrap();
    let refused = log.read(8192).unwrap_err();
    assert!(matches!(refused, Error::TailGone { .. }), "{refused}");
    assert!(refused.to_string().contains("is gone"), "{refused}");
    for noted in ["", "00000000000000", "0000000000000001\n"] {
        fs::write(log.dir.join("newest"), noted).unwrap();
        assert!(log.read(8192).unwrap().0.last_index < 30, "{noted:?}");
    }
}

#[test]
fn an_fsync_that_fails_ends_the_process_with_file_and_offset() {
    let test = "storage::wal::tests::an_fsync_that_fails_ends_the_process_with_file_and_offset";
    if own_process::is_alone() {
        let log = Log::new();
        let (wal, _) = create(&log.dir, &METADATA, &options(8192)).unwrap();
        fail::cfg("wal-fsync-error", "return").unwrap();
        let (reported, reports) = mpsc::channel();
        let writer = spawn(wal, move |ready| reported.send(ready).unwrap());
        writer.write(Write {
            entries: entries(1, 2, 1, 9),
            sync: true,
            ready: 1,
            ..Write::default()
        });
        panic!("acknowledged: {:?}", reports.recv());
    }
    let output = own_process::run(test);
    assert_eq!(output.status.code(), Some(1), "a panic would have been 101");
    let log = Log::new();
    let empty = written(&log, &[]);
    let place = format!("{:016x}-{:016x}.wal, offset {}", 0, 0, frames(&empty).last().unwrap());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains(&place), "{place} is not in {text}");
    assert!(text.contains("EIO") || text.contains("Input/output error"), "{text}");
}

/// A real etcd, in a directory of its own.
struct Etcd {
    child: Child,
    endpoint: String,
    control: PathBuf,
}

impl Etcd {
    /// Starts the etcd that `GLASS_ETCD_351` (a directory) or `PATH` names, if there is one.
    fn start(dir: &Path) -> Option<Etcd> {
        let on_path = || {
            let path = env::var_os("PATH")?;
            env::split_paths(&path).map(|dir| dir.join("etcd")).find(|file| file.is_file())
        };
        let binary = env::var_os("GLASS_ETCD_351")
            .map(|dir| PathBuf::from(dir).join("etcd"))
            .or_else(on_path)?;
        let ports = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let urls = ports.map(|port| format!("http://{}", port.local_addr().unwrap()));
        let [endpoint, peer] = urls;
        let child = Command::new(&binary)
            .args(["--name", "m", "--data-dir"])
            .arg(dir)
            .args(["--listen-client-urls", &endpoint, "--advertise-client-urls", &endpoint])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("m={peer}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Some(Etcd { child, endpoint, control: binary.with_file_name("etcdctl") })
    }

    fn put(&self, key: &str, value: &str) -> bool {
        let mut command = Command::new(&self.control);
        command.env("ETCDCTL_API", "3").args(["--endpoints", &self.endpoint, "put", key, value]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        self.child.wait().unwrap();
    }
}

/// Decodes every record of a segment and encodes it again.
fn encoded_again(path: &Path) -> Vec<u8> {
    let file = File::open_read_only(path).unwrap();
    let (mut scan, mut crc, mut again) = (reader::Scan::new(&file).unwrap(), 0, Vec::new());
    while let reader::Found::Record(found) = scan.next(crc, true).unwrap() {
        let data = found.data.unwrap_or_default();
        match found.kind {
            Kind::Crc => _ = record::append(&mut again, &mut crc, Kind::Crc, &[]),
            Kind::Entry => {
                let (mut head, entry) = (Vec::new(), message::entry(data).unwrap());
                message::entry_head(&mut head, &entry);
                record::append(&mut again, &mut crc, Kind::Entry, &[&head, &entry.data]);
            }
            kind => {
                let bytes = match kind {
                    Kind::Metadata => message::metadata_bytes(&message::metadata(data).unwrap()),
                    Kind::State => message::hard_state_bytes(&message::hard_state(data).unwrap()),
                    _ => message::snapshot_bytes(&message::snapshot(data).unwrap()),
                };
                record::append(&mut again, &mut crc, kind, &[&bytes]);
            }
        }
    }
    again
}

#[test]
fn a_log_of_a_real_etcd_opens_and_is_what_we_would_have_written() {
    let temp = tempfile::tempdir().unwrap();
    let data_dir = temp.path().join("data");
    let Some(etcd) = Etcd::start(&data_dir) else {
        println!("skipped: no etcd, neither in GLASS_ETCD_351 nor on PATH");
        return;
    };
    // etcdctl waits five seconds for an etcd that has not started yet.
    assert!((0..20).any(|_| etcd.put("key-0", "value-0")));
    for number in 1..20 {
        assert!(etcd.put(&format!("key-{number}"), &"v".repeat(number * 40)));
    }
    drop(etcd);
    let log = Log { _temp: temp, dir: data_dir.join("member").join("wal") };
    let path = log.segments()[0].clone();
    let bytes = fs::read(&path).unwrap();
    let again = encoded_again(&path);
    assert!(again == bytes[..again.len()], "the same bytes");
    assert!(bytes[again.len()..].iter().all(|byte| *byte == 0), "all of it");
    let (recovered, read) = log.read(64_000_000).unwrap();
    let puts = read.iter().filter(|entry| entry.data.windows(4).any(|part| part == b"key-"));
    assert!(20 <= puts.count());
    assert_eq!((recovered.first_index, recovered.snapshot.index()), (1, 0));
    assert_eq!(recovered.last_index, read.len() as u64);
    assert_eq!(recovered.hard_state.vote, recovered.metadata.node_id);
    assert_eq!(recovered.hard_state.term, recovered.last_term);
    assert!(read.len() as u64 - 1 <= recovered.hard_state.commit);
    // And the next save works.
    let (mut wal, ..) = open(&log.dir, &options(64_000_000)).unwrap();
    let next = entry(recovered.last_index + 1, recovered.last_term, 30);
    wal.save(std::slice::from_ref(&next), None, true).unwrap();
    drop(wal);
    assert_eq!(log.read(64_000_000).unwrap().1.last(), Some(&next));
}
