//! Applying requests to the key space (etcd: `applierV3backend`).
//!
//! Every member applies the same requests in the same order, and must reach the same state. So a
//! request is refused before its first write or not at all, and nothing here depends on a clock, a
//! disk or the leader. One client waits for the rows that a request reads, so only its member plans
//! to read them ([`ReplyTo`]). The form of a request was checked before it was proposed
//! ([`crate::server::check`]); but an entry that nobody has checked must not cause a panic.

use super::{
    txn,
    write::{check_lease, delete_range, put},
};
use crate::{
    pb::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest},
    server::{
        Error,
        mvcc::{Batch, Reply, ReplyTo},
        txn::Txn,
    },
};

/// A request to the key space.
#[derive(Clone, Copy, Debug)]
pub(crate) enum KvRequest<'a> {
    /// A range in the log. No member proposes it today, but old logs may contain it.
    Range(&'a RangeRequest),
    Put(&'a PutRequest),
    DeleteRange(&'a DeleteRangeRequest),
    Txn(&'a Txn),
    /// `physical` concerns the waiting request only, not apply.
    Compact(&'a CompactionRequest),
}

impl KvRequest<'_> {
    /// Whether its answer may contain rows.
    pub(crate) fn reads(self) -> bool {
        match self {
            KvRequest::Range(_) | KvRequest::Txn(_) => true,
            KvRequest::Put(put) => put.prev_kv,
            KvRequest::DeleteRange(delete) => delete.prev_kv,
            KvRequest::Compact(_) => false,
        }
    }
}

impl Batch<'_> {
    /// Applies the request `id`. If it is refused, nothing has been written. The rows of the reply
    /// are planned, not read.
    pub(crate) fn kv(
        &mut self,
        id: u64,
        request: KvRequest<'_>,
        reply_to: ReplyTo,
    ) -> Result<Reply, Error> {
        match request {
            KvRequest::Range(request) => {
                self.write_txn(id, reply_to).plan(request).map(Reply::Range)
            }
            KvRequest::Put(request) => {
                check_lease(self.lessor(), request.lease)?;
                let mut txn = self.write_txn(id, reply_to);
                let put = put(&mut txn, request);
                txn.note_end(put)
            }
            KvRequest::DeleteRange(request) => {
                let mut txn = self.write_txn(id, reply_to);
                let deleted = delete_range(&mut txn, request);
                txn.note_end(deleted)
            }
            KvRequest::Txn(request) => {
                let mut txn = self.write_txn(id, reply_to);
                let applied = txn::apply(&mut txn, request).map(Reply::Txn);
                txn.note_end(applied)
            }
            KvRequest::Compact(request) => {
                self.compact(id, request.revision)?;
                Ok(Reply::Compact { revision: self.revision() })
            }
        }
    }
}
