//! The cheapest clock there is, for records only: raw ticks of the processor's counter.

use std::sync::LazyLock;

use quanta::Clock;

static CLOCK: LazyLock<Clock> = LazyLock::new(Clock::new);
static START: LazyLock<u64> = LazyLock::new(|| CLOCK.raw());

/// Raw ticks now. Only differences mean anything, and only inside one process.
pub fn now() -> u64 {
    CLOCK.raw()
}

/// Raw ticks as nanoseconds.
pub fn to_ns(ticks: u64) -> u64 {
    CLOCK.delta_as_nanos(0, ticks)
}

/// Nanoseconds since the process first asked for the time, for a raw tick.
pub fn since_start_ns(raw: u64) -> u64 {
    CLOCK.delta_as_nanos(*START, raw)
}
