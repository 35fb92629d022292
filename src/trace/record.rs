//! The record: 128 bytes that say what one step was, when it ran, for which request, and what it
//! changed.
//!
//! | word | content |
//! |------|---------|
//! | 0    | slot sequence while it stands in a ring; 0 elsewhere |
//! | 1    | from the low byte up: stage, kind, flags, thread, member, result (a byte each), boot (two) |
//! | 2    | member clock at the start |
//! | 3    | tick at the start: raw in the ring, nanoseconds since the member's start elsewhere |
//! | 4    | member clock from start to end (seven bytes); highest byte: the [`Reason`] of a failure |
//! | 5    | id of the request or round |
//! | 6    | link |
//! | 7–14 | the stage's fields |
//! | 15   | nanoseconds from start to end |
//!
//! A key record has no time and no fields: its word 3 is the length of the key, and its words 4 and
//! 6 to 15 are the first 88 bytes of it. The clock (word 2) says between which records it was
//! written, and so to which step it belongs.
//!
//! The layout is not public API; recordings carry names instead.

use super::{Reason, field::Slot, stage::Stage};

/// Words in a record.
pub const WORDS: usize = 16;

/// Bytes in a record.
pub const BYTES: usize = WORDS * 8;

/// How many bytes of a key a key record holds.
pub const KEY_BYTES: usize = 88;

/// The request is kept, and with it the loop records that cover it.
pub const FLAG_KEPT: u8 = 1;
/// The step failed: the reason says why, and the result has the gRPC code if there is one.
pub const FLAG_ERROR: u8 = 2;
/// The client has left. The step ends with gRPC's code CANCELLED, which is no error of the member.
pub const FLAG_CANCELLED: u8 = 4;
/// The entry was committed before this start. It is applied again, because the file did not have
/// it yet.
pub const FLAG_REPLAY: u8 = 8;
/// Heartbeats and similar messages, which views hide unless they cause something shown.
pub const FLAG_NOISE: u8 = 16;

/// The key was longer than a key record holds.
pub const FLAG_CUT: u8 = 32;
/// In a key record: the text is left out (`--trace-redact-keys`).
pub const FLAG_REDACTED: u8 = 64;
/// In a key record: the text is the end of a range, and not the key at which it begins.
pub const FLAG_RANGE_END: u8 = 128;

/// The bits of word 4 that hold a clock.
const CLOCK_MASK: u64 = (1 << 56) - 1;

/// The words of a key record that hold text.
const KEY_WORDS: [usize; KEY_BYTES / 8] = [4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// The kind of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// The beginning of a step that may wait; its span follows, with the same clock.
    Begin = 0,
    /// A step, from beginning to end.
    Span = 1,
    /// Something that takes no time.
    Mark = 2,
    /// Text of a key: words 4 and 6 to 15 hold it, word 3 its length.
    Key = 3,
    /// A sample of the member's watermarks.
    Keyframe = 4,
}

impl Kind {
    /// Every kind, by number.
    pub const ALL: [Kind; 5] = [Kind::Begin, Kind::Span, Kind::Mark, Kind::Key, Kind::Keyframe];

    /// The kind with this number, as records carry it.
    pub fn from_number(number: u8) -> Option<Kind> {
        Kind::ALL.get(usize::from(number)).copied()
    }

    /// The name that recordings carry.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Begin => "begin",
            Kind::Span => "span",
            Kind::Mark => "mark",
            Kind::Key => "key",
            Kind::Keyframe => "keyframe",
        }
    }

    /// The kind with this name.
    pub fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// One record, as sixteen words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The words, in order.
    pub words: [u64; WORDS],
}

/// The parts of word 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The number of the stage: its position in [`Stage::ALL`].
    pub stage: u8,
    /// The number of the [`Kind`].
    pub kind: u8,
    /// Any of the `FLAG_` bits.
    pub flags: u8,
    /// Position of the thread in [`super::THREADS`].
    pub thread: u8,
    /// Place in the recording's table of members; the member itself writes 0.
    pub member: u8,
    /// The gRPC code of the result, 0 for success.
    pub result: u8,
    /// Which start of the data directory; the low 16 bits.
    pub boot: u16,
}

impl Head {
    /// Packs the parts into word 1.
    pub fn pack(self) -> u64 {
        let [boot_low, boot_high] = self.boot.to_le_bytes();
        u64::from_le_bytes([
            self.stage,
            self.kind,
            self.flags,
            self.thread,
            self.member,
            self.result,
            boot_low,
            boot_high,
        ])
    }

    /// Takes word 1 apart.
    pub fn unpack(word: u64) -> Head {
        let [stage, kind, flags, thread, member, result, boot_low, boot_high] = word.to_le_bytes();
        let boot = u16::from_le_bytes([boot_low, boot_high]);
        Head { stage, kind, flags, thread, member, result, boot }
    }
}

/// A reason in the highest byte of word 4.
pub(super) fn pack_reason(reason: Option<Reason>) -> u64 {
    u64::from(Reason::number(reason)) << 56
}

impl Record {
    /// A record whose words are all 0.
    pub const EMPTY: Record = Record { words: [0; WORDS] };

    /// Builds a record that takes no time.
    pub fn new(head: Head, clock: u64, at_ns: u64, id: u64, fields: &[u64; 8]) -> Record {
        let mut words = [0; WORDS];
        (words[1], words[2], words[3], words[5]) = (head.pack(), clock, at_ns, id);
        words[7..15].copy_from_slice(fields);
        Record { words }
    }

    /// Sets the member clock and the nanoseconds from start to end. Not for key records, whose text
    /// occupies these words.
    pub fn set_length(&mut self, clock_delta: u64, took_ns: u64) {
        let reason = self.words[4] & !CLOCK_MASK;
        (self.words[4], self.words[15]) = (reason | clock_delta.min(CLOCK_MASK), took_ns);
    }

    /// Builds the record that holds the text of a key, or its first 88 bytes.
    pub fn key(clock: u64, id: u64, thread: u8, key: &[u8]) -> Record {
        let cut = if KEY_BYTES < key.len() { FLAG_CUT } else { 0 };
        let (stage, kind) = (Stage::Key as u8, Kind::Key as u8);
        let head = Head { stage, kind, flags: cut, thread, ..Head::default() };
        let mut words = [0; WORDS];
        (words[1], words[2], words[3], words[5]) = (head.pack(), clock, key.len() as u64, id);
        for (word, chunk) in KEY_WORDS.into_iter().zip(key.chunks(8)) {
            let mut bytes = [0; 8];
            bytes[..chunk.len()].copy_from_slice(chunk);
            words[word] = u64::from_le_bytes(bytes);
        }
        Record { words }
    }

    /// Builds a key record with the key's length and without its text: the flags say so, and
    /// [`Record::key_text`] gives an empty text.
    pub fn redacted_key(clock: u64, id: u64, thread: u8, key: &[u8]) -> Record {
        let mut record = Record::key(clock, id, thread, &[]);
        record.words[3] = key.len() as u64;
        record.set_head(Head { flags: FLAG_CUT | FLAG_REDACTED, ..record.head() });
        record
    }

    /// Word 1, taken apart.
    pub fn head(&self) -> Head {
        Head::unpack(self.words[1])
    }

    /// Replaces word 1, and nothing else.
    pub fn set_head(&mut self, head: Head) {
        self.words[1] = head.pack();
    }

    /// The stage, or `None` if this version does not know it.
    pub fn stage(&self) -> Option<Stage> {
        Stage::from_number(self.head().stage)
    }

    /// The kind, or `None` if this version does not know it.
    pub fn kind(&self) -> Option<Kind> {
        Kind::from_number(self.head().kind)
    }

    /// Id of the request or the round; 0 for none.
    pub fn id(&self) -> u64 {
        self.words[5]
    }

    /// Member clock at the start.
    pub fn clock(&self) -> u64 {
        self.words[2]
    }

    /// Member clock at the end, where the changes take effect.
    pub fn clock_end(&self) -> u64 {
        if self.kind() == Some(Kind::Key) {
            return self.words[2];
        }
        self.words[2].saturating_add(self.words[4] & CLOCK_MASK)
    }

    /// Why the step failed. Not for key records.
    pub fn reason(&self) -> Option<Reason> {
        if self.kind() == Some(Kind::Key) {
            return None;
        }
        Reason::from_number(self.words[4].to_be_bytes()[0])
    }

    /// Sets why the step failed. Not for key records.
    pub fn set_reason(&mut self, reason: Option<Reason>) {
        self.words[4] = self.words[4] & CLOCK_MASK | pack_reason(reason);
    }

    /// How long the step took, in nanoseconds.
    pub fn took_ns(&self) -> u64 {
        if self.kind() == Some(Kind::Key) { 0 } else { self.words[15] }
    }

    /// The values of the stage's fields, in its order.
    pub fn fields(&self) -> [u64; 8] {
        let mut fields = [0; 8];
        fields.copy_from_slice(&self.words[7..15]);
        fields
    }

    /// The value of the slot that belongs to the record's own stage. `field!` calls it.
    pub fn number(&self, slots: &[Slot]) -> u64 {
        Slot::find(self.stage(), slots).map_or(0, |at| self.fields()[at])
    }

    /// The text of a key record, and the full length of the key in bytes.
    pub fn key_text(&self) -> (Vec<u8>, u64) {
        let length = self.words[3];
        if self.head().flags & FLAG_REDACTED != 0 {
            return (Vec::new(), length);
        }
        let held = usize::try_from(length).unwrap_or(usize::MAX).min(KEY_BYTES);
        let mut bytes: Vec<u8> =
            KEY_WORDS.iter().flat_map(|word| self.words[*word].to_le_bytes()).collect();
        bytes.truncate(held);
        (bytes, length)
    }

    /// Appends the encoded record: sixteen little-endian words, the first of them 0.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&0_u64.to_le_bytes());
        for word in &self.words[1..] {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }

    /// Decodes a record; the inverse of [`Record::encode`].
    pub fn decode(bytes: &[u8; BYTES]) -> Record {
        let mut words = [0; WORDS];
        for (word, chunk) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*chunk);
        }
        Record { words }
    }
}

/// For tests: a mark of this stage whose fields are the numbers from 10 on.
#[cfg(test)]
pub(crate) fn sample_of(stage: Stage) -> Record {
    let head = Head { stage: stage as u8, kind: Kind::Mark as u8, ..Head::default() };
    Record::new(head, 1, 1, 0, &[10, 11, 12, 13, 14, 15, 16, 17])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Record {
        let head = Head {
            stage: Stage::WalFsync as u8,
            kind: Kind::Span as u8,
            flags: FLAG_KEPT,
            thread: 4,
            member: 2,
            result: 14,
            boot: 0x1234,
        };
        let (id, fields) = (0xa1a2_a3a4_a5a6_a7a8, [1, 2, 3, 4, 5, 6, 7, u64::MAX]);
        let mut record = Record::new(head, 77, 5_000_000_123, id, &fields);
        record.set_length(3, 1_600_000);
        record.words[6] = 0xb1b2;
        record
    }

    #[test]
    fn every_part_stands_in_its_word() {
        let record = sample();
        assert_eq!(0x1234_0e02_0401_0100 | Stage::WalFsync as u64, record.words[1]);
        assert_eq!([77, 5_000_000_123], record.words[2..4]);
        assert_eq!([3, 1_600_000], [record.words[4], record.words[15]]);
        assert_eq!([0xa1a2_a3a4_a5a6_a7a8, 0xb1b2], record.words[5..7]);
        assert_eq!([1, 2, 3, 4, 5, 6, 7, u64::MAX], record.words[7..15]);
        assert_eq!(0, record.words[0]);
    }

    #[test]
    fn a_record_travels_as_128_little_endian_bytes() {
        let record = sample();
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        assert_eq!(128, bytes.len());
        assert_eq!(77, bytes[16]);
        let back = Record::decode(bytes.as_slice().try_into().unwrap());
        assert_eq!(record, back);
        assert_eq!((80, 1_600_000), (back.clock_end(), back.took_ns()));
    }

    #[test]
    fn a_step_of_a_day_keeps_its_length() {
        let day_ns = 86_400_000_000_001;
        let mut record = sample();
        record.set_length(5_000_000_000, day_ns);
        assert_eq!((5_000_000_077, day_ns), (record.clock_end(), record.took_ns()));
    }

    #[test]
    fn a_reason_and_a_length_do_not_disturb_each_other() {
        let mut record = sample();
        assert_eq!(None, record.reason());
        record.set_reason(Some(Reason::LeaseNotFound));
        assert_eq!((80, Some(Reason::LeaseNotFound)), (record.clock_end(), record.reason()));
        record.set_length(7, 9);
        assert_eq!((84, Some(Reason::LeaseNotFound)), (record.clock_end(), record.reason()));
        record.set_reason(None);
        assert_eq!((84, None), (record.clock_end(), record.reason()));
    }

    #[test]
    fn a_key_is_held_whole_up_to_88_bytes_and_cut_above() {
        for length in [0, 1, 7, 8, 9, 87, 88, 89, 4000] {
            let key: Vec<u8> = (0..length).map(|at| (at % 251) as u8 + 1).collect();
            let record = Record::key(9, 5, 1, &key);
            let (text, full) = record.key_text();
            assert_eq!((length as u64, &key[..length.min(88)]), (full, text.as_slice()));
            assert_eq!(88 < length, record.head().flags & FLAG_CUT != 0, "length {length}");
            assert_eq!((9, 9, 0), (record.clock(), record.clock_end(), record.took_ns()));
        }
    }

    #[test]
    fn a_redacted_key_tells_its_length_and_no_byte_of_it() {
        let record = Record::redacted_key(9, 5, 1, b"secret/of/somebody");
        assert_eq!((Vec::new(), 18), record.key_text());
        assert_ne!(0, record.head().flags & FLAG_CUT);
        assert!(record.words[7..].iter().chain(&record.words[4..5]).all(|word| *word == 0));
    }
}
