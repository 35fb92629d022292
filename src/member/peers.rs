//! What is asked of the other members over HTTP: who they know, and which version they are.
//!
//! A member whose data directory is gone must not vote again as if it had never voted. The others
//! remember that it had started, because it has published its client URLs; so they are asked first,
//! and a member that is known to them as started refuses to start anew (etcd:
//! `isMemberBootstrapped`).
//!
//! A member that has a log asks nobody: it knows what it has promised, and whether it still belongs
//! to the cluster its peers say on every connection (`raft::rafthttp`). One that has none does not
//! listen for peers while it asks: others that are new, too, then see at once that nobody is there,
//! where a port that is open and mute would cost them their whole patience.

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

/// No answer of a peer is longer than this.
const BODY_MAX: usize = 1 << 20;

/// How long a question at the start may take beyond the election timeout.
const PATIENCE: Duration = Duration::from_secs(1);

/// And how long the others may take once one has answered: a member that is there does not need it,
/// and one that is gone would take all its time.
const GRACE: Duration = Duration::from_millis(200);

/// What a peer has answered.
#[derive(Debug)]
pub struct Answer {
    /// The body.
    pub body: Bytes,
}

/// Asks a peer. `None` when it does not answer, or not with 200.
pub async fn get(url: &str, path: &str, patience: Duration) -> Option<Answer> {
    let request = Request::get(path).body(Bytes::new()).ok()?;
    let answer = questions::ask(url, request, Limits { patience, body: BODY_MAX }).await?;
    (answer.status() == StatusCode::OK).then(|| Answer { body: answer.into_body() })
}

/// Posts something to a peer, with one header of our own. Whether it was taken: answered with 2xx.
/// It may arrive twice.
pub(super) async fn post(
    url: &str,
    path: &str,
    (header, body): ((&'static str, String), Bytes),
    patience: Duration,
) -> bool {
    let Ok(request) = Request::post(path).header(header.0, header.1).body(body) else {
        return false;
    };
    let answer = questions::ask(url, request, Limits { patience, body: BODY_MAX }).await;
    answer.is_some_and(|answer| answer.status().is_success())
}

/// Refuses to start anew a member that the others know as started.
pub fn check_not_bootstrapped(config: &ServerConfig, own: u64) -> Result<(), Error> {
    for answer in ask_all(config)? {
        let members: Vec<Member> = serde_json::from_slice(&answer.body).unwrap_or_default();
        let started = |member: &Member| member.id == own && !member.client_urls.is_empty();
        if members.iter().any(started) {
            return Err(Error::AlreadyBootstrapped { id: own });
        }
    }
    Ok(())
}

/// The `/members` of the other members of `--initial-cluster`. This member is not running yet, so
/// waiting is all there is to do.
///
/// All are asked at the same time. etcd asks one after the other and takes the first answer; here
/// the others get a little longer, because the first to answer may be the one that lags behind.
fn ask_all(config: &ServerConfig) -> Result<Vec<Answer>, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let others = config.initial_cluster.iter().filter(|(name, _)| *name != config.name);
    let urls: Vec<String> = others.flat_map(|(_, urls)| urls.clone()).collect();
    let patience = config.election + PATIENCE;
    let answers = runtime.block_on(first_answers(&urls, patience));
    // A name that is still being looked up must not hold up the start.
    runtime.shutdown_background();
    Ok(answers)
}

async fn first_answers(urls: &[String], patience: Duration) -> Vec<Answer> {
    let ask = |url| get(url, "/members", patience);
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
        let answers = runtime.block_on(first_answers(urls, Duration::from_secs(2)));
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
