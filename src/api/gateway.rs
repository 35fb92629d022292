//! The JSON gateway: etcd's methods over HTTP, below `/v3` (`--enable-grpc-gateway`).
//!
//! ```text
//!   POST /v3/kv/put                                                 HTTP/1.1 200 OK
//!   {"key":"Zm9v"} ──▶ routes ──▶ request, read ──▶ gRPC's router ──▶ answer, write ──▶ {"header":…
//!                                 gateway.decode    rpc              gateway.encode
//! ```
//!
//! etcd's gateway is a client of its own member, over a socket. Here a request takes the way of
//! gRPC's calls from the router on: the same services, interceptor, limits and records, and no
//! socket. What a method takes and gives is in the tables of [`schema`], so the translation has no
//! code for single messages.
//!
//! * Texts of errors, unknown fields, names, numbers and bytes are etcd 3.5's: see [`read`] and
//!   [`write`], [`refusal`] for errors, [`request`] for headers.
//! * Streams are lines: `{"result":{…}}`, and an error at the end. The client's messages are read
//!   as they come, so a client that can send while it reads may cancel a watcher. The first one is
//!   read before the call begins, because a mistake in it is the answer.
//! * A body has a bound; an answer is translated while it is sent.
//! * A page in a browser can send such requests without asking, if it knows the member's address,
//!   as it can with etcd. `--host-whitelist` and `--enable-grpc-gateway=false` are against that.
//!
//! Left out: websockets, which etcd's gateway also takes for its streams. Of a stream no record
//! tells when its messages were translated, as none tells when they were read.

mod answer;
mod base64;
mod read;
mod refusal;
mod request;
mod routes;
mod scan;
mod schema;
mod tape;
#[cfg(test)]
mod tests;
mod write;

use std::{convert::Infallible, sync::Arc};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    response::{IntoResponse, Response},
    routing::any,
};
use futures_util::stream;
use http::{HeaderValue, Method as Verb, StatusCode, header};
use tokio::sync::watch;
use tonic::{Code, Status};
use tower_service::Service;

use self::{
    request::{NoMessage, Read, Requests},
    schema::Method,
};
use super::{
    answers::{self, Decoded},
    deadline,
    ending::{Ending, is_stream},
    limit::Limited,
    origin::Origin,
    refused::{self, Asked},
    text,
};
use crate::{
    server::Server,
    trace::{Moment, Reason},
};

/// What the gateway needs of the member.
#[derive(Clone)]
pub(super) struct Gateway {
    /// The member.
    pub(super) server: Arc<Server>,
    /// Its services, as gRPC reaches them.
    pub(super) grpc: Router,
    /// The largest message that is taken, in bytes.
    pub(super) message_bytes: usize,
    /// The member is about to end.
    pub(super) stopping: watch::Receiver<bool>,
}

impl Gateway {
    /// The routes below `/v3`.
    pub(super) fn router(self) -> Router {
        let routes = ["/v3/", "/v3/{*path}", "/v3beta/", "/v3beta/{*path}"];
        let router = Router::new().route("/v3", any(redirect));
        let router = routes.into_iter().fold(router, |router, path| router.route(path, any(serve)));
        router.with_state(self)
    }

    /// Carries out a call whose messages are this body.
    async fn call(&self, call: Call, body: Body, decoded: Option<Decoded>) -> Response {
        let Call { method, metadata, deadline } = call;
        let mut request = http::Request::post(method.path)
            .version(http::Version::HTTP_2)
            .body(Body::new(Limited::new(body, self.message_bytes)))
            .expect("methods have valid paths");
        *request.headers_mut() = metadata;
        let asked = (!is_stream(method.path)).then(|| Asked::of(&request));
        let unreached = |answer: &http::Response<Body>| {
            if let Some(asked) = asked {
                asked.refused_with(&self.server, answer);
            }
        };
        let unsent = answers::client(&self.server).hold(0);
        let called = answers::within(decoded, self.grpc.clone().call(request), unreached);
        let called = async move {
            let Ok(answer) = called.await;
            answer
        };
        let answer = match deadline {
            Some(deadline) => deadline::bound(deadline, called).await,
            None => called.await,
        };
        let id = answers::id_of(&answer);
        let answer = match is_stream(method.path) {
            true => {
                let stopping = self.stopping.clone();
                answer.map(|body| Body::new(Ending::when_stopped(body, stopping)))
            }
            false => answer,
        };
        answer::translated(method, answer, (id, unsent)).await
    }

    /// Records a call that is refused before it begins, and answers it.
    fn refuse(&self, call: &Call, status: &Status, reason: Reason) -> Response {
        let origin = Origin::new(call.metadata.get("traceparent"), answers::ends());
        refused::record(&self.server, (call.method.path, origin), (status.code(), reason));
        refusal::answer(status)
    }
}

/// A call, without its messages.
struct Call {
    method: &'static Method,
    metadata: http::HeaderMap,
    deadline: Option<crate::server::dropped::Deadline>,
}

/// Answers every request below `/v3`.
async fn serve(State(gateway): State<Gateway>, request: Request) -> Response {
    let Some(method) = routes::find(request.uri().path()) else {
        return text::error(StatusCode::NOT_FOUND, "Not Found");
    };
    if request.method() != Verb::POST {
        return text::error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    }
    let metadata = request::metadata(request.headers());
    let (deadline, refused) = match request::deadline(request.headers()) {
        Ok(deadline) => (deadline, None),
        Err(status) => (None, Some((status, Reason::MalformedTimeout))),
    };
    let refused = refused.or_else(|| refused::unserved(method.path, false));
    let call = Call { method, metadata, deadline };
    if let Some((status, reason)) = refused {
        return gateway.refuse(&call, &status, reason);
    }
    let requests = Requests::new(method.request, request.into_body(), gateway.message_bytes);
    begin(&gateway, call, requests).await
}

/// Reads the first message, and begins the call with it.
async fn begin(gateway: &Gateway, call: Call, mut requests: Requests) -> Response {
    let (read, decoded) = match requests.ready().await {
        Ok(value) => {
            let began = Moment::now();
            let read = value.read();
            let sizes = read.as_ref().map_or((0, 0), |read| (read.json, read.message.len()));
            let (json, message) = sizes;
            (read, Some(Decoded { began, ended: Moment::now(), json, message }))
        }
        Err(nothing) => {
            let now = Moment::now();
            (Err(nothing), Some(Decoded { began: now, ended: now, json: 0, message: 0 }))
        }
    };
    let takes_stream = call.method.takes_stream;
    let first = match read {
        Ok(Read { message, .. }) => Some(message),
        // A call with one message has an empty one.
        Err(NoMessage::End) if takes_stream => None,
        Err(NoMessage::End) => Some(Vec::new()),
        Err(NoMessage::Invalid(why)) => {
            let code = if takes_stream { Code::Unknown } else { Code::InvalidArgument };
            return gateway.refuse(&call, &Status::new(code, why), Reason::Undecodable);
        }
        Err(NoMessage::TooLong(max)) => {
            let why = format!("grpc: received JSON larger than max ({max})");
            let status = Status::resource_exhausted(why);
            return gateway.refuse(&call, &status, Reason::RequestTooLarge);
        }
    };
    let first = first.map(|message| request::framed(&message));
    // As in etcd, which waits for metadata only once it has sent a message.
    let wants_metadata = first.is_some();
    let body = match takes_stream {
        true => Body::from_stream(stream::unfold((first, requests), next)),
        false => Body::from(first.unwrap_or_default()),
    };
    let mut answer = gateway.call(call, body, decoded).await;
    if !wants_metadata {
        answer.headers_mut().remove(answer::CONTENT_TYPE);
    }
    answer
}

/// The next message of a stream; what is no message ends it.
async fn next(
    (first, mut requests): (Option<Bytes>, Requests),
) -> Option<(Result<Bytes, Infallible>, (Option<Bytes>, Requests))> {
    let bytes = match first {
        Some(first) => first,
        None => match requests.next().await {
            Ok(read) => request::framed(&read.message),
            Err(NoMessage::End) => return None,
            Err(why) => {
                let message = requests.name();
                tracing::debug!(?why, message, "what came next on a stream is no such message");
                return None;
            }
        },
    };
    Some((Ok(bytes), (None, requests)))
}

/// etcd's answer to the path without its slash, which is that of Go's ServeMux.
async fn redirect(verb: Verb) -> Response {
    let mut response = match verb {
        Verb::GET => {
            let kind = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
            (kind, "<a href=\"/v3/\">Moved Permanently</a>.\n\n").into_response()
        }
        _ => Response::default(),
    };
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/v3/"));
    response
}
