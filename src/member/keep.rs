//! Sends the other members the ids of requests to keep, and takes such ids from them.
//!
//! Most kept requests need no message between members, because a bit of the id decides on all of
//! them. A request that turns out slow or fails may not have that bit. So the member that notices
//! sends its id to the others while their rings still hold its records: `POST /glass/keep`, the ids
//! as eight bytes each, big-endian.
//!
//! Only members that speak glass, which they state when their streams connect, get the ids. Nothing
//! waits for the answer: on a member that gets an id too late, the request's trace has a gap. A
//! member takes few ids at a time (see `trace::collect`), so they cost little.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::peers;
use crate::{
    api::text::method_not_allowed,
    server::{Server, members::hex},
    trace::{self, Collector},
};

/// The path under which a member takes the ids.
pub const PATH: &str = "/glass/keep";
/// The header with the cluster id of the sender.
const CLUSTER_HEADER: &str = "X-Etcd-Cluster-ID";
/// The most ids in one request.
const IDS_MAX: usize = 64;
/// The longest time for the message; the rings hold a request hardly longer.
const PATIENCE: Duration = Duration::from_millis(500);

/// The state of the handler.
#[derive(Clone)]
pub(super) struct Keeper {
    collector: Arc<Collector>,
    cluster_id: u64,
}

impl Keeper {
    /// A handler for this collector, which takes ids from members of this cluster only.
    pub(super) fn new(collector: Arc<Collector>, cluster_id: u64) -> Self {
        Self { collector, cluster_id }
    }
}

/// Takes ids from another member.
pub(super) async fn take(
    State(keeper): State<Keeper>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if method != Method::POST {
        return method_not_allowed();
    }
    let cluster = headers.get(CLUSTER_HEADER).and_then(|value| value.to_str().ok());
    if cluster != Some(hex(keeper.cluster_id).as_str()) {
        return (StatusCode::PRECONDITION_FAILED, "cluster ID mismatch\n").into_response();
    }
    let (ids, rest) = body.as_chunks::<8>();
    if !rest.is_empty() || IDS_MAX < ids.len() {
        let text = "the body is a list of at most 64 ids of eight bytes\n";
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    ids.iter().for_each(|id| keeper.collector.pin_reported(u64::from_be_bytes(*id)));
    StatusCode::NO_CONTENT.into_response()
}

/// Sends the ids that are pinned here to the other members, for as long as the member runs.
pub(super) async fn report(server: Arc<Server>, mut pinned: mpsc::Receiver<Vec<u64>>) {
    while let Some(mut ids) = pinned.recv().await {
        ids.truncate(IDS_MAX);
        let body: Bytes = ids.iter().flat_map(|id| id.to_be_bytes()).collect::<Vec<u8>>().into();
        let others = server.members.list().into_iter();
        let others =
            others.filter(|member| member.id != server.member_id && trace::id::speaks(member.id));
        for url in others.filter_map(|member| member.peer_urls.into_iter().next()) {
            let header = (CLUSTER_HEADER, hex(server.members.cluster_id()));
            let body = body.clone();
            // In parallel, so that a member that hangs does not delay the others.
            tokio::spawn(async move { peers::post(&url, PATH, header, body, PATIENCE).await });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeper() -> Keeper {
        let (name, version) = ("etcd-01".to_owned(), "0.1.0".to_owned());
        let info = trace::Info {
            member_id: 0x6161,
            cluster_id: 0x9,
            name,
            version,
            boot: 1,
            wall_ns: 1_000_000,
        };
        Keeper::new(trace::start(info).expect("a thread can be spawned"), 9)
    }

    async fn asked(method: Method, cluster: &str, body: &[u8]) -> StatusCode {
        let mut headers = HeaderMap::new();
        headers.insert(CLUSTER_HEADER, cluster.parse().unwrap());
        take(State(keeper()), method, headers, Bytes::copy_from_slice(body)).await.status()
    }

    #[tokio::test]
    async fn ids_are_taken_from_this_cluster_only_and_only_whole() {
        assert_eq!(StatusCode::NO_CONTENT, asked(Method::POST, "9", &[7; 16]).await);
        assert_eq!(StatusCode::METHOD_NOT_ALLOWED, asked(Method::GET, "9", &[]).await);
        assert_eq!(StatusCode::PRECONDITION_FAILED, asked(Method::POST, "8", &[7; 16]).await);
        assert_eq!(StatusCode::BAD_REQUEST, asked(Method::POST, "9", &[7; 15]).await);
        assert_eq!(StatusCode::BAD_REQUEST, asked(Method::POST, "9", &[7; 65 * 8]).await);
    }
}
