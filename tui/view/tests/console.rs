//! Requests of one's own, typed and answered, on the screen.

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent};
use glass_etcd::{set, story::Event, trace::Stage};

use super::{ASCII, SIZES, UNICODE, screen};
use crate::{
    play::{Input, handle},
    state::{
        Screen, State,
        console::{Answer, Errand, NOBODY},
        scenes::{self, PUT},
        story::Subject,
        tests::{live, press, tell_all},
    },
};

/// The first half of the traces in these tests.
const TRACES: u64 = 7;

fn connected() -> State {
    let mut state = live(&scenes::put().recording, 30);
    state.console.connect(TRACES);
    state
}

fn type_in(state: &mut State, text: &str) {
    for character in text.chars() {
        let code = KeyEvent::from(KeyCode::Char(character));
        assert!(handle(state, Input::Key(code)), "{character} left the player");
    }
}

fn answer(number: u64, line: &str) -> Input {
    let lines = vec![line.to_owned()];
    Input::Answered(Answer { number, lines, took_ns: Some(2_100_000), ..Answer::default() })
}

fn text(state: &State) -> String {
    screen(state, SIZES[0], UNICODE).to_string()
}

#[test]
fn the_end_of_a_wide_line_and_its_cursor_are_on_the_screen() {
    let mut state = connected();
    press(&mut state, "i");
    type_in(&mut state, &format!("put a {}終", "漢".repeat(60)));
    let backend = screen(&state, SIZES[0], UNICODE);
    let shown = backend.to_string();
    assert!(shown.contains("終"), "{shown}");
    let is_cursor = |cell: &&ratatui::buffer::Cell| {
        cell.symbol() == " " && cell.modifier.contains(ratatui::style::Modifier::REVERSED)
    };
    let (width, height) = (usize::from(SIZES[0].0), usize::from(SIZES[0].1));
    let line = &backend.buffer().content[(height - 3) * width..(height - 2) * width];
    let typed: Vec<&str> = line.iter().map(|cell| cell.symbol()).collect();
    assert_eq!(1, line.iter().filter(is_cursor).count(), "{typed:?}");
}

#[test]
fn a_request_is_typed_sent_and_answered() {
    let mut state = connected();
    press(&mut state, "i");
    assert_eq!(Screen::Console, state.place());
    type_in(&mut state, "put a 1");
    press(&mut state, "enter");
    let errands = state.errands();
    let [Errand::Send { number: 1, endpoint, .. }] = &errands[..] else { panic!("{errands:?}") };
    assert_eq!("127.0.0.1:2079", endpoint, "the first member is chosen");
    handle(&mut state, Input::Tick(Duration::from_millis(3_100)));
    assert!(text(&state).contains("etcd-01> put a 1   waits for 3.1 s"), "{}", text(&state));
    handle(&mut state, answer(1, "OK, revision 9"));
    assert!(text(&state).contains("etcd-01> put a 1   2.1 ms   OK, revision 9"));
    press(&mut state, "i");
    type_in(&mut state, "@2 get a -s");
    press(&mut state, "enter i");
    handle(&mut state, answer(2, "1 key at revision 9"));
    type_in(&mut state, "lease g");
    for size in [(80, 24), (120, 36), (200, 60)] {
        let name = format!("console_{}x{}", size.0, size.1);
        insta::assert_snapshot!(name, screen(&state, size, UNICODE));
    }
    insta::assert_snapshot!("console_80x24_ascii", screen(&state, (80, 24), ASCII));
}

/// Goal: the story of one's own request opens by itself, also while the request still waits.
#[test]
fn the_story_opens_as_soon_as_the_member_names_its_trace() {
    let mut state = connected();
    press(&mut state, "i");
    type_in(&mut state, "put a 1");
    press(&mut state, "enter");
    let clock = state.recording().events.iter().map(|event| event.clock_end).max().unwrap() + 1;
    let mut context = Event { id: PUT, ..Event::mark(1, Stage::RpcContext, clock) };
    set!(context, RpcContext, trace_high = TRACES, trace_low = 1, parent = 1);
    tell_all(&mut state, &[context], 1);
    handle(&mut state, Input::Tick(Duration::from_millis(4_000)));
    assert_eq!(Screen::Steps, state.place());
    assert_eq!(Subject::Request(PUT), state.steps.as_ref().unwrap().subject);
    assert!(text(&state).contains("put a 1   waits for "), "{}", text(&state));
    press(&mut state, "esc");
    assert_eq!(Some(Subject::Request(PUT)), state.list.subject(), "the list leads back to it");
    assert!(text(&state).contains("put a 1   waits for "), "while it waits it stays in sight");
    handle(&mut state, answer(1, "OK, revision 9"));
    press(&mut state, "enter esc");
    assert!(!text(&state).contains("OK, revision 9"), "{}", text(&state));
}

#[test]
fn a_request_that_waits_can_be_given_up_from_every_screen() {
    let mut state = connected();
    press(&mut state, "i");
    type_in(&mut state, "put a 1");
    press(&mut state, "enter");
    state.errands();
    let ctrl_x = KeyEvent::new(KeyCode::Char('x'), crossterm::event::KeyModifiers::CONTROL);
    handle(&mut state, Input::Key(ctrl_x));
    assert_eq!([Errand::Cancel { number: 1 }], state.errands()[..]);
    assert!(text(&state).contains("given up after"), "{}", text(&state));
}

#[test]
fn what_cannot_be_sent_is_said_and_can_be_corrected() {
    let mut state = connected();
    press(&mut state, "i");
    for (line, why) in [
        ("put a", "put needs a key and a value"),
        ("@9 put a 1", "no member 9 has answered yet; those that have: etcd-01, etcd-02, etcd-03"),
        ("@nobody status", "no member nobody has answered yet"),
    ] {
        type_in(&mut state, line);
        press(&mut state, "enter");
        assert!(text(&state).contains(why), "{}", text(&state));
        assert!(state.errands().is_empty());
        let ctrl_u = KeyEvent::new(KeyCode::Char('u'), crossterm::event::KeyModifiers::CONTROL);
        handle(&mut state, Input::Key(ctrl_u));
    }
    type_in(&mut state, "del ");
    handle(&mut state, Input::Key(KeyEvent::from(KeyCode::Tab)));
    assert!(text(&state).contains("del foo"), "a key that was seen: {}", text(&state));
}

#[test]
fn a_recording_takes_no_requests() {
    let mut state = State::of_recording(scenes::put().recording);
    press(&mut state, "i");
    assert_eq!(Screen::List, state.place());
    assert!(text(&state).contains(NOBODY), "{}", text(&state));
}
