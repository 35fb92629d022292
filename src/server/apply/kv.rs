//! The requests that change the key space, as they come out of the log (etcd: `applierV3backend`).
//!
//! Every member carries these out, in the same order, and must come to the same end. So a request
//! is refused before its first write or not at all, and nothing here looks at a clock, a disk or
//! who is leader. Whether it is well formed was decided before it was proposed
//! ([`crate::server::check`]); what an unchecked entry contains is survived, not trusted.

use bytes::Bytes;

use crate::{
    pb::etcdserverpb::{
        CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
        PutResponse, RangeRequest, RangeResponse, RequestOp, ResponseHeader, ResponseOp,
        TxnRequest, TxnResponse, request_op::Request, response_op::Response,
    },
    server::{
        Error,
        lease::Lessor,
        mvcc::{Batch, KeyRange, WriteTxn, read_txn::header},
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
            KvRequest::Txn(request) => txn(&mut self.write_txn(id), request).map(KvResponse::Txn),
            KvRequest::Compact(request) => {
                self.compact(id, request.revision)?;
                let header = header(self.revision());
                Ok(KvResponse::Compact(CompactionResponse { header }))
            }
        }
    }
}

/// Whether a put may name this lease. This is the only place that decides it.
fn check_lease(lessor: &Lessor, lease: i64) -> Result<(), Error> {
    if lease == 0 || lessor.contains(lease) { Ok(()) } else { Err(Error::LeaseNotFound) }
}

fn put(txn: &mut WriteTxn<'_, '_>, request: &PutRequest) -> Result<PutResponse, Error> {
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

fn delete_range(
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

/// Decides all branches first, nested ones too, on the state before the transaction; then tests
/// what could fail; then writes.
fn txn(txn: &mut WriteTxn<'_, '_>, request: &TxnRequest) -> Result<TxnResponse, Error> {
    let branch = Branch::choose(txn, request);
    let mut effects = Vec::new();
    branch.check(txn, &mut effects)?;
    let responses = branch.run(txn)?;
    let header = header(txn.revision());
    Ok(TxnResponse { header, succeeded: branch.succeeded, responses })
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
    fn run(&self, txn: &mut WriteTxn<'_, '_>) -> Result<Vec<ResponseOp>, Error> {
        let mut nested = self.nested.iter();
        let mut responses = Vec::with_capacity(self.ops.len());
        for op in self.ops {
            let response = match &op.request {
                Some(Request::RequestRange(range)) => {
                    Some(Response::ResponseRange(txn.range(range)?))
                }
                Some(Request::RequestPut(request)) => {
                    Some(Response::ResponsePut(put(txn, request)?))
                }
                Some(Request::RequestDeleteRange(request)) => {
                    Some(Response::ResponseDeleteRange(delete_range(txn, request)?))
                }
                Some(Request::RequestTxn(_)) => match nested.next() {
                    Some(branch) => Some(Response::ResponseTxn(branch.run_nested(txn)?)),
                    None => None,
                },
                None => None,
            };
            responses.push(ResponseOp { response });
        }
        Ok(responses)
    }

    /// A nested transaction's header is there, but says nothing.
    fn run_nested(&self, txn: &mut WriteTxn<'_, '_>) -> Result<TxnResponse, Error> {
        let responses = self.run(txn)?;
        let header = Some(ResponseHeader::default());
        Ok(TxnResponse { header, succeeded: self.succeeded, responses })
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
