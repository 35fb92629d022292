//! HPACK's tables of fields: the standard's, and the dynamic one that the client fills (RFC 7541,
//! sections 2.3 and 4, and appendix A).

use std::collections::VecDeque;

use bytes::Bytes;

/// Largest size of the client's table: HTTP/2's default, because we announce no other.
const SIZE_MAX: usize = 4096;

/// Bytes that a field counts in addition to its name and value.
const OVERHEAD: usize = 32;

/// The name and value of a header field, decoded.
pub(super) type Field = (Bytes, Bytes);

/// The size of a field for the table's limit.
pub(super) fn size_of(name: &[u8], value: &[u8]) -> usize {
    name.len() + value.len() + OVERHEAD
}

/// The dynamic table of one connection.
#[derive(Debug)]
pub(super) struct Table {
    /// Its fields, the newest first.
    sent: VecDeque<Field>,
    size: usize,
    size_max: usize,
}

impl Table {
    pub(super) fn new() -> Self {
        Self { sent: VecDeque::new(), size: 0, size_max: SIZE_MAX }
    }

    /// The field with an index; `None` if there is none.
    pub(super) fn get(&self, index: usize) -> Option<Field> {
        let at = index.checked_sub(1)?;
        match STATIC.get(at) {
            Some((name, value)) => {
                Some((Bytes::from_static(name.as_bytes()), value.as_bytes().into()))
            }
            None => self.sent.get(at - STATIC.len()).cloned(),
        }
    }

    /// Adds a field, and evicts the oldest as needed.
    pub(super) fn insert(&mut self, field: &Field) {
        self.size += size_of(&field.0, &field.1);
        self.sent.push_front(field.clone());
        self.evict();
    }

    /// Applies a size that the client announces; `None` if it is too large.
    pub(super) fn resize(&mut self, size: usize) -> Option<()> {
        self.size_max = (size <= SIZE_MAX).then_some(size)?;
        self.evict();
        Some(())
    }

    fn evict(&mut self) {
        while self.size_max < self.size {
            // A field larger than the table empties it, and is not stored.
            let Some((name, value)) = self.sent.pop_back() else { break };
            self.size -= size_of(&name, &value);
        }
    }
}

/// Whether an index names a field of the standard's table, and not one that the client has sent.
pub(super) fn is_standard(index: usize) -> bool {
    (1..=STATIC.len()).contains(&index)
}

/// The index of a field in the standard's table, and whether the value matches too.
pub(super) fn standard(name: &[u8], value: &[u8]) -> Option<(usize, bool)> {
    let named = || STATIC.iter().enumerate().filter(|(_, field)| field.0.as_bytes() == name);
    let same = named().find(|(_, field)| field.1.as_bytes() == value);
    let found = same.or_else(|| named().next());
    found.map(|(at, _)| (at + 1, same.is_some()))
}

/// Appendix A; the first field has the index 1.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &'static str, value: &'static str) -> Field {
        (Bytes::from_static(name.as_bytes()), Bytes::from_static(value.as_bytes()))
    }

    #[test]
    fn the_newest_field_comes_first_and_the_oldest_make_room() {
        let mut table = Table::new();
        assert_eq!((table.get(0), table.get(62)), (None, None));
        assert_eq!(table.get(3), Some(field(":method", "POST")));
        let (old, new) = (field("old", "1"), field("new", "2"));
        table.insert(&old);
        table.insert(&new);
        assert_eq!((table.get(62), table.get(63)), (Some(new.clone()), Some(old)));
        table.resize(36).unwrap();
        assert_eq!((table.get(62), table.get(63)), (Some(new), None));
        table.insert(&field("too", "large"));
        assert_eq!((table.get(62), table.size), (None, 0));
        assert_eq!((table.resize(4096), table.resize(4097)), (Some(()), None));
    }

    #[test]
    fn fields_of_the_static_table_are_found() {
        assert_eq!(standard(b":method", b"POST"), Some((3, true)));
        assert_eq!(standard(b":method", b"PUT"), Some((2, false)));
        assert_eq!(standard(b"www-authenticate", b""), Some((61, true)));
        assert_eq!(standard(b"grpc-timeout", b"1S"), None);
    }
}
