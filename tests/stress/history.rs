//! The history of a run, and the part of it that one watcher received.
//!
//! A [`Record`] is the ground truth: every change in the order of revisions. It comes from a
//! watcher of everything, but is verified: revisions must follow each other without a gap, versions
//! must count, and the answers that clients got must be in it (see [`Record::flaws`] and
//! `traffic`). A [`Session`] is one watcher from its creation to the end of its stream; a watcher
//! that continues after its member was killed consists of several.

use std::collections::BTreeMap;

use bytes::Bytes;
use glass_etcd::pb::{
    etcdserverpb::WatchCreateRequest,
    mvccpb::{Event, KeyValue, event::EventType},
};

/// Every change of the key space.
#[derive(Default)]
pub(super) struct Record {
    changes: BTreeMap<i64, Vec<Event>>,
    /// By key: revision, and the pair from then on.
    keys: BTreeMap<Bytes, BTreeMap<i64, Option<KeyValue>>>,
}

/// A message on a watcher's stream.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// Some changes, and how far compaction may have advanced when they arrived.
    Events(Vec<Event>, i64),
    /// Everything up to this revision has been sent.
    Progress(i64),
    /// Cancelled: history up to this revision, which it asks for, is compacted.
    Compacted(i64),
}

/// One watcher, from its creation to its end.
#[derive(Clone, Debug)]
pub(super) struct Session {
    /// For the reader of an error.
    pub(super) name: String,
    /// The request.
    pub(super) asked: WatchCreateRequest,
    /// The revision in the answer to its creation.
    pub(super) created: i64,
    /// All messages after that.
    pub(super) answers: Vec<Answer>,
}

/// The pair of an event; an event without one counts as empty.
pub(super) fn pair(event: &Event) -> KeyValue {
    event.kv.clone().unwrap_or_default()
}

/// The revision of an event.
pub(super) fn revision(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

/// Whether the event is a put.
pub(super) fn is_put(event: &Event) -> bool {
    event.r#type == EventType::Put as i32
}

/// Whether a watcher with this request must receive the event, whenever it happens.
pub(super) fn wants(asked: &WatchCreateRequest, event: &Event) -> bool {
    let Some(kv) = &event.kv else { return false };
    let (from, end) = (&asked.key, &asked.range_end);
    let covered = match &end[..] {
        [] => kv.key == from,
        b"\0" => from <= &kv.key,
        _ => from <= &kv.key && kv.key < end,
    };
    covered && !asked.filters.contains(&event.r#type)
}

impl Session {
    /// The first revision that it must receive.
    pub(super) fn from(&self) -> i64 {
        if self.asked.start_revision == 0 { self.created + 1 } else { self.asked.start_revision }
    }

    /// All events in order of arrival.
    pub(super) fn events(&self) -> impl Iterator<Item = &Event> {
        self.answers.iter().flat_map(|answer| match answer {
            Answer::Events(events, _) => &events[..],
            Answer::Progress(_) | Answer::Compacted(_) => &[],
        })
    }

    /// The revision up to which it has certainly received everything.
    pub(super) fn known(&self) -> i64 {
        let each = self.answers.iter().map(|answer| match answer {
            Answer::Events(events, _) => events.iter().map(revision).max().unwrap_or(0),
            Answer::Progress(revision) => *revision,
            Answer::Compacted(_) => 0,
        });
        each.max().unwrap_or(0)
    }
}

impl Record {
    /// The record of these changes.
    pub(super) fn new(events: impl IntoIterator<Item = Event>) -> Self {
        let mut record = Self::default();
        for event in events {
            let kv = pair(&event);
            let now = is_put(&event).then(|| kv.clone());
            record.keys.entry(kv.key).or_default().insert(kv.mod_revision, now);
            record.changes.entry(kv.mod_revision).or_default().push(event);
        }
        record
    }

    /// The last revision.
    pub(super) fn newest(&self) -> i64 {
        self.changes.keys().next_back().copied().unwrap_or(1)
    }

    /// The changes of a revision.
    pub(super) fn at(&self, revision: i64) -> &[Event] {
        self.changes.get(&revision).map_or(&[], |events| events)
    }

    /// The pair before a revision.
    pub(super) fn before(&self, key: &Bytes, revision: i64) -> Option<&KeyValue> {
        self.keys.get(key)?.range(..revision).next_back()?.1.as_ref()
    }

    /// All pairs after the last change, in the order of keys.
    pub(super) fn state(&self) -> Vec<KeyValue> {
        let last = self.keys.values().filter_map(|versions| versions.values().next_back());
        last.flatten().cloned().collect()
    }

    /// The events that a watcher must receive between two revisions, both included.
    pub(super) fn due<'r>(
        &'r self,
        asked: &'r WatchCreateRequest,
        from: i64,
        to: i64,
    ) -> impl Iterator<Item = &'r Event> {
        // An end before the beginning contains nothing.
        let range = self.changes.range(from..to.max(from - 1) + 1);
        range.flat_map(|(_, events)| events).filter(move |event| wants(asked, event))
    }

    /// Impossible histories: a missing revision, a version that does not count, a key changed
    /// twice.
    pub(super) fn flaws(&self) -> Vec<String> {
        let mut flaws = Vec::new();
        for (expected, (at, events)) in (2..).zip(&self.changes) {
            if expected != *at {
                flaws.push(format!("revision {expected} is missing before {at}"));
                break;
            }
            let keys: std::collections::BTreeSet<Bytes> =
                events.iter().map(|event| pair(event).key).collect();
            if keys.len() != events.len() {
                flaws.push(format!("revision {at} changes a key twice: {events:?}"));
            }
            for event in events {
                let (kv, before) = (pair(event), self.before(&pair(event).key, *at));
                let right = if is_put(event) {
                    let version = before.map_or(1, |before| before.version + 1);
                    let create = before.map_or(*at, |before| before.create_revision);
                    (kv.version, kv.create_revision) == (version, create)
                } else {
                    before.is_some()
                };
                if !right {
                    flaws.push(format!("{event:?} after {before:?}"));
                }
            }
        }
        flaws
    }
}
