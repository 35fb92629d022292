//! What a read of the story's key would answer, if it was sent now: on each member, serializable
//! and linearizable.
//!
//! ```text
//!   tree_index.put, tombstone ──▶ the versions of the key, by revision
//!   mvcc.write ─────────────────▶ the revisions of which every write was captured
//!   apply.entry ────────────────▶ the revision after each entry
//!                                        │
//!   at the cursor: revision of the member ──▶ serializable
//!                  commit of its leader   ──▶ linearizable, and what that waits for
//! ```
//!
//! All members apply the same entries in the same order, so at one revision they have the same
//! version of a key, and the records of one speak for all. A serializable read answers from the
//! revision that its member has. A linearizable read waits until its leader has confirmed with a
//! quorum that it leads, and until its own member has applied what that leader knew to be committed:
//! it answers from that revision, or from a later one if more is committed meanwhile.
//!
//! Invariant: a version is known only if every revision between its write and the revision asked for
//! was captured, or if the next version proves that none was between. Everything else is unknown.
//!
//! Left out: values, which no record contains.

use std::collections::{BTreeMap, BTreeSet};

use glass_etcd::{
    change, field, fields,
    story::{Event, KeyText, Recording},
    trace::{FLAG_ERROR, Kind, Stage, value::LEADER},
};

use super::{
    alive::Heard,
    lanes::{self, Lane},
    lens::Line,
    player::Head,
    steps::Steps,
    watermarks::{States, Water, Watermarks, moment},
    words,
};

/// The content of an answer, as far as known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Unknown,
    /// The key does not exist.
    Nothing,
    /// This version of the key.
    Version {
        version: u64,
        revision: u64,
    },
    /// The key space at this revision; the story names no single key.
    AsOf(u64),
}

/// What a linearizable read comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Linearizable {
    /// Its answer, once a quorum has confirmed the leader; and the index that its member has to
    /// apply before, if it has not.
    Answer {
        found: Found,
        apply: Option<u64>,
    },
    /// It waits, for this reason.
    Waits(String),
    Unknown,
}

/// What reads on one member come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reads {
    /// `None` if the member answers nobody, for the reason in `linearizable`.
    pub(crate) serializable: Option<Found>,
    pub(crate) linearizable: Linearizable,
}

impl Reads {
    /// Whether the serializable read is known to be older than what is committed.
    pub(crate) fn is_stale(&self) -> bool {
        let Linearizable::Answer { found: newest, .. } = self.linearizable else { return false };
        let is_known = |found| found != Found::Unknown;
        self.serializable
            .is_some_and(|found| is_known(found) && is_known(newest) && found != newest)
    }
}

/// The versions of one key, and the revisions of the key space, as far as captured.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// The key; `None` if the story names none, or not as a whole.
    key: Option<KeyText>,
    /// Its versions, by the revision of the write.
    versions: BTreeMap<u64, Written>,
    /// Runs of revisions of which every write was captured: the last of each, by the first.
    whole: BTreeMap<u64, u64>,
    /// The revision after an entry was applied, by its index.
    revisions: BTreeMap<u64, u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    Put { created: u64, version: u64 },
    Deleted,
}

/// The revision of an empty key space.
const FIRST: u64 = 1;

impl History {
    /// Reads a recording once. A key that was cut, or was left out, cannot be compared.
    pub(crate) fn of(recording: &Recording, states: &States, key: Option<&KeyText>) -> History {
        let is_whole =
            |key: &&KeyText| !key.bytes.is_empty() && key.length == key.bytes.len() as u64;
        let key = key.filter(is_whole).cloned();
        let mut history = History { key, ..History::default() };
        let mut changes: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        let mut operations = BTreeMap::new();
        let is_done = |event: &&Event| event.kind == Kind::Span && event.flags & FLAG_ERROR == 0;
        for event in recording.events.iter().filter(is_done) {
            match event.stage {
                Stage::TreeIndexPut | Stage::TreeIndexTombstone => {
                    let [main, sub] = fields!(event, TreeIndexPut | TreeIndexTombstone: main, sub);
                    if event.key.as_ref().is_some_and(|key| is_whole(&key)) {
                        changes.entry(main).or_default().insert(sub);
                        history.write(event, main);
                    }
                }
                Stage::MvccWrite => {
                    let [_, new] = change!(event, MvccWrite, revision);
                    operations.insert(new, field!(event, MvccWrite, operations));
                }
                Stage::ApplyEntry => history.apply(event, states),
                _ => {}
            }
        }
        let is_captured = |(main, subs): &(u64, BTreeSet<u64>)| {
            operations.get(main).is_some_and(|count| *count == subs.len() as u64)
        };
        let whole = changes.into_iter().filter(is_captured).map(|(main, _)| main);
        history.whole = runs(whole);
        history
    }

    /// Notes the revisions before and after an entry: apply does one after the other.
    fn apply(&mut self, event: &Event, states: &States) {
        let [old, new] = change!(event, ApplyEntry, applied);
        let before = (event.boot, event.clock.saturating_sub(1));
        for (index, at) in [(old, before), (new, moment(event))] {
            let value = states.at_moment(event.member, at, Water::Revision);
            if let Some(revision) = value.known() {
                self.revisions.insert(index, revision);
            }
        }
    }

    fn write(&mut self, event: &Event, main: u64) {
        if self.key.is_none() || event.key != self.key {
            return;
        }
        let written = match event.stage {
            Stage::TreeIndexPut => {
                let [created, version] = fields!(event, TreeIndexPut: created, version);
                Written::Put { created, version }
            }
            _ => Written::Deleted,
        };
        self.versions.insert(main, written);
    }

    /// What a read at this revision finds.
    fn at(&self, revision: u64) -> Found {
        if self.key.is_none() {
            return Found::AsOf(revision);
        }
        let last = self.versions.range(..=revision).next_back();
        let next = self.versions.range(revision.saturating_add(1)..).next();
        let since = last.map_or(FIRST, |(main, _)| *main);
        let is_known = self.is_whole(since, revision)
            || matches!((last, next), (Some((_, last)), Some((_, next))) if follows(*last, *next));
        match last {
            _ if !is_known => match next {
                Some((main, next)) if self.is_whole(revision, main - 1) => before(*next),
                _ => Found::Unknown,
            },
            Some((main, Written::Put { version, .. })) => {
                Found::Version { version: *version, revision: *main }
            }
            Some((_, Written::Deleted)) | None => Found::Nothing,
        }
    }

    /// Whether every write after `since`, up to `until`, was captured.
    fn is_whole(&self, since: u64, until: u64) -> bool {
        if until <= since {
            return until == since;
        }
        let run = self.whole.range(..=since + 1).next_back();
        run.is_some_and(|(_, end)| until <= *end)
    }

    /// What a read finds once everything up to this index has been applied.
    fn after(&self, index: u64) -> Found {
        let before = self.revisions.range(..=index).next_back();
        let after = self.revisions.range(index..).next();
        let (Some((_, before)), Some((_, after))) = (before, after) else { return Found::Unknown };
        let found = self.at(*before);
        // Entries between the two may have written, but not this key.
        if found == self.at(*after) { found } else { Found::Unknown }
    }
}

/// What a read finds just before this write: it is the first version of its key, or the second, or
/// what was before is unknown.
fn before(next: Written) -> Found {
    match next {
        Written::Put { version: 1, .. } => Found::Nothing,
        Written::Put { created, version: 2 } => Found::Version { version: 1, revision: created },
        Written::Put { .. } | Written::Deleted => Found::Unknown,
    }
}

/// Whether no write can have been between these two of one key.
fn follows(last: Written, next: Written) -> bool {
    match (last, next) {
        (Written::Put { created, version }, Written::Put { created: same, version: next }) => {
            created == same && version.checked_add(1) == Some(next)
        }
        _ => false,
    }
}

/// The runs of these numbers, which rise: the last of each, by the first.
fn runs(numbers: impl Iterator<Item = u64>) -> BTreeMap<u64, u64> {
    let mut runs = BTreeMap::new();
    let mut open: Option<(u64, u64)> = None;
    for number in numbers {
        let (first, _) = open.filter(|(_, last)| last + 1 == number).unwrap_or((number, number));
        open = Some((first, number));
        runs.insert(first, number);
    }
    runs
}

/// What reads on each lane's member come to at the cursor. `heads` say who runs; without them, that
/// is not considered.
pub(crate) fn reads(steps: &Steps, lanes: &[Lane], heads: &[Head]) -> Vec<Reads> {
    let all = Members { steps, lanes, heads };
    (0..lanes.len()).map(|lane| all.read(lane)).collect()
}

/// The members at the cursor.
struct Members<'a> {
    steps: &'a Steps,
    lanes: &'a [Lane],
    heads: &'a [Head],
}

impl Members<'_> {
    fn marks(&self, lane: usize) -> Option<Watermarks> {
        self.steps.watermarks(&self.lanes[lane])
    }

    /// Why the member of a lane answers nothing.
    fn silence(&self, lane: usize) -> Option<&'static str> {
        match self.heads.get(lane)?.heard {
            Heard::Down(_) => Some("is DOWN"),
            Heard::Paused(_) => Some("stands still"),
            Heard::Starting(_) => Some("is starting"),
            Heard::Never | Heard::Silent(_) | Heard::Fresh => None,
        }
    }

    fn read(&self, lane: usize) -> Reads {
        if let Some(why) = self.silence(lane) {
            let linearizable = Linearizable::Waits(format!("it {why}"));
            return Reads { serializable: None, linearizable };
        }
        let Some(marks) = self.marks(lane) else {
            return Reads {
                serializable: Some(Found::Unknown),
                linearizable: Linearizable::Unknown,
            };
        };
        let history = &self.steps.history;
        let revision = marks.get(Water::Revision);
        let serializable = revision.map_or(Found::Unknown, |revision| history.at(revision));
        let linearizable = self.linearizable(&marks).unwrap_or(Linearizable::Unknown);
        Reads { serializable: Some(serializable), linearizable }
    }

    /// `None` if it is unknown what the read waits for.
    fn linearizable(&self, own: &Watermarks) -> Option<Linearizable> {
        let leader_id = own.get(Water::Leader)?;
        if leader_id == 0 {
            return Some(Linearizable::Waits("no leader".to_owned()));
        }
        let leader = lanes::lane_of_id(self.lanes, leader_id)?;
        let name = &self.lanes[leader].name;
        if let Some(why) = self.silence(leader) {
            return Some(Linearizable::Waits(format!("{name}, which leads, {why}")));
        }
        let marks = self.marks(leader)?;
        let (role, term) = (marks.get(Water::Role)?, marks.get(Water::Term)?);
        if role != LEADER || term != own.get(Water::Term)? {
            return Some(Linearizable::Waits(format!("{name} does not lead this term")));
        }
        let silent = (0..self.lanes.len()).filter(|lane| self.silence(*lane).is_some()).count();
        if self.lanes.len() - silent < self.lanes.len() / 2 + 1 {
            return Some(Linearizable::Waits("no quorum runs".to_owned()));
        }
        let commit = marks.get(Water::Commit)?;
        // Before that a leader does not know what is committed.
        if self.steps.openings.get(&term).is_some_and(|opening| commit < *opening) {
            return Some(Linearizable::Waits(format!("nothing of term {term} is committed")));
        }
        let is_applied = own.reaches(Water::Applied, commit)?;
        let apply = (!is_applied).then_some(commit);
        Some(Linearizable::Answer { found: self.steps.history.after(commit), apply })
    }
}

/// The heading of the lens.
pub(crate) fn title(steps: &Steps) -> String {
    /// The longest key in the heading.
    const KEY: usize = 24;
    match &steps.history.key {
        Some(key) => format!("A READ OF {} HERE (-s: serializable)", words::key(key, KEY)),
        None => "A READ HERE (-s: serializable)".to_owned(),
    }
}

/// The lens: a line for each member.
pub(crate) fn lines(steps: &Steps, lanes: &[Lane], heads: &[Head]) -> Vec<Line> {
    let reads = reads(steps, lanes, heads);
    lanes.iter().zip(reads).map(|(lane, reads)| line(&lane.name, &reads)).collect()
}

fn line(name: &str, reads: &Reads) -> Line {
    let mut line = vec![name.to_owned()];
    let Some(serializable) = reads.serializable else {
        let Linearizable::Waits(why) = &reads.linearizable else { return line };
        line.push(format!("no answer: {why}"));
        return line;
    };
    let stale = if reads.is_stale() { ", STALE" } else { "" };
    line.push(format!("get -s: {}{stale}", found(serializable)));
    line.push(match &reads.linearizable {
        Linearizable::Answer { found: Found::Unknown, .. } | Linearizable::Unknown => {
            "get: ? unknown".to_owned()
        }
        Linearizable::Answer { found: answer, apply: None } => {
            format!("get: {} after quorum", found(*answer))
        }
        Linearizable::Answer { found: answer, apply: Some(index) } => {
            format!("get: {} after quorum, apply {index}", found(*answer))
        }
        Linearizable::Waits(why) => format!("get: waits, {why}"),
    });
    line
}

/// What is found, in words.
pub(crate) fn found(found: Found) -> String {
    match found {
        Found::Unknown => "? unknown".to_owned(),
        Found::Nothing => "no key".to_owned(),
        Found::Version { version, revision } => format!("v{version} rev {revision}"),
        Found::AsOf(revision) => format!("as of rev {revision}"),
    }
}

#[cfg(test)]
mod tests;
