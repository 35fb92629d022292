//! `wait`: an answer whose headers come at once, and whose body comes with the event (etcd:
//! `handleKeyWatch`).
//!
//! It ends after the first event, or with `stream` when its client disconnects, the member stops,
//! or the watcher is given up because it has not taken its events.

use std::{convert::Infallible, future::pending, sync::Arc};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures_util::stream::unfold;
use tokio::sync::watch;

use super::json;
use crate::{
    api::{ending::stopped, interceptor::Call},
    mark,
    server::{
        Server,
        v2store::{Event, Watcher, Watching},
    },
};

/// Whether the query of a GET asks to wait. Only the name of the call in the trace depends on it.
pub(super) fn is_asked(query: Option<&str>) -> bool {
    let mut pairs = query.unwrap_or_default().split('&');
    pairs.any(|pair| {
        pair.strip_prefix("wait=").is_some_and(|value| value.starts_with(['t', '1', 'T']))
    })
}

/// The state of a body that is being written.
struct Waiting {
    call: Call,
    found: Option<Arc<Event>>,
    watcher: Option<Watcher>,
    is_stream: bool,
    /// Whether an event was written.
    has_written: bool,
    bytes: usize,
    stopping: watch::Receiver<bool>,
}

/// Fills the answer of a watcher as its events come. `response` has the headers.
pub(super) fn answer(
    server: &Server,
    call: Call,
    watching: Watching,
    is_stream: bool,
    response: Response,
) -> Response {
    let Watching { found, watcher, .. } = watching;
    let stopping = server.stopping.watch();
    let waiting =
        Waiting { call, found, watcher, is_stream, has_written: false, bytes: 0, stopping };
    let events = unfold(waiting, |mut waiting| async move {
        match waiting.next().await {
            Some(event) => {
                let number = event.action.number();
                mark!(V2Event, waiting.call.id(), action = number, index = event.index());
                let body = Bytes::from(json::event(&event));
                waiting.has_written = true;
                waiting.bytes += body.len();
                Some((Ok::<_, Infallible>(body), waiting))
            }
            None => {
                // Without an error there is no status to send.
                let _ = waiting.call.finish(Ok(()), waiting.bytes, 0);
                None
            }
        }
    });
    response.map(|_| Body::from_stream(events))
}

impl Waiting {
    /// The next event, or `None` at the end of the answer.
    async fn next(&mut self) -> Option<Arc<Event>> {
        if self.has_written && !self.is_stream {
            return None;
        }
        if let Some(found) = self.found.take() {
            return Some(found);
        }
        let event = async {
            match &mut self.watcher {
                Some(watcher) => watcher.events.recv().await,
                // Its only event came from the window.
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            event = event => event,
            () = stopped(&mut self.stopping) => None,
        }
    }
}
