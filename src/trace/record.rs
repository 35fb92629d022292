//! The record: 128 bytes that say what one step was, when, for whom, and what it changed.

/// Words in a record.
pub const WORDS: usize = 16;

/// What a record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A step that waits has begun; its span follows, with the same clock.
    Begin = 0,
    /// A step, from beginning to end.
    Span = 1,
    /// Something that takes no time.
    Mark = 2,
    /// Text of a key: words 4 and 7 to 14 hold it.
    Key = 3,
    /// Watermarks of the member.
    Keyframe = 4,
}

/// One record, as sixteen words. See design in ARCHITECTURE.md for each word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The words, in order.
    pub words: [u64; WORDS],
}
