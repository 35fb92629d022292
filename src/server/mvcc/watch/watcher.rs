//! One watcher, and in which group it is.

use super::{
    lookup::Keys,
    notice::{Notice, revision},
    queue::Queue,
};
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
