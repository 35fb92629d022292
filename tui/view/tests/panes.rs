//! The views beside the stories, as whole screens.

use std::fs::File;

use glass_etcd::story::recording;

use super::{ASCII, UNICODE, opened, screen, spoil};
use crate::{
    play::{Input, handle},
    random::Random,
    source::log_files::Said,
    state::{Screen, State, pane::View, scenes, tests::press},
};

const SIZES: [(u16, u16); 3] = [(80, 24), (120, 36), (200, 60)];

/// A recording of a real cluster, with the list open, after these keys.
pub(super) fn recorded(name: &str, keys: &str) -> State {
    let file = File::open(format!("tests/recordings/{name}.ndjson")).unwrap();
    let read = recording::read(std::io::BufReader::new(file)).unwrap();
    let mut state = State::of_recording(read.recording);
    press(&mut state, keys);
    state
}

/// The screen at every size, and in ASCII at the smallest.
fn check_sizes(name: &str, state: &State) {
    for size in SIZES {
        insta::assert_snapshot!(
            format!("{name}_{}x{}", size.0, size.1),
            screen(state, size, UNICODE)
        );
    }
    insta::assert_snapshot!(format!("{name}_80x24_ascii"), screen(state, SIZES[0], ASCII));
}

#[test]
fn the_logs_while_only_the_leader_knows_of_a_commit() {
    check_sizes("log_commit", &opened(scenes::put(), "enter : 1 8 enter L"));
}

#[test]
fn the_logs_at_the_end_of_a_recording_with_a_replaced_entry() {
    check_sizes("log_entry_lost", &recorded("entry_lost", "L"));
}

#[test]
fn the_logs_under_load_have_rows_for_what_was_not_captured() {
    check_sizes("log_busy", &recorded("busy", "L up up"));
}

#[test]
fn the_keys_of_a_lease_and_of_a_lock() {
    check_sizes("keys_lease", &recorded("lease", "T"));
}

#[test]
fn the_keys_at_a_step_of_a_put() {
    check_sizes("keys_put", &recorded("puts_and_gets", "enter G left T"));
}

#[test]
fn who_waits_while_one_call_has_the_lock_and_another_wants_it() {
    let mut state = recorded("lease", "g");
    let rows = &state.list.rows;
    let second = rows.iter().rposition(|row| row.method == "Lock/Lock").unwrap();
    press(&mut state, &format!("{} enter G left left left W", "down ".repeat(second)));
    check_sizes("waits_lock", &state);
}

/// Goal: what the members print is one list by time, and at a step the later lines are dim.
#[test]
fn what_the_members_print_around_a_step() {
    let mut state = opened(scenes::put(), "enter : 1 8 enter O");
    let said = |name: &str, ms: u32, level: &str, text: &str| Said {
        name: name.to_owned(),
        line: format!(
            "{{\"level\":\"{level}\",\"ts\":\"2026-01-01T12:00:00.{ms:03}Z\",\"caller\":\"raft/node.rs:7\",\
             \"msg\":\"{text}\",\"term\":3}}"
        ),
    };
    let printed = vec![
        said("etcd-01", 1, "info", "became leader"),
        said("etcd-02", 2, "info", "found leader"),
        said("etcd-02", 51, "warn", "slow fdatasync"),
        said("etcd-03", 90, "error", "lost the connection to etcd-01"),
    ];
    assert!(handle(&mut state, Input::Printed(printed)));
    check_sizes("lines", &state);
    let none = screen(&recorded("lease", "O"), SIZES[0], UNICODE).to_string();
    assert!(none.contains("This recording has no log lines."), "{none}");
}

/// Goal: each view is one key away from every screen, and the key line names the way back.
#[test]
fn every_view_is_opened_from_everywhere_and_left_again() {
    for keys in ["", "C", "enter", "enter enter", "enter C", "L", "T", "W", "O"] {
        for (key, view) in
            [("L", View::Log), ("T", View::Keys), ("W", View::Waits), ("O", View::Lines)]
        {
            let mut state = recorded("lease", keys);
            let before = state.panes.shown.map_or(state.place(), |_| Screen::List);
            press(&mut state, key);
            assert_eq!(state.panes.shown, Some(view), "{keys} {key}");
            let drawn = screen(&state, SIZES[0], UNICODE).to_string();
            assert!(drawn.contains("? help   Esc back"), "{drawn}");
            press(&mut state, "? esc esc");
            assert_eq!(state.place(), before, "{keys} {key}");
        }
    }
}

/// Goal: a view is drawn for every recording, and in every window.
#[test]
fn no_recording_is_too_strange_for_a_view() {
    for seed in 1..=20 {
        println!("seed {seed}");
        let mut random = Random::new(seed);
        let names = ["lease", "puts_and_gets", "version-1"];
        let mut state = recorded(names[random.index(names.len())], "");
        let mut recording = state.recording().clone();
        recording.events.iter_mut().for_each(|event| spoil(event, &mut random));
        recording.members.truncate(1 + random.index(3));
        state = State::of_recording(recording);
        let keys = [
            "enter", "right", "L", "T", "n", "W", "O", "down", "up", "g", "G", "f", "esc", "C",
            "R", "?",
        ];
        for _ in 0..25 {
            press(&mut state, keys[random.index(keys.len())]);
            let size = (30 + random.index(100) as u16, 8 + random.index(40) as u16);
            screen(&state, size, ASCII);
        }
    }
}
