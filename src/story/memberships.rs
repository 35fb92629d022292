//! Who the members of the cluster are, by the index that is applied.
//!
//! ```text
//!   raft.members   index 3: a b c        index 41: a b c, learner d      index 57: b c d
//!   applied        ──3──────────────────────41──────────────────────────────57───────▶
//!   who votes        a b c                  a b c                           b c d
//! ```
//!
//! A configuration belongs to an entry of the log and is the same on every member, so what one
//! member has recorded holds for all. Each member records it after each change, and for everyone
//! who begins to listen, so a recording that begins long after the last change has it too.
//!
//! Invariant: nothing is guessed. Before the first index that is known, and without such a record,
//! it is unknown who votes.
//!
//! Left out: `members.change`. It is kept only with its request, and says the same one step
//! earlier.

use std::collections::{BTreeMap, BTreeSet};

use super::{Event, Recording};
use crate::{
    fields,
    trace::{Configuration, Stage},
};

/// The configurations of a cluster. See the module's text.
#[derive(Clone, Debug, Default)]
pub struct Memberships {
    /// By the index from which on each holds.
    whole: BTreeMap<u64, Configuration>,
    /// Those of which not all members were told yet, by member, boot and index.
    parts: BTreeMap<(u8, u16, u64), Part>,
}

/// A configuration of which not all members were told yet.
#[derive(Clone, Debug, Default)]
struct Part {
    /// How many it has.
    count: u64,
    /// Those that were told, each with whether it is a learner.
    known: BTreeSet<(u64, bool)>,
}

impl Memberships {
    /// Reads a recording once.
    pub fn of(recording: &Recording) -> Memberships {
        let mut memberships = Memberships::default();
        recording.events.iter().for_each(|event| memberships.learn(event));
        memberships
    }

    /// Learns from the next event.
    pub fn learn(&mut self, event: &Event) {
        if event.stage != Stage::RaftMembers {
            return;
        }
        let [index, subject, learner, members] =
            fields!(event, RaftMembers: index, subject, learner, members);
        let of = (event.member, event.boot, index);
        let Part { count, known } = self.parts.entry(of).or_default();
        *count = members;
        known.insert((subject, learner != 0));
        if known.len() as u64 == *count {
            let with = |is_learner| {
                let meant = known.iter().filter(move |(_, learner)| *learner == is_learner);
                meant.map(|(id, _)| *id).collect()
            };
            let (voters, learners) = (with(false), with(true));
            self.whole.insert(index, Configuration { index, voters, learners });
            self.parts.remove(&of);
        }
    }

    /// Whether the records say anything. Earlier versions do not: their members never changed.
    pub fn are_told(&self) -> bool {
        !self.whole.is_empty()
    }

    /// The configuration of a member that has applied everything up to this index; `None` if it is
    /// unknown.
    pub fn at(&self, applied: u64) -> Option<&Configuration> {
        self.whole.range(..=applied).next_back().map(|(_, configuration)| configuration)
    }

    /// Whether this member belonged to the cluster before this index.
    pub fn was_member(&self, member_id: u64, applied: u64) -> bool {
        let mut before = self.whole.range(..=applied).map(|(_, configuration)| configuration);
        before.any(|one| one.voters.contains(&member_id) || one.learners.contains(&member_id))
    }
}

impl Configuration {
    /// How many disks a majority has.
    pub fn quorum(&self) -> usize {
        self.voters.len() / 2 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The records of a configuration on a member.
    fn told(member: u8, index: u64, voters: &[u64], learners: &[u64]) -> Vec<Event> {
        let (voters, learners) = (voters.to_vec(), learners.to_vec());
        let all = Configuration { index, voters, learners };
        let event = |fields| Event { fields, ..Event::mark(member, Stage::RaftMembers, 1) };
        all.fields().into_iter().map(event).collect()
    }

    #[test]
    fn a_configuration_holds_from_its_index_to_the_next_one() {
        let mut recording = Recording::default();
        recording.events.extend(told(0, 57, &[2, 3, 4], &[]));
        recording.events.extend(told(1, 3, &[1, 2, 3], &[]));
        recording.events.extend(told(1, 41, &[1, 2, 3], &[4]));
        let memberships = Memberships::of(&recording);
        let at = |applied| memberships.at(applied).map(|it| (&it.voters[..], &it.learners[..]));
        assert_eq!(None, at(2));
        assert_eq!([Some((&[1, 2, 3][..], &[][..])); 2], [at(3), at(40)]);
        assert_eq!([Some((&[1, 2, 3][..], &[4][..])); 2], [at(41), at(56)]);
        assert_eq!(Some((&[2, 3, 4][..], &[][..])), at(1_000));
        assert_eq!([2, 2], [41, 57].map(|at| memberships.at(at).unwrap().quorum()));
        assert_eq!([true, false], [57, 2].map(|at| memberships.was_member(1, at)));
        assert_eq!([false, true], [40, 41].map(|at| memberships.was_member(4, at)));
    }

    #[test]
    fn a_configuration_with_a_record_missing_is_not_known() {
        let mut parts = told(0, 7, &[1, 2], &[3]);
        let last = parts.pop().unwrap();
        let mut memberships = Memberships::default();
        parts.iter().for_each(|event| memberships.learn(event));
        assert!(!memberships.are_told() && memberships.at(9).is_none());
        // The same member of another start, or another member, completes nothing.
        memberships.learn(&Event { boot: 2, ..last.clone() });
        memberships.learn(&Event { member: 1, ..last.clone() });
        assert!(memberships.at(9).is_none());
        memberships.learn(&last);
        assert_eq!(Some(&vec![3]), memberships.at(9).map(|it| &it.learners));
    }
}
