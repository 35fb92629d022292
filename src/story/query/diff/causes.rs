//! What the waits of two requests stood behind, side by side, and what the cluster lived through
//! meanwhile: the causes that `why-slow` adds up ([`slow`](super::super::slow)), for two requests.

use std::{cmp::Reverse, collections::BTreeMap};

use super::Side;
use crate::{
    story::query::{
        Stories,
        ahead::{Ahead, Resource, ahead},
        path::{Wait, critical_path},
        requests::add,
        through::Through,
    },
    trace::stage::Stage,
};

/// How long each of the two stood behind one kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// What they waited for.
    pub resource: Resource,
    /// The stage of the work; `None` if its records are missing.
    pub stage: Option<Stage>,
    /// Nanoseconds in A, and in B, during which it was in progress.
    pub ns: [u64; 2],
}

impl Blocked {
    /// By how many nanoseconds B stood behind it longer; negative if A did.
    pub fn difference(&self) -> i128 {
        i128::from(self.ns[1]) - i128::from(self.ns[0])
    }
}

/// Why one of the two waited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Causes {
    /// What its waits stood behind, in the order of its path.
    pub ahead: Vec<Ahead>,
    /// What happened to the cluster meanwhile.
    pub through: Through,
    /// The part of that which delayed it.
    pub delaying: Through,
}

impl Causes {
    /// The causes of one request.
    pub(super) fn of(side: Side<'_>) -> Causes {
        let Side { recording, order, story } = side;
        let stories = Stories::new(recording, order);
        let graph = stories.graph(story);
        let path = critical_path(recording, order, story, &graph);
        let delaying = graph.through.delaying(path.as_deref());
        let ahead = ahead(&stories, story, &path.unwrap_or_default());
        Causes { ahead, through: graph.through, delaying }
    }

    /// What the waits of this kind stood behind.
    pub fn of_wait(&self, wait: Wait) -> impl Iterator<Item = &Ahead> {
        self.ahead.iter().filter(move |one| one.wait == wait)
    }
}

/// By resource and stage, how long A and B stood behind it: the greatest difference first.
pub(super) fn blocked(causes: &[Causes; 2]) -> Vec<Blocked> {
    let mut both: BTreeMap<(Resource, Option<Stage>), [u64; 2]> = BTreeMap::new();
    for (side, causes) in causes.iter().enumerate() {
        for one in &causes.ahead {
            for (stage, ns, _) in one.shares() {
                add(&mut both.entry((one.resource, stage)).or_default()[side], ns);
            }
        }
    }
    let blocked = |((resource, stage), ns)| Blocked { resource, stage, ns };
    let mut list: Vec<Blocked> = both.into_iter().map(blocked).collect();
    list.sort_by_key(|one| (Reverse(one.difference().abs()), one.resource, one.stage));
    list
}
