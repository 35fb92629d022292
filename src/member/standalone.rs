//! `--force-new-cluster`: a member leaves all others behind, and is its cluster from then on.
//!
//! It is the way out when a majority is lost and does not come back. What this member knows as
//! committed stays; entries that it does not know as committed are cut off, because they may be
//! changes of the members. Then the log gets the removal of every other member, committed without
//! anybody's vote. Apply carries them out like any others, so the rows of the members and raft's
//! configuration follow from the log, here and at each later start.
//!
//! The others must be down, and must not come back with their data: they would be another cluster
//! with the same id. This member refuses to talk to them from the start on.
//!
//! (etcd: `restartAsStandaloneNode`)

use std::{collections::BTreeMap, ops::ControlFlow};

use raft::eraftpb::{ConfState, Entry, EntryType, HardState};

use super::Error;
use crate::{
    server::members::{Member, change::Change},
    storage::{
        backend::{Backend, Bucket},
        wal::{Locations, Wal},
    },
};

/// A member's log as its start has found it.
pub(super) struct Found<'a> {
    /// The id of the member.
    pub(super) own: u64,
    /// Its peer URLs, should it not be a member by its own log yet.
    pub(super) peer_urls: &'a [String],
    /// Up to here the database has applied the log.
    pub(super) applied: u64,
    /// The configuration there.
    pub(super) conf_state: &'a ConfState,
    /// Whether the database says that this member was removed.
    pub(super) is_removed: bool,
}

/// The members by a log, with whether each is a learner; and whether this one was removed by it.
struct Known {
    members: BTreeMap<u64, bool>,
    is_removed: bool,
}

/// Cuts the log off behind its committed entries, and appends the removal of all other members.
/// Returns the hard state that commits it, and the members that are left behind.
///
/// # Errors
/// The member was removed from its cluster, or its log cannot be read or written.
pub(super) fn force(
    found: &Found<'_>,
    hard_state: &HardState,
    wal: &mut Wal,
    locations: &Locations,
) -> Result<(HardState, Vec<u64>), Error> {
    let mut commit = hard_state.commit.max(found.applied);
    let last = locations.last_index();
    let mut known = self::known(found, locations, commit)?;
    if known.members.iter().eq([(&found.own, &false)]) {
        // Alone, it has acknowledged what its disk has, and its commit index may be behind that.
        commit = commit.max(last);
        known = self::known(found, locations, commit)?;
    }
    if known.is_removed {
        return Err(Error::Removed);
    }
    let changes = changes(found, &known.members);
    let mut entries: Vec<Entry> = (commit + 1..).zip(&changes).map(of(hard_state.term)).collect();
    if entries.is_empty() && commit < last {
        // The log ends where something else is written.
        entries.push(Entry { index: commit + 1, term: hard_state.term, ..Entry::default() });
    }
    let dropped = last.saturating_sub(commit);
    let commit = commit + entries.len() as u64;
    let forced = HardState { commit, ..hard_state.clone() };
    tracing::warn!(
        dropped,
        commit,
        removed = known.members.len().saturating_sub(1),
        "forcing a new cluster of this member alone"
    );
    wal.save(&entries, Some(&forced), true)?;
    let left = known.members.into_keys().filter(|id| *id != found.own).collect();
    Ok((forced, left))
}

/// Whether the database says that this member was removed.
pub(super) fn is_removed(backend: &Backend, own: u64) -> bool {
    backend.get(Bucket::MembersRemoved, crate::server::members::hex(own).as_bytes()).is_some()
}

/// This member first, because raft permits no configuration without a voter.
fn changes(found: &Found<'_>, learners: &BTreeMap<u64, bool>) -> Vec<Change> {
    let own = match learners.get(&found.own) {
        Some(false) => None,
        Some(true) => Some(Change::Promote(found.own)),
        None => {
            let peer_urls = found.peer_urls.to_vec();
            Some(Change::Add(Member { id: found.own, peer_urls, ..Member::default() }))
        }
    };
    let others = learners.keys().filter(|id| **id != found.own).map(|id| Change::Remove(*id));
    own.into_iter().chain(others).collect()
}

fn of(term: u64) -> impl Fn((u64, &Change)) -> Entry {
    move |(index, change)| {
        let data = change.encode(0).to_vec().into();
        let mut entry = Entry { term, index, data, ..Entry::default() };
        entry.set_entry_type(EntryType::EntryConfChange);
        entry
    }
}

/// The members at `commit`, as the database and the entries after it have them (etcd: `getIDs`). A
/// change that apply will refuse does no harm: the removal of its member is refused as well.
fn known(found: &Found<'_>, locations: &Locations, commit: u64) -> Result<Known, Error> {
    let voters = found.conf_state.voters.iter().map(|id| (*id, false));
    let learners = found.conf_state.learners.iter().map(|id| (*id, true));
    let mut known =
        Known { members: voters.chain(learners).collect(), is_removed: found.is_removed };
    locations.scan(found.applied + 1, commit, |entry| {
        if let Some((_, change)) = Change::in_entry(entry) {
            note(&mut known, change, found.own);
        }
        ControlFlow::Continue(())
    })?;
    Ok(known)
}

fn note(known: &mut Known, change: Change, own: u64) {
    match change {
        Change::Add(member) => {
            known.members.entry(member.id).or_insert(member.is_learner);
        }
        Change::Promote(id) => {
            if let Some(is_learner) = known.members.get_mut(&id) {
                *is_learner = false;
            }
        }
        Change::Remove(id) => {
            let was_known = known.members.remove(&id).is_some();
            known.is_removed |= was_known && id == own;
        }
        Change::Update(..) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        raft::bootstrap::{self, InitialMember},
        storage::wal::{Metadata, Options, create},
    };

    fn member(id: u64) -> Member {
        Member { id, peer_urls: vec![format!("http://127.0.0.1:{id}")], ..Member::default() }
    }

    /// A log of members 1, 2 and 3, with these changes after that, all of term 1.
    fn log(dir: &std::path::Path, changes: &[Change]) -> (Wal, std::sync::Arc<Locations>) {
        let metadata = Metadata { node_id: 1, cluster_id: 2 };
        let (mut wal, locations) =
            create(&dir.join("wal"), &metadata, &Options::default()).unwrap();
        let initial = (1..4)
            .map(|id| InitialMember { id, context: serde_json::to_vec(&member(id)).unwrap() });
        let (mut entries, first) = bootstrap::first_entries(initial.collect());
        entries.extend((4..).zip(changes).map(of(1)));
        wal.save(&entries, Some(&first), true).unwrap();
        (wal, locations)
    }

    /// Forces member 1 alone, whose database has applied nothing. Returns the changes at the end of
    /// its log, the commit index, and those that are left behind.
    fn forced(changes: &[Change], commit: u64) -> (Vec<Option<Change>>, u64, Vec<u64>) {
        let dir = tempfile::tempdir().unwrap();
        let (mut wal, locations) = log(dir.path(), changes);
        let found = Found {
            own: 1,
            peer_urls: &["http://127.0.0.1:1".to_owned()],
            applied: 0,
            conf_state: &ConfState::default(),
            is_removed: false,
        };
        let hard_state = HardState { term: 1, vote: 2, commit, ..HardState::default() };
        let (forced, left) = force(&found, &hard_state, &mut wal, &locations).unwrap();
        assert_eq!((forced.term, forced.vote), (1, 2));
        assert_eq!(locations.last_index(), forced.commit);
        let entries = match commit < forced.commit {
            true => locations.entries(commit + 1, forced.commit + 1, u64::MAX).unwrap(),
            false => Vec::new(),
        };
        let change = |entry: &Entry| Change::in_entry(entry).map(|(_, change)| change);
        (entries.iter().map(change).collect(), forced.commit, left)
    }

    #[test]
    fn the_others_are_removed_behind_the_committed_entries() {
        let removals = vec![Some(Change::Remove(2)), Some(Change::Remove(3))];
        assert_eq!(forced(&[], 3), (removals.clone(), 5, vec![2, 3]));
        // What is not committed is cut off, here the removal of 3 and the addition of 4.
        let tail = [Change::Remove(3), Change::Add(member(4))];
        assert_eq!(forced(&tail, 3), (removals, 5, vec![2, 3]));
        assert_eq!(forced(&tail, 4), (vec![Some(Change::Remove(2))], 5, vec![2]));
    }

    #[test]
    fn a_member_alone_keeps_all_that_its_disk_has() {
        let alone = [Change::Remove(2), Change::Remove(3)];
        assert_eq!(forced(&alone, 5), (vec![], 5, vec![]));
        // Its commit index may be behind what it has acknowledged.
        let tail = [Change::Remove(2), Change::Remove(3), Change::Add(member(4))];
        let (changes, commit, left) = forced(&tail, 5);
        assert_eq!(changes, [Some(tail[2].clone()), Some(Change::Remove(4))]);
        assert_eq!((commit, left), (7, vec![4]));
    }

    #[test]
    fn a_learner_gets_a_vote_and_a_removed_member_does_not_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let (mut wal, locations) = log(dir.path(), &[]);
        let conf_state = ConfState::from((vec![2, 3], vec![1]));
        let hard_state = HardState { term: 1, commit: 3, ..HardState::default() };
        let own = |is_removed| Found {
            own: 1,
            peer_urls: &[],
            applied: 3,
            conf_state: &conf_state,
            is_removed,
        };
        let removed = force(&own(true), &hard_state, &mut wal, &locations).unwrap_err();
        assert!(matches!(removed, Error::Removed), "{removed}");
        force(&own(false), &hard_state, &mut wal, &locations).unwrap();
        let entry = &locations.entries(4, 5, u64::MAX).unwrap()[0];
        assert_eq!(Change::in_entry(entry), Some((0, Change::Promote(1))));
    }
}
