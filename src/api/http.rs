//! What the client port serves over HTTP: `/health`, `/version` and `/metrics`.

use std::sync::Arc;

use axum::{
    Router,
    extract::{RawQuery, State},
    http::{HeaderValue, Method as HttpMethod, StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};

use super::{
    interceptor::{Call, Method},
    status::code_and_text,
};
use crate::server::{
    Error, Server,
    views::{ETCD_VERSION, Unhealthy},
};

/// The HTTP routes, and etcd's answer to every other path.
pub fn router(server: Arc<Server>) -> Router {
    Router::new()
        .route("/health", any(health))
        .route("/version", any(version))
        .route("/metrics", any(metrics))
        .fallback(|| async { plain(StatusCode::NOT_FOUND, "404 page not found\n") })
        .with_state(server)
}

/// The body of `/version`, on the client port and on the peer port.
pub fn version_json(cluster: Option<String>) -> String {
    let cluster = cluster.unwrap_or_else(|| "not_decided".to_owned());
    format!(r#"{{"etcdserver":"{ETCD_VERSION}","etcdcluster":"{cluster}"}}"#)
}

async fn health(
    State(server): State<Arc<Server>>,
    method: HttpMethod,
    RawQuery(query): RawQuery,
) -> Response {
    if method != HttpMethod::GET {
        return method_not_allowed();
    }
    let query = Query::parse(query.as_deref().unwrap_or_default());
    let call = Call::open(&server, Method::HttpHealth, 0, (b"", None));
    let health = server.health(call.id(), query.serializable, &query.excluded).await;
    let reason = match health {
        Ok(()) => String::new(),
        Err(Unhealthy::Alarm(name)) => format!("ALARM {name}"),
        Err(Unhealthy::NoLeader) => "RAFT NO LEADER".to_owned(),
        Err(Unhealthy::Range(error)) => format!("RANGE ERROR:{}", code_and_text(error).1),
    };
    let result = if health.is_ok() { Ok(()) } else { Err(Error::Unhealthy) };
    let code = if health.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = format!(r#"{{"health":"{}","reason":"{reason}"}}"#, health.is_ok());
    // The status of the record; over HTTP the reason is in the body.
    let _ = call.finish(result, body.len(), 0);
    plain(code, body)
}

async fn version(State(server): State<Arc<Server>>, method: HttpMethod) -> Response {
    if method != HttpMethod::GET {
        return method_not_allowed();
    }
    let call = Call::open(&server, Method::HttpVersion, 0, (b"", None));
    let body = version_json(server.cluster_version());
    let _ = call.finish(Ok(()), body.len(), 0);
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn metrics(State(server): State<Arc<Server>>) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, super::metrics::render(&server)).into_response()
}

fn plain(code: StatusCode, body: impl Into<String>) -> Response {
    (code, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body.into()).into_response()
}

/// etcd's answer to any verb but GET.
pub fn method_not_allowed() -> Response {
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
    response
}

/// The parameters of `/health`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Query {
    serializable: bool,
    excluded: Vec<String>,
}

impl Query {
    fn parse(text: &str) -> Self {
        let mut query = Query::default();
        for (name, value) in text.split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                "serializable" => query.serializable = value == "true",
                "exclude" => query.excluded.push(value.to_owned()),
                _ => {}
            }
        }
        query
    }
}
