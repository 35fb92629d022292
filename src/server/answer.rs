//! Answers that may be large: how they are read, and what bounds their memory.
//!
//! An answer stays here until its client has read it, and a client may ask for any amount. So the
//! bytes of answers are counted from the moment they are read until the socket has taken them, for
//! each connection and for the member:
//!
//! ```text
//!   small (to 512 KiB) ── read at once ──────────────────────────▶ a sum; a connection with too much
//!                                                                  unread gets no more answers
//!             more ──┐
//!                    ▼
//!                 ledger: a window ──▶ rows are kept while there is room, ──▶ [`rope`], in pieces
//!                    │                 and measured when there is none          │
//!                    └─ none? in order                                          ▼
//!                                         measured rows are read again when they can be sent
//! ```
//!
//! So most answers are read once, as a whole. A short read that turns out not to be small takes its
//! plan along to a blocking thread. While clients leave answers unread, later ones are
//! read twice, the second time no faster than they are sent. Answers wait only if unread ones have
//! taken all windows; then those without progress are ended.
//!
//! An answer begins with its **plan**: 17 bytes a row, and more while rows are sorted or in the
//! write buffer. The list of many small keys is mostly plan, and the part for rows that were not
//! kept stays until they are sent. So the plan is counted with the window: as an upper limit from
//! the index before it is made ([`Store::plan_bytes`]), and then exactly.
//!
//! Many calls of a connection may wait for the same thing: a read round, a thread for long reads,
//! the leader. Therefore a call checks after its last wait that its client has read enough
//! ([`Connection::ready`]), and its answer is counted before the next call can check. The answer of
//! LeaseTimeToLive comes from the leader, so its bytes are counted before the wait, by the keys
//! that this member knows.
//!
//! A write that reads cannot be refused any more when its answer is read. So it asks for room, also
//! for its plan, before it is proposed. Afterwards its answer waits for a place like others, but
//! gets one in the end ([`Connection::enter_at_last`]): within the request timeout, because its
//! plan holds a snapshot of the file.
//!
//! Invariants
//! * Large answers, plans included, hold at most what [`room::LIMITS`] allows, except: one row an
//!   answer; an order by values, which needs all rows at once; the windows of writes that were in
//!   flight when room became scarce, and what their plans have grown since; and one plan that is
//!   longer than a connection's limit, by the excess.
//! * Small answers hold at most 16 MiB a connection and 64 MiB a member, except: one answer for
//!   each thread that is reading when the limit is reached; 16 KiB, and one answer of that length,
//!   for each connection once the member's limit is reached; keys of a lease that this member has
//!   not applied yet; and frames below 1 KiB, which take less than their streams.
//! * A small read never waits because of a large one.
//! * No call waits for room while it holds any, except for the plan of a write; see [`ledger`].
//!
//! Left out: the events of watchers, which are bounded by the queues of their streams
//! (`mvcc::watch`). Other services have small answers. Those that carry what clients have stored
//! wait like ranges: Leader, Observe, LeaseTimeToLive, LeaseLeases. Those of Lock and Campaign
//! repeat the name in their request; they are counted, and do not wait.

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

pub use self::room::{Connection, Held, Room, Share};
use self::{
    meter::Meter,
    rope::{Rope, Rows},
    writer::{Stop, Writer},
};
use super::{Error, error::note, long_reads::LongReads};
use crate::{
    pb::etcdserverpb::{RangeRequest, TxnRequest},
    server::mvcc::{
        KvResponse, Reply, Store,
        plan::Plan,
        read_txn::{SHORT_ROWS_MAX, note_range},
        reader::Source,
        reply::{TxnReply, write_range},
    },
    stage,
};

/// Bytes of rows that are read again at a time; the last row may exceed them.
pub const PIECE: usize = 1 << 20;

/// The answer to a request.
#[derive(Debug)]
pub enum Answer<T> {
    /// A message.
    Whole(T),
    /// Encoded, and sent in pieces.
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
#[derive(Debug)]
pub struct Large {
    /// The request.
    pub id: u64,
    /// Bytes in all, without the header.
    pub len: usize,
    /// The revision for the header.
    pub revision: i64,
    /// The part that is not sent yet.
    rope: Arc<Mutex<Rope>>,
    /// Its bytes if it turned out to be small, otherwise none.
    held: Held,
    /// Its place in the ledger; `None` if it turned out to be small.
    share: Option<Arc<Share>>,
    /// Whether the client may repeat the request: it has written nothing.
    pub is_read: bool,
    /// Bytes by which the rows that were read again last exceed the window.
    excess: usize,
}

impl Large {
    /// The part that is not sent yet.
    pub fn rope(&self) -> MutexGuard<'_, Rope> {
        self.rope.lock().expect("nobody panics while holding it")
    }

    /// A frame for HTTP/2, counted until it is written. `is_kept`: these bytes were kept when the
    /// answer was read.
    pub fn piece(&mut self, bytes: Bytes, is_kept: bool) -> Bytes {
        match &self.share {
            Some(share) => share.piece(bytes, is_kept),
            None => self.held.piece(bytes),
        }
    }

    /// The member begins to read the next rows. Until [`read`](Self::read) the answer does not
    /// count as stalled.
    pub fn reads(&mut self) {
        let excess = std::mem::take(&mut self.excess);
        self.share.iter().for_each(|share| share.pause(excess));
    }

    /// The member has read the next rows, which have `bytes` bytes.
    pub fn read(&mut self, bytes: usize) {
        if let Some(share) = &self.share {
            self.excess = bytes.saturating_sub(share.window());
            share.resume(self.excess);
        }
    }
}

/// The reads that an answer is made of.
#[derive(Debug)]
pub(crate) enum Question {
    /// A range; with its plan, if it was planned before its answer turned out not to be small.
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

    /// Reads the answer. If that fails, it can be repeated.
    fn read(&mut self, store: &Store, id: u64, meter: Meter) -> Result<Large, Failed> {
        let client = meter.client();
        let planned = self.take_plan();
        let is_read = !matches!(self, Question::Planned(_));
        // Other calls of the client may have been read while this one waited for a thread.
        if is_read && !meter.has_place() && !client.is_ready() {
            return Err(Failed::Unready);
        }
        let plan = planned.as_ref().map_or_else(|| self.plan_bytes(store), Reply::bytes);
        let mut writer = Writer::new(meter);
        // The writer keeps the reason for a break.
        let written = match writer.plan(plan) {
            ControlFlow::Continue(()) => self.write(store, id, (&mut writer, planned))?,
            ControlFlow::Break(()) => 0,
        };
        let (rope, len, share) = writer.finish().map_err(|stop| Failed::Stopped(stop, plan))?;
        let held = client.hold(if share.is_none() { len } else { 0 });
        let rope = Arc::new(Mutex::new(rope));
        if let Some(share) = &share {
            share.send(&rope);
        }
        let (revision, share) = (written, share.map(Arc::new));
        Ok(Large { id, len, revision, rope, held, share, is_read, excess: 0 })
    }

    /// Plans the answer, unless that is done, and writes it. Returns the revision for its header.
    fn write(
        &mut self,
        store: &Store,
        id: u64,
        (writer, mut planned): (&mut Writer, Option<Reply>),
    ) -> Result<i64, Error> {
        let source = Source::Published(store.backend());
        let reply = match (self, &mut planned) {
            (_, Some(reply)) => reply,
            (Question::Range(range, _), None) => {
                // One stage for planning and reading.
                let mut span = stage!(MvccRange, id);
                let plan = store.plan_range(id, range);
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
            (Question::Txn(txn, _), None) => planned.insert(Reply::Txn(store.plan_txn(id, txn)?)),
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
    ) -> Result<Option<Share>, Error> {
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
        (from, share): (&Arc<Connection>, Option<Share>),
    ) -> Result<Answer<KvResponse>, Error> {
        if reply.rows() <= SHORT_ROWS_MAX {
            let source = Source::Published(self.store.backend());
            if let Some(response) = reply.whole(id, source, &mut from.small()) {
                return Ok(Answer::Whole(response));
            }
        }
        self.read_large_in(id, Question::Planned(reply), (from, share)).await.map(Answer::Large)
    }

    /// Reads an answer that may be large, on a blocking thread.
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
                Err(Failed::Unready) => from.ready(id, patience).await?,
                Err(Failed::Stopped(Stop::TooLong(bytes), _)) => {
                    return Err(Error::AnswerTooLong { bytes });
                }
                // With a place in the ledger this does not happen again.
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
