//! The collector: copies the wanted records out of the rings and hands them to subscribers.
//!
//! ```text
//!   rings ──25 ms──▶ staging ──two passes later──▶ history ───────▶ a late subscriber
//!     ▲                 │                             │
//!     └── pinned ids ───┘                             └──▶ subscribers, each with its filter
//! ```
//!
//! The records that are wanted:
//!
//! 1. every record of a request that is kept (its id says so) or pinned (it failed or was slow);
//! 2. of the loops, always: changes of leader, entries that the log loses, and commits of the file;
//!    and the entries that belong to no request, such as a new leader's first;
//! 3. of the loops, what covers an entry or a round of the requests of 1, and what these stood
//!    behind ([`ahead`]);
//! 4. of the loops, everything, heartbeats too, in a pass with at most [`QUIET`] of their records;
//! 5. keyframes, every 100 ms; how long each stage usually takes, on change; and a record for
//!    every loss.
//!
//! Records stay in staging for two passes. The rings are read one after the other, so a send may be
//! read before the entry that it carries; two passes later both have been read, and 3 can be
//! decided. In that time a step that had taken its end clock also writes its record, so that the
//! watermark is true.
//!
//! The thread `trace-drain` reads the rings, and never makes a writer wait. Two others read them at
//! rare moments: [`Collector::finish`] makes the last passes on the thread that ends the member,
//! and [`Collector::everything`] copies what the rings hold on the thread that writes a flight.
//! With no subscriber `trace-drain` does the same work, for the [`history`].
//!
//! A pass holds the lock of the state for as long as it takes. So threads that serve peers and
//! clients never take that lock: a request to keep something, or to subscribe, is left in a list
//! ([`Left`]) that the next pass takes. Lock order: state, left, armed.
//!
//! [`Collector::pinned`] reports the requests that are pinned here, and `member` sends them to the
//! other members. Left out: the keys of requests that were pinned late, because they were never
//! recorded.

use std::{
    io, mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

mod ahead;
mod cover;
mod drain;
mod history;
mod pins;
mod pulse;
mod rate;
mod subscribe;
mod usual;
mod vitals;

use drain::State;
pub use drain::lost_records;
use pins::WAITING_MAX;
use pulse::Pulse;
use subscribe::Subscriber;
pub use subscribe::{Batch, Filter, Subscription, TRACES_PER_SECOND};

use tokio::sync::mpsc;

use super::{
    id, raw_clock,
    record::Record,
    watermarks::{Watermarks, watermarks},
};

/// How often the rings are read.
const PASS: Duration = Duration::from_millis(25);
/// The most loop records of a pass of which all are kept: 2000 a second.
pub const QUIET: usize = 50;

/// The member's identity, for [`start`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Raft's id of the member.
    pub member_id: u64,
    /// The id of the member's cluster.
    pub cluster_id: u64,
    /// The member's `--name`.
    pub name: String,
    /// Version of the program.
    pub version: String,
    /// The number of starts of this data directory, its low 16 bits.
    pub boot: u16,
    /// The wall clock now, nanoseconds since 1970.
    pub wall_ns: u64,
}

/// The first message to a subscriber: the member's identity, and how to read its ticks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Raft's id of the member.
    pub member_id: u64,
    /// The id of the member's cluster.
    pub cluster_id: u64,
    /// The member's `--name`.
    pub name: String,
    /// Version of the program.
    pub version: String,
    /// The number of starts of the data directory, its low 16 bits.
    pub boot: u16,
    /// Wall clock, nanoseconds since 1970, at `tick_base`.
    pub wall_ns: u64,
    /// Nanoseconds since the member's start at `wall_ns`: the unit of the records' ticks.
    pub tick_base: u64,
    /// The members of its cluster that it knows, by raft's id, with their names. The collector
    /// knows none; the observe service adds them.
    pub members: Vec<(u64, String)>,
}

/// Drains the rings of this process and serves the records that are kept.
pub struct Collector {
    hello: Hello,
    state: Mutex<State>,
    left: Mutex<Left>,
    /// The filters that mark requests to be kept when they arrive.
    armed: RwLock<Vec<Filter>>,
    is_armed: AtomicBool,
}

/// Requests of other threads for the next pass.
#[derive(Default)]
struct Left {
    /// Requests that other members ask to keep, each once; at most [`WAITING_MAX`].
    reported: Vec<u64>,
    /// Subscribers that have seen nothing yet; as many as there are streams of observers.
    subscribers: Vec<Subscriber>,
}

/// Starts collecting: notes that this member speaks glass, and spawns the thread that drains. The
/// thread ends when the last handle is gone.
pub fn start(info: Info) -> io::Result<Arc<Collector>> {
    let collector = Arc::new(Collector::new(info));
    let weak = Arc::downgrade(&collector);
    thread::Builder::new().name("trace-drain".to_owned()).spawn(move || drain(&weak))?;
    Ok(collector)
}

fn drain(collector: &Weak<Collector>) {
    let mut pulse = Pulse::new();
    loop {
        pulse.rest();
        let Some(collector) = collector.upgrade() else { return };
        raw_clock::anchor();
        collector.pass(now_ns());
    }
}

fn now_ns() -> u64 {
    raw_clock::since_start_ns(raw_clock::now())
}

impl Collector {
    pub(crate) fn new(info: Info) -> Collector {
        id::note_peer(info.member_id);
        let Info { member_id, cluster_id, name, version, boot, wall_ns } = info;
        let tick_base = now_ns();
        let members = Vec::new();
        let hello =
            Hello { member_id, cluster_id, name, version, boot, wall_ns, tick_base, members };
        Collector {
            hello,
            state: Mutex::new(State::new(boot)),
            left: Mutex::default(),
            armed: RwLock::new(Vec::new()),
            is_armed: AtomicBool::new(false),
        }
    }

    /// Identity of this member.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// The member's watermarks, into which the layers store.
    pub fn watermarks(&self) -> &'static Watermarks {
        watermarks()
    }

    /// Sets the duration from which a request counts as slow (`--trace-slow-ms`; 100 ms at first).
    pub fn set_slow(&self, threshold: Duration) {
        self.lock().set_slow(threshold);
    }

    /// Sets how many records a second the member's threads may write before they leave out the
    /// quick steps of requests that were not chosen (`--trace-brief-above`; no limit at first).
    pub fn set_brief_above(&self, records: u64) {
        self.lock().set_brief_above(records);
    }

    /// Keeps a request after all, as far as the rings still hold it: another member asks for it.
    /// The next pass does the work, so the caller does not wait for the drain. At most 30 in 100 ms
    /// are searched for; few of the others wait, and the rest is left out.
    pub fn pin_reported(&self, id: u64) {
        let reported = &mut self.lock_left().reported;
        if !id::kept(id) && reported.len() < WAITING_MAX && !reported.contains(&id) {
            reported.push(id);
        }
    }

    /// The requests that are pinned here from now on because they failed or are slow, for the task
    /// that sends them to the other members. One receiver at a time.
    pub fn pinned(&self) -> mpsc::Receiver<Vec<u64>> {
        self.lock().pinned()
    }

    /// Everything that is still known, and how many records are lost, for the flight recorder.
    /// Never waits: if a pass holds the lock, only the rings are read.
    pub fn everything(&self) -> (Vec<Record>, u64) {
        match self.state.try_lock() {
            Ok(state) => (state.everything(), state.lost()),
            Err(TryLockError::Poisoned(state)) => {
                (state.get_ref().everything(), state.get_ref().lost())
            }
            Err(TryLockError::WouldBlock) => (State::new(self.hello.boot).everything(), 0),
        }
    }

    /// Sends what `filter` lets through, from the next pass on; the history, if it is asked for,
    /// comes first. A slow reader loses batches, which are counted; it delays neither the collector
    /// nor other readers, and the caller does not wait for the drain.
    pub fn subscribe(&self, filter: Filter) -> Subscription {
        let mut left = self.lock_left();
        if filter.is_armed() {
            self.arm(|armed| armed.push(filter.clone()));
        }
        let (subscriber, subscription) = Subscriber::new(filter, self.hello.clone());
        left.subscribers.push(subscriber);
        subscription
    }

    /// Whether a subscriber's filter names requests like this one, which is then kept at any rate.
    /// Costs one comparison while there is no such filter. `method` is an index into
    /// [`super::METHODS`].
    pub fn is_armed(&self, method: u64, key: &[u8]) -> bool {
        self.is_armed.load(Ordering::Relaxed)
            && self
                .armed
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .iter()
                .any(|filter| filter.matches(method, key))
    }

    /// Hands out everything that the rings still hold, and ends all subscriptions, before the
    /// member ends.
    pub fn finish(&self) {
        for _ in 0..=drain::RESTS {
            self.pass(now_ns());
        }
        self.lock().end();
        self.lock_left().subscribers.clear();
    }

    fn pass(&self, now_ns: u64) {
        let mut state = self.lock();
        // Under the state's lock, so that a subscriber is always in one of the two lists.
        let Left { reported, subscribers } = mem::take(&mut *self.lock_left());
        reported.into_iter().for_each(|id| state.pin_reported(id, now_ns));
        state.begin(subscribers, now_ns);
        if state.pass(now_ns, self.watermarks()) {
            let left = self.lock_left();
            let waiting = left.subscribers.iter().map(Subscriber::filter);
            let waiting = waiting.filter(|filter| filter.is_armed()).cloned();
            let filters = state.armed().into_iter().chain(waiting).collect();
            self.arm(|armed| *armed = filters);
        }
    }

    /// Changes the armed filters. The caller holds the lock of `left`.
    fn arm(&self, change: impl FnOnce(&mut Vec<Filter>)) {
        let mut armed = self.armed.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut armed);
        self.is_armed.store(!armed.is_empty(), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_left(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
