//! The messages that would have carried an entry, and were dropped.
//!
//! A leader that sends an entry to a member that is gone, or behind a cut link, drops it there; it
//! is sent again when the member can be reached. A record of drops may stand for several messages,
//! and says which entries these would have brought.

use std::collections::HashMap;

use super::{
    Finder, Relation,
    joins::{Life, Part},
    ranges::Ranges,
};
use crate::{field, trace::stage::Stage};

impl Finder<'_> {
    /// Adds the first dropped message of each member to each other that would have carried the
    /// entry, by term and index. The sender drops it, or the receiver.
    pub(super) fn drops(&mut self, (term, index): (u64, u64), lives: &HashMap<u8, Life>) {
        let learned = self.learned();
        let first = |((_, part, member, peer), ranges): (&(Stage, Part, u8, u64), &Ranges)| {
            [Stage::RaftSend, Stage::RaftReceive].map(|end| {
                let ranks = 0..self.end_of_time((end, *part, *member, *peer), lives, &learned);
                let is_meant = |at: usize| {
                    let drop = self.event(at);
                    let is_received = field!(drop, RaftDrop, received) != 0;
                    let is_of_end = is_received == (end == Stage::RaftReceive);
                    is_of_end && term <= field!(drop, RaftDrop, term)
                };
                ranges.first(ranks, index, |named| is_meant(named.event)).map(|named| named.event)
            })
        };
        let all = self.stories.messages.iter().filter(|((end, ..), _)| *end == Stage::RaftDrop);
        let firsts: Vec<usize> = all.flat_map(first).flatten().collect();
        self.picked.extend(firsts.into_iter().map(|at| (at, Relation::Message)));
    }
}
