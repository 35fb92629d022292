//! Measures of the process for its keyframes: memory, and how long the log's fsyncs take.
//!
//! ```text
//!   wal.fsync, took ──▶ the second that runs ── it ends ──▶ count and p99 ──▶ keyframe.process
//! ```
//!
//! The draining thread reads every `wal.fsync` anyway, so all of them count. A keyframe gives the
//! figures of the last whole second: the running one is too short for a p99.
//!
//! Left out: memory where there is no `/proc/self/status`; it is 0 then.

use std::{fs::File, mem, os::unix::fs::FileExt};

use crate::trace::{
    record::{Kind, Record},
    stage::Stage,
    watermarks::Watermarks,
};

/// The time over which fsyncs are counted, in nanoseconds.
const SECOND_NS: u64 = 1_000_000_000;

/// What the draining thread measures.
#[derive(Debug)]
pub(super) struct Vitals {
    status: Option<File>,
    /// Durations of the fsyncs of the running second, in nanoseconds: as many as a disk can do.
    running: Vec<u64>,
    began_ns: u64,
    /// Number and p99 of the second before.
    last: (u64, u64),
}

impl Vitals {
    pub(super) fn new() -> Vitals {
        let status = File::open("/proc/self/status").ok();
        Vitals { status, running: Vec::new(), began_ns: 0, last: (0, 0) }
    }

    /// Notes an fsync of the log. Other records do not count.
    pub(super) fn count(&mut self, record: &Record) {
        let is_end = record.head().kind == Kind::Span as u8;
        if is_end && record.stage() == Some(Stage::WalFsync) {
            self.running.push(record.took_ns());
        }
    }

    /// The fields of `keyframe.process`.
    pub(super) fn keyframe(&mut self, now_ns: u64, marks: &Watermarks) -> [u64; 8] {
        if self.began_ns + SECOND_NS <= now_ns {
            let mut all = mem::take(&mut self.running);
            // After a standstill the second was longer, and says nothing of a second.
            let is_whole = now_ns < self.began_ns + 2 * SECOND_NS;
            self.last = if is_whole { (all.len() as u64, p99(&mut all)) } else { (0, 0) };
            self.began_ns = now_ns;
        }
        let (fsyncs, fsync_p99) = self.last;
        marks.keyframe_process(self.memory().unwrap_or(0), fsyncs, fsync_p99)
    }

    /// Memory of the process that is in RAM, in bytes.
    fn memory(&self) -> Option<u64> {
        let mut text = [0; 4096];
        let len = self.status.as_ref()?.read_at(&mut text, 0).ok()?;
        let text = String::from_utf8_lossy(&text[..len]);
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_whitespace().next()?.parse().ok().map(|kib: u64| kib << 10)
    }
}

/// The duration that 99 of 100 do not exceed; 0 of none.
fn p99(all: &mut [u64]) -> u64 {
    all.sort_unstable();
    (all.len() * 99).div_ceil(100).checked_sub(1).map_or(0, |at| all[at])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::record::Head;

    fn fsync(took_ns: u64) -> Record {
        let head = Head { stage: Stage::WalFsync as u8, kind: Kind::Span as u8, ..Head::default() };
        let mut record = Record::new(head, 1, 0, 0, &[0; 8]);
        record.set_length(1, took_ns);
        record
    }

    fn figures(vitals: &mut Vitals, now_ns: u64) -> [u64; 2] {
        let fields = vitals.keyframe(now_ns, &Watermarks::new());
        ["fsyncs", "fsync_p99"].map(|name| fields[Stage::KeyframeProcess.slot(name)])
    }

    #[test]
    fn a_keyframe_has_the_fsyncs_of_the_last_whole_second() {
        let mut vitals = Vitals::new();
        figures(&mut vitals, 10 * SECOND_NS);
        (1..=200).for_each(|took| vitals.count(&fsync(took)));
        assert_eq!(figures(&mut vitals, 10 * SECOND_NS + 100), [0, 0], "it has not ended");
        assert_eq!(figures(&mut vitals, 11 * SECOND_NS), [200, 198]);
        vitals.count(&fsync(7));
        assert_eq!(figures(&mut vitals, 11 * SECOND_NS + 1), [200, 198]);
        assert_eq!(figures(&mut vitals, 12 * SECOND_NS), [1, 7]);
        assert_eq!(figures(&mut vitals, 13 * SECOND_NS), [0, 0], "none in this second");
        vitals.count(&fsync(7));
        assert_eq!(figures(&mut vitals, 19 * SECOND_NS), [0, 0], "the process stood still");
    }

    #[test]
    fn memory_is_that_of_this_process() {
        let memory = Vitals::new().memory().unwrap();
        let grown: Vec<u8> = std::hint::black_box(vec![1; 64 << 20]);
        let more = Vitals::new().memory().unwrap();
        assert!(memory + (32 << 20) < more, "{memory} and then {more} with {}", grown.len());
    }
}
