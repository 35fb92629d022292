//! The part of a recording that one story shows, and the rows that it becomes.

use std::collections::{BTreeSet, HashMap};

use glass_etcd::{
    field, set,
    story::{Event, KeyText, Recording, order::Order},
    trace::{Grain, Kind, Stage},
};

use super::{
    super::{
        axis::clipped,
        join,
        lanes::{self, Lane},
        watermarks::moment,
    },
    Arrow, Moment, OtherEnd, Step, Telling,
};

/// What is known of a story's events beyond their records, by position.
#[derive(Default)]
pub(super) struct Notes {
    /// What the wait that ends with the event stood behind.
    pub(super) ahead: HashMap<usize, String>,
    /// How long the request waited for what ends with it, on its critical path.
    pub(super) waits: HashMap<usize, u64>,
}

/// The part of a recording that one story shows: its own events, with the beginnings that were not
/// recorded, and the other events of its period, in playback order.
pub(super) struct Part {
    pub(super) recording: Recording,
    /// For each event, when it happened.
    times: Vec<u64>,
    /// For each event, whether it is the story's own.
    is_own: Vec<bool>,
    /// For each event, whether it is a message with both ends captured, and how long that was in
    /// transit.
    ends: Vec<(OtherEnd, Option<u64>)>,
    /// For each event, what the wait that ends with it stood behind.
    ahead: Vec<Option<String>>,
    /// For each event, how long the request waited for what ends with it, on its critical path.
    waits: Vec<Option<u64>>,
    /// The key that the request names.
    key: Option<KeyText>,
}

impl Part {
    pub(super) fn of(telling: &Telling<'_>, own: &BTreeSet<usize>, notes: &Notes) -> Part {
        let Telling { recording, order, lanes, .. } = telling;
        let members = recording.members.clone();
        let mut part = Part {
            recording: Recording { members, ..Recording::default() },
            times: Vec::new(),
            is_own: Vec::new(),
            ends: Vec::new(),
            ahead: Vec::new(),
            waits: Vec::new(),
            key: None,
        };
        for rank in telling.ranks.around(recording, own) {
            let at = order.rows[rank];
            let event = &recording.events[at];
            if lanes::lane_of_place(lanes, event.member).is_some() {
                part.recording.events.push(event.clone());
                part.times.push(clipped(order.times[at]));
                part.is_own.push(own.contains(&at));
                part.ends.push(other_end(recording, order, at));
                part.ahead.push(notes.ahead.get(&at).cloned());
                part.waits.push(notes.waits.get(&at).copied());
            }
        }
        let events = || part.recording.events.iter().zip(&part.is_own);
        let own: Vec<&Event> = events().filter(|(_, own)| **own).map(|(event, _)| event).collect();
        part.key = own.iter().find_map(|event| event.key.clone());
        for begin in join::missing_beginnings(&own) {
            part.insert(begin);
        }
        part
    }

    /// Inserts the beginning of a step where its member's clock has it and, as far as that leaves a
    /// choice, at its time.
    fn insert(&mut self, begin: Event) {
        let here = moment(&begin);
        let is_same = |event: &Event| event.member == begin.member;
        let events = || self.recording.events.iter().enumerate().filter(|(_, one)| is_same(one));
        let after = events().filter(|(_, one)| moment(one) <= here).map(|(at, _)| at + 1).max();
        let before = events().filter(|(_, one)| here < moment(one)).map(|(at, _)| at).min();
        let (after, before) = (after.unwrap_or(0), before.unwrap_or(self.times.len()));
        // The end of the step is one of those after it.
        let end = events().find(|(_, one)| {
            (one.boot, one.clock, one.stage) == (begin.boot, begin.clock, begin.stage)
        });
        let time = end.map_or(0, |(at, one)| self.times[at].saturating_sub(one.took_ns));
        let between = self.times.get(after..before).unwrap_or_default();
        let at = after + between.iter().take_while(|other| **other <= time).count();
        self.recording.events.insert(at, begin);
        self.times.insert(at, time);
        self.is_own.insert(at, true);
        self.ends.insert(at, (OtherEnd::Unknown, None));
        self.ahead.insert(at, None);
        // The path names the end of the step, which is where it waits.
        self.waits.insert(at, None);
    }

    /// The row of an event.
    pub(super) fn step(&self, at: usize, lanes: &[Lane]) -> Step {
        let (mut event, is_own) = (self.recording.events[at].clone(), self.is_own[at]);
        if event.stage == Stage::Rpc && is_own {
            event.key.clone_from(&self.key);
        }
        let moment = if event.kind == Kind::Begin { Moment::Begin } else { Moment::Done };
        let lane = lanes::lane_of_place(lanes, event.member).unwrap_or(0);
        let is_message = matches!(event.stage, Stage::RaftSend | Stage::RaftReceive);
        let peer = is_message.then(|| field!(event, RaftSend | RaftReceive, peer));
        let peer = peer.and_then(|peer| lanes::lane_of_id(lanes, peer));
        let (other_end, transit_ns) = self.ends[at];
        let is_out = event.stage == Stage::RaftSend;
        let arrow = peer.map(|peer| Arrow { peer, is_out, other_end, transit_ns });
        let grain = if is_own { grain(event.stage, moment) } else { Grain::Raw };
        let (wall_ns, ahead, on_path) = (self.times[at], self.ahead[at].clone(), self.waits[at]);
        let is_captured = true;
        Step { event, moment, grain, is_own, is_captured, lane, arrow, ahead, on_path, wall_ns }
    }
}

/// Whether the other end of a message was captured, and how long the message was in transit.
fn other_end(recording: &Recording, order: &Order, at: usize) -> (OtherEnd, Option<u64>) {
    let Some(other) = order.partner.get(&at).copied() else { return (OtherEnd::Unknown, None) };
    let is_send = recording.events[at].stage == Stage::RaftSend;
    let (send, receive) = if is_send { (at, other) } else { (other, at) };
    let arrived = order.times[receive] - i128::from(recording.events[receive].took_ns);
    (OtherEnd::Captured, u64::try_from(arrived - order.times[send]).ok())
}

/// The grain at which stepping stops at a row. For a step that waits, either the beginning or the
/// end belongs to the story; for an RPC and a round, both.
fn grain(stage: Stage, moment: Moment) -> Grain {
    if stage == Stage::Lost {
        return Grain::Story;
    }
    let tells = match (stage, moment) {
        (Stage::RaftPropose | Stage::ReadIndexWait, Moment::Done) => false,
        (
            Stage::Rpc
            | Stage::RaftPropose
            | Stage::ReadIndexWait
            | Stage::ReadIndexRound
            | Stage::LockWait
            // The answer comes between the two.
            | Stage::LeaseForward,
            Moment::Begin,
        ) => true,
        (_, Moment::Begin) => false,
        (_, Moment::Done) => true,
    };
    if tells { stage.grain() } else { stage.grain().max(Grain::Stage) }
}

/// For a message whose sending was not captured: the row at which it must have been sent.
pub(super) fn uncaptured(step: &Step, lanes: &[Lane]) -> Option<Step> {
    let arrow = step.arrow.filter(|arrow| !arrow.is_out && arrow.other_end == OtherEnd::Unknown)?;
    if !step.is_own || arrow.peer == step.lane {
        return None;
    }
    let mut event = Event { stage: Stage::RaftSend, took_ns: 0, ..step.event.clone() };
    set!(event, RaftSend, peer = lanes[step.lane].member_id);
    let other_end = OtherEnd::Captured;
    let out = Arrow { peer: step.lane, is_out: true, other_end, transit_ns: None };
    let (lane, arrow, ahead, on_path) = (arrow.peer, Some(out), None, None);
    Some(Step { event, lane, arrow, ahead, on_path, is_captured: false, ..step.clone() })
}
