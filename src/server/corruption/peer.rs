//! A hash for another member, over HTTP at the peer port (etcd: `HashKVHandler`, `HashByRev`).
//!
//! Question and answer are JSON, in the forms of etcd's members: Go leaves out fields that are 0.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use serde::{Deserialize, Serialize};

use super::{Checker, Compared};
use crate::{
    raft::rafthttp::questions::{self, Limits},
    server::{
        Error,
        ids::RequestIds,
        long_reads::LongReads,
        members::{Member, hex},
        mvcc::HashKv,
    },
};

/// The path of the question (etcd: PeerHashKVPath).
pub const HASH_KV: &str = "/members/hashkv";

/// The cluster of the asking member.
const CLUSTER: &str = "x-etcd-cluster-id";
/// The header that names the request for which a member asks, so that the records of the answer are
/// found with it. An etcd member ignores it.
const ASKING: &str = "x-glass-request";
/// The most bytes of an answer.
const BODY_MAX: usize = 64 << 10;

const COMPACTED: &str = "mvcc: required revision has been compacted\n";
const FUTURE: &str = "mvcc: required revision is a future revision\n";

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Question {
    #[serde(skip_serializing_if = "is_zero")]
    revision: i64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Answer {
    header: Header,
    #[serde(skip_serializing_if = "is_zero")]
    hash: u32,
    #[serde(skip_serializing_if = "is_zero")]
    compact_revision: i64,
    #[serde(skip_serializing_if = "is_zero")]
    hash_revision: i64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Header {
    #[serde(skip_serializing_if = "is_zero")]
    revision: i64,
}

fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}

/// Why a member gives no hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoHash {
    #[error("it did not answer")]
    Silent,
    /// Its answer, in one line.
    #[error("{0}")]
    Refused(String),
}

/// Asks a member for its hash at a revision, at one of its URLs after the other.
pub(super) async fn ask(
    checker: &Checker,
    id: u64,
    member: &Member,
    revision: i64,
) -> Result<Compared, NoHash> {
    let mut why = NoHash::Silent;
    for url in &member.peer_urls {
        let question = question(checker.members.cluster_id(), id, revision);
        let limits = Limits { patience: checker.patience, body: BODY_MAX };
        let Some(answer) = questions::ask(url, question, limits).await else { continue };
        match read(answer.status(), answer.body()) {
            Ok(answer) => {
                let (hash, compacted) = (answer.hash, answer.compact_revision);
                let (member, revision) = (member.id, answer.header.revision);
                return Ok(Compared { member, hash, compacted, revision });
            }
            Err(refused) => why = NoHash::Refused(refused),
        }
    }
    Err(why)
}

fn question(cluster_id: u64, id: u64, revision: i64) -> Request<Bytes> {
    let body = serde_json::to_vec(&Question { revision }).expect("a number is plain data");
    Request::get(HASH_KV)
        .header(header::CONTENT_TYPE, "application/json")
        .header(CLUSTER, hex(cluster_id))
        .header(ASKING, format!("{id:016x}"))
        .body(body.into())
        .expect("all headers are plain text")
}

fn read(status: StatusCode, body: &[u8]) -> Result<Answer, String> {
    if status == StatusCode::OK {
        return serde_json::from_slice(body).map_err(|error| error.to_string());
    }
    let text = String::from_utf8_lossy(body);
    Err(format!("{status}: {}", text.trim().escape_debug()))
}

/// Why the question of another member is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It belongs to another cluster.
    Cluster,
    /// The body is not a question.
    Malformed,
    /// There is no hash at this revision; the text is etcd's.
    NoHash(&'static str),
}

/// Answers the other members' questions.
#[derive(Clone)]
pub struct Answerer {
    cluster_id: u64,
    long_reads: Arc<LongReads>,
    ids: Arc<RequestIds>,
}

impl Answerer {
    /// Answers for a member of this cluster.
    pub(crate) fn new(cluster_id: u64, long_reads: Arc<LongReads>, ids: Arc<RequestIds>) -> Self {
        Self { cluster_id, long_reads, ids }
    }

    /// The id of this member's cluster, as a header has it.
    pub fn cluster(&self) -> String {
        hex(self.cluster_id)
    }

    /// The answer's body. `header` looks a header up.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn answer<'h>(
        &self,
        header: impl Fn(&str) -> Option<&'h str>,
        body: &[u8],
    ) -> Result<Vec<u8>, Refused> {
        let cluster = header(CLUSTER).unwrap_or_default();
        if !cluster.is_empty() && cluster != hex(self.cluster_id) {
            return Err(Refused::Cluster);
        }
        let question = serde_json::from_slice::<Question>(body);
        let revision = question.map_err(|_| Refused::Malformed)?.revision;
        let id = header(ASKING).and_then(|id| u64::from_str_radix(id, 16).ok());
        let id = id.unwrap_or_else(|| self.ids.of_member(false));
        let hash = self.long_reads.hash(id, move |store| store.hash_kv(id, revision)).await;
        let hash = hash.and_then(|hash| hash).map_err(|error| {
            tracing::warn!(revision, ?error, "failed to get hashKV");
            Refused::NoHash(text(error))
        })?;
        Ok(serde_json::to_vec(&Answer::from(hash)).expect("numbers are plain data"))
    }
}

impl From<HashKv> for Answer {
    fn from(found: HashKv) -> Answer {
        Answer {
            header: Header { revision: found.revision },
            hash: found.hash,
            compact_revision: found.compacted,
            hash_revision: found.hash_revision,
        }
    }
}

/// etcd's text, by which its members know the first two.
fn text(error: Error) -> &'static str {
    match error {
        Error::Compacted => COMPACTED,
        Error::FutureRevision => FUTURE,
        Error::Timeout => "too many hashes are computed at this moment\n",
        _ => "the member stops\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn question_and_answer_have_the_forms_of_etcds_members() {
        let body = |revision| String::from_utf8(question(7, 9, revision).into_body().to_vec());
        assert_eq!(body(0).unwrap(), "{}");
        assert_eq!(body(12).unwrap(), "{\"revision\":12}");
        let found = HashKv { hash: 5, revision: 9, compacted: -1, hash_revision: 8 };
        let answer = serde_json::to_string(&Answer::from(found)).unwrap();
        let of_3_5 = "{\"header\":{\"revision\":9},\"hash\":5,\"compact_revision\":-1}";
        assert_eq!(answer, format!("{},\"hash_revision\":8}}", of_3_5.trim_end_matches('}')));
        let read = read(StatusCode::OK, of_3_5.as_bytes()).unwrap();
        assert_eq!((read.header.revision, read.hash, read.compact_revision), (9, 5, -1));
    }

    #[test]
    fn what_is_no_hash_is_refused_in_one_line() {
        let refused = |status, body: &str| read(status, body.as_bytes()).unwrap_err();
        let future = refused(StatusCode::BAD_REQUEST, FUTURE);
        assert_eq!(future, "400 Bad Request: mvcc: required revision is a future revision");
        assert!(!refused(StatusCode::OK, "[\n1]").contains('\n'));
        assert!(!refused(StatusCode::NOT_FOUND, "a\nb").contains('\n'));
    }
}
