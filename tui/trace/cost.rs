//! The cost of recording a step on this machine; the design allows at most 60 ns.

use std::io::Write;

use glass_etcd::{
    stage,
    trace::{self, raw_clock},
};

use super::Error;

const STEPS: u64 = 2_000_000;
const ROUNDS: u32 = 5;

/// Opens and ends steps in a loop, with capture on and off, and prints the best of several rounds.
pub(super) fn run() -> Result<(), Error> {
    trace::set_thread("grpc");
    let mut out = std::io::stdout().lock();
    for (is_on, name) in [(true, "on"), (false, "off")] {
        trace::set_capture(is_on);
        let best = (0..ROUNDS).map(|_| round()).min().unwrap_or(0);
        writeln!(out, "capture {name:<3}  {}.{:02} ns a step", best / 100, best % 100)?;
    }
    trace::set_capture(true);
    Ok(())
}

/// Hundredths of a nanosecond per step.
fn round() -> u64 {
    let began = raw_clock::now();
    for number in 0..STEPS {
        drop(stage!(WalFsync, 0, first = number, last = number, bytes = 100_u64));
    }
    raw_clock::to_ns(raw_clock::now() - began) * 100 / STEPS
}
