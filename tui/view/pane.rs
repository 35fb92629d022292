//! The views beside the stories: the members' heads above, the rows of one view, and below what is
//! to be said about the chosen row.
//!
//! ```text
//!  banner   QUORUM 3/3   etcd-01 leads term 3              step 14/31 of put foo
//!  heads    name, role ─ how it is, and since when
//!  rows     a row for each thing, a column for each member
//!  about    the chosen row in sentences ─ what the signs mean
//! ```
//!
//! The logs and the keys are sheets: their rows have a cell for each member. A [`Row`] is made in
//! one place, and drawn here or written as text by [`super::plain`].

mod cell;
pub(super) mod keys;
pub(super) mod lines;
pub(super) mod log;
pub(super) mod waits;

use ratatui::layout::Rect;

pub(super) use cell::Cell;

use super::{
    cluster::{Grid, Table, banner, below},
    list::window,
    pen::{Pen, Tone, wrap},
};
use crate::state::{
    State,
    pane::{Sight, View},
};

/// Lines of the banner, and of the heads below it.
const TOP: u16 = 3;
/// Lines for the chosen row: a rule, two sentences, and what the signs mean.
const ABOUT: u16 = 4;

/// A view of members side by side, without its rows.
struct Sheet<'a> {
    /// The widths of the names of the rows: below 100 columns, below 160, and from there on. From
    /// 200 on a part of the window, so that long names use the room.
    labels: [u16; 3],
    /// Narrowest readable column of a member.
    cell_min: u16,
    /// What the columns before the members' have.
    title: &'a str,
    /// Lines below the rows.
    below: u16,
}

/// From this width on the names of the rows have two of five columns.
const WIDE: u16 = 200;

impl Sheet<'_> {
    /// The columns.
    fn grid(&self, area: Rect, sight: &Sight) -> Grid {
        let [narrow, middle, wide] = self.labels;
        let label = match area.width {
            0..100 => narrow,
            100..160 => middle,
            160..WIDE => wide,
            width => wide.max(width / 5 * 2),
        };
        Grid::beside((label, self.cell_min), area.width, sight.board.columns.len(), 0)
    }

    /// Draws what stands above the rows. Returns where the rows are, and what is below them.
    fn draw(&self, pen: &mut Pen<'_>, area: Rect, (state, sight, grid): Shown<'_>) -> [Rect; 2] {
        let table = Table { state, board: &sight.board, grid };
        banner::draw(pen, area, state, &sight.board);
        table.draw_heads(pen, Rect { y: area.y + 1, height: 2, ..area }, usize::MAX);
        let head = below(area, TOP, 1);
        table.draw_borders(pen, head);
        pen.text(Rect { width: grid.label, ..head }, 0, self.title, Tone::Dim);
        let height = area.height.saturating_sub(TOP + 1 + self.below);
        let rows = below(area, TOP + 1, height);
        table.draw_borders(pen, rows);
        [rows, below(area, TOP + 1 + height, self.below)]
    }
}

/// What a sheet shows, and in which columns.
type Shown<'a> = (&'a State, &'a Sight, &'a Grid);

/// A row of a sheet.
pub(super) struct Row {
    /// The sign before it, if it is not the chosen one.
    pub(super) mark: char,
    /// What it is about.
    pub(super) label: (String, Tone),
    /// What each member has of it, by column; `None` where nothing is to be said.
    pub(super) cells: Vec<Option<Cell>>,
}

/// Draws those rows of a sheet that are shown: `count` in all, made by their positions.
fn draw_rows(
    pen: &mut Pen<'_>,
    (rows, grid): (Rect, &Grid),
    (count, chosen): (usize, usize),
    row: impl Fn(usize) -> Row,
) {
    for (place, line, is_chosen) in shown(rows, count, chosen) {
        let Row { mark, label: (text, tone), cells } = row(place);
        let mark = if is_chosen && mark == ' ' { '»' } else { mark };
        pen.text(Rect { width: grid.label, ..line }, 0, &format!("{mark}{text}"), tone);
        for member in grid.members() {
            if let Some(Some(cell)) = cells.get(member) {
                cell.draw(pen, grid.cell(line, member));
            }
        }
        if is_chosen {
            pen.tint(line, 0, Tone::Chosen);
        }
    }
}

/// The rows that are shown, with the chosen one among them: the position of each, its line, and
/// whether it is the chosen one.
fn shown(rows: Rect, count: usize, chosen: usize) -> impl Iterator<Item = (usize, Rect, bool)> {
    let first = window(count, usize::from(rows.height), chosen);
    let lines = (first..count).zip(0..rows.height);
    lines.map(move |(place, line)| (place, below(rows, line, 1), place == chosen))
}

/// Draws a view.
pub(crate) fn draw(pen: &mut Pen<'_>, area: Rect, state: &State, view: View) {
    let sight = state.sight();
    match view {
        View::Log => log::draw(pen, area, state, &sight),
        View::Keys => keys::draw(pen, area, state, &sight),
        View::Waits => waits::draw(pen, area, state, &sight),
        View::Lines => lines::draw(pen, area, state, &sight),
    }
}

/// Draws sentences below a rule, and on the last line what the signs mean.
fn draw_about(pen: &mut Pen<'_>, area: Rect, (title, said): (&str, &[String]), legend: &str) {
    pen.rule(area, 0, title);
    let width = usize::from(area.width).saturating_sub(2);
    let room = area.height.saturating_sub(2);
    let said: Vec<String> = said.iter().map(|said| pen.words(said)).collect();
    let lines = said.iter().flat_map(|said| wrap(said, width)).take(usize::from(room));
    for (line, at) in lines.zip(1..) {
        pen.text(area, at, &format!(" {line}"), Tone::Plain);
    }
    let last = below(area, area.height.saturating_sub(1), 1);
    pen.text(last, 0, &format!(" {legend}"), Tone::Dim);
}
