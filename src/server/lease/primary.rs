//! The questions that only the leader can answer: renewals, and the remaining time of a lease.
//!
//! They come from its own clients, and through the peer port from those of other members.
//!
//! ```text
//!   question ──▶ leads? ──▶ ReadIndex round ──▶ applied? ──▶ leads? ──▶ lessor
//! ```
//!
//! Every question that starts after a grant or a revocation was acknowledged, by any member, finds
//! it. The commit index that this thread can see is not enough for that: followers may apply and
//! acknowledge an entry before this thread sees its index, and a leader that was replaced without
//! knowing it has an old index. So each question shares the next read round with the waiting reads,
//! and then waits for apply (etcd: `waitAppliedIndex`, `ensureLeadership`; etcd's own answers rely
//! on the commit index and on raft's ticks, etcd 13675 and 15247).

use std::{sync::Arc, time::Duration};

use tokio::{sync::oneshot, time::timeout};

use crate::{
    clock,
    metrics::recorded,
    raft::Status,
    server::{
        Error,
        lessor::{Clear, Lessor, Renewal, View},
        mvcc::Store,
        read_index::ReadIndex,
        wait_step::WaitStep,
    },
    set, stage,
    trace::Reason,
};

/// Upper limit on the wait for apply (etcd: applyTimeout).
const APPLY_TIMEOUT: Duration = Duration::from_secs(1);

/// Upper limit on a renewal, which may have to wait for the result of a revocation.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(7);

/// A question about the lease of this id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Gives the lease its whole TTL again.
    KeepAlive(i64),
    /// How much time remains? `true` asks for the keys as well.
    TimeToLive(i64, bool),
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No lease has this id.
    NotFound,
    /// This member is not the primary; the present leader may be able to answer.
    NotPrimary,
    /// The member that was asked gave no answer.
    Silent,
    /// Apply did not reach the read round's index within a second.
    Behind,
}

impl Refusal {
    /// The reason that the record of a failed step carries.
    pub(super) fn reason(self) -> Reason {
        match self {
            Refusal::NotFound => Reason::LeaseNotFound,
            Refusal::NotPrimary => Reason::NotPrimary,
            Refusal::Silent => Reason::PeerSilent,
            Refusal::Behind => Reason::TimeoutWaitAppliedIndex,
        }
    }
}

impl Question {
    /// The lease in question, as records have it.
    pub(super) fn lease(self) -> u64 {
        let (Question::KeepAlive(lease) | Question::TimeToLive(lease, _)) = self;
        lease.cast_unsigned()
    }
}

/// The member that forwards a client's request, and the request: all 0 if it does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asking {
    /// The id of the request.
    pub(super) id: u64,
    /// Joins the record of the question to that of the answer.
    pub(super) link: u64,
    /// The member that asks.
    pub(super) member: u64,
}

/// Answers questions about leases while this member leads.
#[derive(Clone, Debug)]
pub struct Primary {
    member_id: u64,
    store: Arc<Store>,
    pub(super) status: Arc<Status>,
    pub(super) reads: Arc<ReadIndex>,
}

impl Primary {
    /// Answers from the lessor of this key space, once `reads` has confirmed that this member
    /// leads.
    pub(crate) fn new(
        member_id: u64,
        store: Arc<Store>,
        status: Arc<Status>,
        reads: Arc<ReadIndex>,
    ) -> Self {
        Self { member_id, store, status, reads }
    }

    pub(super) fn lessor(&self) -> &Lessor {
        self.store.lessor()
    }

    /// Whether this member leads, and keeps the deadlines in its term.
    pub(super) fn leads(&self) -> bool {
        self.status.leader() == self.member_id
            && self.lessor().primary() == Some(self.status.term())
    }

    /// Returns once this member has applied everything that any member had acknowledged before the
    /// call. Fails unless this member still leads then.
    async fn catch_up(&self, id: u64) -> Result<(), Refusal> {
        if !self.leads() {
            return Err(Refusal::NotPrimary);
        }
        let committed = self.reads.committed(id).await.map_err(|_| Refusal::NotPrimary)?;
        let applied = self.reads.wait_applied(id, committed, APPLY_TIMEOUT).await;
        applied.map_err(|error| match error {
            Error::TimeoutWaitAppliedIndex => Refusal::Behind,
            _ => Refusal::NotPrimary,
        })?;
        // If it was demoted meanwhile, its lessor has no deadlines.
        if self.leads() { Ok(()) } else { Err(Refusal::NotPrimary) }
    }

    /// Answers the question of another member for its client's request.
    pub async fn serve(&self, asking: Asking, question: Question) -> Result<View, Refusal> {
        let Asking { id, link, member } = asking;
        let renews = matches!(question, Question::KeepAlive(_));
        let lease = question.lease();
        let mut span = stage!(LeaseServe, id, lease = lease, from = member, renews = renews);
        span.link(link);
        let mut step = WaitStep::begin(span);
        let view = self.answer(id, question).await;
        let view = step.end_for(view, |refusal| refusal.reason())?;
        set!(step.span, LeaseServe, ttl = view.ttl, keys = view.keys.len());
        Ok(view)
    }

    /// Answers request `id`.
    pub(super) async fn answer(&self, id: u64, question: Question) -> Result<View, Refusal> {
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

    /// Returns when a majority has cleared the logged remaining time of the lease.
    async fn clear(&self, lease: i64) -> Result<(), Refusal> {
        let (done, is_done) = oneshot::channel();
        let asked = self.lessor().clears().send(Clear { lease, done }).await;
        match (asked, is_done.await) {
            (Ok(()), Ok(true)) => Ok(()),
            _ => Err(Refusal::NotPrimary),
        }
    }

    /// The revocation of an expired lease may be in flight, so a renewal waits until the lease is
    /// revoked, or this member no longer leads.
    async fn renew(&self, id: u64, lease: i64) -> Result<i64, Refusal> {
        let mut gone = self.lessor().gone();
        loop {
            self.catch_up(id).await?;
            match self.lessor().renew(lease, clock::now()) {
                Renewal::Renewed(ttl) => {
                    recorded::LEASES_RENEWED.increment();
                    return Ok(ttl);
                }
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
        server::ids::RequestIds,
        storage::backend::{self, Backend},
    };

    /// Member 1, which has lease 7 and believes that it leads in term 3.
    fn leader() -> (Primary, TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let backend = Backend::open(&dir.path().join("db"), backend::Options::default()).unwrap();
        let (store, status) = (Store::open(backend).unwrap(), Arc::new(Status::new(5)));
        status.set_leadership(StateRole::Leader, Leadership { term: 3, leader: 1 }, 1);
        store.lessor().add(7, 60, clock::now()).unwrap();
        store.lessor().promote(3, Duration::ZERO, clock::now());
        let reads = Arc::new(ReadIndex::new(
            Arc::clone(&status),
            RequestIds::of_tests(),
            Duration::from_secs(20),
        ));
        (Primary::new(1, store, status, reads), dir)
    }

    /// Every question about lease 7.
    const QUESTIONS: [Question; 2] = [Question::KeepAlive(7), Question::TimeToLive(7, false)];

    /// The answer, while `quorum` acts as the coordinator of reads.
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

    /// Goal: a member that steps down while it waits for the quorum does not answer from deadlines
    /// that it no longer keeps. Method: the lessor is demoted in between.
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

    /// Goal: the answer includes a change that another member has acknowledged. Method: this
    /// member's own commit index is 5; the quorum knows entry 6, which grants one lease and revokes
    /// another.
    #[tokio::test]
    async fn everything_that_a_quorum_has_committed_is_applied_before_the_answer() {
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
                // Half a second from now, so that a whole minute remains at the time of the answer.
                let soon = clock::now() + Duration::from_millis(500);
                primary.store.lessor().add(8, 60, soon).unwrap();
                primary.status.set_applied(6);
            };
            assert_eq!(asked(&primary, question, quorum).await, answer, "{question:?}");
        }
    }
}
