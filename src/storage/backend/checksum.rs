//! The checksum of a row, which is stored with it.
//!
//! ```text
//!   in a table of the file:   key ─▶ ├──── value ────┤ CRC-32C │
//!                                                       of the table's name, the key's length,
//!                                                       the key, and the value
//! ```
//!
//! redb keeps a checksum of each page in the page above, and compares it when a member opens its
//! file, but not when a page is read. A bit that changes on the disk afterwards reaches the reader,
//! in redb as in bbolt, where etcd then serves other data without a word. So each row has a
//! checksum of its own, which is compared wherever a row is read from the file: for an answer, for
//! apply, for a hash, for a copy, and when the index is built at the start.
//!
//! Invariants
//! * A row whose checksum does not fit goes to no reader. The error names its table and its key.
//! * The name and the key count, so a row that is found in another's place is found out. The key's
//!   length counts, because the end of the key and the beginning of the value may be neighbours in
//!   the page.
//! * Checksums are a matter of the file: buffers, readers and hashes know the value only. The
//!   commit thread computes them, outside of every lock.
//!
//! Left out: rows that are missing. The index in memory knows that a revision must have a row, and
//! the checksums of all pages are compared when the file is opened.

use bytes::Bytes;
use redb::StorageError;

use super::Bucket;

/// The bytes of a checksum.
pub(super) const LEN: usize = 4;

fn of(bucket: Bucket, key: &[u8], value: &[u8]) -> [u8; LEN] {
    let len = u32::try_from(key.len()).unwrap_or(u32::MAX).to_le_bytes();
    let parts = [bucket.name().as_bytes(), &len, key, value];
    parts.into_iter().fold(0, crc32c::crc32c_append).to_le_bytes()
}

/// Writes a value with its checksum into `sealed`, in place of what that has.
pub(super) fn seal(bucket: Bucket, key: &[u8], value: &[u8], sealed: &mut Vec<u8>) {
    sealed.clear();
    sealed.extend_from_slice(value);
    sealed.extend_from_slice(&of(bucket, key, value));
}

/// The value in what was stored under a key.
pub(super) fn open(bucket: Bucket, key: &[u8], mut sealed: Bytes) -> Result<Bytes, StorageError> {
    let Some(len) = sealed.len().checked_sub(LEN) else {
        return Err(bad(bucket, key));
    };
    if of(bucket, key, &sealed[..len]) != sealed[len..] {
        return Err(bad(bucket, key));
    }
    sealed.truncate(len);
    Ok(sealed)
}

/// The error of a row whose checksum does not fit.
fn bad(bucket: Bucket, key: &[u8]) -> StorageError {
    let revision = revision_of(key).filter(|_| bucket == Bucket::Key).unwrap_or_default();
    let [main, sub] = [revision.0, revision.1].map(|number| u64::try_from(number).unwrap_or(0));
    crate::mark!(BackendDamaged, 0, main = main, sub = sub);
    let (table, key) = (bucket.name(), name_of(bucket, key));
    StorageError::Corrupted(format!("table {table}, {key}: the row does not fit its checksum"))
}

/// A key for people: the key bucket's are revisions, the others' are text or numbers.
fn name_of(bucket: Bucket, key: &[u8]) -> String {
    match (bucket, revision_of(key)) {
        (Bucket::Key, Some((main, sub))) => format!("revision {main}.{sub}"),
        _ => format!("key {}", key.escape_ascii()),
    }
}

/// The main revision and the number of the write within it.
fn revision_of(key: &[u8]) -> Option<(i64, i64)> {
    let number = |bytes: &[u8]| Some(i64::from_be_bytes(bytes.try_into().ok()?));
    Some((number(key.get(..8)?)?, number(key.get(9..17)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"\0\0\0\0\0\0\x01\x02_\0\0\0\0\0\0\0\x03";

    fn sealed(value: &[u8]) -> Vec<u8> {
        let mut sealed = b"what was there".to_vec();
        seal(Bucket::Key, KEY, value, &mut sealed);
        sealed
    }

    #[test]
    fn a_value_comes_back_without_its_checksum() {
        for value in [&b""[..], b"v", &[7; 5000]] {
            let sealed = sealed(value);
            assert_eq!(sealed.len(), value.len() + LEN);
            assert_eq!(open(Bucket::Key, KEY, sealed.into()).unwrap(), value);
        }
    }

    #[test]
    fn every_flipped_bit_and_every_other_length_is_found() {
        let good = sealed(b"value");
        for bit in 0..good.len() * 8 {
            let mut flipped = good.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open(Bucket::Key, KEY, flipped.into()).is_err(), "bit {bit}");
        }
        for len in 0..good.len() {
            let cut = good[..len].to_vec();
            assert!(open(Bucket::Key, KEY, cut.into()).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn a_row_in_anothers_place_is_found() {
        let sealed = Bytes::from(sealed(b"value"));
        for bit in 0..KEY.len() * 8 {
            let mut other = KEY.to_vec();
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(open(Bucket::Key, &other, sealed.clone()).is_err(), "bit {bit}");
        }
        assert!(open(Bucket::Lease, KEY, sealed.clone()).is_err());
        // The first byte of the value, taken for the key's last.
        let longer = [KEY, b"v"].concat();
        assert!(open(Bucket::Key, &longer, sealed.slice(1..)).is_err());
    }

    #[test]
    fn a_bad_row_is_named_by_its_table_and_its_revision() {
        let text = |bucket, key| bad(bucket, key).to_string();
        let row = text(Bucket::Key, KEY);
        assert!(row.contains("table key, revision 258.3: "), "{row}");
        let row = text(Bucket::Meta, b"consistent_index");
        assert!(row.contains("table meta, key consistent_index: "), "{row}");
        let row = text(Bucket::Alarm, b"\x08\x01");
        assert!(row.contains("table alarm, key \\x08\\x01: "), "{row}");
    }
}
