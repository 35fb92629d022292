//! `/v2/keys`: the parameters are checked in etcd's order, and the store's answer is written (etcd:
//! `keysHandler`).

use std::sync::Arc;

use axum::{
    extract::Request as HttpRequest,
    http::{HeaderValue, Method as HttpMethod, StatusCode},
    response::Response,
};

use super::{
    INDEX, RAFT_INDEX, RAFT_TERM, add_cluster, finish, form::Form, json, not_allowed, open, watch,
};
use crate::{
    api::{
        interceptor::{Call, Method},
        status::code_and_text,
    },
    pb::etcdserverpb::Request,
    server::{
        Error, Server,
        v2store::{self, Action, Answer, Code, Path, Refusal, Wish},
    },
    stage,
    trace::Reason,
};

/// What a client asks for.
struct Asked {
    request: Request,
    /// Whether the answer to a write leaves out the nodes.
    no_value: bool,
}

/// Why a request is refused before the store sees it: etcd's number, its text, and the cause.
type Malformed = (u16, &'static str, String);

const PREV_VALUE_REQUIRED: (u16, &str) = (201, "PrevValue is Required in POST form");
const TTL_NAN: (u16, &str) = (202, "The given TTL in POST form is not a number");
const INDEX_NAN: (u16, &str) = (203, "The given index in POST form is not a number");
const INVALID_FIELD: (u16, &str) = (209, "Invalid field");
const INVALID_FORM: (u16, &str) = (210, "Invalid POST form");
const REFRESH_VALUE: (u16, &str) = (211, "Value provided on refresh");
const REFRESH_TTL_REQUIRED: (u16, &str) = (212, "A TTL must be provided on refresh");
const RAFT_INTERNAL: (u16, &str) = (300, "Raft Internal Error");

/// Answers a request for the key at `path`, which is below `/v2/keys`.
pub(super) async fn serve(server: Arc<Server>, path: Vec<u8>, request: HttpRequest) -> Response {
    let (parts, body) = request.into_parts();
    let method = match parts.method {
        HttpMethod::GET | HttpMethod::HEAD => Method::V2Get,
        HttpMethod::PUT => Method::V2Put,
        HttpMethod::POST => Method::V2Post,
        HttpMethod::DELETE => Method::V2Delete,
        _ => return not_allowed("HEAD,GET,PUT,POST,DELETE"),
    };
    let query = parts.uri.query();
    let is_watch = parts.method == HttpMethod::GET && watch::is_asked(query);
    let method = if is_watch { Method::V2Watch } else { method };
    let call = open(&server, method, if path.is_empty() { b"/" } else { &path });
    let checked = {
        let mut span = stage!(RpcValidate, call.id(), operations = 1_u64);
        let form = Form::read(&parts.method, &parts.headers, query, body).await;
        let form = form.map_err(|cause| malformed(INVALID_FORM, cause));
        let checked = form.and_then(|form| parse(&parts.method, &path, &form));
        if checked.is_err() {
            span.fail(Reason::V2Refused);
        }
        checked
    };
    let Asked { request, no_value } = match checked {
        Ok(asked) => asked,
        Err((code, text, cause)) => {
            let response = refused(StatusCode::BAD_REQUEST, (code, text), cause.as_bytes(), 0);
            return finish(call, with_cluster(&server, response));
        }
    };
    carry_out(&server, call, request, no_value).await
}

/// Reads, waits, or proposes.
async fn carry_out(server: &Server, call: Call, request: Request, no_value: bool) -> Response {
    let key = Path::clean(request.path());
    if request.wait() && request.method() == "GET" {
        let wish = Wish {
            recursive: request.recursive(),
            stream: request.stream(),
            since: request.since(),
        };
        return match server.v2.watch(call.id(), key, wish) {
            Ok(watching) => {
                let response = headed(server, watching.index);
                watch::answer(server, call, watching, wish.stream, response)
            }
            Err(refusal) => finish(call, with_cluster(server, of_store(&refusal))),
        };
    }
    let result = match request.method() {
        "GET" | "HEAD" => Ok(server.v2.get(call.id(), &key, request.recursive()).map(Some)),
        _ => server.v2.propose(call.id(), request).await,
    };
    let response = match result {
        Ok(Ok(Some(answer))) => answered(server, &answer, no_value),
        // Each of these methods has an answer.
        Ok(Ok(None)) => failed(Error::UnknownMethod),
        Ok(Err(refusal)) => of_store(&refusal),
        Err(error) => failed(error),
    };
    finish(call, with_cluster(server, response))
}

/// The request that these parameters make, or the first that is wrong.
fn parse(method: &HttpMethod, path: &[u8], form: &Form) -> Result<Asked, Malformed> {
    let index = |name: &str| form.number(name).ok_or_else(|| invalid(INDEX_NAN, name));
    let flag = |name: &str| form.flag(name).ok_or_else(|| invalid(INVALID_FIELD, name));
    let (prev_index, since) = (index("prevIndex")?, index("waitIndex")?);
    let (recursive, sorted, wait) = (flag("recursive")?, flag("sorted")?, flag("wait")?);
    let (dir, quorum, stream) = (flag("dir")?, flag("quorum")?, flag("stream")?);
    if wait && method != HttpMethod::GET {
        let cause = "\"wait\" can only be used with GET requests";
        return Err(malformed(INVALID_FIELD, cause));
    }
    let prev_value = form.text("prevValue");
    if form.get("prevValue").is_some() && prev_value.is_empty() {
        return Err(malformed(PREV_VALUE_REQUIRED, "\"prevValue\" cannot be empty"));
    }
    let no_value = flag("noValueOnSuccess")?;
    let ttl = match form.text("ttl") {
        b"" => None,
        _ => Some(form.number("ttl").ok_or_else(|| invalid(TTL_NAN, "ttl"))?),
    };
    let option = |name: &str| match form.get(name) {
        None => Ok(None),
        Some(_) => match form.flag(name) {
            Some(flag) => Ok(Some(flag)),
            None => Err(malformed(INVALID_FIELD, format!("invalid value for {name}"))),
        },
    };
    let (prev_exist, refresh) = (option("prevExist")?, option("refresh")?);
    if refresh == Some(true) {
        if !form.text("value").is_empty() {
            return Err(malformed(REFRESH_VALUE, "A value was provided on a refresh"));
        }
        if ttl.is_none() {
            return Err(malformed(REFRESH_TTL_REQUIRED, "No TTL value set"));
        }
    }
    let is_quorum = quorum && method == HttpMethod::GET;
    let path = Path::clean(&[b"/1/", path].concat());
    let request = Request {
        method: Some(if is_quorum { "QGET" } else { method.as_str() }.to_owned()),
        path: Some(path.text().into()),
        val: Some(form.text("value").to_vec().into()),
        dir: Some(dir),
        prev_value: Some(prev_value.to_vec().into()),
        prev_index: Some(prev_index),
        prev_exist,
        expiration: Some(ttl.map_or(0, expiration)),
        wait: Some(wait),
        since: Some(since),
        recursive: Some(recursive),
        sorted: Some(sorted),
        quorum: Some(quorum),
        time: Some(0),
        stream: Some(stream),
        refresh,
        id: None,
    };
    Ok(Asked { request, no_value })
}

/// When a TTL from now on ends. A TTL that is too large wraps around, as Go's numbers do.
fn expiration(ttl: u64) -> i64 {
    let nanos = ttl.cast_signed().wrapping_mul(1_000_000_000);
    v2store::now().wrapping_add(nanos)
}

fn malformed((code, text): (u16, &'static str), cause: impl Into<String>) -> Malformed {
    (code, text, cause.into())
}

fn invalid(what: (u16, &'static str), name: &str) -> Malformed {
    malformed(what, format!("invalid value for \"{name}\""))
}

fn answered(server: &Server, answer: &Answer, no_value: bool) -> Response {
    let event = &answer.event;
    let is_write = matches!(
        event.action,
        Action::Set | Action::CompareAndSwap | Action::Create | Action::Update
    );
    let body = match no_value && is_write {
        true => json::action(event),
        false => json::answer(answer),
    };
    let mut response = headed(server, answer.index);
    if event.is_created() {
        *response.status_mut() = StatusCode::CREATED;
    }
    *response.body_mut() = body.into();
    response
}

/// An answer without a body yet, with the headers of a success.
fn headed(server: &Server, index: u64) -> Response {
    let mut response = with_cluster(server, super::json(StatusCode::OK, Vec::new()));
    let (commit, term) = (server.status.commit(), server.status.term());
    for (name, number) in [(INDEX, index), (RAFT_INDEX, commit), (RAFT_TERM, term)] {
        response.headers_mut().insert(name, HeaderValue::from(number));
    }
    response
}

fn with_cluster(server: &Server, mut response: Response) -> Response {
    add_cluster(server, &mut response);
    response
}

fn refused(status: StatusCode, (code, text): (u16, &str), cause: &[u8], index: u64) -> Response {
    let mut response = super::json(status, json::error(code, text, cause, index));
    response.headers_mut().insert(INDEX, HeaderValue::from(index));
    response
}

/// What the store has refused (etcd: `v2error`).
fn of_store(refusal: &Refusal) -> Response {
    let (status, text) = match refusal.code {
        Code::KeyNotFound => (StatusCode::NOT_FOUND, "Key not found"),
        Code::TestFailed => (StatusCode::PRECONDITION_FAILED, "Compare failed"),
        Code::NotFile => (StatusCode::FORBIDDEN, "Not a file"),
        Code::NotDir => (StatusCode::BAD_REQUEST, "Not a directory"),
        Code::NodeExist => (StatusCode::PRECONDITION_FAILED, "Key already exists"),
        Code::RootReadOnly => (StatusCode::BAD_REQUEST, "Root is read only"),
        Code::DirNotEmpty => (StatusCode::FORBIDDEN, "Directory not empty"),
        Code::EventIndexCleared => {
            (StatusCode::BAD_REQUEST, "The event in requested index is outdated and cleared")
        }
    };
    refused(status, (refusal.code as u16, text), json::cause(refusal), refusal.index)
}

/// A request that has no known outcome, or that the member does not take.
fn failed(error: Error) -> Response {
    let (_, cause) = code_and_text(error);
    refused(StatusCode::INTERNAL_SERVER_ERROR, RAFT_INTERNAL, cause.as_bytes(), 0)
}
