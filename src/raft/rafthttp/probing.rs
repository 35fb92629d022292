//! `/raft/probing`: "are you there, and what time is it?"
//!
//! etcd members ask each other every few seconds, and log peers that are slow or whose clock is
//! off. Here they ask too, but only to count how long the answers take
//! (`etcd_network_peer_round_trip_time_seconds`): the streams notice a peer that is gone, and a
//! slow one is seen in the traces. A probe has a connection of its own, so it waits behind no
//! message.
//! (xiang90/probing: NewHandler, Prober)
//!
//! etcd counts a smoothed time every half minute; here each answer counts.

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header::HOST};
use http_body_util::{BodyExt as _, Full};
use tokio::time::{sleep, timeout};

use super::{
    dial::{self, Failed, Sender, Target, Urls},
    local::Local,
};
use crate::clock;

/// The path that is asked.
pub(super) const PATH: &str = "/raft/probing";
/// The time between two probes (etcd: proberInterval).
const INTERVAL: Duration = Duration::from_secs(4);
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(4);

/// Asks one peer, for ever, and counts how long it takes to answer.
pub(super) async fn probe(local: Rc<Local>, peer: u64, urls: Rc<Urls>) {
    let mut connection: Option<(Target, Sender)> = None;
    loop {
        if !local.links.is_cut(peer) {
            // A failure needs no line: the peer's streams fail as well, and say why.
            let asked = timeout(ANSWER_TIMEOUT, ask(&local, connection.take(), &urls)).await;
            if let Ok(Ok((open, took))) = asked {
                connection = Some(open);
                local.count(peer, |counts| counts.round_trip.observe_duration(took));
            }
        }
        sleep(INTERVAL).await;
    }
}

/// One question, on the open connection if there is one. The time does not include dialling.
async fn ask(
    local: &Local,
    connection: Option<(Target, Sender)>,
    urls: &Urls,
) -> Result<((Target, Sender), Duration), Failed> {
    let (target, mut sender) = match connection {
        Some((target, sender)) if !sender.is_closed() => (target, sender),
        _ => {
            let target = urls.pick()?;
            let connected = timeout(local.dial_timeout, dial::connect(&target)).await;
            (target, connected.unwrap_or(Err(Failed::Timeout))?)
        }
    };
    sender.ready().await?;
    let mut request = Request::new(Full::<Bytes>::default());
    *request.uri_mut() = http::Uri::from_static(PATH);
    let host = HeaderValue::from_str(&target.authority).expect("an authority is ASCII");
    request.headers_mut().insert(HOST, host);
    let began = clock::now();
    let answer = sender.send_request(request).await?;
    let took = began.elapsed();
    let status = answer.status();
    // Read to its end, so that the connection can be used again.
    answer.into_body().collect().await?;
    match status {
        StatusCode::OK => Ok(((target, sender), took)),
        // No etcd member answers otherwise; the next probe dials again.
        _ => Err(Failed::Timeout),
    }
}

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
