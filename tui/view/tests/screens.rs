//! Every view as a whole screen: its text and its styles, at three sizes, with and without
//! characters beyond ASCII.
//!
//! A style is a letter below its cell. Lines of the same styles are written once:
//!
//! ```text
//!  . plain   d dim   b bold   v reversed   r g y u m c red green yellow blue magenta cyan
//!  B V R G Y U M C: the same, bold as well
//! ```

use std::fmt::Write as _;

use crossterm::event::{KeyCode, KeyEvent};
use ratatui::{
    buffer::{Buffer, Cell},
    style::Modifier,
};

use super::{ASCII, Look, UNICODE, panes::recorded, screen};
use crate::{
    play::{Input, handle},
    source::log_files::Said,
    state::{
        State, scenes,
        tests::{live, press},
    },
    view::theme::{Hue, hue_of},
};

const SIZES: [(u16, u16); 3] = [(80, 24), (120, 36), (200, 60)];

/// The letter for a cell's style.
fn letter(cell: &Cell) -> char {
    let has = |modifier| cell.modifier.contains(modifier);
    let hue = hue_of(cell.fg).map(|hue| match hue {
        Hue::Red => 'r',
        Hue::Green => 'g',
        Hue::Yellow => 'y',
        Hue::Blue => 'u',
        Hue::Magenta => 'm',
        Hue::Cyan => 'c',
        Hue::Grey => 'd',
    });
    let letter = match hue {
        _ if has(Modifier::REVERSED) => 'v',
        Some(hue) => hue,
        None if has(Modifier::DIM) => 'd',
        None if has(Modifier::BOLD) => return 'b',
        None => '.',
    };
    if has(Modifier::BOLD) { letter.to_ascii_uppercase() } else { letter }
}

/// The text of a screen, and below it the styles of its lines.
fn styled(buffer: &Buffer) -> String {
    let lines: Vec<&[Cell]> = buffer.content().chunks(usize::from(buffer.area.width)).collect();
    let mut whole = String::new();
    for line in &lines {
        let text: String = line.iter().map(Cell::symbol).collect();
        let _ = writeln!(whole, "{}", text.trim_end());
    }
    whole.push_str("styles\n");
    let styles = |line: &[Cell]| {
        let letters = |cell: &Cell| match letter(cell) {
            // Blank cells look alike, unless they are reversed.
            'v' => 'v',
            _ if cell.symbol() == " " => ' ',
            letter => letter,
        };
        line.iter().map(letters).collect::<String>().trim_end().to_owned()
    };
    let styles: Vec<String> = lines.iter().map(|line| styles(line)).collect();
    let mut first = 0;
    for same in styles.chunk_by(|a, b| a == b) {
        let last = first + same.len() - 1;
        if !same[0].is_empty() {
            let _ = writeln!(whole, "{first:>2}-{last:<2} {}", same[0]);
        }
        first = last + 1;
    }
    whole
}

/// The screen at every size in both looks.
fn check(name: &str, state: &State) {
    for (width, height) in SIZES {
        for (look, word) in [(UNICODE, ""), (ASCII, "_ascii")] {
            let drawn = screen(state, (width, height), look);
            let name = format!("{name}_{width}x{height}{word}");
            insta::assert_snapshot!(name, styled(drawn.buffer()));
        }
    }
}

/// The put of the recording at its commit.
const AT_COMMIT: &str = "g enter : 1 6 enter";

fn at_commit(keys: &str) -> State {
    recorded("picture", &format!("{AT_COMMIT} {keys}"))
}

#[test]
fn the_cluster() {
    check("cluster", &recorded("picture", "C"));
}

#[test]
fn the_list() {
    check("list", &recorded("picture", ""));
}

#[test]
fn the_steps() {
    check("steps", &at_commit("x"));
}

#[test]
fn the_logs() {
    check("log", &at_commit("L"));
}

#[test]
fn the_keys() {
    check("keys", &recorded("picture", "g enter : 3 3 enter T"));
}

/// That recording has only the stories of the lease, so it does not say who leads.
#[test]
fn those_who_wait() {
    check("waits", &recorded("lease", "W"));
}

#[test]
fn what_the_members_print() {
    let mut state = at_commit("O");
    let said = |(name, ms, level, text): (&str, u32, &str, &str)| Said {
        name: name.to_owned(),
        line: format!(
            "{{\"level\":\"{level}\",\"ts\":\"2026-11-30T21:16:59.{ms:03}Z\",\
             \"caller\":\"raft/node.rs:7\",\"msg\":\"{text}\"}}"
        ),
    };
    let lines = [
        ("etcd-01", 100, "info", "became leader"),
        ("etcd-02", 200, "warn", "slow fdatasync"),
        ("etcd-03", 260, "error", "lost the connection to etcd-01"),
        ("etcd-03", 900, "info", "this is later than the step"),
    ];
    assert!(handle(&mut state, Input::Printed(lines.map(said).into())));
    check("lines", &state);
}

#[test]
fn the_source() {
    check("source", &at_commit("S"));
}

#[test]
fn the_book() {
    check("book", &at_commit("b"));
}

#[test]
fn the_help() {
    check("help", &at_commit("?"));
}

#[test]
fn the_prompt() {
    let mut state = live(&scenes::put().recording, 30);
    state.console.connect(7);
    press(&mut state, "i");
    "put a".chars().for_each(|typed| {
        assert!(handle(&mut state, Input::Key(KeyEvent::from(KeyCode::Char(typed)))));
    });
    check("prompt", &state);
}

/// Goal: what a colour says is said by words or signs too. Method: without colours the text is the
/// same, and so is the text with a theme.
#[test]
fn colour_is_never_the_only_sign() {
    use crate::view::theme::Palette;
    for state in [recorded("picture", "C"), recorded("picture", ""), at_commit("x"), at_commit("L")]
    {
        let text = |palette| screen(&state, SIZES[1], Look { palette, ..UNICODE }).to_string();
        assert_eq!(text(Palette::None), text(Palette::Sixteen));
        assert_eq!(text(Palette::None), text(Palette::Light));
    }
}
