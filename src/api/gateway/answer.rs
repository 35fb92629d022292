//! Answers of gRPC as answers over HTTP: messages become JSON while they are sent.
//!
//! ```text
//!   frames of gRPC: 0 LENGTH MESSAGE … trailers ──▶ [ Translated ] ──▶ JSON, at once or piece by piece
//! ```
//!
//! A short answer is one piece and has a `Content-Length`. A longer one, and that of a stream, is
//! asked for piece by piece, as HTTP takes it: what waits here is a frame, not an answer, and it is
//! counted among what the connection has not read, like every answer of gRPC
//! ([`super::super::answers`]). An answer that ends before its message does is cut off, because the
//! status of HTTP has been sent.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::{Body, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::BodyExt as _;
use tonic::{Code, Status};

use super::{
    refusal,
    schema::Method,
    write::{Malformed, Writer},
};
use crate::{past, server::answer::UnsentBytes, trace::Moment};

/// Bytes of JSON up to which an answer is sent in one piece.
const WHOLE: usize = 64 << 10;

/// Bytes that gRPC puts before a message.
const PREFIX: usize = 5;

/// The name of metadata in a header.
const METADATA: &str = "grpc-metadata-";

/// The header with the content type of gRPC.
pub(super) const CONTENT_TYPE: &str = "grpc-metadata-content-type";

/// The answer over HTTP to a call with this answer over gRPC, whose rpc had this id.
pub(super) async fn translated(
    method: &'static Method,
    answer: Response<Body>,
    (id, unsent): (u64, UnsentBytes),
) -> Response<Body> {
    let (parts, body) = answer.into_parts();
    let refusal = match method.gives_stream {
        true => refusal::of_stream,
        false => refusal::answer,
    };
    if let Some(status) = Status::from_header_map(&parts.headers).filter(|s| s.code() != Code::Ok) {
        return refusal(&status);
    }
    let mut body = Translated::new(method, body, (id, unsent));
    let mut first = Vec::new();
    while first.len() <= WHOLE && (first.is_empty() || !method.gives_stream) {
        match body.frame().await {
            Some(Ok(frame)) => first.extend(frame.into_data().unwrap_or_default()),
            Some(Err(_)) => return refusal(&Status::internal("the answer was cut off")),
            None => break,
        }
    }
    if first.is_empty()
        && let Some(status) = body.failed.take()
    {
        return refusal(&status);
    }
    let mut response = Response::new(Body::empty());
    // Those of the protocol are not metadata.
    for (name, value) in
        parts.headers.iter().filter(|(name, _)| !name.as_str().starts_with("grpc-"))
    {
        if let Ok(name) = HeaderName::try_from(format!("{METADATA}{name}")) {
            response.headers_mut().append(name, value.clone());
        }
    }
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    *response.body_mut() = match body.is_over && !method.gives_stream {
        true => Body::from(body.unsent.piece(first.into())),
        false => {
            body.first = Some(first.into());
            Body::new(body)
        }
    };
    response
}

/// See the module's text.
struct Translated {
    method: &'static Method,
    body: Body,
    unsent: UnsentBytes,
    /// JSON that was made before the answer began to be sent.
    first: Option<Bytes>,
    prefix: Vec<u8>,
    /// Bytes of the message that are missing.
    left: usize,
    writer: Writer,
    record: Record,
    /// The status with which a stream has ended before its first message.
    failed: Option<Status>,
    has_begun: bool,
    is_over: bool,
}

/// What the record of the translation will say.
struct Record {
    id: u64,
    began: Option<Moment>,
    message: usize,
    json: usize,
}

impl Translated {
    fn new(method: &'static Method, body: Body, (id, unsent): (u64, UnsentBytes)) -> Self {
        Self {
            method,
            body,
            unsent,
            first: None,
            prefix: Vec::new(),
            left: 0,
            writer: Writer::default(),
            record: Record { id, began: None, message: 0, json: 0 },
            failed: None,
            has_begun: false,
            is_over: false,
        }
    }

    /// Takes a frame's bytes, and returns what they are in JSON.
    fn take(&mut self, mut data: &[u8]) -> Result<Vec<u8>, Malformed> {
        let began = self.record.began.is_none().then(Moment::now);
        self.record.began = self.record.began.or(began);
        while !data.is_empty() {
            if self.writer.is_open() {
                let (now, rest) = data.split_at(self.left.min(data.len()));
                self.left -= now.len();
                self.writer.feed(now)?;
                data = rest;
                if self.left == 0 {
                    self.end_message()?;
                }
                continue;
            }
            let (now, rest) = data.split_at((PREFIX - self.prefix.len()).min(data.len()));
            self.prefix.extend(now);
            data = rest;
            match self.prefix[..] {
                [0, a, b, c, d] => {
                    self.prefix.clear();
                    self.begin_message(u32::from_be_bytes([a, b, c, d]) as usize)?;
                }
                // Compressed, which answers never are.
                [_, _, _, _, _] => return Err(Malformed),
                _ => (),
            }
        }
        let text = self.writer.take();
        self.record.json += text.len();
        Ok(text)
    }

    fn begin_message(&mut self, length: usize) -> Result<(), Malformed> {
        (self.left, self.has_begun) = (length, true);
        self.record.message += length;
        if self.method.gives_stream {
            self.writer.push(r#"{"result":"#);
        }
        self.writer.begin(self.method.response, length);
        self.writer.feed(&[])?;
        if length == 0 { self.end_message() } else { Ok(()) }
    }

    fn end_message(&mut self) -> Result<(), Malformed> {
        if self.writer.is_open() {
            return Err(Malformed);
        }
        if self.method.gives_stream {
            self.writer.push("}\n");
        }
        Ok(())
    }

    /// The answer is complete: its end, if it has one to send.
    fn end(&mut self, trailers: &HeaderMap) -> Option<Vec<u8>> {
        self.is_over = true;
        let Record { id, began, message, json } = self.record;
        if let Some(began) = began.filter(|_| !self.method.gives_stream && id != 0) {
            past!(GatewayEncode, id, began, Moment::now(), message = message, json = json);
        }
        let status = Status::from_header_map(trailers).filter(|s| s.code() != Code::Ok)?;
        if self.has_begun {
            return Some(refusal::last_line(&status).into_bytes());
        }
        self.failed = Some(status);
        None
    }
}

impl http_body::Body for Translated {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(this.unsent.piece(first)))));
        }
        while !this.is_over {
            let text = match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.take(&data).map_err(cut_off),
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        Ok(this.end(&trailers).unwrap_or_default())
                    }
                },
                Some(Err(error)) => Err(error),
                None if this.writer.is_open() => Err(cut_off(Malformed)),
                None => Ok(this.end(&HeaderMap::new()).unwrap_or_default()),
            };
            match text {
                Ok(text) if text.is_empty() => (),
                Ok(text) => {
                    return Poll::Ready(Some(Ok(Frame::data(this.unsent.piece(text.into())))));
                }
                Err(error) => {
                    this.is_over = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
        Poll::Ready(None)
    }
}

fn cut_off(_: Malformed) -> axum::Error {
    axum::Error::new(std::io::Error::other("the answer of gRPC was cut off"))
}
