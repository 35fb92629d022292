//! Finds the ranges that contain a key (etcd: `adt.IntervalTree`).
//!
//! The tree is a treap: a search tree by (begin, end), balanced by random priorities. Each node
//! also knows the greatest end in its subtree, so a search skips subtrees whose ranges all end too
//! early:
//!
//! ```text
//!                 [c, f)  max ∞
//!                ╱             ╲                Which ranges contain "e"?
//!       [a, d) max d        [k, ∞) max ∞       the left subtree is skipped: it ends at d;
//!                                              [c, f) does; [k, ∞) begins too late
//! ```
//!
//! Watchers of the same range share a node, so a thousand watchers of one prefix take one step.

use std::{cmp::Ordering, collections::BTreeSet};

use bytes::Bytes;

use crate::trace::id::hash;

/// The end of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// This key is the first that is not in the range.
    Before(Bytes),
    /// The range has no end.
    Never,
}

impl End {
    fn is_after(&self, key: &[u8]) -> bool {
        match self {
            End::Before(end) => key < end.as_ref(),
            End::Never => true,
        }
    }
}

impl Ord for End {
    fn cmp(&self, other: &End) -> Ordering {
        match (self, other) {
            (End::Before(a), End::Before(b)) => a.cmp(b),
            (End::Before(_), End::Never) => Ordering::Less,
            (End::Never, End::Before(_)) => Ordering::Greater,
            (End::Never, End::Never) => Ordering::Equal,
        }
    }
}

impl PartialOrd for End {
    fn partial_cmp(&self, other: &End) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Debug)]
struct Node {
    begin: Bytes,
    end: End,
    /// The greatest end of this node and its descendants.
    max: End,
    priority: u64,
    watchers: BTreeSet<u64>,
    left: Tree,
    right: Tree,
}

type Tree = Option<Box<Node>>;

/// The watchers of ranges, by range.
#[derive(Debug, Default)]
pub(super) struct IntervalTree {
    root: Tree,
    /// Counts the nodes ever inserted. A node's priority is the hash of its number.
    inserted: u64,
}

impl IntervalTree {
    pub(super) fn insert(&mut self, begin: &Bytes, end: &End, watcher: u64) {
        if let Some(node) = find(&mut self.root, begin, end) {
            node.watchers.insert(watcher);
            return;
        }
        self.inserted += 1;
        let node = Box::new(Node {
            begin: begin.clone(),
            end: end.clone(),
            max: end.clone(),
            priority: hash(self.inserted),
            watchers: BTreeSet::from([watcher]),
            left: None,
            right: None,
        });
        let (left, right) = split(self.root.take(), begin, end);
        self.root = merge(merge(left, Some(node)), right);
    }

    pub(super) fn remove(&mut self, begin: &Bytes, end: &End, watcher: u64) {
        let Some(node) = find(&mut self.root, begin, end) else { return };
        node.watchers.remove(&watcher);
        if node.watchers.is_empty() {
            self.root = without(self.root.take(), begin, end);
        }
    }

    /// Calls `f` with each watcher whose range contains `key`.
    pub(super) fn visit(&self, key: &[u8], f: &mut impl FnMut(u64)) {
        visit(&self.root, key, f);
    }
}

fn order(node: &Node, begin: &Bytes, end: &End) -> Ordering {
    begin.cmp(&node.begin).then_with(|| end.cmp(&node.end))
}

fn find<'t>(tree: &'t mut Tree, begin: &Bytes, end: &End) -> Option<&'t mut Node> {
    let node = tree.as_deref_mut()?;
    match order(node, begin, end) {
        Ordering::Less => find(&mut node.left, begin, end),
        Ordering::Equal => Some(node),
        Ordering::Greater => find(&mut node.right, begin, end),
    }
}

fn visit(tree: &Tree, key: &[u8], f: &mut impl FnMut(u64)) {
    let Some(node) = tree else { return };
    if !node.max.is_after(key) {
        return;
    }
    visit(&node.left, key, f);
    if node.begin.as_ref() <= key {
        if node.end.is_after(key) {
            node.watchers.iter().for_each(|watcher| f(*watcher));
        }
        visit(&node.right, key, f);
    }
}

/// Recomputes a node's `max` after a change of its children.
fn with_max(mut node: Box<Node>) -> Tree {
    let children = [&node.left, &node.right].into_iter().flatten().map(|child| &child.max);
    let max = children.chain([&node.end]).max().cloned();
    node.max = max.unwrap_or(End::Never);
    Some(node)
}

/// Splits a tree into the nodes before (begin, end) and the others.
fn split(tree: Tree, begin: &Bytes, end: &End) -> (Tree, Tree) {
    let Some(mut node) = tree else { return (None, None) };
    if order(&node, begin, end).is_gt() {
        let (left, right) = split(node.right.take(), begin, end);
        node.right = left;
        (with_max(node), right)
    } else {
        let (left, right) = split(node.left.take(), begin, end);
        node.left = right;
        (left, with_max(node))
    }
}

/// Joins two trees. Every node of `left` comes before every node of `right`.
fn merge(left: Tree, right: Tree) -> Tree {
    match (left, right) {
        (Some(mut left), Some(mut right)) => {
            if left.priority > right.priority {
                left.right = merge(left.right.take(), Some(right));
                with_max(left)
            } else {
                right.left = merge(Some(left), right.left.take());
                with_max(right)
            }
        }
        (left, right) => left.or(right),
    }
}

fn without(tree: Tree, begin: &Bytes, end: &End) -> Tree {
    let mut node = tree?;
    match order(&node, begin, end) {
        Ordering::Less => node.left = without(node.left.take(), begin, end),
        Ordering::Greater => node.right = without(node.right.take(), begin, end),
        Ordering::Equal => return merge(node.left.take(), node.right.take()),
    }
    with_max(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(tree: &IntervalTree, key: &[u8]) -> Vec<u64> {
        let mut found = Vec::new();
        tree.visit(key, &mut |watcher| found.push(watcher));
        found.sort_unstable();
        found
    }

    #[test]
    fn a_search_finds_the_same_ranges_as_a_scan() {
        let seed = 7_u64;
        let dice = |n: u64, sides: u64| hash(seed.wrapping_mul(1_000_003).wrapping_add(n)) % sides;
        let mut tree = IntervalTree::default();
        let mut all: Vec<(Bytes, End, u64)> = Vec::new();
        let key = |n: u64| Bytes::from(vec![b'a' + u8::try_from(n % 20).unwrap()]);
        for step in 0..3000 {
            if dice(step * 5, 3) < 2 || all.is_empty() {
                let (begin, end) = (key(dice(step * 5 + 1, 20)), key(dice(step * 5 + 2, 20)));
                let end = if dice(step * 5 + 3, 6) == 0 { End::Never } else { End::Before(end) };
                tree.insert(&begin, &end, step);
                all.push((begin, end, step));
            } else {
                let at = usize::try_from(dice(step * 5 + 1, all.len() as u64)).unwrap();
                let (begin, end, watcher) = all.swap_remove(at);
                tree.remove(&begin, &end, watcher);
            }
            let key = key(dice(step * 5 + 4, 20));
            let holds = |it: &&(Bytes, End, u64)| it.0 <= key && it.1.is_after(&key);
            let mut expected: Vec<u64> = all.iter().filter(holds).map(|it| it.2).collect();
            expected.sort_unstable();
            assert_eq!(found(&tree, &key), expected, "step {step}, seed {seed}");
        }
        for (begin, end, watcher) in all {
            tree.remove(&begin, &end, watcher);
        }
        assert!(tree.root.is_none());
    }

    #[test]
    fn a_tree_of_ten_thousand_ascending_ranges_is_not_deep() {
        fn depth(tree: &Tree) -> usize {
            tree.as_ref().map_or(0, |node| 1 + depth(&node.left).max(depth(&node.right)))
        }
        let mut tree = IntervalTree::default();
        for n in 0..10_000_u64 {
            tree.insert(&Bytes::from(format!("k{n:05}")), &End::Never, n);
        }
        assert!(depth(&tree.root) < 60, "{}", depth(&tree.root));
    }
}
