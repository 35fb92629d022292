//! What only the leader can answer: renewals, and how long a lease has still to live.
//!
//! Its own clients come here, and those of the other members through the peer port.
//!
//! ```text
//!   question ──▶ leads? ──▶ ReadIndex round ──▶ applied? ──▶ leads? ──▶ lessor
//! ```
//!
//! A grant or a revocation that any member has acknowledged is found by every question that starts
//! afterwards. The commit index that this thread can see is not enough for that: raft sends it to
//! the followers, which apply and acknowledge, and a leader that was replaced without knowing it has
//! an old one. So each question waits for a read round, which it shares with all reads that wait,
//! and for apply (etcd: `waitAppliedIndex`, `ensureLeadership`; etcd's own answers rely on the
//! commit index and on raft's ticks, etcd 13675 and 15247).

use std::{sync::Arc, time::Duration};

use tokio::{sync::oneshot, time::timeout};

use super::{Lessor, View, checkpoint::Clear, lessor::Renewal};
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
}

impl Primary {
    /// Answers from this key space's lessor, and by `reads` makes sure that it may.
    pub(crate) fn new(
        member_id: u64,
        store: Arc<Store>,
        status: Arc<Status>,
        reads: Arc<ReadIndex>,
    ) -> Self {
        Self { member_id, store, status, reads }
    }

    fn lessor(&self) -> &Lessor {
        self.store.lessor()
    }

    /// Whether this member leads, and is counting in its term.
    pub fn leads(&self) -> bool {
        self.status.leader() == self.member_id
            && self.lessor().primary() == Some(self.status.term())
    }

    /// Returns once this member has applied everything that any member had acknowledged before the
    /// call, and led after the call.
    async fn catch_up(&self, id: u64) -> Result<(), Refusal> {
        if !self.leads() {
            return Err(Refusal::NotPrimary);
        }
        let committed = self.reads.committed(id).await.map_err(|_| Refusal::NotPrimary)?;
        let applied = timeout(APPLY_TIMEOUT, self.applied(committed)).await;
        applied.map_err(|_| Refusal::Behind)?;
        // A member that was demoted meanwhile finds no lease alive.
        if self.leads() { Ok(()) } else { Err(Refusal::NotPrimary) }
    }

    /// Answers request `id` (0 for another member's).
    pub async fn answer(&self, id: u64, question: Question) -> Result<View, Refusal> {
        match question {
            Question::KeepAlive(lease) => {
                let renewed = timeout(REVOKE_TIMEOUT, self.renew(id, lease)).await;
                let ttl = renewed.unwrap_or(Err(Refusal::NotPrimary))?;
                Ok(View { ttl, ..View::default() })
            }
            Question::TimeToLive(lease, with_keys) => {
                self.catch_up(id).await?;
                let view = self.lessor().view(lease, with_keys, clock::now());
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
            self.catch_up(id).await?;
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

    /// Member 1, which leads in term 3 and has lease 7, as far as it knows.
    fn leader() -> (Primary, TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let backend = Backend::open(&dir.path().join("db"), backend::Options::default()).unwrap();
        let (store, status) = (Store::open(backend).unwrap(), Arc::new(Status::new(5)));
        status.set_leadership(StateRole::Leader, Leadership { term: 3, leader: 1 }, 1);
        store.lessor().add(7, 60, clock::now()).unwrap();
        store.lessor().promote(3, Duration::ZERO, clock::now());
        (Primary::new(1, store, status, Arc::default()), dir)
    }

    /// The questions that are asked about lease 7.
    const QUESTIONS: [Question; 2] = [Question::KeepAlive(7), Question::TimeToLive(7, false)];

    /// Asks while `quorum` plays the coordinator of reads, or fails the test.
    async fn asked(
        primary: &Primary,
        question: Question,
        quorum: impl Future<Output = ()>,
    ) -> Result<i64, Refusal> {
        let both = async { tokio::join!(primary.answer(9, question), quorum) };
        let both = timeout(Duration::from_secs(20), both).await;
        both.expect("a quorum is asked").0.map(|view| view.ttl)
    }

    #[tokio::test]
    async fn a_quorum_is_asked_before_every_answer() {
        let (primary, _dir) = leader();
        for question in QUESTIONS {
            let quorum = async { primary.reads.answer(Ok(5)).await };
            let ttl = asked(&primary, question, quorum).await.unwrap();
            assert!((59..=60).contains(&ttl), "{question:?}: {ttl}");
        }
    }

    #[tokio::test]
    async fn a_leader_that_was_replaced_without_knowing_it_answers_nothing() {
        let (primary, _dir) = leader();
        for question in QUESTIONS {
            let quorum = async { primary.reads.answer(Err(Error::LeaderChanged)).await };
            assert_eq!(asked(&primary, question, quorum).await, Err(Refusal::NotPrimary));
        }
    }

    /// Goal: a member that steps down while it waits for the quorum does not answer from leases that
    /// it no longer counts. Method: the lessor is demoted in between.
    #[tokio::test]
    async fn a_leader_that_steps_down_while_it_asks_answers_nothing() {
        for question in QUESTIONS {
            let (primary, _dir) = leader();
            let quorum = async {
                primary.store.lessor().demote();
                primary.reads.answer(Ok(5)).await;
            };
            assert_eq!(asked(&primary, question, quorum).await, Err(Refusal::NotPrimary));
        }
    }

    /// Goal: what another member has acknowledged is found here. Method: this member's own commit
    /// index is 5; the quorum knows of entry 6, which grants one lease and takes another away.
    #[tokio::test]
    async fn what_a_quorum_knows_to_be_committed_is_applied_before_the_answer() {
        for (question, answer) in [
            (Question::KeepAlive(7), Err(Refusal::NotFound)),
            (Question::TimeToLive(7, false), Err(Refusal::NotFound)),
            (Question::KeepAlive(8), Ok(60)),
            (Question::TimeToLive(8, false), Ok(60)),
        ] {
            let (primary, _dir) = leader();
            let quorum = async {
                primary.reads.answer(Ok(6)).await;
                primary.store.lessor().take_away(7);
                // A moment later than now, so that a whole minute is left when the answer is made.
                let soon = clock::now() + Duration::from_millis(500);
                primary.store.lessor().add(8, 60, soon).unwrap();
                primary.status.set_applied(6);
            };
            assert_eq!(asked(&primary, question, quorum).await, answer, "{question:?}");
        }
    }
}
