//! Waiting for one's turn: for the keys ahead to go, the youngest of them first.
//!
//! ```text
//!   look: which keys are older than mine? ──none──▶ is mine still there? ──▶ first, or lost
//!     ▲                 │ the youngest of them
//!     │                 ▼
//!     └── deleted ◀── watch that key from the next revision on
//! ```
//!
//! Usually one wait is enough: when the key before mine goes, those before it have gone. If it went
//! out of turn, because its client gave up, the next look finds the one before it.

use bytes::Bytes;

use super::{Outcome, QueuedKey, below};
use crate::{
    mark,
    pb::etcdserverpb::{RangeRequest, RangeResponse},
    server::{
        Error, Server, dropped,
        mvcc::{
            read_txn::OlderKeys,
            watch::{Filters, News, Notice, Path, WatchRequest, WatchStream, queue::Notices},
        },
    },
    set, stage, trace,
};

/// One deletion is all that is waited for.
const QUEUE_LEN: usize = 1;

impl Server {
    /// Waits until nobody is ahead; then sees whether the place is still there.
    pub(super) async fn wait_deletes(&self, id: u64, queued: &QueuedKey) -> Result<Outcome, Error> {
        let mut waits = 0_u64;
        let queue = below(&queued.prefix);
        loop {
            // As far as this member knows; see the module's text for why that is enough.
            let ahead = self.store.older_keys(&queue, queued.created);
            let Some(next) = &ahead.youngest else { break };
            self.wait_deleted(id, queued, next, &ahead).await?;
            waits += 1;
        }
        let own = RangeRequest { key: queued.key.clone(), ..RangeRequest::default() };
        let mut response = self.read_again(id, &own).await?;
        let created = response.kvs.pop().map_or(0, |kv| kv.create_revision);
        if created != queued.created {
            return Ok(Outcome::Lost);
        }
        let revision = super::revision_of(response.header.as_ref());
        mark!(LockAcquired, id, own = queued.created, revision = revision, waits = waits);
        Ok(Outcome::First(response.header))
    }

    /// A linearizable read that does not mind when the leader changes under it.
    async fn read_again(&self, id: u64, range: &RangeRequest) -> Result<RangeResponse, Error> {
        loop {
            match self.own_range(id, range.clone()).await {
                Err(Error::LeaderChanged) => {}
                result => return result,
            }
        }
    }

    /// Waits until the youngest key ahead is deleted, or until it is unknown whether it was.
    async fn wait_deleted(
        &self,
        id: u64,
        queued: &QueuedKey,
        (key, before): &(Bytes, i64),
        ahead: &OlderKeys,
    ) -> Result<(), Error> {
        let (own, ahead_count) = (queued.created, ahead.count);
        let span = stage!(LockWait, id, own = own, before = *before, ahead = ahead_count);
        let mut wait = Wait { span: span.begun() };
        // Until it is woken: what drops it now does so because its client has gone, mostly.
        wait.span.flag(trace::FLAG_CANCELLED);
        let mut watching = Watching::new(
            self,
            &WatchRequest {
                id,
                key: key.clone(),
                start_revision: ahead.revision + 1,
                filters: Filters { puts: true, deletes: false },
                ..WatchRequest::default()
            },
            QUEUE_LEN,
        );
        let news = watching.next().await?;
        wait.span.clear_flag(trace::FLAG_CANCELLED);
        if let News::Events(events) = news {
            let deleted = events.events.first().and_then(|event| event.kv.as_ref());
            let deleted = deleted.map_or(0, |kv| kv.mod_revision);
            // What was caught up does not say which request wrote it.
            let by = if events.path == Path::Synced { events.id } else { 0 };
            set!(wait.span, LockWait, deleted = deleted, by = by);
        }
        Ok(())
    }
}

/// The step of a wait.
struct Wait {
    span: trace::Span,
}

impl Drop for Wait {
    fn drop(&mut self) {
        if dropped::is_expiring() {
            self.span.clear_flag(trace::FLAG_CANCELLED);
            self.span.result(trace::DEADLINE_EXCEEDED);
        }
    }
}

/// One watcher with a queue of its own, both of which end with it.
pub(super) struct Watching {
    /// Takes the watcher away when it is dropped.
    _stream: WatchStream,
    notices: Notices,
}

impl Watching {
    pub(super) fn new(server: &Server, request: &WatchRequest, queue_len: usize) -> Watching {
        fail::fail_point!("lock-before-watch");
        let (mut stream, notices) = server.store.watch_stream(queue_len);
        let created = stream.create(request);
        debug_assert!(created.is_ok(), "keys are not empty, and revisions not negative");
        Watching { _stream: stream, notices }
    }

    /// The next events, or that they are compacted, after which there is no more. May be dropped at
    /// any time.
    pub(super) async fn next(&mut self) -> Result<News, Error> {
        loop {
            match self.notices.recv().await {
                Some(Notice { news: News::Progress(_) | News::StreamProgress(_), .. }) => {}
                Some(notice) => return Ok(notice.news),
                // The stream itself holds a sender, so this does not come before the end.
                None => return Err(Error::Stopped),
            }
        }
    }
}
