//! The requests that change the key space, as they come out of the log (etcd: `applierV3backend`).
//!
//! Every member carries these out, in the same order, and must come to the same end. So a request
//! is refused before its first write or not at all, and nothing here looks at a clock, a disk or
//! who is leader. Whether it is well formed was decided before it was proposed
//! ([`crate::server::check`]); what an unchecked entry contains is survived, not trusted.

use super::txn;
use crate::{
    pb::etcdserverpb::{
        CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
        PutResponse, RangeRequest, RangeResponse, TxnResponse,
    },
    server::{
        Error,
        lease::Lessor,
        mvcc::{Batch, KeyRange, WriteTxn, read_txn::header},
        txn::Txn,
    },
};

/// A request to the key space.
#[derive(Clone, Copy, Debug)]
pub enum KvRequest<'a> {
    /// Reading through the log; nobody proposes it today, but old entries may have it.
    Range(&'a RangeRequest),
    /// See [`PutRequest`].
    Put(&'a PutRequest),
    /// See [`DeleteRangeRequest`].
    DeleteRange(&'a DeleteRangeRequest),
    /// A transaction, with those in it.
    Txn(&'a Txn),
    /// See [`CompactionRequest`]. `physical` is for the one who waits, not for apply.
    Compact(&'a CompactionRequest),
}

/// The answer to a [`KvRequest`], of the same kind. Headers have the revision only.
#[derive(Clone, Debug, PartialEq)]
pub enum KvResponse {
    /// To a range.
    Range(RangeResponse),
    /// To a put.
    Put(PutResponse),
    /// To a deletion.
    DeleteRange(DeleteRangeResponse),
    /// To a transaction.
    Txn(TxnResponse),
    /// To a compaction.
    Compact(CompactionResponse),
}

impl Batch<'_> {
    /// Carries out the request `id`. If it is refused, nothing has been written.
    pub fn kv(&mut self, id: u64, request: KvRequest<'_>) -> Result<KvResponse, Error> {
        match request {
            KvRequest::Range(request) => self.write_txn(id).range(request).map(KvResponse::Range),
            KvRequest::Put(request) => {
                check_lease(self.lessor(), request.lease)?;
                put(&mut self.write_txn(id), request).map(KvResponse::Put)
            }
            KvRequest::DeleteRange(request) => {
                delete_range(&mut self.write_txn(id), request).map(KvResponse::DeleteRange)
            }
            KvRequest::Txn(request) => {
                txn::apply(&mut self.write_txn(id), request).map(KvResponse::Txn)
            }
            KvRequest::Compact(request) => {
                self.compact(id, request.revision)?;
                let header = header(self.revision());
                Ok(KvResponse::Compact(CompactionResponse { header }))
            }
        }
    }
}

/// Whether a put may name this lease. This is the only place that decides it.
pub(super) fn check_lease(lessor: &Lessor, lease: i64) -> Result<(), Error> {
    if lease == 0 || lessor.contains(lease) { Ok(()) } else { Err(Error::LeaseNotFound) }
}

pub(super) fn put(txn: &mut WriteTxn<'_, '_>, request: &PutRequest) -> Result<PutResponse, Error> {
    let keeps = request.ignore_value || request.ignore_lease;
    let before = if keeps || request.prev_kv { txn.get(&request.key) } else { None };
    if keeps && before.is_none() {
        return Err(Error::KeyNotFound);
    }
    let (mut value, mut lease) = (request.value.clone(), request.lease);
    if let Some(before) = &before {
        if request.ignore_value {
            value = before.value.clone();
        }
        if request.ignore_lease {
            lease = before.lease;
        }
    }
    let revision = txn.put(&request.key, value, lease);
    Ok(PutResponse { header: header(revision), prev_kv: before.filter(|_| request.prev_kv) })
}

pub(super) fn delete_range(
    txn: &mut WriteTxn<'_, '_>,
    request: &DeleteRangeRequest,
) -> Result<DeleteRangeResponse, Error> {
    let mut prev_kvs = Vec::new();
    if request.prev_kv {
        let range = RangeRequest {
            key: request.key.clone(),
            range_end: request.range_end.clone(),
            ..RangeRequest::default()
        };
        prev_kvs = txn.range(&range)?.kvs;
    }
    let range = KeyRange::new(&request.key, &request.range_end);
    let (deleted, revision) = txn.delete_range(range);
    Ok(DeleteRangeResponse { header: header(revision), deleted, prev_kvs })
}
