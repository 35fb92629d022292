//! Times and durations as Go writes them into JSON.

use std::time::Duration;

const DAY: i64 = 86_400;
const NANOS: i64 = 1_000_000_000;

/// Nanoseconds since 1970 as a time in UTC, without zeros at its end (Go: RFC3339Nano).
pub(super) fn rfc3339(nanos: i64) -> String {
    let (seconds, nanos) = (nanos.div_euclid(NANOS), nanos.rem_euclid(NANOS));
    let (days, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let fraction = if nanos == 0 { String::new() } else { format!(".{nanos:09}") };
    let fraction = fraction.trim_end_matches('0');
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

/// The Gregorian date of a day after 1970-01-01, or before. Years are counted from March, so that
/// the leap day is a year's last, and in eras of 400 years, which all have the same length.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let leap_days = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// A duration of a second or more as Go writes it: `1h2m3.5s`.
pub(super) fn duration(time: Duration) -> String {
    let (hours, minutes) = (time.as_secs() / 3600, time.as_secs() / 60 % 60);
    let fraction = format!("{}.{:09}", time.as_secs() % 60, time.subsec_nanos());
    let seconds = fraction.trim_end_matches('0').trim_end_matches('.');
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (nanos, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_795_382_330_092_523_680, "2026-11-22T21:18:50.09252368Z"),
            (951_782_400 * NANOS, "2000-02-29T00:00:00Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
            (i64::MAX, "2262-04-11T23:47:16.854775807Z"),
            (i64::MIN, "1677-09-21T00:12:43.145224192Z"),
        ] {
            assert_eq!(rfc3339(nanos), expected);
        }
    }

    #[test]
    fn durations_are_those_of_go() {
        let texts = [5_417_483_778, 60_000_000_000, 3_600_000_000_000, 3_725_500_000_000];
        let texts = texts.map(|nanos| duration(Duration::from_nanos(nanos)));
        assert_eq!(texts, ["5.417483778s", "1m0s", "1h0m0s", "1h2m5.5s"]);
    }
}
