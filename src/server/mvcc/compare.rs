//! The comparisons of a transaction (etcd: `applyCompares`).
//!
//! The index decides most comparisons. Values and leases are in rows, which a transaction that only
//! reads reads without the index lock.
//!
//! Each comparison leaves a record, and each transaction that has any one of its choice
//! ([`Choice`]): up to [`COMPARES_RECORDED`], because a client decides how many there are.

use std::ops::ControlFlow;

use super::{
    key_index::KeyMeta,
    reader::{Reader, Source},
    revision::ROW_KEY_LEN,
    tree_index::{Asker, KeyRange},
};
use crate::{
    pb::{
        etcdserverpb::{
            Compare, TxnRequest,
            compare::{CompareResult, CompareTarget, TargetUnion},
        },
        mvccpb::KeyValue,
    },
    storage::backend::View,
    trace::{self, Span},
};

/// The most comparisons of a request that leave a record, those of nested transactions included.
pub(crate) const COMPARES_RECORDED: usize = 64;

/// The choice of a branch, and its record. None is written for a transaction that compares nothing.
pub(super) struct Choice<'r> {
    asker: Asker,
    level: usize,
    request: &'r TxnRequest,
    span: Option<Span>,
}

impl<'r> Choice<'r> {
    /// Begins the choice for the transaction of this level, which may leave `left` records.
    pub(super) fn begin(
        asker: Asker,
        (level, request): (usize, &'r TxnRequest),
        left: usize,
    ) -> Choice<'r> {
        let compares = request.compare.len();
        let span = (0 < compares && 0 < left).then(|| {
            let again = asker.again;
            crate::stage!(TxnBranch, asker.id, level = level, compares = compares, again = again)
        });
        Choice { asker, level, request, span }
    }

    /// Opens the record of a comparison.
    pub(super) fn compare(&self, compare: &Compare, left: &mut usize) -> Option<Span> {
        *left = left.checked_sub(1)?;
        let Asker { id, again, .. } = self.asker;
        let wanted = wanted(compare).unwrap_or(0).cast_unsigned();
        let span = crate::stage!(
            TxnCompare,
            id,
            level = self.level,
            target = compare.target,
            operator = compare.result,
            wanted = wanted,
            again = again
        );
        trace::key(id, &compare.key);
        trace::range_end(id, &compare.range_end);
        Some(span)
    }

    /// Records what was chosen.
    pub(super) fn end(&mut self, holds: bool) {
        let chosen = if holds { &self.request.success } else { &self.request.failure };
        if let Some(span) = &mut self.span {
            crate::set!(span, TxnBranch, branch = holds, operations = chosen.len());
        }
    }

    /// The choice is repeated as a whole, and leaves no record.
    pub(super) fn discard(&mut self) {
        self.span.iter_mut().for_each(Span::discard);
    }
}

/// The result of a comparison.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    pub(super) holds: bool,
    /// The number of keys that were compared.
    keys: usize,
    /// The number of the first key that does not satisfy it; otherwise of the last one.
    found: i64,
}

impl Outcome {
    /// Completes the record of the comparison.
    pub(super) fn record(self, span: Option<Span>) {
        if let Some(mut span) = span {
            let found = self.found.cast_unsigned();
            crate::set!(span, TxnCompare, found = found, keys = self.keys, holds = self.holds);
        }
    }
}

/// A comparison while the keys of its range are visited. Every key must satisfy it.
pub(super) struct Comparing<'c> {
    compare: &'c Compare,
    /// The number of keys so far.
    keys: usize,
    /// Whether they satisfy it, as far as the index knows.
    holds: bool,
    /// The number of the key that was compared last.
    found: i64,
    /// The rows that decide, if the index does not have the target.
    rows: Vec<[u8; ROW_KEY_LEN]>,
}

/// A comparison after a look at the index.
pub(super) enum Comparison {
    /// The index decides whether it holds.
    Decided(Outcome),
    /// These rows decide.
    ByRows(Vec<[u8; ROW_KEY_LEN]>),
}

impl<'c> Comparing<'c> {
    pub(super) fn new(compare: &'c Compare) -> Comparing<'c> {
        Comparing { compare, keys: 0, holds: true, found: 0, rows: Vec::new() }
    }

    /// Adds the next key of the range. Returns whether more keys are needed.
    pub(super) fn add(&mut self, found: KeyMeta) -> bool {
        self.keys += 1;
        let target = CompareTarget::try_from(self.compare.target).ok();
        if matches!(target, Some(CompareTarget::Value | CompareTarget::Lease)) {
            self.rows.push(found.modified.row_key());
            return true;
        }
        // The index has the other targets.
        let kv = KeyValue {
            create_revision: found.created.main,
            mod_revision: found.modified.main,
            version: found.version,
            ..KeyValue::default()
        };
        if self.holds {
            self.found = number(self.compare, &kv);
            self.holds = satisfies(self.compare, &kv);
        }
        self.holds
    }

    /// If the range has no key, a missing key with zero in every field is compared. Its value
    /// satisfies no comparison, not even "not equal", because a request cannot tell a missing value
    /// from an empty one.
    pub(super) fn finish(self) -> Comparison {
        let Comparing { keys, found, .. } = self;
        if keys == 0 {
            let target = CompareTarget::try_from(self.compare.target).ok();
            let missing = KeyValue::default();
            let holds = target != Some(CompareTarget::Value) && satisfies(self.compare, &missing);
            return Comparison::Decided(Outcome { holds, keys, found });
        }
        if self.rows.is_empty() {
            return Comparison::Decided(Outcome { holds: self.holds, keys, found });
        }
        Comparison::ByRows(self.rows)
    }
}

/// Whether these rows satisfy a comparison; reads up to the first that does not.
pub(super) fn rows_satisfy(
    compare: &Compare,
    rows: &[[u8; ROW_KEY_LEN]],
    mut view: View,
    source: Source<'_>,
) -> Outcome {
    let (mut keys, mut found) = (0, 0);
    let read = source.each_row(&mut view, rows, |row| {
        let kv = source.decode(row);
        (keys, found) = (keys + 1, number(compare, &kv));
        if satisfies(compare, &kv) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    Outcome { holds: read.is_continue(), keys, found }
}

impl Reader<'_> {
    /// Whether all comparisons of the transaction of a level hold, for a reader that keeps the
    /// index. `left`: the records that the whole request may still leave.
    pub(super) fn holds(self, (level, request): (usize, &TxnRequest), left: &mut usize) -> bool {
        let mut choice = Choice::begin(self.asker, (level, request), *left);
        let holds = request.compare.iter().all(|compare| {
            let span = choice.compare(compare, left);
            let outcome = self.compare(compare);
            outcome.record(span);
            outcome.holds
        });
        choice.end(holds);
        holds
    }

    fn compare(self, compare: &Compare) -> Outcome {
        let mut comparing = Comparing::new(compare);
        let range = KeyRange::new(&compare.key, &compare.range_end);
        self.index.tree.visit(range, self.current, |_, it| {
            comparing.add(it);
        });
        match comparing.finish() {
            Comparison::Decided(outcome) => outcome,
            Comparison::ByRows(rows) => {
                let view = self.source.view(self.asker, &rows);
                rows_satisfy(compare, &rows, view, self.source)
            }
        }
    }
}

/// Compares one key (etcd: `compareKV`). If the request lacks the target's value, zero stands for
/// it.
fn satisfies(compare: &Compare, kv: &KeyValue) -> bool {
    let order = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Value) => {
            let value: &[u8] = match &compare.target_union {
                Some(TargetUnion::Value(value)) => value,
                _ => &[],
            };
            kv.value.as_ref().cmp(value)
        }
        Ok(_) => number(compare, kv).cmp(&wanted(compare).unwrap_or(0)),
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

/// The number that a comparison wants. `None` if it wants a value, or if the request lacks it.
fn wanted(compare: &Compare) -> Option<i64> {
    let target = CompareTarget::try_from(compare.target).ok()?;
    match (target, compare.target_union.as_ref()?) {
        (CompareTarget::Version, TargetUnion::Version(number))
        | (CompareTarget::Create, TargetUnion::CreateRevision(number))
        | (CompareTarget::Mod, TargetUnion::ModRevision(number))
        | (CompareTarget::Lease, TargetUnion::Lease(number)) => Some(*number),
        _ => None,
    }
}

/// The number of a key that a comparison looks at; 0 if that is no number.
fn number(compare: &Compare, kv: &KeyValue) -> i64 {
    match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => kv.version,
        Ok(CompareTarget::Create) => kv.create_revision,
        Ok(CompareTarget::Mod) => kv.mod_revision,
        Ok(CompareTarget::Lease) => kv.lease,
        Ok(CompareTarget::Value) | Err(_) => 0,
    }
}
