//! The paths of plain HTTP: `/health`, `/livez`, `/readyz`, `/metrics` and `/version`, and those of
//! the JSON gateway, and `/debug/vars`. The ports of `--listen-metrics-urls` serve the first four
//! only.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Query, Request, State},
    http::{HeaderMap, HeaderValue, Method as HttpMethod, StatusCode, header},
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::any,
};
use tonic::Code;

use super::{
    cors,
    gateway::Gateway,
    hosts,
    interceptor::{Call, Method},
    origin::Origin,
    probes::{self, Pairs},
    status::code_and_text,
    text::{error, method_not_allowed, plain},
    v2,
};
use crate::{
    config::{Cors, ETCD_VERSION, Hosts},
    server::{Error, Server, health::Unhealthy},
};

/// All HTTP routes, and etcd's answer to every other path.
pub(super) fn router(
    server: Arc<Server>,
    gateway: Option<Gateway>,
    (cors, hosts): (Arc<Cors>, Arc<Hosts>),
) -> Router {
    let router = common().route("/version", any(version)).route("/debug/vars", any(vars));
    let router = router.merge(v2::routes(&server));
    let router = router.with_state(server);
    let router = match gateway {
        Some(gateway) => router.merge(gateway.router()),
        None => router,
    };
    router
        .layer(from_fn_with_state(cors, cors::control))
        .layer(from_fn_with_state(hosts, hosts::control))
}

/// The routes of `--listen-metrics-urls`.
pub fn metrics_router(server: Arc<Server>) -> Router {
    common().with_state(server)
}

fn common() -> Router<Arc<Server>> {
    probes::routes()
        .route("/health", any(health))
        .route("/metrics", any(metrics))
        .fallback(|| async { error(StatusCode::NOT_FOUND, "404 page not found") })
}

/// The routes of a port for gRPC only: every other request gets 415, as from Go's gRPC.
pub fn no_router() -> Router {
    Router::new().fallback(|request: Request| async move {
        let kind = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        let kind = String::from_utf8_lossy(kind.unwrap_or_default()).into_owned();
        let status = tonic::Status::new(
            Code::Internal,
            format!("invalid gRPC request content-type {kind:?}"),
        );
        let mut headers = HeaderMap::new();
        // If the text does not fit into a header, the code is still sent.
        let _ = status.add_header(&mut headers);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, headers).into_response()
    })
}

/// The body of `/version`, on the client port and on the peer port.
pub fn version_json(cluster: Option<String>) -> String {
    let cluster = cluster.unwrap_or_else(|| "not_decided".to_owned());
    format!(r#"{{"etcdserver":"{ETCD_VERSION}","etcdcluster":"{cluster}"}}"#)
}

async fn health(
    State(server): State<Arc<Server>>,
    method: HttpMethod,
    Query(pairs): Query<Pairs>,
) -> Response {
    if method != HttpMethod::GET {
        return method_not_allowed();
    }
    let first = pairs.iter().find(|(name, _)| name == "serializable");
    let serializable = first.is_some_and(|(_, value)| value == "true");
    let call = Call::open(&server, Method::HttpHealth, 0, b"", Origin::of_http());
    let health = server.health(call.id(), serializable, &probes::excluded(pairs)).await;
    let reason = match health {
        Ok(()) => String::new(),
        Err(Unhealthy::Alarm(name)) => format!("ALARM {name}"),
        Err(Unhealthy::NoLeader) => "RAFT NO LEADER".to_owned(),
        Err(Unhealthy::Range(error)) => format!("RANGE ERROR:{}", code_and_text(error).1),
    };
    let result = if health.is_ok() { Ok(()) } else { Err(Error::Unhealthy) };
    let body = format!(r#"{{"health":"{}","reason":"{reason}"}}"#, health.is_ok());
    // The record has the status; over HTTP the reason is in the body.
    let _ = call.finish(result, body.len(), 0);
    probes::count_health(health.is_ok());
    if health.is_err() {
        tracing::warn!(output = %body, "/health error");
        return error(StatusCode::SERVICE_UNAVAILABLE, &body);
    }
    plain(StatusCode::OK, body)
}

async fn version(State(server): State<Arc<Server>>, method: HttpMethod) -> Response {
    if method != HttpMethod::GET {
        return method_not_allowed();
    }
    let call = Call::open(&server, Method::HttpVersion, 0, b"", Origin::of_http());
    let body = version_json(server.members.version());
    let _ = call.finish(Ok(()), body.len(), 0);
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn vars(State(server): State<Arc<Server>>, method: HttpMethod) -> Response {
    if method != HttpMethod::GET {
        return method_not_allowed();
    }
    let kind = [(header::CONTENT_TYPE, "application/json; charset=utf-8")];
    (kind, super::vars::page(&server)).into_response()
}

async fn metrics(State(server): State<Arc<Server>>) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, super::metrics::render(&server)).into_response()
}
