//! The raft logs: a row for each entry, a column for each member.

use ratatui::layout::Rect;

use super::{
    super::{
        cluster::{Table, below},
        pen::{Pen, Tone, fitting},
    },
    ABOUT, Cell, Row, Sheet, draw_about, draw_rows,
};
use crate::state::{
    State,
    pane::{
        Sight,
        log::{Cell as Known, Disk, Line, Logged, MARKS, Machine},
    },
    words,
};

/// Lines below the entries: the log's files, what raft knows of them, and about the chosen row.
const BELOW: u16 = FILES + ABOUT;
/// Lines about the log's files.
const FILES: u16 = 2;
/// Width of the numbers before an entry's description.
const NUMBERS: usize = 12;
/// The columns of the view.
const SHEET: Sheet<'_> =
    Sheet { labels: [26, 36, 60], cell_min: 17, title: "  index term entry", below: BELOW };

/// Draws the logs.
pub(super) fn draw(pen: &mut Pen<'_>, area: Rect, state: &State, sight: &Sight) {
    let grid = SHEET.grid(area, sight);
    let [rows, under] = SHEET.draw(pen, area, (state, sight, &grid));
    let story = state.story_entry();
    let log = state.panes.log.at(sight, story);
    let room = usize::from(grid.label).saturating_sub(NUMBERS + 1);
    let of = |place| row((&log, story), place, room);
    draw_rows(pen, (rows, &grid), (log.lines.len(), log.chosen), of);
    let table = Table { state, board: &sight.board, grid: &grid };
    draw_files(pen, below(under, 0, FILES), &table, &log);
    let signs = "✔ on disk ✘ not  up to here:";
    let letters = MARKS.iter().map(|(_, letter, word)| format!(" {letter} {word}"));
    let legend = format!("{signs}{}", letters.collect::<String>());
    let said = log.sentences(log.chosen);
    draw_about(pen, below(under, FILES, ABOUT), ("THIS ENTRY", &said), &legend);
}

/// The row at a position, with this much room for what its entry is: that, and how far each member
/// is with it. `story` is the entry of the story that is open.
pub(in crate::view) fn row(
    (log, story): (&Logged<'_>, Option<(u64, u64)>),
    place: usize,
    room: usize,
) -> Row {
    let line = log.lines[place];
    let is_story = matches!(line, Line::Entry(index, term) if story == Some((index, term)));
    let tone = match line {
        Line::Gap(..) => Tone::Dim,
        _ if is_story => Tone::Strong,
        _ => Tone::Plain,
    };
    Row {
        mark: if is_story { '◆' } else { ' ' },
        label: (label(log, line, room), tone),
        cells: (0..log.columns()).map(|member| Some(cell(&log.cell(line, member)))).collect(),
    }
}

/// What an entry is, in this room beside the numbers; a long name of an RPC goes without its
/// service.
fn label(log: &Logged<'_>, line: Line, room: usize) -> String {
    match line {
        Line::Entry(index, term) => {
            let what = log.entry(line).map_or("", |entry| &entry.what);
            let name = what.split_once('/').filter(|(service, _)| !service.contains(' '));
            // The term stands in its own column.
            let empty = what.starts_with("empty, ").then_some("empty");
            let forms = [Some(what), name.map(|(_, name)| name), empty].into_iter().flatten();
            let what = fitting(forms.map(str::to_owned).collect(), room);
            format!("{index:>6} {term:>4} {}", words::cut(&what, room))
        }
        Line::Gap(first, last) if first == last => format!("{last:>6} ? not captured"),
        Line::Gap(first, last) => {
            let (count, last) = (words::count(last - first + 1), format!("-{last}"));
            let forms =
                ["not captured", "entries"].map(|what| format!("{last:>6} ? {count} {what}"));
            fitting(forms.to_vec(), NUMBERS + room)
        }
    }
}

/// How far the member is with an entry: whether it is on its disk, how far it has come, and which
/// watermarks stand there.
fn cell(known: &Known) -> Cell {
    let (sign, how, short) = how(known);
    let tone = match known.disk {
        Disk::Synced | Disk::UpTo(_) => Tone::Plain,
        Disk::Removed => Tone::Bad,
        _ => Tone::Dim,
    };
    let forms = match how.is_empty() {
        true => vec![sign.to_owned()],
        false => vec![format!("{sign} {how}"), format!("{sign} {short}"), short],
    };
    if known.marks.is_empty() {
        return Cell::with_marks(forms, tone, Default::default());
    }
    let words: Vec<&str> = known.marks.iter().map(|(_, word)| *word).collect();
    let letters = known.marks.iter().map(|(letter, _)| *letter).collect();
    Cell::with_marks(forms, tone, [format!("◄ {}", words.join(" ")), letters])
}

/// A sign, and a word in a long and in a short form.
fn how(known: &Known) -> (&'static str, String, String) {
    let sign = match known.disk {
        Disk::Unknown => "?",
        Disk::No => "-",
        Disk::Removed | Disk::Memory | Disk::Written => "✘",
        Disk::Synced | Disk::UpTo(_) => "✔",
    };
    let (how, short) = match (known.disk, known.machine) {
        (Disk::UpTo(index), _) => return (sign, format!("up to {index}"), format!("≤{index}")),
        (_, Machine::Stored) => ("in file", "file"),
        (_, Machine::Applied) => ("applied", "applied"),
        (_, Machine::Committed) => ("committed", "commit"),
        (Disk::No, _) => ("", ""),
        (Disk::Unknown, _) => ("unknown", "unknown"),
        (Disk::Removed, _) => ("removed", "removed"),
        (Disk::Memory, _) => ("in memory", "memory"),
        (Disk::Written, _) => ("written", "written"),
        (Disk::Synced, _) => ("on disk", "disk"),
    };
    (sign, how.to_owned(), short.to_owned())
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
