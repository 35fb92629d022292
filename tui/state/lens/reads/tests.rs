//! Versions from the records of writes, and reads at the steps of a put.

use std::{collections::BTreeMap, rc::Rc};

use glass_etcd::{
    set,
    story::{Event, KeyText},
    trace::{Kind, Stage},
};

use super::*;
use crate::state::{
    history::{History, Writes, Written, runs},
    lanes::lanes,
    scenes::{self, PUT},
    steps::Direction,
    story::Subject,
    watermarks,
};

fn key(text: &[u8]) -> KeyText {
    KeyText { bytes: text.to_vec(), length: text.len() as u64 }
}

/// A write of a key at this revision, as one member records it.
fn write(clock: u64, written: Written, main: u64, text: &[u8]) -> [Event; 2] {
    let span = |stage, clock| Event { kind: Kind::Span, ..Event::mark(0, stage, clock) };
    let mut index = match written {
        Written::Put { created, version } => {
            let mut put = span(Stage::TreeIndexPut, clock);
            set!(put, TreeIndexPut, main = main, created = created, version = version);
            put
        }
        Written::Deleted => {
            let mut deleted = span(Stage::TreeIndexTombstone, clock);
            set!(deleted, TreeIndexTombstone, main = main);
            deleted
        }
    };
    index.key = Some(key(text));
    let mut write = span(Stage::MvccWrite, clock + 1);
    write.set_change(main - 1, main);
    [index, write]
}

trait SetChange {
    fn set_change(&mut self, old: u64, new: u64);
}

impl SetChange for Event {
    fn set_change(&mut self, old: u64, new: u64) {
        self.fields[0] = old;
        self.fields[1] = new;
        set!(self, MvccWrite, operations = 1_u64);
    }
}

fn history(writes: &[(Written, u64, &[u8])]) -> History {
    let mut recording = scenes::put().recording;
    recording.events = (writes.iter().zip(1..))
        .flat_map(|((written, main, text), at)| write(at * 10, *written, *main, text))
        .collect();
    let states = watermarks::states(&recording);
    History::of(&Rc::new(Writes::of(&recording, &states)), Some(&key(b"a")))
}

#[test]
fn a_version_holds_until_the_next_write_of_its_key() {
    let put = |version| Written::Put { created: 2, version };
    let history = history(&[
        (put(1), 2, b"a"),
        (Written::Put { created: 3, version: 1 }, 3, b"b"),
        (put(2), 4, b"a"),
        (Written::Deleted, 5, b"a"),
    ]);
    let found: Vec<Found> = (1..=6).map(|revision| history.at(revision)).collect();
    let version = |version, revision| Found::Version { version, revision };
    let expected = [
        Found::Nothing,
        version(1, 2),
        version(1, 2),
        version(2, 4),
        Found::Nothing,
        Found::Unknown,
    ];
    assert_eq!(expected, found[..]);
}

#[test]
fn a_write_that_was_not_captured_makes_later_answers_unknown_unless_a_version_excludes_it() {
    let put = |version| Written::Put { created: 2, version };
    // Revision 3 is missing.
    let proved = history(&[(put(1), 2, b"a"), (put(2), 4, b"a")]);
    assert_eq!(Found::Version { version: 1, revision: 2 }, proved.at(3));
    let open = history(&[(put(1), 2, b"a"), (put(3), 4, b"a")]);
    assert_eq!([Found::Unknown], [open.at(3)]);
    let late = history(&[(put(5), 9, b"a")]);
    assert_eq!(
        [Found::Unknown, Found::Version { version: 5, revision: 9 }],
        [late.at(8), late.at(9)]
    );
}

#[test]
fn a_key_that_was_cut_cannot_be_compared() {
    let cut = KeyText { bytes: b"a".to_vec(), length: 200 };
    let history = History::of(&Rc::default(), Some(&cut));
    assert_eq!(Found::AsOf(7), history.at(7));
}

#[test]
fn runs_of_numbers_are_joined() {
    assert_eq!(BTreeMap::from([(2, 4), (6, 6)]), runs([2, 3, 4, 6].into_iter()));
}

/// Goal: along a put, the two reads of each member are those that it would answer. Method: the
/// scene of a put on a follower, whose leader applies it first.
#[test]
fn a_serializable_read_is_stale_from_the_commit_until_its_member_has_applied_it() {
    let scene = scenes::put();
    let lanes = lanes(&scene.recording);
    let mut steps = Steps::open(&scene.recording, Subject::Request(PUT));
    let mut told: Vec<[bool; 3]> = Vec::new();
    loop {
        let reads = reads(&steps, &lanes, &[]);
        let stale = [0, 1, 2].map(|lane| reads[lane].is_stale());
        if told.last() != Some(&stale) {
            told.push(stale);
        }
        let now = steps.now;
        steps.step(glass_etcd::trace::Grain::Story, Direction::Forward);
        if steps.now == now {
            break;
        }
    }
    assert_eq!([false; 3], told[0]);
    assert_eq!([false; 3], told[told.len() - 1]);
    assert!(told.iter().any(|stale| stale[1] && stale[2]), "{told:?}");
    let last = reads(&steps, &lanes, &[]);
    let answer = Found::Version { version: 1, revision: 8 };
    for reads in &last {
        assert_eq!(Some(answer), reads.serializable, "{last:?}");
    }
}

/// Goal: what a linearizable read waits for is said. Method: heads in which members are gone.
#[test]
fn without_its_leader_or_a_quorum_a_linearizable_read_waits() {
    let scene = scenes::put();
    let lanes = lanes(&scene.recording);
    let mut steps = Steps::open(&scene.recording, Subject::Request(PUT));
    steps.jump(Direction::Forward);
    let heads = |heard: [Heard; 3]| {
        let head = |(heard, lane): (Heard, &Lane)| Head {
            name: lane.name.clone(),
            marks: Watermarks::default(),
            heard,
            standing: None,
            cut: Vec::new(),
        };
        heard.into_iter().zip(&lanes).map(head).collect::<Vec<_>>()
    };
    let told = |heard: [Heard; 3]| {
        let lines = lines(&steps, &lanes, &heads(heard));
        lines.into_iter().map(|line| line.join("   ")).collect::<Vec<_>>()
    };
    let all = told([Heard::Fresh; 3]);
    assert_eq!("etcd-02   get -s: v1 rev 8   get: v1 rev 8 after quorum", all[1]);
    let leader_down = told([Heard::Down(1), Heard::Fresh, Heard::Fresh]);
    assert_eq!("etcd-01   no answer: it is DOWN", leader_down[0]);
    let waits = "etcd-02   get -s: v1 rev 8   get: waits, etcd-01, which leads, is DOWN";
    assert_eq!(waits, leader_down[1]);
    let alone = told([Heard::Fresh, Heard::Paused(1), Heard::Down(1)]);
    assert_eq!("etcd-01   get -s: v1 rev 8   get: waits, etcd-01 reaches no quorum", alone[0]);
    let doubtful = told([Heard::Fresh, Heard::Silent(1), Heard::Silent(1)]);
    assert_eq!("etcd-01   get -s: v1 rev 8   get: ? unknown", doubtful[0]);
    assert_eq!("etcd-02   get -s: ? unknown   get: ? unknown", doubtful[1]);
    let mut cut_off = heads([Heard::Fresh; 3]);
    for (lane, far) in [vec![1, 2], vec![0], vec![0]].into_iter().enumerate() {
        cut_off[lane].cut = far;
    }
    let cut_off = lines(&steps, &lanes, &cut_off).into_iter().map(|line| line.join("   "));
    let cut_off: Vec<String> = cut_off.collect();
    assert_eq!("etcd-01   get -s: v1 rev 8   get: waits, etcd-01 reaches no quorum", cut_off[0]);
    assert_eq!("etcd-02   get -s: v1 rev 8   get: waits, its link to etcd-01 is cut", cut_off[1]);
}
