//! Compares two stories: which steps only one of them has, and which took longer.
//!
//! ```text
//!   A  asked ─▶ leader ─▶ followers        by part, not by member: the leader of A
//!        │        │           │            may be another member than that of B
//!   B  asked ─▶ leader ─▶ followers
//! ```
//!
//! Steps are paired by stage and by the role of the member that took them. Steps of the request
//! itself, and of its application, are paired by whether the member was the one that was asked;
//! log, disk, messages and counting by whether it led. Where the asked member stood still, that is
//! told of it as the asked one. A message is one step from one role to
//! another, however many members received it. A member that was asked and leads has both roles.
//!
//! There are also [`Facts`] about each request as a whole, and [`Waited`], which says how long each
//! waited for what, from its critical path, so that the differences add up to that of the two
//! durations. [`Causes`] say what these waits stood behind, and what happened to the cluster
//! meanwhile. [`Difference`]s name the most important of all this, the greatest first.
//!
//! Invariant: a fact that was not captured is `None` and makes no difference, because it is unknown
//! whether it is one. This module has numbers only; the reader supplies the words.

use std::collections::BTreeMap;

mod causes;
mod led;

pub use causes::{Blocked, Causes};

use causes::blocked;
use led::Led;

use super::{
    Outcome, Relation, Story, Summary,
    graph::{Graph, Steps},
    method_of,
    path::{Wait, critical_path},
    requests,
    requests::add,
    silence::Silences,
    unbegun::server_of,
};
use crate::{
    field, fields,
    story::{Event, Recording, order::Order},
    trace::{record::Kind, stage::Stage},
};

/// The least difference, in nanoseconds, for which a step counts as notably longer.
const NOTABLE_NS: u64 = 100_000;

/// One of the two requests. They may come from different recordings.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// The recording of the request.
    pub recording: &'a Recording,
    /// The playback order of that recording.
    pub order: &'a Order,
    /// The story of the request.
    pub story: &'a Story,
}

/// The role of a member in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The client asked it.
    Asked,
    /// The client did not ask it.
    Others,
    /// It leads, and appends the entry or confirms the read.
    Leader,
    /// It follows the leader.
    Followers,
    /// The leader is unknown.
    Unknown,
}

/// A step, independent of particular members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct What {
    /// The stage; `raft.send` for a message.
    pub stage: Stage,
    /// The role of the member that took the step, or sent the message.
    pub part: Part,
    /// For a message, its type and the role of its receiver.
    pub message: Option<(u64, Part)>,
}

/// How one of the requests took the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// On how many members, or with how many messages.
    pub count: usize,
    /// The longest of them in nanoseconds; for a message, its time in transit. `None` for steps
    /// that take no time, and for those that have not ended.
    pub ns: Option<u64>,
    /// Whether the duration depends on how the members' clocks were set against each other.
    pub is_estimated: bool,
}

/// A step of both requests, or of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The step that is compared.
    pub what: What,
    /// How A took it, and how B did.
    pub taken: [Option<Taken>; 2],
}

impl Pair {
    /// The request in which it took notably longer, 0 for A, and by how many nanoseconds.
    pub fn longer(&self) -> Option<(usize, u64)> {
        let [a, b] = [self.taken[0]?.ns?, self.taken[1]?.ns?];
        let (short, long) = (a.min(b), a.max(b));
        let is_notable = NOTABLE_NS <= long - short && short / 2 <= long - short;
        is_notable.then_some((usize::from(a < b), long - short))
    }
}

/// Consistency of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// It asked a quorum for the commit index.
    Linearizable,
    /// It read what the member had applied.
    Serializable,
}

/// The disk that completed the quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completed {
    /// The disk of the leader itself.
    Leader,
    /// That of a follower.
    Follower,
}

/// Where a read found its values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Number of values from the active write buffer.
    pub active: u64,
    /// Number of values from the frozen buffer, which is being written to the file.
    pub frozen: u64,
    /// Number of values from the file.
    pub file: u64,
}

/// The known facts of a request as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The method of the RPC.
    pub method: Option<&'static str>,
    /// The member that was asked, by position.
    pub asked: Option<u8>,
    /// The same by raft's id, which the request's own id tells even if that member sent no records.
    pub server: Option<u64>,
    /// Whether that member led.
    pub is_leader: Option<bool>,
    /// Consistency; `None` for a write.
    pub consistency: Option<Consistency>,
    /// Its outcome, as the list of requests has it; `None` if it was not captured.
    pub outcome: Option<Outcome>,
    /// The gRPC code with which its rpc ended.
    pub code: Option<u8>,
    /// Its duration in nanoseconds, as the list has it: the length of its path.
    pub took_ns: Option<u64>,
    /// The revision in the header of its answer.
    pub revision: Option<u64>,
    /// Number of keys that it read.
    pub keys: Option<u64>,
    /// Where it found their values.
    pub found: Option<Found>,
    /// The entry's term and index.
    pub entry: Option<(u64, u64)>,
    /// Whether another entry replaced it before it was committed.
    pub is_replaced: bool,
    /// Number of entries that the leader's fsync made durable, including this one.
    pub fsynced: Option<u64>,
    /// The disk that completed the quorum.
    pub completed_by: Option<Completed>,
    /// Number of reads that shared the round, including this one.
    pub reads: Option<u64>,
    /// How often its rounds had asked the quorum when it ended.
    pub attempts: Option<u64>,
    /// Whether its member asked the leader over HTTP, as a follower does about leases.
    pub is_forwarded: bool,
    /// Number of watchers that received it; `None` if it wrote nothing.
    pub watchers: Option<u64>,
}

impl Facts {
    /// Collects the facts of one request.
    pub fn of(side: Side<'_>) -> Facts {
        Looked::at(side).facts()
    }
}

/// How long each of the two waited for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waited {
    /// The cause of the wait.
    pub wait: Wait,
    /// Nanoseconds in A, and in B.
    pub ns: [u64; 2],
}

impl Waited {
    /// By how many nanoseconds B waited longer; negative if A did.
    pub fn difference(&self) -> i128 {
        i128::from(self.ns[1]) - i128::from(self.ns[0])
    }
}

/// A difference that explains others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// They are different requests.
    Method,
    /// They have different outcomes, or only one's entry was replaced.
    Result,
    /// One asked a quorum before it read, the other did not.
    Consistency,
    /// One was sent to the leader, the other to a follower.
    Asked,
    /// One read from a buffer what the other read from the file.
    Found,
    /// One shared the leader's fsync with more entries.
    Fsync,
    /// One shared its round with more reads, or had to ask again.
    Round,
    /// The leader's disk completed one quorum, a follower's the other.
    CompletedBy,
    /// They read different numbers of keys.
    Keys,
}

/// The comparison of two requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diff {
    /// The facts of A, and of B.
    pub facts: [Facts; 2],
    /// The differences, the most important first.
    pub differences: Vec<Difference>,
    /// All steps of both, in the order of A; steps of B alone follow the step before them in B.
    pub pairs: Vec<Pair>,
    /// The waits, the greatest difference first; `None` if the path of one is unknown.
    pub waited: Option<Vec<Waited>>,
    /// Why A waited, and why B did.
    pub causes: [Causes; 2],
    /// What they stood behind, the greatest difference first.
    pub blocked: Vec<Blocked>,
}

impl Diff {
    /// Compares two requests; `a` and `b` may be of different recordings.
    pub fn of(a: Side<'_>, b: Side<'_>) -> Diff {
        let looked = [Looked::at(a), Looked::at(b)];
        let facts = [looked[0].facts(), looked[1].facts()];
        let differences = differences(&facts);
        let pairs = pairs(&looked[0].steps(), &looked[1].steps());
        let waited = waited([looked[0].waits(), looked[1].waits()]);
        let causes = [Causes::of(a), Causes::of(b)];
        let blocked = blocked(&causes);
        Diff { facts, differences, pairs, waited, causes, blocked }
    }
}

/// A request, prepared for comparison.
struct Looked<'a> {
    side: Side<'a>,
    graph: Graph,
    list: Steps<'a>,
    /// Its row in the list of requests.
    row: Option<Summary>,
    asked: Option<u8>,
    led: Led,
}

impl<'a> Looked<'a> {
    fn at(side: Side<'a>) -> Looked<'a> {
        let Side { recording, order, story } = side;
        let graph = Graph::of(recording, order, story);
        let list = Steps::new(recording, order, story);
        let is_rpc = |at: &usize| {
            let event = &recording.events[*at];
            event.stage == Stage::Rpc && event.id == story.id
        };
        let row = requests(recording).into_iter().find(|row| row.id == story.id);
        let asked = list.list.iter().copied().find(is_rpc).map(|at| recording.events[at].member);
        // The id of a request tells who serves it, even if nothing of its rpc was captured.
        let known = |row: &Summary| Some(row.member).filter(|place| *place != u8::MAX);
        let asked = asked.or_else(|| row.as_ref().and_then(known));
        let led = Led::of(side, &graph, &list, asked);
        Looked { side, graph, list, row, asked, led }
    }

    fn event(&self, at: usize) -> &'a Event {
        &self.side.recording.events[at]
    }

    fn facts(&self) -> Facts {
        let end = self.graph.rpc.map(|at| self.event(at));
        let begin = || self.list.list.iter().find(|at| self.event(**at).stage == Stage::Rpc);
        let method = end.or_else(|| begin().map(|at| self.event(*at))).map(method_of);
        let is_read = self.list.all(Stage::MvccRange).next().is_some();
        let has_asked = self.side.story.steps.iter().any(|step| {
            let stage = self.event(step.event).stage;
            stage == Stage::ReadIndexWait
        });
        let leaders_fsync = self.led.leader.and_then(|leader| self.graph.fsync_on(leader));
        let leader_id = self.led.leader.map(|leader| self.list.member_id(leader));
        let by = |by: u64| match Some(by) == leader_id {
            true => Completed::Leader,
            false => Completed::Follower,
        };
        Facts {
            method,
            asked: self.asked,
            server: server_of(self.side.recording, self.side.story.id),
            is_leader: self.led.is_asked,
            consistency: match (has_asked, is_read && self.side.story.entry.is_none()) {
                (true, _) => Some(Consistency::Linearizable),
                (false, true) => Some(Consistency::Serializable),
                (false, false) => None,
            },
            outcome: self.row.as_ref().and_then(|row| {
                let silences = Silences::of(self.side.recording, self.side.order);
                row.outcome_in(self.side.story, &silences)
            }),
            code: self.row.as_ref().and_then(|row| row.code),
            took_ns: self.row.as_ref().and_then(|row| row.took_ns),
            revision: end.map(|end| field!(end, Rpc, revision)).filter(|number| *number != 0),
            keys: self.keys(),
            found: self.found(),
            entry: self.side.story.entry,
            is_replaced: self.side.story.is_lost,
            fsynced: leaders_fsync.map(|fsync| fsync.entries),
            completed_by: self.graph.quorum.completed_by.map(by),
            reads: self.graph.round.and_then(|round| round.reads),
            attempts: self.attempts(),
            is_forwarded: !self.graph.forwards.is_empty(),
            watchers: self.side.story.entry.map(|_| self.graph.heard.len() as u64),
        }
    }

    /// The newest attempt of each round that had begun when the call ended, summed up. A call that
    /// gave up did not wait for the later ones.
    fn attempts(&self) -> Option<u64> {
        let until = self.graph.rpc.map_or(i128::MAX, |at| self.side.order.times[at]);
        let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
        for at in self.list.all(Stage::ReadIndexRound) {
            let event = self.event(at);
            let began = self.side.order.times[at] - i128::from(event.took_ns);
            if began <= until {
                let round = if event.link == 0 { event.id } else { event.link };
                let known = newest.entry(round).or_default();
                *known = field!(event, ReadIndexRound, attempt).max(*known);
            }
        }
        (!newest.is_empty()).then(|| newest.into_values().fold(0, u64::saturating_add))
    }

    /// The steps of a stage on the member that was asked: others may have read the same to apply
    /// the request.
    fn of_asked(&self, stage: Stage) -> impl Iterator<Item = &Event> {
        let all = self.list.all(stage).map(|at| self.event(at));
        all.filter(|event| self.asked.is_none_or(|asked| asked == event.member))
    }

    fn keys(&self) -> Option<u64> {
        let mut ranges = self.of_asked(Stage::MvccRange).peekable();
        ranges.peek()?;
        Some(ranges.map(|range| field!(range, MvccRange, keys)).fold(0, u64::saturating_add))
    }

    /// The values of the answer. A read that began again has looked some of them up before.
    fn found(&self) -> Option<Found> {
        let looks = || self.of_asked(Stage::BufferGet);
        let last = looks().map(|look| field!(look, BufferGet, again)).max()?;
        let mut found = Found::default();
        for look in looks().filter(|look| field!(look, BufferGet, again) == last) {
            let [active, frozen, misses] = fields!(look, BufferGet: active, frozen, misses);
            found.active = found.active.saturating_add(active);
            found.frozen = found.frozen.saturating_add(frozen);
            found.file = found.file.saturating_add(misses);
        }
        Some(found)
    }

    fn part(&self, relation: Relation, member: u8) -> Part {
        match relation {
            Relation::Own | Relation::Apply | Relation::Stall if self.asked == Some(member) => {
                Part::Asked
            }
            Relation::Own | Relation::Apply => Part::Others,
            Relation::Log
            | Relation::Message
            | Relation::Quorum
            | Relation::Store
            | Relation::Cause
            | Relation::Aftermath
            | Relation::Stall
            | Relation::Election
            | Relation::Part
            | Relation::Delivery
            | Relation::Round => match self.led.leader {
                None => Part::Unknown,
                Some(leader) if leader == member => Part::Leader,
                Some(_) => Part::Followers,
            },
        }
    }

    fn part_of(&self, member_id: u64) -> Part {
        match self.led.leader.map(|leader| self.list.member_id(leader)) {
            None => Part::Unknown,
            Some(leader) if leader == member_id => Part::Leader,
            Some(_) => Part::Followers,
        }
    }

    /// The steps, in the order in which each was first taken.
    fn steps(&self) -> Vec<(What, Taken)> {
        let mut steps: Vec<(What, Taken)> = Vec::new();
        for step in &self.side.story.steps {
            let Some((what, one)) = self.step(step.event, step.relation) else { continue };
            match steps.iter_mut().find(|(other, _)| *other == what) {
                None => steps.push((what, one)),
                Some((_, taken)) => {
                    taken.count += one.count;
                    taken.ns = taken.ns.max(one.ns);
                    taken.is_estimated |= one.is_estimated;
                }
            }
        }
        steps
    }

    fn step(&self, at: usize, relation: Relation) -> Option<(What, Taken)> {
        let event = self.event(at);
        // The round belongs to the asked member; only what the leader adds to it belongs to the
        // leader.
        let relation = if event.stage == Stage::ReadIndexRound { Relation::Own } else { relation };
        match event.stage {
            Stage::RaftSend | Stage::RaftReceive => return self.message(at, event),
            // How busy the machine was is no step of the request.
            Stage::CpuWait => return None,
            _ => (),
        }
        let what =
            What { stage: event.stage, part: self.part(relation, event.member), message: None };
        let is_open = event.kind == Kind::Begin;
        if is_open && self.has_ended(event) {
            return None;
        }
        let ns = (event.kind == Kind::Span).then_some(event.took_ns);
        Some((what, Taken { count: 1, ns, is_estimated: false }))
    }

    fn has_ended(&self, begin: &Event) -> bool {
        self.list
            .all(begin.stage)
            .map(|at| self.event(at))
            .any(|end| (end.member, end.boot, end.clock) == (begin.member, begin.boot, begin.clock))
    }

    fn message(&self, at: usize, event: &Event) -> Option<(What, Taken)> {
        let partner = self.side.order.partner.get(&at);
        let is_receive = event.stage == Stage::RaftReceive;
        if event.kind == Kind::Begin || (is_receive && partner.is_some()) {
            return None;
        }
        let own = self.part_of(self.list.member_id(event.member));
        let [peer, kind] = fields!(event, RaftSend | RaftReceive: peer, type);
        let peer = self.part_of(peer);
        let (from, to) = if is_receive { (peer, own) } else { (own, peer) };
        let times = &self.side.order.times;
        let way = partner.map(|other| u64::try_from(times[*other] - times[at]).unwrap_or(0));
        let what = What { stage: Stage::RaftSend, part: from, message: Some((kind, to)) };
        Some((what, Taken { count: 1, ns: way, is_estimated: true }))
    }

    fn waits(&self) -> Option<BTreeMap<Wait, u64>> {
        let Side { recording, order, story } = self.side;
        let mut waits = BTreeMap::new();
        for segment in critical_path(recording, order, story, &self.graph)? {
            add(waits.entry(segment.wait).or_default(), segment.ns);
        }
        Some(waits)
    }
}

/// Merges the two lists in the order of A; a step of B alone follows the step before it in B.
fn pairs(a: &[(What, Taken)], b: &[(What, Taken)]) -> Vec<Pair> {
    let mut pairs: Vec<Pair> =
        a.iter().map(|(what, taken)| Pair { what: *what, taken: [Some(*taken), None] }).collect();
    let mut behind = 0;
    for (what, taken) in b {
        let known = pairs.iter().position(|pair| pair.what == *what);
        let at = known.unwrap_or_else(|| {
            pairs.insert(behind, Pair { what: *what, taken: [None, None] });
            behind
        });
        pairs[at].taken[1] = Some(*taken);
        behind = at + 1;
    }
    pairs
}

fn waited(waits: [Option<BTreeMap<Wait, u64>>; 2]) -> Option<Vec<Waited>> {
    let [a, b] = waits;
    let mut both: BTreeMap<Wait, [u64; 2]> = BTreeMap::new();
    for (side, waits) in [a?, b?].into_iter().enumerate() {
        for (wait, ns) in waits {
            both.entry(wait).or_default()[side] = ns;
        }
    }
    let mut list: Vec<Waited> = both.into_iter().map(|(wait, ns)| Waited { wait, ns }).collect();
    list.sort_by_key(|waited| (std::cmp::Reverse(waited.difference().abs()), waited.wait));
    Some(list)
}

/// Facts that are known of both and differ, the most important first.
fn differences(facts: &[Facts; 2]) -> Vec<Difference> {
    fn differ<T: PartialEq>(facts: &[Facts; 2], of: impl Fn(&Facts) -> Option<T>) -> bool {
        of(&facts[0]).zip(of(&facts[1])).is_some_and(|(a, b)| a != b)
    }
    let is_from_file = |facts: &Facts| facts.found.filter(is_any).map(|found| found.file != 0);
    let checks = [
        (Difference::Method, differ(facts, |facts| facts.method)),
        (
            Difference::Result,
            differ(facts, |facts| facts.outcome) || facts[0].is_replaced != facts[1].is_replaced,
        ),
        (Difference::Consistency, differ(facts, |facts| facts.consistency)),
        (Difference::Asked, differ(facts, |facts| facts.is_leader)),
        (Difference::Found, differ(facts, is_from_file)),
        (Difference::Fsync, differ(facts, |facts| facts.fsynced)),
        (
            Difference::Round,
            differ(facts, |facts| facts.reads) || differ(facts, |facts| facts.attempts),
        ),
        (Difference::CompletedBy, differ(facts, |facts| facts.completed_by)),
        (Difference::Keys, differ(facts, |facts| facts.keys)),
    ];
    checks.into_iter().filter_map(|(difference, is_one)| is_one.then_some(difference)).collect()
}

fn is_any(found: &Found) -> bool {
    (found.active | found.frozen | found.file) != 0
}
