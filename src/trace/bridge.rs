//! The bridge to `tracing`: what is kept is also told to its subscribers, while one of them
//! listens.
//!
//! ```text
//!   stage!, mark! ──▶ record in the ring                    always, 25 ns
//!        │
//!        └─ is_on()? and kept? ──▶ span, event ──▶ tracing-chrome, or whoever subscribes
//!                                     │ parent
//!                            tops: request id ──▶ its outermost open span on this member
//! ```
//!
//! `glass serve --trace-chrome FILE` turns it on. While it is off, a step pays for one look at a
//! flag; while it is on, steps that are not kept pay for a look at their id as well.
//!
//! A step becomes a span, a mark an event. Both have the name of the stage, the target [`TARGET`],
//! and the stage's fields by name; a span's are recorded when the step ends, since most are known
//! only then. Before them stand `request_id` and `member`, in hex.
//!
//! **Parents.** Stages of one request run on many threads, and no span handle crosses a channel.
//! So the first span of a request that opens here becomes its *top*, which others look up by the
//! request's id and take as their parent: `rpc` on the member that was asked, `apply.entry` on the
//! others, and on the first too if the client has gone away meanwhile.
//!
//! Invariants: a top is looked up and its handle cloned under one lock, and whoever ends a top
//! takes it out of the table first. So no child is ever opened below a parent that has closed, at
//! which `tracing-subscriber` panics. Handles are never entered: a span lasts from its opening to
//! the end of its guard, on whatever threads that is. The table is bounded; what finds no room in
//! it is a top of nobody.
//!
//! **Loops** belong to no request. Those that cover an entry of a kept request are opened, see
//! [`covered`]; what carries an id of its own (a round, a message of a kept request) is kept by
//! that. The others, and requests that are pinned only after the fact because they were slow, are
//! in the rings only: nobody can know that they will be wanted. For the same reason `glass trace
//! export --chrome`, which reads the rings, is the fuller picture; this one needs nobody to ask for
//! it.
//!
//! Left out: the text of keys. Fields are numbers, and a file that is written all the time is no
//! place for what `--trace-redact-keys` would have to take out again.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use serde_json::Value;
use tracing::{
    Id, Level,
    field::{DisplayValue, display},
};

use super::{
    id,
    stage::Stage,
    value::{flag_names, hex, value_of},
};

mod callsites;
pub(super) mod covered;

/// The target of all spans and events of this module: who listens to others must leave it out.
pub const TARGET: &str = "glass::stage";
/// The fields that all of them have, before those of their stage.
pub const COMMON: [&str; 4] = ["request_id", "member", "link", "flags"];

/// Requests whose tops can be looked up at a time. At most 500 a second are kept, of each member.
const TOPS_MAX: usize = 8192;
const SHARDS: usize = 16;

static ON: AtomicBool = AtomicBool::new(false);
static MEMBER: AtomicU64 = AtomicU64::new(0);
static TOPS: [Mutex<BTreeMap<u64, tracing::Span>>; SHARDS] =
    [const { Mutex::new(BTreeMap::new()) }; SHARDS];

/// Turns the bridge on or off. Off at first; spans that are open end in good order.
pub fn set_on(on: bool) {
    ON.store(on, Ordering::Relaxed);
}

/// Whether spans are opened.
#[inline]
pub fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// Says who this member is, and tells the subscribers, with the wall clock (nanoseconds since 1970)
/// at this moment: with it, the times of several members can be brought together.
pub fn introduce(member_id: u64, name: &str, wall_ns: u64) {
    MEMBER.store(member_id, Ordering::Relaxed);
    if is_on() {
        tracing::event!(
            name: "member",
            target: TARGET,
            Level::INFO,
            member = display(hex(member_id)),
            member_name = display(name),
            wall_ns,
        );
    }
}

/// What a span begins with, and an event; see [`callsites`].
pub(super) struct Head {
    /// Below which span it stands.
    pub(super) parent: Option<Id>,
    /// The request's id, in hex, or the round's.
    pub(super) request: Option<DisplayValue<String>>,
    /// This member's id, in hex.
    pub(super) member: DisplayValue<String>,
    /// What it is linked to, in hex, once that is known.
    pub(super) link: Option<DisplayValue<String>>,
    /// Names of the flags, once they are known.
    pub(super) flags: Option<DisplayValue<String>>,
}

/// What is known of a step when it ends.
#[derive(Clone, Copy)]
pub(super) struct End<'a> {
    /// `FLAG_` bits.
    pub(super) flags: u8,
    /// Another member's step, or the round or batch.
    pub(super) link: u64,
    /// The fields, in the stage's order.
    pub(super) fields: &'a [u64; 8],
}

/// A span under way, as the guard of the step holds it.
#[derive(Debug)]
pub(super) struct Open {
    span: tracing::Span,
    /// The request whose top it is.
    top: Option<u64>,
}

/// Opens the span of a step, if it is wanted and somebody listens.
#[cold]
pub(super) fn open(stage: Stage, id: u64) -> Option<Box<Open>> {
    if !is_wanted(stage, id) {
        return None;
    }
    let parent = top(id);
    let span = callsites::span(stage, Head::new(id, parent.as_ref()));
    if span.is_disabled() {
        return None;
    }
    let is_top = parent.is_none() && id != 0 && insert(id, &span);
    Some(Box::new(Open { span, top: is_top.then_some(id) }))
}

/// Tells of something that takes no time.
#[cold]
pub(super) fn mark(stage: Stage, id: u64, end: End<'_>) {
    if stage == Stage::RaftEntry && id::kept(id) {
        covered::entry(end.fields[const { Stage::RaftEntry.slot("index") }]);
    }
    if is_wanted(stage, id) {
        covered::ended(stage, end.fields);
        let parent = top(id);
        let head = Head { link: link(end), flags: flags(end), ..Head::new(id, parent.as_ref()) };
        callsites::event(stage, head, end.fields);
    }
}

impl Open {
    /// Fills in what is known now and closes the span.
    pub(super) fn end(self, stage: Stage, end: End<'_>) {
        covered::ended(stage, end.fields);
        for (slot, field) in stage.fields().iter().enumerate() {
            self.span.record(field.name, told(stage, slot, end.fields));
        }
        self.span.record("link", link(end));
        self.span.record("flags", flags(end));
        if let Some(id) = self.top {
            // Out of the table first: from here on nobody finds it.
            let top = shard(id).remove(&id);
            drop(top);
        }
    }
}

impl Head {
    fn new(id: u64, parent: Option<&tracing::Span>) -> Head {
        Head {
            parent: parent.and_then(tracing::Span::id),
            request: (id != 0).then(|| display(hex(id))),
            member: display(hex(MEMBER.load(Ordering::Relaxed))),
            link: None,
            flags: None,
        }
    }
}

/// A field as it is told: a number, or what it stands for.
pub(super) fn told(stage: Stage, slot: usize, numbers: &[u64; 8]) -> Box<dyn tracing::Value> {
    let number = numbers[slot];
    match value_of(&stage.fields()[slot], number) {
        Value::String(text) => Box::new(display(text)),
        Value::Bool(is_set) => Box::new(is_set),
        _ => Box::new(number),
    }
}

fn link(end: End<'_>) -> Option<DisplayValue<String>> {
    (end.link != 0).then(|| display(hex(end.link)))
}

fn flags(end: End<'_>) -> Option<DisplayValue<String>> {
    (end.flags != 0).then(|| display(flag_names(end.flags).join(" ")))
}

fn is_wanted(stage: Stage, id: u64) -> bool {
    if id == 0 { covered::wants(stage) } else { id::kept(id) }
}

/// The request's top. The handle keeps it open until a child is there, which holds it itself.
fn top(id: u64) -> Option<tracing::Span> {
    shard(id).get(&id).cloned()
}

fn insert(id: u64, span: &tracing::Span) -> bool {
    let mut tops = shard(id);
    if TOPS_MAX / SHARDS <= tops.len() {
        return false;
    }
    match tops.entry(id) {
        Entry::Vacant(place) => {
            place.insert(span.clone());
            true
        }
        Entry::Occupied(_) => false,
    }
}

fn shard(id: u64) -> MutexGuard<'static, BTreeMap<u64, tracing::Span>> {
    let at = usize::try_from(id::hash(id) % SHARDS as u64).expect("less than the shards");
    TOPS[at].lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
