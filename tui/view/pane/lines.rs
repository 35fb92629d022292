//! What the members print: a line of the screen for each line of a log.

use std::collections::VecDeque;

use ratatui::layout::Rect;

use super::{
    super::{
        cluster::{banner, below},
        pen::{Pen, Tone, wrap},
    },
    ABOUT, shown,
};
use crate::state::{
    State,
    pane::{Sight, lines::Line},
    room::Hands,
    text, words,
};

/// Draws the members' logs.
pub(super) fn draw(pen: &mut Pen<'_>, area: Rect, state: &State, sight: &Sight) {
    banner::draw(pen, area, state, &sight.board);
    let printed = state.panes.lines.at(sight);
    pen.rule(area, 1, "LOGS");
    if printed.lines.is_empty() {
        pen.text(area, 3, &format!("   {}", nothing(state.room.hands)), Tone::Plain);
        return;
    }
    let height = area.height.saturating_sub(2 + ABOUT);
    let rows = below(area, 2, height);
    let names = names_width(printed.lines, usize::from(area.width));
    for (place, at, is_chosen) in shown(rows, printed.lines.len(), printed.chosen) {
        let line = &printed.lines[place];
        let mark = if is_chosen { '»' } else { ' ' };
        let tone = match line.level.as_str() {
            _ if printed.past <= place => Tone::Dim,
            "error" | "fatal" | "panic" => Tone::Bad,
            "warn" => Tone::Strong,
            _ => Tone::Plain,
        };
        pen.text(at, 0, &format!("{mark} {}", row(line, names)), tone);
        if is_chosen {
            pen.tint(at, 0, Tone::Chosen);
        }
    }
    let about = below(area, 2 + height, ABOUT);
    pen.rule(about, 0, "THIS LINE");
    if let Some(line) = printed.lines.get(printed.chosen) {
        let width = usize::from(area.width).saturating_sub(2);
        let lines = wrap(&text::clean(&line.text), width);
        for (line, at) in lines.iter().take(usize::from(ABOUT) - 1).zip(1..) {
            pen.text(about, at, &format!(" {line}"), Tone::Plain);
        }
    }
}

/// How wide the column of the members' names is, of this width in all.
pub(in crate::view) fn names_width(lines: &VecDeque<Line>, width: usize) -> usize {
    let longest = lines.iter().map(|line| line.name.chars().count()).max();
    longest.unwrap_or(0).clamp(10, (width / 8).max(10))
}

/// A line of a log.
pub(in crate::view) fn row(line: &Line, names: usize) -> String {
    let time = line.at_ns.map_or_else(|| "?".to_owned(), words::time_of_day);
    let name = words::cut(&text::clean(&line.name), names);
    let level = words::cut(&text::clean(&line.level), 5);
    format!("{time:<12} {name:<names$} {level:<5} {}", text::clean(&line.text))
}

/// Why there are no lines.
pub(in crate::view) fn nothing(hands: Hands) -> &'static str {
    match hands {
        Hands::Recording => "This recording has no log lines.",
        Hands::Nobody => {
            "No `glass up` that runs these members is known: their logs are elsewhere."
        }
        Hands::Own | Hands::Other => "The members have printed nothing into their log files yet.",
    }
}
