//! Questions to other members over HTTP: which members they know, and their version.
//!
//! A member whose data directory is gone must not vote again as if it had never voted. The others
//! remember that it had started, because it has published its client URLs. So it asks them first,
//! and refuses to start anew if they know it as started (etcd: `isMemberBootstrapped`).
//!
//! A member that has a log does not ask: it knows what it has acknowledged, and its peers tell it
//! on every connection whether it still belongs to the cluster (`raft::rafthttp`). A member without
//! one does not listen for peers while it asks. So other new members are refused at once, where an
//! open port without an answer would cost them the whole timeout.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use http::{Request, StatusCode};

use super::Error;
use crate::{
    clock,
    config::ServerConfig,
    raft::rafthttp::questions::{self, Limits},
    server::members::Member,
};

/// The most bytes of a peer's answer.
const BODY_MAX: usize = 1 << 20;

/// How long a question at the start may take beyond the election timeout.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long the other members may take once one has answered: a running member needs less, and one
/// that is gone would use up the whole timeout.
const GRACE: Duration = Duration::from_millis(200);

/// The answer of a peer.
#[derive(Debug)]
pub struct Answer {
    /// The body of the answer.
    pub body: Bytes,
    /// The id of the peer's cluster, if it says which.
    pub cluster_id: Option<u64>,
}

/// Sends a GET to a peer. `None` if it does not answer with 200 within `patience`.
pub async fn get(url: &str, path: &str, patience: Duration) -> Option<Answer> {
    let request = Request::get(path).body(Bytes::new()).ok()?;
    let answer = questions::ask(url, request, Limits { patience, body: BODY_MAX }).await?;
    let cluster_id = answer.headers().get("x-etcd-cluster-id").and_then(|id| id.to_str().ok());
    let cluster_id = cluster_id.and_then(|id| u64::from_str_radix(id, 16).ok());
    (answer.status() == StatusCode::OK).then(|| Answer { body: answer.into_body(), cluster_id })
}

/// Sends a POST with one more header to a peer, which may get it twice. Returns whether it answered
/// with 2xx.
pub(super) async fn post(
    url: &str,
    path: &str,
    header: (&'static str, String),
    body: Bytes,
    patience: Duration,
) -> bool {
    let Ok(request) = Request::post(path).header(header.0, header.1).body(body) else {
        return false;
    };
    let answer = questions::ask(url, request, Limits { patience, body: BODY_MAX }).await;
    answer.is_some_and(|answer| answer.status().is_success())
}

/// Checks that no other member knows this one as started, before it starts anew.
pub fn check_not_bootstrapped(config: &ServerConfig, own: u64) -> Result<(), Error> {
    for answer in ask_all(config, config.election + PATIENCE)? {
        let members: Vec<Member> = serde_json::from_slice(&answer.body).unwrap_or_default();
        if members.iter().any(|member| member.id == own && member.has_published()) {
            return Err(Error::AlreadyBootstrapped { id: own });
        }
    }
    Ok(())
}

/// The `/members` of the other members of `--initial-cluster`. Blocks, because this member is not
/// running yet.
///
/// All are asked at the same time. etcd asks one after the other and takes the first answer. Here
/// the others get a little longer, because the first to answer may be a member that lags behind.
pub(super) fn ask_all(config: &ServerConfig, patience: Duration) -> Result<Vec<Answer>, Error> {
    let others = config.initial_cluster.iter().filter(|(name, _)| *name != config.name);
    let urls: Vec<String> = others.flat_map(|(_, urls)| urls.clone()).collect();
    ask_urls(&urls, "/members", patience)
}

/// What the members at these URLs answer to this question. Blocks.
pub(super) fn ask_urls(
    urls: &[String],
    path: &str,
    patience: Duration,
) -> Result<Vec<Answer>, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answers = runtime.block_on(first_answers(urls, path, patience));
    // A pending name lookup must not delay the start.
    runtime.shutdown_background();
    Ok(answers)
}

async fn first_answers(urls: &[String], path: &str, patience: Duration) -> Vec<Answer> {
    let ask = |url| get(url, path, patience);
    let mut questions: FuturesUnordered<_> = urls.iter().map(|url| ask(url)).collect();
    let (mut answers, mut until) = (Vec::new(), clock::now() + patience);
    while let Ok(Some(answer)) = tokio::time::timeout_at(until.into(), questions.next()).await {
        if let Some(answer) = answer {
            answers.push(answer);
            until = until.min(clock::now() + GRACE);
        }
    }
    answers
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
        thread,
    };

    use super::*;

    fn ask(urls: &[String]) -> (usize, Duration) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let start = clock::now();
        let answers = runtime.block_on(first_answers(urls, "/members", Duration::from_secs(2)));
        (answers.len(), clock::now() - start)
    }

    fn url(listener: &TcpListener) -> String {
        format!("http://{}", listener.local_addr().unwrap())
    }

    /// Goal: nobody waits for members that are not there. Method: ports on which nothing listens;
    /// then beside one that answers one that accepts and never says a word.
    #[test]
    fn refusals_and_a_first_answer_end_the_waiting() {
        let nobody = url(&TcpListener::bind("127.0.0.1:0").unwrap());
        let (count, took) = ask(&[nobody.clone(), nobody.clone()]);
        assert!(count == 0 && took < Duration::from_secs(1), "{count} in {took:?}");
        let [silent, answering] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let urls = [url(&silent), nobody, url(&answering)];
        let peer = thread::spawn(move || {
            let (mut stream, _) = answering.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]").unwrap();
        });
        let (count, took) = ask(&urls);
        assert!(count == 1 && GRACE <= took && took < Duration::from_secs(1), "{count}, {took:?}");
        peer.join().unwrap();
        let (count, took) = ask(&urls[..1]);
        assert!(count == 0 && Duration::from_secs(2) <= took, "{count} in {took:?}");
    }
}
