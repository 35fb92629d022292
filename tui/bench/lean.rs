//! A minimal gRPC client: unary calls over raw HTTP/2.
//!
//! A call is one HEADERS frame that is the same each time (HPACK shrinks it to a few bytes), and
//! one DATA frame that the caller has encoded. Of the answer, only the length and `grpc-status` are
//! read. There are no retries, no balancer, no deadline and no message decoding.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use prost::Message;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::Error;

/// Bytes before each gRPC message: one for compression, four for the length.
pub(crate) const PREFIX: usize = 5;
/// Bytes that a server may send on one stream before the client grants more credit.
const STREAM_WINDOW: u32 = 4 << 20;
/// The same limit for a whole connection: large, so that credit frames are rare.
const CONNECTION_WINDOW: u32 = 64 << 20;

/// How a call ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// `grpc-status`; 0 is success, 2 (unknown) also stands for a missing status.
    pub(crate) code: u32,
    /// `grpc-message`, as on the wire.
    pub(crate) message: String,
    /// Length of the answer in bytes, without prefixes.
    pub(crate) bytes: usize,
}

/// One HTTP/2 connection. Clones share it.
#[derive(Clone)]
pub(crate) struct Connection {
    send: SendRequest<Bytes>,
}

/// The request head that all calls of one method to one member share.
pub(crate) struct Head {
    uri: Uri,
    headers: HeaderMap,
}

impl Head {
    /// `authority` is `host:port`, `path` the method as `/package.Service/Method`.
    pub(crate) fn new(authority: &str, path: &'static str) -> Result<Self, Error> {
        let uri = Uri::builder()
            .scheme("http")
            .authority(authority)
            .path_and_query(path)
            .build()
            .map_err(|_| Error::Flags("an endpoint is not of the form host:port"))?;
        let mut headers = HeaderMap::with_capacity(2);
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert("te", HeaderValue::from_static("trailers"));
        Ok(Self { uri, headers })
    }

    fn request(&self) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

impl Connection {
    /// Connects to `host:port` and spawns a task that drives the connection.
    pub(crate) async fn open(authority: &str) -> Result<Self, Error> {
        let connect = |source| Error::Connect { endpoint: authority.to_owned(), source };
        let tcp = TcpStream::connect(authority).await.map_err(connect)?;
        tcp.set_nodelay(true).map_err(connect)?;
        let (send, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .enable_push(false)
            .handshake(Copied(tcp))
            .await
            .map_err(|source| Error::Handshake { endpoint: authority.to_owned(), source })?;
        // The calls in flight on a lost connection fail and are counted.
        tokio::task::spawn_local(connection);
        Ok(Self { send })
    }

    /// Makes one call with an encoded frame.
    pub(crate) async fn call(&mut self, head: &Head, frame: Bytes) -> Result<Answer, h2::Error> {
        std::future::poll_fn(|cx| self.send.poll_ready(cx)).await?;
        let (response, mut request_body) = self.send.send_request(head.request(), false)?;
        request_body.send_data(frame, true)?;
        let (parts, mut body) = response.await?.into_parts();
        let mut bytes = 0usize;
        while let Some(chunk) = body.data().await {
            let length = chunk?.len();
            bytes += length;
            body.flow_control().release_capacity(length)?;
        }
        // An error without a message carries its status in the first headers.
        let trailers = body.trailers().await?.unwrap_or(parts.headers);
        Ok(answer(&trailers, bytes.saturating_sub(PREFIX)))
    }
}

/// A socket that reports no support for vectored writes.
///
/// With them h2 writes every DATA frame of 256 bytes or more by itself: a system call per put.
/// Without them it copies frames of up to a kilobyte into one buffer and writes the buffer, which
/// on a busy connection holds many requests.
struct Copied(TcpStream);

impl AsyncRead for Copied {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Copied {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

fn answer(trailers: &HeaderMap, bytes: usize) -> Answer {
    let text = |name| trailers.get(name).and_then(|value| value.to_str().ok());
    let code = text("grpc-status").and_then(|code| code.parse().ok()).unwrap_or(2);
    let message = if code == 0 { "" } else { text("grpc-message").unwrap_or_default() };
    Answer { code, message: message.to_owned(), bytes }
}

/// Encodes a message as a gRPC frame.
pub(crate) fn frame(message: &impl Message) -> BytesMut {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).expect("messages of a benchmark stay far below 4 GiB"));
    message.encode(&mut frame).expect("the buffer grows");
    frame
}

/// `host:port` of an endpoint, which may be given as a URL.
pub(crate) fn authority(endpoint: &str) -> Result<&str, Error> {
    if endpoint.starts_with("https://") {
        return Err(Error::Flags("glass bench does not speak TLS"));
    }
    Ok(endpoint.trim_start_matches("http://").trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_prefix_and_message() {
        let message = glass_etcd::pb::etcdserverpb::PutRequest {
            key: Bytes::from_static(b"k"),
            ..Default::default()
        };
        assert_eq!(&frame(&message)[..], [0, 0, 0, 0, 3, 0x0a, 1, b'k']);
    }

    #[test]
    fn an_answer_without_status_is_unknown() {
        assert_eq!(answer(&HeaderMap::new(), 0).code, 2);
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("14"));
        trailers.insert("grpc-message", HeaderValue::from_static("etcdserver: no leader"));
        let expected = Answer { code: 14, message: "etcdserver: no leader".to_owned(), bytes: 3 };
        assert_eq!(answer(&trailers, 3), expected);
    }

    #[test]
    fn endpoints_may_be_urls_but_not_tls() {
        assert_eq!(authority("http://[::1]:2379/").unwrap(), "[::1]:2379");
        assert_eq!(authority("localhost:2379").unwrap(), "localhost:2379");
        assert!(authority("https://localhost:2379").is_err());
    }
}
