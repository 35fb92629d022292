//! A change of the members, as an entry of the log carries it (etcd: `raftpb.ConfChange`).
//!
//! | change      | type                       | context                                     |
//! |-------------|----------------------------|---------------------------------------------|
//! | add         | AddNode                    | the member as JSON                          |
//! | add learner | AddLearnerNode             | the same, with `isLearner`                  |
//! | promote     | AddNode                    | its id, and `isPromote`                     |
//! | remove      | RemoveNode                 | none                                        |
//! | update      | UpdateNode                 | its id and its new peer URLs                |
//!
//! The bytes are etcd's, so that its members carry out what is proposed here, and the other way
//! round. The number in the field `id` is that of the request, as in every other entry.

use bytes::Bytes;
use prost::Message as _;
use raft::eraftpb::{Entry, EntryType};
use serde::{Deserialize, Serialize};

use super::{Member, Refusal};
use crate::pb::raftpb::{self, ConfChangeType as Kind};

/// How the members are to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A member is added: a voter, or a learner.
    Add(Member),
    /// The learner with this id gets a vote.
    Promote(u64),
    /// The member with this id is removed, and its id is never used again.
    Remove(u64),
    /// The member with this id is reached at other peer URLs.
    Update(u64, Vec<String>),
}

/// The context of a promotion. Go writes null for the URLs, which stay as they are.
#[derive(Serialize, Deserialize)]
struct Promotion {
    id: u64,
    #[serde(rename = "peerURLs", default)]
    peer_urls: Option<Vec<String>>,
    #[serde(rename = "isPromote", default)]
    is_promote: bool,
}

impl Change {
    /// The id of the member that is concerned.
    pub fn member(&self) -> u64 {
        match self {
            Self::Add(member) => member.id,
            Self::Promote(id) | Self::Remove(id) | Self::Update(id, _) => *id,
        }
    }

    /// The number that records carry: its position in [`CHANGES`](crate::trace::value::CHANGES).
    pub(crate) fn number(&self) -> u64 {
        match self {
            Self::Add(member) if !member.is_learner => 1,
            Self::Add(_) => 2,
            Self::Promote(_) => 3,
            Self::Remove(_) => 4,
            Self::Update(..) => 5,
        }
    }

    /// The data of the entry that proposes it under this id.
    pub(crate) fn encode(&self, id: u64) -> Bytes {
        let kind = match self {
            Self::Add(member) if member.is_learner => Kind::ConfChangeAddLearnerNode,
            Self::Add(_) | Self::Promote(_) => Kind::ConfChangeAddNode,
            Self::Remove(_) => Kind::ConfChangeRemoveNode,
            Self::Update(..) => Kind::ConfChangeUpdateNode,
        };
        let context = match self {
            Self::Remove(_) => None,
            Self::Add(member) => Some(json(member)),
            Self::Promote(id) => {
                Some(json(&Promotion { id: *id, peer_urls: None, is_promote: true }))
            }
            Self::Update(id, urls) => {
                let peer_urls = urls.clone();
                Some(json(&Member { id: *id, peer_urls, ..Member::default() }))
            }
        };
        let node_id = Some(self.member());
        let change =
            raftpb::ConfChange { id: Some(id), r#type: Some(kind as i32), node_id, context };
        change.encode_to_vec().into()
    }

    /// The change that an entry of the log carries, with the id of its request. `None` if it
    /// carries none, or one that every member refuses.
    pub(crate) fn in_entry(entry: &Entry) -> Option<(u64, Self)> {
        if entry.get_entry_type() != EntryType::EntryConfChange {
            return None;
        }
        let change = raftpb::ConfChange::decode(&*entry.data).ok()?;
        Some((change.id(), Self::of(&change).ok()?))
    }

    /// The change in an entry. Another program may have proposed anything, so a change that carries
    /// no member, or another than it names, is refused, by every member alike; etcd panics.
    pub(crate) fn of(change: &raftpb::ConfChange) -> Result<Self, Refusal> {
        let id = change.node_id();
        let kind = Kind::try_from(change.r#type.unwrap_or_default());
        let kind = kind.map_err(|_| Refusal::Malformed)?;
        if id == 0 {
            return Err(Refusal::Malformed);
        }
        if kind == Kind::ConfChangeRemoveNode {
            return Ok(Self::Remove(id));
        }
        let malformed = |_| Refusal::Malformed;
        let promotion: Promotion = serde_json::from_slice(change.context()).map_err(malformed)?;
        if promotion.id != id {
            return Err(Refusal::Malformed);
        }
        match kind {
            Kind::ConfChangeUpdateNode => {
                Ok(Self::Update(id, promotion.peer_urls.unwrap_or_default()))
            }
            // etcd looks at this mark in both kinds, and raft has the last word about the vote.
            Kind::ConfChangeAddNode if promotion.is_promote => Ok(Self::Promote(id)),
            _ if promotion.is_promote => Err(Refusal::Malformed),
            _ => {
                let member: Member = serde_json::from_slice(change.context()).map_err(malformed)?;
                let is_learner = kind == Kind::ConfChangeAddLearnerNode;
                Ok(Self::Add(Member { is_learner, ..member }))
            }
        }
    }
}

fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("it is plain data").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(is_learner: bool) -> Member {
        let peer_urls = vec!["http://127.0.0.1:2380".to_owned()];
        Member { id: 7, peer_urls, is_learner, ..Member::default() }
    }

    fn decoded(data: &[u8]) -> Result<Change, Refusal> {
        Change::of(&raftpb::ConfChange::decode(data).unwrap())
    }

    #[test]
    fn a_change_is_read_back_from_its_entry_under_its_id() {
        for change in [
            Change::Add(member(false)),
            Change::Add(member(true)),
            Change::Promote(7),
            Change::Remove(7),
            Change::Update(7, vec!["http://127.0.0.1:1".to_owned()]),
        ] {
            let data = change.encode(0x1234_0000_0000_0001);
            assert_eq!(crate::pb::entry_id(&data), 0x1234_0000_0000_0001);
            assert_eq!(decoded(&data), Ok(change));
        }
    }

    /// The contexts as etcd 3.5.1 has them in its log.
    #[test]
    fn the_contexts_are_those_of_etcd() {
        let context = |change: Change| {
            let change = raftpb::ConfChange::decode(&*change.encode(1)).unwrap();
            String::from_utf8(change.context().to_vec()).unwrap()
        };
        let urls = r#""peerURLs":["http://127.0.0.1:2380"]"#;
        assert_eq!(context(Change::Add(member(false))), format!("{{\"id\":7,{urls}}}"));
        let learner = format!("{{\"id\":7,{urls},\"isLearner\":true}}");
        assert_eq!(context(Change::Add(member(true))), learner);
        assert_eq!(context(Change::Promote(7)), r#"{"id":7,"peerURLs":null,"isPromote":true}"#);
        let moved = Change::Update(7, member(false).peer_urls);
        assert_eq!(context(moved), format!("{{\"id\":7,{urls}}}"));
        assert_eq!(context(Change::Remove(7)), "");
    }

    #[test]
    fn a_change_without_the_member_that_it_names_is_malformed() {
        let of = |kind: i32, node_id, context: &str| {
            let context = Some(Bytes::copy_from_slice(context.as_bytes()));
            let (id, r#type, node_id) = (Some(1), Some(kind), Some(node_id));
            Change::of(&raftpb::ConfChange { id, r#type, node_id, context })
        };
        for (kind, node_id, context) in [
            (0, 7, ""),
            (0, 7, "{"),
            (0, 7, "[]"),
            (0, 7, "{\"id\":8}"),
            (0, 0, "{\"id\":0}"),
            (1, 0, ""),
            (2, 7, ""),
            (3, 7, "{\"id\":7,\"peerURLs\":7}"),
            (3, 7, "{\"id\":7,\"isPromote\":true}"),
            (4, 7, "{\"id\":7}"),
            (-1, 7, "{\"id\":7}"),
        ] {
            assert_eq!(of(kind, node_id, context), Err(Refusal::Malformed), "{kind} {context}");
        }
        assert_eq!(of(1, 7, "no json"), Ok(Change::Remove(7)));
        let bare = Change::Add(Member { id: 7, ..Member::default() });
        assert_eq!(of(0, 7, "{\"id\":7,\"peerURLs\":null}"), Ok(bare));
    }
}
