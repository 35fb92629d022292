//! The view of the key space that a read has.
//!
//! Readers and the writer share the code that reads ([`plan`](super::plan),
//! [`read_txn`](super::read_txn)). The writer also sees its own writes, which are not published
//! yet.

use std::ops::ControlFlow;

use bytes::Bytes;
use prost::Message;

use super::{Index, revision::ROW_KEY_LEN, tree_index::Asker};
use crate::{
    pb::mvccpb::KeyValue,
    storage::backend::{Backend, View, WriteGuard},
};

/// A read under the index lock.
#[derive(Clone, Copy)]
pub(super) struct Reader<'s> {
    /// The request, for the trace.
    pub(super) asker: Asker,
    pub(super) index: &'s Index,
    /// The newest revision that the reader sees; for the writer, that of its own writes.
    pub(super) current: i64,
    pub(super) source: Source<'s>,
}

/// The rows of a read.
#[derive(Clone, Copy)]
pub(crate) enum Source<'s> {
    /// For readers: published rows.
    Published(&'s Backend),
    /// For the writer: published rows, and its own.
    Writing(&'s WriteGuard<'s>),
}

impl Source<'_> {
    pub(super) fn view(self, asker: Asker, keys: &[[u8; ROW_KEY_LEN]]) -> View {
        let mut view = match self {
            Source::Published(backend) => backend.view(asker.id, keys),
            Source::Writing(guard) => guard.view(asker.id, keys),
        };
        view.set_again(asker.again);
        view
    }

    pub(super) fn each_row(
        self,
        view: &mut View,
        keys: &[[u8; ROW_KEY_LEN]],
        row: impl FnMut(Bytes) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        match self {
            Source::Published(backend) => backend.each_row(view, keys, row),
            Source::Writing(guard) => guard.each_row(view, keys, row),
        }
    }

    /// Decodes a row. A damaged row ends the member.
    pub(super) fn decode(self, row: Bytes) -> KeyValue {
        const ROW: &str = "key bucket: a row is no key-value pair";
        match (KeyValue::decode(row), self) {
            (Ok(kv), _) => kv,
            (Err(_), Source::Published(backend)) => backend.malformed(ROW),
            (Err(_), Source::Writing(guard)) => guard.malformed(ROW),
        }
    }
}
