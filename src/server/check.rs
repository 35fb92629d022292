//! Is the request well formed? The member that gets a request decides this from the request alone,
//! before it costs the cluster anything (etcd: `v3rpc/key.go`).
//!
//! The checks come in etcd's order, so a request with two faults is refused for the same one.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    ops::Bound,
};

use super::{
    Error,
    txn::{Branches, Step, Txn, operations as operations_of},
};
use crate::pb::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    range_request::{SortOrder, SortTarget},
    request_op::Request,
};

/// Checks a range request (etcd: `checkRangeRequest`).
pub fn check_range(request: &RangeRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    check_sort(request)
}

/// Refuses an unknown order or target, as etcd does since 3.6. (Earlier versions ignored an unknown
/// order, and an unknown target killed the server.)
pub fn check_sort(request: &RangeRequest) -> Result<(), Error> {
    let order = SortOrder::try_from(request.sort_order);
    let target = SortTarget::try_from(request.sort_target);
    if order.is_ok() && target.is_ok() { Ok(()) } else { Err(Error::InvalidSortOption) }
}

// ANCHOR: put
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
// ANCHOR_END: put

/// Checks a delete request (etcd: `checkDeleteRequest`).
pub fn check_delete_range(request: &DeleteRangeRequest) -> Result<(), Error> {
    if request.key.is_empty() { Err(Error::EmptyKey) } else { Ok(()) }
}

/// Checks a transaction and the ones nested in it: their form, and that no key is put twice or both
/// put and deleted (etcd: `checkTxnRequest`, `checkIntervals`). As in etcd, only `max_ops` limits
/// how deep transactions may be nested: 128 operations allow 128 levels around an empty one.
pub(crate) fn check_txn(txn: &Txn, max_ops: usize) -> Result<(), Error> {
    check_form(txn, max_ops)?;
    Written::by(txn, Branches::Success)?;
    Written::by(txn, Branches::Failure)?;
    Ok(())
}

/// Whether a transaction only reads, so that it needs no entry in the log. A nested transaction
/// counts as a write, as in etcd.
pub fn txn_is_read_only(request: &TxnRequest) -> bool {
    operations(request).all(|op| matches!(op.request, Some(Request::RequestRange(_))))
}

/// Whether all ranges of a read-only transaction are serializable, so that it needs no read round.
pub fn txn_is_serializable(request: &TxnRequest) -> bool {
    operations(request)
        .all(|op| matches!(&op.request, Some(Request::RequestRange(range)) if range.serializable))
}

fn operations(request: &TxnRequest) -> impl Iterator<Item = &RequestOp> {
    request.success.iter().chain(&request.failure)
}

/// A nested transaction may have as many operations as its parent leaves of the limit.
fn check_form(txn: &Txn, max_ops: usize) -> Result<(), Error> {
    let mut left = vec![max_ops];
    for step in txn.walk(|_| Branches::Both) {
        match step {
            Step::Enter(level) => {
                let request = txn.request(level);
                let rest = left.last().and_then(|left| left.checked_sub(operations_of(request)));
                left.push(rest.ok_or(Error::TooManyOps)?);
                if request.compare.iter().any(|compare| compare.key.is_empty()) {
                    return Err(Error::EmptyKey);
                }
            }
            Step::Op(Some(Request::RequestRange(range))) => check_range(range)?,
            Step::Op(Some(Request::RequestPut(put))) => check_put(put)?,
            Step::Op(Some(Request::RequestDeleteRange(delete))) => check_delete_range(delete)?,
            Step::Op(Some(Request::RequestTxn(_)) | None) => return Err(Error::KeyNotFound),
            Step::Leave(_) => _ = left.pop(),
        }
    }
    Ok(())
}

/// The keys that a list of operations may write, whichever branches its nested transactions take.
#[derive(Default)]
struct Written<'a> {
    puts: HashSet<&'a [u8]>,
    deleted: Deleted,
}

/// A branch of a transaction, while its nested transactions are checked.
struct Branch<'a> {
    ops: &'a [RequestOp],
    /// The branches of its nested transactions that are still to be checked: level and branch.
    inner: VecDeque<(usize, Branches)>,
    written: Written<'a>,
    /// The keys of a nested transaction's first branch, until its second is checked.
    then: Option<Written<'a>>,
}

impl<'a> Branch<'a> {
    fn new(txn: &'a Txn, level: usize, taken: Branches) -> Branch<'a> {
        let TxnRequest { success, failure, .. } = txn.request(level);
        let ops = if taken == Branches::Success { success } else { failure };
        let both = |level| [(level, Branches::Success), (level, Branches::Failure)];
        let inner = txn.inner(level, taken).flat_map(both).collect();
        let mut written = Written::default();
        for op in ops {
            if let Some(Request::RequestDeleteRange(delete)) = &op.request {
                written.deleted.insert(&delete.key, &delete.range_end);
            }
        }
        Branch { ops, inner, written, then: None }
    }

    /// Adds the keys of one branch of a nested transaction, once both are known.
    fn take(&mut self, written: Written<'a>) -> Result<(), Error> {
        match self.then.take() {
            None => self.then = Some(written),
            Some(then) => self.written.add_nested(then, written)?,
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Written<'a>, Error> {
        for op in self.ops {
            if let Some(Request::RequestPut(put)) = &op.request {
                self.written.add_put(&put.key)?;
            }
        }
        Ok(self.written)
    }
}

impl<'a> Written<'a> {
    /// The keys of a branch of the outermost transaction. The order is etcd's: first the deletions
    /// of this level, then each nested transaction, then the puts of this level. (So a nested put
    /// is not compared with the deletions of a later nested transaction, as in etcd.)
    fn by(txn: &'a Txn, taken: Branches) -> Result<Written<'a>, Error> {
        let mut around: Vec<Branch<'a>> = Vec::new();
        let mut branch = Branch::new(txn, 0, taken);
        loop {
            if let Some((level, taken)) = branch.inner.pop_front() {
                around.push(std::mem::replace(&mut branch, Branch::new(txn, level, taken)));
                continue;
            }
            let written = branch.finish()?;
            let Some(parent) = around.pop() else { return Ok(written) };
            branch = parent;
            branch.take(written)?;
        }
    }

    fn add_put(&mut self, key: &'a [u8]) -> Result<(), Error> {
        if self.deleted.contains(key) || !self.puts.insert(key) {
            return Err(Error::DuplicateKey);
        }
        Ok(())
    }

    /// Only one of a nested transaction's branches is taken, so both may put the same key.
    fn add_nested(&mut self, then: Written<'a>, other: Written<'a>) -> Result<(), Error> {
        let puts = joined(then.puts, other.puts);
        if !self.puts.is_disjoint(&puts) || puts.iter().any(|key| self.deleted.contains(key)) {
            return Err(Error::DuplicateKey);
        }
        self.puts = joined(std::mem::take(&mut self.puts), puts);
        self.deleted.union(then.deleted);
        self.deleted.union(other.deleted);
        Ok(())
    }
}

/// The union of two sets. The keys of the smaller set are moved, so that many levels around many
/// keys do not move all of them at each level.
fn joined<'a>(a: HashSet<&'a [u8]>, b: HashSet<&'a [u8]>) -> HashSet<&'a [u8]> {
    let (mut large, small) = if a.len() < b.len() { (b, a) } else { (a, b) };
    large.extend(small);
    large
}

/// Deleted ranges, as half-open intervals that do not touch each other.
#[derive(Default)]
struct Deleted {
    /// The end (excluded) by the first key.
    ranges: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Deleted {
    /// A range that ends before it begins is empty. That includes the end `"\0"`, which elsewhere
    /// means "to the last key": etcd's check does not know this meaning either, so a put after such
    /// a deletion's key passes.
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
        // Joins the intervals that overlap or touch the new one.
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

    fn union(&mut self, mut other: Deleted) {
        if self.ranges.len() < other.ranges.len() {
            std::mem::swap(self, &mut other);
        }
        for (begin, end) in other.ranges {
            self.insert_interval(begin, end);
        }
    }
}

#[cfg(test)]
mod tests;
