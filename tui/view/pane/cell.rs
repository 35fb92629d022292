//! What a member has of a row: a word, and the watermarks that stand there.

use ratatui::layout::Rect;

use super::super::pen::{Pen, Tone};
use crate::state::text;

/// Narrowest column that has room for all watermarks in words.
const WORDS_MIN: u16 = 50;

/// See the module's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::view) struct Cell {
    /// The word in all its forms, the longest first.
    forms: Vec<String>,
    tone: Tone,
    /// The watermarks in words and in letters; empty if none stand there.
    marks: [String; 2],
}

impl Cell {
    /// A cell with a word that has one form.
    pub(super) fn of((word, tone): (&str, Tone)) -> Cell {
        Cell { forms: vec![word.to_owned()], tone, marks: Default::default() }
    }

    /// A cell with the forms of a word, and with watermarks in words and in letters.
    pub(super) fn with_marks(forms: Vec<String>, tone: Tone, marks: [String; 2]) -> Cell {
        Cell { forms, tone, marks }
    }

    /// The cell as text.
    pub(in crate::view) fn words(&self) -> String {
        let word = self.forms.first().map_or("", String::as_str);
        format!("{word} {}", self.marks[0]).trim_end().to_owned()
    }

    /// Draws the cell. The watermarks are drawn in any case, and the word in the longest form that
    /// they leave room for.
    pub(super) fn draw(&self, pen: &mut Pen<'_>, area: Rect) {
        let [words, letters] = &self.marks;
        let marks = pen.words(if WORDS_MIN <= area.width { words } else { letters });
        let width = usize::from(area.width);
        let marks_width = text::width(&marks);
        // A blank before the word, one before the marks and, if there is room, one behind them.
        let room = |end: usize| match marks_width {
            0 => width.saturating_sub(1),
            marks => width.saturating_sub(2 + marks + end),
        };
        let forms: Vec<String> = self.forms.iter().map(|form| pen.words(form)).collect();
        let ways = forms.iter().flat_map(|form| [(form, 1), (form, 0)]);
        let fits = ways.clone().find(|(form, end)| text::width(form) <= room(*end));
        let Some((form, end)) = fits.or_else(|| ways.last()) else { return };
        let length = u16::try_from(room(end) + 1).unwrap_or(u16::MAX).min(area.width);
        pen.text(Rect { width: length, ..area }, 0, &format!(" {form}"), self.tone);
        let end = u16::try_from(marks_width + end).unwrap_or(u16::MAX).min(area.width);
        if marks_width != 0 {
            let right = Rect { x: area.right() - end, width: end, ..area };
            pen.text(right, 0, &marks, Tone::Strong);
        }
    }
}

#[cfg(test)]
mod tests {
    use ratatui::buffer::Buffer;

    use super::*;
    use crate::view::tests::{ASCII, UNICODE};

    fn drawn(cell: &Cell, width: u16, look: crate::view::Look) -> String {
        let area = Rect::new(0, 0, width, 1);
        let mut buffer = Buffer::empty(area);
        cell.draw(&mut Pen::new(&mut buffer, look), area);
        (0..width).map(|x| buffer[(x, 0)].symbol().to_owned()).collect()
    }

    /// Goal: what does not fit is said in a shorter form, and no watermark is left out.
    #[test]
    fn watermarks_are_drawn_at_every_width_and_the_word_gets_shorter() {
        let forms = ["✔ committed", "✔ commit", "commit"].map(str::to_owned).to_vec();
        let marks = ["◄ written synced commit", "WSC"].map(str::to_owned);
        let cell = Cell::with_marks(forms, Tone::Plain, marks);
        assert_eq!(" ✔ committed WSC ", drawn(&cell, 17, UNICODE));
        assert_eq!(" [ok] commit WSC ", drawn(&cell, 17, ASCII), "the sign takes four columns");
        assert_eq!(" [ok] commit WSC", drawn(&cell, 16, ASCII));
        assert_eq!(" commit    WSC ", drawn(&cell, 15, ASCII));
        for width in 5..60 {
            let said = drawn(&cell, width, ASCII);
            let marks = if width < WORDS_MIN { " WSC" } else { " < written synced commit" };
            assert!(said.trim_end().ends_with(marks), "{said:?}");
        }
        assert_eq!("✔ committed ◄ written synced commit", cell.words());
        assert_eq!(" frozen", drawn(&Cell::of(("frozen", Tone::Plain)), 7, ASCII));
    }
}
