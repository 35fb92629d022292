//! Draws the state. Nothing here changes the state or decides what is true.
//!
//! One function per region; one file per screen, named after its state:
//!
//! ```text
//!  cluster  banner ─ a column for each member ─ latest requests, or a question ─ keys
//!  list     header ─ requests ─ keys
//!  steps    title ─ heads of the lanes ─ rows ─ lens ─ why ─ keys
//!  why      the step at full size ─ keys
//!  help     the keys that are valid now
//! ```
//!
//! Colour is never the only sign: the leader is in capitals, the cursor is `»`, and what has not
//! happened yet is below `◆ NOW`. With `--ascii` every other character has a replacement.

pub(crate) mod pen;

pub(crate) mod cluster;
pub(crate) mod help;
pub(crate) mod list;
pub(crate) mod plain;
pub(crate) mod steps;
pub(crate) mod why;

#[cfg(test)]
mod tests;

use ratatui::{Frame, layout::Rect};

use crate::{
    keys,
    state::{Screen, State, text},
};

pub(crate) use pen::Look;
use pen::{Pen, Tone};

/// Width of the smallest usable window.
const COLUMNS_MIN: u16 = 40;
const LINES_MIN: u16 = 12;

/// Draws the whole screen.
pub(crate) fn draw(frame: &mut Frame<'_>, state: &State, look: Look) {
    let area = frame.area();
    let mut pen = Pen::new(frame.buffer_mut(), look);
    if area.width < COLUMNS_MIN || area.height < LINES_MIN {
        pen.text(area, 0, "window too small", Tone::Plain);
        return;
    }
    let body = Rect { height: area.height - 1, ..area };
    let bottom = Rect { y: area.y + area.height - 1, height: 1, ..area };
    match (state.is_helping, state.place(), &state.steps) {
        (true, _, _) => help::draw(&mut pen, body, state),
        (false, Screen::Cluster | Screen::Moment | Screen::Ask | Screen::Leaving, _) => {
            cluster::draw(&mut pen, body, state);
        }
        (false, Screen::Why, Some(steps)) => why::draw_zoomed(&mut pen, body, state, steps),
        (false, _, Some(steps)) => steps::draw(&mut pen, body, state, steps),
        (false, _, None) => list::draw(&mut pen, body, state),
    }
    draw_keys(&mut pen, bottom, state);
}

/// The bottom line: keys by rank; `? help` and `q quit` are never left out.
fn draw_keys(pen: &mut Pen<'_>, area: Rect, state: &State) {
    if let Some(notice) = notice(state) {
        pen.text(area, 0, &format!(" {notice}"), Tone::Strong);
        return;
    }
    let words: Vec<String> = keys::line(state)
        .iter()
        .map(|row| pen.words(&format!("{} {}", first_word(row.shown), row.brief)))
        .collect();
    let split = words.len().saturating_sub(2);
    let (others, last) = words.split_at(split);
    let length = |words: &[String]| words.iter().map(|w| w.chars().count() + 3).sum::<usize>();
    let mut fits = others.len();
    while 0 < fits && usize::from(area.width) < length(&others[..fits]) + length(last) {
        fits -= 1;
    }
    let line: Vec<&str> = others[..fits].iter().chain(last).map(String::as_str).collect();
    pen.text(area, 0, &format!(" {}", line.join("   ")), Tone::Dim);
}

/// If two keys do the same, the line names the first.
fn first_word(shown: &str) -> &str {
    shown.split_whitespace().next().unwrap_or(shown)
}

/// A message that replaces the keys for a moment.
fn notice(state: &State) -> Option<String> {
    if state.room.is_shown && !state.is_helping {
        return state.room.notice.as_ref().map(|notice| format!("{notice}   (? help)"));
    }
    if let Some(typed) = state.find.typed.as_ref().filter(|_| !state.is_helping) {
        let advice = "key, m:member, l:lease; Enter finds, Esc does not";
        let after = state.find.mistake.as_deref().unwrap_or(advice);
        return Some(format!("find /{}_   ({})", text::clean(typed), text::clean(after)));
    }
    let steps = state.steps.as_ref().filter(|_| !state.is_helping)?;
    match &steps.prompt {
        Some(typed) => Some(format!("go to step :{typed}_   (Enter goes, Esc does not)")),
        None => steps.notice.map(|notice| format!("{notice}   (? help)")),
    }
}
