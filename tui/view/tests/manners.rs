//! The player as a new user meets it: keys that do nothing, the way back, small windows, the
//! greeting.

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent};

use super::{ASCII, SIZES, UNICODE, opened, screen};
use crate::{
    play::{Input, handle},
    source::{Message, Said},
    state::{
        BYTES_MAX, State,
        player::Action,
        room::Hands,
        scenes,
        steps::Lens,
        tests::{live, press},
    },
    up::api::{self, Process, Reply},
};

/// The state on every screen that keys lead to.
fn on(place: usize) -> Option<State> {
    let keys = ["", "enter", "enter enter", "enter ?", "enter :", "enter . .", "enter 2", "C", "/"];
    keys.get(place).map(|keys| opened(scenes::put(), keys))
}

fn every_key() -> impl Iterator<Item = KeyCode> {
    let codes = [
        KeyCode::Enter,
        KeyCode::Esc,
        KeyCode::Left,
        KeyCode::Right,
        KeyCode::Up,
        KeyCode::Down,
        KeyCode::Home,
        KeyCode::End,
        KeyCode::PageUp,
        KeyCode::PageDown,
        KeyCode::Tab,
        KeyCode::Backspace,
        KeyCode::Delete,
        KeyCode::F(1),
    ];
    codes.into_iter().chain((' '..='~').map(KeyCode::Char))
}

/// Goal: after every key on every screen the screen is another one, at the least by a line that
/// says why nothing has happened.
#[test]
fn no_key_is_silent() {
    let mut silent = Vec::new();
    for place in 0.. {
        let Some(before) = on(place) else { break };
        let before = screen(&before, SIZES[1], UNICODE);
        for code in every_key() {
            let mut state = on(place).unwrap();
            let goes_on = handle(&mut state, Input::Key(KeyEvent::from(code)));
            let after = screen(&state, SIZES[1], UNICODE);
            // Backspace with nothing typed, and a scroll of a list that fits, have nothing to say.
            let is_about_nothing = state.is_helping || matches!(code, KeyCode::Backspace);
            if goes_on && !is_about_nothing && before == after {
                silent.push((place, code));
            }
        }
    }
    assert!(silent.is_empty(), "{silent:?}");
}

/// Goal: a line that answers a key stands above the keys, and the next key takes it away.
#[test]
fn an_answer_to_a_key_leaves_the_keys_where_they_are() {
    let mut state = opened(scenes::put(), "enter G");
    let line = |state: &State| screen(state, SIZES[0], UNICODE).to_string();
    let keys = line(&state).lines().last().unwrap().to_owned();
    press(&mut state, "right");
    let drawn = line(&state);
    assert_eq!(drawn.lines().last().unwrap(), keys);
    assert!(drawn.contains("no later step"), "{drawn}");
    press(&mut state, "left");
    assert!(!line(&state).contains("no later step"));
}

#[test]
fn the_way_back_stands_in_the_footer_at_every_size() {
    for place in 0.. {
        let Some(state) = on(place) else { return };
        for size in [(40, 16), (60, 20), (80, 24), (200, 60)] {
            let drawn = screen(&state, size, UNICODE).to_string();
            let footer = drawn.lines().last().unwrap();
            let is_back = ["back", "leave", "close"].iter().any(|word| footer.contains(word));
            assert!(is_back, "state {place} at {size:?}: {footer}");
        }
    }
}

#[test]
fn a_window_that_is_too_small_says_which_size_it_needs() {
    let drawn = screen(&opened(scenes::put(), "enter"), (39, 20), ASCII).to_string();
    assert!(drawn.contains("has   39x20") && drawn.contains("needs 40x16"), "{drawn}");
    let mut narrow = live(&scenes::put().recording, 5);
    press(&mut narrow, "C");
    let drawn = screen(&narrow, (60, 20), UNICODE).to_string();
    assert!(drawn.contains("1 member is not shown: that needs 75 columns"), "{drawn}");
}

/// Goal: a lane is entered in every grain, and the counter counts its steps only.
#[test]
fn a_digit_moves_the_cursor_into_the_lane() {
    for grain in ["", "]", ". ."] {
        let mut state = opened(scenes::put(), &format!("enter {grain} G"));
        for lane in ["1", "2", "3"] {
            press(&mut state, lane);
            let steps = state.steps.as_ref().unwrap();
            assert_eq!(steps.steps[steps.now].lane + 1, lane.parse::<usize>().unwrap());
            let (at, total) = steps.position();
            let of_lane = |step: &&crate::state::story::Step| {
                step.grain <= steps.grain && Some(step.lane) == steps.focus
            };
            assert_eq!(total, steps.steps.iter().filter(of_lane).count());
            assert!((1..=total).contains(&at), "{at} of {total}");
        }
    }
    let mut state = opened(scenes::put(), "enter");
    press(&mut state, "7");
    assert_eq!(state.said(), Some("there is no lane 7"));
    assert_eq!(state.steps.as_ref().unwrap().focus, None);
}

/// Goal: the cost of a step is never a negative time, and a window of waiting is no step.
#[test]
fn the_cost_lens_names_steps_and_times_that_exist() {
    let mut state = opened(scenes::put(), "enter . . G");
    state.steps.as_mut().unwrap().lens = Lens::Cost;
    loop {
        let steps = state.steps.as_ref().unwrap();
        let lines = crate::state::lens::lines(state.recording(), steps, (&state.lanes, &[]));
        let said = lines.concat().join(" ");
        assert!(!said.contains('-') || !said.contains(" -"), "{said}");
        assert!(!said.contains("cpu.wait"), "{said}");
        let now = steps.now;
        state.update(Action::Step(
            glass_etcd::trace::Grain::Raw,
            crate::state::steps::Direction::Back,
        ));
        if state.steps.as_ref().unwrap().now == now {
            return;
        }
    }
}

fn started(hands: Hands) -> State {
    let endpoints = ["127.0.0.1:2379", "127.0.0.1:2479", "127.0.0.1:2579"].map(str::to_owned);
    let mut state = State::of_endpoints(&endpoints, BYTES_MAX);
    let names = ["etcd-01", "etcd-02", "etcd-03"].map(str::to_owned);
    state.connect(hands, names.to_vec());
    for endpoint in 0..3 {
        let said = Said::Down("connection refused".to_owned());
        handle(&mut state, Input::Source(Message { endpoint, said }));
    }
    handle(&mut state, Input::Tick(Duration::from_millis(300)));
    state
}

/// Goal: members that this player has just started are starting; one whose process has ended, and
/// one that somebody else runs, is not.
#[test]
fn the_start_is_quiet() {
    let mut state = started(Hands::Own);
    for keys in ["", "enter"] {
        press(&mut state, keys);
        let drawn = screen(&state, SIZES[0], UNICODE).to_string();
        assert!(!drawn.contains("refused"), "{drawn}");
    }
    press(&mut state, "C");
    let drawn = screen(&state, SIZES[0], UNICODE);
    assert!(drawn.to_string().contains("STARTING 0/3   no leader yet"), "{drawn}");
    let is_red = |cell: &ratatui::buffer::Cell| cell.fg == ratatui::style::Color::Red;
    assert!(!drawn.buffer().content().iter().any(is_red), "{drawn}");
    let process = |state| Process { name: "etcd-01".to_owned(), pid: None, state, since_ms: 9 };
    let ended = Reply { processes: vec![process(api::State::Exited(1))], ..Reply::default() };
    state.replied(&api::Command::to_all(api::Action::Status), ended);
    assert!(screen(&state, SIZES[0], UNICODE).to_string().contains("DOWN for"));
    let others = screen(&started(Hands::Nobody), SIZES[0], UNICODE).to_string();
    assert!(others.contains("connection"), "{others}");
}

#[test]
fn the_greeting_stays_until_a_client_has_asked_for_something() {
    let mut recording = scenes::election().recording;
    let greeting = "Press i and type: put foo bar";
    let of = |state: &mut State| {
        if !state.room.is_shown {
            press(state, "C");
        }
        screen(state, SIZES[1], UNICODE).to_string()
    };
    let drawn = of(&mut live(&recording, 5));
    assert!(drawn.contains(greeting) && drawn.contains("election"), "{drawn}");
    recording.events = scenes::put().recording.events;
    assert!(!of(&mut live(&recording, 5)).contains(greeting));
    let file = opened(scenes::election(), "C");
    assert!(!screen(&file, SIZES[1], UNICODE).to_string().contains(greeting));
}
