//! The keys that are valid now, from the table of keys.

use ratatui::layout::Rect;

use super::pen::{Pen, Tone};
use crate::{
    keys,
    state::{State, words},
};

/// Draws the list of keys in several columns if needed.
pub(crate) fn draw(pen: &mut Pen<'_>, area: Rect, state: &State) {
    pen.rule(area, 0, "KEYS THAT ARE VALID NOW");
    let rows: Vec<(String, &str)> =
        keys::valid(state).map(|row| (pen.words(row.shown), row.does)).collect();
    let height = usize::from(area.height.saturating_sub(3)).max(1);
    let columns = rows.len().div_ceil(height).max(1);
    let per_column = rows.len().div_ceil(columns).max(1);
    let width = area.width / u16::try_from(columns).unwrap_or(1);
    for (column, part) in (0..).zip(rows.chunks(per_column)) {
        let x = area.x + column * width;
        let cell = Rect { x, y: area.y + 2, width, height: area.height.saturating_sub(2) };
        for ((shown, does), line) in part.iter().zip(0..) {
            let room = usize::from(width).saturating_sub(12);
            pen.text(cell, line, &format!("  {shown:<9}"), Tone::Strong);
            let does_cell = Rect { x: x + 12, width: width.saturating_sub(12), ..cell };
            pen.text(does_cell, line, &words::cut(does, room), Tone::Plain);
        }
    }
}
