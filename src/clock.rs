//! Time enters the program here, and nowhere else.
//!
//! Everything that decides (elections, leases, deadlines) uses the monotonic clock: a wall clock
//! that jumps by an hour must change nothing. The wall clock only names things: ids, log lines.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The monotonic clock, now.
#[allow(clippy::disallowed_methods, reason = "the one place")]
pub fn now() -> Instant {
    Instant::now()
}

/// The wall clock, as time since 1970. A clock set before 1970 counts as 1970.
#[allow(clippy::disallowed_methods, reason = "the one place")]
pub fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + ahead()
}

/// How far the wall clock is set ahead: nothing, except for a failpoint of the tests, in seconds.
fn ahead() -> Duration {
    fail::fail_point!("wall-clock-ahead", |seconds| {
        let seconds = seconds.and_then(|seconds| seconds.parse().ok());
        Duration::from_secs(seconds.unwrap_or_default())
    });
    Duration::ZERO
}
