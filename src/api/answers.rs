//! The bodies of answers: their frames are counted, and those of large answers are read on demand.
//!
//! tonic encodes a message into one buffer, and HTTP/2 takes all of it at once, however slowly its
//! client reads. A large answer takes another path. Its handler returns a message with nothing but
//! the header, and the rest beside it. This module replaces tonic's body by one that hands over a
//! frame at a time, when HTTP/2 asks for it:
//!
//! ```text
//!   handler ──▶ tonic ──▶ body ──frame, frame, …──▶ HTTP/2 ──▶ socket
//!                         │  ▲                        │
//!               rows that └──┘ read again             └▶ written: the room is free
//!               were not kept
//! ```
//!
//! A frame is counted until HTTP/2 drops it, which is when it has been written; `http2` limits what
//! HTTP/2 queues. Frames are short, so the answers of a connection alternate: a small one does not
//! wait for the end of a large one. Messages and frames shorter than [`UNCOUNTED`] are not counted.
//!
//! gRPC has no status before a message is complete, so an answer that cannot be completed ends with
//! a reset of its stream. Clients derive a status from its code:
//!
//! | why | code | in gRPC |
//! |---|---|---|
//! | it stalled, and waiting answers were served in its place | ENHANCE_YOUR_CALM | RESOURCE_EXHAUSTED |
//! | a compaction has removed rows of a read | REFUSED_STREAM | UNAVAILABLE, and clients may ask again |
//! | the same, for a request that has written | INTERNAL_ERROR | INTERNAL, and they must not |
//!
//! Rows that were not kept are read from the present file, and not from the snapshot in which they
//! were found. Until a snapshot ends, redb keeps every page of it that was changed since, and these
//! pages count as used: a client that does not read could make the member reach its quota. A row of
//! a revision never changes, so the only thing that can happen to it is that it is overwritten and
//! then compacted.
//!
//! An answer passes from the handler to this module in a task-local: extensions of requests and
//! answers would cost each small one an allocation. The answers of all services are counted, by
//! their length. Of streams only Observe's are counted: those of watchers are bounded by the queues
//! of their streams.

use std::{
    cell::{Cell, RefCell},
    error::Error as StdError,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::FutureExt;
use h2::Reason;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use prost::Message;
use tonic::Status;

use super::edge::Arrived;
use crate::{
    server::{
        Error, Server,
        answer::{
            Connection, Large, UnsentBytes,
            room::UNCOUNTED,
            rope::{Next, Rows},
        },
    },
    trace::{Moment, ends::Ends},
};

/// Bytes that are handed over at a time: HTTP/2's frame size, unless the client allows more.
const FRAME: usize = 16 << 10;
/// Bytes that gRPC puts before a message.
const PREFIX: usize = 5;

type BoxError = Box<dyn StdError + Send + Sync>;
type Polled = Poll<Option<Result<Frame<Bytes>, BoxError>>>;
type Reading = Pin<Box<dyn Future<Output = Result<(Rows, Vec<Bytes>), Error>> + Send>>;

/// Where a call comes from.
pub(super) struct Caller {
    /// Its connection.
    pub(super) client: Arc<Connection>,
    /// When its frames were read, as far as that is known.
    pub(super) arrived: Option<Arrived>,
}

/// A call in progress.
struct Calling {
    client: Arc<Connection>,
    /// When its frames were read, as far as that is known.
    arrived: RefCell<Option<Arrived>>,
    /// The id of the first rpc of it; 0 until that begins.
    id: Cell<u64>,
    /// How its message was translated, if it came through the gateway, until that is recorded.
    decoded: Cell<Option<Decoded>>,
    /// Set by the handler if the answer's body must be replaced.
    outgoing: RefCell<Option<Outgoing>>,
}

/// The translation of a call's message from JSON.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decoded {
    /// When it began.
    pub(super) began: Moment,
    /// When it was done.
    pub(super) ended: Moment,
    /// Bytes of JSON.
    pub(super) json: usize,
    /// Bytes of the message.
    pub(super) message: usize,
}

/// The id of an answer's rpc, among its extensions.
#[derive(Clone, Copy)]
struct RpcId(u64);

tokio::task_local! {
    static CALLING: Calling;
}

/// An answer on its way from its handler to its body.
enum Outgoing {
    /// The messages are complete, and these bytes of them are counted already.
    Small(UnsentBytes),
    /// The message is the beginning: encoded, with gRPC's prefix for all of it.
    Large { head: Bytes, large: Large, server: Arc<Server> },
}

/// Carries out a call of this connection, and gives its answer the body that its handler wants. An
/// answer that comes before an rpc has begun is shown to `unreached`. Not an async function: that
/// would hold the call three times, once for each place where it is moved.
pub(super) fn serve<E>(
    Caller { client, arrived }: Caller,
    call: impl Future<Output = Result<http::Response<Body>, E>>,
    unreached: impl FnOnce(&http::Response<Body>),
) -> impl Future<Output = Result<http::Response<Body>, E>> {
    let arrived = RefCell::new(arrived);
    let (id, decoded, outgoing) = (Cell::new(0), Cell::new(None), RefCell::default());
    let calling = Calling { client, arrived, id, decoded, outgoing };
    let served = call.map(|answer| {
        let answer = answer?;
        if CALLING.with(|calling| calling.id.get()) == 0 {
            unreached(&answer);
        }
        Ok(CALLING.with(|calling| match calling.outgoing.take() {
            None => answer,
            Some(outgoing) => outgoing.body(answer),
        }))
    });
    CALLING.scope(calling, served)
}

/// Carries out a call within the current one, as [`serve`] does: that of the gateway, whose message
/// was JSON. [`id_of`] its answer is known.
pub(super) async fn within<E>(
    decoded: Option<Decoded>,
    call: impl Future<Output = Result<http::Response<Body>, E>>,
    unreached: impl FnOnce(&http::Response<Body>),
) -> Result<http::Response<Body>, E> {
    let outer =
        CALLING.try_with(|calling| (Arc::clone(&calling.client), calling.arrived.take())).ok();
    let Some((client, arrived)) = outer else { return call.await };
    let call = async {
        CALLING.with(|calling| calling.decoded.set(decoded));
        let mut answer = call.await?;
        let id = CALLING.with(|calling| calling.id.get());
        answer.extensions_mut().insert(RpcId(id));
        Ok(answer)
    };
    serve(Caller { client, arrived }, call, unreached).await
}

/// The id of the rpc that gave this answer; 0 if none did.
pub(super) fn id_of(answer: &http::Response<Body>) -> u64 {
    answer.extensions().get().map_or(0, |RpcId(id)| *id)
}

/// The first rpc of the current call begins.
pub(super) fn enter(id: u64, began: Moment) {
    let _ = CALLING.try_with(|calling| {
        if calling.id.get() == 0 {
            calling.id.set(id);
        }
        if let Some(Decoded { began, ended, json, message }) = calling.decoded.take() {
            crate::past!(GatewayDecode, id, began, ended, json = json, message = message);
        }
    });
    with_arrived(|arrived| arrived.enter(id, began));
}

/// The rpc with this id has ended: whether it has failed, and whether its answer ends the call.
/// Returns whether the call may be kept, as far as its frames tell.
pub(super) fn leave(id: u64, ended: Moment, end: (bool, bool)) -> bool {
    with_arrived(|arrived| arrived.leave(id, ended, end)).unwrap_or(false)
}

/// A loop of the member is no call.
fn with_arrived<T>(note: impl FnOnce(&mut Arrived) -> T) -> Option<T> {
    CALLING.try_with(|calling| calling.arrived.borrow_mut().as_mut().map(note)).ok().flatten()
}

/// Both ends of the connection of the current call.
pub(super) fn ends() -> Option<Ends> {
    CALLING.try_with(|calling| calling.client.ends()).ok().flatten()
}

/// The connection of the current call.
pub(super) fn client(server: &Server) -> Arc<Connection> {
    let client = CALLING.try_with(|calling| Arc::clone(&calling.client));
    client.unwrap_or_else(|_| server.room.connect())
}

fn send(outgoing: Outgoing) {
    // Outside a call nothing is sent.
    let _ = CALLING.try_with(|calling| calling.outgoing.replace(Some(outgoing)));
}

/// Counts a message of this many bytes, from now on until it is sent.
pub(super) fn small(bytes: usize) {
    if UNCOUNTED <= bytes {
        count(PREFIX + bytes);
    }
}

/// Counts the messages of a stream, each while it is sent.
pub(super) fn stream() {
    count(0);
}

fn count(bytes: usize) {
    if let Ok(client) = CALLING.try_with(|calling| Arc::clone(&calling.client)) {
        unsent(Some(client.hold(bytes)));
    }
}

/// Counts a message until it is sent. These bytes of it are counted already.
pub(super) fn unsent(unsent: Option<UnsentBytes>) {
    if let Some(unsent) = unsent {
        send(Outgoing::Small(unsent));
    }
}

/// Separates a handler's answer from its counted bytes.
pub(super) fn apart<A>(
    answer: Result<(A, UnsentBytes), Error>,
) -> (Result<A, Error>, Option<UnsentBytes>) {
    match answer {
        Ok((message, unsent)) => (Ok(message), Some(unsent)),
        Err(error) => (Err(error), None),
    }
}

/// Sends a large answer after a message of which only the header is set.
pub(super) fn large(message: &impl Message, large: Large, server: &Arc<Server>) {
    let len = message.encoded_len();
    let mut head = BytesMut::with_capacity(PREFIX + len);
    head.put_u8(0);
    // The longest answer, with its header, fits into four bytes.
    head.put_u32(u32::try_from(len + large.len).unwrap_or(u32::MAX));
    message.encode(&mut head).expect("BytesMut grows");
    send(Outgoing::Large { head: head.freeze(), large, server: Arc::clone(server) });
}

impl Outgoing {
    fn body(self, answer: http::Response<Body>) -> http::Response<Body> {
        match self {
            Outgoing::Small(unsent) => answer.map(|body| Body::new(Counted { body, unsent })),
            Outgoing::Large { head, large, server } => answer.map(|_| {
                let (head, reading, sent, is_over) = (Some(head), None, 0, false);
                Body::new(Sending { large, server, head, reading, sent, is_over })
            }),
        }
    }
}

/// An answer of at most [`SMALL`] bytes, which is counted until HTTP/2 has sent it.
struct Counted {
    body: Body,
    unsent: UnsentBytes,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Counted { body, unsent } = &mut *self;
        let frame = ready!(Pin::new(body).poll_frame(context));
        let counted = |frame: Frame<Bytes>| frame.map_data(|bytes| unsent.piece(bytes));
        Poll::Ready(frame.map(|frame| frame.map(counted)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer that is read and sent piece by piece.
struct Sending {
    large: Large,
    server: Arc<Server>,
    head: Option<Bytes>,
    reading: Option<Reading>,
    /// Bytes of it that HTTP/2 has taken, without the head.
    sent: usize,
    is_over: bool,
}

impl HttpBody for Sending {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Polled {
        if self.is_over {
            return Poll::Ready(None);
        }
        if let Some(head) = self.head.take() {
            return Poll::Ready(Some(Ok(Frame::data(head))));
        }
        loop {
            if let Some(reading) = &mut self.reading {
                let read = ready!(reading.as_mut().poll(context));
                self.reading = None;
                match read {
                    Ok((rows, read)) => {
                        self.large.read(read.iter().map(Bytes::len).sum());
                        self.large.rope().put_back(read, rows);
                    }
                    Err(_) if self.large.is_read => return self.reset(Reason::REFUSED_STREAM),
                    Err(_) => return self.reset(Reason::INTERNAL_ERROR),
                }
            }
            let next = self.large.rope().next(FRAME);
            match next {
                Next::Bytes(bytes, is_kept) => {
                    self.sent += bytes.len();
                    let frame = self.large.piece(bytes, is_kept);
                    return Poll::Ready(Some(Ok(Frame::data(frame))));
                }
                Next::Rows(rows) => {
                    let (server, id) = (Arc::clone(&self.server), self.large.id);
                    let reading = async move { server.kv.answers.read_rows(id, rows).await };
                    self.reading = Some(Box::pin(reading));
                    self.large.reads();
                }
                Next::End => return self.trailers(),
                // It stalled, and waiting answers were served in its place.
                Next::Ended => return self.reset(Reason::ENHANCE_YOUR_CALM),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }
}

impl Sending {
    fn trailers(&mut self) -> Polled {
        self.is_over = true;
        let mut trailers = HeaderMap::new();
        let added = Status::ok("").add_header(&mut trailers);
        Poll::Ready(Some(added.map(|()| Frame::trailers(trailers)).map_err(Into::into)))
    }

    /// Ends the call in the middle of its message. No status can give the reason, because gRPC
    /// reads none before the message is complete, and the record of the rpc already says OK.
    fn reset(&mut self, reason: Reason) -> Polled {
        self.is_over = true;
        let (id, sent, code) = (self.large.id, self.sent, u32::from(reason));
        let left = self.large.len.saturating_sub(sent);
        crate::mark!(AnswerEnded, id, sent = sent, left = left, reason = u64::from(code));
        Poll::Ready(Some(Err(h2::Error::from(reason).into())))
    }
}
