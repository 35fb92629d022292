//! The key space: the revisions of each key, and where each member has their rows.
//!
//! ```text
//!   key foo                                         etcd-01   etcd-02   etcd-03
//!      {4,0}  created 2  version 3  put             file      file      file
//!      {5,0}                        deleted         file      frozen    active
//!      {8,0}  created 8  version 1  put             active    index     -
//! ```
//!
//! A generation of a key begins with version 1 and ends with a deletion. All members give the same
//! revision to the same write, so a member has every revision up to that of its key space, even if
//! its own record of the write was not captured. What was written before the records began, or by
//! requests that are not kept, shows only in the versions that it left out: those have one row.
//!
//! Of a long key only the beginning is captured. Keys that begin alike cannot be told apart by it,
//! so a key whose text was cut has a row for each generation. A deletion names no generation; if
//! the text leaves a choice, it stands alone.
//!
//! Where a row is follows from three facts about its member: which revision the file has, which the
//! last freeze of the write buffer had, and which revisions are compacted.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use glass_etcd::{
    field, fields,
    story::{Event, KeyText, Recording},
    trace::{Kind, Stage},
};

use super::{
    super::{
        find::REDACTED,
        seek::{Forms, Told},
        story::Subject,
        watermarks::{Moment, Water, Watermarks, moment},
        words,
    },
    Sight,
};

/// What rows have for a search.
pub(crate) const FORMS: Forms =
    Forms { forms: &["k:", "is:"], kinds: &["key", "put", "deleted", "uncaptured"] };

/// The view of the key space.
#[derive(Debug, Default)]
pub(crate) struct Pane {
    facts: Facts,
    /// The row that the reader has chosen; `None` follows the story's last revision, or without a
    /// story the newest of all.
    pub(crate) chosen: Option<Name>,
}

/// The name of a row: its key, and its revision; `None` for the key's own row.
pub(crate) type Name = (KeyName, Option<(u64, u64)>);

/// What tells a key from others: its captured text, its length, and, if that text was cut, the
/// revision with which its generation began, or that of a deletion which stands alone.
pub(crate) type KeyName = (Vec<u8>, u64, u64);

/// What the records say about keys.
#[derive(Debug, Default)]
struct Facts {
    keys: BTreeMap<KeyName, Key>,
    /// Freezes of the write buffer of each member: when, and with which revision.
    freezes: Vec<Vec<(Moment, u64)>>,
    /// When each request's values went into the write buffer of each member.
    buffered: HashMap<(u8, u64), Vec<Moment>>,
    /// Whether some keys have no text.
    is_redacted: bool,
}

/// A key, and its revisions by number.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) text: KeyText,
    name: KeyName,
    revisions: BTreeMap<(u64, u64), Revision>,
}

/// A put or a deletion of a key.
#[derive(Debug, Default)]
pub(crate) struct Revision {
    /// The request that has written it.
    pub(crate) id: u64,
    /// The revision with which its generation began, and how many puts that has had; `None` for a
    /// deletion.
    pub(crate) put: Option<[u64; 2]>,
    /// How many generations the index had before the put.
    generations: u64,
    /// When each member's index got it.
    got: Vec<(u8, Moment)>,
}

/// A row of the view.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Line<'a> {
    /// A key, the number of its revisions that were captured, and whether it exists, if that is
    /// known.
    Key(&'a Key, usize, Option<bool>),
    /// Puts of a generation that were not captured: the first and the last version.
    Missing(&'a Key, [u64; 2]),
    /// Generations that ended before those that were captured.
    Earlier(&'a Key, u64),
    Revision(&'a Key, (u64, u64), &'a Revision),
    /// Later revisions that were not captured, of this key or of others: how many.
    Later(&'a Key, u64),
}

/// Where a member has the row of a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Unknown,
    /// The member has not applied it.
    No,
    /// Its index has the revision, and no buffer has the value yet.
    Index,
    Active,
    Frozen,
    /// One of the two buffers.
    Buffer,
    File,
    /// It can no longer be read.
    Compacted,
}

impl Pane {
    /// Reads all records.
    pub(crate) fn refresh(&mut self, recording: &Recording) {
        self.facts = Facts::of(recording);
    }

    /// The keys at a moment; `story` is the story that is open.
    pub(crate) fn at<'a>(&'a self, sight: &'a Sight, story: Option<Subject>) -> Keyed<'a> {
        let lines = self.facts.lines(sight);
        let chosen = self.chosen.as_ref().and_then(|name| {
            let is_it = |line: &Line<'_>| name_of(line) == *name;
            let is_of_key = |line: &Line<'_>| line.key().name == name.0;
            lines.iter().position(is_it).or_else(|| lines.iter().position(is_of_key))
        });
        let of_story = || {
            let is_own = |line: &Line<'_>| match line {
                Line::Revision(_, _, revision) => story == Some(Subject::Request(revision.id)),
                _ => false,
            };
            lines.iter().rposition(is_own)
        };
        let newest = || {
            let number = |line: &Line<'_>| name_of(line).1;
            (0..lines.len()).max_by_key(|at| number(&lines[*at]))
        };
        let chosen = chosen.or_else(of_story).or_else(newest).unwrap_or(0);
        Keyed { facts: &self.facts, sight, lines, chosen }
    }
}

impl Line<'_> {
    /// The key that the row is about.
    pub(crate) fn key(&self) -> &Key {
        match self {
            Line::Key(key, ..)
            | Line::Missing(key, _)
            | Line::Earlier(key, _)
            | Line::Later(key, _)
            | Line::Revision(key, ..) => key,
        }
    }

    /// What a search compares of the row. Without a form, a key is found in its own row only, and
    /// not once more in each of its revisions.
    pub(crate) fn told(&self) -> Told {
        let keys = vec![self.key().text.display()];
        let (text, kind) = match self {
            Line::Key(..) => (keys[0].clone(), "key"),
            Line::Revision(_, (main, sub), revision) => {
                let kind = if revision.put.is_some() { "put" } else { "deleted" };
                (format!("{{{main},{sub}}}"), kind)
            }
            Line::Missing(..) | Line::Earlier(..) | Line::Later(..) => {
                (String::new(), "uncaptured")
            }
        };
        Told { text, keys, kinds: vec![kind], ..Told::default() }
    }
}

fn name_of(line: &Line<'_>) -> Name {
    let number = match line {
        Line::Revision(_, number, _) => Some(*number),
        _ => None,
    };
    (line.key().name.clone(), number)
}

impl Facts {
    fn of(recording: &Recording) -> Facts {
        let freezes = vec![Vec::new(); recording.members.len()];
        let mut facts = Facts { freezes, ..Facts::default() };
        for event in recording.events.iter().filter(|event| event.kind != Kind::Begin) {
            facts.learn(event);
        }
        facts.freezes.iter_mut().for_each(|own| own.sort_unstable());
        facts.join_deletions();
        facts
    }

    fn learn(&mut self, event: &Event) {
        let at = moment(event);
        match event.stage {
            Stage::TreeIndexPut | Stage::TreeIndexTombstone => self.learn_revision(event),
            Stage::BufferPut => self.buffered.entry((event.member, event.id)).or_default().push(at),
            Stage::BufferFreeze => {
                if let Some(own) = self.freezes.get_mut(usize::from(event.member)) {
                    own.push((at, field!(event, BufferFreeze, revision)));
                }
            }
            _ => {}
        }
    }

    fn learn_revision(&mut self, event: &Event) {
        let Some(text) = &event.key else { return };
        if text.bytes.is_empty() {
            self.is_redacted = true;
            return;
        }
        let [main, sub] = fields!(event, TreeIndexPut | TreeIndexTombstone: main, sub);
        let generation = match event.stage {
            _ if !is_cut(text) => 0,
            Stage::TreeIndexPut => field!(event, TreeIndexPut, created),
            _ => main,
        };
        let name = (text.bytes.clone(), text.length, generation);
        let new = || Key { text: text.clone(), name: name.clone(), revisions: BTreeMap::new() };
        let key = self.keys.entry(name.clone()).or_insert_with(new);
        let revision = key.revisions.entry((main, sub)).or_default();
        revision.id = event.id;
        if event.stage == Stage::TreeIndexPut {
            revision.put = Some(fields!(event, TreeIndexPut: created, version));
            revision.generations = field!(event, TreeIndexPut, generations_old);
        }
        revision.got.push((event.member, moment(event)));
    }

    /// Gives each deletion of a key whose text was cut to the generation that it ends, if only one
    /// with this text is there to end.
    fn join_deletions(&mut self) {
        let is_deletion = |key: &Key| key.revisions.values().all(|one| one.put.is_none());
        let alone = self.keys.values().filter(|key| is_cut(&key.text) && is_deletion(key));
        let alone: Vec<KeyName> = alone.map(|key| key.name.clone()).collect();
        for name in alone {
            let (bytes, length, main) = &name;
            let same = (bytes.clone(), *length, 0)..(bytes.clone(), *length, *main);
            let is_open = |key: &&Key| key.revisions.values().all(|one| one.put.is_some());
            let mut open = self.keys.range(same).map(|(_, key)| key).filter(is_open);
            let (Some(only), None) = (open.next(), open.next()) else { continue };
            let ended = only.name.clone();
            let Some(deletion) = self.keys.remove(&name) else { continue };
            if let Some(key) = self.keys.get_mut(&ended) {
                key.revisions.extend(deletion.revisions);
            }
        }
    }

    /// The rows at a moment, in the order of keys and of revisions.
    fn lines<'a>(&'a self, sight: &Sight) -> Vec<Line<'a>> {
        let cuts: HashMap<u8, Moment> = sight.members().collect();
        let happened = |revision: &Revision| {
            let is_past = |(place, at): &(u8, Moment)| cuts.get(place).is_some_and(|cut| at <= cut);
            revision.got.iter().any(is_past)
        };
        let every = self.keys.values().flat_map(|key| &key.revisions);
        let mains: BTreeSet<u64> =
            every.filter(|(_, one)| happened(one)).map(|(number, _)| number.0).collect();
        let mains: Vec<u64> = mains.into_iter().collect();
        let columns = sight.board.columns.iter();
        let newest = columns.filter_map(|column| column.marks.get(Water::Revision)).max();
        let later = |last: u64| {
            let captured = (mains.len() - mains.partition_point(|main| *main <= last)) as u64;
            newest.map_or(0, |newest| newest.saturating_sub(last)).saturating_sub(captured)
        };
        let mut lines = Vec::new();
        for key in self.keys.values() {
            let revisions: Vec<_> =
                key.revisions.iter().filter(|(_, revision)| happened(revision)).collect();
            let Some((number, last)) = revisions.last() else { continue };
            let later = later(number.0);
            let exists = (later == 0).then_some(last.put.is_some());
            lines.push(Line::Key(key, revisions.len(), exists));
            let mut before: Option<[u64; 2]> = None;
            for (number, revision) in &revisions {
                lines.extend(missing(key, revision, before));
                lines.push(Line::Revision(key, **number, revision));
                before = Some(revision.put.unwrap_or([0, 0]));
            }
            lines.extend((later != 0).then_some(Line::Later(key, later)));
        }
        lines
    }
}

/// The row for what was not captured before this revision. `before` is the put before it, with
/// zeros for a deletion; none if it is the first of its key.
fn missing<'a>(key: &'a Key, revision: &Revision, before: Option<[u64; 2]>) -> Option<Line<'a>> {
    let [created, version] = revision.put?;
    let next = match before {
        Some([same, last]) if same == created => last.saturating_add(1),
        _ => 1,
    };
    if next < version {
        return Some(Line::Missing(key, [next, version - 1]));
    }
    let ended = revision.generations;
    (before.is_none() && ended != 0).then_some(Line::Earlier(key, ended))
}

/// The keys at one moment.
#[derive(Debug)]
pub(crate) struct Keyed<'a> {
    facts: &'a Facts,
    sight: &'a Sight,
    /// The rows.
    pub(crate) lines: Vec<Line<'a>>,
    /// The position of the chosen row.
    pub(crate) chosen: usize,
}

impl<'a> Keyed<'a> {
    /// The name of the row at a position.
    pub(crate) fn name_of(&self, place: usize) -> Option<Name> {
        self.lines.get(place).map(name_of)
    }

    /// The request that has written what the chosen row shows.
    pub(crate) fn id(&self) -> Option<u64> {
        match self.lines.get(self.chosen)? {
            Line::Revision(_, _, revision) => Some(revision.id),
            _ => None,
        }
    }

    /// The position of the next key's row, or of the one before this key's.
    pub(crate) fn other_key(&self, is_forward: bool) -> Option<usize> {
        let is_key = |at: &usize| matches!(self.lines[*at], Line::Key(..));
        let own = (0..=self.chosen.min(self.lines.len().checked_sub(1)?)).rfind(is_key)?;
        match is_forward {
            true => (own + 1..self.lines.len()).find(is_key),
            false => (0..own).rfind(is_key),
        }
    }

    /// Where the member in this column has the row of a revision.
    pub(crate) fn place(&self, line: &Line<'a>, column: usize) -> Option<Place> {
        let Line::Revision(key, number, revision) = line else { return None };
        let Some((place, cut)) = self.sight.member(column) else { return Some(Place::Unknown) };
        let marks = &self.sight.board.columns[column].marks;
        let is_past = |(by, at): &&(u8, Moment)| *by == place && at.0 == cut.0 && *at <= cut;
        let got = revision.got.iter().filter(is_past).map(|(_, at)| *at).max();
        Some(match (got, marks.reaches(Water::Revision, number.0)) {
            (None, None) => Place::Unknown,
            (None, Some(false)) => Place::No,
            _ if self.is_compacted(key, *number, revision, marks) => Place::Compacted,
            (Some(at), _) if self.is_only_in_index((place, cut), at, revision.id) => Place::Index,
            _ => self.row((place, cut), number.0, marks),
        })
    }

    /// Whether a compaction has taken the revision away: it is a deletion, or a later one of its
    /// key is compacted as well.
    fn is_compacted(
        &self,
        key: &Key,
        number: (u64, u64),
        revision: &Revision,
        marks: &Watermarks,
    ) -> bool {
        let Some(compacted) = marks.get(Water::Compacted) else { return false };
        let after = (std::ops::Bound::Excluded(number), std::ops::Bound::Unbounded);
        let mut later = key.revisions.range(after).map(|(number, _)| number.0);
        number.0 <= compacted && (revision.put.is_none() || later.any(|later| later <= compacted))
    }

    /// Whether the request's values went into the member's buffer, but not yet at this moment.
    fn is_only_in_index(&self, (place, cut): (u8, Moment), at: Moment, id: u64) -> bool {
        let buffered = self.facts.buffered.get(&(place, id));
        let mut after = buffered.into_iter().flatten().filter(|put| at <= **put);
        after.next().is_some_and(|put| cut < *put)
    }

    /// Where the row of a revision is that the member has.
    fn row(&self, (place, cut): (u8, Moment), main: u64, marks: &Watermarks) -> Place {
        match marks.reaches(Water::StoredRevision, main) {
            Some(true) => return Place::File,
            None => return Place::Unknown,
            Some(false) => {}
        }
        let own = self.facts.freezes.get(usize::from(place)).map_or(&[][..], Vec::as_slice);
        let last = own[..own.partition_point(|(at, _)| *at <= cut)].last();
        match last.filter(|(at, _)| at.0 == cut.0) {
            Some((_, frozen)) if main <= *frozen => Place::Frozen,
            Some(_) => Place::Active,
            None if marks.get(Water::Frozen) == Some(0) => Place::Active,
            None => Place::Buffer,
        }
    }

    /// How many members there are.
    pub(crate) fn columns(&self) -> usize {
        self.sight.board.columns.len()
    }

    /// What can be said of the row at a position, in sentences; without rows, why there are none.
    pub(crate) fn sentences(&self, place: usize) -> Vec<String> {
        let Some(line) = self.lines.get(place) else {
            let why = match self.facts.is_redacted {
                true => format!("{REDACTED}."),
                false => "No write of a key was captured until this moment.".to_owned(),
            };
            return vec![why];
        };
        let text = &line.key().text;
        let key = words::key(text, 40);
        let said = match line {
            Line::Key(_, count, None | Some(true)) => format!(
                "{key}: {count} of its revisions were captured. Enter on one of them opens the \
                 story that has written it."
            ),
            Line::Key(_, count, Some(false)) => {
                format!("{key} is deleted; {count} of its revisions were captured.")
            }
            Line::Missing(_, [first, last]) => format!(
                "Versions {first} to {last} of {key} were put before the records began, or by \
                 requests that are not kept."
            ),
            Line::Earlier(_, count) => format!(
                "{key} was put and deleted before: the index had {count} of its generations when \
                 the first captured one began."
            ),
            Line::Later(_, count) => format!(
                "{count} later revisions are of requests that are not kept: whether they changed \
                 {key} is unknown."
            ),
            Line::Revision(_, (main, sub), revision) => match revision.put {
                Some([created, version]) => format!(
                    "{{{main},{sub}}}: the row of {key} as of revision {main}. Its generation \
                     began at revision {created}; this is put number {version} in it."
                ),
                None => format!(
                    "{{{main},{sub}}}: a tombstone. It ends the generation of {key}; reads at \
                     revision {main} or later do not find it, until the next put."
                ),
            },
        };
        let cut = is_cut(text).then(|| {
            format!(
                "Only {} of the {} bytes of this key were captured: it has a row for each \
                 generation, because other keys may begin alike.",
                text.bytes.len(),
                text.length
            )
        });
        [said].into_iter().chain(cut).collect()
    }
}

/// Whether only the beginning of the key was captured.
fn is_cut(key: &KeyText) -> bool {
    (key.bytes.len() as u64) < key.length
}

#[cfg(test)]
mod tests;
