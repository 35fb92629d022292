//! OpenTelemetry spans, for Jaeger, Tempo, otel-tui and other OTLP readers.
//!
//! ```text
//!   the caller's trace        the trace of the request          traces of their own
//!   ┌ the caller's span       ┌ rpc ◀──────── link ────────┐
//!   └─ rpc ─────────── link ──┤                            │
//!      ├ raft.propose         ├ raft.entry on a follower ──┼─ link: batch ──▶ wal.fsync
//!      │ └ apply.entry        └ apply.entry on a follower ─┼─ link: batch ──▶ backend.commit
//!      └ raft.entry                                        └─ link: message ▶ raft.send
//!                                                                             └ raft.receive
//! ```
//!
//! A request's steps are the spans of one trace. The parent of a step is the innermost step of the
//! same member around it, by the member's clock; the outermost steps are children of `rpc`. A step
//! of a loop serves many requests: it is a trace of its own, and the requests' spans have **links**
//! to it. A link's attribute `glass.link` says why: `batch` (this fsync, this transaction),
//! `commit` (this step committed the entry), `message`, `round`, and `request` (the other side of
//! the same rpc). What precedes the rpc, and what follows it, is no child of it: its parent is the
//! caller's span, if there is one.
//!
//! Every id is derived: from the request's id, from a frame's number, or from member, boot and
//! clock. So members can export separately ([`Scope::Member`]) and their spans still fit together,
//! and a repeated export repeats the same ids. Both ends of a message know the frame's number, so
//! they are one trace.
//!
//! A caller that sends a `traceparent` gets the spans in its own trace, below its own span. Only
//! the member that was asked knows that trace, so only that member writes there; the others' steps
//! are in the request's trace, where `rpc` appears once more, and the two `rpc` spans link to each
//! other. When all members are merged ([`Scope::Cluster`], a recording), the whole request is in
//! the caller's trace.
//!
//! Invariants: every span is a step of the recording, written once (except for that second `rpc`);
//! times are those of [`story::order`](crate::story::order), unchanged; no link and no parent is
//! guessed. A step that takes no time is a span of length 0 and not an event of another span,
//! because events have no links.
//!
//! No parent is named that nobody exports. A member that exports alone does not know whether others
//! export, so its steps only link to theirs: to a request's `rpc`, and to the send of a message.
//!
//! Left out: keyframes; what a caller asks for that does not sample its trace, on the member that
//! it asks; steps of loops to which no request points, except elections and similar
//! ones ([`ALWAYS`]); steps that have not ended, which OTLP cannot express; acknowledgements.

use std::collections::{BTreeSet, HashMap};

use crate::{
    story::{
        Event, MemberInfo, Recording,
        order::Order,
        query::{callers, method_of},
    },
    trace::{
        FLAG_ERROR, Reason,
        context::Context,
        ends::Ends,
        record::Kind,
        stage::{Family, Stage},
    },
};

mod attributes;
mod ids;
pub mod json;
mod links;
mod parents;

use parents::Above;

/// Steps of loops that are exported even if no request points to them.
pub const ALWAYS: &[Stage] = &[
    Stage::LogTruncate,
    Stage::ElectionTimeout,
    Stage::ElectionCampaign,
    Stage::ElectionVote,
    Stage::ElectionTally,
    Stage::RaftRole,
    Stage::LeaseExpire,
    Stage::ProcessStalled,
    Stage::Lost,
];

/// The instrumentation scope of all spans.
pub const SCOPE: &str = "glass-etcd/trace";

/// The attribute that gives the reason of a link.
pub const LINK: &str = "glass.link";

/// The attribute that says why a step has failed, also where the conventions see no error of the
/// server.
pub const REASON: &str = "glass.reason";

/// Largest number of spans in one request to a collector: about 500 KB.
const SPANS_MAX: usize = 512;

/// The members that the recording covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All members that sent records: a request's trace is written whole.
    Cluster,
    /// One member, which exports its own steps: the others export theirs separately.
    Member,
}

/// Identifies a span among those of all traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanIds {
    /// The trace id; never 0.
    pub trace: u128,
    /// The span id; never 0.
    pub span: u64,
}

/// A link from one span to another that is not its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The span that it leads to.
    pub to: SpanIds,
    /// The reason: `batch`, `commit`, `message`, `round` or `request`.
    pub why: &'static str,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text, or a number that does not fit into 64 signed bits.
    Text(String),
    /// A number of 64 signed bits.
    Number(i64),
    /// Yes or no: a field of the unit `Flag`.
    Flag(bool),
}

/// An attribute: its name and its value.
pub type Attribute = (String, Value);

/// A step as an OTLP span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its trace and span ids.
    pub place: SpanIds,
    /// The parent's span id, 0 for none.
    pub parent: u64,
    /// Whether the parent is the span of a remote caller.
    pub is_parent_remote: bool,
    /// The stage; for an rpc, followed by the method.
    pub name: String,
    /// OTLP's number of the kind: 1 internal, 2 server, 4 producer, 5 consumer.
    pub kind: i32,
    /// Its start, in nanoseconds since 1970.
    pub start_ns: u64,
    /// Its end, in nanoseconds since 1970.
    pub end_ns: u64,
    /// The stage's fields, and the parts that every record has.
    pub attributes: Vec<Attribute>,
    /// Links to spans that are not its parent.
    pub links: Vec<Link>,
    /// Why the span is an error; `None` if it is none.
    pub failure: Option<String>,
}

/// A member and its spans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Attributes of the member.
    pub attributes: Vec<Attribute>,
    /// The spans of its steps.
    pub spans: Vec<Span>,
}

/// Splits resources into portions, each of which fits into one request to a collector.
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

/// OTLP's `flags` of a span: sampled, and whether its parent is remote, which is known.
pub fn flags(span: &Span) -> u32 {
    if span.is_parent_remote { 0x301 } else { 0x101 }
}

/// The attributes of an rpc, as OpenTelemetry's conventions for gRPC servers name them.
pub const RPC_ATTRIBUTES: [&str; 4] =
    ["rpc.system.name", "rpc.method", "rpc.response.status_code", "error.type"];

/// The attributes of an rpc or a request over HTTP that name the ends of its connection, as both
/// conventions do: where the client has reached the member, and from where.
pub const CONNECTION_ATTRIBUTES: [&str; 4] =
    ["server.address", "server.port", "network.peer.address", "network.peer.port"];

/// The attributes of a request over HTTP, as OpenTelemetry's conventions for HTTP servers name
/// them. `error.type` comes with a status of 500 or more.
pub const HTTP_ATTRIBUTES: [&str; 6] = [
    "http.request.method",
    "http.route",
    "url.path",
    "url.scheme",
    "http.response.status_code",
    "client.address",
];

/// The gRPC codes for which a server's span is an error, by OpenTelemetry's conventions: UNKNOWN,
/// DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS. The others are the client's
/// affair, and leave the status unset.
const SERVER_ERRORS: [u8; 6] = [2, 4, 12, 13, 14, 15];

/// The error message of a step whose span is an error.
fn failure(event: &Event) -> Option<String> {
    let message = || {
        let code = (event.result != 0).then(|| attributes::code_name(event.result));
        let reason = event.reason.map(Reason::text).or(code);
        reason.unwrap_or("no reason was recorded").to_owned()
    };
    if event.stage == Stage::Rpc {
        let is_error = match attributes::http_status(event) {
            Some(status) => 500 <= status,
            None => SERVER_ERRORS.contains(&event.result),
        };
        return is_error.then(message);
    }
    (event.flags & FLAG_ERROR != 0).then(message)
}

/// Turns events into spans.
pub struct Exporter<'a> {
    recording: &'a Recording,
    order: &'a Order,
    scope: Scope,
    ids: ids::Ids<'a>,
    /// The trace context that each caller sent, by request.
    callers: HashMap<u64, Context>,
    /// The ends of the connection of each request.
    connections: HashMap<u64, Ends>,
    /// What stands above each step, by position.
    parents: Vec<Above>,
    links: HashMap<usize, Vec<(usize, &'static str)>>,
}

/// Whether a step belongs to one request.
fn is_request(event: &Event) -> bool {
    event.id != 0
        && event.stage.family() == Family::Request
        && !matches!(event.stage, Stage::Key | Stage::RpcContext | Stage::RpcConnection)
}

fn is_done(event: &Event) -> bool {
    matches!(event.kind, Kind::Span | Kind::Mark)
}

/// Whether a step is exported without a link to it: steps of requests, and [`ALWAYS`].
pub fn is_told(event: &Event) -> bool {
    is_done(event) && (is_request(event) || ALWAYS.contains(&event.stage))
}

impl<'a> Exporter<'a> {
    /// Computes all parents and links once.
    pub fn new(recording: &'a Recording, order: &'a Order, scope: Scope) -> Exporter<'a> {
        let ids = ids::Ids::new(recording);
        Exporter {
            recording,
            order,
            scope,
            callers: callers::contexts(recording),
            connections: callers::connections(recording),
            parents: parents::parents(recording, order, &ids, scope),
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

    /// Positions of the steps to export: those of requests that `is_meant` accepts, the steps of
    /// loops to which they point, and [`ALWAYS`]. Steps of loops must be accepted by `is_meant`
    /// too.
    pub fn choose(&self, is_meant: impl Fn(usize) -> bool) -> BTreeSet<usize> {
        let is_meant = |at: usize| is_meant(at) && !self.is_unsampled(self.event(at));
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
            // A message has two ends; if both were captured, both are exported. The first step of a
            // round is a loop's, and the parent of its other steps.
            let other = self.order.partner.get(&at).copied();
            let first = self.ids.end_of_first(self.event(at));
            for to in other.into_iter().chain(first) {
                if is_meant(to) && chosen.insert(to) {
                    todo.push(to);
                }
            }
        }
        chosen
    }

    /// Whether the caller of this step's request has said that its trace is not recorded.
    fn is_unsampled(&self, event: &Event) -> bool {
        is_request(event) && self.callers.get(&event.id).is_some_and(|caller| !caller.is_sampled)
    }

    fn event(&self, at: usize) -> &'a Event {
        &self.recording.events[at]
    }

    fn member(&self, event: &Event) -> &'a MemberInfo {
        &self.recording.members[usize::from(event.member)]
    }

    /// The trace and span ids of a step.
    fn place(&self, at: usize) -> SpanIds {
        let event = self.event(at);
        let place = self.ids.place(event);
        match self.callers.get(&event.id) {
            Some(caller) if is_request(event) => SpanIds { trace: caller.trace, ..place },
            _ => place,
        }
    }

    /// The span of a step at the edge of a member, which is not within the rpc's: a child of the
    /// caller's span, or else one without a parent in the same trace.
    fn at_the_edge(&self, event: &Event, span: Span) -> Span {
        let caller = self.callers.get(&event.id).map_or(0, |caller| caller.span);
        Span { parent: caller, is_parent_remote: caller != 0, ..span }
    }

    /// The span of a step; for an rpc with a caller's trace, also the span on the other side.
    fn spans(&self, at: usize) -> Vec<Span> {
        let event = self.event(at);
        let mut span = self.span(at);
        if event.stage.is_at_edge() {
            return vec![self.at_the_edge(event, span)];
        }
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

    /// The attributes of a step, and of an rpc the ends of its connection.
    fn attributes(&self, event: &Event) -> Vec<Attribute> {
        let mut all = attributes::of_step(event, self.member(event).member_id);
        if event.stage == Stage::Rpc
            && let Some(ends) = self.connections.get(&event.id)
        {
            all.extend(attributes::of_connection(event, *ends));
        }
        all
    }

    fn span(&self, at: usize) -> Span {
        let event = self.event(at);
        let (start, end) = super::lanes::extent(event, self.order.times[at]);
        let clamp = |ns: i128| u64::try_from(ns.max(0)).unwrap_or(u64::MAX);
        let name = match event.stage {
            Stage::Rpc => {
                let method = method_of(event);
                attributes::grpc_method(method).unwrap_or_else(|| method.to_owned())
            }
            stage => stage.name().to_owned(),
        };
        let kind = match event.stage {
            Stage::Rpc if method_of(event).starts_with("internal/") => 1,
            Stage::Rpc => 2,
            Stage::RaftSend => 4,
            Stage::RaftReceive => 5,
            _ => 1,
        };
        let links = self.links.get(&at).into_iter().flatten();
        let is_linked = |at: &usize| !self.is_unsampled(self.event(*at));
        let links = links.filter(|(to, _)| is_linked(to));
        let mut links: Vec<Link> =
            links.map(|(to, why)| Link { to: self.place(*to), why }).collect();
        let parent = match self.parents[at] {
            Above::Nothing => 0,
            Above::Parent(span) => span,
            Above::Elsewhere(to, why) => {
                links.push(Link { to, why });
                0
            }
        };
        Span {
            place: self.place(at),
            parent,
            is_parent_remote: event.stage == Stage::RaftReceive && parent != 0,
            name,
            kind,
            start_ns: clamp(start),
            end_ns: clamp(end),
            attributes: self.attributes(event),
            links,
            failure: failure(event),
        }
    }
}

#[cfg(test)]
mod tests;
