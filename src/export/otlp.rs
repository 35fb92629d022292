//! Spans as OpenTelemetry has them, for Jaeger, Tempo, otel-tui and whatever else reads OTLP.
//!
//! ```text
//!   the caller's trace        the trace of the request          traces of their own
//!   ┌ the caller's span       ┌ rpc ◀──────── link ────────┐
//!   └─ rpc KV/Put ──── link ──┤                            │
//!      ├ raft.propose         ├ raft.entry on a follower ──┼─ link: batch ──▶ wal.fsync
//!      │ └ apply.entry        └ apply.entry on a follower ─┼─ link: batch ──▶ backend.commit
//!      └ raft.entry                                        └─ link: message ▶ raft.send
//!                                                                             └ raft.receive
//! ```
//!
//! A request's steps are the spans of one trace. A parent is the innermost step of the same member
//! around a step, by the member's clock; the outermost hang below `rpc`. What the loops do serves
//! many requests: it is a trace of its own, and the requests' spans have **links** to it. A link's
//! attribute `glass.link` says why: `batch` (this fsync, this transaction), `commit` (with this the
//! entry was committed), `message`, `round`, and `request` (the other side of the same rpc).
//!
//! Every id is derived: from the request's id, from a frame's number, from member, boot and clock.
//! So members export each for itself ([`Scope::Member`]) and their spans fit together all the same,
//! and what is exported twice is the same twice. A frame's `raft.receive` is the child of its
//! `raft.send`, because both ends know the frame's number.
//!
//! Who calls with a `traceparent` gets the spans in its own trace, below its own span. The member
//! that was asked alone knows that trace, so alone it writes there; the others' steps are in the
//! request's trace, where `rpc` stands once more, and the two `rpc`s are linked in both directions.
//! When all members are merged ([`Scope::Cluster`], a recording), the whole request is in the
//! caller's trace.
//!
//! Invariants: what is written is in the recording, once (but for that second `rpc`); times are
//! those of [`story::order`](crate::story::order), never bent; no link and no parent is guessed. A
//! step that takes no time is a span of length 0 and no event of another span, because events have
//! no links.
//!
//! Of a request that a member of another make serves, the steps here name a first span that nobody
//! exports; viewers show them at the top of their trace.
//!
//! Left out: keyframes; steps of loops to which no request points, but for elections and the like
//! ([`ALWAYS`]); steps that have not ended, which OTLP cannot express; acknowledgements.

use std::collections::{BTreeSet, HashMap};

use crate::{
    fields,
    story::{Event, MemberInfo, Recording, order::Order, query::method_of},
    trace::{
        context::Context,
        record::Kind,
        stage::{Family, Stage},
    },
};

mod attributes;
mod ids;
pub mod json;
mod links;
mod parents;

/// Steps of loops that are worth a trace though no request points to them.
pub const ALWAYS: &[Stage] = &[
    Stage::LogTruncate,
    Stage::ElectionTimeout,
    Stage::ElectionCampaign,
    Stage::ElectionVote,
    Stage::ElectionTally,
    Stage::RaftRole,
    Stage::LeaseExpire,
    Stage::Lost,
];

/// The instrumentation scope of all spans.
pub const SCOPE: &str = "glass-etcd/trace";

/// The attribute of a link that says why it is there.
pub const LINK: &str = "glass.link";

/// Spans in one request to a collector, at most: some 500 KB.
const SPANS_MAX: usize = 512;

/// What the recording holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All members, as far as they were heard: a request's trace is written whole.
    Cluster,
    /// One member, which exports its own steps: the others do the same, unseen.
    Member,
}

/// A place in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The trace; never 0.
    pub trace: u128,
    /// The span in it; never 0.
    pub span: u64,
}

/// From one span to another that is not its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Where to.
    pub to: Place,
    /// Why: `batch`, `commit`, `message`, `round` or `request`.
    pub why: &'static str,
}

/// What an attribute says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text; also numbers that do not fit.
    Text(String),
    /// A number.
    Number(i64),
    /// Yes or no.
    Flag(bool),
}

/// An attribute: its name and what it says.
pub type Attribute = (String, Value);

/// A step, as OTLP has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where it stands.
    pub place: Place,
    /// The span around it, 0 for none.
    pub parent: u64,
    /// Whether that is the span of a caller elsewhere.
    pub is_parent_remote: bool,
    /// The stage; of an rpc with its method.
    pub name: String,
    /// OTLP's number of the kind: 1 internal, 2 server, 4 producer, 5 consumer.
    pub kind: i32,
    /// Nanoseconds since 1970.
    pub start_ns: u64,
    /// Nanoseconds since 1970.
    pub end_ns: u64,
    /// What is known of it.
    pub attributes: Vec<Attribute>,
    /// To whom it points.
    pub links: Vec<Link>,
    /// The gRPC code, if it failed.
    pub code: u8,
}

/// A member and its spans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Which member.
    pub attributes: Vec<Attribute>,
    /// What it did.
    pub spans: Vec<Span>,
}

/// Portions, each of which is one request to a collector.
pub fn chunks(resources: Vec<Resource>) -> Vec<Resource> {
    let mut all = Vec::new();
    for Resource { attributes, mut spans } in resources {
        while SPANS_MAX < spans.len() {
            let rest = spans.split_off(SPANS_MAX);
            all.push(Resource { attributes: attributes.clone(), spans });
            spans = rest;
        }
        all.push(Resource { attributes, spans });
    }
    all
}

/// OTLP's `flags` of a span: sampled, and whether its parent is elsewhere, which is known.
pub fn flags(span: &Span) -> u32 {
    if span.is_parent_remote { 0x301 } else { 0x101 }
}

/// What to say of a span that failed.
pub fn failure(span: &Span) -> Option<String> {
    (span.code != 0).then(|| format!("gRPC code {}", span.code))
}

/// Turns events into spans.
pub struct Exporter<'a> {
    recording: &'a Recording,
    order: &'a Order,
    scope: Scope,
    ids: ids::Ids<'a>,
    /// What callers said of their traces, by request.
    callers: HashMap<u64, Context>,
    /// The parent of each step, by place; 0 for none.
    parents: Vec<u64>,
    links: HashMap<usize, Vec<(usize, &'static str)>>,
}

/// Whether a step belongs to one request.
fn is_request(event: &Event) -> bool {
    event.id != 0
        && event.stage.family() == Family::Request
        && !matches!(event.stage, Stage::Key | Stage::RpcContext)
}

fn is_done(event: &Event) -> bool {
    matches!(event.kind, Kind::Span | Kind::Mark)
}

/// Whether a step becomes a span without another that points to it: a request's, and [`ALWAYS`].
pub fn is_told(event: &Event) -> bool {
    is_done(event) && (is_request(event) || ALWAYS.contains(&event.stage))
}

/// What an `rpc.context` says.
fn caller(event: &Event) -> Option<Context> {
    if event.stage != Stage::RpcContext {
        return None;
    }
    let [high, low, span, sampled] =
        fields!(event, RpcContext: trace_high, trace_low, parent, sampled);
    let trace = u128::from(high) << 64 | u128::from(low);
    (trace != 0 && span != 0).then_some(Context { trace, span, is_sampled: sampled == 1 })
}

impl<'a> Exporter<'a> {
    /// Looks at everything once: who is whose parent, who points to whom.
    pub fn new(recording: &'a Recording, order: &'a Order, scope: Scope) -> Exporter<'a> {
        let events = recording.events.iter();
        let callers = events.filter_map(|event| Some((event.id, caller(event)?))).collect();
        let ids = ids::Ids::new(recording);
        Exporter {
            recording,
            order,
            scope,
            callers,
            parents: parents::parents(recording, &ids, scope),
            ids,
            links: links::links(recording, order),
        }
    }

    /// The spans of these steps, by member.
    pub fn export(&self, chosen: &BTreeSet<usize>) -> Vec<Resource> {
        let members = self.recording.members.iter().enumerate();
        let of_member = |(place, member): (usize, &MemberInfo)| {
            let own = chosen.iter().filter(|at| usize::from(self.event(**at).member) == place);
            let spans: Vec<Span> = own.flat_map(|at| self.spans(*at)).collect();
            Resource { attributes: attributes::of_member(member), spans }
        };
        members.map(of_member).filter(|resource| !resource.spans.is_empty()).collect()
    }

    /// Steps to export, by place: those of requests, as far as they are meant, the steps of loops
    /// to which they point, and those that are told [`ALWAYS`]. Of a loop, too, only what is meant.
    pub fn choose(&self, is_meant: impl Fn(usize) -> bool) -> BTreeSet<usize> {
        let is_first = |at: &usize| is_told(self.event(*at)) && is_meant(*at);
        let mut chosen: BTreeSet<usize> =
            (0..self.recording.events.len()).filter(is_first).collect();
        let mut todo: Vec<usize> = chosen.iter().copied().collect();
        while let Some(at) = todo.pop() {
            for (to, _) in self.links.get(&at).into_iter().flatten() {
                if is_meant(*to) && chosen.insert(*to) {
                    todo.push(*to);
                }
            }
            // A message has two ends; if both were heard, both are told.
            if let Some(other) = self.order.partner.get(&at)
                && is_meant(*other)
                && chosen.insert(*other)
            {
                todo.push(*other);
            }
        }
        chosen
    }

    fn event(&self, at: usize) -> &'a Event {
        &self.recording.events[at]
    }

    fn member(&self, event: &Event) -> &'a MemberInfo {
        &self.recording.members[usize::from(event.member)]
    }

    /// Where a step stands.
    fn place(&self, at: usize) -> Place {
        let event = self.event(at);
        let place = self.ids.place(event);
        match self.callers.get(&event.id) {
            Some(caller) if is_request(event) => Place { trace: caller.trace, ..place },
            _ => place,
        }
    }

    /// The span of a step; of an rpc whose caller has a trace the one of the other side as well.
    fn spans(&self, at: usize) -> Vec<Span> {
        let event = self.event(at);
        let mut span = self.span(at);
        let caller = self.callers.get(&event.id).filter(|_| event.stage == Stage::Rpc);
        let Some(caller) = caller else { return vec![span] };
        let here = span.place;
        (span.parent, span.is_parent_remote) = (caller.span, true);
        if self.scope == Scope::Cluster {
            return vec![span];
        }
        let there = self.ids.place(event);
        let mut other = Span { place: there, parent: 0, is_parent_remote: false, ..span.clone() };
        other.links = vec![Link { to: here, why: "request" }];
        span.links.push(Link { to: there, why: "request" });
        vec![span, other]
    }

    fn span(&self, at: usize) -> Span {
        let event = self.event(at);
        let (start, end) = super::lanes::extent(event, self.order.times[at]);
        let clamp = |ns: i128| u64::try_from(ns.max(0)).unwrap_or(u64::MAX);
        let name = match event.stage {
            Stage::Rpc => format!("rpc {}", method_of(event)),
            stage => stage.name().to_owned(),
        };
        let kind = match event.stage {
            Stage::Rpc => 2,
            Stage::RaftSend => 4,
            Stage::RaftReceive => 5,
            _ => 1,
        };
        let links = self.links.get(&at).into_iter().flatten();
        Span {
            place: self.place(at),
            parent: self.parents[at],
            is_parent_remote: event.stage == Stage::RaftReceive && self.parents[at] != 0,
            name,
            kind,
            start_ns: clamp(start),
            end_ns: clamp(end),
            attributes: attributes::of_step(event, self.member(event).member_id),
            links: links.map(|(to, why)| Link { to: self.place(*to), why }).collect(),
            code: event.result,
        }
    }
}

#[cfg(test)]
mod tests;
