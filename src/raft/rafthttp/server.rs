//! The peer port: which requests are accepted, and what serves them.
//!
//! Requests are refused in etcd's order and with etcd's texts, because its members depend on them.
//! A wrong method is 405, a foreign version or cluster 412, and so on down to the stream's own
//! checks. (etcd: rafthttp/http.go)

use std::{
    convert::Infallible,
    error::Error,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
};
use http_body_util::Full;
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioTimer;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::OwnedSemaphorePermit,
    time::{sleep, timeout},
};
use tower_service::Service;

use super::{
    bodies::{Held, Unread},
    channel::Channel,
    database,
    dial::Socket,
    glass,
    hub::{Hub, Stranger},
    identity, probing,
    snapshot_receiver::{self, Refused},
    snapshot_sender::DatabaseBody,
    stream::StreamBody,
    wire::{self, FRAME_LEN_MAX},
};
use crate::{clock, trace};

/// The longest time for the head of a request, including the idle time of the connection before it.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// The most bytes of a request's body, for requests other than rafthttp's own.
const EXTRA_BODY_MAX: usize = 16 << 20;
/// The longest time for the body of a request.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after a failed accept, which usually means that no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

type BoxError = Box<dyn Error + Send + Sync>;

/// The body of an answer.
pub(super) enum Payload {
    /// A text, which may be empty.
    Whole(Full<Bytes>),
    /// Raft's messages, for as long as the peer listens.
    Stream(Box<StreamBody>),
    /// The member's database.
    Database(Box<DatabaseBody>),
    /// The answer of one of the member's own handlers.
    Extra(axum::body::Body),
}

/// An answer to a peer.
pub(super) struct Answer(Response<Payload>);

impl Answer {
    /// An answer without a body.
    pub(super) fn empty(status: StatusCode) -> Answer {
        Answer::whole(status, Bytes::new())
    }

    fn whole(status: StatusCode, text: impl Into<Bytes>) -> Answer {
        let mut response = Response::new(Payload::Whole(Full::new(text.into())));
        *response.status_mut() = status;
        Answer(response)
    }

    fn with(mut self, name: HeaderName, value: &'static str) -> Answer {
        self.0.headers_mut().insert(name, HeaderValue::from_static(value));
        self
    }
}

/// A refusal, in the form of Go's `http.Error`.
pub(super) fn refuse(status: StatusCode, text: &str) -> Answer {
    Answer::whole(status, format!("{text}\n"))
        .with(CONTENT_TYPE, "text/plain; charset=utf-8")
        .with(X_CONTENT_TYPE_OPTIONS, "nosniff")
}

/// Accepts connections for ever. While no permit is left, one accepted connection waits here, and
/// the others in the kernel's queue.
pub(super) async fn accept(hub: Rc<Hub>, listener: TcpListener, extra: axum::Router) {
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                let place = place(&hub).await;
                tokio::task::spawn_local(serve(hub.clone(), stream, from, place, extra.clone()));
            }
            Err(error) => {
                hub.local.complain(0, "a connection could not be accepted", &error.to_string());
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn place(hub: &Rc<Hub>) -> OwnedSemaphorePermit {
    if let Ok(place) = hub.places.clone().try_acquire_owned() {
        return place;
    }
    let text = "all connections that the peer port may have are taken";
    hub.local.complain(0, text, "more are served when some end");
    let place = hub.places.clone().acquire_owned().await;
    place.expect("places are never closed")
}

async fn serve(
    hub: Rc<Hub>,
    stream: TcpStream,
    from: SocketAddr,
    _place: OwnedSemaphorePermit,
    extra: axum::Router,
) {
    let service = service_fn(|request| answer(hub.clone(), request, extra.clone()));
    if let Ok(socket) = Socket::new(stream) {
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .serve_connection(socket, service)
            .await;
        if let Err(error) = served {
            tracing::debug!("connection from {from} ended: {error}");
        }
    }
}

async fn answer(
    hub: Rc<Hub>,
    request: Request<Incoming>,
    mut extra: axum::Router,
) -> Result<Response<Payload>, Infallible> {
    let path = request.uri().path();
    let answer = if path == "/raft" {
        match refusal(&hub, &request, &Method::POST) {
            None => stamp(&hub, posted(&hub, request).await),
            Some(refusal) => refusal,
        }
    } else if path.starts_with("/raft/stream/") {
        match refusal(&hub, &request, &Method::GET) {
            None => stamp(&hub, stream(&hub, &request)),
            Some(refusal) => refusal,
        }
    } else if path == "/raft/snapshot" {
        match refusal(&hub, &request, &Method::POST) {
            None => stamp(&hub, snapshot(&hub, request).await),
            Some(refusal) => refusal,
        }
    } else if path == database::PATH {
        match refusal(&hub, &request, &Method::GET) {
            None => stamp(&hub, given(&hub, &request).await),
            Some(refusal) => refusal,
        }
    } else if path == probing::PATH {
        Answer::whole(StatusCode::OK, probing::answer(clock::wall()))
            .with(CONTENT_TYPE, "application/json")
    } else {
        let (head, body) = request.into_parts();
        match body_of(&hub, body, EXTRA_BODY_MAX).await {
            Ok(body) => {
                let Ok(response) =
                    extra.call(Request::from_parts(head, Full::new(body.bytes.clone()))).await;
                Answer(response.map(Payload::Extra))
            }
            Err(status) => refuse(status, "error reading the request"),
        }
    };
    Ok(answer.0)
}

/// Checks the method, version and cluster of a peer's request. Returns the answer if one is wrong.
fn refusal(hub: &Hub, request: &Request<Incoming>, method: &Method) -> Option<Answer> {
    if request.method() != method {
        let allow = if method == Method::GET { "GET" } else { "POST" };
        let refusal = refuse(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
        return Some(refusal.with(ALLOW, allow));
    }
    let headers = request.headers();
    let mismatch = hub.local.identity.check(headers).err()?;
    let (theirs, ours) = (identity::cluster(headers), hub.local.identity.cluster_id);
    let details = format!("{mismatch} (its cluster is {theirs}, and ours {ours:x})");
    hub.local.complain(identity::sender(headers), "its request was refused", &details);
    Some(stamp(hub, refuse(StatusCode::PRECONDITION_FAILED, &mismatch.to_string())))
}

fn stamp(hub: &Hub, mut answer: Answer) -> Answer {
    hub.local.identity.stamp_answer(answer.0.headers_mut());
    answer
}

/// Answers `GET /raft/stream/<channel>/<from>`, once the headers are checked.
fn stream(hub: &Rc<Hub>, request: &Request<Incoming>) -> Answer {
    let headers = request.headers();
    let (folder, from) = request.uri().path().rsplit_once('/').unwrap_or_default();
    let name = folder.strip_prefix("/raft/stream/").unwrap_or_default();
    let Some(channel) = Channel::from_name(name) else {
        return refuse(StatusCode::NOT_FOUND, "invalid path");
    };
    let Some(from) = identity::parse_id(from) else {
        return refuse(StatusCode::NOT_FOUND, "invalid from");
    };
    if let Err(refusal) = hub.knows(from) {
        return match refusal {
            Stranger::Removed => refuse(StatusCode::GONE, "removed member"),
            Stranger::Unknown => {
                hub.remember(from, &identity::peer_urls(headers));
                refuse(StatusCode::NOT_FOUND, "error sender not found")
            }
        };
    }
    let meant = identity::text(headers, &identity::TO);
    if meant != format!("{:x}", hub.local.identity.member_id) {
        hub.local.complain(from, "its stream is meant for another member", meant);
        return refuse(StatusCode::PRECONDITION_FAILED, "to field mismatch");
    }
    if hub.local.links.is_cut(from) {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "the link is cut");
    }
    let number = glass::stream_number(headers);
    let Some(body) = hub.attach(from, channel, number) else {
        return refuse(StatusCode::NOT_FOUND, "error sender not found");
    };
    let mut answer = Answer(Response::new(Payload::Stream(Box::new(body))));
    if let Some(number) = number {
        // It speaks glass: its request ids carry the keep bit.
        trace::note_peer(from);
        answer.0.headers_mut().insert(glass::STREAM_HEADER, glass::header(number));
    }
    answer
}

/// Answers `POST /raft`, once the headers are checked.
async fn posted(hub: &Rc<Hub>, request: Request<Incoming>) -> Answer {
    hub.remember(identity::sender(request.headers()), &identity::peer_urls(request.headers()));
    let link = glass::link(request.headers());
    // Kept to the end: the room is given back once raft's inbox counts the message.
    let body = match body_of(hub, request.into_body(), FRAME_LEN_MAX).await {
        Ok(body) => body,
        Err(status) => return refuse(status, "error reading raft message"),
    };
    let message = match wire::message(&body.bytes) {
        Ok(message) => message,
        Err(broken) => {
            hub.local.complain(0, "a posted message makes no sense", &broken.to_string());
            return refuse(StatusCode::BAD_REQUEST, "error unmarshalling raft message");
        }
    };
    let bytes = body.bytes.len() as u64;
    hub.local.count(message.from, |counts| counts.received_bytes.add(bytes));
    if hub.local.is_removed(message.from) {
        return refuse(StatusCode::FORBIDDEN, "cannot process message from removed member");
    }
    match hub.local.receive(Box::new(message), link) {
        Ok(()) => Answer::empty(StatusCode::NO_CONTENT),
        Err(_) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "error processing raft message"),
    }
}

/// Answers `POST /raft/snapshot`, once the headers are checked.
async fn snapshot(hub: &Rc<Hub>, request: Request<Incoming>) -> Answer {
    match snapshot_receiver::receive(hub, request).await {
        Ok(()) => Answer::empty(StatusCode::NO_CONTENT),
        Err(Refused(status, text)) => refuse(status, &text),
    }
}

/// Answers `GET /glass/database`, once the headers are checked.
async fn given(hub: &Rc<Hub>, request: &Request<Incoming>) -> Answer {
    match database::give(hub, request.headers()).await {
        Ok(body) => Answer(Response::new(Payload::Database(Box::new(body)))),
        Err(Refused(status, text)) => refuse(status, &text),
    }
}

/// Reads a request's body, or says with which status it is refused.
async fn body_of(hub: &Hub, body: Incoming, max: usize) -> Result<Held<'_>, StatusCode> {
    match timeout(BODY_TIMEOUT, hub.bodies.read(body, max)).await {
        Ok(Ok(held)) => Ok(held),
        Ok(Err(Unread::NoRoom)) => {
            let text = "a request was not read";
            hub.local.complain(0, text, "the bodies of others take all room on the peer port");
            Err(StatusCode::SERVICE_UNAVAILABLE)
        }
        Ok(Err(Unread::TooLong | Unread::Broken)) | Err(_) => Err(StatusCode::BAD_REQUEST),
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Payload::Whole(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Payload::Stream(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Payload::Database(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Payload::Extra(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Payload::Whole(body) => body.is_end_stream(),
            Payload::Stream(_) => false,
            Payload::Database(body) => body.is_end_stream(),
            Payload::Extra(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Payload::Whole(body) => body.size_hint(),
            Payload::Stream(_) => SizeHint::default(),
            Payload::Database(body) => body.size_hint(),
            Payload::Extra(body) => body.size_hint(),
        }
    }
}
