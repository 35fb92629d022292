//! Disconnects clients that ping too often (`--grpc-keepalive-min-time`).
//!
//! A ping costs the member a frame each way, whether or not there is anything to keep alive, and h2
//! answers it without notice. So the frame headers are read here, below h2, in both directions, and
//! judged as Go's server does (grpc-go: `handlePing`):
//!
//! ```text
//!   socket ──▶ HEADERS: a call begins    PING: too early? ──▶ a strike; the third one ends it
//!   socket ◀── HEADERS, DATA: no strikes any more; END_STREAM, RST_STREAM: the call is over
//! ```
//!
//! * The first ping of a connection is never too early, nor is the first one after headers or data
//!   of an answer: a client measures the network when it receives some.
//! * A ping is too early within the flag's time after the previous one, and within two hours if no
//!   call is running: then there is nothing to keep alive (`PermitWithoutStream: false`).
//! * The connection ends with GOAWAY, `ENHANCE_YOUR_CALM` and the text `too_many_pings`, which
//!   makes gRPC's clients ping less often. h2 has no way to send that, so it is written here,
//!   between two frames of h2, and the connection is closed.
//! * Bytes that are not HTTP/2, or are malformed, pass through unchanged; h2 judges them.
//!
//! A frame costs a look at nine bytes, and a running call an entry in a set: h2 bounds their
//! number. That takes 30 ns for a call with its answer, and 55 ns among a thousand others
//! (measured); only a ping reads the clock. Left out: the pings between members, which have ports
//! of their own.

use std::{
    collections::BTreeSet,
    io::{Error, IoSlice, Result},
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    edge,
    frame::{
        ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEAD, HEADERS, PING, RST_STREAM,
    },
    http2::PREFACE,
    through::ends_with_inner,
};
use crate::clock;

/// The text of the GOAWAY, from which grpc-go's clients learn its reason.
const TOO_MANY_PINGS: &[u8] = b"too_many_pings";
/// The error code of the GOAWAY (RFC 9113 7).
const ENHANCE_YOUR_CALM: u8 = 11;

/// Pings that may come too early (grpc-go: maxPingStrikes).
const STRIKES_MAX: u8 = 2;
/// Least interval between pings of a client without calls (grpc-go: defaultPingTimeout).
const IDLE_MIN_TIME: Duration = Duration::from_secs(2 * 60 * 60);

/// A client's connection, which ends if the client pings too often.
#[derive(Debug)]
pub(super) struct Pings<S> {
    inner: S,
    protocol: Protocol,
    read: Frames,
    written: Frames,
    calls: Calls,
    rule: Rule,
    /// The unwritten rest of the GOAWAY, once there have been too many pings.
    end: Option<Vec<u8>>,
}

/// The client's protocol, once its first bytes have shown it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    /// Not known yet; this many bytes of HTTP/2's preface have arrived.
    Unknown(usize),
    Http2,
    /// Not HTTP/2; nothing is checked.
    Other,
}

impl<S> Pings<S> {
    /// Wraps a connection before anything is read from it. Pings of a client with running calls
    /// must be `min_time` apart.
    pub(super) fn new(inner: S, min_time: Duration) -> Self {
        Self {
            inner,
            protocol: Protocol::Unknown(0),
            read: Frames::default(),
            written: Frames::default(),
            calls: Calls::default(),
            rule: Rule::new(min_time),
            end: None,
        }
    }

    /// Processes bytes from the client.
    fn note_read(&mut self, bytes: &[u8]) {
        let bytes = match self.protocol {
            Protocol::Http2 => bytes,
            Protocol::Other => return edge::with(edge::Edge::read_http1),
            Protocol::Unknown(seen) => self.preface(seen, bytes),
        };
        let Self { calls, rule, end, read, .. } = self;
        edge::with(|edge| {
            edge.read();
            read.follow(bytes, |frame| {
                let is_new = frame.kind == HEADERS && calls.last < frame.stream;
                edge.frame_read((frame.kind, frame.flags, frame.stream), is_new);
                match frame.kind {
                    HEADERS => calls.begin(frame.stream),
                    RST_STREAM => calls.end(frame.stream),
                    PING if frame.flags & ACK == 0 && !rule.allows(clock::now(), calls.any()) => {
                        end.get_or_insert_with(|| goaway(calls.last));
                    }
                    _ => {}
                }
            });
            edge.end_read(read.is_whole());
        });
    }

    /// Compares with the preface; returns the bytes after it.
    fn preface<'a>(&mut self, seen: usize, bytes: &'a [u8]) -> &'a [u8] {
        let expected = &PREFACE[seen..];
        let (begin, rest) = bytes.split_at(expected.len().min(bytes.len()));
        self.protocol = match begin == &expected[..begin.len()] {
            false => Protocol::Other,
            true if begin.len() == expected.len() => Protocol::Http2,
            true => Protocol::Unknown(seen + begin.len()),
        };
        if self.protocol == Protocol::Http2 { rest } else { &[] }
    }

    /// Processes bytes that the socket has accepted.
    fn note_written(&mut self, bytes: &[u8]) {
        // A port for gRPC only sends its settings before the client has sent anything.
        if self.protocol == Protocol::Other {
            return;
        }
        let Self { calls, rule, written, .. } = self;
        edge::with(|edge| {
            written.follow(bytes, |frame| {
                edge.frame_written((frame.kind, frame.flags, frame.stream));
                match frame.kind {
                    DATA | HEADERS => {
                        rule.has_answered = true;
                        if frame.flags & END_STREAM != 0 {
                            calls.end(frame.stream);
                        }
                    }
                    RST_STREAM => calls.end(frame.stream),
                    _ => {}
                }
            });
            edge.end_write(written.is_whole());
        });
    }

    /// All bytes of a write have been written, or not.
    fn end_http1(&self, is_whole: bool) {
        if is_whole && self.protocol == Protocol::Other {
            edge::with(edge::Edge::written_http1);
        }
    }

    /// Whether the GOAWAY is due and would not split a frame or a header block.
    fn may_end(&self) -> bool {
        self.end.is_some() && self.written.is_between()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Pings<S> {
    /// Sends the GOAWAY and closes the connection; returns the reason.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        match ready!(self.poll_goaway(context)) {
            Ok(()) => Poll::Ready(Error::other("the client pings too often")),
            Err(error) => Poll::Ready(error),
        }
    }

    fn poll_goaway(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        let rest = self.end.get_or_insert_default();
        let mut inner = Pin::new(&mut self.inner);
        while !rest.is_empty() {
            let len = ready!(inner.as_mut().poll_write(context, rest))?;
            rest.drain(..len);
        }
        ready!(inner.as_mut().poll_shutdown(context))?;
        // Closing a socket with unread input resets it, and the GOAWAY may be lost.
        let mut piece = [0; 4096];
        loop {
            let mut buf = ReadBuf::new(&mut piece);
            match inner.as_mut().poll_read(context, &mut buf)? {
                Poll::Ready(()) if !buf.filled().is_empty() => {}
                _ => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Pings<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        if self.end.is_none() {
            let before = buf.filled().len();
            ready!(Pin::new(&mut self.inner).poll_read(context, buf))?;
            self.note_read(&buf.filled()[before..]);
            if self.end.is_none() {
                return Poll::Ready(Ok(()));
            }
            // Requests that arrived with the last ping would not be answered any more.
            buf.set_filled(before);
        }
        if self.may_end() {
            return self.poll_end(context).map(Err);
        }
        // The frame in progress is written to its end first, which wakes the task.
        Poll::Pending
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Pings<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        if self.may_end() {
            return self.poll_end(context).map(Err);
        }
        let max = if self.end.is_some() { self.written.rest() } else { bytes.len() };
        let bytes = &bytes[..bytes.len().min(max)];
        let len = ready!(Pin::new(&mut self.inner).poll_write(context, bytes))?;
        self.note_written(&bytes[..len]);
        self.end_http1(len == bytes.len());
        if self.may_end() {
            context.waker().wake_by_ref();
        }
        Poll::Ready(Ok(len))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        if self.end.is_some() {
            let first = slices.iter().find(|slice| !slice.is_empty());
            return self.poll_write(context, first.map_or(&[], |slice| slice));
        }
        let len = ready!(Pin::new(&mut self.inner).poll_write_vectored(context, slices))?;
        let mut left = len;
        for slice in slices {
            let taken = slice.len().min(left);
            self.note_written(&slice[..taken]);
            left -= taken;
            if left == 0 {
                break;
            }
        }
        self.end_http1(left == 0 && len == slices.iter().map(|slice| slice.len()).sum::<usize>());
        Poll::Ready(Ok(len))
    }

    ends_with_inner!();
}

/// The GOAWAY for a connection whose last call had this stream.
fn goaway(stream: u32) -> Vec<u8> {
    let len = 8 + TOO_MANY_PINGS.len() as u8;
    let head = [0, 0, len, GOAWAY, 0, 0, 0, 0, 0];
    [&head[..], &stream.to_be_bytes(), &[0, 0, 0, ENHANCE_YOUR_CALM], TOO_MANY_PINGS].concat()
}

/// The running calls, according to the frames.
#[derive(Debug, Default)]
struct Calls {
    open: BTreeSet<u32>,
    /// The stream of the newest one. Headers on one that is not newer are trailers.
    last: u32,
}

impl Calls {
    fn begin(&mut self, stream: u32) {
        if self.last < stream {
            self.last = stream;
            self.open.insert(stream);
        }
    }

    fn end(&mut self, stream: u32) {
        self.open.remove(&stream);
    }

    fn any(&self) -> bool {
        !self.open.is_empty()
    }
}

/// When a ping is too early, and how many have been.
#[derive(Debug)]
struct Rule {
    min_time: Duration,
    last: Option<Instant>,
    strikes: u8,
    /// Whether headers or data were sent since the last ping.
    has_answered: bool,
}

impl Rule {
    fn new(min_time: Duration) -> Rule {
        Rule { min_time, last: None, strikes: 0, has_answered: false }
    }

    /// Judges a ping; returns whether the client may stay.
    fn allows(&mut self, now: Instant, has_calls: bool) -> bool {
        let last = self.last.replace(now);
        if std::mem::take(&mut self.has_answered) {
            self.strikes = 0;
            return true;
        }
        let apart = if has_calls { self.min_time } else { IDLE_MIN_TIME };
        if last.is_some_and(|last| now.duration_since(last) < apart) {
            self.strikes += 1;
        }
        self.strikes <= STRIKES_MAX
    }
}

/// The parts of a frame header that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    kind: u8,
    flags: u8,
    stream: u32,
}

/// Follows one direction of a connection from frame header to frame header, however it is split.
#[derive(Debug, Default)]
struct Frames {
    /// The bytes of a frame header that was split.
    head: [u8; HEAD],
    have: usize,
    /// Bytes of the payload still to come.
    left: usize,
    /// Whether the last frame belongs to a header block that continues.
    is_in_block: bool,
}

impl Frames {
    fn follow(&mut self, mut bytes: &[u8], mut note: impl FnMut(Head)) {
        loop {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = &bytes[skipped..];
            // Nearly always a frame header arrives in one piece.
            if self.have == 0
                && let Some((head, rest)) = bytes.split_first_chunk()
            {
                bytes = rest;
                note(self.begin(*head));
                continue;
            }
            let taken = (HEAD - self.have).min(bytes.len());
            if taken == 0 {
                return;
            }
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == HEAD {
                self.have = 0;
                note(self.begin(self.head));
            }
        }
    }

    /// Called when a frame header is complete.
    fn begin(&mut self, head: [u8; HEAD]) -> Head {
        let [high, middle, low, kind, flags, a, b, c, d] = head;
        self.left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        self.is_in_block = matches!(kind, HEADERS | CONTINUATION) && flags & END_HEADERS == 0;
        // The highest bit is reserved.
        Head { kind, flags, stream: u32::from_be_bytes([a & 0x7f, b, c, d]) }
    }

    /// Whether the last frame is complete.
    fn is_whole(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// Whether another frame may be inserted here.
    fn is_between(&self) -> bool {
        self.is_whole() && !self.is_in_block
    }

    /// Number of bytes, at most, before the next position at which that may be so.
    fn rest(&self) -> usize {
        if self.left == 0 { HEAD - self.have } else { self.left }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const MIN: Duration = Duration::from_secs(5);

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    fn ping() -> Vec<u8> {
        frame(PING, 0, 0, &[7; 8])
    }

    #[test]
    fn a_ping_is_too_early_within_the_time_and_two_hours_without_calls() {
        let start = clock::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut rule = Rule::new(MIN);
        for second in [0, 5, 10, 15, 20] {
            assert!(rule.allows(at(second), true));
        }
        assert!(rule.allows(at(20 + 7200), false));
        assert_eq!(rule.strikes, 0);
        for (second, strikes) in [(8000, 1), (8004, 2), (8009, 2)] {
            assert!(rule.allows(at(second), second != 8000));
            assert_eq!(rule.strikes, strikes, "what is in time takes nothing back");
        }
        assert!(!rule.allows(at(8010), true));
    }

    #[test]
    fn an_answer_resets_the_strikes() {
        let now = clock::now();
        let mut rule = Rule::new(MIN);
        for _ in 0..5 {
            rule.has_answered = true;
            for strikes in 0..=2 {
                assert!(rule.allows(now, true));
                assert_eq!(rule.strikes, strikes);
            }
        }
        assert!(!rule.allows(now, true));
    }

    #[test]
    fn heads_are_found_wherever_the_bytes_are_cut() {
        let frames = [
            frame(HEADERS, 0, 1, b"first"),
            frame(CONTINUATION, END_HEADERS, 1, b""),
            ping(),
            frame(DATA, END_STREAM, 0x8000_0001, &[0; 300]),
        ];
        let bytes = frames.concat();
        let expected = [(HEADERS, 0, 1), (CONTINUATION, 4, 1), (PING, 0, 0), (DATA, 1, 1)];
        for size in 1..=bytes.len() {
            let (mut follower, mut seen) = (Frames::default(), Vec::new());
            for piece in bytes.chunks(size) {
                follower.follow(piece, |head| seen.push((head.kind, head.flags, head.stream)));
            }
            assert_eq!(seen, expected, "in pieces of {size}");
            assert!(follower.is_between());
        }
        let mut follower = Frames::default();
        let mut at_places = Vec::new();
        for (at, byte) in bytes.iter().enumerate() {
            if follower.is_between() {
                at_places.push(at);
            }
            assert!(0 < follower.rest());
            follower.follow(&[*byte], |_| {});
        }
        let second = frames[0].len() + frames[1].len();
        assert_eq!(at_places, [0, second, second + frames[2].len()], "not within a header block");
    }

    #[test]
    fn calls_are_under_way_until_either_side_ends_them() {
        let mut pings = Pings::new((), MIN);
        let begin = |stream| frame(HEADERS, END_HEADERS, stream, b"call");
        pings.note_read(&[PREFACE, &begin(1), &begin(3), &begin(5)].concat());
        assert_eq!(pings.calls.open.len(), 3);
        // Trailers from the client are no new call, and half an end ends none.
        pings.note_read(&frame(HEADERS, END_HEADERS | END_STREAM, 3, b"trailers"));
        pings.note_written(&frame(HEADERS, END_HEADERS, 1, b"head"));
        assert_eq!(pings.calls.open.len(), 3);
        pings.note_written(&frame(HEADERS, END_HEADERS | END_STREAM, 1, b"trailers"));
        pings.note_written(&frame(RST_STREAM, 0, 3, &[0; 4]));
        pings.note_read(&frame(RST_STREAM, 0, 5, &[0; 4]));
        pings.note_read(&frame(RST_STREAM, 0, 1, &[0; 4]));
        assert!(!pings.calls.any());
        assert_eq!(pings.calls.last, 5);
        assert!(pings.rule.has_answered);
    }

    /// Writes all bytes, unless that fails.
    async fn write(socket: &mut (impl AsyncWrite + Unpin), mut bytes: &[u8], is_vectored: bool) {
        while !bytes.is_empty() {
            let (first, second) = bytes.split_at(bytes.len() / 3);
            let slices = [IoSlice::new(first), IoSlice::new(second)];
            let written = match is_vectored {
                true => socket.write_vectored(&slices).await,
                false => socket.write(bytes).await,
            };
            let Ok(len) = written else { break };
            bytes = &bytes[len..];
        }
    }

    /// The client pings while the server has written part of a frame, and has more to write: the
    /// frame is completed, and GOAWAY follows where the next one would have begun.
    #[tokio::test]
    async fn goaway_comes_between_two_frames() {
        let data = frame(DATA, 0, 1, &[1; 1000]);
        let expected = frame(GOAWAY, 0, 0, b"\0\0\0\x01\0\0\0\x0btoo_many_pings");
        for (cut, is_vectored) in
            [0, 4, 9, 100, 1008].map(|cut| [(cut, false), (cut, true)]).concat()
        {
            let (mut client, server) = duplex(1 << 16);
            let (mut reader, mut writer) = tokio::io::split(Pings::new(server, MIN));
            let begin = [PREFACE, &frame(HEADERS, END_HEADERS, 1, b"call")].concat();
            client.write_all(&begin).await.unwrap();
            reader.read_exact(&mut vec![0; begin.len()]).await.unwrap();
            write(&mut writer, &data[..cut], is_vectored).await;
            client.write_all(&ping().repeat(4)).await.unwrap();
            let mut piece = [0; 1024];
            let rest = [&data[cut..], &data].concat();
            let (read, ()) =
                tokio::join!(reader.read(&mut piece), write(&mut writer, &rest, is_vectored));
            assert_eq!(read.unwrap_err().to_string(), "the client pings too often");
            let mut said = Vec::new();
            client.read_to_end(&mut said).await.unwrap();
            let frame = if cut == 0 { &[][..] } else { &data };
            assert!(said == [frame, &expected].concat(), "cut after {cut}: {said:?}");
        }
    }

    #[tokio::test]
    async fn another_protocol_is_passed_on() {
        let (mut client, server) = duplex(1 << 16);
        let mut server = Pings::new(server, MIN);
        let sent = [b"GET / HTTP/1.1\r\n", &ping().repeat(9)[..]].concat();
        client.write_all(&sent).await.unwrap();
        let mut read = vec![0; sent.len()];
        server.read_exact(&mut read).await.unwrap();
        assert_eq!(read, sent);
        assert_eq!(server.protocol, Protocol::Other);
    }
}
