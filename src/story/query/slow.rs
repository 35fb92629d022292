//! Sums up what many requests waited for: the causes behind "it is slow".
//!
//! Each request's critical path is cut into its pieces, and pieces of one kind are added up. A
//! hundred requests that wait for one fsync count a hundred times: the sum is the clients' time,
//! not the disk's.
//!
//! Left out, but counted: requests that are meant to wait (a watch, a wait for a lock), which would
//! dominate everything else; requests that have not ended, whose path is not known yet; and, if
//! there are very many, all but the slowest [`REQUESTS_MAX`].
//!
//! Invariant: the pieces of a path add up to the request's duration, so the causes add up to the
//! total duration (but sums saturate at the limit of a `u64`: a file may name any durations).

use std::{cmp::Reverse, collections::BTreeMap};

use super::{
    Stories, Summary,
    ahead::{Ahead, Resource, ahead},
    find::Found,
    path::{Wait, critical_path},
    requests,
    requests::add,
};
use crate::{
    story::{Recording, order::Order},
    trace::{stage::Stage, waiting::is_waiting},
};

/// Largest number of requests that are analysed.
pub const REQUESTS_MAX: usize = 500;

/// Selects requests by how long before the newest event they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// At most this many nanoseconds before it; `None` for all.
    pub last_ns: Option<u64>,
    /// At least this many nanoseconds before it: members may not have sent all records of a request
    /// that ended just now, and the missing ones would show up as unknown causes.
    pub fresh_ns: u64,
}

/// One kind of wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The cause of the wait.
    pub wait: Wait,
    /// Total time in nanoseconds.
    pub ns: u64,
    /// Number of requests that waited for it.
    pub requests: u64,
    /// Id of the request that waited longest for it.
    pub worst: u64,
    /// That request's wait in nanoseconds.
    pub worst_ns: u64,
    /// The member that was waited for most, by position.
    pub member: u8,
    /// That member's part of the time, in nanoseconds.
    pub member_ns: u64,
}

/// One kind of work that requests stood behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// What they waited for.
    pub resource: Resource,
    /// The stage of the work that was in progress; `None` if its records are missing.
    pub stage: Option<Stage>,
    /// Total time for which such work was in progress while they waited, in nanoseconds; without a
    /// stage, the length of the waits.
    pub ns: u64,
    /// Number of requests that stood behind it.
    pub requests: u64,
    /// Id of the request that stood behind one such work for longest.
    pub worst: u64,
    /// For how long, in nanoseconds.
    pub worst_ns: u64,
    /// Position of the event of that work.
    pub worst_event: Option<usize>,
}

/// The result, and how many requests it covers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Causes {
    /// Requests that ended in the window, without those that are meant to wait.
    pub ended: usize,
    /// The slowest of them, whose paths are in the sums.
    pub looked_at: usize,
    /// Requests left out because they are meant to wait.
    pub waiting: usize,
    /// Requests left out because they ended just now.
    pub fresh: usize,
    /// Requests without a captured end.
    pub open: usize,
    /// From the end of the first request to the newest event, in nanoseconds: how far back the
    /// recording reaches, regardless of the window.
    pub reach_ns: u64,
    /// Sum of all causes, in nanoseconds.
    pub total_ns: u64,
    /// The causes, the largest first.
    pub list: Vec<Cause>,
    /// What the requests stood behind during these waits, the largest first. Work that several
    /// waited for counts for each of them.
    pub blockers: Vec<Blocker>,
}

impl Causes {
    /// Sums up the requests that ended in this window.
    pub fn of(recording: &Recording, order: &Order, window: Window) -> Causes {
        Causes::of_found(recording, order, &Found::default(), window)
    }

    /// The same for those that are wanted.
    pub fn of_found(recording: &Recording, order: &Order, found: &Found, window: Window) -> Causes {
        let newest = order.times.iter().copied().max().unwrap_or(0);
        let mut causes = Causes::default();
        let mut list: Vec<Summary> = Vec::new();
        for request in requests(recording) {
            let (age, is_wanted) =
                (request.end.map(|at| newest - order.times[at]), found.has(&request));
            let Some(age) = age else {
                // Of a write that only others tell of, its method is unknown; none of these waits.
                let is_open = is_wanted && !is_waiting(request.method);
                causes.open += usize::from(is_open);
                continue;
            };
            causes.reach_ns = causes.reach_ns.max(u64::try_from(age).unwrap_or(0));
            if !is_wanted || window.last_ns.is_some_and(|last| i128::from(last) < age) {
                continue;
            }
            if is_waiting(request.method) {
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
        (causes.list, causes.blockers) = sums(&Stories::new(recording, order), &list);
        causes.total_ns = causes.list.iter().fold(0, |all, cause| all.saturating_add(cause.ns));
        causes
    }
}

/// Sums for one kind of wait.
#[derive(Default)]
struct Sum {
    ns: u64,
    requests: u64,
    /// Nanoseconds and id of the request that waited longest for it.
    worst: (u64, u64),
    members: BTreeMap<u8, u64>,
}

fn sums(stories: &Stories<'_>, list: &[Summary]) -> (Vec<Cause>, Vec<Blocker>) {
    let mut sums: BTreeMap<Wait, Sum> = BTreeMap::new();
    let mut blockers: Blockers = BTreeMap::new();
    for request in list {
        let Some(story) = stories.of(request.id) else { continue };
        let graph = stories.graph(&story);
        let mut own: BTreeMap<Wait, u64> = BTreeMap::new();
        let path = critical_path(stories.recording, stories.order, &story, &graph);
        let path = path.unwrap_or_default();
        note_ahead(&mut blockers, request.id, &ahead(stories, &story, &path));
        for segment in path {
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
    let mut blockers: Vec<Blocker> = blockers.into_values().collect();
    blockers.sort_by_key(|one| (Reverse(one.ns), one.resource, one.stage));
    (causes, blockers)
}

/// What requests stood behind, by what they waited for and by the stage of the work.
type Blockers = BTreeMap<(Resource, Option<Stage>), Blocker>;

/// Adds what the waits of one request stood behind.
fn note_ahead(blockers: &mut Blockers, id: u64, ahead: &[Ahead]) {
    let mut own: BTreeMap<(Resource, Option<Stage>), ()> = BTreeMap::new();
    for one in ahead {
        for (stage, ns, event) in one.shares() {
            let key = (one.resource, stage);
            let blocker = blockers.entry(key).or_insert(Blocker {
                resource: one.resource,
                stage,
                ns: 0,
                requests: 0,
                worst: id,
                worst_ns: 0,
                worst_event: event,
            });
            add(&mut blocker.ns, ns);
            if own.insert(key, ()).is_none() {
                blocker.requests += 1;
            }
            if blocker.worst_ns < ns {
                (blocker.worst, blocker.worst_ns, blocker.worst_event) = (id, ns, event);
            }
        }
    }
}

fn cause(wait: Wait, sum: Sum) -> Cause {
    let most = sum.members.into_iter().max_by_key(|(member, ns)| (*ns, Reverse(*member)));
    let (member, member_ns) = most.unwrap_or((u8::MAX, 0));
    let (worst_ns, worst) = sum.worst;
    Cause { wait, ns: sum.ns, requests: sum.requests, worst, worst_ns, member, member_ns }
}
