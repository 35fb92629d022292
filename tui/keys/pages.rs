//! The keys that move in rows: those of a list, of a view beside the stories, and of a page of
//! text. They mean the same on each, so each key has one row.

use crossterm::event::KeyCode;

use super::{
    Action, Binding, Now,
    Press::{Char, Code, Ctrl},
    Screen, State, has_requests, has_steps, panes, row,
};

/// The screens that consist of rows.
const ROWS_OF: [Screen; 7] = [
    Screen::List,
    Screen::Reading,
    Screen::Compared,
    panes::LOG,
    panes::TREE,
    panes::WAITS,
    panes::LINES,
];
const PAGES: &[Screen] = &ROWS_OF;
/// Those, and the steps.
const FAR: &[Screen] = &{
    let [a, b, c, d, e, f, g] = ROWS_OF;
    [a, b, c, d, e, f, g, Screen::Steps]
};
/// The source, and the book.
const READING: &[Screen] = &[Screen::Reading];

/// The rows of these keys.
pub(super) const ROWS: &[Binding] = &[
    moves(&[Code(KeyCode::Up), Char('k')], "↑ k", ("a row up", "up"), -1),
    moves(&[Code(KeyCode::Down), Char('j')], "↓ j", ("a row down", "down"), 1),
    far(&[Code(KeyCode::PageUp), Ctrl('u')], "PgUp ^U", ("ten rows up", ""), -10),
    far(&[Code(KeyCode::PageDown), Ctrl('d')], "PgDn ^D", ("ten rows down", ""), 10),
    row(&[Char(' ')], "space", ("ten rows down", ""), READING, Action::Move(10)),
    moves(&[Char('g'), Code(KeyCode::Home)], "g", ("the first row", ""), isize::MIN),
    moves(&[Char('G'), Code(KeyCode::End)], "G", ("the last row", ""), isize::MAX),
];

/// The same among the steps of a story, whose arrows look at other rows.
const fn far(
    presses: &'static [super::Press],
    shown: &'static str,
    words: (&'static str, &'static str),
    rows: isize,
) -> Binding {
    row(presses, shown, words, FAR, Action::Move(rows)).when(has_rows)
}

const fn moves(
    presses: &'static [super::Press],
    shown: &'static str,
    words: (&'static str, &'static str),
    rows: isize,
) -> Binding {
    row(presses, shown, words, PAGES, Action::Move(rows)).when(has_rows)
}

fn has_rows(state: &State) -> Now {
    match state.place() {
        Screen::List => has_requests(state),
        Screen::Steps => has_steps(state),
        _ => Ok(()),
    }
}
