//! Which pages of the file redb does not use, read from redb's own records of them.
//!
//! redb reports this only together with a walk through every page (`stats`). But each of our
//! commits stores it in the file (quick repair), so that a crash costs no walk either:
//!
//! ```text
//!   header ─▶ system tables ─┬▶ "allocator_state" ─▶ region 0: a buddy allocator
//!                            │                          order 0: a bit a page      1 = not free
//!                            │                          order 1: a bit two pages   1 = not free
//!                            │                          …
//!                            └▶ "…_pages_unreachable" ─▶ pages that become free when nobody reads
//!                                                        an older state any more
//! ```
//!
//! That is a few kilobytes for a file of some gigabytes, read from the page cache after a commit.
//! The format is redb's third, which its repository describes, and redb is pinned to one version; a
//! test compares with what `stats` counts. The quota is compared with the result, so a wrong number
//! would refuse writes or let the file outgrow its quota: a page that does not look as described is
//! answered with `None`, and then the whole file counts as used.
//!
//! Numbers are little-endian. A page number has its index in the lowest 20 bits, its region in the
//! next 20, and in the highest 5 the order: it is 2^order blocks long.

use std::ops::Range;

use crate::storage::{blocks::BLOCK, redb_file::RedbFile};

/// The longest page that is read, 2^10 blocks; the allocator state of a region of 4 GiB is shorter.
const ORDER_MAX: u64 = 10;
/// The greatest depth of a tree, against damaged files whose pages refer to each other.
const DEPTH_MAX: usize = 10;
const HEADER_LEN: usize = 320;
const ALLOCATORS: &[u8] = b"allocator_state";
/// The first byte of a region's key among the allocators, and the length of such keys.
const REGION: u8 = 3;
const REGION_KEY_LEN: usize = 5;
const UNREACHABLE: [&[u8]; 2] = [b"data_pages_unreachable", b"system_pages_unreachable"];
/// Keys of the lists of unreachable pages: a transaction, and a number.
const LIST_KEY_LEN: usize = 16;

/// The file as its header describes it.
struct Layout<'a> {
    file: &'a RedbFile,
    /// Blocks of a whole region, and how many of them come before its first page.
    region: u64,
    region_header: u64,
}

/// Why a page is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unused {
    /// It can be taken at once.
    Free,
    /// Only older states of the file use it.
    Unreachable,
}

/// How many bytes the disk holds for pages that the last commit did not use.
pub(super) fn free_bytes(file: &RedbFile) -> Option<u64> {
    let blocks = file.blocks();
    let mut bytes = 0;
    free_pages(file, |_, page| bytes += blocks.bytes_in(page))?;
    Some(bytes)
}

/// Shows `see` the blocks of each page that the last commit did not use; neighbours may come as one
/// page of a higher order.
pub(super) fn free_pages(file: &RedbFile, mut see: impl FnMut(Unused, Range<u64>)) -> Option<()> {
    let mut header = [0; HEADER_LEN];
    file.read_at(&mut header, 0).ok().filter(|whole| *whole)?;
    let region_header = u64::from(u32_at(&header, 16)?);
    let region = region_header + u64::from(u32_at(&header, 20)?);
    let layout = Layout { file, region, region_header };
    // The god byte's lowest bit says which of the two commit slots counts.
    let slot = header.get(64 + 128 * usize::from(header[9] & 1)..)?;
    let system_root = (*slot.get(2)? != 0).then(|| u64_at(slot, 40))??;
    let (mut allocators, mut lists) = (None, Vec::new());
    layout.leaves(system_root, None, DEPTH_MAX, &mut |name, definition| {
        // A definition is a type, a length, whether there is a root, and the root.
        if *definition.get(9)? != 0 && name == ALLOCATORS {
            allocators = u64_at(definition, 10);
        } else if *definition.get(9)? != 0 && UNREACHABLE.contains(&name) {
            lists.push(u64_at(definition, 10)?);
        }
        Some(())
    })?;
    layout.leaves(allocators?, Some(REGION_KEY_LEN), DEPTH_MAX, &mut |key, value| {
        if *key.first()? == REGION {
            let first = 1 + u64::from(u32_at(key, 1)?) * layout.region + layout.region_header;
            free_of_region(value, first, &mut |page| see(Unused::Free, page))?;
        }
        Some(())
    })?;
    lists.into_iter().try_for_each(|list| {
        layout.leaves(list, Some(LIST_KEY_LEN), DEPTH_MAX, &mut |_, pages| {
            let count = usize::from(u16::from_le_bytes(pages.get(..2)?.try_into().ok()?));
            (0..count).try_for_each(|at| {
                see(Unused::Unreachable, layout.blocks(u64_at(pages, 2 + 8 * at)?));
                Some(())
            })
        })
    })
}

impl Layout<'_> {
    /// The blocks of a page.
    fn blocks(&self, number: u64) -> Range<u64> {
        let order = number >> 59;
        let (index, region) = (number & (0xf_ffff >> order), number >> 20 & 0xf_ffff);
        let first = 1 + region * self.region + self.region_header + (index << order);
        first..first + (1 << order)
    }

    fn page(&self, number: u64) -> Option<Vec<u8>> {
        if ORDER_MAX < number >> 59 {
            return None;
        }
        let blocks = self.blocks(number);
        let len = (blocks.end - blocks.start) * BLOCK;
        let mut page = vec![0; usize::try_from(len).ok()?];
        self.file.read_at(&mut page, blocks.start * BLOCK).ok().filter(|whole| *whole)?;
        Some(page)
    }

    /// Shows `see` every key and value below a page. Keys have a fixed length or their ends in a
    /// list; values have theirs in a list.
    fn leaves(
        &self,
        number: u64,
        key_len: Option<usize>,
        depth: usize,
        see: &mut impl FnMut(&[u8], &[u8]) -> Option<()>,
    ) -> Option<()> {
        let page = self.page(number)?;
        let count = usize::from(u16::from_le_bytes(page.get(2..4)?.try_into().ok()?));
        match page[0] {
            1 => leaf(&page, count, key_len, see),
            2 => {
                // Behind the head of 8 bytes come the checksums of the children, then their
                // numbers.
                let numbers = 8 + 16 * (count + 1);
                (0..=count).try_for_each(|child| {
                    let number = u64_at(&page, numbers + 8 * child)?;
                    self.leaves(number, key_len, depth.checked_sub(1)?, see)
                })
            }
            _ => None,
        }
    }
}

fn leaf(
    page: &[u8],
    count: usize,
    key_len: Option<usize>,
    see: &mut impl FnMut(&[u8], &[u8]) -> Option<()>,
) -> Option<()> {
    let key_ends = 4;
    let value_ends = if key_len.is_some() { key_ends } else { key_ends + 4 * count };
    let keys = value_ends + 4 * count;
    let key_end = |at: usize| match key_len {
        Some(len) => Some(keys + len * (at + 1)),
        None => Some(u32_at(page, key_ends + 4 * at)? as usize),
    };
    let (mut key, mut value) = (keys, key_end(count.checked_sub(1)?)?);
    for at in 0..count {
        let ends = (key_end(at)?, u32_at(page, value_ends + 4 * at)? as usize);
        see(page.get(key..ends.0)?, page.get(value..ends.1)?)?;
        (key, value) = ends;
    }
    Some(())
}

/// Shows the free pages of a region's allocator. Its highest order is in the first byte, and from
/// byte 8 on come the ends of one bitmap an order, then the bitmaps.
fn free_of_region(allocator: &[u8], first: u64, see: &mut impl FnMut(Range<u64>)) -> Option<()> {
    let orders = usize::from(*allocator.first()?) + 1;
    let mut start = 8 + 4 * orders;
    for order in 0..orders {
        let end = u32_at(allocator, 8 + 4 * order)? as usize;
        free_of_order(allocator.get(start..end)?, |index| {
            let block = first + (index << order);
            see(block..block + (1 << order));
        })?;
        start = end;
    }
    Some(())
}

/// A bitmap is a tree of bits, of which the last layer counts: a number of bits, then words. Before
/// the layers stand how many there are and where each ends.
fn free_of_order(bitmap: &[u8], mut see: impl FnMut(u64)) -> Option<()> {
    let layers = u32_at(bitmap, 0)? as usize;
    let end = |layer: usize| Some(u32_at(bitmap, 4 + 4 * layer)? as usize);
    let start = match layers.checked_sub(2) {
        Some(above) => end(above)?,
        None => 4 + 4 * layers,
    };
    let last = bitmap.get(start..end(layers.checked_sub(1)?)?)?;
    let len = u64::from(u32_at(last, 0)?);
    for (word, bytes) in last.get(4..)?.chunks_exact(8).enumerate() {
        let mut unset = !u64_at(bytes, 0)?;
        while unset != 0 {
            let index = word as u64 * 64 + u64::from(unset.trailing_zeros());
            unset &= unset - 1;
            if index < len {
                see(index);
            }
        }
    }
    Some(())
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}
