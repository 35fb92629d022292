//! `glass trace why-slow`: for what all the captured requests have waited, summed up. Each request's
//! critical path is cut into its pieces, and the pieces of one kind are added. Of very many requests
//! only the slowest [`REQUESTS_MAX`] are looked at, which the first line says.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use glass_etcd::trace::{
    Recording,
    order::Order,
    query::{
        Story, Summary,
        graph::Graph,
        path::{Wait, critical_path},
        requests,
    },
};

use super::{explain, words};

/// How many requests are looked at.
const REQUESTS_MAX: usize = 500;

/// What is known of one kind of waiting.
#[derive(Default)]
struct Cause {
    ns: u64,
    requests: u64,
    /// Nanoseconds and id of the request that waited longest so.
    worst: (u64, u64),
}

/// Writes the causes, the one that took most first. `last_ns`: only requests that ended so long
/// before the newest event.
pub(super) fn why_slow(
    out: &mut impl Write,
    recording: &Recording,
    last_ns: Option<u64>,
) -> io::Result<()> {
    let order = Order::of(recording);
    let newest = order.times.iter().copied().max().unwrap_or(0);
    let is_meant = |request: &Summary| {
        let ended = request.end.map(|at| order.times[at]);
        ended.is_some_and(|at| last_ns.is_none_or(|last| newest - at <= i128::from(last)))
    };
    let mut list: Vec<Summary> = requests(recording).into_iter().filter(is_meant).collect();
    list.sort_by_key(|request| std::cmp::Reverse(request.took_ns));
    let all = list.len();
    list.truncate(REQUESTS_MAX);
    let causes = causes(recording, &order, &list);
    let total = causes.values().map(|cause| cause.ns).sum::<u64>();
    let took = words::millis(i128::from(total));
    writeln!(out, "{} of {all} requests, the slowest first, took {took} in all", list.len())?;
    writeln!(
        out,
        "{:>7}  {:>12}  {:>8}  {:<27}  WORST",
        "SHARE", "TIME", "REQUESTS", "WAITED FOR"
    )?;
    let mut causes: Vec<(Wait, Cause)> = causes.into_iter().collect();
    causes.sort_by_key(|(_, cause)| std::cmp::Reverse(cause.ns));
    for (wait, cause) in causes {
        let share = u128::from(cause.ns) * 1000 / u128::from(total.max(1));
        writeln!(
            out,
            "{:>5} %  {:>12}  {:>8}  {:<27}  {:016x} {}",
            format!("{}.{}", share / 10, share % 10),
            words::millis(i128::from(cause.ns)),
            cause.requests,
            explain::reason(wait),
            cause.worst.1,
            words::millis(i128::from(cause.worst.0)),
        )?;
    }
    Ok(())
}

fn causes(recording: &Recording, order: &Order, list: &[Summary]) -> BTreeMap<Wait, Cause> {
    let mut causes: BTreeMap<Wait, Cause> = BTreeMap::new();
    for request in list {
        let Some(story) = Story::of(recording, order, request.id) else { continue };
        let graph = Graph::of(recording, order, &story);
        let mut own: BTreeMap<Wait, u64> = BTreeMap::new();
        for segment in critical_path(recording, order, &story, &graph).into_iter().flatten() {
            *own.entry(segment.wait).or_default() += segment.ns;
        }
        for (wait, ns) in own {
            let cause = causes.entry(wait).or_default();
            cause.ns += ns;
            cause.requests += 1;
            cause.worst = cause.worst.max((ns, request.id));
        }
    }
    causes
}

#[cfg(test)]
mod tests {
    use glass_etcd::trace::recording;

    use super::*;

    #[test]
    fn the_causes_of_all_requests_are_ranked() {
        let text = include_str!("../../tests/recordings/puts_and_gets.ndjson");
        let recording = recording::read(text.as_bytes()).unwrap().recording;
        let mut out = Vec::new();
        why_slow(&mut out, &recording, None).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap());
        let mut out = Vec::new();
        why_slow(&mut out, &recording, Some(0)).unwrap();
        assert!(out.starts_with(b"0 of 0 requests"));
    }
}
