//! The pages beside a step: its source, and what the book says of it. Each fills the screen, or is
//! an excerpt around its line where a window has room for it beside the lanes.

use ratatui::layout::Rect;

use super::{
    pen::{Pen, Tone},
    shelf::Shelf,
};
use crate::state::{
    page::{Line, Page, Reading, Role, Text},
    steps::Steps,
    text,
};

/// Lines above the text: the title, and where else to read.
const HEAD: u16 = 2;
/// Columns before a line of a source, and before one of the book.
const SOURCE_GUTTER: usize = 7;
const BOOK_GUTTER: usize = 3;

/// Draws the page of the step at the look cursor over the whole area.
pub(crate) fn draw(pen: &mut Pen<'_>, area: Rect, steps: &Steps, reading: Reading) {
    let Some(page) = page(steps, (pen.shelf(), reading.text), area.width) else { return };
    let stage = steps.steps.get(steps.look).map_or("", |step| step.event.stage.name());
    pen.rule(area, 0, &format!("{stage}   {}", page.title));
    pen.text(area, 1, &format!("  {}", page.address), Tone::Dim);
    let text = Rect { y: area.y + HEAD, height: area.height.saturating_sub(HEAD), ..area };
    let rows = |line: &Line| rows_of(line, 0, text.width).len();
    let first = page.first(reading.scrolled, usize::from(text.height), rows);
    draw_lines(pen, text, &page.lines[first..], 0);
}

/// Draws the part around the line of interest, with its title.
pub(crate) fn draw_excerpt(pen: &mut Pen<'_>, area: Rect, steps: &Steps, text: Text) {
    let Some(page) = page(steps, (pen.shelf(), text), area.width) else { return };
    pen.rule(area, 0, &page.title);
    let text = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    let height = usize::from(text.height);
    let is_source = page.lines.get(page.at).is_some_and(|line| line.number.is_some());
    let first = |indent| {
        let rows = |line: &Line| rows_of(line, indent, text.width).len();
        match is_source {
            true => page.first(0, height, rows),
            false => page.at.min(page.first(isize::MAX, height, rows)),
        }
    };
    let shown = page.lines.iter().skip(first(0)).take(height);
    let indent = |line: &Line| line.text.len() - line.text.trim_start().len();
    let is_code = |line: &&Line| line.number.is_some() && !line.text.trim().is_empty();
    let common = shown.filter(is_code).map(indent).min().unwrap_or(0);
    draw_lines(pen, text, &page.lines[first(common)..], common);
}

/// The page of the step at the look cursor.
pub(super) fn page(steps: &Steps, (shelf, text): (Shelf, Text), width: u16) -> Option<Page> {
    let stage = steps.steps.get(steps.look)?.event.stage;
    Some(match text {
        Text::Source => (shelf.source)(stage),
        Text::Book => (shelf.book)(stage, usize::from(width).saturating_sub(3).min(100)),
    })
}

/// Draws these lines without their common indentation.
fn draw_lines(pen: &mut Pen<'_>, area: Rect, lines: &[Line], indent: usize) {
    let tone = |line: &Line| match line.role {
        Role::Plain | Role::Code => Tone::Plain,
        Role::Heading | Role::Marked => Tone::Strong,
        Role::Remark => Tone::Dim,
    };
    let rows = lines.iter().flat_map(|line| {
        rows_of(line, indent, area.width).into_iter().map(move |row| (tone(line), row))
    });
    for ((tone, text), row) in rows.zip(0..area.height) {
        pen.text(area, row, &text, tone);
    }
}

/// The rows that a line takes in a room of this width: the rest of a long line stands below it.
fn rows_of(line: &Line, indent: usize, width: u16) -> Vec<String> {
    let gutter = if line.number.is_some() { SOURCE_GUTTER } else { BOOK_GUTTER };
    let room = usize::from(width).saturating_sub(gutter);
    let folded = text::folded(without(line, indent), room);
    let rows = folded.into_iter().enumerate().map(|(at, row)| match at {
        0 => format!("{}{row}", gutter_of(line)),
        _ => format!("{:gutter$}{row}", ""),
    });
    rows.collect()
}

/// A line of a page, less this indentation.
pub(super) fn line_text(line: &Line, indent: usize) -> String {
    format!("{}{}", gutter_of(line), without(line, indent))
}

fn without(line: &Line, indent: usize) -> &str {
    line.text.get(indent..).unwrap_or_else(|| line.text.trim_start())
}

/// What stands before a line: its number, and whether it is marked.
fn gutter_of(line: &Line) -> String {
    match line.number {
        Some(number) => {
            let mark = if line.role == Role::Marked { '»' } else { ' ' };
            format!("{mark}{number:>4}  ")
        }
        None if line.role == Role::Marked => " » ".to_owned(),
        None => "   ".to_owned(),
    }
}
