//! The bodies of answers: small ones are counted while they are sent, large ones are read then.
//!
//! tonic encodes a message into one buffer, and HTTP/2 takes all of it at once, however slowly its
//! client reads. A large answer goes another way. Its handler returns a message of which nothing
//! but the header is filled in, with the rest beside it; here that takes the place of tonic's body,
//! and hands over a frame at a time, whenever HTTP/2 asks for one:
//!
//! ```text
//!   handler ──▶ tonic ──▶ body ──frame, frame, …──▶ HTTP/2 ──▶ socket
//!                         │  ▲                        │
//!               rows that └──┘ read again             └▶ written: the room is free
//!               were not kept
//! ```
//!
//! A frame is counted until HTTP/2 drops it, which is when it has been written; how much HTTP/2
//! queues is its own affair (`http2`). Frames are short, so the answers of a connection take turns:
//! a small one does not wait for the end of a large one. A message shorter than [`UNCOUNTED`]
//! passes by.
//!
//! gRPC has no status before a message is complete, so an answer that cannot be completed ends with
//! a reset of its stream, and its code says what clients make of it:
//!
//! | why | code | in gRPC |
//! |---|---|---|
//! | it held up others, and they were served in its place | ENHANCE_YOUR_CALM | RESOURCE_EXHAUSTED |
//! | a compaction has taken rows of a read | REFUSED_STREAM | UNAVAILABLE, and clients may ask again |
//! | the same, of a request that has written | INTERNAL_ERROR | INTERNAL, and they must not |
//!
//! Rows that are left are looked up where they are now, and not in the snapshot in which they were
//! found. Until a snapshot ends, redb keeps every page of it that was changed since, and they count
//! as used: a client that does not read could let the member run into its quota. A row of a
//! revision never changes, so all that a compaction can do is to remove one that was overwritten
//! since.
//!
//! From the handler to here an answer goes through a task-local: the extensions of requests and
//! answers would cost each small one an allocation. The answers of all services are counted, by
//! their length. Of streams only those of Observe are: what watchers are sent is bounded by the
//! queues of their streams.

use std::{
    cell::RefCell,
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

use crate::server::{
    Error, Server,
    answer::{
        Connection, Large,
        room::UNCOUNTED,
        rope::{Next, Rows},
    },
};

/// Bytes handed over at a time: the length of a frame unless a client allows more.
const FRAME: usize = 16 << 10;
/// Bytes of gRPC's prefix of a message: the compression flag and the length.
const PREFIX: usize = 5;

type BoxError = Box<dyn StdError + Send + Sync>;
type Polled = Poll<Option<Result<Frame<Bytes>, BoxError>>>;
type Reading = Pin<Box<dyn Future<Output = Result<(Rows, Vec<Bytes>), Error>> + Send>>;

/// One call of this connection.
struct Calling {
    client: Arc<Connection>,
    /// How its answer is to be sent, if not as it is.
    outgoing: RefCell<Option<Outgoing>>,
}

tokio::task_local! {
    static CALLING: Calling;
}

/// An answer on its way from its handler to its body.
enum Outgoing {
    /// The messages are complete.
    Small,
    /// The message is the beginning: encoded, with gRPC's prefix for all of it.
    Large { head: Bytes, large: Large, server: Arc<Server> },
}

/// Carries out a call of this connection, and gives its answer the body that its handler wants. Not
/// an async function: that would hold the call three times, once for each place where it is moved.
pub(super) fn serve<E>(
    client: Arc<Connection>,
    call: impl Future<Output = Result<http::Response<Body>, E>>,
) -> impl Future<Output = Result<http::Response<Body>, E>> {
    let calling = Calling { client, outgoing: RefCell::default() };
    let served = call.map(|answer| {
        let answer = answer?;
        Ok(CALLING.with(|calling| match calling.outgoing.take() {
            None => answer,
            Some(outgoing) => outgoing.body(answer, &calling.client),
        }))
    });
    CALLING.scope(calling, served)
}

/// The connection of the call that is being carried out.
pub(super) fn client(server: &Server) -> Arc<Connection> {
    let client = CALLING.try_with(|calling| Arc::clone(&calling.client));
    client.unwrap_or_else(|_| server.room.connect())
}

fn send(outgoing: Outgoing) {
    // Outside of a call nobody sends anything.
    let _ = CALLING.try_with(|calling| calling.outgoing.replace(Some(outgoing)));
}

/// Counts a message of this many bytes while it is sent.
pub(super) fn small(bytes: usize) {
    if UNCOUNTED <= bytes {
        stream();
    }
}

/// Has the messages of a stream counted, each while it is sent.
pub(super) fn stream() {
    send(Outgoing::Small);
}

/// Has a large answer sent behind a message of which only the header is set.
pub(super) fn large(message: &impl Message, large: Large, server: &Arc<Server>) {
    let len = message.encoded_len();
    let mut head = BytesMut::with_capacity(PREFIX + len);
    head.put_u8(0);
    // As long as an answer may be, with its header, it fits into four bytes.
    head.put_u32(u32::try_from(len + large.len).unwrap_or(u32::MAX));
    message.encode(&mut head).expect("BytesMut grows");
    send(Outgoing::Large { head: head.freeze(), large, server: Arc::clone(server) });
}

impl Outgoing {
    fn body(self, answer: http::Response<Body>, client: &Arc<Connection>) -> http::Response<Body> {
        match self {
            Outgoing::Small => {
                let client = Arc::clone(client);
                answer.map(|body| Body::new(Counted { body, client }))
            }
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
    client: Arc<Connection>,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let counted = |frame: Frame<Bytes>| frame.map_data(|bytes| self.client.small_piece(bytes));
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
    /// Bytes that HTTP/2 has taken of it, without the head.
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
                // It has held up others, and they were served in its place.
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

    /// Ends the call in the middle of its message. No status can say why, because gRPC reads none
    /// before the message is complete, and the rpc has already reported success.
    fn reset(&mut self, reason: Reason) -> Polled {
        self.is_over = true;
        let (id, sent, code) = (self.large.id, self.sent, u32::from(reason));
        let left = self.large.len.saturating_sub(sent);
        crate::mark!(AnswerEnded, id, sent = sent, left = left, reason = u64::from(code));
        Poll::Ready(Some(Err(h2::Error::from(reason).into())))
    }
}
