//! Which of the members that are shown vote at a moment.
//!
//! A learner's disk counts for no majority, and neither does that of a member that was removed or
//! has not been added yet. Recordings of versions whose members never changed say nothing of this:
//! in them everyone votes.

use glass_etcd::story::Memberships;

/// What a member is to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Its disk counts.
    Voter,
    /// It gets the log, and does not count.
    Learner,
    /// It was a member, and is none any more.
    Removed,
    /// It has not been added yet.
    NotYet,
}

impl Standing {
    /// The word for a member that does not vote.
    pub(crate) fn word(self) -> Option<&'static str> {
        match self {
            Standing::Voter => None,
            Standing::Learner => Some("learner"),
            Standing::Removed => Some("removed"),
            Standing::NotYet => Some("no member yet"),
        }
    }
}

/// Who votes, of the members in some order: lanes, or columns of the cluster view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Voters {
    standings: Vec<Standing>,
    /// Voters that are not among them.
    others: usize,
}

impl Voters {
    /// Everyone, of this many.
    pub(crate) fn all(count: usize) -> Voters {
        Voters { standings: vec![Standing::Voter; count], others: 0 }
    }

    /// Who of these members votes once everything up to `applied` is applied; `None` if that is not
    /// known. An id is 0 for a member of which nothing was heard: it may be any that is missing.
    pub(crate) fn of(
        memberships: &Memberships,
        applied: Option<u64>,
        ids: &[u64],
    ) -> Option<Voters> {
        if !memberships.are_told() {
            return Some(Voters::all(ids.len()));
        }
        let applied = applied?;
        let now = memberships.at(applied)?;
        let mut others = now.voters.iter().filter(|id| !ids.contains(id)).count();
        let standing = |id: &u64| match id {
            0 if 0 < others => {
                others -= 1;
                Standing::Voter
            }
            id if now.voters.contains(id) => Standing::Voter,
            id if now.learners.contains(id) => Standing::Learner,
            id if memberships.was_member(*id, applied) => Standing::Removed,
            _ => Standing::NotYet,
        };
        let standings = ids.iter().map(standing).collect();
        Some(Voters { standings, others })
    }

    /// What this member is to the cluster.
    pub(crate) fn standing(&self, at: usize) -> Standing {
        self.standings.get(at).copied().unwrap_or(Standing::NotYet)
    }

    /// Whether this member votes.
    pub(crate) fn votes(&self, at: usize) -> bool {
        self.standing(at) == Standing::Voter
    }

    /// How many members vote.
    pub(crate) fn count(&self) -> usize {
        self.standings.iter().filter(|standing| **standing == Standing::Voter).count() + self.others
    }

    /// How many of them a majority has.
    pub(crate) fn needed(&self) -> usize {
        self.count() / 2 + 1
    }

    /// How many of them are not among the members that are shown.
    pub(crate) fn others(&self) -> usize {
        self.others
    }
}

#[cfg(test)]
mod tests {
    use glass_etcd::{
        story::Event,
        trace::{Configuration, Stage},
    };

    use super::*;

    fn memberships(all: &[(u64, &[u64], &[u64])]) -> Memberships {
        let mut memberships = Memberships::default();
        for (index, voters, learners) in all {
            let (voters, learners) = (voters.to_vec(), learners.to_vec());
            for fields in (Configuration { index: *index, voters, learners }).fields() {
                memberships.learn(&Event { fields, ..Event::mark(0, Stage::RaftMembers, 1) });
            }
        }
        memberships
    }

    #[test]
    fn a_learner_and_a_removed_member_do_not_vote() {
        let known =
            memberships(&[(3, &[1, 2, 3], &[]), (5, &[1, 2, 3], &[4]), (7, &[2, 3, 4], &[])]);
        let of = |applied| Voters::of(&known, Some(applied), &[1, 2, 3, 4]).unwrap();
        let words = |applied| [0, 1, 2, 3].map(|at| of(applied).standing(at).word());
        assert_eq!([None, None, None, Some("no member yet")], words(4));
        assert_eq!([None, None, None, Some("learner")], words(5));
        assert_eq!([Some("removed"), None, None, None], words(9));
        assert_eq!((3, 2), (of(9).count(), of(9).needed()));
    }

    #[test]
    fn who_votes_is_unknown_before_the_first_record_and_everyone_without_any() {
        let known = memberships(&[(3, &[1, 2], &[])]);
        assert_eq!(None, Voters::of(&known, Some(2), &[1, 2]));
        assert_eq!(None, Voters::of(&known, None, &[1, 2]));
        assert_eq!(Some(Voters::all(2)), Voters::of(&Memberships::default(), None, &[1, 2]));
    }

    #[test]
    fn a_voter_that_is_not_shown_counts_and_a_silent_endpoint_may_be_it() {
        let known = memberships(&[(3, &[1, 2, 3], &[])]);
        let few = Voters::of(&known, Some(3), &[1, 2]).unwrap();
        assert_eq!((3, 2, 1), (few.count(), few.needed(), few.others()));
        let with_stranger = Voters::of(&known, Some(3), &[1, 2, 0, 0]).unwrap();
        assert_eq!((3, 0), (with_stranger.count(), with_stranger.others()));
        assert_eq!([true, false], [2, 3].map(|at| with_stranger.votes(at)));
    }
}
