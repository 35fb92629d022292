//! One watcher, and its group.

use super::{
    lookup::Keys,
    notice::{Notice, revision},
    queue::Queue,
};
use crate::pb::{
    etcdserverpb::watch_create_request::FilterType,
    mvccpb::{Event, event::EventType},
};

/// The events that a watcher does not receive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filters {
    /// Filter out puts (NOPUT).
    pub(crate) puts: bool,
    /// Filter out deletions (NODELETE).
    pub(crate) deletes: bool,
}

impl Filters {
    /// Reads the list of a request; unknown numbers have no effect.
    pub(crate) fn new(filters: &[i32]) -> Filters {
        Filters {
            puts: filters.contains(&(FilterType::Noput as i32)),
            deletes: filters.contains(&(FilterType::Nodelete as i32)),
        }
    }

    pub(super) fn wants(self, event: &Event) -> bool {
        if event.r#type == EventType::Delete as i32 { !self.deletes } else { !self.puts }
    }
}

/// The largest notice that a victim keeps, in bytes. A client may create any number of watchers,
/// and each of them may become a victim.
const VICTIM_NOTICE_BYTES_MAX: usize = 4 << 10;

/// The group of a watcher. See the text of [`watch`](super).
#[derive(Debug)]
pub(super) enum Group {
    /// It has all events so far, and gets the next ones from apply.
    Synced,
    /// It reads events from the backend.
    Unsynced,
    /// Its queue was full. No other notice may enter the queue before the pending one.
    Victim(Pending),
}

/// The notice for which the queue had no room.
#[derive(Debug)]
pub(super) enum Pending {
    /// The notice, which is small.
    Notice(Notice),
    /// The length of the notice in bytes. When the queue has room for it, the events are read again
    /// from the backend. There may be more events by then. If they do not fit, the watcher waits
    /// for room for these, so that they are not read again and again.
    Bytes(usize),
}

/// A watcher (etcd: `watcher`).
#[derive(Debug)]
pub(super) struct Watcher {
    /// The id of the request that created it.
    pub(super) id: u64,
    /// Whether a waiting call of the member has it, and no client's stream.
    pub(super) is_of_call: bool,
    pub(super) watch_id: i64,
    pub(super) keys: Keys,
    pub(super) filters: Filters,
    /// The requested start; 0 for the next revision. No progress is reported before it.
    pub(super) start_rev: i64,
    /// The oldest main revision that the watcher has not received. It is not updated while the
    /// watcher is synced; then it only excludes revisions before the requested start.
    pub(super) min_rev: i64,
    pub(super) queue: Queue,
    pub(super) group: Group,
}

impl Watcher {
    /// Whether the watcher is to receive this event, which is of one of its keys.
    pub(super) fn wants(&self, event: &Event) -> bool {
        revision(event) >= self.min_rev && self.filters.wants(event)
    }

    /// Makes the watcher a victim because its queue has no room for this notice. `first` is the
    /// first revision of the notice.
    pub(super) fn become_victim(&mut self, notice: Notice, first: i64) {
        let bytes = notice.bytes();
        let pending = if bytes <= VICTIM_NOTICE_BYTES_MAX {
            Pending::Notice(notice)
        } else {
            self.min_rev = first;
            Pending::Bytes(bytes)
        };
        self.group = Group::Victim(pending);
    }
}
