//! Values as Go writes them, because start scripts were written for a Go program.
//!
//! Numbers take the prefixes `0x`, `0o`, `0b` (and the old `0` for octal) and underscores between
//! digits; booleans are the twelve words of Go's `strconv.ParseBool`; durations are Go's. A value
//! is checked once, when it is given, and parsed again later, which cannot fail.

use std::time::Duration;

use super::{
    flags::Kind,
    urls::{self, UrlError},
};

/// Why a flag does not take a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The value does not have the flag's form.
    #[error("parse error")]
    Parse,
    /// A number that does not fit.
    #[error("value out of range")]
    Range,
    /// The value is none of the flag's words.
    #[error("invalid value")]
    Unknown,
    /// One of the URLs is wrong.
    #[error(transparent)]
    Url(#[from] UrlError),
}

/// Checks `text` against what the flag takes.
pub(super) fn check(kind: Kind, text: &str) -> Result<(), ValueError> {
    match kind {
        Kind::Bool => boolean(text).map(drop),
        Kind::Uint => uint(text).map(drop),
        Kind::Uint32 => u32::try_from(uint(text)?).map(drop).map_err(|_| ValueError::Range),
        Kind::Int => int(text).map(drop),
        Kind::Duration => duration_ns(text).map(drop),
        Kind::Text => Ok(()),
        Kind::Urls if text.is_empty() => Ok(()),
        Kind::Urls => Ok(urls::parse_list(text).map(drop)?),
        Kind::Origins => Ok(urls::parse_origins(text).map(drop)?),
        Kind::OneOf(words) if words.contains(&text) => Ok(()),
        Kind::OneOf(_) => Err(ValueError::Unknown),
    }
}

/// A boolean in any form that Go accepts (`strconv.ParseBool`): `1`, `t`, `True`, …
pub(super) fn boolean(text: &str) -> Result<bool, ValueError> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(ValueError::Parse),
    }
}

/// Go: `strconv.ParseUint` with base 0 and 64 bits.
pub(super) fn uint(text: &str) -> Result<u64, ValueError> {
    let lower = text.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, &lower[..]),
    };
    // An underscore may stand between digits, and after the prefix, where there is one.
    let misplaced =
        digits.ends_with('_') || digits.contains("__") || (radix == 10 && digits.starts_with('_'));
    let digits: String = digits.chars().filter(|c| *c != '_').collect();
    if misplaced || digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(ValueError::Parse);
    }
    u64::from_str_radix(&digits, radix).map_err(|_| ValueError::Range)
}

/// Go: `strconv.ParseInt` with base 0 and 64 bits.
pub(super) fn int(text: &str) -> Result<i64, ValueError> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    let size = i128::from(uint(digits)?);
    i64::try_from(if negative { -size } else { size }).map_err(|_| ValueError::Range)
}

/// Go: `time.ParseDuration`, in nanoseconds; may be negative.
pub(super) fn duration_ns(text: &str) -> Result<i64, ValueError> {
    let (negative, mut rest) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(ValueError::Parse);
    }
    let mut total: f64 = 0.0;
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_len);
        let unit_len = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        // `1.` and `.5` are numbers to Go and to Rust; `.` is one to neither.
        let number: f64 = number.parse().map_err(|_| ValueError::Parse)?;
        total += number * unit_ns(unit).ok_or(ValueError::Parse)?;
        rest = after;
    }
    // Whole nanoseconds up to 104 days are exact in an f64; no setting is longer than that.
    if total >= 9.2e18 {
        return Err(ValueError::Range);
    }
    let ns = total.round() as i64;
    Ok(if negative { -ns } else { ns })
}

/// A duration in Go's form that is not below zero: `500ms`, `1m30s`. `None` for anything else.
pub fn positive_duration(text: &str) -> Option<Duration> {
    let ns = duration_ns(text).ok()?;
    u64::try_from(ns).ok().map(Duration::from_nanos)
}

/// A checked duration; a negative one counts as zero.
pub(super) fn duration(text: &str) -> Duration {
    Duration::from_nanos(u64::try_from(duration_ns(text).unwrap_or(0)).unwrap_or(0))
}

fn unit_ns(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1.0,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        "h" => 3600e9,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_go_numbers() {
        assert_eq!(uint("10"), Ok(10));
        assert_eq!(uint("0x10"), Ok(16));
        assert_eq!(uint("010"), Ok(8));
        assert_eq!(uint("0b11"), Ok(3));
        assert_eq!(uint("0x_f_f"), Ok(255));
        assert_eq!(uint("1_000"), Ok(1000));
        assert_eq!(uint("0"), Ok(0));
        assert_eq!(uint("18446744073709551615"), Ok(u64::MAX));
        assert_eq!(uint("18446744073709551616"), Err(ValueError::Range));
        for wrong in ["", "-1", "+1", "1.5", "abc", "0x", "1__0", "08", "1 ", "_1", "0x1_"] {
            assert_eq!(uint(wrong), Err(ValueError::Parse), "{wrong:?}");
        }
        assert_eq!(int("-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(int("9223372036854775808"), Err(ValueError::Range));
        assert_eq!(int("--1"), Err(ValueError::Parse));
    }

    #[test]
    fn booleans_are_go_booleans() {
        assert_eq!(boolean("T"), Ok(true));
        assert_eq!(boolean("False"), Ok(false));
        assert_eq!(boolean("yes"), Err(ValueError::Parse));
        assert_eq!(boolean("tRUE"), Err(ValueError::Parse));
    }

    #[test]
    fn durations_are_go_durations() {
        assert_eq!(duration_ns("1h30m"), Ok(5_400_000_000_000));
        assert_eq!(duration_ns("1.5s"), Ok(1_500_000_000));
        assert_eq!(duration_ns("-100ms"), Ok(-100_000_000));
        assert_eq!(duration_ns("250us"), duration_ns("250\u{b5}s"));
        assert_eq!(duration_ns("0"), Ok(0));
        assert_eq!(duration("-1s"), Duration::ZERO);
        for wrong in ["", "5", "s", ".s", "1d", "1s2", "-", "1.2.3s", "1 s"] {
            assert_eq!(duration_ns(wrong), Err(ValueError::Parse), "{wrong:?}");
        }
        assert_eq!(duration_ns("9999999h"), Err(ValueError::Range));
    }
}
