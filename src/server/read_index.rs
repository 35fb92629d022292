//! Linearizable reads: which index is committed now, as a quorum confirms?
//!
//! ```text
//!   reads that arrive while a round is in progress share the next one
//!     read ─┐
//!     read ─┼─▶ round n ──ReadIndex──▶ raft ──heartbeats──▶ quorum ──▶ index ──▶ all continue
//!     read ─┘      │ 500 ms: ask again, under a new id
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

use super::{Error, ids::RequestIds, propose::refused};
use crate::{
    clock,
    raft::{
        Leadership, Status,
        inbox::{Inbox, Input},
        node::ReadRound,
    },
    set, stage, trace,
};

/// How long an attempt may take before the next one begins (etcd: readIndexRetryTime).
const RETRY: Duration = Duration::from_millis(500);

/// A confirmed index, as each read of the round gets it.
#[derive(Clone, Copy, Debug)]
struct Confirmed {
    round: u64,
    index: u64,
    /// The read's position among the reads of the round, from 0.
    place: usize,
}

type Waiter = oneshot::Sender<Result<Confirmed, Error>>;

/// Confirms reads, many in one round.
#[derive(Debug)]
pub struct ReadIndex {
    status: Arc<Status>,
    /// How long a round may take, and how long a read may then wait for apply.
    request_timeout: Duration,
    /// The reads of the next round.
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    reads: Vec<Waiter>,
    is_kept: bool,
}

impl ReadIndex {
    /// Confirms nothing until a [`Coordinator`] runs.
    pub fn new(status: Arc<Status>, request_timeout: Duration) -> Self {
        Self { status, request_timeout, waiting: Mutex::default(), wake: Notify::new() }
    }

    /// Returns when this member has applied everything that was committed anywhere before the call.
    pub(super) async fn linearize(&self, id: u64) -> Result<(), Error> {
        let index = self.committed(id).await?;
        let applied = self.status.applied();
        if index <= applied {
            let _span = stage!(ReadWaitApplied, id, index = index, applied = applied);
            return Ok(());
        }
        let _span = stage!(ReadWaitApplied, id, index = index, applied = applied).begun();
        match timeout(self.request_timeout, self.applied(index)).await {
            Ok(result) => result,
            Err(_) => Err(Error::TimeoutWaitAppliedIndex),
        }
    }

    /// Asks a quorum, in a round that begins after this call, and returns the index that was
    /// committed then.
    pub(super) async fn committed(&self, id: u64) -> Result<u64, Error> {
        let mut span = stage!(ReadIndexWait, id).begun();
        let (sender, receiver) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock().expect("nobody panics while holding it");
            waiting.is_kept |= trace::kept(id);
            waiting.reads.push(sender);
        }
        self.wake.notify_one();
        let confirmed = receiver.await.unwrap_or(Err(Error::Stopped));
        match &confirmed {
            Ok(confirmed) => {
                span.link(confirmed.round);
                set!(span, ReadIndexWait, round = confirmed.round, place = confirmed.place);
            }
            Err(_) => span.flag(trace::FLAG_ERROR),
        }
        confirmed.map(|confirmed| confirmed.index)
    }

    /// Returns once this member has applied the entry at `index`, however long that takes.
    pub(super) async fn applied(&self, index: u64) -> Result<(), Error> {
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
        for read in std::mem::take(&mut *self.waiting.lock().unwrap()).reads {
            let _ = read.send(result.map(|index| Confirmed { round: 1, index, place: 0 }));
        }
    }
}

/// Runs the rounds, one at a time.
pub(crate) struct Coordinator {
    pub(crate) reads: Arc<ReadIndex>,
    pub(crate) ids: Arc<RequestIds>,
    /// To the raft thread.
    pub(crate) inbox: Inbox,
    /// From the raft thread, which closes it when it ends.
    pub(crate) answers: UnboundedReceiver<ReadRound>,
}

impl Coordinator {
    /// Runs until raft's side of the channel closes.
    pub(crate) async fn run(mut self) {
        loop {
            self.reads.wake.notified().await;
            let Waiting { reads, is_kept } = std::mem::take(
                &mut *self.reads.waiting.lock().expect("nobody panics while holding it"),
            );
            if reads.is_empty() {
                continue;
            }
            let result = self.round(reads.len(), is_kept).await;
            for (place, read) in reads.into_iter().enumerate() {
                // A read whose client has gone needs no answer.
                let _ = read.send(result.map(|(round, index)| Confirmed { round, index, place }));
            }
            if result == Err(Error::Stopped) {
                return;
            }
        }
    }

    /// Asks until an answer comes. Returns the answered attempt's id and the index.
    async fn round(&mut self, reads: usize, is_kept: bool) -> Result<(u64, u64), Error> {
        let mut leadership = self.reads.status.leadership();
        let start = (clock::now(), *leadership.borrow_and_update());
        let mut asked = Vec::new();
        loop {
            let id = self.ids.next(is_kept);
            asked.push(id);
            let mut span = stage!(ReadIndexRound, id, reads = reads, attempt = asked.len()).begun();
            match self.attempt(&asked, (&mut leadership, start.1)).await {
                Ok(Some(answer)) => {
                    span.set_id(answer.round);
                    set!(span, ReadIndexRound, index = answer.index, term = answer.term);
                    return Ok((answer.round, answer.index));
                }
                Ok(None) if !self.gave_up(start.0) => {}
                failed => {
                    span.flag(trace::FLAG_ERROR);
                    return Err(failed.err().unwrap_or(Error::Timeout));
                }
            }
        }
    }

    /// Asks raft under the newest of these ids, and waits for an answer to any of them. `None` when
    /// it is time to ask again.
    async fn attempt(
        &mut self,
        asked: &[u64],
        (leadership, before): (&mut watch::Receiver<Leadership>, Leadership),
    ) -> Result<Option<ReadRound>, Error> {
        let round = *asked.last().expect("an id was made for this attempt");
        self.inbox.offer(Input::ReadIndex { round }).map_err(refused)?;
        tokio::select! {
            answer = answer_to(asked, &mut self.answers) => {
                let answer = answer?;
                // The leader may have changed since raft handed the answer over; then it is void.
                let now = *leadership.borrow();
                let is_good = now.term == answer.term && now.leader != 0;
                if is_good { Ok(Some(answer)) } else { Err(Error::LeaderChanged) }
            }
            changed = leadership.changed() => {
                changed.map_err(|_| Error::Stopped)?;
                let now = *leadership.borrow_and_update();
                // To learn of a leader is no change; to lose or replace one is.
                let is_lost = before.leader != 0 && before != now;
                if is_lost { Err(Error::LeaderChanged) } else { Ok(None) }
            }
            () = tokio::time::sleep(RETRY) => Ok(None),
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
