//! A client that writes its HTTP/2 frames by hand, for requests that no library sends.
//!
//! Header blocks are literals without a table. The client announces a table of size 0, so that the
//! server's blocks can be read one by one. Reads wait for [`WITHIN`] at most.

use std::{
    io::{IoSliceMut, Write},
    net::TcpStream,
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

use glass_etcd::{api::authority::huffman, clock};
use nix::{
    errno::Errno,
    sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt},
};
use prost::Message;

use crate::cluster::Cluster;

/// How long an answer may take.
pub(crate) const WITHIN: Duration = Duration::from_secs(20);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// SETTINGS with a header table of size 0, and a connection window that stays open.
const HELLO: &[u8] = b"\0\0\x06\x04\0\0\0\0\0\0\x01\0\0\0\0\0\0\x04\x08\0\0\0\0\0\x3f\xff\0\0";

/// Types and flags of frames.
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
/// Reasons: the client cancels, and the server disconnects an abusive client.
pub(crate) const CANCEL: u32 = 8;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// A frame from the server.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// Its type.
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// The outcome of a call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    /// The bytes of its messages, with their prefixes.
    pub(crate) data: Vec<u8>,
    /// All header fields, of headers and trailers.
    pub(crate) fields: Vec<(String, String)>,
    /// The reason of the RST_STREAM, if there was one.
    pub(crate) reset: Option<u32>,
    /// Reason and text of the GOAWAY, if there was one.
    pub(crate) goaway: Option<(u32, String)>,
    /// Whether the connection was closed.
    pub(crate) is_closed: bool,
}

impl Answer {
    /// gRPC's status and its text; `None` without one.
    pub(crate) fn status(&self) -> Option<(u32, String)> {
        let field = |name: &str| self.fields.iter().find(|field| field.0 == name);
        let code = field("grpc-status")?.1.parse().ok()?;
        let text = field("grpc-message").map_or(String::new(), |field| field.1.clone());
        Some((code, text.replace("%20", " ").replace("%22", "\"")))
    }

    /// Whether the answer was a success.
    pub(crate) fn is_ok(&self) -> bool {
        self.status() == Some((0, String::new()))
    }
}

/// A connection.
pub(crate) struct Raw {
    stream: TcpStream,
    read: Vec<u8>,
    /// When the newest bytes that were read arrived, by the wall clock, if the kernel notes it.
    pub(crate) arrived: Option<Duration>,
    /// The next stream's number.
    pub(crate) next: u32,
    /// The windows that the server has announced: of the connection, and of a stream.
    pub(crate) windows: (usize, usize),
}

impl Raw {
    /// Connects to a member.
    pub(crate) fn connect(cluster: &Cluster, at: usize) -> Self {
        let stream = TcpStream::connect(cluster.members[at].client_address()).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(WITHIN)).unwrap();
        let (read, arrived, windows) = (Vec::new(), None, (65_535, 65_535));
        let mut raw = Self { stream, read, arrived, next: 1, windows };
        raw.send(&[PREFACE, HELLO].concat());
        raw
    }

    /// Asks the kernel to note when bytes arrive.
    pub(crate) fn note_arrivals(&self) {
        setsockopt(&self.stream, sockopt::ReceiveTimestampns, &true).unwrap();
    }

    /// Writes bytes; returns whether the socket accepted them.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// The number of a new stream.
    pub(crate) fn stream(&mut self) -> u32 {
        let stream = self.next;
        self.next += 2;
        stream
    }

    /// Begins a call and sends its only message, if there is one.
    pub(crate) fn call(&mut self, call: &Call<'_>) -> u32 {
        let stream = self.stream();
        let headers = frame(HEADERS, END_HEADERS, stream, &call.block());
        let data = call.message.as_ref().map(|message| {
            let flags = if call.is_open { 0 } else { END_STREAM };
            frame(DATA, flags, stream, &prefixed(message))
        });
        self.send(&[headers, data.unwrap_or_default()].concat());
        stream
    }

    /// Makes a whole call.
    pub(crate) fn ask(&mut self, call: &Call<'_>) -> Answer {
        let stream = self.call(call);
        self.answer(stream)
    }

    /// Cancels a call.
    pub(crate) fn reset(&mut self, stream: u32) {
        self.send(&frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
    }

    /// The next frame; `None` if none arrives within the time. A closed connection is a frame
    /// without a stream and with a type of its own.
    pub(crate) fn frame(&mut self, within: Duration) -> Option<Frame> {
        let deadline = clock::now() + within;
        loop {
            if let Some(frame) = self.parse() {
                self.note(&frame);
                return Some(frame);
            }
            if !self.fill(deadline)? {
                let (kind, payload) = (u8::MAX, Vec::new());
                return Some(Frame { kind, flags: 0, stream: 0, payload });
            }
        }
    }

    /// Waits for the server's settings, and acknowledges them.
    pub(crate) fn settle(&mut self) {
        while self.frame(WITHIN).expect("the server sends settings").kind != SETTINGS {}
    }

    /// The outcome of a call; panics if there is none.
    pub(crate) fn answer(&mut self, stream: u32) -> Answer {
        let mut answer = Answer::default();
        loop {
            let Some(frame) = self.frame(WITHIN) else {
                panic!("stream {stream} does not end: {answer:?}")
            };
            match frame.kind {
                u8::MAX => answer.is_closed = true,
                GOAWAY => answer.goaway = Some(goaway(&frame)),
                _ if frame.stream != stream => continue,
                RST_STREAM => answer.reset = Some(number(&frame.payload)),
                DATA => answer.data.extend(&frame.payload),
                HEADERS => answer.fields.extend(fields(&frame.payload)),
                _ => {}
            }
            let is_over = frame.kind == RST_STREAM || frame.flags & END_STREAM != 0;
            if answer.is_closed || frame.stream == stream && is_over {
                return answer;
            }
        }
    }

    /// Uploads a message as far as the server allows, within the windows; returns how far.
    pub(crate) fn upload(&mut self, call: &Call<'_>, within: Duration) -> (usize, Option<Answer>) {
        let stream = self.stream();
        let (mut window, mut sent) = (self.windows.1, 0);
        let body = prefixed(call.message.as_ref().expect("an upload has a message"));
        self.send(&frame(HEADERS, END_HEADERS, stream, &call.block()));
        let deadline = clock::now() + within;
        while clock::now() < deadline {
            let len = (body.len() - sent).min(16_384).min(window).min(self.windows.0);
            if 0 < len {
                let flags = if sent + len == body.len() { END_STREAM } else { 0 };
                self.send(&frame(DATA, flags, stream, &body[sent..sent + len]));
                (window, self.windows.0, sent) = (window - len, self.windows.0 - len, sent + len);
                continue;
            }
            if sent == body.len() {
                return (sent, Some(self.answer(stream)));
            }
            let Some(frame) = self.frame(Duration::from_millis(100)) else { continue };
            if frame.kind == WINDOW_UPDATE && frame.stream == stream {
                window += number(&frame.payload) as usize;
            }
        }
        (sent, None)
    }

    /// Processes frames that concern the whole connection.
    fn note(&mut self, received: &Frame) {
        match (received.kind, received.flags & 1) {
            (SETTINGS, 0) => {
                for (name, value) in settings(received) {
                    if name == 4 {
                        self.windows.1 = value as usize;
                    }
                }
                self.send(&frame(SETTINGS, 1, 0, &[]));
            }
            (PING, 0) => _ = self.send(&frame(PING, 1, 0, &received.payload)),
            (WINDOW_UPDATE, _) if received.stream == 0 => {
                self.windows.0 += number(&received.payload) as usize;
            }
            _ => {}
        }
    }

    /// Reads; `None` at the deadline, `Some(false)` at the end of the stream.
    fn fill(&mut self, deadline: Instant) -> Option<bool> {
        let left = deadline.saturating_duration_since(clock::now());
        if left.is_zero() {
            return None;
        }
        self.stream.set_read_timeout(Some(left)).unwrap();
        let mut bytes = [0; 16_384];
        match receive(&self.stream, &mut bytes) {
            Ok((0, _)) => Some(false),
            Ok((len, arrived)) => {
                self.arrived = arrived;
                self.read.extend(&bytes[..len]);
                Some(true)
            }
            Err(Errno::EAGAIN | Errno::ETIMEDOUT) => None,
            Err(_) => Some(false),
        }
    }

    fn parse(&mut self) -> Option<Frame> {
        let [high, middle, low, kind, flags, a, b, c, d, ..] = self.read[..] else { return None };
        let end = 9 + u32::from_be_bytes([0, high, middle, low]) as usize;
        if self.read.len() < end {
            return None;
        }
        let payload = self.read[9..end].to_vec();
        self.read.drain(..end);
        Some(Frame { kind, flags, stream: u32::from_be_bytes([a, b, c, d]), payload })
    }
}

/// Reads bytes: how many, and when they arrived.
fn receive(stream: &TcpStream, bytes: &mut [u8]) -> nix::Result<(usize, Option<Duration>)> {
    let (mut slices, mut control) = ([IoSliceMut::new(bytes)], [0; 64]);
    let (fd, none) = (stream.as_raw_fd(), MsgFlags::empty());
    let received = recvmsg::<SockaddrStorage>(fd, &mut slices, Some(&mut control), none)?;
    let arrived = received.cmsgs()?.find_map(|note| match note {
        ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time)),
        _ => None,
    });
    Ok((received.bytes, arrived))
}

/// A call to make.
#[derive(Clone, Debug)]
pub(crate) struct Call<'a> {
    path: &'a str,
    message: Option<Vec<u8>>,
    metadata: Vec<(String, String)>,
    is_open: bool,
}

impl<'a> Call<'a> {
    /// A call with this message.
    pub(crate) fn new(path: &'a str, message: &impl Message) -> Self {
        Self { message: Some(message.encode_to_vec()), ..Self::silent(path) }
    }

    /// A call with these bytes as its message.
    pub(crate) fn of_bytes(path: &'a str, message: Vec<u8>) -> Self {
        Self { message: Some(message), ..Self::silent(path) }
    }

    /// A call that sends no message.
    pub(crate) fn silent(path: &'a str) -> Self {
        Self { path, message: None, metadata: Vec::new(), is_open: false }
    }

    /// Adds a field of metadata.
    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.metadata.push((name.to_owned(), value.into()));
        self
    }

    /// Leaves the stream open for more messages.
    pub(crate) fn open(mut self) -> Self {
        self.is_open = true;
        self
    }

    /// Its header block.
    pub(crate) fn block(&self) -> Vec<u8> {
        self.block_with(&literal(b":authority", b"localhost"))
    }

    /// Its header block, with these bytes instead of the authority.
    pub(crate) fn block_with(&self, authority: &[u8]) -> Vec<u8> {
        let mut block = vec![0x83, 0x86];
        block.extend(literal(b":path", self.path.as_bytes()));
        block.extend(authority);
        block.extend(literal(b"content-type", b"application/grpc"));
        block.extend(literal(b"te", b"trailers"));
        for (name, value) in &self.metadata {
            block.extend(literal(name.as_bytes(), value.as_bytes()));
        }
        block
    }
}

/// A frame's bytes.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header block in as many frames as it needs.
pub(crate) fn header_frames(stream: u32, block: &[u8], flags: u8) -> Vec<u8> {
    let pieces: Vec<&[u8]> = block.chunks(16_384).collect();
    let mut frames = Vec::new();
    for (at, piece) in pieces.iter().enumerate() {
        let kind = if at == 0 { HEADERS } else { CONTINUATION };
        let begins = if at == 0 { flags } else { 0 };
        let ends = if at + 1 == pieces.len() { END_HEADERS } else { 0 };
        frames.extend(frame(kind, begins | ends, stream, piece));
    }
    frames
}

/// A message with gRPC's prefix.
pub(crate) fn prefixed(message: &[u8]) -> Vec<u8> {
    let len = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], &len[..], message].concat()
}

/// A field of a header block, as a literal without indexing.
pub(crate) fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[0][..], &integer(name.len()), name, &integer(value.len()), value].concat()
}

/// An integer after a prefix of seven bits (RFC 7541 5.1).
pub(crate) fn integer(value: usize) -> Vec<u8> {
    if value < 127 {
        return vec![u8::try_from(value).unwrap()];
    }
    let (mut bytes, mut rest) = (vec![127], value - 127);
    while 128 <= rest {
        bytes.push(u8::try_from(128 + rest % 128).unwrap());
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).unwrap());
    bytes
}

/// Reason and text of a GOAWAY.
pub(crate) fn goaway(frame: &Frame) -> (u32, String) {
    (number(&frame.payload[4..]), String::from_utf8_lossy(&frame.payload[8..]).into_owned())
}

/// Names and values of SETTINGS.
pub(crate) fn settings(frame: &Frame) -> Vec<(u16, u32)> {
    let pair = |pair: &[u8]| (u16::from_be_bytes([pair[0], pair[1]]), number(&pair[2..]));
    frame.payload.chunks(6).map(pair).collect()
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().unwrap())
}

/// The fields of a block that needs no table. Of the standard's table it knows only what servers
/// use.
fn fields(mut block: &[u8]) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    while let Some(first) = block.first().copied() {
        match first {
            0x80.. => {
                fields.push((standard(first & 0x7f).to_owned(), standard_value(first & 0x7f)));
                block = &block[1..];
            }
            0x20..=0x3f => _ = take_integer(&mut block, 5),
            _ => {
                let index = take_integer(&mut block, if first < 0x40 { 4 } else { 6 });
                let name = match index {
                    0 => take_text(&mut block),
                    index => standard(u8::try_from(index).unwrap()).to_owned(),
                };
                fields.push((name, take_text(&mut block)));
            }
        }
    }
    fields
}

fn standard(index: u8) -> &'static str {
    match index {
        8..=14 => ":status",
        31 => "content-type",
        33 => "date",
        _ => "another",
    }
}

fn standard_value(index: u8) -> String {
    let statuses = ["200", "204", "206", "304", "400", "404", "500"];
    let value = index.checked_sub(8).and_then(|at| statuses.get(usize::from(at)));
    value.unwrap_or(&"").to_string()
}

fn take_integer(block: &mut &[u8], bits: u32) -> usize {
    let max = (1_u8 << bits) - 1;
    let mut value = usize::from(block[0] & max);
    *block = &block[1..];
    let mut shift = 0;
    while usize::from(max) <= value {
        let byte = block[0];
        *block = &block[1..];
        value += usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            break;
        }
    }
    value
}

fn take_text(block: &mut &[u8]) -> String {
    let is_huffman = block[0] & 0x80 != 0;
    let len = take_integer(block, 7);
    let (text, rest) = block.split_at(len);
    *block = rest;
    let plain = is_huffman.then(|| huffman::decode(text).expect("HPACK's code"));
    String::from_utf8_lossy(plain.as_deref().unwrap_or(text)).into_owned()
}
