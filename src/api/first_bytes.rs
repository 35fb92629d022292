//! Requires a client to identify its protocol within a time limit.
//!
//! The first bytes show which HTTP a client speaks, and `hyper-util` waits for them without limit:
//! the time-outs of HTTP/1 and the pings of HTTP/2 start only after them. A client that connects
//! and sends nothing, or half of the preface, would hold a file descriptor for ever.

use std::{
    io::{Error, ErrorKind, Result},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::{http2::PREFACE, through::writes_to_inner};

/// A connection. Reads fail once the time is over, unless the client's protocol is known.
#[derive(Debug)]
pub(super) struct FirstBytes<S> {
    inner: S,
    /// `None` once the client's protocol is known.
    limit: Option<Pin<Box<Sleep>>>,
    /// How many bytes of HTTP/2's preface have arrived.
    seen: usize,
}

impl<S> FirstBytes<S> {
    /// Wraps a connection before anything is read from it.
    pub(super) fn new(inner: S, limit: Duration) -> Self {
        Self { inner, limit: Some(Box::pin(sleep(limit))), seen: 0 }
    }

    fn note(&mut self, bytes: &[u8]) {
        let rest = &PREFACE[self.seen..];
        let len = bytes.len().min(rest.len());
        self.seen += len;
        // The reader handles the end of the stream.
        if bytes.is_empty() || bytes[..len] != rest[..len] || self.seen == PREFACE.len() {
            self.limit = None;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FirstBytes<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let before = buf.filled().len();
        if let Poll::Ready(result) = Pin::new(&mut self.inner).poll_read(context, buf) {
            if self.limit.is_some() {
                self.note(&buf.filled()[before..]);
            }
            return Poll::Ready(result);
        }
        let Some(limit) = &mut self.limit else { return Poll::Pending };
        ready!(limit.as_mut().poll(context));
        Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the client does not speak")))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FirstBytes<S> {
    writes_to_inner!();
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::Empty;
    use hyper::{Request, Response, body::Incoming, service::service_fn};
    use hyper_util::{
        rt::{TokioExecutor, TokioIo},
        server::conn::auto::Builder,
    };
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
        time::timeout,
    };

    use super::*;

    /// Only tests in which it must pass wait for it.
    const LIMIT: Duration = Duration::from_millis(200);
    const LONG: Duration = Duration::from_secs(20);

    /// The server's output for a client that sends these bytes and then nothing, until it closes.
    async fn answer(sent: &[u8]) -> Vec<u8> {
        let (mut client, server) = duplex(1024);
        let served = tokio::spawn(async move {
            let answer = |_: Request<Incoming>| async {
                Ok::<_, Infallible>(Response::new(Empty::<bytes::Bytes>::new()))
            };
            let stream = TokioIo::new(FirstBytes::new(server, LIMIT));
            let builder = Builder::new(TokioExecutor::new());
            let _ = builder.serve_connection(stream, service_fn(answer)).await;
        });
        client.write_all(sent).await.unwrap();
        let mut said = Vec::new();
        timeout(LONG, client.read_to_end(&mut said)).await.expect("the server closes").unwrap();
        served.await.unwrap();
        said
    }

    #[tokio::test]
    async fn a_client_that_does_not_identify_its_protocol_is_disconnected() {
        for sent in [&b""[..], b"P", &PREFACE[..PREFACE.len() - 1]] {
            assert_eq!(answer(sent).await, b"", "{sent:?}");
        }
    }

    #[tokio::test]
    async fn a_short_request_is_answered() {
        let said = answer(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").await;
        assert!(said.starts_with(b"HTTP/1.1 200"), "{said:?}");
    }

    /// Later silence is up to the protocol: an idle HTTP/2 client may stay.
    #[tokio::test]
    async fn no_client_is_disconnected_once_its_protocol_is_known() {
        for sent in [PREFACE, b"GET", b"x", b"PRI *\r\n"] {
            let (mut client, server) = duplex(1024);
            let mut server = FirstBytes::new(server, LIMIT);
            // In pieces, as a network may deliver them.
            for piece in sent.chunks(2) {
                client.write_all(piece).await.unwrap();
                server.read_exact(&mut vec![0; piece.len()]).await.unwrap();
            }
            let mut buf = [0; 1];
            let more = timeout(2 * LIMIT, server.read(&mut buf)).await;
            assert!(more.is_err(), "{sent:?}: {more:?}");
        }
    }
}
