//! The control room and the views beside the stories as text: a line for each thing, and after it
//! the members by name, then the sentences about it.

use super::super::{
    cluster::{self, Grid, Row, Table, banner},
    pane,
};
use crate::state::{
    Action, State,
    pane::{View, keys::Line as KeyLine},
};

/// Room for the description of an entry, and for a key.
const WIDTH: usize = 60;
/// Before the sentences about a row.
const INDENT: &str = "         ";

/// The line that all of them begin with: the verdict on the members, and the moment.
fn banner_line(state: &State) -> String {
    let board = state.board();
    let pieces = banner::verdict(state, &board).into_iter().map(|(text, _)| text);
    let pieces: Vec<String> = pieces.chain([banner::when(state, &board)]).collect();
    pieces.join("   ")
}

/// The members one after the other, each with all its numbers.
pub(super) fn cluster(state: &State) -> Vec<String> {
    let board = state.board();
    let grid = Grid::beside((0, 0), u16::MAX, board.columns.len(), 0);
    let table = Table { state, board: &board, grid: &grid };
    let rows: Vec<Row> = table.numbers(true).into_iter().chain(table.measures()).collect();
    let mut lines = vec![banner_line(state)];
    for (member, column) in board.columns.iter().enumerate() {
        let (how, _) = cluster::how(column, usize::MAX);
        lines.push(format!("{} {}   {how}", column.name, table.role(member)));
        let cells = rows.iter().map(|row| (row.name, row.cells.get(member)));
        lines.extend(
            cells.filter_map(|(name, cell)| Some(format!("  {name:<12} {}", cell?.0.trim_end()))),
        );
    }
    lines
}

/// The names of the members, each before what it has.
fn by_member(state: &State, words: impl Fn(usize) -> Option<String>) -> String {
    let board = state.board();
    let names = board.columns.iter().enumerate();
    let cells = names.filter_map(|(at, column)| Some(format!("{} {}", column.name, words(at)?)));
    cells.collect::<Vec<_>>().join("   ")
}

/// A row of a sheet, and what is said of it.
fn row_lines(state: &State, row: &pane::Row, said: &[String]) -> Vec<String> {
    let words = |member: usize| Some(row.cells.get(member)?.as_ref()?.words());
    let first = format!("{}   {}", row.label.0.trim_end(), by_member(state, words));
    let said = said.iter().map(|said| format!("{INDENT}{said}"));
    [first].into_iter().chain(said).collect()
}

/// The raft logs: each entry, how far each member is with it, and what follows from that.
pub(super) fn log(state: &mut State) -> Vec<String> {
    state.update(Action::Show(View::Log));
    let (sight, story) = (state.sight(), state.story_entry());
    let log = state.panes.log.at(&sight, story);
    let mut lines = vec![banner_line(state)];
    for place in 0..log.lines.len() {
        let row = pane::log::row((&log, story), place, WIDTH);
        lines.extend(row_lines(state, &row, &log.sentences(place)));
    }
    if log.lines.is_empty() {
        lines.extend(log.sentences(0));
    }
    let files = [("WAL segment, byte: has", true), ("stable, raft knows", false)];
    lines.extend(files.map(|(name, is_segment)| {
        let members = by_member(state, |member| {
            let known = if is_segment { log.segment(member) } else { log.stable(member) };
            Some(known.unwrap_or_else(|| "unknown".to_owned()))
        });
        format!("{name}   {members}")
    }));
    lines
}

/// The keys: each revision, where each member has it, and what it is.
pub(super) fn keys(state: &mut State) -> Vec<String> {
    state.update(Action::Show(View::Keys));
    let sight = state.sight();
    let keys = state.panes.keys.at(&sight, state.story_subject());
    let mut lines = vec![banner_line(state)];
    for place in 0..keys.lines.len() {
        // What is said of a key's own row is about the key Enter.
        let said = match keys.lines[place] {
            KeyLine::Key(..) => Vec::new(),
            _ => keys.sentences(place),
        };
        lines.extend(row_lines(state, &pane::keys::row(&keys, place, WIDTH), &said));
    }
    if keys.lines.is_empty() {
        lines.extend(keys.sentences(0));
    }
    lines
}

/// Watchers, leases and locks, each with what is to be said of it.
pub(super) fn waits(state: &mut State) -> Vec<String> {
    state.update(Action::Show(View::Waits));
    let sight = state.sight();
    let mut waiting = state.panes.waits.at(&sight);
    let mut lines = vec![banner_line(state)];
    let rows = pane::waits::lines(&waiting, &sight, 2 * WIDTH);
    for (text, _, row) in rows {
        lines.push(text);
        if let Some(row) = row {
            waiting.chosen = row;
            lines.push(format!("{INDENT}{}", pane::waits::sentence(&waiting, &sight)));
        }
    }
    lines
}

/// What the members have printed until the moment that is shown.
pub(super) fn printed(state: &State) -> Vec<String> {
    let sight = state.sight();
    let printed = state.panes.lines.at(&sight);
    let mut lines = vec![banner_line(state)];
    if printed.lines.is_empty() {
        lines.push(pane::lines::nothing(state.room.hands).to_owned());
    }
    let names = pane::lines::names_width(printed.lines, WIDTH);
    let past = printed.lines.iter().take(printed.past);
    lines.extend(past.map(|line| pane::lines::row(line, names)));
    lines
}
