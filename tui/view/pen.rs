//! Drawing for all screens: text in a tone, at a position, cut to its region.

use ratatui::{
    buffer::Buffer,
    layout::{Position, Rect},
    style::{Modifier, Style},
};

use super::{
    shelf::Shelf,
    theme::{Hue, Palette},
};
pub(crate) use crate::state::text::wrap;
use crate::state::{
    Action,
    kind::StepKind,
    text::{visible, width as columns},
};

/// Options of the terminal: colour, and the characters that it can show. And the texts that
/// are read beside a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// The colours that are used.
    pub(crate) palette: Palette,
    /// Whether only ASCII may be used.
    pub(crate) is_ascii: bool,
    /// Whether the mouse is taken.
    pub(crate) has_mouse: bool,
    /// Where the source and the book come from.
    pub(crate) shelf: Shelf,
}

impl Look {
    /// The text in this look: with escapes for what nobody sees, or with ASCII replacements.
    pub(crate) fn words(self, text: &str) -> String {
        if !self.is_ascii {
            return visible(text);
        }
        let mut words = String::with_capacity(text.len());
        for character in text.chars() {
            match ASCII.iter().find(|(special, _)| *special == character) {
                Some((_, plain)) => words.push_str(plain),
                None if character.is_ascii() => words.push(character),
                None => words.push('?'),
            }
        }
        words
    }
}

/// Replacements for the non-ASCII characters that the player uses.
const ASCII: &[(char, &str)] = &[
    ('→', "->"),
    ('╳', "X"),
    ('←', "<-"),
    ('↑', "up"),
    ('↓', "down"),
    ('─', "-"),
    ('│', "|"),
    ('┼', "+"),
    ('┬', "+"),
    ('┴', "+"),
    ('►', ">"),
    ('◄', "<"),
    ('◆', "*"),
    ('»', ">"),
    ('·', "."),
    ('✔', "[ok]"),
    ('✘', "[no]"),
    ('…', "~"),
    ('≤', "<="),
    ('≥', ">="),
    ('µ', "u"),
    ('×', "x"),
    ('▶', ">"),
    ('▁', "_"),
    ('▂', "."),
    ('▃', ":"),
    ('▄', "-"),
    ('▅', "="),
    ('▆', "+"),
    ('▇', "*"),
    ('█', "#"),
    ('▌', "="),
    ('▏', "-"),
];

/// The role of a text, which determines its style.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    /// Background: the future, rules, keys.
    Dim,
    /// Headings, and the newest step.
    Strong,
    /// The row at the cursor.
    Chosen,
    /// The leader, and what is safe.
    Good,
    /// Failed, missing or unknown.
    Bad,
    /// A step of this kind.
    Of(StepKind),
}

impl Tone {
    fn style(self, look: Look) -> Style {
        let plain = Style::default();
        let bold = |style: Style| style.add_modifier(Modifier::BOLD);
        match self {
            Tone::Plain => plain,
            Tone::Dim => look.palette.style(Hue::Grey),
            Tone::Strong => bold(plain),
            Tone::Chosen => plain.add_modifier(Modifier::REVERSED),
            Tone::Good => bold(look.palette.style(Hue::Green)),
            Tone::Bad => bold(look.palette.style(Hue::Red)),
            Tone::Of(kind) => match kind {
                StepKind::Disk => look.palette.style(Hue::Yellow),
                StepKind::Network => look.palette.style(Hue::Cyan),
                StepKind::Raft => look.palette.style(Hue::Magenta),
                StepKind::Apply => look.palette.style(Hue::Green),
                StepKind::Read => look.palette.style(Hue::Blue),
                StepKind::Call | StepKind::Member => plain,
            },
        }
    }
}

/// What a click means, by region.
#[derive(Debug, Default)]
pub(crate) struct Targets(Vec<(Rect, Action)>);

impl Targets {
    /// The action at a cell.
    pub(crate) fn at(&self, column: u16, line: u16) -> Option<Action> {
        let is_in = |area: &Rect| area.contains(Position { x: column, y: line });
        self.0.iter().rev().find(|(area, _)| is_in(area)).map(|(_, action)| *action)
    }
}

/// Writes into the screen's buffer.
pub(crate) struct Pen<'a> {
    buffer: &'a mut Buffer,
    look: Look,
    targets: Vec<(Rect, Action)>,
}

impl<'a> Pen<'a> {
    /// A pen for this buffer.
    pub(crate) fn new(buffer: &'a mut Buffer, look: Look) -> Pen<'a> {
        Pen { buffer, look, targets: Vec::new() }
    }

    /// A click on this region means this action.
    pub(crate) fn target(&mut self, area: Rect, action: Action) {
        self.targets.push((area, action));
    }

    /// What clicks mean on what was drawn.
    pub(crate) fn targets(self) -> Targets {
        Targets(self.targets)
    }

    /// The text as it will be written: layout depends on this length.
    pub(crate) fn words(&self, text: &str) -> String {
        self.look.words(text)
    }

    /// Writes a line into the region, from its left edge, cut at its right edge. Returns the number
    /// of columns used.
    pub(crate) fn text(&mut self, area: Rect, line: u16, text: &str, tone: Tone) -> u16 {
        if area.height <= line {
            return 0;
        }
        let text = self.look.words(text);
        let width = usize::from(area.width);
        let text = self.look.words(&crate::state::words::cut(&text, width));
        // A cell that was written before keeps nothing of its old style.
        let style = Style::reset().patch(tone.style(self.look));
        let (end, _) = self.buffer.set_stringn(area.x, area.y + line, text, width, style);
        end.saturating_sub(area.x)
    }

    /// Where the texts beside a step come from.
    pub(crate) fn shelf(&self) -> Shelf {
        self.look.shelf
    }

    /// A line down the left edge of the region.
    pub(crate) fn border(&mut self, area: Rect) {
        for line in 0..area.height {
            self.text(Rect { width: area.width.min(1), ..area }, line, "│", Tone::Dim);
        }
    }

    /// Changes the tone of a whole line.
    pub(crate) fn tint(&mut self, area: Rect, line: u16, tone: Tone) {
        if line < area.height {
            let line = Rect { y: area.y + line, height: 1, ..area };
            self.buffer.set_style(line, tone.style(self.look));
        }
    }

    /// A rule across the region, with a title.
    pub(crate) fn rule(&mut self, area: Rect, line: u16, title: &str) {
        let dashes = "─".repeat(usize::from(area.width));
        self.text(area, line, &dashes, Tone::Dim);
        if !title.is_empty() {
            let inner = Rect { x: area.x + 2, width: area.width.saturating_sub(4), ..area };
            self.text(inner, line, &format!(" {title} "), Tone::Strong);
        }
    }
}

/// The first of these forms of a text that fits into this width; the last one if none does.
pub(crate) fn fitting(forms: Vec<String>, width: usize) -> String {
    let fits = forms.iter().position(|form| columns(form) <= width);
    let place = fits.unwrap_or(forms.len().saturating_sub(1));
    forms.into_iter().nth(place).unwrap_or_default()
}

/// Joins pieces into lines without breaking any, with a gap between them.
pub(crate) fn pack(pieces: &[String], gap: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for piece in pieces {
        let more = columns(gap) + columns(piece);
        match lines.last_mut() {
            Some(line) if columns(line) + more <= width => {
                line.push_str(gap);
                line.push_str(piece);
            }
            _ => lines.push(piece.clone()),
        }
    }
    lines
}

/// Joins pieces into lines of this width, as the pen will write them. Only a piece that is longer
/// than a line is broken.
pub(crate) fn pack_words(pen: &Pen<'_>, pieces: &[String], width: usize) -> Vec<String> {
    let pieces = pieces.iter().map(|piece| pen.words(piece));
    let fit = |piece: String| match columns(&piece) <= width {
        true => vec![piece],
        false => wrap(&piece, width),
    };
    let pieces: Vec<String> = pieces.flat_map(fit).collect();
    pack(&pieces, "   ", width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_over_another_has_its_own_style_only() {
        let look =
            Look { palette: Palette::Light, is_ascii: false, has_mouse: false, shelf: Shelf::OWN };
        let area = Rect::new(0, 0, 4, 1);
        let (mut once, mut twice) = (Buffer::empty(area), Buffer::empty(area));
        Pen::new(&mut once, look).text(area, 0, "NOW!", Tone::Strong);
        let mut pen = Pen::new(&mut twice, look);
        for tone in [Tone::Dim, Tone::Bad, Tone::Strong] {
            pen.text(area, 0, "NOW!", tone);
        }
        assert_eq!(once, twice);
    }

    /// Goal: no sign of a view is a question mark in ASCII. Method: all signs that the code of the
    /// views and of their words contains.
    #[test]
    fn every_sign_has_its_words_in_ascii() {
        let is_known =
            |sign: &char| sign.is_ascii() || ASCII.iter().any(|(known, _)| known == sign);
        let mut folders = vec!["tui/view".into(), "tui/state".into()];
        let mut missing = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir::<std::path::PathBuf>(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap();
                if path.is_dir() && name != "tests" && name != "snapshots" {
                    folders.push(path);
                } else if name.ends_with(".rs") && !["tests.rs", "scenes.rs"].contains(&name) {
                    let text = std::fs::read_to_string(&path).unwrap();
                    let shipped = text.split("#[cfg(test)]\nmod tests").next().unwrap();
                    let code = shipped.lines().filter(|line| !line.trim_start().starts_with("//"));
                    let signs = code.flat_map(str::chars).filter(|sign| !is_known(sign));
                    missing.extend(signs.map(|sign| format!("{}: {sign}", path.display())));
                }
            }
        }
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn ascii_leaves_nothing_beyond_ascii() {
        let look =
            Look { palette: Palette::None, is_ascii: true, has_mouse: false, shelf: Shelf::OWN };
        assert_eq!(look.words("41→42 ✔ é"), "41->42 [ok] ?");
        let look = Look { is_ascii: false, ..look };
        assert_eq!(look.words("etcd\u{202e}→"), "etcd\\u{202e}→");
        assert!(ASCII.iter().all(|(special, plain)| !special.is_ascii() && plain.is_ascii()));
    }
}
