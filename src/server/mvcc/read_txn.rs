//! Reading the key space at one revision (etcd: `storeTxnRead`, `txn.Range`).
//!
//! [`plan`](super::plan) explains how one range is answered.
//!
//! A transaction that only reads may contain many ranges, and comparisons before them. If it held
//! the index lock for all of them, apply would wait. So it chooses its revision once, and releases
//! the lock to read rows, and after every 4096 keys that it visits:
//!
//! ```text
//!   lock: revision 9 ─▶ compare ─┐ rows  ┌─▶ compare ─┐ rows  ┌─▶ plan, plan, … ─┐ read all rows
//!                                └───────┘            └───────┘                  └──────────────▶
//!                    compacted beyond 9 meanwhile? begin again, at the newest revision
//! ```

use std::{ops::ControlFlow, sync::RwLockReadGuard};

use bytes::Bytes;

use super::{
    Index, Store,
    compare::{COMPARES_RECORDED, Choice, Comparing, Comparison, Outcome, rows_satisfy},
    key_index::KeyMeta,
    plan::{Collector, Plan, bytes_max, filters_revisions},
    reader::{Reader, Source},
    reply::{Reply, ReplyStep, TxnReply},
    revision::ROW_KEY_LEN,
    tree_index::{Asker, KeyRange, Portion},
};
use crate::{
    metrics::recorded,
    pb::etcdserverpb::{
        Compare, RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse,
        range_request::SortOrder, request_op::Request,
    },
    server::{Error, check, error::note},
    trace::Span,
};

/// The most rows that a request reads on the thread that serves requests. Longer reads are moved to
/// a blocking thread ([`crate::server::long_reads`]).
pub(crate) const SHORT_ROWS_MAX: usize = 128;

/// Records in a range's step why it was refused, and what it asked for.
pub(crate) fn note_range<T>(
    span: &mut Span,
    request: &RangeRequest,
    result: Result<T, Error>,
) -> Result<T, Error> {
    if result.is_err() {
        let (asked, limit) = (request.revision.max(0), request.limit.max(0));
        crate::set!(span, MvccRange, asked = asked, limit = limit);
    }
    note(span, result)
}

/// The most keys that are visited before the index lock is released for apply.
pub(super) const PORTION_KEYS: usize = 4096;

/// The most rows that one call of [`Store::reread_rows`] reads.
const REREAD_ROWS_MAX: usize = 4096;

/// The result of an attempt to answer a read at once.
#[derive(Debug)]
pub(crate) enum Attempt<A, P> {
    Answered(A),
    /// Its rows take more bytes than allowed. The plan can be read elsewhere.
    Planned(P),
    /// It may take long, and was not begun.
    Long,
}

impl Store {
    /// Answers the range request `id` (etcd: `txn.Range`), however large the answer is: for callers
    /// that know it to be small.
    pub(crate) fn range(&self, id: u64, request: &RangeRequest) -> Result<RangeResponse, Error> {
        let mut span = crate::stage!(MvccRange, id);
        let plan = self.plan_range(id, request, &mut 0);
        let mut plan = note_range(&mut span, request, plan)?;
        let (source, mut budget) = (Source::Published(&self.backend), usize::MAX);
        let answer = plan.whole(source, &mut budget, &mut span);
        Ok(answer.expect("the budget has no limit"))
    }

    /// Answers a range at once, unless it [may take long](is_long) or visits many keys, or its rows
    /// take more than `budget` bytes.
    pub(crate) fn small_range(
        &self,
        id: u64,
        request: &RangeRequest,
        mut budget: usize,
    ) -> Result<Attempt<RangeResponse, Plan>, Error> {
        if is_long(request) {
            return Ok(Attempt::Long);
        }
        let index = self.read();
        let source = Source::Published(&self.backend);
        let asker = Asker { id, ..Asker::default() };
        let reader = Reader { asker, index: &index, current: index.revision, source };
        if reader.visits_max(request) > PORTION_KEYS {
            return Ok(Attempt::Long);
        }
        let mut span = crate::stage!(MvccRange, id);
        let mut plan = note_range(&mut span, request, Plan::new(reader, request))?;
        drop(index);
        plan.settle();
        Ok(match plan.whole(source, &mut budget, &mut span) {
            Some(answer) => Attempt::Answered(answer),
            None => Attempt::Planned(plan),
        })
    }

    /// As [`Store::small_range`], with any number of bytes. Returns `None` if the range may take
    /// long.
    pub(crate) fn short_range(
        &self,
        id: u64,
        request: &RangeRequest,
    ) -> Result<Option<RangeResponse>, Error> {
        match self.small_range(id, request, usize::MAX)? {
            Attempt::Answered(answer) => Ok(Some(answer)),
            Attempt::Planned(_) => unreachable!("the budget has no limit"),
            Attempt::Long => Ok(None),
        }
    }

    /// Plans a range. Releases the index between portions of a long one. `planned` counts how often
    /// the request was planned.
    pub(crate) fn plan_range(
        &self,
        id: u64,
        request: &RangeRequest,
        planned: &mut u64,
    ) -> Result<Plan, Error> {
        // The rpc names the range.
        until_planned(planned, |again| {
            let asker = Asker { id, again, names_range: false };
            plan_in_portions(Pinned::new(self, asker), request).map(|(plan, _)| plan)
        })
    }

    /// An upper limit, in bytes, for the plans of these ranges; looks at no key.
    pub(crate) fn plan_bytes(&self, ranges: impl Iterator<Item = RangeRequest>) -> usize {
        let index = self.read();
        ranges.map(|range| bytes_max(&index.tree, &range)).sum()
    }

    /// As [`Store::plan_bytes`], for the ranges of a transaction that only reads.
    pub(crate) fn txn_plan_bytes(&self, request: &TxnRequest) -> usize {
        let ops = |ops: &[RequestOp]| self.plan_bytes(ops.iter().filter_map(as_range).cloned());
        ops(&request.success).max(ops(&request.failure))
    }

    /// Answers a transaction that only reads ([`check::txn_is_read_only`]), all of it at one
    /// revision, unless it [may take long](is_long_txn) or visits many keys, or its rows take more
    /// than `budget` bytes. The response to an operation that is not a range is empty.
    pub(crate) fn small_txn(
        &self,
        id: u64,
        request: &TxnRequest,
        mut budget: usize,
    ) -> Result<Attempt<TxnResponse, TxnReply>, Error> {
        if is_long_txn(request) || !self.visits_few_keys(request) {
            return Ok(Attempt::Long);
        }
        let mut reply = self.plan_txn(id, request, &mut 0)?;
        Ok(match reply.whole(id, Source::Published(&self.backend), &mut budget) {
            Some(answer) => Attempt::Answered(answer),
            None => Attempt::Planned(reply),
        })
    }

    /// Whether the ranges of a transaction that only reads visit few keys in sum.
    fn visits_few_keys(&self, request: &TxnRequest) -> bool {
        let index = self.read();
        let source = Source::Published(&self.backend);
        let asker = Asker::default();
        let reader = Reader { asker, index: &index, current: index.revision, source };
        let ranges = |ops: &[RequestOp]| {
            ops.iter().filter_map(as_range).map(|range| reader.visits_max(range)).sum::<usize>()
        };
        ranges(&request.success).max(ranges(&request.failure)) <= PORTION_KEYS
    }

    /// Plans a transaction that only reads. `planned`: as in [`Store::plan_range`].
    pub(crate) fn plan_txn(
        &self,
        id: u64,
        request: &TxnRequest,
        planned: &mut u64,
    ) -> Result<TxnReply, Error> {
        until_planned(planned, |again| {
            self.try_plan_txn(Asker { id, again, names_range: true }, request)
        })
    }

    fn try_plan_txn(&self, asker: Asker, request: &TxnRequest) -> Result<TxnReply, PlanError> {
        let mut pinned = Pinned::new(self, asker);
        let at = pinned.at;
        let succeeded;
        (succeeded, pinned) = choose_in_portions(pinned, request)?;
        let ops = if succeeded { &request.success } else { &request.failure };
        // All are checked before one is read. The one that is refused has its step nevertheless.
        let check = |range: &RangeRequest| {
            let checked = pinned.reader().check_range(range);
            checked.or_else(|error| {
                note_range(&mut crate::stage!(MvccRange, asker.id), range, Err(error))
            })
        };
        ops.iter().filter_map(as_range).try_for_each(check)?;
        let mut steps = Vec::with_capacity(ops.len() + 2);
        steps.push(ReplyStep::Enter(succeeded));
        for range in ops.iter().map(as_range) {
            let mut reply = None;
            if let Some(range) = range {
                let plan;
                (plan, pinned) = plan_in_portions(pinned, range)?;
                reply = Some(Reply::Range(plan));
            }
            steps.push(ReplyStep::Op(reply));
        }
        steps.push(ReplyStep::Leave);
        if 1 < ops.len() {
            recorded::TXNS.increment();
        }
        Ok(TxnReply { revision: at, steps })
    }

    /// Reads rows again that a reader at revision `at` has found, until `row` breaks or a limit is
    /// reached. The row of a revision never changes, so a row that still exists is correct, even if
    /// `at` has been compacted. Fails at the first row that a compaction has deleted.
    pub(crate) fn reread_rows(
        &self,
        id: u64,
        at: i64,
        keys: &[[u8; ROW_KEY_LEN]],
        mut row: impl FnMut(Bytes) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let keys = &keys[..keys.len().min(REREAD_ROWS_MAX)];
        let mut view = self.backend.view(id, keys);
        let mut is_missing = false;
        let _ = self.backend.find_rows(&mut view, keys, |found| match found {
            Some(bytes) => row(bytes),
            None => {
                is_missing = true;
                ControlFlow::Break(())
            }
        });
        if !is_missing {
            return Ok(());
        }
        if self.read().compacted <= at {
            self.backend.malformed("key bucket: a revision of the index has no row")
        }
        Err(Error::Compacted)
    }
}

/// Why a read was not planned.
enum PlanError {
    /// It asks for something that cannot be read.
    Refused(Error),
    /// Its revision was compacted while the index was unlocked: begin again.
    Overtaken,
}

impl From<Error> for PlanError {
    fn from(error: Error) -> PlanError {
        PlanError::Refused(error)
    }
}

/// Plans a read, again if a compaction overtakes it. `plan` receives how often it has begun before.
fn until_planned<T>(
    planned: &mut u64,
    mut plan: impl FnMut(u64) -> Result<T, PlanError>,
) -> Result<T, Error> {
    loop {
        let again = *planned;
        *planned += 1;
        match plan(again) {
            Ok(planned) => return Ok(planned),
            Err(PlanError::Refused(error)) => return Err(error),
            Err(PlanError::Overtaken) => {}
        }
    }
}

/// A reader that stays at one revision, although it releases the index from time to time.
struct Pinned<'s> {
    store: &'s Store,
    index: RwLockReadGuard<'s, Index>,
    asker: Asker,
    at: i64,
    /// Upper limit for the keys visited since the index was locked.
    visited: usize,
}

impl<'s> Pinned<'s> {
    /// A reader at the newest revision.
    fn new(store: &'s Store, asker: Asker) -> Pinned<'s> {
        let index = store.read();
        let at = index.revision;
        Pinned { store, index, asker, at, visited: 0 }
    }

    fn reader(&self) -> Reader<'_> {
        let source = Source::Published(&self.store.backend);
        Reader { asker: self.asker, index: &self.index, current: self.at, source }
    }

    /// Does `work` while the index is unlocked. Fails if the reader's revision was compacted
    /// meanwhile.
    fn unlocked<T>(self, work: impl FnOnce() -> T) -> Result<(T, Pinned<'s>), PlanError> {
        let at = self.at;
        self.unlocked_at(at, work)
    }

    /// As [`Pinned::unlocked`], for a range that reads at an older revision than the reader's.
    fn unlocked_at<T>(
        self,
        oldest: i64,
        work: impl FnOnce() -> T,
    ) -> Result<(T, Pinned<'s>), PlanError> {
        let Pinned { store, index, asker, at, .. } = self;
        drop(index);
        let result = work();
        let index = store.read();
        if index.compacted > oldest {
            return Err(PlanError::Overtaken);
        }
        Ok((result, Pinned { store, index, asker, at, visited: 0 }))
    }

    /// Prepares to visit up to `keys` keys, at most a portion, at revision `at`. Releases the index
    /// first if too many were visited since it was locked.
    fn ready_for(mut self, keys: usize, at: i64) -> Result<Pinned<'s>, PlanError> {
        if PORTION_KEYS < self.visited + keys {
            ((), self) = self.unlocked_at(at, || fail::fail_point!("range-portion"))?;
        }
        self.visited += keys;
        Ok(self)
    }

    /// Calls `f` for each key of a range that existed at revision `at`, in order. After `f` has
    /// returned false, it may still be called for the rest of the portion. Releases the index
    /// between portions. Returns how many keys were visited.
    fn visit(
        mut self,
        range: KeyRange<'_>,
        at: i64,
        mut f: impl FnMut(KeyMeta) -> bool,
    ) -> Result<(usize, Pinned<'s>), PlanError> {
        let (mut after, mut needs_more, mut visited) = (None, true, 0);
        loop {
            let keys = self.index.tree.keys_max(range).min(PORTION_KEYS);
            self = self.ready_for(keys, at)?;
            let portion = Portion { after: after.as_ref(), limit: PORTION_KEYS };
            let tree = &self.index.tree;
            let some;
            (after, some) = tree.visit_some(range, at, portion, |_, it| needs_more = f(it));
            visited += some;
            if after.is_none() || !needs_more {
                return Ok((visited, self));
            }
        }
    }
}

/// Plans a range, and releases the index after each portion of its keys. Rows are looked up after
/// the last portion. They still exist if no compaction has passed their revision by then.
fn plan_in_portions<'s>(
    mut pinned: Pinned<'s>,
    request: &RangeRequest,
) -> Result<(Plan, Pinned<'s>), PlanError> {
    let (asker, range) = (pinned.asker, KeyRange::of(request));
    let visits_max = pinned.reader().visits_max(request);
    if visits_max <= PORTION_KEYS {
        let at = if request.revision > 0 { request.revision } else { pinned.at };
        pinned = pinned.ready_for(visits_max, at)?;
        let mut plan = Plan::new(pinned.reader(), request)?;
        // A plan must not keep its view of the buffers open while the next one is made.
        plan.settle();
        return Ok((plan, pinned));
    }
    let mut plan = Plan::begin(pinned.reader(), request)?;
    let at = plan.at();
    let mut span = asker.portions(range);
    let mut collector = Collector::new(request, pinned.index.tree.count_if_newest(range, at));
    let visit = pinned.visit(range, at, |it| {
        collector.add(it);
        !collector.is_full()
    });
    // It is repeated as a whole.
    let (visited, pinned) = visit.inspect_err(|_| span.discard())?;
    crate::set!(span, TreeIndexGet, visited = visited);
    let source = Source::Published(&pinned.store.backend);
    let ((), pinned) = pinned.unlocked_at(at, || plan.fill(collector, source, (asker, span)))?;
    Ok((plan, pinned))
}

/// Whether the comparisons of a transaction hold.
fn choose_in_portions<'s>(
    mut pinned: Pinned<'s>,
    request: &TxnRequest,
) -> Result<(bool, Pinned<'s>), PlanError> {
    let mut left = COMPARES_RECORDED;
    let mut choice = Choice::begin(pinned.asker, (0, request), left);
    let mut succeeded = true;
    for compare in &request.compare {
        let mut span = choice.compare(compare, &mut left);
        let outcome;
        (outcome, pinned) = compare_in_portions(pinned, compare).inspect_err(|_| {
            span.iter_mut().for_each(Span::discard);
            choice.discard();
        })?;
        outcome.record(span);
        succeeded = outcome.holds;
        if !succeeded {
            break;
        }
    }
    choice.end(succeeded);
    Ok((succeeded, pinned))
}

/// Evaluates a comparison, and releases the index after each portion of its keys and while it reads
/// rows. The rows still exist if no compaction has passed the reader's revision when they are
/// looked up.
fn compare_in_portions<'s>(
    pinned: Pinned<'s>,
    compare: &Compare,
) -> Result<(Outcome, Pinned<'s>), PlanError> {
    let (asker, at, range) =
        (pinned.asker, pinned.at, KeyRange::new(&compare.key, &compare.range_end));
    let mut comparing = Comparing::new(compare);
    let (_, pinned) = pinned.visit(range, at, |it| comparing.add(it))?;
    let rows = match comparing.finish() {
        Comparison::Decided(outcome) => return Ok((outcome, pinned)),
        Comparison::ByRows(rows) => rows,
    };
    let source = Source::Published(&pinned.store.backend);
    let (view, pinned) = match rows.len() {
        ..=PORTION_KEYS => (source.view(asker, &rows), pinned),
        _ => pinned.unlocked(|| source.view(asker, &rows))?,
    };
    pinned.unlocked(|| rows_satisfy(compare, &rows, view, source))
}

/// Whether a range may take long, judged by the request alone: it has more than one key, and it has
/// no limit, or a large one, or one that applies only after all keys have been read. Such a range
/// belongs on a blocking thread ([`crate::server::long_reads`]). [`Store::small_range`] finds the
/// other ranges that visit many keys.
pub(crate) fn is_long(request: &RangeRequest) -> bool {
    if request.count_only {
        return false;
    }
    let rows = rows_max(request);
    !request.range_end.is_empty() && rows.is_none_or(|rows| rows > SHORT_ROWS_MAX + 1)
}

/// Whether a transaction that only reads may take long: it has a long range, or a comparison of
/// more than one key.
pub(crate) fn is_long_txn(request: &TxnRequest) -> bool {
    request.compare.iter().any(|compare| !compare.range_end.is_empty())
        || request.success.iter().chain(&request.failure).filter_map(as_range).any(is_long)
}

fn as_range(op: &RequestOp) -> Option<&RangeRequest> {
    match &op.request {
        Some(Request::RequestRange(range)) => Some(range),
        _ => None,
    }
}

impl Reader<'_> {
    /// The most keys that a range visits.
    fn visits_max(self, request: &RangeRequest) -> usize {
        let at = if request.revision > 0 { request.revision } else { self.current };
        if request.count_only && self.index.tree.is_newest(at) {
            return 0;
        }
        self.index.tree.visits_max(KeyRange::of(request), at, rows_max(request))
    }

    /// Whether a transaction may contain this range (etcd: `checkRange`). In a range on its own any
    /// negative revision means the newest; here, one below the compacted revision is refused.
    pub(super) fn check_range(self, request: &RangeRequest) -> Result<(), Error> {
        check::check_sort(request)?;
        if request.revision > self.current {
            return Err(Error::FutureRevision);
        }
        if request.revision != 0 && request.revision < self.index.compacted {
            return Err(Error::Compacted);
        }
        Ok(())
    }
}

/// The most rows that a range reads; `None` if it reads the rows of all its keys, since it sorts or
/// filters them first, or has no limit. As in etcd, a sort *target* without an order does not sort
/// all keys.
fn rows_max(request: &RangeRequest) -> Option<usize> {
    if request.sort_order != SortOrder::None as i32 || filters_revisions(request) {
        return None;
    }
    usize::try_from(request.limit).ok().filter(|limit| *limit > 0).map(|limit| limit + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_long_if_it_may_read_many_rows_even_if_it_returns_few() {
        let all = RangeRequest { range_end: "\0".into(), ..RangeRequest::default() };
        for (request, expected) in [
            (RangeRequest::default(), false),
            (RangeRequest { sort_order: SortOrder::Descend as i32, ..Default::default() }, false),
            (all.clone(), true),
            (RangeRequest { limit: -1, ..all.clone() }, true),
            (RangeRequest { limit: 128, ..all.clone() }, false),
            (RangeRequest { limit: 129, ..all.clone() }, true),
            (RangeRequest { limit: i64::MAX, ..all.clone() }, true),
            (RangeRequest { limit: 1, sort_order: SortOrder::Ascend as i32, ..all.clone() }, true),
            (RangeRequest { limit: 1, min_mod_revision: 2, ..all.clone() }, true),
            (RangeRequest { count_only: true, ..all.clone() }, false),
        ] {
            assert_eq!(is_long(&request), expected, "{request:?}");
        }
    }

    #[test]
    fn a_transaction_is_long_if_one_of_its_ranges_or_comparisons_is() {
        let range = |range_end: &'static str| RequestOp {
            request: Some(Request::RequestRange(RangeRequest {
                range_end: range_end.into(),
                ..RangeRequest::default()
            })),
        };
        let mut request = TxnRequest { success: vec![range(""); 100], ..TxnRequest::default() };
        request.compare = vec![Compare::default()];
        assert!(!is_long_txn(&request));
        request.failure.push(range("\0"));
        assert!(is_long_txn(&request));
        request.failure.clear();
        request.compare[0].range_end = "\0".into();
        assert!(is_long_txn(&request));
    }
}
