//! Pages of the peer port beside raft: the list of members, this member's version, a hash of its
//! keys, the ids of requests to keep, and, while it leads, leases and promotions for the clients of
//! other members.

use std::sync::{Arc, OnceLock};

use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, HeaderName, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};

use bytes::Bytes;
use prost::Message;

use super::keep::{self, Keeper};
use crate::{
    api::{http::version_json, text::method_not_allowed},
    pb::{
        etcdserverpb::{
            LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseTimeToLiveResponse, ResponseHeader,
        },
        leasepb::{LeaseInternalRequest, LeaseInternalResponse},
    },
    server::{
        corruption::{Answerer, HASH_KV, Refused},
        lease::{
            Asking, Primary, Question, Refusal,
            forward::{ASKING, LEASES, LEASES_INTERNAL, NOT_FOUND},
        },
        members::{Members, hex},
        membership::{self, Membership, PROMOTE},
    },
};

/// The routes for all paths that `rafthttp` does not serve itself.
pub(super) fn router(
    members: Arc<Members>,
    leases: Primary,
    keeper: Keeper,
    promoter: Promoter,
    hashes: Answerer,
) -> Router {
    let promote = format!("{PROMOTE}{{id}}");
    let leases = Router::new()
        .route(LEASES, any(keep_alive))
        .route(LEASES_INTERNAL, any(time_to_live))
        .with_state(leases);
    Router::new()
        .route("/members", any(list))
        .route("/version", any(version))
        .with_state(members)
        .merge(leases)
        .merge(Router::new().route(HASH_KV, any(hash_kv)).with_state(hashes))
        .merge(Router::new().route(keep::PATH, any(keep::take)).with_state(keeper))
        .merge(Router::new().route(&promote, any(self::promote)).with_state(promoter))
}

/// Promotes learners once the member is assembled: the peer port listens before that.
#[derive(Clone, Default)]
pub(super) struct Promoter(Arc<OnceLock<Membership>>);

impl Promoter {
    /// From now on learners are promoted.
    pub(super) fn set(&self, membership: &Membership) {
        // Set once, when the member starts.
        let _ = self.0.set(membership.clone());
    }
}

/// Promotes a learner for another member's client (etcd: peerMemberPromoteHandler).
async fn promote(
    State(Promoter(membership)): State<Promoter>,
    Path(id): Path<String>,
    method: Method,
) -> Response {
    if method != Method::POST {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
    }
    let Ok(member) = id.parse() else {
        return text(StatusCode::NOT_FOUND, format!("member {id} not found in cluster\n"));
    };
    let Some(membership) = membership.get() else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "the member starts\n");
    };
    match membership.serve_promotion(member).await {
        Ok(members) => {
            let list = serde_json::to_string(&members).expect("members are plain data");
            ([(header::CONTENT_TYPE, "application/json")], list + "\n").into_response()
        }
        Err(error) => {
            let (status, why) = membership::refusal(error);
            text(status, format!("{why}\n"))
        }
    }
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

/// Hashes the keys for another member (etcd: hashKVHandler).
async fn hash_kv(
    State(hashes): State<Answerer>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if method != Method::GET {
        return method_not_allowed();
    }
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match hashes.answer(header, &body).await {
        Ok(answer) => {
            let cluster = (HeaderName::from_static("x-etcd-cluster-id"), hashes.cluster());
            let json = (header::CONTENT_TYPE, "application/json".to_owned());
            ([cluster, json], answer).into_response()
        }
        Err(Refused::Cluster) => refuse(StatusCode::PRECONDITION_FAILED, "cluster ID mismatch\n"),
        Err(Refused::Malformed) => refuse(StatusCode::BAD_REQUEST, "error unmarshalling request\n"),
        Err(Refused::NoHash(why)) => refuse(StatusCode::BAD_REQUEST, why),
    }
}

/// Renews a lease of another member's client (etcd: leasehttp's LeasePrefix).
async fn keep_alive(
    State(leases): State<Primary>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if method != Method::POST {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
    }
    let Ok(LeaseKeepAliveRequest { id }) = LeaseKeepAliveRequest::decode(body) else {
        return refuse(StatusCode::BAD_REQUEST, "error unmarshalling request\n");
    };
    match leases.serve(asking(&headers), Question::KeepAlive(id)).await {
        Ok(view) => protobuf(&LeaseKeepAliveResponse { header: None, id, ttl: view.ttl }),
        Err(refusal) => refused(refusal),
    }
}

/// Answers with the remaining TTL of a lease (etcd: leasehttp's LeaseInternalPrefix).
async fn time_to_live(
    State(leases): State<Primary>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if method != Method::POST {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
    }
    let request = LeaseInternalRequest::decode(body).ok();
    let Some(request) = request.and_then(|request| request.lease_time_to_live_request) else {
        return refuse(StatusCode::BAD_REQUEST, "error unmarshalling request\n");
    };
    let question = Question::TimeToLive(request.id, request.keys);
    match leases.serve(asking(&headers), question).await {
        Ok(view) => protobuf(&LeaseInternalResponse {
            lease_time_to_live_response: Some(LeaseTimeToLiveResponse {
                // etcd's members replace the header, but require one.
                header: Some(ResponseHeader::default()),
                id: request.id,
                ttl: view.ttl,
                granted_ttl: view.granted,
                keys: view.keys,
            }),
        }),
        Err(refusal) => refused(refusal),
    }
}

/// Which client's request the asking member serves.
fn asking(headers: &HeaderMap) -> Asking {
    Asking::parse(headers.get(ASKING).and_then(|value| value.to_str().ok()))
}

fn protobuf(message: &impl Message) -> Response {
    ([(header::CONTENT_TYPE, "application/protobuf")], message.encode_to_vec()).into_response()
}

/// A refusal with etcd's codes and texts, because its members depend on them.
fn refused(refusal: Refusal) -> Response {
    match refusal {
        Refusal::NotFound => refuse(StatusCode::NOT_FOUND, NOT_FOUND),
        Refusal::NotPrimary | Refusal::Silent => {
            refuse(StatusCode::BAD_REQUEST, "not a primary lessor\n")
        }
        Refusal::Behind => refuse(
            StatusCode::REQUEST_TIMEOUT,
            "waiting for node to catch up its applied index has timed out\n",
        ),
    }
}

fn refuse(status: StatusCode, text: &'static str) -> Response {
    self::text(status, text.to_owned())
}

fn text(status: StatusCode, text: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, headers, text).into_response()
}
