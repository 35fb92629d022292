//! The room for answers: the [`Ledger`] behind a lock, the calls that wait for it, and each
//! connection's part.
//!
//! Large answers are in the ledger. Small ones are too many for it, so only their bytes are summed,
//! for each connection and for the member. While the sum is too high, the connection's calls wait
//! ([`Connection::ready`]) until its client has read some. A small answer is [`UnsentBytes`] from
//! the moment it is read, and its frames take over its bytes.
//!
//! Bytes are counted until their memory is free. HTTP/2 holds a frame until it has written it, and
//! does not report that. So each frame is a [`Piece`], and its bytes are free when it is dropped.

mod piece;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, oneshot},
    time::sleep,
};

pub use self::piece::UnsentBytes;
use self::piece::{Of, Piece};
use super::{
    ledger::{self, Ledger, Limits, Ticket},
    rope::Rope,
};
use crate::{
    clock,
    server::{Error, wait_step::WaitStep},
    stage,
    trace::ends::Ends,
};

const MIB: usize = 1 << 20;

/// The longest small answer, in bytes. Small answers are read at once, without a place.
pub const SMALL: usize = 512 << 10;
/// The same while the member's small answers have reached their limit.
const SMALLER: usize = 16 << 10;
/// Bytes of small answers that a connection may leave unread.
const UNREAD_OF_CONNECTION: usize = 16 * MIB;
/// The same for all connections together. Beyond it a connection may leave [`SMALLER`] unread.
const UNREAD_OF_MEMBER: usize = 64 * MIB;
/// Shorter frames are not counted: they take less memory than their streams.
pub const UNCOUNTED: usize = 1 << 10;

/// How often a waiting call looks for stalled answers and reads the member's sum again; no
/// notification tells of a change of that sum.
const POLL_EVERY: Duration = Duration::from_millis(250);

/// The limits of a member. A window has room for the portion of a large answer that is read at a
/// time, which is [`PIECE`](super::PIECE) and one row.
///
/// An answer that stalls while others wait is ended before their request timeout (7 s with etcd's
/// defaults), so that they do not wait in vain.
pub const LIMITS: Limits = Limits {
    window: 2 * MIB,
    member: ledger::ShareLimit { all: 256 * MIB, kept: 128 * MIB },
    connection: ledger::ShareLimit { all: 128 * MIB, kept: 64 * MIB },
    waiting: 1024,
    stall: Duration::from_secs(4),
};

/// See the module's text.
#[derive(Debug)]
pub struct Room {
    state: Mutex<State>,
    limits: Limits,
    /// Bytes of small answers that are not written yet.
    unread: AtomicUsize,
    /// The length of the ledger's queue, to be read without the lock.
    queue: AtomicUsize,
}

#[derive(Debug)]
struct State {
    ledger: Ledger,
    waiters: HashMap<Ticket, Waiter>,
    /// The answers that are being sent, so that they can be ended.
    ropes: HashMap<Ticket, Weak<Mutex<Rope>>>,
    connections: HashMap<u64, Weak<Connection>>,
    last: u64,
}

#[derive(Debug)]
struct Waiter {
    sender: oneshot::Sender<Seat>,
    connection: Arc<Connection>,
    plan: usize,
}

/// A client's connection, as far as answers are concerned.
#[derive(Debug)]
pub struct Connection {
    room: Arc<Room>,
    number: u64,
    /// Both its ends, for the records of its calls.
    ends: Option<Ends>,
    /// Bytes of small answers that are not written yet.
    unread: AtomicUsize,
    /// Notified when some of them are written.
    read: Notify,
    /// Frames of its answers that were written so far.
    pieces: AtomicUsize,
    close: Notify,
}

/// The place of one large answer in the ledger, until it is dropped.
#[derive(Debug)]
pub struct Seat {
    connection: Arc<Connection>,
    ticket: Ticket,
    /// Bytes that it was given for its plan when it entered.
    plan: usize,
}

impl Room {
    /// An empty room with these limits.
    pub fn new(limits: Limits) -> Arc<Room> {
        let state = State {
            ledger: Ledger::new(limits),
            waiters: HashMap::new(),
            ropes: HashMap::new(),
            connections: HashMap::new(),
            last: 0,
        };
        let [unread, queue] = [0, 0].map(AtomicUsize::new);
        Arc::new(Room { state: Mutex::new(state), limits, unread, queue })
    }

    /// Registers a connection whose ends are not known; its drop takes it out again.
    pub fn connect(self: &Arc<Room>) -> Arc<Connection> {
        self.connect_from(None)
    }

    /// Registers a connection with these ends; its drop takes it out again.
    pub fn connect_from(self: &Arc<Room>, ends: Option<Ends>) -> Arc<Connection> {
        let mut state = self.lock();
        state.last += 1;
        let connection = Arc::new(Connection {
            room: Arc::clone(self),
            number: state.last,
            ends,
            unread: AtomicUsize::new(0),
            read: Notify::new(),
            pieces: AtomicUsize::new(0),
            close: Notify::new(),
        });
        state.connections.insert(connection.number, Arc::downgrade(&connection));
        connection
    }

    /// Bytes in memory of large answers, and of small ones.
    pub fn in_flight(&self) -> (usize, usize) {
        (self.lock().ledger.used(), self.unread.load(Ordering::Relaxed))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding it")
    }

    /// Changes the ledger, and wakes the calls that can enter because of that.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let admitted = state.ledger.admit();
        let woken = state.wake(admitted);
        self.note_queue(&state);
        drop(state);
        hand_out(woken);
    }

    fn note_queue(&self, state: &State) {
        self.queue.store(state.ledger.waiting(), Ordering::Relaxed);
    }

    /// Ends answers that stall while others wait.
    fn judge(&self) {
        let mut state = self.lock();
        let verdict = state.ledger.judge(clock::now());
        let ended: Vec<_> = verdict
            .ended
            .iter()
            .filter_map(|ticket| state.ropes.remove(ticket)?.upgrade())
            .collect();
        let closed: Vec<_> = (verdict.closed.iter())
            .filter_map(|number| state.connections.get(number)?.upgrade())
            .collect();
        let woken = state.wake(verdict.admitted);
        self.note_queue(&state);
        drop(state);
        if !verdict.ended.is_empty() {
            let answers = verdict.ended.len();
            tracing::warn!(
                answers,
                "ended answers that their clients do not read while other answers wait"
            );
        }
        for rope in ended {
            rope.lock().expect("nobody panics while holding it").end();
        }
        for connection in closed {
            tracing::warn!("a client reads nothing, and holds up others: its connection is closed");
            connection.close.notify_one();
        }
        hand_out(woken);
    }
}

/// A call that has waited, and its place.
type Woken = (oneshot::Sender<Seat>, Seat);

impl State {
    fn wake(&mut self, admitted: Vec<Ticket>) -> Vec<Woken> {
        let woken = admitted.into_iter().filter_map(|ticket| {
            let Waiter { sender, connection, plan } = self.waiters.remove(&ticket)?;
            Some((sender, Seat { connection, ticket, plan }))
        });
        woken.collect()
    }
}

/// Not under the lock: if the call was dropped meanwhile, its seat is dropped here, which locks.
fn hand_out(woken: Vec<Woken>) {
    for (sender, seat) in woken {
        let _ = sender.send(seat);
    }
}

impl Connection {
    /// Both its ends; `None` for one that is not over TCP, and for a call of the member itself.
    pub fn ends(&self) -> Option<Ends> {
        self.ends
    }

    /// Resolves when the connection must be closed, because its client reads nothing and others
    /// wait for the memory.
    pub async fn closed(&self) {
        self.close.notified().await;
    }

    /// The longest answer that may be read at once, in bytes. While the client must read first, it
    /// is [`UNCOUNTED`]; only answers to writes already in flight ask then.
    pub fn small(&self) -> usize {
        if !self.is_ready() {
            return UNCOUNTED;
        }
        let is_over = UNREAD_OF_MEMBER < self.room.unread.load(Ordering::Relaxed);
        if is_over { SMALLER } else { SMALL }
    }

    /// Whether the client has read enough of its earlier answers.
    pub(crate) fn is_ready(&self) -> bool {
        let unread = self.unread.load(Ordering::Relaxed);
        unread <= SMALLER
            || (unread <= UNREAD_OF_CONNECTION
                && self.room.unread.load(Ordering::Relaxed) <= UNREAD_OF_MEMBER)
    }

    /// Whether an answer of any length could be read now, judged without the lock.
    pub fn is_free(&self) -> bool {
        self.is_ready() && self.room.queue.load(Ordering::Relaxed) == 0
    }

    /// Waits until [`is_free`](Self::is_free), in order, on behalf of request `id`. To be called
    /// before a write that reads is carried out. Returns a place if its plan may be long. Fails
    /// after `patience`.
    pub async fn free(
        self: &Arc<Connection>,
        id: u64,
        plan: usize,
        patience: Duration,
    ) -> Result<Option<Seat>, Error> {
        self.ready(id, patience).await?;
        if plan > self.small() {
            return self.enter(id, plan, patience).await.map(Some);
        }
        if !self.is_free() {
            self.enter(id, 0, patience).await?;
        }
        Ok(None)
    }

    /// Waits until the client has read enough of its earlier answers, on behalf of request `id`. To
    /// be called before anything is read for the client. Fails after it has read nothing for
    /// `patience`, or never if that is [`Duration::MAX`].
    pub async fn ready(&self, id: u64, patience: Duration) -> Result<(), Error> {
        if self.is_ready() {
            return Ok(());
        }
        let mut step = WaitStep::begin(stage!(AnswerRoom, id, limit = UNREAD_OF_CONNECTION));
        let mut patient = Patient::new(self, patience);
        loop {
            let read = self.read.notified();
            let unread = self.unread.load(Ordering::Relaxed);
            crate::set!(
                step.span,
                AnswerRoom,
                in_flight = self.room.unread.load(Ordering::Relaxed)
            );
            crate::set!(step.span, AnswerRoom, of_connection = unread);
            if self.is_ready() {
                return step.end(Ok(()));
            }
            tokio::select! {
                () = read => {}
                // Nothing notifies of the member's sum.
                () = sleep(POLL_EVERY) => {}
            }
            if patient.is_over() {
                return step.end(Err(Error::Timeout));
            }
        }
    }

    /// Counts a small answer of this many bytes. Between [`ready`](Self::ready) or
    /// [`is_ready`](Self::is_ready) and this there must be no await, or other calls pass before the
    /// answer is counted.
    pub fn hold(self: &Arc<Connection>, bytes: usize) -> UnsentBytes {
        let bytes = if bytes < UNCOUNTED { 0 } else { bytes };
        self.add(bytes);
        UnsentBytes { connection: Arc::clone(self), bytes }
    }

    fn add(&self, bytes: usize) {
        if bytes != 0 {
            self.unread.fetch_add(bytes, Ordering::Relaxed);
            self.room.unread.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    fn release(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.room.unread.fetch_sub(bytes, Ordering::Relaxed);
        // With so little unread, no call of the connection waits.
        if SMALLER < self.unread.fetch_sub(bytes, Ordering::Relaxed) {
            self.read.notify_waiters();
        }
    }

    /// A place in the ledger, if there is room.
    pub fn try_enter(self: &Arc<Connection>) -> Option<Seat> {
        let ticket = self.try_enter_in(&mut self.room.lock(), 0)?;
        Some(self.seat(ticket, 0))
    }

    fn try_enter_in(&self, state: &mut State, plan: usize) -> Option<Ticket> {
        fail::fail_point!("answer-room-taken", |_| None);
        state.ledger.enter(self.number, plan)
    }

    fn seat(self: &Arc<Connection>, ticket: Ticket, plan: usize) -> Seat {
        Seat { connection: Arc::clone(self), ticket, plan }
    }

    /// Waits for a place in the ledger, with `plan` bytes for a plan, in order, on behalf of
    /// request `id`. Fails at once if the queue is full, and when there was no place and the client
    /// has read nothing for `patience`.
    pub async fn enter(
        self: &Arc<Connection>,
        id: u64,
        plan: usize,
        patience: Duration,
    ) -> Result<Seat, Error> {
        self.queue(id, plan, patience, true).await
    }

    /// As [`enter`](Self::enter), for a write that has been carried out and so cannot be refused.
    /// It always gets a place, beyond the limits if it has waited in vain.
    pub async fn enter_at_last(
        self: &Arc<Connection>,
        id: u64,
        plan: usize,
        patience: Duration,
    ) -> Seat {
        if let Ok(seat) = self.queue(id, plan, patience, false).await {
            return seat;
        }
        let ticket = self.room.lock().ledger.enter_anyway(self.number, plan);
        self.seat(ticket, plan)
    }

    async fn queue(
        self: &Arc<Connection>,
        id: u64,
        plan: usize,
        patience: Duration,
        may_refuse: bool,
    ) -> Result<Seat, Error> {
        let Limits { window, member, .. } = self.room.limits;
        let (waiting, mut step) = {
            let mut state = self.room.lock();
            if let Some(ticket) = self.try_enter_in(&mut state, plan) {
                return Ok(self.seat(ticket, plan));
            }
            let mut span = stage!(AnswerRoom, id, bytes = window + plan, limit = member.all);
            let ledger = &state.ledger;
            crate::set!(span, AnswerRoom, in_flight = ledger.used(), ahead = ledger.waiting());
            crate::set!(span, AnswerRoom, of_connection = ledger.used_by(self.number));
            let waiting = self.wait(&mut state, plan, may_refuse);
            self.room.note_queue(&state);
            (waiting, WaitStep::begin(span))
        };
        let result = match waiting {
            Some(waiting) => {
                let mut patient = Patient::new(self, patience);
                // The plan of a write that was carried out holds a snapshot of the file.
                patient.extends = may_refuse;
                waiting.admitted(patient).await
            }
            None => Err(Error::TooManyRequests),
        };
        step.end(result)
    }

    fn wait(
        self: &Arc<Connection>,
        state: &mut State,
        plan: usize,
        may_refuse: bool,
    ) -> Option<QueuePlace> {
        fail::fail_point!("answer-room-taken", |_| None);
        let ticket = state.ledger.wait(self.number, plan, may_refuse)?;
        let (sender, admitted) = oneshot::channel();
        let connection = Arc::clone(self);
        state.waiters.insert(ticket, Waiter { sender, connection, plan });
        Some(QueuePlace { room: Arc::clone(&self.room), ticket, admitted })
    }

    /// A frame of one of its answers is written.
    fn note_piece(&self) {
        self.pieces.fetch_add(1, Ordering::Relaxed);
    }
}

/// The deadline of a wait, which moves while the client reads.
struct Patient<'c> {
    connection: &'c Connection,
    patience: Duration,
    pieces: usize,
    /// `None` if the wait has no limit.
    deadline: Option<Instant>,
    /// Whether `patience` begins again when the client has read something.
    extends: bool,
}

impl Patient<'_> {
    fn new(connection: &Connection, patience: Duration) -> Patient<'_> {
        let pieces = connection.pieces.load(Ordering::Relaxed);
        let deadline = clock::now().checked_add(patience);
        Patient { connection, patience, pieces, deadline, extends: true }
    }

    /// Whether the deadline has passed.
    fn is_over(&mut self) -> bool {
        let (pieces, now) = (self.connection.pieces.load(Ordering::Relaxed), clock::now());
        if self.extends && pieces != self.pieces {
            (self.pieces, self.deadline) = (pieces, now.checked_add(self.patience));
        }
        self.deadline.is_some_and(|deadline| deadline <= now)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.room.lock().connections.remove(&self.number);
    }
}

/// A place in the queue; dropping it gives the place up.
struct QueuePlace {
    room: Arc<Room>,
    ticket: Ticket,
    admitted: oneshot::Receiver<Seat>,
}

impl QueuePlace {
    async fn admitted(mut self, mut patient: Patient<'_>) -> Result<Seat, Error> {
        loop {
            tokio::select! {
                seat = &mut self.admitted => return seat.map_err(|_| Error::Stopped),
                () = sleep(POLL_EVERY.min(patient.patience)) => self.room.judge(),
            }
            if patient.is_over() {
                // This judgement may have admitted it.
                return self.admitted.try_recv().map_err(|_| Error::Timeout);
            }
        }
    }
}

impl Drop for QueuePlace {
    fn drop(&mut self) {
        let (ticket, mut waiter) = (self.ticket, None);
        self.room.change(|state| {
            state.ledger.give_up(ticket);
            waiter = state.waiters.remove(&ticket);
        });
        // Not under the lock: this may be the last reference to the connection, whose drop locks.
        drop(waiter);
    }
}

impl Seat {
    fn change(&self, change: impl FnOnce(&mut Ledger, Ticket)) {
        self.connection.room.change(|state| change(&mut state.ledger, self.ticket));
    }

    /// Bytes that it was given for its window when it entered.
    pub fn window(&self) -> usize {
        self.connection.room.limits.window
    }

    /// Bytes that it was given for its plan when it entered.
    pub fn plan(&self) -> usize {
        self.plan
    }

    /// Keeps more bytes, if the limits allow it.
    pub(super) fn keep(&self, bytes: usize) -> bool {
        self.connection.room.lock().ledger.keep(self.ticket, bytes)
    }

    /// Holds more bytes, whether the limits allow it or not.
    pub(super) fn overdraw(&self, bytes: usize) {
        self.connection.room.lock().ledger.overdraw(self.ticket, bytes);
    }

    /// Gives back some of the bytes.
    pub(super) fn give_back(&self, bytes: usize) {
        self.change(|ledger, ticket| ledger.give_back(ticket, bytes));
    }

    /// The answer is read. It is ended through `rope` if it stalls while others wait.
    pub fn send(&self, rope: &Arc<Mutex<Rope>>) {
        let mut state = self.connection.room.lock();
        state.ropes.insert(self.ticket, Arc::downgrade(rope));
        state.ledger.send(self.ticket, clock::now());
    }

    /// The member begins to read the next rows. Until [`resume`](Self::resume) the answer does not
    /// stall. `excess`: bytes by which the rows before, which are sent, exceeded the window.
    pub fn pause(&self, excess: usize) {
        self.change(|ledger, ticket| {
            ledger.pause(ticket);
            ledger.give_back(ticket, excess);
        });
    }

    /// The rows are read, and exceed the window by `excess` bytes.
    pub fn resume(&self, excess: usize) {
        let mut state = self.connection.room.lock();
        state.ledger.overdraw(self.ticket, excess);
        state.ledger.send(self.ticket, clock::now());
    }

    /// A frame for HTTP/2, counted until it is written. `is_kept`: it was kept, and so is no part
    /// of the window.
    pub fn piece(self: &Arc<Seat>, bytes: Bytes, is_kept: bool) -> Bytes {
        self.connection.room.lock().ledger.hand(self.ticket, bytes.len());
        Bytes::from_owner(Piece { bytes, of: Of::Large(Arc::clone(self), is_kept) })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let ticket = self.ticket;
        self.connection.room.change(|state| {
            state.ropes.remove(&ticket);
            state.ledger.leave(ticket);
        });
    }
}
