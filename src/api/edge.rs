//! The edge of the member: the steps of a call before its `rpc` begins, and after it ends.
//!
//! ```text
//!   kernel        connection's task              call's task              connection's task
//!   bytes ──────▶ HEADERS … END_STREAM ────────▶ rpc begins … rpc ends ─▶ END_STREAM
//!    socket.queue  rpc.receive          rpc.queue                 answer.flush
//! ```
//!
//! Before the first requests of a connection there may be `connection.accept` ([`backlog`]).
//!
//! Only the frames say when a call was read and when its answer was written, and they name it by
//! its stream. Only the call's handler knows the request's id. hyper tells neither to the other. So
//! this module joins the two by order: a client opens its streams in the order of their numbers,
//! and h2 hands them over in this order. Some streams h2 ends by itself, with or without handing
//! them over: too many, too long, malformed. It writes that before it hands over a later one,
//! unless the socket takes nothing. From the first such case on, this module claims nothing about
//! the connection ([`Edge::strike`], [`Edge::accept`]); clients of gRPC give no cause for it.
//!
//! * The first half is known when the rpc begins, and recorded by the call's task.
//! * For the second half the call leaves its id below its stream ([`Left`]), and the connection's
//!   task takes it when the socket has accepted the last byte of the answer. The table has a fixed
//!   size; a call whose place is taken by another one meanwhile has no `answer.flush`.
//! * Requests that are not kept leave no record, unless they fail or are slow: such requests may be
//!   kept after all.
//!
//! The state of a connection is a task-local of its task, in which hyper reads, writes and accepts;
//! so it needs no lock. Over HTTP/1 a connection has one call at a time, which counts as read with
//! the last bytes before it, and as answered by the first complete write after its end.
//!
//! **The wait of a connection.** A request has waited until its connection was taken if its client
//! sent it as soon as it had the member's settings. The client's acknowledgement of these says when
//! that was, so `connection.accept` belongs to the requests that come with it or within
//! [`PROMPT_NS`], and before the first answer. A client that has sent its request before has not
//! waited for that: the age of its bytes says how long it has waited.
//!
//! **The age of bytes.** The listeners ask the kernel to note when packets arrive. Reading this
//! costs a system call, so it is asked for only
//!
//! * when that costs nothing, because the thread was idle, or its process was stopped, which looks
//!   the same; and for as long after that as it lasted;
//! * shortly before a request is kept at random;
//! * for a second after a caller has asked for a trace.
//!
//! Otherwise the age is unknown. It is that of the newest bytes among those that came together.
//!
//! Left out: the later messages of a stream (LeaseKeepAlive, Watch), and the answers of streams.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::Future,
    io::IoSliceMut,
    os::fd::{AsFd, AsRawFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering, fence},
    },
    time::Duration,
};

use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, cmsg_space, recvmsg, setsockopt, sockopt,
};

use super::{
    backlog,
    frame::{ACK, DATA, END_STREAM, HEADERS, RST_STREAM, SETTINGS},
};
use crate::{
    clock, past,
    trace::{self, Moment, raw_clock},
};

/// Calls of one connection whose end is remembered until their answer is written. A power of two.
const LEFT: usize = 64;
/// Calls of one connection whose last frame came after they were handed over. A power of two.
const LATE: usize = 16;
/// Streams that h2 has read and not handed over; it takes fewer in one turn of a connection.
const OPENED_MAX: usize = 8192;
/// Stands for the stream of the call over HTTP/1.
const HTTP1: u64 = u64::MAX;
/// After this many nanoseconds without a read the thread was idle, or stopped.
const IDLE_NS: u64 = 1_000_000;
/// How long the age of bytes is asked for after a caller has asked for a trace; nanoseconds.
const ASK_NS: u64 = 1_000_000_000;
/// How long after an idle time, at most, the age of bytes is asked for; nanoseconds.
const ASK_MAX_NS: u64 = 2_000_000_000;
/// A client that waited for the settings sends its request at most this much later, in nanoseconds.
const PROMPT_NS: u64 = 20_000_000;
/// Room for the kernel's timestamp.
const CONTROL: usize = 64;
const _: () = assert!(cmsg_space::<nix::sys::time::TimeSpec>() <= CONTROL);

tokio::task_local! {
    static EDGE: RefCell<Edge>;
}

thread_local! {
    /// The raw tick of this thread's last read, and until when ages are asked for.
    static READS: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

/// Serves a connection with a state of its own.
pub(super) fn scope<F: Future>(connection: F) -> impl Future<Output = F::Output> {
    EDGE.scope(RefCell::default(), connection)
}

/// Gives access to the state of the present connection; outside of one, to a new one.
pub(super) fn with<T>(access: impl FnOnce(&mut Edge) -> T) -> T {
    let mut access = Some(access);
    let mut call = |edge: &mut Edge| access.take().map(|access| access(edge));
    let done = EDGE.try_with(|edge| call(&mut edge.borrow_mut())).ok().flatten();
    done.unwrap_or_else(|| call(&mut Edge::default()).expect("it was not called yet"))
}

/// A call that h2 hands over: when its frames were read.
pub(super) fn accept() -> Option<Arrived> {
    with(Edge::accept)
}

/// Asks the kernel to note when packets arrive at this socket, and at those that it accepts.
pub(super) fn note_arrivals(socket: &impl AsFd) {
    // Without the option the age of bytes stays unknown.
    let _ = setsockopt(socket, sockopt::ReceiveTimestampns, &true);
}

/// Whether the age of the next bytes is to be asked for: the thread has read nothing for a while,
/// or it has just been so, or a request will be kept soon.
pub(super) fn wants_age() -> bool {
    let ((last, until), now) = (READS.get(), raw_clock::now());
    trace::is_capturing()
        && (now < until || trace::is_keeping_soon() || IDLE_NS <= raw_clock::to_ns(now - last))
}

/// A caller has asked for a trace, and may do so again.
pub(super) fn ask_for_ages() {
    let ((last, until), now) = (READS.get(), raw_clock::now());
    READS.set((last, until.max(now + raw_clock::ticks(ASK_NS))));
}

/// How long the first bytes that are to be read have been there, as the kernel notes it.
pub(super) fn age(socket: &impl AsRawFd) -> Option<Duration> {
    let (mut byte, mut control) = ([0; 1], [0; CONTROL]);
    let mut slices = [IoSliceMut::new(&mut byte)];
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    let peeked =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags);
    let mut notes = peeked.as_ref().ok()?.cmsgs().ok()?;
    let arrived = notes.find_map(|note| match note {
        ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time)),
        _ => None,
    })?;
    // `None` if the wall clock was set back meanwhile.
    clock::wall().checked_sub(arrived)
}

/// Begins to serve a connection to which nothing was written yet; `placed_ns` of its wait it had to
/// wait for a place among the clients.
pub(super) fn begin(socket: &(impl AsFd + AsRawFd), placed_ns: u64) {
    let Some(waited) = trace::is_capturing().then(|| backlog::age(socket)).flatten() else {
        return;
    };
    with(|edge| {
        let waited_ns = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
        let taken = raw_clock::now();
        edge.taken = Some(Box::new(Taken { taken, waited_ns, placed_ns, settled: None }));
        edge.set_age(age(socket));
    });
}

/// A connection that had to wait until it was taken.
#[derive(Clone, Copy, Debug)]
struct Taken {
    /// The raw tick at which it was taken.
    taken: u64,
    waited_ns: u64,
    placed_ns: u64,
    /// The raw tick at which the client's acknowledgement of the settings was read.
    settled: Option<u64>,
}

/// When a frame was read, and how long its bytes had been there.
#[derive(Clone, Copy, Debug)]
struct Read {
    at: Moment,
    age_ns: Option<u64>,
}

/// A stream that h2 has not handed over yet.
#[derive(Debug)]
struct Opened {
    stream: u64,
    first: Read,
    last: Option<Moment>,
    accept: Option<Accept>,
}

/// The wait of a request for its connection to be taken.
type Accept = Box<(Moment, Taken)>;

/// What a connection's frames say about its calls.
#[derive(Debug)]
pub(super) struct Edge {
    is_on: bool,
    /// The raw tick of the present read, and the age of its bytes.
    now: u64,
    age_ns: Option<u64>,
    /// As long as requests may have waited for it.
    taken: Option<Box<Taken>>,
    /// In the order of their numbers.
    opened: VecDeque<Opened>,
    /// The streams of the last frames, each way, if they end it and are not complete.
    half: [Option<u64>; 2],
    table: Option<Arc<Table>>,
    is_stuck: bool,
    /// Whether streams and calls can no longer be joined.
    is_unsure: bool,
}

impl Default for Edge {
    fn default() -> Self {
        Self {
            is_on: trace::is_capturing(),
            now: 0,
            age_ns: None,
            taken: None,
            opened: VecDeque::new(),
            half: [None; 2],
            table: None,
            is_stuck: false,
            is_unsure: false,
        }
    }
}

impl Edge {
    /// The bytes that are about to be read have this age.
    pub(super) fn set_age(&mut self, age: Option<Duration>) {
        self.age_ns = age.and_then(|age| u64::try_from(age.as_nanos()).ok());
    }

    /// Bytes have been read; their frames follow.
    pub(super) fn read(&mut self) {
        self.now = raw_clock::now();
        let (last, mut until) = READS.get();
        let gap = self.now.saturating_sub(last);
        let gap_ns = raw_clock::to_ns(gap);
        if IDLE_NS <= gap_ns {
            until = self.now + if gap_ns < ASK_MAX_NS { gap } else { raw_clock::ticks(ASK_MAX_NS) };
        }
        READS.set((self.now, until));
    }

    /// The bytes that have been read are no HTTP/2.
    pub(super) fn read_http1(&mut self) {
        self.read();
        if self.is_on && self.opened.is_empty() {
            self.open(HTTP1);
        }
        let at = self.moment();
        self.opened.iter_mut().for_each(|opened| opened.last = Some(at));
        self.age_ns = None;
    }

    /// A frame from the client begins; `is_new` says that it opens its stream.
    pub(super) fn frame_read(&mut self, (kind, flags, stream): (u8, u8, u32), is_new: bool) {
        if !self.is_on || self.is_unsure {
            return;
        }
        self.complete_read();
        if is_new {
            self.open(u64::from(stream));
        }
        if kind == SETTINGS && flags & ACK != 0 {
            let now = self.now;
            self.taken.iter_mut().for_each(|taken| taken.settled = taken.settled.or(Some(now)));
        }
        let ends = matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0;
        self.half[0] = ends.then_some(u64::from(stream));
    }

    /// All bytes of a read have been looked at; `is_whole` says that the last frame is complete.
    pub(super) fn end_read(&mut self, is_whole: bool) {
        if is_whole {
            self.complete_read();
        }
        self.age_ns = None;
    }

    fn open(&mut self, stream: u64) {
        let accept = self.accept_of_new();
        let first = Read { at: self.moment(), age_ns: self.age_ns };
        self.opened.push_back(Opened { stream, first, last: None, accept });
        self.is_unsure |= OPENED_MAX < self.opened.len();
    }

    /// The wait of the connection, for a request that begins now, if that waited for it.
    fn accept_of_new(&mut self) -> Option<Accept> {
        let taken = **self.taken.as_ref()?;
        let is_prompt = |settled| raw_clock::to_ns(self.now.saturating_sub(settled)) <= PROMPT_NS;
        if !taken.settled.is_some_and(is_prompt) {
            self.taken = None;
            return None;
        }
        Some(Box::new((Moment { raw: taken.taken, ..Moment::now() }, taken)))
    }

    /// The time of the present read. Its clock is that of one frame: records of one stage must
    /// differ in it.
    fn moment(&self) -> Moment {
        Moment { clock: trace::ring::next_clock(), raw: self.now }
    }

    fn complete_read(&mut self) {
        let Some(stream) = self.half[0].take() else { return };
        let at = self.moment();
        match self.place(stream) {
            Some(place) => self.opened[place].last = Some(at),
            None => self.table.iter().for_each(|table| table.late(stream).set(stream, at)),
        }
    }

    fn place(&self, stream: u64) -> Option<usize> {
        self.opened.binary_search_by_key(&stream, |opened| opened.stream).ok()
    }

    /// h2 hands the next stream over.
    fn accept(&mut self) -> Option<Arrived> {
        if !self.is_on {
            return None;
        }
        self.is_unsure |= self.opened.is_empty() || self.is_stuck && 1 < self.opened.len();
        let Opened { stream, first, last, accept } = self.opened.pop_front()?;
        if self.is_unsure {
            self.opened.clear();
            return None;
        }
        let table = Arc::clone(self.table.get_or_insert_default());
        Some(Arrived { stream, first, last, accept, table, id: 0, began: Moment::default() })
    }

    /// Whether the socket takes nothing.
    pub(super) fn set_stuck(&mut self, is_stuck: bool) {
        self.is_stuck = is_stuck;
    }

    /// A frame begins among the bytes that the socket has taken.
    pub(super) fn frame_written(&mut self, (kind, flags, stream): (u8, u8, u32)) {
        self.complete_write();
        let stream = u64::from(stream);
        match kind {
            DATA | HEADERS if flags & END_STREAM != 0 => self.half[1] = Some(stream),
            RST_STREAM => self.strike(stream),
            _ => (),
        }
    }

    /// All bytes of a write have been looked at; `is_whole` says that the last frame is complete.
    pub(super) fn end_write(&mut self, is_whole: bool) {
        if is_whole {
            self.complete_write();
        }
    }

    /// The socket has taken all bytes of a write over HTTP/1.
    pub(super) fn written_http1(&mut self) {
        self.half[1] = Some(HTTP1);
        self.complete_write();
    }

    fn complete_write(&mut self) {
        let Some(stream) = self.half[1].take() else { return };
        // What comes after an answer may have been caused by it.
        self.taken = None;
        self.strike(stream);
        let Some(left) = self.table.as_ref().and_then(|table| table.left(stream).take(stream))
        else {
            return;
        };
        let ended = left.raw;
        if left.is_wanted || trace::is_slow(raw_clock::to_ns(raw_clock::now() - ended)) {
            let written = Moment::now();
            // Its beginning has no clock of its own: the rpc's end is known by its time only.
            past!(AnswerFlush, left.id, Moment { raw: ended, ..written }, written);
        }
    }

    /// A stream has been ended from this side. If it was not handed over, it is unknown whether it
    /// will be.
    fn strike(&mut self, stream: u64) {
        if self.place(stream).is_some() {
            self.is_unsure |= stream != HTTP1;
            self.opened.clear();
        }
    }
}

/// A call whose frames have been read, and then its request.
#[derive(Debug)]
pub(super) struct Arrived {
    stream: u64,
    first: Read,
    /// When its last frame was read, if that was before it was handed over.
    last: Option<Moment>,
    accept: Option<Accept>,
    table: Arc<Table>,
    /// The id of its request; 0 until its rpc begins.
    id: u64,
    began: Moment,
}

impl Arrived {
    /// The call's first rpc begins: it gets its id.
    pub(super) fn enter(&mut self, id: u64, began: Moment) {
        if self.id != 0 {
            return;
        }
        (self.id, self.began) = (id, began);
        self.last = self.last.or_else(|| self.table.late(self.stream).get(self.stream));
        if trace::kept(id) {
            self.record();
        }
    }

    /// The rpc with this id has ended: whether it has failed, and whether its answer ends the call.
    /// Returns whether it may be kept.
    pub(super) fn leave(
        &self,
        id: u64,
        ended: Moment,
        (has_failed, is_answered): (bool, bool),
    ) -> bool {
        if self.id != id || ended.clock == 0 {
            return false;
        }
        let is_kept = trace::kept(id);
        let (since, before_ns) = match &self.accept {
            Some(accept) => (accept.0, accept.1.waited_ns),
            None => (self.first.at, self.first.age_ns.unwrap_or(0)),
        };
        let took = ended.since(since).saturating_add(before_ns);
        let is_wanted = is_kept || has_failed || trace::is_slow(took);
        if is_wanted && !is_kept {
            self.record();
        }
        if is_answered {
            self.table.left(self.stream).set(self.stream, Left { id, raw: ended.raw, is_wanted });
        }
        is_wanted
    }

    fn record(&self) {
        if let Some((taken, Taken { waited_ns, placed_ns, .. })) = self.accept.as_deref().copied() {
            let made =
                Moment { raw: taken.raw.saturating_sub(raw_clock::ticks(waited_ns)), ..taken };
            past!(ConnectionAccept, self.id, made, taken, place = placed_ns);
        }
        let Read { at: first, age_ns } = self.first;
        if let Some(age_ns) = age_ns {
            let arrived = first.raw.saturating_sub(raw_clock::ticks(age_ns));
            past!(SocketQueue, self.id, Moment { raw: arrived, ..first }, first);
        }
        let last = self.last.unwrap_or(first);
        if first.raw < last.raw {
            past!(RpcReceive, self.id, first, last);
        }
        past!(RpcQueue, self.id, last, self.began);
    }
}

/// What the tasks of a connection and of its calls tell each other, without a lock.
#[derive(Debug)]
struct Table {
    left: [LeftSlot; LEFT],
    late: [LateSlot; LATE],
}

impl Default for Table {
    fn default() -> Self {
        Self {
            left: std::array::from_fn(|_| LeftSlot::default()),
            late: std::array::from_fn(|_| LateSlot::default()),
        }
    }
}

impl Table {
    fn left(&self, stream: u64) -> &LeftSlot {
        &self.left[place_of(stream, LEFT)]
    }

    fn late(&self, stream: u64) -> &LateSlot {
        &self.late[place_of(stream, LATE)]
    }
}

/// A client's streams have odd numbers.
fn place_of(stream: u64, places: usize) -> usize {
    usize::try_from(stream / 2 % places as u64).unwrap_or(0)
}

/// A request whose rpc has ended, and whose answer is not written yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Left {
    id: u64,
    /// The raw tick at which the rpc ended.
    raw: u64,
    is_wanted: bool,
}

/// The stream is written last and read first, so it names what stands beside it.
#[derive(Debug, Default)]
struct LeftSlot {
    stream: AtomicU64,
    id: AtomicU64,
    raw: AtomicU64,
    is_wanted: AtomicBool,
}

impl LeftSlot {
    fn set(&self, stream: u64, left: Left) {
        self.stream.store(0, Ordering::Relaxed);
        fence(Ordering::Release);
        self.id.store(left.id, Ordering::Relaxed);
        self.raw.store(left.raw, Ordering::Relaxed);
        self.is_wanted.store(left.is_wanted, Ordering::Relaxed);
        self.stream.store(stream, Ordering::Release);
    }

    /// Takes what the call of this stream has left.
    fn take(&self, stream: u64) -> Option<Left> {
        if self.stream.load(Ordering::Acquire) != stream {
            return None;
        }
        let left = Left {
            id: self.id.load(Ordering::Relaxed),
            raw: self.raw.load(Ordering::Relaxed),
            is_wanted: self.is_wanted.load(Ordering::Relaxed),
        };
        fence(Ordering::Acquire);
        let taken = self.stream.compare_exchange(stream, 0, Ordering::Relaxed, Ordering::Relaxed);
        taken.is_ok().then_some(left)
    }
}

/// When the last frame of a stream was read, after its call was handed over.
#[derive(Debug, Default)]
struct LateSlot {
    stream: AtomicU64,
    clock: AtomicU64,
    raw: AtomicU64,
}

impl LateSlot {
    fn set(&self, stream: u64, at: Moment) {
        self.stream.store(0, Ordering::Relaxed);
        fence(Ordering::Release);
        self.clock.store(at.clock, Ordering::Relaxed);
        self.raw.store(at.raw, Ordering::Relaxed);
        self.stream.store(stream, Ordering::Release);
    }

    fn get(&self, stream: u64) -> Option<Moment> {
        let is_own = || self.stream.load(Ordering::Acquire) == stream;
        let at = is_own().then(|| Moment {
            clock: self.clock.load(Ordering::Relaxed),
            raw: self.raw.load(Ordering::Relaxed),
        })?;
        fence(Ordering::Acquire);
        is_own().then_some(at)
    }
}

#[cfg(test)]
mod tests;
