//! Asking the leader about a lease, over HTTP at its peer URL (etcd: `leasehttp`).

use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use prost::Message as _;
use tokio::{net::TcpStream, sync::Semaphore};

use super::{Question, Refusal, View};
use crate::pb::{
    etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseTimeToLiveRequest},
    leasepb::{LeaseInternalRequest, LeaseInternalResponse},
};

/// Where renewals are taken (etcd: LeasePrefix).
pub const LEASES: &str = "/leases";
/// Where the time to live is told (etcd: LeaseInternalPrefix).
pub const LEASES_INTERNAL: &str = "/leases/internal";

/// The text with which a leader says that there is no such lease.
pub const NOT_FOUND: &str = "lease not found\n";

/// How long the leader may take: it waits a second for apply itself.
const PATIENCE: Duration = Duration::from_secs(2);

/// No answer is longer than this.
const BODY_MAX: usize = 64 << 20;

/// How many questions may be under way: each has a connection, and clients decide how many there are.
/// The others wait, within their patience.
pub const AT_ONCE: usize = 64;

static UNDER_WAY: Semaphore = Semaphore::const_new(AT_ONCE);

/// Asks the member at this peer URL. [`Refusal::NotPrimary`] for anything that is worth another try.
pub(super) async fn ask(url: &str, question: Question) -> Result<View, Refusal> {
    let (path, body) = match question {
        Question::KeepAlive(id) => (LEASES, LeaseKeepAliveRequest { id }.encode_to_vec()),
        Question::TimeToLive(id, keys) => {
            let request = Some(LeaseTimeToLiveRequest { id, keys });
            let request = LeaseInternalRequest { lease_time_to_live_request: request };
            (LEASES_INTERNAL, request.encode_to_vec())
        }
    };
    let post = async {
        let _place = UNDER_WAY.acquire().await.ok()?;
        post(url, path, body.into()).await
    };
    let answer = tokio::time::timeout(PATIENCE, post).await;
    match answer.ok().flatten() {
        Some((StatusCode::OK, body)) => read(question, body).ok_or(Refusal::NotPrimary),
        Some((StatusCode::NOT_FOUND, body)) if body == NOT_FOUND => Err(Refusal::NotFound),
        Some(_) | None => Err(Refusal::NotPrimary),
    }
}

fn read(question: Question, body: Bytes) -> Option<View> {
    match question {
        Question::KeepAlive(_) => {
            let response = LeaseKeepAliveResponse::decode(body).ok()?;
            Some(View { ttl: response.ttl, ..View::default() })
        }
        Question::TimeToLive(..) => {
            let response = LeaseInternalResponse::decode(body).ok()?.lease_time_to_live_response?;
            Some(View { ttl: response.ttl, granted: response.granted_ttl, keys: response.keys })
        }
    }
}

async fn post(url: &str, path: &str, body: Bytes) -> Option<(StatusCode, Bytes)> {
    let authority = url.strip_prefix("http://")?.trim_end_matches('/');
    let stream = TcpStream::connect(authority).await.ok()?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    // It ends with the answer, or when the sender is dropped.
    tokio::spawn(connection);
    let request = http::Request::post(path)
        .header(header::HOST, authority)
        .header(header::CONTENT_TYPE, "application/protobuf")
        .body(Full::new(body))
        .ok()?;
    let response = sender.send_request(request).await.ok()?;
    let status = response.status();
    let body = Limited::new(response.into_body(), BODY_MAX).collect().await.ok()?.to_bytes();
    Some((status, body))
}
