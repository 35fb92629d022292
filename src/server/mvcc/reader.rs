//! Who reads the key space, and where the rows are.
//!
//! Readers and the writer share all that reads ([`plan`](super::plan), [`read_txn`](super::read_txn)).
//! They differ in what they see: the writer also what it has just written itself.

use std::ops::ControlFlow;

use bytes::Bytes;
use prost::Message;

use super::Index;
use crate::{
    pb::mvccpb::KeyValue,
    storage::backend::{Backend, View, WriteGuard},
};

/// Who reads, and as of when.
#[derive(Clone, Copy)]
pub(super) struct Reader<'s> {
    /// The request.
    pub(super) id: u64,
    pub(super) index: &'s Index,
    /// The newest revision that the reader sees, which for a writer is its own.
    pub(super) current: i64,
    pub(super) source: Source<'s>,
}

/// Where rows are read: by readers in the backend, by the writer in its guard.
#[derive(Clone, Copy)]
pub(crate) enum Source<'s> {
    /// What is published.
    Published(&'s Backend),
    /// What the writer itself has just written, too.
    Writing(&'s WriteGuard<'s>),
}

impl Source<'_> {
    pub(super) fn view(self, id: u64, keys: &[[u8; 17]]) -> View {
        match self {
            Source::Published(backend) => backend.view(id, keys),
            Source::Writing(guard) => guard.view(id, keys),
        }
    }

    pub(super) fn each_row(
        self,
        view: &mut View,
        keys: &[[u8; 17]],
        row: impl FnMut(Bytes) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        match self {
            Source::Published(backend) => backend.each_row(view, keys, row),
            Source::Writing(guard) => guard.each_row(view, keys, row),
        }
    }

    /// A row that the index names and that cannot be read ends the member.
    pub(super) fn decode(self, row: Bytes) -> KeyValue {
        const ROW: &str = "key bucket: a row is no key-value pair";
        match (KeyValue::decode(row), self) {
            (Ok(kv), _) => kv,
            (Err(_), Source::Published(backend)) => backend.malformed(ROW),
            (Err(_), Source::Writing(guard)) => guard.malformed(ROW),
        }
    }
}
