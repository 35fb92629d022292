//! The collector: copies out of the rings what somebody wants, and hands it to whoever watches.
//!
//! ```text
//!   rings ──25 ms──▶ staging ──two passes later──▶ history (10 s) ──▶ a late subscriber
//!     ▲                 │                             │
//!     └── pinned ids ───┘                             └──▶ subscribers, each with its filter
//! ```
//!
//! What is wanted:
//!
//! 1. every record of a request that is kept (its id says so) or pinned (it failed or was slow);
//! 2. of the loops, what concerns who leads, what the log loses and what the file gains, always;
//!    and the entries that belong to no request, a new leader's first above all;
//! 3. of the loops, what covers an entry or a round of 1;
//! 4. of the loops, everything, heartbeats too, while there are at most [`QUIET`] records in a pass;
//! 5. keyframes, every 100 ms, and a record for every loss.
//!
//! Records rest in staging for two passes. The rings are read one after the other, so a send may be
//! read before the entry that it carries; two passes later both are there and 3 can be decided. The
//! same delay lets a step that had taken its end clock but not yet written its record catch up, so
//! that the watermark tells the truth.
//!
//! The thread that drains (`trace-drain`) is the only one that reads rings. It never makes a writer
//! wait. With no subscriber it does the same work, for the history, bounded in time and number.
//!
//! What is pinned here goes to the other members as well: [`Collector::pinned`] says what, and
//! `member` tells them. Left out: text of the keys of requests that were pinned late, because it
//! was never written down.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

mod cover;
mod drain;
mod pins;
mod subscribe;

use drain::State;
pub use pins::is_waiting;
pub use subscribe::{Batch, Filter, Subscription, TRACES_PER_SECOND};

use tokio::sync::mpsc;

use super::{
    id,
    record::Record,
    tick,
    watermarks::{Watermarks, watermarks},
};

/// How often the rings are read.
const PASS: Duration = Duration::from_millis(25);
/// Up to so many loop records in a pass, all of them are kept: 2000 a second.
pub const QUIET: usize = 50;

/// Who the member is: what [`start`] needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Raft's id of the member.
    pub member_id: u64,
    /// The cluster's id.
    pub cluster_id: u64,
    /// `--name`.
    pub name: String,
    /// Version of the program.
    pub version: String,
    /// How often this data directory has been started; the low 16 bits.
    pub boot: u16,
    /// The wall clock now, nanoseconds since 1970.
    pub wall_ns: u64,
}

/// What a subscriber hears first: who speaks, and how to read its ticks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Raft's id of the member.
    pub member_id: u64,
    /// The cluster's id.
    pub cluster_id: u64,
    /// `--name`.
    pub name: String,
    /// Version of the program.
    pub version: String,
    /// Which start of the data directory.
    pub boot: u16,
    /// Wall clock, nanoseconds since 1970, at `tick_base`.
    pub wall_ns: u64,
    /// Nanoseconds since the member's start at `wall_ns`: the unit of the records' ticks.
    pub tick_base: u64,
}

/// Drains the rings of this process and serves what it finds.
pub struct Collector {
    hello: Hello,
    state: Mutex<State>,
    /// The filters by which requests are recognised on their way in.
    armed: RwLock<Vec<Filter>>,
    is_armed: AtomicBool,
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
    loop {
        thread::sleep(PASS);
        let Some(collector) = collector.upgrade() else { return };
        tick::anchor();
        collector.pass(now_ns());
    }
}

fn now_ns() -> u64 {
    tick::since_start_ns(tick::now())
}

impl Collector {
    fn new(info: Info) -> Collector {
        id::note_peer(info.member_id);
        let Info { member_id, cluster_id, name, version, boot, wall_ns } = info;
        let tick_base = now_ns();
        let hello = Hello { member_id, cluster_id, name, version, boot, wall_ns, tick_base };
        Collector {
            hello,
            state: Mutex::new(State::new(boot)),
            armed: RwLock::new(Vec::new()),
            is_armed: AtomicBool::new(false),
        }
    }

    /// Who this member is.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Where the member stands; for the layers to store into.
    pub fn watermarks(&self) -> &'static Watermarks {
        watermarks()
    }

    /// Sets from how long on a request counts as slow (`--trace-slow-ms`; 100 ms at first).
    pub fn set_slow(&self, threshold: Duration) {
        self.lock().set_slow(threshold);
    }

    /// Keeps a request after all, as far as the rings still hold it: another member asks for it.
    /// At most 30 in 50 ms; the rest is not kept.
    pub fn pin_told(&self, id: u64) {
        self.lock().pin_told(id, now_ns());
    }

    /// The requests that are pinned here from now on, because they failed or are slow: for whoever
    /// tells the other members. One receiver at a time.
    pub fn pinned(&self) -> mpsc::Receiver<Vec<u64>> {
        self.lock().pinned()
    }

    /// Everything that is still known, and how many records are lost: for the flight recorder. Waits
    /// for nobody: if the drain is at work, only the rings are read.
    pub fn everything(&self) -> (Vec<Record>, u64) {
        match self.state.try_lock() {
            Ok(state) => (state.everything(), state.lost()),
            Err(TryLockError::Poisoned(state)) => {
                (state.get_ref().everything(), state.get_ref().lost())
            }
            Err(TryLockError::WouldBlock) => (State::new(self.hello.boot).everything(), 0),
        }
    }

    /// Begins to send what `filter` lets through. A reader that is slow loses batches, which are
    /// counted; it never holds anybody up.
    pub fn subscribe(&self, filter: Filter) -> Subscription {
        let mut state = self.lock();
        let subscription = state.subscribe(filter, self.hello.clone(), now_ns());
        self.arm(&state);
        subscription
    }

    /// Whether somebody waits for requests like this one: it is to be kept then, whatever the rate.
    /// One comparison while nobody does. `method` is a place in [`super::METHODS`].
    pub fn is_armed(&self, method: u64, key: &[u8]) -> bool {
        self.is_armed.load(Ordering::Relaxed)
            && self
                .armed
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .iter()
                .any(|filter| filter.matches(method, key))
    }

    /// Hands out everything that the rings still hold, and ends all subscriptions: the member is
    /// about to end.
    pub fn finish(&self) {
        for _ in 0..=drain::RESTS {
            self.pass(now_ns());
        }
        self.lock().end();
    }

    fn pass(&self, now_ns: u64) {
        let mut state = self.lock();
        if state.pass(now_ns, self.watermarks()) {
            self.arm(&state);
        }
    }

    fn arm(&self, state: &State) {
        let filters = state.armed();
        self.is_armed.store(!filters.is_empty(), Ordering::Relaxed);
        *self.armed.write().unwrap_or_else(PoisonError::into_inner) = filters;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
