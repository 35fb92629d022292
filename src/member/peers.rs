//! What is asked of the other members over HTTP: who they know, and which version they are.
//!
//! A member whose data directory is gone must not vote again as if it had never voted. The others
//! remember that it had started, because it has published its client URLs; so they are asked first,
//! and a member that is known to them as started refuses to start anew (etcd: `isMemberBootstrapped`).

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::Error;
use crate::{config::ServerConfig, server::members::Member};

/// No answer of a peer is longer than this.
const BODY_MAX: usize = 1 << 20;

/// How long a question at the start may take beyond the election timeout.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a peer has answered.
#[derive(Debug)]
pub struct Answer {
    /// The header `X-Etcd-Cluster-ID`.
    pub cluster_id: Option<u64>,
    /// The body.
    pub body: Bytes,
}

/// Asks a peer. `None` when it does not answer, or not with 200.
pub async fn get(url: &str, path: &str, patience: Duration) -> Option<Answer> {
    tokio::time::timeout(patience, try_get(url, path)).await.ok()?
}

/// Tells a peer something, with one header of our own. Whether it was taken: answered with 2xx.
pub(super) async fn post(
    url: &str,
    path: &str,
    (header, body): ((&'static str, String), Bytes),
    patience: Duration,
) -> bool {
    let told = async {
        let authority = url.strip_prefix("http://")?.trim_end_matches('/');
        let stream = TcpStream::connect(authority).await.ok()?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        let request = http::Request::post(path).header(http::header::HOST, authority);
        let request = request.header(header.0, header.1).body(Full::new(body)).ok()?;
        sender.send_request(request).await.ok().map(|answer| answer.status().is_success())
    };
    tokio::time::timeout(patience, told).await.ok().flatten().unwrap_or(false)
}

async fn try_get(url: &str, path: &str) -> Option<Answer> {
    let authority = url.strip_prefix("http://")?.trim_end_matches('/');
    let stream = TcpStream::connect(authority).await.ok()?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    // It ends with the answer, or when the sender is dropped.
    tokio::spawn(connection);
    let request = http::Request::get(path).header(http::header::HOST, authority);
    let request = request.body(Empty::<Bytes>::new()).ok()?;
    let response = sender.send_request(request).await.ok()?;
    if response.status() != http::StatusCode::OK {
        return None;
    }
    let cluster_id = response.headers().get("X-Etcd-Cluster-ID");
    let cluster_id = cluster_id.and_then(|id| u64::from_str_radix(id.to_str().ok()?, 16).ok());
    let body = Limited::new(response.into_body(), BODY_MAX).collect().await.ok()?.to_bytes();
    Some(Answer { cluster_id, body })
}

/// Refuses to start anew a member that the others know as started.
pub fn check_not_bootstrapped(config: &ServerConfig, own: u64) -> Result<(), Error> {
    for (_, answer) in ask_all(config)? {
        let members: Vec<Member> = serde_json::from_slice(&answer.body).unwrap_or_default();
        let started = |member: &Member| member.id == own && !member.client_urls.is_empty();
        if members.iter().any(started) {
            return Err(Error::AlreadyBootstrapped { id: own });
        }
    }
    Ok(())
}

/// Refuses to start with the data of another cluster than the one that answers at the peer URLs.
pub fn check_cluster_id(config: &ServerConfig, own: u64) -> Result<(), Error> {
    for (url, answer) in ask_all(config)? {
        if let Some(other) = answer.cluster_id.filter(|other| *other != own) {
            return Err(Error::ClusterIdMismatch { own, other, url });
        }
    }
    Ok(())
}

/// The `/members` of all other members of `--initial-cluster` that answer. This member is not
/// running yet, so waiting is all there is to do.
fn ask_all(config: &ServerConfig) -> Result<Vec<(String, Answer)>, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let others = config.initial_cluster.iter().filter(|(name, _)| *name != config.name);
    let urls: Vec<String> = others.flat_map(|(_, urls)| urls.clone()).collect();
    let patience = config.election + PATIENCE;
    Ok(runtime.block_on(async {
        let questions = urls.into_iter().map(|url| async move {
            get(&url, "/members", patience).await.map(|answer| (url, answer))
        });
        futures_util::future::join_all(questions).await.into_iter().flatten().collect()
    }))
}
