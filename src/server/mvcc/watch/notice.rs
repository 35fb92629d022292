//! What a watcher puts into its stream's queue: events, or what there is to say in place of them.

use crate::pb::mvccpb::Event;

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

/// The revision of an event.
pub fn revision(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}
