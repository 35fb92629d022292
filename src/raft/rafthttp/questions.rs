//! Questions to a peer: one small request each, on connections that are kept for the next.
//!
//! ```text
//!   forwarded lease questions ─┐          place (64)          idle, by authority
//!   /version, /members ────────┼─▶ ask ──────▶ take ◀──────── ≤ 6 a peer, ≤ 5 s
//!   /glass/keep ───────────────┘                │ none              ▲
//!                                               ▼                   │ whole answer read
//!                                            connect ──▶ send ──────┘
//! ```
//!
//! A connection for each question would leave a port in TIME_WAIT for a minute, so that a few
//! hundred questions a second would use up all local ports. Raft's own messages do not come here:
//! they have streams and the pipeline.
//!
//! Invariants
//! * There are at most [`AT_ONCE`] connections, in use and idle together (`member::descriptors`
//!   counts on it). An idle one gives way to a new one.
//! * A connection goes back only after its whole answer has been read.
//! * The newest idle connection is used first, so that surplus ones grow old and are closed: those
//!   beyond six to a peer after a second, all others after five.
//! * A question over a link that is cut gets no answer, for as long as its patience lasts.
//! * If the peer closed a connection while it was idle, no question is lost: it is sent once more,
//!   on a new connection. So every question must be safe to repeat.
//!
//! Left out, and why
//! * A runtime of its own: a question runs on the caller's runtime, and so does its connection.
//!   When that runtime ends, the connection ends, and counts as closed.
//! * TLS, as in all of `rafthttp`.
//!
//! (etcd: the `http.Client` with peerRt in leasehttp, cluster_util.go)

use std::{
    pin::pin,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header::HOST};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{sleep, timeout},
};

use super::{
    dial::{self, Sender, Target},
    links::Links,
};
use crate::clock;

/// The most connections, because clients decide how many questions there are. Further questions
/// wait, within their patience.
pub(crate) const AT_ONCE: usize = 64;
/// The most idle connections to one peer. The peer counts them beside the six connections of
/// rafthttp, and its smallest share of 48 has room for four members with twelve each.
const IDLE_PER_PEER: usize = 6;
/// How long surplus connections may be idle: a burst comes in waves of [`AT_ONCE`], and the next
/// wave uses the connections of the last.
const SURPLUS_MAX: Duration = Duration::from_secs(1);
/// How long a connection may be idle: well below the 30 seconds after which the peer would close
/// it.
const IDLE_MAX: Duration = Duration::from_secs(5);
/// How often idle connections are checked.
const POLL_EVERY: Duration = Duration::from_secs(1);

/// The connections of this process.
static POOL: Pool = Pool::new();
/// The links of this process's member that are cut, if it can be asked to cut any.
static LINKS: OnceLock<Arc<Links>> = OnceLock::new();

/// From now on no question is answered over a link that is cut.
pub(super) fn end_at_cuts(links: Arc<Links>) {
    // Set already only in a test with several members in one process, none of which is asked.
    let _ = LINKS.set(links);
}

/// The limits of a question.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The longest time until the whole answer is read, including the wait for a place and the
    /// connect.
    pub(crate) patience: Duration,
    /// The most bytes of the answer's body.
    pub(crate) body: usize,
}

/// Asks the peer at this URL, and reads the whole answer. The request's URI is a path, and `Host`
/// is set here. The request may be sent twice, so it must be safe to repeat.
///
/// `None` when the URL is not `http://host:port`, or no answer came within the limits.
pub(crate) async fn ask(
    url: &str,
    request: Request<Bytes>,
    limits: Limits,
) -> Option<Response<Bytes>> {
    POOL.ask(url, request, limits).await
}

struct Pool {
    places: Semaphore,
    connections: Mutex<Connections>,
}

struct Connections {
    /// The places that are taken.
    in_use: usize,
    /// Connections not in use, the oldest first.
    idle: Vec<Idle>,
}

struct Idle {
    authority: String,
    since: Instant,
    connection: Sender,
}

/// One of the [`AT_ONCE`] places, held for the time of a question.
struct Permit {
    pool: &'static Pool,
    /// The connection to keep when the place is given up.
    keep: Option<Idle>,
    // Dropped last, so that the next question finds the connection that is kept.
    _permit: SemaphorePermit<'static>,
}

impl Pool {
    const fn new() -> Pool {
        let connections = Connections { in_use: 0, idle: Vec::new() };
        Pool { places: Semaphore::const_new(AT_ONCE), connections: Mutex::new(connections) }
    }

    async fn ask(
        &'static self,
        url: &str,
        request: Request<Bytes>,
        limits: Limits,
    ) -> Option<Response<Bytes>> {
        let target = dial::target(url)?;
        if LINKS.get().is_some_and(|links| links.is_cut_at(&target.authority)) {
            sleep(limits.patience).await;
            return None;
        }
        let mut request = request.map(Full::new);
        request.headers_mut().insert(HOST, HeaderValue::from_str(&target.authority).ok()?);
        let exchange = self.exchange(&target, request, limits.body);
        let answer = timeout(limits.patience, exchange).await;
        if answer.is_err() {
            // The peer may be gone without closing; its idle connections would cost the next
            // questions as much.
            self.forget(&target.authority);
        }
        answer.ok().flatten()
    }

    async fn exchange(
        &'static self,
        target: &Target,
        request: Request<Full<Bytes>>,
        body_max: usize,
    ) -> Option<Response<Bytes>> {
        let (mut place, idle) = self.enter(&target.authority).await?;
        let mut sent = None;
        if let Some(connection) = idle {
            sent = match send(connection, request.clone()).await {
                Ok(sent) => Some(sent),
                Err(error) if error.is_parse() => return None,
                Err(_) => {
                    self.forget(&target.authority);
                    None
                }
            };
        }
        let (answer, connection) = match sent {
            Some(sent) => sent,
            None => send(self.connect(target).await?, request).await.ok()?,
        };
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, body_max).collect().await.ok()?.to_bytes();
        let authority = target.authority.clone();
        place.keep = Some(Idle { authority, since: clock::now(), connection });
        Some(Response::from_parts(head, body))
    }

    /// Waits for a place. Returns it with the newest idle connection to this peer, if there is one.
    async fn enter(&'static self, authority: &str) -> Option<(Permit, Option<Sender>)> {
        let permit = self.places.acquire().await.ok()?;
        let idle = self.with(|connections| connections.take(authority));
        Some((Permit { pool: self, keep: None, _permit: permit }, idle))
    }

    /// Opens a connection, and drives it until its sender and the last answer's body are dropped.
    async fn connect(&'static self, target: &Target) -> Option<Sender> {
        let (sender, connection) = dial::open(target).await.ok()?;
        tokio::spawn(async move {
            let mut connection = pin!(connection);
            // An error is reported to the question itself.
            while timeout(POLL_EVERY, connection.as_mut()).await.is_err() {
                self.with(|connections| connections.tidy(clock::now()));
            }
            self.with(|connections| connections.tidy(clock::now()));
        });
        Some(sender)
    }

    /// Closes the idle connections to this peer.
    fn forget(&self, authority: &str) {
        self.with(|connections| connections.idle.retain(|idle| idle.authority != authority));
    }

    fn with<T>(&self, change: impl FnOnce(&mut Connections) -> T) -> T {
        change(&mut self.connections.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Sends a request. Returns the connection beside the head of the answer.
async fn send(
    mut connection: Sender,
    request: Request<Full<Bytes>>,
) -> hyper::Result<(Response<Incoming>, Sender)> {
    connection.ready().await?;
    let answer = connection.send_request(request).await?;
    Ok((answer, connection))
}

impl Connections {
    fn take(&mut self, authority: &str) -> Option<Sender> {
        self.in_use += 1;
        let now = clock::now();
        while let Some(at) = self.idle.iter().rposition(|idle| idle.authority == authority) {
            let idle = self.idle.remove(at);
            if idle.age(now) < IDLE_MAX && !idle.connection.is_closed() {
                return Some(idle.connection);
            }
        }
        let room = AT_ONCE.saturating_sub(self.in_use);
        self.idle.drain(..self.idle.len().saturating_sub(room));
        None
    }

    fn leave(&mut self, keep: Option<Idle>) {
        self.in_use = self.in_use.saturating_sub(1);
        self.idle.extend(keep);
    }

    /// Drops idle connections that are closed or too old, and surplus ones after their second.
    fn tidy(&mut self, now: Instant) {
        let mut kept: Vec<Idle> = Vec::new();
        for idle in self.idle.drain(..).rev() {
            let is_same = |other: &&Idle| other.authority == idle.authority;
            let is_surplus = IDLE_PER_PEER <= kept.iter().filter(is_same).count();
            let age_max = if is_surplus { SURPLUS_MAX } else { IDLE_MAX };
            if idle.age(now) < age_max && !idle.connection.is_closed() {
                kept.push(idle);
            }
        }
        kept.reverse();
        self.idle = kept;
    }
}

impl Idle {
    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let keep = self.keep.take();
        self.pool.with(|connections| connections.leave(keep));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    };

    use futures_util::future::join_all;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    const LIMITS: Limits = Limits { patience: Duration::from_secs(5), body: 8 };

    /// How a fake peer ends a connection after some answers.
    #[derive(Clone, Copy)]
    enum End {
        Never,
        /// At once, without a word before.
        After(usize),
        /// When one more question has come, without an answer to it.
        InsteadOf(usize),
        /// The connection stays, but no more answers come.
        Mute(usize),
    }

    struct Peer {
        url: String,
        accepted: Arc<AtomicUsize>,
    }

    impl Peer {
        fn accepted(&self) -> usize {
            self.accepted.load(Relaxed)
        }
    }

    async fn peer(body: &'static str, end: End) -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Relaxed);
                tokio::spawn(answer(stream, body, end));
            }
        });
        Peer { url, accepted }
    }

    async fn answer(mut stream: TcpStream, body: &str, end: End) {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        for count in 0.. {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => request.push(byte),
                    Err(_) => return,
                }
            }
            if matches!(end, End::InsteadOf(answers) if answers == count) {
                return;
            }
            if matches!(end, End::Mute(answers) if answers == count) {
                std::future::pending::<()>().await;
            }
            let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            if matches!(end, End::After(answers) if answers == count + 1) {
                return;
            }
        }
    }

    fn pool() -> &'static Pool {
        Box::leak(Box::new(Pool::new()))
    }

    async fn ask(pool: &'static Pool, url: &str) -> Option<Bytes> {
        let request = Request::get("/version").body(Bytes::new()).unwrap();
        pool.ask(url, request, LIMITS).await.map(Response::into_body)
    }

    fn idle(pool: &Pool) -> usize {
        pool.with(|connections| connections.idle.len())
    }

    /// Goal: the number of connections depends on how many questions there are at a time, not on
    /// how many there were. Method: one after the other, then many at once; an idle one is not for
    /// ever.
    #[tokio::test]
    async fn many_questions_use_few_connections() {
        let (pool, peer) = (pool(), peer("yes", End::Never).await);
        for _ in 0..300 {
            assert_eq!(ask(pool, &peer.url).await.unwrap(), "yes");
        }
        assert_eq!((peer.accepted(), idle(pool)), (1, 1));
        let answers = join_all((0..1000).map(|_| ask(pool, &peer.url))).await;
        assert!(answers.iter().all(Option::is_some));
        let accepted = peer.accepted();
        assert!((2..=2 * AT_ONCE).contains(&accepted), "{accepted}");
        assert!(idle(pool) <= AT_ONCE);
        pool.with(|connections| connections.tidy(clock::now() + SURPLUS_MAX));
        assert_eq!(idle(pool), IDLE_PER_PEER);
        pool.with(|connections| connections.tidy(clock::now() + IDLE_MAX));
        assert_eq!((idle(pool), pool.with(|connections| connections.in_use)), (0, 0));
    }

    /// Goal: an idle connection is closed by itself, without a further question.
    #[tokio::test]
    async fn an_idle_connection_is_closed_in_time() {
        let (pool, peer) = (pool(), peer("yes", End::Never).await);
        ask(pool, &peer.url).await.unwrap();
        pool.with(|connections| connections.idle[0].since -= IDLE_MAX);
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if idle(pool) == 0 {
                return;
            }
        }
        panic!("it is still kept");
    }

    /// Goal: a peer that closes idle connections costs no question, at any moment.
    #[tokio::test]
    async fn a_connection_that_was_closed_meanwhile_costs_no_question() {
        for end in [End::After(1), End::After(3), End::InsteadOf(1), End::InsteadOf(3)] {
            let (pool, peer) = (pool(), peer("yes", end).await);
            for _ in 0..30 {
                assert_eq!(ask(pool, &peer.url).await.unwrap(), "yes");
            }
            let answers = join_all((0..100).map(|_| ask(pool, &peer.url))).await;
            assert!(answers.iter().all(Option::is_some));
        }
    }

    /// Goal: a fault that a new connection has, too, is not tried for ever, and bounds hold.
    #[tokio::test]
    async fn answers_that_are_too_long_or_malformed_are_refused() {
        let (pool, fits, long) =
            (pool(), peer("12345678", End::Never), peer("123456789", End::Never));
        let (fits, long, mute) = (fits.await, long.await, peer("", End::InsteadOf(0)).await);
        assert_eq!(ask(pool, &fits.url).await.unwrap(), "12345678");
        for _ in 0..2 {
            assert_eq!(ask(pool, &long.url).await, None);
            assert_eq!(ask(pool, &mute.url).await, None);
        }
        assert_eq!((long.accepted(), mute.accepted(), idle(pool)), (2, 2, 1));
        for url in ["https://127.0.0.1:1", "http://127.0.0.1", "nothing", "http://a\nb:1"] {
            assert_eq!(ask(pool, url).await, None);
        }
    }

    /// Goal: idle connections to one peer do not keep new ones to another from their places.
    #[tokio::test]
    async fn idle_connections_and_those_in_use_are_bounded_together() {
        let pool = pool();
        let mut peers = Vec::new();
        for _ in 0..AT_ONCE / IDLE_PER_PEER + 2 {
            let peer = peer("yes", End::Never).await;
            join_all((0..IDLE_PER_PEER).map(|_| ask(pool, &peer.url))).await;
            assert!(idle(pool) <= AT_ONCE);
            peers.push(peer);
        }
        let (mut places, last) = (Vec::new(), &peers[peers.len() - 1].url);
        let authority = dial::target(last).unwrap().authority;
        for count in 1..=AT_ONCE {
            places.push(pool.enter(&authority).await.unwrap());
            assert!(idle(pool) + count <= AT_ONCE);
        }
        let kept = places.iter().filter(|(_, connection)| connection.is_some()).count();
        assert_eq!(kept, IDLE_PER_PEER);
        drop(places);
        assert!(ask(pool, last).await.is_some());
    }

    /// Goal: a peer that went without a word costs one question its patience, not one for each idle
    /// connection. Method: a peer that stops answering while several are idle.
    #[tokio::test]
    async fn a_peer_that_went_mute_is_forgotten() {
        let (pool, peer) = (pool(), peer("yes", End::Mute(1)).await);
        join_all((0..IDLE_PER_PEER).map(|_| ask(pool, &peer.url))).await;
        assert!(1 < idle(pool));
        let request = Request::get("/").body(Bytes::new()).unwrap();
        let limits = Limits { patience: Duration::from_millis(200), ..LIMITS };
        assert!(pool.ask(&peer.url, request, limits).await.is_none());
        assert_eq!(idle(pool), 0);
    }
}
