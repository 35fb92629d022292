//! The members of the cluster, as the log says (etcd: `membership.RaftCluster`).
//!
//! Only the apply thread writes here, from configuration changes and from the attributes that
//! members publish. The rows are in the backend, so after a restart the members are those as of the
//! consistent index. Ids of removed members stay there for ever.
//!
//! [`change`] has the changes of the members as the log carries them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::RwLock,
};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};

use self::change::Change;
use crate::{
    pb::etcdserverpb,
    storage::backend::{Backend, Bucket, WriteGuard},
    trace::Reason,
};

pub mod change;

/// The most learners at a time unless a flag says otherwise (etcd: maxLearners).
const MAX_LEARNERS: usize = 1;

/// A member, with the JSON form in which etcd stores and sends it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// An id of a removed member is never used again.
    pub id: u64,
    /// URLs at which other members reach it.
    #[serde(rename = "peerURLs", default, deserialize_with = "null_or_list")]
    pub peer_urls: Vec<String>,
    /// A learner gets all entries but has no vote.
    #[serde(rename = "isLearner", default, skip_serializing_if = "std::ops::Not::not")]
    pub is_learner: bool,
    /// `--name`; empty until the member has published it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// URLs at which clients reach it; empty until the member has published them.
    #[serde(rename = "clientURLs", default, skip_serializing_if = "Vec::is_empty")]
    pub client_urls: Vec<String>,
}

impl Member {
    /// Whether it has ever started: it has published its client URLs then (etcd: IsStarted, by the
    /// name; isMemberBootstrapped, by the URLs).
    pub fn has_published(&self) -> bool {
        !self.client_urls.is_empty()
    }
}

/// The attributes that a member publishes when it starts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Attributes {
    /// The member's `--name`; empty until it has published it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The member's `--advertise-client-urls`, none until it has published them.
    #[serde(rename = "clientURLs", default, skip_serializing_if = "Vec::is_empty")]
    pub client_urls: Vec<String>,
}

/// Why a change of the members is refused: by apply, and then by every member for the same reason,
/// or already by the member that is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// etcd: ErrMemberBadURLs. The request names no URL at which a member can be reached.
    #[error("given member URLs are invalid")]
    BadUrls,
    /// etcd: ErrNotEnoughStartedMembers.
    #[error("re-configuration failed due to not enough started members")]
    NotEnoughStarted,
    /// etcd: ErrLearnerNotReady.
    #[error("can only promote a learner member which is in sync with leader")]
    NotReady,
    /// etcd: ErrIDRemoved.
    #[error("membership: ID removed")]
    Removed,
    /// etcd: ErrIDExists.
    #[error("membership: ID exists")]
    Exists,
    /// etcd: ErrIDNotFound.
    #[error("membership: ID not found")]
    NotFound,
    /// etcd: ErrPeerURLexists.
    #[error("membership: peerURL exists")]
    PeerUrlExists,
    /// etcd: ErrMemberNotLearner.
    #[error("membership: can only promote a learner member")]
    NotLearner,
    /// etcd: ErrTooManyLearners.
    #[error("membership: too many learner members in cluster")]
    TooManyLearners,
    /// The change is of an unknown kind, or does not carry the member that it names. etcd's members
    /// end there.
    #[error("membership: the change carries no member")]
    Malformed,
}

impl Refusal {
    /// The reason that the record of a failed step carries.
    pub(crate) fn reason(self) -> Reason {
        match self {
            Self::BadUrls => Reason::MemberBadUrls,
            Self::NotEnoughStarted => Reason::NotEnoughStarted,
            Self::NotReady => Reason::LearnerNotReady,
            Self::Removed | Self::NotFound => Reason::MemberNotFound,
            Self::Exists => Reason::MemberExists,
            Self::PeerUrlExists => Reason::PeerUrlExists,
            Self::NotLearner => Reason::MemberNotLearner,
            Self::TooManyLearners => Reason::TooManyLearners,
            Self::Malformed => Reason::MalformedChange,
        }
    }
}

/// A row of the buckets `members` or `members_removed` does not decode.
#[derive(Debug, thiserror::Error)]
#[error("the database is damaged: the row {key:?} of its members cannot be read")]
pub struct Damaged {
    /// The row's key, which should be an id in hex.
    key: String,
}

/// The value of a row of the bucket `members_removed`.
const REMOVED: &[u8] = b"removed";

/// Key of the cluster bucket that holds the cluster version.
const VERSION_KEY: &[u8] = b"clusterVersion";

/// The members of the cluster.
#[derive(Debug)]
pub struct Members {
    cluster_id: u64,
    /// `--max-learners`. Members with different values would disagree about a change.
    max_learners: usize,
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    members: BTreeMap<u64, Member>,
    removed: BTreeSet<u64>,
    version: Option<String>,
}

impl Members {
    /// Reads the members from the backend.
    ///
    /// # Errors
    ///
    /// A row does not decode. Without it a voter could be missing, which this member would not
    /// dial.
    pub fn open(cluster_id: u64, backend: &Backend) -> Result<Self, Damaged> {
        let inner = RwLock::new(read(backend)?);
        Ok(Self { cluster_id, max_learners: MAX_LEARNERS, inner })
    }

    /// The same members, which may have this many learners among them.
    #[must_use]
    pub fn with_max_learners(self, max_learners: usize) -> Self {
        Self { max_learners, ..self }
    }

    /// Apply thread: reads the members again, from a database that was received.
    ///
    /// # Errors
    ///
    /// As [`Members::open`].
    pub fn reload(&self, backend: &Backend) -> Result<(), Damaged> {
        let read = read(backend)?;
        *self.inner.write().expect("nobody panics while holding it") = read;
        Ok(())
    }

    /// These members, without a backend.
    #[cfg(test)]
    pub(crate) fn of(members: impl IntoIterator<Item = Member>) -> Self {
        let members = members.into_iter().map(|member| (member.id, member)).collect();
        let inner = RwLock::new(Inner { members, ..Inner::default() });
        Self { cluster_id: 1, max_learners: MAX_LEARNERS, inner }
    }

    /// The id that all members of this cluster share.
    pub fn cluster_id(&self) -> u64 {
        self.cluster_id
    }

    /// All members, in the order of their ids.
    pub fn list(&self) -> Vec<Member> {
        self.read().members.values().cloned().collect()
    }

    /// The member with this id, unless it was removed or never added.
    pub fn get(&self, id: u64) -> Option<Member> {
        self.read().members.get(&id).cloned()
    }

    /// The members that have a vote, in the order of their ids.
    pub(super) fn voters(&self) -> Vec<Member> {
        self.read().members.values().filter(|member| !member.is_learner).cloned().collect()
    }

    /// Number of voters, and of learners.
    pub(super) fn counts(&self) -> (usize, usize) {
        let inner = self.read();
        let learners = inner.members.values().filter(|member| member.is_learner).count();
        (inner.members.len() - learners, learners)
    }

    /// Whether this id belongs to a member that has no vote yet.
    pub(super) fn is_learner(&self, id: u64) -> bool {
        self.read().members.get(&id).is_some_and(|member| member.is_learner)
    }

    /// The cluster version; `None` until the leader has decided it.
    pub fn version(&self) -> Option<String> {
        self.read().version.clone()
    }

    /// Ids of removed members, which may never join again.
    pub fn removed(&self) -> Vec<u64> {
        self.read().removed.iter().copied().collect()
    }

    /// Whether the member with this id was removed from the cluster.
    pub fn is_removed(&self, id: u64) -> bool {
        self.read().removed.contains(&id)
    }

    /// Whether a change is valid after all entries before it: every member says the same.
    pub(super) fn validate(&self, change: &Change) -> Result<(), Refusal> {
        let inner = self.read();
        let id = change.member();
        if inner.removed.contains(&id) {
            return Err(Refusal::Removed);
        }
        let known = inner.members.get(&id);
        let learners = inner.members.values().filter(|member| member.is_learner).count();
        match (change, known) {
            (Change::Add(_), Some(_)) => Err(Refusal::Exists),
            (Change::Promote(_) | Change::Remove(_) | Change::Update(..), None) => {
                Err(Refusal::NotFound)
            }
            (Change::Promote(_), Some(member)) if !member.is_learner => Err(Refusal::NotLearner),
            (Change::Promote(_) | Change::Remove(_), Some(_)) => Ok(()),
            (Change::Add(member), None) => {
                inner.check_free(id, &member.peer_urls)?;
                match member.is_learner && self.max_learners <= learners {
                    true => Err(Refusal::TooManyLearners),
                    false => Ok(()),
                }
            }
            (Change::Update(_, urls), Some(_)) => inner.check_free(id, urls),
        }
    }

    /// Apply thread: carries out a change that [`Members::validate`] has accepted.
    pub(super) fn apply(&self, change: Change, backend: &mut WriteGuard<'_>) {
        let id = change.member();
        let mut inner = self.inner.write().expect("nobody panics while holding it");
        match change {
            Change::Remove(_) => {
                inner.members.remove(&id);
                inner.removed.insert(id);
                let key = hex(id);
                backend.delete(Bucket::Members, key.as_bytes());
                backend.put(Bucket::MembersRemoved, key.as_bytes(), Bytes::from_static(REMOVED));
            }
            Change::Add(member) => {
                store(&member, backend);
                inner.members.insert(id, member);
            }
            // These two keep the attributes that the member has published.
            Change::Promote(_) | Change::Update(..) => {
                let Some(member) = inner.members.get_mut(&id) else { return };
                match change {
                    Change::Update(_, urls) => member.peer_urls = urls,
                    _ => member.is_learner = false,
                }
                store(member, backend);
            }
        }
    }

    /// Apply thread: stores the attributes that a member has published. Those of an unknown member
    /// are ignored; returns whether it is known.
    pub fn set_attributes(
        &self,
        id: u64,
        attributes: Attributes,
        backend: &mut WriteGuard<'_>,
    ) -> bool {
        let mut inner = self.inner.write().expect("nobody panics while holding it");
        let Some(member) = inner.members.get_mut(&id) else {
            tracing::warn!(member = %hex(id), "attributes of an unknown member were ignored");
            return false;
        };
        member.name = attributes.name;
        member.client_urls = attributes.client_urls;
        store(member, backend);
        true
    }

    /// Apply thread: stores the cluster version that the leader has decided.
    pub fn set_version(&self, version: &str, backend: &mut WriteGuard<'_>) {
        let mut inner = self.inner.write().expect("nobody panics while holding it");
        let value = Bytes::copy_from_slice(version.as_bytes());
        backend.put(Bucket::Cluster, VERSION_KEY, value);
        inner.version = Some(version.to_owned());
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Inner> {
        self.inner.read().expect("nobody panics while holding it")
    }
}

impl Inner {
    /// Checks that no other member is reached at these URLs.
    fn check_free(&self, id: u64, urls: &[String]) -> Result<(), Refusal> {
        let mut others = self.members.values().filter(|other| other.id != id);
        match others.any(|other| other.peer_urls.iter().any(|url| urls.contains(url))) {
            true => Err(Refusal::PeerUrlExists),
            false => Ok(()),
        }
    }
}

impl From<Member> for etcdserverpb::Member {
    fn from(member: Member) -> Self {
        Self {
            id: member.id,
            name: member.name,
            peer_ur_ls: member.peer_urls,
            client_ur_ls: member.client_urls,
            is_learner: member.is_learner,
        }
    }
}

/// The members in the backend's rows.
fn read(backend: &Backend) -> Result<Inner, Damaged> {
    let damaged = |key: &Bytes| Damaged { key: String::from_utf8_lossy(key).into_owned() };
    let mut inner = Inner::default();
    for (key, value) in backend.range(Bucket::Members, b"", None, usize::MAX) {
        let member: Member = serde_json::from_slice(&value).map_err(|_| damaged(&key))?;
        inner.members.insert(member.id, member);
    }
    for (key, _) in backend.range(Bucket::MembersRemoved, b"", None, usize::MAX) {
        inner.removed.insert(parse_hex(&key).ok_or_else(|| damaged(&key))?);
    }
    if let Some((value, _)) = backend.get(Bucket::Cluster, VERSION_KEY) {
        inner.version = Some(String::from_utf8_lossy(&value).into_owned());
    }
    Ok(inner)
}

fn store(member: &Member, backend: &mut WriteGuard<'_>) {
    let value = serde_json::to_vec(member).expect("a member is plain data");
    backend.put(Bucket::Members, hex(member.id).as_bytes(), value.into());
}

/// A list that Go may have written as null.
fn null_or_list<'de, D: Deserializer<'de>>(json: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(json)?.unwrap_or_default())
}

/// An id as etcd writes it: lower-case hex without leading zeros.
pub fn hex(id: u64) -> String {
    format!("{id:x}")
}

fn parse_hex(text: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::backend;

    #[test]
    fn a_row_that_does_not_decode_is_an_error_and_not_skipped() {
        for (bucket, key, value) in
            [(Bucket::Members, "b", "{\"id\":"), (Bucket::MembersRemoved, "no id", "removed")]
        {
            let dir = tempfile::tempdir().unwrap();
            let backend =
                Backend::open(&dir.path().join("db"), backend::Options::default()).unwrap();
            let good = serde_json::to_vec(&Member { id: 10, ..Member::default() }).unwrap();
            backend.write().put(Bucket::Members, b"a", good.into());
            assert_eq!(Members::open(1, &backend).unwrap().list().len(), 1);
            backend.write().put(bucket, key.as_bytes(), Bytes::from(value));
            let error = Members::open(1, &backend).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }
}
