//! The only repair: a torn tail, left by a crash, is cut off.
//!
//! ```text
//!   ├─ sector ─┼─ sector ─┼─ sector ─┤
//!   │ …record][ frame, rec│0000000000│ord][ … │      the middle sector never reached the disk
//!              ▲ cut here
//! ```
//!
//! A disk writes a sector of 512 bytes whole or not at all, in any order. So a record was torn if
//! the file ends inside it, or if it cannot be read **and** one of its sectors still has the zeros
//! from before; and this only in the last segment, because a cut syncs the one before. Such a
//! record counts as never synced, so that nothing in it was acknowledged. That is a guess, as in
//! etcd: a disk that lost a whole sector of a synced record leaves the same bytes. Anything else
//! that cannot be read was damaged after its sync, and is refused.
//!
//! A damaged *length* makes a sound record look torn: a frame that is too long reaches into the
//! zeros behind the log. Therefore a record that is complete by its own length and checksum counts
//! as damaged, even if its frame looks sound.
//!
//! One case remains, as in etcd: a record with a whole sector of zeros in its content looks torn if
//! a bit of it flips.

use std::{fs, path::Path};

use super::{
    error::{Error, Reason},
    record::{self, Frame, SECTOR, WORD},
};
use crate::storage::disk::{File, sync_dir};

/// A frame that could not be read, with what is needed to tell whether it was torn.
pub(super) struct Suspect<'a> {
    /// The frame's first word.
    pub(super) frame: Frame,
    /// The bytes behind the word, as many as the frame or the record itself gives, up to the end of
    /// the file.
    pub(super) bytes: &'a [u8],
    /// The offset of the frame, in bytes.
    pub(super) offset: u64,
    /// The checksum up to the frame.
    pub(super) crc: u32,
    /// Why it could not be read.
    pub(super) reason: Reason,
}

impl Suspect<'_> {
    /// `None` if the frame was torn, otherwise what is wrong with it.
    pub(super) fn damage(&self) -> Option<Reason> {
        if self.whole_size().is_some_and(|size| self.frame != Frame::of(size)) {
            return Some(Reason::LengthOfRecord);
        }
        let size = usize::try_from(self.frame.size).unwrap_or(usize::MAX);
        let content = &self.bytes[..size.min(self.bytes.len())];
        let is_torn = match self.reason {
            Reason::Short => true,
            // The record itself is complete, so all of its sectors were written.
            Reason::Padding => false,
            _ => record::is_torn(content, self.offset + WORD),
        };
        (!is_torn).then_some(self.reason)
    }

    /// For a word that is zero at the very end of its sector: whether a single bit was lost in it.
    pub(super) fn lost_its_word(&self) -> bool {
        let is_last_of_sector = (self.offset + WORD).is_multiple_of(SECTOR);
        is_last_of_sector
            && self.whole_size().is_some_and(|size| Frame::word(size).count_ones() == 1)
    }

    /// The length that the record's own fields give, if its checksum confirms it.
    fn whole_size(&self) -> Option<u64> {
        let (record, size) = record::parse_prefix(self.bytes)?;
        (record::chain(self.crc, &record) == record.crc).then_some(size as u64)
    }
}

/// Cuts a torn tail off at `offset`; the file as it was is kept beside it as `.broken`.
pub(super) fn cut_torn_tail(path: &Path, file: &File, offset: u64) -> Result<(), Error> {
    let mut broken = path.as_os_str().to_owned();
    broken.push(".broken");
    fs::copy(path, Path::new(&broken)).map_err(Error::io("copying", path, 0))?;
    tracing::warn!(path = %path.display(), offset, "cut a torn tail off the log");
    file.set_len(offset).map_err(Error::io("cutting", path, offset))?;
    file.sync_all().map_err(Error::io("syncing", path, offset))?;
    match path.parent() {
        Some(dir) => sync_dir(dir).map_err(Error::io("syncing", dir, 0)),
        None => Ok(()),
    }
}
