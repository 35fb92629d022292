//! The Watch service: one stream, many watchers (etcd: `v3rpc.watchServer`).
//!
//! A stream is a [`Session`], which is not a task but a value: each message that the client can
//! take is polled from it. While the client takes nothing, the session does nothing: the queue
//! between apply and the session fills up, and then its watchers become victims.
//!
//! ```text
//!   client ──requests──▶ ┌─────────┐ ──create, cancel──▶ mvcc::watch
//!   client ◀─responses── │ Session │ ◀─────queue──────── apply, sync thread
//!                        └─────────┘
//! ```
//!
//! Each message of the client has an id and an `rpc` of its own. That of a watcher lasts as long as
//! the watcher does, so its story stays open and grows; its end says why (`watch.cancel`). The
//! stream itself has an `rpc` too, whose story names them ([`Flow`]).
//! `watch.send` carries the id of the write whose events it sends, or, if the watcher caught up, of
//! the message that created the watcher.

mod session;

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, stream::unfold};
use tonic::{Request, Response, Status, Streaming, async_trait};

use self::session::Session;
use crate::{
    api::{
        calls,
        flow::Flow,
        interceptor::{self, Method, refuse_stream},
        leader::LeaderCheck,
        origin::Origin,
    },
    pb::etcdserverpb::{WatchRequest, WatchResponse, watch_server::Watch},
    server::Server,
};

/// Serves Watch for a member.
pub struct WatchService {
    server: Arc<Server>,
}

impl WatchService {
    /// Serves requests with this server.
    pub fn new(server: Arc<Server>) -> Self {
        Self { server }
    }
}

#[async_trait]
impl Watch for WatchService {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        calls::client(request.metadata(), true);
        let origin = Origin::of(request.metadata());
        interceptor::check(&self.server, request.metadata(), false)
            .map_err(|error| refuse_stream(&self.server, Method::Watch, origin, error))?;
        let leader = LeaderCheck::new(&self.server, request.metadata());
        let flow = Flow::open(&self.server, Method::WatchStream, origin);
        let requests = request.into_inner();
        let session = Session::new(Arc::clone(&self.server), requests, leader, (flow, origin));
        Ok(Response::new(Box::pin(unfold(session, Session::next))))
    }
}
