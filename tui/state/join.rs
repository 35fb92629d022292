//! Joins that the player computes itself: losses, and the beginnings of steps that wait.
//!
//! The steps that belong to a request, or to what happened to the cluster, are computed by the
//! library (`story::query`), for all its users.

use std::collections::{HashMap, HashSet};

use glass_etcd::{
    fields,
    story::{Event, Recording},
    trace::{FLAG_CANCELLED, FLAG_ERROR, Kind, Stage},
};

use super::watermarks;

/// Records that a member lost during the story may have been part of it.
pub(crate) fn mark_losses(recording: &Recording, chosen: &mut [bool]) {
    let window = Window::around(recording, chosen);
    for (event, chosen) in recording.events.iter().zip(chosen) {
        if event.stage == Stage::Lost {
            let [from, to] = fields!(event, Lost: from, to);
            *chosen |= window.overlaps(event, from, to);
        }
    }
}

/// [`mark_losses`] for a story given as the positions of its steps; `lost` are the positions of all
/// loss marks.
pub(crate) fn add_losses(recording: &Recording, lost: &[usize], steps: &mut Vec<usize>) {
    if lost.is_empty() {
        return;
    }
    let window = Window::of(steps.iter().map(|at| &recording.events[*at]));
    let overlaps = |at: &usize| {
        let event = &recording.events[*at];
        let [from, to] = fields!(event, Lost: from, to);
        window.overlaps(event, from, to)
    };
    steps.extend(lost.iter().copied().filter(overlaps));
}

/// A story with everything that happened meanwhile and, on each member, what comes before and after
/// it up to the next keyframe: enough to show every step of the story as it is now.
pub(crate) fn surroundings(recording: &Recording, own: &[bool]) -> Vec<bool> {
    let wall = |event: &Event| watermarks::wall(recording, event);
    let events = || recording.events.iter().zip(own);
    let own_walls = || events().filter(|(_, own)| **own).map(|(event, _)| wall(event));
    let (Some(start), Some(end)) = (own_walls().min(), own_walls().max()) else {
        return own.to_vec();
    };
    let mut spans: HashMap<u8, (u64, u64)> = HashMap::new();
    for event in recording.events.iter().filter(|event| event.stage == Stage::Keyframe) {
        let at = wall(event);
        let (from, to) = spans.entry(event.member).or_insert((0, u64::MAX));
        *from = if at <= start { at.max(*from) } else { *from };
        *to = if end <= at { at.min(*to) } else { *to };
    }
    let window = Window::around(recording, own);
    let is_near = |event: &Event| {
        let (from, to) = spans.get(&event.member).copied().unwrap_or((start, end));
        let (from, to) =
            (if from == 0 { start } else { from }, if to == u64::MAX { end } else { to });
        (from..=to).contains(&wall(event)) || window.contains(event)
    };
    events().map(|(event, own)| *own || is_near(event)).collect()
}

/// The period of a story on each member's clock.
pub(crate) struct Window(HashMap<(u8, u16), (u64, u64)>);

impl Window {
    /// The window of the chosen events.
    pub(crate) fn around(recording: &Recording, chosen: &[bool]) -> Window {
        let events = recording.events.iter().zip(chosen).filter(|(_, chosen)| **chosen);
        Window::of(events.map(|(event, _)| event))
    }

    /// The window of these events.
    pub(crate) fn of<'a>(events: impl Iterator<Item = &'a Event>) -> Window {
        let mut window: HashMap<(u8, u16), (u64, u64)> = HashMap::new();
        for event in events {
            let (from, to) = window.entry((event.member, event.boot)).or_insert((u64::MAX, 0));
            (*from, *to) = ((*from).min(event.clock), (*to).max(event.clock_end));
        }
        Window(window)
    }

    /// For each member and start with a part of the story, the first and the last moment of it.
    pub(crate) fn spans(&self) -> impl Iterator<Item = ((u8, u16), (u64, u64))> {
        self.0.iter().map(|(start, span)| (*start, *span))
    }

    /// Whether the event took effect in the window.
    pub(crate) fn contains(&self, event: &Event) -> bool {
        let clock = watermarks::moment(event).1;
        self.overlaps(event, clock, clock)
    }

    /// Whether a part of the clock of the event's member overlaps the window.
    fn overlaps(&self, event: &Event, from: u64, to: u64) -> bool {
        let of_member = self.0.get(&(event.member, event.boot));
        of_member.is_some_and(|(first, last)| from <= *last && *first <= to)
    }
}

/// Whether the beginning of this stage deserves a row of its own, because the stage waits.
fn waits(stage: Stage) -> bool {
    matches!(
        stage,
        Stage::Rpc
            | Stage::RaftPropose
            | Stage::ReadIndexWait
            | Stage::ReadIndexRound
            | Stage::ReadWaitApplied
            | Stage::WalFsync
    )
}

/// Beginnings of spans that wait, where none was recorded: a span records its start time.
pub(crate) fn missing_beginnings(events: &[&Event]) -> Vec<Event> {
    let place = |event: &Event| (event.member, event.boot, event.clock, event.stage);
    let begun: HashSet<_> =
        events.iter().filter(|event| event.kind == Kind::Begin).map(|event| place(event)).collect();
    events
        .iter()
        .filter(|event| event.kind == Kind::Span && waits(event.stage))
        .filter(|event| event.clock < event.clock_end && !begun.contains(&place(event)))
        .map(|event| Event {
            kind: Kind::Begin,
            clock_end: event.clock,
            took_ns: 0,
            result: 0,
            // How it ends is not known when it begins.
            flags: event.flags & !(FLAG_CANCELLED | FLAG_ERROR),
            ..(*event).clone()
        })
        .collect()
}
