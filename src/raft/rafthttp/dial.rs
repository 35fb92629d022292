//! Connections: out to a peer, and the socket that both directions share.

use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    body::{Body, Incoming},
    client::conn::http1::{self, SendRequest},
    rt::{Read, ReadBufCursor, Write},
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{Sleep, sleep},
};

use super::identity;
use crate::clock;

/// How long a write may make no progress (etcd: ConnWriteTimeout).
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// The most bytes of a refusal's text that are read.
const REASON_LEN_MAX: usize = 1024;

/// Why a request to a peer failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    /// The peer has no URL that can be dialled.
    #[error("no usable peer URL")]
    NoUrl,
    /// The connection could not be opened, or broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The peer violates HTTP, or the connection broke during an answer.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// 410 or 403: the cluster no longer knows this member.
    #[error("the member has been permanently removed from the cluster")]
    Removed,
    /// 412: the member at the peer's URL belongs to another cluster. (etcd: errClusterIDMismatch)
    #[error(
        "cluster ID mismatch: the member at http://{authority} belongs to cluster {theirs}, and \
         this one to {ours:x}"
    )]
    OtherCluster {
        /// The host and port that were asked.
        authority: String,
        /// The peer's cluster id, from its answer.
        theirs: String,
        /// This member's cluster id.
        ours: u64,
    },
    /// The peer refused, with this text.
    #[error("refused with status {0}: {1}")]
    Refused(StatusCode, String),
}

/// Host and port of a peer, parsed from one of its URLs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The value of the `Host` header.
    pub(super) authority: String,
    pub(super) host: String,
    pub(super) port: u16,
}

/// A peer's URLs, and which of them is tried next. (etcd: urlPicker)
#[derive(Debug)]
pub(super) struct Urls {
    targets: RefCell<Vec<Target>>,
    next: Cell<usize>,
}

impl Urls {
    pub(super) fn new(urls: &[String]) -> Urls {
        Urls { targets: RefCell::new(parse(urls)), next: Cell::new(0) }
    }

    /// Replaces the URLs; open connections are kept.
    pub(super) fn replace(&self, urls: &[String]) {
        self.targets.replace(parse(urls));
        self.next.set(0);
    }

    /// The URL to try: the last one that worked, or the next.
    pub(super) fn pick(&self) -> Result<Target, Failed> {
        let targets = self.targets.borrow();
        let count = targets.len().max(1);
        targets.get(self.next.get() % count).cloned().ok_or(Failed::NoUrl)
    }

    /// Notes that a URL failed, so that the next one is tried.
    pub(super) fn failed(&self, target: &Target) {
        if self.pick().is_ok_and(|picked| picked == *target) {
            self.next.set(self.next.get().wrapping_add(1));
        }
    }
}

fn parse(urls: &[String]) -> Vec<Target> {
    let mut targets = Vec::new();
    for url in urls {
        match target(url) {
            Some(target) => targets.push(target),
            None => tracing::warn!("peer URL {url} cannot be dialled: only http://host:port can"),
        }
    }
    targets
}

/// Where a URL points. `None` unless it is `http://host:port`.
pub(super) fn target(url: &str) -> Option<Target> {
    let uri: Uri = url.parse().ok()?;
    let (authority, port) = (uri.authority()?.to_string(), uri.port_u16()?);
    let host = uri.host()?.trim_matches(['[', ']']).to_owned();
    (uri.scheme_str() == Some("http")).then_some(Target { authority, host, port })
}

/// Sends requests on one connection to a peer.
pub(super) type Sender = SendRequest<Full<Bytes>>;

/// Opens a connection to a peer. The caller spawns the second part, which ends when the sender and
/// the last answer's body are dropped.
pub(super) async fn open<B>(
    target: &Target,
) -> Result<(SendRequest<B>, http1::Connection<Socket, B>), Failed>
where
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = TcpStream::connect((target.host.as_str(), target.port)).await?;
    Ok(http1::handshake(Socket::new(stream)?).await?)
}

/// Opens a connection. It lives until the returned sender and the last answer's body are dropped.
pub(super) async fn connect(target: &Target) -> Result<Sender, Failed> {
    let (sender, connection) = open::<Full<Bytes>>(target).await?;
    tokio::task::spawn_local(async move {
        // The caller that waits for the answer gets the error too, and logs it.
        let _ = connection.await;
    });
    Ok(sender)
}

/// Turns an answer of the member at `target`, which is not the expected one, into the reason. The
/// cluster id in the answer decides, because etcd's text alone is ambiguous.
pub(super) async fn refused(answer: Response<Incoming>, target: &Target, ours: u64) -> Failed {
    let status = answer.status();
    if matches!(status, StatusCode::GONE | StatusCode::FORBIDDEN) {
        return Failed::Removed;
    }
    let theirs = identity::cluster(answer.headers()).to_owned();
    let is_other = identity::parse_id(&theirs).is_some_and(|theirs| theirs != ours);
    if status == StatusCode::PRECONDITION_FAILED && is_other {
        return Failed::OtherCluster { authority: target.authority.clone(), theirs, ours };
    }
    let body = Limited::new(answer.into_body(), REASON_LEN_MAX).collect().await;
    let text = body.map(|body| body.to_bytes()).unwrap_or_default();
    Failed::Refused(status, String::from_utf8_lossy(&text).trim_end().to_owned())
}

/// A TCP connection on which a write that makes no progress for five seconds fails: a peer that
/// stopped reading must not hold a queue of messages for ever.
pub(super) struct Socket {
    io: TokioIo<TcpStream>,
    deadline: Pin<Box<Sleep>>,
    is_waiting: bool,
}

impl Socket {
    /// Takes a connection, and turns off Nagle's algorithm: small messages are the urgent ones.
    pub(super) fn new(stream: TcpStream) -> io::Result<Socket> {
        stream.set_nodelay(true)?;
        let deadline = Box::pin(sleep(WRITE_TIMEOUT));
        Ok(Socket { io: TokioIo::new(stream), deadline, is_waiting: false })
    }

    /// Passes on the result of a write, and fails a write that is pending beyond the deadline.
    fn in_time(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.is_waiting = false;
            return written;
        }
        if !self.is_waiting {
            self.deadline.as_mut().reset((clock::now() + WRITE_TIMEOUT).into());
            self.is_waiting = true;
        }
        ready!(self.deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer stopped reading")))
    }
}

impl Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl Write for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.in_time(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, pieces);
        self.in_time(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_fails_gives_way_to_the_next() {
        let urls = Urls::new(&["http://a:1".to_owned(), "http://[::1]:2".to_owned()]);
        let first = urls.pick().unwrap();
        assert_eq!((first.host.as_str(), first.port), ("a", 1));
        urls.failed(&first);
        urls.failed(&first);
        let second = urls.pick().unwrap();
        assert_eq!((second.host.as_str(), second.authority.as_str()), ("::1", "[::1]:2"));
        urls.failed(&second);
        assert_eq!(urls.pick().unwrap(), first);
        urls.replace(&["https://a:1".to_owned(), "http://a".to_owned()]);
        assert!(matches!(urls.pick(), Err(Failed::NoUrl)));
    }
}
