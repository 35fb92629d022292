//! `glass trace why-slow`: sums up what all captured requests waited for, as text or as JSON.

use std::{
    io::{self, Write},
    time::Duration,
};

use glass_etcd::{
    config::positive_duration,
    story::{
        Recording,
        order::Order,
        query::{
            find::Found,
            slow::{Blocker, Cause, Causes, Window},
        },
    },
};
use serde_json::json;

use super::{ahead, gather::LAG, words};

/// Parses `5m`, `30s`, `1m30s`, `500ms`, or seconds without a unit.
pub(super) fn parse_last(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration: 30s, 5m, 1h30m, 500ms");
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let sum = positive_duration(text).ok_or_else(wrong)?;
    if sum.is_zero() { Err(wrong()) } else { Ok(sum) }
}

/// Writes the causes, the largest first.
pub(super) fn plain(
    out: &mut impl Write,
    recording: &Recording,
    found: &Found,
    window: Window,
) -> io::Result<()> {
    let causes = Causes::of_found(recording, &Order::of(recording), found, window);
    let took = words::millis(i128::from(causes.total_ns));
    let (looked_at, ended) = (causes.looked_at, causes.ended);
    writeln!(out, "{looked_at} of {ended} requests, the slowest first, took {took} in all")?;
    for (count, why) in [
        (causes.waiting, "left out: meant to wait (watches, keep-alives, locks, elections)"),
        (causes.fresh, "left out: ended just now, some records may be missing"),
        (causes.open, "left out: not ended, as far as captured"),
    ] {
        if count != 0 {
            writeln!(out, "{count} {why}")?;
        }
    }
    if let Some(last) = window.last_ns
        && causes.reach_ns < last
    {
        let reach = words::millis(i128::from(causes.reach_ns));
        writeln!(out, "no request that ended more than {reach} ago was captured")?;
    }
    let width = causes.list.iter().map(|cause| cause.wait.to_string().len()).max();
    let width = width.unwrap_or(0).max("WAITED FOR".len());
    writeln!(
        out,
        "{:>7}  {:>12}  {:>8}  {:<width$}  {:<16}  WORST",
        "SHARE", "TIME", "REQUESTS", "WAITED FOR", "MOSTLY ON"
    )?;
    for cause in &causes.list {
        let name = words::waited_for(cause.wait, cause.member, &recording.members);
        let share = words::percent(cause.member_ns, cause.ns);
        let mostly =
            if cause.wait.is_for_member() { format!("{name} {share}") } else { name.to_owned() };
        writeln!(
            out,
            "{:>7}  {:>12}  {:>8}  {:<width$}  {mostly:<16}  {:016x} {}",
            words::percent(cause.ns, causes.total_ns),
            words::millis(i128::from(cause.ns)),
            cause.requests,
            cause.wait.to_string(),
            cause.worst,
            words::millis(i128::from(cause.worst_ns)),
        )?;
    }
    ahead::table(out, recording, &causes.blockers, causes.total_ns)
}

/// Writes the causes as JSON: a line about all, a line per cause, and a line per kind of work that
/// requests stood behind.
pub(super) fn json(
    out: &mut impl Write,
    recording: &Recording,
    found: &Found,
    window: Window,
) -> io::Result<()> {
    let causes = Causes::of_found(recording, &Order::of(recording), found, window);
    let all = json!({
        "ended": causes.ended,
        "looked_at": causes.looked_at,
        "waiting": causes.waiting,
        "fresh": causes.fresh,
        "open": causes.open,
        "reach_ns": causes.reach_ns,
        "total_ns": causes.total_ns,
        "dropped": recording.dropped,
    });
    writeln!(out, "{all}")?;
    let line = |cause: &Cause| {
        let is_for_member = cause.wait.is_for_member();
        json!({
            "wait": cause.wait.to_string(),
            "ns": cause.ns,
            "requests": cause.requests,
            "member": is_for_member.then(|| words::name(cause.member, &recording.members)),
            "member_ns": is_for_member.then_some(cause.member_ns),
            "worst": format!("{:016x}", cause.worst),
            "worst_ns": cause.worst_ns,
        })
    };
    causes.list.iter().try_for_each(|cause| writeln!(out, "{}", line(cause)))?;
    let line = |one: &Blocker| {
        json!({
            "behind": one.stage.map(|stage| stage.name()),
            "for": one.resource.name(),
            "ns": one.ns,
            "requests": one.requests,
            "worst": format!("{:016x}", one.worst),
            "worst_ns": one.worst_ns,
        })
    };
    causes.blockers.iter().try_for_each(|one| writeln!(out, "{}", line(one)))
}

/// The window that `--last` and the source of the records define. Only live members may have sent
/// part of the newest requests only.
pub(super) fn window(last: Option<Duration>, is_live: bool) -> Window {
    let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    Window { last_ns: last.map(nanos), fresh_ns: if is_live { nanos(LAG) } else { 0 } }
}

#[cfg(test)]
mod tests {
    use glass_etcd::story::recording;

    use super::*;

    fn recorded() -> Recording {
        let text = include_str!("../../tests/recordings/puts_and_gets.ndjson");
        recording::read(text.as_bytes()).unwrap().recording
    }

    #[test]
    fn the_causes_of_all_requests_are_ranked() {
        let mut out = Vec::new();
        plain(&mut out, &recorded(), &Found::default(), Window::default()).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap());
        let mut out = Vec::new();
        plain(&mut out, &recorded(), &Found::default(), window(Some(Duration::ZERO), false))
            .unwrap();
        assert!(out.starts_with(b"0 of 0 requests"));
        let mut out = Vec::new();
        plain(&mut out, &recorded(), &Found::default(), window(None, true)).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("\n1 left out: ended just now"), "{text}");
    }

    #[test]
    fn programs_read_the_same_figures() {
        let mut out = Vec::new();
        json(&mut out, &recorded(), &Found::default(), Window::default()).unwrap();
        let lines: Vec<serde_json::Value> = out
            .split(|c| *c == b'\n')
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect();
        let sum: u64 = lines[1..]
            .iter()
            .filter(|line| line["wait"].is_string())
            .map(|line| line["ns"].as_u64().unwrap())
            .sum();
        assert_eq!(
            (Some(5), Some(sum)),
            (lines[0]["ended"].as_u64(), lines[0]["total_ns"].as_u64())
        );
        assert_eq!(Some("in transit, raft.send to raft.receive"), lines[1]["wait"].as_str());
    }

    #[test]
    fn durations_have_units() {
        let ms = |text| parse_last(text).map(|duration| duration.as_millis()).ok();
        assert_eq!(Some(300_000), ms("5m"));
        assert_eq!(ms("300"), ms("5m"));
        assert_eq!([Some(90_000), Some(500), Some(5_400_000)], ["1m30s", "500ms", "1h30m"].map(ms));
        for wrong in [
            "",
            "m",
            "5",
            "5x",
            "-5s",
            "0s",
            "99999999999999999999s",
            "18446744073709551615h",
            "5m 3s",
        ] {
            assert_eq!(wrong == "5", ms(wrong).is_some(), "{wrong}");
        }
    }
}
