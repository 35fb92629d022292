//! The requests of the v2 API (etcd: `v2_server.go`).
//!
//! ```text
//!   PUT, POST, DELETE, GET quorum ──▶ quota ──▶ admit ──▶ the log ──▶ apply, on every member
//!   GET, HEAD                     ──▶ the store of this member, as of now
//!   GET wait                      ──▶ the window of events, or a watcher
//!   every 500 ms, on the leader   ──▶ SYNC with the leader's time, if a node's time is over
//! ```
//!
//! A read without `quorum` is not linearizable, here as in etcd: a member that is cut off serves
//! what it has.
//!
//! Times come from the log, so that all members agree: a request carries its time of expiry, from
//! the clock of the member that proposes it, and nodes expire when the leader has logged its time.
//! etcd's leader logs it twice a second while any node has a TTL; here only when one is due, so
//! that a cluster at rest writes nothing.
//!
//! Two bounds of the v3 API hold here as well, where etcd has none: `--max-request-bytes`, and the
//! quota, because the store's rows are in the backend.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};

use super::{
    Error,
    command::Command,
    internal::Internal,
    propose::Proposer,
    v2store::{self, Answer, Applied, Path, Refusal, V2Store, Watching, Wish},
};
use crate::{pb::etcdserverpb::Request, set, stage, trace::Reason};

/// How often the leader looks for nodes whose time is over (etcd: defaultSyncTimeout).
const INTERVAL: Duration = Duration::from_millis(500);

/// Bytes that a node costs against the quota, in addition to its path's and its value's.
const NODE_OVERHEAD: u64 = 256;

/// Serves the requests of the v2 API.
pub struct V2Server {
    pub(crate) store: Arc<V2Store>,
    pub(crate) proposer: Arc<Proposer>,
    /// When the member has started, as time since 1970.
    pub(crate) started: Duration,
}

impl V2Server {
    /// Carries out request `id` through the log, and returns what every member has made of it.
    pub(crate) async fn propose(&self, id: u64, request: Request) -> Result<Applied, Error> {
        let adds = matches!(request.method(), "PUT" | "POST");
        let bytes = (request.path().len() + request.val().len()) as u64;
        self.proposer.check_quota(id, if adds { NODE_OVERHEAD + bytes } else { 0 }).await?;
        let header = self.proposer.prepare(id)?;
        let command = Command::V2(Box::new(request));
        Ok(self.proposer.propose(header, command).await?.v2())
    }

    /// Reads a node of this member.
    pub(crate) fn get(&self, id: u64, path: &Path, recursive: bool) -> Result<Answer, Refusal> {
        let mut span = stage!(V2Get, id);
        let got = self.store.get(path, recursive);
        match &got {
            Ok(answer) => {
                set!(span, V2Get, index = answer.index, nodes = 1 + answer.below.len());
            }
            Err(refusal) => {
                set!(span, V2Get, index = refusal.index, code = refusal.code as u16);
                span.fail(Reason::V2Refused);
            }
        }
        got
    }

    /// Finds the event that a watcher asks for, or lets it wait.
    pub(crate) fn watch(&self, id: u64, path: Path, wish: Wish) -> Result<Watching, Refusal> {
        let mut span = stage!(V2Watch, id, since = wish.since);
        let watching = self.store.watch(path, wish);
        match &watching {
            Ok(Watching { index, found, .. }) => {
                let found = found.as_ref().map_or(0, |event| event.index());
                set!(span, V2Watch, index = *index, found = found);
            }
            Err(refusal) => {
                set!(span, V2Watch, index = refusal.index, code = refusal.code as u16);
                span.fail(Reason::V2Refused);
            }
        }
        watching
    }

    async fn sync(&self, term: u64) -> Result<(), Error> {
        let id = self.proposer.ids.of_member(false);
        let request = Request {
            method: Some("SYNC".to_owned()),
            time: Some(v2store::now()),
            ..Request::default()
        };
        let proposed = async {
            let header = self.proposer.prepare(id)?;
            self.proposer.propose_in_term(header, Command::V2(Box::new(request)), term).await
        };
        Internal::V2Sync.request(id, proposed).await.map(drop)
    }
}

/// Has expired nodes removed, whenever this member leads and one is due, for as long as it runs.
pub(crate) async fn expire(v2: Arc<V2Server>) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let is_due = v2.store.first_expiry().is_some_and(|first| first <= v2store::now());
        if !is_due || !v2.proposer.leads() {
            continue;
        }
        match v2.sync(v2.proposer.status.term()).await {
            Ok(()) => {}
            Err(Error::Stopped) => return,
            Err(error) => tracing::warn!(?error, "could not expire v2 keys yet"),
        }
    }
}
