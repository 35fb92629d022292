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
//! So most answers are read once, as a whole. While clients leave answers unread, later ones are
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

pub use self::room::{Connection, Room, Seat, UnsentBytes};
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
        read_txn::{SHORT_ROWS_MAX, note_range},
        reader::Source,
        reply::write_range,
    },
    stage,
};

/// Bytes of rows that are read again at a time; the last row may exceed them.
pub const PIECE: usize = 1 << 20;

/// The answer to a request.
#[derive(Debug)]
pub enum Answer<T> {
    /// The whole answer, as one gRPC message.
    Whole(T),
    /// Encoded, and sent in pieces.
    Large(Large),
}

impl<T> Answer<T> {
    /// Applies `change` to a whole message; a large answer stays as it is.
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
    /// The request's id.
    pub id: u64,
    /// Bytes in all, without the header.
    pub len: usize,
    /// The revision for the header.
    pub revision: i64,
    /// The part that is not sent yet.
    rope: Arc<Mutex<Rope>>,
    /// Its bytes if it turned out to be small, otherwise none.
    unsent: UnsentBytes,
    /// Its place in the ledger; `None` if it turned out to be small.
    seat: Option<Arc<Seat>>,
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
        match &self.seat {
            Some(seat) => seat.piece(bytes, is_kept),
            None => self.unsent.piece(bytes),
        }
    }

    /// The member begins to read the next rows. Until [`read`](Self::read) the answer does not
    /// count as stalled.
    pub fn reads(&mut self) {
        let excess = std::mem::take(&mut self.excess);
        self.seat.iter().for_each(|seat| seat.pause(excess));
    }

    /// The member has read the next rows, which have `bytes` bytes.
    pub fn read(&mut self, bytes: usize) {
        if let Some(seat) = &self.seat {
            self.excess = bytes.saturating_sub(seat.window());
            seat.resume(self.excess);
        }
    }
}

/// The reads that an answer is made of.
#[derive(Debug)]
pub(crate) enum Question {
    /// A range, which is planned now.
    Range(RangeRequest),
    /// A read-only transaction, which is planned now.
    Txn(TxnRequest),
    /// The reply to a write, which apply has planned.
    Planned(Reply),
}

impl Question {
    /// Bytes of its plan, or an upper limit if it is not made yet.
    fn plan_bytes(&self, store: &Store) -> usize {
        match self {
            Question::Range(range) => store.plan_bytes(std::iter::once(range.clone())),
            Question::Txn(txn) => store.txn_plan_bytes(txn),
            Question::Planned(reply) => reply.bytes(),
        }
    }

    /// Reads the answer. If that fails, it can be repeated.
    fn read(&mut self, store: &Store, id: u64, meter: Meter) -> Result<Large, Failed> {
        let client = meter.client();
        let is_read = !matches!(self, Question::Planned(_));
        // Other calls of the client may have been read while this one waited for a thread.
        if is_read && !meter.has_place() && !client.is_ready() {
            return Err(Failed::Unready);
        }
        let plan = self.plan_bytes(store);
        let mut writer = Writer::new(meter);
        // The writer keeps the reason for a break.
        let written = match writer.plan(plan) {
            ControlFlow::Continue(()) => self.write(store, id, &mut writer)?,
            ControlFlow::Break(()) => 0,
        };
        let (rope, len, seat) = writer.finish().map_err(|stop| Failed::Stopped(stop, plan))?;
        let unsent = client.hold(if seat.is_none() { len } else { 0 });
        let rope = Arc::new(Mutex::new(rope));
        if let Some(seat) = &seat {
            seat.send(&rope);
        }
        let (revision, seat) = (written, seat.map(Arc::new));
        Ok(Large { id, len, revision, rope, unsent, seat, is_read, excess: 0 })
    }

    /// Plans the answer, unless apply has done so, and writes it. Returns the revision for its
    /// header.
    fn write(&mut self, store: &Store, id: u64, writer: &mut Writer) -> Result<i64, Error> {
        let source = Source::Published(store.backend());
        let mut planned;
        let reply = match self {
            Question::Range(range) => {
                // One stage for planning and reading.
                let mut span = stage!(MvccRange, id);
                let plan = store.plan_range(id, range);
                let mut plan = note_range(&mut span, range, plan)?;
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
        loop {
            let meter = Meter::new(from, seat.take());
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
                    seat = Some(match again {
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
