//! Keeps the player's recording within its memory bound: drops the oldest stories, each as a whole.
//!
//! ```text
//!   places  0 ··································· p ··································▶ newest
//!   gone    ├──── ended before p ────┤            │
//!   kept        ■   ■■     ■   ◀── steps of ──────┼── stories that continue after p
//!               ■■■■■                             │   the cursor's story, and its surroundings
//!                                                 ├──── everything ────────────────────┤
//! ```
//!
//! Each event has an **age**, which is a position in the recording: its own or, if that is later,
//! the last position of an event with the id of a story that the event is a step of. Everything
//! below some age `p` is dropped. So a story either keeps all its steps, including those that it
//! shares with other stories, or it loses all but those that other stories keep.
//!
//! Events of no story go before every story: the heartbeats of an hour do not push out a request.
//! The newest of them ([`LOOSE_SHARE`]), and one keyframe a second of each member, stay as long as
//! the stories of their time.
//!
//! Two kinds of events count as younger than every position: the story at the cursor, which is the
//! open one or the chosen row of the list, with its surroundings (what happened meanwhile, up to
//! the next keyframe on both sides); and stories that are still running. Neither may fill the
//! memory, so each has a share ([`STORY_SHARE`], [`UNDER_WAY_SHARE`]). A story at the cursor that
//! exceeds its share is kept without its surroundings. When the running stories exceed theirs,
//! those whose last event is oldest are treated as ended.
//!
//! A single story that is larger than its share cannot be kept whole, so it is dropped, regardless
//! of its age. If it is open, the step view still has the rows that it shows.
//!
//! Left out: the surroundings of other stories. For an old or a long story that is kept, the
//! events that happened meanwhile may be gone. A member whose events arrive later than the
//! recording reaches back loses its part of the oldest stories.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
};

use glass_etcd::{
    story::{
        Event, Recording,
        intake::bytes_of,
        order::Order,
        query::{
            Stories,
            incidents::{Incident, incidents},
        },
    },
    trace::{Kind, Stage},
};

use super::{join, story::Subject};

/// The bound on the player's events, in bytes, for live members and for files: about 180 000
/// events, or half a minute of three members that send 50 traces a second each, the most that they
/// send to a player. The data that the player derives from the events takes about as much again.
/// Opening a story searches all of them; with more events, that would take noticeable time.
pub(crate) const BYTES_MAX: usize = 32 << 20;
/// How much remains after dropping, in quarters of the bound. The free quarter means that stories
/// are searched once for many batches, and not for each.
const QUARTERS_AFTER: usize = 3;
/// Divisor for the share of one story, or of the cursor's with its surroundings: half of what
/// remains.
const STORY_SHARE: usize = 2;
/// Divisor for the share of the newest events that stay although no story has them.
const LOOSE_SHARE: usize = 4;
/// Divisor for the share of all running stories together: a quarter of what remains.
const UNDER_WAY_SHARE: usize = 4;
const SECOND_NS: u64 = 1_000_000_000;
/// The age of an event that is dropped in any case.
const GOES: usize = 0;

/// Which events are kept, by position. They take at most three quarters of `bytes_max`.
pub(crate) fn kept(recording: &Recording, cursor: Option<Subject>, bytes_max: usize) -> Vec<bool> {
    let bytes = bytes_max / 4 * QUARTERS_AFTER;
    let ages = Ages::of(recording, cursor, bytes).0;
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

/// The age of each event, by position. Ages count from 1: see [`GOES`].
struct Ages(Vec<usize>);

/// One story of the list.
struct Life {
    /// Positions of the events that carry its id. What happens to the cluster has none.
    own: Vec<usize>,
    /// The age of the last of them; without any, of its last step.
    last: usize,
    /// Whether its rpc is still running.
    is_under_way: bool,
    /// Positions of all its steps.
    steps: Vec<usize>,
    /// Size of all steps, in bytes.
    bytes: usize,
}

impl Ages {
    fn of(recording: &Recording, cursor: Option<Subject>, bytes: usize) -> Ages {
        let count = recording.events.len();
        let order = Order::of(recording);
        let stories = Stories::new(recording, &order);
        let mut lives = Vec::new();
        let mut under_way_left = bytes / UNDER_WAY_SHARE;
        for mut life in lives_of(recording, &stories) {
            life.last += count;
            if life.is_under_way && life.bytes <= under_way_left {
                under_way_left -= life.bytes;
                life.last += count;
            }
            lives.push(life);
        }
        let (too_large, lives): (Vec<Life>, Vec<Life>) =
            lives.into_iter().partition(|life| bytes / STORY_SHARE < life.bytes);
        let mut ages = Ages((1..=count).collect());
        for at in worth_as_much_as_stories(recording, bytes / LOOSE_SHARE) {
            ages.0[at] += count;
        }
        lives.iter().for_each(|life| ages.raise(&life.steps, life.last));
        if let Some(cursor) = cursor {
            let own = own_steps(recording, &stories, cursor);
            let near = with_whole_stories(join::surroundings(recording, &own), &lives);
            let parts = [places(&near), places(&own)];
            let fits = |part: &&Vec<usize>| bytes_of_all(recording, part) <= bytes / STORY_SHARE;
            parts.iter().find(fits).into_iter().for_each(|part| ages.raise(part, 3 * count));
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

/// Events that stay as long as the stories of their time, whether or not these have them: the
/// newest of this many bytes, the first keyframe of each member in each second, and who the members
/// were.
fn worth_as_much_as_stories(recording: &Recording, bytes: usize) -> Vec<usize> {
    let mut left = bytes;
    let mut newest = recording.events.len();
    for (at, event) in recording.events.iter().enumerate().rev() {
        let Some(rest) = left.checked_sub(bytes_of(event)) else { break };
        (left, newest) = (rest, at);
    }
    let mut seconds = HashSet::new();
    let mut is_first = |event: &Event| {
        let second = event.at_ns / SECOND_NS;
        event.kind == Kind::Keyframe
            && event.stage != Stage::Usual
            && seconds.insert((event.member, event.boot, event.stage, second))
    };
    let all = recording.events.iter().enumerate();
    // Without these nobody could say who votes.
    let is_of_members = |event: &Event| event.stage == Stage::RaftMembers;
    all.filter(|(at, event)| is_first(event) || is_of_members(event) || newest <= *at)
        .map(|(at, _)| at)
        .collect()
}

/// The chosen events, and all steps of the stories that have a chosen event.
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

/// The steps of the cursor's story, with the marks of lost records.
fn own_steps(recording: &Recording, stories: &Stories<'_>, cursor: Subject) -> Vec<bool> {
    let mut own = vec![false; recording.events.len()];
    let story = match cursor {
        Subject::Cluster(address) => stories.incident(address),
        Subject::Request(id) => stories.of(id),
    };
    let steps = story.iter().flat_map(|story| &story.steps);
    steps.for_each(|step| own[step.event] = true);
    join::mark_losses(recording, &mut own);
    own
}

/// The stories of the list: requests, by their last event, the newest first; then those
/// of the cluster.
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
    lives.extend(of_cluster(recording, stories));
    lives
}

/// Whether the event is from the member's latest start. A restart ends everything that was running.
fn is_newest_boot(recording: &Recording, event: &Event) -> bool {
    let boots = recording.members.get(usize::from(event.member)).map(|member| &member.boots);
    boots.is_none_or(|boots| boots.iter().all(|boot| boot.boot <= event.boot))
}

/// Elections, step-downs and starts.
fn of_cluster(recording: &Recording, stories: &Stories<'_>) -> Vec<Life> {
    let life = |incident: &Incident| {
        let story = stories.incident(incident.address)?;
        let mut steps: Vec<usize> = story.steps.iter().map(|step| step.event).collect();
        steps.sort_unstable();
        let bytes = bytes_of_all(recording, &steps);
        let last = steps.last()? + 1;
        Some(Life { own: Vec::new(), last, is_under_way: false, steps, bytes })
    };
    incidents(stories).iter().filter_map(life).collect()
}

#[cfg(test)]
mod tests;
