//! The keys that are valid now, from the table of keys, and what the signs on the screen mean.
//! A wide window has them side by side, a narrow one below each other.

use ratatui::layout::Rect;

use super::pen::{Pen, Tone, wrap};
use crate::{
    keys::{self, Binding},
    state::{
        State,
        legend::{self, Sign},
        text,
    },
};

/// Width of the names of the keys, and of a column of keys.
const SHOWN: usize = 12;
const COLUMN: usize = 40;
/// Width of the signs.
const SIGN: usize = 14;
/// Width from which keys and signs are side by side.
const BESIDE: u16 = 120;

/// A line: pieces with their column and tone.
type Line = Vec<(usize, String, Tone)>;

/// Draws the list of keys, and beside or below it the signs.
pub(crate) fn draw(pen: &mut Pen<'_>, area: Rect, state: &State) {
    let typed = text::clean(&state.help.typed.text());
    let (keys, signs) = (keys::listed(state), signs(state));
    let title = match typed.is_empty() {
        true => "KEYS THAT ARE VALID NOW".to_owned(),
        false => format!("KEYS THAT ARE VALID NOW   with {typed}_"),
    };
    pen.rule(area, 0, &title);
    let body = Rect { y: area.y + 2, height: area.height.saturating_sub(2), ..area };
    if keys.is_empty() && signs.is_empty() {
        let nothing = "  No key and no sign has that. Backspace takes back a character.";
        pen.text(body, 0, nothing, Tone::Plain);
    } else if BESIDE <= area.width {
        let left = Rect { width: area.width / 2, ..body };
        let right = Rect { x: left.right(), width: area.width - left.width, ..body };
        show(pen, left, &key_lines(pen, &keys, left), state);
        show(pen, right, &sign_lines(pen, &signs, right), state);
    } else {
        let mut lines = key_lines(pen, &keys, body);
        if !signs.is_empty() {
            lines.push(Vec::new());
            lines.extend(sign_lines(pen, &signs, body));
        }
        show(pen, body, &lines, state);
    }
}

/// Draws the lines that are not scrolled away; the last line says whether there are more.
fn show(pen: &mut Pen<'_>, area: Rect, lines: &[Line], state: &State) {
    let height = usize::from(area.height);
    let first = state.help.scrolled.min(lines.len().saturating_sub(height));
    for (line, at) in lines[first..].iter().take(height).zip(0..) {
        for (column, text, tone) in line {
            let x = u16::try_from(*column).unwrap_or(u16::MAX).min(area.width);
            pen.text(Rect { x: area.x + x, width: area.width - x, ..area }, at, text, *tone);
        }
    }
    let below = lines.len() - first - height.min(lines.len() - first);
    if below != 0 {
        let more = pen.words(&format!(" ↓ {below} more "));
        let width = u16::try_from(more.chars().count()).unwrap_or(0).min(area.width);
        let corner = Rect { x: area.right() - width, width, ..area };
        pen.text(corner, area.height.saturating_sub(1), &more, Tone::Chosen);
    }
}

/// The keys, in as many columns as fit, read downwards.
fn key_lines(pen: &Pen<'_>, keys: &[&Binding], area: Rect) -> Vec<Line> {
    let columns = (usize::from(area.width) / COLUMN).max(1);
    let height = keys.len().div_ceil(columns);
    let mut lines = vec![Line::new(); height];
    for (at, key) in keys.iter().enumerate() {
        let x = at / height * COLUMN;
        let line = &mut lines[at % height];
        line.push((x, format!("  {}", pen.words(key.shown)), Tone::Strong));
        line.push((x + SHOWN, key.does.to_owned(), Tone::Plain));
    }
    lines
}

/// The signs, with meanings that may take two lines.
fn sign_lines(pen: &Pen<'_>, signs: &[&Sign], area: Rect) -> Vec<Line> {
    let room = usize::from(area.width).saturating_sub(SIGN + 2).max(1);
    let mut lines = vec![vec![(1, "SIGNS".to_owned(), Tone::Strong)]];
    for sign in signs {
        for (part, at) in wrap(sign.means, room).into_iter().zip(0..) {
            let mut line = vec![(SIGN + 2, part, Tone::Plain)];
            if at == 0 {
                line.insert(0, (2, pen.words(sign.shown), Tone::Strong));
            }
            lines.push(line);
        }
    }
    lines
}

/// The signs of the screen that match the search.
fn signs(state: &State) -> Vec<&'static Sign> {
    let matches = |sign: &&Sign| state.help.has(sign.shown) || state.help.has(sign.means);
    legend::of(state.place()).filter(matches).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{scenes, tests::press};

    /// Goal: typing leaves only the lines with that word, among keys and signs, and Esc closes.
    #[test]
    fn the_list_of_keys_is_searched_by_typing() {
        let mut state = State::of_recording(scenes::put().recording);
        press(&mut state, "enter ?");
        let all = (keys::listed(&state).len(), signs(&state).len());
        press(&mut state, "L A N E");
        let found: Vec<&str> = keys::listed(&state).iter().map(|row| row.shown).collect();
        assert_eq!(found, ["1-9 0"]);
        assert!(signs(&state).iter().any(|sign| sign.shown == "►2   2►"));
        press(&mut state, "q");
        assert!(keys::listed(&state).is_empty(), "q is a letter here");
        press(&mut state, "esc");
        assert!(!state.is_helping);
        press(&mut state, "?");
        assert_eq!(
            (keys::listed(&state).len(), signs(&state).len()),
            all,
            "each opening begins anew"
        );
    }
}
