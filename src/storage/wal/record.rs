//! Frames and records: the bytes of a segment (etcd: wal/encoder.go, decoder.go).
//!
//! ```text
//!   0        6   7    8                              8+size        8+size+padding
//!   ├────────┴───┼────┼──────────────────────────────┼─────────────┤
//!   │ size (LE)  │0x80│ 08 type  10 crc  1a len data │ zeros       │
//!   └────────────┴─|p─┴──────────────────────────────┴─────────────┘
//! ```
//!
//! A frame begins at a multiple of 8, so that its first word is never torn. The word's top byte is
//! 0 without padding and `0x80 | padding` with it. The crc continues that of the record before,
//! over the data of this one.

use super::error::Reason;

/// A frame's first word, in bytes.
pub(super) const WORD: u64 = 8;
/// The bytes that a disk writes whole or not at all (etcd: minSectorSize).
pub(super) const SECTOR: u64 = 512;
/// A record of this size or more is refused. It is twice what a raft message can hold, so no entry
/// that a peer sends comes near it, and a length beyond it is damage. Below it, a reader allows
/// what is left of the file, as etcd does since 3.5.5 (before: 10 MiB, maxWALEntrySizeLimit).
pub(super) const SIZE_LIMIT: u64 = 1 << 30;
/// The most bytes that a record has before its data: three tags, the type, the checksum, a length.
pub(super) const HEAD_MAX: u64 = 3 + 1 + 5 + 10;

const TAG_TYPE: u8 = 0x08;
const TAG_CRC: u8 = 0x10;
const TAG_DATA: u8 = 0x1a;

/// The type of a record's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The owner of the log: member and cluster.
    Metadata = 1,
    /// An entry of the raft log.
    Entry = 2,
    /// Term, vote and commit.
    State = 3,
    /// The checksum so far; it starts a segment.
    Crc = 4,
    /// Index and term of a snapshot.
    Snapshot = 5,
}

impl Kind {
    fn from_number(number: u64) -> Option<Kind> {
        [Kind::Metadata, Kind::Entry, Kind::State, Kind::Crc, Kind::Snapshot]
            .into_iter()
            .find(|kind| *kind as u64 == number)
    }
}

/// A record as it is in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    /// The type of its content.
    pub(super) kind: Kind,
    /// The checksum that was written with it.
    pub(super) crc: u32,
    /// Absent in a crc record only.
    pub(super) data: Option<&'a [u8]>,
}

/// The first word of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Length of the record in bytes.
    pub(super) size: u64,
    /// The word's top byte: 0, or 0x80 with the padding.
    top: u8,
}

impl Frame {
    /// Splits a word, without checking it.
    pub(super) fn new(word: [u8; 8]) -> Frame {
        let word = u64::from_le_bytes(word);
        let [.., top] = word.to_le_bytes();
        Frame { size: word & 0x00ff_ffff_ffff_ffff, top }
    }

    /// The frame of a record of `size` bytes.
    pub(super) fn of(size: u64) -> Frame {
        Frame::new(Frame::word(size).to_le_bytes())
    }

    /// The word for a record of `size` bytes.
    pub(super) fn word(size: u64) -> u64 {
        match padding(size) {
            0 => size,
            padding => size | (0x80 | padding) << 56,
        }
    }

    /// Whether the word is the one that would be written for a record of this size.
    pub(super) fn is_canonical(self) -> bool {
        let top = u64::from(self.top) << 56;
        Frame::word(self.size) == self.size | top
    }

    /// Whether the whole word is zero.
    pub(super) fn is_zero(self) -> bool {
        self.size == 0 && self.top == 0
    }

    /// The frame's length with its word and padding, in bytes.
    pub(super) fn total(self) -> u64 {
        WORD + self.size + padding(self.size)
    }
}

/// How many bytes bring `size` up to a multiple of 8.
pub(super) fn padding(size: u64) -> u64 {
    size.wrapping_neg() % 8
}

// ANCHOR: append
/// Appends a frame to `buffer`. `parts` together are the data; none at all for a crc record.
/// `crc` is the chain's value before, and afterwards the one behind. Returns the record's size.
pub(super) fn append(buffer: &mut Vec<u8>, crc: &mut u32, kind: Kind, parts: &[&[u8]]) -> u64 {
    for part in parts {
        *crc = crc32c::crc32c_append(*crc, part);
    }
    let start = buffer.len();
    buffer.extend_from_slice(&[0; 8]);
    buffer.extend_from_slice(&[TAG_TYPE, kind as u8, TAG_CRC]);
    put_varint(buffer, u64::from(*crc));
    if !parts.is_empty() {
        buffer.push(TAG_DATA);
        put_varint(buffer, parts.iter().map(|part| part.len() as u64).sum());
        for part in parts {
            buffer.extend_from_slice(part);
        }
    }
    let size = (buffer.len() - start) as u64 - WORD;
    buffer[start..start + 8].copy_from_slice(&Frame::word(size).to_le_bytes());
    buffer.resize(start + (WORD + size + padding(size)) as usize, 0);
    size
}
// ANCHOR_END: append

/// Reads a record that must fill `bytes`, in exactly the form in which it is written.
pub(super) fn parse(bytes: &[u8]) -> Result<Record<'_>, Reason> {
    let (record, size) = parse_prefix(bytes).ok_or(Reason::Record)?;
    if size == bytes.len() { Ok(record) } else { Err(Reason::LengthOfRecord) }
}

/// Reads a record at the start of `bytes`. Returns it with the length that its own fields give,
/// which distinguishes a damaged frame from a torn record.
pub(super) fn parse_prefix(bytes: &[u8]) -> Option<(Record<'_>, usize)> {
    let Head { kind, crc, len, data_len } = head(bytes)?;
    let Some(data_len) = data_len else { return Some((Record { kind, crc, data: None }, len)) };
    let end = len.checked_add(usize::try_from(data_len).ok()?)?;
    Some((Record { kind, crc, data: Some(bytes.get(len..end)?) }, end))
}

/// The length of the record that its own fields give, in its first [`HEAD_MAX`] bytes.
pub(super) fn claimed_size(bytes: &[u8]) -> Option<u64> {
    let Head { len, data_len, .. } = head(bytes)?;
    (len as u64).checked_add(data_len.unwrap_or(0))
}

/// The fields of a record before its data.
struct Head {
    kind: Kind,
    crc: u32,
    /// The head's own length in bytes.
    len: usize,
    /// The length of the data that follows; absent in a crc record only.
    data_len: Option<u64>,
}

fn head(bytes: &[u8]) -> Option<Head> {
    let mut rest = bytes;
    expect(&mut rest, TAG_TYPE)?;
    let kind = Kind::from_number(get_varint(&mut rest)?)?;
    expect(&mut rest, TAG_CRC)?;
    let crc = u32::try_from(get_varint(&mut rest)?).ok()?;
    if kind == Kind::Crc {
        return Some(Head { kind, crc, len: bytes.len() - rest.len(), data_len: None });
    }
    expect(&mut rest, TAG_DATA)?;
    let data_len = Some(get_varint(&mut rest)?);
    Some(Head { kind, crc, len: bytes.len() - rest.len(), data_len })
}

fn expect(rest: &mut &[u8], byte: u8) -> Option<()> {
    let (first, tail) = rest.split_first()?;
    *rest = tail;
    (*first == byte).then_some(())
}

/// The chain's value behind the record: a crc record sets it, all others continue it.
pub(super) fn chain(crc: u32, record: &Record<'_>) -> u32 {
    match record.data {
        None => record.crc,
        Some(data) => crc32c::crc32c_append(crc, data),
    }
}

/// Whether a record that was not written whole explains these bytes, which begin at `offset` of the
/// file: a sector, or the part of one that the record covers, still has its zeros. Padding does not
/// count, because nothing is lost without it (etcd: isTornEntry).
pub(super) fn is_torn(bytes: &[u8], offset: u64) -> bool {
    let to_sector = ((SECTOR - offset % SECTOR) as usize).min(bytes.len());
    let (first, rest) = bytes.split_at(to_sector);
    let is_zero = |chunk: &[u8]| chunk.iter().all(|byte| *byte == 0);
    (!first.is_empty() && is_zero(first)) || rest.chunks(SECTOR as usize).any(is_zero)
}

/// Appends a number, seven bits a byte, lowest first.
pub(super) fn put_varint(buffer: &mut Vec<u8>, mut value: u64) {
    while 0x7f < value {
        buffer.push(value as u8 | 0x80);
        value >>= 7;
    }
    buffer.push(value as u8);
}

/// Takes a number off the front; `None` if it is cut short or longer than necessary.
pub(super) fn get_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (place, byte) in rest.iter().enumerate().take(10) {
        // The tenth byte has room for one bit.
        if place == 9 && 1 < *byte {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            *rest = &rest[place + 1..];
            return (place == 0 || *byte != 0).then_some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_varint_comes_back_and_has_one_form_only() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            let mut rest = &bytes[..];
            assert_eq!(get_varint(&mut rest), Some(value));
            assert!(rest.is_empty());
            assert_eq!(get_varint(&mut &bytes[..bytes.len() - 1]), None);
        }
        assert_eq!(get_varint(&mut &[0x81, 0x00][..]), None);
        assert_eq!(get_varint(&mut &[0xff; 11][..]), None);
        assert_eq!(
            get_varint(&mut &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2][..]),
            None
        );
    }

    #[test]
    fn a_frame_is_laid_out_as_etcd_does_it() {
        // Taken from a segment that etcd 3.5.1 wrote: the crc record at its start.
        let mut buffer = Vec::new();
        assert_eq!(append(&mut buffer, &mut 0, Kind::Crc, &[]), 4);
        assert_eq!(buffer, [4, 0, 0, 0, 0, 0, 0, 0x84, 8, 4, 16, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_record_comes_back_with_its_chain() {
        let (mut buffer, mut crc) = (Vec::new(), 7);
        let size = append(&mut buffer, &mut crc, Kind::Entry, &[b"ab", b"", b"cdefg"]);
        let frame = Frame::new(buffer[..8].try_into().unwrap());
        assert_eq!((frame.size, frame.total()), (size, buffer.len() as u64));
        assert!(frame.is_canonical());
        let record = parse(&buffer[8..8 + size as usize]).unwrap();
        assert_eq!((record.kind, record.data), (Kind::Entry, Some(&b"abcdefg"[..])));
        assert_eq!((record.crc, chain(7, &record)), (crc, crc));
    }

    #[test]
    fn a_frame_has_one_top_byte_only() {
        for size in 0..40_u64 {
            for top in 0..=255_u8 {
                let word = size | u64::from(top) << 56;
                let good = Frame::new(word.to_le_bytes()).is_canonical();
                assert_eq!(good, word == Frame::word(size), "size {size}, top {top}");
            }
        }
    }

    #[test]
    fn only_a_part_of_a_sector_that_is_all_zero_is_torn() {
        let mut bytes = vec![1; 1200];
        assert!(!is_torn(&bytes, 500));
        bytes[..11].fill(0);
        assert!(!is_torn(&bytes, 500));
        bytes[..12].fill(0);
        assert!(is_torn(&bytes, 500));
        bytes = vec![1; 1200];
        bytes[100..700].fill(0);
        assert!(!is_torn(&bytes, 500), "zeros that fill no sector");
        bytes[12..524].fill(0);
        assert!(is_torn(&bytes, 500));
        assert!(!is_torn(&[], 0));
    }
}
