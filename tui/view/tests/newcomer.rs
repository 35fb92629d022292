//! What new users stumbled over: words of the present on screens of the past, keys that were not
//! offered, and screens that moved.

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent};
use glass_etcd::{
    story::{KeyText, order::Order},
    trace::{Kind, Stage},
};

use super::{UNICODE, opened, panes::recorded, screen, walk::recordings};
use crate::{
    keys,
    play::{Input, handle},
    state::{
        Screen, State,
        scenes::{self, PUT, Scene},
        steps::Steps,
        story::{Subject, Telling},
        tests::{live, press, tell_all},
        watermarks::Water,
    },
};

const SMALL: (u16, u16) = (80, 24);
const WIDE: (u16, u16) = (200, 60);

fn drawn(state: &State) -> String {
    screen(state, SMALL, UNICODE).to_string()
}

fn title(state: &State, size: (u16, u16)) -> String {
    screen(state, size, UNICODE).to_string().lines().next().unwrap().to_owned()
}

/// The words of the bottom line that stand there where there is room.
fn offered(state: &State) -> Vec<&'static str> {
    keys::line(state).into_iter().map(|row| row.brief).collect()
}

/// Goal: the banner of a past moment names no leader that a later term has left behind.
#[test]
fn a_past_moment_names_no_leader_of_an_earlier_term() {
    let mut state = opened(scenes::election(), "enter C");
    let (mut named, mut nobody) = (0, 0);
    for _ in 0..40 {
        let banner = title(&state, SMALL);
        let terms = state.heads().into_iter().filter_map(|head| head.marks.get(Water::Term));
        if banner.contains("LEADER etcd-01") || banner.contains("etcd-01 leads") {
            assert_eq!(terms.max(), Some(3), "{banner}");
            named += 1;
        }
        nobody += usize::from(banner.contains("NO LEADER"));
        press(&mut state, "right");
    }
    assert!(0 < named && 0 < nobody, "{named} {nobody}");
}

#[test]
fn a_leader_without_records_is_named_by_those_that_follow_it() {
    let banner = title(&opened(scenes::gap(), "enter C"), (160, 48));
    assert!(banner.contains("264ae6bc59e99892 leads term 3, others say"), "{banner}");
}

#[test]
fn felt_time_is_neither_paused_nor_played_at_a_speed() {
    let mut state = opened(scenes::put(), "enter F");
    handle(&mut state, Input::Tick(Duration::from_millis(10)));
    let felt = title(&state, SMALL);
    assert!(felt.contains("▶ felt 1 ms = 1 s") && !felt.contains("paused"), "{felt}");
    press(&mut state, "F");
    assert!(title(&state, SMALL).contains("paused x1"));
}

#[test]
fn the_mode_that_asks_stands_in_the_title() {
    let mut state = opened(scenes::put(), "enter P");
    assert!(title(&state, SMALL).contains("PREDICT"), "{}", title(&state, SMALL));
    press(&mut state, "P");
    assert!(!title(&state, SMALL).contains("PREDICT"));
}

/// Goal: what is still to come is not said to be missing; at the end what may never come is not
/// either.
#[test]
fn no_record_is_missed_before_its_step_can_have_happened() {
    let mut scene = scenes::put();
    scene.recording.events.retain(|event| event.stage != Stage::Rpc || event.kind == Kind::Begin);
    let mut state = opened(scene, "enter");
    assert!(!drawn(&state).contains("unknown"), "{}", drawn(&state));
    press(&mut state, "G");
    assert!(drawn(&state).contains("? etcd-02 unknown, perhaps not yet: rpc"), "{}", drawn(&state));
}

/// Goal: once the file of a member has the write, its commit has happened, captured or not.
#[test]
fn a_step_that_a_member_is_past_was_not_captured() {
    let mut scene = scenes::put();
    scene.recording.events.retain(|event| event.stage != Stage::BackendCommit);
    scene.at(200_000).keyframes(42, 8, 42, 20_114);
    let state = opened(scene, "enter G");
    let said = drawn(&state);
    assert_eq!(said.matches(" unknown: no record of backend.commit").count(), 3, "{said}");
}

/// Goal: the entry that opens a term is not judged before it exists.
#[test]
fn an_election_has_nothing_to_lose_before_its_entry() {
    let mut state = opened(scenes::election(), "enter x");
    let before = "term 4 has no entry yet";
    let mut seen = Vec::new();
    for _ in 0..40 {
        let has_entry = state
            .steps
            .as_ref()
            .unwrap()
            .happened()
            .iter()
            .any(|step| step.is_captured && step.event.stage == Stage::RaftEntry);
        let said = drawn(&state);
        assert_eq!(!has_entry, said.contains(before), "{said}");
        assert!(has_entry || !said.contains("LOST"), "{said}");
        seen.push(has_entry);
        press(&mut state, "right");
    }
    assert!(seen.contains(&true) && seen.contains(&false));
}

/// Goal: the key that shows another moment says which one it leads to.
#[test]
fn f_says_where_it_leads() {
    for view in ["C", "L", "T"] {
        let mut state = opened(scenes::put(), &format!("enter {view}"));
        assert!(drawn(&state).contains("f now"), "{view}: {}", drawn(&state));
        press(&mut state, "f");
        assert!(drawn(&state).contains("f the step"), "{view}: {}", drawn(&state));
        press(&mut state, "f");
        assert!(drawn(&state).contains("f now"), "{view}");
    }
    let mut now = opened(scenes::put(), "L f");
    assert_eq!(now.said(), Some("no story is open: this is now"));
    press(&mut now, "esc");
}

/// Goal: the line for requests is named at the bottom of a small window, on every screen.
#[test]
fn the_line_for_requests_is_offered_at_eighty_columns() {
    let mut state = live(&scenes::put().recording, 1_000);
    state.console.connect(7);
    for keys in ["C", "R", "enter", "enter"] {
        press(&mut state, keys);
        let said = drawn(&state);
        assert!(said.lines().last().unwrap().contains(" i send "), "{keys}: {said}");
    }
    assert!(!offered(&opened(scenes::put(), "enter")).contains(&"send"), "a recording takes none");
}

/// Goal: `/` leads from row to row in each view, and says so when there is none.
#[test]
fn a_search_in_a_view_goes_to_the_next_row_with_the_words() {
    let mut state = recorded("puts_and_gets", "T g /");
    assert_eq!(state.place(), Screen::Seek);
    assert!(drawn(&state).contains("find a row / "), "{}", drawn(&state));
    let key = |state: &State| {
        let sight = state.sight();
        let keys = state.panes.keys.at(&sight, None);
        keys.lines[keys.chosen].key().text.display()
    };
    press(&mut state, "F O O enter");
    assert_eq!(key(&state), "foo");
    press(&mut state, "/ b a r enter");
    assert_eq!(key(&state), "bar5");
    press(&mut state, "/ esc / z z enter");
    assert_eq!((state.said(), key(&state).as_str()), (Some("no row has \"zz\""), "bar5"));
    press(&mut state, "L g / b a r enter");
    let sight = state.sight();
    let log = state.panes.log.at(&sight, None);
    assert!(log.told(log.chosen().unwrap()).text.contains("bar5"));
    let mut waits = recorded("lease", "W / l o c k enter O / x enter");
    assert_eq!(waits.said(), Some("no row has \"x\""));
    press(&mut waits, "/ esc esc");
    assert_eq!(waits.place(), Screen::List);
}

/// Goal: `/`, `n` and `N` lead from step to step of a story.
#[test]
fn a_search_in_a_story_goes_to_the_next_step_with_the_words() {
    let mut state = opened(scenes::put(), "enter /");
    assert_eq!(state.place(), Screen::Seek);
    let said = drawn(&state);
    assert!(said.contains("find a row / ") && said.contains("KV/Put"), "{said}");
    let step = |state: &State| {
        let steps = state.steps.as_ref().unwrap();
        let step = &steps.steps[steps.now];
        format!("{} {}", step.event.stage.name(), state.lanes[step.lane].name)
    };
    press(&mut state, "w a l . f s y n c enter");
    let first = step(&state);
    press(&mut state, "n");
    let second = step(&state);
    let are_found = [&first, &second].iter().all(|step| step.starts_with("wal.fsync"));
    assert!(are_found && first != second, "{first}, {second}");
    press(&mut state, "N");
    assert_eq!(first, step(&state));
    press(&mut state, "/ m : e t c d - 0 3 space i s : d i s k enter");
    assert_eq!(step(&state), "wal.fsync etcd-03");
    press(&mut state, "/ r : p u t enter");
    assert!(drawn(&state).contains("no row here has r:"), "{}", drawn(&state));
    press(&mut state, "esc");
    assert_eq!((state.place(), step(&state).as_str()), (Screen::Steps, "wal.fsync etcd-03"));
    press(&mut state, "/ z z enter");
    assert!(drawn(&state).contains("no row has \"zz\""), "{}", drawn(&state));
}

/// Goal: what is hidden by a question is not found either.
#[test]
fn a_search_finds_no_step_that_is_hidden() {
    let mut state = opened(scenes::put(), "enter P g / w a l . f s y n c enter");
    assert!(drawn(&state).contains("no row has"), "{}", drawn(&state));
    press(&mut state, "P n");
    assert!(drawn(&state).contains("wal.fsync"), "{}", drawn(&state));
}

/// Goal: Tab leads through all views at the cursor, and Shift-Tab back.
#[test]
fn tab_leads_through_all_views_and_back() {
    let mut state = opened(scenes::put(), "enter : 9 enter");
    let places = |state: &mut State, code| {
        let mut places = Vec::new();
        for _ in 0..6 {
            handle(state, Input::Key(KeyEvent::from(code)));
            places.push(state.place());
        }
        places
    };
    use crate::state::pane::View;
    let panes = [View::Log, View::Keys, View::Waits, View::Lines].map(Screen::Pane);
    let [log, keys, waits, lines] = panes;
    let forward = [Screen::Moment, log, keys, waits, lines, Screen::Steps];
    assert_eq!(forward[..], places(&mut state, KeyCode::Tab));
    let back = [lines, waits, keys, log, Screen::Moment, Screen::Steps];
    assert_eq!(back[..], places(&mut state, KeyCode::BackTab));
}

/// Goal: a key is found by what it does, and Enter does it.
#[test]
fn the_one_key_that_is_left_in_their_list_is_done_by_enter() {
    let mut state = opened(scenes::put(), "enter ? e enter");
    assert!(state.is_helping);
    press(&mut state, "esc ? l a s t space s t e p enter");
    let (at, of) = state.steps.as_ref().unwrap().position();
    assert_eq!((false, of), (state.is_helping, at), "{}", drawn(&state));
    press(&mut state, "g ? l a n e space o n l y enter");
    assert!(state.is_helping, "a digit is missing");
}

/// Goal: at eighty columns no title loses words: what has no room in the first line of a story
/// stands on the rule below the heads, and a banner has fewer words. Method: the first and the last
/// step of every story of every recording.
#[test]
fn no_title_is_cut_at_eighty_columns() {
    for (name, recording) in recordings() {
        let order = Order::of(&recording);
        let telling = Telling::of(&recording, &order);
        let mut state = State::of_recording(recording.clone());
        for row in state.list.rows.clone() {
            for key in ["g", "G"] {
                state.steps = Some(Steps::of(&telling, row.subject));
                press(&mut state, key);
                let story = screen(&state, SMALL, UNICODE).to_string();
                press(&mut state, "C");
                let banner = title(&state, SMALL);
                press(&mut state, "esc");
                // The title, and from the rule on the first three lines.
                let lines = story.lines().take(1).chain(story.lines().skip(3).take(3));
                for line in lines.clone().take(2).chain([&*banner]) {
                    assert!(!line.contains('…'), "{name}: {line}");
                }
                let all: Vec<&str> = lines.flat_map(str::split_whitespace).collect();
                let subject = crate::view::steps::subject(&state, state.steps.as_ref().unwrap());
                let lacks = |word: &&str| !all.iter().any(|shown| shown.contains(*word));
                let lacks: Vec<&str> = subject.split_whitespace().filter(lacks).collect();
                assert!(lacks.is_empty(), "{name}: {lacks:?} in {all:?}");
            }
        }
    }
}

/// Goal: numbers of a story do not move while later messages say better how the clocks differ.
#[test]
fn a_paused_screen_stands_still_while_records_arrive() {
    let mut state = live(&scenes::put().recording, 1_000);
    press(&mut state, "enter : 9 enter");
    for keys in ["", "C"] {
        press(&mut state, keys);
        let before = screen(&state, (120, 36), UNICODE);
        let mut later = scenes::put_again(if keys.is_empty() { 1 } else { 2 }).recording.events;
        // Messages to etcd-02 now seem slower, and those from it faster.
        later.iter_mut().filter(|event| event.member == 1).for_each(|event| event.at_ns += 80_000);
        tell_all(&mut state, &later, 1_000);
        state.refresh();
        assert_eq!(before, screen(&state, (120, 36), UNICODE), "{keys}");
    }
}

/// The put, with long names: of a member, and of the key.
fn long_names() -> (Scene, String, &'static str) {
    let (key, name) = ("config/".repeat(9), "etcd-in-the-cellar-of-building-7");
    let mut scene = scenes::put();
    scene.recording.members[1].name = name.to_owned();
    let text = KeyText { bytes: key.as_bytes().to_vec(), length: key.len() as u64 };
    let named = scene.recording.events.iter_mut().filter(|event| event.key.is_some());
    named.for_each(|event| event.key = Some(text.clone()));
    (scene, key, name)
}

#[test]
fn names_are_whole_where_there_is_room() {
    let (scene, key, name) = long_names();
    let mut state = opened(scene, "");
    let list = screen(&state, WIDE, UNICODE).to_string();
    assert!(list.lines().filter(|line| line.contains(name)).count() == 2, "{list}");
    press(&mut state, "enter");
    assert!(title(&state, WIDE).contains(&format!("{key} on {name}")), "{}", title(&state, WIDE));
    press(&mut state, "G T");
    let keys = screen(&state, WIDE, UNICODE).to_string();
    assert!(keys.lines().any(|line| line.contains(&key)), "{keys}");
}

/// Goal: a story is short enough to be followed: a put on a follower has forty steps at most.
#[test]
fn a_put_that_met_no_trouble_has_forty_steps_at_most() {
    let mut puts = 0;
    for (name, recording) in recordings() {
        let state = State::of_recording(recording);
        for row in state.list.rows.iter().filter(|row| row.method == "KV/Put").take(20) {
            let story = Steps::open(state.recording(), row.subject);
            if story.through.is_empty() {
                puts += 1;
                assert!(story.position().1 <= 40, "{name}: {} steps", story.position().1);
            }
        }
    }
    assert!(4 < puts);
    let story = Steps::open(&scenes::put().recording, Subject::Request(PUT));
    assert_eq!(story.position().1, 38);
}

/// Goal: no request is said to be given up at its first step, as older recordings have it.
#[test]
fn the_beginning_of_a_request_does_not_say_how_it_would_end() {
    let mut state = recorded("leader_killed", "R g enter enter");
    let begins = state.recording().events.iter().any(|event| {
        event.kind == Kind::Begin && event.flags & glass_etcd::trace::FLAG_CANCELLED != 0
    });
    assert!(begins, "the recording is of that kind");
    assert_eq!(state.place(), Screen::Why);
    for _ in 0..5 {
        let page = drawn(&state);
        assert!(!page.contains("gave up"), "{page}");
        press(&mut state, "right");
    }
}

#[test]
fn a_key_with_alt_is_not_the_key() {
    let mut state = opened(scenes::put(), "");
    let alt_q = crossterm::event::KeyEvent::new(
        crossterm::event::KeyCode::Char('q'),
        crossterm::event::KeyModifiers::ALT,
    );
    handle(&mut state, Input::Key(alt_q));
    assert!(drawn(&state).contains("Alt-q does nothing here"), "{}", drawn(&state));
}
