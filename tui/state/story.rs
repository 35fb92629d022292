//! The story of a request: its steps, in an order in which they can have happened.
//!
//! Members have clocks of their own, each of which counts; between members, a message is sent
//! before it is received. The order of playback keeps both, and otherwise follows the wall clocks:
//! so every place in it is a state in which the cluster could have been.
//!
//! What is missing is part of the story. A message that was received but whose sending nobody
//! recorded gets a row that says so, at the place where it must have been.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap, HashSet},
};

use glass_etcd::trace::{Event, FLAG_CANCELLED, Grain, KeyText, Kind, Recording, Stage};

use super::{
    join,
    lanes::{self, Lane},
    watermarks::{moment, wall},
};

/// What a story is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    /// The request with this id.
    Request(u64),
    /// How the cluster came to a leader in this term.
    Election {
        /// The term.
        term: u64,
    },
}

/// One line of the list of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestSummary {
    /// The request, or the election.
    pub(crate) subject: Subject,
    /// The member that took it; for an election, the one that won or stood.
    pub(crate) member: u8,
    /// When it began, in nanoseconds since 1970.
    pub(crate) wall_ns: u64,
    /// The RPC, by the number of `METHODS`; 0 for elections.
    pub(crate) method: u64,
    /// The key that it names, where that was captured.
    pub(crate) key: Option<KeyText>,
    /// The revision in its answer.
    pub(crate) revision: Option<u64>,
    /// How long it took, in nanoseconds; none while it is under way.
    pub(crate) took_ns: Option<u64>,
    /// gRPC code; none while it is under way.
    pub(crate) result: Option<u8>,
    /// The client went away before the answer.
    pub(crate) is_cancelled: bool,
    /// Records that carry its id, of all members.
    pub(crate) records: usize,
}

/// Whether a row is the beginning of a step that waits, or the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Moment {
    /// It begins to wait.
    Begin,
    /// It is done; its changes hold from here.
    Done,
}

/// What became of the other end of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OtherEnd {
    /// It is in the recording.
    Captured,
    /// Nobody recorded it: perhaps it happened, perhaps not.
    Unknown,
}

/// The arrow of a step that sends or receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrow {
    /// The other member's lane.
    pub(crate) peer: usize,
    /// Whether the message leaves here.
    pub(crate) is_out: bool,
    /// Whether the other end was recorded.
    pub(crate) other_end: OtherEnd,
}

/// One row of a story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// What happened. For a row that was not captured: the other end, seen from here.
    pub(crate) event: Event,
    /// Beginning or end.
    pub(crate) moment: Moment,
    /// The coarsest grain that stops here.
    pub(crate) grain: Grain,
    /// False for what only happened meanwhile: heartbeats, and the work of other requests.
    pub(crate) is_own: bool,
    /// False when the step must have happened, but no record of it was heard.
    pub(crate) is_captured: bool,
    /// Its column.
    pub(crate) lane: usize,
    /// For messages.
    pub(crate) arrow: Option<Arrow>,
    /// When it took effect, in nanoseconds since 1970, by its member's clock.
    pub(crate) wall_ns: u64,
}

/// Places of all events in playback order: each member's by its clock, sends before receives, and
/// otherwise by wall clock.
pub(crate) fn order(recording: &Recording) -> Vec<usize> {
    let mut queues: BTreeMap<u8, Vec<usize>> = BTreeMap::new();
    for (at, event) in recording.events.iter().enumerate() {
        queues.entry(event.member).or_default().push(at);
    }
    for queue in queues.values_mut() {
        queue.sort_by(|a, b| later_first(&recording.events[*a], &recording.events[*b]));
    }
    let is = |stage| move |event: &&Event| event.stage == stage && event.link != 0;
    let mut unsent: HashMap<u64, usize> = HashMap::new();
    for send in recording.events.iter().filter(is(Stage::RaftSend)) {
        *unsent.entry(send.link).or_default() += 1;
    }
    let mut ordered = Vec::with_capacity(recording.events.len());
    let mut queues: Vec<Vec<usize>> = queues.into_values().collect();
    while let Some(next) = next_of(recording, &queues, &unsent) {
        let Some(at) = queues[next].pop() else { break };
        let event = &recording.events[at];
        if event.stage == Stage::RaftSend {
            unsent.remove(&event.link);
        }
        ordered.push(at);
    }
    ordered
}

/// Queues are taken from the back.
fn later_first(a: &Event, b: &Event) -> Ordering {
    (moment(b), b.clock).cmp(&(moment(a), a.clock))
}

/// The queue whose head can come next: it waits for no send, and is the earliest on the wall.
/// If all wait, which only a damaged recording can bring about, the earliest goes first.
fn next_of(
    recording: &Recording,
    queues: &[Vec<usize>],
    unsent: &HashMap<u64, usize>,
) -> Option<usize> {
    let heads = queues.iter().enumerate().filter_map(|(queue, places)| {
        let event = &recording.events[*places.last()?];
        let waits = event.stage == Stage::RaftReceive && unsent.contains_key(&event.link);
        Some((waits, wall(recording, event), queue))
    });
    heads.min().map(|(_, _, queue)| queue)
}

/// All requests and elections that the recording knows, oldest first.
pub(crate) fn requests(recording: &Recording) -> Vec<RequestSummary> {
    let mut by_id: HashMap<u64, RequestSummary> = HashMap::new();
    for event in recording.events.iter().filter(|event| event.stage == Stage::Rpc && event.id != 0)
    {
        let begun = wall(recording, event).saturating_sub(match event.kind {
            Kind::Begin => 0,
            _ => event.took_ns,
        });
        let summary = by_id.entry(event.id).or_insert_with(|| RequestSummary {
            subject: Subject::Request(event.id),
            member: event.member,
            wall_ns: begun,
            method: event.fields[0],
            key: None,
            revision: None,
            took_ns: None,
            result: None,
            is_cancelled: false,
            records: 0,
        });
        if event.kind != Kind::Begin {
            summary.took_ns = Some(event.took_ns);
            summary.result = Some(event.result);
            summary.revision = Some(event.fields[3]).filter(|revision| *revision != 0);
            summary.is_cancelled = event.flags & FLAG_CANCELLED != 0;
        }
    }
    for event in &recording.events {
        if let Some(summary) = by_id.get_mut(&event.id) {
            summary.records += 1;
            if summary.key.is_none() {
                summary.key.clone_from(&event.key);
            }
        }
    }
    let mut all: Vec<RequestSummary> = by_id.into_values().chain(elections(recording)).collect();
    all.sort_by_key(|summary| (summary.wall_ns, subject_number(summary.subject)));
    all
}

fn subject_number(subject: Subject) -> u64 {
    match subject {
        Subject::Request(id) => id,
        Subject::Election { term } => term,
    }
}

/// One summary for each term in which a member stood for election.
fn elections(recording: &Recording) -> Vec<RequestSummary> {
    let mut terms: BTreeMap<u64, RequestSummary> = BTreeMap::new();
    let mut stood: Vec<&Event> =
        recording.events.iter().filter(|event| event.stage == Stage::ElectionCampaign).collect();
    stood.sort_by_key(|event| wall(recording, event));
    for event in stood.into_iter().filter(|event| event.fields[0] == 0) {
        let term = event.fields[2];
        terms.entry(term).or_insert_with(|| RequestSummary {
            subject: Subject::Election { term },
            member: event.member,
            wall_ns: wall(recording, event).saturating_sub(event.took_ns),
            method: 0,
            key: None,
            revision: None,
            took_ns: None,
            result: None,
            is_cancelled: false,
            records: join::belongs(recording, Subject::Election { term })
                .into_iter()
                .filter(|belongs| *belongs)
                .count(),
        });
    }
    for event in recording.events.iter().filter(|event| event.stage == Stage::RaftRole) {
        let (role, term) = (event.fields[1], event.fields[3]);
        if let (join::LEADER, Some(summary)) = (role, terms.get_mut(&term)) {
            summary.member = event.member;
            summary.took_ns = Some(wall(recording, event).saturating_sub(summary.wall_ns));
            summary.result = Some(0);
        }
    }
    terms.into_values().collect()
}

/// The steps of a request or an election in playback order, with all that happened meanwhile.
pub(crate) fn story(recording: &Recording, subject: Subject) -> Vec<Step> {
    let lanes = lanes::lanes(recording);
    let own = join::belongs(recording, subject);
    let window = join::Window::around(recording, &own);
    let mut part = Recording { members: recording.members.clone(), ..Recording::default() };
    let mut is_own = Vec::new();
    for (event, own) in recording.events.iter().zip(own) {
        let is_known = lanes::lane_of_place(&lanes, event.member).is_some();
        if is_known && (own || window.contains(event)) {
            part.events.push(event.clone());
            is_own.push(own);
        }
    }
    let own_events: Vec<Event> =
        part.events.iter().zip(&is_own).filter(|(_, own)| **own).map(|(e, _)| e.clone()).collect();
    let missing = join::missing_beginnings(&own_events);
    is_own.resize(is_own.len() + missing.len(), true);
    part.events.extend(missing);
    let key = part.events.iter().zip(&is_own).find_map(|(e, own)| e.key.clone().filter(|_| *own));
    let ends = Ends::of(&part);
    let mut steps = Vec::new();
    for at in order(&part) {
        let mut step = step_of(&part, at, is_own[at], &lanes, &ends);
        if step.event.stage == Stage::Rpc && is_own[at] {
            step.event.key.clone_from(&key);
        }
        steps.extend(uncaptured(&step, &lanes));
        steps.push(step);
    }
    steps
}

/// Which ends of which messages are in a recording.
struct Ends {
    sent: HashSet<u64>,
    received: HashSet<u64>,
}

impl Ends {
    fn of(recording: &Recording) -> Ends {
        let links = |stage| {
            let events = recording.events.iter();
            events.filter(move |e| e.stage == stage).map(|e| e.link).collect()
        };
        Ends { sent: links(Stage::RaftSend), received: links(Stage::RaftReceive) }
    }
}

fn step_of(recording: &Recording, at: usize, is_own: bool, lanes: &[Lane], ends: &Ends) -> Step {
    let event = recording.events[at].clone();
    let moment = if event.kind == Kind::Begin { Moment::Begin } else { Moment::Done };
    let lane = lanes::lane_of_place(lanes, event.member).unwrap_or(0);
    let other = match event.stage {
        Stage::RaftSend => Some((true, &ends.received)),
        Stage::RaftReceive => Some((false, &ends.sent)),
        _ => None,
    };
    let arrow = other.and_then(|(is_out, others)| {
        let peer = lanes::lane_of_id(lanes, event.fields[0])?;
        let is_known = event.link != 0 && others.contains(&event.link);
        let other_end = if is_known { OtherEnd::Captured } else { OtherEnd::Unknown };
        Some(Arrow { peer, is_out, other_end })
    });
    let grain = if is_own { grain(event.stage, moment) } else { Grain::Raw };
    let wall_ns = wall(recording, &event);
    Step { event, moment, grain, is_own, is_captured: true, lane, arrow, wall_ns }
}

/// At which grain a row stops. Of a step that waits, either the beginning or the end is the one
/// that tells the story; of an RPC and of a round, both.
fn grain(stage: Stage, moment: Moment) -> Grain {
    if stage == Stage::Lost {
        return Grain::Story;
    }
    let tells = match (stage, moment) {
        (Stage::RaftPropose | Stage::ReadIndexWait, Moment::Done) => false,
        (
            Stage::Rpc | Stage::RaftPropose | Stage::ReadIndexWait | Stage::ReadIndexRound,
            Moment::Begin,
        ) => true,
        (_, Moment::Begin) => false,
        (_, Moment::Done) => true,
    };
    if tells { stage.grain() } else { stage.grain().max(Grain::Stage) }
}

/// For a message whose sending was not captured: the row where it must have been sent.
fn uncaptured(step: &Step, lanes: &[Lane]) -> Option<Step> {
    let arrow = step.arrow.filter(|arrow| !arrow.is_out && arrow.other_end == OtherEnd::Unknown)?;
    if !step.is_own || arrow.peer == step.lane {
        return None;
    }
    let mut event = Event { stage: Stage::RaftSend, took_ns: 0, ..step.event.clone() };
    event.fields[0] = lanes[step.lane].member_id;
    let out = Arrow { peer: step.lane, is_out: true, other_end: OtherEnd::Captured };
    Some(Step { event, lane: arrow.peer, arrow: Some(out), is_captured: false, ..step.clone() })
}
