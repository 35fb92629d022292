//! How much memory each answer holds while it is sent, and which answers wait: plain arithmetic.
//!
//! ```text
//!   enter ──▶ reading ──keep──▶ sending ──sent, sent, …──▶ leave
//!     │ no room                    │ stalled while others wait
//!     ▼                            ▼
//!   waiting, in order            ended: holds only what HTTP/2 already has
//! ```
//!
//! Each answer begins with a **window**, the memory that it needs to be read and sent piece by
//! piece; and with its **plan**, the keys of its rows, by an upper limit. Beyond that it holds the
//! rows that it keeps, which it may do while both its connection and the member have kept less than
//! their share. So kept rows never use up the windows of other answers, and an answer that may keep
//! nothing is slower but proceeds. An answer that has kept all its rows needs no window.
//!
//! Invariants
//! * No answer that holds anything waits for more. So everything held is given back, unless a
//!   client does not read; and then its answers are ended when others wait for the room.
//! * A waiting answer is passed only by those of connections that hold less. So a client that reads
//!   is not delayed by one that does not, however many answers the latter asks for.
//! * A connection, and the member, may always have one answer, however low the limits are. And a
//!   plan that is longer than a connection's limit begins when a plan of that limit would.
//!
//! The caller supplies the time. Nothing here locks, allocates rows, or knows the contents of an
//! answer.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::{Duration, Instant},
};

/// Upper limits, in bytes unless stated otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The least that a large answer holds while it is read and sent.
    pub window: usize,
    /// For all answers of the member.
    pub member: ShareLimit,
    /// For those of one connection.
    pub connection: ShareLimit,
    /// Answers in the queue.
    pub waiting: usize,
    /// How long an answer may make no progress while others wait.
    pub stall: Duration,
}

/// A limit, and the part of it that kept rows may fill.
#[derive(Clone, Copy, Debug)]
pub struct ShareLimit {
    /// Windows, plans and kept rows.
    pub all: usize,
    /// Beyond this, no more rows are kept.
    pub kept: usize,
}

/// An answer, or a place in the queue.
pub type Ticket = u64;

#[derive(Debug)]
struct Answer {
    connection: u64,
    /// Bytes that it holds in all.
    bytes: usize,
    /// Bytes of it that HTTP/2 has and has not written yet, whether kept or of the window.
    handed: usize,
    /// When its client last took something; `None` while the member reads it, or its next rows.
    progress: Option<Instant>,
    is_ended: bool,
}

/// A place in the queue.
#[derive(Clone, Copy, Debug)]
struct QueuedAnswer {
    ticket: Ticket,
    connection: u64,
    /// Bytes that its plan may take, beside its window.
    plan: usize,
}

/// The measures against clients that do not read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Answers that are ended: the rows that they kept are given back.
    pub ended: Vec<Ticket>,
    /// Answers that have entered in their place.
    pub admitted: Vec<Ticket>,
    /// Connections to be closed: they hold frames that were handed to them, and take nothing.
    pub closed: Vec<u64>,
}

/// See the module's text.
#[derive(Debug)]
pub struct Ledger {
    limits: Limits,
    used: usize,
    connections: HashMap<u64, usize>,
    answers: BTreeMap<Ticket, Answer>,
    waiting: VecDeque<QueuedAnswer>,
    last: Ticket,
}

impl Ledger {
    /// A ledger without answers.
    pub fn new(limits: Limits) -> Ledger {
        let (connections, answers) = (HashMap::new(), BTreeMap::new());
        Ledger { limits, used: 0, connections, answers, waiting: VecDeque::new(), last: 0 }
    }

    /// Bytes that all answers hold.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Bytes that the answers of a connection hold.
    pub fn used_by(&self, connection: u64) -> usize {
        self.connections.get(&connection).copied().unwrap_or(0)
    }

    /// The length of the queue.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Begins an answer, if there is room for its window and its plan.
    pub fn enter(&mut self, connection: u64, plan: usize) -> Option<Ticket> {
        let is_passed = self.next().is_some_and(|next| !self.has_room(self.waiting[next].plan));
        let is_free =
            !is_passed && self.has_room(plan) && self.connection_has_room(connection, plan);
        is_free.then(|| self.enter_anyway(connection, plan))
    }

    /// Begins an answer, whether there is room or not.
    pub fn enter_anyway(&mut self, connection: u64, plan: usize) -> Ticket {
        self.last += 1;
        self.begin(QueuedAnswer { ticket: self.last, connection, plan })
    }

    /// Queues for a window and a plan. `None` if the queue is full and the answer may be refused.
    pub fn wait(&mut self, connection: u64, plan: usize, may_refuse: bool) -> Option<Ticket> {
        if may_refuse && self.waiting.len() >= self.limits.waiting {
            return None;
        }
        self.last += 1;
        self.waiting.push_back(QueuedAnswer { ticket: self.last, connection, plan });
        Some(self.last)
    }

    /// Gives up a place in the queue.
    pub fn give_up(&mut self, ticket: Ticket) {
        self.waiting.retain(|other| other.ticket != ticket);
    }

    /// Admits answers from the queue while there is room. The connection that holds the least comes
    /// first, and of several such the answer that has waited the longest. Shorter plans do not pass
    /// a long one, or it would wait for ever.
    pub fn admit(&mut self) -> Vec<Ticket> {
        let mut admitted = Vec::new();
        while let Some(at) = self.next() {
            let QueuedAnswer { connection, plan, .. } = self.waiting[at];
            if !self.has_room(plan) || !self.connection_has_room(connection, plan) {
                break;
            }
            admitted.extend(self.waiting.remove(at).map(|next| self.begin(next)));
        }
        admitted
    }

    /// The answer that enters next, by its place in the queue.
    fn next(&self) -> Option<usize> {
        let waiting = self.waiting.iter().enumerate();
        let least = waiting.min_by_key(|(at, next)| (self.used_by(next.connection), *at));
        least.map(|(at, _)| at)
    }

    /// Keeps more bytes, if the member's and the connection's shares allow it.
    pub fn keep(&mut self, ticket: Ticket, bytes: usize) -> bool {
        let Some(answer) = self.answers.get(&ticket) else { return false };
        let (limits, of_connection) = (self.limits, self.used_by(answer.connection));
        let is_free = self.used + bytes <= limits.member.kept
            && of_connection + bytes <= limits.connection.kept;
        if is_free {
            self.overdraw(ticket, bytes);
        }
        is_free
    }

    /// Holds more bytes, whether the limits allow it or not.
    pub fn overdraw(&mut self, ticket: Ticket, bytes: usize) {
        let Some(answer) = self.answers.get_mut(&ticket) else { return };
        answer.bytes += bytes;
        self.used += bytes;
        *self.connections.entry(answer.connection).or_default() += bytes;
    }

    /// Gives back some of the bytes.
    pub fn give_back(&mut self, ticket: Ticket, bytes: usize) {
        let Some(answer) = self.answers.get_mut(&ticket) else { return };
        let bytes = bytes.min(answer.bytes);
        answer.bytes -= bytes;
        let connection = answer.connection;
        self.release(connection, bytes);
    }

    /// The answer is read. From now on it stalls if its client takes nothing.
    pub fn send(&mut self, ticket: Ticket, now: Instant) {
        if let Some(answer) = self.answers.get_mut(&ticket) {
            answer.progress = Some(now);
        }
    }

    /// The member reads the next rows. Until [`send`](Self::send) the answer does not stall.
    pub fn pause(&mut self, ticket: Ticket) {
        if let Some(answer) = self.answers.get_mut(&ticket) {
            answer.progress = None;
        }
    }

    /// HTTP/2 has been handed `bytes` more.
    pub fn hand(&mut self, ticket: Ticket, bytes: usize) {
        if let Some(answer) = self.answers.get_mut(&ticket) {
            answer.handed += bytes;
        }
    }

    /// HTTP/2 has written or dropped `bytes` of them. These are free if they were kept; the window
    /// is needed again, unless the answer was ended.
    pub fn sent(&mut self, ticket: Ticket, bytes: usize, is_kept: bool, now: Instant) {
        let Some(answer) = self.answers.get_mut(&ticket) else { return };
        if let Some(progress) = &mut answer.progress {
            *progress = now;
        }
        answer.handed -= bytes.min(answer.handed);
        if is_kept || answer.is_ended {
            self.give_back(ticket, bytes);
        }
    }

    /// Gives back everything: the answer is sent or cancelled.
    pub fn leave(&mut self, ticket: Ticket) {
        if let Some(answer) = self.answers.remove(&ticket) {
            self.release(answer.connection, answer.bytes);
        }
    }

    /// Ends stalled answers, the longest stalled first, until the queue is empty. If that is not
    /// enough because HTTP/2 has the bytes that they hold, also names connections to be closed: the
    /// one that holds the most first, and none that makes progress with another answer.
    pub fn judge(&mut self, now: Instant) -> Verdict {
        let mut verdict = Verdict::default();
        for ticket in self.stalled(now, self.limits.stall) {
            let Some(answer) = self.answers.get(&ticket) else { continue };
            let held = answer.bytes.saturating_sub(answer.handed);
            let connection = answer.connection;
            if !answer.is_ended && self.is_waited_for(connection) {
                self.end(ticket, held);
                verdict.ended.push(ticket);
                verdict.admitted.append(&mut self.admit());
            }
        }
        let mut freed = 0;
        let wanted: usize = self.waiting.iter().map(|next| self.wanted(next.plan)).sum();
        for (held, connection) in self.stuck(now) {
            if freed < wanted && self.is_waited_for(connection) {
                freed += held;
                verdict.closed.push(connection);
            }
        }
        verdict
    }

    /// Bytes and number of the connections that have taken nothing for twice the stall time and
    /// have an ended answer, the most bytes first.
    fn stuck(&self, now: Instant) -> Vec<(usize, u64)> {
        let stalled = self.stalled(now, 2 * self.limits.stall);
        let handed = |ticket: &Ticket| {
            let answer = self.answers.get(ticket)?;
            (answer.is_ended && answer.handed > 0).then_some(answer.connection)
        };
        let moves = |connection: u64| {
            let mut others = self.answers.values().filter(|other| other.connection == connection);
            others.any(|other| !other.progress.is_some_and(|it| self.is_stalled(it, now)))
        };
        let connections: BTreeSet<u64> = stalled.iter().filter_map(handed).collect();
        let mut stuck: Vec<(usize, u64)> = (connections.into_iter())
            .filter(|connection| !moves(*connection))
            .map(|connection| (self.used_by(connection), connection))
            .collect();
        stuck.sort_unstable_by(|a, b| b.cmp(a));
        stuck
    }

    fn is_stalled(&self, progress: Instant, now: Instant) -> bool {
        now.saturating_duration_since(progress) >= self.limits.stall
    }

    /// Answers without progress for at least this time, the longest first; none while the queue is
    /// empty.
    fn stalled(&self, now: Instant, least: Duration) -> Vec<Ticket> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        let mut stalled: Vec<(Instant, Ticket)> = (self.answers.iter())
            .filter_map(|(ticket, answer)| Some((answer.progress?, *ticket)))
            .filter(|(progress, _)| now.saturating_duration_since(*progress) >= least)
            .collect();
        stalled.sort_unstable();
        stalled.into_iter().map(|(_, ticket)| ticket).collect()
    }

    fn end(&mut self, ticket: Ticket, held: usize) {
        if let Some(answer) = self.answers.get_mut(&ticket) {
            answer.is_ended = true;
        }
        self.give_back(ticket, held);
    }

    /// Whether an answer waits for room that this connection holds.
    fn is_waited_for(&self, connection: u64) -> bool {
        let Some(next) = self.next() else { return false };
        let is_own = |it: &QueuedAnswer| {
            it.connection == connection && !self.connection_has_room(connection, it.plan)
        };
        !self.has_room(self.waiting[next].plan) || self.waiting.iter().any(is_own)
    }

    fn begin(&mut self, next: QueuedAnswer) -> Ticket {
        let QueuedAnswer { ticket, connection, plan } = next;
        let answer = Answer { connection, bytes: 0, handed: 0, progress: None, is_ended: false };
        self.answers.insert(ticket, answer);
        self.overdraw(ticket, self.limits.window + plan);
        ticket
    }

    /// Bytes that must be free before an answer with this plan enters.
    fn wanted(&self, plan: usize) -> usize {
        let Limits { window, connection, .. } = self.limits;
        window.saturating_add(plan).min(connection.all.max(window))
    }

    fn has_room(&self, plan: usize) -> bool {
        self.used == 0 || self.used + self.wanted(plan) <= self.limits.member.all
    }

    fn connection_has_room(&self, connection: u64, plan: usize) -> bool {
        let used = self.used_by(connection);
        used == 0 || used + self.wanted(plan) <= self.limits.connection.all
    }

    fn release(&mut self, connection: u64, bytes: usize) {
        self.used -= bytes;
        if let Some(used) = self.connections.get_mut(&connection) {
            *used -= bytes;
            if *used == 0 {
                self.connections.remove(&connection);
            }
        }
    }
}
