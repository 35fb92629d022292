//! Ids of traces and spans: derived, so that members agree on them without communicating.
//!
//! | what                     | trace                                  | span                       |
//! |--------------------------|----------------------------------------|----------------------------|
//! | a step of a request      | the request's id, then a hash          | member, boot, clock        |
//! | a request's first step   | the same                               | the request's id, hashed   |
//! | a step of a round        | the round's id, then a hash            | likewise                   |
//! | a message                | the frame's number, sender, receiver   | the same, and which end    |
//! | any other step of a loop | its own span's id, and a hash          | member, boot, clock        |
//!
//! The first half of a request's trace id is the request's id, so that either can be found from the
//! other; the second half is well distributed, because samplers use it.
//!
//! A request's first step is its `rpc`; for a proposal that a member makes by itself (a lease's
//! end, for example) it is `raft.propose`.

use std::collections::HashMap;

use super::{Scope, SpanIds, is_request};
use crate::{
    field,
    story::{Event, MemberInfo, Recording},
    trace::{
        context::{own_trace, root_span},
        id::hash,
        record::Kind,
        stage::Stage,
    },
};

/// Knows the first step of each request.
pub(super) struct Ids<'a> {
    recording: &'a Recording,
    first: HashMap<u64, Stage>,
    /// The ends of first steps, by request or round.
    ended: HashMap<u64, usize>,
}

impl<'a> Ids<'a> {
    pub(super) fn new(recording: &'a Recording) -> Ids<'a> {
        let (mut first, mut ended) = (HashMap::new(), HashMap::new());
        for event in recording.events.iter().filter(|event| event.id != 0) {
            match event.stage {
                Stage::Rpc | Stage::ReadIndexRound => {
                    first.insert(event.id, event.stage);
                }
                Stage::RaftPropose => {
                    first.entry(event.id).or_insert(event.stage);
                }
                _ => (),
            }
        }
        for (at, event) in recording.events.iter().enumerate() {
            if event.kind != Kind::Begin && first.get(&event.id) == Some(&event.stage) {
                ended.insert(event.id, at);
            }
        }
        Ids { recording, first, ended }
    }

    /// Whether the first step of this request, or round, is exported: in a recording, only if it
    /// has ended; while the member runs, once it ends.
    pub(super) fn has_first(&self, id: u64, scope: Scope) -> bool {
        match scope {
            Scope::Cluster => self.ended.contains_key(&id),
            Scope::Member => self.first.contains_key(&id),
        }
    }

    /// The end of the first step of a step's request, or round, by position.
    pub(super) fn end_of_first(&self, event: &Event) -> Option<usize> {
        self.ended.get(&event.id).copied()
    }

    /// The first step of a request, or round, wherever it is exported, unless in a caller's trace.
    pub(super) fn first_of(&self, event: &Event) -> SpanIds {
        let cluster = self.recording.members[usize::from(event.member)].cluster_id;
        SpanIds { trace: own_trace(event.id, cluster), span: root_span(event.id) }
    }

    /// The ids of a step, unless it is in a caller's trace.
    pub(super) fn place(&self, event: &Event) -> SpanIds {
        let member = &self.recording.members[usize::from(event.member)];
        let is_first = event.id != 0 && self.first.get(&event.id) == Some(&event.stage);
        place(member, event, is_first)
    }

    /// The span of the send that belongs to this receive.
    pub(super) fn sent(&self, receive: &Event) -> SpanIds {
        let own = self.recording.members[usize::from(receive.member)].member_id;
        message(receive.link, field!(receive, RaftReceive, peer), own).0
    }
}

fn place(member: &MemberInfo, event: &Event, is_first: bool) -> SpanIds {
    let cluster = member.cluster_id;
    match event.stage {
        Stage::RaftSend if event.link != 0 => {
            message(event.link, member.member_id, field!(event, RaftSend, peer)).0
        }
        Stage::RaftReceive if event.link != 0 => {
            message(event.link, field!(event, RaftReceive, peer), member.member_id).1
        }
        _ if is_first => SpanIds { trace: own_trace(event.id, cluster), span: root_span(event.id) },
        Stage::ReadIndexConfirmed if event.id != 0 => {
            SpanIds { trace: own_trace(event.id, cluster), span: step(member.member_id, event) }
        }
        _ if is_request(event) => {
            SpanIds { trace: own_trace(event.id, cluster), span: step(member.member_id, event) }
        }
        _ => {
            let span = step(member.member_id, event);
            SpanIds { trace: join(span, hash(span ^ cluster)), span }
        }
    }
}

/// The ids of a message's two ends: the send, and the receive.
fn message(link: u64, from: u64, to: u64) -> (SpanIds, SpanIds) {
    let ends = mix(&[link, from, to]);
    let trace = join(link, ends);
    let end = |which: u64| SpanIds { trace, span: mix(&[ends, which]).max(1) };
    (end(1), end(2))
}

/// The span of a step: a member's clock gives each value once, and a beginning shares its end's.
fn step(member_id: u64, event: &Event) -> u64 {
    mix(&[member_id, u64::from(event.boot), event.clock, event.stage as u64]).max(1)
}

fn mix(words: &[u64]) -> u64 {
    words.iter().fold(0, |all, word| hash(all.rotate_left(17) ^ hash(*word)))
}

/// Never 0, because not both halves are 0.
fn join(high: u64, low: u64) -> u128 {
    u128::from(high) << 64 | u128::from(low.max(1))
}
