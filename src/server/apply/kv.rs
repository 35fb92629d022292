//! The requests that change the key space, as they come out of the log (etcd: `applierV3backend`).
//!
//! Every member carries these out, in the same order, and must come to the same end. So a request
//! is refused before its first write or not at all, and nothing here looks at a clock, a disk or
//! who is leader. What a transaction reads it reads for one client, so that is planned on the member
//! that answers, and left out on the others ([`Asker`]). Whether it is well formed was decided before it was proposed
//! ([`crate::server::check`]); what an unchecked entry contains is survived, not trusted.

use bytes::Bytes;

use crate::{
    pb::etcdserverpb::{
        CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
        request_op::Request,
    },
    server::{
        Error,
        lease::Lessor,
        mvcc::{Asker, Batch, KeyRange, Reply, WriteTxn, reply::TxnReply},
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
    /// See [`TxnRequest`].
    Txn(&'a TxnRequest),
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
            KvRequest::Txn(request) => txn(&mut self.write_txn(id, asker), request).map(Reply::Txn),
            KvRequest::Compact(request) => {
                self.compact(id, request.revision)?;
                Ok(Reply::Compact { revision: self.revision() })
            }
        }
    }
}

/// Whether a put may name this lease. This is the only place that decides it.
fn check_lease(lessor: &Lessor, lease: i64) -> Result<(), Error> {
    if lease == 0 || lessor.contains(lease) { Ok(()) } else { Err(Error::LeaseNotFound) }
}

fn put(txn: &mut WriteTxn<'_, '_>, request: &PutRequest) -> Result<Reply, Error> {
    let (mut value, mut lease) = (request.value.clone(), request.lease);
    if request.ignore_value || request.ignore_lease {
        let before = txn.get(&request.key).ok_or(Error::KeyNotFound)?;
        if request.ignore_value {
            value = before.value;
        }
        if request.ignore_lease {
            lease = before.lease;
        }
    }
    let previous = if request.prev_kv { txn.previous(&request.key, &Bytes::new())? } else { None };
    let revision = txn.put(&request.key, value, lease);
    Ok(Reply::Put { revision, previous })
}

fn delete_range(txn: &mut WriteTxn<'_, '_>, request: &DeleteRangeRequest) -> Result<Reply, Error> {
    let (key, end) = (&request.key, &request.range_end);
    let previous = if request.prev_kv { txn.previous(key, end)? } else { None };
    let (deleted, revision) = txn.delete_range(KeyRange::new(key, end));
    Ok(Reply::DeleteRange { revision, deleted, previous })
}

/// Decides all branches first, nested ones too, on the state before the transaction; then tests
/// what could fail; then writes.
fn txn(txn: &mut WriteTxn<'_, '_>, request: &TxnRequest) -> Result<TxnReply, Error> {
    let branch = Branch::choose(txn, request);
    let mut effects = Vec::new();
    branch.check(txn, &mut effects)?;
    let replies = branch.run(txn)?;
    Ok(TxnReply { revision: txn.revision(), succeeded: branch.succeeded, replies })
}

/// The branch of a transaction that its comparisons chose, and those of the transactions in it.
struct Branch<'r> {
    succeeded: bool,
    ops: &'r [RequestOp],
    /// One for each nested transaction among `ops`, in order.
    nested: Vec<Branch<'r>>,
}

/// What an earlier operation of the same transaction does to keys.
enum Effect<'r> {
    Put(&'r Bytes),
    Delete(KeyRange<'r>),
}

impl<'r> Branch<'r> {
    /// As deep as the request is nested, which decoding bounds.
    fn choose(txn: &WriteTxn<'_, '_>, request: &'r TxnRequest) -> Branch<'r> {
        let succeeded = txn.holds(request);
        let ops = if succeeded { &request.success } else { &request.failure };
        let nested = ops.iter().filter_map(|op| match &op.request {
            Some(Request::RequestTxn(nested)) => Some(Branch::choose(txn, nested)),
            _ => None,
        });
        Branch { succeeded, ops, nested: nested.collect() }
    }

    /// Fails if any operation would (etcd: `checkPut`, `checkRange`).
    fn check(&self, txn: &WriteTxn<'_, '_>, effects: &mut Vec<Effect<'r>>) -> Result<(), Error> {
        let mut nested = self.nested.iter();
        for op in self.ops {
            match &op.request {
                Some(Request::RequestRange(range)) => {
                    txn.check_range(range)?;
                }
                Some(Request::RequestPut(put)) => {
                    let keeps = put.ignore_value || put.ignore_lease;
                    if keeps && !exists(txn, effects, &put.key) {
                        return Err(Error::KeyNotFound);
                    }
                    check_lease(txn.lessor(), put.lease)?;
                    effects.push(Effect::Put(&put.key));
                }
                Some(Request::RequestDeleteRange(delete)) => {
                    let range = KeyRange::new(&delete.key, &delete.range_end);
                    effects.push(Effect::Delete(range));
                }
                Some(Request::RequestTxn(_)) => {
                    nested.next().map_or(Ok(()), |branch| branch.check(txn, effects))?;
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Carries the operations out, in order; each sees what those before it wrote.
    fn run(&self, txn: &mut WriteTxn<'_, '_>) -> Result<Vec<Option<Reply>>, Error> {
        let mut nested = self.nested.iter();
        let mut replies = Vec::with_capacity(self.ops.len());
        for op in self.ops {
            replies.push(match &op.request {
                // Whether it may be read was tested before the first write, on every member.
                Some(Request::RequestRange(_)) if txn.asker() == Asker::Elsewhere => None,
                Some(Request::RequestRange(range)) => Some(Reply::Range(txn.plan(range)?)),
                Some(Request::RequestPut(request)) => Some(put(txn, request)?),
                Some(Request::RequestDeleteRange(request)) => Some(delete_range(txn, request)?),
                Some(Request::RequestTxn(_)) => match nested.next() {
                    Some(branch) => Some(Reply::Txn(branch.run_nested(txn)?)),
                    None => None,
                },
                None => None,
            });
        }
        Ok(replies)
    }

    /// A nested transaction's header is there, but says nothing.
    fn run_nested(&self, txn: &mut WriteTxn<'_, '_>) -> Result<TxnReply, Error> {
        let replies = self.run(txn)?;
        Ok(TxnReply { revision: 0, succeeded: self.succeeded, replies })
    }
}

/// Whether a key will be there when the transaction comes to the operation in question.
fn exists(txn: &WriteTxn<'_, '_>, effects: &[Effect<'_>], key: &Bytes) -> bool {
    for effect in effects.iter().rev() {
        match effect {
            Effect::Put(other) if *other == key => return true,
            Effect::Delete(range) if range.contains(key) => return false,
            Effect::Put(_) | Effect::Delete(_) => {}
        }
    }
    txn.existed(key)
}
