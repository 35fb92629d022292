//! The keys of the views beside the stories, and the keys that open them.

use crossterm::event::KeyCode;

use super::{
    Action, Back, Binding, Now,
    Press::{Char, Code},
    STORIES, Screen, State, has_steps, row,
};
use crate::state::{pane::View, steps::Direction::Forward};

pub(super) const LOG: Screen = Screen::Pane(View::Log);
pub(super) const TREE: Screen = Screen::Pane(View::Keys);
pub(super) const WAITS: Screen = Screen::Pane(View::Waits);
pub(super) const LINES: Screen = Screen::Pane(View::Lines);
const PANES: &[Screen] = &[LOG, TREE, WAITS, LINES];
/// The screens whose rows stay while they are searched.
const SEEKING: &[Screen] = &[Screen::Steps, LOG, TREE, WAITS, LINES];
/// The same while the search is typed.
const SEEK: &[Screen] = &[Screen::Seek];

/// Every screen from which a view can be opened; a view itself is not opened again.
const fn around(views: [Screen; 3]) -> [Screen; 9] {
    let ([a, b, c, d, e, f], [first, second, third]) = (STORIES, views);
    [a, b, c, d, e, f, first, second, third]
}

/// All of them.
const AROUND: &[Screen] = &{
    let [a, b, c, d, e, f, g, h, i] = around([LOG, TREE, WAITS]);
    [a, b, c, d, e, f, g, h, i, LINES]
};
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
    row(&[Char('/')], "/", ("a row with these words", "find"), SEEKING, Action::Find).when(has_any),
    row(&[Char('n')], "n", ("the next row found", ""), SEEKING, Action::Again(Forward))
        .when(has_any),
    row(&[Char('N')], "N", ("the row found before", ""), SEEKING, Action::Again(Back))
        .when(has_any),
    row(
        &[Code(KeyCode::Enter)],
        "Enter",
        ("the story that wrote it", "story"),
        &[LOG, TREE, WAITS],
        Action::Open,
    ),
    row(&[Char(']')], "]", ("the next key", "next key"), &[TREE], Action::OtherKey(Forward)),
    row(&[Char('[')], "[", ("the key before", ""), &[TREE], Action::OtherKey(Back)),
    row(
        &[Code(KeyCode::Enter)],
        "Enter",
        ("the next row with them", "next row"),
        SEEK,
        Action::Narrow,
    ),
    row(&[Char('C')], "C", ("the cluster at this moment", "cluster"), PANES, Action::Cluster),
    row(&[Char('R')], "R", ("the list of requests", ""), PANES, Action::Requests),
    row(&[Code(KeyCode::Tab)], "Tab", ("the next view", ""), AROUND, Action::NextView(Forward)),
    row(
        &[Code(KeyCode::BackTab)],
        "Shift-Tab",
        ("the view before", ""),
        AROUND,
        Action::NextView(Back),
    ),
    row(&[Char('M')], "M", ("take the mouse, or free it", ""), AROUND, Action::Mouse),
    row(
        &[Char('?'), Code(KeyCode::F(1))],
        "? F1",
        ("the keys that are valid now", "help"),
        PANES,
        Action::Help,
    ),
    row(&[Code(KeyCode::Esc), Char('q')], "Esc q", ("back", "back"), PANES, Action::Back),
];

/// A story without steps has no row to search; a view without rows says so itself.
fn has_any(state: &State) -> Now {
    if state.place() == Screen::Steps { has_steps(state) } else { Ok(()) }
}
