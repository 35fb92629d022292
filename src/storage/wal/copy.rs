//! Copies the part of a log that was on the disk at some moment of the past.
//!
//! A log is only appended to, so what a disk had at a moment is a part of the file's beginning.
//! Where it ends follows from what was known at that moment: the highest synced index, the term,
//! the vote; and, if it is known, where the first write after the last sync began. The copy ends
//! with the last record that all of these admit. So it has nothing that was not synced, as a disk
//! that loses every unsynced byte when the power fails.
//!
//! The member may go on writing meanwhile: nothing behind the end is needed, so a record that is
//! being written there is no fault.
//!
//! The copy belongs to another cluster, and its entries may be changed on the way: members that
//! run on copies must not take part in the cluster from which they come.

use std::path::Path;

use raft::eraftpb::{Entry, HardState};

use super::{
    Metadata, Options, Wal, create,
    error::{Error, Reason},
    message,
    reader::{Found, Scan},
    record::{self, Kind, Record},
    segment,
};
use crate::storage::disk::File;

/// The bytes of entries that are handed to the copy at a time.
const BATCH_BYTES: usize = 1 << 20;
/// The copy's segments are small: most copies are.
const SEGMENT_BYTES: u64 = 1 << 20;

/// What a disk had at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Until {
    /// The highest synced index.
    pub synced: u64,
    /// The synced term.
    pub term: u64,
    /// The synced vote in that term, 0 for none; `None` if it does not matter.
    pub vote: Option<u64>,
    /// The segment's number, and the offset in it, at which the first write begins that was not
    /// synced, if that is known.
    pub next: Option<(u64, u64)>,
}

/// What the copy has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Copied {
    /// The last index; 0 for a log without entries.
    pub last_index: u64,
    /// Its term.
    pub last_term: u64,
    /// The newest hard state.
    pub hard_state: HardState,
    /// The first index of each term, in order: the term of every entry.
    pub terms: Vec<(u64, u64)>,
}

impl Copied {
    /// The term of the entry with this index; `None` if there is none.
    pub fn term(&self, index: u64) -> Option<u64> {
        let of_term = self.terms.iter().rfind(|(first, _)| *first <= index)?;
        (index <= self.last_index).then_some(of_term.1)
    }
}

/// Copies a log into a directory that has none. `owner` gives the copy's owner, and `edit` may
/// change each entry's data.
///
/// # Errors
/// The log is damaged before the end of the copy, no longer begins with its first segment, or does
/// not reach up to the synced index.
pub fn copy(
    (from, to): (&Path, &Path),
    until: &Until,
    owner: impl Fn(Metadata) -> Metadata,
    edit: impl Fn(&mut Entry),
) -> Result<Copied, Error> {
    let names = segment::list(from)?;
    if names[0].sequence != 0 {
        return Err(Error::Purged(from.to_owned()));
    }
    let mut copy =
        Copy { to, until: *until, log: None, batch: Batch::default(), end: Copied::default() };
    let mut crc = 0;
    'segments: for name in names {
        let path = name.path(from);
        let file = File::open_read_only(&path).map_err(Error::io("opening", &path, 0))?;
        let mut scan = Scan::new(&file)?;
        loop {
            let offset = scan.offset;
            if until.next.is_some_and(|next| next <= (name.sequence, offset)) {
                break 'segments;
            }
            let record = match scan.next(crc, true) {
                Ok(Found::Record(record)) => record,
                Ok(Found::End | Found::Torn) => break,
                // Behind the end a record may be half written.
                Err(_) if copy.is_complete() => break 'segments,
                Err(error) => return Err(error),
            };
            crc = record::chain(crc, &record);
            let fault = |reason| Error::corrupt(&path, offset, reason);
            if !copy.take(&record, &owner, &edit)?.ok_or(Reason::Record).map_err(fault)? {
                break 'segments;
            }
        }
    }
    copy.finish(from)
}

/// The owner of a log, without opening it for writing.
///
/// # Errors
/// There is no log, or its first segment is damaged at its head.
pub fn owner(dir: &Path) -> Result<Metadata, Error> {
    let path = segment::list(dir)?[0].path(dir);
    let file = File::open_read_only(&path).map_err(Error::io("opening", &path, 0))?;
    let (mut scan, mut crc) = (Scan::new(&file)?, 0);
    for _ in 0..2 {
        let Found::Record(record) = scan.next(crc, false)? else { break };
        crc = record::chain(crc, &record);
        if let (Kind::Metadata, Some(data)) = (record.kind, record.data)
            && let Some(metadata) = message::metadata(data)
        {
            return Ok(metadata);
        }
    }
    Err(Error::corrupt(&path, 0, Reason::Head))
}

/// The copy so far.
struct Copy<'a> {
    to: &'a Path,
    until: Until,
    /// The log that is written; none before the original's owner was read.
    log: Option<Wal>,
    batch: Batch,
    end: Copied,
}

/// Records that are not written yet.
#[derive(Default)]
struct Batch {
    entries: Vec<Entry>,
    bytes: usize,
    /// A hard state that says more than the one before. It counts only once something synced
    /// follows it, because a commit index is not synced by itself.
    commit: Option<HardState>,
}

impl Copy<'_> {
    fn is_complete(&self) -> bool {
        self.until.synced <= self.end.last_index
    }

    /// Takes over a record. `false`: it is the first that the moment did not have. `None`: it makes
    /// no sense.
    fn take(
        &mut self,
        record: &Record<'_>,
        owner: impl Fn(Metadata) -> Metadata,
        edit: impl Fn(&mut Entry),
    ) -> Result<Option<bool>, Error> {
        let data = record.data.unwrap_or_default();
        Ok(match record.kind {
            Kind::Crc | Kind::Snapshot => Some(true),
            Kind::Metadata => {
                let Some(metadata) = message::metadata(data) else { return Ok(None) };
                if self.log.is_none() {
                    let options = Options { fsync: false, segment_bytes: SEGMENT_BYTES };
                    self.log = Some(create(self.to, &owner(metadata), &options)?.0);
                }
                Some(true)
            }
            Kind::Entry => match message::entry(data) {
                Some(entry) => Some(self.entry(entry, edit)?),
                None => None,
            },
            Kind::State => match message::hard_state(data) {
                Some(state) => Some(self.state(state)?),
                None => None,
            },
        })
    }

    fn entry(&mut self, mut entry: Entry, edit: impl Fn(&mut Entry)) -> Result<bool, Error> {
        if self.until.synced < entry.index || self.until.term < entry.term {
            return Ok(false);
        }
        if self.batch.commit.is_some() {
            self.write()?;
        }
        (self.end.last_index, self.end.last_term) = (entry.index, entry.term);
        let terms = &mut self.end.terms;
        terms.retain(|(first, _)| *first < entry.index);
        if terms.last().is_none_or(|(_, term)| *term != entry.term) {
            terms.push((entry.index, entry.term));
        }
        edit(&mut entry);
        self.batch.bytes += entry.data.len();
        self.batch.entries.push(entry);
        if BATCH_BYTES <= self.batch.bytes {
            self.write()?;
        }
        Ok(true)
    }

    fn state(&mut self, state: HardState) -> Result<bool, Error> {
        let Until { term, vote, .. } = self.until;
        let is_of_moment = state.term < term
            || (state.term == term && vote.is_none_or(|vote| [0, vote].contains(&state.vote)));
        if !is_of_moment {
            return Ok(false);
        }
        let before = self.batch.commit.as_ref().unwrap_or(&self.end.hard_state);
        let is_synced = (state.term, state.vote) != (before.term, before.vote);
        self.batch.commit = Some(state);
        if is_synced {
            self.write()?;
        }
        Ok(true)
    }

    fn write(&mut self) -> Result<(), Error> {
        let Batch { entries, commit, .. } = std::mem::take(&mut self.batch);
        if let Some(log) = &mut self.log {
            log.save(&entries, commit.as_ref(), false)?;
        }
        if let Some(state) = commit {
            self.end.hard_state = state;
        }
        Ok(())
    }

    fn finish(mut self, from: &Path) -> Result<Copied, Error> {
        if !self.is_complete() {
            let (synced, last) = (self.until.synced, self.end.last_index);
            return Err(Error::Behind { path: from.to_owned(), synced, last });
        }
        self.batch.commit = None;
        self.write()?;
        Ok(self.end)
    }
}
