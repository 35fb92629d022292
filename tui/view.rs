//! Draws the state. Nothing here changes the state or decides what is true.
//!
//! One function per region; one file per screen, named after its state:
//!
//! ```text
//!  cluster  banner ─ a column for each member ─ latest requests, or a question ─ keys
//!  list     header ─ requests ─ keys
//!  steps    title ─ heads of the lanes ─ rows ─ lens ─ why ─ keys
//!  why      the step at full size ─ keys
//!  reading  the source of the step, or its section of the book ─ keys
//!  pane     heads of the members ─ rows of a view beside the stories ─ about one row ─ keys
//!  help     the keys that are valid now
//!  console  the request that is typed, and those that were sent, above the keys of the others
//! ```
//!
//! Colour is never the only sign: the leader is in capitals, the cursor is `»`, and what has not
//! happened yet is below `◆ NOW`. With `--ascii` every other character has a replacement.

pub(crate) mod pen;

pub(crate) mod cluster;
pub(crate) mod compared;
pub(crate) mod console;
pub(crate) mod felt;
mod field;
pub(crate) mod help;
pub(crate) mod list;
pub(crate) mod pane;
pub(crate) mod plain;
pub(crate) mod quiz;
pub(crate) mod reading;
mod shelf;
pub(crate) mod steps;
pub(crate) mod theme;
pub(crate) mod why;

#[cfg(test)]
mod tests;

use ratatui::{Frame, layout::Rect};

use crate::{
    keys::{self, Binding},
    state::{Screen, State, line::Line, text},
};

pub(crate) use pen::Look;
pub(crate) use pen::Targets;
use pen::{Pen, Tone};
pub(crate) use shelf::Shelf;

/// Width of the smallest usable window.
const COLUMNS_MIN: u16 = 40;
const LINES_MIN: u16 = 16;

/// Draws the whole screen. Returns what clicks on it mean.
pub(crate) fn draw(frame: &mut Frame<'_>, state: &State, look: Look) -> Targets {
    let area = frame.area();
    let mut pen = Pen::new(frame.buffer_mut(), look);
    if area.width < COLUMNS_MIN || area.height < LINES_MIN {
        draw_too_small(&mut pen, area);
        return Targets::default();
    }
    let bottom = Rect { y: area.y + area.height - 1, height: 1, ..area };
    let said = said(state);
    let own = if state.is_helping { 0 } else { console::height(state, area) };
    let felt = state.steps.as_ref().filter(|_| state.place() == Screen::Steps);
    let felt = felt.filter(|steps| !state.is_helping && felt::is_shown(steps));
    let search = Some(state).filter(|state| !state.is_helping).and_then(search);
    let is_said = said.is_some() || search.is_some();
    let below = 1 + u16::from(is_said) + own + u16::from(felt.is_some());
    let body = Rect { height: area.height.saturating_sub(below), ..area };
    let mut below = body.bottom();
    if let Some(steps) = felt {
        felt::draw(&mut pen, Rect { y: below, height: 1, ..area }, state, steps);
        below += 1;
    }
    console::draw(&mut pen, Rect { y: below, height: own, ..area }, state);
    let line = Rect { y: bottom.y - 1, height: 1, ..area };
    if let Some((prompt, typed, advice)) = search {
        field::draw_search(&mut pen, line, (prompt, typed), &advice);
    } else if let Some(said) = said {
        pen.text(line, 0, &format!(" {said}"), Tone::Strong);
    }
    if let (false, Some(page)) = (state.is_helping, &state.compared) {
        compared::draw(&mut pen, body, page);
        draw_keys(&mut pen, bottom, state);
        return Targets::default();
    }
    match (state.is_helping, state.place_below(), &state.steps) {
        (true, _, _) => help::draw(&mut pen, body, state),
        (false, Screen::Cluster | Screen::Moment | Screen::Ask | Screen::Leaving, _) => {
            cluster::draw(&mut pen, body, state);
        }
        (false, Screen::Reading, Some(steps)) => {
            steps.reading.iter().for_each(|text| reading::draw(&mut pen, body, steps, *text));
        }
        (false, Screen::Pane(_) | Screen::Seek, _) if state.panes.shown.is_some() => {
            state.panes.shown.iter().for_each(|view| pane::draw(&mut pen, body, state, *view));
        }
        (false, Screen::Why, Some(steps)) => why::draw_zoomed(&mut pen, body, state, steps),
        (false, _, Some(steps)) => steps::draw(&mut pen, body, state, steps),
        (false, _, None) => list::draw(&mut pen, body, state),
    }
    draw_keys(&mut pen, bottom, state);
    pen.targets()
}

/// Says which size is needed; the words fit into any window that can show words.
fn draw_too_small(pen: &mut Pen<'_>, area: Rect) {
    let lines = [
        "too small".to_owned(),
        format!("has   {}×{}", area.width, area.height),
        format!("needs {COLUMNS_MIN}×{LINES_MIN}"),
        "Ctrl-C quits".to_owned(),
    ];
    for (line, at) in lines.iter().zip(0..) {
        pen.text(area, at, line, Tone::Plain);
    }
}

/// The bottom line: keys by rank. The way back and the list of keys stand there at every width.
fn draw_keys(pen: &mut Pen<'_>, area: Rect, state: &State) {
    let rows = keys::line(state);
    let words = |row: &Binding| match pen.words(first_word(row.shown)) {
        // In ASCII an arrow is a word already.
        key if key == row.brief => key,
        key => format!("{key} {}", pen.words(row.brief)),
    };
    let (last, others): (Vec<&Binding>, Vec<&Binding>) =
        rows.into_iter().partition(|row| keys::is_always_shown(row));
    let others: Vec<String> = others.into_iter().map(words).collect();
    let last: Vec<String> = last.into_iter().map(words).collect();
    let length = |words: &[String]| words.iter().map(|w| w.chars().count() + 3).sum::<usize>();
    let mut fits = others.len();
    while 0 < fits && usize::from(area.width) < length(&others[..fits]) + length(&last) {
        fits -= 1;
    }
    let line: Vec<&str> = others[..fits].iter().chain(&last).map(String::as_str).collect();
    pen.text(area, 0, &format!(" {}", line.join("   ")), Tone::Dim);
}

/// If two keys do the same, the line names the first.
fn first_word(shown: &str) -> &str {
    shown.split_whitespace().next().unwrap_or(shown)
}

/// The search that is typed above the keys: its prompt, the line, and what is said beside it.
fn search(state: &State) -> Option<(&'static str, &Line, String)> {
    let said = state.said().map(str::to_owned);
    match state.place() {
        Screen::Find => {
            let advice = "key, m:member, l:lease, r:rpc, >10ms, is:error, !not; Enter, Esc";
            let mistake = state.find.mistake.clone().or(said);
            Some((" find /", state.find.typed.as_ref()?, mistake.unwrap_or(advice.to_owned())))
        }
        Screen::Seek => {
            let forms = state.search_forms();
            let advice = || match state.seek.last() {
                "" => format!("Enter: the next row; {forms} narrow it; Esc"),
                last => format!("Enter: the next row, or again {last}; Esc"),
            };
            Some((" find a row /", state.seek.typed()?, said.unwrap_or_else(advice)))
        }
        _ => None,
    }
}

/// The line above the keys: the number that is typed, or the answer to the last key.
fn said(state: &State) -> Option<String> {
    match state.place() {
        _ if state.is_helping => state.said().map(text::clean),
        Screen::Prompt => {
            let typed = state.steps.as_ref().and_then(|steps| steps.prompt.as_deref());
            let typed = typed.unwrap_or_default();
            let after = state.said().unwrap_or("Enter goes, Esc does not");
            Some(format!("go to step :{typed}_   ({})", text::clean(after)))
        }
        _ => state.said().map(text::clean),
    }
}
