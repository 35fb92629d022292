//! The log as it is written, and the thread that writes it.
//!
//! ```text
//!   raft ──Write──▶ ┌ inbox ┐ ─all that waits─▶ one buffer ─▶ one pwrite ─▶ one fdatasync ─▶ done
//!   raft ──Write──▶ └───────┘                                                    (last Ready)
//! ```
//!
//! While one fsync runs, further writes queue, and the next fsync takes them all: group commit
//! without a timer, so that a lone write waits for one fsync and no longer (Raft thesis, 10.2.1,
//! lets the leader send its entries to the others meanwhile).
//!
//! A group is reported whole, when its sync is through if any of its writes asked for one: a write
//! that needs no sync may stand behind one that does, and must not overtake it.

use std::{
    mem,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use raft::eraftpb::{Entry, HardState};

use super::{
    Metadata, Options,
    ahead::{Ahead, Present},
    error::Error,
    locations::{List, Location, Locations},
    message,
    record::{self, Kind},
    segment::{self, LockedDir, Name},
};
use crate::{
    metrics::recorded,
    pb::walpb,
    set, stage,
    storage::{disk::File, fatal},
    trace::{self, FLAG_ERROR, Span, raw_clock},
};

/// A group takes no further write once its buffer has this many bytes.
const GROUP_BYTES: usize = 16 * 1024 * 1024;
/// A buffer that has grown beyond this many bytes is given back after use.
const BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// A sync that takes longer is logged (etcd: warnSyncDuration).
const SLOW_FSYNC: Duration = Duration::from_secs(1);

/// How far entries are written and synced. Written by the `wal` thread, read by any.
#[derive(Debug, Default)]
pub struct Watermarks {
    /// The last index handed to the operating system. A conflict sets it back.
    pub written: AtomicU64,
    /// The last index that the last fsync covered. It stays while a conflict sets `written` back,
    /// until the next fsync.
    pub synced: AtomicU64,
    /// How many fsyncs there have been since the start.
    pub fsyncs: AtomicU64,
}

/// An open log: entries are appended, in the order of their indexes, until it is closed.
///
/// After an error the log must not be used any more, because it is not known which bytes have
/// reached the file.
#[derive(Debug)]
pub struct Wal {
    dir: LockedDir,
    options: Options,
    /// The metadata record's data, which every segment repeats.
    metadata: Vec<u8>,
    name: Name,
    tail: Arc<File>,
    /// Where the next write goes, in bytes.
    offset: u64,
    /// The checksum up to and including the buffer.
    crc: u32,
    /// The hard state queued last; a new segment repeats it.
    hard_state: HardState,
    /// The index queued last (etcd: enti).
    last_index: u64,
    group: Group,
    unsynced: Unsynced,
    ahead: Ahead,
    locations: Arc<Locations>,
    watermarks: Arc<Watermarks>,
}

/// Records that are encoded and not yet written.
#[derive(Debug, Default)]
struct Group {
    buffer: Vec<u8>,
    /// An entry's fields before its data; kept for its allocation.
    head: Vec<u8>,
    /// The index of each entry, and where it is.
    placed: Vec<(u64, Location)>,
    /// Index and term of a received snapshot, which takes the place of all entries before it.
    reset: Option<(u64, u64)>,
    /// The index of the newest snapshot with a record in the group, 0 for none.
    snapshot: u64,
    /// The first index, 0 without entries.
    first: u64,
    /// The last index, 0 without entries.
    last: u64,
    /// The raw tick at which the `wal` thread took the first write, for the trace.
    taken: u64,
}

/// Records that are written and not yet synced.
#[derive(Debug, Default)]
struct Unsynced {
    bytes: u64,
    /// The lowest index, 0 without entries.
    first: u64,
    /// The last index, 0 without entries.
    last: u64,
    /// The index of the newest snapshot, 0 without one.
    snapshot: u64,
    /// The new term and the vote in it, if either has changed; otherwise 0.
    term: u64,
    vote: u64,
}

/// The end of a log that was read, where the writer continues.
pub(super) struct Tail {
    /// The last segment's name.
    pub(super) name: Name,
    /// The last segment, open for writing.
    pub(super) file: Arc<File>,
    /// The end of the last record, in bytes.
    pub(super) offset: u64,
    /// The running checksum up to `offset`.
    pub(super) crc: u32,
    /// The newest hard state.
    pub(super) hard_state: HardState,
}

/// Makes a new log, which has no entries and belongs to `metadata`'s member (etcd: wal.Create).
///
/// The directory may exist, be a mount point, and hold files of others, which stay.
pub fn create(
    dir: &Path,
    metadata: &Metadata,
    options: &Options,
) -> Result<(Wal, Arc<Locations>), Error> {
    if segment::exists(dir)? {
        return Err(Error::Exists(dir.to_owned()));
    }
    segment::make_dir(dir, options.fsync)?;
    let locked = segment::lock(dir)?;
    // Another process may have made a log, and ended, before the lock was taken.
    if segment::exists(dir)? {
        return Err(Error::Exists(dir.to_owned()));
    }
    let name = Name { sequence: 0, index: 0 };
    let file = segment::allocate(&segment::unfinished(dir, name.sequence), options.segment_bytes)?;
    fail::fail_point!("wal-first-segment-begun");
    let metadata = message::metadata_bytes(metadata);
    let start = message::snapshot_bytes(&walpb::Snapshot::default());
    let (mut head, mut crc) = (Vec::new(), 0);
    record::append(&mut head, &mut crc, Kind::Crc, &[]);
    record::append(&mut head, &mut crc, Kind::Metadata, &[&metadata]);
    record::append(&mut head, &mut crc, Kind::Snapshot, &[&start]);
    segment::write_head(&file, &head)?;
    segment::sync(&file, options.fsync)?;
    fail::fail_point!("wal-first-segment-unnamed");
    let file = Arc::new(segment::publish(file, dir, name)?);
    fail::fail_point!("wal-first-segment-named");
    if options.fsync {
        locked.sync()?;
    }
    let list = List::new(1, Some(0));
    let locations = Arc::new(Locations::new(dir, list, vec![name], Arc::clone(&file)));
    let offset = head.len() as u64;
    let tail = Tail { name, file, offset, crc, hard_state: HardState::default() };
    Ok((Wal::new(locked, options, metadata, tail, Arc::clone(&locations)), locations))
}

impl Wal {
    pub(super) fn new(
        dir: LockedDir,
        options: &Options,
        metadata: Vec<u8>,
        tail: Tail,
        locations: Arc<Locations>,
    ) -> Wal {
        let last_index = locations.last_index();
        let watermarks = Arc::new(Watermarks::default());
        watermarks.written.store(last_index, Ordering::Relaxed);
        watermarks.synced.store(last_index, Ordering::Relaxed);
        trace::watermarks().written.store(last_index, Ordering::Relaxed);
        trace::watermarks().synced.store(last_index, Ordering::Relaxed);
        Wal {
            ahead: Ahead::new(&dir.path, options.segment_bytes),
            dir,
            options: *options,
            metadata,
            name: tail.name,
            tail: tail.file,
            offset: tail.offset,
            crc: tail.crc,
            hard_state: tail.hard_state,
            last_index,
            group: Group::default(),
            unsynced: Unsynced::default(),
            locations,
            watermarks,
        }
    }

    /// Appends entries, then the hard state, and returns when they are written, or with `sync`
    /// when they are on the disk (etcd: WAL.Save).
    pub fn save(
        &mut self,
        entries: &[Entry],
        hard_state: Option<&HardState>,
        sync: bool,
    ) -> Result<(), Error> {
        self.queue(entries, hard_state)?;
        self.finish(sync)
    }

    /// The end of the last record, in bytes.
    #[cfg(test)]
    pub(super) fn end(&self) -> u64 {
        self.offset
    }

    /// Encodes, but does not write.
    fn queue(&mut self, entries: &[Entry], hard_state: Option<&HardState>) -> Result<(), Error> {
        for entry in entries {
            self.queue_entry(entry)?;
        }
        if let Some(state) = hard_state.filter(|state| !message::is_empty(state)) {
            if (state.term, state.vote) != (self.hard_state.term, self.hard_state.vote) {
                (self.unsynced.term, self.unsynced.vote) = (state.term, state.vote);
            }
            let bytes = message::hard_state_bytes(state);
            record::append(&mut self.group.buffer, &mut self.crc, Kind::State, &[&bytes]);
            self.hard_state = state.clone();
        }
        Ok(())
    }

    /// Encodes the record of a snapshot (etcd: WAL.SaveSnapshot). A received one is followed at
    /// once by a hard state that commits it: if the write is torn behind that, a reader knows that
    /// the snapshot counts, and if it is torn before, that it does not.
    fn queue_snapshot(
        &mut self,
        record: &SnapshotRecord,
        hard_state: Option<&HardState>,
    ) -> Result<(), Error> {
        let SnapshotRecord { place, replaces_log } = record;
        let bytes = message::snapshot_bytes(place);
        record::append(&mut self.group.buffer, &mut self.crc, Kind::Snapshot, &[&bytes]);
        self.group.snapshot = place.index().max(self.group.snapshot);
        if *replaces_log {
            self.last_index = place.index();
            self.group.placed.clear();
            self.group.reset = Some((place.index(), place.term()));
            let committed =
                |state: &HardState| HardState { commit: place.index(), ..state.clone() };
            self.queue(&[], hard_state.map(committed).as_ref())?;
        }
        Ok(())
    }

    fn queue_entry(&mut self, entry: &Entry) -> Result<(), Error> {
        let (index, last) = (entry.index, self.last_index);
        if index == 0 || last + 1 < index {
            return Err(Error::Gap { index, last });
        }
        // Type, checksum and lengths take less than 32 bytes beside head and data.
        let bytes = entry.data.len() as u64 + 64;
        if record::SIZE_LIMIT <= bytes {
            return Err(Error::TooLarge { index, bytes });
        }
        let offset = self.offset + self.group.buffer.len() as u64;
        let (Ok(segment), Ok(short)) = (self.name.sequence.try_into(), offset.try_into()) else {
            let (path, cause) = (self.tail.path().to_owned(), self.ahead.cause().map(Box::new));
            return Err(Error::SegmentFull { path, offset, cause });
        };
        let Group { buffer, head, placed, first, last, .. } = &mut self.group;
        message::entry_head(head, entry);
        record::append(buffer, &mut self.crc, Kind::Entry, &[head, &entry.data]);
        let place = Location { term: entry.term, segment, offset: short };
        placed.push((index, place));
        *first = if *first == 0 { index } else { index.min(*first) };
        *last = index;
        self.last_index = index;
        Ok(())
    }

    /// Writes the queued records, syncs them if asked to, and cuts to the next segment if this one
    /// is full.
    fn finish(&mut self, sync: bool) -> Result<(), Error> {
        self.write()?;
        if sync {
            self.sync()?;
        }
        let len = self.options.segment_bytes;
        if len / 2 <= self.offset {
            self.ahead.look(
                self.name.sequence + 1,
                Present { path: self.tail.path(), offset: self.offset },
            );
        }
        if len <= self.offset { self.cut() } else { Ok(()) }
    }

    /// Hands the group to the operating system, in one write.
    fn write(&mut self) -> Result<(), Error> {
        if self.group.buffer.is_empty() {
            return Ok(());
        }
        let (first, last) = (self.group.first, self.group.last);
        let written = self.watermarks.written.load(Ordering::Relaxed);
        let (segment, offset) = (self.name.sequence, self.offset);
        let gathered = trace::waited_ns(mem::take(&mut self.group.taken));
        let mut span =
            stage!(WalWrite, 0, first = first, last = last, segment = segment, offset = offset);
        set!(span, WalWrite, written_old = written, written_new = self.last_index);
        set!(span, WalWrite, gathered = gathered);
        fail::fail_point!("wal-before-write");
        let began = raw_clock::now();
        self.write_group(offset)
            .map_err(Error::io("writing", self.tail.path(), offset))
            .inspect_err(|_| span.flag(FLAG_ERROR))?;
        let took = raw_clock::to_ns(raw_clock::now() - began);
        recorded::wal_written(took, self.group.buffer.len());
        self.watermarks.written.store(self.last_index, Ordering::Release);
        trace::watermarks().written.store(self.last_index, Ordering::Relaxed);
        drop(span);
        self.publish_group();
        Ok(())
    }

    fn write_group(&self, offset: u64) -> std::io::Result<()> {
        fail::fail_point!("wal-disk-full", |_| Err(nix::errno::Errno::ENOSPC.into()));
        self.tail.write_at(&self.group.buffer, offset)
    }

    /// Lets readers see the written entries.
    fn publish_group(&mut self) {
        let mut group = mem::take(&mut self.group);
        self.offset += group.buffer.len() as u64;
        self.unsynced.add(&group);
        let reset = group.reset.take();
        self.locations.update(|list| {
            if let Some((index, term)) = reset {
                list.reset(index, term);
            }
            for (index, place) in group.placed.drain(..) {
                list.push(index, place);
            }
        });
        group.buffer.clear();
        if BUFFER_BYTES < group.buffer.capacity() {
            group.buffer = Vec::new();
        }
        (group.first, group.last, group.snapshot) = (0, 0, 0);
        self.group = group;
    }

    /// Returns when everything written so far is on the disk.
    fn sync(&mut self) -> Result<(), Error> {
        if !self.options.fsync || self.unsynced.bytes == 0 {
            self.locations.note_snapshot(self.unsynced.snapshot);
            return Ok(());
        }
        let written = self.watermarks.written.load(Ordering::Relaxed);
        let began = raw_clock::now();
        let mut span = self.open_fsync_span(written).begun();
        fail::fail_point!("wal-before-fsync");
        self.fdatasync().inspect_err(|_| span.flag(FLAG_ERROR))?;
        let took = Duration::from_nanos(raw_clock::to_ns(raw_clock::now() - began));
        recorded::WAL_FSYNC.observe_duration(took);
        if SLOW_FSYNC < took {
            self.warn_of_fsync(took);
        }
        self.locations.note_snapshot(self.unsynced.snapshot);
        self.unsynced = Unsynced::default();
        self.watermarks.synced.store(written, Ordering::Release);
        trace::watermarks().synced.store(written, Ordering::Relaxed);
        self.watermarks.fsyncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn open_fsync_span(&self, written: u64) -> Span {
        let Unsynced { bytes, first, last, term, vote, .. } = self.unsynced;
        let synced = self.watermarks.synced.load(Ordering::Relaxed);
        let mut span = stage!(
            WalFsync,
            0,
            first = first,
            last = last,
            bytes = bytes,
            term = term,
            vote = vote
        );
        set!(span, WalFsync, synced_old = synced, synced_new = written);
        span
    }

    /// Logs a sync that took long, with etcd's text. It has held up every request whose entry it
    /// covers; the traces of those say so.
    fn warn_of_fsync(&self, took: Duration) {
        let Unsynced { first, last, bytes, .. } = self.unsynced;
        tracing::warn!(
            ?took,
            "expected-duration" = ?SLOW_FSYNC,
            "first-index" = first, "last-index" = last, bytes,
            show = "glass trace why-slow",
            "slow fdatasync"
        );
    }

    fn fdatasync(&self) -> Result<(), Error> {
        // After a failed sync it is not known what the disk has.
        let offset = self.offset - self.unsynced.bytes;
        let error = |source| Error::io("syncing", self.tail.path(), offset)(source);
        fail::fail_point!("wal-skip-fsync", |_| Ok(()));
        fail::fail_point!("wal-fsync-error", |_| Err(error(nix::errno::Errno::EIO.into())));
        self.tail.sync_data().map_err(error)
    }

    /// Ends the segment and begins the next one, if there is one to begin (etcd: WAL.cut).
    ///
    /// If the new file fails before it has its name, nothing is lost: the log continues in the
    /// present segment, and tries again. Only a failed sync ends the member.
    fn cut(&mut self) -> Result<(), Error> {
        let (present, fsync) = (Arc::clone(&self.tail), self.options.fsync);
        let present = Present { path: present.path(), offset: self.offset };
        let Some(file) = self.ahead.take(present) else { return Ok(()) };
        let (head, crc) = self.head();
        if let Err(error) = segment::write_head(&file, &head) {
            self.ahead.failed(error, present);
            return Ok(());
        }
        segment::sync(&file, fsync)?;
        self.close_segment()?;
        let name = Name { sequence: self.name.sequence + 1, index: self.last_index + 1 };
        let file = match segment::publish(file, &self.dir.path, name) {
            Ok(file) => Arc::new(file),
            Err(error) => {
                self.ahead.failed(error, present);
                return Ok(());
            }
        };
        if fsync {
            self.dir.sync()?;
            segment::note_newest(&self.dir.path, name);
        }
        self.ahead.succeeded();
        self.locations.add_segment(name, Arc::clone(&file));
        (self.tail, self.name, self.offset, self.crc) = (file, name, head.len() as u64, crc);
        Ok(())
    }

    /// The first records of the next segment, and the checksum behind them.
    fn head(&self) -> (Vec<u8>, u32) {
        let (mut head, mut crc) = (Vec::new(), self.crc);
        record::append(&mut head, &mut crc, Kind::Crc, &[]);
        record::append(&mut head, &mut crc, Kind::Metadata, &[&self.metadata]);
        if !message::is_empty(&self.hard_state) {
            let bytes = message::hard_state_bytes(&self.hard_state);
            record::append(&mut head, &mut crc, Kind::State, &[&bytes]);
        }
        (head, crc)
    }

    /// Cuts the unused rest off the segment, and syncs all of it: only the last segment may be
    /// torn.
    fn close_segment(&mut self) -> Result<(), Error> {
        let path = self.tail.path();
        self.tail.set_len(self.offset).map_err(Error::io("cutting", path, self.offset))?;
        if self.options.fsync && self.unsynced.bytes == 0 {
            // The segment's content is synced; its length is not.
            self.fdatasync()?;
        }
        self.sync()
    }
}

impl Unsynced {
    fn add(&mut self, group: &Group) {
        self.bytes += group.buffer.len() as u64;
        self.snapshot = self.snapshot.max(group.snapshot);
        if group.first != 0 {
            self.first = if self.first == 0 { group.first } else { group.first.min(self.first) };
            self.last = group.last;
        }
    }
}

/// A snapshot that the log is to name.
#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotRecord {
    /// Its index, its term and its configuration.
    pub place: walpb::Snapshot,
    /// Whether it was received, so that it takes the place of all entries of this log.
    pub replaces_log: bool,
}

/// The input of the `wal` thread for one Ready.
#[derive(Clone, Debug, Default)]
pub struct Write {
    /// A snapshot, whose record stands before the entries.
    pub snapshot: Option<SnapshotRecord>,
    /// To be appended; an index seen before cuts the log back.
    pub entries: Vec<Entry>,
    /// Term, vote and commit, if they have changed.
    pub hard_state: Option<HardState>,
    /// Whether *done* must wait for the disk: entries, or a new term or vote.
    pub sync: bool,
    /// The Ready's number, which *done* reports.
    pub ready: u64,
}

/// The sending side of the `wal` thread.
///
/// Its queue has no bound of its own. Each write in it belongs to a Ready for whose *done* raft
/// waits. A leader's are bounded by its uncommitted bytes, a follower's by the window that the
/// leader grants before an acknowledgement. A bound here could make raft wait for this thread while
/// this thread waits for room in raft's inbox.
#[derive(Debug)]
pub struct Writer {
    inbox: Sender<Write>,
    thread: JoinHandle<()>,
    watermarks: Arc<Watermarks>,
}

/// Starts the thread `wal`, which owns the log from now on. `done` is called on it, with the last
/// Ready of each group, in order. An error of the disk ends the process.
pub fn spawn(wal: Wal, done: impl FnMut(u64) + Send + 'static) -> Writer {
    let (inbox, receiver) = channel();
    let watermarks = Arc::clone(&wal.watermarks);
    let thread = thread::Builder::new()
        .name("wal".to_owned())
        .spawn(move || run(wal, &receiver, done))
        .unwrap_or_else(|error| fatal(&error));
    Writer { inbox, thread, watermarks }
}

impl Writer {
    /// Queues a write. Never waits.
    pub fn write(&self, write: Write) {
        self.inbox.send(write).expect("the wal thread lives as long as its inbox");
    }

    /// Writes and syncs all that is queued, closes the log, and ends the thread.
    pub fn stop(self) {
        drop(self.inbox);
        self.thread.join().expect("the wal thread does not panic");
    }

    /// The indexes that are written and synced, and the count of fsyncs.
    pub fn watermarks(&self) -> Arc<Watermarks> {
        Arc::clone(&self.watermarks)
    }
}

fn run(mut wal: Wal, inbox: &Receiver<Write>, mut done: impl FnMut(u64)) {
    while let Ok(first) = inbox.recv() {
        let group = write_group(&mut wal, first, inbox).unwrap_or_else(|error| fatal(&error));
        if let Some(ready) = group.ready {
            done(ready);
        }
    }
    // A commit index may still be unsynced. It could be lost, but need not be.
    wal.sync().unwrap_or_else(|error| fatal(&error));
}

/// The reports of a group, sent when it is done.
#[derive(Default)]
struct Reports {
    sync: bool,
    /// The last Ready of the group.
    ready: Option<u64>,
}

/// Takes all that waits, up to a limit, and makes it durable with one write and one fsync.
fn write_group(wal: &mut Wal, first: Write, inbox: &Receiver<Write>) -> Result<Reports, Error> {
    wal.group.taken = trace::handed_over();
    let (mut reports, mut next) = (Reports::default(), Some(first));
    while let Some(write) = next {
        if let Some(snapshot) = &write.snapshot {
            wal.queue_snapshot(snapshot, write.hard_state.as_ref())?;
        }
        wal.queue(&write.entries, write.hard_state.as_ref())?;
        reports.sync |= write.sync;
        reports.ready = Some(write.ready);
        next = if GROUP_BYTES <= wal.group.buffer.len() { None } else { inbox.try_recv().ok() };
    }
    wal.finish(reports.sync).map(|()| reports)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::with_causes;

    impl Wal {
        /// Writes the record of a snapshot, and syncs. A snapshot that is ahead of the log is one
        /// that was received.
        pub(in crate::storage::wal) fn save_snapshot(&mut self, place: &walpb::Snapshot) {
            let replaces_log = self.last_index < place.index();
            let record = SnapshotRecord { place: place.clone(), replaces_log };
            self.queue_snapshot(&record, None).unwrap();
            self.finish(true).unwrap();
        }

        /// Writes the record of a snapshot that was received, with the hard state that commits it.
        pub(in crate::storage::wal) fn save_received(
            &mut self,
            place: &walpb::Snapshot,
            entries: &[Entry],
            hard_state: &HardState,
        ) {
            let record = SnapshotRecord { place: place.clone(), replaces_log: true };
            self.queue_snapshot(&record, Some(hard_state)).unwrap();
            self.queue(entries, Some(hard_state)).unwrap();
            self.finish(true).unwrap();
        }
    }

    #[test]
    fn a_log_that_can_grow_no_further_says_which_segment_could_not_follow_and_why() {
        let temp = tempfile::tempdir().unwrap();
        let (dir, metadata) = (temp.path().join("wal"), Metadata { node_id: 1, cluster_id: 1 });
        let (mut wal, _) = create(&dir, &metadata, &Options::default()).unwrap();
        let present = wal.tail.path().to_owned();
        let next = dir.join("1.tmp");
        let failed = Error::io("creating", &next, 0)(nix::errno::Errno::EMFILE.into());
        wal.ahead.failed(failed, Present { path: &present, offset: 0 });
        wal.offset = u64::from(u32::MAX) + 1;
        let error = wal.queue_entry(&Entry { index: 1, term: 1, ..Entry::default() }).unwrap_err();
        let text = with_causes(&error);
        let present = present.display().to_string();
        for part in [&present, "4 GiB", "creating failed", "1.tmp", "Too many open files"] {
            assert_eq!(text.matches(part).count(), 1, "{part} in {text}");
        }
    }
}
