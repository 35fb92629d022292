//! The player's conclusions from recordings, without any screen.

use std::{collections::HashMap, time::Duration};

use crossterm::event::{KeyCode, KeyEvent};
use glass_etcd::{
    pb::glasspb::Batch,
    story::{BootInfo, Event, Recording, order::Order, query::address::Address},
    trace::{FLAG_CANCELLED, FLAG_ERROR, Grain, Hello, Kind, METHODS, Record, Stage, record::Head},
};

use super::{
    BYTES_MAX, State,
    lanes::lanes,
    lens,
    player::Heard,
    scenes::{self, GET, IDS, PUT, Scene},
    steps::{Direction, Lens, Steps},
    story::{Known, Moment, Subject, Unknown},
    watermarks::{Water, Watermarks},
    words,
};
use crate::{
    play::{Input, handle},
    random::Random,
    source::{Message, Said},
};

fn story_of(scene: &Scene, subject: Subject) -> Steps {
    Steps::open(&scene.recording, subject)
}

fn names(steps: &Steps, grain: Grain) -> Vec<(usize, &'static str)> {
    let shown = steps.steps.iter().filter(|step| step.grain <= grain);
    shown.map(|step| (step.lane, step.event.stage.name())).collect()
}

/// Sends keys to the real loop's function; a number stands for its digits.
pub(crate) fn press(state: &mut State, keys: &str) {
    for key in keys.split_whitespace() {
        let code = code_of(key);
        assert!(handle(state, Input::Key(KeyEvent::from(code))), "{key} left the player");
    }
}

/// The key with this name.
pub(crate) fn code_of(key: &str) -> KeyCode {
    match key {
        "enter" => KeyCode::Enter,
        "esc" => KeyCode::Esc,
        "left" => KeyCode::Left,
        "right" => KeyCode::Right,
        "up" => KeyCode::Up,
        "down" => KeyCode::Down,
        "space" => KeyCode::Char(' '),
        character => KeyCode::Char(character.chars().next().unwrap()),
    }
}

/// Goal: the list shows only the stories that are found, until Esc; what means nothing is said, and
/// can be corrected.
#[test]
fn the_list_is_narrowed_to_what_was_found() {
    let mut state = State::of_recording(scenes::put().recording);
    let all = state.list.rows.len();
    let key = state.list.rows.iter().find_map(|row| row.key.clone()).unwrap().display();
    let type_in = |state: &mut State, text: &str| {
        for character in text.chars() {
            let code = KeyEvent::from(KeyCode::Char(character));
            assert!(handle(state, Input::Key(code)), "{character} left the player");
        }
    };
    press(&mut state, "/");
    type_in(&mut state, &format!("{key} m:nobody"));
    press(&mut state, "enter");
    let mistake = state.find.mistake.clone().unwrap();
    assert!(mistake.starts_with("no member \"nobody\" has sent records"), "{mistake}");
    assert_eq!(all, state.list.rows.len());
    for _ in "m:nobody".chars() {
        handle(&mut state, Input::Key(KeyEvent::from(KeyCode::Backspace)));
    }
    press(&mut state, "enter");
    assert!(state.find.typed.is_none() && state.find.is_narrow());
    assert!(!state.list.rows.is_empty());
    assert!(state.list.rows.iter().all(|row| row.key.as_ref().unwrap().display() == key));
    press(&mut state, "/");
    type_in(&mut state, "?q");
    press(&mut state, "enter");
    assert!(state.list.rows.is_empty(), "{key}?q is another key");
    press(&mut state, "esc");
    assert_eq!((all, false), (state.list.rows.len(), state.find.is_narrow()));
    press(&mut state, "/ esc");
    assert_eq!(all, state.list.rows.len());
}

#[test]
fn a_put_on_a_follower_has_its_stages_on_every_member() {
    let steps = story_of(&scenes::put(), Subject::Request(PUT));
    let seen = names(&steps, Grain::Stage);
    let on_all = [
        "raft.entry",
        "wal.write",
        "wal.fsync",
        "raft.commit",
        "apply.entry",
        "mvcc.write",
        "tree_index.put",
        "buffer.put",
        "buffer.freeze",
        "backend.commit",
    ];
    for name in on_all {
        for lane in 0..3 {
            assert!(seen.contains(&(lane, name)), "{name} on lane {lane}");
        }
    }
    for name in ["rpc", "rpc.validate", "quota.check", "admit", "raft.propose", "raft.inbox"] {
        assert!(seen.contains(&(1, name)), "{name}");
    }
}

#[test]
fn a_story_is_short_enough_to_be_read() {
    for (scene, subject) in [
        (scenes::put(), Subject::Request(PUT)),
        (scenes::get(), Subject::Request(GET)),
        (scenes::election(), Subject::Cluster(Address::Election { term: 4, by: None })),
    ] {
        let told = names(&story_of(&scene, subject), Grain::Story).len();
        assert!((10..=45).contains(&told), "{told} steps in {subject:?}");
    }
}

#[test]
fn every_order_keeps_members_clocks_and_sends_before_receives() {
    for seed in 1..=50 {
        println!("seed {seed}");
        let mut random = Random::new(seed);
        let mut recording = scenes::put().recording;
        for member in &mut recording.members {
            // Wall clocks that differ by up to ten milliseconds must not change which orders are
            // possible.
            member.boots[0].wall_ns += random.index(10_000_000) as u64;
        }
        for at in (1..recording.events.len()).rev() {
            recording.events.swap(at, random.index(at + 1));
        }
        let order = Order::of(&recording).rows;
        assert_eq!(order.len(), recording.events.len());
        check_order(&recording, &order);
    }
}

fn check_order(recording: &Recording, order: &[usize]) {
    let mut clocks: HashMap<u8, u64> = HashMap::new();
    let mut sent: Vec<u64> = Vec::new();
    for event in order.iter().map(|at| &recording.events[*at]) {
        let clock = if event.kind == Kind::Begin { event.clock } else { event.clock_end };
        let last = clocks.insert(event.member, clock).unwrap_or(0);
        assert!(last <= clock, "member {} went back from {last} to {clock}", event.member);
        match event.stage {
            Stage::RaftSend => sent.push(event.link),
            Stage::RaftReceive => assert!(sent.contains(&event.link), "received before sent"),
            _ => {}
        }
    }
}

#[test]
fn steps_forward_and_as_many_back_lead_home() {
    let scenes = [
        (scenes::put(), Subject::Request(PUT)),
        (scenes::get(), Subject::Request(GET)),
        (scenes::election(), Subject::Cluster(Address::Election { term: 4, by: None })),
        (scenes::gap(), Subject::Request(PUT)),
    ];
    for seed in 1..=200 {
        println!("seed {seed}");
        let mut random = Random::new(seed);
        let (scene, subject) = &scenes[random.index(scenes.len())];
        let mut steps = story_of(scene, *subject);
        let grain = [Grain::Story, Grain::Stage, Grain::Raw][random.index(3)];
        let total = names(&steps, grain).len();
        for _ in 0..random.index(total) {
            steps.step(grain, Direction::Forward);
        }
        let (home, left) = (steps.now, total - steps.position().0);
        let marks = |steps: &Steps| -> Vec<Option<Watermarks>> {
            let lanes = super::lanes::lanes(&scene.recording);
            lanes.iter().map(|lane| steps.watermarks(lane)).collect()
        };
        let before = marks(&steps);
        let count = random.index(left + 1);
        for _ in 0..count {
            steps.step(grain, Direction::Forward);
        }
        assert!(count == 0 || home < steps.now, "{count} steps moved nothing");
        for _ in 0..count {
            steps.step(grain, Direction::Back);
        }
        assert_eq!((steps.now, marks(&steps)), (home, before));
    }
}

#[test]
fn the_first_old_value_holds_before_the_first_record() {
    let mut scene = scenes::put();
    scene.recording.events.retain(|e| !matches!(e.kind, Kind::Keyframe));
    let steps = story_of(&scene, Subject::Request(PUT));
    let lanes = super::lanes::lanes(&scene.recording);
    let marks = steps.watermarks(&lanes[0]).unwrap();
    assert_eq!(marks.get(Water::Commit), Some(41));
    assert_eq!(marks.get(Water::Applied), Some(41));
    assert_eq!(marks.get(Water::Role), None, "nothing tells the role");
}

#[test]
fn a_new_boot_drops_the_watermarks_of_the_old_one() {
    let mut marks = Watermarks::default();
    let event = |boot, stage, fields| Event { boot, fields, ..Event::mark(0, stage, 5) };
    marks.learn(&event(1, Stage::RaftCommit, [3, 41, 42, 0, 0, 0, 0, 0]), 0);
    assert_eq!(marks.get(Water::Commit), Some(42));
    marks.learn(&event(2, Stage::BufferPut, [0, 1, 0, 0, 0, 0, 0, 0]), 0);
    assert_eq!(marks.get(Water::Commit), None);
}

#[test]
fn the_write_survives_a_power_cut_from_the_second_fsync_on() {
    let scene = scenes::put();
    let lanes = super::lanes::lanes(&scene.recording);
    let mut steps = story_of(&scene, Subject::Request(PUT));
    steps.lens = Lens::Durable;
    let mut synced = 0;
    for now in 0..steps.steps.len() {
        steps.now = now;
        let step = &steps.steps[now];
        let is_sync = step.event.stage == Stage::WalFsync && step.moment == Moment::Done;
        synced += usize::from(is_sync);
        let verdict = lens::lines(&scene.recording, &steps, (&lanes, &[]))[0].concat();
        let survives = verdict.contains("SURVIVES");
        assert_eq!(survives, 2 <= synced, "{verdict} after {synced} fsyncs");
    }
    assert_eq!(synced, 3);
}

#[test]
fn a_member_without_records_counts_neither_way() {
    let scene = scenes::gap();
    let lanes = super::lanes::lanes(&scene.recording);
    assert_eq!(lanes.len(), 3, "the leader is known from the messages of the others");
    let mut steps = story_of(&scene, Subject::Request(PUT));
    steps.lens = Lens::Durable;
    let before_any_sync = lens::lines(&scene.recording, &steps, (&lanes, &[]))[0].concat();
    assert!(before_any_sync.contains("MAY BE LOST"), "{before_any_sync}");
    let one = steps
        .steps
        .iter()
        .position(|s| s.event.stage == Stage::WalFsync && s.moment == Moment::Done);
    steps.now = one.unwrap();
    let after_one = lens::lines(&scene.recording, &steps, (&lanes, &[]))[0].concat();
    assert!(after_one.contains("UNKNOWN"), "{after_one}");
}

#[test]
fn a_receive_without_its_send_gets_a_row_that_says_so() {
    let steps = story_of(&scenes::gap(), Subject::Request(PUT));
    let missing: Vec<usize> =
        (0..steps.steps.len()).filter(|at| !steps.steps[*at].is_captured).collect();
    assert_eq!(missing.len(), 4, "two appends and two commits of the leader");
    for at in missing {
        assert_eq!(steps.steps[at].event.stage, Stage::RaftSend);
        assert_eq!(steps.steps[at + 1].event.stage, Stage::RaftReceive);
    }
}

#[test]
fn missing_steps_and_members_without_records_are_named_as_unknown() {
    let mut scene = scenes::gap();
    let is_sync = |e: &Event| e.stage == Stage::WalFsync && e.kind == Kind::Span && e.member == 1;
    scene.recording.events.retain(|event| !is_sync(event));
    let steps = story_of(&scene, Subject::Request(PUT));
    let expected = [
        Unknown {
            lane: 1,
            place: Some(1),
            stages: vec![Stage::WalFsync],
            known: Known::Uncaptured,
        },
        Unknown { lane: 2, place: None, stages: Vec::new(), known: Known::Uncaptured },
    ];
    assert_eq!(steps.unknown, expected);
    assert_eq!(story_of(&scenes::put(), Subject::Request(PUT)).unknown, []);
}

#[test]
fn an_entry_that_another_has_replaced_is_lost_and_survives_nothing() {
    let mut scene = scenes::put();
    let is_late = |e: &Event| {
        e.id == PUT && matches!(e.stage, Stage::ApplyEntry | Stage::MvccWrite)
            || matches!(e.stage, Stage::RaftCommit | Stage::BackendCommit | Stage::BufferFreeze)
    };
    scene.recording.events.retain(|event| !is_late(event));
    scene.at(140_000);
    for member in 0..3 {
        scene.mark(member, Stage::RaftEntry, 0, &[4, 42, 0]);
    }
    let lanes = super::lanes::lanes(&scene.recording);
    let mut steps = story_of(&scene, Subject::Request(PUT));
    assert!(steps.is_lost);
    assert_eq!(steps.unknown, []);
    // The others replace it when the story is over, so it is not lost yet at its last step.
    steps.jump(Direction::Forward);
    steps.lens = Lens::Durable;
    let lines = lens::lines(&scene.recording, &steps, (&lanes, &[])).concat().concat();
    assert!(lines.contains("later a new leader's entry replaced it"), "{lines}");
    steps.lens = Lens::WhoKnows;
    let lines = lens::lines(&scene.recording, &steps, (&lanes, &[])).concat().concat();
    assert!(!lines.contains("✔ knows"), "{lines}");
}

#[test]
fn records_lost_during_a_story_are_part_of_it() {
    let mut scene = scenes::put();
    let lost = scene.recording.events.iter().find(|e| e.id == PUT && e.member == 2).unwrap();
    let clock = lost.clock;
    scene.at(140_000).mark(2, Stage::Lost, 0, &[clock - 1, clock + 5, 12]);
    scene.mark(1, Stage::Lost, 0, &[1, 2, 99]);
    let steps = story_of(&scene, Subject::Request(PUT));
    let lost: Vec<&super::story::Step> =
        steps.steps.iter().filter(|s| s.is_own && s.event.stage == Stage::Lost).collect();
    assert_eq!(lost.len(), 1, "what was lost before the story is none of its business");
    assert_eq!((lost[0].lane, lost[0].grain), (2, Grain::Story));
}

/// What the lens says was missing before the last step of a put, of which the scene makes more.
fn missing_before_the_last(change: impl FnOnce(&mut Scene)) -> Option<String> {
    let mut scene = scenes::put();
    scene.at(200_000);
    change(&mut scene);
    scene.recording.events.last_mut().unwrap().id = PUT;
    let lanes = super::lanes::lanes(&scene.recording);
    let mut steps = story_of(&scene, Subject::Request(PUT));
    steps.grain = Grain::Raw;
    steps.jump(Direction::Forward);
    let pieces = lens::lines(&scene.recording, &steps, (&lanes, &[])).concat();
    pieces.into_iter().find(|piece| piece.ends_with(" before this"))
}

#[test]
fn an_old_value_that_was_never_new_proves_a_gap_and_a_mark_of_lost_records_a_loss() {
    let jump = [3, 45, 46, IDS[0]];
    let thinned = missing_before_the_last(|scene| {
        scene.mark(0, Stage::RaftCommit, 0, &jump);
    });
    assert_eq!(Some("commit 42 → 45 was not kept before this"), thinned.as_deref());
    let lost = missing_before_the_last(|scene| {
        let clock = scene.recording.events.iter().map(|event| event.clock_end).max().unwrap();
        scene.mark(0, Stage::Lost, 0, &[1, clock, 7]);
        scene.mark(0, Stage::RaftCommit, 0, &jump);
    });
    assert_eq!(Some("commit 42 → 45 was lost unread before this"), lost.as_deref());
}

#[test]
fn what_a_new_leader_counts_anew_is_no_gap() {
    let counted = |is_new: bool| {
        missing_before_the_last(|scene| {
            if is_new {
                scene.mark(0, Stage::RaftRole, 0, &[0, 2, 3, 4, 0, IDS[0], 0, IDS[0]]);
            }
            scene.mark(0, Stage::RaftProgress, 0, &[IDS[1], 0, 43]);
        })
    };
    assert_eq!(None, counted(true));
    assert_eq!(Some("match 42 → 0 was not kept before this"), counted(false).as_deref());
}

/// Goal: how a step ends is not said where it begins. Method: a put whose client went away.
#[test]
fn the_beginning_of_a_cancelled_step_is_not_cancelled() {
    let mut scene = scenes::put();
    let is_end = |event: &&mut Event| event.id == PUT && event.kind == Kind::Span;
    for event in scene.recording.events.iter_mut().filter(is_end) {
        if matches!(event.stage, Stage::Rpc | Stage::RaftPropose) {
            (event.flags, event.result) = (event.flags | FLAG_CANCELLED | FLAG_ERROR, 1);
        }
    }
    // The beginning of the rpc is not captured: the player makes it from the end.
    let is_begin = |event: &Event| (event.stage, event.kind) == (Stage::Rpc, Kind::Begin);
    scene.recording.events.retain(|event| !is_begin(event));
    let lanes = lanes(&scene.recording);
    let steps = story_of(&scene, Subject::Request(PUT)).steps;
    let said = |moment: Moment| {
        let is_meant = |step: &&super::story::Step| {
            (step.event.stage, step.moment, step.is_own) == (Stage::Rpc, moment, true)
        };
        let step = steps.iter().find(is_meant).unwrap();
        (words::step(step, &lanes).join(" "), step.event.flags & FLAG_CANCELLED != 0)
    };
    assert_eq!(("rpc KV/Put foo".to_owned(), false), said(Moment::Begin));
    assert_eq!(("rpc fails Canceled 14.4 ms".to_owned(), true), said(Moment::Done));
}

/// Goal: nobody is said to have asked for what a member has sent itself.
#[test]
fn a_request_of_the_member_itself_has_no_client() {
    let publish = METHODS.iter().position(|name| *name == "internal/Publish").unwrap() as u64;
    let mut scene = scenes::put();
    for event in scene.recording.events.iter_mut().filter(|event| event.stage == Stage::Rpc) {
        event.fields[0] = publish;
    }
    let lanes = lanes(&scene.recording);
    let client = |scene: &Scene| {
        let mut steps = story_of(scene, Subject::Request(PUT));
        steps.jump(Direction::Forward);
        steps.lens = Lens::WhoKnows;
        lens::lines(&scene.recording, &steps, (&lanes, &[]))[1].concat()
    };
    assert_eq!("no client asked for this", client(&scene));
    assert_eq!("client ✔ received ok", client(&scenes::put()));
}

/// Goal: an index proves nothing of an entry, if another one has it. Method: etcd-03 has an entry
/// of an earlier term at the put's index on its disk, which the put's replaces later.
#[test]
fn another_entry_at_the_same_index_does_not_count_as_this_one() {
    let mut scene = Scene::three_members();
    scene.at(1_000).mark(2, Stage::RaftEntry, 0, &[2, 42, 0]);
    scene.short(2, Stage::WalFsync, 0, 10, &[42, 42, 41, 42, 64, 2, 0]);
    scene.recording.events.extend(later(scenes::put().recording.events));
    let lanes = lanes(&scene.recording);
    let mut steps = story_of(&scene, Subject::Request(PUT));
    steps.lens = Lens::Durable;
    let states = lens::lines(&scene.recording, &steps, (&lanes, &[]))[1].clone();
    assert_eq!(
        ["entry 42:", "etcd-01 ✘ not yet", "etcd-02 ✘ not yet", "etcd-03 ✘ not yet"],
        *states
    );
    steps.jump(Direction::Forward);
    let states = lens::lines(&scene.recording, &steps, (&lanes, &[]))[1].clone();
    assert!(states[1..].iter().all(|state| state.contains('✔')), "{states:?}");
}

#[test]
fn members_that_stop_talking_become_silent_and_come_back() {
    let scene = scenes::quiet();
    let mut state = live(&scene.recording, usize::MAX);
    assert!(state.heads().iter().all(|head| head.heard == Heard::Fresh));
    handle(&mut state, Input::Tick(Duration::from_millis(1_200)));
    assert_eq!(state.heads()[0].heard, Heard::Silent(1_200_000_000));
    tell(&mut state, 0, &[]);
    assert_eq!(state.heads()[0].heard, Heard::Fresh);
    assert_eq!(state.heads()[1].heard, Heard::Silent(1_200_000_000));
}

#[test]
fn messages_of_a_busy_member_are_no_sign_of_life_of_another() {
    let scene = scenes::put();
    let mut state = live(&scene.recording, usize::MAX);
    handle(&mut state, Input::Tick(Duration::from_millis(900)));
    let later = scenes::put_again(1).recording.events;
    let of_others: Vec<Event> = later.into_iter().filter(|event| event.member != 1).collect();
    tell_all(&mut state, &of_others, 3);
    let heard: Vec<Heard> = state.heads().into_iter().map(|head| head.heard).collect();
    assert_eq!(heard, [Heard::Fresh, Heard::Silent(900_000_000), Heard::Fresh]);
    // A broken connection is no sign of life; the hello after it is one.
    let gone = || Message { endpoint: 1, said: Said::Down("gone".to_owned()) };
    handle(&mut state, Input::Source(gone()));
    assert_eq!(state.heads()[1].heard, Heard::Down(900_000_000));
    handle(&mut state, Input::Source(hellos(&scene.recording, 1).remove(0)));
    assert_eq!(state.heads()[1].heard, Heard::Fresh);
}

/// A recording after transfer over the network.
pub(crate) fn as_told(recording: &Recording) -> Recording {
    let told = |event: &Event| Event {
        key: event.key.clone(),
        ..Event::of(&event.record(), event.member).unwrap()
    };
    Recording { events: recording.events.iter().map(told).collect(), ..recording.clone() }
}

/// The hellos of a member, one per start.
pub(crate) fn hellos(recording: &Recording, member: usize) -> Vec<Message> {
    let info = &recording.members[member];
    let hello = |boot: &BootInfo| {
        let said = Said::Hello(Box::new(Hello {
            member_id: info.member_id,
            cluster_id: info.cluster_id,
            name: info.name.clone(),
            version: info.version.clone(),
            boot: boot.boot,
            wall_ns: boot.wall_ns,
            tick_base: 0,
            members: Vec::new(),
        }));
        Message { endpoint: member, said }
    };
    info.boots.iter().map(hello).collect()
}

/// Sends events as one batch of their member.
pub(crate) fn tell(state: &mut State, endpoint: usize, events: &[Event]) {
    let mut records = Vec::new();
    for event in events {
        let key = event.key.as_ref().map(|key| {
            let mut record = Record::key(event.clock + 1, event.id, event.thread, &key.bytes);
            record.set_head(Head { boot: event.boot, ..record.head() });
            record
        });
        // The record of a key comes after the beginning of its step, and before the end.
        let event = event.record();
        let both = match event.kind() {
            Some(Kind::Begin) => [Some(event), key],
            _ => [key, Some(event)],
        };
        both.into_iter().flatten().for_each(|record| record.encode(&mut records));
    }
    let said = Said::Batch(Batch { records: records.into(), ..Batch::default() });
    handle(state, Input::Source(Message { endpoint, said }));
}

/// Sends events in this order, in batches of at most `piece` events of one member each.
pub(crate) fn tell_all(state: &mut State, events: &[Event], piece: usize) {
    for of_member in events.chunk_by(|a, b| a.member == b.member) {
        for events in of_member.chunks(piece) {
            tell(state, usize::from(events[0].member), events);
        }
    }
}

/// The list of requests after the hellos of live members.
pub(crate) fn greeted(recording: &Recording, bytes_max: usize) -> State {
    let endpoints = (0..recording.members.len()).map(|place| format!("127.0.0.1:2{place}79"));
    let mut state = State::of_endpoints(&endpoints.collect::<Vec<_>>(), bytes_max);
    press(&mut state, "R");
    for member in 0..recording.members.len() {
        for hello in hellos(recording, member) {
            handle(&mut state, Input::Source(hello));
        }
    }
    state
}

/// The state after live members have sent a whole recording.
pub(crate) fn live(recording: &Recording, piece: usize) -> State {
    let mut state = greeted(recording, BYTES_MAX);
    tell_all(&mut state, &recording.events, piece);
    state.refresh();
    state
}

/// Goal: an idle cluster sends a thousand records a second, and none of them is a request's.
#[test]
fn routine_is_looked_at_less_often_than_what_happens() {
    const MS: u64 = 1_000_000;
    let scene = scenes::quiet();
    let mut state = live(&scene.recording, usize::MAX);
    let refreshed = |state: &mut State, ms| {
        handle(state, Input::Tick(Duration::from_millis(ms)));
        state.refreshed_ns / MS
    };
    assert_eq!(0, refreshed(&mut state, 500), "nothing has come");
    let mut later = scenes::quiet();
    later.at(600_000).keyframes(41, 7, 41, 20_000);
    later.heartbeat(1, 41);
    tell_all(&mut state, &later.recording.events[scene.recording.events.len()..], 9);
    assert_eq!([0, 1000], [999, 1000].map(|ms| refreshed(&mut state, ms)));
    tell_all(&mut state, &scenes::put().recording.events, 9);
    assert_eq!([1000, 1250], [1249, 1250].map(|ms| refreshed(&mut state, ms)));
}

#[test]
fn the_cursor_stays_on_its_event_while_records_stream_in() {
    let all = as_told(&scenes::put().recording);
    let first = Recording { events: all.events[..60].to_vec(), ..all.clone() };
    let mut state = live(&first, 7);
    press(&mut state, "enter right right right right");
    let held = state.steps.as_ref().map(|s| s.steps[s.now].event.clone()).unwrap();
    tell_all(&mut state, &all.events[60..], 1);
    handle(&mut state, Input::Tick(Duration::from_secs(1)));
    let steps = state.steps.as_ref().unwrap();
    assert_eq!(steps.steps[steps.now].event, held);
    assert_eq!(steps.steps, Steps::open(&all, Subject::Request(PUT)).steps);
}

#[test]
fn a_story_stays_as_it_was_when_its_records_are_forgotten() {
    let scene = scenes::put();
    let mut steps = story_of(&scene, Subject::Request(PUT));
    steps.step(Grain::Story, Direction::Forward);
    let before = (steps.now, steps.steps.clone());
    let forgotten = Recording { events: Vec::new(), ..scene.recording };
    assert!(!steps.refresh(&forgotten, &Order::of(&forgotten)));
    assert_eq!((steps.now, steps.steps), before);
}

#[test]
fn only_changes_are_drawn_again() {
    let mut state = State::of_recording(scenes::put().recording);
    let version = state.version();
    handle(&mut state, Input::Tick(Duration::from_secs(1)));
    assert_eq!(state.version(), version, "time alone changes nothing of a recording");
    press(&mut state, "enter");
    assert_ne!(state.version(), version);
    let version = state.version();
    handle(&mut state, Input::Resized);
    assert_ne!(state.version(), version);
}

#[test]
fn keys_walk_through_a_story() {
    let mut state = State::of_recording(scenes::put().recording);
    press(&mut state, "enter");
    let at = |state: &State| state.steps.as_ref().map(|s| (s.position().0, s.grain)).unwrap();
    assert_eq!(at(&state), (1, Grain::Story));
    press(&mut state, "right l l left");
    assert_eq!(at(&state), (3, Grain::Story));
    press(&mut state, ": 1 2 enter");
    assert_eq!(at(&state).0, 12);
    press(&mut state, ": 9 esc");
    assert_eq!(at(&state).0, 12, "escape forgets the number");
    press(&mut state, "g ] ]");
    assert_eq!(at(&state), (3, Grain::Stage));
    press(&mut state, ". ,");
    assert_eq!(at(&state).1, Grain::Raw);
    press(&mut state, "2 g right right");
    let steps = state.steps.as_ref().unwrap();
    assert_eq!((steps.focus, steps.steps[steps.now].lane), (Some(1), 1));
    press(&mut state, "0 x x u ? esc down");
    let steps = state.steps.as_ref().unwrap();
    assert!(steps.now < steps.look, "looking does not move time");
    assert_eq!((steps.focus, steps.lens), (None, Lens::WhoKnows));
    press(&mut state, "enter esc esc");
    assert!(state.steps.is_none(), "escape leads back to the list");
    press(&mut state, "esc");
    assert!(!handle(&mut state, Input::Key(KeyEvent::from(KeyCode::Char('q')))));
}

#[test]
fn playing_steps_by_itself_and_stops_at_the_end() {
    let mut state = State::of_recording(scenes::get().recording);
    press(&mut state, "enter space");
    let mut last = 0;
    for tick in 1..200 {
        handle(&mut state, Input::Tick(Duration::from_millis(tick * 400)));
        let steps = state.steps.as_ref().unwrap();
        let at = steps.position().0;
        assert!(at == last || at == last + 1 || last == 0, "from {last} to {at}");
        last = at;
    }
    let steps = state.steps.as_ref().unwrap();
    assert_eq!(steps.position().0, steps.position().1);
    assert!(!steps.is_playing);
}

#[test]
fn the_list_follows_the_newest_until_the_user_moves_up() {
    let mut state = live(&scenes::put().recording, 50);
    assert_eq!(state.list.subject(), Some(Subject::Request(PUT)));
    press(&mut state, "f");
    tell_all(&mut state, &later(scenes::get().recording.events), 50);
    handle(&mut state, Input::Tick(Duration::from_secs(1)));
    assert_eq!(state.list.rows.len(), 2);
    assert_eq!(state.list.subject(), Some(Subject::Request(PUT)));
    press(&mut state, "g G");
    assert!(state.list.is_following);
}

/// The same events at later clocks, so that no other event of a scene has the same clock.
pub(crate) fn later(mut events: Vec<Event>) -> Vec<Event> {
    for event in &mut events {
        (event.clock, event.clock_end) = (event.clock + 1_000, event.clock_end + 1_000);
    }
    events
}

#[test]
fn requests_shown_are_set_against_requests_seen() {
    let state = State::of_recording(scenes::put().recording);
    assert_eq!(state.thinning(), (1, Some(113)));
}

#[test]
fn a_waiting_lock_names_the_key_ahead_and_then_the_deletion_that_woke_it() {
    const LOCK: u64 = PUT + 2;
    let method = METHODS.iter().position(|name| *name == "Lock/Lock").unwrap() as u64;
    let mut scene = Scene::three_members();
    let rpc = scene.at(100).begin(1, Stage::Rpc, LOCK, &[method]);
    scene.at(200).mark(1, Stage::LockEnter, LOCK, &[15, 10, 1]);
    let wait = scene.at(210).begin(1, Stage::LockWait, LOCK, &[15, 12, 2]);
    let waiting = |scene: &Scene| {
        let steps = story_of(scene, Subject::Request(LOCK)).steps;
        let own = steps.iter().filter(|step| step.is_own && step.grain == Grain::Story);
        own.map(|step| words::step(step, &lanes(&scene.recording)).join(" ")).collect::<Vec<_>>()
    };
    let begun = ["rpc Lock/Lock", "lock.enter own 15 behind 10", "lock.wait for 12, 2 ahead"];
    assert_eq!(waiting(&scene), begun);
    scene.at(5_000_210).close(1, &wait, Stage::LockWait, LOCK, &[15, 12, 2, 17, 9]);
    scene.at(5_000_300).mark(1, Stage::LockAcquired, LOCK, &[15, 17, 1]);
    scene.at(5_000_400).close(1, &rpc, Stage::Rpc, LOCK, &[method, 0, 0, 17]);
    let woken = [
        "lock.wait done 12 deleted at 17 5.0 s",
        "lock.acquired own 15",
        "rpc answers rev 17 5.0 s",
    ];
    assert_eq!(waiting(&scene), [begun.as_slice(), &woken].concat());
}
