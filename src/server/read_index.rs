//! Linearizable reads: which index is committed now, as a quorum confirms?
//!
//! ```text
//!   reads that come while a round is under way wait together for the next one
//!     read ─┐
//!     read ─┼─▶ round n ──ReadIndex──▶ raft ──heartbeats──▶ quorum ──▶ index ──▶ all go on
//!     read ─┘      │ 500 ms: ask again, under a new id
//! ```
//!
//! One coordinator, at most one round in flight. Every attempt has an id of its own: an id that is
//! used twice lets the answer to an old question through, which etcd shipped until 2026 (20418).
//! Any attempt's answer serves the round, because each was asked after its reads had come. Before
//! the reads go on, this member looks again: its term must still be that in which it handed the
//! answer over, and there must be a leader.
//! etcd: `linearizableReadLoop`.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, mpsc::UnboundedReceiver, oneshot, watch},
    time::timeout,
};

use super::{Error, Server, propose::refused};
use crate::{
    clock,
    raft::{Leadership, inbox::Input, node::ReadRound},
    set, stage, trace,
};

/// How long an attempt waits before the next one (etcd: readIndexRetryTime).
const RETRY: Duration = Duration::from_millis(500);

/// The answer to a read that waited.
#[derive(Clone, Copy, Debug)]
struct Confirmed {
    round: u64,
    index: u64,
    place: usize,
}

type Waiter = oneshot::Sender<Result<Confirmed, Error>>;

/// The reads that wait for the next round.
#[derive(Debug, Default)]
pub struct ReadIndex {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    reads: Vec<Waiter>,
    is_kept: bool,
}

impl Server {
    /// Returns when this member has applied everything that was committed anywhere before the call.
    pub(crate) async fn linearize(&self, id: u64) -> Result<(), Error> {
        let index = self.reads.committed(id).await?;
        let applied = self.status.applied();
        if index <= applied {
            let _span = stage!(ReadWaitApplied, id, index = index, applied = applied);
            return Ok(());
        }
        let _span = stage!(ReadWaitApplied, id, index = index, applied = applied).begun();
        let mut progress = self.status.watch_applied();
        // Apply may have passed the index before this receiver existed; then nobody will tell it.
        let reached = async {
            while self.status.applied() < index {
                if progress.changed().await.is_err() {
                    return Err(Error::Stopped);
                }
            }
            Ok(())
        };
        match timeout(self.settings.request_timeout, reached).await {
            Ok(result) => result,
            Err(_) => Err(Error::TimeoutWaitAppliedIndex),
        }
    }
}

impl ReadIndex {
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

    /// In place of the coordinator: answers those who wait for the next round.
    #[cfg(test)]
    pub(super) async fn answer(&self, result: Result<u64, Error>) {
        self.wake.notified().await;
        for read in std::mem::take(&mut *self.waiting.lock().unwrap()).reads {
            let _ = read.send(result.map(|index| Confirmed { round: 1, index, place: 0 }));
        }
    }
}

/// Runs the rounds, one after the other, until raft's side of the channel closes.
pub async fn coordinate(server: Arc<Server>, mut answers: UnboundedReceiver<ReadRound>) {
    loop {
        server.reads.wake.notified().await;
        let Waiting { reads, is_kept } = std::mem::take(
            &mut *server.reads.waiting.lock().expect("nobody panics while holding it"),
        );
        if reads.is_empty() {
            continue;
        }
        let result = round(&server, &mut answers, reads.len(), is_kept).await;
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
async fn round(
    server: &Server,
    answers: &mut UnboundedReceiver<ReadRound>,
    reads: usize,
    is_kept: bool,
) -> Result<(u64, u64), Error> {
    let mut leadership = server.status.leadership();
    let start = (clock::now(), *leadership.borrow_and_update());
    let mut asked = Vec::new();
    loop {
        let id = server.ids.next(is_kept);
        asked.push(id);
        let mut span = stage!(ReadIndexRound, id, reads = reads, attempt = asked.len()).begun();
        let attempt = attempt(server, &asked, answers, (&mut leadership, start.1)).await;
        match attempt {
            Ok(Some(answer)) => {
                span.set_id(answer.round);
                set!(span, ReadIndexRound, index = answer.index, term = answer.term);
                return Ok((answer.round, answer.index));
            }
            Ok(None) if !gave_up(server, start.0) => {}
            failed => {
                span.flag(trace::FLAG_ERROR);
                return Err(failed.err().unwrap_or(Error::Timeout));
            }
        }
    }
}

/// Asks raft under the newest of these ids, and waits for an answer to any of them. `None` when it
/// is time to ask again.
async fn attempt(
    server: &Server,
    asked: &[u64],
    answers: &mut UnboundedReceiver<ReadRound>,
    (leadership, before): (&mut watch::Receiver<Leadership>, Leadership),
) -> Result<Option<ReadRound>, Error> {
    let round = *asked.last().expect("an id was made for this attempt");
    server.inbox.offer(Input::ReadIndex { round }).map_err(refused)?;
    tokio::select! {
        answer = answer_to(asked, answers) => {
            let answer = answer?;
            // A round that was answered while the leader changed is not to be believed.
            let now = *leadership.borrow();
            let is_good = now.term == answer.term && now.leader != 0;
            if is_good { Ok(Some(answer)) } else { Err(Error::LeaderChanged) }
        }
        changed = leadership.changed() => {
            changed.map_err(|_| Error::Stopped)?;
            let now = *leadership.borrow_and_update();
            // Learning of the first leader is no change; losing or replacing one is.
            let is_lost = before.leader != 0 && before != now;
            if is_lost { Err(Error::LeaderChanged) } else { Ok(None) }
        }
        () = tokio::time::sleep(RETRY) => Ok(None),
    }
}

fn gave_up(server: &Server, start: Instant) -> bool {
    server.settings.request_timeout <= clock::now().duration_since(start)
}

/// The first answer to one of these attempts; answers to earlier rounds are thrown away.
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
