//! The notices in a stream's queue: events, and what is sent when there are none.

use crate::pb::mvccpb::Event;

/// Where events came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// From apply, at the time of the write.
    Synced = 0,
    /// From the backend, later.
    CatchUp = 1,
}

/// Events for one watcher, in whole revisions.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Events {
    /// The request under which the trace records the delivery: the one that wrote the events, or,
    /// if they were read later, the one that created the watcher.
    pub(crate) id: u64,
    /// The newest main revision when the events were queued, for the header.
    pub(crate) revision: i64,
    /// By revision, then in the order of the transaction; never empty. They lack previous values.
    pub(crate) events: Vec<Event>,
    pub(crate) path: Path,
}

/// The content of a notice.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum News {
    Events(Events),
    /// Revisions that the watcher has not received are compacted: this is the compacted revision.
    /// The watcher is cancelled, and this is its last notice.
    Compacted(i64),
    /// The watcher has all events up to this main revision.
    Progress(i64),
    /// All watchers of the stream have all events up to this main revision.
    StreamProgress(i64),
}

/// An entry of a stream's queue.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Notice {
    /// The watcher's number, which is unique while the member runs; in a notice to the whole
    /// stream, that of the newest watcher that started at a past revision.
    pub(crate) watcher: u64,
    /// The watch id; −1 in a notice to the whole stream, but a client may choose −1 too.
    pub(crate) watch_id: i64,
    pub(crate) news: News,
}

/// The memory of an event without its key and value, in bytes.
const EVENT_BYTES: usize = std::mem::size_of::<Event>();

impl Notice {
    /// The number of events.
    pub(crate) fn events(&self) -> usize {
        match &self.news {
            News::Events(Events { events, .. }) => events.len(),
            News::Compacted(_) | News::Progress(_) | News::StreamProgress(_) => 0,
        }
    }

    /// The memory of the events, in bytes; 0 for a notice without events.
    pub(crate) fn bytes(&self) -> usize {
        let News::Events(Events { events, .. }) = &self.news else { return 0 };
        let of = |event: &Event| event.kv.as_ref().map_or(0, |kv| kv.key.len() + kv.value.len());
        events.iter().map(|event| EVENT_BYTES + of(event)).sum()
    }
}

/// The main revision of an event.
pub(crate) fn revision(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}
