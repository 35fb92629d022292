//! Recordings that exceed the memory bound: stories are kept whole, and the open story is kept.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use glass_etcd::{story::query, trace::METHODS};

use super::*;
use crate::{
    play::{Input, handle},
    random::Random,
    state::{
        State,
        scenes::{self, PUT},
        tests::{as_told, greeted, hellos, press, tell, tell_all},
    },
};

/// Room for about twenty puts.
const ROOM: usize = 400_000;
const LOCK: u64 = PUT + (1 << 20);

/// One put per turn.
fn puts(turns: std::ops::Range<u64>) -> Recording {
    let mut all = scenes::quiet().recording;
    all.events = turns.flat_map(|turn| scenes::put_again(turn).recording.events).collect();
    as_told(&all)
}

/// The events in a possible order of arrival: each member's order is kept, and one member may be
/// ahead of another by up to two puts.
fn shuffled(recording: &Recording, random: &mut Random) -> Vec<Event> {
    let own = |member: u8| -> VecDeque<Event> {
        recording.events.iter().filter(|event| event.member == member).cloned().collect()
    };
    let mut rest = [0, 1, 2].map(own);
    let mut told = Vec::new();
    let turn = |event: &Event| event.clock / scenes::CLOCKS_PER_TURN;
    while let Some(slowest) = rest.iter().filter_map(|own| own.front()).map(turn).min() {
        let own = &mut rest[random.index(3)];
        for _ in 0..=random.index(40) {
            let is_near = |event: &mut Event| turn(event) <= slowest + 2;
            told.extend(own.pop_front_if(is_near));
        }
    }
    told
}

type Name = (u8, u16, u64, u64, Kind, Stage);

fn name(event: &Event) -> Name {
    (event.member, event.boot, event.clock, event.clock_end, event.kind, event.stage)
}

/// Each request's own steps, identified by what makes an event unique.
fn stories(recording: &Recording) -> BTreeMap<u64, BTreeSet<Name>> {
    let order = Order::of(recording);
    let stories = Stories::new(recording, &order);
    let names = |id: u64| {
        let steps = stories.of(id).unwrap().steps.into_iter();
        steps.map(|step| name(&recording.events[step.event])).collect()
    };
    query::requests(recording).into_iter().map(|known| (known.id, names(known.id))).collect()
}

fn bytes(state: &State) -> usize {
    state.recording().events.iter().map(bytes_of).sum()
}

/// Checks that each listed request has all the steps that it has in `told`, the whole recording,
/// and that no event of the others is left. Returns the list.
fn check(state: &mut State, told: &Recording) -> Vec<u64> {
    assert!(bytes(state) <= ROOM, "{} bytes", bytes(state));
    state.refresh();
    let (whole, left) = (stories(told), stories(state.recording()));
    let rows = state.list.rows.iter().map(|row| row.subject);
    let listed: Vec<u64> = rows.map(subject_id).collect();
    assert_eq!(left.keys().copied().collect::<BTreeSet<_>>(), listed.iter().copied().collect());
    for (id, steps) in whole {
        match left.get(&id) {
            Some(left) => assert_eq!(steps, *left, "{id:016x}"),
            None => {
                let parts = state.recording().events.iter().filter(|event| event.id == id);
                assert_eq!(0, parts.count(), "{id:016x}");
            }
        }
    }
    listed
}

fn subject_id(subject: Subject) -> u64 {
    match subject {
        Subject::Request(id) => id,
        Subject::Cluster(address) => panic!("{address:?}"),
    }
}

fn request(turn: u64) -> u64 {
    PUT + 2 * turn
}

#[test]
fn the_oldest_stories_go_first_and_each_as_a_whole() {
    for seed in 1..=3 {
        println!("seed {seed}");
        let mut random = Random::new(seed);
        let all = puts(1..101);
        let mut state = greeted(&all, ROOM);
        let mut told = Recording { events: Vec::new(), ..all.clone() };
        for events in shuffled(&all, &mut random).chunks(2_000) {
            tell_all(&mut state, events, 1 + random.index(40));
            told.events.extend_from_slice(events);
            check(&mut state, &told);
        }
        let listed = check(&mut state, &told);
        let newest: Vec<u64> = (101 - listed.len() as u64..101).map(request).collect();
        assert_eq!(newest, listed);
        assert!((8..30).contains(&listed.len()), "{}", listed.len());
        let forgotten = all.events.len() - state.recording().events.len();
        assert_eq!(forgotten as u64, state.forgotten());
    }
}

#[test]
fn a_file_has_the_same_bound() {
    let all = puts(1..101);
    let mut file = Vec::new();
    glass_etcd::story::recording::write(&mut file, &all).unwrap();
    let mut state = State::of_file(file.as_slice(), ROOM).unwrap();
    let listed = check(&mut state, &all);
    assert_eq!((Some(&request(100)), true), (listed.last(), 8 <= listed.len()));
    assert_eq!(state.thinning().1, Some(113 + 99), "what was finished meanwhile is still known");
}

#[test]
fn the_open_story_stays_with_its_rows_its_cursor_and_its_panels() {
    let first = puts(1..4);
    let mut state = greeted(&first, ROOM);
    tell_all(&mut state, &first.events, 30);
    state.refresh();
    press(&mut state, "f g down enter right right right . . .");
    let shown = |state: &State| {
        let steps = state.steps.as_ref().unwrap();
        let heads: Vec<_> = state.heads().into_iter().map(|head| head.marks).collect();
        (steps.subject, steps.now, steps.steps.clone(), heads)
    };
    let before = shown(&state);
    assert_eq!(Subject::Request(request(2)), before.0);
    let flood = puts(4..101);
    tell_all(&mut state, &flood.events, 30);
    let told = Recording { events: [first.events, flood.events].concat(), ..first };
    let listed = check(&mut state, &told);
    assert_eq!(before, shown(&state));
    assert_eq!(Some(&request(2)), listed.first());
    assert!(!listed.contains(&request(4)) && listed.contains(&request(100)));
    // It is dropped with the others once the cursor is elsewhere.
    press(&mut state, "esc G");
    let more = puts(101..140);
    tell_all(&mut state, &more.events, 30);
    let told = Recording { events: [told.events, more.events].concat(), ..told };
    assert!(!check(&mut state, &told).contains(&request(2)));
}

#[test]
fn the_chosen_row_of_the_list_stays_while_it_is_chosen() {
    let first = puts(1..4);
    let mut state = greeted(&first, ROOM);
    tell_all(&mut state, &first.events, 30);
    state.refresh();
    press(&mut state, "f g down");
    let flood = puts(4..101);
    tell_all(&mut state, &flood.events, 30);
    let told = Recording { events: [first.events, flood.events].concat(), ..first };
    let listed = check(&mut state, &told);
    assert_eq!(Some(Subject::Request(request(2))), state.list.subject());
    assert_eq!([request(2), request(100)], [listed[0], listed[listed.len() - 1]]);
    assert!(!listed.contains(&request(5)));
    press(&mut state, "G");
    let more = puts(101..140);
    tell_all(&mut state, &more.events, 30);
    let told = Recording { events: [told.events, more.events].concat(), ..told };
    assert!(!check(&mut state, &told).contains(&request(2)));
    assert_eq!(Some(Subject::Request(request(139))), state.list.subject());
}

#[test]
fn a_request_under_way_stays_until_it_ends() {
    let mut scene = scenes::quiet();
    let method = METHODS.iter().position(|name| *name == "Lock/Lock").unwrap() as u64;
    let rpc = scene.at(100_000).begin(1, Stage::Rpc, LOCK, &[method]);
    scene.at(100_100).mark(1, Stage::LockEnter, LOCK, &[15, 10, 1]);
    let begun = as_told(&scene.recording);
    let mut state = greeted(&begun, ROOM);
    tell_all(&mut state, &begun.events, 30);
    let flood = puts(1..101);
    tell_all(&mut state, &flood.events, 30);
    let mut told = Recording { events: [begun.events.clone(), flood.events].concat(), ..begun };
    assert_eq!(Some(&LOCK), check(&mut state, &told).first());
    let before = scene.recording.events.len();
    scene.at(200_000_000).close(1, &rpc, Stage::Rpc, LOCK, &[method, 0, 0, 17]);
    let end = later_than_all(as_told(&scene.recording).events.split_off(before));
    tell(&mut state, 1, &end);
    told.events.extend(end);
    assert!(check(&mut state, &told).contains(&LOCK));
    let more = puts(101..140);
    tell_all(&mut state, &more.events, 30);
    told.events.extend(more.events);
    assert!(!check(&mut state, &told).contains(&LOCK));
}

/// Goal: the heartbeats of hours take the room of older heartbeats, and not that of requests; the
/// newest are there all the same. Method: a few puts, and then heartbeats for ten times the room.
#[test]
fn heartbeats_do_not_push_out_requests() {
    let first = puts(1..6);
    let mut state = greeted(&first, ROOM);
    tell_all(&mut state, &first.events, 30);
    let listed = check(&mut state, &first);
    let mut told = first.clone();
    let heartbeat = first.events.iter().find(|event| event.stage == Stage::Keyframe).unwrap();
    let last = first.events.iter().map(|event| (event.clock_end, event.at_ns)).max().unwrap();
    let beats = 10 * ROOM / bytes_of(heartbeat);
    for beat in 1..=beats as u64 {
        let (clock, at_ns) = (last.0 + 2 * beat, last.1 + 10_000_000 * beat);
        let kind = glass_etcd::trace::Kind::Mark;
        let beat = Event { kind, ..Event::mark(heartbeat.member, Stage::RaftSend, clock) };
        told.events.push(Event { at_ns, boot: heartbeat.boot, ..beat });
    }
    let flood = told.events[first.events.len()..].to_vec();
    tell_all(&mut state, &flood, 100);
    assert_eq!(listed, check(&mut state, &told));
    let left = state.recording().events.iter().filter(|event| event.stage == Stage::RaftSend);
    let left: BTreeSet<u64> = left.map(|event| event.clock).collect();
    assert!(left.len() < flood.len() / 4 && left.contains(&flood[flood.len() - 1].clock));
}

/// The same events, with an end that is later than all puts.
fn later_than_all(mut events: Vec<Event>) -> Vec<Event> {
    events.iter_mut().for_each(|event| event.clock_end += 120_000);
    events
}

#[test]
fn requests_that_never_end_do_not_take_all_the_room() {
    let quiet = scenes::quiet();
    let mut state = greeted(&quiet.recording, ROOM);
    let mut told = Recording { events: Vec::new(), ..quiet.recording };
    for turn in 1..=200 {
        let mut put = puts(turn..turn + 1);
        put.events.retain(|event| event.stage != Stage::Rpc || event.kind == Kind::Begin);
        tell_all(&mut state, &put.events, 30);
        told.events.extend(put.events);
    }
    let ended = puts(201..221);
    tell_all(&mut state, &ended.events, 30);
    told.events.extend(ended.events);
    let listed = check(&mut state, &told);
    let ended = listed.iter().filter(|id| (201..221).any(|turn| request(turn) == **id));
    assert!(5 <= ended.count(), "{listed:?}");
}

#[test]
fn a_story_larger_than_its_share_goes_and_leaves_the_others() {
    let all = puts(1..20);
    let mut state = greeted(&all, ROOM);
    let mut events = all.events.clone();
    let huge = puts(20..21).events;
    let at = huge.iter().position(|event| event.stage == Stage::TreeIndexPut).unwrap();
    let mut clock = huge[at].clock + 100_000;
    for event in &huge {
        events.push(event.clone());
        let copies = if event.stage == Stage::TreeIndexPut { 700 } else { 0 };
        events.extend((0..copies).map(|_| {
            clock += 2;
            Event { clock, clock_end: clock + 1, ..event.clone() }
        }));
    }
    tell_all(&mut state, &events, 50);
    let mut told = Recording { events, ..all };
    let more = puts(300..302);
    tell_all(&mut state, &more.events, 50);
    told.events.extend(more.events);
    let listed = check(&mut state, &told);
    assert!(!listed.contains(&request(20)), "{listed:?}");
    assert!([18, 19, 301].iter().all(|turn| listed.contains(&request(*turn))), "{listed:?}");
}

#[test]
fn forgotten_records_that_a_member_repeats_stay_forgotten() {
    let all = puts(1..101);
    let mut state = greeted(&all, ROOM);
    tell_all(&mut state, &all.events, 30);
    let listed = check(&mut state, &all);
    let events = state.recording().events.clone();
    hellos(&all, 1).into_iter().for_each(|hello| _ = handle(&mut state, Input::Source(hello)));
    let again: Vec<Event> = all.events.iter().filter(|event| event.member == 1).cloned().collect();
    tell_all(&mut state, &again, 4_096);
    assert_eq!(listed, check(&mut state, &all));
    assert_eq!(events, state.recording().events);
}
