//! Clients that ping too often are sent away (`--grpc-keepalive-min-time`).
//!
//! A ping costs the member a frame each way, whether or not there is anything to keep alive, and h2
//! answers it without a word. So the heads of the frames are read here, below h2, both ways, and
//! judged as Go's server does (grpc-go: `handlePing`):
//!
//! ```text
//!   socket ──▶ HEADERS: a call begins    PING: too early? ──▶ a strike; the third one ends it
//!   socket ◀── HEADERS, DATA: no strikes any more; END_STREAM, RST_STREAM: the call is over
//! ```
//!
//! * The first ping of a connection is never too early, and neither is the first one after headers
//!   or data of an answer: a client measures the line when it gets some.
//! * A ping is too early within the flag's time after the one before, and within two hours if no
//!   call is under way: then there is nothing to keep alive (`PermitWithoutStream: false`).
//! * The end is GOAWAY with `ENHANCE_YOUR_CALM` and the text `too_many_pings`, by which gRPC's
//!   clients know that they have to ping less often. h2 cannot be told to say that, so it is
//!   written here, between two frames of h2's, and the connection is closed.
//! * What is neither HTTP/2 nor well-formed is passed on as it is; h2 judges that.
//!
//! A frame costs a look at nine bytes, and a call a place in a set, as long as it is under way: h2
//! bounds how many those are. All of that is 30 ns for a call with its answer, and 55 among a
//! thousand others (measured); the clock is read for a ping only. Left out: the pings of members to
//! each other, which have ports of their own.

use std::{
    collections::BTreeSet,
    io::{Error, IoSlice, Result},
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{http2::PREFACE, through::ends_with_inner};
use crate::clock;

/// The text of the GOAWAY, by which grpc-go's clients know its reason.
const TOO_MANY_PINGS: &[u8] = b"too_many_pings";
/// The code of it (RFC 9113 7).
const ENHANCE_YOUR_CALM: u8 = 11;

/// Pings that may come too early (grpc-go: maxPingStrikes).
const STRIKES_MAX: u8 = 2;
/// How far apart the pings of a client without calls have to be (grpc-go: defaultPingTimeout).
const IDLE_MIN_TIME: Duration = Duration::from_secs(2 * 60 * 60);

/// The length of a frame's head, and what its types and flags are (RFC 9113 4.1, 6).
const HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const ACK: u8 = 0x01;
const END_STREAM: u8 = 0x01;
const END_HEADERS: u8 = 0x04;

/// A client's connection, which ends when the client pings too often.
#[derive(Debug)]
pub(super) struct Pings<S> {
    inner: S,
    protocol: Protocol,
    read: Frames,
    written: Frames,
    calls: Calls,
    rule: Rule,
    /// The GOAWAY, once there have been too many, as far as it has not been written yet.
    end: Option<Vec<u8>>,
}

/// What the client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    /// So many bytes of HTTP/2's preface have come.
    Unknown(usize),
    Http2,
    /// Nothing is looked at.
    Other,
}

impl<S> Pings<S> {
    /// Wraps a connection of which nothing has been read yet. Pings of a client with calls under
    /// way have to be `min_time` apart.
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

    /// Looks at what the client has sent.
    fn note_read(&mut self, bytes: &[u8]) {
        let bytes = match self.protocol {
            Protocol::Http2 => bytes,
            Protocol::Other => return,
            Protocol::Unknown(seen) => self.preface(seen, bytes),
        };
        let Self { calls, rule, end, .. } = self;
        self.read.follow(bytes, |frame| match frame.kind {
            HEADERS => calls.begin(frame.stream),
            RST_STREAM => calls.end(frame.stream),
            PING if frame.flags & ACK == 0 && !rule.allows(clock::now(), calls.any()) => {
                end.get_or_insert_with(|| goaway(calls.last));
            }
            _ => {}
        });
    }

    /// Compares with the preface; returns what comes after it.
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

    /// Looks at what the socket has taken.
    fn note_written(&mut self, bytes: &[u8]) {
        // A port for gRPC alone announces its settings before the client has said anything.
        if self.protocol == Protocol::Other {
            return;
        }
        let Self { calls, rule, .. } = self;
        self.written.follow(bytes, |frame| match frame.kind {
            DATA | HEADERS => {
                rule.has_answered = true;
                if frame.flags & END_STREAM != 0 {
                    calls.end(frame.stream);
                }
            }
            RST_STREAM => calls.end(frame.stream),
            _ => {}
        });
    }

    /// Whether the GOAWAY is due and would not come into the middle of anything.
    fn may_end(&self) -> bool {
        self.end.is_some() && self.written.is_between()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Pings<S> {
    /// Sends the GOAWAY and closes the connection; returns why.
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
        // A socket that is closed with something unread is reset, and the GOAWAY may be lost.
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
            // Of what has come with the last ping nothing would be answered any more.
            buf.set_filled(before);
        }
        if self.may_end() {
            return self.poll_end(context).map(Err);
        }
        // What is under way is written to its end first, which wakes the task.
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
        Poll::Ready(Ok(len))
    }

    ends_with_inner!();
}

/// The GOAWAY of a connection whose last call had this stream.
fn goaway(stream: u32) -> Vec<u8> {
    let len = 8 + TOO_MANY_PINGS.len() as u8;
    let head = [0, 0, len, GOAWAY, 0, 0, 0, 0, 0];
    [&head[..], &stream.to_be_bytes(), &[0, 0, 0, ENHANCE_YOUR_CALM], TOO_MANY_PINGS].concat()
}

/// The calls under way, as the frames tell.
#[derive(Debug, Default)]
struct Calls {
    open: BTreeSet<u32>,
    /// The stream of the newest one. Headers of one that is not newer are trailers.
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

/// When pings are too early, and how many have been.
#[derive(Debug)]
struct Rule {
    min_time: Duration,
    last: Option<Instant>,
    strikes: u8,
    /// Headers or data were sent since the last ping.
    has_answered: bool,
}

impl Rule {
    fn new(min_time: Duration) -> Rule {
        Rule { min_time, last: None, strikes: 0, has_answered: false }
    }

    /// A ping has come; whether the client may stay.
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

/// What is looked at of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    kind: u8,
    flags: u8,
    stream: u32,
}

/// Follows one direction of a connection, cut anywhere, from head to head.
#[derive(Debug, Default)]
struct Frames {
    /// What has come of a head that was cut.
    head: [u8; HEAD],
    have: usize,
    /// So many bytes of the payload are still to come.
    left: usize,
    /// The last frame was of a header block that goes on.
    is_in_block: bool,
}

impl Frames {
    fn follow(&mut self, mut bytes: &[u8], mut note: impl FnMut(Head)) {
        loop {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = &bytes[skipped..];
            // Nearly always a head comes in one piece.
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

    /// A head is complete.
    fn begin(&mut self, head: [u8; HEAD]) -> Head {
        let [high, middle, low, kind, flags, a, b, c, d] = head;
        self.left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        self.is_in_block = matches!(kind, HEADERS | CONTINUATION) && flags & END_HEADERS == 0;
        // The highest bit means nothing.
        Head { kind, flags, stream: u32::from_be_bytes([a & 0x7f, b, c, d]) }
    }

    /// Whether another frame may come here.
    fn is_between(&self) -> bool {
        self.have == 0 && self.left == 0 && !self.is_in_block
    }

    /// How many bytes at most come before the next place where that may be.
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
    fn what_is_answered_takes_the_strikes_away() {
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
        // Trailers of the client's are no new call, and half an end is none.
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

    /// Writes all of it, or until that fails.
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

    /// The client pings while the server has written a part of a frame, and has more in hand: the
    /// frame is written to its end, and GOAWAY stands where the next one would have begun.
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
