//! Transactions that stand in each other, without recursion.
//!
//! An operation of a transaction may itself be a transaction. etcd bounds the depth by the number of
//! operations alone, so clients choose it, and etcd members with another limit put deeper ones into
//! the log. A function that calls itself once a level would let them exhaust its stack. So a nested
//! transaction stays bytes until [`Txn::expand`] decodes it into a list of levels:
//!
//! ```text
//!   TxnRequest                          levels
//!   ├─ put a                            0  the outermost        inner: 1, 2
//!   ├─ bytes ── put b, bytes ── put d   1  in it, the first     inner: 3
//!   └─ bytes ── put c                   2  in it, the second
//!                                       3  in 1
//! ```
//!
//! [`Txn::walk`] visits the operations in etcd's order, and enters each nested transaction where it
//! stands, with an explicit stack on the heap. The checks, apply and the answer are loops over its
//! steps. A level takes memory in proportion to its bytes, so the size limit of requests, and that of
//! log entries, bounds all of it.
//!
//! Invariants
//! * A level's number is greater than that of the one around it.
//! * The transactions nested directly in a level are neighbours: first those of `success`, then
//!   those of `failure`, each in the order of the operations.
//! * A plain transaction, with nothing nested in it, is expanded without an allocation.

mod answer;

use prost::{DecodeError, Message as _};

use crate::pb::etcdserverpb::{
    DeleteRangeRequest, RangeRequest, RequestOp, TxnRequest, request_op::Request,
};

pub(crate) use answer::Answers;

/// A transaction and all that are nested in it. See the module's text.
#[derive(Debug)]
pub struct Txn {
    root: Level,
    /// Levels from 1 on.
    nested: Vec<Level>,
}

#[derive(Debug)]
struct Level {
    request: TxnRequest,
    /// The level of the first transaction nested in it; `None` while they are bytes.
    inner: Option<usize>,
}

/// Which operations of a level are walked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Those of `success`, then those of `failure`.
    Both,
    /// Those of `success`.
    Success,
    /// Those of `failure`.
    Failure,
}

/// One step of a walk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step<'t> {
    /// A transaction begins. The first step is that of level 0.
    Enter(usize),
    /// An operation that is no transaction; `None` for an empty one.
    Op(Option<&'t Request>),
    /// The transaction of this level is over.
    Leave(usize),
}

/// The range of what a deletion deletes.
pub(crate) fn previous(delete: &DeleteRangeRequest) -> RangeRequest {
    let (key, range_end) = (delete.key.clone(), delete.range_end.clone());
    RangeRequest { key, range_end, ..RangeRequest::default() }
}

impl Txn {
    /// Decodes the transactions that are nested in a request. The check refuses one with more
    /// operations than the ones around it leave of `max_ops`, so what is nested in that stays bytes.
    ///
    /// Fails if a nested transaction does not decode.
    pub fn expand(request: TxnRequest, max_ops: usize) -> Result<Txn, DecodeError> {
        let mut txn = Txn { root: Level { request, inner: None }, nested: Vec::new() };
        if inner(&txn.root.request).next().is_none() {
            return Ok(txn);
        }
        // What each level may have.
        let mut left = vec![max_ops];
        let mut at = 0;
        while at < left.len() {
            let request = txn.request(at);
            if let Some(rest) = left[at].checked_sub(operations(request)) {
                let first = left.len();
                let decode = |bytes: &bytes::Bytes| TxnRequest::decode(bytes.clone());
                let requests = inner(request).map(decode).collect::<Result<Vec<_>, _>>()?;
                left.resize(first + requests.len(), rest);
                let levels = requests.into_iter().map(|request| Level { request, inner: None });
                txn.nested.extend(levels);
                txn.level_mut(at).inner = Some(first);
            }
            at += 1;
        }
        Ok(txn)
    }

    /// How many transactions there are.
    pub fn levels(&self) -> usize {
        1 + self.nested.len()
    }

    /// The request of a level; what is nested in it is bytes there.
    pub fn request(&self, level: usize) -> &TxnRequest {
        &self.level(level).request
    }

    /// The outermost request, with all that is nested in it as bytes.
    pub fn into_request(self) -> TxnRequest {
        self.root.request
    }

    /// Walks through the operations of each level that `taken` chooses.
    pub fn walk<F: Fn(usize) -> Taken>(&self, taken: F) -> Walk<'_, F> {
        Walk { txn: self, taken, open: Vec::new(), begun: false }
    }

    /// Whether any operation of any level reads something for the answer.
    pub fn reads(&self) -> bool {
        self.walk(|_| Taken::Both).any(|step| match step {
            Step::Op(Some(Request::RequestRange(_))) => true,
            Step::Op(Some(Request::RequestPut(put))) => put.prev_kv,
            Step::Op(Some(Request::RequestDeleteRange(delete))) => delete.prev_kv,
            Step::Op(_) | Step::Enter(_) | Step::Leave(_) => false,
        })
    }

    /// What all operations of all levels read of the key space for the answer.
    pub fn ranges(&self) -> impl Iterator<Item = RangeRequest> {
        self.walk(|_| Taken::Both).filter_map(|step| match step {
            Step::Op(Some(Request::RequestRange(range))) => Some(range.clone()),
            Step::Op(Some(Request::RequestDeleteRange(delete))) if delete.prev_kv => {
                Some(previous(delete))
            }
            Step::Op(_) | Step::Enter(_) | Step::Leave(_) => None,
        })
    }

    /// The levels of the transactions that stand directly in a level, in the operations taken. None
    /// if they are still bytes.
    pub fn inner(&self, level: usize, taken: Taken) -> std::ops::Range<usize> {
        let Level { request, inner } = self.level(level);
        let Some(first) = *inner else { return 0..0 };
        let (success, failure) = (nested_in(&request.success), nested_in(&request.failure));
        match taken {
            Taken::Both => first..first + success + failure,
            Taken::Success => first..first + success,
            Taken::Failure => first + success..first + success + failure,
        }
    }

    fn level(&self, level: usize) -> &Level {
        if level == 0 { &self.root } else { &self.nested[level - 1] }
    }

    fn level_mut(&mut self, level: usize) -> &mut Level {
        if level == 0 { &mut self.root } else { &mut self.nested[level - 1] }
    }
}

/// How many operations a transaction counts as: the length of the longest of its three lists.
pub fn operations(request: &TxnRequest) -> usize {
    request.compare.len().max(request.success.len()).max(request.failure.len())
}

fn inner(request: &TxnRequest) -> impl Iterator<Item = &bytes::Bytes> {
    request.success.iter().chain(&request.failure).filter_map(nested)
}

fn nested(op: &RequestOp) -> Option<&bytes::Bytes> {
    match &op.request {
        Some(Request::RequestTxn(bytes)) => Some(bytes),
        _ => None,
    }
}

fn nested_in(ops: &[RequestOp]) -> usize {
    ops.iter().filter_map(nested).count()
}

/// See [`Txn::walk`].
#[derive(Debug)]
pub struct Walk<'t, F> {
    txn: &'t Txn,
    taken: F,
    open: Vec<Open<'t>>,
    begun: bool,
}

/// A level that the walk is in.
#[derive(Debug)]
struct Open<'t> {
    level: usize,
    ops: std::iter::Chain<std::slice::Iter<'t, RequestOp>, std::slice::Iter<'t, RequestOp>>,
    /// The transactions that come next in it.
    inner: std::ops::Range<usize>,
}

impl<'t, F: Fn(usize) -> Taken> Walk<'t, F> {
    fn enter(&mut self, level: usize) -> Step<'t> {
        let TxnRequest { success, failure, .. } = self.txn.request(level);
        let taken = (self.taken)(level);
        let ops = match taken {
            Taken::Both => success.iter().chain(failure),
            Taken::Success => success.iter().chain(&[]),
            Taken::Failure => failure.iter().chain(&[]),
        };
        self.open.push(Open { level, ops, inner: self.txn.inner(level, taken) });
        Step::Enter(level)
    }
}

impl<'t, F: Fn(usize) -> Taken> Iterator for Walk<'t, F> {
    type Item = Step<'t>;

    fn next(&mut self) -> Option<Step<'t>> {
        if !self.begun {
            self.begun = true;
            return Some(self.enter(0));
        }
        loop {
            let open = self.open.last_mut()?;
            let Some(op) = open.ops.next() else {
                let level = open.level;
                self.open.pop();
                return Some(Step::Leave(level));
            };
            if nested(op).is_none() {
                return Some(Step::Op(op.request.as_ref()));
            }
            // One that is still bytes is passed over.
            if let Some(level) = open.inner.next() {
                return Some(self.enter(level));
            }
        }
    }
}

#[cfg(test)]
mod tests;
