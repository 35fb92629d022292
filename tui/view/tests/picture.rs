//! The moving picture of the README: what the player draws of a recording, key by key.
//!
//! The file in the repository has to be what the player draws now. `GLASS_DRAW=1` writes it.

use std::{fs, path::Path};

use crossterm::event::KeyEvent;

use super::{BYTES_MAX, State, UNICODE, press, screen};
use crate::{
    keys,
    state::tests::code_of,
    svg::moving::{Frame, moving},
};

/// Where the picture is.
const PICTURE: &str = "book/src/figures/player.svg";
/// What it shows: a put, the death of the leader, an election, another put.
const RECORDING: &str = "tests/recordings/picture.ndjson";
/// Its size in columns and lines.
const SIZE: (u16, u16) = (100, 30);
/// The most bytes that a page should load for it.
const PICTURE_MAX: usize = 300_000;
/// The screen for those who see no motion.
const STILL: usize = 8;

/// Keys, each with how often it is pressed, and for how long what they lead to is shown.
const KEYS: [(&str, usize, u32); 16] = [
    ("", 0, 2_600),
    ("enter", 1, 2_000),
    ("right", 2, 1_800),
    ("right", 2, 1_800),
    ("x", 1, 2_000),
    ("right", 7, 2_000),
    ("right", 1, 2_200),
    ("x", 1, 1_800),
    ("right", 3, 2_400),
    ("right", 15, 2_000),
    ("R", 1, 1_600),
    ("down", 1, 1_200),
    ("enter", 1, 1_600),
    ("right", 4, 2_000),
    ("right", 5, 2_000),
    ("right", 17, 2_600),
];

/// The keys as they are shown, and what the table says that they do.
fn pressed(state: &State, key: &str, times: usize) -> String {
    let row = keys::row_of(state, KeyEvent::from(code_of(key)));
    let row = row.unwrap_or_else(|| panic!("{key} does nothing"));
    let shown = row.shown.split_whitespace().next().unwrap_or_default();
    let times = if times == 1 { String::new() } else { format!(" ×{times}") };
    format!("{shown}{times}   {}", row.does)
}

fn frames() -> Vec<Frame> {
    let file = fs::File::open(RECORDING).unwrap();
    let mut state = State::of_file(std::io::BufReader::new(file), BYTES_MAX).unwrap();
    press(&mut state, "R g");
    let frame = |(key, times, ms): (&str, usize, u32)| {
        let below = if times == 0 { String::new() } else { pressed(&state, key, times) };
        press(&mut state, &format!("{key} ").repeat(times));
        Frame { screen: screen(&state, SIZE, UNICODE).buffer().clone(), below, ms }
    };
    KEYS.into_iter().map(frame).collect()
}

#[test]
fn the_moving_picture_of_the_readme_is_what_the_player_draws() {
    let frames = frames();
    let picture = moving(&frames, STILL);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PICTURE);
    if std::env::var_os("GLASS_DRAW").is_some() {
        fs::write(&path, &picture).unwrap();
    }
    let is_same = fs::read_to_string(&path).is_ok_and(|there| there == picture);
    assert!(is_same, "{PICTURE} is another; GLASS_DRAW=1 cargo test --bin glass picture draws it");
    assert!(picture.len() <= PICTURE_MAX, "{} bytes", picture.len());
    assert!(fs::read_to_string("README.md").unwrap().contains(PICTURE));
}
