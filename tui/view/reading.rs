//! The pages beside a step: its source, and what the book says of it. Each fills the screen, or is
//! an excerpt around its line where a window has room for it beside the lanes.

use ratatui::layout::Rect;

use super::pen::{Pen, Tone};
use crate::state::{
    book,
    page::{Line, Page, Reading, Role, Text},
    sources,
    steps::Steps,
};

/// Lines above the text: the title, and where else to read.
const HEAD: u16 = 2;

/// Draws the page of the step at the look cursor over the whole area.
pub(crate) fn draw(pen: &mut Pen<'_>, area: Rect, steps: &Steps, reading: Reading) {
    let Some(page) = page(steps, reading.text, area.width) else { return };
    let stage = steps.steps.get(steps.look).map_or("", |step| step.event.stage.name());
    pen.rule(area, 0, &format!("{stage}   {}", page.title));
    pen.text(area, 1, &format!("  {}", page.address), Tone::Dim);
    let text = Rect { y: area.y + HEAD, height: area.height.saturating_sub(HEAD), ..area };
    draw_lines(pen, text, &page, page.first(reading.scrolled, usize::from(text.height)), 0);
}

/// Draws the part around the line of interest, with its title.
pub(crate) fn draw_excerpt(pen: &mut Pen<'_>, area: Rect, steps: &Steps, text: Text) {
    let Some(page) = page(steps, text, area.width) else { return };
    pen.rule(area, 0, &page.title);
    let text = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    let height = usize::from(text.height);
    let first = match page.lines.get(page.at).is_some_and(|line| line.number.is_some()) {
        true => page.first(0, height),
        false => page.at.min(page.lines.len().saturating_sub(height)),
    };
    let shown = page.lines.iter().skip(first).take(height);
    let indent = |line: &Line| line.text.len() - line.text.trim_start().len();
    let is_code = |line: &&Line| line.number.is_some() && !line.text.trim().is_empty();
    let common = shown.filter(is_code).map(indent).min().unwrap_or(0);
    draw_lines(pen, text, &page, first, common);
}

/// The page of the step at the look cursor.
pub(super) fn page(steps: &Steps, text: Text, width: u16) -> Option<Page> {
    let stage = steps.steps.get(steps.look)?.event.stage;
    Some(match text {
        Text::Source => sources::page(stage),
        Text::Book => book::page(stage, usize::from(width).saturating_sub(3).min(100)),
    })
}

/// Draws lines of the page from this one on, without their common indentation.
fn draw_lines(pen: &mut Pen<'_>, area: Rect, page: &Page, first: usize, indent: usize) {
    for (line, row) in page.lines.iter().skip(first).zip(0..area.height) {
        let tone = match line.role {
            Role::Plain | Role::Code => Tone::Plain,
            Role::Heading | Role::Marked => Tone::Strong,
            Role::Remark => Tone::Dim,
        };
        pen.text(area, row, &line_text(line, indent), tone);
    }
}

/// A line of a page, less this indentation.
pub(super) fn line_text(line: &Line, indent: usize) -> String {
    let text = line.text.get(indent..).unwrap_or_else(|| line.text.trim_start());
    match line.number {
        Some(number) => {
            let mark = if line.role == Role::Marked { '»' } else { ' ' };
            format!("{mark}{number:>4}  {text}")
        }
        None if line.role == Role::Marked => format!(" » {text}"),
        None => format!("   {text}"),
    }
}
