//! What a change has done, and the window of the last thousand changes.
//!
//! ```text
//!   index     17   18   19  …  1016        each change has the next index, and leaves one event
//!             ▲                  ▲
//!             start              last      older ones are gone: error 401
//! ```
//!
//! The window is all that a watcher of v2 can catch up with, and a client that was away for longer
//! has to read everything again. v3 answers the same need with revisions that stay until they are
//! compacted.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

use super::{error::Refusal, path::Path};
use crate::pb::etcdserverpb::Request;

/// How many events are kept (etcd: the capacity of `newWatchHub`).
pub(super) const WINDOW: usize = 1000;

/// What a request has done, or an expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Action {
    Get = 0,
    Set = 1,
    Create = 2,
    Update = 3,
    CompareAndSwap = 4,
    Delete = 5,
    CompareAndDelete = 6,
    Expire = 7,
}

impl Action {
    const ALL: [Action; 8] = [
        Action::Get,
        Action::Set,
        Action::Create,
        Action::Update,
        Action::CompareAndSwap,
        Action::Delete,
        Action::CompareAndDelete,
        Action::Expire,
    ];

    /// etcd's word for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Action::Get => "get",
            Action::Set => "set",
            Action::Create => "create",
            Action::Update => "update",
            Action::CompareAndSwap => "compareAndSwap",
            Action::Delete => "delete",
            Action::CompareAndDelete => "compareAndDelete",
            Action::Expire => "expire",
        }
    }

    /// What a request of the log does; `None` if etcd does not know its method.
    pub(super) fn of(request: &Request) -> Option<Self> {
        let compares = !request.prev_value().is_empty() || request.prev_index() != 0;
        Some(match (request.method(), request.prev_exist) {
            ("PUT", Some(false)) | ("POST", _) => Action::Create,
            ("PUT", _) if compares => Action::CompareAndSwap,
            ("PUT", Some(true)) => Action::Update,
            ("PUT", None) => Action::Set,
            ("DELETE", _) if compares => Action::CompareAndDelete,
            ("DELETE", _) => Action::Delete,
            ("QGET", _) => Action::Get,
            ("SYNC", _) => Action::Expire,
            _ => return None,
        })
    }

    /// The number that records carry: its position in
    /// [`V2_ACTIONS`](crate::trace::value::V2_ACTIONS).
    pub(crate) fn number(self) -> u8 {
        self as u8 + 1
    }

    /// The action of this number in a row.
    pub(super) fn of_row(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|action| *action as u32 == number)
    }
}

/// A node as it was at some moment (etcd: `NodeExtern`, without the nodes below it).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) key: Path,
    /// Absent in directories, and in the node of a deletion.
    pub(crate) value: Option<Bytes>,
    pub(crate) is_dir: bool,
    /// When it expires, in nanoseconds since 1970; 0: never.
    pub(crate) expires: i64,
    /// The seconds that were left at that moment.
    pub(crate) ttl: i64,
    pub(crate) modified: u64,
    pub(crate) created: u64,
}

/// A change (etcd: `Event`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) action: Action,
    pub(crate) node: View,
    pub(crate) prev: Option<View>,
    /// Only the TTL has changed, and no watcher gets the event.
    pub(crate) is_refresh: bool,
}

impl Event {
    /// The index of the change.
    pub(crate) fn index(&self) -> u64 {
        self.node.modified
    }

    /// Whether the answer to the client is "created".
    pub(crate) fn is_created(&self) -> bool {
        self.action == Action::Create || (self.action == Action::Set && self.prev.is_none())
    }

    /// Whether the event is for a watcher of `key` that looks for it later. etcd compares texts:
    /// the deletion of the directory `/a` is also one for the watchers of `/ab`.
    fn concerns(&self, key: &Path, recursive: bool) -> bool {
        let is_end = matches!(self.action, Action::Delete | Action::Expire);
        let removed = self.prev.as_ref().filter(|prev| is_end && prev.is_dir);
        !self.is_refresh
            && (self.node.key == *key
                || (recursive && key.is_above(&self.node.key))
                || removed.is_some_and(|removed| removed.key.begins(key)))
    }
}

/// The newest events, in the order of their indexes, which have no gaps.
#[derive(Debug, Default)]
pub(super) struct Window(VecDeque<Arc<Event>>);

impl Window {
    /// Adds the newest event. Returns the index of the one that had to go.
    pub(super) fn push(&mut self, event: Arc<Event>) -> Option<u64> {
        self.0.push_back(event);
        let gone = if WINDOW < self.0.len() { self.0.pop_front() } else { None };
        gone.map(|gone| gone.index())
    }

    /// The events after `index`.
    pub(super) fn since(&self, index: u64) -> impl Iterator<Item = &Arc<Event>> {
        let older = self.0.partition_point(|event| event.index() <= index);
        self.0.iter().skip(older)
    }

    /// The first event from `index` on that concerns a watcher of `key`. `now` is the store's
    /// index, for the error.
    ///
    /// # Errors
    /// Events from `index` on have left the window.
    pub(super) fn scan(
        &self,
        key: &Path,
        recursive: bool,
        index: u64,
        now: u64,
    ) -> Result<Option<Arc<Event>>, Refusal> {
        let Some(start) = self.0.front().map(|event| event.index()) else { return Ok(None) };
        if index < start {
            return Err(Refusal::cleared(start, index, now));
        }
        let skipped = usize::try_from(index - start).unwrap_or(usize::MAX);
        let mut from = self.0.iter().skip(skipped);
        Ok(from.find(|event| event.concerns(key, recursive)).cloned())
    }
}
