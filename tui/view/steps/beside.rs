//! The requests beside the lanes: the one that is open among its neighbours.

use ratatui::layout::Rect;

use super::super::{
    list::{result, what, window},
    pen::{Pen, Tone},
};
use crate::state::{State, steps::Steps, story::RequestSummary, words};

/// Draws the list into the region left of the lanes.
pub(super) fn draw(pen: &mut Pen<'_>, area: Rect, state: &State, steps: &Steps) {
    let area = Rect { width: area.width.saturating_sub(1), ..area };
    pen.rule(area, 0, "REQUESTS");
    let rows = &state.list.rows;
    let lines = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    let open = rows.iter().position(|row| row.subject == steps.subject);
    let height = usize::from(lines.height);
    let first = window(rows.len(), height, open.unwrap_or(0));
    for ((at, row), line) in rows.iter().enumerate().skip(first).take(height).zip(0..) {
        let is_ahead = state.quiz.is_ahead(row.subject);
        let is_bad = row.result.is_some_and(|code| code != 0) && !is_ahead;
        let tone = if is_bad { Tone::Bad } else { Tone::Plain };
        let marks = (Some(at) == open, is_ahead);
        pen.text(lines, line, &text(row, marks, usize::from(lines.width)), tone);
        if Some(at) == open {
            pen.tint(lines, line, Tone::Chosen);
        }
    }
}

/// What was asked, and how long it took or how it ended, unless a lesson asks about it later.
fn text(row: &RequestSummary, (is_open, is_ahead): (bool, bool), width: usize) -> String {
    let mark = if is_open { '»' } else { ' ' };
    let took = match (row.result, row.took_ns) {
        _ if is_ahead => String::new(),
        (Some(0), Some(ns)) => words::duration(ns),
        _ => result(row).to_owned(),
    };
    let room = width.saturating_sub(took.chars().count() + 2);
    let (rpc, key) = what(row, room);
    let rpc = rpc.rsplit('/').next().unwrap_or(&rpc);
    let asked = format!("{rpc} {key}");
    format!("{mark}{:<room$} {took}", words::cut(asked.trim_end(), room))
}
