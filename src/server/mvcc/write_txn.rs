//! One write transaction of the key space (etcd: `storeTxnWrite`).
//!
//! All writes share one main revision, and each takes the next sub. The revision is taken when
//! something is written for the first time, so a transaction that changes nothing costs none.
//! When it ends, and before anybody can read it, its events go to the watchers.

use bytes::Bytes;
use prost::Message;

use super::{
    Asker, Batch, Revision,
    plan::Plan,
    reader::{Reader, Source},
    tree_index::KeyRange,
};
use crate::{
    pb::{
        etcdserverpb::{RangeRequest, TxnRequest},
        mvccpb::{Event, KeyValue, event::EventType},
    },
    server::{Error, lease::Lessor},
    storage::backend::Bucket,
    trace::Span,
};

/// The transaction of request `id`. It ends, and its revision counts, when it is dropped.
#[derive(Debug)]
pub struct WriteTxn<'b, 'a> {
    batch: &'b mut Batch<'a>,
    id: u64,
    begin: i64,
    changes: i64,
    asker: Asker,
    /// What the watchers are to hear; `None` if there are none.
    events: Option<Vec<Event>>,
    span: Span,
}

impl<'a> Batch<'a> {
    /// Begins a transaction for request `id`, for whose answer somebody waits or not.
    pub fn write_txn(&mut self, id: u64, asker: Asker) -> WriteTxn<'_, 'a> {
        let begin = self.index.revision;
        self.backend.set_request(id);
        let span = crate::stage!(MvccWrite, id, revision_old = begin);
        let events = self.store.watchers.is_watched().then(Vec::new);
        WriteTxn { batch: self, id, begin, changes: 0, asker, events, span }
    }
}

impl WriteTxn<'_, '_> {
    /// The revision as the transaction sees it: its own as soon as it has written something.
    pub fn revision(&self) -> i64 {
        self.begin + i64::from(self.changes > 0)
    }

    /// The leases.
    pub fn lessor(&self) -> &Lessor {
        &self.batch.store.lessor
    }

    /// Whether a key was there before the transaction.
    pub fn existed(&self, key: &[u8]) -> bool {
        self.batch.index.tree.get(key, self.begin).is_some()
    }

    /// Whether this range may be part of the transaction; to be asked before its first write.
    pub fn check_range(&self, request: &RangeRequest) -> Result<(), Error> {
        self.reader().check_range(request)
    }

    fn reader(&self) -> Reader<'_> {
        let source = Source::Writing(&self.batch.backend);
        Reader { id: self.id, index: &self.batch.index, current: self.revision(), source }
    }

    /// Sets a key, attaches it to its lease, and returns the revision. The caller has checked that
    /// there is such a lease.
    pub fn put(&mut self, key: &[u8], value: Bytes, lease: i64) -> i64 {
        let revision = self.next_revision();
        let placed = self.batch.index.tree.put(self.id, key, revision);
        // Encoding copies key and value out of the request, whose bytes are a slice of a buffer
        // of the network that should not be kept for them.
        let row = KeyValue {
            key: Bytes::copy_from_slice(key),
            create_revision: placed.created,
            mod_revision: revision.main,
            version: placed.version,
            value,
            lease,
        };
        let encoded = Bytes::from(row.encode_to_vec());
        self.batch.backend.put(Bucket::Key, &revision.row_key(), encoded);
        self.batch.store.lessor.attach(self.id, key, lease);
        self.note(EventType::Put, row);
        revision.main
    }

    /// Deletes the keys of a range. Returns how many there were, and the revision.
    pub fn delete_range(&mut self, range: KeyRange<'_>) -> (i64, i64) {
        let mut keys = Vec::new();
        let at = self.revision();
        self.batch.index.tree.visit(range, at, |key, _| keys.push(key.clone()));
        let deleted = i64::try_from(keys.len()).unwrap_or(i64::MAX);
        for key in keys {
            self.delete(key);
        }
        (deleted, self.revision())
    }

    /// A tombstone's row has nothing but the key.
    fn delete(&mut self, key: Bytes) {
        let revision = self.next_revision();
        self.batch.index.tree.tombstone(self.id, &key, revision);
        self.batch.store.lessor.attach(self.id, &key, 0);
        let row = KeyValue { key, ..KeyValue::default() };
        let encoded = Bytes::from(row.encode_to_vec());
        self.batch.backend.put(Bucket::Key, &revision.tombstone_key(), encoded);
        self.note(EventType::Delete, KeyValue { mod_revision: revision.main, ..row });
    }

    fn note(&mut self, kind: EventType, kv: KeyValue) {
        if let Some(events) = &mut self.events {
            events.push(Event { r#type: kind as i32, kv: Some(kv), prev_kv: None });
        }
    }

    fn next_revision(&mut self) -> Revision {
        let revision = Revision::new(self.begin + 1, self.changes);
        self.changes += 1;
        revision
    }

    /// Who waits for the answer.
    pub fn asker(&self) -> Asker {
        self.asker
    }

    /// Plans to read what a key, or a range, is before it is changed, if anybody waits for that.
    pub fn previous(&self, key: &Bytes, range_end: &[u8]) -> Result<Option<Plan>, Error> {
        let (key, range_end) = (key.clone(), Bytes::copy_from_slice(range_end));
        let request = RangeRequest { key, range_end, ..RangeRequest::default() };
        (self.asker == Asker::Here).then(|| self.plan(&request)).transpose()
    }

    /// Plans to read a range, the transaction's own writes up to here included.
    pub fn plan(&self, request: &RangeRequest) -> Result<Plan, Error> {
        let mut plan = Plan::new(self.reader(), request)?;
        // It is read behind the transaction, and not by apply.
        plan.settle();
        Ok(plan)
    }

    /// Returns the newest value of a key, the transaction's own writes included.
    pub fn get(&self, key: &Bytes) -> Option<KeyValue> {
        let mut span = crate::stage!(MvccRange, self.id);
        let request = RangeRequest { key: key.clone(), ..RangeRequest::default() };
        let reader = self.reader();
        // A range of the newest revision with default options cannot be refused.
        let (mut plan, mut budget) = (Plan::new(reader, &request).ok()?, usize::MAX);
        plan.whole(reader.source, &mut budget, &mut span)?.kvs.pop()
    }

    /// Whether the comparisons of a (nested) transaction hold now.
    pub fn holds(&self, request: &TxnRequest) -> bool {
        self.reader().holds(request)
    }
}

impl Drop for WriteTxn<'_, '_> {
    fn drop(&mut self) {
        self.batch.index.revision = self.revision();
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
