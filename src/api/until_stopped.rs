//! Streams of answers that end when the member is about to end.
//!
//! A watch never ends by itself, and a member that waited for its watchers would never stop. So a
//! stream is told that the server stops (etcd: ErrStopped), and its client goes on with another
//! member. Calls with a single answer are answered: they take milliseconds, or are cut off with
//! their connection ([`super::front::serve`]).

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::sync::watch;

use super::status::status;
use crate::server::Error;

/// The calls whose answers are streams. Those who watch the traces are not among them: they hear
/// how the member ends.
const STREAMS: &[&str] = &[
    "/etcdserverpb.Watch/Watch",
    "/etcdserverpb.Lease/LeaseKeepAlive",
    "/v3electionpb.Election/Observe",
    "/grpc.health.v1.Health/Watch",
];

/// Whether the call with this path answers with a stream that has to be ended.
pub(super) fn is_stream(path: &str) -> bool {
    STREAMS.contains(&path)
}

/// A body that ends, with a status, when the member is about to end.
pub(super) struct UntilStopped {
    /// `None` once it has ended.
    inner: Option<Body>,
    stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl UntilStopped {
    /// Wraps the answer of a stream.
    pub(super) fn new(inner: Body, mut stopping: watch::Receiver<bool>) -> Self {
        let stopped = async move { super::front::stopped(&mut stopping).await };
        Self { inner: Some(inner), stopped: Box::pin(stopped) }
    }
}

impl http_body::Body for UntilStopped {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        // What is there already is still sent.
        if let Poll::Ready(frame) = Pin::new(inner).poll_frame(context) {
            return Poll::Ready(frame);
        }
        ready!(self.stopped.as_mut().poll(context));
        self.inner = None;
        let mut trailers = HeaderMap::new();
        let stopped = status(Error::Stopped);
        stopped.add_header(&mut trailers).expect("the text is a header's value");
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{StreamExt as _, stream};
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn a_stream_sends_what_it_has_and_then_says_that_the_server_stops() {
        let first = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"event"))]);
        let body = Body::from_stream(first.chain(stream::pending()));
        let (stop, stopping) = watch::channel(false);
        let mut body = UntilStopped::new(body, stopping);
        stop.send_replace(true);
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "event");
        let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(trailers["grpc-status"], "14");
        assert!(trailers["grpc-message"].to_str().unwrap().contains("server%20stopped"));
        assert!(body.frame().await.is_none());
    }
}
