//! The list of requests: a row for each, made from the events of its rpc and of its other steps.
//!
//! A request whose serving member was killed has no rpc in the recording. If the others have
//! applied its entry and name its key, it has a row nevertheless, with what is known.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Story, callers, silence::Silences};
use crate::{
    field, fields,
    story::{Event, KeyText, MemberInfo, Recording, order::wall_ns},
    trace::{
        record::Kind,
        stage::{Family, METHODS, Stage},
    },
};

/// A row of the list of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Id of the request.
    pub id: u64,
    /// The member that serves it, by position.
    pub member: u8,
    /// The start of the member in which it began; 0 if nothing of its rpc was captured.
    pub boot: u16,
    /// Its method; `unknown` for a number that this version does not know.
    pub method: &'static str,
    /// The key that it names: from the rpc, or from any other of its steps.
    pub key: Option<KeyText>,
    /// Position of its first event.
    pub event: usize,
    /// Position of its end, which has the fields of the answer; `None` if it was not captured.
    pub end: Option<usize>,
    /// Whether anything of its rpc was captured. Otherwise the id tells who serves it, and the
    /// method is unknown.
    pub has_rpc: bool,
    /// Whether its end was not captured, and the member has not started again since: it is still
    /// under way, unless the member is silent ([`Summary::outcome`]).
    pub is_open: bool,
    /// gRPC code; `None` if no end was captured.
    pub code: Option<u8>,
    /// Duration in nanoseconds, from the arrival of its first byte to the last byte of its answer,
    /// as far as these were captured; `None` if the end of its rpc was not.
    pub took_ns: Option<u64>,
    /// How much of that was before its rpc began.
    pub before_ns: u64,
    /// The trace that its caller named.
    pub trace: Option<u128>,
    /// Whether it came over HTTP, through the JSON gateway.
    pub is_over_http: bool,
    /// What has come through it so far, if it is a stream.
    pub flow: Option<Flow>,
    /// Why the member refused or ended it, in a word or two, if it is a watcher whose stream went
    /// on: such an rpc has no error of its own.
    pub refused: Option<&'static str>,
}

/// What has come through a stream, as its newest record says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Messages of the client.
    pub received: u64,
    /// Messages to the client.
    pub sent: u64,
    /// Events in these.
    pub events: u64,
}

/// All requests whose rpc was captured, in the order in which their beginnings arrived, and after
/// them those of which only others than the serving member tell, with the key: it was killed.
pub fn requests(recording: &Recording) -> Vec<Summary> {
    let mut place: HashMap<(u8, u64), usize> = HashMap::new();
    let mut list: Vec<Summary> = Vec::new();
    // When the first step before the rpc began, and how long the one after it took.
    let mut at_the_edge: HashMap<(u8, u64), [u64; 2]> = HashMap::new();
    let mut over_http = HashSet::new();
    for (at, event) in recording.events.iter().enumerate() {
        if event.stage.is_at_edge() {
            let [first, after] =
                at_the_edge.entry((event.member, event.id)).or_insert([u64::MAX, 0]);
            match event.stage {
                Stage::AnswerFlush => add(after, event.took_ns),
                _ => *first = event.at_ns.min(*first),
            }
        }
        if event.stage == Stage::GatewayDecode {
            over_http.insert((event.member, event.id));
        }
        if event.stage != Stage::Rpc || event.id == 0 {
            continue;
        }
        let known = *place.entry((event.member, event.id)).or_insert(list.len());
        if known == list.len() {
            list.push(Summary {
                boot: event.boot,
                method: method_of(event),
                has_rpc: true,
                ..Summary::begun(event.id, Some(event.member), at)
            });
        }
        let summary = &mut list[known];
        if summary.method == METHODS[0] {
            summary.method = method_of(event);
        }
        if event.key.is_some() {
            summary.key.clone_from(&event.key);
        }
        if event.kind == Kind::Span {
            (summary.code, summary.took_ns) = (Some(event.result), Some(event.took_ns));
            summary.end = Some(at);
        }
    }
    note_open(recording, &mut list);
    note_orphans(recording, &mut list);
    note_flows(recording, &mut list);
    note_refusals(recording, &mut list);
    name_keys(recording, &mut list);
    let callers = callers::contexts(recording);
    for summary in &mut list {
        summary.trace = callers.get(&summary.id).map(|caller| caller.trace);
        summary.is_over_http = over_http.contains(&(summary.member, summary.id));
        let edge = at_the_edge.get(&(summary.member, summary.id));
        let [first, after] = edge.copied().unwrap_or([u64::MAX, 0]);
        let before = recording.events[summary.event].at_ns.saturating_sub(first);
        summary.before_ns = before;
        summary.took_ns.iter_mut().for_each(|took| add(took, before.saturating_add(after)));
    }
    list
}

/// Adds the requests that were applied, and whose keys are known, but nothing of whose rpc was
/// captured.
fn note_orphans(recording: &Recording, list: &mut Vec<Summary>) {
    let known: HashSet<u64> = list.iter().map(|request| request.id).collect();
    // The earliest: a member that starts again applies the write again.
    let mut first: HashMap<u64, (u64, usize)> = HashMap::new();
    let mut keys: BTreeMap<u64, &KeyText> = BTreeMap::new();
    for (at, event) in recording.events.iter().enumerate() {
        if event.id == 0 || known.contains(&event.id) {
            continue;
        }
        let began = (wall_ns(recording, event), at);
        first.entry(event.id).and_modify(|known| *known = began.min(*known)).or_insert(began);
        if let Some(key) = &event.key
            && event.stage.family() == Family::Request
        {
            keys.entry(event.id).or_insert(key);
        }
    }
    let applied = recording.events.iter().filter(|event| event.stage == Stage::ApplyEntry);
    let applied: HashSet<u64> = applied.map(|event| event.id).collect();
    for (id, key) in keys.into_iter().filter(|(id, _)| applied.contains(id)) {
        let owns = |member: &MemberInfo| member.member_id & 0xffff == id >> 48;
        let place = recording.members.iter().position(owns);
        list.push(Summary {
            key: Some(key.clone()),
            ..Summary::begun(id, place.and_then(|at| u8::try_from(at).ok()), first[&id].1)
        });
    }
}

/// Notes which requests are still under way.
fn note_open(recording: &Recording, list: &mut [Summary]) {
    let mut newest: HashMap<u8, u16> = HashMap::new();
    for event in &recording.events {
        let boot = newest.entry(event.member).or_insert(event.boot);
        *boot = event.boot.max(*boot);
    }
    for request in list.iter_mut().filter(|request| request.end.is_none() && request.has_rpc) {
        let begun = &recording.events[request.event];
        request.is_open = newest.get(&begun.member) == Some(&begun.boot);
    }
}

/// Notes what has come through streams.
fn note_flows(recording: &Recording, list: &mut [Summary]) {
    let mut newest: HashMap<(u8, u64), &Event> = HashMap::new();
    for event in recording.events.iter().filter(|event| event.stage == Stage::StreamFlow) {
        let known = newest.entry((event.member, event.id)).or_insert(event);
        if known.clock < event.clock {
            *known = event;
        }
    }
    for summary in list {
        summary.flow = newest.get(&(summary.member, summary.id)).map(|event| {
            let [received, sent, events] = fields!(event, StreamFlow: received, sent, events);
            Flow { received, sent, events }
        });
    }
}

/// Notes which watchers their members refused, or ended for another reason than a client.
fn note_refusals(recording: &Recording, list: &mut [Summary]) {
    let ends = recording.events.iter().filter(|event| event.stage == Stage::WatchCancel);
    let refused: HashMap<u64, &'static str> = ends
        .filter_map(|event| {
            let why = usize::try_from(field!(event, WatchCancel, why)).ok()?;
            Some((event.id, REFUSALS.iter().find(|(number, _)| *number == why)?.1))
        })
        .collect();
    for summary in list {
        summary.refused = refused.get(&summary.id).copied();
    }
}

/// The ends of watchers that a client has not asked for, by their position in `WATCH_ENDS`.
const REFUSALS: [(usize, &str); 5] =
    [(2, "compacted"), (3, "no leader"), (6, "id taken"), (7, "empty range"), (8, "bad start")];

/// Fills in keys from other steps of a request, if the rpc's own was not captured.
fn name_keys(recording: &Recording, list: &mut [Summary]) {
    let mut keys: HashMap<u64, &KeyText> = HashMap::new();
    for event in &recording.events {
        if let Some(key) = &event.key {
            keys.entry(event.id).or_insert(key);
        }
    }
    for summary in list.iter_mut().filter(|summary| summary.key.is_none()) {
        summary.key = keys.get(&summary.id).map(|key| (*key).clone());
    }
}

/// The name of the method in an event of [`Stage::Rpc`].
pub fn method_of(event: &Event) -> &'static str {
    let number = usize::try_from(field!(event, Rpc, method)).ok();
    number.and_then(|number| METHODS.get(number)).copied().unwrap_or(METHODS[0])
}

/// How a request ended, or that it did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With this gRPC code.
    Code(u8),
    /// The member refused or ended its watcher, in a word or two.
    Refused(&'static str),
    /// It is still under way, as far as is known.
    Open,
    /// No end of it was captured, and its member was not heard of any more: how it ended is
    /// unknown, as is whether it did.
    Unknown,
    /// No end of it was captured, and its member has started again since.
    NotFinished,
}

impl Summary {
    /// How it ended; `None` if nothing of its rpc was captured.
    pub fn outcome(&self, silences: &Silences) -> Option<Outcome> {
        let is_silent = || silences.of_process((self.member, self.boot)).is_some();
        Some(match (self.refused, self.code) {
            _ if self.is_open && is_silent() => Outcome::Unknown,
            _ if self.is_open => Outcome::Open,
            _ if !self.has_rpc => return None,
            (Some(why), _) => Outcome::Refused(why),
            (None, Some(code)) => Outcome::Code(code),
            (None, None) => Outcome::NotFinished,
        })
    }

    /// The same for one who knows its story: what followed its end may show that it has ended,
    /// though the end itself was not captured.
    pub fn outcome_in(&self, story: &Story, silences: &Silences) -> Option<Outcome> {
        let mut missing = story.missing.iter();
        let is_over = missing.any(|one| one.stage == Stage::Rpc && one.not_by.is_none());
        self.outcome(silences).filter(|_| !is_over)
    }

    /// A request of which only this event is known, and perhaps the member that serves it.
    fn begun(id: u64, member: Option<u8>, event: usize) -> Summary {
        Summary {
            id,
            member: member.unwrap_or(u8::MAX),
            boot: 0,
            method: METHODS[0],
            key: None,
            event,
            end: None,
            has_rpc: false,
            is_open: false,
            code: None,
            took_ns: None,
            before_ns: 0,
            trace: None,
            is_over_http: false,
            flow: None,
            refused: None,
        }
    }
}

/// Adds durations, which a recording may choose freely, without overflow.
pub(super) fn add(sum: &mut u64, ns: u64) {
    *sum = sum.saturating_add(ns);
}
