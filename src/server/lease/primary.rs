//! What only the leader can answer: renewals, and how long a lease has still to live.
//!
//! Its own clients come here, and those of the other members through the peer port.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{sync::oneshot, time::timeout};

use super::{Lessor, checkpoint::Clear, lessor::Renewal};
use crate::{clock, raft::Status, server::mvcc::Store};

/// How long an answer waits for apply (etcd: applyTimeout).
const APPLY_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a renewal waits for the outcome of a revocation.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(7);

/// What is asked about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Renew it.
    KeepAlive(i64),
    /// How long has it to live? With its keys, or without.
    TimeToLive(i64, bool),
}

/// A lease as the leader sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Seconds that are left; after a renewal all of them.
    pub ttl: i64,
    /// Seconds that were granted.
    pub granted: i64,
    /// The attached keys in order, when they were asked for.
    pub keys: Vec<Bytes>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such lease.
    NotFound,
    /// Somebody else leads, or nobody does.
    NotPrimary,
    /// Apply is too far behind.
    Behind,
}

/// Answers while this member leads.
#[derive(Clone, Debug)]
pub struct Primary {
    member_id: u64,
    store: Arc<Store>,
    status: Arc<Status>,
}

impl Primary {
    /// Answers from this key space's lessor.
    pub fn new(member_id: u64, store: Arc<Store>, status: Arc<Status>) -> Self {
        Self { member_id, store, status }
    }

    fn lessor(&self) -> &Lessor {
        self.store.lessor()
    }

    /// Whether this member leads, and is counting in its term.
    pub fn leads(&self) -> bool {
        self.status.leader() == self.member_id
            && self.lessor().primary() == Some(self.status.term())
    }

    /// Answers, as soon as everything that is known to be committed has been applied.
    pub async fn answer(&self, question: Question) -> Result<View, Refusal> {
        if !self.leads() {
            return Err(Refusal::NotPrimary);
        }
        timeout(APPLY_TIMEOUT, self.caught_up()).await.map_err(|_| Refusal::Behind)?;
        match question {
            Question::KeepAlive(lease) => {
                let renewed = timeout(REVOKE_TIMEOUT, self.renew(lease)).await;
                let ttl = renewed.unwrap_or(Err(Refusal::NotPrimary))?;
                Ok(View { ttl, ..View::default() })
            }
            Question::TimeToLive(lease, with_keys) => {
                let view = self.lessor().view(lease, with_keys, clock::now());
                // Whoever does not count any more would find no lease alive.
                if !self.leads() {
                    return Err(Refusal::NotPrimary);
                }
                view.ok_or(Refusal::NotFound)
            }
        }
    }

    /// Waits until no member thinks that the lease has less than its whole time.
    async fn clear(&self, lease: i64) -> Result<(), Refusal> {
        let (done, is_done) = oneshot::channel();
        let asked = self.lessor().clears().send(Clear { lease, done }).await;
        match (asked, is_done.await) {
            (Ok(()), Ok(true)) => Ok(()),
            _ => Err(Refusal::NotPrimary),
        }
    }

    async fn caught_up(&self) {
        let commit = self.status.commit();
        let mut progress = self.status.watch_applied();
        while self.status.applied() < commit {
            if progress.changed().await.is_err() {
                return;
            }
        }
    }

    /// A lease whose time is over may already be on its way out, so its renewal waits until it is
    /// gone, or somebody else leads.
    async fn renew(&self, lease: i64) -> Result<i64, Refusal> {
        let mut gone = self.lessor().gone();
        loop {
            if !self.leads() {
                return Err(Refusal::NotPrimary);
            }
            match self.lessor().renew(lease, clock::now()) {
                Renewal::Renewed(ttl) => return Ok(ttl),
                Renewal::NotFound => return Err(Refusal::NotFound),
                Renewal::NotPrimary => return Err(Refusal::NotPrimary),
                Renewal::Checkpointed => self.clear(lease).await?,
                Renewal::Expired => {
                    if gone.changed().await.is_err() {
                        return Err(Refusal::NotPrimary);
                    }
                }
            }
        }
    }
}
