//! A range whose revisions are known, and whose rows are not read yet.
//!
//! A range has two halves. The **plan** is made under the index lock: which revisions, in which
//! order, how many keys in all, what the write buffer has of them. It is **read** without the lock,
//! and perhaps much later and on another thread: a transaction that writes is planned by apply, and
//! its answer is read by the member that a client has asked, when there is room for it.
//!
//! ```text
//!   under the lock                           without it
//!   index: filter, order, limit              ┌▶ whole: messages, if they are small
//!   buffer: what it has of the rows ─▶ Plan ─┤
//!                                            └▶ write: into an answer that is bounded
//! ```
//!
//! The index knows all of a key but its value and its lease. So it decides what is returned, and
//! what is not returned is not read. Only an order by values needs all rows first, and is the one
//! that must have all of them in memory.
//!
//! A plan holds a snapshot of the file, so that compaction takes nothing away from it. Whoever lets
//! it wait must bound how long.

use std::{cmp::Ordering, ops::ControlFlow};

use bytes::Bytes;

use super::{
    Revision,
    key_index::Found,
    reader::{Reader, Source},
    tree_index::{KeyRange, TreeIndex},
};
use crate::{
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

/// A header as apply makes it: the member's interceptor fills in the rest.
pub(crate) fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..ResponseHeader::default() })
}

/// The first half of a range. See the module's text.
#[derive(Debug)]
pub struct Plan {
    /// The newest revision that the reader saw, for the header.
    revision: i64,
    /// The revision at which it reads.
    at: i64,
    /// How many keys there are in the range.
    total: usize,
    /// Whether there are more of those that were asked for than the limit.
    more: bool,
    keys_only: bool,
    /// What must still be done to the order; nothing behind the first look at the rows.
    order: Order,
    /// The rows to read, in order; none if only the count is wanted.
    keys: Vec<[u8; 17]>,
    view: Option<View>,
}

/// How rows, found in the order of their keys, come into the order that was asked for.
#[derive(Debug)]
enum Order {
    /// They are in it.
    Done,
    /// By what the index knows; that takes time, so it is done when the index is free again.
    Index(Vec<Found>, Sorted),
    /// By their values, then up to a limit (0: none).
    Values(Sorted, usize),
}

/// An order that was asked for.
#[derive(Clone, Copy, Debug)]
struct Sorted {
    target: SortTarget,
    descending: bool,
}

impl Sorted {
    fn by(request: &RangeRequest) -> Sorted {
        Sorted {
            target: SortTarget::try_from(request.sort_target).unwrap_or_default(),
            descending: request.sort_order == SortOrder::Descend as i32,
        }
    }

    fn by_key(self) -> bool {
        self.target == SortTarget::Key && !self.descending
    }

    fn by_value(self) -> bool {
        self.target == SortTarget::Value
    }

    /// For a sort that keeps equal ones in the order of their keys, in either direction.
    fn apply(self, order: Ordering) -> Ordering {
        if self.descending { order.reverse() } else { order }
    }

    /// Compares what the index knows; places are in the order of the keys.
    fn compare(self, a: (usize, &Found), b: (usize, &Found)) -> Ordering {
        self.apply(match self.target {
            SortTarget::Version => a.1.version.cmp(&b.1.version),
            SortTarget::Create => a.1.created.main.cmp(&b.1.created.main),
            SortTarget::Mod => a.1.modified.main.cmp(&b.1.modified.main),
            SortTarget::Key => a.0.cmp(&b.0),
            SortTarget::Value => Ordering::Equal,
        })
    }

    /// The places in their new order.
    fn places(self, found: &[Found]) -> Vec<usize> {
        let mut places: Vec<usize> = (0..found.len()).collect();
        places.sort_by(|a, b| self.compare((*a, &found[*a]), (*b, &found[*b])));
        places
    }
}

/// What is returned of what is found.
#[derive(Clone, Copy)]
struct Choice<'r> {
    request: &'r RangeRequest,
    sorted: Sorted,
    /// 0: all.
    limit: usize,
}

impl Choice<'_> {
    /// Filters, and orders and cuts as far as that must be done here. Returns whether there are
    /// more than the limit.
    fn cut(self, all: &mut Vec<Found>) -> bool {
        all.retain(|it| is_wanted(self.request, it));
        // As in etcd, a sort *target* alone does not count: then the first rows by key are sorted
        // among themselves. One more of them than wanted takes part.
        let only_first =
            self.request.sort_order == SortOrder::None as i32 && !narrows(self.request);
        if self.limit > 0 && only_first {
            all.truncate(self.limit.saturating_add(1));
        }
        let more = self.limit > 0 && all.len() > self.limit;
        if more && !self.sorted.by_value() {
            if !self.sorted.by_key() {
                let places = self.sorted.places(all);
                *all = places.into_iter().map(|place| all[place]).collect();
            }
            all.truncate(self.limit);
        }
        more
    }
}

/// Whether a request leaves out keys by their revisions.
fn narrows(request: &RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

fn is_wanted(request: &RangeRequest, found: &Found) -> bool {
    let within =
        |value: i64, min: i64, max: i64| (min == 0 || value >= min) && (max == 0 || value <= max);
    within(found.modified.main, request.min_mod_revision, request.max_mod_revision)
        && within(found.created.main, request.min_create_revision, request.max_create_revision)
}

/// What is planned of each row: its key.
const ROW: usize = size_of::<[u8; 17]>();

/// The most memory that the plan of a range takes; looks at no key.
pub(super) fn bytes_at_most(tree: &TreeIndex, request: &RangeRequest) -> usize {
    if request.count_only {
        return 0;
    }
    let most = tree.most(KeyRange::new(&request.key, &request.range_end));
    if Sorted::by(request).by_key() && !narrows(request) {
        let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0);
        return ROW * limit.map_or(most, |limit| limit.min(most));
    }
    (ROW + size_of::<Found>()) * most
}

/// Takes in what is found of a range that is walked through in portions.
pub(super) struct Sieve<'r> {
    choice: Choice<'r>,
    /// Whether the rows come in the order of their keys, up to the limit.
    is_plain: bool,
    /// Whether `total` was known before.
    is_counted: bool,
    keys: Vec<[u8; 17]>,
    all: Vec<Found>,
    total: usize,
}

impl<'r> Sieve<'r> {
    /// For a range of which nothing is found yet; `total` if it is known how many keys it has.
    pub(super) fn new(request: &'r RangeRequest, total: Option<usize>) -> Sieve<'r> {
        let (sorted, limit) = (Sorted::by(request), usize::try_from(request.limit).unwrap_or(0));
        let is_plain = sorted.by_key() && !narrows(request);
        let (choice, is_counted) = (Choice { request, sorted, limit }, total.is_some());
        let (keys, all, total) = (Vec::new(), Vec::new(), total.unwrap_or(0));
        Sieve { choice, is_plain, is_counted, keys, all, total }
    }

    /// Takes in the next one.
    pub(super) fn put(&mut self, found: Found) {
        self.total += usize::from(!self.is_counted);
        let limit = self.choice.limit;
        if self.choice.request.count_only {
        } else if !self.is_plain {
            self.all.push(found);
        } else if limit == 0 || self.keys.len() < limit {
            self.keys.push(found.modified.row_key());
        }
    }

    /// Whether nothing more is wanted.
    pub(super) fn is_full(&self) -> bool {
        let limit = self.choice.limit;
        self.is_counted && self.is_plain && limit > 0 && limit <= self.keys.len()
    }

    /// How many keys were found.
    pub(super) fn total(&self) -> usize {
        self.total
    }
}

impl Plan {
    /// Looks up the revisions and what the buffer has of them.
    pub(super) fn new(reader: Reader<'_>, request: &RangeRequest) -> Result<Plan, Error> {
        let mut plan = Plan::begin(reader, request)?;
        let range = KeyRange::new(&request.key, &request.range_end);
        if request.count_only {
            plan.total = reader.index.tree.count(range, plan.at);
            return Ok(plan);
        }
        plan.find(reader, request);
        plan.view = Some(reader.source.view(reader.id, &plan.keys));
        Ok(plan)
    }

    /// A plan of nothing, if the range may be read.
    pub(super) fn begin(reader: Reader<'_>, request: &RangeRequest) -> Result<Plan, Error> {
        let Reader { index, current, .. } = reader;
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
            order: Order::Done,
            keys: Vec::new(),
            view: None,
        })
    }

    /// The revision at which it reads.
    pub(super) fn at(&self) -> i64 {
        self.at
    }

    /// Takes in what a [`Sieve`] has let through, and looks up what the buffer has of it.
    pub(super) fn fill(&mut self, sieve: Sieve<'_>, source: Source<'_>, id: u64) {
        let Sieve { choice, mut keys, all, total, is_plain, .. } = sieve;
        self.total = total;
        if choice.request.count_only {
            return;
        }
        if is_plain {
            self.more = choice.limit > 0 && total > choice.limit;
            keys.shrink_to_fit();
            self.keys = keys;
        } else {
            let mut all = all;
            let more = choice.cut(&mut all);
            all.shrink_to_fit();
            self.take(all, choice.sorted, (more, choice.limit));
        }
        self.view = Some(source.view(id, &self.keys));
        self.settle();
    }

    fn find(&mut self, reader: Reader<'_>, request: &RangeRequest) {
        let Reader { id, index, .. } = reader;
        let range = KeyRange::new(&request.key, &request.range_end);
        let limit = usize::try_from(request.limit).unwrap_or(0);
        let sorted = Sorted::by(request);
        if sorted.by_key() && !narrows(request) {
            let found = index.tree.revisions(id, range, self.at, limit);
            self.total = found.total;
            self.more = limit > 0 && found.total > limit;
            self.keys = found.revisions.into_iter().map(Revision::row_key).collect();
            return;
        }
        let choice = Choice { request, sorted, limit };
        let mut more = false;
        let found = index.tree.chosen(id, range, self.at, |all| more = choice.cut(all));
        self.total = found.total;
        self.take(found.chosen, sorted, (more, limit));
    }

    /// Takes in what was chosen.
    fn take(&mut self, chosen: Vec<Found>, sorted: Sorted, (more, limit): (bool, usize)) {
        self.more = more;
        self.keys = chosen.iter().map(|it| it.modified.row_key()).collect();
        self.order = if sorted.by_value() {
            Order::Values(sorted, limit)
        } else if sorted.by_key() || more {
            // What had to be cut was ordered before.
            Order::Done
        } else {
            Order::Index(chosen, sorted)
        };
    }

    /// The newest revision that the reader saw.
    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    /// How many keys there are in the range.
    pub(crate) fn count(&self) -> i64 {
        i64::try_from(self.total).unwrap_or(i64::MAX)
    }

    /// Whether there are more of those that were asked for than the limit.
    pub(crate) fn more(&self) -> bool {
        self.more
    }

    /// How many rows there are to read.
    pub(crate) fn rows(&self) -> usize {
        self.keys.len()
    }

    /// The memory that the plan takes.
    pub(crate) fn bytes(&self) -> usize {
        let order = if let Order::Index(found, _) = &self.order { found.capacity() } else { 0 };
        let view = self.view.as_ref().map_or(0, View::bytes);
        ROW * self.keys.capacity() + size_of::<Found>() * order + view
    }

    /// Makes the plan fit to wait, or to cross to another thread: see [`View::settle`].
    pub(super) fn settle(&mut self) {
        if let Some(view) = &mut self.view {
            view.settle(&self.keys);
        }
    }

    /// Orders by what the index knows, if that was left.
    fn arrange(&mut self) {
        if let Order::Index(found, sorted) = &self.order {
            let places = sorted.places(found);
            self.order = Order::Done;
            self.rearrange(&places);
        }
    }

    fn rearrange(&mut self, places: &[usize]) {
        // What the frozen buffer has is found by the keys in their old order.
        self.settle();
        self.keys = places.iter().map(|place| self.keys[*place]).collect();
        if let Some(view) = &mut self.view {
            view.rearrange(places);
        }
    }

    /// Reads the rows into a message. Returns `None`, and can be read again, as soon as that takes
    /// more than is left of `budget` bytes.
    pub(crate) fn whole(
        &mut self,
        source: Source<'_>,
        budget: &mut usize,
        span: &mut Span,
    ) -> Option<RangeResponse> {
        crate::set!(span, MvccRange, revision = self.at, total = self.total);
        self.arrange();
        let (mut kvs, mut bytes) = (Vec::new(), 0);
        let read = self.each(source, |row| {
            bytes += row.len();
            kvs.push(source.decode(row));
            if *budget < bytes { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if let Order::Values(sorted, limit) = self.order {
            kvs.sort_by(|a, b| sorted.apply(a.value.cmp(&b.value)));
            kvs.truncate(if limit == 0 { usize::MAX } else { limit });
        }
        crate::set!(span, MvccRange, keys = kvs.len(), bytes = bytes);
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

    /// Reads the rows, and writes them as the field `tag` of a message that is not begun here. Can
    /// be called again if it breaks.
    pub(crate) fn write(
        &mut self,
        source: Source<'_>,
        (writer, tag): (&mut Writer, u8),
        span: &mut Span,
    ) -> ControlFlow<()> {
        crate::set!(span, MvccRange, revision = self.at, total = self.total);
        self.arrange();
        self.order_by_values(source, writer)?;
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
        // From the first row on that is not kept, none is. Who has no room for one has its place in
        // the ledger, so this is not read a second time.
        if kept < keys {
            rows.leave(std::mem::take(&mut self.keys), kept);
            self.view = None;
        }
        writer.leave(rows);
        ControlFlow::Continue(())
    }

    /// Brings the keys into the order of their values, if that was asked for. All values must be in
    /// memory for that, which is counted, and waits for nobody.
    fn order_by_values(&mut self, source: Source<'_>, writer: &mut Writer) -> ControlFlow<()> {
        let Order::Values(sorted, limit) = self.order else { return ControlFlow::Continue(()) };
        let mut values = Vec::with_capacity(self.keys.len());
        self.each(source, |row| {
            writer.overdraw(row.len())?;
            values.push(source.decode(row).value);
            ControlFlow::Continue(())
        })?;
        let mut places: Vec<usize> = (0..values.len()).collect();
        places.sort_by(|a, b| sorted.apply(values[*a].cmp(&values[*b])));
        places.truncate(if limit == 0 { usize::MAX } else { limit });
        drop(values);
        writer.repay();
        self.order = Order::Done;
        self.rearrange(&places);
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
