//! Reads the answers of ranges and transactions, and first waits for room where they need it.
//!
//! ```text
//!   Question ──▶ a blocking thread: plan, rows ──▶ Large, whose rope is sent in pieces
//!                     ▲              │
//!                     └── a place ◀──┘ not small, and no room
//! ```
//!
//! The key space ([`super::mvcc`]) knows which rows an answer has, and [`super::answer`] how many
//! of them it may keep. The two meet here: the key space plans and reads a [`Question`], and a
//! [`Writer`] encodes the rows. Rows that were only measured are read again with
//! [`AnswerReader::read_rows`]. A write that reads asks with [`AnswerReader::room_for`] before it
//! is proposed, because afterwards it cannot be refused.

#[cfg(test)]
mod tests;

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    Error,
    answer::{
        Answer, Connection, Large, PIECE, Seat,
        meter::Meter,
        rope::Rows,
        writer::{Stop, Writer},
    },
    error::note,
    long_reads::LongReads,
    mvcc::{
        KvResponse, Reply, Store,
        plan::Plan,
        read_txn::{SHORT_ROWS_MAX, note_range},
        reader::Source,
        reply::{TxnReply, write_range},
    },
};
use crate::{
    pb::etcdserverpb::{RangeRequest, TxnRequest},
    stage,
};

/// The reads that an answer is made of.
#[derive(Debug)]
pub(crate) enum Question {
    /// A range, with its plan if one was made before its answer turned out not to be small.
    Range(RangeRequest, Option<Plan>),
    /// A read-only transaction; with its plan, as for a range.
    Txn(TxnRequest, Option<TxnReply>),
    /// The reply to a write, which apply has planned.
    Planned(Reply),
}

impl Question {
    /// Bytes of its plan, or an upper limit if it is not made yet.
    fn plan_bytes(&self, store: &Store) -> usize {
        match self {
            Question::Range(range, _) => store.plan_bytes(std::iter::once(range.clone())),
            Question::Txn(txn, _) => store.txn_plan_bytes(txn),
            Question::Planned(reply) => reply.bytes(),
        }
    }

    /// Takes the plan of a read. If the answer must wait for room, the read is planned again after
    /// the wait, because a plan holds rows of the write buffer that are not counted.
    fn take_plan(&mut self) -> Option<Reply> {
        match self {
            Question::Range(_, plan) => plan.take().map(Reply::Range),
            Question::Txn(_, plan) => plan.take().map(Reply::Txn),
            Question::Planned(_) => None,
        }
    }

    /// Reads the answer. If that fails, it can be repeated. `planned` counts the plans so far.
    fn read(
        &mut self,
        store: &Store,
        (id, planned_before): (u64, &mut u64),
        meter: Meter,
    ) -> Result<Large, Failed> {
        let client = meter.client();
        let planned = self.take_plan();
        *planned_before += u64::from(planned.is_some());
        let is_read = !matches!(self, Question::Planned(_));
        // Other calls of the client may have been read while this one waited for a thread.
        if is_read && !meter.has_place() && !client.is_ready() {
            return Err(Failed::Unready);
        }
        let plan = planned.as_ref().map_or_else(|| self.plan_bytes(store), Reply::bytes);
        let mut writer = Writer::new(meter);
        // The writer keeps the reason for a break.
        let written = match writer.plan(plan) {
            ControlFlow::Continue(()) => {
                self.write(store, (id, planned_before), (&mut writer, planned))?
            }
            ControlFlow::Break(()) => 0,
        };
        let finished = writer.finish().map_err(|stop| Failed::Stopped(stop, plan))?;
        Ok(Large::new(id, finished, &client, (written, is_read)))
    }

    /// Plans the answer, unless that is done, and writes it. Returns the revision for its header.
    fn write(
        &mut self,
        store: &Store,
        (id, planned_before): (u64, &mut u64),
        (writer, mut planned): (&mut Writer, Option<Reply>),
    ) -> Result<i64, Error> {
        let source = Source::Published(store.backend());
        let reply = match (self, &mut planned) {
            (_, Some(reply)) => reply,
            (Question::Range(range, _), None) => {
                // One stage for planning and reading.
                let mut span = stage!(MvccRange, id);
                let plan = store.plan_range(id, range, planned_before);
                let mut plan = note_range(&mut span, range, plan)?;
                match writer.plan(plan.bytes()) {
                    ControlFlow::Continue(()) => {
                        let _ = write_range(&mut plan, source, writer, &mut span);
                    }
                    // Once there is room, it is planned again.
                    ControlFlow::Break(()) => span.discard(),
                }
                return Ok(plan.revision());
            }
            (Question::Txn(txn, _), None) => {
                planned.insert(Reply::Txn(store.plan_txn(id, txn, planned_before)?))
            }
            (Question::Planned(reply), None) => reply,
        };
        if writer.plan(reply.bytes()).is_continue() {
            let _ = reply.write(id, source, writer);
        }
        Ok(reply.revision())
    }
}

/// Why an answer was not read.
#[derive(Debug)]
enum Failed {
    Refused(Error),
    /// With the bytes of the plan, or an upper limit.
    Stopped(Stop, usize),
    /// Its client must first read some of its earlier answers.
    Unready,
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
    /// Waits, before a write is proposed, until there is room for its answer, which reads these
    /// ranges. Returns a place in the ledger if the plan may be long.
    pub(super) async fn room_for(
        &self,
        id: u64,
        ranges: impl Iterator<Item = RangeRequest>,
        from: &Arc<Connection>,
    ) -> Result<Option<Seat>, Error> {
        let mut ranges = ranges.filter(|range| !range.range_end.is_empty()).peekable();
        let plan = if ranges.peek().is_none() { 0 } else { self.store.plan_bytes(ranges) };
        if plan <= from.small() && from.is_free() {
            return Ok(None);
        }
        from.free(id, plan, self.request_timeout).await
    }

    /// Reads the reply that apply has planned for request `id` of this connection. The write has
    /// been carried out, so the answer gets a place even if it has waited for one in vain.
    pub(super) async fn finish(
        &self,
        id: u64,
        mut reply: Reply,
        from: &Arc<Connection>,
        seat: Option<Seat>,
    ) -> Result<Answer<KvResponse>, Error> {
        if reply.rows() <= SHORT_ROWS_MAX {
            let source = Source::Published(self.store.backend());
            if let Some(response) = reply.whole(id, source, &mut from.small()) {
                return Ok(Answer::Whole(response));
            }
        }
        self.read_large_in(id, Question::Planned(reply), from, seat).await.map(Answer::Large)
    }

    /// Reads an answer that may be large, on a blocking thread.
    pub(super) async fn read_large(
        &self,
        id: u64,
        question: Question,
        from: &Arc<Connection>,
    ) -> Result<Large, Error> {
        self.read_large_in(id, question, from, None).await
    }

    async fn read_large_in(
        &self,
        id: u64,
        mut question: Question,
        from: &Arc<Connection>,
        mut seat: Option<Seat>,
    ) -> Result<Large, Error> {
        let patience = self.request_timeout;
        let mut planned = 0;
        loop {
            let meter = Meter::new(from, seat.take());
            let read = move |store: &Store| {
                (question.read(store, (id, &mut planned), meter), question, planned)
            };
            let (result, again, plans) = self.long_reads.read(id, read).await?;
            match result {
                Ok(large) => return Ok(large),
                Err(Failed::Refused(error)) => return Err(error),
                Err(Failed::Unready) => from.ready(id, patience).await?,
                Err(Failed::Stopped(Stop::TooLong(bytes), _)) => {
                    return Err(Error::AnswerTooLong { bytes });
                }
                // With a place in the ledger this does not happen again.
                Err(Failed::Stopped(Stop::Full, plan)) => {
                    seat = Some(match again {
                        Question::Planned(_) => from.enter_at_last(id, plan, patience).await,
                        _ => from.enter(id, plan, patience).await?,
                    });
                }
            }
            (question, planned) = (again, plans);
        }
    }

    /// Reads a portion of the rows that were not kept, and encodes it. Returns the rows that are
    /// left. Fails if a compaction has removed one of those it reads.
    pub(crate) async fn read_rows(
        &self,
        id: u64,
        mut rows: Rows,
    ) -> Result<(Rows, Vec<Bytes>), Error> {
        let read = move |store: &Store| {
            let mut span = stage!(AnswerPiece, id, revision = rows.at());
            let (mut encoder, mut count, mut bytes) = (rows.encoder(), 0, 0);
            let read = store.reread_rows(id, rows.at(), rows.keys(), |row| {
                count += 1;
                bytes += row.len();
                encoder.push(row);
                if PIECE <= bytes { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            note(&mut span, read)?;
            rows.pass(count);
            let left = rows.keys().len();
            crate::set!(span, AnswerPiece, rows = count, bytes = bytes, left = left);
            Ok((rows, encoder.finish()))
        };
        self.long_reads.read(id, read).await?
    }
}
