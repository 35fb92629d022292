//! A screen as an SVG file: for the README, the book, and anybody who wants to show one.
//!
//! The picture needs nothing from outside, and follows the reader's preference for light or dark.
//! Each run of cells in one style is a text with its exact width, so that columns stay columns in
//! any font. The same screen is the same file, byte by byte.

#[cfg(test)]
pub(crate) mod moving;

use std::fmt::Write as _;

use ratatui::{
    buffer::{Buffer, Cell},
    style::Modifier,
};

use crate::view::theme::{self, Hue};

/// Size of a cell, and the margin, in pixels.
const WIDTH: usize = 8;
const HEIGHT: usize = 17;
const MARGIN: usize = 10;
/// From the upper edge of a cell to the base line of its text.
const BASE: usize = 13;

/// Colours on light and on dark ground: text, ground, and the palette that the player uses.
const STYLE: &str = "\
text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;white-space:pre;fill:#1f2328}\
.g{fill:#fff}.b{font-weight:700}.d{fill:#656d76}.i{fill:#fff}.k{fill:#1f2328}\
.red{fill:#cf222e}.green{fill:#116329}.yellow{fill:#7d4e00}.blue{fill:#0550ae}\
.magenta{fill:#8250df}.cyan{fill:#1b7c83}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.g{fill:#0d1117}.d{fill:#848d97}\
.i{fill:#0d1117}.k{fill:#e6edf3}.red{fill:#ff7b72}.green{fill:#56d364}.yellow{fill:#e3b341}\
.blue{fill:#79c0ff}.magenta{fill:#d2a8ff}.cyan{fill:#76e3ea}}";

/// The screen as a picture.
pub(crate) fn svg(buffer: &Buffer) -> String {
    let size = (usize::from(buffer.area.width), usize::from(buffer.area.height));
    let pieces: String = pieces(buffer).iter().map(|piece| format!("{piece}\n")).collect();
    format!("{}{pieces}</svg>\n", head(size, STYLE))
}

/// The beginning of a picture: its size in columns and lines, its style, and its ground.
fn head((columns, lines): (usize, usize), style: &str) -> String {
    let (width, height) = (columns * WIDTH + 2 * MARGIN, lines * HEIGHT + 2 * MARGIN);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\">\n<style>{style}</style>\n\
         <rect class=\"g\" width=\"100%\" height=\"100%\" rx=\"6\"/>\n"
    )
}

/// What is drawn on the ground: a piece for each run of cells in one style.
fn pieces(buffer: &Buffer) -> Vec<String> {
    let mut pieces = Vec::new();
    let columns = usize::from(buffer.area.width).max(1);
    for (line, cells) in buffer.content().chunks(columns).enumerate() {
        let mut column = 0;
        for run in cells.chunk_by(|a, b| classes(a) == classes(b)) {
            pieces.extend(piece(run, (column, line)));
            column += run.len();
        }
    }
    pieces
}

/// The classes of a cell's text, and whether the cell is reversed.
fn classes(cell: &Cell) -> (String, bool) {
    let is_reversed = cell.modifier.contains(Modifier::REVERSED);
    let colour = match theme::hue_of(cell.fg) {
        _ if is_reversed => "i",
        Some(Hue::Red) => "red",
        Some(Hue::Green) => "green",
        Some(Hue::Yellow) => "yellow",
        Some(Hue::Blue) => "blue",
        Some(Hue::Magenta) => "magenta",
        Some(Hue::Cyan) => "cyan",
        Some(Hue::Grey) => "d",
        None if cell.modifier.contains(Modifier::DIM) => "d",
        None => "",
    };
    let bold = if cell.modifier.contains(Modifier::BOLD) { "b" } else { "" };
    (format!("{bold} {colour}").trim().to_owned(), is_reversed)
}

/// The cells of one style; blank ones need no text.
fn piece(run: &[Cell], (column, line): (usize, usize)) -> Option<String> {
    let (class, is_reversed) = classes(run.first()?);
    let (x, y) = (MARGIN + column * WIDTH, MARGIN + line * HEIGHT);
    let length = run.len() * WIDTH;
    let mut piece = String::new();
    if is_reversed {
        let _ = write!(
            piece,
            "<rect class=\"k\" x=\"{x}\" y=\"{y}\" width=\"{length}\" height=\"{HEIGHT}\"/>"
        );
    }
    let text: String = run.iter().map(Cell::symbol).collect();
    let inner = text.trim_end();
    let skipped = inner.chars().take_while(|c| *c == ' ').count();
    let inner = inner.trim_start();
    if !inner.is_empty() {
        let (x, length) = (x + skipped * WIDTH, inner.chars().count() * WIDTH);
        let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
        let _ = write!(
            piece,
            "<text{class} x=\"{x}\" y=\"{}\" textLength=\"{length}\" \
             lengthAdjust=\"spacingAndGlyphs\">{}</text>",
            y + BASE,
            escaped(inner)
        );
    }
    Some(piece).filter(|piece| !piece.is_empty())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::{
        layout::Rect,
        style::{Color, Style},
    };

    #[test]
    fn a_screen_is_a_picture_that_hides_nothing_and_needs_nothing() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 24, 2));
        buffer.set_string(0, 0, "  a < b & \"c\"", Style::new());
        let red = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
        buffer.set_string(0, 1, "DOWN", red);
        buffer.set_string(5, 1, "chosen", Style::new().add_modifier(Modifier::REVERSED));
        let picture = svg(&buffer);
        assert!(picture.contains(">a &lt; b &amp; &quot;c&quot;</text>"), "{picture}");
        assert!(picture.contains("<text class=\"b red\" x=\"10\" y=\"40\" textLength=\"32\""));
        assert!(picture.contains("<rect class=\"k\" x=\"50\" y=\"27\" width=\"48\""));
        let outside = picture.replace("http://www.w3.org/2000/svg", "");
        assert!(!outside.contains("http") && !outside.contains("url("), "{picture}");
        assert!(picture.contains("prefers-color-scheme:dark"));
        assert_eq!(picture, svg(&buffer), "it is deterministic");
    }
}
