//! The story of a request as the player shows it: its steps, and everything that happened
//! meanwhile.
//!
//! The library decides what belongs to a request and in which order events can have happened
//! (`story::query`, `story::order`); [`join`] adds the lost records. This module turns that into
//! rows: beginnings of steps that wait, grains, lanes, arrows.
//!
//! Gaps are part of the story. A message that was received, but whose sending was not recorded,
//! gets a row that says so, at the position where it must have been sent. Steps of which neither
//! end is known have no position, and are named below the last row.

use std::collections::{BTreeMap, HashMap, HashSet};

use glass_etcd::{
    field, fields,
    story::{
        Event, KeyText, Recording,
        order::Order,
        query::{
            self, Flow, Stories, Summary,
            address::Address,
            afterwards::Afterwards,
            ahead,
            find::Found,
            graph::Graph,
            incidents::{Incident, Outcome, incidents, known_at},
            path::{Segment, critical_path},
            silence::Silences,
            through::Through,
        },
    },
    trace::{FLAG_CANCELLED, Grain, Kind, Stage},
};

use super::{
    afterwards,
    ahead::sentences,
    axis::clipped,
    join,
    kept::Log,
    lanes::{self, Lane},
};

mod part;
pub(crate) mod rounds;
mod telling;

use part::{Notes, Part, uncaptured};
pub(crate) use telling::Telling;

/// The subject of a story.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    /// The request with this id.
    Request(u64),
    /// What happened to the cluster: an election, a step-down, or the start of a member.
    Cluster(Address),
}

/// What a read asked for, as far as its records say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// It waited for a ReadIndex round, so it saw every write that was acknowledged before.
    Linearizable,
    /// It was answered from this member's own data, which may be stale.
    Serializable,
}

/// One line of the list of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestSummary {
    /// The request, or what happened to the cluster.
    pub(crate) subject: Subject,
    /// The member that served it; the one that won or stood, stepped down or started.
    pub(crate) member: u8,
    /// When it began, in nanoseconds since 1970.
    pub(crate) wall_ns: u64,
    /// The RPC; `election`, `step-down` or `start` if it is no request.
    pub(crate) method: &'static str,
    /// What it asked for, if it only reads and its records say so.
    pub(crate) read: Option<Read>,
    /// The key that it names, if it was captured.
    pub(crate) key: Option<KeyText>,
    /// What has come through it so far, if it is a stream.
    pub(crate) flow: Option<Flow>,
    /// The revision in its answer.
    pub(crate) revision: Option<u64>,
    /// Its duration in nanoseconds; `None` while it is running.
    pub(crate) took_ns: Option<u64>,
    /// Its gRPC code; `None` while it is running.
    pub(crate) result: Option<u8>,
    /// Whether it is still under way, as far as is known.
    pub(crate) is_open: bool,
    /// The time of the last record of its member, in nanoseconds since 1970, if no end of it was
    /// captured and the member was not heard of any more: how it ended is unknown.
    pub(crate) unknown_since: Option<u64>,
    /// Whether anything of its rpc was captured; true if it is no request.
    pub(crate) has_rpc: bool,
    /// How it ended, if it is no request.
    pub(crate) outcome: Option<Outcome>,
    /// Whether the client disconnected before the answer.
    pub(crate) is_cancelled: bool,
    /// Why its member ended it, if it is a watcher whose stream went on.
    pub(crate) refused: Option<&'static str>,
    /// Number of records that carry its id, on all members.
    pub(crate) records: usize,
}

/// Whether a row is the beginning of a step that waits, or the step itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Moment {
    /// The step begins to wait.
    Begin,
    /// The step is done; its changes hold from here.
    Done,
}

/// Whether the other end of a message is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OtherEnd {
    /// It is in the recording.
    Captured,
    /// It was not recorded: it may or may not have happened.
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
    /// How long the message was in transit, if both ends are known. An estimate: it depends on how
    /// the clocks of the two members were aligned.
    pub(crate) transit_ns: Option<u64>,
}

/// One row of a story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// The event. For a row that was not captured: the other end, seen from here.
    pub(crate) event: Event,
    /// Whether it is the step's beginning or its end.
    pub(crate) moment: Moment,
    /// The coarsest grain that stops here.
    pub(crate) grain: Grain,
    /// False for what only happened meanwhile: heartbeats, and the work of other requests.
    pub(crate) is_own: bool,
    /// False if the step must have happened, but has no record.
    pub(crate) is_captured: bool,
    /// Position of its column.
    pub(crate) lane: usize,
    /// The other end, if it is a message.
    pub(crate) arrow: Option<Arrow>,
    /// What the wait that ends with this step stood behind, or what became of the failed call that
    /// ends with it, in sentences; `None` for any other.
    pub(crate) ahead: Option<String>,
    /// How long the request waited for what ends here, if that is on its critical path.
    pub(crate) on_path: Option<u64>,
    /// When it took effect, in nanoseconds since 1970, with the members' clocks aligned.
    pub(crate) wall_ns: u64,
}

/// Steps that must have happened on a member, or may yet, or never did, and that have no record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unknown {
    /// Position of the member's column.
    pub(crate) lane: usize,
    /// Its position in the recording; `None` for a member that sent no records.
    pub(crate) place: Option<u8>,
    /// The missing steps; empty if the member sent no records at all.
    pub(crate) stages: Vec<Stage>,
    /// What its records prove of them.
    pub(crate) known: Known,
}

/// What a member's records prove of steps that have no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Known {
    /// Nothing, or that they have happened.
    Uncaptured,
    /// They had not happened by its newest record: nothing is missing so far.
    NotYet,
    /// They never happened: the process that was to take them has ended.
    Never,
}

/// A story, ready for display.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// Its rows in playback order, with everything that happened meanwhile.
    pub(crate) steps: Vec<Step>,
    /// Steps without a row, because the time at which they happened is unknown.
    pub(crate) unknown: Vec<Unknown>,
    /// Whether another entry replaced the request's before a majority had it.
    pub(crate) is_lost: bool,
    /// Its log entry, if it has one: that of the request, or the first of the new term.
    pub(crate) log: Option<Log>,
    /// What has delayed the request of all that happened to the cluster.
    pub(crate) through: Through,
    /// When it began, in nanoseconds since 1970: the times of its steps count from here.
    pub(crate) zero_ns: u64,
}

/// All requests and elections of the recording, oldest first.
pub(crate) fn requests(
    (recording, order): (&Recording, &Order),
    found: &Found,
) -> Vec<RequestSummary> {
    let mut records: HashMap<u64, usize> = HashMap::new();
    for event in &recording.events {
        *records.entry(event.id).or_default() += 1;
    }
    let reads = Reads::of(recording);
    let silences = Silences::of(recording, order);
    let requests = query::requests(recording).into_iter().filter(|known| found.has(known));
    let requests = requests.map(|known| {
        let records = records.get(&known.id).copied().unwrap_or(0);
        let read = reads.mode(&known);
        RequestSummary { read, ..summary_of((recording, order), &silences, known, records) }
    });
    let others = of_cluster((recording, order), found);
    let mut all: Vec<RequestSummary> = requests.chain(others).collect();
    all.sort_by_key(|summary| (summary.wall_ns, subject_number(summary.subject)));
    all
}

/// How the reads of a recording were made.
struct Reads {
    /// The requests that waited for a ReadIndex round.
    waited: HashSet<u64>,
    /// The members that lost records, or left out short steps: of theirs, a missing wait proves
    /// nothing.
    doubtful: HashSet<u8>,
}

impl Reads {
    fn of(recording: &Recording) -> Reads {
        let mut reads = Reads { waited: HashSet::new(), doubtful: HashSet::new() };
        for event in &recording.events {
            match event.stage {
                Stage::ReadIndexWait => _ = reads.waited.insert(event.id),
                Stage::Lost | Stage::Brief => _ = reads.doubtful.insert(event.member),
                _ => {}
            }
        }
        reads
    }

    /// A range that was served without a round is serializable, if no record of it can be missing.
    fn mode(&self, known: &Summary) -> Option<Read> {
        let is_range = ["KV/Range", "KV/RangeStream"].contains(&known.method);
        let is_served = known.code == Some(0) && !self.doubtful.contains(&known.member);
        match self.waited.contains(&known.id) {
            true => Some(Read::Linearizable),
            false => (is_range && is_served).then_some(Read::Serializable),
        }
    }
}

/// A line of the list for a request.
fn summary_of(
    (recording, order): (&Recording, &Order),
    silences: &Silences,
    known: Summary,
    records: usize,
) -> RequestSummary {
    let silence = silences.of_process((known.member, known.boot)).filter(|_| known.is_open);
    let first = &recording.events[known.event];
    let ran_ns = if first.kind == Kind::Begin { 0 } else { first.took_ns };
    let ran_ns = ran_ns.saturating_add(known.before_ns);
    let end = known.end.map(|at| &recording.events[at]);
    let revision = end.map(|end| field!(end, Rpc, revision));
    RequestSummary {
        subject: Subject::Request(known.id),
        member: known.member,
        wall_ns: clipped(order.times[known.event]).saturating_sub(ran_ns),
        method: known.method,
        read: None,
        key: known.key,
        flow: known.flow,
        revision: revision.filter(|revision| *revision != 0),
        took_ns: known.took_ns,
        result: known.code,
        is_open: known.is_open && silence.is_none(),
        unknown_since: silence.map(|silence| clipped(silence.from)),
        has_rpc: known.has_rpc,
        outcome: None,
        is_cancelled: end.is_some_and(|end| end.flags & FLAG_CANCELLED != 0),
        refused: known.refused,
        records,
    }
}

fn subject_number(subject: Subject) -> u64 {
    match subject {
        Subject::Request(id) => id,
        Subject::Cluster(Address::Election { term, .. } | Address::StepDown { term }) => term,
        Subject::Cluster(Address::Start { boot, .. }) => u64::from(boot),
    }
}

/// One summary for each election, step-down and start.
fn of_cluster((recording, order): (&Recording, &Order), found: &Found) -> Vec<RequestSummary> {
    let happens = |event: &Event| {
        matches!(
            event.stage,
            Stage::RaftRole | Stage::ElectionCampaign | Stage::ElectionVote | Stage::MemberStart
        )
    };
    if !recording.events.iter().any(happens) {
        return Vec::new();
    }
    let stories = Stories::new(recording, order);
    incidents(&stories)
        .into_iter()
        .filter(|one| found.has_incident(&stories, one))
        .map(|one| summary_of_incident(&stories, recording, &one))
        .collect()
}

fn summary_of_incident(
    stories: &Stories<'_>,
    recording: &Recording,
    incident: &Incident,
) -> RequestSummary {
    let wall_at = |at: usize| clipped(stories.order().times[at]);
    let first = &recording.events[incident.first];
    let ran_ns = if first.kind == Kind::Span { first.took_ns } else { 0 };
    let wall_ns = wall_at(incident.first).saturating_sub(ran_ns);
    let story = stories.incident(incident.address);
    // A step-down takes no time.
    let end = incident.end.filter(|end| *end != incident.first && incident.is_begun);
    RequestSummary {
        subject: Subject::Cluster(incident.address),
        member: incident.member,
        wall_ns,
        method: match incident.address {
            Address::Election { .. } => "election",
            Address::StepDown { .. } => "step-down",
            Address::Start { .. } => "start",
        },
        read: None,
        key: None,
        flow: None,
        revision: None,
        took_ns: end.map(|at| wall_at(at).saturating_sub(wall_ns)),
        result: incident.end.map(|_| 0),
        is_open: incident.end.is_none(),
        unknown_since: None,
        has_rpc: true,
        outcome: Some(incident.outcome),
        is_cancelled: false,
        refused: None,
        records: story.map_or(0, |story| story.steps.len()),
    }
}

/// The story of a request, or of what happened to the cluster.
pub(crate) fn story(telling: &Telling<'_>, subject: Subject) -> Told {
    let Telling { recording, order, stories, lanes, .. } = telling;
    let mut told = Told::default();
    let mut notes = Notes::default();
    let mut own = Vec::new();
    let known = match subject {
        Subject::Cluster(address) => stories.incident(address),
        Subject::Request(id) => stories.of(id),
    };
    if let Some(known) = known {
        own.extend(known.steps.iter().map(|step| step.event));
        told.zero_ns = began(stories, recording, subject, &known);
        told.log = known.entry.map(|entry| telling.logs.at(entry));
        if matches!(subject, Subject::Request(_)) {
            let graph = stories.graph(&known);
            let path = critical_path(recording, order, &known, &graph);
            told.through = graph.through.delaying(path.as_deref());
            let path = path.unwrap_or_default();
            notes.ahead = stood_behind(telling, (&known, &graph), &path);
            notes.waits = waits(&path);
            told.unknown = unknown(&known, lanes);
            told.is_lost = known.is_lost;
        }
    }
    join::add_losses(recording, &telling.lost, &mut own);
    let part = Part::of(telling, &own.into_iter().collect(), &notes);
    for at in 0..part.recording.events.len() {
        let step = part.step(at, lanes);
        told.steps.extend(uncaptured(&step, lanes));
        told.steps.push(step);
    }
    mark_beginnings(&mut told.steps);
    rounds::fold(&mut told.steps);
    told
}

/// The beginning of a step on the critical path is on it too.
fn mark_beginnings(steps: &mut [Step]) {
    let name = |event: &Event| (event.member, event.boot, event.clock, event.stage);
    let on_path = steps.iter().filter(|step| step.on_path.is_some());
    let on_path: HashSet<_> = on_path.map(|step| name(&step.event)).collect();
    let begins = |step: &&mut Step| step.moment == Moment::Begin && step.is_own;
    for step in steps.iter_mut().filter(begins) {
        if on_path.contains(&name(&step.event)) {
            step.on_path.get_or_insert(0);
        }
    }
}

/// When the request's rpc began or, without one, its first step; for an election, its first event
/// that is no message of the old leader.
fn began(
    stories: &Stories<'_>,
    recording: &Recording,
    subject: Subject,
    story: &query::Story,
) -> u64 {
    let steps = || story.steps.iter().map(|step| step.event);
    let first = match subject {
        Subject::Cluster(address) => known_at(stories, address).map(|one| one.first),
        Subject::Request(id) => steps().find(|at| {
            let event = &recording.events[*at];
            (event.stage, event.id) == (Stage::Rpc, id)
        }),
    };
    let began = |at| stories.life(at)[0];
    first.map(began).or_else(|| steps().map(began).min()).map_or(0, clipped)
}

/// The first entry of each term that was captured with its leader, which is empty.
pub(crate) fn openings(recording: &Recording) -> BTreeMap<u64, u64> {
    let mut openings = BTreeMap::new();
    for event in recording.events.iter().filter(|event| event.stage == Stage::RaftEntry) {
        let [term, index, bytes] = fields!(event, RaftEntry: term, index, bytes);
        if (event.id, bytes) == (0, 0) {
            let first = openings.entry(term).or_insert(index);
            *first = index.min(*first);
        }
    }
    openings
}

/// What the waits of a request stood behind, in sentences, by the event that ends the wait; and by
/// the end of a failed call, what became of its write.
fn stood_behind(
    telling: &Telling<'_>,
    (story, graph): (&query::Story, &Graph),
    path: &[Segment],
) -> HashMap<usize, String> {
    let (recording, stood) = (telling.recording, ahead::ahead(&telling.stories, story, path));
    let said = |one: &ahead::Ahead| (one.event, sentences(recording, one, telling.titles()));
    let mut said: HashMap<usize, String> = stood.iter().map(said).collect();
    if let Some(rpc) = graph.rpc
        && let Some(known) = Afterwards::of(recording, telling.order, story, graph)
    {
        said.insert(rpc, afterwards::sentence(&recording.members, known));
    }
    said
}

/// For each event at which pieces of the critical path begin or end, how long those are that
/// end there.
fn waits(path: &[Segment]) -> HashMap<usize, u64> {
    let mut waits = HashMap::new();
    for piece in path {
        waits.entry(piece.from).or_default();
        *waits.entry(piece.to).or_default() += piece.ns;
    }
    waits
}

/// The missing steps of a request, by lane, and those that had not happened yet.
fn unknown(story: &query::Story, lanes: &[Lane]) -> Vec<Unknown> {
    let mut stages: BTreeMap<(usize, Known), Vec<Stage>> = BTreeMap::new();
    for missing in &story.missing {
        if let Some(lane) = lanes::lane_of_place(lanes, missing.member) {
            let known = match missing.not_by {
                Some(_) if missing.is_never => Known::Never,
                Some(_) => Known::NotYet,
                None => Known::Uncaptured,
            };
            stages.entry((lane, known)).or_default().push(missing.stage);
        }
    }
    for member_id in &story.unheard {
        if let Some(lane) = lanes::lane_of_id(lanes, *member_id) {
            stages.entry((lane, Known::Uncaptured)).or_default();
        }
    }
    let unknown = |((lane, known), stages): ((usize, Known), _)| {
        let place = lanes[lane].place;
        Unknown { lane, place, stages, known }
    };
    stages.into_iter().map(unknown).collect()
}

#[cfg(test)]
mod tests {
    use glass_etcd::story::recording;

    use super::*;

    /// A question about a lease that etcd-01 forwards, and the answer of etcd-02, which leads.
    const QUESTION: &str = r#"{"glass":1,"members":[{"id":"01","cluster":"09","name":"etcd-01","version":"0.1.0","boots":[{"boot":1,"wall_ns":1000000000}]},{"id":"02","cluster":"09","name":"etcd-02","version":"0.1.0","boots":[{"boot":1,"wall_ns":1000000000}]}]}
{"member":1,"boot":1,"stage":"lease.serve","kind":"begin","clock":1,"end":1,"at":2000000,"took":0,"id":"0203","link":"07","fields":{"lease":"05","from":"01"}}
{"member":1,"boot":1,"stage":"lease.serve","kind":"span","clock":1,"end":2,"at":2000000,"took":1000000,"id":"0203","link":"07","fields":{"lease":"05","from":"01","ttl":9}}
{"member":0,"boot":1,"stage":"rpc","kind":"begin","clock":1,"end":1,"at":3000000,"took":0,"id":"0203","fields":{"method":"Lease/LeaseTimeToLive"}}
{"member":0,"boot":1,"stage":"lease.forward","kind":"begin","clock":2,"end":2,"at":4000000,"took":0,"id":"0203","link":"07","fields":{"lease":"05","leader":"02"}}
{"member":0,"boot":1,"stage":"lease.forward","kind":"span","clock":2,"end":3,"at":4000000,"took":2000000,"id":"0203","link":"07","fields":{"lease":"05","leader":"02","ttl":9}}
{"member":0,"boot":1,"stage":"rpc","kind":"span","clock":1,"end":4,"at":3000000,"took":4000000,"id":"0203","fields":{"method":"Lease/LeaseTimeToLive"}}
"#;

    #[test]
    fn a_question_about_a_lease_comes_before_its_answer_whatever_the_clocks_say() {
        let recording = recording::read(QUESTION.as_bytes()).unwrap().recording;
        let order = Order::of(&recording);
        let told = story(&Telling::of(&recording, &order), Subject::Request(0x203));
        let shown: Vec<(&str, Moment)> = (told.steps.iter())
            .filter(|step| step.grain == Grain::Story && step.event.stage != Stage::Rpc)
            .map(|step| (step.event.stage.name(), step.moment))
            .collect();
        let expected = [
            ("lease.forward", Moment::Begin),
            ("lease.serve", Moment::Done),
            ("lease.forward", Moment::Done),
        ];
        assert_eq!(expected, shown[..]);
    }
}
