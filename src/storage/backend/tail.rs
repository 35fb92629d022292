//! Rows of the key bucket in two parts, where one would waste a good part of a page.
//!
//! redb puts as many rows into a page of 4 KiB as fit in whole. A row that is a little larger than
//! a page takes two, and of two rows that are a little larger than half a page each takes one:
//! values of 2 or of 4 KiB, which are common, would fill half of the file with nothing. (bbolt puts
//! two such rows into three pages.) So the end of such a row, with its checksum, goes into a table
//! of its own, under the same key, where the ends of many rows share a page:
//!
//! ```text
//!   "key"        revision 7 ─▶ ├──── the first 4067 bytes ────┤     fills a page
//!   "key_tail"   revision 7 ─▶ ├ 54 bytes ┤                         one of fifty in a page
//! ```
//!
//! Only this file, `file` and `commit` know of the parts.
//!
//! Invariants
//! * Both parts are written, and deleted, in one transaction.
//! * A first part has a length at which it, and as many like it as fit, fill pages exactly
//!   ([`fills`]). Only a row of such a length can have a second part, so other rows cost no look
//!   for one; and a whole row of such a length has none. Rows from before this table existed are
//!   read as they are.

use bytes::Bytes;
use redb::{ReadableTable, StorageError, Table, TableDefinition, TableError, WriteTransaction};

use super::{Bucket, checksum};

/// The table of second parts. It belongs to the key bucket and is no bucket itself.
pub(super) const TAILS: TableDefinition<'static, &'static [u8], &'static [u8]> =
    TableDefinition::new("key_tail");

/// The bytes of a page of redb.
const PAGE: usize = 4096;
/// A page without its head of four bytes.
const ROOM: usize = PAGE - 4;
/// The bytes of a row beside key and value: the two offsets where they end.
const OFFSETS: usize = 8;
/// Rows of which more than this fit into a page are left whole, because little could be saved.
const SHARES_MAX: usize = 5;
/// To be worth a second row, a cut must save this much of a row that is longer than a page, in
/// bytes, and this part of what another takes, in percent.
const SAVED_MIN: usize = PAGE / 2;
const SAVED_PERCENT_MIN: usize = 15;

/// A bucket's table in a write transaction. Values are stored with their checksums.
pub(super) struct Rows<'txn> {
    bucket: Bucket,
    rows: Table<'txn, &'static [u8], &'static [u8]>,
    /// Only the key bucket has one.
    tails: Option<Table<'txn, &'static [u8], &'static [u8]>>,
    /// The row that is being written, so that each needs no memory of its own.
    sealed: Vec<u8>,
}

impl<'txn> Rows<'txn> {
    pub(super) fn open(
        transaction: &'txn WriteTransaction,
        bucket: Bucket,
    ) -> Result<Rows<'txn>, TableError> {
        let tails = match bucket {
            Bucket::Key => Some(transaction.open_table(TAILS)?),
            _ => None,
        };
        let rows = transaction.open_table(bucket.table())?;
        Ok(Rows { bucket, rows, tails, sealed: Vec::new() })
    }

    /// Sets `key`, and returns how long its value was before, if there was one.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<Option<usize>, StorageError> {
        checksum::seal(self.bucket, key, value, &mut self.sealed);
        let sealed = self.sealed.as_slice();
        let Some(tails) = &mut self.tails else {
            return Ok(self.rows.insert(key, sealed)?.map(|old| value_len(old.value().len())));
        };
        let (head, tail) = match cut(key.len(), sealed.len()) {
            Some(at) => (&sealed[..at], Some(&sealed[at..])),
            None => (sealed, None),
        };
        let old = self.rows.insert(key, head)?.map(|old| old.value().len());
        let old_tail = match tail {
            Some(tail) => tails.insert(key, tail)?,
            None if old.is_some_and(|old| fills(key.len(), old)) => tails.remove(key)?,
            None => None,
        };
        Ok(old.map(|old| value_len(old + old_tail.map_or(0, |tail| tail.value().len()))))
    }

    /// Deletes `key`, and returns how long its value was, if there was one.
    pub(super) fn delete(&mut self, key: &[u8]) -> Result<Option<usize>, StorageError> {
        let old = self.rows.remove(key)?.map(|old| old.value().len());
        let (Some(old), Some(tails)) = (old, &mut self.tails) else {
            return Ok(old.map(value_len));
        };
        if !fills(key.len(), old) {
            return Ok(Some(value_len(old)));
        }
        let tail = tails.remove(key)?.map_or(0, |tail| tail.value().len());
        Ok(Some(value_len(old + tail)))
    }
}

/// The length of a value that takes these bytes with its checksum.
fn value_len(stored: usize) -> usize {
    stored.saturating_sub(checksum::LEN)
}

/// What is stored of a row of the key bucket, value and checksum, if its first part is `head`.
pub(super) fn whole<T>(key: &[u8], head: &[u8], tails: &T) -> Result<Bytes, StorageError>
where
    T: ReadableTable<&'static [u8], &'static [u8]>,
{
    if fills(key.len(), head.len())
        && let Some(tail) = tails.get(key)?
    {
        return Ok([head, tail.value()].concat().into());
    }
    Ok(Bytes::copy_from_slice(head))
}

/// The length of the first part, if a value is to be cut.
fn cut(key_len: usize, value_len: usize) -> Option<usize> {
    let around = key_len + OFFSETS;
    let row = around + value_len;
    let head = if ROOM < row {
        (row - ROOM) / PAGE * PAGE + ROOM
    } else {
        let shares = ROOM / row + 1;
        if SHARES_MAX < shares {
            return None;
        }
        ROOM / shares
    };
    let tail = around + row.checked_sub(head).filter(|tail| 0 < *tail)?;
    let saved = takes(row).checked_sub(takes(head) + takes(tail))?;
    let least = if ROOM < row { SAVED_MIN } else { takes(row) * SAVED_PERCENT_MIN / 100 };
    (least <= saved).then(|| head - around)
}

/// Whether the first part of a row could have this length.
fn fills(key_len: usize, value_len: usize) -> bool {
    let row = key_len + OFFSETS + value_len;
    if ROOM < row {
        return (row - ROOM).is_multiple_of(PAGE);
    }
    let shares = ROOM / row;
    shares <= SHARES_MAX && ROOM / shares == row
}

/// How many bytes of the file a row takes among others of its size.
fn takes(row: usize) -> usize {
    if row <= ROOM { PAGE / (ROOM / row) } else { (row + PAGE - ROOM).div_ceil(PAGE) * PAGE }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A revision; and a revision with the mark of a tombstone.
    const KEY_LENS: [usize; 2] = [17, 18];

    #[test]
    fn a_first_part_is_known_by_its_length_and_never_cut_itself() {
        for key_len in KEY_LENS {
            for len in 0..100_000 {
                let Some(head) = cut(key_len, len) else { continue };
                assert!(0 < head && head < len, "{len}");
                assert!(fills(key_len, head), "{len} is cut at {head}");
                assert_eq!(cut(key_len, head), None, "{len} is cut at {head}");
            }
        }
    }

    #[test]
    fn rows_that_would_waste_half_a_page_are_cut_and_others_are_not() {
        // Values of whole kilobytes with a key of eight bytes, as their rows are, with checksums.
        let row = |value: usize| value + 25;
        for value in [1 << 10, 2 << 10, 4 << 10, 8 << 10, 40 << 10, 1 << 20] {
            assert!(cut(17, row(value)).is_some(), "{value}");
        }
        for value in [0, 8, 100, 256, 512, 1300, 2000 - 25, 4040 - 25, 11_000, 1_502_000] {
            assert_eq!(cut(17, row(value)), None, "{value}");
        }
    }

    #[test]
    fn a_cut_takes_less_room() {
        for len in 0..100_000 {
            let row = len + 25;
            if let Some(head) = cut(17, len) {
                let parts = takes(head + 25) + takes(len - head + 25);
                let most = if ROOM < row { takes(row) - 2048 } else { takes(row) * 86 / 100 };
                assert!(parts <= most, "{len}: {parts} of {}", takes(row));
            }
        }
    }

    #[test]
    fn rows_of_other_lengths_cost_no_second_look() {
        let looked_for = (0..100_000).filter(|len| fills(17, *len)).count();
        assert!(looked_for < 40, "{looked_for} lengths may have a second part");
    }
}
