//! What only the leader can answer: renewals, and how long a lease has still to live.
//!
//! Its own clients come here, and those of the other members through the peer port.
//!
//! That this member leads is what it knows, and that may be old: a process that was stopped serves
//! what stands in its sockets before raft has heard of anybody. So raft notes when it ticks, and
//! after a gap nothing is renewed before a quorum has answered (etcd: `ensureLeadership`).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{sync::oneshot, time::timeout};

use super::{Lessor, checkpoint::Clear, lessor::Renewal};
use crate::{
    clock,
    raft::Status,
    server::{mvcc::Store, read_index::ReadIndex},
};

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
    reads: Arc<ReadIndex>,
    election: Duration,
}

/// So often a quorum is asked, if it does not answer in time, before the client is told to ask again.
const CONFIRMATIONS: usize = 2;

impl Primary {
    /// Answers from this key space's lessor, and by `reads` makes sure that it may. `election` is the
    /// election timeout.
    pub fn new(
        member_id: u64,
        store: Arc<Store>,
        status: Arc<Status>,
        reads: Arc<ReadIndex>,
        election: Duration,
    ) -> Self {
        Self { member_id, store, status, reads, election }
    }

    fn lessor(&self) -> &Lessor {
        self.store.lessor()
    }

    /// Whether this member leads, and is counting in its term.
    pub fn leads(&self) -> bool {
        self.status.leader() == self.member_id
            && self.lessor().primary() == Some(self.status.term())
    }

    /// The same, and it is not just that this member was stopped and has not yet heard of another:
    /// after a gap in raft's ticks a quorum is asked, and what was committed before is applied
    /// (etcd: `ensureLeadership`).
    ///
    /// Whoever answers follows nobody else for an election timeout, so an answer is good for that
    /// long since the question, even if there has been another gap meanwhile: the next renewal asks
    /// again.
    async fn surely_leads(&self, id: u64) -> bool {
        for _ in 0..CONFIRMATIONS {
            let asked = clock::now();
            let Some(gaps) = self.status.unconfirmed(asked) else { return self.leads() };
            let Ok(committed) = self.reads.committed(id).await else { return false };
            self.applied(committed).await;
            self.status.confirm(gaps);
            if clock::now().duration_since(asked) < self.election {
                return self.leads();
            }
        }
        false
    }

    /// Answers request `id` (0 for another member's), as soon as everything that is known to be
    /// committed has been applied.
    pub async fn answer(&self, id: u64, question: Question) -> Result<View, Refusal> {
        if !self.leads() {
            return Err(Refusal::NotPrimary);
        }
        timeout(APPLY_TIMEOUT, self.applied(self.status.commit()))
            .await
            .map_err(|_| Refusal::Behind)?;
        match question {
            Question::KeepAlive(lease) => {
                let renewed = timeout(REVOKE_TIMEOUT, self.renew(id, lease)).await;
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

    async fn applied(&self, index: u64) {
        let mut progress = self.status.watch_applied();
        while self.status.applied() < index {
            if progress.changed().await.is_err() {
                return;
            }
        }
    }

    /// A lease whose time is over may already be on its way out, so its renewal waits until it is
    /// gone, or somebody else leads.
    async fn renew(&self, id: u64, lease: i64) -> Result<i64, Refusal> {
        let mut gone = self.lessor().gone();
        loop {
            if !self.surely_leads(id).await {
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

#[cfg(test)]
mod tests {
    use ::raft::StateRole;
    use tempfile::TempDir;

    use super::*;
    use crate::{
        raft::Leadership,
        server::Error,
        storage::backend::{self, Backend},
    };

    const TICK: Duration = Duration::from_secs(100);

    /// Member 1, which leads in term 3 and has lease 7, as far as it knows.
    fn leader() -> (Primary, TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let backend = Backend::open(&dir.path().join("db"), backend::Options::default()).unwrap();
        let (store, status) = (Store::open(backend).unwrap(), Arc::new(Status::new(5)));
        status.set_leadership(StateRole::Leader, Leadership { term: 3, leader: 1 }, 1);
        store.lessor().add(7, 60, clock::now()).unwrap();
        store.lessor().promote(3, Duration::ZERO, clock::now());
        (Primary::new(1, store, status, Arc::default(), 10 * TICK), dir)
    }

    async fn renewed(primary: &Primary) -> Result<i64, Refusal> {
        primary.answer(9, Question::KeepAlive(7)).await.map(|view| view.ttl)
    }

    /// The quorum is asked, or the test fails.
    async fn both<A, B>(
        asking: impl Future<Output = A>,
        quorum: impl Future<Output = B>,
    ) -> (A, B) {
        let both = async { tokio::join!(asking, quorum) };
        timeout(Duration::from_secs(20), both).await.expect("a quorum is asked")
    }

    #[tokio::test]
    async fn a_leader_that_ticks_renews_without_asking_anybody() {
        let (primary, _dir) = leader();
        let now = clock::now();
        primary.status.note_tick(now, TICK);
        assert_eq!(renewed(&primary).await, Ok(60));
    }

    /// Whether raft ticks again before it is asked or not: it has not heard of others by then.
    #[tokio::test]
    async fn a_leader_that_was_stopped_renews_nothing_before_a_quorum_says_that_it_leads() {
        for ticks_again in [true, false] {
            let (primary, _dir) = leader();
            let stopped = clock::now().checked_sub(4 * TICK).unwrap();
            primary.status.note_tick(stopped, TICK);
            if ticks_again {
                primary.status.note_tick(clock::now(), TICK);
            }
            let quorum = async {
                // Somebody else leads, and has revoked the lease.
                primary.reads.answer(Err(Error::LeaderChanged)).await;
            };
            let (refused, ()) = both(renewed(&primary), quorum).await;
            assert_eq!(refused, Err(Refusal::NotPrimary));
            let quorum = async {
                primary.status.note_tick(clock::now(), TICK);
                primary.reads.answer(Ok(5)).await;
            };
            let (answer, ()) = both(renewed(&primary), quorum).await;
            assert_eq!(answer, Ok(60));
            if ticks_again {
                assert_eq!(renewed(&primary).await, Ok(60), "once is enough");
            }
        }
    }

    /// Goal: a leader that the machine lets tick too seldom can still renew. Method: another gap
    /// while the quorum is asked, each time.
    #[tokio::test]
    async fn a_quorums_answer_in_time_counts_though_raft_was_late_again() {
        let (primary, _dir) = leader();
        for _ in 0..3 {
            let quorum = async {
                primary.status.note_tick(clock::now().checked_sub(4 * TICK).unwrap(), TICK);
                primary.status.note_tick(clock::now(), TICK);
                primary.reads.answer(Ok(5)).await;
                primary.status.note_tick(clock::now().checked_sub(4 * TICK).unwrap(), TICK);
            };
            let (answer, ()) = both(renewed(&primary), quorum).await;
            assert_eq!(answer, Ok(60));
        }
    }

    /// Goal: what a quorum said before the member was stopped once more is no proof any more. Method:
    /// an election timeout of nothing.
    #[tokio::test]
    async fn a_quorums_answer_that_came_too_late_does_not_count() {
        let (primary, _dir) = leader();
        let primary = Primary { election: Duration::ZERO, ..primary };
        let quorum = async {
            for _ in 0..CONFIRMATIONS {
                primary.status.note_tick(clock::now().checked_sub(4 * TICK).unwrap(), TICK);
                primary.reads.answer(Ok(5)).await;
            }
        };
        let (answer, ()) = both(renewed(&primary), quorum).await;
        assert_eq!(answer, Err(Refusal::NotPrimary));
    }

    #[tokio::test]
    async fn what_was_revoked_meanwhile_is_applied_before_a_stopped_leader_renews() {
        let (primary, _dir) = leader();
        let quorum = async {
            primary.status.note_tick(clock::now(), TICK);
            primary.reads.answer(Ok(6)).await;
            primary.store.lessor().take_away(7);
            primary.status.set_applied(6);
        };
        let (answer, ()) = both(renewed(&primary), quorum).await;
        assert_eq!(answer, Err(Refusal::NotFound));
    }
}
