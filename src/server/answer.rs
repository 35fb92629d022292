//! Answers that may be large: how they are kept, and what bounds their memory.
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
//! taken all windows; then those without progress are ended. [`super::answer_reader`] reads them.
//!
//! An answer begins with its **plan**: 17 bytes a row, and more while rows are sorted or in the
//! write buffer. The list of many small keys is mostly plan, and the part for rows that were not
//! kept stays until they are sent. So the plan is counted with the window: as an upper limit from
//! the index before it is made ([`plan_bytes`](super::mvcc::Store::plan_bytes)), and then exactly.
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

use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

pub use self::room::{Connection, Room, Seat, UnsentBytes};
use self::rope::Rope;

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
    pub(super) seat: Option<Arc<Seat>>,
    /// Whether the client may repeat the request: it has written nothing.
    pub is_read: bool,
    /// Bytes by which the rows that were read again last exceed the window.
    excess: usize,
}

impl Large {
    /// The answer to request `id`, as a [`Writer`](writer::Writer) has finished it.
    pub(super) fn new(
        id: u64,
        (rope, len, seat): (Rope, usize, Option<Seat>),
        client: &Arc<Connection>,
        (revision, is_read): (i64, bool),
    ) -> Large {
        let unsent = client.hold(if seat.is_none() { len } else { 0 });
        let rope = Arc::new(Mutex::new(rope));
        if let Some(seat) = &seat {
            seat.send(&rope);
        }
        let seat = seat.map(Arc::new);
        Large { id, len, revision, rope, unsent, seat, is_read, excess: 0 }
    }

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
