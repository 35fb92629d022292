//! The last seconds of steps, out of which spans are made.
//!
//! ```text
//!        3 s ago                         1 s ago            now
//!   ───────┼────────── exported ────────────┼── still young ──┤
//!   forgotten, but for rpcs that run
//! ```
//!
//! A step is exported once, when it is a second old; until it is three seconds old it helps to find
//! the parents and links of others. Of a request that runs longer (a watch, a lock that waits) its
//! beginning and its caller's context stay, so that what it does later hangs below it.

use std::collections::HashSet;

use crate::trace::{
    Batch, Event, Family, Hello, Kind, Stage,
    export::otlp::{Exporter, Resource, Scope, counts},
    intake::Intake,
    order::Order,
    record::BYTES,
};

/// How old a step is before it is exported, in nanoseconds: what it points to has ended by then, if
/// the disk is well.
const SETTLE_NS: u64 = 1_000_000_000;
/// How long steps are kept, in nanoseconds.
const KEEP_NS: u64 = 3 * SETTLE_NS;
/// Steps in the window at most; the oldest go.
const EVENTS_MAX: usize = 60_000;
/// Steps that have only begun and are kept beyond the window.
const OPEN_MAX: usize = 4096;

/// A step of this member: stage and clock.
type Step = (Stage, u64);

/// See the module's text.
pub(super) struct Window {
    intake: Intake,
    place: u8,
    /// Steps in the window that are exported.
    done: HashSet<Step>,
}

fn step(event: &Event) -> Step {
    (event.stage, event.clock)
}

fn end_ns(event: &Event) -> u64 {
    event.at_ns.saturating_add(event.took_ns)
}

impl Window {
    /// An empty one, for this member.
    pub(super) fn new(hello: &Hello) -> Option<Window> {
        let mut intake = Intake::default();
        let place = intake.hello(hello).ok()?;
        Some(Window { intake, place, done: HashSet::new() })
    }

    /// Takes what the member says. Returns how many steps went because there were too many.
    pub(super) fn take(&mut self, batch: &Batch) -> u64 {
        let mut bytes = Vec::with_capacity(batch.records.len() * BYTES);
        batch.records.iter().for_each(|record| record.encode(&mut bytes));
        self.intake
            .batch(self.place, &bytes, batch.dropped)
            .expect("whole records of a member that said hello");
        if self.intake.recording.events.len() <= EVENTS_MAX {
            return 0;
        }
        let gone = self.intake.trim(EVENTS_MAX / 2) as u64;
        counts::DROPPED.add(gone);
        gone
    }

    /// The spans that are due, at this time in nanoseconds since the member's start; then forgets
    /// what is old.
    pub(super) fn turn(&mut self, now_ns: u64) -> Vec<Resource> {
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

    /// Keeps what has ended since then, and what has not.
    fn forget(&mut self, since_ns: u64) {
        let events = &self.intake.recording.events;
        let ended: HashSet<Step> =
            events.iter().filter(|event| event.kind == Kind::Span).map(step).collect();
        let is_open = |event: &Event| {
            event.kind == Kind::Begin
                && event.id != 0
                && event.stage.family() == Family::Request
                && !ended.contains(&step(event))
        };
        let is_young = |event: &Event| since_ns <= end_ns(event);
        let old: Vec<&Event> =
            events.iter().filter(|event| is_open(event) && !is_young(event)).collect();
        let open: HashSet<Step> =
            old[old.len().saturating_sub(OPEN_MAX)..].iter().map(|event| step(event)).collect();
        let is_kept =
            |event: &Event| is_young(event) || (is_open(event) && open.contains(&step(event)));
        let running: HashSet<u64> = events
            .iter()
            .filter(|event| event.stage == Stage::Rpc && is_kept(event))
            .map(|event| event.id)
            .collect();
        let kept: Vec<bool> = events
            .iter()
            .map(|event| {
                is_kept(event) || (event.stage == Stage::RpcContext && running.contains(&event.id))
            })
            .collect();
        self.intake.retain(|at| kept[at]);
        let left: HashSet<Step> = self.intake.recording.events.iter().map(step).collect();
        self.done.retain(|step| left.contains(step));
    }
}

#[cfg(test)]
mod tests;
