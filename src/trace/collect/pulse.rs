//! The pulse of the process: did its threads run when they could have?
//!
//! The thread that drains the rings sleeps for a fixed time, so it notices what no request can:
//! that no thread ran. When it wakes late, it asks why:
//!
//! | the process' CPU time | this thread's wait for a CPU | then |
//! |-----------------------|------------------------------|------|
//! | went on               | any                          | other threads ran: nothing to tell |
//! | stood still           | about as long as the delay   | the machine was busy: `cpu.wait` tells it |
//! | stood still           | short                        | `process.stalled` |
//!
//! A process that was stopped (SIGSTOP, a debugger, a frozen cgroup) waits for no CPU, and neither
//! does one whose machine was paused. The scheduler counts how long each thread was ready to run
//! and had no CPU, in `/proc/self/task/*/schedstat`; the difference from one keyframe to the next
//! is `cpu.wait`, if it is worth a record.
//!
//! Left out: why the process was stopped, and for how long in the sleep itself: the standstill may
//! have begun up to [`PASS`](super::PASS) earlier, which is its `margin`. Where the kernel does not
//! count (`CONFIG_SCHED_INFO`), neither record is written.

use std::{
    collections::{HashMap, hash_map::Entry},
    fs::File,
    os::unix::fs::FileExt,
    thread,
    time::Duration,
};

use nix::{
    time::{ClockId, clock_gettime},
    unistd::gettid,
};

use super::{PASS, drain::KEYFRAME_PASSES};
use crate::{
    past,
    trace::{
        ring::{self, THREADS},
        span::Moment,
    },
};

/// A delay from which it is looked into, in nanoseconds.
const LATE_NS: u64 = 50_000_000;
/// A wait for a CPU, of any thread between two keyframes, that is worth a record; in nanoseconds.
const WAIT_NS: u64 = 1_000_000;

/// What the draining thread knows of the threads of its process.
#[derive(Debug)]
pub(super) struct Pulse {
    own: Option<Waiting>,
    threads: HashMap<i32, Waiting>,
    /// When the threads were last looked at.
    looked: Moment,
    passes: u64,
}

/// How long a thread has waited for a CPU since it began.
#[derive(Debug)]
struct Waiting {
    file: File,
    ns: u64,
}

impl Pulse {
    /// Must be called on the thread that sleeps.
    pub(super) fn new() -> Pulse {
        let own = Waiting::of(gettid().as_raw());
        Pulse { own, threads: HashMap::new(), looked: Moment::now(), passes: 0 }
    }

    /// Sleeps until the next pass. Records a standstill, and how long threads had no CPU.
    pub(super) fn rest(&mut self) {
        let (asleep, cpu) = (Moment::now(), cpu_ns());
        thread::sleep(PASS);
        let awake = Moment::now();
        let waited = self.own.as_mut().and_then(Waiting::grown);
        let pass = u64::try_from(PASS.as_nanos()).unwrap_or(u64::MAX);
        let late = awake.since(asleep).saturating_sub(pass);
        if let Some((waited, cpu)) = waited.zip(cpu_ns().zip(cpu))
            && is_standstill(late, cpu.0.saturating_sub(cpu.1), waited)
        {
            let due = Moment { raw: asleep.raw + super::raw_clock::ticks(pass), ..asleep };
            let used = cpu.0.saturating_sub(cpu.1);
            past!(ProcessStalled, 0, due, awake, cpu = used, margin = pass);
        }
        self.passes += 1;
        if self.passes.is_multiple_of(KEYFRAME_PASSES) {
            self.look();
        }
    }

    /// Looks at all threads that have written records.
    fn look(&mut self) {
        let mut waits = [0; THREADS.len()];
        let rings = ring::rings();
        for ring in &rings {
            let grown = match self.threads.entry(ring.tid) {
                Entry::Occupied(mut known) => known.get_mut().grown(),
                // What it waited before is no part of this time.
                Entry::Vacant(new) => {
                    if let Some(waiting) = Waiting::of(ring.tid) {
                        new.insert(waiting);
                    }
                    None
                }
            };
            waits[usize::from(ring.thread).min(THREADS.len() - 1)] += grown.unwrap_or(0);
        }
        self.threads.retain(|tid, _| rings.iter().any(|ring| ring.tid == *tid));
        let (from, to) = (self.looked, Moment::now());
        self.looked = to;
        if waits.iter().any(|ns| WAIT_NS <= *ns) {
            let of = |name: &str| THREADS.iter().position(|known| *known == name);
            let ns = |name: &str| of(name).map_or(0, |at| waits[at]);
            past!(
                CpuWait,
                0,
                from,
                to,
                grpc = ns("grpc"),
                peer = ns("peer"),
                raft = ns("raft"),
                wal = ns("wal"),
                apply = ns("apply"),
                commit = ns("commit"),
                others = ns("other") + ns("background"),
            );
        }
    }
}

/// Whether a delay was a standstill, by the CPU time that the process used meanwhile and the time
/// for which this thread waited for a CPU; all in nanoseconds.
fn is_standstill(late: u64, cpu: u64, waited: u64) -> bool {
    LATE_NS <= late && cpu <= late / 10 && waited <= late / 2
}

impl Waiting {
    fn of(tid: i32) -> Option<Waiting> {
        let file = File::open(format!("/proc/self/task/{tid}/schedstat")).ok()?;
        let ns = read(&file)?;
        Some(Waiting { file, ns })
    }

    /// How long it has waited since the last call, in nanoseconds.
    fn grown(&mut self) -> Option<u64> {
        let now = read(&self.file)?;
        Some(now.saturating_sub(std::mem::replace(&mut self.ns, now)))
    }
}

/// The second of the three numbers of a `schedstat`.
fn read(file: &File) -> Option<u64> {
    let mut text = [0; 64];
    let len = file.read_at(&mut text, 0).ok()?;
    std::str::from_utf8(&text[..len]).ok()?.split_whitespace().nth(1)?.parse().ok()
}

/// The CPU time that all threads of the process have used.
fn cpu_ns() -> Option<u64> {
    let used = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).ok()?;
    u64::try_from(Duration::from(used).as_nanos()).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    const MS: u64 = 1_000_000;
    /// Some minutes of looks: the other thread has ended without having waited.
    const LOOKS_MAX: u64 = 100_000_000;

    #[test]
    fn a_delay_is_a_standstill_only_if_nothing_ran_and_nothing_waited_for_a_cpu() {
        assert!(is_standstill(2000 * MS, MS, MS));
        assert!(!is_standstill(49 * MS, 0, 0), "any thread may wake a little late");
        assert!(!is_standstill(100 * MS, 60 * MS, 0), "other threads ran");
        assert!(!is_standstill(100 * MS, 0, 90 * MS), "the machine was busy");
    }

    /// Method: two threads compute on one CPU, to which both are bound, so each must wait.
    #[test]
    fn a_thread_that_has_to_share_its_cpu_has_waited() {
        let done = Arc::new(AtomicUsize::new(0));
        let spin = |done: Arc<AtomicUsize>| {
            let mut cpus = nix::sched::CpuSet::new();
            cpus.set(0).unwrap();
            nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &cpus).unwrap();
            let mut own = Waiting::of(gettid().as_raw()).unwrap();
            let mut waited = 0;
            let mut is_done = false;
            // Alone, neither would wait: both go on until both have waited.
            let mut looks = 0_u64;
            while done.load(Ordering::Relaxed) < 2 {
                looks += 1;
                assert!(looks < LOOKS_MAX, "it waited {waited} ns only");
                waited += own.grown().unwrap();
                if !is_done && 20 * MS <= waited {
                    is_done = true;
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        let threads = [0, 1].map(|_| {
            let done = Arc::clone(&done);
            thread::spawn(move || spin(done))
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}
