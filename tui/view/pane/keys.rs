//! The key space: the revisions of each key, a row for each, and a column for each member.

use ratatui::layout::Rect;

use super::{
    super::pen::{Pen, Tone},
    ABOUT, Cell, Row, Sheet, draw_about, draw_rows,
};
use crate::state::{
    State,
    pane::{
        Sight,
        keys::{Keyed, Line, Place},
    },
    text, words,
};

/// What the words for places mean.
const LEGEND: &str = "index: in memory only   active, frozen: write buffer   file: database file";

/// The columns of the view.
const SHEET: Sheet<'_> = Sheet {
    labels: [32, 45, 70],
    cell_min: 14,
    title: "   revision created version",
    below: ABOUT,
};

/// Draws the key space.
pub(super) fn draw(pen: &mut Pen<'_>, area: Rect, state: &State, sight: &Sight) {
    let grid = SHEET.grid(area, sight);
    let [rows, about] = SHEET.draw(pen, area, (state, sight, &grid));
    let keys = state.panes.keys.at(sight, state.story_subject());
    let room = usize::from(grid.label).saturating_sub(3);
    draw_rows(pen, (rows, &grid), (keys.lines.len(), keys.chosen), |place| row(&keys, place, room));
    draw_about(pen, about, ("THIS REVISION", &keys.sentences(keys.chosen)), LEGEND);
}

/// The row at a position, with this much room for what it is about.
pub(in crate::view) fn row(keys: &Keyed<'_>, place: usize, room: usize) -> Row {
    let line = &keys.lines[place];
    let cell = |member| Some(Cell::of(place_word(keys.place(line, member)?)));
    Row { mark: ' ', label: label(line, room), cells: (0..keys.columns()).map(cell).collect() }
}

/// The text of a row before the members' columns.
fn label(line: &Line<'_>, room: usize) -> (String, Tone) {
    match line {
        Line::Key(key, _, exists) => {
            let end = if *exists == Some(false) { "  (deleted)" } else { "" };
            let key = words::key(&key.text, room.saturating_sub(end.len()));
            (format!("{}{end}", text::clean(&key)), Tone::Strong)
        }
        Line::Missing(_, [first, last]) if first == last => {
            (format!("  ?        version {first}, not captured"), Tone::Dim)
        }
        Line::Missing(_, [first, last]) => {
            (format!("  ?        versions {first}-{last}, not captured"), Tone::Dim)
        }
        Line::Earlier(_, count) => {
            (format!("  ?        {count} generations, not captured"), Tone::Dim)
        }
        Line::Later(_, count) => {
            (format!("  ?        {} later, not captured", words::count(*count)), Tone::Dim)
        }
        Line::Revision(_, (main, sub), revision) => {
            let number = format!("{{{main},{sub}}}");
            match revision.put {
                Some([created, version]) => {
                    (format!("  {number:<8} {created:>7} {version:>7} put"), Tone::Plain)
                }
                None => (format!("  {number:<8} {:>7} {:>7} deleted", "-", "-"), Tone::Plain),
            }
        }
    }
}

/// The word for where a member has a row.
fn place_word(place: Place) -> (&'static str, Tone) {
    match place {
        Place::Unknown => ("? unknown", Tone::Dim),
        Place::No => ("-", Tone::Dim),
        Place::Index => ("index", Tone::Plain),
        Place::Active => ("active", Tone::Plain),
        Place::Frozen => ("frozen", Tone::Plain),
        Place::Buffer => ("buffer", Tone::Plain),
        Place::File => ("✔ file", Tone::Plain),
        Place::Compacted => ("compacted", Tone::Dim),
    }
}
