//! The parts of both stream formats: lengths, and raft messages as protobuf.
//!
//! Peers are trusted, but may have bugs: every length is checked before memory is allocated, and
//! memory grows with the bytes that were received, not with those that were announced.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use protobuf::{CodedOutputStream, Message as _, ProtobufError};
use raft::eraftpb::{Entry, Message, MessageType};

/// The largest message or frame that is read or written, in bytes (etcd: readBytesLimit).
pub(super) const FRAME_LEN_MAX: usize = 512 << 20;
/// The most entries in a message. An entry that takes two bytes on the wire takes fifty times as
/// much in memory; raft's messages hold a megabyte of them, each at least six bytes in etcd's form.
pub(super) const ENTRIES_MAX: u64 = 1 << 20;

/// One thing read from a stream.
#[derive(Debug, PartialEq)]
pub(super) enum Frame {
    /// A sign of life of the stream itself, not of raft.
    LinkHeartbeat,
    /// A message for raft.
    Message(Box<Message>),
}

/// Malformed bytes from a peer. Its connection is closed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// A length beyond [`FRAME_LEN_MAX`].
    #[error("a frame of {0} bytes is longer than the limit of {FRAME_LEN_MAX}")]
    TooLong(u64),
    /// This many entries, which is more than [`ENTRIES_MAX`].
    #[error("a message with {0} entries or more")]
    TooMany(u64),
    /// A msgapp frame that is none of the three.
    #[error("unknown frame kind {0:#04x}")]
    Kind(u8),
    /// Not a protobuf message, or one with wrong types.
    #[error("broken message: {0}")]
    Protobuf(#[from] ProtobufError),
    /// A tag, length or wire type that raft's messages cannot contain.
    #[error("broken message: field {0} is malformed")]
    Field(u64),
    /// Entries of a MsgApp with a gap, on which raft-rs would panic.
    #[error("entry {found} where {expected} is next")]
    Gap {
        /// The index that must come next.
        expected: u64,
        /// The index that the entry has.
        found: u64,
    },
}

/// Appends a big-endian length and the message. Returns false, and appends nothing, when the
/// message is larger than any member would read.
pub(super) fn put_sized<M: protobuf::Message>(message: &M, out: &mut BytesMut) -> bool {
    let size = message.compute_size() as usize;
    if FRAME_LEN_MAX < size {
        return false;
    }
    out.reserve(8 + size);
    out.put_u64(size as u64);
    write(message, size, out);
    true
}

/// Appends the message alone.
pub(super) fn put<M: protobuf::Message>(message: &M, out: &mut BytesMut) {
    let size = message.compute_size() as usize;
    write(message, size, out);
}

/// Appends the message, whose size was computed just before.
fn write<M: protobuf::Message>(message: &M, size: usize, out: &mut BytesMut) {
    let start = out.len();
    out.resize(start + size, 0);
    let mut stream = CodedOutputStream::bytes(&mut out[start..]);
    message
        .write_to_with_cached_sizes(&mut stream)
        .and_then(|()| stream.flush())
        .expect("the buffer has the size that was computed");
}

/// Takes a length and as many bytes off the front of `input`, behind `skip` bytes that go as well;
/// takes nothing while they are incomplete.
pub(super) fn take_sized(input: &mut BytesMut, skip: usize) -> Result<Option<Bytes>, Broken> {
    let Some(head) = input.get(skip..).and_then(|rest| rest.first_chunk::<8>()) else {
        return Ok(None);
    };
    let announced = u64::from_be_bytes(*head);
    let length = usize::try_from(announced).unwrap_or(usize::MAX);
    if FRAME_LEN_MAX < length {
        return Err(Broken::TooLong(announced));
    }
    if input.len() < skip + 8 + length {
        return Ok(None);
    }
    input.advance(skip + 8);
    Ok(Some(input.split_to(length).freeze()))
}

/// Decodes a message. Entries' data are slices of `bytes`, not copies.
pub(super) fn message(bytes: &Bytes) -> Result<Message, Broken> {
    check_shape(bytes, Shape::Message)?;
    let mut message = Message::parse_from_carllerche_bytes(bytes)?;
    if message.get_msg_type() != MessageType::MsgSnapshot {
        // etcd writes an empty snapshot into every message, which would keep three allocations
        // alive.
        message.snapshot = protobuf::SingularPtrField::none();
    }
    if message.get_msg_type() == MessageType::MsgAppend {
        let mut index = message.index;
        for entry in &message.entries {
            index = follow(index, entry)?;
        }
    }
    Ok(message)
}

/// Decodes an entry. Its data is a slice of `bytes`, not a copy.
pub(super) fn entry(bytes: &Bytes) -> Result<Entry, Broken> {
    check_shape(bytes, Shape::Entry)?;
    Ok(Entry::parse_from_carllerche_bytes(bytes)?)
}

/// Checks that `entry` follows the entry at `index`, and returns its index.
pub(super) fn follow(index: u64, entry: &Entry) -> Result<u64, Broken> {
    let expected = index.saturating_add(1);
    if entry.index != expected || expected == index {
        return Err(Broken::Gap { expected, found: entry.index });
    }
    Ok(expected)
}

/// The type of a nested message.
#[derive(Clone, Copy)]
enum Shape {
    Message,
    Entry,
    Snapshot,
    Metadata,
    ConfState,
}

impl Shape {
    /// The message in this field, if it holds one.
    fn nested(self, field: u64) -> Option<Shape> {
        match (self, field) {
            (Shape::Message, 7) => Some(Shape::Entry),
            (Shape::Message, 9) => Some(Shape::Snapshot),
            (Shape::Snapshot, 2) => Some(Shape::Metadata),
            (Shape::Metadata, 1) => Some(Shape::ConfState),
            _ => None,
        }
    }
}

/// Refuses what must not come before rust-protobuf 2: too many entries, and groups, which raft's
/// messages never contain. Unknown groups are skipped by recursion there, so that a megabyte of
/// group starts would overflow the stack (RUSTSEC-2024-0437). The nesting here is at most four
/// deep.
fn check_shape(mut bytes: &[u8], shape: Shape) -> Result<(), Broken> {
    let mut nested_count = 0;
    while !bytes.is_empty() {
        let tag = varint(&mut bytes).ok_or(Broken::Field(0))?;
        let field = tag >> 3;
        let skip = match tag & 7 {
            0 => varint(&mut bytes).map(|_| 0),
            1 => Some(8),
            2 => varint(&mut bytes).and_then(|length| usize::try_from(length).ok()),
            5 => Some(4),
            _ => None,
        };
        let (inside, rest) =
            skip.and_then(|length| bytes.split_at_checked(length)).ok_or(Broken::Field(field))?;
        if let (2, Some(nested)) = (tag & 7, shape.nested(field)) {
            nested_count += 1;
            if ENTRIES_MAX < nested_count {
                return Err(Broken::TooMany(nested_count));
            }
            check_shape(inside, nested)?;
        }
        bytes = rest;
    }
    Ok(())
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}
