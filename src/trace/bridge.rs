//! The bridge to `tracing`: kept steps are also given to its subscribers, while there is one.
//!
//! ```text
//!   stage!, mark! ──▶ record in the ring                    always, 25 ns
//!        │
//!        └─ is_on()? and kept? ──▶ span, event ──▶ tracing-chrome, or another subscriber
//!                                     │ parent
//!                            tops: request id ──▶ its outermost open span on this member
//! ```
//!
//! `glass serve --trace-chrome FILE` turns it on. While it is off, a step costs one more load of a
//! flag; while it is on, a step that is not kept also costs a look at its id.
//!
//! A step becomes a span, a mark an event. Both have the name of the stage, the target [`TARGET`],
//! and the stage's fields by name. A span's fields are recorded when the step ends, because most
//! are not known earlier. Before them stand `request_id` and `member`, in hex. A step
//! that is known only when it is over becomes an event, which says in `past_ns` how long ago it
//! began and in `took_ns` how long it took.
//!
//! **Parents.** Stages of one request run on many threads, and no span handle crosses a channel. So
//! the first span that a request opens on this member becomes its *top*. Later spans look the top
//! up by the request's id and take it as their parent. The top is `rpc` on the member that serves
//! the client and `apply.entry` on the others; on the first, too, if the client has left meanwhile.
//!
//! Invariants: a top is looked up and its handle cloned under one lock, and the thread that ends a
//! top removes it from the table first. So no child is ever opened below a closed parent, on which
//! `tracing-subscriber` panics. Handles are never entered: a span lasts from its opening to the end
//! of its guard, whichever threads those happen on. The table is bounded; a span that finds no room
//! in it has no children.
//!
//! **Loops** belong to no request. Passes that cover an entry of a kept request are opened (see
//! [`covered`]); a pass with an id of its own, such as a round or a message of a kept request, is
//! kept by that id. All other passes, and requests that are pinned later because they were slow,
//! are in the rings only: at their beginning it is not known that they will be wanted. So `glass
//! trace export --chrome`, which reads the rings, shows more; this bridge writes its file without a
//! request for it.
//!
//! Left out: the text of keys. Fields are numbers, and a file that is written all the time should
//! not hold what `--trace-redact-keys` would have to remove.

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

/// The target of all spans and events of this module. A subscriber that is meant for log lines must
/// filter it out.
pub const TARGET: &str = "glass::stage";

/// The most tops in the table at a time. At most 500 requests a second are kept, for each member.
const TOPS_MAX: usize = 8192;
const SHARDS: usize = 16;

static ON: AtomicBool = AtomicBool::new(false);
static MEMBER: AtomicU64 = AtomicU64::new(0);
static TOPS: [Mutex<BTreeMap<u64, tracing::Span>>; SHARDS] =
    [const { Mutex::new(BTreeMap::new()) }; SHARDS];

/// Turns the bridge on or off; it is off at first. Spans that are open when it is turned off still
/// end as usual.
pub fn set_on(on: bool) {
    ON.store(on, Ordering::Relaxed);
}

/// Whether spans are opened.
#[inline]
pub fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// Sets this member's identity and reports it to the subscribers, with the wall clock now
/// (nanoseconds since 1970), by which the times of several members can be aligned.
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

/// The common fields of a span or an event; see [`callsites`].
pub(super) struct Head {
    /// The parent span, if there is one.
    pub(super) parent: Option<Id>,
    /// The id of the request or of the round, in hex.
    pub(super) request: Option<DisplayValue<String>>,
    /// This member's id, in hex.
    pub(super) member: DisplayValue<String>,
    /// The link, in hex, once it is known.
    pub(super) link: Option<DisplayValue<String>>,
    /// Names of the flags, once they are known.
    pub(super) flags: Option<DisplayValue<String>>,
    /// Of a step that is over: how long ago it began, in nanoseconds, and how long it took.
    pub(super) past: Option<(u64, u64)>,
}

/// The parts of a step that are known when it ends.
#[derive(Clone, Copy)]
pub(super) struct End<'a> {
    /// Bits of the record: `FLAG_KEPT` and others.
    pub(super) flags: u8,
    /// The link: another member's step, a round, or a batch.
    pub(super) link: u64,
    /// The fields, in the stage's order.
    pub(super) fields: &'a [u64; 8],
}

/// A span under way, as the guard of the step holds it.
#[derive(Debug)]
pub(super) struct Open {
    span: tracing::Span,
    /// The request of which this span is the top.
    top: Option<u64>,
}

/// Opens the span of a step, if the step is kept and a subscriber wants it.
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

/// Emits the event of a mark.
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

/// Emits the event of a step that is over, with how long ago it began and how long it took, in
/// nanoseconds. It has no parent: the steps that are recorded so precede the rpc, or follow it.
#[cold]
pub(super) fn past(stage: Stage, id: u64, times: (u64, u64), fields: &[u64; 8]) {
    if id::kept(id) {
        callsites::event(stage, Head { past: Some(times), ..Head::new(id, None) }, fields);
    }
}

impl Open {
    /// Fills in the remaining fields and closes the span.
    pub(super) fn end(self, stage: Stage, end: End<'_>) {
        covered::ended(stage, end.fields);
        for (slot, field) in stage.fields().iter().enumerate() {
            self.span.record(field.name, emitted(stage, slot, end.fields));
        }
        self.span.record("link", link(end));
        self.span.record("flags", flags(end));
        if let Some(id) = self.top {
            // Out of the table first, so that no later span finds it.
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
            past: None,
        }
    }
}

/// A field's value as it is emitted: a number, or the name that the number stands for.
pub(super) fn emitted(stage: Stage, slot: usize, numbers: &[u64; 8]) -> Box<dyn tracing::Value> {
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

/// The request's top. The handle keeps it open until the child exists, which then holds it.
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
