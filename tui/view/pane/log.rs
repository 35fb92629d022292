//! The raft logs: a row for each entry, a column for each member.

use ratatui::layout::Rect;

use super::{
    super::{
        cluster::{Grid, Table, below},
        pen::{Pen, Tone},
    },
    ABOUT, Sheet, draw_about, shown,
};
use crate::state::{
    State,
    pane::{
        Sight,
        log::{Cell, Disk, Line, Logged, MARKS, Machine},
    },
    words,
};

/// Lines below the entries: the log's files, what raft knows of them, and about the chosen row.
const BELOW: u16 = FILES + ABOUT;
/// Lines about the log's files.
const FILES: u16 = 2;
/// Width of the numbers before an entry's description.
const NUMBERS: usize = 12;
/// Narrowest column that has room for all watermarks in words.
const WORDS_MIN: u16 = 50;
/// The columns of the view.
const SHEET: Sheet<'_> =
    Sheet { labels: [26, 36, 60], cell_min: 17, title: "  index term entry", below: BELOW };

/// Draws the logs.
pub(super) fn draw(pen: &mut Pen<'_>, area: Rect, state: &State, sight: &Sight) {
    let grid = SHEET.grid(area, sight);
    let [rows, under] = SHEET.draw(pen, area, (state, sight, &grid));
    let story = state.story_entry();
    let log = state.panes.log.at(sight, story);
    for (place, line, is_chosen) in shown(rows, log.lines.len(), log.chosen) {
        draw_line(pen, line, (&log, &grid), place, story);
        if is_chosen {
            pen.tint(line, 0, Tone::Chosen);
        }
    }
    let table = Table { state, board: &sight.board, grid: &grid };
    draw_files(pen, below(under, 0, FILES), &table, &log);
    let signs = "✔ on disk ✘ not  up to here:";
    let letters = MARKS.iter().map(|(_, letter, word)| format!(" {letter} {word}"));
    let legend = format!("{signs}{}", letters.collect::<String>());
    draw_about(pen, below(under, FILES, ABOUT), ("THIS ENTRY", &log.sentences()), &legend);
}

/// A row: what the entry is, and how far each member is with it.
fn draw_line(
    pen: &mut Pen<'_>,
    area: Rect,
    (log, grid): (&Logged<'_>, &Grid),
    place: usize,
    story: Option<(u64, u64)>,
) {
    let line = log.lines[place];
    let is_story = matches!(line, Line::Entry(index, term) if story == Some((index, term)));
    let mark = match (place == log.chosen, is_story) {
        (_, true) => '◆',
        (true, _) => '»',
        _ => ' ',
    };
    let room = usize::from(grid.label).saturating_sub(NUMBERS + 1);
    let text = format!("{mark}{}", label(log, line, room));
    let label = Rect { width: grid.label, ..area };
    let tone = match line {
        Line::Gap(..) => Tone::Dim,
        _ if is_story => Tone::Strong,
        _ => Tone::Plain,
    };
    pen.text(label, 0, &text, tone);
    for member in grid.members() {
        let cell = log.cell(line, member);
        draw_cell(pen, grid.cell(area, member), &cell);
    }
}

/// The text of a row before the members' columns.
pub(in crate::view) fn label(log: &Logged<'_>, line: Line, room: usize) -> String {
    match line {
        Line::Entry(index, term) => {
            let what = log.entry(line).map_or("", |entry| &entry.what);
            format!("{index:>6} {term:>4} {}", words::cut(what, room))
        }
        Line::Gap(first, last) if first == last => format!("{last:>6} ? not captured"),
        Line::Gap(first, last) => {
            let count = words::count(last - first + 1);
            format!("{:>6} ? {count} not captured", format!("-{last}"))
        }
    }
}

/// The watermarks that stand at an entry, in words.
pub(in crate::view) fn mark_words(cell: &Cell) -> String {
    let words: Vec<&str> = cell.marks.iter().map(|(_, word)| *word).collect();
    format!("◄ {}", words.join(" "))
}

fn draw_cell(pen: &mut Pen<'_>, area: Rect, cell: &Cell) {
    let (words, tone) = cell_words(cell);
    let used = pen.text(area, 0, &format!(" {words}"), tone);
    let all = pen.words(&format!("{} ", mark_words(cell)));
    let letters: String = cell.marks.iter().map(|(letter, _)| letter).collect();
    let room = usize::from(area.width.saturating_sub(used));
    let marks = if WORDS_MIN <= area.width { all } else { format!("{letters} ") };
    let length = u16::try_from(marks.chars().count()).unwrap_or(u16::MAX);
    if !cell.marks.is_empty() && usize::from(length) <= room {
        let x = area.right() - length;
        pen.text(Rect { x, width: length, ..area }, 0, &marks, Tone::Strong);
    }
}

/// How far the member is with an entry: whether it is on its disk, and how far it has come.
pub(in crate::view) fn cell_words(cell: &Cell) -> (String, Tone) {
    let sign = match cell.disk {
        Disk::Unknown => "?",
        Disk::No => "-",
        Disk::Removed | Disk::Memory | Disk::Written => "✘",
        Disk::Synced | Disk::UpTo(_) | Disk::From(_) => "✔",
        Disk::Dropped => "·",
    };
    let how = match (cell.disk, cell.machine) {
        (Disk::UpTo(index), _) => return (format!("{sign} up to {index}"), Tone::Plain),
        (Disk::From(index), _) => return (format!("{sign} from {index}"), Tone::Plain),
        (_, Machine::Stored) => "in file",
        (_, Machine::Applied) => "applied",
        (_, Machine::Committed) => "committed",
        (Disk::No, _) => return (sign.to_owned(), Tone::Dim),
        (Disk::Unknown, _) => "unknown",
        (Disk::Dropped, _) => "dropped",
        (Disk::Removed, _) => "removed",
        (Disk::Memory, _) => "in memory",
        (Disk::Written, _) => "written",
        (Disk::Synced, _) => "on disk",
    };
    let tone = match cell.disk {
        Disk::Synced => Tone::Plain,
        Disk::Removed => Tone::Bad,
        _ => Tone::Dim,
    };
    (format!("{sign} {how}"), tone)
}

/// Where the newest write of each member's log files went, and what raft knows of the disk.
fn draw_files(pen: &mut Pen<'_>, area: Rect, table: &Table<'_>, log: &Logged<'_>) {
    table.draw_borders(pen, area);
    let label = Rect { width: table.grid.label, ..area };
    pen.text(label, 0, "  WAL segment, byte: has", Tone::Dim);
    pen.text(label, 1, "  stable, raft knows", Tone::Dim);
    for member in table.grid.members().filter(|at| *at < table.board.columns.len()) {
        let cell = table.grid.cell(area, member);
        for (words, line) in [log.segment(member), log.stable(member)].into_iter().zip(0..) {
            let words = words.as_deref().unwrap_or("unknown");
            pen.text(cell, line, &format!(" {words}"), Tone::Dim);
        }
    }
}
