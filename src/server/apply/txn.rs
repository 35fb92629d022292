//! A transaction that writes, with those nested in it (etcd: `applyTxn`).
//!
//! There are three passes over the operations. The first chooses all branches, nested ones too, by
//! the state before the transaction. The second checks everything that could fail. The third
//! writes, and cannot fail any more. None of them recurses: an entry of the log may be nested
//! deeper than any request that this member accepts, and must be applied all the same
//! ([`crate::server::txn`]).

use bytes::Bytes;

use super::write::{check_lease, delete_range, put};
use crate::{
    pb::etcdserverpb::request_op::Request,
    server::{
        Error,
        mvcc::{
            COMPARES_RECORDED, KeyRange, Reply, ReplyTo, WriteTxn,
            reply::{ReplyStep, TxnReply},
        },
        txn::{Branches, Step, Txn},
    },
};

/// Applies a transaction. If it is refused, nothing has been written.
pub(super) fn apply(txn: &mut WriteTxn<'_, '_>, request: &Txn) -> Result<TxnReply, Error> {
    let succeeded = choose(txn, request);
    check(txn, request, &succeeded)?;
    run(txn, request, &succeeded)
}

/// Whether the comparisons of each level hold; `false` for levels in a branch that is not taken.
fn choose(txn: &WriteTxn<'_, '_>, request: &Txn) -> Vec<bool> {
    let mut succeeded = vec![false; request.levels()];
    let (mut to_choose, mut left) = (vec![0], COMPARES_RECORDED);
    while let Some(level) = to_choose.pop() {
        succeeded[level] = txn.holds((level, request.request(level)), &mut left);
        to_choose.extend(request.inner(level, branch(succeeded[level])));
    }
    succeeded
}

fn branch(succeeded: bool) -> Branches {
    if succeeded { Branches::Success } else { Branches::Failure }
}

/// A write by an earlier operation of the same transaction.
enum Write<'r> {
    Put(&'r Bytes),
    Delete(KeyRange<'r>),
}

/// Fails if any operation would fail (etcd: `checkPut`, `checkRange`).
fn check(txn: &WriteTxn<'_, '_>, request: &Txn, succeeded: &[bool]) -> Result<(), Error> {
    let mut writes = Vec::new();
    for step in request.walk(|level| branch(succeeded[level])) {
        let Step::Op(Some(op)) = step else { continue };
        match op {
            Request::RequestRange(range) => txn.check_range(range)?,
            Request::RequestPut(put) => {
                let keeps = put.ignore_value || put.ignore_lease;
                if keeps && !exists(txn, &writes, &put.key) {
                    return Err(Error::KeyNotFound);
                }
                check_lease(txn.lessor(), put.lease)?;
                writes.push(Write::Put(&put.key));
            }
            Request::RequestDeleteRange(delete) => {
                writes.push(Write::Delete(KeyRange::new(&delete.key, &delete.range_end)));
            }
            Request::RequestTxn(_) => {}
        }
    }
    Ok(())
}

/// Whether a key will exist after these writes of the transaction.
fn exists(txn: &WriteTxn<'_, '_>, writes: &[Write<'_>], key: &Bytes) -> bool {
    for write in writes.iter().rev() {
        match write {
            Write::Put(other) if *other == key => return true,
            Write::Delete(range) if range.contains(key) => return false,
            Write::Put(_) | Write::Delete(_) => {}
        }
    }
    txn.existed(key)
}

/// Executes the operations in order. Each sees the writes of those before it.
fn run(txn: &mut WriteTxn<'_, '_>, request: &Txn, succeeded: &[bool]) -> Result<TxnReply, Error> {
    let mut steps = Vec::new();
    for step in request.walk(|level| branch(succeeded[level])) {
        let step = match step {
            Step::Enter(level) => ReplyStep::Enter(succeeded[level]),
            Step::Op(op) => ReplyStep::Op(op.map(|op| execute(txn, op)).transpose()?.flatten()),
            Step::Leave(_) => ReplyStep::Leave,
        };
        if txn.reply_to() == ReplyTo::Client {
            steps.push(step);
        }
    }
    Ok(TxnReply { revision: txn.revision(), steps })
}

/// Executes one operation. Returns `None` for a range whose result no client waits for, and for a
/// nested transaction, whose operations are steps of their own.
fn execute(txn: &mut WriteTxn<'_, '_>, op: &Request) -> Result<Option<Reply>, Error> {
    Ok(match op {
        // Every member has checked before the first write that the range may be read.
        Request::RequestRange(_) if txn.reply_to() == ReplyTo::Nobody => None,
        Request::RequestRange(range) => Some(Reply::Range(txn.plan(range)?)),
        Request::RequestPut(request) => Some(put(txn, request)?),
        Request::RequestDeleteRange(request) => Some(delete_range(txn, request)?),
        Request::RequestTxn(_) => None,
    })
}
