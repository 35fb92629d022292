//! What the records say about one key at every revision: which version a read would find.

use std::collections::{BTreeMap, BTreeSet};

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

/// The versions of one key, and the revisions of the key space, as far as captured.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// The key; `None` if the story names none, or not as a whole.
    pub(crate) key: Option<KeyText>,
    /// Its versions, by the revision of the write.
    versions: BTreeMap<u64, Written>,
    /// Runs of revisions of which every write was captured: the last of each, by the first.
    whole: BTreeMap<u64, u64>,
    /// The revision after an entry was applied, by its index.
    revisions: BTreeMap<u64, u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
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
    pub(crate) fn at(&self, revision: u64) -> Found {
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
    pub(crate) fn is_whole(&self, since: u64, until: u64) -> bool {
        if until <= since {
            return until == since;
        }
        let run = self.whole.range(..=since + 1).next_back();
        run.is_some_and(|(_, end)| until <= *end)
    }

    /// What a read finds once everything up to this index has been applied.
    pub(crate) fn after(&self, index: u64) -> Found {
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
