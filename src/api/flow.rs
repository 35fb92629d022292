//! The story of a stream: what has come through it so far.
//!
//! ```text
//!   the stream    ├─ flow ─ flow ───────── flow ─ …     its rpc lasts as long as it does
//!   its messages     ├─ a watcher ─────────┤            each a story of its own, named by the flow
//! ```
//!
//! Each message of a client (a watcher, a keep-alive) has an rpc of its own, which says nothing of
//! the stream: how long it has been open, and how much has come through it. So the stream has an
//! rpc too, and records of `stream.flow` below it: the totals so far, with the message that has
//! come just now, or the write whose events were sent.
//!
//! Bounds: the first [`FIRST`] have a record each, and then there is one a second at most, so that
//! a stream of a million events costs no more than one of sixty. What was not recorded for that
//! reason is recorded when the second is over ([`Flow::due`]), so the totals are never older than
//! that. A stream that is not kept leaves no such records.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use tonic::Status;

use super::calls;
use super::{
    interceptor::{Call, Method},
    origin::Origin,
};
use crate::{
    clock, mark,
    server::{Error, Server},
    trace,
};

/// How many messages, in each direction, have a record each.
const FIRST: u64 = 16;
/// The least time between two of the later records.
const EVERY: Duration = Duration::from_secs(1);

/// What a record of the flow names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    /// The request that a message of the client has become.
    Received(u64),
    /// The request whose events were sent.
    Delivered(u64),
    /// A message was sent, of which the totals say enough.
    Sent,
}

/// One stream: its rpc, and the totals.
pub(super) struct Flow {
    /// `None` once it has ended.
    call: Option<Call>,
    id: u64,
    totals: Totals,
    /// What has come since the last record.
    untold: Option<News>,
    /// When the last record was made.
    told: Option<Instant>,
}

/// How much has come through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    received: u64,
    sent: u64,
    events: u64,
    bytes: u64,
}

impl Flow {
    /// A stream that begins now: `method` is that of the stream, and not of its messages.
    pub(super) fn open(server: &Server, method: Method, origin: Origin) -> Flow {
        Flow::of(Call::open(server, method, 0, b"", origin))
    }

    /// The stream of a call that has begun.
    pub(super) fn of(call: Call) -> Flow {
        let id = call.id();
        Flow { call: Some(call), id, totals: Totals::default(), untold: None, told: None }
    }

    /// A message of the client has come, which is the request with this id.
    pub(super) fn received(&mut self, id: u64) {
        self.totals.received += 1;
        if let Some(call) = &self.call {
            calls::received(call.method());
        }
        self.note(News::Received(id), self.totals.received);
    }

    /// A message of this many bytes is sent to the client.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.totals.sent += 1;
        if let Some(call) = &self.call {
            calls::sent(call.method(), bytes);
        }
        self.totals.bytes += bytes as u64;
        if trace::kept(self.id) {
            self.untold = self.untold.or(Some(News::Sent));
        }
    }

    /// Events of the request with this id are in the message that is sent next.
    pub(super) fn delivers(&mut self, id: u64, events: usize) {
        self.totals.events += events as u64;
        self.note(News::Delivered(id), self.totals.events);
    }

    /// The stream ends like this, unless it has ended.
    pub(super) fn end(&mut self, result: Result<(), Error>, revision: i64) -> Result<(), Status> {
        self.tell_rest();
        let bytes = usize::try_from(self.totals.bytes).unwrap_or(usize::MAX);
        match self.call.take() {
            Some(call) => call.finish(result, bytes, revision),
            None => Ok(()),
        }
    }

    /// Returns when [`Flow::tell_rest`] is due; never while there is nothing to tell.
    pub(super) async fn due(&self) {
        if self.untold.is_none() {
            return std::future::pending().await;
        }
        let due = self.told.map(|told| (told + EVERY).saturating_duration_since(clock::now()));
        sleep(due.unwrap_or_default()).await;
    }

    /// Records what has come since the last record.
    pub(super) fn tell_rest(&mut self) {
        if let Some(news) = self.untold.take() {
            self.tell(news);
        }
    }

    fn note(&mut self, news: News, number: u64) {
        if !trace::kept(self.id) {
            return;
        }
        let is_due = self.told.is_none_or(|told| told + EVERY <= clock::now());
        match number <= FIRST || is_due {
            true => self.tell(news),
            false => self.untold = Some(news),
        }
    }

    fn tell(&mut self, news: News) {
        (self.untold, self.told) = (None, Some(clock::now()));
        let [request, write] = match news {
            News::Received(id) => [id, 0],
            News::Delivered(id) => [0, id],
            News::Sent => [0, 0],
        };
        let Totals { received, sent, events, bytes } = self.totals;
        mark!(
            StreamFlow,
            self.id,
            request = request,
            write = write,
            received = received,
            sent = sent,
            events = events,
            bytes = bytes
        );
    }
}

/// The client has gone, or the member ends the stream.
impl Drop for Flow {
    fn drop(&mut self) {
        self.tell_rest();
    }
}
