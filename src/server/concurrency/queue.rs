//! The wait of a call until the older keys are deleted, the youngest of them first.
//!
//! ```text
//!   look up the keys older than mine ────none──▶ does mine still exist? ──▶ first, or lost
//!     ▲                 │ the youngest of them
//!     │                 ▼
//!     └── deleted ◀── watch that key from the next revision on
//! ```
//!
//! Usually one wait is enough: when the key before mine is deleted, those before it already are. If
//! it was deleted earlier, because its client gave up, the next look-up finds the one before it.

use std::sync::Arc;

use bytes::Bytes;

use super::{Concurrency, Outcome, QueuedKey, below};
use crate::{
    mark,
    pb::etcdserverpb::{RangeRequest, RangeResponse},
    server::{
        Error,
        mvcc::{
            Store,
            older_keys::OlderKeys,
            watch::{Filters, News, Notice, Path, WatchRequest, WatchStream, queue::Notices},
        },
        wait_step::WaitStep,
    },
    set, stage,
};

/// Enough for one deletion, which ends the wait.
const QUEUE_LEN: usize = 1;

impl Concurrency {
    /// Waits until no older key is left; then reads whether the call's own key still exists.
    pub(super) async fn wait_deletes(&self, id: u64, queued: &QueuedKey) -> Result<Outcome, Error> {
        let mut waits = 0_u64;
        let mut ahead = OlderKeys::new(below(&queued.prefix), queued.created);
        loop {
            // A local look-up; the module documentation says why that is enough.
            while self.store.find_older_keys(&mut ahead) {
                // A long queue must not delay the other calls of this thread.
                tokio::task::yield_now().await;
            }
            let Some(next) = &ahead.youngest else { break };
            self.wait_deleted(id, queued, next, &ahead).await?;
            waits += 1;
            ahead = ahead.again();
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

    /// A linearizable read that starts again if the leader changes during it.
    async fn read_again(&self, id: u64, range: &RangeRequest) -> Result<RangeResponse, Error> {
        loop {
            match self.kv.own_range(id, range.clone()).await {
                Err(Error::LeaderChanged) => {}
                result => return result,
            }
        }
    }

    /// Waits until the youngest key ahead is deleted, or a compaction ends the watch.
    async fn wait_deleted(
        &self,
        id: u64,
        queued: &QueuedKey,
        (key, before): &(Bytes, i64),
        ahead: &OlderKeys,
    ) -> Result<(), Error> {
        let (own, ahead_count) = (queued.created, ahead.count);
        let span = stage!(LockWait, id, own = own, before = *before, ahead = ahead_count);
        let mut step = WaitStep::begin(span);
        let mut watching = Watching::new(
            &self.store,
            &WatchRequest {
                id,
                key: key.clone(),
                start_revision: ahead.revision + 1,
                filters: Filters { puts: true, deletes: false },
                is_of_call: true,
                ..WatchRequest::default()
            },
            QUEUE_LEN,
        );
        let news = tokio::select! {
            biased;
            news = watching.next() => news,
            () = self.stopping.given() => Err(Error::Stopped),
        };
        let news = step.end(news)?;
        if let News::Events(events) = news {
            let deleted = events.events.first().and_then(|event| event.kv.as_ref());
            let deleted = deleted.map_or(0, |kv| kv.mod_revision);
            // Events that a watcher catches up with do not name the request that wrote them.
            let by = if events.path == Path::Synced { events.id } else { 0 };
            set!(step.span, LockWait, deleted = deleted, by = by);
        }
        Ok(())
    }
}

/// One watcher with a queue of its own. Dropping it ends both.
pub(super) struct Watching {
    /// Removes the watcher when dropped.
    _stream: WatchStream,
    notices: Notices,
}

impl Watching {
    pub(super) fn new(store: &Arc<Store>, request: &WatchRequest, queue_len: usize) -> Watching {
        fail::fail_point!("lock-before-watch");
        let (mut stream, notices) = store.watch_stream(queue_len);
        let created = stream.create(request);
        debug_assert!(created.is_ok(), "keys are not empty, and revisions not negative");
        Watching { _stream: stream, notices }
    }

    /// Waits for the next events, or for the notice that they are compacted, which is the last one.
    /// The future may be dropped at any time.
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
