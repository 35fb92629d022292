//! Log lines about unary calls that took long (etcd: `logUnaryRequestStats`).
//!
//! Tools wait for etcd's text, "request stats", and for its keys, which have spaces. Beside them
//! are the id of the request and the command that prints its trace. Its content is not in the line: the
//! trace has the key.

use std::{sync::OnceLock, time::Duration};

use super::{calls, method::Method};
use crate::{
    clock,
    server::slow::{SlowRequests, show, trace_id},
};

static SLOW: OnceLock<SlowRequests> = OnceLock::new();

/// From now on, calls that take longer are logged.
pub fn begin(expected: Duration) {
    SLOW.get_or_init(|| SlowRequests::new(expected));
}

/// A unary call has ended. `bytes`: of its answer, and of its request.
pub(super) fn note(id: u64, method: Method, took: Duration, bytes: (usize, usize)) {
    let Some(slow) = SLOW.get().filter(|slow| slow.is_slow(took)) else { return };
    let Some(name) = calls::full_name(method) else { return };
    let Some(left_out) = slow.next_line(clock::now()) else { return };
    tracing::warn!(
        "time spent" = ?took,
        "response type" = name,
        "request size" = bytes.1,
        "response size" = bytes.0,
        "trace-id" = %trace_id(id),
        show = %show(id),
        "left-out" = left_out,
        "request stats"
    );
}
