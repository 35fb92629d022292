//! For what many requests have waited, summed up: the causes behind "it is slow".
//!
//! Each request's critical path is cut into its pieces, and the pieces of one kind are added. A
//! hundred requests that wait for one fsync have waited a hundred times: this is the time of the
//! clients, not that of the disk.
//!
//! Left out, and counted: what is meant to wait (a watch, a lock that somebody else holds), which
//! would stand before everything else; requests that have not ended, whose path is not known yet;
//! and of very many requests all but the slowest [`REQUESTS_MAX`].
//!
//! Invariant: the pieces of a path sum to the request's duration, so the causes sum to that of all
//! (but no sum is more than a `u64` holds: a file may name any durations).

use std::{cmp::Reverse, collections::BTreeMap};

use super::{
    Stories, Summary,
    path::{Wait, critical_path},
    requests,
};
use crate::{
    story::{Recording, order::Order},
    trace::collect,
};

/// How many requests are looked at.
pub const REQUESTS_MAX: usize = 500;

/// Which requests are meant, by how long before the newest event they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// At most so many nanoseconds before; `None` for all.
    pub last_ns: Option<u64>,
    /// And at least so many: of what has ended only just now, members may not have told all, and
    /// what they have not told would look like something that nobody can name.
    pub fresh_ns: u64,
}

/// One kind of waiting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// For what.
    pub wait: Wait,
    /// How long in all, in nanoseconds.
    pub ns: u64,
    /// How many requests have waited for it at all.
    pub requests: u64,
    /// The request that waited longest for it.
    pub worst: u64,
    /// How long that one did, in nanoseconds.
    pub worst_ns: u64,
    /// The member that was waited for most, by place.
    pub member: u8,
    /// How much of it was for that member, in nanoseconds.
    pub member_ns: u64,
}

/// What was looked at, and what has come out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Causes {
    /// Requests that ended in the time that is meant, without those that are meant to wait.
    pub ended: usize,
    /// The slowest of them, whose paths are in the sums.
    pub looked_at: usize,
    /// Requests that were left out because they are meant to wait.
    pub waiting: usize,
    /// Requests that were left out because they have ended only just now.
    pub fresh: usize,
    /// Requests that were captured and have not ended, as far as captured.
    pub open: usize,
    /// From the end of the first request to the newest event, in nanoseconds: how far back anything
    /// was captured at all, whatever was asked for.
    pub reach_ns: u64,
    /// All that is summed up, in nanoseconds.
    pub total_ns: u64,
    /// The causes, the one that took most first.
    pub list: Vec<Cause>,
}

impl Causes {
    /// Sums up the requests that ended in this time.
    pub fn of(recording: &Recording, order: &Order, window: Window) -> Causes {
        let newest = order.times.iter().copied().max().unwrap_or(0);
        let mut causes = Causes::default();
        let mut list: Vec<Summary> = Vec::new();
        for request in requests(recording) {
            let Some(age) = request.end.map(|at| newest - order.times[at]) else {
                causes.open += usize::from(!collect::is_waiting(request.method));
                continue;
            };
            causes.reach_ns = causes.reach_ns.max(u64::try_from(age).unwrap_or(0));
            if window.last_ns.is_some_and(|last| i128::from(last) < age) {
                continue;
            }
            if collect::is_waiting(request.method) {
                causes.waiting += 1;
            } else if age < i128::from(window.fresh_ns) {
                causes.fresh += 1;
            } else {
                list.push(request);
            }
        }
        causes.ended = list.len();
        list.sort_by_key(|request| (Reverse(request.took_ns), request.id));
        list.truncate(REQUESTS_MAX);
        causes.looked_at = list.len();
        causes.list = sums(&Stories::new(recording, order), &list);
        causes.total_ns = causes.list.iter().fold(0, |all, cause| all.saturating_add(cause.ns));
        causes
    }
}

/// What is known of one kind of waiting.
#[derive(Default)]
struct Sum {
    ns: u64,
    requests: u64,
    /// Nanoseconds and id of the request that waited longest so.
    worst: (u64, u64),
    members: BTreeMap<u8, u64>,
}

fn sums(stories: &Stories<'_>, list: &[Summary]) -> Vec<Cause> {
    let mut sums: BTreeMap<Wait, Sum> = BTreeMap::new();
    for request in list {
        let Some(story) = stories.of(request.id) else { continue };
        let graph = stories.graph(&story);
        let mut own: BTreeMap<Wait, u64> = BTreeMap::new();
        let path = critical_path(stories.recording, stories.order, &story, &graph);
        for segment in path.into_iter().flatten() {
            add(own.entry(segment.wait).or_default(), segment.ns);
            let sum = sums.entry(segment.wait).or_default();
            add(sum.members.entry(segment.member).or_default(), segment.ns);
        }
        for (wait, ns) in own {
            let sum = sums.entry(wait).or_default();
            add(&mut sum.ns, ns);
            sum.requests += 1;
            sum.worst = sum.worst.max((ns, request.id));
        }
    }
    let mut causes: Vec<Cause> = sums.into_iter().map(|(wait, sum)| cause(wait, sum)).collect();
    causes.sort_by_key(|cause| (Reverse(cause.ns), cause.wait));
    causes
}

/// Adds what a recording may say to be as much as it likes.
pub(super) fn add(sum: &mut u64, ns: u64) {
    *sum = sum.saturating_add(ns);
}

fn cause(wait: Wait, sum: Sum) -> Cause {
    let most = sum.members.into_iter().max_by_key(|(member, ns)| (*ns, Reverse(*member)));
    let (member, member_ns) = most.unwrap_or((u8::MAX, 0));
    let (worst_ns, worst) = sum.worst;
    Cause { wait, ns: sum.ns, requests: sum.requests, worst, worst_ns, member, member_ns }
}
