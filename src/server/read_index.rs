//! Linearizable reads: which index is committed now, as a quorum confirms?
//!
//! ```text
//!   reads that arrive while a round is in progress share the next one
//!     read ─┐
//!     read ─┼─▶ round n ──ReadIndex──▶ raft ──heartbeats──▶ quorum ──▶ index ──▶ all continue
//!     read ─┘      │ 500 ms, or a leader appears: ask again, under a new id
//! ```
//!
//! One coordinator runs the rounds, one at a time. Every attempt has its own id: if an id is used
//! twice, the answer to an old question can pass for one to a new question, a fault that etcd
//! shipped until 2026 (20418). The answer to any attempt serves the round, because each attempt was
//! made after its reads had arrived. Before the reads continue, this member checks again: its term
//! must still be the one in which raft handed the answer over, and there must be a leader.
//! etcd: `linearizableReadLoop`.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, mpsc::UnboundedReceiver, oneshot, watch},
    time::timeout,
};

use super::{Error, ids::RequestIds, propose::refused, wait_step::WaitStep};
use crate::{
    clock,
    metrics::recorded,
    raft::{
        Leadership, Status,
        inbox::{Inbox, Input},
        node::ReadRound,
    },
    set, stage,
    trace::{self, Reason},
};

/// How long an attempt may take before the next one begins (etcd: readIndexRetryTime).
const RETRY: Duration = Duration::from_millis(500);

/// The end of a round, as each of its reads gets it.
#[derive(Clone, Copy, Debug)]
struct Ended {
    /// The round: the id of its first attempt.
    round: u64,
    /// The read's position among the reads of the round, from 0.
    place: usize,
    result: Result<Confirmed, Error>,
    /// The raw tick at which the coordinator handed it over, for the trace.
    since: u64,
}

/// An index that a quorum has confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Confirmed {
    /// The id of the attempt that was answered.
    attempt: u64,
    index: u64,
}

/// How an attempt ended that has not failed.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    Answered(ReadRound),
    /// The next attempt begins, for this reason.
    AskAgain(Reason),
}

type Waiter = oneshot::Sender<Ended>;

/// Confirms reads, many in one round.
#[derive(Debug)]
pub struct ReadIndex {
    status: Arc<Status>,
    ids: Arc<RequestIds>,
    /// How long a round may take, and how long a read may then wait for apply.
    request_timeout: Duration,
    /// The reads of the next round.
    next: Mutex<NextRound>,
    wake: Notify,
}

/// The reads of the next round. Its id is made when the first read arrives, so that each read names
/// its round from the start; and made again when the first arrives whose trace is kept.
#[derive(Debug, Default)]
struct NextRound {
    reads: Vec<Waiter>,
    round: u64,
}

impl ReadIndex {
    /// Confirms nothing until a [`Coordinator`] runs.
    pub(crate) fn new(
        status: Arc<Status>,
        ids: Arc<RequestIds>,
        request_timeout: Duration,
    ) -> Self {
        Self { status, ids, request_timeout, next: Mutex::default(), wake: Notify::new() }
    }

    // ANCHOR: linearize
    /// Returns when this member has applied everything that was committed anywhere before the call.
    pub(super) async fn linearize(&self, id: u64) -> Result<(), Error> {
        let index = self.committed(id).await?;
        self.wait_applied(id, index, self.request_timeout).await
    }
    // ANCHOR_END: linearize

    /// Returns when this member has applied the entry at `index`, which a round has confirmed for
    /// this request. Fails after `patience`.
    pub(super) async fn wait_applied(
        &self,
        id: u64,
        index: u64,
        patience: Duration,
    ) -> Result<(), Error> {
        let applied = self.status.applied();
        if index <= applied {
            let _span = stage!(ReadWaitApplied, id, index = index, applied = applied);
            return Ok(());
        }
        let span = stage!(ReadWaitApplied, id, index = index, applied = applied);
        let mut step = WaitStep::begin(span);
        let result = match timeout(patience, self.applied(index)).await {
            Ok(result) => result,
            Err(_) => Err(Error::TimeoutWaitAppliedIndex),
        };
        step.end(result)
    }

    /// Asks a quorum, in a round that begins after this call, and returns the index that was
    /// committed then.
    pub(super) async fn committed(&self, id: u64) -> Result<u64, Error> {
        let (sender, receiver) = oneshot::channel();
        let round = self.join(id, sender);
        let mut step = WaitStep::begin(stage!(ReadIndexWait, id, round = round));
        self.wake.notify_one();
        let Ok(ended) = receiver.await else { return step.end(Err(Error::Stopped)) };
        let woken = trace::waited_ns(ended.since);
        set!(step.span, ReadIndexWait, round = ended.round, place = ended.place, woken = woken);
        let confirmed = step.end(ended.result)?;
        step.span.link(confirmed.attempt);
        Ok(confirmed.index)
    }

    /// Joins the next round, and returns its id.
    fn join(&self, id: u64, read: Waiter) -> u64 {
        let mut next = self.next.lock().expect("nobody panics while holding it");
        let is_kept = trace::kept(id);
        if next.reads.is_empty() || is_kept && !trace::kept(next.round) {
            next.round = self.ids.next(is_kept);
        }
        next.reads.push(read);
        next.round
    }

    /// Whether reads wait for the next round.
    fn has_waiting(&self) -> bool {
        !self.next.lock().expect("nobody panics while holding it").reads.is_empty()
    }

    /// Returns once this member has applied the entry at `index`, however long that takes.
    async fn applied(&self, index: u64) -> Result<(), Error> {
        let mut progress = self.status.watch_applied();
        // Checked first, because an earlier entry does not wake this receiver.
        while self.status.applied() < index {
            progress.changed().await.map_err(|_| Error::Stopped)?;
        }
        Ok(())
    }

    /// Answers the reads that wait for the next round, in place of the coordinator.
    #[cfg(test)]
    pub(super) async fn answer(&self, result: Result<u64, Error>) {
        self.wake.notified().await;
        let result = result.map(|index| Confirmed { attempt: 1, index });
        for read in std::mem::take(&mut *self.next.lock().unwrap()).reads {
            let _ = read.send(Ended { round: 1, place: 0, result, since: 0 });
        }
    }
}

/// Runs the rounds, one at a time.
pub(crate) struct Coordinator {
    pub(crate) reads: Arc<ReadIndex>,
    /// To the raft thread.
    pub(crate) inbox: Inbox,
    /// From the raft thread, which closes it when it ends.
    pub(crate) answers: UnboundedReceiver<ReadRound>,
}

impl Coordinator {
    /// Runs until raft's side of the channel closes.
    pub(crate) async fn run(mut self) {
        // The round before, if reads have waited for its end.
        let mut before = 0;
        loop {
            self.reads.wake.notified().await;
            let NextRound { reads, round } = std::mem::take(
                &mut *self.reads.next.lock().expect("nobody panics while holding it"),
            );
            if reads.is_empty() {
                continue;
            }
            recorded::READ_ROUND_READS.observe(reads.len() as u64);
            let result = self.round(round, reads.len(), before).await;
            if result.is_err_and(|error| error != Error::Stopped) {
                recorded::READ_INDEXES_FAILED.increment();
            }
            before = if self.reads.has_waiting() { round } else { 0 };
            let since = trace::handed_over();
            for (place, read) in reads.into_iter().enumerate() {
                // A read whose client has gone needs no answer.
                let _ = read.send(Ended { round, place, result, since });
            }
            if result == Err(Error::Stopped) {
                return;
            }
        }
    }

    /// Asks until an answer comes. The first attempt has the round's id; later ones have ids of
    /// their own, and are linked to the round. `before`: the round that was in progress when the
    /// first of these reads came, or 0.
    async fn round(&mut self, round: u64, reads: usize, before: u64) -> Result<Confirmed, Error> {
        let mut leadership = self.reads.status.leadership();
        let start = (clock::now(), *leadership.borrow_and_update());
        let mut asked = Vec::new();
        loop {
            let id = match asked.is_empty() {
                true => round,
                false => self.reads.ids.next(trace::kept(round)),
            };
            asked.push(id);
            let mut span = stage!(ReadIndexRound, id, reads = reads, attempt = asked.len());
            set!(span, ReadIndexRound, before = before);
            if id != round {
                span.link(round);
            }
            let mut span = span.begun();
            match self.attempt(&asked, &mut leadership, start.1).await {
                Ok(Outcome::Answered(answer)) => {
                    set!(span, ReadIndexRound, index = answer.index, term = answer.term);
                    set!(span, ReadIndexRound, woken = trace::waited_ns(answer.since));
                    if answer.round != id {
                        set!(span, ReadIndexRound, answered = answer.round);
                    }
                    return Ok(Confirmed { attempt: answer.round, index: answer.index });
                }
                Ok(Outcome::AskAgain(why)) if !self.gave_up(start.0) => span.fail(why),
                failed => {
                    let error = failed.err().unwrap_or(Error::Timeout);
                    span.fail(error.reason());
                    return Err(error);
                }
            }
        }
    }

    /// Asks raft under the newest of these ids, and waits for an answer to any of them.
    async fn attempt(
        &mut self,
        asked: &[u64],
        leadership: &mut watch::Receiver<Leadership>,
        before: Leadership,
    ) -> Result<Outcome, Error> {
        let round = *asked.last().expect("an id was made for this attempt");
        let question = Input::ReadIndex { round, since: trace::handed_over() };
        self.inbox.offer(question).map_err(refused)?;
        tokio::select! {
            answer = answer_to(asked, &mut self.answers) => {
                let answer = answer?;
                // The leader may have changed since raft handed the answer over; then it is void.
                let now = *leadership.borrow();
                let is_good = now.term == answer.term && now.leader != 0;
                if is_good { Ok(Outcome::Answered(answer)) } else { Err(Error::LeaderChanged) }
            }
            changed = leadership.changed() => {
                changed.map_err(|_| Error::Stopped)?;
                let now = *leadership.borrow_and_update();
                // To learn of a leader is no change; to lose or replace one is.
                let is_lost = before.leader != 0 && before != now;
                match is_lost {
                    true => Err(Error::LeaderChanged),
                    false => Ok(Outcome::AskAgain(Reason::LeadershipChanged)),
                }
            }
            () = tokio::time::sleep(RETRY) => {
                recorded::SLOW_READ_INDEXES.increment();
                Ok(Outcome::AskAgain(Reason::NoAnswer))
            }
        }
    }

    fn gave_up(&self, start: Instant) -> bool {
        self.reads.request_timeout <= clock::now().duration_since(start)
    }
}

/// The first answer to one of these attempts. Answers to earlier rounds are dropped.
async fn answer_to(
    asked: &[u64],
    answers: &mut UnboundedReceiver<ReadRound>,
) -> Result<ReadRound, Error> {
    while let Some(answer) = answers.recv().await {
        if asked.contains(&answer.round) {
            return Ok(answer);
        }
    }
    Err(Error::Stopped)
}

#[cfg(test)]
mod tests {
    use raft::StateRole;

    use super::*;
    use crate::raft::inbox::inbox;

    /// Goal: an attempt says why the member asks again: nobody has answered in time, or the member
    /// has learned of a leader. Method: a member without a leader, once left alone and once told of
    /// one.
    #[tokio::test]
    async fn an_attempt_says_why_the_member_asks_again() {
        let status = Arc::new(Status::new(0));
        let ids = RequestIds::of_tests();
        let reads = Arc::new(ReadIndex::new(Arc::clone(&status), ids, Duration::from_secs(7)));
        let (inbox, _inputs) = inbox();
        let (_answers, answers) = tokio::sync::mpsc::unbounded_channel();
        let mut coordinator = Coordinator { reads, inbox, answers };
        let mut leadership = status.leadership();
        let none = *leadership.borrow_and_update();

        let ended = coordinator.attempt(&[1], &mut leadership, none).await;
        assert!(matches!(ended, Ok(Outcome::AskAgain(Reason::NoAnswer))), "{ended:?}");

        let led = Leadership { term: 3, leader: 8 };
        status.set_leadership(StateRole::Follower, led, 8);
        let ended = coordinator.attempt(&[1, 2], &mut leadership, none).await;
        assert!(matches!(ended, Ok(Outcome::AskAgain(Reason::LeadershipChanged))), "{ended:?}");

        status.set_leadership(StateRole::Follower, Leadership { term: 4, leader: 0 }, 8);
        let ended = coordinator.attempt(&[1, 2, 3], &mut leadership, led).await;
        assert!(matches!(ended, Err(Error::LeaderChanged)), "{ended:?}");
    }
}
