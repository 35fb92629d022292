//! Reading the key space at one revision (etcd: `storeTxnRead`, `txn.Range`).
//!
//! What a range is made of is in [`super::plan`].
//!
//! A transaction that only reads has many ranges, and comparisons before them, and could hold up
//! apply for as long as all of them take. So it chooses its revision once, and lets go of the lock
//! after everything that may be long:
//!
//! ```text
//!   lock: revision 9 ─▶ compare ─┐ rows  ┌─▶ compare ─┐ rows  ┌─▶ plan, plan, … ─┐ finish all
//!                                └───────┘            └───────┘                  └────────────▶
//!                    compacted beyond 9 meanwhile? begin again, at the newest revision
//! ```

use std::{ops::ControlFlow, sync::RwLockReadGuard};

use bytes::Bytes;

use super::{
    Index, Store,
    plan::{Plan, Sieve, bytes_at_most},
    reader::{Reader, Source},
    reply::{Part, Reply, TxnReply},
    tree_index::KeyRange,
};
use crate::{
    pb::{
        etcdserverpb::{
            Compare, RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse,
            compare::{CompareResult, CompareTarget, TargetUnion},
            range_request::SortOrder,
            request_op::Request,
        },
        mvccpb::KeyValue,
    },
    server::{Error, check},
    storage::backend::View,
};

impl Store {
    /// Answers a range request `id` (etcd: `txn.Range`), however large the answer becomes: for those
    /// who know that it is small.
    pub fn range(&self, id: u64, request: &RangeRequest) -> Result<RangeResponse, Error> {
        let mut span = crate::stage!(MvccRange, id);
        let mut plan = self.plan_range(id, request)?;
        let source = Source::Published(&self.backend);
        let answer = plan.whole(source, &mut usize::MAX.clone(), &mut span);
        Ok(answer.expect("nothing is beyond the budget"))
    }

    /// Answers a range at once. Returns `None` if it [may take long](is_long) or visits many keys,
    /// and as soon as the answer takes more than `budget` bytes.
    pub fn small_range(
        &self,
        id: u64,
        request: &RangeRequest,
        mut budget: usize,
    ) -> Result<Option<RangeResponse>, Error> {
        if is_long(request) {
            return Ok(None);
        }
        let mut span = crate::stage!(MvccRange, id);
        let index = self.read();
        let source = Source::Published(&self.backend);
        let reader = Reader { id, index: &index, current: index.revision, source };
        if reader.visits(request) > PORTION {
            return Ok(None);
        }
        let mut plan = Plan::new(reader, request)?;
        drop(index);
        plan.settle();
        Ok(plan.whole(source, &mut budget, &mut span))
    }

    /// Plans a range. A long one lets go of the index now and then.
    pub(crate) fn plan_range(&self, id: u64, request: &RangeRequest) -> Result<Plan, Error> {
        loop {
            match plan_long(Pinned::new(self, id), request) {
                Ok((plan, _)) => return Ok(plan),
                Err(Stop::Refused(error)) => return Err(error),
                Err(Stop::Overtaken) => {}
            }
        }
    }

    /// The most memory that the plans of these ranges take; looks at no key.
    pub(crate) fn plan_bytes(&self, ranges: impl Iterator<Item = RangeRequest>) -> usize {
        let index = self.read();
        ranges.map(|range| bytes_at_most(&index.tree, &range)).sum()
    }

    /// As [`Store::plan_bytes`], for the ranges of a transaction that only reads.
    pub(crate) fn txn_plan_bytes(&self, request: &TxnRequest) -> usize {
        let ops = |ops: &[RequestOp]| self.plan_bytes(ops.iter().filter_map(as_range).cloned());
        ops(&request.success).max(ops(&request.failure))
    }

    /// Answers a transaction that only reads ([`check::txn_is_read_only`]), all of it at one
    /// revision. Operations that are no ranges are answered with nothing. Returns `None` if it [may
    /// take long](is_long_txn) or visits many keys, and as soon as the answer takes more than
    /// `budget` bytes.
    pub fn small_txn(
        &self,
        id: u64,
        request: &TxnRequest,
        mut budget: usize,
    ) -> Result<Option<TxnResponse>, Error> {
        if is_long_txn(request) || !self.is_short_txn(request) {
            return Ok(None);
        }
        let mut reply = self.plan_txn(id, request)?;
        Ok(reply.whole(id, Source::Published(&self.backend), &mut budget))
    }

    /// Whether the ranges of a transaction that only reads visit few keys, all of them together.
    fn is_short_txn(&self, request: &TxnRequest) -> bool {
        let index = self.read();
        let source = Source::Published(&self.backend);
        let reader = Reader { id: 0, index: &index, current: index.revision, source };
        let ranges = |ops: &[RequestOp]| {
            ops.iter().filter_map(as_range).map(|range| reader.visits(range)).sum::<usize>()
        };
        ranges(&request.success).max(ranges(&request.failure)) <= PORTION
    }

    /// Plans a transaction that only reads.
    pub(crate) fn plan_txn(&self, id: u64, request: &TxnRequest) -> Result<TxnReply, Error> {
        loop {
            match self.try_plan_txn(id, request) {
                Ok(reply) => return Ok(reply),
                Err(Stop::Refused(error)) => return Err(error),
                Err(Stop::Overtaken) => {}
            }
        }
    }

    fn try_plan_txn(&self, id: u64, request: &TxnRequest) -> Result<TxnReply, Stop> {
        let source = Source::Published(&self.backend);
        let mut pinned = Pinned::new(self, id);
        let at = pinned.at;
        let mut succeeded = true;
        for compare in &request.compare {
            let verdict = pinned.reader().judge(compare);
            if matches!(verdict, Verdict::Known(_)) && compare.range_end.is_empty() {
                succeeded = verdict.holds(compare, source);
            } else {
                (succeeded, pinned) = pinned.without(|| verdict.holds(compare, source))?;
            }
            if !succeeded {
                break;
            }
        }
        let ops = if succeeded { &request.success } else { &request.failure };
        ops.iter().filter_map(as_range).try_for_each(|it| pinned.reader().check_range(it))?;
        let mut parts = Vec::with_capacity(ops.len() + 2);
        parts.push(Part::Enter(succeeded));
        for range in ops.iter().map(as_range) {
            let mut plan = None;
            if let Some(range) = range {
                let planned = plan_long(pinned, range)?;
                (plan, pinned) = (Some(Reply::Range(planned.0)), planned.1);
            }
            parts.push(Part::Op(plan));
        }
        parts.push(Part::Leave);
        Ok(TxnReply { revision: at, parts })
    }

    /// Reads rows that a reader at revision `at` has found, again, until `row` breaks or there are
    /// enough. A revision's row never changes, so what is still there is right, also when `at` has
    /// been compacted. Fails at the first row that a compaction has taken away.
    pub(crate) fn rows_again(
        &self,
        id: u64,
        at: i64,
        keys: &[[u8; 17]],
        mut row: impl FnMut(Bytes) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let keys = &keys[..keys.len().min(ROWS_AGAIN)];
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

/// The keys of a range that are older than a revision.
#[derive(Debug)]
pub(crate) struct Older {
    /// The youngest of them, and when it was created.
    pub(crate) youngest: Option<(Bytes, i64)>,
    /// How many there are.
    pub(crate) count: usize,
    /// The revision as of which this holds.
    pub(crate) revision: i64,
}

impl Store {
    /// Which keys of the range were created before that revision and are still there. Reads no row.
    pub(crate) fn older(&self, request: &RangeRequest, revision: i64) -> Older {
        let index = self.read();
        let mut older = Older { youngest: None, count: 0, revision: index.revision };
        let range = KeyRange::new(&request.key, &request.range_end);
        index.tree.visit(range, index.revision, |key, it| {
            let created = it.created.main;
            if revision <= created {
                return;
            }
            older.count += 1;
            if older.youngest.as_ref().is_none_or(|(_, youngest)| *youngest < created) {
                older.youngest = Some((key.clone(), created));
            }
        });
        older
    }
}

/// Why a transaction that only reads does not go on.
enum Stop {
    /// It asks for what cannot be read.
    Refused(Error),
    /// Its revision was compacted while it had let go of the lock.
    Overtaken,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Refused(error)
    }
}

/// A reader that stays at one revision although it lets go of the index now and then.
struct Pinned<'s> {
    store: &'s Store,
    index: RwLockReadGuard<'s, Index>,
    id: u64,
    at: i64,
}

impl<'s> Pinned<'s> {
    fn new(store: &'s Store, id: u64) -> Pinned<'s> {
        let index = store.read();
        let at = index.revision;
        Pinned { store, index, id, at }
    }

    fn reader(&self) -> Reader<'_> {
        let source = Source::Published(&self.store.backend);
        Reader { id: self.id, index: &self.index, current: self.at, source }
    }

    /// Does `work` while the index is free. Fails if a compaction has passed what is read.
    fn without<T>(self, work: impl FnOnce() -> T) -> Result<(T, Pinned<'s>), Stop> {
        let at = self.at;
        self.without_at(at, work)
    }

    /// As [`Pinned::without`], for a range that reads at an older revision.
    fn without_at<T>(self, oldest: i64, work: impl FnOnce() -> T) -> Result<(T, Pinned<'s>), Stop> {
        let Pinned { store, index, id, at } = self;
        drop(index);
        let result = work();
        let index = store.read();
        if index.compacted > oldest {
            return Err(Stop::Overtaken);
        }
        Ok((result, Pinned { store, index, id, at }))
    }
}

/// Plans a range, and lets go of the index after each portion of its keys. Rows are looked up
/// behind the last one: they are still there if no compaction has passed them when that is done.
fn plan_long<'s>(
    mut pinned: Pinned<'s>,
    request: &RangeRequest,
) -> Result<(Plan, Pinned<'s>), Stop> {
    let (id, range) = (pinned.id, KeyRange::new(&request.key, &request.range_end));
    if pinned.reader().visits(request) <= PORTION {
        let mut plan = Plan::new(pinned.reader(), request)?;
        // Each plan's look into the buffers ends before the next one's begins.
        plan.settle();
        return Ok((plan, pinned));
    }
    let mut plan = Plan::begin(pinned.reader(), request)?;
    let at = plan.at();
    let mut span = crate::stage!(TreeIndexGet, id);
    let mut sieve = Sieve::new(request, pinned.index.tree.count_at_once(range, at));
    let mut after = None;
    loop {
        let portion = (after.as_ref(), PORTION);
        after = pinned.index.tree.visit_some(range, at, portion, |it| sieve.put(it));
        if after.is_none() || sieve.is_full() {
            break;
        }
        ((), pinned) = pinned.without_at(at, || fail::fail_point!("range-portion"))?;
    }
    crate::set!(span, TreeIndexGet, revisions = sieve.total());
    drop(span);
    let source = Source::Published(&pinned.store.backend);
    let ((), pinned) = pinned.without_at(at, || plan.fill(sieve, source, id))?;
    Ok((plan, pinned))
}

/// How many keys of a range are visited under the index lock before it is free for others.
const PORTION: usize = 4096;

/// The most rows that are read again at a time.
const ROWS_AGAIN: usize = 4096;

/// Ranges that read up to this many rows are answered at once.
const SHORT: usize = 128;

/// Whether a range may take long, whatever the index holds: it has more than one key and no limit,
/// or a large one, or a limit that applies only after all keys have been read. Such a range belongs
/// on a blocking thread ([`crate::server::long_reads`]). [`Store::small_range`] finds the other
/// ranges that visit many keys.
pub fn is_long(request: &RangeRequest) -> bool {
    if request.count_only {
        return false;
    }
    let rows = fetch_limit(request);
    !request.range_end.is_empty() && (rows == 0 || rows > SHORT + 1)
}

/// Whether a transaction that only reads may take long: one of its ranges does, or a comparison
/// of more than one key.
pub fn is_long_txn(request: &TxnRequest) -> bool {
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
    /// How many keys a range visits, at most.
    fn visits(self, request: &RangeRequest) -> usize {
        let range = KeyRange::new(&request.key, &request.range_end);
        let at = if request.revision > 0 { request.revision } else { self.current };
        if request.count_only && self.index.tree.is_present(at) {
            return 0;
        }
        self.index.tree.visits(range, at, fetch_limit(request))
    }

    /// Whether a transaction may contain this range (etcd: `checkRange`). Unlike a plain range,
    /// which takes any negative revision for "now", it refuses those below the compacted one.
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

    /// Whether all of a transaction's comparisons hold (etcd: `applyCompares`).
    pub(super) fn holds(self, request: &TxnRequest) -> bool {
        request.compare.iter().all(|compare| self.judge(compare).holds(compare, self.source))
    }

    /// Every key of the range must satisfy the comparison. Where there is none, a missing key
    /// compares as zero; only its value compares with nothing, not even as "not equal", because
    /// a request cannot tell a missing value from an empty one.
    fn judge(self, compare: &Compare) -> Verdict {
        let target = CompareTarget::try_from(compare.target).ok();
        let mut found = Vec::new();
        let range = KeyRange::new(&compare.key, &compare.range_end);
        self.index.tree.visit(range, self.current, |_, it| found.push(it));
        if found.is_empty() {
            let holds =
                target != Some(CompareTarget::Value) && satisfies(compare, &KeyValue::default());
            return Verdict::Known(holds);
        }
        if matches!(target, Some(CompareTarget::Value | CompareTarget::Lease)) {
            let keys: Vec<_> = found.iter().map(|it| it.modified.row_key()).collect();
            let view = self.source.view(self.id, &keys);
            return Verdict::Rows(keys, view);
        }
        // The rest stands in the index.
        Verdict::Known(found.iter().all(|it| {
            let kv = KeyValue {
                create_revision: it.created.main,
                mod_revision: it.modified.main,
                version: it.version,
                ..KeyValue::default()
            };
            satisfies(compare, &kv)
        }))
    }
}

/// What the index says about a comparison.
enum Verdict {
    /// All that is needed.
    Known(bool),
    /// Which rows decide, and what the buffer has of them.
    Rows(Vec<[u8; 17]>, View),
}

impl Verdict {
    /// Whether the comparison holds; reads the rows if it must, one after the other.
    fn holds(self, compare: &Compare, source: Source<'_>) -> bool {
        match self {
            Verdict::Known(holds) => holds,
            Verdict::Rows(keys, mut view) => {
                let judged = source.each_row(&mut view, &keys, |row| {
                    if satisfies(compare, &source.decode(row)) {
                        ControlFlow::Continue(())
                    } else {
                        ControlFlow::Break(())
                    }
                });
                judged.is_continue()
            }
        }
    }
}

/// How many rows a range reads at most; 0 if that depends on how many keys there are. It reads them
/// all if they must be sorted or filtered first. As in etcd, a sort *target* alone does not count.
fn fetch_limit(request: &RangeRequest) -> usize {
    let narrowed = request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0;
    if request.sort_order != SortOrder::None as i32 || narrowed {
        return 0;
    }
    usize::try_from(request.limit).map_or(0, |limit| if limit == 0 { 0 } else { limit + 1 })
}

/// Compares one key (etcd: `compareKV`). A target without its value compares with zero.
fn satisfies(compare: &Compare, kv: &KeyValue) -> bool {
    let union = compare.target_union.as_ref();
    let number = |pick: fn(&TargetUnion) -> Option<i64>| union.and_then(pick).unwrap_or(0);
    let order = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Value) => {
            let value: &[u8] = match union {
                Some(TargetUnion::Value(value)) => value,
                _ => &[],
            };
            kv.value.as_ref().cmp(value)
        }
        Ok(CompareTarget::Version) => kv.version.cmp(&number(as_version)),
        Ok(CompareTarget::Create) => kv.create_revision.cmp(&number(as_create)),
        Ok(CompareTarget::Mod) => kv.mod_revision.cmp(&number(as_mod)),
        Ok(CompareTarget::Lease) => kv.lease.cmp(&number(as_lease)),
        Err(_) => std::cmp::Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => order.is_eq(),
        Ok(CompareResult::NotEqual) => order.is_ne(),
        Ok(CompareResult::Greater) => order.is_gt(),
        Ok(CompareResult::Less) => order.is_lt(),
        Err(_) => true,
    }
}

fn as_version(union: &TargetUnion) -> Option<i64> {
    if let TargetUnion::Version(it) = union { Some(*it) } else { None }
}

fn as_create(union: &TargetUnion) -> Option<i64> {
    if let TargetUnion::CreateRevision(it) = union { Some(*it) } else { None }
}

fn as_mod(union: &TargetUnion) -> Option<i64> {
    if let TargetUnion::ModRevision(it) = union { Some(*it) } else { None }
}

fn as_lease(union: &TargetUnion) -> Option<i64> {
    if let TargetUnion::Lease(it) = union { Some(*it) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_long_if_it_reads_many_rows_whatever_it_returns() {
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
    fn a_transaction_is_long_if_a_range_or_a_comparison_is() {
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
