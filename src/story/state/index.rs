//! All watermarks of all members: built once per recording, and looked up at any step.

use std::collections::BTreeMap;

use super::{
    timeline::{Anchor, Break, Doubts, Timeline, Told, Value},
    watermark::{Watermark, changes},
};
use crate::{
    fields,
    story::{
        Event, Recording,
        order::{self, Order},
    },
    trace::{record::Kind, stage::Stage},
};

/// A moment on a member: its boot, and its clock.
pub type Moment = (u16, u64);

/// Changes of a watermark that are not in the recording, because the records around them disagree.
/// They were lost, or belong to requests that are not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The member, by position.
    pub member: u8,
    /// The watermark whose changes are missing.
    pub water: Watermark,
    /// The first record that shows the loss: its position in [`Recording::events`].
    pub event: usize,
    /// The value of the last record before.
    pub expected: u64,
    /// The old value in that record.
    pub found: u64,
}

/// The states of all members at all steps of a recording.
#[derive(Clone, Debug, Default)]
pub struct States {
    members: Vec<Member>,
    losses: Vec<Loss>,
}

#[derive(Clone, Debug, Default)]
struct Member {
    boots: Vec<Boot>,
    /// Ranks of its events in playback order.
    ranks: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Boot {
    boot: u16,
    /// The member clock of each of its events.
    points: Vec<u64>,
    lines: BTreeMap<Watermark, Timeline>,
}

impl States {
    /// Reads a recording once. `order` is the playback order to which [`States::at`] refers.
    pub fn of(recording: &Recording, order: &Order) -> States {
        let mut states = States::default();
        states.members.resize_with(recording.members.len(), Member::default);
        for lane in order::lanes(recording) {
            let place = usize::from(lane.member);
            if states.members.len() <= place {
                states.members.resize_with(place + 1, Member::default);
            }
            let (lines, losses) = lines(recording, lane.member, &lane.events);
            let events = lane.events.iter().map(|at| &recording.events[*at]);
            let points = events.map(order::point).collect();
            states.members[place].boots.push(Boot { boot: lane.boot, points, lines });
            states.losses.extend(losses);
        }
        for (rank, at) in order.rows.iter().enumerate() {
            states.members[usize::from(recording.events[*at].member)].ranks.push(rank);
        }
        states
    }

    /// The value on a member after this many rows of the playback order; 0 is before everything.
    pub fn at(&self, member: u8, rows: usize, water: Watermark) -> Value {
        let Some(of_member) = self.members.get(usize::from(member)) else { return Value::Unknown };
        let mut happened = of_member.ranks.partition_point(|rank| *rank < rows);
        for (at, boot) in of_member.boots.iter().enumerate() {
            let is_last = at + 1 == of_member.boots.len();
            if happened <= boot.points.len() || is_last {
                return boot.value(happened, water);
            }
            happened -= boot.points.len();
        }
        Value::Unknown
    }

    /// The value on a member once everything up to this moment of its own had happened.
    pub fn at_moment(&self, member: u8, (boot, clock): Moment, water: Watermark) -> Value {
        let Some(boot) = self.boot(member, boot) else { return Value::Unknown };
        boot.value(boot.points.partition_point(|point| *point <= clock), water)
    }

    /// Every watermark with a record in this boot of a member, including the matches of peers.
    pub fn told_of(&self, member: u8, boot: u16) -> Vec<Watermark> {
        self.boot(member, boot).map_or(Vec::new(), |boot| boot.lines.keys().copied().collect())
    }

    /// Where records disagree, by member and clock of each watermark.
    pub fn losses(&self) -> &[Loss] {
        &self.losses
    }

    fn boot(&self, member: u8, boot: u16) -> Option<&Boot> {
        let boots = &self.members.get(usize::from(member))?.boots;
        boots.iter().find(|known| known.boot == boot)
    }
}

impl Boot {
    fn value(&self, happened: usize, water: Watermark) -> Value {
        self.lines.get(&water).map_or(Value::Unknown, |line| line.at(happened))
    }
}

/// The timelines of one boot of a member; its events are given in the order of its clock.
fn lines(
    recording: &Recording,
    member: u8,
    events: &[usize],
) -> (BTreeMap<Watermark, Timeline>, Vec<Loss>) {
    let mut told: BTreeMap<Watermark, Vec<Anchor>> = BTreeMap::new();
    let mut doubts = Doubts::default();
    for (event, place) in events.iter().copied().zip(1..) {
        let record = &recording.events[event];
        let opens = opens_at(recording, &events[..place], record);
        let clocks = (record.clock, record.clock_end);
        let anchor = |told| Anchor { place, opens, event, clocks, told };
        match record.stage {
            Stage::Lost => doubts.lost.push(fields!(record, Lost: from, to).into()),
            Stage::LogTruncate => doubts.truncated = doubts.truncated.or(Some(place)),
            // A new leader counts from the beginning.
            Stage::RaftRole => forget_matches(&mut told, anchor(Told::Forgotten)),
            _ => {}
        }
        for (water, says) in statements(record) {
            told.entry(water).or_default().push(anchor(says));
        }
    }
    let (mut lines, mut losses) = (BTreeMap::new(), Vec::new());
    for (water, anchors) in told {
        let (line, breaks) = Timeline::of(water, &anchors, &doubts);
        let loss =
            |Break { event, expected, found }| Loss { member, water, event, expected, found };
        losses.extend(breaks.into_iter().map(loss));
        lines.insert(water, line);
    }
    (lines, losses)
}

/// How many of these events had happened when this keyframe was begun. Few have happened since.
fn opens_at(recording: &Recording, events: &[usize], record: &Event) -> usize {
    let is_before = |at: &usize| order::point(&recording.events[*at]) < record.clock;
    match record.kind {
        Kind::Keyframe => events.iter().rposition(is_before).map_or(0, |last| last + 1),
        _ => events.len(),
    }
}

fn forget_matches(told: &mut BTreeMap<Watermark, Vec<Anchor>>, anchor: Anchor) {
    let of_peers = told.iter_mut().filter(|(water, _)| matches!(water, Watermark::Match(_)));
    of_peers.for_each(|(_, anchors)| anchors.push(anchor));
}

fn statements(event: &Event) -> impl Iterator<Item = (Watermark, Told)> {
    let is_sample = event.kind == Kind::Keyframe;
    changes(event).into_iter().map(move |change| {
        let told = match change.old {
            Some(old) => Told::Change(old, change.new),
            None if is_sample => Told::Sample(change.new),
            None => Told::Exact(change.new),
        };
        (change.water, told)
    })
}
