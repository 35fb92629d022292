//! The bodies of answers: what is counted on its way out, and what is read only on its way out.
//!
//! tonic encodes a message into one buffer, and HTTP/2 takes all of it at once, however slowly its
//! client reads. A large answer goes another way. Its handler returns a message of which nothing but
//! the header is filled in, with an [`Outgoing`] beside it; here that takes the place of tonic's
//! body, and hands over a frame at a time, whenever HTTP/2 asks for one:
//!
//! ```text
//!   handler ──▶ tonic ──▶ [`AnswerBody`] ──frame, frame, …──▶ HTTP/2 ──▶ socket
//!                            │    ▲                              │
//!                  rows that └────┘ read again                   └▶ written: the room is free
//!                  were not kept
//! ```
//!
//! A frame is counted until HTTP/2 drops it, which is when it has been written; how much HTTP/2
//! queues is its own affair. Left out: answers of other services than KV, and streams, which pass
//! through uncounted.

use std::{
    error::Error as StdError,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::{BufMut, Bytes, BytesMut};
use h2::Reason;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use prost::Message;
use tonic::Status;

use crate::server::{
    Error, Server,
    answer::{
        Connection, Large,
        rope::{Next, Rows},
    },
};

/// How much is handed over at a time: what a frame may hold unless a client allows more.
const FRAME: usize = 16 << 10;
/// What gRPC puts before a message.
const PREFIX: usize = 5;

type BoxError = Box<dyn StdError + Send + Sync>;
type Reading = Pin<Box<dyn Future<Output = Result<(Rows, Vec<Bytes>), Error>> + Send>>;

/// A large answer on its way from its handler to its body.
#[derive(Clone)]
pub struct Outgoing {
    /// gRPC's prefix, and the message's header.
    head: Bytes,
    large: Large,
    server: Arc<Server>,
}

impl Outgoing {
    /// An answer that begins with what is set in `head`.
    pub fn new(head: &impl Message, large: Large, server: &Arc<Server>) -> Outgoing {
        let len = head.encoded_len();
        let mut bytes = BytesMut::with_capacity(PREFIX + len);
        bytes.put_u8(0);
        // As long as an answer may be, with its header, it fits into four bytes.
        bytes.put_u32(u32::try_from(len + large.len).unwrap_or(u32::MAX));
        head.encode(&mut bytes).expect("BytesMut grows");
        Outgoing { head: bytes.freeze(), large, server: Arc::clone(server) }
    }
}

/// See the module's text.
pub struct AnswerBody(Kind);

enum Kind {
    /// Nobody counts it.
    Plain(Body),
    /// A small answer of KV.
    Small(Body, Arc<Connection>),
    Large(Box<Sending>),
}

/// A large answer that is being sent.
struct Sending {
    large: Large,
    server: Arc<Server>,
    connection: Arc<Connection>,
    head: Option<Bytes>,
    reading: Option<Reading>,
    is_over: bool,
}

impl AnswerBody {
    /// A body that nobody counts.
    pub fn plain(body: Body) -> AnswerBody {
        AnswerBody(Kind::Plain(body))
    }

    /// The body of an answer of KV to a client of this connection.
    pub fn counted(
        body: Body,
        outgoing: Option<Outgoing>,
        connection: Arc<Connection>,
    ) -> AnswerBody {
        let Some(Outgoing { head, large, server }) = outgoing else {
            return AnswerBody(Kind::Small(body, connection));
        };
        let (head, reading, is_over) = (Some(head), None, false);
        let sending = Sending { large, server, connection, head, reading, is_over };
        AnswerBody(Kind::Large(Box::new(sending)))
    }
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Kind::Plain(body) => Pin::new(body).poll_frame(context).map_err(Into::into),
            Kind::Small(body, connection) => {
                let frame = ready!(Pin::new(body).poll_frame(context));
                let counted =
                    |frame: Frame<Bytes>| frame.map_data(|bytes| connection.small_piece(bytes));
                Poll::Ready(frame.map(|frame| frame.map(counted).map_err(Into::into)))
            }
            Kind::Large(sending) => sending.poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Plain(body) | Kind::Small(body, _) => body.is_end_stream(),
            Kind::Large(sending) => sending.is_over,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Plain(body) | Kind::Small(body, _) => body.size_hint(),
            Kind::Large(_) => SizeHint::default(),
        }
    }
}

impl Sending {
    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if self.is_over {
                return Poll::Ready(None);
            }
            if let Some(head) = self.head.take() {
                return Poll::Ready(Some(Ok(Frame::data(head))));
            }
            if let Some(reading) = &mut self.reading {
                let read = ready!(reading.as_mut().poll(context));
                self.reading = None;
                self.large.share.iter().for_each(|share| share.resume());
                match read {
                    Ok((rows, read)) => self.large.lock().put_back(read, rows),
                    Err(_) => return self.reset(Reason::INTERNAL_ERROR),
                }
            }
            let next = self.large.lock().next(FRAME);
            match next {
                Next::Bytes(bytes, is_kept) => {
                    let frame = match &self.large.share {
                        Some(share) => share.piece(bytes, is_kept),
                        None => self.connection.small_piece(bytes),
                    };
                    return Poll::Ready(Some(Ok(Frame::data(frame))));
                }
                Next::Rows(rows) => {
                    let (server, id) = (Arc::clone(&self.server), self.large.id);
                    let reading = async move { server.read_rows(id, rows).await };
                    self.reading = Some(Box::pin(reading));
                    self.large.share.iter().for_each(|share| share.pause());
                }
                Next::End => return self.trailers(),
                // It has held up others, and they were served in its place.
                Next::Ended => return self.reset(Reason::ENHANCE_YOUR_CALM),
            }
        }
    }

    fn trailers(&mut self) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.is_over = true;
        let mut trailers = HeaderMap::new();
        let added = Status::ok("").add_header(&mut trailers);
        Poll::Ready(Some(added.map(|()| Frame::trailers(trailers)).map_err(Into::into)))
    }

    /// Ends the call in the middle of its message. No status can say why, because gRPC reads none
    /// before the message is complete.
    fn reset(&mut self, reason: Reason) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.is_over = true;
        Poll::Ready(Some(Err(h2::Error::from(reason).into())))
    }
}
