//! Which blocks of a file are allocated on the disk.
//!
//! A file may be longer than what is stored of it: a block that was never written is a hole, which
//! reads as zeros and takes no room. redb doubles its file long before it needs the second half, so
//! the length says little; the blocks say how much the disk has given.
//!
//! ```text
//!   length   ├────────────────────────────────────────────────────────┤
//!   blocks   ██ ████████████████ ██████ ░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░
//!            written once, and kept until the file is cut    holes
//! ```
//!
//! The map is read from the file system when the file is opened, and kept while it is written.
//! A file system that has no holes, or does not tell, has a block everywhere, and the map says so.
//! One whose own blocks are larger than [`BLOCK`] gives more than the map counts, until the file is
//! opened again.

use std::{io, ops::Range};

use nix::{
    errno::Errno,
    unistd::{Whence, lseek},
};

/// The bytes of a block: redb's page, and the block of nearly every file system.
pub(super) const BLOCK: u64 = 4096;
const WORD: u64 = u64::BITS as u64;

/// A set of blocks, by their number in the file.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    words: Vec<u64>,
    count: u64,
}

impl Blocks {
    /// The blocks that the file has now.
    pub(super) fn of(file: &std::fs::File) -> io::Result<Blocks> {
        let len = file.metadata()?.len();
        let mut blocks = Blocks::default();
        let mut at = 0;
        while at < len {
            let Some(data) = next(file, at, len) else { break };
            blocks.add(data.start, data.end - data.start);
            at = data.end;
        }
        Ok(blocks)
    }

    /// The bytes of all blocks in the set.
    pub(super) fn bytes(&self) -> u64 {
        self.count * BLOCK
    }

    /// Whether the set has the block with this number.
    pub(super) fn has(&self, block: u64) -> bool {
        let word = self.words.get(to_usize(block / WORD)).copied().unwrap_or(0);
        word >> (block % WORD) & 1 == 1
    }

    /// Adds all blocks that a write of `len` bytes at `offset` touches.
    pub(super) fn add(&mut self, offset: u64, len: u64) {
        let end = (offset + len).div_ceil(BLOCK);
        let words = to_usize(end.div_ceil(WORD));
        if self.words.len() < words {
            self.words.resize(words, 0);
        }
        for (at, mask) in masks(offset / BLOCK..end) {
            let word = &mut self.words[at];
            self.count += u64::from((mask & !*word).count_ones());
            *word |= mask;
        }
    }

    /// Forgets the blocks behind `len` bytes, because the file ends there.
    pub(super) fn cut(&mut self, len: u64) {
        let end = len.div_ceil(BLOCK);
        self.words.truncate(to_usize(end.div_ceil(WORD)));
        if let (Some(last), rest @ 1..) = (self.words.last_mut(), end % WORD) {
            *last &= u64::MAX >> (WORD - rest);
        }
        self.count = self.words.iter().map(|word| u64::from(word.count_ones())).sum();
    }

    /// How many of the blocks with these numbers there are, in bytes.
    pub(super) fn bytes_in(&self, range: Range<u64>) -> u64 {
        let end = range.end.min(self.words.len() as u64 * WORD);
        let count = |(at, mask): (usize, u64)| u64::from((self.words[at] & mask).count_ones());
        masks(range.start..end).map(count).sum::<u64>() * BLOCK
    }
}

/// The words that a range of bits touches, with a mask of the bits in each.
fn masks(bits: Range<u64>) -> impl Iterator<Item = (usize, u64)> {
    let mut from = bits.start;
    std::iter::from_fn(move || {
        let left = bits.end.checked_sub(from).filter(|left| 0 < *left)?;
        let (word, first) = (from / WORD, from % WORD);
        let count = left.min(WORD - first);
        from += count;
        Some((to_usize(word), u64::MAX >> (WORD - count) << first))
    })
}

/// The next stretch of the file at or behind `at` that is no hole.
fn next(file: &std::fs::File, at: u64, len: u64) -> Option<Range<u64>> {
    let seek = |from: u64, whence| {
        let offset = lseek(file, from.try_into().map_err(|_| Errno::EOVERFLOW)?, whence)?;
        Ok(u64::try_from(offset).unwrap_or(len).clamp(at, len))
    };
    let start = match seek(at, Whence::SeekData) {
        Ok(start) => start,
        // The rest is one hole.
        Err(Errno::ENXIO) => return None,
        // The file system does not tell.
        Err(_) => return Some(at..len),
    };
    let end = seek(start, Whence::SeekHole).unwrap_or(len);
    Some(start..if end <= start { len } else { end })
}

fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, os::unix::fs::FileExt};

    use super::*;
    use crate::random::Random;

    #[test]
    fn it_counts_as_a_plain_set_does() {
        let (mut blocks, mut set) = (Blocks::default(), BTreeSet::new());
        let mut random = Random::new(1);
        for step in 0..2000 {
            let (offset, len) = (random.below(2_000_000), random.below(300_000));
            if step % 10 == 9 {
                let end = random.below(300) * BLOCK;
                blocks.cut(end);
                set.retain(|block| *block < end / BLOCK);
            } else if 0 < len {
                blocks.add(offset, len);
                set.extend(offset / BLOCK..(offset + len).div_ceil(BLOCK));
            }
            assert_eq!(blocks.bytes(), set.len() as u64 * BLOCK, "step {step}");
            let (from, to) = (random.below(700), random.below(700));
            let inside = set.iter().filter(|block| (from..to).contains(*block)).count();
            assert_eq!(blocks.bytes_in(from..to), inside as u64 * BLOCK, "step {step}");
            assert_eq!(blocks.has(from), set.contains(&from), "step {step}");
        }
    }

    /// The temporary directory's file system must have holes, as all do on which this is built.
    #[test]
    fn a_file_that_is_opened_says_where_its_holes_are() {
        let mut file = tempfile::tempfile().unwrap();
        let mut kept = Blocks::default();
        let mut random = Random::new(2);
        file.set_len(3000 * BLOCK).unwrap();
        for _ in 0..40 {
            let offset = random.below(2900) * BLOCK;
            let bytes = vec![7; to_usize(random.below(40_000)) + 1];
            file.write_all_at(&bytes, offset).unwrap();
            kept.add(offset, bytes.len() as u64);
        }
        file.sync_all().unwrap();
        let found = Blocks::of(&file).unwrap();
        assert_eq!(found.words[..], kept.words[..found.words.len()]);
        assert_eq!(found.bytes(), kept.bytes());
        file.set_len(0).unwrap();
        assert_eq!(Blocks::of(&file).unwrap().bytes(), 0);
        io::Write::write_all(&mut file, b"x").unwrap();
        assert_eq!(Blocks::of(&file).unwrap().bytes(), BLOCK);
    }
}
