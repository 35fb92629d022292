//! A range whose revisions are known and whose rows are not read yet.
//!
//! A range is answered in two steps. It is **planned** under the index lock: which revisions, in
//! which order, how many keys in all, and which of the rows are in the write buffer. It is **read**
//! without the lock, perhaps much later and on another thread: apply plans the ranges of a
//! transaction that writes, and the member whose client waits reads them when it has room for the
//! answer.
//!
//! ```text
//!   under the lock                           without it
//!   index: filter, sort, limit               ┌▶ whole: a message, if the answer is small
//!   buffer: the rows that it has ─▶ Plan ────┤
//!                                            └▶ write: into a large answer
//! ```
//!
//! The index knows everything about a key but its value and its lease. So it decides which keys are
//! returned, and only their rows are read. The exception is an order by values, which needs all
//! rows in memory first.
//!
//! A plan holds a snapshot of the file, so compaction cannot remove the rows that it names. The
//! holder of a plan must bound how long it waits with it.

use std::{cmp::Ordering, ops::ControlFlow};

use bytes::Bytes;

use super::{
    Revision,
    key_index::KeyMeta,
    reader::{Reader, Source},
    revision::ROW_KEY_LEN,
    tree_index::{Asker, KeyRange, TreeIndex},
};
use crate::{
    metrics::recorded,
    pb::etcdserverpb::{
        RangeRequest, RangeResponse, ResponseHeader,
        range_request::{SortOrder, SortTarget},
    },
    server::{
        Error,
        answer::{rope::Rows, writer::Writer},
        check,
    },
    storage::backend::View,
    trace::Span,
};

/// A header with the revision; the interceptor fills in the other fields.
pub(crate) fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..ResponseHeader::default() })
}

/// A range that can be read. See the module's text.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The newest revision that the reader saw, for the header.
    revision: i64,
    /// The revision at which the range is read.
    at: i64,
    /// The number of keys in the range, before filters and limit.
    total: usize,
    /// Whether the limit leaves out keys that pass the filters.
    more: bool,
    keys_only: bool,
    /// Whether the request names the revision.
    names_revision: bool,
    /// The limit of the request, for the record; 0: none.
    limit: u32,
    pending: PendingSort,
    /// The rows to read, in order; none if only the count is wanted.
    keys: Vec<[u8; ROW_KEY_LEN]>,
    /// `None` if only the count is wanted.
    view: Option<View>,
    /// Whether the range has left its record.
    is_recorded: bool,
}

/// The sorting that is left to do. The index finds rows in the order of their keys.
#[derive(Debug)]
enum PendingSort {
    Nothing,
    /// Sort by metadata of the index. It takes time, so it is done after the index lock is
    /// released.
    ByMeta(Vec<KeyMeta>, SortBy),
    /// Sort by values, then keep the first `limit` (0: all).
    ByValue(SortBy, usize),
}

/// The order that a request asks for.
#[derive(Clone, Copy, Debug)]
struct SortBy {
    target: SortTarget,
    descending: bool,
}

impl SortBy {
    fn new(request: &RangeRequest) -> SortBy {
        SortBy {
            target: SortTarget::try_from(request.sort_target).unwrap_or_default(),
            descending: request.sort_order == SortOrder::Descend as i32,
        }
    }

    /// Whether this is the order in which the index finds keys.
    fn is_index_order(self) -> bool {
        self.target == SortTarget::Key && !self.descending
    }

    fn is_by_value(self) -> bool {
        self.target == SortTarget::Value
    }

    fn direct(self, order: Ordering) -> Ordering {
        if self.descending { order.reverse() } else { order }
    }

    /// Compares two keys by their positions in the order of keys and by their metadata.
    fn compare(self, a: (usize, &KeyMeta), b: (usize, &KeyMeta)) -> Ordering {
        self.direct(match self.target {
            SortTarget::Version => a.1.version.cmp(&b.1.version),
            SortTarget::Create => a.1.created.main.cmp(&b.1.created.main),
            SortTarget::Mod => a.1.modified.main.cmp(&b.1.modified.main),
            SortTarget::Key => a.0.cmp(&b.0),
            SortTarget::Value => Ordering::Equal,
        })
    }

    /// The positions of the first `limit` keys in this order.
    fn positions(self, found: &[KeyMeta], limit: usize) -> Vec<usize> {
        sorted_positions(found.len(), limit, |a, b| self.compare((a, &found[a]), (b, &found[b])))
    }
}

/// Sorts the positions 0 to `len`, and returns the first `limit`. Positions that compare equal stay
/// in ascending order.
fn sorted_positions(
    len: usize,
    limit: usize,
    compare: impl Fn(usize, usize) -> Ordering,
) -> Vec<usize> {
    let mut positions: Vec<usize> = (0..len).collect();
    let compare = |a: &usize, b: &usize| compare(*a, *b).then(a.cmp(b));
    if limit < len {
        positions.select_nth_unstable_by(limit, compare);
        positions.truncate(limit);
    }
    positions.sort_unstable_by(compare);
    positions
}

/// Selects the keys that a range returns from those that the index finds.
#[derive(Clone, Copy)]
struct Selection<'r> {
    request: &'r RangeRequest,
    sort_by: SortBy,
    /// How many keys to return; 0 for all.
    limit: usize,
}

impl<'r> Selection<'r> {
    fn new(request: &'r RangeRequest) -> Selection<'r> {
        let limit = usize::try_from(request.limit).unwrap_or(0);
        Selection { request, sort_by: SortBy::new(request), limit }
    }

    /// Whether the range returns the first keys that the index finds: it neither filters nor sorts.
    fn is_prefix(self) -> bool {
        self.sort_by.is_index_order() && !filters_revisions(self.request)
    }

    /// Filters the keys, and applies the limit, unless that takes their values. Returns whether the
    /// limit leaves any out.
    fn select(self, found: &mut Vec<KeyMeta>) -> bool {
        found.retain(|it| passes(self.request, it));
        // As in etcd, a sort *target* without an order sorts only the first keys among themselves:
        // as many as the limit, and one more.
        let sorts_first_only =
            self.request.sort_order == SortOrder::None as i32 && !filters_revisions(self.request);
        if self.limit > 0 && sorts_first_only {
            found.truncate(self.limit.saturating_add(1));
        }
        let more = self.limit > 0 && found.len() > self.limit;
        if more && !self.sort_by.is_by_value() {
            if self.sort_by.is_index_order() {
                found.truncate(self.limit);
            } else {
                let positions = self.sort_by.positions(found, self.limit);
                *found = positions.into_iter().map(|position| found[position]).collect();
            }
        }
        more
    }
}

/// Whether a request filters keys by their revisions.
pub(super) fn filters_revisions(request: &RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

/// Whether a key passes the filters.
fn passes(request: &RangeRequest, found: &KeyMeta) -> bool {
    let within =
        |value: i64, min: i64, max: i64| (min == 0 || value >= min) && (max == 0 || value <= max);
    within(found.modified.main, request.min_mod_revision, request.max_mod_revision)
        && within(found.created.main, request.min_create_revision, request.max_create_revision)
}

/// An upper limit, in bytes, for the plan of a range; looks at no key.
pub(super) fn bytes_max(tree: &TreeIndex, request: &RangeRequest) -> usize {
    if request.count_only {
        return 0;
    }
    let keys = tree.keys_max(KeyRange::of(request));
    let selection = Selection::new(request);
    if selection.is_prefix() {
        let limit = Some(selection.limit).filter(|limit| *limit > 0);
        return ROW_KEY_LEN * limit.map_or(keys, |limit| limit.min(keys));
    }
    (ROW_KEY_LEN + size_of::<KeyMeta>()) * keys
}

/// Collects the keys of a range that is planned in portions.
pub(super) struct Collector<'r> {
    selection: Selection<'r>,
    /// Whether `total` was known before the first portion.
    is_counted: bool,
    total: usize,
    /// For a range that returns the first keys of the index: these, up to the limit.
    keys: Vec<[u8; ROW_KEY_LEN]>,
    /// For any other range: all keys.
    found: Vec<KeyMeta>,
}

impl<'r> Collector<'r> {
    /// `total`: the number of keys in the range, if it is known already.
    pub(super) fn new(request: &'r RangeRequest, total: Option<usize>) -> Collector<'r> {
        Collector {
            selection: Selection::new(request),
            is_counted: total.is_some(),
            total: total.unwrap_or(0),
            keys: Vec::new(),
            found: Vec::new(),
        }
    }

    /// Adds the next key of the range.
    pub(super) fn add(&mut self, found: KeyMeta) {
        self.total += usize::from(!self.is_counted);
        let limit = self.selection.limit;
        if self.selection.request.count_only {
        } else if !self.selection.is_prefix() {
            self.found.push(found);
        } else if limit == 0 || self.keys.len() < limit {
            self.keys.push(found.modified.row_key());
        }
    }

    /// Whether no more keys are needed.
    pub(super) fn is_full(&self) -> bool {
        let limit = self.selection.limit;
        self.is_counted && self.selection.is_prefix() && limit > 0 && limit <= self.keys.len()
    }
}

impl Plan {
    /// Plans a range while the index is locked.
    pub(super) fn new(reader: Reader<'_>, request: &RangeRequest) -> Result<Plan, Error> {
        let mut plan = Plan::begin(reader, request)?;
        if request.count_only {
            let range = KeyRange::of(request);
            plan.total = reader.index.tree.count_for(reader.asker, range, plan.at);
            return Ok(plan);
        }
        plan.find(reader, request);
        plan.view = Some(reader.source.view(reader.asker, &plan.keys));
        Ok(plan)
    }

    /// Checks that the range may be read, and returns a plan without rows.
    pub(super) fn begin(reader: Reader<'_>, request: &RangeRequest) -> Result<Plan, Error> {
        let Reader { index, current, .. } = reader;
        recorded::RANGES.increment();
        check::check_sort(request)?;
        if request.revision > current {
            return Err(Error::FutureRevision);
        }
        let at = if request.revision > 0 { request.revision } else { current };
        if at < index.compacted {
            return Err(Error::Compacted);
        }
        Ok(Plan {
            revision: current,
            at,
            total: 0,
            more: false,
            keys_only: request.keys_only,
            names_revision: 0 < request.revision,
            limit: u32::try_from(request.limit.max(0)).unwrap_or(u32::MAX),
            pending: PendingSort::Nothing,
            keys: Vec::new(),
            view: None,
            is_recorded: false,
        })
    }

    /// The revision at which the range is read.
    pub(super) fn at(&self) -> i64 {
        self.at
    }

    /// Completes a plan with the keys that were collected. Their choice ends the step of the index.
    pub(super) fn fill(
        &mut self,
        collector: Collector<'_>,
        source: Source<'_>,
        (asker, mut step): (Asker, Span),
    ) {
        let Collector { selection, total, mut keys, mut found, .. } = collector;
        self.total = total;
        if selection.request.count_only {
            return;
        }
        if selection.is_prefix() {
            self.more = selection.limit > 0 && total > selection.limit;
            keys.shrink_to_fit();
            self.keys = keys;
        } else {
            self.more = selection.select(&mut found);
            found.shrink_to_fit();
            self.take(selection, found);
        }
        crate::set!(step, TreeIndexGet, revisions = self.keys.len());
        if let Some((first, _)) = self.keys.first().and_then(|key| Revision::from_row_key(key)) {
            crate::set!(step, TreeIndexGet, main = first.main, sub = first.sub);
        }
        drop(step);
        self.view = Some(source.view(asker, &self.keys));
        self.settle();
    }

    fn find(&mut self, reader: Reader<'_>, request: &RangeRequest) {
        let Reader { asker, index, .. } = reader;
        let (range, selection) = (KeyRange::of(request), Selection::new(request));
        if selection.is_prefix() {
            let found = index.tree.revisions(asker, range, self.at, selection.limit);
            self.total = found.total;
            self.more = selection.limit > 0 && found.total > selection.limit;
            self.keys = found.revisions.into_iter().map(Revision::row_key).collect();
            return;
        }
        let mut more = false;
        let found = index.tree.selected(asker, range, self.at, |all| more = selection.select(all));
        (self.total, self.more) = (found.total, more);
        self.take(selection, found.keys);
    }

    /// Takes the keys that were selected; `more` is set.
    fn take(&mut self, selection: Selection<'_>, selected: Vec<KeyMeta>) {
        let sort_by = selection.sort_by;
        self.keys = selected.iter().map(|it| it.modified.row_key()).collect();
        self.pending = if sort_by.is_by_value() {
            PendingSort::ByValue(sort_by, selection.limit)
        } else if sort_by.is_index_order() || self.more {
            // Keys were sorted when the limit was applied.
            PendingSort::Nothing
        } else {
            PendingSort::ByMeta(selected, sort_by)
        };
    }

    /// The newest revision that the reader saw.
    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    /// The number of keys in the range (etcd: `RangeResponse.count`).
    pub(crate) fn count(&self) -> i64 {
        i64::try_from(self.total).unwrap_or(i64::MAX)
    }

    /// Whether the limit leaves out keys that pass the filters (etcd: `RangeResponse.more`).
    pub(crate) fn more(&self) -> bool {
        self.more
    }

    /// The number of rows to read.
    pub(crate) fn rows(&self) -> usize {
        self.keys.len()
    }

    /// The memory of the plan, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let pending = match &self.pending {
            PendingSort::ByMeta(found, _) => found.capacity(),
            PendingSort::Nothing | PendingSort::ByValue(..) => 0,
        };
        let view = self.view.as_ref().map_or(0, View::bytes);
        ROW_KEY_LEN * self.keys.capacity() + size_of::<KeyMeta>() * pending + view
    }

    /// Prepares the plan to wait, or to move to another thread: see [`View::settle`].
    pub(super) fn settle(&mut self) {
        if let Some(view) = &mut self.view {
            view.settle(&self.keys);
        }
    }

    /// Sorts by metadata, if that is pending.
    fn sort_by_meta(&mut self) {
        if let PendingSort::ByMeta(found, sort_by) = &self.pending {
            let positions = sort_by.positions(found, found.len());
            self.pending = PendingSort::Nothing;
            self.rearrange(&positions);
        }
    }

    fn rearrange(&mut self, positions: &[usize]) {
        // Rows of the frozen buffer are looked up by the keys in their old order.
        self.settle();
        self.keys = positions.iter().map(|position| self.keys[*position]).collect();
        if let Some(view) = &mut self.view {
            view.rearrange(positions);
        }
    }

    /// Reads the rows into a message. Returns `None` as soon as they take more than is left of
    /// `budget` bytes; then the plan can be read again, and this attempt leaves no record.
    pub(crate) fn whole(
        &mut self,
        source: Source<'_>,
        budget: &mut usize,
        span: &mut Span,
    ) -> Option<RangeResponse> {
        self.note(span);
        self.sort_by_meta();
        let (mut kvs, mut bytes) = (Vec::new(), 0);
        let read = self.each(source, |row| {
            bytes += row.len();
            kvs.push(source.decode(row));
            if *budget < bytes { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if let PendingSort::ByValue(sort_by, limit) = self.pending {
            kvs.sort_by(|a, b| sort_by.direct(a.value.cmp(&b.value)));
            kvs.truncate(if limit == 0 { usize::MAX } else { limit });
        }
        crate::set!(span, MvccRange, keys = kvs.len(), bytes = bytes);
        self.record_once(span, read.is_break());
        if read.is_break() {
            return None;
        }
        *budget -= bytes;
        if self.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        let (header, more, count) = (header(self.revision), self.more, self.count());
        Some(RangeResponse { header, kvs, more, count })
    }

    /// Reads the rows, and writes them as values of the field `tag` of the message under way. If it
    /// breaks for want of room, it can be called again with another writer.
    pub(crate) fn write(
        &mut self,
        source: Source<'_>,
        writer: &mut Writer,
        tag: u8,
        span: &mut Span,
    ) -> ControlFlow<()> {
        self.note(span);
        self.sort_by_meta();
        let written = self.write_rows(source, writer, tag, span);
        self.record_once(span, writer.begins_again());
        written
    }

    /// Records what was asked for, and what the index has found.
    fn note(&self, span: &mut Span) {
        let asked = if self.names_revision { self.at } else { 0 };
        crate::set!(span, MvccRange, asked = asked, revision = self.at, total = self.total);
        crate::set!(span, MvccRange, limit = self.limit, more = self.more);
    }

    /// Leaves one record of the range, with the numbers of all its rows. An attempt that will be
    /// repeated leaves none, and neither do rows that are read again because another range of the
    /// answer found no room.
    fn record_once(&mut self, span: &mut Span, is_repeated: bool) {
        if is_repeated || self.is_recorded {
            span.discard();
        }
        self.is_recorded |= !is_repeated;
    }

    fn write_rows(
        &mut self,
        source: Source<'_>,
        writer: &mut Writer,
        tag: u8,
        span: &mut Span,
    ) -> ControlFlow<()> {
        self.sort_by_value(source, writer)?;
        let mut rows = Rows::new(tag, self.at, self.keys_only);
        let (mut keys, mut kept, mut bytes) = (0, 0, 0);
        let (list, view) = (&self.keys, self.view.as_mut());
        let read = view.map_or(ControlFlow::Continue(()), |view| {
            source.each_row(view, list, |row| {
                bytes += row.len();
                kept += usize::from(writer.row(&rows, row)?);
                keys += 1;
                ControlFlow::Continue(())
            })
        });
        crate::set!(span, MvccRange, keys = keys, bytes = bytes);
        read?;
        // Once a row is not kept, no later row is. The answer has its place in the ledger by then,
        // so this range is not read a second time.
        if kept < keys {
            rows.leave(std::mem::take(&mut self.keys), kept);
            self.view = None;
        }
        writer.leave(rows);
        ControlFlow::Continue(())
    }

    /// Sorts by values, if that is pending. All values must be in memory for that. They are
    /// counted, but do not wait for room.
    fn sort_by_value(&mut self, source: Source<'_>, writer: &mut Writer) -> ControlFlow<()> {
        let PendingSort::ByValue(sort_by, limit) = self.pending else {
            return ControlFlow::Continue(());
        };
        let mut values = Vec::with_capacity(self.keys.len());
        self.each(source, |row| {
            writer.overdraw(row.len())?;
            values.push(source.decode(row).value);
            ControlFlow::Continue(())
        })?;
        let limit = if limit == 0 { values.len() } else { limit };
        let positions =
            sorted_positions(values.len(), limit, |a, b| sort_by.direct(values[a].cmp(&values[b])));
        drop(values);
        writer.repay();
        self.pending = PendingSort::Nothing;
        self.rearrange(&positions);
        ControlFlow::Continue(())
    }

    fn each(
        &mut self,
        source: Source<'_>,
        row: impl FnMut(Bytes) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        match &mut self.view {
            Some(view) => source.each_row(view, &self.keys, row),
            None => ControlFlow::Continue(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a limit returns the beginning of what a stable sort returns. Method: few distinct
    /// values, so that many compare equal; every limit.
    #[test]
    fn the_first_positions_are_those_of_a_stable_sort() {
        for distinct in 1..8 {
            let values: Vec<usize> = (0..50).map(|n| n * 37 % 50 % distinct).collect();
            let mut sorted: Vec<usize> = (0..values.len()).collect();
            sorted.sort_by_key(|position| values[*position]);
            for limit in 0..=60 {
                let found = sorted_positions(values.len(), limit, |a, b| values[a].cmp(&values[b]));
                assert_eq!(found, sorted[..limit.min(50)], "{distinct} values, limit {limit}");
            }
        }
    }
}
