//! Reads the log at a start (etcd: WAL.ReadAll, decoder.decode).
//!
//! The segments are read once, from the one with the first entry that is needed to the last,
//! through a window of a megabyte. Only the
//! location of each entry, the newest hard state, and the snapshots' indexes stay in memory;
//! entries are read again when they are needed.
//!
//! Nothing in the files is trusted: memory is allocated for what the file holds and not for what a
//! length says, and an index is checked before a list grows to it.

use std::{path::Path, sync::Arc};

use raft::eraftpb::HardState;

use super::{
    Metadata, Options,
    error::{Error, Reason},
    locations::{List, Location, Locations},
    message,
    record::{self, Frame, HEAD_MAX, Kind, Record, SECTOR, SIZE_LIMIT, WORD},
    repair::{self, Suspect},
    segment::{self, Name},
    writer::{Tail, Wal},
};
use crate::{
    pb::walpb,
    storage::disk::{File, sync_dir},
};

/// The bytes of a segment that are read at a time.
const WINDOW_BYTES: u64 = 1024 * 1024;

/// The content of the log, read at a start.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// The owner of the log.
    pub metadata: Metadata,
    /// The newest hard state; all zero if none was ever written.
    pub hard_state: HardState,
    /// The newest snapshot's place that is not ahead of the commit index. In a log without
    /// snapshots it has index and term 0.
    pub snapshot: walpb::Snapshot,
    /// All snapshots' places in the part that was read, in the order of their records.
    pub snapshots: Vec<walpb::Snapshot>,
    /// The first index in the log; one past the last if there are no entries.
    pub first_index: u64,
    /// The last index; without entries, the snapshot's.
    pub last_index: u64,
    /// The last entry's term; without entries, the snapshot's.
    pub last_term: u64,
}

/// Opens a log that exists, for appending (etcd: wal.Open, ReadAll, Repair).
///
/// A torn tail is cut off. A damaged log is refused with file and offset, and so is a directory in
/// which no further segment can be made.
pub fn open(dir: &Path, options: &Options) -> Result<(Wal, Arc<Locations>, Recovered), Error> {
    open_at(dir, options, 0)
}

/// The same, but reads only the segments from the one on that may have the entry at `index` (etcd:
/// `searchIndex`).
pub fn open_at(
    dir: &Path,
    options: &Options,
    index: u64,
) -> Result<(Wal, Arc<Locations>, Recovered), Error> {
    let locked = segment::lock(dir)?;
    let names = segment::list(dir)?;
    segment::check_newest(dir, *names.last().expect("a list of segments is not empty"))?;
    segment::remove_leftovers(dir)?;
    segment::check_writable(dir)?;
    let begin = names.iter().rposition(|name| name.index <= index).unwrap_or(0);
    let (last, older) = names[begin..].split_last().expect("a list of segments is not empty");
    let mut replay = Replay::new(names[begin]);
    for name in older {
        let path = name.path(dir);
        let file = File::open_read_only(&path).map_err(Error::io("opening", &path, 0))?;
        replay.segment(*name, &file, false)?;
    }
    let path = last.path(dir);
    let file = File::open(&path).map_err(Error::io("opening", &path, 0))?;
    let offset = replay.segment(*last, &file, true)?;
    let (replay, recovered) = replay.finish(&path, offset)?;
    clear_tail(&file, offset, options)?;
    let file = Arc::new(file);
    let Replay { list, hard_state, crc, .. } = replay;
    let locations = Arc::new(Locations::new(dir, list, names.clone(), Arc::clone(&file)));
    locations.note_snapshot(recovered.snapshot.index());
    let tail = Tail { name: *last, file, offset, crc, hard_state };
    let metadata = message::metadata_bytes(&recovered.metadata);
    let wal = Wal::new(locked, options, metadata, tail, Arc::clone(&locations));
    Ok((wal, locations, recovered))
}

/// Makes everything behind the last record zero again, gives the segment its full length, and
/// syncs: what was read may have been in the operating system's memory only.
fn clear_tail(file: &File, offset: u64, options: &Options) -> Result<(), Error> {
    let path = file.path();
    file.set_len(offset).map_err(Error::io("cutting", path, offset))?;
    file.preallocate(options.segment_bytes).map_err(Error::io("preallocating", path, offset))?;
    if options.fsync {
        file.sync_all().map_err(Error::io("syncing", path, offset))?;
        let dir = path.parent().unwrap_or(path);
        sync_dir(dir).map_err(Error::io("syncing", dir, 0))?;
    }
    Ok(())
}

/// The state after the records that were read so far.
struct Replay {
    crc: u32,
    metadata: Option<Metadata>,
    hard_state: HardState,
    snapshots: Vec<walpb::Snapshot>,
    /// The last snapshot, while no hard state behind it has said that it is committed.
    unsettled: Option<walpb::Snapshot>,
    list: List,
    /// The first segment that is read. Older ones may have been purged, or are not needed.
    first: Name,
}

impl Replay {
    fn new(first: Name) -> Replay {
        // The first segment of all is named after index 0, which no entry has.
        let (index, term_before) =
            if first.index <= 1 { (1, Some(0)) } else { (first.index, None) };
        Replay {
            crc: 0,
            metadata: None,
            hard_state: HardState::default(),
            snapshots: Vec::new(),
            unsettled: None,
            list: List::new(index, term_before),
            first,
        }
    }

    /// Reads one segment and returns where its last record ends.
    fn segment(&mut self, name: Name, file: &File, is_last: bool) -> Result<u64, Error> {
        let path = file.path();
        self.check_name(name).map_err(|reason| Error::corrupt(path, 0, reason))?;
        let mut scan = Scan::new(file)?;
        for number in 0.. {
            let offset = scan.offset;
            let found = scan.next(self.crc, is_last)?;
            match found {
                Found::Record(record) => self
                    .record(name, number, &record, offset)
                    .map_err(|reason| Error::corrupt(path, offset, reason))?,
                // A segment gets its name when its first two records are on the disk.
                Found::End | Found::Torn if number < 2 => {
                    return Err(Error::corrupt(path, offset, Reason::Head));
                }
                Found::End => break,
                Found::Torn => {
                    repair::cut_torn_tail(path, file, offset)?;
                    break;
                }
            }
        }
        Ok(scan.offset)
    }

    /// A segment is named after the last index at the time of the cut. etcd after a restart does
    /// not count a snapshot that is ahead of the log.
    fn check_name(&self, name: Name) -> Result<(), Reason> {
        let next = self.list.last() + 1;
        let newest = self.snapshots.iter().map(|snapshot| snapshot.index()).max().unwrap_or(0);
        let is_right = match name.sequence {
            sequence if sequence == self.first.sequence => sequence != 0 || name.index == 0,
            _ => name.index == next || name.index == next.max(newest + 1),
        };
        is_right.then_some(()).ok_or(Reason::Name)
    }

    fn record(
        &mut self,
        name: Name,
        number: u64,
        record: &Record<'_>,
        offset: u64,
    ) -> Result<(), Reason> {
        match (number, record.kind) {
            (0, Kind::Crc) => self.start_chain(name, record.crc)?,
            (1, Kind::Metadata) => (),
            (0 | 1, _) => return Err(Reason::Head),
            (_, Kind::Crc) if record.crc != self.crc => return Err(Reason::Chain),
            _ => (),
        }
        self.crc = record::chain(self.crc, record);
        let data = record.data.unwrap_or_default();
        match record.kind {
            Kind::Crc => Ok(()),
            Kind::Metadata => self.metadata(data),
            Kind::Entry => self.entry(data, name, offset),
            Kind::State => self.state(data),
            Kind::Snapshot => {
                let snapshot = message::snapshot(data).ok_or(Reason::Snapshot)?;
                self.unsettled = Some(snapshot.clone());
                self.snapshots.push(snapshot);
                Ok(())
            }
        }
    }

    /// Checks that the checksum continues from the segment before. Where older segments were
    /// purged, it begins with the first that is left.
    fn start_chain(&self, name: Name, crc: u32) -> Result<(), Reason> {
        let is_purged = name == self.first && name.sequence != 0;
        if is_purged || crc == self.crc { Ok(()) } else { Err(Reason::Chain) }
    }

    fn metadata(&mut self, data: &[u8]) -> Result<(), Reason> {
        let metadata = message::metadata(data).ok_or(Reason::Metadata)?;
        let is_new = *self.metadata.get_or_insert(metadata) != metadata;
        let is_exact = message::metadata_bytes(&metadata) == data;
        if is_new || !is_exact { Err(Reason::Metadata) } else { Ok(()) }
    }

    fn entry(&mut self, data: &[u8], name: Name, offset: u64) -> Result<(), Reason> {
        let entry = message::entry(data).ok_or(Reason::Entry)?;
        let (index, term) = (entry.index, entry.term);
        if self.list.last() + 1 < index {
            // A gap is right only behind a snapshot that was received.
            let before = self.snapshots.iter().rfind(|snapshot| snapshot.index() + 1 == index);
            let before = before.ok_or(Reason::Index)?;
            self.list.reset(before.index(), before.term());
        }
        if self.list.term(index - 1).is_some_and(|before| term < before) {
            return Err(Reason::Term);
        }
        let segment = name.sequence.try_into().map_err(|_| Reason::Name)?;
        let offset = offset.try_into().map_err(|_| Reason::Length)?;
        self.list.push(index, Location { term, segment, offset });
        Ok(())
    }

    fn state(&mut self, data: &[u8]) -> Result<(), Reason> {
        let state = message::hard_state(data).ok_or(Reason::HardState)?;
        if state.term < self.hard_state.term {
            return Err(Reason::Term);
        }
        self.hard_state = state;
        self.settle();
        Ok(())
    }

    /// Lets a received snapshot take the place of the entries before its record, once it is known
    /// to be committed. Entries that stand before it and go on behind its index belong to a leader
    /// that has lost: if they stayed, terms would fall along the log. (etcd keeps them.)
    fn settle(&mut self) {
        let commit = self.hard_state.commit;
        let Some(snapshot) = self.unsettled.take_if(|snapshot| snapshot.index() <= commit) else {
            return;
        };
        let (index, term) = (snapshot.index(), snapshot.term());
        let is_other = self.list.term(index).is_some_and(|found| found != term);
        if self.list.last() < index || is_other {
            self.list.reset(index, term);
        }
    }

    /// Checks that the parts fit together, once all is read.
    fn finish(mut self, path: &Path, offset: u64) -> Result<(Replay, Recovered), Error> {
        let error = |reason| Error::corrupt(path, offset, reason);
        let commit = self.hard_state.commit;
        let valid = self.snapshots.iter().filter(|snapshot| snapshot.index() <= commit);
        let newest = valid.max_by_key(|snapshot| snapshot.index()).cloned();
        let snapshot = newest.ok_or(error(Reason::NoSnapshot))?;
        let (index, term) = (snapshot.index(), snapshot.term());
        if self.list.last() < index {
            self.list.reset(index, term);
        }
        if index + 1 < self.list.first() {
            return Err(error(Reason::Index));
        }
        if index + 1 == self.list.first() {
            self.list.set_term_before(term);
        } else if self.list.term(self.list.first() - 1).is_none() {
            // Raft needs the term of the entry before the first one.
            self.list.compact(self.list.first());
        }
        let last_index = self.list.last();
        if last_index < commit {
            return Err(error(Reason::Commit));
        }
        let recovered = Recovered {
            metadata: self.metadata.ok_or(error(Reason::Head))?,
            hard_state: self.hard_state.clone(),
            snapshot,
            snapshots: self.snapshots.clone(),
            first_index: self.list.first(),
            last_index,
            last_term: self.list.term(last_index).unwrap_or(0),
        };
        Ok((self, recovered))
    }
}

/// The content of a segment at an offset.
pub(super) enum Found<'a> {
    /// A record that is what was written, as far as form and checksum tell.
    Record(Record<'a>),
    /// The end of the records.
    End,
    /// The remains of a record that was never synced.
    Torn,
}

/// Goes through a segment, frame by frame.
pub(super) struct Scan<'a> {
    file: &'a File,
    /// The file's length in bytes.
    len: u64,
    /// Where the next frame begins, in bytes.
    pub(super) offset: u64,
    start: u64,
    window: Vec<u8>,
}

impl<'a> Scan<'a> {
    /// A scan from the start of the file.
    pub(super) fn new(file: &'a File) -> Result<Scan<'a>, Error> {
        let len = file.len().map_err(Error::io("measuring", file.path(), 0))?;
        Ok(Scan { file, len, offset: 0, start: 0, window: Vec::new() })
    }

    /// How much memory it holds, in bytes.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.window.capacity()
    }

    /// Reads the next record; `crc` is the checksum so far. Only a last segment can be torn.
    pub(super) fn next(&mut self, crc: u32, is_last: bool) -> Result<Found<'_>, Error> {
        let (offset, path) = (self.offset, self.file.path());
        if offset == self.len {
            return Ok(Found::End);
        }
        let Ok(word) = self.at(offset, WORD)?.try_into() else {
            let error = Error::corrupt(path, offset, Reason::Short);
            return if is_last { Ok(Found::Torn) } else { Err(error) };
        };
        let frame = Frame::new(word);
        if frame.is_zero() {
            return self.end(crc);
        }
        if frame.size == 0 || SIZE_LIMIT <= frame.size {
            return Err(Error::corrupt(path, offset, Reason::Length));
        }
        let bytes = self.at(offset + WORD, frame.total() - WORD)?;
        if let Err(reason) = check(frame, bytes, crc) {
            let damage = self.suspect(frame, crc, reason)?.damage();
            return match damage {
                None if is_last => Ok(Found::Torn),
                damage => Err(Error::corrupt(path, offset, damage.unwrap_or(reason))),
            };
        }
        self.offset += frame.total();
        let bytes = self.at(offset + WORD, frame.size)?;
        record::parse(bytes).map(Found::Record).map_err(|r| Error::corrupt(path, offset, r))
    }

    /// A frame of length zero ends the segment, unless it is the rest of a damaged one.
    fn end(&mut self, crc: u32) -> Result<Found<'_>, Error> {
        let (offset, path) = (self.offset, self.file.path());
        let sector_end = offset - offset % SECTOR + SECTOR;
        let rest = self.at(offset, sector_end - offset)?;
        if rest.iter().any(|byte| *byte != 0) {
            return Err(Error::corrupt(path, offset, Reason::DataAfterEnd));
        }
        if self.suspect(Frame::of(0), crc, Reason::Length)?.lost_its_word() {
            return Err(Error::corrupt(path, offset, Reason::Length));
        }
        Ok(Found::End)
    }

    fn suspect(&mut self, frame: Frame, crc: u32, reason: Reason) -> Result<Suspect<'_>, Error> {
        let offset = self.offset;
        let claimed = record::claimed_size(self.at(offset + WORD, HEAD_MAX)?).unwrap_or(0);
        let bytes = self.at(offset + WORD, frame.size.max(claimed))?;
        Ok(Suspect { frame, bytes, offset, crc, reason })
    }

    /// Up to `len` bytes at an offset, less where the file ends.
    fn at(&mut self, offset: u64, len: u64) -> Result<&[u8], Error> {
        let len = len.min(self.len.saturating_sub(offset));
        let end = self.start + self.window.len() as u64;
        if offset < self.start || end < offset + len {
            self.window.resize(len.max(WINDOW_BYTES) as usize, 0);
            let read = self.file.read_at(&mut self.window, offset);
            let count = read.map_err(Error::io("reading", self.file.path(), offset))?;
            self.window.truncate(count);
            self.start = offset;
        }
        let at = (offset - self.start) as usize;
        let short = || Error::corrupt(self.file.path(), offset, Reason::Short);
        self.window.get(at..at + len as usize).ok_or_else(short)
    }
}

/// Whether `bytes`, which follow a frame's word, are the record that was written there.
fn check(frame: Frame, bytes: &[u8], crc: u32) -> Result<(), Reason> {
    if (bytes.len() as u64) < frame.total() - WORD {
        return Err(Reason::Short);
    }
    if !frame.is_canonical() {
        return Err(Reason::Length);
    }
    let (content, padding) = bytes.split_at(frame.size as usize);
    let record = record::parse(content)?;
    if record::chain(crc, &record) != record.crc {
        return Err(Reason::Checksum);
    }
    if padding.iter().any(|byte| *byte != 0) {
        return Err(Reason::Padding);
    }
    Ok(())
}
