//! The v2 API over HTTP, with `--enable-v2`, as etcd 3.4 answers (etcd: `v2http`).
//!
//! ```text
//!   path ──▶ decoded? clean? ──▶ /v2/keys/…                  keys ──▶ watch, for `wait`
//!             400    301      ├─▶ /v2/members, /v2/machines  members
//!                             ├─▶ /v2/stats/…                stats
//!                             ├─▶ /v2/auth/…                 here
//!                             └─▶ 404
//! ```
//!
//! Each request is one call of the trace, of a method of its own.
//!
//! Left out: users and roles of v2. Their lists say, as etcd's do, that auth is off; a change of
//! them is refused with 501.

mod form;
mod json;
mod keys;
mod members;
mod paths;
mod stats;
mod time;
mod watch;

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Method as HttpMethod, StatusCode, header},
    response::Response,
    routing::any,
};
use tonic::{Code, Status};

use self::paths::Target;
use super::{
    interceptor::{Call, Method},
    origin::Origin,
    text::{error, plain},
};
use crate::{server::Server, trace::Reason};

const INDEX: HeaderName = HeaderName::from_static("x-etcd-index");
const CLUSTER_ID: HeaderName = HeaderName::from_static("x-etcd-cluster-id");
const RAFT_INDEX: HeaderName = HeaderName::from_static("x-raft-index");
const RAFT_TERM: HeaderName = HeaderName::from_static("x-raft-term");

/// The routes of the v2 API; none without `--enable-v2`.
pub(super) fn routes(server: &Server) -> Router<Arc<Server>> {
    match server.settings.enable_v2 {
        true => Router::new().route("/v2/{*rest}", any(serve)),
        false => Router::new(),
    }
}

async fn serve(State(server): State<Arc<Server>>, request: Request) -> Response {
    let path = match paths::target(request.uri()) {
        Target::Path(path) => path,
        Target::Elsewhere(location) => return paths::moved(request.method(), &location),
        Target::Malformed => return paths::malformed(),
    };
    if let Some(key) = below(&path, b"/v2/keys") {
        return keys::serve(server, key.to_vec(), request).await;
    }
    if let Some(rest) = below(&path, b"/v2/members") {
        return members::serve(&server, rest.strip_prefix(b"/").unwrap_or(rest), request).await;
    }
    match path.as_slice() {
        b"/v2/machines" => members::machines(&server, request.method()),
        b"/v2/stats/self" => stats::serve(&server, request.method(), stats::of_member),
        b"/v2/stats/leader" => stats::serve(&server, request.method(), stats::of_leader),
        b"/v2/stats/store" => stats::serve(&server, request.method(), stats::of_store),
        _ => match below(&path, b"/v2/auth") {
            Some(what) => auth(&server, what, request.method()),
            None => error(StatusCode::NOT_FOUND, "404 page not found"),
        },
    }
}

/// What follows a path that serves everything below it; begins with `/`, or is empty.
fn below<'p>(path: &'p [u8], served: &[u8]) -> Option<&'p [u8]> {
    path.strip_prefix(served).filter(|rest| matches!(rest, [] | [b'/', ..]))
}

/// Users and roles: there are none, and none can be made.
fn auth(server: &Server, what: &[u8], method: &HttpMethod) -> Response {
    let call = open(server, Method::V2Auth, b"");
    let body = match what {
        b"/users" => r#"{"users":null}"#,
        b"/roles" => {
            r#"{"roles":[{"role":"root","permissions":{"kv":{"read":["/*"],"write":["/*"]}}}]}"#
        }
        b"/enable" => r#"{"enabled":false}"#,
        _ => return finish(call, error(StatusCode::NOT_FOUND, "404 page not found")),
    };
    let mut response = match *method {
        HttpMethod::GET => json(StatusCode::OK, format!("{body}\n").into_bytes()),
        _ => message(StatusCode::NOT_IMPLEMENTED, "users and roles of v2 are not supported"),
    };
    add_cluster(server, &mut response);
    finish(call, response)
}

/// Opens a call over HTTP.
fn open(server: &Server, method: Method, key: &[u8]) -> Call {
    let call = Call::open(server, method, 0, key, Origin::of_http());
    if !key.is_empty() {
        crate::trace::key(call.id(), key);
    }
    call
}

/// Ends a call with an answer, whose status decides how it is recorded.
fn finish(call: Call, response: Response) -> Response {
    let bytes = http_body::Body::size_hint(response.body()).lower();
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    if !response.status().is_client_error() && !response.status().is_server_error() {
        // Without an error there is no status to send.
        let _ = call.finish(Ok(()), bytes, 0);
        return response;
    }
    let (code, reason) = match response.status() {
        StatusCode::NOT_FOUND => (Code::NotFound, Reason::V2Refused),
        StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
            (Code::Unimplemented, Reason::UnknownMethod)
        }
        StatusCode::BAD_REQUEST => (Code::InvalidArgument, Reason::V2Refused),
        status if status.is_server_error() => (Code::Unavailable, Reason::Other),
        _ => (Code::FailedPrecondition, Reason::V2Refused),
    };
    // The record has the code; over HTTP the answer is in the body.
    let _ = call.refuse(Status::new(code, ""), reason);
    response
}

fn json(status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// An error of the paths that are not for keys.
fn message(status: StatusCode, text: &str) -> Response {
    let mut body = b"{\"message\":".to_vec();
    json::string(&mut body, text.as_bytes());
    body.push(b'}');
    json(status, body)
}

fn not_allowed(methods: &'static str) -> Response {
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    response
}

fn add_cluster(server: &Server, response: &mut Response) {
    let id = format!("{:x}", server.members.cluster_id());
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert(CLUSTER_ID, id);
    }
}

/// A text of `/v2/machines`.
fn text(body: String) -> Response {
    plain(StatusCode::OK, body)
}
