mod walk;

use super::*;
use crate::{
    random::Random,
    story::{self, BootInfo, Event, MemberInfo, Recording, order::Order, recording},
    trace::{
        self,
        record::{FLAG_KEPT, Kind},
        stage::Stage,
    },
};
use std::collections::BTreeMap;
use walk::walk;

const GOLDEN: [&str; 2] = [
    include_str!("../../../tests/recordings/version-1.ndjson"),
    include_str!("../../../tests/recordings/puts_and_gets.ndjson"),
];
const ROUNDS: u64 = 60;
const STEPS: usize = 120;

type Truth = BTreeMap<Watermark, u64>;

/// A member that works at random, and its records.
struct Model {
    random: Random,
    member: u8,
    boot: u16,
    clock: u64,
    now: Truth,
    /// Each event, with the true state after it.
    told: Vec<(Event, Truth)>,
    /// In one of how many keyframes something changes while it is read; 0 for none.
    racing: u64,
    truncates: bool,
}

impl Model {
    fn new(seed: u64, member: u8, boot: u16, racing: u64, truncates: bool) -> Model {
        let random = Random::new(seed ^ u64::from(member) << 32 ^ u64::from(boot) << 40);
        let now = Watermark::ALL.map(|water| (water, 5)).into();
        Model { random, member, boot, clock: 1, now, told: Vec::new(), racing, truncates }
    }

    fn get(&self, water: Watermark) -> u64 {
        self.now.get(&water).copied().unwrap_or(0)
    }

    fn tell(&mut self, stage: Stage, kind: Kind, fields: [u64; 8]) {
        self.clock += 2;
        let event = Event {
            boot: self.boot,
            kind,
            flags: FLAG_KEPT,
            clock_end: self.clock,
            at_ns: self.clock * 1000 + u64::from(self.boot) * 1_000_000_000,
            fields,
            ..Event::mark(self.member, stage, self.clock - 1)
        };
        let is_sample = kind == Kind::Keyframe;
        for change in changes(&event).into_iter().filter(|_| !is_sample) {
            self.now.insert(change.water, change.new);
        }
        self.told.push((event, self.now.clone()));
    }

    fn step(&mut self) {
        let up = 1 + self.random.below(3);
        let mark = Kind::Mark;
        match self.random.below(12) {
            0 | 1 => {
                let (term, commit) = (self.get(Watermark::Term), self.get(Watermark::Commit));
                let fields = [term, commit, commit + up, 0, 0, 0, 0, 0];
                self.tell(Stage::RaftCommit, mark, fields);
            }
            2 => {
                let applied = self.get(Watermark::Applied);
                let fields = [1, applied + 1, applied, applied + 1, 0, 0, 0, 0];
                self.tell(Stage::ApplyEntry, mark, fields);
            }
            3 => {
                let written = self.get(Watermark::Written);
                let mut new = written + up;
                if self.truncates && self.random.below(4) == 0 {
                    self.tell(Stage::LogTruncate, mark, [written, written - 1, 2, 0, 0, 0, 0, 0]);
                    new = written - self.random.below(2);
                }
                let fields = [written + 1, new, written, new, 0, 0, 0, 0];
                self.tell(Stage::WalWrite, mark, fields);
            }
            4 => {
                let (synced, new) = (self.get(Watermark::Synced), self.get(Watermark::Written));
                self.tell(Stage::WalFsync, mark, [0, 0, synced, new, 0, 0, 0, 0]);
            }
            5 => {
                let revision = self.get(Watermark::Revision);
                self.tell(Stage::MvccWrite, mark, [revision, revision + 1, 1, 0, 0, 0, 0, 0]);
            }
            6 => {
                let rows = self.get(Watermark::Active);
                self.tell(Stage::BufferPut, mark, [rows, rows + 1, 0, 0, 0, 0, 0, 0]);
            }
            7 => self.store(),
            8 => self.elect(),
            9 => {
                let peer = 11 + self.random.below(2);
                let matched = self.get(Watermark::Match(peer));
                self.tell(Stage::RaftProgress, mark, [peer, matched, matched + up, 0, 0, 0, 0, 0]);
            }
            _ => self.keyframe(),
        }
    }

    fn store(&mut self) {
        let frozen = self.get(Watermark::Frozen);
        if frozen == 0 {
            let rows = self.get(Watermark::Active);
            self.tell(Stage::BufferFreeze, Kind::Mark, [rows, 0, 0, 0, 0, 0, 0, 0]);
            return;
        }
        let [index, revision] = [Watermark::Stored, Watermark::StoredRevision].map(|w| self.get(w));
        let fields = [index, index + 2, revision, revision + 1, frozen, 0, 0, 0];
        self.tell(Stage::BackendCommit, Kind::Mark, fields);
    }

    fn elect(&mut self) {
        use Watermark::{Leader, Role, Term, Vote};
        let [role, term, leader, vote] = [Role, Term, Leader, Vote].map(|water| self.get(water));
        let [to, new, voted] = [4, 3, 3].map(|sides| self.random.below(sides));
        self.tell(
            Stage::RaftRole,
            Kind::Mark,
            [role, to, term, term + 1, leader, new, vote, voted],
        );
        self.now.retain(|water, _| !matches!(water, Watermark::Match(_)));
        let (_, truth) = self.told.last_mut().unwrap();
        truth.clone_from(&self.now);
    }

    /// Other numbers may change while these are read: each is then true at some moment in between.
    fn keyframe(&mut self) {
        let (begun, from) = (self.clock + 1, self.told.len());
        let mut moments = vec![self.now.clone()];
        self.clock += 1;
        if self.racing != 0 && self.random.below(self.racing) == 0 {
            for _ in 0..self.random.below(4) {
                self.step_without_keyframe();
            }
        }
        moments.extend(self.told[from..].iter().map(|(_, truth)| truth.clone()));
        for half in Watermark::ALL.chunks(8) {
            let fields: Vec<u64> = half
                .iter()
                .map(|water| {
                    let moment = self.random.below(moments.len() as u64);
                    moments[usize::try_from(moment).unwrap()][water]
                })
                .collect();
            let is_first = half[0] == Watermark::Role;
            let stage = if is_first { Stage::Keyframe } else { Stage::KeyframeBackend };
            self.tell(stage, Kind::Keyframe, fields.try_into().unwrap());
            self.told.last_mut().unwrap().0.clock = begun;
        }
    }

    fn step_without_keyframe(&mut self) {
        let before = self.told.len();
        let racing = std::mem::take(&mut self.racing);
        self.step();
        self.racing = racing;
        if self.told[before..].iter().any(|(event, _)| event.kind == Kind::Keyframe) {
            self.told.truncate(before);
        }
    }
}

/// The records of three members, and the true state after each event, by position.
fn random(seed: u64, racing: u64, truncates: bool) -> (Recording, Vec<Truth>) {
    let mut recording = Recording::default();
    let mut truths = Vec::new();
    for member in 0..3_u8 {
        let boot = |boot| BootInfo { boot, wall_ns: 1_000_000 };
        recording.members.push(MemberInfo {
            member_id: u64::from(member) + 10,
            cluster_id: 9,
            name: format!("m{member}"),
            version: String::new(),
            boots: vec![boot(1), boot(2)],
            members: Vec::new(),
        });
        for boot in 1..=2 {
            let mut model = Model::new(seed, member, boot, racing, truncates);
            (0..STEPS).for_each(|_| model.step());
            for (event, truth) in model.told {
                recording.events.push(event);
                truths.push(truth);
            }
        }
    }
    (recording, truths)
}

/// Removes one event in `one_in` on average; a mark reports each loss, as the collector does.
fn lose(
    recording: &Recording,
    truths: &[Truth],
    random: &mut Random,
    one_in: u64,
) -> (Recording, Vec<Truth>) {
    let mut left = Recording { events: Vec::new(), ..recording.clone() };
    let mut truths_left = Vec::new();
    for (event, truth) in recording.events.iter().zip(truths) {
        let mut event = event.clone();
        if random.below(one_in) == 0 {
            event.fields = [event.clock, event.clock_end, 1, 0, 0, 0, 0, 0];
            (event.stage, event.kind, event.clock) = (Stage::Lost, Kind::Mark, event.clock_end);
        }
        left.events.push(event);
        truths_left.push(truth.clone());
    }
    (left, truths_left)
}

fn each_look_up(
    recording: &Recording,
    truths: &[Truth],
    mut check: impl FnMut(Watermark, Value, Option<u64>, &Event),
) {
    let order = Order::of(recording);
    let states = States::of(recording, &order);
    for (rows, at) in order.rows.iter().enumerate() {
        let event = &recording.events[*at];
        for water in states.told_of(event.member, event.boot) {
            let value = states.at(event.member, rows + 1, water);
            check(water, value, truths[*at].get(&water).copied(), event);
            let moment = (event.boot, crate::story::order::point(event));
            assert_eq!(value, states.at_moment(event.member, moment, water), "{event:?}");
        }
    }
}

#[test]
fn a_recording_without_losses_is_known_at_every_step_and_walks_agree_with_the_look_up() {
    for seed in 1..=ROUNDS {
        println!("seed {seed}");
        let (recording, truths) = random(seed, 0, false);
        let order = Order::of(&recording);
        let states = States::of(&recording, &order);
        let moved = |loss: &&Loss| {
            !matches!(loss.water, Watermark::Seen | Watermark::Kept | Watermark::Dropped)
        };
        assert_eq!(None, states.losses().iter().find(moved));
        let walked = walk(&recording, &order, &states);
        assert_eq!(walked.changes, walked.known_before, "{walked:?}");
        each_look_up(&recording, &truths, |water, value, truth, event| {
            if let Value::Known(known) = value {
                assert_eq!(Some(known), truth.or(Some(0)), "{water:?} after {event:?}");
            }
        });
    }
}

#[test]
fn keyframes_that_race_with_changes_prove_no_gap() {
    for seed in 1..=ROUNDS {
        println!("seed {seed}");
        let (recording, truths) = random(seed, 2, false);
        let states = States::of(&recording, &Order::of(&recording));
        assert_eq!(&[] as &[Loss], states.losses(), "nothing was lost");
        each_look_up(&recording, &truths, |water, value, truth, event| {
            if let Value::Known(known) = value {
                assert_eq!(Some(known), truth.or(Some(0)), "{water:?} after {event:?}");
            }
        });
    }
}

#[test]
fn known_values_are_true_and_bounds_hold_after_any_loss() {
    let (mut known, mut within, mut unknown) = (0, 0, 0);
    for seed in 1..=ROUNDS {
        println!("seed {seed}");
        let (recording, truths) = random(seed, 3, true);
        let mut random = Random::new(seed);
        let one_in = 2 + random.below(20);
        let (recording, truths) = lose(&recording, &truths, &mut random, one_in);
        let order = Order::of(&recording);
        let states = States::of(&recording, &order);
        assert!(!states.losses().is_empty());
        walk(&recording, &order, &states);
        each_look_up(&recording, &truths, |water, value, truth, event| {
            let truth = truth.unwrap_or(0);
            match value {
                Value::Known(value) => {
                    known += 1;
                    assert_eq!(value, truth, "{water:?} after {event:?}");
                }
                Value::Within(least, most) => {
                    within += 1;
                    let is_within = (least..=most).contains(&truth);
                    assert!(is_within, "{water:?} {truth} {value:?} after {event:?}");
                }
                Value::Unknown => unknown += 1,
            }
        });
    }
    println!("{known} known, {within} within, {unknown} unknown");
    assert!(unknown + within < known, "little is known: {known} {within} {unknown}");
}

#[test]
fn a_gap_is_unknown_until_a_keyframe_that_the_next_record_confirms() {
    let mut model = Model::new(1, 0, 1, 0, false);
    let commit = |model: &mut Model, old: u64, new: u64| {
        model.tell(Stage::RaftCommit, Kind::Mark, [3, old, new, 0, 0, 0, 0, 0]);
    };
    let other = |model: &mut Model| model.tell(Stage::CompactWait, Kind::Span, [0; 8]);
    other(&mut model);
    commit(&mut model, 5, 7);
    other(&mut model);
    model.tell(Stage::Keyframe, Kind::Keyframe, [0, 3, 9, 0, 0, 0, 0, 0]);
    other(&mut model);
    commit(&mut model, 9, 10);
    let events = model.told.into_iter().map(|(event, _)| event).collect();
    let recording = Recording {
        members: vec![MemberInfo {
            member_id: 1,
            cluster_id: 1,
            name: String::new(),
            version: String::new(),
            boots: Vec::new(),
            members: Vec::new(),
        }],
        events,
        dropped: vec![0],
    };
    let states = States::of(&recording, &Order::of(&recording));
    let values: Vec<Value> = (0..=6).map(|rows| states.at(0, rows, Watermark::Commit)).collect();
    let known = Value::Known;
    let expected =
        [known(5), known(5), known(7), Value::Within(7, 9), known(9), known(9), known(10)];
    assert_eq!(expected, *values);
    let loss = Loss { member: 0, water: Watermark::Commit, event: 3, expected: 7, found: 9 };
    assert_eq!([loss], states.losses());
    assert_eq!([Some(true), Some(false), None], [7, 10, 8].map(|index| values[3].reaches(index)));
}

#[test]
fn a_new_boot_knows_nothing_of_the_old_one() {
    let (mut recording, _) = random(7, 0, false);
    recording.events.retain(|event| {
        event.boot == 1 || (event.stage == Stage::BufferPut && event.kind != Kind::Keyframe)
    });
    let order = Order::of(&recording);
    let states = States::of(&recording, &order);
    let value = |water| states.at(0, order.rows.len(), water);
    assert_eq!(Value::Unknown, value(Watermark::Commit));
    assert!(value(Watermark::Active).known().is_some());
    assert!(states.at_moment(0, (1, u64::MAX), Watermark::Commit).known().is_some());
}

#[test]
fn the_golden_recordings_walk_forward_and_backward_alike() {
    for text in GOLDEN {
        let recording = recording::read(text.as_bytes()).unwrap().recording;
        let order = Order::of(&recording);
        let states = States::of(&recording, &order);
        let walked = walk(&recording, &order, &states);
        println!("{walked:?}, {:?}", states.losses());
        assert!(walked.changes / 2 < walked.known_before, "{walked:?}");
    }
}
