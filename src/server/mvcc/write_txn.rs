//! One write transaction of the key space (etcd: `storeTxnWrite`).
//!
//! All writes share one main revision, and each takes the next sub-revision. The main revision is
//! taken at the first write, so a transaction that changes nothing takes none. When the transaction
//! ends, and before readers can see its writes, its events go to the watchers.

use std::cell::Cell;

use bytes::Bytes;
use prost::Message;

use super::{
    Batch, ReplyTo, Revision,
    plan::Plan,
    reader::{Reader, Source},
    tree_index::{Asker, KeyRange},
};
use crate::{
    metrics::recorded,
    pb::{
        etcdserverpb::{RangeRequest, TxnRequest},
        mvccpb::{Event, KeyValue, event::EventType},
    },
    server::{Error, error::note, lessor::Lessor},
    storage::{backend::Bucket, fatal},
    trace::Span,
};

/// The transaction of one request. It ends when it is dropped, and then its revision becomes the
/// newest of the batch.
#[derive(Debug)]
pub(crate) struct WriteTxn<'b, 'a> {
    batch: &'b mut Batch<'a>,
    id: u64,
    /// The newest main revision before the transaction.
    begin: i64,
    /// The number of writes so far.
    changes: i64,
    /// Ranges, puts and deletes so far, each one whatever it finds.
    operations: Cell<u64>,
    reply_to: ReplyTo,
    /// For the watchers; `None` if there are no synced watchers.
    events: Option<Vec<Event>>,
    span: Span,
}

/// There is no revision for another write.
#[derive(Debug, thiserror::Error)]
#[error("no revision is left behind {0}: save the keys, and write them to a new cluster")]
struct UsedUp(i64);

impl<'a> Batch<'a> {
    /// Begins a transaction for request `id`.
    pub(crate) fn write_txn(&mut self, id: u64, reply_to: ReplyTo) -> WriteTxn<'_, 'a> {
        let begin = self.index.revision;
        self.backend.set_request(id);
        let span = crate::stage!(MvccWrite, id, revision_old = begin);
        let events = self.store.watchers.is_watched().then(Vec::new);
        let operations = Cell::new(0);
        WriteTxn { batch: self, id, begin, changes: 0, operations, reply_to, events, span }
    }
}

impl WriteTxn<'_, '_> {
    /// The newest main revision that the transaction sees: its own after its first write.
    pub(crate) fn revision(&self) -> i64 {
        self.begin + i64::from(self.changes > 0)
    }

    pub(crate) fn lessor(&self) -> &Lessor {
        &self.batch.store.lessor
    }

    /// Records why the transaction is refused, if it is. Nothing has been written then.
    pub(crate) fn note_end<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        note(&mut self.span, result)
    }

    /// Whether a key existed before the transaction.
    pub(crate) fn existed(&self, key: &[u8]) -> bool {
        self.batch.index.tree.get(key, self.begin).is_some()
    }

    /// Whether the transaction may contain this range; to be called before its first write.
    pub(crate) fn check_range(&self, request: &RangeRequest) -> Result<(), Error> {
        self.reader().check_range(request)
    }

    fn reader(&self) -> Reader<'_> {
        let source = Source::Writing(&self.batch.backend);
        let asker = Asker { id: self.id, again: 0, names_range: true };
        Reader { asker, index: &self.batch.index, current: self.revision(), source }
    }

    // ANCHOR: put
    /// Puts a key, attaches it to its lease (0: none), and returns the main revision. The caller
    /// has checked that the lease exists.
    pub(crate) fn put(&mut self, key: &[u8], value: Bytes, lease: i64) -> i64 {
        recorded::PUTS.increment();
        recorded::PUT_BYTES.add(i64::try_from(key.len() + value.len()).unwrap_or(0));
        self.note_operation();
        let revision = self.next_revision();
        let effect = self.batch.index.tree.put(self.id, key, revision);
        // Encoding copies key and value. The request's bytes are slices of a larger network buffer,
        // which must not be kept in memory for them.
        let row = KeyValue {
            key: Bytes::copy_from_slice(key),
            create_revision: effect.created,
            mod_revision: revision.main,
            version: effect.version,
            value,
            lease,
        };
        let encoded = Bytes::from(row.encode_to_vec());
        self.batch.backend.put(Bucket::Key, &revision.row_key(), encoded);
        self.batch.store.lessor.attach(self.id, key, lease);
        self.note_event(EventType::Put, row);
        revision.main
    }
    // ANCHOR_END: put

    /// Deletes the keys of a range. Returns their number, and the newest main revision.
    pub(crate) fn delete_range(&mut self, range: KeyRange<'_>) -> (i64, i64) {
        recorded::DELETES.increment();
        self.note_operation();
        let mut keys = Vec::new();
        let at = self.revision();
        self.batch.index.tree.visit(range, at, |key, _| keys.push(key.clone()));
        let deleted = i64::try_from(keys.len()).unwrap_or(i64::MAX);
        for key in keys {
            self.delete(key);
        }
        (deleted, self.revision())
    }

    /// Deletes a key that exists. A tombstone's row contains the key only.
    fn delete(&mut self, key: Bytes) {
        let revision = self.next_revision();
        self.batch.index.tree.tombstone(self.id, &key, revision);
        self.batch.store.lessor.attach(self.id, &key, 0);
        let row = KeyValue { key, ..KeyValue::default() };
        let encoded = Bytes::from(row.encode_to_vec());
        self.batch.backend.put(Bucket::Key, &revision.tombstone_key(), encoded);
        self.note_event(EventType::Delete, KeyValue { mod_revision: revision.main, ..row });
    }

    fn note_operation(&self) {
        self.operations.set(self.operations.get() + 1);
    }

    fn note_event(&mut self, kind: EventType, kv: KeyValue) {
        if let Some(events) = &mut self.events {
            events.push(Event { r#type: kind as i32, kv: Some(kv), prev_kv: None });
        }
    }

    fn next_revision(&mut self) -> Revision {
        // Only a revision that was raised comes so far. The greatest is left out, so that there is
        // one behind every revision.
        let main = self.begin.checked_add(1).filter(|main| *main < i64::MAX);
        let main = main.unwrap_or_else(|| fatal(&UsedUp(self.begin)));
        let revision = Revision::new(main, self.changes);
        self.changes += 1;
        revision
    }

    pub(crate) fn reply_to(&self) -> ReplyTo {
        self.reply_to
    }

    /// Plans to read the keys of a range before they are changed, if a client waits for the reply.
    pub(crate) fn previous(&self, key: &Bytes, range_end: &[u8]) -> Result<Option<Plan>, Error> {
        let (key, range_end) = (key.clone(), Bytes::copy_from_slice(range_end));
        let request = RangeRequest { key, range_end, ..RangeRequest::default() };
        (self.reply_to == ReplyTo::Client).then(|| self.plan(&request)).transpose()
    }

    /// Plans to read a range, with the writes of the transaction so far.
    pub(crate) fn plan(&self, request: &RangeRequest) -> Result<Plan, Error> {
        self.note_operation();
        let mut plan = Plan::new(self.reader(), request)?;
        // It is read after the transaction, on another thread.
        plan.settle();
        Ok(plan)
    }

    /// Reads a key, with the writes of the transaction so far.
    pub(crate) fn get(&self, key: &Bytes) -> Option<KeyValue> {
        self.note_operation();
        let mut span = crate::stage!(MvccRange, self.id);
        let request = RangeRequest { key: key.clone(), ..RangeRequest::default() };
        let reader = self.reader();
        // A range of the newest revision with default options cannot be refused.
        let (mut plan, mut budget) = (Plan::new(reader, &request).ok()?, usize::MAX);
        plan.whole(reader.source, &mut budget, &mut span)?.kvs.pop()
    }

    /// Whether the comparisons of the transaction of this level hold now. `left`: the records of
    /// comparisons that the request may still leave ([`super::COMPARES_RECORDED`]).
    pub(crate) fn holds(&self, level: (usize, &TxnRequest), left: &mut usize) -> bool {
        self.reader().holds(level, left)
    }
}

impl Drop for WriteTxn<'_, '_> {
    fn drop(&mut self) {
        self.batch.index.revision = self.revision();
        if 1 < self.operations.get() {
            recorded::TXNS.increment();
        }
        crate::set!(
            self.span,
            MvccWrite,
            revision_new = self.revision(),
            operations = self.changes
        );
        if let Some(events) = &self.events
            && !events.is_empty()
        {
            self.batch.store.watchers.notify(self.id, self.revision(), events);
        }
    }
}
