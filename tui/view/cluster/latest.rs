//! Below the members: the latest requests; or what a key will do, before it is done.

use ratatui::layout::Rect;

use super::{
    super::{
        list::{self, Widths, request_line},
        pen::{Pen, Tone, wrap},
    },
    below,
};
use crate::state::{
    State, forecast,
    room::{Board, Question},
    story::RequestSummary,
};

/// For somebody who sees this for the first time: what the columns are, and what to do.
const GREETING: [&str; 3] = [
    "   Each column is a member with a copy of all keys. The leader orders writes.",
    "   Press i and type: put foo bar   (or use etcdctl from another window)",
    "   Its story opens: the right arrow steps through it.",
];

/// The newest requests up to the moment that is shown.
pub(super) fn draw_latest(pen: &mut Pen<'_>, area: Rect, state: &State, board: &Board) {
    pen.rule(area, 0, "LATEST");
    let rows = below(area, 1, area.height.saturating_sub(1));
    let rows = match state.greets() {
        true => draw_greeting(pen, rows),
        false => rows,
    };
    if state.list.rows.is_empty() && !state.greets() {
        return list::draw_nothing(pen, rows);
    }
    let widths = Widths::of(usize::from(area.width), state);
    let is_past = |row: &&RequestSummary| board.is_now || row.wall_ns <= board.at_ns;
    let past: Vec<_> = state.list.rows.iter().filter(is_past).collect();
    let first = past.len().saturating_sub(usize::from(rows.height));
    for (row, line) in past[first..].iter().zip(0..) {
        let row = if board.is_now { (*row).clone() } else { so_far(row, board.at_ns) };
        let tone = if row.result.is_some_and(|code| code != 0) { Tone::Bad } else { Tone::Plain };
        pen.text(rows, line, &format!("   {}", request_line(state, &row, widths)), tone);
    }
}

/// The greeting; the rest of the region is for the rows.
fn draw_greeting(pen: &mut Pen<'_>, area: Rect) -> Rect {
    for (line, at) in GREETING.iter().zip(0..) {
        let tone = if at == 1 { Tone::Strong } else { Tone::Plain };
        pen.text(area, at, line, tone);
    }
    let lines = u16::try_from(GREETING.len()).unwrap_or(0) + 1;
    below(area, lines, area.height.saturating_sub(lines))
}

/// The row as it stood at this moment: one that had not ended has no result yet.
fn so_far(row: &RequestSummary, at_ns: u64) -> RequestSummary {
    let began = row.wall_ns;
    let mut row = row.clone();
    if row.unknown_since.is_some_and(|since| at_ns <= since) {
        (row.unknown_since, row.is_open) = (None, true);
    }
    if row.took_ns.is_some_and(|took| at_ns < began.saturating_add(took)) {
        (row.took_ns, row.result, row.revision) = (None, None, None);
        (row.outcome, row.is_cancelled, row.is_open) = (None, false, true);
    }
    row
}

/// What a key will do, before it is done.
pub(super) fn draw_question(
    pen: &mut Pen<'_>,
    area: Rect,
    state: &State,
    question: &Question,
    board: &Board,
) {
    let (title, said) = match question {
        Question::Act(command) => {
            let verb = forecast::verb(command.action);
            let title = forecast::named(command).replacen(verb, &verb.to_uppercase(), 1);
            (format!("{title}?"), state.forecast(command))
        }
        Question::Boot(moment) => ("BOOT THIS MOMENT?".to_owned(), moment.said.clone()),
        Question::Leave => {
            let own = board.columns.iter().filter(|column| column.process.is_some());
            let names: Vec<&str> = own.map(|column| column.name.as_str()).collect();
            let names = names.join(", ");
            let said = [
                format!("q stops {names}, in order."),
                "d leaves them running: glass plays them again, and glass run down stops them."
                    .to_owned(),
                "Esc stays.".to_owned(),
            ];
            ("LEAVE?".to_owned(), said.to_vec())
        }
    };
    draw_said(pen, area, &title, &said);
}

/// Sentences below a title.
pub(super) fn draw_said(pen: &mut Pen<'_>, area: Rect, title: &str, said: &[String]) {
    pen.rule(area, 0, title);
    let width = usize::from(area.width).saturating_sub(4);
    let lines = said.iter().flat_map(|said| wrap(said, width));
    for (line, at) in lines.zip(1..) {
        pen.text(area, at, &format!("  {line}"), Tone::Strong);
    }
}
