//! What keys were before the events of a watcher that wants to know.
//!
//! It is read when the events are sent, by the stream that sends them: apply reads for nobody. The
//! events may be small and what was before them large, as with deletions, so it is read for a part of
//! the events at a time.

use super::notice::revision;
use crate::{
    pb::{
        etcdserverpb::RangeRequest,
        mvccpb::{Event, KeyValue, event::EventType},
    },
    server::mvcc::Store,
};

/// How many bytes of previous values are read before what has them is sent.
const BYTES: usize = 2 << 20;

impl Store {
    /// Fills in what the keys were before, until that is two megabytes. Returns the events of whole
    /// revisions that have it, and those that have not.
    pub fn with_previous(&self, mut events: Vec<Event>) -> (Vec<Event>, Vec<Event>) {
        let (mut bytes, mut last) = (0, 0);
        for at in 0..events.len() {
            if BYTES < bytes && revision(&events[at]) != last {
                let rest = events.split_off(at);
                return (events, rest);
            }
            last = revision(&events[at]);
            let previous = self.previous(&events[at]);
            bytes += previous.as_ref().map_or(0, |kv| kv.value.len());
            events[at].prev_kv = previous;
        }
        (events, Vec::new())
    }

    /// The key as it was before the event; nothing if it was not there, or is compacted.
    fn previous(&self, event: &Event) -> Option<KeyValue> {
        let kv = event.kv.as_ref()?;
        let is_put = event.r#type == EventType::Put as i32;
        if is_put && kv.create_revision == kv.mod_revision {
            return None;
        }
        let (key, revision) = (kv.key.clone(), kv.mod_revision - 1);
        let request = RangeRequest { key, revision, ..RangeRequest::default() };
        // The read is no part of the write's way, so it goes under no id.
        self.range(0, &request).ok()?.kvs.pop()
    }
}
