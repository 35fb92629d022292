//! `/raft/probing`: "are you there, and what time is it?"
//!
//! etcd members ask each other every few seconds and log peers that are slow or whose clock is
//! off. Answering is all that is done here. (xiang90/probing: NewHandler)

use std::time::Duration;

/// The answer's body, for a wall clock that shows `wall` since 1970.
pub(super) fn answer(wall: Duration) -> String {
    format!("{{\"OK\":true,\"Now\":\"{}\"}}\n", rfc3339(wall))
}

/// Date and time in UTC with nanoseconds.
fn rfc3339(wall: Duration) -> String {
    let (days, second) = (wall.as_secs() / 86_400, wall.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    let (second, nanos) = (second % 60, wall.subsec_nanos());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

/// The Gregorian date that is `days` days after 1970-01-01. Years are counted from March, so that
/// the leap day is a year's last, and in eras of 400 years, which all have the same length.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let leap_days = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_reads_them() {
        let check = |seconds, expected: &str| {
            let text = rfc3339(Duration::new(seconds, 42));
            assert_eq!(text, format!("{expected}.000000042Z"));
        };
        check(0, "1970-01-01T00:00:00");
        check(951_782_399, "2000-02-28T23:59:59");
        check(951_782_400, "2000-02-29T00:00:00");
        check(951_868_800, "2000-03-01T00:00:00");
        check(1_709_164_800, "2024-02-29T00:00:00");
        check(4_102_444_799, "2099-12-31T23:59:59");
        check(4_107_542_400, "2100-03-01T00:00:00");
    }

    #[test]
    fn the_answer_is_json() {
        let text = answer(Duration::from_secs(86_400));
        assert_eq!(text, "{\"OK\":true,\"Now\":\"1970-01-02T00:00:00.000000000Z\"}\n");
    }
}
