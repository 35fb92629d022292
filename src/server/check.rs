//! Is the request well formed? Decided from the request alone, on the member that was asked,
//! before it costs the cluster anything (etcd: `v3rpc/key.go`).
//!
//! The order of the tests is etcd's: a request with two faults is refused for the same one.

use std::{
    collections::{BTreeMap, HashSet},
    ops::Bound,
};

use super::Error;
use crate::pb::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    range_request::{SortOrder, SortTarget},
    request_op::Request,
};

/// How many transactions may stand around another one. The log must not get what cannot be read
/// from it: prost decodes 100 messages in each other, and the log wraps a request once more than the
/// RPC did. Each transaction takes two, the innermost operation one. (etcd has no limit of its
/// own here; its limit of operations allows 127.)
const DEPTH_MAX: usize = 48;

/// Checks a range request (etcd: `checkRangeRequest`).
pub fn check_range(request: &RangeRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    check_sort(request)
}

/// Refuses an order or a target that does not exist, as etcd does since 3.6. (Earlier ones
/// ignored an unknown order, and an unknown target killed the server.)
pub fn check_sort(request: &RangeRequest) -> Result<(), Error> {
    let order = SortOrder::try_from(request.sort_order);
    let target = SortTarget::try_from(request.sort_target);
    if order.is_ok() && target.is_ok() { Ok(()) } else { Err(Error::InvalidSortOption) }
}

/// Checks a put request (etcd: `checkPutRequest`).
pub fn check_put(request: &PutRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Error::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Error::LeaseProvided);
    }
    Ok(())
}

/// Checks a delete request (etcd: `checkDeleteRequest`).
pub fn check_delete_range(request: &DeleteRangeRequest) -> Result<(), Error> {
    if request.key.is_empty() { Err(Error::EmptyKey) } else { Ok(()) }
}

/// Checks a transaction with all that is nested in it: its form, and that no key is put twice or
/// both put and deleted (etcd: `checkTxnRequest`, `checkIntervals`).
pub fn check_txn(request: &TxnRequest, max_ops: usize) -> Result<(), Error> {
    check_form(request, max_ops, 0)?;
    Written::by(&request.success)?;
    Written::by(&request.failure)?;
    Ok(())
}

/// Whether a transaction only reads, so that it needs no entry in the log. A nested transaction
/// counts as a write, as in etcd.
pub fn txn_is_read_only(request: &TxnRequest) -> bool {
    operations(request).all(|op| matches!(op.request, Some(Request::RequestRange(_))))
}

/// Whether a read-only transaction is content with what this member has.
pub fn txn_is_serializable(request: &TxnRequest) -> bool {
    operations(request)
        .all(|op| matches!(&op.request, Some(Request::RequestRange(range)) if range.serializable))
}

fn operations(request: &TxnRequest) -> impl Iterator<Item = &RequestOp> {
    request.success.iter().chain(&request.failure)
}

/// Nested transactions get what their parent leaves of the number of operations.
fn check_form(request: &TxnRequest, max_ops: usize, depth: usize) -> Result<(), Error> {
    let ops = request.compare.len().max(request.success.len()).max(request.failure.len());
    if ops > max_ops || depth > DEPTH_MAX {
        return Err(Error::TooManyOps);
    }
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Error::EmptyKey);
    }
    for op in operations(request) {
        match &op.request {
            Some(Request::RequestRange(range)) => check_range(range)?,
            Some(Request::RequestPut(put)) => check_put(put)?,
            Some(Request::RequestDeleteRange(delete)) => check_delete_range(delete)?,
            Some(Request::RequestTxn(txn)) => check_form(txn, max_ops - ops, depth + 1)?,
            None => return Err(Error::KeyNotFound),
        }
    }
    Ok(())
}

/// What a list of operations may write, whichever branches its nested transactions take.
#[derive(Default)]
struct Written<'a> {
    puts: HashSet<&'a [u8]>,
    deleted: Deleted,
}

impl<'a> Written<'a> {
    /// Goes through a branch. The order is etcd's: first the deletions of this level, then
    /// nested transactions one after the other, then the puts of this level. (So a nested put is
    /// not held against the deletion of a later nested transaction; neither does etcd.)
    fn by(ops: &'a [RequestOp]) -> Result<Written<'a>, Error> {
        let mut written = Written::default();
        for op in ops {
            if let Some(Request::RequestDeleteRange(delete)) = &op.request {
                written.deleted.insert(&delete.key, &delete.range_end);
            }
        }
        for op in ops {
            if let Some(Request::RequestTxn(txn)) = &op.request {
                written.add_nested(Written::by(&txn.success)?, Written::by(&txn.failure)?)?;
            }
        }
        for op in ops {
            if let Some(Request::RequestPut(put)) = &op.request {
                written.add_put(&put.key)?;
            }
        }
        Ok(written)
    }

    fn add_put(&mut self, key: &'a [u8]) -> Result<(), Error> {
        if self.deleted.contains(key) || !self.puts.insert(key) {
            return Err(Error::DuplicateKey);
        }
        Ok(())
    }

    /// Only one of a nested transaction's branches is taken, so both may put the same key.
    fn add_nested(&mut self, then: Written<'a>, other: Written<'a>) -> Result<(), Error> {
        for key in &then.puts {
            self.add_put(key)?;
        }
        for key in &other.puts {
            if !then.puts.contains(key) {
                self.add_put(key)?;
            }
        }
        self.deleted.union(then.deleted);
        self.deleted.union(other.deleted);
        Ok(())
    }
}

/// Deleted ranges, as intervals that do not touch each other: from a key, included, to an end,
/// excluded.
#[derive(Default)]
struct Deleted {
    ranges: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Deleted {
    /// A range that ends before it begins is empty. That holds for the end `"\0"`, too, which
    /// elsewhere means "to the last key": etcd's check does not know that either, and a put
    /// behind such a deletion's key passes.
    fn insert(&mut self, key: &[u8], end: &[u8]) {
        if end.is_empty() {
            let mut next = key.to_vec();
            next.push(0);
            self.insert_interval(key.to_vec(), next);
        } else if end > key {
            self.insert_interval(key.to_vec(), end.to_vec());
        }
    }

    fn insert_interval(&mut self, mut begin: Vec<u8>, mut end: Vec<u8>) {
        // What begins before the new end and does not end before the new beginning is joined.
        while let Some((other, other_end)) = self.ranges.range(..=end.clone()).next_back()
            && *other_end >= begin
        {
            let (other, other_end) = (other.clone(), other_end.clone());
            self.ranges.remove(&other);
            begin = begin.min(other);
            end = end.max(other_end);
        }
        self.ranges.insert(begin, end);
    }

    fn contains(&self, key: &[u8]) -> bool {
        let before =
            self.ranges.range::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back();
        before.is_some_and(|(_, end)| key < end.as_slice())
    }

    fn union(&mut self, other: Deleted) {
        for (begin, end) in other.ranges {
            self.insert_interval(begin, end);
        }
    }
}

#[cfg(test)]
mod tests;
