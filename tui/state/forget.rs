//! What of the recording is forgotten when it has become too large: the oldest stories, each whole.
//!
//! ```text
//!   heard   0 ··································· p ··································▶ newest
//!   gone    ├──── ended before p ────┤            │
//!   kept        ■   ■■     ■   ◀── steps of ──────┼── stories that go on after p
//!               ■■■■■                             │   the open story, and its time
//!                                                 ├──── everything ────────────────────┤
//! ```
//!
//! Each event gets an **age**: its own place in the recording or, if that is later, the place of the
//! last event that carries the id of a story that the event is a step of. What is older than some
//! age `p` goes. So a story stays with all of its steps, those that it shares with others included,
//! or goes with all but those that others share.
//!
//! Two things are younger than everything that was heard: the open story, on which the cursor
//! stands, with all that happened meanwhile and the keyframes around it; and stories that are still
//! under way. Neither may take the whole memory: each has a share ([`STORY_SHARE`],
//! [`UNDER_WAY_SHARE`]). Beyond it, an open story stays without what happened meanwhile, and the
//! story under way that was silent for longest counts as ended.
//!
//! A single story that is larger than its share cannot stay whole, so it goes, whatever its age. If
//! it is the open one, the step view keeps the rows that it has.
//!
//! Left out: a story's surroundings. What only happened meanwhile goes when it is old, also where a
//! long story stays.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap, HashSet},
};

use glass_etcd::{
    field,
    trace::{Event, Kind, Recording, Stage, intake::bytes_of, order::Order, query::Stories},
};

use super::{join, story::Subject};

/// The memory that the events of the player may take: about 90 000 of them, half a minute of all that
/// three busy members tell. With more of them the list, which is made anew four times a second while
/// members talk, and a story, which is looked for in all of them, are no longer there at once.
pub(crate) const BYTES_MAX: usize = 16 << 20;
/// What is left after forgetting, in quarters: so it is done once for a quarter of the memory, and
/// not for each batch.
const QUARTERS_AFTER: usize = 3;
/// A single story may take one part in so many; so may the open one with what happened meanwhile.
const STORY_SHARE: usize = 2;
/// And so may all that are under way.
const UNDER_WAY_SHARE: usize = 4;
/// The age of what goes in any case.
const GOES: usize = 0;

/// Which events stay, by place, so that they take less than this many bytes with room for more.
pub(crate) fn kept(recording: &Recording, open: Option<Subject>, bytes_max: usize) -> Vec<bool> {
    let bytes = bytes_max / 4 * QUARTERS_AFTER;
    let ages = Ages::of(recording, open, bytes).0;
    let mut by_age: Vec<usize> = (0..ages.len()).filter(|at| ages[*at] != GOES).collect();
    by_age.sort_unstable_by_key(|at| Reverse(ages[*at]));
    let mut left = bytes;
    let mut since = usize::MAX;
    for group in by_age.chunk_by(|a, b| ages[*a] == ages[*b]) {
        let takes: usize = group.iter().map(|at| bytes_of(&recording.events[*at])).sum();
        match left.checked_sub(takes) {
            Some(rest) => (left, since) = (rest, ages[group[0]]),
            None => break,
        }
    }
    ages.into_iter().map(|age| since <= age).collect()
}

/// The age of each event, by place; places count from 1 here.
struct Ages(Vec<usize>);

/// A story, as far as it matters here.
struct Life {
    /// The events that only it has, because they carry its id. An election has none.
    own: Vec<usize>,
    /// The place of the last of its own; of an election, of all.
    last: usize,
    /// Whether more of it is expected.
    is_under_way: bool,
    /// All its steps, by place.
    steps: Vec<usize>,
    /// What they take.
    bytes: usize,
}

impl Ages {
    fn of(recording: &Recording, open: Option<Subject>, bytes: usize) -> Ages {
        let count = recording.events.len();
        let order = Order::of(recording);
        let stories = Stories::new(recording, &order);
        let mut lives = Vec::new();
        let mut under_way_left = bytes / UNDER_WAY_SHARE;
        for mut life in lives_of(recording, &stories) {
            if life.is_under_way && life.bytes <= under_way_left {
                under_way_left -= life.bytes;
                life.last += count;
            }
            lives.push(life);
        }
        let (too_large, lives): (Vec<Life>, Vec<Life>) =
            lives.into_iter().partition(|life| bytes / STORY_SHARE < life.bytes);
        let mut ages = Ages((1..=count).collect());
        lives.iter().for_each(|life| ages.raise(&life.steps, life.last));
        if let Some(open) = open {
            let own = own_steps(recording, &stories, open);
            let near = with_whole_stories(join::surroundings(recording, &own), &lives);
            let parts = [places(&near), places(&own)];
            let fits = |part: &&Vec<usize>| bytes_of_all(recording, part) <= bytes / STORY_SHARE;
            parts.iter().find(fits).into_iter().for_each(|part| ages.raise(part, 2 * count));
        }
        too_large.iter().flat_map(|life| &life.own).for_each(|at| ages.0[*at] = GOES);
        ages
    }

    fn raise(&mut self, steps: &[usize], age: usize) {
        for at in steps {
            self.0[*at] = self.0[*at].max(age);
        }
    }
}

/// The chosen events, and all steps of the stories of which some are chosen.
fn with_whole_stories(mut chosen: Vec<bool>, lives: &[Life]) -> Vec<bool> {
    let is_touched = |life: &&Life| life.own.iter().any(|at| chosen[*at]);
    let touched: Vec<&Life> = lives.iter().filter(is_touched).collect();
    touched.iter().flat_map(|life| &life.steps).for_each(|at| chosen[*at] = true);
    chosen
}

fn places(chosen: &[bool]) -> Vec<usize> {
    (0..chosen.len()).filter(|at| chosen[*at]).collect()
}

fn bytes_of_all(recording: &Recording, places: &[usize]) -> usize {
    places.iter().map(|at| bytes_of(&recording.events[*at])).sum()
}

/// The steps of the open story, those that mark losses included.
fn own_steps(recording: &Recording, stories: &Stories<'_>, open: Subject) -> Vec<bool> {
    let mut own = match open {
        Subject::Election { term } => join::election(recording, term),
        Subject::Request(_) => vec![false; recording.events.len()],
    };
    if let Subject::Request(id) = open
        && let Some(story) = stories.of(id)
    {
        story.steps.iter().for_each(|step| own[step.event] = true);
    }
    join::mark_losses(recording, &mut own);
    own
}

/// The stories of the list: requests, the one heard last first, then elections.
fn lives_of(recording: &Recording, stories: &Stories<'_>) -> Vec<Life> {
    let mut own: HashMap<u64, Vec<usize>> = HashMap::new();
    let (mut served, mut ended) = (HashSet::new(), HashSet::new());
    for (at, event) in recording.events.iter().enumerate().filter(|(_, event)| event.id != 0) {
        own.entry(event.id).or_default().push(at);
        if event.stage == Stage::Rpc {
            served.insert(event.id);
            if event.kind == Kind::Span || !is_newest_boot(recording, event) {
                ended.insert(event.id);
            }
        }
    }
    let is_lost = |at: &usize| recording.events[*at].stage == Stage::Lost;
    let lost: Vec<usize> = (0..recording.events.len()).filter(is_lost).collect();
    let request = |id: &u64| {
        let own = own.get(id)?.clone();
        let mut steps: Vec<usize> = stories.of(*id)?.steps.iter().map(|step| step.event).collect();
        join::add_losses(recording, &lost, &mut steps);
        let bytes = bytes_of_all(recording, &steps);
        Some(Life { last: own.last()? + 1, is_under_way: !ended.contains(id), own, steps, bytes })
    };
    let mut lives: Vec<Life> = served.iter().filter_map(request).collect();
    lives.sort_by_key(|life| Reverse(life.last));
    lives.extend(elections(recording));
    lives
}

/// Whether the member was not started again since: what was under way then has ended with it.
fn is_newest_boot(recording: &Recording, event: &Event) -> bool {
    let boots = recording.members.get(usize::from(event.member)).map(|member| &member.boots);
    boots.is_none_or(|boots| boots.iter().all(|boot| boot.boot <= event.boot))
}

fn elections(recording: &Recording) -> Vec<Life> {
    let terms: BTreeSet<u64> = recording
        .events
        .iter()
        .filter(|event| event.stage == Stage::ElectionCampaign)
        .map(|event| field!(event, ElectionCampaign, term_new))
        .collect();
    let life = |term: u64| {
        let steps = places(&join::election(recording, term));
        let bytes = bytes_of_all(recording, &steps);
        let last = steps.last()? + 1;
        Some(Life { own: Vec::new(), last, is_under_way: false, steps, bytes })
    };
    terms.into_iter().filter_map(life).collect()
}

#[cfg(test)]
mod tests;
