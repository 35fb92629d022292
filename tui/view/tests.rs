//! Whole screens as text.

use std::time::Duration;

use glass_etcd::{
    field, set,
    story::{Event, Recording},
    trace::{Grain, Kind, Stage},
};
use ratatui::{Terminal, backend::TestBackend};

use super::{Look, draw, plain, theme::Palette};
use crate::{
    play::{Input, handle},
    random::Random,
    source::{Message, Said},
    state::{
        BYTES_MAX, Screen, State,
        scenes::{self, Scene},
        tests::{as_told, later, live, press, tell_all},
    },
};

mod console;
mod felt;
mod fuzz;
mod lesson;
mod manners;
mod members;
mod newcomer;
mod panes;
mod picture;
mod plain_views;
mod quiz;
mod reads;
mod screens;
mod sentences;
mod shelf;

mod walk;

const SIZES: [(u16, u16); 3] = [(80, 24), (100, 30), (140, 40)];
pub(super) const UNICODE: Look =
    Look { palette: Palette::Sixteen, is_ascii: false, has_mouse: false, shelf: shelf::EXAMPLE };
pub(super) const ASCII: Look = Look { palette: Palette::None, is_ascii: true, ..UNICODE };

fn screen(state: &State, (width, height): (u16, u16), look: Look) -> TestBackend {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| _ = draw(frame, state, look)).unwrap();
    terminal.backend().clone()
}

fn opened(scene: Scene, keys: &str) -> State {
    let mut state = State::of_recording(scene.recording);
    press(&mut state, keys);
    state
}

/// The same state at every size, with and without characters beyond ASCII.
fn check_all(name: &str, state: &State) {
    for size in SIZES {
        for (look, word) in [(UNICODE, "unicode"), (ASCII, "ascii")] {
            let name = format!("{name}_{}x{}_{word}", size.0, size.1);
            insta::assert_snapshot!(name, screen(state, size, look));
        }
    }
}

fn check(name: &str, state: &State) {
    insta::assert_snapshot!(name, screen(state, SIZES[0], UNICODE));
}

#[test]
fn an_empty_list_says_what_to_do() {
    check("empty_live", &State::of_endpoints(&[], BYTES_MAX));
}

#[test]
fn the_list_at_every_size() {
    let mut scene = scenes::put();
    scene.recording.events = later(scene.recording.events);
    let end = scene.recording.events.len();
    scene.recording.events.extend(scenes::election().recording.events.drain(6..));
    assert!(end < scene.recording.events.len());
    check_all("list", &live(&scene.recording, 5));
}

/// Wide lists have ids, whole names and the kind of each read; sorting, freezing and marks are
/// drawn.
#[test]
fn the_list_in_a_wide_window() {
    let mut scene = scenes::put();
    scene.recording.events = later(scene.recording.events);
    scene.recording.events.extend(scenes::get().recording.events);
    let mut state = State::of_recording(scene.recording);
    press(&mut state, "s space z");
    insta::assert_snapshot!("list_wide", screen(&state, (160, 24), UNICODE));
}

/// Goal: words after the slash leave out rows by rpc, duration and kind.
#[test]
fn a_search_by_kind_and_duration_leaves_rows_out() {
    let mut scene = scenes::put();
    scene.recording.events = later(scene.recording.events);
    scene.recording.events.extend(scenes::get().recording.events);
    let mut state = State::of_recording(scene.recording);
    let all = state.list.rows.len();
    for (words, left) in
        [("/ i s : l i n enter", 1), ("/ r : p u t enter", 1), ("/ > 5 s enter", 0)]
    {
        press(&mut state, words);
        assert_eq!(left, state.list.rows.len(), "{words}");
        press(&mut state, "esc");
        assert_eq!(all, state.list.rows.len());
    }
}

#[test]
fn a_silent_member_is_shown_as_silent_beside_busy_ones() {
    let mut state = live(&scenes::put().recording, 30);
    assert!(handle(&mut state, Input::Tick(Duration::from_millis(1_500))));
    let mut later = scenes::put_again(1).recording.events;
    later.retain(|event| event.member != 1);
    tell_all(&mut state, &later, 30);
    let screen = screen(&state, SIZES[0], UNICODE).to_string();
    let heads: Vec<&str> = screen.lines().skip(1).take(3).collect();
    let ends = ["rev 9 ", "SILENT for 1.5 s", "rev 9 "];
    for ((head, name), end) in heads.iter().zip(["etcd-01", "etcd-02", "etcd-03"]).zip(ends) {
        assert!(head.contains(name) && head.contains(end), "{head}");
        assert_eq!(name == "etcd-02", head.contains("SILENT"), "{head}");
    }
}

/// Goal: a killed leader is not shown as a leader, in the list and above its lane.
#[test]
fn a_leader_whose_endpoint_does_not_answer_was_a_leader_and_is_down() {
    let mut state = live(&scenes::put().recording, 30);
    handle(&mut state, Input::Tick(Duration::from_millis(3_100)));
    let gone = Said::Down("connection refused".to_owned());
    handle(&mut state, Input::Source(Message { endpoint: 0, said: gone }));
    let screen = screen(&state, SIZES[0], UNICODE).to_string();
    let head = screen.lines().find(|line| line.contains("etcd-01")).unwrap();
    assert!(head.contains("was leader") && head.contains("DOWN for 3.1 s"), "{head}");
    assert!(!screen.contains("LEADER"), "{screen}");
}

#[test]
fn a_put_at_its_beginning() {
    check("put_first", &opened(scenes::put(), "enter"));
}

#[test]
fn a_put_when_it_is_committed_at_every_size() {
    check_all("put_commit", &opened(scenes::put(), "enter : 1 8 enter"));
}

/// Wider windows show times and bars, and then the requests and the panels beside the lanes.
#[test]
fn a_put_in_wide_windows() {
    let state = opened(scenes::put(), "enter : 1 8 enter x");
    for size in [(120, 36), (160, 48), (200, 60)] {
        let name = format!("put_wide_{}x{}", size.0, size.1);
        insta::assert_snapshot!(name, screen(&state, size, UNICODE));
    }
    insta::assert_snapshot!("put_wide_ascii", screen(&state, (160, 48), ASCII));
}

/// The source of a step and its section of the book, and what moves in them.
#[test]
fn the_source_and_the_book_follow_the_step() {
    let mut state = opened(scenes::put(), "enter : 1 5 enter S");
    check("source", &state);
    press(&mut state, "down down");
    let scrolled = screen(&state, SIZES[0], UNICODE);
    assert_ne!(scrolled, screen(&opened(scenes::put(), "enter : 1 5 enter S"), SIZES[0], UNICODE));
    press(&mut state, "right left");
    assert_eq!(screen(&state, SIZES[0], UNICODE), {
        screen(&opened(scenes::put(), "enter : 1 5 enter S"), SIZES[0], UNICODE)
    });
    press(&mut state, "b");
    check("book", &state);
    press(&mut state, "esc");
    assert_eq!(Screen::Steps, state.place());
}

/// Goal: one key makes the critical path bright and the rest dim.
#[test]
fn the_critical_path_alone_is_bright() {
    let mut state = opened(scenes::put(), "enter");
    let bright = |state: &State| {
        let steps = state.steps.as_ref().unwrap();
        let shown = steps.steps.iter().filter(|step| step.grain == Grain::Story);
        let bright = shown.filter(|step| !steps.stands_back(step));
        bright.map(|step| (step.event.stage, step.event.member)).collect::<Vec<_>>()
    };
    let all = bright(&state).len();
    press(&mut state, "p");
    let path = bright(&state);
    assert!(path.len() < all && path.contains(&(Stage::RaftCommit, 0)), "{path:?}");
    let synced = path.iter().filter(|(stage, _)| *stage == Stage::WalFsync).count();
    assert_eq!(1, synced, "one disk completed the quorum: {path:?}");
    press(&mut state, "p");
    assert_eq!(all, bright(&state).len());
}

#[test]
fn restricted_to_a_lane_the_cursor_is_in_it_and_the_others_stand_back() {
    let mut state = opened(scenes::put(), "enter : 1 8 enter");
    press(&mut state, "3");
    let steps = state.steps.as_ref().unwrap();
    assert_eq!((2, steps.now), (steps.steps[steps.now].lane, steps.look));
    assert!(steps.steps.iter().all(|step| (step.lane == 2) != steps.stands_back(step)));
}

#[test]
fn a_put_at_its_end_with_the_cost() {
    check("put_last", &opened(scenes::put(), "enter G x x x x"));
}

#[test]
fn a_put_with_everything_that_was_recorded() {
    check("put_raw", &opened(scenes::put(), "enter : 5 enter . . . . u"));
}

#[test]
fn steps_that_only_happened_meanwhile_are_marked() {
    check("put_meanwhile", &opened(scenes::put(), "enter : 2 5 enter . . ."));
}

#[test]
fn a_put_while_only_one_disk_has_it() {
    check("put_durable", &opened(scenes::put(), "enter : 1 1 enter x"));
}

#[test]
fn a_put_that_the_leader_alone_knows_to_be_committed() {
    check("put_who_knows", &opened(scenes::put(), "enter : 1 7 enter x x"));
}

#[test]
fn one_step_with_all_that_is_known_of_it() {
    check("why", &opened(scenes::put(), "enter : 1 1 enter enter"));
}

#[test]
fn a_linearizable_get() {
    let state = opened(scenes::get(), "enter : 9 enter");
    check("get", &state);
    insta::assert_snapshot!("get_100x30_ascii", screen(&state, SIZES[1], ASCII));
}

#[test]
fn an_election() {
    let state = opened(scenes::election(), "enter : 1 5 enter");
    check("election", &state);
    insta::assert_snapshot!("election_140x40_unicode", screen(&state, SIZES[2], UNICODE));
}

#[test]
fn a_leader_without_records() {
    let state = opened(scenes::gap(), "enter : 5 enter");
    check("gap", &state);
    insta::assert_snapshot!("gap_140x40_unicode", screen(&state, SIZES[2], UNICODE));
}

#[test]
fn unknown_steps_are_below_the_last_row() {
    let mut scene = scenes::gap();
    let lost = [Stage::WalWrite, Stage::BackendCommit];
    scene.recording.events.retain(|event| !lost.contains(&event.stage));
    let state = opened(scene, "enter G");
    let screen = screen(&state, SIZES[2], UNICODE).to_string();
    let lines = |text: &str| screen.lines().filter(|line| line.contains(text)).count();
    assert_eq!(2, lines(" unknown: no record of wal.write"), "{screen}");
    assert_eq!(2, lines(" not yet: backend.commit"), "the keyframes say so: {screen}");
    assert!(screen.contains(" unknown: it sent no records"), "{screen}");
}

#[test]
fn the_keys_that_are_valid_in_a_story() {
    check("help", &opened(scenes::put(), "enter ?"));
}

#[test]
fn a_window_that_is_too_narrow_for_three_lanes_shows_the_one_that_matters() {
    let state = opened(scenes::put(), "enter");
    insta::assert_snapshot!("put_narrow", screen(&state, (60, 20), UNICODE));
    insta::assert_snapshot!("put_tiny", screen(&state, (30, 8), UNICODE));
}

#[test]
fn styles_separate_past_and_future() {
    let state = opened(scenes::put(), "enter : 1 1 enter");
    let backend = screen(&state, SIZES[0], UNICODE);
    insta::assert_debug_snapshot!("put_styles", backend.buffer());
}

/// Goal: a theme changes colours and nothing else, and a saved picture is the same with each.
#[test]
fn a_theme_changes_colours_only() {
    let state = opened(scenes::put(), "enter : 1 1 enter");
    let own = screen(&state, SIZES[0], UNICODE);
    for palette in [Palette::Dark, Palette::Light] {
        let themed = screen(&state, SIZES[0], Look { palette, ..UNICODE });
        assert_eq!(own.to_string(), themed.to_string());
        assert_ne!(own.buffer(), themed.buffer());
        assert_eq!(crate::svg::svg(own.buffer()), crate::svg::svg(themed.buffer()));
    }
}

#[test]
fn a_story_as_text() {
    let mut text = Vec::new();
    plain::write(&State::of_recording(scenes::put().recording), UNICODE, &mut text).unwrap();
    insta::assert_snapshot!("plain_put", String::from_utf8(text).unwrap());
    let mut text = Vec::new();
    plain::write(&State::of_recording(scenes::gap().recording), ASCII, &mut text).unwrap();
    assert!(text.is_ascii());
    insta::assert_snapshot!("plain_gap_ascii", String::from_utf8(text).unwrap());
}

#[test]
fn live_members_and_their_recording_draw_the_same_screens() {
    let scenes = [scenes::put(), scenes::get(), scenes::election(), scenes::gap()];
    for scene in scenes {
        for piece in [1, 3, 1_000] {
            let mut live = live(&scene.recording, piece);
            let mut file = State::of_recording(as_told(&scene.recording));
            for keys in ["enter", "right right", "x", "] ] ]", ". .", "G", "?", "esc"] {
                press(&mut live, keys);
                press(&mut file, keys);
                let (live, file) = (screen(&live, SIZES[0], ASCII), screen(&file, SIZES[0], ASCII));
                assert_eq!(live, file, "after {keys}, in pieces of {piece}");
            }
        }
    }
}

/// Goal: the live player is no other than that of the file, for elections and deaths too. Method:
/// recordings of real clusters, told as live members would, and the last story of each.
#[test]
fn real_clusters_draw_the_same_steps_live_and_from_their_recording() {
    for (name, recording) in walk::recordings() {
        let recording = as_told(&recording);
        let mut live = live(&recording, 64);
        let mut file = State::of_recording(recording);
        for keys in ["enter", "right", "x", "] ]", "G", "x"] {
            press(&mut live, keys);
            press(&mut file, keys);
            // At their ends a recording is over, and live members may send more.
            if live.said().is_some() {
                continue;
            }
            let (live, file) = (screen(&live, SIZES[1], ASCII), screen(&file, SIZES[1], ASCII));
            assert_eq!(live, file, "{name}, after {keys}");
        }
    }
}

#[test]
fn no_window_is_too_small_to_draw() {
    let mut states = vec![State::of_endpoints(&[], BYTES_MAX)];
    states.extend(["enter", "enter enter", "enter ?", "enter :"].map(|k| opened(scenes::put(), k)));
    states.push(opened(scenes::gap(), "enter . . ."));
    for state in &states {
        for width in 1..=120 {
            for height in [1, 2, 5, 11, 12, 13, 15, 20, 24, 50] {
                screen(state, (width, height), ASCII);
            }
        }
    }
}

#[test]
fn a_message_that_names_its_own_sender_is_drawn_without_a_line() {
    let mut scene = scenes::put();
    let Recording { members, events, .. } = &mut scene.recording;
    for event in events.iter_mut().filter(|event| event.stage == Stage::RaftSend) {
        set!(event, RaftSend, peer = members[usize::from(event.member)].member_id);
    }
    let mut state = opened(scene, "enter G");
    for _ in 0..60 {
        press(&mut state, "left");
        SIZES.into_iter().for_each(|size| drop(screen(&state, size, UNICODE)));
    }
}

/// Recordings come from files and from foreign members: the player must accept any content.
#[test]
fn no_recording_is_too_strange_to_draw() {
    for seed in 1..=100 {
        println!("seed {seed}");
        let mut random = Random::new(seed);
        let mut scene =
            vec![scenes::put(), scenes::get(), scenes::election()].remove(random.index(3));
        for event in &mut scene.recording.events {
            spoil(event, &mut random);
        }
        scene.recording.members.truncate(random.index(4));
        let mut state = State::of_recording(scene.recording);
        let keys =
            ["enter", "right", "x", ".", "]", "u", "G", "g", "down", "2", "0", "esc", "down"];
        for _ in 0..30 {
            press(&mut state, keys[random.index(keys.len())]);
            screen(&state, SIZES[random.index(3)], ASCII);
        }
        plain::write(&state, UNICODE, &mut Vec::new()).unwrap();
    }
}

fn spoil(event: &mut Event, random: &mut Random) {
    const STRANGE: [u64; 6] = [0, 1, 42, 1 << 40, u64::MAX - 1, u64::MAX];
    let strange = STRANGE[random.index(STRANGE.len())];
    match random.index(40) {
        0..5 => event.fields[random.index(8)] = strange,
        5 => event.stage = Stage::ALL[random.index(Stage::ALL.len())],
        6 => event.clock = strange,
        7 => event.clock_end = strange,
        8 => event.at_ns = strange,
        9 => event.took_ns = strange,
        10 => event.id = strange,
        11 => event.link = strange,
        12 => event.member = random.byte(),
        13 => event.boot = random.index(3) as u16,
        14 => event.result = random.byte(),
        15 => event.thread = random.byte(),
        16 => event.flags = random.byte(),
        17 => event.kind = [Kind::Begin, Kind::Span, Kind::Key, Kind::Keyframe][random.index(4)],
        _ => {}
    }
}

/// Goal: beside how long a step took stands how long it usually takes, if its member knows.
#[test]
fn the_why_panel_compares_a_step_with_what_is_usual() {
    let mut scene = scenes::put();
    let is_timed = |event: &&Event| event.kind == Kind::Span && event.took_ns != 0;
    let timed: Vec<Event> = scene.recording.events.iter().filter(is_timed).cloned().collect();
    for (step, clock) in timed.iter().zip(1_000_000..) {
        let mut usual = Event::mark(step.member, Stage::Usual, clock);
        (usual.kind, usual.at_ns) = (Kind::Keyframe, step.at_ns);
        let method = if step.stage == Stage::Rpc { field!(step, Rpc, method) } else { 0 };
        let (stage, samples) = (step.stage as u64, 100_u64);
        let (p50, p99) = (1_000_000_u64, 2_000_000_u64);
        set!(usual, Usual, stage = stage, method = method, p50 = p50, p99 = p99, samples = samples);
        scene.recording.events.push(usual);
    }
    let last = |scene: Scene| screen(&opened(scene, "enter G"), SIZES[0], UNICODE).to_string();
    let [with, without] = [last(scene), last(scenes::put())];
    assert!(with.contains(", usual 1.0 ms, p99 2.0 ms"), "{with}");
    assert!(!without.contains("usual"), "{without}");
}

/// A member that was stopped at once leaves such a recording.
#[test]
fn a_recording_with_members_and_no_events_is_drawn() {
    let recording = std::fs::read_to_string("tests/recordings/busy.ndjson").unwrap();
    let header = recording.lines().next().unwrap();
    let state = State::of_file(header.as_bytes(), BYTES_MAX).unwrap();
    assert!(state.heads().iter().all(|head| head.heard == crate::state::player::Heard::Never));
    let drawn = screen(&state, SIZES[0], ASCII).to_string();
    assert!(drawn.contains("m0"), "{drawn}");
}
