//! The order in which the events of all members are played.
//!
//! ```text
//!   etcd-01   ●───send───●────────────receive──▶
//!                  ╲                  ╱             a member's clock orders each row,
//!   etcd-02   ──────receive──fsync──send───▶        a link orders send and receive
//! ```
//!
//! Playback order is a topological sort of two known orders: that of each member's own clock, boot
//! by boot, and every send before its receive. Wall clocks decide nothing; they only choose between
//! events of which neither is known to be first. So every position in the order is a state that the
//! cluster could have been in, even if the members' wall clocks are an hour apart.
//!
//! The position of an event ([`point`]): a step takes effect when it ends, so a span is placed at
//! its end. Two kinds of events are placed at their start: beginnings, and sends, because the other
//! member may receive the frame before the sender's write returns. With these points the two orders
//! never contradict each other. A question about a lease, which goes over HTTP, adds two more
//! orders: it is asked before the leader begins to answer it, and answered before it ends.
//!
//! While records still arrive, a receive is withheld until its send has arrived, and so are the
//! later events of its row, unless the sender has been silent for [`SILENT_NS`]: then the receive
//! is played alone, and so is a send whose receive never arrived ("sent, not captured").

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::{
    field,
    story::{Event, Recording},
    trace::{record::Kind, stage::Stage},
};

/// Silence in nanoseconds after which a member no longer holds up the others.
pub const SILENT_NS: u64 = 300_000_000;

/// The clocks are aligned by the fastest message after one in 20 has been left out.
const OUTLIERS: usize = 20;

/// The member clock that determines the position of an event in its row.
pub fn point(event: &Event) -> u64 {
    if stands_at_start(event) { event.clock } else { event.clock_end }
}

fn stands_at_start(event: &Event) -> bool {
    event.kind == Kind::Begin || event.stage == Stage::RaftSend
}

/// A playback order of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// Positions in [`Recording::events`], in playback order.
    pub rows: Vec<usize>,
    /// The time of each event: nanoseconds since 1970 by the first member's wall clock, with the
    /// other members' clocks aligned by the messages between them. An estimate.
    pub times: Vec<i128>,
    /// The send of each receive, and the receive of each send.
    pub partner: HashMap<usize, usize>,
    /// Number of events that wait for records that have not arrived yet.
    pub withheld: usize,
    /// How the members' wall clocks were aligned for [`Order::times`].
    pub clocks: Clocks,
}

impl Order {
    /// Orders a whole recording.
    pub fn of(recording: &Recording) -> Order {
        Sorter::new(recording).sort(&[], false)
    }

    /// Orders a whole recording by clocks that are known already: of starts that they lack, the
    /// clocks are aligned to those.
    pub fn aligned(recording: &Recording, clocks: &Clocks) -> Order {
        let mut sorter = Sorter::new(recording);
        sorter.keep_clocks(clocks);
        sorter.sort(&[], false)
    }

    /// Orders what can be ordered while records still arrive. `is_silent` says of each member, by
    /// position, whether it has sent nothing for [`SILENT_NS`].
    pub fn live(recording: &Recording, is_silent: &[bool]) -> Order {
        Sorter::new(recording).sort(is_silent, true)
    }

    /// Whether the event is a send or a receive whose other end was not captured.
    pub fn is_unmatched(&self, recording: &Recording, at: usize) -> bool {
        let event = &recording.events[at];
        let is_message = matches!(event.stage, Stage::RaftSend | Stage::RaftReceive);
        is_message
            && event.kind != Kind::Begin
            && event.link != 0
            && !self.partner.contains_key(&at)
    }
}

/// How the wall clocks of the members differ, by the messages between them: [`Order::times`] for
/// moments that are no events. An estimate, like those.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// What is added to the time of a member and start.
    shifts: BTreeMap<(u8, u16), i128>,
    /// The starts whose clocks messages have told; and the first one, from which the others are
    /// counted.
    told: BTreeSet<(u8, u16)>,
}

impl Clocks {
    /// A time of a member's wall clock, in nanoseconds since 1970, on the axis of
    /// [`Order::times`]. A start without events has the shift of the newest start before it that
    /// has any. A member that no message joins with the first one keeps its own wall clock.
    pub fn common_ns(&self, member: u8, boot: u16, wall_ns: u64) -> u64 {
        let known = self.shifts.range((member, 0)..=(member, boot)).next_back();
        let shift = known.map_or(0, |(_, shift)| *shift);
        u64::try_from((i128::from(wall_ns) + shift).max(0)).unwrap_or(u64::MAX)
    }

    /// The member whose wall clock the common axis follows.
    pub fn reference(&self) -> Option<u8> {
        self.shifts.keys().next().map(|(member, _)| *member)
    }

    /// Whether messages have told how the clock of this start of a member is set against those of
    /// the others.
    pub fn are_told(&self, member: u8, boot: u16) -> bool {
        self.told.contains(&(member, boot))
    }

    /// How far a member's wall clock, in its newest start, is ahead of the one that the common axis
    /// follows, in nanoseconds.
    pub fn ahead_ns(&self, member: u8) -> i128 {
        let newest = self.shifts.range((member, 0)..=(member, u16::MAX)).next_back();
        newest.map_or(0, |(_, shift)| -shift)
    }
}

/// One boot of one member: its events by clock.
pub struct Lane {
    /// The member, by position.
    pub member: u8,
    /// Which start of the member.
    pub boot: u16,
    /// Its events, by position.
    pub events: Vec<usize>,
    next: usize,
}

struct Sorter<'a> {
    recording: &'a Recording,
    lanes: Vec<Lane>,
    times: Vec<i128>,
    clocks: Clocks,
    partner: HashMap<usize, usize>,
    /// For ends of questions and answers over HTTP: the event that comes first.
    before: HashMap<usize, usize>,
}

impl<'a> Sorter<'a> {
    fn new(recording: &'a Recording) -> Sorter<'a> {
        let mut sorter = Sorter {
            recording,
            lanes: lanes(recording),
            times: recording
                .events
                .iter()
                .map(|event| i128::from(wall_ns(recording, event)))
                .collect(),
            clocks: Clocks::default(),
            partner: partners(recording),
            before: questions(recording),
        };
        sorter.set_clocks();
        sorter
    }

    /// Shifts the lanes' times so that messages take time in both directions.
    fn set_clocks(&mut self) {
        let lane_of: HashMap<(u8, u16), usize> = self
            .lanes
            .iter()
            .enumerate()
            .map(|(at, lane)| ((lane.member, lane.boot), at))
            .collect();
        let lane = |event: &Event| lane_of[&(event.member, event.boot)];
        // How long the messages of each direction took, by the clocks as they are.
        let mut took: HashMap<(usize, usize), Vec<i128>> = HashMap::new();
        for (from, to) in &self.partner {
            let (send, receive) = (&self.recording.events[*from], &self.recording.events[*to]);
            if send.stage == Stage::RaftSend {
                let lanes = (lane(send), lane(receive));
                took.entry(lanes).or_default().push(self.times[*to] - self.times[*from]);
            }
        }
        let quick = took.into_iter().map(|(lanes, took)| (lanes, quick(took))).collect();
        let members: Vec<u8> = self.lanes.iter().map(|lane| lane.member).collect();
        let offsets = offsets(&members, &quick);
        let is_told = |at: usize| quick.keys().any(|(from, to)| *from == at || *to == at);
        for ((at, lane), offset) in self.lanes.iter().enumerate().zip(offsets) {
            let name = (lane.member, lane.boot);
            self.clocks.shifts.insert(name, -offset);
            if at == 0 || is_told(at) {
                self.clocks.told.insert(name);
            }
            for event in &lane.events {
                self.times[*event] -= offset;
            }
        }
    }

    /// Replaces the alignment by one that was estimated before, where that had messages to go by.
    fn keep_clocks(&mut self, before: &Clocks) {
        let root = self.lanes.first().map(|lane| (lane.member, lane.boot));
        // The first start may be another one since: its events may have been dropped.
        let base = root.and_then(|root| before.shifts.get(&root)).copied().unwrap_or(0);
        for lane in &self.lanes {
            let name = (lane.member, lane.boot);
            let kept = before.shifts.get(&name).filter(|_| before.told.contains(&name)).copied();
            let Some(shift) = self.clocks.shifts.get_mut(&name) else { continue };
            let wanted = kept.unwrap_or(*shift + base);
            for event in &lane.events {
                self.times[*event] += wanted - *shift;
            }
            *shift = wanted;
        }
    }

    fn sort(mut self, is_silent: &[bool], is_live: bool) -> Order {
        let mut placed = vec![false; self.recording.events.len()];
        let mut rows = Vec::with_capacity(placed.len());
        let mut is_held = vec![false; self.lanes.len()];
        while rows.len() < placed.len() {
            let mut heads: Vec<(i128, usize)> = Vec::new();
            for (at, lane) in self.lanes.iter().enumerate() {
                let Some(head) = lane.events.get(lane.next) else { continue };
                is_held[at] = is_held[at] || (is_live && self.waits_for_sender(*head, is_silent));
                if !is_held[at] {
                    heads.push((self.times[*head], at));
                }
            }
            let free = heads.iter().filter(|(_, at)| !self.is_blocked(*at, &placed)).min();
            // Contradictory links define no order; the earliest event is as good as any.
            let forced = if is_held.contains(&true) { None } else { heads.iter().min() };
            let Some((_, at)) = free.or(forced) else { break };
            let lane = &mut self.lanes[*at];
            let event = lane.events[lane.next];
            lane.next += 1;
            placed[event] = true;
            rows.push(event);
        }
        let withheld = placed.len() - rows.len();
        let Sorter { times, partner, clocks, .. } = self;
        Order { rows, times, partner, withheld, clocks }
    }

    /// Whether the lane's head is a receive whose send was captured but is not played yet, the same
    /// of a question or an answer over HTTP, or an earlier boot of the same member is not played to
    /// its end.
    fn is_blocked(&self, lane: usize, placed: &[bool]) -> bool {
        let (earlier, lane) = (&self.lanes[..lane], &self.lanes[lane]);
        let is_left = |other: &Lane| other.member == lane.member && other.next < other.events.len();
        if earlier.iter().any(is_left) {
            return true;
        }
        let head = lane.events[lane.next];
        let first = match self.recording.events[head].stage {
            Stage::RaftReceive => self.partner.get(&head),
            Stage::LeaseServe | Stage::LeaseForward => self.before.get(&head),
            _ => None,
        };
        first.is_some_and(|first| !placed[*first])
    }

    /// Whether the event is a receive whose send may still arrive, or the beginning of an answer
    /// whose question may.
    fn waits_for_sender(&self, at: usize, is_silent: &[bool]) -> bool {
        let event = &self.recording.events[at];
        let peer = match (event.stage, event.kind) {
            _ if event.link == 0 => return false,
            (Stage::RaftReceive, _) if !self.partner.contains_key(&at) => {
                field!(event, RaftReceive, peer)
            }
            (Stage::LeaseServe, Kind::Begin) if !self.before.contains_key(&at) => {
                field!(event, LeaseServe, from)
            }
            _ => return false,
        };
        let sender = self.recording.members.iter().position(|member| member.member_id == peer);
        let Some(sender) = sender else { return false };
        let heard = self.lanes.iter().filter(|lane| usize::from(lane.member) == sender);
        let heard = heard.filter_map(|lane| lane.events.last()).map(|last| self.times[*last]).max();
        !is_silent.get(sender).copied().unwrap_or(false)
            && heard.is_none_or(|heard| heard <= self.times[at])
    }
}

/// The boots of all members, by member and boot, each with its events in the order of its clock.
pub fn lanes(recording: &Recording) -> Vec<Lane> {
    let mut by_boot: HashMap<(u8, u16), Vec<usize>> = HashMap::new();
    for (at, event) in recording.events.iter().enumerate() {
        by_boot.entry((event.member, event.boot)).or_default().push(at);
    }
    let mut lanes: Vec<Lane> = by_boot
        .into_iter()
        .map(|((member, boot), mut events)| {
            events.sort_by_key(|at| {
                let event = &recording.events[*at];
                (point(event), event.clock, event.kind, event.stage)
            });
            Lane { member, boot, events, next: 0 }
        })
        .collect();
    lanes.sort_by_key(|lane| (lane.member, lane.boot));
    lanes
}

/// When an event took effect, in nanoseconds since 1970, by its own member's wall clock.
pub fn wall_ns(recording: &Recording, event: &Event) -> u64 {
    let boots = recording.members.get(usize::from(event.member)).map(|member| &member.boots);
    let boot = boots.and_then(|boots| boots.iter().find(|boot| boot.boot == event.boot));
    let took = if stands_at_start(event) { 0 } else { event.took_ns };
    boot.map_or(0, |boot| boot.wall_ns).saturating_add(event.at_ns).saturating_add(took)
}

/// Pairs sends and receives: by link, sender and receiver. Links consist of random numbers of 24
/// bits and frame counters, so the members must match too.
pub fn partners(recording: &Recording) -> HashMap<usize, usize> {
    let own = |event: &Event| {
        recording.members.get(usize::from(event.member)).map_or(0, |member| member.member_id)
    };
    let peer = |event: &Event| field!(event, RaftSend | RaftReceive, peer);
    let is_end =
        |event: &Event, stage| event.stage == stage && event.link != 0 && event.kind != Kind::Begin;
    let mut sends = HashMap::new();
    for (at, event) in recording.events.iter().enumerate() {
        if is_end(event, Stage::RaftSend) {
            sends.entry((event.link, own(event), peer(event))).or_insert(at);
        }
    }
    let mut partner = HashMap::new();
    for (at, event) in recording.events.iter().enumerate() {
        if is_end(event, Stage::RaftReceive)
            && let Some(send) = sends.remove(&(event.link, peer(event), own(event)))
        {
            partner.insert(send, at);
            partner.insert(at, send);
        }
    }
    partner
}

/// For each question of a member about a lease: the beginning of the answer, with the beginning of
/// the question, which comes before it; and the end of the question, with the end of the answer.
fn questions(recording: &Recording) -> HashMap<usize, usize> {
    let mut ends: HashMap<(Stage, Kind, u64), usize> = HashMap::new();
    for (at, event) in recording.events.iter().enumerate() {
        if matches!(event.stage, Stage::LeaseForward | Stage::LeaseServe) && event.link != 0 {
            ends.entry((event.stage, event.kind, event.link)).or_insert(at);
        }
    }
    let pair = |((stage, kind, link), at): (&(Stage, Kind, u64), &usize)| {
        let other = match (stage, kind) {
            (Stage::LeaseServe, Kind::Begin) => Stage::LeaseForward,
            (Stage::LeaseForward, Kind::Span) => Stage::LeaseServe,
            _ => return None,
        };
        Some((*at, *ends.get(&(other, *kind, *link))?))
    };
    ends.iter().filter_map(pair).collect()
}

/// The duration that stands for a direction: that of a fast message, but not of the fastest ones. A
/// member that was stopped between taking the time and sending, or whose clock was set, makes one
/// message look too fast, and must not move all others.
fn quick(mut took: Vec<i128>) -> i128 {
    let at = took.len() / OUTLIERS;
    *took.select_nth_unstable(at).1
}

/// How far each lane's clock is ahead of the first lane's, from a fast message of each direction
/// (as in NTP: both directions are assumed to be equally fast). A start of a member that no message
/// joins with the lanes before it has the wall clock of the member's start before; the first one,
/// its own.
fn offsets(members: &[u8], quickest: &HashMap<(usize, usize), i128>) -> Vec<i128> {
    let mut offsets: Vec<Option<i128>> = vec![None; members.len()];
    while let Some(root) = offsets.iter().position(Option::is_none) {
        let before = root.checked_sub(1).filter(|before| members[*before] == members[root]);
        offsets[root] = Some(before.and_then(|before| offsets[before]).unwrap_or(0));
        let mut todo = vec![root];
        while let Some(from) = todo.pop() {
            let base = offsets[from].unwrap_or(0);
            let unknown = |(_, offset): &(usize, &mut Option<i128>)| offset.is_none();
            for (to, offset) in offsets.iter_mut().enumerate().filter(unknown) {
                let there = quickest.get(&(from, to)).copied();
                let back = quickest.get(&(to, from)).copied();
                let ahead = match (there, back) {
                    (Some(there), Some(back)) => (there - back) / 2,
                    // One direction only: no message arrives before it was sent.
                    (Some(there), None) => there.min(0),
                    (None, Some(back)) => -back.min(0),
                    (None, None) => continue,
                };
                *offset = Some(base + ahead);
                todo.push(to);
            }
        }
    }
    offsets.into_iter().map(|offset| offset.unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests;
