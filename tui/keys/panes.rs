//! The keys of the views beside the stories, and the keys that open them.

use crossterm::event::KeyCode;

use super::{
    Action, Back, Binding,
    Press::{Char, Code},
    STORIES, Screen, row,
};
use crate::state::{pane::View, steps::Direction::Forward};

pub(super) const LOG: Screen = Screen::Pane(View::Log);
pub(super) const TREE: Screen = Screen::Pane(View::Keys);
pub(super) const WAITS: Screen = Screen::Pane(View::Waits);
pub(super) const LINES: Screen = Screen::Pane(View::Lines);
const PANES: &[Screen] = &[LOG, TREE, WAITS, LINES];

/// Every screen from which a view can be opened; a view itself is not opened again.
const fn around(views: [Screen; 3]) -> [Screen; 9] {
    let ([a, b, c, d, e, f], [first, second, third]) = (STORIES, views);
    [a, b, c, d, e, f, first, second, third]
}

const AROUND_LOG: &[Screen] = &around([TREE, WAITS, LINES]);
const AROUND_TREE: &[Screen] = &around([LOG, WAITS, LINES]);
const AROUND_WAITS: &[Screen] = &around([LOG, TREE, LINES]);
const AROUND_LINES: &[Screen] = &around([LOG, TREE, WAITS]);

/// The rows of these keys.
pub(super) const ROWS: &[Binding] = &[
    row(&[Char('L')], "L", ("the members' raft logs", ""), AROUND_LOG, Action::Show(View::Log)),
    row(&[Char('T')], "T", ("the keys: the tree index", ""), AROUND_TREE, Action::Show(View::Keys)),
    row(
        &[Char('W')],
        "W",
        ("watchers, leases and locks", ""),
        AROUND_WAITS,
        Action::Show(View::Waits),
    ),
    row(&[Char('O')], "O", ("what the members print", ""), AROUND_LINES, Action::Show(View::Lines)),
    row(
        &[Code(KeyCode::Right), Char('l')],
        "→ l",
        ("next story step", "next"),
        PANES,
        Action::Along(Forward),
    ),
    row(
        &[Code(KeyCode::Left), Char('h')],
        "← h",
        ("previous story step", "prev"),
        PANES,
        Action::Along(Back),
    ),
    row(&[Code(KeyCode::Up), Char('k')], "↑ k", ("a row up", "up"), PANES, Action::Choose(-1)),
    row(&[Code(KeyCode::Down), Char('j')], "↓ j", ("a row down", "down"), PANES, Action::Choose(1)),
    row(
        &[Code(KeyCode::Enter)],
        "Enter",
        ("the story that wrote it", "story"),
        &[LOG, TREE, WAITS],
        Action::Open,
    ),
    row(
        &[Char('n'), Code(KeyCode::Tab)],
        "n Tab",
        ("the next key", "next key"),
        &[TREE],
        Action::OtherKey(Forward),
    ),
    row(&[Char('N')], "N", ("the key before", ""), &[TREE], Action::OtherKey(Back)),
    row(&[Char('f')], "f", ("now, or the step looked at", "now"), PANES, Action::ToggleNow),
    row(&[Code(KeyCode::PageUp)], "PgUp", ("ten rows up", ""), PANES, Action::Choose(-10)),
    row(&[Code(KeyCode::PageDown)], "PgDn", ("ten rows down", ""), PANES, Action::Choose(10)),
    row(&[Char('g'), Code(KeyCode::Home)], "g", ("the first row", ""), PANES, Action::ChooseFirst),
    row(&[Char('G'), Code(KeyCode::End)], "G", ("the last row", ""), PANES, Action::ChooseLast),
    row(&[Char('C')], "C", ("the cluster at this moment", "cluster"), PANES, Action::Cluster),
    row(&[Char('R')], "R", ("the list of requests", ""), PANES, Action::Requests),
    row(&[Char('?')], "?", ("the keys that are valid now", "help"), PANES, Action::Help),
    row(&[Code(KeyCode::Esc), Char('q')], "Esc q", ("back", "back"), PANES, Action::Back),
];
