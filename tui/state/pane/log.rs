//! The members' raft logs side by side.
//!
//! ```text
//!        entry             etcd-01          etcd-02          etcd-03
//!   41   Put a             ✔ applied   A    ✔ applied        ✔ applied  WSCA
//!   42   Put b             ✔ committed SC   ✔ on disk   SCA  ✘ in memory
//! ```
//!
//! A row is an entry: an index and a term. If two members have different entries at one index, that
//! index has two rows. Entries between these, of requests that are not kept, have no record of
//! their own; the watermarks alone say how far each member is with them, and they share a row.
//!
//! A watermark stands at the row of its index. It says something of an entry only if the member has
//! that entry there (see [`kept`]).
//!
//! A log begins behind the entries that a snapshot has made unnecessary: of those the member has
//! the effects only, in its file.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use glass_etcd::{
    change, fields,
    story::{KeyText, Recording, query},
    trace::{Kind, Stage},
};

use super::{
    super::{
        kept::{self, Kept, Log, Logs},
        lens,
        room::Column,
        seek::{Forms, Told},
        watermarks::{self, Moment, States, Water, Watermarks, moment},
        words,
    },
    Sight,
};

/// The view of the logs.
#[derive(Debug, Default)]
pub(crate) struct Pane {
    facts: Facts,
    /// The row that the reader has chosen, by index and term; `None` follows the story's entry, or
    /// without a story the newest.
    pub(crate) chosen: Option<(u64, u64)>,
}

/// What the records say about the logs.
#[derive(Debug, Default)]
struct Facts {
    /// The entries that were captured, by index and term.
    entries: BTreeMap<(u64, u64), Entry>,
    logs: Logs,
    /// Writes of the log files of each member, in the order of its clock.
    writes: Vec<Vec<Write>>,
    /// Up to where raft has learned that the disk has the log: of each member, by its clock.
    stable: Vec<Vec<(Moment, u64)>>,
    /// The first index of each member's log, by its clock, since it is above 1.
    firsts: Vec<Vec<(Moment, u64)>>,
    states: States,
}

/// An entry that at least one member has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The request that it carries; 0 for none.
    pub(crate) id: u64,
    /// Its length.
    pub(crate) bytes: u64,
    /// What it is, in words.
    pub(crate) what: String,
    /// The RPC of its request, and the key that this names; empty and none if that is not known.
    rpc: &'static str,
    key: Option<KeyText>,
}

/// What rows have for a search.
pub(crate) const FORMS: Forms = Forms { forms: &["k:", "r:"], kinds: &[] };

/// A write of log records.
#[derive(Clone, Copy, Debug)]
struct Write {
    moment: Moment,
    first: u64,
    last: u64,
    segment: u64,
    offset: u64,
}

/// A row of the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// An entry that was captured, by index and term.
    Entry(u64, u64),
    /// Entries of which no member's append was captured: the first and the last index.
    Gap(u64, u64),
}

/// How far an entry is on a member, with its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disk {
    Unknown,
    /// It is not in the log.
    No,
    /// It was in the log, and another leader's entry took its place.
    Removed,
    /// The log has it in memory only.
    Memory,
    /// The operating system has it.
    Written,
    /// The disk has confirmed it.
    Synced,
    /// Of several entries, the disk has confirmed those up to this index.
    UpTo(u64),
    /// Of several entries, the log has those from this index on, and the disk has confirmed them.
    From(u64),
    /// The log begins behind it: a snapshot has made it unnecessary.
    Dropped,
}

/// How far an entry is on a member, with its state machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Machine {
    /// As far as the member knows, it is not committed.
    No,
    Committed,
    Applied,
    /// The backend's file has its effects.
    Stored,
}

/// One entry on one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) disk: Disk,
    pub(crate) machine: Machine,
    /// The watermarks that end at this row: a letter and a word.
    pub(crate) marks: Vec<(char, &'static str)>,
}

/// The watermarks that have a letter, in the order in which an entry passes them.
pub(crate) const MARKS: [(Water, char, &str); 5] = [
    (Water::Written, 'W', "written"),
    (Water::Synced, 'S', "synced"),
    (Water::Commit, 'C', "commit"),
    (Water::Applied, 'A', "applied"),
    (Water::Stored, 'F', "file"),
];

impl Pane {
    /// Reads all records.
    pub(crate) fn refresh(&mut self, recording: &Recording) {
        self.facts = Facts::of(recording);
    }

    /// The logs at a moment; `story` is the entry of the story that is open.
    pub(crate) fn at<'a>(&'a self, sight: &'a Sight, story: Option<(u64, u64)>) -> Logged<'a> {
        let lines = self.facts.lines(sight);
        let wanted = self.chosen.or(story).map(|(index, term)| (index, Some(term)));
        let chosen = wanted.and_then(|wanted| place_of(&lines, wanted));
        let chosen = chosen.unwrap_or(lines.len().saturating_sub(1));
        Logged { facts: &self.facts, sight, lines, chosen }
    }
}

/// Where a row with this index is; if there are several, that of this term.
fn place_of(lines: &[Line], (index, term): (u64, Option<u64>)) -> Option<usize> {
    let has = |line: &Line| match *line {
        Line::Entry(at, _) => at == index,
        Line::Gap(first, last) => (first..=last).contains(&index),
    };
    let exact = term.and_then(|term| lines.iter().position(|at| *at == Line::Entry(index, term)));
    exact.or_else(|| lines.iter().position(has))
}

impl Facts {
    fn of(recording: &Recording) -> Facts {
        let members = recording.members.len();
        let mut facts = Facts {
            logs: Logs::of(recording),
            writes: vec![Vec::new(); members],
            stable: vec![Vec::new(); members],
            firsts: vec![Vec::new(); members],
            states: watermarks::states(recording),
            ..Facts::default()
        };
        let titles = titles(recording);
        for event in &recording.events {
            let (place, moment) = (usize::from(event.member), moment(event));
            match event.stage {
                _ if event.kind == Kind::Begin => {}
                Stage::RaftEntry => {
                    let [term, index, bytes] = fields!(event, RaftEntry: term, index, bytes);
                    let entry = || entry((event.id, bytes), term, &titles);
                    facts.entries.entry((index, term)).or_insert_with(entry);
                }
                Stage::WalWrite => {
                    let [first, last, segment, offset] =
                        fields!(event, WalWrite: first, last, segment, offset);
                    let write = Write { moment, first, last, segment, offset };
                    facts.writes.get_mut(place).into_iter().for_each(|own| own.push(write));
                }
                Stage::LogCompact | Stage::SnapshotAccept => {
                    let first = match event.stage {
                        Stage::LogCompact => change!(event, LogCompact, first)[1],
                        _ => change!(event, SnapshotAccept, last)[1].saturating_add(1),
                    };
                    let own = facts.firsts.get_mut(place).into_iter();
                    own.for_each(|own| own.push((moment, first)));
                }
                Stage::RaftStable => {
                    let [_, new] = change!(event, RaftStable, stable);
                    facts.stable.get_mut(place).into_iter().for_each(|own| own.push((moment, new)));
                }
                _ => {}
            }
        }
        facts.writes.iter_mut().for_each(|own| own.sort_by_key(|write| write.moment));
        facts.stable.iter_mut().for_each(|own| own.sort_unstable());
        facts.firsts.iter_mut().for_each(|own| own.sort_unstable());
        facts
    }

    /// The first index that a member's log has at a moment; 1 if no snapshot has moved it.
    fn first(&self, place: u8, cut: Moment) -> u64 {
        let own = self.firsts.get(usize::from(place)).map_or(&[][..], Vec::as_slice);
        let happened = own.partition_point(|(moment, _)| *moment <= cut);
        own[..happened].last().map_or(1, |(_, first)| *first)
    }

    /// The rows at a moment, by index and term.
    fn lines(&self, sight: &Sight) -> Vec<Line> {
        let got: BTreeSet<(u64, u64)> =
            sight.members().flat_map(|(place, cut)| self.logs.got(place, cut)).collect();
        let written = sight.board.columns.iter();
        let written = written.filter_map(|column| column.marks.get(Water::Written)).max();
        let mut lines = Vec::new();
        let mut next = 1;
        for (index, term) in got {
            if next < index {
                lines.push(Line::Gap(next, index - 1));
            }
            lines.push(Line::Entry(index, term));
            next = index.saturating_add(1);
        }
        lines.extend(written.filter(|last| next <= *last).map(|last| Line::Gap(next, last)));
        lines
    }
}

/// The RPC of each request, and the key that it names.
type Titles = HashMap<u64, (&'static str, Option<KeyText>)>;

fn titles(recording: &Recording) -> Titles {
    let requests = query::requests(recording).into_iter();
    requests.map(|known| (known.id, (known.method, known.key))).collect()
}

/// An entry, and what it is. Only a new leader appends an entry without data.
fn entry((id, bytes): (u64, u64), term: u64, titles: &Titles) -> Entry {
    let (rpc, key) = titles.get(&id).cloned().unwrap_or_default();
    let what = match titles.get(&id) {
        Some(_) => {
            let method = rpc.strip_prefix("KV/").unwrap_or(rpc);
            let key = key.as_ref().map_or_else(String::new, |key| format!(" {}", key.display()));
            format!("{method}{key}")
        }
        None if (id, bytes) == (0, 0) => format!("empty, opens term {term}"),
        None if id == 0 => "of no request".to_owned(),
        None => format!("request {id:016x}"),
    };
    Entry { id, bytes, what, rpc, key }
}

/// The logs at one moment.
#[derive(Debug)]
pub(crate) struct Logged<'a> {
    facts: &'a Facts,
    sight: &'a Sight,
    /// The rows, oldest first.
    pub(crate) lines: Vec<Line>,
    /// The position of the chosen row.
    pub(crate) chosen: usize,
}

impl Logged<'_> {
    /// The chosen row.
    pub(crate) fn chosen(&self) -> Option<Line> {
        self.lines.get(self.chosen).copied()
    }

    /// The index and the term of a row; a row of several has the last index and no term.
    pub(crate) fn name_of(&self, place: usize) -> Option<(u64, u64)> {
        Some(match *self.lines.get(place)? {
            Line::Entry(index, term) => (index, term),
            Line::Gap(_, last) => (last, 0),
        })
    }

    /// What a search compares of a row: its index, its term and what it is. Of several entries
    /// nothing, because nothing is known of each.
    pub(crate) fn told(&self, line: Line) -> Told {
        let (Line::Entry(index, term), Some(entry)) = (line, self.entry(line)) else {
            return Told::default();
        };
        Told {
            text: format!("{index} {term} {}", entry.what),
            keys: entry.key.iter().map(KeyText::display).collect(),
            rpc: entry.rpc.to_owned(),
            ..Told::default()
        }
    }

    /// The entry of a row.
    pub(crate) fn entry(&self, line: Line) -> Option<&Entry> {
        match line {
            Line::Entry(index, term) => self.facts.entries.get(&(index, term)),
            Line::Gap(..) => None,
        }
    }

    /// The row on the member in this column.
    pub(crate) fn cell(&self, line: Line, column: usize) -> Cell {
        let board = &self.sight.board;
        let (Some((place, cut)), Some(column)) =
            (self.sight.member(column), board.columns.get(column))
        else {
            return Cell { disk: Disk::Unknown, machine: Machine::No, marks: Vec::new() };
        };
        let marks = &column.marks;
        let begins = self.facts.first(place, cut);
        let (disk, machine, range) = match line {
            Line::Entry(index, _) if index < begins => {
                (Disk::Dropped, machine(Disk::Dropped, marks, index), index..=index)
            }
            Line::Entry(index, term) => {
                let disk = self.disk((index, term), (place, cut), marks);
                (disk, machine(disk, marks, index), index..=index)
            }
            Line::Gap(first, last) => {
                let disk = disk_of_gap((first, last), begins, marks);
                (disk, machine(disk, marks, last), first..=last)
            }
        };
        let ends_here = |(water, ..): &&(Water, char, &str)| {
            let is_other = matches!(disk, Disk::No | Disk::Removed);
            !is_other && marks.get(*water).is_some_and(|index| range.contains(&index))
        };
        let marks = MARKS.iter().filter(ends_here).map(|(_, letter, word)| (*letter, *word));
        Cell { disk, machine, marks: marks.collect() }
    }

    fn disk(&self, entry: (u64, u64), member: (u8, Moment), marks: &Watermarks) -> Disk {
        let log = self.facts.logs.at((entry.1, entry.0));
        let (place, cut) = member;
        let known = log.known(place, cut);
        let has = |term| known.iter().any(|known| known.term == term);
        match (self.kept(&log, member, marks), known.last()) {
            (Kept::Synced | Kept::InFile, _) => Disk::Synced,
            (Kept::Written, _) => Disk::Written,
            (_, Some(last)) if last.term != entry.1 => match has(entry.1) {
                true => Disk::Removed,
                false => Disk::No,
            },
            (Kept::No, Some(last)) if last.moment.0 == cut.0 => Disk::Memory,
            (Kept::No, _) => Disk::No,
            (Kept::Unknown, _) => Disk::Unknown,
        }
    }

    fn kept(&self, log: &Log, (place, cut): (u8, Moment), marks: &Watermarks) -> Kept {
        let (term, index) = log.entry;
        let knows =
            !self.has_other(index, term) && marks.reaches(Water::Commit, index) == Some(true);
        let at = |moment| match moment == cut {
            true => marks.clone(),
            false => watermarks::at(&self.facts.states, place, moment, None),
        };
        log.kept((place, cut), at, knows)
    }

    /// Whether some member has, or had, an entry of another term at this index.
    fn has_other(&self, index: u64, term: u64) -> bool {
        let same =
            self.lines.iter().filter(|line| matches!(line, Line::Entry(at, _) if *at == index));
        same.into_iter().any(|line| *line != Line::Entry(index, term))
    }

    /// How many members there are.
    pub(crate) fn columns(&self) -> usize {
        self.sight.board.columns.len()
    }

    /// What can be said of the row at a position, in sentences; without rows, why there are none.
    pub(crate) fn sentences(&self, place: usize) -> Vec<String> {
        match self.lines.get(place).copied() {
            None => {
                vec!["No entry was captured, and no member has said how long its log is.".into()]
            }
            Some(Line::Gap(first, last)) => vec![format!(
                "{} of requests that are not kept, or from before the records: what they are is \
                 unknown. How far each member is with them, its watermarks say.",
                entries(first, last)
            )],
            Some(line @ Line::Entry(index, term)) => {
                let entry = self.entry(line);
                let what = words::cut(entry.map_or("", |entry| &entry.what), 60);
                let bytes = entry.map_or(0, |entry| entry.bytes);
                let mut said = vec![format!(
                    "Entry {index} of term {term}: {what}, {} B.",
                    words::count(bytes)
                )];
                said.push(self.verdict((index, term)));
                said
            }
        }
    }

    /// What a power failure on all members would do to an entry.
    fn verdict(&self, (index, term): (u64, u64)) -> String {
        let log = self.facts.logs.at((term, index));
        let columns = self.sight.board.columns.iter().enumerate();
        let commits = |column: &Column| column.marks.reaches(Water::Commit, index) == Some(true);
        let (mut is_committed, mut is_lost) = (false, false);
        let kept: Vec<Kept> = columns
            .map(|(at, column)| {
                let Some(member) = self.sight.member(at) else { return Kept::Unknown };
                let kept = self.kept(&log, member, &column.marks);
                if commits(column) {
                    let last = log.known(member.0, member.1).last();
                    let has_it = last.map_or(!self.has_other(index, term), |l| l.term == term);
                    is_committed |= has_it;
                    is_lost |= last.is_some() && !has_it;
                }
                kept
            })
            .collect();
        let voters = self.sight.board.voters.as_ref();
        if is_lost { lens::LOST.to_owned() } else { lens::verdict(&kept, voters, is_committed) }
    }

    /// The newest captured write of the member's log files: the segment, where in it, and the
    /// entries that this segment has up to there. `?` stands for a first one that was not captured,
    /// and `+` says that the log is longer.
    pub(crate) fn segment(&self, column: usize) -> Option<String> {
        let (place, cut) = self.sight.member(column)?;
        let own = self.facts.writes.get(usize::from(place))?;
        let happened = &own[..own.partition_point(|write| write.moment <= cut)];
        let newest = happened.last().filter(|write| write.moment.0 == cut.0)?;
        let with_entries = || happened.iter().filter(|write| write.last != 0);
        let same = || with_entries().filter(|write| write.segment == newest.segment);
        let last = same().map(|write| write.last).max();
        let entries = last.map(|last| {
            let first = first_of_segment(newest.segment, with_entries());
            let first = first.map_or_else(|| "?".to_owned(), |first| first.to_string());
            let written = self.sight.board.columns[column].marks.get(Water::Written);
            let more = if written.is_some_and(|written| last < written) { "+" } else { "" };
            format!(": {first}-{last}{more}")
        });
        let entries = entries.unwrap_or_default();
        Some(format!("{}, {}{entries}", newest.segment, words::count(newest.offset)))
    }

    /// Up to where the member's raft thread knows that its disk has the log.
    pub(crate) fn stable(&self, column: usize) -> Option<String> {
        let (place, cut) = self.sight.member(column)?;
        let own = self.facts.stable.get(usize::from(place))?;
        let (at, index) = own[..own.partition_point(|(at, _)| *at <= cut)].last()?;
        let synced = self.sight.board.columns[column].marks.get(Water::Synced);
        (at.0 == cut.0).then(|| match synced {
            Some(synced) if synced <= *index => index.to_string(),
            _ => format!("at least {index}"),
        })
    }
}

/// The first entry of a segment, by the writes of entries in their order: a log begins with entry
/// 1, and a later segment with what follows the last entry of the one before.
fn first_of_segment<'a>(segment: u64, writes: impl Iterator<Item = &'a Write>) -> Option<u64> {
    if segment == 0 {
        return Some(1);
    }
    let mut before = None;
    for write in writes {
        if write.segment == segment {
            return before.filter(|last| *last == write.first.wrapping_sub(1)).map(|_| write.first);
        }
        before = Some(write.last);
    }
    None
}

fn entries(first: u64, last: u64) -> String {
    match first == last {
        true => format!("Entry {first} is"),
        false => format!("Entries {first} to {last} are"),
    }
}

fn machine(disk: Disk, marks: &Watermarks, index: u64) -> Machine {
    let reaches = |water| marks.reaches(water, index) == Some(true);
    match disk {
        Disk::No | Disk::Removed => Machine::No,
        _ if reaches(Water::Stored) => Machine::Stored,
        _ if reaches(Water::Applied) => Machine::Applied,
        _ if reaches(Water::Commit) => Machine::Committed,
        _ => Machine::No,
    }
}

/// How far a log is with entries of which nothing but the index is known.
fn disk_of_gap((first, last): (u64, u64), begins: u64, marks: &Watermarks) -> Disk {
    if last < begins {
        return Disk::Dropped;
    }
    let disk = |index| match kept::progress(marks, index) {
        Kept::Synced | Kept::InFile => Disk::Synced,
        Kept::Written => Disk::Written,
        Kept::No => Disk::No,
        Kept::Unknown => Disk::Unknown,
    };
    match (disk(first), disk(last)) {
        (Disk::Synced, Disk::Synced) if first < begins => Disk::From(begins),
        (Disk::Synced, Disk::Synced) => Disk::Synced,
        (Disk::Synced, other) => marks.get(Water::Synced).map_or(other, Disk::UpTo),
        (_, other) => other,
    }
}

#[cfg(test)]
mod tests;
