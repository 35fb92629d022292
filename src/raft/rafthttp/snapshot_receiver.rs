//! Receives a database from the leader: `POST /raft/snapshot`. (etcd: snapshotHandler, SaveDBFrom)

use std::{
    fs, io,
    path::{Path, PathBuf},
    rc::Rc,
    sync::atomic::Ordering,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use raft::eraftpb::{Message, MessageType, SnapshotMetadata};
use sha2::{Digest, Sha256};
use tokio::{
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};

use super::{
    glass,
    hub::{Hub, Stranger},
    identity,
    snapshots::{CHUNKS_WAITING, Database, Description},
    wire,
};
use crate::{
    clock,
    metrics::recorded,
    pb::raftpb,
    raft::snapshot,
    stage,
    storage::{
        backend::offline,
        digest_hex,
        disk::{File, free_bytes, sync_dir},
        snap, with_causes,
    },
    trace,
};

/// How long the sender may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// The most bytes of the message before the database: it names the members.
const MESSAGE_MAX: usize = 1 << 20;
/// The bytes that a received database leaves free on the disk, for the log and the next commit.
const ROOM_LEFT: u64 = 16 << 20;
/// The file is synced each time it has grown by this, so that the last sync does not take long.
const SYNC_EVERY: u64 = 16 << 20;

/// Why a snapshot was not taken: the answer's status, and its text.
pub(super) struct Refused(pub(super) StatusCode, pub(super) String);

pub(super) fn refused(status: StatusCode, text: impl Into<String>) -> Refused {
    Refused(status, text.into())
}

/// Carries out `POST /raft/snapshot`, once the headers are checked.
pub(super) async fn receive(hub: &Rc<Hub>, request: Request<Incoming>) -> Result<(), Refused> {
    let from = identity::sender(request.headers());
    let began = clock::now();
    hub.local.count(from, |counts| counts.snapshots_received.in_flight.add(1));
    let received = try_receive(hub, from, request).await;
    hub.local.count(from, |counts| {
        counts.snapshots_received.ended(received.is_ok(), began.elapsed());
    });
    received.inspect_err(|Refused(_, text)| {
        hub.local.complain(from, "its snapshot was not taken", text);
    })
}

async fn try_receive(hub: &Rc<Hub>, from: u64, request: Request<Incoming>) -> Result<(), Refused> {
    check_sender(hub, from)?;
    if !request.headers().contains_key(glass::LINK_HEADER) {
        let text = "this member's database is redb's, and the sender's is bbolt's: it cannot take \
                    the snapshot of a member of etcd";
        return Err(refused(StatusCode::NOT_IMPLEMENTED, text));
    }
    let Some(database) = hub.local.snapshots.database.clone() else {
        return Err(refused(StatusCode::NOT_IMPLEMENTED, "there is no database here"));
    };
    let Ok(_permit) = hub.local.snapshots.receiving.try_acquire() else {
        let text = "another snapshot is being received";
        return Err(refused(StatusCode::SERVICE_UNAVAILABLE, text));
    };
    let link = glass::link(request.headers());
    let mut incoming = Pieces { link: Some((hub, from)), ..Pieces::of(request.into_body()) };
    let message = incoming.message().await?;
    let (metadata, description) = check(hub, from, &message)?;
    let Description { bytes, .. } = description;
    check_room(&database.dir, bytes)?;
    let (index, term) = (metadata.index, metadata.term);
    let mut span =
        stage!(SnapshotReceive, 0, peer = from, index = index, term = term, bytes = bytes);
    let number = hub.local.snapshots.received.fetch_add(1, Ordering::Relaxed);
    let Database { dir, fsync, .. } = database;
    let place = Place { dir, fsync, metadata, description, number };
    let (chunks, receiver) = mpsc::channel(CHUNKS_WAITING);
    let writing = spawn_blocking(move || write(&place, receiver));
    let saved = incoming.save(bytes, chunks, writing).await;
    if saved.is_err() {
        span.flag(trace::FLAG_ERROR);
    }
    drop(span);
    saved?;
    hub.local.count(from, |counts| counts.received_bytes.add(bytes));
    tracing::info!("snapshot-index" = index, bytes, "received a database from peer {from:x}");
    fail::fail_point!("snapshot-received");
    let taken = hub.local.receive_snapshot(message, link);
    taken.map_err(|error| refused(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

pub(super) fn check_sender(hub: &Hub, from: u64) -> Result<(), Refused> {
    match hub.knows(from) {
        Err(Stranger::Removed) => {
            let text = "cannot process message from removed member";
            Err(refused(StatusCode::FORBIDDEN, text))
        }
        Err(Stranger::Unknown) => Err(refused(StatusCode::NOT_FOUND, "error sender not found")),
        Ok(()) if hub.local.links.is_cut(from) => {
            Err(refused(StatusCode::SERVICE_UNAVAILABLE, "the link is cut"))
        }
        Ok(()) => Ok(()),
    }
}

/// Checks the message before the database.
fn check(
    hub: &Hub,
    from: u64,
    message: &Message,
) -> Result<(SnapshotMetadata, Description), Refused> {
    let wrong = |text: &str| Err(refused(StatusCode::BAD_REQUEST, text));
    if message.get_msg_type() != MessageType::MsgSnapshot {
        return wrong("wrong raft message type");
    }
    if message.from != from || message.to != hub.local.identity.member_id {
        return wrong("the snapshot is another member's");
    }
    described(message)
}

/// What a message says about the database behind it.
pub(super) fn described(message: &Message) -> Result<(SnapshotMetadata, Description), Refused> {
    let snapshot = message.get_snapshot();
    let metadata = snapshot.get_metadata().clone();
    match Description::parse(&snapshot.data) {
        Some(description) if metadata.index != 0 && description.bytes != 0 => {
            Ok((metadata, description))
        }
        _ => {
            let text = "the snapshot does not say what its database is";
            Err(refused(StatusCode::BAD_REQUEST, text))
        }
    }
}

pub(super) fn check_room(dir: &Path, bytes: u64) -> Result<(), Refused> {
    let free = free_bytes(dir).map_err(|error| {
        refused(StatusCode::INTERNAL_SERVER_ERROR, format!("{}: {error}", dir.display()))
    })?;
    let needed = bytes.saturating_add(ROOM_LEFT);
    if needed <= free {
        return Ok(());
    }
    let text = format!(
        "no room for it in {}: it needs {needed} bytes, and {free} are free",
        dir.display()
    );
    Err(refused(StatusCode::INSUFFICIENT_STORAGE, text))
}

/// Where a database goes, and what it must be.
pub(super) struct Place {
    /// The directory of received databases.
    pub(super) dir: PathBuf,
    /// Whether the file is synced.
    pub(super) fsync: bool,
    pub(super) metadata: SnapshotMetadata,
    pub(super) description: Description,
    /// Makes the name of the unfinished file unique.
    pub(super) number: u64,
}

/// A body, piece by piece.
pub(super) struct Pieces<'h> {
    /// The link on which it comes, which may be cut meanwhile.
    link: Option<(&'h Hub, u64)>,
    body: Incoming,
    /// What has come and is not used yet.
    rest: BytesMut,
}

impl Pieces<'_> {
    pub(super) fn of(body: Incoming) -> Self {
        Self { link: None, body, rest: BytesMut::new() }
    }

    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, Refused> {
        if !self.rest.is_empty() {
            return Ok(Some(self.rest.split().freeze()));
        }
        loop {
            if self.link.is_some_and(|(hub, from)| hub.local.links.is_cut(from)) {
                return Err(refused(StatusCode::SERVICE_UNAVAILABLE, "the link is cut"));
            }
            let frame = timeout(SILENCE_MAX, self.body.frame()).await;
            let broken = |text: String| refused(StatusCode::BAD_REQUEST, text);
            let frame = frame.map_err(|_| broken("the sender has stopped".to_owned()))?;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|error| broken(error.to_string()))?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
    }

    /// The message with which the body begins.
    pub(super) async fn message(&mut self) -> Result<Message, Refused> {
        let broken = |text: &str| refused(StatusCode::BAD_REQUEST, text);
        let mut begun = BytesMut::new();
        loop {
            let whole = wire::take_sized(&mut begun, 0);
            if let Some(bytes) = whole.map_err(|error| broken(&error.to_string()))? {
                self.rest = begun;
                return wire::message(&bytes).map_err(|error| broken(&error.to_string()));
            }
            if MESSAGE_MAX < begun.len() {
                return Err(broken("the message before the database is too long"));
            }
            let Some(data) = self.next().await? else { return Err(broken("it has no message")) };
            begun.extend_from_slice(&data);
        }
    }

    /// Hands the rest of the body, which must have these bytes, to the thread that writes it, and
    /// returns what that returns.
    pub(super) async fn save<T>(
        &mut self,
        announced: u64,
        chunks: mpsc::Sender<Bytes>,
        writing: JoinHandle<Result<T, String>>,
    ) -> Result<T, Refused> {
        let began = clock::now();
        let mut left = announced;
        while let Some(data) = self.next().await? {
            let Some(rest) = left.checked_sub(data.len() as u64) else {
                return Err(refused(StatusCode::BAD_REQUEST, "the database is too long"));
            };
            left = rest;
            fail::fail_point!("snapshot-chunk-received");
            if chunks.send(data).await.is_err() {
                // The writer has failed, and says why.
                break;
            }
        }
        drop(chunks);
        let written = writing.await.map_err(|error| error.to_string()).and_then(|written| written);
        let saved = written.map_err(|text| refused(StatusCode::INTERNAL_SERVER_ERROR, text))?;
        recorded::SNAP_DB_SAVES.observe_duration(began.elapsed());
        Ok(saved)
    }
}

/// Writes a database on a blocking thread. The file is gone if it is not whole.
fn write(place: &Place, chunks: mpsc::Receiver<Bytes>) -> Result<(), String> {
    let unfinished = write_whole(place, chunks)?;
    let path = snap::received_path(&place.dir, place.metadata.index);
    let in_place = put_in_place(&unfinished, &path, place);
    in_place.inspect_err(|_| _ = fs::remove_file(&unfinished))
}

/// Writes a database under the name of one that is unfinished, which it returns. The file is gone
/// if it is not whole, or not sound.
pub(super) fn write_whole(place: &Place, chunks: mpsc::Receiver<Bytes>) -> Result<PathBuf, String> {
    let unfinished = snap::unfinished_path(&place.dir, place.number);
    let named = |error: io::Error| format!("{}: {error}", unfinished.display());
    let written = write_file(&unfinished, place, chunks).map_err(named);
    let whole = written.and_then(|is_whole| match is_whole {
        true => check_rows(&unfinished, &place.metadata),
        false => Err("the database is not what was announced".to_owned()),
    });
    match whole {
        Ok(()) => Ok(unfinished),
        Err(why) => {
            let _ = fs::remove_file(&unfinished);
            Err(why)
        }
    }
}

/// Returns whether the file has the announced length and hash.
fn write_file(
    path: &PathBuf,
    place: &Place,
    mut chunks: mpsc::Receiver<Bytes>,
) -> io::Result<bool> {
    let _ = fs::remove_file(path);
    let (file, fsync) = (File::create(path)?, place.fsync);
    let (mut hash, mut offset, mut synced) = (Sha256::new(), 0, 0);
    while let Some(chunk) = chunks.blocking_recv() {
        fail::fail_point!("received-disk-full", |_| Err(nix::errno::Errno::ENOSPC.into()));
        file.write_at(&chunk, offset)?;
        hash.update(&chunk);
        offset += chunk.len() as u64;
        if fsync && synced + SYNC_EVERY <= offset {
            file.sync_data()?;
            synced = offset;
        }
    }
    if fsync {
        let began = clock::now();
        file.sync_all()?;
        recorded::SNAP_DB_FSYNCS.observe_duration(began.elapsed());
    }
    let Description { bytes, sha256 } = &place.description;
    Ok(offset == *bytes && digest_hex(&hash.finalize()) == *sha256)
}

/// Reads all pages and rows of a database, and compares their checksums. Its hash is that of the
/// bytes which the sender has read, and says nothing about a bad row that was among them. When raft
/// has heard of the database, the member's log is gone, and nobody could take it back.
fn check_rows(path: &Path, metadata: &SnapshotMetadata) -> Result<(), String> {
    let named = |error: io::Error| format!("{}: {error}", path.display());
    let len = fs::metadata(path).map_err(named)?.len();
    let last = offline::look(path, len, path, |database| {
        database.contents()?;
        database.consistent_index()
    });
    match last.map_err(|error| with_causes(&error))? {
        last if last == (metadata.index, metadata.term) => Ok(()),
        (index, _) => Err(format!(
            "{}: it ends with entry {index}, and its snapshot with entry {}",
            path.display(),
            metadata.index
        )),
    }
}

/// Gives the database its name, and makes its `.snap` file. A database of the same index that is
/// already there has the same rows, and may be in use by now: it stays.
fn put_in_place(unfinished: &Path, path: &Path, place: &Place) -> Result<(), String> {
    let Place { dir, fsync, .. } = place;
    let named = |error: io::Error| format!("{}: {error}", path.display());
    if path.try_exists().map_err(named)? {
        fs::remove_file(unfinished).map_err(named)?;
    } else {
        fs::rename(unfinished, path).map_err(named)?;
    }
    if *fsync {
        sync_dir(dir).map_err(named)?;
    }
    let conf_state = Some(snapshot::stored(place.metadata.get_conf_state()));
    let (index, term) = (Some(place.metadata.index), Some(place.metadata.term));
    let metadata = raftpb::SnapshotMetadata { conf_state, index, term };
    snap::save(dir, metadata, *fsync).map(|_| ()).map_err(|error| with_causes(&error))
}
