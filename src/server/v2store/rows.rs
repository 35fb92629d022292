//! The store's rows in the backend.
//!
//! ```text
//!   i                    index, counters of writes
//!   n NUL 1 NUL a        a node, by its path
//!   e 00000000000003f1   an event of the window, by its index
//! ```
//!
//! Rows are written in the entry that changes them, with the consistent index, so a start, a
//! snapshot for another member and a saved file have the store as of one entry. They depend on the
//! log alone: the TTL of an event is not stored, but computed again when the rows are read.

use bytes::Bytes;
use prost::Message;

use super::{
    event::{Action, Event, View},
    path::Path,
    state::{Node, State, ttl},
    stats::Writes,
};
use crate::storage::backend::{Backend, Bucket, WriteGuard};

const HEAD: &[u8] = b"i";
const NODE: u8 = b'n';
const EVENT: u8 = b'e';

/// A row that does not decode.
#[derive(Debug, thiserror::Error)]
#[error("the database is damaged: the row {key:?} of the v2 store cannot be read")]
pub struct Damaged {
    key: String,
}

#[derive(Clone, PartialEq, Message)]
struct HeadRow {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(uint64, repeated, tag = "2")]
    succeeded: Vec<u64>,
    #[prost(uint64, repeated, tag = "3")]
    failed: Vec<u64>,
    #[prost(uint64, tag = "4")]
    expired: u64,
}

#[derive(Clone, PartialEq, Message)]
struct NodeRow {
    /// Only in events: a node's row has it as its key.
    #[prost(bytes = "bytes", tag = "1")]
    path: Bytes,
    #[prost(bytes = "bytes", optional, tag = "2")]
    value: Option<Bytes>,
    #[prost(bool, tag = "3")]
    is_dir: bool,
    #[prost(int64, tag = "4")]
    expires: i64,
    #[prost(uint64, tag = "5")]
    modified: u64,
    #[prost(uint64, tag = "6")]
    created: u64,
}

#[derive(Clone, PartialEq, Message)]
struct EventRow {
    #[prost(uint32, tag = "1")]
    action: u32,
    #[prost(message, optional, tag = "2")]
    node: Option<NodeRow>,
    #[prost(message, optional, tag = "3")]
    prev: Option<NodeRow>,
    #[prost(bool, tag = "4")]
    is_refresh: bool,
}

impl NodeRow {
    fn of(view: &View) -> Self {
        Self {
            path: Bytes::copy_from_slice(view.key.as_bytes()),
            value: view.value.clone(),
            is_dir: view.is_dir,
            expires: view.expires,
            modified: view.modified,
            created: view.created,
        }
    }

    fn view(self, now: i64) -> View {
        View {
            key: Path::of_row(&self.path),
            value: self.value,
            is_dir: self.is_dir,
            expires: self.expires,
            ttl: ttl(self.expires, now),
            modified: self.modified,
            created: self.created,
        }
    }
}

fn event_key(index: u64) -> Vec<u8> {
    [&[EVENT][..], &index.to_be_bytes()].concat()
}

impl State {
    /// Writes what the present request has changed. `before`: the index before it.
    pub(super) fn flush(&mut self, before: u64, backend: &mut WriteGuard<'_>) {
        for path in self.touched.drain(..) {
            let key = [&[NODE][..], path.as_bytes()].concat();
            match self.nodes.get(&path) {
                None => backend.delete(Bucket::V2, &key),
                Some(node) => {
                    let row = NodeRow {
                        path: Bytes::new(),
                        value: node.value.clone(),
                        is_dir: node.is_dir(),
                        expires: node.expires,
                        modified: node.modified,
                        created: node.created,
                    };
                    backend.put(Bucket::V2, &key, row.encode_to_vec().into());
                }
            }
        }
        for event in self.window.since(before) {
            let row = EventRow {
                action: event.action as u32,
                node: Some(NodeRow::of(&event.node)),
                prev: event.prev.as_ref().map(NodeRow::of),
                is_refresh: event.is_refresh,
            };
            backend.put(Bucket::V2, &event_key(event.index()), row.encode_to_vec().into());
        }
        for gone in self.gone.drain(..) {
            backend.delete(Bucket::V2, &event_key(gone));
        }
        let Writes { succeeded, failed, expired } = &self.writes;
        let head = HeadRow {
            index: self.index,
            succeeded: succeeded.to_vec(),
            failed: failed.to_vec(),
            expired: *expired,
        };
        backend.put(Bucket::V2, HEAD, head.encode_to_vec().into());
    }

    /// The store of the backend's rows. `now`: as for [`State::apply`].
    pub(super) fn read(backend: &Backend, now: i64) -> Result<Self, Damaged> {
        let mut state = Self::default();
        for (key, row) in backend.range(Bucket::V2, b"", None, usize::MAX) {
            let added = state.add_row(&key, row, now);
            added.ok_or_else(|| Damaged { key: key.escape_ascii().to_string() })?;
        }
        Ok(state)
    }

    /// `None` if the row does not decode.
    fn add_row(&mut self, key: &[u8], row: Bytes, now: i64) -> Option<()> {
        match key.split_first()? {
            (&NODE, path) => {
                let NodeRow { value, is_dir, expires, modified, created, .. } =
                    NodeRow::decode(row).ok()?;
                let value = if is_dir { None } else { Some(value.unwrap_or_default()) };
                let path = Path::of_row(path);
                if expires != 0 {
                    self.expiring.insert((expires, path.clone()));
                }
                self.nodes.insert(path, Node { value, created, modified, expires });
            }
            (&EVENT, _) => {
                let EventRow { action, node, prev, is_refresh } = EventRow::decode(row).ok()?;
                let (action, node) = (Action::of_row(action)?, node?.view(now));
                let prev = prev.map(|prev| prev.view(now));
                self.window.push(Event { action, node, prev, is_refresh }.into());
            }
            _ if key == HEAD => {
                let HeadRow { index, succeeded, failed, expired } = HeadRow::decode(row).ok()?;
                let [succeeded, failed] = [succeeded, failed].map(|list| list.try_into().ok());
                self.index = index;
                self.writes = Writes { succeeded: succeeded?, failed: failed?, expired };
            }
            _ => return None,
        }
        Some(())
    }
}
