//! A page of text, which the reader scrolls.

use ratatui::layout::Rect;

use super::pen::{Pen, Tone, wrap};
use crate::state::{compared::Compared, text};

/// Draws the page from the first line that is not scrolled away; long lines are continued.
pub(crate) fn draw(pen: &mut Pen<'_>, area: Rect, page: &Compared) {
    pen.rule(area, 0, &page.title);
    let width = usize::from(area.width).saturating_sub(2).max(1);
    let lines = page.lines.iter().skip(page.scrolled).flat_map(|line| {
        let line = text::clean(&pen.words(line));
        let fits = line.chars().count() <= width;
        if fits { vec![line] } else { wrap(&line, width) }
    });
    let lines: Vec<String> = lines.take(usize::from(area.height.saturating_sub(1))).collect();
    for (line, at) in lines.iter().zip(1..) {
        pen.text(area, at, &format!(" {line}"), Tone::Plain);
    }
}
