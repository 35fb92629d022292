//! Log lines about requests that took long, with the command that shows why.
//!
//! Tools wait for etcd's text and keys ("apply request took too long", `took`,
//! `expected-duration`), so the line has those, and beside them the id of the request and the
//! command that prints its trace. A request this slow is slow for the trace, too, unless the flags
//! say otherwise, so its trace is kept.
//!
//! While everything is slow, more lines would only make it slower: at most [`LINES_MAX`] are logged
//! in a second, and the next line says how many were left out. The text of a request is made for a
//! line only. It has the key, like etcd's, unless `--trace-redact-keys` leaves keys out; never a
//! value.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::Error;
use crate::{
    clock,
    metrics::recorded,
    pb::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest},
    trace,
};

/// The most lines in a second.
const LINES_MAX: u32 = 32;
/// The most bytes of a key in a line.
const KEY_BYTES_MAX: usize = 128;

/// The most comparisons in a line.
const COMPARES_MAX: usize = 4;

/// Decides which slow requests are logged.
#[derive(Debug)]
pub struct SlowRequests {
    /// `--experimental-warning-apply-duration`.
    expected: Duration,
    lines: Mutex<Lines>,
}

/// The lines of the present second.
#[derive(Debug, Default)]
struct Lines {
    since: Option<Instant>,
    written: u32,
    left_out: u64,
}

impl Lines {
    /// Whether another line may be logged now; if so, how many were left out before it.
    fn next(&mut self, now: Instant) -> Option<u64> {
        let is_old = self.since.is_none_or(|since| Duration::from_secs(1) <= now - since);
        if is_old {
            (self.since, self.written) = (Some(now), 0);
        }
        if self.written == LINES_MAX {
            self.left_out += 1;
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

impl SlowRequests {
    /// Requests count as slow from this duration on.
    pub fn new(expected: Duration) -> Self {
        Self { expected, lines: Mutex::default() }
    }

    /// Apply has carried out request `id` in so many nanoseconds. `describe` returns the request
    /// and, if it was refused, the reason.
    pub(super) fn applied(&self, id: u64, ns: u64, describe: impl FnOnce() -> (String, String)) {
        self.note("", id, Duration::from_nanos(ns), describe);
    }

    /// A read has ended, which began so long ago. `prefix` is etcd's: `read-only range ` or
    /// `read-only txn `.
    pub(super) fn read(
        &self,
        prefix: &'static str,
        id: u64,
        took: Duration,
        describe: impl FnOnce() -> (String, String),
    ) {
        self.note(prefix, id, took, describe);
    }

    fn note(
        &self,
        prefix: &str,
        id: u64,
        took: Duration,
        describe: impl FnOnce() -> (String, String),
    ) {
        if !self.is_slow(took) {
            return;
        }
        recorded::SLOW_APPLIES.increment();
        let Some(left_out) = self.next_line(clock::now()) else { return };
        let (request, error) = describe();
        let request = if trace::is_redacting() { String::new() } else { request };
        tracing::warn!(
            took = ?took,
            "expected-duration" = ?self.expected,
            prefix,
            request,
            error,
            "trace-id" = %trace_id(id),
            show = %show(id),
            "left-out" = left_out,
            "apply request took too long"
        );
    }

    /// Whether a request is slow that took so long.
    pub(crate) fn is_slow(&self, took: Duration) -> bool {
        self.expected < took
    }

    /// As [`Lines::next`].
    pub(crate) fn next_line(&self, now: Instant) -> Option<u64> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).next(now)
    }
}

/// The text of an error in a line; empty without one.
pub(super) fn error_text(error: Option<&Error>) -> String {
    error.map(|error| error.reason().text().to_owned()).unwrap_or_default()
}

/// An id as traces show it.
pub(crate) fn trace_id(id: u64) -> String {
    trace::value::hex(id)
}

/// The command that prints the trace of this request.
pub(crate) fn show(id: u64) -> String {
    format!("glass trace show {}", trace_id(id))
}

/// A range, as etcd's lines have it.
pub(super) fn range_text(range: &RangeRequest) -> String {
    let mut text = key_text(&range.key, &range.range_end);
    for (name, value) in [("limit", range.limit), ("revision", range.revision)] {
        if value != 0 {
            text.push_str(&format!(" {name}:{value}"));
        }
    }
    for (name, is_set) in [
        ("serializable", range.serializable),
        ("keys_only", range.keys_only),
        ("count_only", range.count_only),
    ] {
        if is_set {
            text.push_str(&format!(" {name}:true"));
        }
    }
    text
}

/// A put, with the length of its value.
pub(super) fn put_text(put: &PutRequest) -> String {
    format!("{} value_size:{}", key_text(&put.key, b""), put.value.len())
}

/// A deletion.
pub(super) fn delete_text(delete: &DeleteRangeRequest) -> String {
    key_text(&delete.key, &delete.range_end)
}

/// A transaction: what it compares, and how many operations its branches have.
pub(super) fn txn_text(txn: &TxnRequest) -> String {
    let compared: Vec<String> =
        txn.compare.iter().take(COMPARES_MAX).map(|of| key_text(&of.key, &of.range_end)).collect();
    let (compares, success, failure) = (txn.compare.len(), txn.success.len(), txn.failure.len());
    let compared = compared.join(" ");
    format!("compare:<{compared}> compares:{compares} success:{success} failure:{failure}")
}

fn key_text(key: &[u8], range_end: &[u8]) -> String {
    let quoted = |bytes: &[u8]| bytes[..bytes.len().min(KEY_BYTES_MAX)].escape_ascii().to_string();
    let mut text = format!("key:\"{}\"", quoted(key));
    if !range_end.is_empty() {
        text.push_str(&format!(" range_end:\"{}\"", quoted(range_end)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::log_lines::LogLines;

    #[test]
    fn a_slow_request_is_logged_with_the_command_that_shows_it() {
        let (log, slow) = (LogLines::default(), SlowRequests::new(Duration::from_millis(100)));
        log.while_in(|| {
            let put = PutRequest { key: "k\"".into(), value: "vvv".into(), ..Default::default() };
            slow.applied(0xab, 100_000_000, || unreachable!("it is not slow"));
            slow.applied(0xab, 100_000_001, || (put_text(&put), String::new()));
        });
        let line = log.lines().join("\n");
        assert!(line.contains("apply request took too long"), "{line}");
        assert!(line.contains("show=glass trace show 00000000000000ab"), "{line}");
        assert!(line.contains("value_size:3") && !line.contains("vvv"), "{line}");
    }

    #[test]
    fn a_second_has_few_lines_and_the_next_one_says_how_many_were_left_out() {
        let (mut lines, now) = (Lines::default(), clock::now());
        let written = (0..100).filter(|_| lines.next(now).is_some()).count();
        assert_eq!(written, LINES_MAX as usize);
        let later = now + Duration::from_secs(1);
        assert_eq!(lines.next(later), Some(100 - u64::from(LINES_MAX)));
        assert_eq!(lines.next(later), Some(0));
    }

    #[test]
    fn a_range_is_written_with_what_it_asks_for() {
        let range = RangeRequest {
            key: "a".into(),
            range_end: "b".into(),
            limit: 5,
            serializable: true,
            ..RangeRequest::default()
        };
        let text = "key:\"a\" range_end:\"b\" limit:5 serializable:true";
        assert_eq!(range_text(&range), text);
        let long = RangeRequest { key: vec![b'x'; 100_000].into(), ..RangeRequest::default() };
        assert!(range_text(&long).len() < 200);
    }
}
