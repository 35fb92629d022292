//! Reading the key space at one revision (etcd: `storeTxnRead`, `txn.Range`).
//!
//! A range has two halves. The **plan** is made under the index lock: which revisions, how many
//! keys in all, what the write buffer has of them. It is **finished** without the lock: the rest
//! of the rows, filters, order, limit.
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

use std::sync::RwLockReadGuard;

use bytes::Bytes;
use prost::Message;

use super::{
    Revision,
    key_index::Found,
    store::{Index, Store},
    tree_index::KeyRange,
};
use crate::{
    pb::{
        etcdserverpb::{
            Compare, RangeRequest, RangeResponse, RequestOp, ResponseHeader, ResponseOp,
            TxnRequest, TxnResponse,
            compare::{CompareResult, CompareTarget, TargetUnion},
            range_request::{SortOrder, SortTarget},
            request_op::Request,
            response_op::Response,
        },
        mvccpb::KeyValue,
    },
    server::{Error, check},
    storage::backend::{Backend, View, WriteGuard},
    trace::Span,
};

/// A header as apply makes it: the member's interceptor fills in the rest.
pub(crate) fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..ResponseHeader::default() })
}

/// The first half of a range.
pub(super) struct Plan<'r> {
    request: &'r RangeRequest,
    /// The newest revision, for the header.
    revision: i64,
    total: usize,
    /// The rows to read, unless only the count is wanted.
    rows: Option<(Vec<[u8; 17]>, View)>,
    span: Span,
}

/// Where rows are read: by readers in the backend, by the writer in its guard.
#[derive(Clone, Copy)]
pub(super) enum Source<'s> {
    /// What is published.
    Published(&'s Backend),
    /// What the writer itself has just written, too.
    Writing(&'s WriteGuard<'s>),
}

/// Who reads, and as of when.
#[derive(Clone, Copy)]
pub(super) struct Reader<'s> {
    /// The request.
    pub(super) id: u64,
    pub(super) index: &'s Index,
    /// The newest revision that the reader sees, which for a writer is its own.
    pub(super) current: i64,
    pub(super) source: Source<'s>,
}

impl Source<'_> {
    fn view(self, id: u64, keys: &[[u8; 17]]) -> View {
        match self {
            Source::Published(backend) => backend.view(id, keys),
            Source::Writing(guard) => guard.view(id, keys),
        }
    }

    fn resolve(self, view: View, keys: &[[u8; 17]]) -> Vec<Bytes> {
        match self {
            Source::Published(backend) => backend.resolve(view, keys),
            Source::Writing(guard) => guard.resolve(view, keys),
        }
    }

    /// A row that the index names and that cannot be read ends the member.
    fn decode(self, row: Bytes) -> KeyValue {
        const ROW: &str = "key bucket: a row is no key-value pair";
        match (KeyValue::decode(row), self) {
            (Ok(kv), _) => kv,
            (Err(_), Source::Published(backend)) => backend.malformed(ROW),
            (Err(_), Source::Writing(guard)) => guard.malformed(ROW),
        }
    }
}

impl Store {
    /// Answers a range request `id` (etcd: `txn.Range`). Large answers take time: call it where
    /// that does not hold up others.
    pub fn range(&self, id: u64, request: &RangeRequest) -> Result<RangeResponse, Error> {
        let source = Source::Published(&self.backend);
        let index = self.read();
        let reader = Reader { id, index: &index, current: index.revision, source };
        let plan = Plan::new(reader, request)?;
        drop(index);
        Ok(plan.finish(source))
    }

    /// Answers a transaction that only reads ([`check::txn_is_read_only`]), all of it at one
    /// revision. Operations that are no ranges are answered with nothing.
    pub fn read_txn(&self, id: u64, request: &TxnRequest) -> Result<TxnResponse, Error> {
        loop {
            match self.try_read_txn(id, request) {
                Ok(response) => return Ok(response),
                Err(Stop::Refused(error)) => return Err(error),
                Err(Stop::Overtaken) => {}
            }
        }
    }

    fn try_read_txn(&self, id: u64, request: &TxnRequest) -> Result<TxnResponse, Stop> {
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
        let mut plans = Vec::with_capacity(ops.len());
        for range in ops.iter().map(as_range) {
            plans.push(range.map(|range| Plan::new(pinned.reader(), range)).transpose()?);
            if range.is_some_and(is_long) {
                ((), pinned) = pinned.without(|| ())?;
            }
        }
        drop(pinned);
        let finish = |plan: Plan<'_>| Response::ResponseRange(plan.finish(source));
        let responses =
            plans.into_iter().map(|plan| ResponseOp { response: plan.map(finish) }).collect();
        Ok(TxnResponse { header: header(at), succeeded, responses })
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

    /// Does `work` while the index is free.
    fn without<T>(self, work: impl FnOnce() -> T) -> Result<(T, Pinned<'s>), Stop> {
        let Pinned { store, index, id, at } = self;
        drop(index);
        let result = work();
        let index = store.read();
        if index.compacted > at {
            return Err(Stop::Overtaken);
        }
        Ok((result, Pinned { store, index, id, at }))
    }
}

/// Ranges that read up to so many rows are answered at once.
const SHORT: usize = 128;

/// Whether a range may take long: more than one key, and no limit, or a large one, or one that
/// counts only when all rows have been read. Such a range belongs on a thread that nobody waits for.
pub fn is_long(request: &RangeRequest) -> bool {
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
    /// Whether the comparison holds; reads the rows if it must.
    fn holds(self, compare: &Compare, source: Source<'_>) -> bool {
        match self {
            Verdict::Known(holds) => holds,
            Verdict::Rows(keys, view) => {
                let rows = source.resolve(view, &keys);
                rows.into_iter().all(|row| satisfies(compare, &source.decode(row)))
            }
        }
    }
}

impl<'r> Plan<'r> {
    /// Looks up the revisions and what the buffer has of them.
    pub(super) fn new(reader: Reader<'_>, request: &'r RangeRequest) -> Result<Plan<'r>, Error> {
        let Reader { id, index, current, source } = reader;
        let mut span = crate::stage!(MvccRange, id);
        check::check_sort(request)?;
        if request.revision > current {
            return Err(Error::FutureRevision);
        }
        let at = if request.revision > 0 { request.revision } else { current };
        if at < index.compacted {
            return Err(Error::Compacted);
        }
        crate::set!(span, MvccRange, revision = at);
        let range = KeyRange::new(&request.key, &request.range_end);
        if request.count_only {
            let total = index.tree.count(range, at);
            return Ok(Plan { request, revision: current, total, rows: None, span });
        }
        let found = match Chosen::by_index(request) {
            Some(chosen) => index.tree.chosen(id, range, at, |all| chosen.cut(all)),
            None => index.tree.revisions(id, range, at, fetch_limit(request)),
        };
        let keys: Vec<_> = found.revisions.into_iter().map(Revision::row_key).collect();
        let view = source.view(id, &keys);
        let rows = Some((keys, view));
        Ok(Plan { request, revision: current, total: found.total, rows, span })
    }

    /// Reads the rows, filters, sorts and cuts them.
    pub(super) fn finish(mut self, source: Source<'_>) -> RangeResponse {
        let rows = self.rows.map(|(keys, view)| source.resolve(view, &keys)).unwrap_or_default();
        let bytes: usize = rows.iter().map(Bytes::len).sum();
        let mut kvs: Vec<_> = rows.into_iter().map(|row| source.decode(row)).collect();
        filter(&mut kvs, self.request);
        sort(&mut kvs, self.request);
        let limit = usize::try_from(self.request.limit).unwrap_or(0);
        let more = limit > 0 && kvs.len() > limit;
        if more {
            kvs.truncate(limit);
        }
        if self.request.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        crate::set!(self.span, MvccRange, keys = kvs.len(), bytes = bytes, total = self.total);
        let count = i64::try_from(self.total).unwrap_or(i64::MAX);
        RangeResponse { header: header(self.revision), kvs, more, count }
    }
}

/// How many rows to read: one more than wanted, to know whether there are more. All of them (0)
/// if they must be sorted or filtered first. As in etcd, a sort *target* alone does not count:
/// then the first rows by key are sorted among themselves.
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

/// The first few rows by something that stands in the index: the oldest key of a queue, say. Only
/// these are read, in place of all that there are; what [`finish`](Plan::finish) does to them
/// changes nothing any more.
struct Chosen<'r> {
    request: &'r RangeRequest,
    limit: usize,
}

impl<'r> Chosen<'r> {
    fn by_index(request: &'r RangeRequest) -> Option<Chosen<'r>> {
        let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0)?;
        let target = SortTarget::try_from(request.sort_target).unwrap_or_default();
        let is_known = matches!(target, SortTarget::Version | SortTarget::Create | SortTarget::Mod);
        let is_sorted = request.sort_order != SortOrder::None as i32;
        (is_known && is_sorted).then_some(Chosen { request, limit })
    }

    /// Leaves one more than wanted, to know whether there are more.
    fn cut(&self, all: &mut Vec<Found>) {
        all.retain(|it| is_wanted(self.request, it.modified.main, it.created.main));
        let target = SortTarget::try_from(self.request.sort_target).unwrap_or_default();
        let by = |it: &Found| match target {
            SortTarget::Version => it.version,
            SortTarget::Create => it.created.main,
            SortTarget::Key | SortTarget::Mod | SortTarget::Value => it.modified.main,
        };
        if self.request.sort_order == SortOrder::Descend as i32 {
            all.sort_by_key(|it| std::cmp::Reverse(by(it)));
        } else {
            all.sort_by_key(by);
        }
        all.truncate(self.limit.saturating_add(1));
    }
}

fn is_wanted(request: &RangeRequest, modified: i64, created: i64) -> bool {
    let within =
        |value: i64, min: i64, max: i64| (min == 0 || value >= min) && (max == 0 || value <= max);
    within(modified, request.min_mod_revision, request.max_mod_revision)
        && within(created, request.min_create_revision, request.max_create_revision)
}

fn filter(kvs: &mut Vec<KeyValue>, request: &RangeRequest) {
    kvs.retain(|kv| is_wanted(request, kv.mod_revision, kv.create_revision));
}

/// Rows come by key, ascending. Equal ones keep that order, in either direction.
fn sort(kvs: &mut [KeyValue], request: &RangeRequest) {
    let descending = request.sort_order == SortOrder::Descend as i32;
    let target = SortTarget::try_from(request.sort_target).unwrap_or_default();
    if target == SortTarget::Key && !descending {
        return;
    }
    kvs.sort_by(|a, b| {
        let (a, b) = if descending { (b, a) } else { (a, b) };
        match target {
            SortTarget::Key => a.key.cmp(&b.key),
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::Create => a.create_revision.cmp(&b.create_revision),
            SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
            SortTarget::Value => a.value.cmp(&b.value),
        }
    });
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
