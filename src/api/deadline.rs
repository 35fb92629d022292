//! `grpc-timeout`: how long a call may take, counted from its first frame.
//!
//! Clients send it with nearly every call, and hang up themselves when the time is over; the member
//! must not depend on that. This module alone reads it, and ends calls of all services and both
//! kinds:
//!
//! ```text
//!   HEADERS ──▶ of the headers ▶ over already? ──▶ the call ──▶ its stream of answers
//!                  │ malformed      │                 │            │
//!                  ▼                ▼                 ▼            ▼   DEADLINE_EXCEEDED,
//!               INTERNAL            └──── over ───────┴────────────┘   "context deadline exceeded"
//! ```
//!
//! * A running call is dropped, under [`dropped::expire`]: its record ends with code 4, and its
//!   place in the queue of a lock is given up before the answer.
//! * A proposed write may still be committed. Its client learns only that the time is over, as from
//!   etcd.
//! * No timer runs before a call has to wait, and none at all for a call without the header. The
//!   header costs 60 ns for a call that is answered at once, and 160 ns more for one that waits
//!   (measured): two readings of the clock, and a timer that is set and cancelled.
//! * A malformed header, and one whose time is over before the call begins, get the answer of
//!   grpc-go 1.82, which etcd 3.5.33 uses. That of 3.5.1 was RST_STREAM, and depended on timing.
//!   Where that server resets the stream when the time is over, this one gives the reason.
//!
//! Left out: if the client does not read a stream of answers, so that its window is full, the
//! stream is not polled, and notices its end only when the client reads again.

use std::{future::Future, time::Duration};

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use tonic::Status;

use super::ending::{Ending, over};
use crate::server::dropped::{self, Deadline};

const NAME: &str = "grpc-timeout";

/// The longest value in bytes: eight digits and a unit.
const VALUE_MAX: usize = 9;

/// The deadline of a call whose first frame has just arrived; `None` if it has none. If there are
/// several values the last one counts, as with Go.
///
/// # Errors
///
/// The description of a malformed value, for [`refusal`].
pub(super) fn of(headers: &HeaderMap) -> Result<Option<Deadline>, String> {
    let mut deadline = None;
    for value in headers.get_all(NAME) {
        deadline = Deadline::after(decode(value)?);
    }
    Ok(deadline)
}

/// Runs a call until it is answered or its time is over.
pub(super) async fn bound(
    deadline: Deadline,
    call: impl Future<Output = Response<Body>>,
) -> Response<Body> {
    if deadline.is_over() {
        return over().into_http();
    }
    match dropped::until(call, deadline.over()).await {
        Ok(answer) => answer.map(|body| bound_body(deadline, body)),
        Err(tidying) => {
            if let Some(tidying) = tidying {
                tidying.done().await;
            }
            over().into_http()
        }
    }
}

fn bound_body(deadline: Deadline, body: Body) -> Body {
    if http_body::Body::is_end_stream(&body) {
        return body;
    }
    Body::new(Ending::at(body, deadline))
}

/// The answer to a call whose header is malformed.
pub(super) fn refusal(why: &str) -> Response<Body> {
    let mut answer = Status::internal(format!("malformed grpc-timeout: {why}")).into_http();
    *answer.status_mut() = StatusCode::BAD_REQUEST;
    answer
}

/// Reads a value as grpc-go does (`decodeTimeout`), with its texts.
fn decode(value: &HeaderValue) -> Result<Duration, String> {
    let text = String::from_utf8_lossy(value.as_bytes());
    let (digits, unit) = match value.as_bytes() {
        [digits @ .., unit] if !digits.is_empty() => (digits, unit),
        _ => return Err(format!("transport: timeout string is too short: {text:?}")),
    };
    if VALUE_MAX < value.len() {
        return Err(format!("transport: timeout string is too long: {text:?}"));
    }
    let unit: fn(u64) -> Duration = match unit {
        b'H' => |hours| Duration::from_secs(hours * 3600),
        b'M' => |minutes| Duration::from_secs(minutes * 60),
        b'S' => Duration::from_secs,
        b'm' => Duration::from_millis,
        b'u' => Duration::from_micros,
        b'n' => Duration::from_nanos,
        _ => return Err(format!("transport: timeout unit is not recognized: {text:?}")),
    };
    let mut number = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            let digits = String::from_utf8_lossy(digits);
            return Err(format!("strconv.ParseUint: parsing {digits:?}: invalid syntax"));
        }
        number = number * 10 + u64::from(digit - b'0');
    }
    Ok(unit(number))
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(NAME, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn status(answer: &Response<Body>) -> (Code, String) {
        let status = Status::from_header_map(answer.headers()).unwrap();
        (status.code(), status.message().to_owned())
    }

    #[test]
    fn all_units_are_read_as_go_reads_them() {
        let read = |text| decode(&HeaderValue::from_str(text).unwrap());
        let cases = [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("04m", Duration::from_millis(4)),
            ("5u", Duration::from_micros(5)),
            ("99999999n", Duration::from_nanos(99_999_999)),
            ("0n", Duration::ZERO),
            ("99999999H", Duration::from_secs(99_999_999 * 3600)),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text), Ok(expected), "{text}");
        }
        let short = "transport: timeout string is too short: ";
        let unit = "transport: timeout unit is not recognized: ";
        let number = "strconv.ParseUint: parsing ";
        let cases = [
            ("", format!("{short}\"\"")),
            ("S", format!("{short}\"S\"")),
            ("123456789S", "transport: timeout string is too long: \"123456789S\"".to_owned()),
            ("5x", format!("{unit}\"5x\"")),
            ("5", format!("{short}\"5\"")),
            ("5S ", format!("{unit}\"5S \"")),
            ("-5S", format!("{number}\"-5\": invalid syntax")),
            ("+5S", format!("{number}\"+5\": invalid syntax")),
            ("1.5S", format!("{number}\"1.5\": invalid syntax")),
            ("5 S", format!("{number}\"5 \": invalid syntax")),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text), Err(expected), "{text}");
        }
        let foreign = HeaderValue::from_bytes(&[0xff, b'S']).unwrap();
        assert!(decode(&foreign).is_err());
    }

    #[test]
    fn the_last_value_counts_and_malformed_values_are_refused() {
        let of = |values: &[&str]| of(&headers(values));
        assert_eq!(of(&[]).unwrap(), None);
        let (soon, late) = (of(&["1H", "1m"]).unwrap(), of(&["1m", "1H"]).unwrap());
        assert!(soon.unwrap() < late.unwrap());
        let refused = refusal(&of(&["5x", "1m"]).unwrap_err());
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
        let expected = "malformed grpc-timeout: transport: timeout unit is not recognized: \"5x\"";
        assert_eq!(status(&refused), (Code::Internal, expected.to_owned()));
    }

    #[tokio::test]
    async fn a_call_that_is_over_before_it_begins_is_not_begun() {
        let deadline = of(&headers(&["0n"])).unwrap().unwrap();
        let answer = bound(deadline, async { unreachable!("its time is over") }).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(status(&answer).0, Code::DeadlineExceeded);
    }

    #[tokio::test]
    async fn a_call_that_takes_too_long_is_dropped_with_a_status() {
        let deadline = of(&headers(&["20m"])).unwrap().unwrap();
        let (sender, mut dropped) = tokio::sync::oneshot::channel();
        struct Guard(Option<tokio::sync::oneshot::Sender<bool>>);
        impl Drop for Guard {
            fn drop(&mut self) {
                self.0.take().unwrap().send(dropped::is_expiring()).unwrap();
            }
        }
        let answer = bound(deadline, async {
            let _guard = Guard(Some(sender));
            std::future::pending().await
        });
        let answer = answer.await;
        let expected = (Code::DeadlineExceeded, "context deadline exceeded".to_owned());
        assert_eq!(status(&answer), expected);
        assert_eq!(dropped.try_recv(), Ok(true));
        assert!(!dropped::is_expiring());
    }
}
