//! A transaction that writes, with those nested in it (etcd: `applyTxn`).
//!
//! Three passes over the same operations. The first decides all branches, nested ones too, on the
//! state before the transaction. The second tests what could fail. The third writes, and cannot be
//! refused any more. None of them recurses: an entry of the log may be nested deeper than any request
//! that this member accepts, and is applied all the same ([`crate::server::txn`]).

use bytes::Bytes;

use super::write::{check_lease, delete_range, put};
use crate::{
    pb::etcdserverpb::request_op::Request,
    server::{
        Error,
        mvcc::{
            Asker, KeyRange, Reply, WriteTxn,
            reply::{Part, TxnReply},
        },
        txn::{Step, Taken, Txn},
    },
};

/// Carries out a transaction.
pub(super) fn apply(txn: &mut WriteTxn<'_, '_>, request: &Txn) -> Result<TxnReply, Error> {
    let succeeded = choose(txn, request);
    check(txn, request, &succeeded)?;
    run(txn, request, &succeeded)
}

/// Whether the comparisons of each level hold; `false` in a branch that is not taken.
fn choose(txn: &WriteTxn<'_, '_>, request: &Txn) -> Vec<bool> {
    let mut succeeded = vec![false; request.levels()];
    let mut to_choose = vec![0];
    while let Some(level) = to_choose.pop() {
        succeeded[level] = txn.holds(request.request(level));
        to_choose.extend(request.inner(level, taken(succeeded[level])));
    }
    succeeded
}

fn taken(succeeded: bool) -> Taken {
    if succeeded { Taken::Success } else { Taken::Failure }
}

/// What an earlier operation of the same transaction does to keys.
enum Effect<'r> {
    Put(&'r Bytes),
    Delete(KeyRange<'r>),
}

/// Fails if any operation would (etcd: `checkPut`, `checkRange`).
fn check(txn: &WriteTxn<'_, '_>, request: &Txn, succeeded: &[bool]) -> Result<(), Error> {
    let mut effects = Vec::new();
    for step in request.walk(|level| taken(succeeded[level])) {
        let Step::Op(Some(op)) = step else { continue };
        match op {
            Request::RequestRange(range) => txn.check_range(range)?,
            Request::RequestPut(put) => {
                let keeps = put.ignore_value || put.ignore_lease;
                if keeps && !exists(txn, &effects, &put.key) {
                    return Err(Error::KeyNotFound);
                }
                check_lease(txn.lessor(), put.lease)?;
                effects.push(Effect::Put(&put.key));
            }
            Request::RequestDeleteRange(delete) => {
                effects.push(Effect::Delete(KeyRange::new(&delete.key, &delete.range_end)));
            }
            Request::RequestTxn(_) => {}
        }
    }
    Ok(())
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

/// Carries the operations out, in order; each sees what those before it wrote.
fn run(txn: &mut WriteTxn<'_, '_>, request: &Txn, succeeded: &[bool]) -> Result<TxnReply, Error> {
    let mut parts = Vec::new();
    for step in request.walk(|level| taken(succeeded[level])) {
        let part = match step {
            Step::Enter(level) => Part::Enter(succeeded[level]),
            Step::Op(op) => Part::Op(op.map(|op| execute(txn, op)).transpose()?.flatten()),
            Step::Leave(_) => Part::Leave,
        };
        if txn.asker() == Asker::Here {
            parts.push(part);
        }
    }
    Ok(TxnReply { revision: txn.revision(), parts })
}

/// `None` for a transaction, which is no single operation, and for what is read for nobody.
fn execute(txn: &mut WriteTxn<'_, '_>, op: &Request) -> Result<Option<Reply>, Error> {
    Ok(match op {
        // Whether it may be read was tested before the first write, on every member.
        Request::RequestRange(_) if txn.asker() == Asker::Elsewhere => None,
        Request::RequestRange(range) => Some(Reply::Range(txn.plan(range)?)),
        Request::RequestPut(request) => Some(put(txn, request)?),
        Request::RequestDeleteRange(request) => Some(delete_range(txn, request)?),
        Request::RequestTxn(_) => None,
    })
}
