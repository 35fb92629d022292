//! A line that is typed, with its cursor: a request of one's own, or a search.

use ratatui::layout::Rect;

use super::pen::{Pen, Tone};
use crate::state::{line::Line, text};

/// Columns that a long line leaves to what is said beside it.
const ADVICE: usize = 24;

/// Draws a prompt and the line behind it; of a long line, the part around the cursor. Returns the
/// columns that are used.
pub(super) fn draw(pen: &mut Pen<'_>, area: Rect, prompt: &str, line: &Line) -> u16 {
    let (before, after) = line.parts();
    let used = pen.text(area, 0, prompt, Tone::Strong);
    let room = usize::from(area.width.saturating_sub(used + 1));
    // In ASCII, what is written can be longer or shorter than what was typed.
    let before = pen.words(&before);
    let mut after = after.chars();
    let under = pen.words(&after.next().unwrap_or(' ').to_string());
    let wide = u16::try_from(text::width(&under)).unwrap_or(1).max(1);
    let before = text::ending(&before, (room + 1).saturating_sub(usize::from(wide)));
    let rest = Rect { x: area.x + used, width: area.width.saturating_sub(used), ..area };
    let used = pen.text(rest, 0, before, Tone::Plain);
    let cursor =
        Rect { x: rest.x + used, width: rest.width.saturating_sub(used).min(wide), ..rest };
    pen.text(cursor, 0, &under, Tone::Chosen);
    let rest = Rect { x: cursor.right(), width: rest.right() - cursor.right(), ..rest };
    let used = pen.text(rest, 0, &after.collect::<String>(), Tone::Plain);
    rest.x + used - area.x
}

/// Draws such a line, and behind it what can be done, or why it means nothing.
pub(super) fn draw_search(
    pen: &mut Pen<'_>,
    area: Rect,
    (prompt, line): (&str, &Line),
    advice: &str,
) {
    let most = usize::from(area.width).saturating_sub(ADVICE);
    let narrow = u16::try_from(most).unwrap_or(area.width);
    let used = draw(pen, Rect { width: narrow.min(area.width), ..area }, prompt, line);
    let beside = Rect { x: area.x + used, width: area.width.saturating_sub(used), ..area };
    pen.text(beside, 0, &format!("  ({})", text::clean(advice)), Tone::Dim);
}
