//! The keys of the views beside the stories, and the keys that open them.

use crossterm::event::KeyCode;

use super::{
    Action, Back, Binding,
    Press::{Char, Code, Text},
    STORIES, Screen, row,
};
use crate::state::{pane::View, steps::Direction::Forward};

pub(super) const LOG: Screen = Screen::Pane(View::Log);
pub(super) const TREE: Screen = Screen::Pane(View::Keys);
pub(super) const WAITS: Screen = Screen::Pane(View::Waits);
pub(super) const LINES: Screen = Screen::Pane(View::Lines);
const PANES: &[Screen] = &[LOG, TREE, WAITS, LINES];
/// The same while a search in one of them is typed.
const SEEK: &[Screen] = &[Screen::Seek];

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
    row(&[Char('/')], "/", ("a row with these words", "find"), PANES, Action::Find),
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
    row(&[Text], "a-z …", ("words of the row", "type"), SEEK, Action::Type(' '))
        .with_character(Action::Type),
    row(
        &[Code(KeyCode::Enter)],
        "Enter",
        ("the next row with them", "next row"),
        SEEK,
        Action::Narrow,
    ),
    row(&[Char('C')], "C", ("the cluster at this moment", "cluster"), PANES, Action::Cluster),
    row(&[Char('R')], "R", ("the list of requests", ""), PANES, Action::Requests),
    row(&[Char('?')], "?", ("the keys that are valid now", "help"), PANES, Action::Help),
    row(&[Code(KeyCode::Esc), Char('q')], "Esc q", ("back", "back"), PANES, Action::Back),
];
