//! What the records say about one key at every revision: which version a read would find.
//!
//! [`Writes`] is read once of a recording, and the [`History`] of each key looks into it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    rc::Rc,
};

use glass_etcd::{
    change, field, fields,
    story::{Event, KeyText, Recording},
    trace::{FLAG_ERROR, Kind, Stage},
};

use super::watermarks::{States, Water, moment};

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

/// The versions of all keys, and the revisions of the key space, as far as captured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writes {
    /// The versions of each key, by the revision of the write. A key that was cut, or was left out,
    /// cannot be compared, and is not here.
    versions: HashMap<Vec<u8>, BTreeMap<u64, Written>>,
    /// Runs of revisions of which every write was captured: the last of each, by the first.
    whole: BTreeMap<u64, u64>,
    /// The revision after an entry was applied, by its index.
    revisions: BTreeMap<u64, u64>,
}

/// The versions of one key.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// The key; `None` if the story names none, or not as a whole.
    pub(crate) key: Option<KeyText>,
    writes: Rc<Writes>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    Put { created: u64, version: u64 },
    Deleted,
}

/// The revision of an empty key space.
const FIRST: u64 = 1;

/// Whether the records have all of a key.
fn is_whole(key: &KeyText) -> bool {
    !key.bytes.is_empty() && key.length == key.bytes.len() as u64
}

impl Writes {
    /// Reads a recording once.
    pub(crate) fn of(recording: &Recording, states: &States) -> Writes {
        let mut writes = Writes::default();
        let mut changes: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        let mut operations = BTreeMap::new();
        let is_done = |event: &&Event| event.kind == Kind::Span && event.flags & FLAG_ERROR == 0;
        for event in recording.events.iter().filter(is_done) {
            match event.stage {
                Stage::TreeIndexPut | Stage::TreeIndexTombstone => {
                    let [main, sub] = fields!(event, TreeIndexPut | TreeIndexTombstone: main, sub);
                    if let Some(key) = event.key.as_ref().filter(|key| is_whole(key)) {
                        changes.entry(main).or_default().insert(sub);
                        let own = writes.versions.entry(key.bytes.clone()).or_default();
                        own.insert(main, written(event));
                    }
                }
                Stage::MvccWrite => {
                    let [_, new] = change!(event, MvccWrite, revision);
                    operations.insert(new, field!(event, MvccWrite, operations));
                }
                Stage::ApplyEntry => writes.apply(event, states),
                _ => {}
            }
        }
        let is_captured = |(main, subs): &(u64, BTreeSet<u64>)| {
            operations.get(main).is_some_and(|count| *count == subs.len() as u64)
        };
        let whole = changes.into_iter().filter(is_captured).map(|(main, _)| main);
        writes.whole = runs(whole);
        writes
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
}

/// What a change of the tree index has made of the key.
fn written(event: &Event) -> Written {
    match event.stage {
        Stage::TreeIndexPut => {
            let [created, version] = fields!(event, TreeIndexPut: created, version);
            Written::Put { created, version }
        }
        _ => Written::Deleted,
    }
}

impl History {
    /// The history of this key, if the records have all of it.
    pub(crate) fn of(writes: &Rc<Writes>, key: Option<&KeyText>) -> History {
        let key = key.filter(|key| is_whole(key)).cloned();
        History { key, writes: Rc::clone(writes) }
    }

    /// What a read at this revision finds.
    pub(crate) fn at(&self, revision: u64) -> Found {
        let Some(key) = &self.key else { return Found::AsOf(revision) };
        let versions = self.writes.versions.get(&key.bytes);
        let last = versions.and_then(|own| own.range(..=revision).next_back());
        let next = versions.and_then(|own| own.range(revision.saturating_add(1)..).next());
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
    pub(crate) fn is_whole(&self, since: u64, until: u64) -> bool {
        if until <= since {
            return until == since;
        }
        let run = self.writes.whole.range(..=since + 1).next_back();
        run.is_some_and(|(_, end)| until <= *end)
    }

    /// What a read finds once everything up to this index has been applied.
    pub(crate) fn after(&self, index: u64) -> Found {
        let before = self.writes.revisions.range(..=index).next_back();
        let after = self.writes.revisions.range(index..).next();
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
pub(crate) fn runs(numbers: impl Iterator<Item = u64>) -> BTreeMap<u64, u64> {
    let mut runs = BTreeMap::new();
    let mut open: Option<(u64, u64)> = None;
    for number in numbers {
        let (first, _) = open.filter(|(_, last)| last + 1 == number).unwrap_or((number, number));
        open = Some((first, number));
        runs.insert(first, number);
    }
    runs
}
