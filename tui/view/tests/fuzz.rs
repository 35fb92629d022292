//! Random keys on random recordings, in every view and at the prompt: nothing may panic.

use std::time::Duration;

use clap::ValueEnum as _;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use glass_etcd::story::Recording;

use super::{ASCII, Look, UNICODE, plain, screen, spoil, walk};
use crate::{
    play::{Input, handle},
    random::Random,
    source::log_files::Said,
    state::{
        Screen, State,
        console::{Answer, Errand},
        room::Hands,
        tests::{as_told, live},
    },
    view::theme::Palette,
};

/// What is typed at the prompt and into the search.
const WORDS: [&str; 12] = [
    "put a 1",
    "@2 get a -s",
    "get a b --prefix",
    "del foo",
    "txn",
    "lease grant 5",
    "lock l",
    "watch foo",
    "put \"",
    "m:etcd-02",
    "r:put >1ms",
    "is:error ж",
];
const KEYS: [&str; 40] = [
    "enter", "esc", "left", "right", "up", "down", "space", "L", "T", "W", "O", "S", "b", "C", "R",
    "i", "/", ":", "?", "x", "p", "P", "F", "y", "n", "f", "B", "D", "w", ".", "]", "[", "m", "c",
    "e", "g", "G", "s", "1", "7",
];

/// How many readers there are, and how many keys each presses.
const READERS: u64 = 25;
const KEYS_EACH: usize = 120;

/// A live cluster or a recording, real or spoiled.
fn state(all: &[(String, Recording)], random: &mut Random) -> State {
    let (name, recording) = &all[random.index(all.len())];
    println!("{name}");
    let mut recording = recording.clone();
    match random.index(3) {
        0 => {
            recording.events.iter_mut().for_each(|event| spoil(event, random));
            recording.members.truncate(random.index(4));
            return State::of_recording(recording);
        }
        1 => return State::of_recording(recording),
        _ => {}
    }
    let mut state = live(&as_told(&recording), 1 + random.index(500));
    state.room.hands = [Hands::Own, Hands::Other, Hands::Nobody][random.index(3)];
    state.console.connect(7);
    state
}

/// Types words where words are typed, and presses a key elsewhere. Returns whether the player goes
/// on.
fn press_one(state: &mut State, random: &mut Random) -> bool {
    let types = matches!(state.place(), Screen::Console | Screen::Find) || state.is_helping;
    if types && random.index(3) == 0 {
        let typed = WORDS[random.index(WORDS.len())].chars().map(KeyCode::Char);
        return typed.chain([KeyCode::Tab]).all(|code| handle(state, key(code)));
    }
    match random.index(12) {
        0 => {
            let code = KeyCode::Char(char::from(b' ' + random.byte() % 95));
            let modifier = [KeyModifiers::NONE, KeyModifiers::CONTROL][random.index(2)];
            handle(state, Input::Key(KeyEvent::new(code, modifier)))
        }
        1 => {
            let codes = [KeyCode::PageUp, KeyCode::PageDown, KeyCode::Home, KeyCode::Backspace];
            handle(state, key(codes[random.index(codes.len())]))
        }
        _ => {
            let name = KEYS[random.index(KEYS.len())];
            handle(state, key(crate::state::tests::code_of(name)))
        }
    }
}

fn key(code: KeyCode) -> Input {
    Input::Key(KeyEvent::from(code))
}

/// What happens meanwhile: time passes, requests are answered, members print.
fn meanwhile(state: &mut State, random: &mut Random, at: u64) {
    handle(state, Input::Tick(Duration::from_millis(100 * at)));
    for errand in state.errands() {
        if let (Errand::Send { number, .. }, true) = (errand, random.index(2) == 0) {
            let lines = vec!["OK".to_owned(); random.index(4)];
            handle(state, Input::Answered(Answer { number, lines, ..Answer::default() }));
        }
    }
    if random.index(4) == 0 {
        let line =
            ["{\"level\":\"warn\",\"msg\":\"é\"}", "", "no JSON"][random.index(3)].to_owned();
        let said = Said { name: format!("etcd-0{}", random.index(5)), line };
        handle(state, Input::Printed(vec![said]));
    }
    state.wishes();
    state.commands();
    state.job();
}

#[test]
fn no_view_and_no_prompt_panics_whatever_is_pressed_and_recorded() {
    let palettes = [Palette::None, Palette::Sixteen, Palette::Dark, Palette::Light];
    let looks = [ASCII, UNICODE];
    let all = walk::recordings();
    for seed in 1..=READERS {
        println!("seed {seed}");
        let mut random = Random::new(seed);
        let mut state = state(&all, &mut random);
        for at in 0..KEYS_EACH {
            if !press_one(&mut state, &mut random) {
                break;
            }
            meanwhile(&mut state, &mut random, at as u64);
            if random.index(5) == 0 {
                let size = (1 + random.index(220) as u16, 1 + random.index(70) as u16);
                let look = looks[random.index(2)];
                screen(&state, size, Look { palette: palettes[random.index(4)], ..look });
            }
        }
        for view in plain::View::value_variants() {
            if *view != plain::View::Steps || state.steps.is_some() {
                // A page that needs a step is refused without one.
                _ = plain::write_view(&mut state, *view, ASCII, &mut Vec::new());
            }
        }
    }
}
