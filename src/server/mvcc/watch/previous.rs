//! The previous values of events, for watchers that ask for them.
//!
//! The stream that sends the events reads the previous values then; apply does not read them. Small
//! events may have large previous values, as deletions do, so the values are read for a part of the
//! events at a time.

use super::notice::revision;
use crate::{
    pb::{
        etcdserverpb::RangeRequest,
        mvccpb::{Event, KeyValue, event::EventType},
    },
    server::mvcc::Store,
};

/// The bytes of previous values after which the events that have them are sent.
const PART_BYTES: usize = 2 << 20;

impl Store {
    /// Adds previous values to the first events, up to the end of the revision at which the values
    /// exceed two megabytes. Returns these events and the rest, which have none yet.
    pub(crate) fn with_previous(&self, mut events: Vec<Event>) -> (Vec<Event>, Vec<Event>) {
        let (mut bytes, mut last) = (0, 0);
        for at in 0..events.len() {
            if PART_BYTES < bytes && revision(&events[at]) != last {
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

    /// The key before the event; `None` if it did not exist, or if its revision is compacted.
    fn previous(&self, event: &Event) -> Option<KeyValue> {
        let kv = event.kv.as_ref()?;
        let is_put = event.r#type == EventType::Put as i32;
        if is_put && kv.create_revision == kv.mod_revision {
            return None;
        }
        let (key, revision) = (kv.key.clone(), kv.mod_revision - 1);
        let request = RangeRequest { key, revision, ..RangeRequest::default() };
        // The read is not part of the write's trace, so it has no id.
        self.range(0, &request).ok()?.kvs.pop()
    }
}
