//! One watcher, and what it puts into its stream's queue.

use super::{lookup::Keys, queue::Queue};
use crate::pb::{
    etcdserverpb::watch_create_request::FilterType,
    mvccpb::{Event, event::EventType},
};

/// Which events a watcher does not want.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    /// No puts (NOPUT).
    pub puts: bool,
    /// No deletions (NODELETE).
    pub deletes: bool,
}

impl Filters {
    /// Reads a request's list; numbers that mean nothing filter nothing.
    pub fn new(filters: &[i32]) -> Filters {
        Filters {
            puts: filters.contains(&(FilterType::Noput as i32)),
            deletes: filters.contains(&(FilterType::Nodelete as i32)),
        }
    }

    pub(super) fn wants(self, event: &Event) -> bool {
        if event.r#type == EventType::Delete as i32 { !self.deletes } else { !self.puts }
    }
}

/// The way by which events came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// From apply, in the moment of the write.
    Synced = 0,
    /// Read from the backend, afterwards.
    CatchUp = 1,
}

/// Some events for one watcher: all of one revision, or all of several.
#[derive(Clone, Debug, PartialEq)]
pub struct Events {
    /// The request under which the way is recorded: the write's, or, for events that were caught
    /// up, the one that created the watcher.
    pub id: u64,
    /// The revision up to which the key space had come, for the header.
    pub revision: i64,
    /// By revision, then in the order of the transaction; never empty. Previous values are not
    /// filled in.
    pub events: Vec<Event>,
    /// How they came.
    pub path: Path,
}

/// What is said to one watcher.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// Something was written.
    Events(Events),
    /// What it asks for is compacted, up to this revision; it gets nothing any more.
    Compacted(i64),
    /// Nothing more was written up to this revision.
    Progress(i64),
    /// The same for all watchers of the stream.
    StreamProgress(i64),
}

/// What stands in a stream's queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// The watcher, by the number that is its own for as long as the member runs; for news to the
    /// whole stream, the newest one that began in the past.
    pub watcher: u64,
    /// The id that the client knows; −1 also for news to the whole stream.
    pub watch_id: i64,
    /// What there is to say.
    pub news: News,
}

/// What an event takes beyond its key and value.
const EVENT_BYTES: usize = std::mem::size_of::<Event>();

impl Notice {
    /// How much memory its events hold.
    pub fn bytes(&self) -> usize {
        let News::Events(Events { events, .. }) = &self.news else { return 0 };
        let of = |event: &Event| event.kv.as_ref().map_or(0, |kv| kv.key.len() + kv.value.len());
        events.iter().map(|event| EVENT_BYTES + of(event)).sum()
    }
}

/// What a victim may wait with: a stream has as many watchers as its client wants.
const VICTIM_KEEPS: usize = 4 << 10;

/// In which of the three groups a watcher is.
#[derive(Debug)]
pub(super) enum Group {
    /// It has all that was written, and gets the next from apply.
    Synced,
    /// It must read from the backend.
    Unsynced,
    /// Its queue was full. This waits for room, and nothing else may come before it.
    Victim(Waits),
}

/// What a victim waits with.
#[derive(Debug)]
pub(super) enum Waits {
    /// This, which is small.
    With(Notice),
    /// Nothing. When there is room for so many bytes, it is read again from the backend. That may be
    /// more by then; if it does not fit, the next wait is for that, so nothing is read over and over.
    For(usize),
}

/// A watcher (etcd: `watcher`).
#[derive(Debug)]
pub(super) struct Watcher {
    /// The request that created it.
    pub(super) id: u64,
    pub(super) watch_id: i64,
    pub(super) keys: Keys,
    pub(super) filters: Filters,
    /// The start that was asked for; 0 for the next revision. No progress is told before it.
    pub(super) start_rev: i64,
    /// The oldest revision that it has not been given. Not kept up to date while it is synced,
    /// where it only holds back what is older than the start that was asked for.
    pub(super) min_rev: i64,
    pub(super) queue: Queue,
    pub(super) group: Group,
}

impl Watcher {
    /// Whether it wants this event.
    pub(super) fn wants(&self, event: &Event) -> bool {
        revision(event) >= self.min_rev && self.filters.wants(event)
    }

    /// Makes it a victim that could not be given this notice, with the first revision in it.
    pub(super) fn wait_with(&mut self, notice: Notice, first: i64) {
        let bytes = notice.bytes();
        let waits = if bytes <= VICTIM_KEEPS {
            Waits::With(notice)
        } else {
            self.min_rev = first;
            Waits::For(bytes)
        };
        self.group = Group::Victim(waits);
    }
}

/// The revision of an event.
pub fn revision(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}
