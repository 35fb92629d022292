//! The control room: a column for each member, and one verdict on all of them.
//!
//! ```text
//!  banner   QUORUM 3/3   etcd-01 leads term 3                        when
//!  heads    name, role ─ how it is, and since when
//!  rows     watermarks ─ measures, a bar for each second ─ alarms ─ its process
//!  below    the latest requests; or what a key will do, before it is done
//! ```
//!
//! Numbers of a member that is down are its last ones, and are dim. A bar is as high as its part of
//! the highest bar of its row, over all members, so that members can be compared. No bar means that
//! nothing was captured in that second; the lowest bar is 0.

use glass_etcd::trace::value::LEADER;
use ratatui::layout::Rect;

use super::{
    list::{since, unwell},
    pen::{Pen, Tone},
};
use crate::{
    state::{
        Action, State,
        alive::Heard,
        figures::Measure,
        room::{Board, Column},
        text,
        watermarks::Water,
        words,
    },
    up::api,
};

pub(super) mod banner;
mod bars;
mod latest;

/// Narrowest readable column of a member.
const CELL_MIN: u16 = 20;
/// Width of the number before the bars.
const NUMBER: u16 = 10;
/// Lines for the latest requests, or the question, in any window.
const BELOW_MIN: u16 = 7;
/// Lines for the latest requests in the smallest window.
const LATEST_MIN: u16 = 4;
/// The most lines of one measure's bars.
const BARS_MAX: u16 = 4;

/// Where the columns are.
pub(super) struct Grid {
    /// Width of the names of the rows.
    pub(super) label: u16,
    /// Width of a member's column, without its border.
    pub(super) cell: u16,
    /// The first member that is shown, and how many are.
    first: usize,
    shown: usize,
}

impl Grid {
    /// As many members as fit; if not all fit, those around the chosen one.
    fn of(width: u16, members: usize, chosen: usize) -> Grid {
        let label = if width < 100 { 12 } else { 20 };
        Grid::beside((label, CELL_MIN), width, members, chosen)
    }

    /// The same, with this much room for the names of the rows, and at least this for a member.
    pub(super) fn beside(
        (label, cell_min): (u16, u16),
        width: u16,
        members: usize,
        chosen: usize,
    ) -> Grid {
        let room = width.saturating_sub(label);
        let fit = usize::from(room / (cell_min + 1)).max(1);
        let shown = members.min(fit).max(1);
        let first = chosen.saturating_sub(shown / 2).min(members.saturating_sub(shown));
        let cell = (room / u16::try_from(shown).unwrap_or(1)).saturating_sub(1);
        Grid { label, cell, first, shown }
    }

    /// The members that are shown.
    pub(super) fn members(&self) -> std::ops::Range<usize> {
        self.first..self.first + self.shown
    }

    /// The region of a member's column.
    pub(super) fn cell(&self, area: Rect, member: usize) -> Rect {
        let at = u16::try_from(member - self.first).unwrap_or(0);
        let x = area.x + self.label + at * (self.cell + 1) + 1;
        let x = x.min(area.right());
        Rect { x, width: self.cell.min(area.right() - x), ..area }
    }
}

/// Draws the control room.
pub(crate) fn draw(pen: &mut Pen<'_>, area: Rect, state: &State) {
    let board = state.board();
    let chosen = state.room.chosen.min(board.columns.len().saturating_sub(1));
    let grid = Grid::of(area.width, board.columns.len(), chosen);
    banner::draw(pen, area, state, &board);
    if board.columns.is_empty() {
        pen.text(area, 2, " no member has sent records yet", Tone::Dim);
        return latest::draw_latest(
            pen,
            below(area, 4, area.height.saturating_sub(4)),
            state,
            &board,
        );
    }
    let is_tall = 30 <= area.height;
    let table = Table { state, board: &board, grid: &grid };
    let numbers = table.numbers(is_tall);
    let hidden = board.columns.len() - grid.shown.min(board.columns.len());
    let head = if hidden == 0 { 3 } else { 4 };
    let lines = head + u16::try_from(numbers.len()).unwrap_or(0);
    let measures = u16::try_from(Measure::ALL.len()).unwrap_or(0);
    let free = area.height.saturating_sub(lines + measures + BELOW_MIN);
    let height = (1 + free / 2 / measures).min(BARS_MAX);
    table.draw_heads(pen, Rect { y: area.y + 1, height: 2, ..area }, chosen);
    if hidden != 0 {
        draw_hidden(pen, below(area, 3, 1), hidden, grid.label, board.columns.len());
    }
    // In a low window the rows end early: a question must be seen before it is answered.
    let is_told = state.room.question.is_some() || state.trials.told.is_some();
    let kept = if is_told { BELOW_MIN } else { LATEST_MIN };
    let upper = below(area, 0, area.height.saturating_sub(kept));
    let mut line = head;
    for row in &numbers {
        table.draw_row(pen, below(upper, line, 1), row);
        line += 1;
    }
    for measure in Measure::ALL {
        table.draw_measure(pen, below(upper, line, height), measure);
        line += height;
    }
    let line = line.min(upper.height);
    let rest = below(area, line, area.height - line);
    match &state.room.question {
        Some(question) => latest::draw_question(pen, rest, state, question, &board),
        None if let Some(told) = &state.trials.told => {
            latest::draw_said(pen, rest, "AFTER THE POWER FAILURE", told);
        }
        None => latest::draw_latest(pen, rest, state, &board),
    }
}

/// Says that not all members fit, and how wide the window has to be.
fn draw_hidden(pen: &mut Pen<'_>, area: Rect, hidden: usize, label: u16, members: usize) {
    let wide = usize::from(label) + members * usize::from(CELL_MIN + 1);
    let members = if hidden == 1 { "1 member is" } else { &*format!("{hidden} members are") };
    let line = format!(" {members} not shown: that needs {wide} columns; the arrows lead there");
    pen.text(area, 0, &line, Tone::Strong);
}

/// The lines of a region from this one on.
pub(super) fn below(area: Rect, line: u16, height: u16) -> Rect {
    let line = line.min(area.height);
    Rect { y: area.y + line, height: height.min(area.height - line), ..area }
}

/// The name of a row, and what each member has in it.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) cells: Vec<(String, Tone)>,
}

pub(super) struct Table<'a> {
    pub(super) state: &'a State,
    pub(super) board: &'a Board,
    pub(super) grid: &'a Grid,
}

impl Table<'_> {
    pub(super) fn draw_heads(&self, pen: &mut Pen<'_>, area: Rect, chosen: usize) {
        self.draw_borders(pen, area);
        for member in self.grid.members() {
            let Some(column) = self.board.columns.get(member) else { continue };
            let cell = self.grid.cell(area, member);
            let is_chosen = member == chosen;
            let mark = if is_chosen { '»' } else { ' ' };
            let is_leader = self.board.leader() == Some(member);
            let tone = match column.heard {
                Heard::Fresh if is_leader => Tone::Good,
                heard => unwell(heard),
            };
            let role = self.role(member);
            let name = format!("{mark}{} {}", member + 1, column.name);
            let line = format!("{name} {role}");
            // Which follower it was matters least.
            let fits = text::width(&line) <= usize::from(cell.width);
            let line = if fits || role.contains("eader") { line } else { name };
            pen.text(cell, 0, &line, tone);
            if let Ok(number) = u8::try_from(member + 1) {
                pen.target(cell, Action::Column(number));
            }
            if is_chosen {
                pen.tint(cell, 0, Tone::Chosen);
            }
            let (how, tone) = how(column, usize::from(cell.width).saturating_sub(2));
            pen.text(cell, 1, &format!(" {how}"), tone);
        }
    }

    /// The word for the role. Of two that both say that they lead, the one with the higher term
    /// does.
    pub(super) fn role(&self, member: usize) -> &'static str {
        let column = &self.board.columns[member];
        let role = column.marks.get(Water::Role);
        let standing = self.board.voters.as_ref().map(|voters| voters.standing(member));
        match column.heard {
            Heard::Never | Heard::Starting(_) => "",
            Heard::Fresh if role == Some(LEADER) && self.board.leader() != Some(member) => {
                "leads an old term"
            }
            Heard::Fresh => words::standing(standing, role.map_or("unknown", words::role)),
            _ => words::standing(standing, role.map_or("unknown", words::former_role)),
        }
    }

    /// The rows that are numbers only.
    pub(super) fn numbers(&self, is_tall: bool) -> Vec<Row> {
        let mut rows = Vec::new();
        if is_tall {
            rows.push(self.row("runs for", |column| match column.heard {
                Heard::Down(_) | Heard::Starting(_) => Some("-".to_owned()),
                _ => column.runs_ns.map(long),
            }));
        }
        let mark = |water| move |column: &Column| Some(column.marks.get(water)?.to_string());
        if !self.board.cut.is_empty() {
            rows.push(self.links());
        }
        rows.push(self.row("term", mark(Water::Term)));
        rows.push(self.row("commit", mark(Water::Commit)));
        rows.push(self.row("applied", mark(Water::Applied)));
        rows.push(self.row("revision", mark(Water::Revision)));
        rows.push(self.row("WAL", |column| {
            pair(column, [Water::Written, Water::Synced], |written, synced| {
                let synced = match synced {
                    synced if synced == written => "all synced".to_owned(),
                    synced => format!("synced to {synced}"),
                };
                format!("{written}, {synced}")
            })
        }));
        rows.push(self.row("file", |column| {
            let water = [Water::Stored, Water::StoredRevision];
            pair(column, water, |index, revision| format!("{index}, rev {revision}"))
        }));
        rows.push(self.row("buffer", |column| {
            let water = [Water::Active, Water::Frozen];
            pair(column, water, |active, frozen| match frozen {
                0 => active.to_string(),
                frozen => format!("{active}, frozen {frozen}"),
            })
        }));
        rows.push(self.row("alarms", |column| {
            Some(banner::alarm_words(self.state, banner::alarms(self.state, self.board, column)?))
        }));
        if self.board.columns.iter().any(|column| column.process.is_some()) {
            rows.push(self.row("process", |column| {
                let (process, since_ns) = column.process.as_ref()?;
                let pid = process.pid.map_or_else(String::new, |pid| format!(" {pid}"));
                Some(format!("{}{pid}, {}", process.state, long(*since_ns)))
            }));
        }
        rows
    }

    /// The members to which the links of each are cut.
    fn links(&self) -> Row {
        let cell = |member| match self.board.cut_from(member).as_slice() {
            [] => ("whole".to_owned(), Tone::Plain),
            names => (format!("╳ {}", names.join(" ")), Tone::Bad),
        };
        Row { name: "links", cells: (0..self.board.columns.len()).map(cell).collect() }
    }

    /// A row; what is not known is unknown.
    fn row(&self, name: &'static str, words: impl Fn(&Column) -> Option<String>) -> Row {
        let cell = |column: &Column| {
            let is_old = !matches!(column.heard, Heard::Fresh);
            match words(column) {
                Some(words) if is_old => (words, Tone::Dim),
                Some(words) => (words, Tone::Plain),
                None => ("unknown".to_owned(), Tone::Dim),
            }
        };
        Row { name, cells: self.board.columns.iter().map(cell).collect() }
    }

    fn draw_row(&self, pen: &mut Pen<'_>, area: Rect, row: &Row) {
        self.draw_borders(pen, area);
        pen.text(Rect { width: self.grid.label, ..area }, 0, &format!(" {}", row.name), Tone::Dim);
        for member in self.grid.members() {
            if let Some((words, tone)) = row.cells.get(member) {
                pen.text(self.grid.cell(area, member), 0, &format!(" {words}"), *tone);
            }
        }
    }

    fn draw_measure(&self, pen: &mut Pen<'_>, area: Rect, measure: Measure) {
        self.draw_borders(pen, area);
        let label = Rect { width: self.grid.label, ..area };
        pen.text(label, 0, &format!(" {}", bars::name(measure)), Tone::Dim);
        let count = usize::from(self.grid.cell.saturating_sub(NUMBER + 1));
        let columns = &self.board.columns;
        let figures = |column: &Column| self.state.figures(column.place?);
        let bars: Vec<Vec<Option<u64>>> = columns
            .iter()
            .map(|column| {
                figures(column)
                    .map_or_else(Vec::new, |figures| figures.bars(measure, self.board.at_ns, count))
            })
            .collect();
        let most = bars.iter().flatten().flatten().copied().max().unwrap_or(0);
        if 1 < area.height && most != 0 {
            pen.text(label, 1, &format!("  up to {}", bars::number(measure, most)), Tone::Dim);
        }
        for member in self.grid.members() {
            let Some(column) = columns.get(member) else { continue };
            let cell = self.grid.cell(area, member);
            let (words, tone) = self.measured(measure, column);
            pen.text(Rect { width: NUMBER.min(cell.width), ..cell }, 0, &format!(" {words}"), tone);
            let x = (cell.x + NUMBER).min(cell.right());
            bars::draw(pen, Rect { x, width: cell.right() - x, ..cell }, &bars[member], most);
        }
    }

    /// The newest number of a measure.
    fn measured(&self, measure: Measure, column: &Column) -> (String, Tone) {
        let figures = column.place.and_then(|place| self.state.figures(place));
        let number = figures.and_then(|figures| figures.number(measure, self.board.at_ns));
        let runs = matches!(column.heard, Heard::Fresh | Heard::Silent(_) | Heard::Never);
        match number {
            _ if !runs => ("-".to_owned(), Tone::Dim),
            Some(number) => (bars::number(measure, number), Tone::Plain),
            None => ("unknown".to_owned(), Tone::Dim),
        }
    }

    /// A row with the newest number of each measure.
    pub(super) fn measures(&self) -> impl Iterator<Item = Row> {
        Measure::ALL.into_iter().map(|measure| Row {
            name: bars::name(measure),
            cells: self.board.columns.iter().map(|c| self.measured(measure, c)).collect(),
        })
    }

    pub(super) fn draw_borders(&self, pen: &mut Pen<'_>, area: Rect) {
        for member in self.grid.members() {
            let cell = self.grid.cell(area, member);
            for line in 0..area.height {
                pen.text(Rect { x: cell.x - 1, width: 1, ..cell }, line, "│", Tone::Dim);
            }
        }
    }
}

/// How a member is, and since when; where there is room, when it was heard last.
pub(super) fn how(column: &Column, room: usize) -> (String, Tone) {
    match column.heard {
        Heard::Never => match &column.down {
            Some(why) => (format!("unknown: {}", text::clean(why)), Tone::Bad),
            None => ("unknown, no records".to_owned(), Tone::Bad),
        },
        Heard::Fresh => match column.starts_ns {
            Some(ns) => (since(Heard::Starting(ns)), Tone::Plain),
            None => {
                let heard = column.last_ns.map_or_else(String::new, ago);
                (format!("heard {heard}"), Tone::Plain)
            }
        },
        heard => {
            let since = since(heard);
            let heard_last = column.last_ns.filter(|_| !matches!(heard, Heard::Silent(_)));
            let both = heard_last.map(|last| format!("{since}, heard {}", ago(last)));
            let both = both.filter(|both| both.chars().count() <= room);
            (both.unwrap_or(since), unwell(heard))
        }
    }
}

/// A time in seconds, or in larger units.
fn long(ns: u64) -> String {
    api::since(ns / 1_000_000)
}

/// A time that has passed. Below the interval of keyframes it says nothing, and would flicker.
fn ago(ns: u64) -> String {
    const NOW_NS: u64 = 200_000_000;
    if ns < NOW_NS { "just now".to_owned() } else { format!("{} ago", words::duration(ns)) }
}

fn pair(
    column: &Column,
    [first, second]: [Water; 2],
    words: impl Fn(u64, u64) -> String,
) -> Option<String> {
    Some(words(column.marks.get(first)?, column.marks.get(second)?))
}

#[cfg(test)]
mod tests;
