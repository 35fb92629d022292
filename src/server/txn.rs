//! Nested transactions, without recursion.
//!
//! An operation of a transaction may itself be a transaction. etcd limits the depth only by the
//! number of operations, so clients choose it, and etcd members with another limit may log deeper
//! transactions. A function that recurses at each level could exhaust its stack. So a nested
//! transaction stays bytes until [`Txn::expand`] decodes it into a list of levels:
//!
//! ```text
//!   TxnRequest                          levels
//!   ├─ put a                            0  the outermost     inner: 1, 2
//!   ├─ bytes ── put b, bytes ── put d   1  the first in 0    inner: 3
//!   └─ bytes ── put c                   2  the second in 0
//!                                       3  the first in 1
//! ```
//!
//! [`Txn::walk`] visits the operations in etcd's order, and enters each nested transaction at its
//! position, with an explicit stack on the heap. The checks, apply and the answer are loops over
//! the steps of a walk. A level takes memory in proportion to its bytes, so the size limits of
//! requests and of log entries bound the whole list.
//!
//! Invariants
//! * The number of a level is greater than that of the level around it.
//! * The levels nested directly in a level have consecutive numbers: first those of `success`, then
//!   those of `failure`, each in the order of the operations.
//! * A transaction without nested ones is expanded without an allocation.

mod response;

use prost::{DecodeError, Message as _};

use crate::pb::etcdserverpb::{
    DeleteRangeRequest, RangeRequest, RequestOp, TxnRequest, request_op::Request,
};

pub(crate) use response::{Frames, RESPONSES, ResponseBuilder};

/// A transaction with all that are nested in it. See the module's text.
#[derive(Debug)]
pub(crate) struct Txn {
    /// Level 0, the transaction that the client sent.
    root: Level,
    /// Level 1 and higher.
    nested: Vec<Level>,
}

#[derive(Debug)]
struct Level {
    request: TxnRequest,
    /// The first level nested in it; `None` if nested transactions are not decoded.
    inner: Option<usize>,
}

/// The operations of a level that a walk visits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Branches {
    /// The operations of `success`, then of `failure`.
    Both,
    Success,
    Failure,
}

/// One step of a walk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Step<'t> {
    /// The transaction of this level begins. The first step enters level 0.
    Enter(usize),
    /// An operation that is not a transaction; `None` for an empty one.
    Op(Option<&'t Request>),
    /// The transaction of this level ends.
    Leave(usize),
}

/// The range request for the keys that a deletion deletes.
pub(crate) fn deleted_range(delete: &DeleteRangeRequest) -> RangeRequest {
    let (key, range_end) = (delete.key.clone(), delete.range_end.clone());
    RangeRequest { key, range_end, ..RangeRequest::default() }
}

impl Txn {
    /// Decodes the transactions nested in a request. A level may have as many operations as the
    /// levels around it leave of `max_ops`. If it has more, `check` refuses the request, so
    /// transactions nested in that level stay bytes.
    ///
    /// Fails if a nested transaction does not decode.
    pub(crate) fn expand(request: TxnRequest, max_ops: usize) -> Result<Txn, DecodeError> {
        let mut txn = Txn { root: Level { request, inner: None }, nested: Vec::new() };
        if nested_requests(&txn.root.request).next().is_none() {
            return Ok(txn);
        }
        // The number of operations that each level may have.
        let mut left = vec![max_ops];
        let mut at = 0;
        while at < left.len() {
            let request = txn.request(at);
            if let Some(rest) = left[at].checked_sub(operations(request)) {
                let first = left.len();
                let decode = |bytes: &bytes::Bytes| TxnRequest::decode(bytes.clone());
                let requests =
                    nested_requests(request).map(decode).collect::<Result<Vec<_>, _>>()?;
                left.resize(first + requests.len(), rest);
                let levels = requests.into_iter().map(|request| Level { request, inner: None });
                txn.nested.extend(levels);
                txn.level_mut(at).inner = Some(first);
            }
            at += 1;
        }
        Ok(txn)
    }

    /// The number of levels, which is the number of transactions.
    pub(crate) fn levels(&self) -> usize {
        1 + self.nested.len()
    }

    /// The request of a level, in which nested transactions are bytes.
    pub(crate) fn request(&self, level: usize) -> &TxnRequest {
        &self.level(level).request
    }

    /// The request from which the transaction was expanded.
    pub(crate) fn into_request(self) -> TxnRequest {
        self.root.request
    }

    /// Walks through the operations of each level in the branches that `branches` chooses for it.
    pub(crate) fn walk<F: Fn(usize) -> Branches>(&self, branches: F) -> Walk<'_, F> {
        Walk { txn: self, branches, open: Vec::new(), has_begun: false }
    }

    /// Whether the answer to any operation of any level may contain rows.
    pub(crate) fn reads(&self) -> bool {
        self.walk(|_| Branches::Both).any(|step| match step {
            Step::Op(Some(Request::RequestRange(_))) => true,
            Step::Op(Some(Request::RequestPut(put))) => put.prev_kv,
            Step::Op(Some(Request::RequestDeleteRange(delete))) => delete.prev_kv,
            Step::Op(_) | Step::Enter(_) | Step::Leave(_) => false,
        })
    }

    /// The ranges and deleted ranges that the operations of all levels read for the answer. The
    /// previous value of a put is not among them, because it is one row.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = RangeRequest> {
        self.walk(|_| Branches::Both).filter_map(|step| match step {
            Step::Op(Some(Request::RequestRange(range))) => Some(range.clone()),
            Step::Op(Some(Request::RequestDeleteRange(delete))) if delete.prev_kv => {
                Some(deleted_range(delete))
            }
            Step::Op(_) | Step::Enter(_) | Step::Leave(_) => None,
        })
    }

    /// The levels nested directly in these branches of a level; none if they are not decoded.
    pub(crate) fn inner(&self, level: usize, branches: Branches) -> std::ops::Range<usize> {
        let Level { request, inner } = self.level(level);
        let Some(first) = *inner else { return 0..0 };
        let count = |ops: &[RequestOp]| ops.iter().filter_map(nested_request).count();
        let (success, failure) = (count(&request.success), count(&request.failure));
        match branches {
            Branches::Both => first..first + success + failure,
            Branches::Success => first..first + success,
            Branches::Failure => first + success..first + success + failure,
        }
    }

    fn level(&self, level: usize) -> &Level {
        if level == 0 { &self.root } else { &self.nested[level - 1] }
    }

    fn level_mut(&mut self, level: usize) -> &mut Level {
        if level == 0 { &mut self.root } else { &mut self.nested[level - 1] }
    }
}

/// The number of operations that counts against the limit: the length of the longest of the three
/// lists.
pub(crate) fn operations(request: &TxnRequest) -> usize {
    request.compare.len().max(request.success.len()).max(request.failure.len())
}

fn nested_requests(request: &TxnRequest) -> impl Iterator<Item = &bytes::Bytes> {
    request.success.iter().chain(&request.failure).filter_map(nested_request)
}

fn nested_request(op: &RequestOp) -> Option<&bytes::Bytes> {
    match &op.request {
        Some(Request::RequestTxn(bytes)) => Some(bytes),
        _ => None,
    }
}

/// An iterator over the steps of a transaction; see [`Txn::walk`].
#[derive(Debug)]
pub(crate) struct Walk<'t, F> {
    txn: &'t Txn,
    branches: F,
    /// The levels that were entered and not left, outermost first.
    open: Vec<Open<'t>>,
    has_begun: bool,
}

/// The rest of a level.
#[derive(Debug)]
struct Open<'t> {
    level: usize,
    ops: std::iter::Chain<std::slice::Iter<'t, RequestOp>, std::slice::Iter<'t, RequestOp>>,
    inner: std::ops::Range<usize>,
}

impl<'t, F: Fn(usize) -> Branches> Walk<'t, F> {
    fn enter(&mut self, level: usize) -> Step<'t> {
        let TxnRequest { success, failure, .. } = self.txn.request(level);
        let branches = (self.branches)(level);
        let ops = match branches {
            Branches::Both => success.iter().chain(failure),
            Branches::Success => success.iter().chain(&[]),
            Branches::Failure => failure.iter().chain(&[]),
        };
        self.open.push(Open { level, ops, inner: self.txn.inner(level, branches) });
        Step::Enter(level)
    }
}

impl<'t, F: Fn(usize) -> Branches> Iterator for Walk<'t, F> {
    type Item = Step<'t>;

    fn next(&mut self) -> Option<Step<'t>> {
        if !self.has_begun {
            self.has_begun = true;
            return Some(self.enter(0));
        }
        loop {
            let open = self.open.last_mut()?;
            let Some(op) = open.ops.next() else {
                let level = open.level;
                self.open.pop();
                return Some(Step::Leave(level));
            };
            if nested_request(op).is_none() {
                return Some(Step::Op(op.request.as_ref()));
            }
            // One that is not decoded is skipped.
            if let Some(level) = open.inner.next() {
                return Some(self.enter(level));
            }
        }
    }
}

#[cfg(test)]
mod tests;
