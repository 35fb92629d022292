//! A copy of a member's log, as its disk had it at a moment, for a member of another cluster.
//!
//! *Boot this moment*: members are started on such copies to see what a power failure would have
//! left. They must not meet the members from which the copies come: the copy belongs to
//! another cluster, whose id those refuse, and its entries name other peer URLs, so that nobody
//! dials them. The members' ids stay, because the log's votes and entries are theirs.
//!
//! The database is not copied. A member without one applies its log from the first entry, so this
//! needs the whole log; and what it then has is what the log says.
//!
//! Left out: the copy of a log that was compacted. Its beginning would be in a snapshot.

use std::{collections::BTreeMap, path::Path};

use raft::eraftpb::Entry;

pub use crate::storage::wal::{Copied, Metadata, Until};
use crate::{
    server::members::{Member, change::Change},
    storage::wal,
};

/// Makes another cluster's id of the one that a log belongs to.
const OTHER_CLUSTER: u64 = 0x67_6c61_7373;

/// Whose log is copied, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The directory of the log.
    pub wal: &'a Path,
    /// The data directory of the copy, which has no log.
    pub data_dir: &'a Path,
    /// The member that owns the log, by raft's id, and its cluster.
    pub owner: Metadata,
    /// What its disk had.
    pub until: Until,
    /// The new peer URL of each member.
    pub peer_urls: &'a BTreeMap<u64, String>,
}

/// Why a moment cannot be copied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log cannot be read, or the copy not be written.
    #[error(transparent)]
    Wal(#[from] wal::Error),
    /// There is another log now.
    #[error("the log belongs to member {found:x} now, and the recording is of {expected:x}")]
    Other {
        /// The owner that the log names.
        found: u64,
        /// The one that is meant.
        expected: u64,
    },
}

/// Copies the log.
///
/// # Errors
/// See [`Error`]. The log itself is never changed.
pub fn copy(request: &Request<'_>) -> Result<Copied, Error> {
    let found = wal::owner(request.wal)?;
    if found != request.owner {
        return Err(Error::Other { found: found.node_id, expected: request.owner.node_id });
    }
    let to = request.data_dir.join("member/wal");
    let owner =
        |owner: Metadata| Metadata { cluster_id: owner.cluster_id ^ OTHER_CLUSTER, ..owner };
    let edit = |entry: &mut Entry| move_member(entry, request.peer_urls);
    Ok(wal::copy((request.wal, &to), &request.until, owner, edit)?)
}

/// Replaces the peer URLs in an entry that adds a member, or gives it other URLs.
fn move_member(entry: &mut Entry, peer_urls: &BTreeMap<u64, String>) {
    let Some((id, change)) = Change::in_entry(entry) else { return };
    // A member that has gone since gets an address that nobody serves.
    let new =
        |member| vec![peer_urls.get(&member).cloned().unwrap_or("http://127.0.0.1:1".to_owned())];
    let moved = match change {
        Change::Add(member) => Change::Add(Member { peer_urls: new(member.id), ..member }),
        Change::Update(member, _) => Change::Update(member, new(member)),
        Change::Promote(_) | Change::Remove(_) => return,
    };
    entry.data = moved.encode(id).to_vec().into();
}

#[cfg(test)]
mod tests {
    use raft::eraftpb::EntryType;

    use super::*;
    use crate::server::members::Member;

    #[test]
    fn a_copy_moves_members_and_leaves_all_other_changes_as_they_are() {
        let member = |url: &str| Member {
            id: 7,
            name: "a".to_owned(),
            peer_urls: vec![url.to_owned()],
            ..Member::default()
        };
        let (old, new) = ("http://127.0.0.1:1", "http://127.0.0.1:2");
        let urls = BTreeMap::from([(7, new.to_owned())]);
        for (change, expected) in [
            (Change::Add(member(old)), Change::Add(member(new))),
            (Change::Update(7, vec![old.to_owned()]), Change::Update(7, vec![new.to_owned()])),
            (Change::Promote(7), Change::Promote(7)),
            (Change::Remove(7), Change::Remove(7)),
        ] {
            let mut entry = Entry { data: change.encode(5).to_vec().into(), ..Entry::default() };
            entry.set_entry_type(EntryType::EntryConfChange);
            move_member(&mut entry, &urls);
            assert_eq!(Change::in_entry(&entry), Some((5, expected)));
        }
    }
}
