//! Election.Observe: every new leader, and each of its proclamations (etcd: `Election.observe`).
//!
//! ```text
//!            there is no key          the first key is put
//!     Look ────────────────▶ Nobody ─────────────────────▶ Leader ──▶ an answer for each put
//!      │ ▲                                                   ▲ │
//!      │ └───────────────────── its key is deleted ──────────┼─┘
//!      └──────────────────── there is a leader ──────────────┘
//! ```
//!
//! The stream may skip a leader: one that resigns before the next look-up is not seen. The newest
//! leader always is. Left out: etcd ends the stream if the revision from which it wants to watch is
//! compacted; here the next look-up follows.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{Concurrency, below, oldest, prefix_of, queue::Watching, revision_of};
use crate::{
    mark,
    pb::{
        etcdserverpb::ResponseHeader,
        mvccpb::{KeyValue, event::EventType},
        v3electionpb::LeaderResponse,
    },
    server::{
        Error,
        answer::{Connection, UnsentBytes},
        mvcc::watch::{Events, Filters, News, WatchRequest},
    },
};

/// Upper limit on the notices that wait for a slow client. Beyond it, its watcher falls behind.
const QUEUE_LEN: usize = 16;

enum State {
    /// The next step is to look up the leader.
    Look,
    /// There was no leader; a watcher waits for the first put of any key.
    Nobody(Watching),
    /// A watcher waits for changes of the leader's key.
    Leader(Watching),
}

/// One client's view of an election.
pub(crate) struct Observation {
    concurrency: Arc<Concurrency>,
    client: Arc<Connection>,
    id: u64,
    prefix: Bytes,
    state: State,
    /// Answers to be sent. Those that were read are counted already. Those from the watcher are
    /// not, and wait until the client has read enough of its earlier answers.
    outbox: VecDeque<(LeaderResponse, Option<UnsentBytes>)>,
    /// The revision at which the key of the last reported leader was created; 0 before the first.
    reported: i64,
}

impl Observation {
    /// Observes the election of this name for the call `id`.
    pub(crate) fn new(
        concurrency: Arc<Concurrency>,
        client: Arc<Connection>,
        id: u64,
        name: &[u8],
    ) -> Observation {
        let (prefix, state, outbox) = (prefix_of(name), State::Look, VecDeque::new());
        Observation { concurrency, client, id, prefix, state, outbox, reported: 0 }
    }

    /// Waits for the next answer. The future may be dropped at any time.
    pub(crate) async fn next(&mut self) -> Result<LeaderResponse, Error> {
        loop {
            if let Some((_, unsent)) = self.outbox.front() {
                if unsent.is_none() {
                    self.client.ready(self.id, Duration::MAX).await?;
                }
                // It is counted again when it is encoded, before another call runs.
                return Ok(self.outbox.pop_front().expect("it is there").0);
            }
            match &mut self.state {
                State::Look => self.look().await?,
                State::Nobody(watching) => match watching.next().await? {
                    News::Events(events) => self.first_put(&events),
                    News::Compacted(_) | News::Progress(_) | News::StreamProgress(_) => {
                        self.state = State::Look;
                    }
                },
                State::Leader(watching) => match watching.next().await? {
                    News::Events(events) => self.of_leader(&events),
                    News::Compacted(_) | News::Progress(_) | News::StreamProgress(_) => {
                        self.state = State::Look;
                    }
                },
            }
        }
    }

    async fn look(&mut self) -> Result<(), Error> {
        let oldest = oldest(&self.prefix);
        let (mut response, unsent) = loop {
            let kv = &self.concurrency.kv;
            match kv.range_for(self.id, &oldest, &self.client, Duration::MAX).await {
                Err(Error::LeaderChanged) => {}
                result => break result?,
            }
        };
        let revision = revision_of(response.header.as_ref());
        match response.kvs.pop() {
            Some(kv) => self.lead(kv, revision, Some(unsent)),
            None => {
                let all = below(&self.prefix);
                let filters = Filters { puts: false, deletes: true };
                let (key, range_end) = (all.key, all.range_end);
                self.state = State::Nobody(self.watch(key, range_end, revision + 1, filters));
            }
        }
        Ok(())
    }

    fn watch(&self, key: Bytes, range_end: Bytes, start: i64, filters: Filters) -> Watching {
        let request = WatchRequest {
            id: self.id,
            key,
            range_end,
            start_revision: start,
            filters,
            is_of_call: true,
            ..WatchRequest::default()
        };
        Watching::new(&self.concurrency.store, &request, QUEUE_LEN)
    }

    /// The first key of an empty queue was put, so its owner leads.
    fn first_put(&mut self, events: &Events) {
        if let Some(kv) = events.events.first().and_then(|event| event.kv.clone()) {
            let revision = kv.mod_revision;
            self.lead(kv, revision, None);
        }
    }

    /// Reports a leader, and watches its key from the next revision.
    fn lead(&mut self, kv: KeyValue, revision: i64, unsent: Option<UnsentBytes>) {
        let watching = self.watch(kv.key.clone(), Bytes::new(), revision + 1, Filters::default());
        self.state = State::Leader(watching);
        self.report(kv, revision, unsent);
    }

    /// Handles changes of the leader's key. The header has the revision of the notice, as in etcd.
    fn of_leader(&mut self, events: &Events) {
        for event in &events.events {
            if event.r#type == EventType::Delete as i32 {
                self.state = State::Look;
                return;
            }
            if let Some(kv) = event.kv.clone() {
                self.report(kv, events.revision, None);
            }
        }
    }

    fn report(&mut self, kv: KeyValue, revision: i64, unsent: Option<UnsentBytes>) {
        let (old, new) = (self.reported, kv.create_revision);
        self.reported = new;
        mark!(
            ObserveLeader,
            self.id,
            leader_old = old,
            leader_new = new,
            revision = kv.mod_revision
        );
        let header = Some(ResponseHeader { revision, ..ResponseHeader::default() });
        self.outbox.push_back((LeaderResponse { header, kv: Some(kv) }, unsent));
    }
}
