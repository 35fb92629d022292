//! Joining a cluster that runs: `--initial-cluster-state existing` with an empty data directory.
//!
//! ```text
//!   member add ──▶ the cluster knows the new member's URLs, and has given it an id
//!   this file  ──▶ asks the others for their members, finds its own id by its URLs, and takes the
//!                  cluster's id; the log begins empty, and everything comes from the leader
//! ```
//!
//! `--initial-cluster` must name exactly the members that the others know, by their peer URLs. All
//! others are asked at the same time, and the first answer that fits decides: a member that lags
//! behind may not know the new one yet. (etcd: `bootstrapExistingCluster`, `NewServer`)
//!
//! A member that the others know as started has acknowledged entries, and has voted. It does not
//! begin with an empty log under its old id, which etcd permits, and after which its leader panics
//! it; it has to be removed and added again, and gets a new id.

use std::{fmt, time::Duration};

use serde::Deserialize;

use super::{Error, peers};
use crate::{
    config::{self, ETCD_VERSION, ServerConfig},
    server::members::{Member, hex},
    storage::wal::Metadata,
};

/// How long the others may take to answer (etcd: GetClusterFromRemotePeers).
const PATIENCE: Duration = Duration::from_secs(10);

/// The lowest version of a cluster that a member may join (etcd: version.MinClusterVersion).
const LOWEST: (u32, u32) = (3, 0);

/// The cluster as one of its members describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Existing {
    /// The cluster's id.
    pub(super) cluster_id: u64,
    /// Its members, this one among them.
    pub(super) members: Vec<Member>,
    /// The id of this one.
    pub(super) own: u64,
}

impl Existing {
    /// The owner of the new member's log.
    pub(super) fn owner(&self) -> Metadata {
        Metadata { node_id: self.own, cluster_id: self.cluster_id }
    }
}

/// Why a description does not fit `--initial-cluster`. The texts are etcd's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Unfit {
    /// There are more or fewer members.
    #[error("member count is unequal")]
    Count,
    /// A member is not in `--initial-cluster`.
    #[error("PeerURLs: no match found for existing member ({id}, [{}]), last resolver error (<nil>)",
        urls.join(" "), id = hex(*id))]
    NoMatch {
        /// The id of that member.
        id: u64,
        /// Its peer URLs.
        urls: Vec<String>,
    },
}

/// Finds the cluster that this member was added to.
///
/// # Errors
/// No member answers, or none of the answers fits; or this member has started before.
pub(super) fn find(config: &ServerConfig) -> Result<Existing, Error> {
    let answers = peers::ask_all(config, PATIENCE)?;
    let described: Vec<_> = answers.iter().filter_map(cluster).collect();
    let Some(first) = described.first() else { return Err(Error::NoCluster) };
    let mut unfit = None;
    for (cluster_id, members) in &described {
        match fit(config, members) {
            Ok(own) => return admitted(config, *cluster_id, members.clone(), own),
            Err(why) => unfit = unfit.or(Some(why)),
        }
    }
    let cluster = Description(first.0, &first.1).to_string();
    let why = unfit.unwrap_or(Unfit::Count).to_string();
    Err(Error::OtherMembers { cluster, why })
}

fn cluster(answer: &peers::Answer) -> Option<(u64, Vec<Member>)> {
    let members: Vec<Member> = serde_json::from_slice(&answer.body).ok()?;
    let cluster_id = answer.cluster_id?;
    (!members.is_empty()).then_some((cluster_id, members))
}

/// The id of this member in a description that fits the flags (etcd:
/// `ValidateClusterAndAssignIDs`).
fn fit(config: &ServerConfig, members: &[Member]) -> Result<u64, Unfit> {
    if members.len() != config.initial_cluster.len() {
        return Err(Unfit::Count);
    }
    let mut own = None;
    for member in members {
        let is_same =
            |(_, urls): &&(String, Vec<String>)| config::same_places(urls, &member.peer_urls);
        let Some((name, _)) = config.initial_cluster.iter().find(is_same) else {
            return Err(Unfit::NoMatch { id: member.id, urls: member.peer_urls.clone() });
        };
        if *name == config.name {
            own = Some(member.id);
        }
    }
    // Two of the flags' members may be at the same place, and this one be neither.
    own.ok_or(Unfit::Count)
}

fn admitted(
    config: &ServerConfig,
    cluster_id: u64,
    members: Vec<Member>,
    own: u64,
) -> Result<Existing, Error> {
    if members.iter().any(|member| member.id == own && member.has_published()) {
        return Err(Error::AlreadyBootstrapped { id: own });
    }
    let urls = members.iter().filter(|member| member.id != own).flat_map(|it| it.peer_urls.clone());
    let versions = peers::ask_urls(&urls.collect::<Vec<_>>(), "/version", config.election)?;
    let (major, minor) = version(ETCD_VERSION).unwrap_or(LOWEST);
    let mut known = versions.iter().filter_map(cluster_version).peekable();
    if known.peek().is_none() || !known.all(|it| LOWEST <= it && it <= (major, minor)) {
        return Err(Error::Incompatible);
    }
    Ok(Existing { cluster_id, members, own })
}

fn cluster_version(answer: &peers::Answer) -> Option<(u32, u32)> {
    #[derive(Deserialize)]
    struct Versions {
        etcdcluster: String,
    }
    let versions: Versions = serde_json::from_slice(&answer.body).ok()?;
    version(&versions.etcdcluster)
}

fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// A cluster as etcd writes it into its error.
struct Description<'m>(u64, &'m [Member]);

impl fmt::Display for Description<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let member = |member: &Member| {
            format!(
                "&{{ID:{} RaftAttributes:{{PeerURLs:[{}] IsLearner:{}}} \
                 Attributes:{{Name:{} ClientURLs:[{}]}}}}",
                hex(member.id),
                member.peer_urls.join(" "),
                member.is_learner,
                member.name,
                member.client_urls.join(" "),
            )
        };
        let members: Vec<String> = self.1.iter().map(member).collect();
        let members = members.join(" ");
        write!(f, "{{ClusterID:{} Members:[{members}] RemovedMemberIDs:[]}}", hex(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Asked, parse};

    /// Member c of a cluster of three.
    fn flags() -> ServerConfig {
        let cluster = "a=http://127.0.0.1:1,b=http://127.0.0.1:2,c=http://localhost:3";
        let args = ["--name=c", "--initial-cluster-state=existing", "--initial-cluster", cluster];
        match parse(&args.map(str::to_owned), &[]) {
            Ok(Asked::Start(parsed)) => parsed.config,
            other => panic!("{other:?}"),
        }
    }

    fn members(ports: &[u16]) -> Vec<Member> {
        let member = |(id, port): (u64, &u16)| Member {
            id,
            peer_urls: vec![format!("http://127.0.0.1:{port}")],
            ..Member::default()
        };
        (7..).zip(ports).map(member).collect()
    }

    #[test]
    fn the_own_id_is_found_by_the_places_of_the_urls() {
        assert_eq!(fit(&flags(), &members(&[3, 1, 2])), Ok(7));
        assert_eq!(fit(&flags(), &members(&[1, 2, 3])), Ok(9));
        assert_eq!(fit(&flags(), &members(&[1, 2])), Err(Unfit::Count));
        let other = fit(&flags(), &members(&[1, 4, 3])).unwrap_err();
        let text = "PeerURLs: no match found for existing member (8, [http://127.0.0.1:4]), last \
                    resolver error (<nil>)";
        assert_eq!(other.to_string(), text);
    }

    #[test]
    fn a_member_that_has_started_does_not_join_again() {
        let mut all = members(&[1, 2, 3]);
        all[2].client_urls.push("http://127.0.0.1:2379".to_owned());
        let refused = admitted(&flags(), 5, all, 9).unwrap_err();
        assert!(matches!(refused, Error::AlreadyBootstrapped { id: 9 }), "{refused}");
    }

    #[test]
    fn a_cluster_is_described_in_the_words_of_etcd() {
        let text = Description(0xabc, &members(&[1])).to_string();
        let expected = "{ClusterID:abc Members:[&{ID:7 RaftAttributes:{PeerURLs:[http://127.0.0.1:1] \
                        IsLearner:false} Attributes:{Name: ClientURLs:[]}}] RemovedMemberIDs:[]}";
        assert_eq!(text, expected);
    }
}
