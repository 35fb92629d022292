//! Ends answers early, with a status: because the call's own time is over, or because the member is
//! about to stop.
//!
//! A watch never ends by itself, and a member that waited for its watchers would never stop. So
//! each stream ends with the status that the server stops (etcd: ErrStopped), and its client moves
//! to another member. Calls with a single answer are still answered: they take milliseconds, or
//! react to the stop themselves ([`crate::server::stopping`]), or are cut off with their connection
//! ([`super::front::serve`]).
//!
//! ```text
//!   handler ──▶ frames ──▶ [ Ending ] ──▶ frames, and trailers with the status
//!                              ▲
//!              End::At, End::Stopped: looked at when there is no frame
//! ```

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::{sync::watch, time::Sleep};
use tonic::Status;

use super::status::status;
use crate::server::{
    Error,
    dropped::{self, Deadline},
};

/// The calls whose answers are streams. Observers of the traces are not among them: they receive
/// the records of the member's end.
const STREAMS: &[&str] = &[
    "/etcdserverpb.Watch/Watch",
    "/etcdserverpb.Lease/LeaseKeepAlive",
    "/v3electionpb.Election/Observe",
    "/grpc.health.v1.Health/Watch",
];

/// Whether the call with this path answers with a stream that this module has to end.
pub(super) fn is_stream(path: &str) -> bool {
    STREAMS.contains(&path)
}

/// A body that can be ended early, with a status.
pub(super) struct Ending {
    /// `None` once it has ended.
    inner: Option<Body>,
    end: End,
}

/// The condition that ends a body.
enum End {
    /// The call's time is over. The timer is created when the body first has to wait.
    At(Deadline, Option<Pin<Box<Sleep>>>),
    /// The member is about to stop. Frames that are ready are still sent.
    Stopped(Pin<Box<dyn Future<Output = ()> + Send>>),
}

impl Ending {
    /// Ends the answer of a call at its deadline.
    pub(super) fn at(inner: Body, deadline: Deadline) -> Self {
        Self { inner: Some(inner), end: End::At(deadline, None) }
    }

    /// Ends a stream when the member is about to stop.
    pub(super) fn when_stopped(inner: Body, mut stopping: watch::Receiver<bool>) -> Self {
        let stopped = async move { stopped(&mut stopping).await };
        Self { inner: Some(inner), end: End::Stopped(Box::pin(stopped)) }
    }
}

impl End {
    /// Whether the end is due, however many frames the body still has.
    fn is_over(&self) -> bool {
        match self {
            Self::At(deadline, _) => deadline.is_over(),
            Self::Stopped(_) => false,
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::At(deadline, sleep) => {
                let sleep = sleep.get_or_insert_with(|| Box::pin(deadline.sleep()));
                sleep.as_mut().poll(context)
            }
            Self::Stopped(stopped) => stopped.as_mut().poll(context),
        }
    }

    /// Drops the body; returns the status for the client.
    fn end(&self, inner: &mut Option<Body>) -> Status {
        match self {
            Self::At(..) => {
                let _ = dropped::expire(|| *inner = None);
                over()
            }
            Self::Stopped(_) => {
                *inner = None;
                status(Error::Stopped)
            }
        }
    }
}

impl http_body::Body for Ending {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Self { inner, end } = &mut *self;
        let Some(body) = inner else { return Poll::Ready(None) };
        if !end.is_over() {
            if let Poll::Ready(frame) = Pin::new(body).poll_frame(context) {
                return Poll::Ready(frame);
            }
            ready!(end.poll(context));
        }
        let mut trailers = HeaderMap::new();
        let status = end.end(inner);
        status.add_header(&mut trailers).expect("the text is a header's value");
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// The status of a call whose time is over.
pub(super) fn over() -> Status {
    Status::deadline_exceeded("context deadline exceeded")
}

/// Returns when the member is about to stop.
pub(super) async fn stopped(stopping: &mut watch::Receiver<bool>) {
    if stopping.wait_for(|is_stopping| *is_stopping).await.is_err() {
        // The sender is gone, so no stop will be signalled.
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, time::Duration};

    use futures_util::{StreamExt as _, stream};
    use http_body_util::BodyExt as _;
    use tonic::Code;

    use super::*;

    fn first() -> Result<Bytes, Infallible> {
        Ok(Bytes::from_static(b"news"))
    }

    #[tokio::test]
    async fn a_stream_sends_ready_frames_and_then_the_status_that_the_server_stops() {
        let body = Body::from_stream(stream::iter([first()]).chain(stream::pending()));
        let (stop, stopping) = watch::channel(false);
        let mut body = Ending::when_stopped(body, stopping);
        stop.send_replace(true);
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "news");
        let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(trailers["grpc-status"], "14");
        assert!(trailers["grpc-message"].to_str().unwrap().contains("server%20stopped"));
        assert!(body.frame().await.is_none());
    }

    /// The frames of a body that ends after 20 ms, and its trailers.
    async fn expired(body: Body) -> (Vec<Bytes>, Option<HeaderMap>) {
        let deadline = Deadline::after(Duration::from_millis(20)).unwrap();
        let (mut data, mut body) = (Vec::new(), Ending::at(body, deadline));
        while let Some(frame) = body.frame().await {
            match frame.unwrap().into_data() {
                Ok(piece) => data.push(piece),
                Err(frame) => return (data, frame.into_trailers().ok()),
            }
        }
        (data, None)
    }

    #[tokio::test]
    async fn a_stream_ends_in_trailers_whether_it_is_silent_or_never_is() {
        let silent = stream::iter([first()]).chain(stream::pending());
        let (data, trailers) = expired(Body::from_stream(silent)).await;
        let status = Status::from_header_map(&trailers.unwrap()).unwrap();
        assert_eq!((data.len(), status.code()), (1, Code::DeadlineExceeded));
        let busy = stream::repeat_with(first);
        let (data, trailers) = expired(Body::from_stream(busy)).await;
        let status = Status::from_header_map(&trailers.unwrap()).unwrap();
        assert_eq!(status.message(), "context deadline exceeded");
        assert!(1 < data.len());
        let (data, trailers) = expired(Body::from("all of it")).await;
        assert_eq!((data, trailers), (vec![Bytes::from_static(b"all of it")], None));
    }
}
