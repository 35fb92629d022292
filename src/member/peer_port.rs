//! What the peer port serves beside raft: who is in the cluster, and which version this member is.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};

use crate::{
    api,
    server::{Server, members::hex},
};

/// The routes that `rafthttp` falls back to.
pub fn router(server: Arc<Server>) -> Router {
    let members = Router::new().route("/members", any(members)).with_state(Arc::clone(&server));
    members.merge(api::http::version_router(server))
}

async fn members(State(server): State<Arc<Server>>, method: Method) -> Response {
    if method != Method::GET {
        let allow = [(header::ALLOW, HeaderValue::from_static("GET"))];
        return (StatusCode::METHOD_NOT_ALLOWED, allow, "Method Not Allowed\n").into_response();
    }
    let list = serde_json::to_string(&server.members()).expect("members are plain data");
    let headers = [
        (HeaderName::from_static("x-etcd-cluster-id"), hex(server.cluster_id())),
        (header::CONTENT_TYPE, "application/json".to_owned()),
    ];
    (headers, list + "\n").into_response()
}
