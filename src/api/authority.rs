//! A client's `:authority` that is none, made one that h2 accepts.
//!
//! etcd's own Go client, up to 3.4, dials some RPCs (Status, Defragment, HashKV) with the endpoint
//! as it was given, and its gRPC copies that into every request: `:authority: http://host:2379`, or
//! `unix://…` when it goes through a socket. That of 3.5.0 sends `#initially=[http://host:2379]` with
//! all of them. Go's server does not look; h2 refuses such a request with PROTOCOL_ERROR before any
//! code of ours sees it. So what the client sends is followed here, below h2, as far as its first
//! header block:
//!
//! ```text
//!   PRI * HTTP/2.0 ─ SETTINGS ─ … ─ HEADERS ──┬── ordinary authority ──▶ nothing is looked at again
//!         │                                   └── none ──▶ this and all later HEADERS are mended
//!         └── anything else is HTTP/1 ──▶ nothing is looked at again
//! ```
//!
//! * A scheme is taken out. What is still no authority then becomes [`hpack::NOBODY`]: no method of
//!   ours reads it.
//! * Frames of other kinds go through as they come. A HEADERS frame is held back until it is
//!   complete, which h2 would wait for anyway; so at most a frame of the default size is held. A
//!   longer one is refused by h2 and goes through, and so does all that cannot be understood: the
//!   verdict on malformed requests is h2's alone.
//! * A block that goes on in CONTINUATION frames is no special case: `:authority` comes first.
//! * HPACK has state: the client's table holds what it has sent, h2's the mended entry, which is
//!   shorter, or at least no longer. That is harmless. Indexes count from the newest entry, both tables get the same
//!   insertions, and the table with the smaller entries drops an entry no sooner than the other. So
//!   the client's table is always the newer part of h2's, and an index means the same in both.
//! * Later blocks usually name the entry by its index. When the client's table has dropped it, the
//!   client sends it again, which is why such a connection is followed to its end.
//! * Only a literal whose name is the static `:authority`, or is spelled out, is mended. HPACK would
//!   allow the name of a dynamic entry, but no encoder that knows the static table does that, and
//!   to understand it we would have to keep the table.
//!
//! Ordinary clients pay for one walk over a header block, and from then on a read is a read of the
//! socket. The others pay for two more copies.

mod hpack;

use std::{
    io::{IoSlice, Result},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What an HTTP/2 client sends first (RFC 9113 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The length of a frame's head: length 3, type 1, flags 1, stream 4.
const HEAD: usize = 9;

/// The longest payload that a client may send, as we never announce another.
const PAYLOAD_MAX: usize = 16_384;

/// The type of a HEADERS frame, and the flags that change its layout (RFC 9113 6.2).
const HEADERS: u8 = 1;
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
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
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
    /// In a HEADERS frame of this length with its head; what has come of it is held back.
    Headers(usize),
    /// Nothing is looked at any more.
    Done,
}

/// Follows the client's bytes, cut anywhere, from frame to frame.
#[derive(Debug)]
struct Follower {
    state: State,
    /// A header block of this connection was mended.
    was_mended: bool,
    held: Vec<u8>,
    /// Seen, mended, and not yet read by h2.
    out: BytesMut,
}

impl Follower {
    fn new() -> Self {
        Self { state: State::Preface(0), was_mended: false, held: Vec::new(), out: BytesMut::new() }
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
                State::Headers(len) => self.headers(len, bytes),
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
        self.held = Vec::new();
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
        let taken = self.hold(HEAD, bytes);
        let [high, middle, low, kind, ..] = self.held[..] else { return taken };
        if self.held.len() < HEAD {
            return taken;
        }
        let len = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        self.state = match kind {
            HEADERS if PAYLOAD_MAX < len => State::Done,
            // An empty one is complete already, and would be held back in vain.
            HEADERS if 0 < len => State::Headers(HEAD + len),
            _ => {
                self.release();
                after(len)
            }
        };
        taken
    }

    fn other(&mut self, left: usize, bytes: &[u8]) -> usize {
        let len = left.min(bytes.len());
        self.out.extend_from_slice(&bytes[..len]);
        self.state = after(left - len);
        len
    }

    fn headers(&mut self, len: usize, bytes: &[u8]) -> usize {
        let taken = self.hold(len, bytes);
        if self.held.len() < len {
            return taken;
        }
        match mend(&self.held) {
            Some(frame) => {
                self.was_mended = true;
                self.held.clear();
                self.out.extend_from_slice(&frame);
            }
            None => self.release(),
        }
        self.state = if self.was_mended { State::Head } else { State::Done };
        taken
    }

    /// Holds back bytes until there are `len` of them; returns how many were taken.
    fn hold(&mut self, len: usize, bytes: &[u8]) -> usize {
        let taken = (len - self.held.len()).min(bytes.len());
        self.held.extend_from_slice(&bytes[..taken]);
        taken
    }

    fn release(&mut self) {
        self.out.extend_from_slice(&self.held);
        self.held.clear();
    }
}

/// The state with so many bytes of a frame of another kind to come.
fn after(left: usize) -> State {
    if left == 0 { State::Head } else { State::Other(left) }
}

/// A complete HEADERS frame with an authority that h2 accepts; `None` if it stays as it is.
fn mend(frame: &[u8]) -> Option<Vec<u8>> {
    let (head, payload) = frame.split_at_checked(HEAD)?;
    let flags = *head.get(4)?;
    let (mut start, mut end) = (0, payload.len());
    if flags & PADDED != 0 {
        start = 1;
        end = end.checked_sub(usize::from(*payload.first()?))?;
    }
    if flags & PRIORITY != 0 {
        start += PRIORITY_LEN;
    }
    let (place, host) = hpack::mended_authority(payload.get(start..end)?)?;
    let parts = [&payload[..start + place.start], &host, &payload[start + place.end..]];
    let payload = parts.concat();
    // What was Huffman-coded can grow.
    if PAYLOAD_MAX < payload.len() {
        return None;
    }
    let len = u32::try_from(payload.len()).ok()?.to_be_bytes();
    Some([&len[1..], &head[3..], &payload].concat())
}

#[cfg(test)]
mod tests;
