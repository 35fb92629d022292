//! Answers that may be large: how they are read, and what bounds the memory that they take.
//!
//! What a client asks for and does not read stays here, and a client may ask for as much as it
//! likes. So the bytes of answers in flight are counted, from the moment at which they are read to
//! the one at which the socket has taken them, for each connection and for the member:
//!
//! ```text
//!   small (to 512 KiB) ── read at once ─────────────────────────────▶ a sum; who leaves too much of
//!                                                                     it unread reads nothing more
//!             more ──┐
//!                    ▼
//!                 ledger: a window ──▶ rows are kept while there is room, ──▶ [`rope`], in pieces
//!                    │                 and measured when there is none          │
//!                    └─ none? in order                                          ▼
//!                                            what was only measured is read again when it can be sent
//! ```
//!
//! So most answers are read once, as a whole. When clients do not read theirs, what the others ask
//! for is read twice, and the second time no faster than it is sent. Only if so many do not read
//! that there is no window left, others wait; and then answers that make no progress are ended.
//!
//! An answer begins with its **plan**: 17 bytes a row, and more while rows are sorted or in the write
//! buffer. A list of many small keys is mostly plan, and what of it stands for rows that were not
//! kept stays until they are sent. So it is counted with the window, before it is made by what the
//! index says that it may become ([`Store::plan_bytes`]), and then exactly.
//!
//! A write that reads cannot be refused any more when its answer is read. So it asks for room before
//! it is proposed, and for that of its plan, which apply makes, too. Afterwards it waits for a place
//! like others, but in the end it gets one ([`Connection::enter_at_last`]). It waits no longer than a
//! request may, because its plan holds a snapshot of the file.
//!
//! Invariants
//! * What is in flight, plans included, is at most what [`room::LIMITS`] allows, but for: one row an
//!   answer; an order by values, which needs all rows at once; the windows of writes that were under
//!   way when the room became scarce, and what their plans have grown since; and one plan that is
//!   longer than a connection's limit, by how much it is longer.
//! * A small read never waits because of a large one.
//! * Nobody waits who holds anything, but for the plan of a write; see [`ledger`].
//!
//! What is left out: the events of watchers, which are bounded by the queues of their streams
//! (`mvcc::watch`). Answers of other services are small ones; those that carry what clients have
//! stored wait like ranges until their client has read enough ([`Connection::ready`]).

pub mod ledger;
pub mod meter;
pub mod room;
pub mod rope;
#[cfg(test)]
mod tests;
pub mod writer;

use std::{
    ops::ControlFlow,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;

pub use self::room::{Connection, Room, Share};
use self::{
    meter::Meter,
    rope::{Rope, Rows},
    writer::{Stop, Writer},
};
use super::{Error, long_reads::LongReads};
use crate::{
    pb::etcdserverpb::{RangeRequest, TxnRequest},
    server::mvcc::{KvResponse, Reply, Store, reader::Source, reply::write_range},
    stage, trace,
};

/// How much is read again at a time, and a row.
pub const PIECE: usize = 1 << 20;
/// Replies with so many rows are read at once; more of them are read where nobody waits.
const SHORT: usize = 128;

/// What a request is answered with.
#[derive(Debug)]
pub enum Answer<T> {
    /// A message.
    Whole(T),
    /// Pieces.
    Large(Large),
}

impl<T> Answer<T> {
    /// Changes the message.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Answer<U> {
        match self {
            Answer::Whole(message) => Answer::Whole(change(message)),
            Answer::Large(large) => Answer::Large(large),
        }
    }
}

/// An encoded answer without its header.
#[derive(Clone, Debug)]
pub struct Large {
    /// The request.
    pub id: u64,
    /// How many bytes it has in all.
    pub len: usize,
    /// For the header.
    pub revision: i64,
    /// What is left to send.
    rope: Arc<Mutex<Rope>>,
    /// Who asked.
    client: Arc<Connection>,
    /// Its place in the ledger; none if it turned out to be small.
    share: Option<Arc<Share>>,
    /// Whether asking again does no harm: nothing was written.
    pub is_read: bool,
    /// By how much what was read again last is longer than the window.
    excess: usize,
}

impl Large {
    /// What is left to send.
    pub fn rope(&self) -> MutexGuard<'_, Rope> {
        self.rope.lock().expect("nobody panics while holding it")
    }

    /// A piece that is handed to HTTP/2, and counted until it is written. `is_kept`: the answer has
    /// kept it from the beginning.
    pub fn piece(&self, bytes: Bytes, is_kept: bool) -> Bytes {
        match &self.share {
            Some(share) => share.piece(bytes, is_kept),
            None => self.client.small_piece(bytes),
        }
    }

    /// The member begins to read what is to be sent next: the client is not to blame for the time.
    pub fn reads(&mut self) {
        let excess = std::mem::take(&mut self.excess);
        self.share.iter().for_each(|share| share.pause(excess));
    }

    /// It is read: so many bytes.
    pub fn read(&mut self, bytes: usize) {
        if let Some(share) = &self.share {
            self.excess = bytes.saturating_sub(share.window());
            share.resume(self.excess);
        }
    }
}

/// What is read for an answer.
#[derive(Debug)]
pub(crate) enum Question {
    /// A range, now.
    Range(RangeRequest),
    /// A transaction that only reads, now.
    Txn(TxnRequest),
    /// What apply has planned.
    Planned(Reply),
}

impl Question {
    /// What its plan takes: at most, if it is not made yet.
    fn plan_bytes(&self, store: &Store) -> usize {
        match self {
            Question::Range(range) => store.plan_bytes(std::iter::once(range.clone())),
            Question::Txn(txn) => store.txn_plan_bytes(txn),
            Question::Planned(reply) => reply.bytes(),
        }
    }

    /// Reads the answer. Afterwards it can be asked again.
    fn read(&mut self, store: &Store, id: u64, meter: Meter) -> Result<Large, Failed> {
        let client = meter.client();
        let is_read = !matches!(self, Question::Planned(_));
        let plan = self.plan_bytes(store);
        let mut writer = Writer::new(meter);
        // Why it breaks, the writer knows.
        let written = match writer.plan(plan) {
            ControlFlow::Continue(()) => self.write(store, id, &mut writer)?,
            ControlFlow::Break(()) => 0,
        };
        let (rope, len, share) = writer.finish().map_err(|stop| Failed::Stopped(stop, plan))?;
        let rope = Arc::new(Mutex::new(rope));
        if let Some(share) = &share {
            share.send(&rope);
        }
        let (revision, share) = (written, share.map(Arc::new));
        Ok(Large { id, len, revision, rope, client, share, is_read, excess: 0 })
    }

    /// Plans the answer, if that is not done, and writes it. Returns the revision for its header.
    fn write(&mut self, store: &Store, id: u64, writer: &mut Writer) -> Result<i64, Error> {
        let source = Source::Published(store.backend());
        let mut planned;
        let reply = match self {
            Question::Range(range) => {
                // One step for both halves.
                let mut span = stage!(MvccRange, id);
                let mut plan = store.plan_range(id, range)?;
                if writer.plan(plan.bytes()).is_continue() {
                    let _ = write_range(&mut plan, source, writer, &mut span);
                }
                return Ok(plan.revision());
            }
            Question::Txn(txn) => {
                planned = Reply::Txn(store.plan_txn(id, txn)?);
                &mut planned
            }
            Question::Planned(reply) => reply,
        };
        if writer.plan(reply.bytes()).is_continue() {
            let _ = reply.write(id, source, writer);
        }
        Ok(reply.revision())
    }
}

/// Why an answer was not read.
enum Failed {
    Refused(Error),
    /// And what the plan takes at most.
    Stopped(Stop, usize),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed::Refused(error)
    }
}

/// Reads answers, and first waits for room where they need it.
pub(crate) struct AnswerReader {
    pub(crate) store: Arc<Store>,
    pub(crate) long_reads: Arc<LongReads>,
    /// How long an answer may wait for room.
    pub(crate) request_timeout: Duration,
}

impl AnswerReader {
    /// Waits until there is room for the answer to a write that reads these ranges, before it is
    /// proposed. Returns a place, if its plan may be long.
    pub(super) async fn room_for(
        &self,
        id: u64,
        ranges: impl Iterator<Item = RangeRequest>,
        from: &Arc<Connection>,
    ) -> Result<Option<Share>, Error> {
        let mut ranges = ranges.filter(|range| !range.range_end.is_empty()).peekable();
        let plan = if ranges.peek().is_none() { 0 } else { self.store.plan_bytes(ranges) };
        if plan <= from.small() && from.is_free() {
            return Ok(None);
        }
        from.free(id, plan, self.request_timeout).await
    }

    /// Reads what apply has planned for request `id` of a client of this connection. What has been
    /// carried out is answered: it waits for a place, and then it gets one.
    pub(super) async fn finish(
        &self,
        id: u64,
        mut reply: Reply,
        (from, share): (&Arc<Connection>, Option<Share>),
    ) -> Result<Answer<KvResponse>, Error> {
        if reply.rows() <= SHORT {
            let source = Source::Published(self.store.backend());
            if let Some(response) = reply.whole(id, source, &mut from.small()) {
                return Ok(Answer::Whole(response));
            }
        }
        self.read_large_in(id, Question::Planned(reply), (from, share)).await.map(Answer::Large)
    }

    /// Reads an answer that may be large, away from the thread that serves requests.
    pub(super) async fn read_large(
        &self,
        id: u64,
        question: Question,
        from: &Arc<Connection>,
    ) -> Result<Large, Error> {
        self.read_large_in(id, question, (from, None)).await
    }

    async fn read_large_in(
        &self,
        id: u64,
        mut question: Question,
        (from, mut share): (&Arc<Connection>, Option<Share>),
    ) -> Result<Large, Error> {
        let patience = self.request_timeout;
        loop {
            let meter = Meter::new(from, share.take());
            let read = move |store: &Store| (question.read(store, id, meter), question);
            let (result, again) = self.long_reads.read(id, read).await?;
            match result {
                Ok(large) => return Ok(large),
                Err(Failed::Refused(error)) => return Err(error),
                Err(Failed::Stopped(Stop::TooLong(bytes), _)) => {
                    return Err(Error::AnswerTooLong { bytes });
                }
                // Once it has its place it cannot happen again.
                Err(Failed::Stopped(Stop::Full, plan)) => {
                    share = Some(match again {
                        Question::Planned(_) => from.enter_at_last(id, plan, patience).await,
                        _ => from.enter(id, plan, patience).await?,
                    });
                }
            }
            question = again;
        }
    }

    /// Reads some of the rows again that were not kept, and encodes them. Returns those that are
    /// left. Fails if a compaction has taken one of them away.
    pub(crate) async fn read_rows(
        &self,
        id: u64,
        mut rows: Rows,
    ) -> Result<(Rows, Vec<Bytes>), Error> {
        let read = move |store: &Store| {
            let mut span = stage!(AnswerPiece, id, revision = rows.at());
            let (mut encoder, mut count, mut bytes) = (rows.encoder(), 0, 0);
            let read = store.rows_again(id, rows.at(), rows.keys(), |row| {
                count += 1;
                bytes += row.len();
                encoder.push(row);
                if PIECE <= bytes { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            if read.is_err() {
                span.flag(trace::FLAG_ERROR);
            }
            read?;
            rows.pass(count);
            let left = rows.keys().len();
            crate::set!(span, AnswerPiece, rows = count, bytes = bytes, left = left);
            Ok((rows, encoder.finish()))
        };
        self.long_reads.read(id, read).await?
    }
}
