//! The comparisons of a transaction (etcd: `applyCompares`).
//!
//! The index decides most comparisons. Values and leases are in rows, which a transaction that only
//! reads reads without the index lock.

use std::ops::ControlFlow;

use super::{
    key_index::KeyMeta,
    reader::{Reader, Source},
    revision::ROW_KEY_LEN,
    tree_index::KeyRange,
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
};

/// A comparison while the keys of its range are visited. Every key must satisfy it.
pub(super) struct Comparing<'c> {
    compare: &'c Compare,
    /// Whether the range has a key.
    is_any: bool,
    /// Whether the keys so far satisfy it, as far as the index knows.
    holds: bool,
    /// The rows that decide, if the index does not have the target.
    rows: Vec<[u8; ROW_KEY_LEN]>,
}

/// A comparison after a look at the index.
pub(super) enum Comparison {
    /// The index decides whether it holds.
    Decided(bool),
    /// These rows decide.
    ByRows(Vec<[u8; ROW_KEY_LEN]>),
}

impl<'c> Comparing<'c> {
    pub(super) fn new(compare: &'c Compare) -> Comparing<'c> {
        Comparing { compare, is_any: false, holds: true, rows: Vec::new() }
    }

    /// Adds the next key of the range. Returns whether more keys are needed.
    pub(super) fn add(&mut self, found: KeyMeta) -> bool {
        self.is_any = true;
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
        self.holds = self.holds && satisfies(self.compare, &kv);
        self.holds
    }

    /// If the range has no key, a missing key with zero in every field is compared. Its value
    /// satisfies no comparison, not even "not equal", because a request cannot tell a missing value
    /// from an empty one.
    pub(super) fn finish(self) -> Comparison {
        if !self.is_any {
            let target = CompareTarget::try_from(self.compare.target).ok();
            let missing = KeyValue::default();
            let holds = target != Some(CompareTarget::Value) && satisfies(self.compare, &missing);
            return Comparison::Decided(holds);
        }
        if self.rows.is_empty() {
            return Comparison::Decided(self.holds);
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
) -> bool {
    let read = source.each_row(&mut view, rows, |row| {
        if satisfies(compare, &source.decode(row)) {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    });
    read.is_continue()
}

impl Reader<'_> {
    /// Whether all comparisons of a transaction hold, for a reader that keeps the index.
    pub(super) fn holds(self, request: &TxnRequest) -> bool {
        request.compare.iter().all(|compare| self.compare(compare))
    }

    fn compare(self, compare: &Compare) -> bool {
        let mut comparing = Comparing::new(compare);
        let range = KeyRange::new(&compare.key, &compare.range_end);
        self.index.tree.visit(range, self.current, |_, it| {
            comparing.add(it);
        });
        match comparing.finish() {
            Comparison::Decided(holds) => holds,
            Comparison::ByRows(rows) => {
                let view = self.source.view(self.id, &rows);
                rows_satisfy(compare, &rows, view, self.source)
            }
        }
    }
}

/// Compares one key (etcd: `compareKV`). If the request lacks the target's value, zero stands for
/// it.
fn satisfies(compare: &Compare, kv: &KeyValue) -> bool {
    let target = CompareTarget::try_from(compare.target).ok();
    let union = compare.target_union.as_ref();
    let number = match (target, union) {
        (Some(CompareTarget::Version), Some(TargetUnion::Version(number)))
        | (Some(CompareTarget::Create), Some(TargetUnion::CreateRevision(number)))
        | (Some(CompareTarget::Mod), Some(TargetUnion::ModRevision(number)))
        | (Some(CompareTarget::Lease), Some(TargetUnion::Lease(number))) => number,
        _ => &0,
    };
    let order = match target {
        Some(CompareTarget::Value) => {
            let value: &[u8] = match union {
                Some(TargetUnion::Value(value)) => value,
                _ => &[],
            };
            kv.value.as_ref().cmp(value)
        }
        Some(CompareTarget::Version) => kv.version.cmp(number),
        Some(CompareTarget::Create) => kv.create_revision.cmp(number),
        Some(CompareTarget::Mod) => kv.mod_revision.cmp(number),
        Some(CompareTarget::Lease) => kv.lease.cmp(number),
        None => std::cmp::Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => order.is_eq(),
        Ok(CompareResult::NotEqual) => order.is_ne(),
        Ok(CompareResult::Greater) => order.is_gt(),
        Ok(CompareResult::Less) => order.is_lt(),
        Err(_) => true,
    }
}
