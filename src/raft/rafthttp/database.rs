//! A database for a member that has lost its own, and whose log does not reach back far enough to
//! make it anew: `GET /glass/database`.
//!
//! ```text
//!   a member that starts ── GET ──▶ another one: a copy of its database, as of now
//!        ◀── the message of a snapshot, then the database ──  (as in `snapshots`)
//!   received-N.tmp: hashed, looked at, synced; what becomes of it is the caller's matter
//! ```
//!
//! A leader sends a snapshot only to a follower whose log is too short, and this one's is not: it
//! has acknowledged what is in it. So it asks, before its raft and its threads run. Any member may
//! answer, because an entry that a database has applied is committed.
//!
//! Invariants
//! * A member answers only those that it knows as members, and as few at a time as it sends
//!   snapshots.
//! * The asker has a database whose rows all fit their checksums, or no file.
//!
//! Left out: members of etcd. They do not know the question.

use std::{
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header::HOST};
use http_body_util::Full;
use raft::eraftpb::{Message, MessageType, SnapshotMetadata};
use tokio::{sync::mpsc, task, time::timeout};

use super::{
    dial::{self, Failed},
    hub::Hub,
    identity::{self, Identity},
    snapshot_receiver::{
        Pieces, Place, Refused, check_room, check_sender, described, refused, write_whole,
    },
    snapshot_sender::{DatabaseBody, Prepared, prepared},
    wire,
};
use crate::{set, stage, trace::FLAG_ERROR};

/// The path of the question.
pub(super) const PATH: &str = "/glass/database";

/// How long a member may take to be reached.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may take to copy its database.
const COPY_TIMEOUT: Duration = Duration::from_secs(120);

/// Answers the question, once the headers are checked.
pub(super) async fn give(hub: &Rc<Hub>, headers: &HeaderMap) -> Result<DatabaseBody, Refused> {
    let from = identity::sender(headers);
    check_sender(hub, from)?;
    let local = &hub.local;
    let Some(database) = &local.snapshots.database else {
        return Err(refused(StatusCode::NOT_IMPLEMENTED, "there is no database here"));
    };
    let Ok(permit) = local.snapshots.sending.clone().try_acquire_owned() else {
        let text = "as many databases as may be sent at a time are on their way";
        return Err(refused(StatusCode::SERVICE_UNAVAILABLE, text));
    };
    let mut span = stage!(SnapshotSend, 0, peer = from);
    let failed = |text: String| refused(StatusCode::INTERNAL_SERVER_ERROR, text);
    let copied = prepared(&database.backend).await.inspect_err(|_| span.flag(FLAG_ERROR));
    let Prepared { copy, conf_state, description } =
        copied.map_err(|error| failed(error.to_string()))?;
    let (committed, bytes) = (copy.committed, copy.len());
    let (index, term, revision) = (committed.index, committed.term, committed.revision);
    set!(span, SnapshotSend, index = index, term = term, bytes = bytes, revision = revision);
    let mut metadata = SnapshotMetadata { index, term, ..SnapshotMetadata::default() };
    metadata.set_conf_state(conf_state);
    let (own, to) = (local.identity.member_id, from);
    let mut message = Message { from: own, to, ..Message::default() };
    message.set_msg_type(MessageType::MsgSnapshot);
    message.mut_snapshot().set_metadata(metadata);
    message.mut_snapshot().data = description.to_data().into();
    let mut head = BytesMut::new();
    if !wire::put_sized(&message, &mut head) {
        return Err(failed("its message is too long".to_owned()));
    }
    tracing::info!("snapshot-index" = index, bytes, "sending a database to peer {from:x}");
    Ok(DatabaseBody::new(head.freeze(), copy, (local.clone(), from)).held(permit, span))
}

/// Who asks for a database, and where it goes.
pub(crate) struct Question<'q> {
    /// The asker.
    pub(crate) member_id: u64,
    /// Its cluster.
    pub(crate) cluster_id: u64,
    /// Its version, as etcd's headers have it.
    pub(crate) server_version: &'static str,
    /// Its own peer URLs.
    pub(crate) peer_urls: &'q [String],
    /// The directory for the file.
    pub(crate) dir: &'q Path,
    /// Whether the file is synced.
    pub(crate) fsync: bool,
    /// The index that the database must have applied.
    pub(crate) least: u64,
}

/// A database that another member has given.
#[derive(Debug)]
pub(crate) struct Given {
    /// Its file, under a name that a later start removes.
    pub(crate) path: PathBuf,
    /// The last entry that it has, and the configuration there.
    pub(crate) metadata: SnapshotMetadata,
}

/// Why a member gave none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotGiven {
    /// The cluster has removed the asker.
    #[error("the member has been permanently removed from the cluster")]
    Removed,
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// Asks the member at this URL. Blocks until the database is on the disk.
///
/// # Errors
/// It has none, or not one that can be used. No file is left.
pub(crate) fn ask(url: &str, question: &Question<'_>) -> Result<Given, NotGiven> {
    let failed = |error: &dyn std::fmt::Display| NotGiven::Failed(error.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed(&error))?;
    let given = task::LocalSet::new().block_on(&runtime, try_ask(url, question));
    // A pending name lookup must not delay the start.
    runtime.shutdown_background();
    given
}

async fn try_ask(url: &str, question: &Question<'_>) -> Result<Given, NotGiven> {
    let failed = |error: Failed| match error {
        Failed::Removed => NotGiven::Removed,
        other => NotGiven::Failed(other.to_string()),
    };
    let target = dial::target(url).ok_or(Failed::NoUrl).map_err(failed)?;
    let connected = timeout(DIAL_TIMEOUT, dial::connect(&target)).await;
    let mut sender = connected.unwrap_or(Err(Failed::Timeout)).map_err(failed)?;
    let mut request = Request::get(PATH).body(Full::new(Bytes::new())).expect("a plain request");
    let unfit = |error: &dyn std::fmt::Display| NotGiven::Failed(error.to_string());
    let Question { member_id, cluster_id, server_version, peer_urls, .. } = *question;
    let identity = Identity::new(member_id, cluster_id, server_version, peer_urls);
    identity.map_err(|error| unfit(&error))?.stamp_request(request.headers_mut());
    let host = HeaderValue::from_str(&target.authority).map_err(|error| unfit(&error))?;
    request.headers_mut().insert(HOST, host);
    let answer = timeout(COPY_TIMEOUT, sender.send_request(request)).await;
    let answer = answer.map_err(|_| failed(Failed::Timeout))?;
    let answer = answer.map_err(|error| failed(error.into()))?;
    if answer.status() != StatusCode::OK {
        return Err(failed(dial::refused(answer, &target, cluster_id).await));
    }
    let given = save(Pieces::of(answer.into_body()), question).await;
    given.map_err(|Refused(_, text)| NotGiven::Failed(text))
}

async fn save(mut pieces: Pieces<'_>, question: &Question<'_>) -> Result<Given, Refused> {
    let message = pieces.message().await?;
    let (metadata, description) = described(&message)?;
    let (index, bytes) = (metadata.index, description.bytes);
    if index < question.least {
        let text = format!("its database ends with entry {index}");
        return Err(refused(StatusCode::CONFLICT, text));
    }
    check_room(question.dir, bytes)?;
    let mut span = stage!(
        SnapshotReceive,
        0,
        peer = message.from,
        index = index,
        term = metadata.term,
        bytes = bytes
    );
    let (dir, fsync) = (question.dir.to_owned(), question.fsync);
    let place = Place { dir, fsync, metadata: metadata.clone(), description, number: 0 };
    let (chunks, receiver) = mpsc::channel(super::snapshots::CHUNKS_WAITING);
    let writing = task::spawn_blocking(move || write_whole(&place, receiver));
    let saved = pieces.save(bytes, chunks, writing).await;
    if saved.is_err() {
        span.flag(FLAG_ERROR);
    }
    Ok(Given { path: saved?, metadata })
}
