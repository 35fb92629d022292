//! The cheapest clock, for records only: raw ticks of the processor's counter.
//!
//! The length of a tick is measured when the process starts, and that is off by some parts in a
//! hundred thousand: after two minutes, members on one machine would seem milliseconds apart. So
//! the drain anchors the ticks to the system's monotonic clock at each of its passes, and a tick is
//! only ever measured from the nearest anchor before it.

use std::{
    sync::{LazyLock, Mutex, PoisonError},
    time::Instant,
};

use quanta::Clock;

static CLOCK: LazyLock<Clock> = LazyLock::new(Clock::new);
static START: LazyLock<(u64, Instant)> = LazyLock::new(|| (CLOCK.raw(), instant()));
/// A raw tick, and the nanoseconds since the start that it stands for.
static ANCHOR: Mutex<Option<(u64, u64)>> = Mutex::new(None);

/// Raw ticks now. Only differences mean anything, and only inside one process.
pub fn now() -> u64 {
    CLOCK.raw()
}

/// Raw ticks as nanoseconds; for short times.
pub fn to_ns(ticks: u64) -> u64 {
    CLOCK.delta_as_nanos(0, ticks)
}

/// Nanoseconds since the process first read this clock, without the anchor: cheaper, and exact
/// enough to count seconds.
pub fn rough_ns(raw: u64) -> u64 {
    CLOCK.delta_as_nanos(START.0, raw)
}

/// Converts a raw tick to nanoseconds since the process first read this clock.
pub fn since_start_ns(raw: u64) -> u64 {
    let anchor = *ANCHOR.lock().unwrap_or_else(PoisonError::into_inner);
    let (anchor, ns) = anchor.unwrap_or((START.0, 0));
    match raw.checked_sub(anchor) {
        Some(later) => ns + to_ns(later),
        None => ns.saturating_sub(to_ns(anchor - raw)),
    }
}

/// Sets a new anchor. Called by one thread, at each pass over the rings.
pub fn anchor() {
    let (_, start) = *START;
    let anchor = (CLOCK.raw(), u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
    *ANCHOR.lock().unwrap_or_else(PoisonError::into_inner) = Some(anchor);
}

#[allow(clippy::disallowed_methods, reason = "trace imports nothing of ours, not even the clock")]
fn instant() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_before_and_after_an_anchor_keep_their_distance() {
        since_start_ns(now());
        let before = now();
        anchor();
        let after = now();
        let (first, last) = (since_start_ns(before), since_start_ns(after));
        assert!(first <= last);
        assert!(last - first <= to_ns(after - before) + 1);
    }
}
