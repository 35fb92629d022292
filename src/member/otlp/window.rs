//! The last seconds of steps, out of which spans are made.
//!
//! ```text
//!        3 s ago                         1 s ago            now
//!   ───────┼────────── exported ────────────┼── still young ──┤
//!   forgotten, but for rpcs that run
//! ```
//!
//! A step is exported once, when it is a second old; until it is three seconds old it helps to find
//! the parents and links of others. Of a request that runs longer, such as a watch or a lock that
//! waits, the beginning and the client's context and connection stay, so that later steps become
//! its children.
//!
//! If there are more steps than the window holds, the oldest half is dropped, except for those
//! beginnings and contexts. Steps that would have become spans and had not yet are counted as lost.
//! So are the records that the subscription could not hand over: each of them counts, because it is
//! not known which would have become spans.

use std::collections::HashSet;

use crate::{
    export::otlp::{Exporter, Resource, Scope, is_told},
    metrics::recorded,
    story::{Event, intake::Intake, order::Order},
    trace::{Batch, Family, Hello, Kind, Stage, record::BYTES},
};

/// How old a step is before it is exported, in nanoseconds: unless the disk is slow, the steps that
/// it links to have ended by then.
const SETTLE_NS: u64 = 1_000_000_000;
/// How long steps are kept, in nanoseconds.
const KEEP_NS: u64 = 3 * SETTLE_NS;
/// The most steps in the window; the oldest are dropped.
const EVENTS_MAX: usize = 60_000;
/// The most unfinished steps that are kept beyond the window; the latest stay.
const OPEN_MAX: usize = 4096;
/// The most records of callers, their contexts and connections, that are kept beyond the window: of
/// requests that run or ended lately.
const CONTEXTS_MAX: usize = 4 * OPEN_MAX;

/// A step of this member: stage and clock.
type Step = (Stage, u64);

/// The window of steps; see the module's essay.
pub(super) struct Window {
    intake: Intake,
    place: u8,
    /// Steps in the window that are exported.
    done: HashSet<Step>,
    /// The records that the subscription has lost so far.
    dropped_before: u64,
}

fn step(event: &Event) -> Step {
    (event.stage, event.clock)
}

fn end_ns(event: &Event) -> u64 {
    event.at_ns.saturating_add(event.took_ns)
}

impl Window {
    /// An empty window, for this member.
    pub(super) fn new(hello: &Hello) -> Option<Window> {
        let mut intake = Intake::default();
        let place = intake.hello(hello).ok()?;
        Some(Window { intake, place, done: HashSet::new(), dropped_before: 0 })
    }

    /// Takes a batch. Returns how many records were lost, here or by the subscription.
    pub(super) fn take(&mut self, batch: &Batch) -> u64 {
        let mut bytes = Vec::with_capacity(batch.records.len() * BYTES);
        batch.records.iter().for_each(|record| record.encode(&mut bytes));
        self.intake
            .batch(self.place, &bytes, batch.dropped)
            .expect("whole records of a member that said hello");
        let mut lost = batch.dropped.saturating_sub(self.dropped_before);
        self.dropped_before = self.dropped_before.max(batch.dropped);
        if EVENTS_MAX < self.intake.recording.events.len() {
            lost += self.shed();
        }
        recorded::SPANS_DROPPED.add(lost);
        lost
    }

    /// Drops the older half. Returns how many steps will never be exported.
    fn shed(&mut self) -> u64 {
        let events = &self.intake.recording.events;
        let first = events.len().saturating_sub(EVENTS_MAX / 2);
        let kept = kept(events, |at| first <= at);
        let is_lost = |(event, is_kept): &(&Event, &bool)| {
            !**is_kept && is_told(event) && !self.done.contains(&step(event))
        };
        let lost = events.iter().zip(&kept).filter(is_lost).count() as u64;
        self.retain(&kept);
        lost
    }

    /// The spans that are due, at this time in nanoseconds since the member's start; then forgets
    /// what is old.
    pub(super) fn due(&mut self, now_ns: u64) -> Vec<Resource> {
        let recording = &self.intake.recording;
        let order = Order::of(recording);
        let exporter = Exporter::new(recording, &order, Scope::Member);
        let chosen = exporter.choose(|at| {
            let event = &recording.events[at];
            let is_old = end_ns(event).saturating_add(SETTLE_NS) <= now_ns;
            (is_old || event.stage.family() == Family::Loop) && !self.done.contains(&step(event))
        });
        let resources = exporter.export(&chosen);
        self.done.extend(chosen.iter().map(|at| step(&recording.events[*at])));
        self.forget(now_ns.saturating_sub(KEEP_NS));
        resources
    }

    /// Keeps the steps that ended since `since_ns` and those that have not ended. The others were
    /// exported before, so nothing is lost.
    fn forget(&mut self, since_ns: u64) {
        let events = &self.intake.recording.events;
        let kept = kept(events, |at| since_ns <= end_ns(&events[at]));
        self.retain(&kept);
    }

    /// Keeps these, by place.
    fn retain(&mut self, kept: &[bool]) {
        for (event, is_kept) in self.intake.recording.events.iter().zip(kept) {
            // A beginning and its end are one step, and the end may stay.
            if !is_kept && event.kind != Kind::Begin {
                self.done.remove(&step(event));
            }
        }
        self.intake.retain(|at| kept[at]);
    }
}

/// Which events to keep, by place: those that are meant, and of requests that run what they began
/// and their callers' contexts and connections.
fn kept(events: &[Event], is_meant: impl Fn(usize) -> bool) -> Vec<bool> {
    let mut kept: Vec<bool> = (0..events.len()).map(is_meant).collect();
    let is_begin = |event: &Event| {
        event.kind == Kind::Begin && event.id != 0 && event.stage.family() == Family::Request
    };
    let old = events.iter().zip(&kept).filter(|(event, is_kept)| !**is_kept && is_begin(event));
    let mut open: HashSet<Step> = old.map(|(event, _)| step(event)).collect();
    for event in events.iter().filter(|event| event.kind == Kind::Span) {
        open.remove(&step(event));
    }
    spare(&mut kept, events, OPEN_MAX, |event| is_begin(event) && open.contains(&step(event)));
    let rpcs = events.iter().zip(&kept).filter(|(event, is_kept)| **is_kept && is_rpc(event));
    let running: HashSet<u64> = rpcs.map(|(event, _)| event.id).collect();
    spare(&mut kept, events, CONTEXTS_MAX, |event| {
        let is_of_caller = matches!(event.stage, Stage::RpcContext | Stage::RpcConnection);
        is_of_caller && running.contains(&event.id)
    });
    kept
}

fn is_rpc(event: &Event) -> bool {
    event.stage == Stage::Rpc
}

/// Keeps the latest of these as well, up to a maximum.
fn spare(kept: &mut [bool], events: &[Event], most: usize, is_spared: impl Fn(&Event) -> bool) {
    let places = (0..events.len()).rev();
    let old = places.filter(|at| !kept[*at] && is_spared(&events[*at])).take(most);
    for at in old.collect::<Vec<_>>() {
        kept[at] = true;
    }
}

#[cfg(test)]
mod tests;
