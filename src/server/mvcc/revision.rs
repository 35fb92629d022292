//! Revisions: the logical clock of the key space.

use std::fmt;

/// The length in bytes of the key of a row that is not a tombstone.
pub(crate) const ROW_KEY_LEN: usize = 17;

/// The last byte of a tombstone's row key.
const TOMBSTONE_MARK: u8 = b't';

/// The time of a write (etcd: `revision`). All writes of one transaction share `main`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    /// Counts the transactions that write. Clients call this the revision.
    pub main: i64,
    /// Counts the writes of the transaction, from 0.
    pub sub: i64,
}

impl Revision {
    pub(crate) const fn new(main: i64, sub: i64) -> Revision {
        Revision { main, sub }
    }

    // ANCHOR: row-key
    /// Returns the key of the row that a put of this revision adds: `main` as 8 big-endian bytes,
    /// `_`, and `sub` in the same form. So the order of rows is the order of revisions.
    pub(crate) fn row_key(self) -> [u8; ROW_KEY_LEN] {
        let mut key = [b'_'; ROW_KEY_LEN];
        key[..8].copy_from_slice(&self.main.to_be_bytes());
        key[9..].copy_from_slice(&self.sub.to_be_bytes());
        key
    }
    // ANCHOR_END: row-key

    /// Returns the key of the row that a deletion of this revision adds: as of a put, then `t`.
    pub(crate) fn tombstone_key(self) -> [u8; ROW_KEY_LEN + 1] {
        let mut key = [TOMBSTONE_MARK; ROW_KEY_LEN + 1];
        key[..ROW_KEY_LEN].copy_from_slice(&self.row_key());
        key
    }

    /// Parses a row's key, and tells whether the row is a tombstone. Returns `None` if the key has
    /// another form.
    pub(crate) fn from_row_key(key: &[u8]) -> Option<(Revision, bool)> {
        let is_tombstone = match key.get(ROW_KEY_LEN..)? {
            [] => false,
            [TOMBSTONE_MARK] => true,
            _ => return None,
        };
        if key[8] != b'_' {
            return None;
        }
        let main = i64::from_be_bytes(key[..8].try_into().ok()?);
        let sub = i64::from_be_bytes(key[9..ROW_KEY_LEN].try_into().ok()?);
        Some((Revision { main, sub }, is_tombstone))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.main, self.sub)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_key_is_read_back() {
        for revision in [Revision::new(1, 0), Revision::new(i64::MAX, 127), Revision::default()] {
            assert_eq!(Revision::from_row_key(&revision.row_key()), Some((revision, false)));
            assert_eq!(Revision::from_row_key(&revision.tombstone_key()), Some((revision, true)));
        }
    }

    #[test]
    fn a_row_key_has_etcds_layout() {
        let key = Revision::new(0x0102, 3).tombstone_key();
        assert_eq!(&key, b"\0\0\0\0\0\0\x01\x02_\0\0\0\0\0\0\0\x03t");
    }

    #[test]
    fn a_key_of_another_form_is_refused() {
        assert_eq!(Revision::from_row_key(b""), None);
        assert_eq!(Revision::from_row_key(b"\0\0\0\0\0\0\x01\x02-\0\0\0\0\0\0\0\x03"), None);
        assert_eq!(Revision::from_row_key(b"\0\0\0\0\0\0\x01\x02_\0\0\0\0\0\0\0\x03x"), None);
        assert_eq!(Revision::from_row_key(b"\0\0\0\0\0\0\x01\x02_\0\0\0\0\0\0\0\x03tt"), None);
    }
}
