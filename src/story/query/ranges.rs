//! Finds the first of many ranges of numbers that holds a number, without visiting each of them.
//!
//! ```text
//!   hulls                 1 ──────── 9                    the least and the greatest number of all
//!                    1 ── 5       4 ──── 9                that are below
//!   ranges         1─2   3─5     4─7    8─9
//!                 ──▶ playback order
//! ```
//!
//! Disks, counts and messages name ranges of the log, which grow with it. So hulls exclude nearly
//! all the ranges that a member ever named. Invariant: the result equals that of a linear search,
//! even if the ranges are in no order at all.

use std::{iter::successors, ops::RangeInclusive};

/// A range of numbers in an event.
#[derive(Clone, Debug)]
pub(super) struct Named {
    /// Playback rank of the event.
    pub(super) rank: usize,
    /// Position of the event.
    pub(super) event: usize,
    /// The indexes or revisions that the event covers.
    pub(super) range: RangeInclusive<u64>,
}

/// Searchable ranges in playback order.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    list: Vec<Named>,
    /// A binary tree in rows: the children of `at` are `2 * at` and `2 * at + 1`, the root is 1,
    /// and the leaves, `list.len()` rounded up to a power of two, are the ranges themselves. `None`
    /// where there is no range below.
    hulls: Vec<Option<(u64, u64)>>,
}

impl Ranges {
    /// Builds the tree from ranges in playback order. Empty ranges are left out.
    pub(super) fn new(mut list: Vec<Named>) -> Ranges {
        list.retain(|named| !named.range.is_empty());
        let leaves = list.len().next_power_of_two();
        let mut hulls = vec![None; 2 * leaves];
        for (hull, named) in hulls[leaves..].iter_mut().zip(&list) {
            *hull = Some((*named.range.start(), *named.range.end()));
        }
        for at in (1..leaves).rev() {
            hulls[at] = match (hulls[2 * at], hulls[2 * at + 1]) {
                (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
                (one, other) => one.or(other),
            };
        }
        Ranges { list, hulls }
    }

    /// The first range that holds the number, among those with a rank in the given interval that
    /// `is_meant` accepts.
    pub(super) fn first(
        &self,
        ranks: std::ops::Range<usize>,
        number: u64,
        is_meant: impl Fn(&Named) -> bool,
    ) -> Option<&Named> {
        let place = |rank| self.list.partition_point(|named| named.rank < rank);
        let (from, to) = (place(ranks.start), place(ranks.end));
        let leaves = self.hulls.len() / 2;
        // Nodes still to visit, each with the number of its leaves; the last one is next.
        let mut todo = vec![(1, 0, leaves)];
        while let Some((node, first, below)) = todo.pop() {
            let is_near = from < first + below && first < to;
            let holds = |(least, most): (u64, u64)| least <= number && number <= most;
            if !is_near || !self.hulls[node].is_some_and(holds) {
                continue;
            }
            if below == 1 {
                let named = &self.list[first];
                if is_meant(named) {
                    return Some(named);
                }
                continue;
            }
            let half = below / 2;
            todo.push((2 * node + 1, first + half, half));
            todo.push((2 * node, first, half));
        }
        None
    }

    /// All that [`Ranges::first`] would find, one after the other.
    pub(super) fn all(
        &self,
        ranks: std::ops::Range<usize>,
        number: u64,
        is_meant: impl Fn(&Named) -> bool + Copy,
    ) -> impl Iterator<Item = &Named> {
        let first = self.first(ranks.clone(), number, is_meant);
        successors(first, move |last| self.first(last.rank + 1..ranks.end, number, is_meant))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::random::Random;

    fn ranges(list: impl IntoIterator<Item = RangeInclusive<u64>>) -> Vec<Named> {
        let named = |(at, range)| Named { rank: 3 * at, event: at, range };
        list.into_iter().enumerate().map(named).collect()
    }

    #[test]
    fn the_first_is_that_of_a_look_at_each_also_where_nothing_is_in_order() {
        let mut random = Random::new(7);
        let mut below = |bound: u64| random.below(bound);
        for length in 0..40 {
            let list: Vec<_> = (0..length).map(|_| below(20)..=below(20)).collect();
            let list = ranges(list);
            let known = Ranges::new(list.clone());
            for _ in 0..50 {
                let (number, odd) = (below(20), below(2) == 0);
                let ranks = below(60) as usize..below(140) as usize;
                let is_meant = |named: &Named| !odd || named.event % 2 == 1;
                let naive = list.iter().find(|named| {
                    ranks.contains(&named.rank) && named.range.contains(&number) && is_meant(named)
                });
                let found = known.first(ranks.clone(), number, is_meant);
                assert_eq!(naive.map(|n| n.event), found.map(|n| n.event), "{number} in {list:?}");
            }
        }
    }

    #[test]
    fn among_many_growing_ranges_only_the_match_is_visited() {
        let known = Ranges::new(ranges((0..100_000).map(|at| 10 * at..=10 * at + 9)));
        for number in [0, 499_999, 999_999, 1_000_000] {
            let looks = Cell::new(0);
            let found = known.first(0..usize::MAX, number, |_| {
                looks.set(looks.get() + 1);
                true
            });
            let expected = (number < 1_000_000).then_some(number as usize / 10);
            assert_eq!(expected, found.map(|named| named.event));
            assert_eq!(usize::from(expected.is_some()), looks.get());
        }
    }

    #[test]
    fn an_empty_range_has_no_number_and_the_greatest_number_can_be_found() {
        let known = Ranges::new(ranges([RangeInclusive::new(5, 4), 0..=u64::MAX]));
        assert_eq!(Some(1), known.first(0..usize::MAX, 5, |_| true).map(|named| named.event));
        assert_eq!(Some(1), known.first(0..9, u64::MAX, |_| true).map(|named| named.event));
        assert!(known.first(4..9, 5, |_| true).is_none());
        assert!(Ranges::new(Vec::new()).first(0..9, 0, |_| true).is_none());
    }
}
