//! What the peer port serves beside raft: who is in the cluster, and which version this member is.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{HeaderName, Method, header},
    response::{IntoResponse, Response},
    routing::any,
};

use crate::{
    api::http::{method_not_allowed, version_json},
    server::members::{Members, hex},
};

/// The routes that `rafthttp` falls back to.
pub fn router(members: Arc<Members>) -> Router {
    Router::new().route("/members", any(list)).route("/version", any(version)).with_state(members)
}

async fn list(State(members): State<Arc<Members>>, method: Method) -> Response {
    if method != Method::GET {
        return method_not_allowed();
    }
    let list = serde_json::to_string(&members.list()).expect("members are plain data");
    let headers = [
        (HeaderName::from_static("x-etcd-cluster-id"), hex(members.cluster_id())),
        (header::CONTENT_TYPE, "application/json".to_owned()),
    ];
    (headers, list + "\n").into_response()
}

async fn version(State(members): State<Arc<Members>>, method: Method) -> Response {
    if method != Method::GET {
        return method_not_allowed();
    }
    ([(header::CONTENT_TYPE, "application/json")], version_json(members.version())).into_response()
}
