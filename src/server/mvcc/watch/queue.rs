//! The queue between those who bring news and the stream that sends it, bounded twice.
//!
//! ```text
//!   apply, sync thread ──try_send──▶ [ notices: 128, and 4 MiB ] ──recv──▶ stream ──▶ HTTP/2
//!                          │ full                                 │
//!                          ▼                                      └ what it took last counts until
//!                        victim                                     it asks for more
//! ```
//!
//! A notice has as many events as a transaction wrote, and a value may have a megabyte and more, so a
//! number of notices alone bounds nothing. What the stream has taken is with HTTP/2, which asks for
//! more when most of it is written: until then it counts as if it were still here. So a stream whose
//! client does not read holds [`BYTES`], or one notice if that is longer.
//!
//! Invariants
//! * Queues are filled below the watchers' lock, so what has room is not overtaken.
//! * An empty queue takes any notice.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::mpsc::{
    Receiver, Sender, channel,
    error::{TryRecvError, TrySendError},
};

use super::notice::Notice;

/// Bytes of notices that a stream holds.
pub const BYTES: usize = 4 << 20;

/// What the notices of one stream hold, and those of all.
#[derive(Debug)]
struct QueuedBytes {
    own: AtomicUsize,
    all: Arc<AtomicUsize>,
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
}

impl Drop for QueuedBytes {
    fn drop(&mut self) {
        self.all.fetch_sub(*self.own.get_mut(), Ordering::Relaxed);
    }
}

/// The side of those who bring news.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    sender: Sender<Notice>,
    queued: Arc<QueuedBytes>,
}

/// The side of the stream.
#[derive(Debug)]
pub struct Notices {
    receiver: Receiver<Notice>,
    queued: Arc<QueuedBytes>,
    /// What the last one holds that was taken.
    taken: usize,
}

/// A queue for so many notices; `all` adds up what all queues hold.
pub(super) fn queue(len: usize, all: &Arc<AtomicUsize>) -> (Queue, Notices) {
    let (sender, receiver) = channel(len);
    let queued = Arc::new(QueuedBytes { own: AtomicUsize::new(0), all: Arc::clone(all) });
    let notices = Notices { receiver, queued: Arc::clone(&queued), taken: 0 };
    (Queue { sender, queued }, notices)
}

impl Queue {
    /// Puts a notice into the queue, if there is room for it.
    pub(super) fn try_send(&self, notice: Notice) -> Result<(), TrySendError<Notice>> {
        let bytes = notice.bytes();
        if !self.has_room(bytes) {
            return Err(TrySendError::Full(notice));
        }
        // Before it is there: the stream may take it in the next moment.
        self.queued.add(bytes);
        let sent = self.sender.try_send(notice);
        if sent.is_err() {
            self.queued.release(bytes);
        }
        sent
    }

    /// Whether there is room for a notice of so many bytes.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let queued = self.queued.own.load(Ordering::Relaxed);
        0 < self.sender.capacity() && (queued == 0 || queued + bytes <= BYTES)
    }

    /// How many notices there are.
    pub(super) fn depth(&self) -> usize {
        self.sender.max_capacity() - self.sender.capacity()
    }
}

impl Notices {
    /// Waits for the next notice; the one before it is done with. May be dropped at any time.
    pub async fn recv(&mut self) -> Option<Notice> {
        self.release();
        let notice = self.receiver.recv().await;
        self.take(notice.as_ref());
        notice
    }

    /// The next notice, if there is one; the one before it is done with.
    pub fn try_recv(&mut self) -> Result<Notice, TryRecvError> {
        self.release();
        let notice = self.receiver.try_recv();
        self.take(notice.as_ref().ok());
        notice
    }

    /// As [`recv`](Self::recv), on a thread that may wait.
    #[cfg(test)]
    pub fn blocking_recv(&mut self) -> Option<Notice> {
        self.release();
        let notice = self.receiver.blocking_recv();
        self.take(notice.as_ref());
        notice
    }

    /// What the queue holds, with what was taken last.
    pub fn queued(&self) -> usize {
        self.queued.own.load(Ordering::Relaxed)
    }

    fn take(&mut self, notice: Option<&Notice>) {
        self.taken = notice.map_or(0, Notice::bytes);
    }

    fn release(&mut self) {
        self.queued.release(std::mem::take(&mut self.taken));
    }
}
