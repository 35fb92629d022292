//! The queue of a stream's notices, bounded by number and by bytes.
//!
//! ```text
//!   apply, sync thread ──try_send──▶ [ notices: 128, and 4 MiB ] ──recv──▶ stream ──▶ HTTP/2
//!                          │ full                                 │
//!                          ▼                                      └ the last notice counts until
//!                        victim                                     the next one is taken
//! ```
//!
//! A notice may have all events of a large transaction, and a value may exceed a megabyte, so a
//! limit on the number of notices does not bound memory. The stream hands its last notice to
//! HTTP/2, and takes the next one when most of it has been written to the socket. Until then the
//! last notice counts as queued. So a stream whose client does not read occupies [`BYTES_MAX`], or
//! one notice if that is longer.
//!
//! Invariants
//! * Queues are filled under the watchers' lock, so a notice that finds room is not overtaken.
//! * An empty queue accepts a notice of any length.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicUsize, Ordering},
};

use tokio::sync::mpsc::{Receiver, Sender, channel, error::TrySendError};

use super::notice::Notice;
use crate::metrics::recorded;

/// The most bytes of notices in a stream's queue, unless one notice alone is longer.
pub(crate) const BYTES_MAX: usize = 4 << 20;

/// The memory of queued notices, in bytes.
#[derive(Debug)]
struct QueuedBytes {
    /// Bytes queued for this stream.
    own: AtomicUsize,
    /// Bytes queued for all streams of the member.
    all: Arc<AtomicUsize>,
    /// Events queued for this stream, without those of the last notice taken.
    events: AtomicI64,
}

impl QueuedBytes {
    fn add(&self, bytes: usize) {
        self.own.fetch_add(bytes, Ordering::Relaxed);
        self.all.fetch_add(bytes, Ordering::Relaxed);
    }

    fn release(&self, bytes: usize) {
        self.own.fetch_sub(bytes, Ordering::Relaxed);
        self.all.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Adds to the events in the queue; a negative number takes them away.
    fn count_events(&self, events: i64) {
        if events != 0 {
            self.events.fetch_add(events, Ordering::Relaxed);
            recorded::EVENTS_PENDING.add(events);
        }
    }
}

impl Drop for QueuedBytes {
    fn drop(&mut self) {
        self.all.fetch_sub(*self.own.get_mut(), Ordering::Relaxed);
        recorded::EVENTS_PENDING.add(-*self.events.get_mut());
    }
}

/// The sending end of a queue.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    sender: Sender<Notice>,
    queued: Arc<QueuedBytes>,
}

/// The receiving end of a queue.
#[derive(Debug)]
pub(crate) struct Notices {
    receiver: Receiver<Notice>,
    queued: Arc<QueuedBytes>,
    /// The bytes of the last notice that was taken.
    taken: usize,
}

/// Creates a queue for up to `len` notices. `all` counts the bytes of all queues.
pub(super) fn queue(len: usize, all: &Arc<AtomicUsize>) -> (Queue, Notices) {
    let (sender, receiver) = channel(len);
    let queued = Arc::new(QueuedBytes {
        own: AtomicUsize::new(0),
        all: Arc::clone(all),
        events: AtomicI64::new(0),
    });
    let notices = Notices { receiver, queued: Arc::clone(&queued), taken: 0 };
    (Queue { sender, queued }, notices)
}

impl Queue {
    /// Adds a notice, if there is room for it.
    pub(super) fn try_send(&self, notice: Notice) -> Result<(), TrySendError<Notice>> {
        let (bytes, events) = (notice.bytes(), i64::try_from(notice.events()).unwrap_or(0));
        if !self.has_room(bytes) {
            return Err(TrySendError::Full(notice));
        }
        // Counted before it is sent, because the stream may take it at once.
        self.queued.add(bytes);
        self.queued.count_events(events);
        let sent = self.sender.try_send(notice);
        match sent {
            Ok(()) => recorded::EVENTS_SENT.add(events.unsigned_abs()),
            Err(_) => {
                self.queued.release(bytes);
                self.queued.count_events(-events);
            }
        }
        sent
    }

    /// Whether there is room for a notice of this many bytes.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let queued = self.queued.own.load(Ordering::Relaxed);
        0 < self.sender.capacity() && (queued == 0 || queued + bytes <= BYTES_MAX)
    }

    /// The number of notices in the queue.
    pub(super) fn depth(&self) -> usize {
        self.sender.max_capacity() - self.sender.capacity()
    }
}

impl Notices {
    /// Waits for the next notice. The previous one no longer counts. Cancel-safe.
    pub(crate) async fn recv(&mut self) -> Option<Notice> {
        self.release();
        let notice = self.receiver.recv().await;
        self.take(notice.as_ref());
        notice
    }

    fn take(&mut self, notice: Option<&Notice>) {
        self.taken = notice.map_or(0, Notice::bytes);
        let events = notice.map_or(0, Notice::events);
        self.queued.count_events(-i64::try_from(events).unwrap_or(0));
    }

    fn release(&mut self) {
        self.queued.release(std::mem::take(&mut self.taken));
    }
}

#[cfg(test)]
impl Notices {
    /// As [`recv`](Self::recv), without waiting.
    pub(crate) fn try_recv(&mut self) -> Result<Notice, tokio::sync::mpsc::error::TryRecvError> {
        self.release();
        let notice = self.receiver.try_recv();
        self.take(notice.as_ref().ok());
        notice
    }

    /// As [`recv`](Self::recv), for a thread that may block.
    pub(crate) fn blocking_recv(&mut self) -> Option<Notice> {
        self.release();
        let notice = self.receiver.blocking_recv();
        self.take(notice.as_ref());
        notice
    }

    /// The bytes of the notices in the queue and of the last one taken.
    pub(crate) fn queued(&self) -> usize {
        self.queued.own.load(Ordering::Relaxed)
    }
}
