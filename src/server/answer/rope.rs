//! A large answer in pieces: encoded once, and only as far as there is room for it.
//!
//! A row of the key space *is* an encoded `KeyValue`, so an answer is made of rows as they are
//! read. They are not decoded, and no buffer is long:
//!
//! ```text
//!   parts:  [header, rows … │ … rows … │ … rows …] [rows 40 to 90 of revision 17] [more, count]
//!            └ 64 KiB each: what of them is in      └ not kept: measured, and read again when
//!              flight keeps no long row in memory     they can be sent
//! ```
//!
//! gRPC wants a message's length before its first byte, so every row is read at least once before
//! anything is sent. Rows are kept as long as the [`Meter`](super::meter::Meter) finds room. From
//! the first row without room on they are only measured, and their revisions are noted instead.
//!
//! Left out: compression. Answers are sent as they are.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use crate::pb::mvccpb::KeyValue;

/// Length of the parts into which rows are copied, in bytes. A frame that a socket has not taken
/// keeps its part in memory, so this is also how far the count may be from the memory held.
const PART: usize = 64 << 10;

/// An answer, or the part that is not sent yet.
#[derive(Debug, Default)]
pub struct Rope {
    parts: VecDeque<Part>,
    is_ended: bool,
}

/// A stretch of an answer.
#[derive(Debug)]
pub(super) enum Part {
    /// Encoded, and in memory; and whether they were kept when the answer was read.
    Bytes(Bytes, bool),
    /// Rows that must be read again.
    Rows(Rows),
}

/// The next step of sending an answer.
#[derive(Debug)]
pub enum Next {
    /// Send these bytes; and whether they were kept when the answer was read.
    Bytes(Bytes, bool),
    /// Read these rows again, and [put them back](Rope::put_back).
    Rows(Rows),
    /// The answer is complete.
    End,
    /// The answer was [ended](Rope::end) before it was complete.
    Ended,
}

impl Rope {
    /// An answer of these parts.
    pub(super) fn new(mut parts: Parts) -> Rope {
        parts.cut();
        Rope { parts: parts.list, is_ended: false }
    }

    /// Takes the next step, with at most `most` bytes.
    pub fn next(&mut self, most: usize) -> Next {
        if self.is_ended {
            return Next::Ended;
        }
        match self.parts.pop_front() {
            Some(Part::Bytes(first, is_kept)) => {
                Next::Bytes(self.piece(first, is_kept, most), is_kept)
            }
            Some(Part::Rows(rows)) => Next::Rows(rows),
            None => Next::End,
        }
    }

    /// A frame of at most `most` bytes that begins with `first`. Short parts are joined.
    fn piece(&mut self, mut first: Bytes, is_kept: bool, most: usize) -> Bytes {
        if most < first.len() {
            let piece = first.split_to(most);
            self.parts.push_front(Part::Bytes(first, is_kept));
            return piece;
        }
        let mut joined = BytesMut::new();
        while first.len() + joined.len() < most
            && let Some(Part::Bytes(next, next_is_kept)) = self.parts.front_mut()
            && *next_is_kept == is_kept
        {
            if joined.is_empty() {
                joined.reserve(most);
                joined.put(std::mem::take(&mut first));
            }
            joined.put(next.split_to(next.len().min(most - joined.len())));
            if next.is_empty() {
                self.parts.pop_front();
            }
        }
        if joined.is_empty() { first } else { joined.freeze() }
    }

    /// Puts in front the rows that were read again, and after them those that are left.
    pub fn put_back(&mut self, read: Vec<Bytes>, rows: Rows) {
        if self.is_ended {
            return;
        }
        if !rows.keys.is_empty() {
            self.parts.push_front(Part::Rows(rows));
        }
        for bytes in read.into_iter().rev() {
            self.parts.push_front(Part::Bytes(bytes, false));
        }
    }

    /// Drops the part that is not sent yet: the answer remains incomplete.
    pub fn end(&mut self) {
        self.is_ended = true;
        self.parts = VecDeque::new();
    }
}

/// Rows of one range that were measured and not kept, as values of one field.
#[derive(Debug)]
pub struct Rows {
    tag: u8,
    at: i64,
    keys_only: bool,
    keys: VecDeque<[u8; 17]>,
}

impl Rows {
    /// No rows yet, of a range that reads at revision `at`, for the field `tag` (1 to 15).
    pub fn new(tag: u8, at: i64, keys_only: bool) -> Rows {
        Rows { tag, at, keys_only, keys: VecDeque::new() }
    }

    /// The field that they are values of.
    pub(super) fn tag(&self) -> u8 {
        self.tag
    }

    /// The part of a row of the key space that is returned.
    pub(super) fn returned(&self, row: Bytes) -> Bytes {
        if self.keys_only { without_value(row) } else { row }
    }

    /// Whether no rows are left.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Notes the keys of the rows that were not kept: all but the first `kept`.
    pub fn leave(&mut self, mut keys: Vec<[u8; 17]>, kept: usize) {
        keys.drain(..kept);
        keys.shrink_to_fit();
        self.keys = keys.into();
    }

    /// The revision at which the rows are read.
    pub fn at(&self) -> i64 {
        self.at
    }

    /// The keys of the rows that are left, in order.
    pub fn keys(&mut self) -> &[[u8; 17]] {
        self.keys.make_contiguous()
    }

    /// An encoder for those that are read again.
    pub fn encoder(&self) -> Encoder {
        Encoder { tag: self.tag, keys_only: self.keys_only, parts: Parts::default() }
    }

    /// Removes the first rows, which have been read.
    pub fn pass(&mut self, rows: usize) {
        self.keys.drain(..rows);
    }
}

/// Encodes rows that are read again; see [`Rows`].
#[derive(Debug)]
pub struct Encoder {
    tag: u8,
    keys_only: bool,
    parts: Parts,
}

impl Encoder {
    /// Encodes a row, without its value if the range asked for keys only.
    pub fn push(&mut self, row: Bytes) {
        let row = if self.keys_only { without_value(row) } else { row };
        self.parts.push(self.tag, &row);
    }

    /// The encoded rows, in the order in which they were pushed.
    pub fn finish(mut self) -> Vec<Bytes> {
        self.parts.take_bytes().collect()
    }
}

/// The row without its value. This program wrote the row, so it can be decoded.
fn without_value(row: Bytes) -> Bytes {
    match KeyValue::decode(row.clone()) {
        Ok(kv) => KeyValue { value: Bytes::new(), ..kv }.encode_to_vec().into(),
        Err(_) => row,
    }
}

/// Length of a value of `len` bytes in the field `tag`, with its prefix.
pub(super) fn value_len(tag: u8, len: usize) -> usize {
    prefix(tag, len) + len
}

/// Length of the prefix before a value of `len` bytes, in the field `tag`.
fn prefix(tag: u8, len: usize) -> usize {
    debug_assert!((1..16).contains(&tag), "its key takes one byte");
    1 + prost::length_delimiter_len(len)
}

fn put_prefix(tag: u8, len: usize, to: &mut BytesMut) {
    to.put_u8(tag << 3 | 2);
    prost::encode_length_delimiter(len, to).expect("BytesMut grows");
}

/// An answer while it is encoded, from front to back.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    list: VecDeque<Part>,
    /// The end of the answer. It joins the list when it is full, or when something else follows.
    shared: BytesMut,
    /// The length of the answer in bytes, rows that were only measured included.
    len: usize,
}

/// A message within the answer whose length is not known yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    /// The part that is reserved for what comes before the message.
    part: usize,
    /// The length of the answer up to the message.
    len: usize,
}

impl Parts {
    /// The length of the answer in bytes, rows that were only measured included.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds the fields of a message that are set.
    pub(crate) fn fields(&mut self, message: &impl Message) {
        let len = message.encoded_len();
        message.encode(self.room(len)).expect("BytesMut grows");
        self.len += len;
    }

    /// Adds a message as a value of the field `tag` (1 to 15).
    pub(crate) fn message(&mut self, tag: u8, message: &impl Message) {
        let len = message.encoded_len();
        let prefix = prefix(tag, len);
        put_prefix(tag, len, self.room(prefix));
        self.len += prefix;
        self.fields(message);
    }

    /// Begins a message that will become a value of a field.
    pub(crate) fn begin(&mut self) -> Begun {
        self.cut();
        self.list.push_back(Part::Bytes(Bytes::new(), true));
        Begun { part: self.list.len() - 1, len: self.len }
    }

    /// Ends a message. It is the value of the first of these fields (1 to 15), which is the only
    /// one of a message that is the value of the second, and so on.
    pub(crate) fn end<const FIELDS: usize>(&mut self, begun: Begun, tags: [u8; FIELDS]) {
        self.cut();
        let mut lens = [0; FIELDS];
        let mut len = self.len - begun.len;
        for (tag, inner) in tags.iter().zip(&mut lens) {
            *inner = len;
            len += prefix(*tag, len);
        }
        let room = self.room(len + begun.len - self.len);
        for (tag, len) in tags.iter().zip(lens).rev() {
            put_prefix(*tag, len, room);
        }
        self.len = begun.len + len;
        self.list[begun.part] = Part::Bytes(self.shared.split().freeze(), true);
    }

    /// Takes what was encoded out as one buffer, which is as long as that.
    pub(crate) fn take(&mut self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.len);
        self.take_bytes().for_each(|part| bytes.put(part));
        self.len = 0;
        bytes.freeze()
    }

    fn take_bytes(&mut self) -> impl Iterator<Item = Bytes> {
        self.cut();
        std::mem::take(&mut self.list).into_iter().filter_map(|part| match part {
            Part::Bytes(bytes, _) => Some(bytes),
            Part::Rows(_) => None,
        })
    }

    fn room(&mut self, len: usize) -> &mut BytesMut {
        if self.shared.capacity() - self.shared.len() < len {
            self.cut();
            self.shared = BytesMut::with_capacity(PART.max(len));
        }
        &mut self.shared
    }

    /// Ends the shared part. The following bytes use the rest of its memory.
    fn cut(&mut self) {
        if !self.shared.is_empty() {
            self.list.push_back(Part::Bytes(self.shared.split().freeze(), true));
        }
    }

    /// Adds the row as a value of the field `tag` (1 to 15).
    pub(super) fn push(&mut self, tag: u8, mut row: &[u8]) {
        put_prefix(tag, row.len(), self.room(prefix(tag, row.len())));
        self.len += value_len(tag, row.len());
        while !row.is_empty() {
            let shared = self.room(1);
            let (now, rest) = row.split_at(row.len().min(shared.capacity() - shared.len()));
            shared.put_slice(now);
            row = rest;
        }
    }

    /// Counts a row of this length that was measured, but not kept, as a value of the field `tag`.
    pub(super) fn skip(&mut self, tag: u8, len: usize) {
        self.len += value_len(tag, len);
    }

    /// Puts rows that were measured and not kept behind what was added.
    pub(super) fn leave(&mut self, rows: Rows) {
        self.cut();
        self.list.push_back(Part::Rows(rows));
    }
}
