//! `/v2/members` and `/v2/machines`: the members, and changes of them (etcd: `membersHandler`).
//!
//! The changes are those of the v3 service, with its checks. Left out: Go's words for what is wrong
//! with a JSON body; the answer has serde's.

use std::time::Duration;

use axum::{
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderMap, HeaderValue, Method as HttpMethod, StatusCode, header},
    response::Response,
};
use serde::Deserialize;
use tokio::time::timeout;

use super::{add_cluster, finish, json, message, not_allowed, open, text};
use crate::{
    api::{interceptor::Method, text::error},
    config,
    server::{
        Error, Server,
        members::{Member, Refusal},
    },
};

/// The longest body that is read, and how long it may take to arrive.
const BYTES_MAX: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(30);

/// The body of a change.
#[derive(Deserialize)]
struct Change {
    #[serde(rename = "peerURLs", default)]
    peer_urls: Option<Vec<String>>,
}

/// Answers a request for `/v2/members`, or for what is below it.
pub(super) async fn serve(server: &Server, what: &[u8], request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let method = match (&parts.method, what) {
        (&HttpMethod::GET, b"leader") => Method::V2MembersLeader,
        (&HttpMethod::GET, _) => Method::V2Members,
        (&HttpMethod::POST, _) => Method::V2MemberAdd,
        (&HttpMethod::PUT, _) => Method::V2MemberUpdate,
        (&HttpMethod::DELETE, _) => Method::V2MemberRemove,
        _ => return not_allowed("GET,POST,DELETE,PUT"),
    };
    let call = open(server, method, b"");
    let names_one = matches!(method, Method::V2MemberUpdate | Method::V2MemberRemove);
    if what.is_empty() && names_one {
        let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
        add_cluster(server, &mut response);
        return finish(call, response);
    }
    let answered = match method {
        Method::V2MembersLeader => leader(server),
        Method::V2Members if what.is_empty() => Ok(list(server)),
        Method::V2Members => Err(refused_with(StatusCode::NOT_FOUND, "Not found")),
        Method::V2MemberAdd => add(server, call.id(), &parts.headers, body).await,
        Method::V2MemberUpdate => update(server, call.id(), what, &parts.headers, body).await,
        _ => remove(server, call.id(), what).await,
    };
    let mut response = answered.unwrap_or_else(|(status, text)| message(status, &text));
    add_cluster(server, &mut response);
    finish(call, response)
}

/// The client URLs of all members.
pub(super) fn machines(server: &Server, method: &HttpMethod) -> Response {
    if ![HttpMethod::GET, HttpMethod::HEAD].contains(method) {
        return not_allowed("GET,HEAD");
    }
    let call = open(server, Method::V2Machines, b"");
    let members = server.members.list().into_iter();
    let mut urls: Vec<String> = members.flat_map(|member| member.client_urls).collect();
    urls.sort_unstable();
    finish(call, text(urls.join(", ")))
}

/// Why a request is refused: the status, and the text of the body.
type Refused = (StatusCode, String);
type Answered = Result<Response, Refused>;

fn refused_with(status: StatusCode, text: &str) -> Refused {
    (status, text.to_owned())
}

fn list(server: &Server) -> Response {
    let mut body = b"{\"members\":[".to_vec();
    for (at, member) in server.members.list().iter().enumerate() {
        if 0 < at {
            body.push(b',');
        }
        write(&mut body, member);
    }
    body.extend(b"]}\n");
    super::json(StatusCode::OK, body)
}

fn leader(server: &Server) -> Answered {
    let leader = server.members.get(server.status.leader());
    let leader =
        leader.ok_or_else(|| refused_with(StatusCode::SERVICE_UNAVAILABLE, "During election"))?;
    Ok(one(StatusCode::OK, &leader))
}

async fn add(server: &Server, id: u64, headers: &HeaderMap, body: Body) -> Answered {
    let urls = change(headers, body).await?;
    let added = server.membership.add(id, &urls, false).await;
    let (member, _) = added.map_err(|error| refused(error, 0))?;
    Ok(one(StatusCode::CREATED, &member))
}

async fn update(
    server: &Server,
    id: u64,
    what: &[u8],
    headers: &HeaderMap,
    body: Body,
) -> Answered {
    let member = member_id(what)?;
    let urls = change(headers, body).await?;
    let updated = server.membership.update(id, member, &urls).await;
    updated.map(|_| no_content()).map_err(|error| refused(error, member))
}

async fn remove(server: &Server, id: u64, what: &[u8]) -> Answered {
    let member = member_id(what)?;
    let removed = server.membership.remove(id, member).await;
    let gone = |error| match error {
        Error::Members(Refusal::Removed) => {
            (StatusCode::GONE, format!("Member permanently removed: {member:x}"))
        }
        error => refused(error, member),
    };
    removed.map(|_| no_content()).map_err(gone)
}

fn member_id(what: &[u8]) -> Result<u64, Refused> {
    let digits = what.iter().all(u8::is_ascii_hexdigit);
    let parsed = str::from_utf8(what).ok().filter(|_| digits);
    parsed.and_then(|text| u64::from_str_radix(text, 16).ok()).ok_or_else(|| {
        let text = format!("No such member: {}", String::from_utf8_lossy(what));
        (StatusCode::NOT_FOUND, text)
    })
}

/// The peer URLs in the body of a change.
async fn change(headers: &HeaderMap, body: Body) -> Result<Vec<String>, Refused> {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let kind = String::from_utf8_lossy(kind);
    let kind = match kind.split_once(';') {
        Some((kind, _)) => kind.to_ascii_lowercase().trim().to_owned(),
        None => kind.into_owned(),
    };
    if kind != "application/json" {
        let text = format!("Bad Content-Type {kind}, accept application/json");
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    let bad = |text: &str| refused_with(StatusCode::BAD_REQUEST, text);
    let body = timeout(PATIENCE, to_bytes(body, BYTES_MAX)).await;
    let body = body.map_err(|_| bad("the body has not arrived in time"))?;
    let body = body.map_err(|error| bad(&error.to_string()))?;
    let change: Change = serde_json::from_slice(&body).map_err(|error| bad(&error.to_string()))?;
    config::checked_peer_urls(&change.peer_urls.unwrap_or_default()).map_err(|error| bad(&error))
}

fn refused(error: Error, member: u64) -> Refused {
    match error {
        Error::Members(refusal @ (Refusal::Exists | Refusal::PeerUrlExists)) => {
            (StatusCode::CONFLICT, refusal.to_string())
        }
        Error::Members(Refusal::NotFound) => {
            (StatusCode::NOT_FOUND, format!("No such member: {member:x}"))
        }
        _ => refused_with(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error"),
    }
}

fn no_content() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn one(status: StatusCode, member: &Member) -> Response {
    let mut body = Vec::new();
    write(&mut body, member);
    body.push(b'\n');
    super::json(status, body)
}

fn write(out: &mut Vec<u8>, member: &Member) {
    out.extend(format!("{{\"id\":\"{:x}\",\"name\":", member.id).into_bytes());
    json::string(out, member.name.as_bytes());
    for (name, urls) in [("peerURLs", &member.peer_urls), ("clientURLs", &member.client_urls)] {
        out.extend(format!(",\"{name}\":[").into_bytes());
        for (at, url) in urls.iter().enumerate() {
            if 0 < at {
                out.push(b',');
            }
            json::string(out, url.as_bytes());
        }
        out.push(b']');
    }
    out.push(b'}');
}
