//! The members of the cluster, as the log says (etcd: `membership.RaftCluster`).
//!
//! Only the apply thread writes here, from configuration changes and from the attributes that
//! members publish. The rows are in the backend, so after a restart the members are those as of the
//! consistent index.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::RwLock,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    pb::{etcdserverpb, raftpb},
    storage::backend::{Backend, Bucket, WriteGuard},
};

/// A member, with the JSON form in which etcd stores and sends it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// An id of a removed member is never used again.
    pub id: u64,
    /// URLs at which other members reach it.
    #[serde(rename = "peerURLs", default)]
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

/// Why a membership change is refused: the same reason on every member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
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
    /// The context of the change does not decode as a member.
    #[error("membership: the change carries no member")]
    Malformed,
}

/// A row of the buckets `members` or `members_removed` does not decode.
#[derive(Debug, thiserror::Error)]
#[error("the database is damaged: the row {key:?} of its members cannot be read")]
pub struct Damaged {
    /// The row's key, which should be an id in hex.
    key: String,
}

/// Key of the cluster bucket that holds the cluster version.
const VERSION_KEY: &[u8] = b"clusterVersion";

/// The members of the cluster.
#[derive(Debug)]
pub struct Members {
    cluster_id: u64,
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
        Ok(Self { cluster_id, inner: RwLock::new(read(backend)?) })
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
        Self { cluster_id: 1, inner: RwLock::new(Inner { members, ..Inner::default() }) }
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

    /// Number of members that have a vote.
    pub fn voters(&self) -> usize {
        self.read().members.values().filter(|member| !member.is_learner).count()
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

    /// Whether a change is valid after all entries before it. Returns the member that an addition
    /// or an update carries.
    pub fn validate(&self, change: &raftpb::ConfChange) -> Result<Option<Member>, Refusal> {
        use raftpb::ConfChangeType as Kind;
        let inner = self.read();
        let id = change.node_id();
        if inner.removed.contains(&id) {
            return Err(Refusal::Removed);
        }
        let known = inner.members.contains_key(&id);
        if change.r#type() == Kind::ConfChangeRemoveNode {
            return if known { Ok(None) } else { Err(Refusal::NotFound) };
        }
        let context = change.context();
        let (member, promotes) = parse_context(context).ok_or(Refusal::Malformed)?;
        // A promotion is an AddNode of an existing member.
        let must_exist = promotes || change.r#type() == Kind::ConfChangeUpdateNode;
        match (must_exist, known) {
            (true, false) => return Err(Refusal::NotFound),
            (false, true) => return Err(Refusal::Exists),
            (true, true) | (false, false) => {}
        }
        let others = inner.members.values().filter(|other| other.id != id);
        let taken =
            others.flat_map(|other| &other.peer_urls).any(|url| member.peer_urls.contains(url));
        if taken { Err(Refusal::PeerUrlExists) } else { Ok(Some(member)) }
    }

    /// Apply thread: carries out a change that [`Members::validate`] has accepted.
    pub fn apply(
        &self,
        change: &raftpb::ConfChange,
        member: Option<Member>,
        backend: &mut WriteGuard<'_>,
    ) {
        let id = change.node_id();
        let mut inner = self.inner.write().expect("nobody panics while holding it");
        let Some(mut member) = member else {
            inner.members.remove(&id);
            inner.removed.insert(id);
            backend.delete(Bucket::Members, hex(id).as_bytes());
            backend.put(Bucket::MembersRemoved, hex(id).as_bytes(), Bytes::from_static(b"removed"));
            return;
        };
        if let Some(old) = inner.members.get(&id) {
            // An update or a promotion keeps the attributes that the member has published.
            member.name.clone_from(&old.name);
            member.client_urls.clone_from(&old.client_urls);
        }
        member.is_learner = change.r#type() == raftpb::ConfChangeType::ConfChangeAddLearnerNode;
        store(&member, backend);
        inner.members.insert(id, member);
    }

    /// Apply thread: stores the attributes that a member has published. Those of an unknown member
    /// are ignored.
    pub fn set_attributes(&self, id: u64, attributes: Attributes, backend: &mut WriteGuard<'_>) {
        let mut inner = self.inner.write().expect("nobody panics while holding it");
        let Some(member) = inner.members.get_mut(&id) else {
            tracing::warn!(member = %hex(id), "attributes of an unknown member were ignored");
            return;
        };
        member.name = attributes.name;
        member.client_urls = attributes.client_urls;
        store(member, backend);
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

/// The member in a change's context, and whether the change promotes it.
fn parse_context(context: &[u8]) -> Option<(Member, bool)> {
    #[derive(Deserialize)]
    struct Promotion {
        #[serde(rename = "isPromote", default)]
        is_promote: bool,
    }
    let member = serde_json::from_slice(context).ok()?;
    let promotion: Promotion = serde_json::from_slice(context).ok()?;
    Some((member, promotion.is_promote))
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
