//! The views beside the stories: the members' heads above, the rows of one view, and below what is
//! to be said about the chosen row.
//!
//! ```text
//!  banner   QUORUM 3/3   etcd-01 leads term 3              step 14/31 of put foo
//!  heads    name, role ─ how it is, and since when
//!  rows     a row for each thing, a column for each member
//!  about    the chosen row in sentences ─ what the signs mean
//! ```

pub(super) mod keys;
pub(super) mod lines;
pub(super) mod log;
pub(super) mod waits;

use ratatui::layout::Rect;

use super::{
    cluster::{Grid, Table, banner, below},
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

/// Draws the banner and the heads; the labels of the rows below have this width.
fn draw_top<'a>(
    pen: &mut Pen<'_>,
    area: Rect,
    (state, sight, grid): (&'a State, &'a Sight, &'a Grid),
) -> Table<'a> {
    let table = Table { state, board: &sight.board, grid };
    banner::draw(pen, area, state, &sight.board);
    table.draw_heads(pen, Rect { y: area.y + 1, height: 2, ..area }, usize::MAX);
    table
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
