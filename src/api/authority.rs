//! A client's `:authority` that is none, made one that h2 accepts.
//!
//! etcd's own Go client, up to 3.4, dials some RPCs (Status, Defragment, HashKV) with the endpoint
//! as it was given, and its gRPC copies that into every request: `:authority: http://host:2379`, or
//! `unix://…` when it goes through a socket. That of 3.5.0 sends `#initially=[http://host:2379]`
//! with all of them. Go's server does not look; h2 refuses such a request with PROTOCOL_ERROR
//! before any code of ours sees it. So what the client sends is followed here, below h2, as far as
//! its first header block:
//!
//! ```text
//!   PRI * HTTP/2.0 ─ SETTINGS ─ … ─ HEADERS ──┬── ordinary authority ──▶ nothing is looked at again
//!         │                                   └── none ──▶ this and all later HEADERS are mended
//!         └── anything else is HTTP/1 ──▶ nothing is looked at again
//! ```
//!
//! * A scheme is taken out. What is still no authority then, an empty one for example, becomes a
//!   dash: no method of ours reads it.
//! * Frames of other kinds go through as they come. A header block, with its CONTINUATION frames,
//!   is held back until it is complete, which h2 would wait for anyway; at most what h2 takes of
//!   one ([`HEADER_LIST`]).
//! * HPACK has state: what a client has sent once it names by an index later. An entry that is
//!   mended would have another size in h2's table than in the client's, and the two would drop
//!   their oldest entries at different times. So of such a connection every block is written anew,
//!   without a table, and h2's stays empty.
//! * What cannot be understood goes through as it is, and from there on nothing is looked at: the
//!   verdict on malformed requests is h2's alone.
//! * The first block decides. A client that sends a good authority and later another that is none
//!   is not known: they all have theirs from the address that they have dialled.
//!
//! Ordinary clients pay for one walk over a header block, and from then on a read is a read of the
//! socket. The others pay for reading and writing their header blocks, and for two more copies.

pub mod huffman;

mod fields;
mod hpack;

use std::{
    io::Result,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::fields::Table;
use super::{
    http2::{FRAME, HEADER_LIST, PREFACE},
    through::writes_to_inner,
};

/// The length of a frame's head: length 3, type 1, flags 1, stream 4.
const HEAD: usize = 9;

/// The longest payload that a client may send, as we never announce another.
const PAYLOAD_MAX: usize = FRAME as usize;

/// How much of one block is held back, in frames, and how large a list of fields may be.
const BLOCK_MAX: usize = HEADER_LIST as usize;

/// How much may lie ready for h2. A block can be much longer than what the client has sent, because
/// that is full of indexes.
const OUT_MAX: usize = 2 * BLOCK_MAX;

/// The types of frames that carry fields, and the flags that say how (RFC 9113 6.2, 6.10).
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 0x01;
const END_HEADERS: u8 = 0x04;
const PADDED: u8 = 0x08;
const PRIORITY: u8 = 0x20;

/// Stream dependency and weight.
const PRIORITY_LEN: usize = 5;

/// A client's connection, from which requests come with an authority that h2 accepts.
#[derive(Debug)]
pub struct MendedAuthority<S> {
    inner: S,
    follower: Follower,
}

impl<S> MendedAuthority<S> {
    /// Wraps a connection of which nothing has been read yet.
    pub fn new(inner: S) -> Self {
        Self { inner, follower: Follower::new() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for MendedAuthority<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let Self { inner, follower } = self.get_mut();
        // Without room, "nothing was read" would look like the end below.
        while 0 < buf.remaining() {
            if follower.give(buf) {
                return Poll::Ready(Ok(()));
            }
            if follower.is_done() {
                return Pin::new(inner).poll_read(context, buf);
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut *inner).poll_read(context, buf))?;
            match &buf.filled()[before..] {
                [] => follower.end(),
                bytes => follower.push(bytes),
            }
            buf.set_filled(before);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for MendedAuthority<S> {
    writes_to_inner!();
}

/// Where in the client's bytes the follower is.
#[derive(Debug)]
enum State {
    /// So many bytes of the preface have come.
    Preface(usize),
    /// In the head of a frame; what has come of it is held back.
    Head,
    /// So many bytes of a frame of another kind are still to come.
    Other(usize),
    /// In a frame of a header block, which ends with so many bytes held back.
    Fields(usize),
    /// Nothing is looked at any more.
    Done,
}

/// Follows the client's bytes, cut anywhere, from frame to frame.
#[derive(Debug)]
struct Follower {
    state: State,
    /// The client's table, if its blocks are mended.
    table: Option<Table>,
    /// What has come of a frame's head, or of the frames of a header block.
    held: Vec<u8>,
    /// Where in it the current frame begins.
    frame_at: usize,
    /// What has come of the block itself.
    block: Vec<u8>,
    /// Seen, mended, and not yet read by h2.
    out: BytesMut,
}

impl Follower {
    fn new() -> Self {
        Self {
            state: State::Preface(0),
            table: None,
            held: Vec::new(),
            frame_at: 0,
            block: Vec::new(),
            out: BytesMut::new(),
        }
    }

    /// Fills the reader's buffer; tells whether there was anything.
    fn give(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let len = self.out.len().min(buf.remaining());
        buf.put_slice(&self.out[..len]);
        self.out.advance(len);
        if self.out.is_empty() && self.is_done() {
            // The connection may live for days, and needs its memory no more.
            self.out = BytesMut::new();
        }
        0 < len
    }

    fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let len = match self.state {
                State::Preface(seen) => self.preface(seen, bytes),
                State::Head => self.head(bytes),
                State::Other(left) => self.other(left, bytes),
                State::Fields(end) => self.fields(end, bytes),
                State::Done => break,
            };
            bytes.advance(len);
        }
        if self.is_done() {
            self.end();
            self.out.extend_from_slice(bytes);
        }
    }

    /// Nothing is looked at from here on: what was held back goes through.
    fn end(&mut self) {
        self.state = State::Done;
        self.out.extend_from_slice(&self.held);
        (self.held, self.block, self.table) = (Vec::new(), Vec::new(), None);
    }

    fn preface(&mut self, seen: usize, bytes: &[u8]) -> usize {
        let expected = &PREFACE[seen..];
        let len = expected.len().min(bytes.len());
        self.state = match bytes[..len] == expected[..len] {
            false => State::Done,
            true if len == expected.len() => State::Head,
            true => State::Preface(seen + len),
        };
        self.out.extend_from_slice(&bytes[..len]);
        len
    }

    fn head(&mut self, bytes: &[u8]) -> usize {
        let taken = self.hold(self.frame_at + HEAD, bytes);
        let [high, middle, low, kind, ..] = self.held[self.frame_at..] else { return taken };
        if self.held.len() < self.frame_at + HEAD {
            return taken;
        }
        let len = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        let is_first = self.frame_at == 0;
        let is_expected = match is_first {
            true => kind == HEADERS,
            // The reserved bit of a stream's number does not count (RFC 9113 4.1).
            false => {
                kind == CONTINUATION && stream(&self.held) == stream(&self.held[self.frame_at..])
            }
        };
        if is_expected {
            let end = self.held.len() + len;
            let is_too_long = PAYLOAD_MAX < len || BLOCK_MAX < end;
            self.state = if is_too_long { State::Done } else { State::Fields(end) };
            if len == 0 && !is_too_long {
                self.frame();
            }
        } else if is_first {
            self.out.extend_from_slice(&self.held);
            self.held.clear();
            self.state = after(len);
        } else {
            // Nothing may come between the frames of a block, which are all of one stream.
            self.state = State::Done;
        }
        taken
    }

    fn other(&mut self, left: usize, bytes: &[u8]) -> usize {
        let len = left.min(bytes.len());
        self.out.extend_from_slice(&bytes[..len]);
        self.state = after(left - len);
        len
    }

    fn fields(&mut self, end: usize, bytes: &[u8]) -> usize {
        let taken = self.hold(end, bytes);
        if self.held.len() == end {
            self.frame();
        }
        taken
    }

    /// A frame of a header block is complete.
    fn frame(&mut self) {
        let frame = &self.held[self.frame_at..];
        let Some((flags, fragment)) = fragment(frame) else {
            self.state = State::Done;
            return;
        };
        self.block.extend_from_slice(fragment);
        (self.frame_at, self.state) = (self.held.len(), State::Head);
        if flags & END_HEADERS != 0 && self.block_ends().is_none() {
            self.state = State::Done;
        }
    }

    /// A header block is complete. `None` if it goes through as it is, and all that follows.
    fn block_ends(&mut self) -> Option<()> {
        if self.table.is_none() && hpack::is_to_be_mended(&self.block) {
            self.table = Some(Table::new());
        }
        let block = hpack::mend(&self.block, self.table.as_mut()?, BLOCK_MAX)?;
        if OUT_MAX < self.out.len() + block.len() {
            return None;
        }
        put_frames(&mut self.out, &self.held, &block);
        self.held.clear();
        self.block.clear();
        self.frame_at = 0;
        Some(())
    }

    /// Holds back bytes until there are `len` of them; returns how many were taken.
    fn hold(&mut self, len: usize, bytes: &[u8]) -> usize {
        let taken = (len - self.held.len()).min(bytes.len());
        self.held.extend_from_slice(&bytes[..taken]);
        taken
    }
}

/// The state with so many bytes of a frame of another kind to come.
fn after(left: usize) -> State {
    if left == 0 { State::Head } else { State::Other(left) }
}

/// The stream of the frame whose head `frame` begins with.
fn stream(frame: &[u8]) -> u32 {
    u32::from_be_bytes([frame[5] & 0x7f, frame[6], frame[7], frame[8]])
}

/// The flags of a frame of a header block, and its part of the block; `None` if it is malformed.
fn fragment(frame: &[u8]) -> Option<(u8, &[u8])> {
    let (head, payload) = frame.split_at_checked(HEAD)?;
    let (kind, flags) = (head[3], head[4]);
    let (mut start, mut end) = (0, payload.len());
    if kind == HEADERS && flags & PADDED != 0 {
        start = 1;
        end = end.checked_sub(usize::from(*payload.first()?))?;
    }
    if kind == HEADERS && flags & PRIORITY != 0 {
        start += PRIORITY_LEN;
    }
    Some((flags, payload.get(start..end)?))
}

/// Writes a block in frames, in the place of those that begin with `first`.
fn put_frames(out: &mut BytesMut, first: &[u8], block: &[u8]) {
    let (flags, stream) = (first[4], &first[5..HEAD]);
    let padding = usize::from(flags & PADDED != 0);
    let priority =
        if flags & PRIORITY != 0 { &first[HEAD + padding..][..PRIORITY_LEN] } else { &[] };
    let (begin, rest) = block.split_at(block.len().min(PAYLOAD_MAX - priority.len()));
    let kept = flags & (END_STREAM | PRIORITY);
    let mut put = |kind: u8, flags: u8, parts: [&[u8]; 2], is_last: bool| {
        let flags = if is_last { flags | END_HEADERS } else { flags };
        // At most a frame's payload.
        out.put_uint((parts[0].len() + parts[1].len()) as u64, 3);
        out.extend_from_slice(&[kind, flags]);
        out.extend_from_slice(stream);
        parts.iter().for_each(|part| out.extend_from_slice(part));
    };
    put(HEADERS, kept, [priority, begin], rest.is_empty());
    let pieces = rest.len().div_ceil(PAYLOAD_MAX);
    for (at, piece) in rest.chunks(PAYLOAD_MAX).enumerate() {
        put(CONTINUATION, 0, [piece, &[]], at + 1 == pieces);
    }
}

#[cfg(test)]
mod tests;
