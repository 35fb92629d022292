//! The requests that change the key space, as they come out of the log (etcd: `applierV3backend`).
//!
//! Every member carries these out, in the same order, and must come to the same end. So a request
//! is refused before its first write or not at all, and nothing here looks at a clock, a disk or
//! who is leader. What a request reads it reads for one client, so that is planned on the member that
//! answers, and left out on the others ([`Asker`]). Whether it is well formed was decided before it
//! was proposed ([`crate::server::check`]); what an unchecked entry contains is survived, not trusted.

use super::{
    txn,
    write::{check_lease, delete_range, put},
};
use crate::{
    pb::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest},
    server::{
        Error,
        mvcc::{Asker, Batch, Reply},
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

impl KvRequest<'_> {
    /// Whether its answer may have something to read.
    pub fn reads(self) -> bool {
        match self {
            KvRequest::Range(_) | KvRequest::Txn(_) => true,
            KvRequest::Put(put) => put.prev_kv,
            KvRequest::DeleteRange(delete) => delete.prev_kv,
            KvRequest::Compact(_) => false,
        }
    }
}

impl Batch<'_> {
    /// Carries out the request `id`. If it is refused, nothing has been written. The reply's rows
    /// are not read yet.
    pub fn kv(&mut self, id: u64, request: KvRequest<'_>, asker: Asker) -> Result<Reply, Error> {
        match request {
            KvRequest::Range(request) => self.write_txn(id, asker).plan(request).map(Reply::Range),
            KvRequest::Put(request) => {
                check_lease(self.lessor(), request.lease)?;
                put(&mut self.write_txn(id, asker), request)
            }
            KvRequest::DeleteRange(request) => {
                delete_range(&mut self.write_txn(id, asker), request)
            }
            KvRequest::Txn(request) => {
                txn::apply(&mut self.write_txn(id, asker), request).map(Reply::Txn)
            }
            KvRequest::Compact(request) => {
                self.compact(id, request.revision)?;
                Ok(Reply::Compact { revision: self.revision() })
            }
        }
    }
}
