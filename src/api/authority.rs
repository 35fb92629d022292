//! Repairs a client's invalid `:authority`, so that h2 accepts it.
//!
//! etcd's own Go client, up to 3.4, dials some RPCs (Status, Defragment, HashKV) with the endpoint
//! as given, and its gRPC copies that into every request: `:authority: http://host:2379`, or
//! `unix://…` for a socket. The client of 3.5.0 sends `#initially=[http://host:2379]` with all
//! RPCs. Go's server does not check it; h2 refuses such a request with PROTOCOL_ERROR before our
//! code sees it. So this module follows the client's bytes, below h2, up to its first header block:
//!
//! ```text
//!   PRI * HTTP/2.0 ─ SETTINGS ─ … ─ HEADERS ──┬── ordinary authority ──▶ nothing more is checked
//!         │                                   └── invalid ──▶ this and later HEADERS are repaired
//!         └── anything else is HTTP/1 ──▶ nothing more is checked
//! ```
//!
//! * A scheme is removed. An authority that is still invalid, an empty one for example, becomes a
//!   dash: none of our methods reads it.
//! * Frames of other kinds pass through unchanged. A header block, with its CONTINUATION frames, is
//!   held back until it is complete, as h2 would wait for it anyway; at most what h2 accepts of one
//!   ([`HEADER_LIST`]).
//! * HPACK has state: what a client has sent once it refers to by an index later. A repaired entry
//!   would have another size in h2's table than in the client's, and the two would evict their
//!   oldest entries at different times. So on such a connection every block is rewritten without a
//!   table, and h2's table stays empty.
//! * Bytes that cannot be parsed pass through unchanged, and nothing is checked after them: h2
//!   alone rejects malformed requests.
//! * The first block decides. No known client sends first a valid authority and later an invalid
//!   one: all take it from the address that they have dialled.
//!
//! Ordinary clients cost one pass over a header block; after that a read is a read of the socket.
//! The others cost the decoding and encoding of their header blocks, and two more copies.

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
    frame::{CONTINUATION, END_HEADERS, END_STREAM, HEAD, HEADERS, PADDED, PRIORITY},
    http2::{FRAME, HEADER_LIST, PREFACE},
    through::writes_to_inner,
};

/// Longest payload that a client may send, because we announce no larger frames.
const PAYLOAD_MAX: usize = FRAME as usize;

/// How many bytes of one block are held back, in frames, and how large its list of fields may be.
const BLOCK_MAX: usize = HEADER_LIST as usize;

/// How many bytes may be ready for h2. A block can be much longer than what the client has sent,
/// because that consists of indexes.
const OUT_MAX: usize = 2 * BLOCK_MAX;

/// Stream dependency and weight.
const PRIORITY_LEN: usize = 5;

/// A client's connection, with authorities that h2 accepts.
#[derive(Debug)]
pub struct MendedAuthority<S> {
    inner: S,
    follower: Follower,
}

impl<S> MendedAuthority<S> {
    /// Wraps a connection before anything is read from it.
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
        // Without room in the buffer, "nothing was read" would look like the end of the stream
        // below.
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

/// Position of the follower in the client's bytes.
#[derive(Debug)]
enum State {
    /// Inside the preface; this many bytes of it have arrived.
    Preface(usize),
    /// In a frame header; its bytes are held back.
    Head,
    /// In a frame of another kind; this many bytes are still to come.
    Other(usize),
    /// In a frame of a header block; the frame ends when this many bytes are held back.
    Fields(usize),
    /// Nothing is checked any more.
    Done,
}

/// Follows the client's bytes from frame to frame, however they are split.
#[derive(Debug)]
struct Follower {
    state: State,
    /// The client's table, if its blocks are repaired.
    table: Option<Table>,
    /// The bytes of an incomplete frame header, or of the frames of an incomplete header block.
    held: Vec<u8>,
    /// Where the current frame begins in `held`.
    frame_at: usize,
    /// The bytes of the header block itself.
    block: Vec<u8>,
    /// Checked and repaired bytes that h2 has not read yet.
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

    /// Fills the reader's buffer; returns whether there was anything to copy.
    fn give(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let len = self.out.len().min(buf.remaining());
        buf.put_slice(&self.out[..len]);
        self.out.advance(len);
        if self.out.is_empty() && self.is_done() {
            // The connection may live for days, and no longer needs the memory.
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

    /// Stops checking: the held bytes pass through.
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
            // No other frame may come between the frames of a block.
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

    /// Called when a frame of a header block is complete.
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

    /// Called when a header block is complete. `None` if it and everything after it passes through
    /// unchanged.
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

/// The state with `left` bytes of a frame of another kind to come.
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

/// Writes a block in frames, replacing those that begin with `first`.
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
