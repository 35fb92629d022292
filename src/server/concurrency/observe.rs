//! Election.Observe: each change of the leader, and each of its proclamations (etcd:
//! `Election.observe`).
//!
//! ```text
//!            nobody stands            the first key is put
//!     Look ────────────────▶ Nobody ─────────────────────▶ Leader ──▶ an answer for each put
//!      │ ▲                                                   ▲ │
//!      │ └───────────────────── its key is deleted ──────────┼─┘
//!      └──────────────────── somebody leads ─────────────────┘
//! ```
//!
//! Not every leader is seen: one that goes while it is looked for who comes next is passed over. The
//! newest one always is. Left out: etcd ends the stream when a revision that it wants to watch is
//! compacted meanwhile; here it is looked again.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{below, oldest, prefix_of, queue::Watching, revision_of};
use crate::{
    mark,
    pb::{
        etcdserverpb::ResponseHeader,
        mvccpb::{KeyValue, event::EventType},
        v3electionpb::LeaderResponse,
    },
    server::{
        Error, Server,
        answer::{Connection, Held},
        mvcc::watch::{Events, Filters, News, WatchRequest},
    },
};

/// How many notices may wait for a client that reads slowly; the watcher falls behind after that.
const QUEUE_LEN: usize = 16;

enum State {
    /// Who leads is to be asked.
    Look,
    /// Nobody did; all keys are watched for the first put.
    Nobody(Watching),
    /// This one's key is watched.
    Leader(Watching),
}

/// One client's view of an election.
pub(crate) struct Observation {
    server: Arc<Server>,
    client: Arc<Connection>,
    id: u64,
    prefix: Bytes,
    state: State,
    /// Answers to be sent. Those that were read are counted already. Those from the watcher are
    /// not, and wait until the client has read enough of its earlier answers.
    outbox: VecDeque<(LeaderResponse, Option<Held>)>,
    /// When the key of the leader that was told last was created.
    told: i64,
}

impl Observation {
    /// Observes the election of this name for the call `id`.
    pub(crate) fn new(
        server: Arc<Server>,
        client: Arc<Connection>,
        (id, name): (u64, &[u8]),
    ) -> Observation {
        let (prefix, state, outbox) = (prefix_of(name), State::Look, VecDeque::new());
        Observation { server, client, id, prefix, state, outbox, told: 0 }
    }

    /// The next answer; waits for as long as there is none. May be dropped at any time.
    pub(crate) async fn next(&mut self) -> Result<LeaderResponse, Error> {
        loop {
            if let Some((_, held)) = self.outbox.front() {
                if held.is_none() {
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
        let (mut response, held) = loop {
            let client = (&self.client, Duration::MAX);
            match self.server.range_for(self.id, &oldest, client).await {
                Err(Error::LeaderChanged) => {}
                result => break result?,
            }
        };
        let revision = revision_of(response.header.as_ref());
        match response.kvs.pop() {
            Some(kv) => self.lead(kv, revision, Some(held)),
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
            ..WatchRequest::default()
        };
        Watching::new(&self.server, &request, QUEUE_LEN)
    }

    /// A key was put where there was none: whoever it is, leads.
    fn first_put(&mut self, events: &Events) {
        if let Some(kv) = events.events.first().and_then(|event| event.kv.clone()) {
            let revision = kv.mod_revision;
            self.lead(kv, revision, None);
        }
    }

    /// Tells of a leader, and watches its key from there on.
    fn lead(&mut self, kv: KeyValue, revision: i64, held: Option<Held>) {
        let watching = self.watch(kv.key.clone(), Bytes::new(), revision + 1, Filters::default());
        self.state = State::Leader(watching);
        self.tell(kv, revision, held);
    }

    /// What became of the leader's key. The header is that of the notice, as in etcd.
    fn of_leader(&mut self, events: &Events) {
        for event in &events.events {
            if event.r#type == EventType::Delete as i32 {
                self.state = State::Look;
                return;
            }
            if let Some(kv) = event.kv.clone() {
                self.tell(kv, events.revision, None);
            }
        }
    }

    fn tell(&mut self, kv: KeyValue, revision: i64, held: Option<Held>) {
        let (old, new) = (self.told, kv.create_revision);
        self.told = new;
        mark!(
            ObserveLeader,
            self.id,
            leader_old = old,
            leader_new = new,
            revision = kv.mod_revision
        );
        let header = Some(ResponseHeader { revision, ..ResponseHeader::default() });
        self.outbox.push_back((LeaderResponse { header, kv: Some(kv) }, held));
    }
}
