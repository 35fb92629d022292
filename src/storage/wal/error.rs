//! Why the log cannot be used.

use std::{
    io,
    path::{Path, PathBuf},
};

/// The faults of a log. Each ends the member, or keeps it from starting.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("{operation} failed: {}, offset {offset}", path.display())]
    Io {
        /// The operation that failed.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The offset in the file, in bytes; 0 if the operation concerns all of it.
        offset: u64,
        /// The operating system's error.
        source: io::Error,
    },
    /// The file's content differs from what was once written.
    #[error("the log is damaged: {}, offset {offset}: {reason}", path.display())]
    Corrupt {
        /// The damaged segment.
        path: PathBuf,
        /// The offset of the damaged frame, in bytes.
        offset: u64,
        /// What is wrong with the frame.
        reason: Reason,
    },
    /// The newest segments are gone, and with them entries that the member has acknowledged.
    #[error(
        "segment {sequence:016x} of the log is gone, and what it had was acknowledged: {}. Put it \
         back, or remove this member from the cluster, delete its data directory, and add it again",
        dir.display()
    )]
    TailGone {
        /// The directory of the log.
        dir: PathBuf,
        /// The number of the newest segment.
        sequence: u64,
    },
    /// There are no segments.
    #[error("no log: {}", .0.display())]
    Missing(PathBuf),
    /// The oldest segments are gone, so the log cannot be copied from its beginning.
    #[error("the log no longer begins with its first segment: {}", .0.display())]
    Purged(PathBuf),
    /// The log ends before the entries that its disk is said to have had.
    #[error("the log ends with entry {last}, and its disk had entry {synced}: {}", path.display())]
    Behind {
        /// The directory of the log.
        path: PathBuf,
        /// The highest index that was synced.
        synced: u64,
        /// The last index that was found.
        last: u64,
    },
    /// There is a log already.
    #[error("there is a log already: {}", .0.display())]
    Exists(PathBuf),
    /// Another process, or another part of this one, has the log open.
    #[error("the log is in use: {}", .0.display())]
    InUse(PathBuf),
    /// An entry that a reader would refuse.
    #[error("entry {index} has {bytes} bytes: a record must stay below 1 GiB")]
    TooLarge {
        /// The index of the entry.
        index: u64,
        /// The record's length in bytes.
        bytes: u64,
    },
    /// The log may be cut back, but never has a gap.
    #[error("entry {index} does not follow on entry {last}")]
    Gap {
        /// The index of the entry that was to be written.
        index: u64,
        /// The last index in the log.
        last: u64,
    },
    /// Entries that are not in the log, or not any more.
    #[error("entries {low}..{high} are not in the log, which has {first}..={last}")]
    OutOfRange {
        /// The first index asked for.
        low: u64,
        /// One past the last index asked for.
        high: u64,
        /// The first index in the log.
        first: u64,
        /// The last index in the log.
        last: u64,
    },
    /// The segment has no room that an offset of 32 bits could name.
    #[error("a segment must stay below 4 GiB: {}, offset {offset}", path.display())]
    SegmentFull {
        /// The segment that is full.
        path: PathBuf,
        /// Where the record would begin, in bytes.
        offset: u64,
        /// Why no new segment was begun before.
        #[source]
        cause: Option<Box<Error>>,
    },
}

/// The fault in the bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say it")]
pub enum Reason {
    #[error("the frame's length is not possible")]
    Length,
    #[error("the frame is longer than the file")]
    Short,
    #[error("a frame of length 0 is followed by data")]
    DataAfterEnd,
    #[error("the frame's length does not fit the record in it")]
    LengthOfRecord,
    #[error("the padding is not zero")]
    Padding,
    #[error("not a record")]
    Record,
    #[error("the checksum does not match")]
    Checksum,
    #[error("the checksum of the segments before does not match")]
    Chain,
    #[error("a segment must begin with a checksum and the metadata")]
    Head,
    #[error("not an entry")]
    Entry,
    #[error("not a hard state")]
    HardState,
    #[error("not a snapshot's place")]
    Snapshot,
    #[error("the metadata differs from that of the other segments")]
    Metadata,
    #[error("the entry's index does not follow on")]
    Index,
    #[error("the term is lower than the one before")]
    Term,
    #[error("more is committed than the log has")]
    Commit,
    #[error("no snapshot's place to start from")]
    NoSnapshot,
    #[error("the segment's name does not follow on the one before")]
    Name,
    #[error("another entry than the one that was written here")]
    OtherEntry,
}

impl Error {
    /// Wraps an error of the operating system.
    pub(super) fn io(
        operation: &'static str,
        path: &Path,
        offset: u64,
    ) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { operation, path: path.to_owned(), offset, source }
    }

    /// The error for a damaged frame.
    pub(super) fn corrupt(path: &Path, offset: u64, reason: Reason) -> Error {
        Error::Corrupt { path: path.to_owned(), offset, reason }
    }
}
