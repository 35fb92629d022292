//! Who is in the cluster, as the log says (etcd: `membership.RaftCluster`).
//!
//! Only apply writes here, from configuration changes and from the attributes that members publish.
//! It stands in the backend, so a restart knows the members as of its consistent index.

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

/// A member in the JSON form in which etcd keeps and sends it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: u64,
    /// Where other members reach it.
    #[serde(rename = "peerURLs", default)]
    pub peer_urls: Vec<String>,
    /// Whether it has no vote.
    #[serde(rename = "isLearner", default, skip_serializing_if = "std::ops::Not::not")]
    pub is_learner: bool,
    /// Its name; empty until it has started and said so.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Where clients reach it; empty until it has started and said so.
    #[serde(rename = "clientURLs", default, skip_serializing_if = "Vec::is_empty")]
    pub client_urls: Vec<String>,
}

/// What a member publishes about itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Attributes {
    /// `--name`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `--advertise-client-urls`.
    #[serde(rename = "clientURLs", default, skip_serializing_if = "Vec::is_empty")]
    pub client_urls: Vec<String>,
}

/// Why a membership change does not count.
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
    /// The context of the change is not a member.
    #[error("membership: the change carries no member")]
    Malformed,
}

/// A row of the members that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the database is damaged: the row {key:?} of its members cannot be read")]
pub struct Damaged {
    /// The row's key: an id in hex.
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
    /// A row that is not a member: one that is missing would be a voter nobody dials.
    pub fn open(cluster_id: u64, backend: &Backend) -> Result<Self, Damaged> {
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
        Ok(Self { cluster_id, inner: RwLock::new(inner) })
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> u64 {
        self.cluster_id
    }

    /// All members, by id.
    pub fn list(&self) -> Vec<Member> {
        self.read().members.values().cloned().collect()
    }

    /// One member.
    pub fn get(&self, id: u64) -> Option<Member> {
        self.read().members.get(&id).cloned()
    }

    /// How many members have a vote.
    pub fn voters(&self) -> usize {
        self.read().members.values().filter(|member| !member.is_learner).count()
    }

    /// The cluster version, once it is decided.
    pub fn version(&self) -> Option<String> {
        self.read().version.clone()
    }

    /// Ids that were members once and may never be again.
    pub fn removed(&self) -> Vec<u64> {
        self.read().removed.iter().copied().collect()
    }

    /// Whether the change counts, given what came before it in the log. Returns the member that an
    /// addition or update carries.
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
        // A promotion is an AddNode of a member that is there.
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

    /// Apply thread: carries out a change that [`Members::validate`] has passed.
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
            // An update or a promotion does not take away what the member has published.
            member.name.clone_from(&old.name);
            member.client_urls.clone_from(&old.client_urls);
        }
        member.is_learner = change.r#type() == raftpb::ConfChangeType::ConfChangeAddLearnerNode;
        store(&member, backend);
        inner.members.insert(id, member);
    }

    /// Apply thread: takes what a member has published. A member that is not known is ignored.
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

    /// Apply thread: the cluster version is decided.
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

fn store(member: &Member, backend: &mut WriteGuard<'_>) {
    let value = serde_json::to_vec(member).expect("a member is plain data");
    backend.put(Bucket::Members, hex(member.id).as_bytes(), value.into());
}

/// The member in a change's context, and whether it is a promotion.
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
    fn a_row_that_cannot_be_read_is_an_error_and_not_a_member_less() {
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
