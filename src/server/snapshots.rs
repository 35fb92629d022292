//! Snapshots of this member: when one is made, what it is, and which old files go.
//!
//! ```text
//!   apply ──100 000 entries──▶ snapshots ──▶ commit of the database, with all of them
//!                                        ──▶ TERM-INDEX.snap, synced
//!                                        ──▶ raft: a record in the log; drop old entries
//!                       every 30 s       ──▶ remove old segments and old .snap files
//! ```
//!
//! The database is the snapshot, and no copy is made: the `.snap` file only says that a start need
//! not read the log before its index (etcd: `EtcdServer.snapshot`). The thread waits for disks, so
//! that apply and raft do not.
//!
//! Invariants
//! * The database's consistent index on the disk is never behind the newest record of a snapshot,
//!   except between the record of a received one and its install; then the received file has it.
//!   So the log behind that record, and the database, have everything.
//! * A segment is removed only when a later one has the newest record, and when no entry of it is
//!   needed for a follower ([`Locations::purge`]).
//!
//! Left out: a snapshot that cannot be written is not tried again at once. The log keeps its
//! entries, and the next snapshot comes after as many entries again.

use std::{
    cell::Cell,
    io,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{Builder, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use raft::eraftpb::SnapshotMetadata;

use crate::{
    clock,
    pb::raftpb,
    raft::{
        bootstrap,
        inbox::{Inbox, Input},
        snapshot,
    },
    set, stage,
    storage::{backend::Backend, snap, wal::Locations, with_causes},
    trace,
};

/// The time between two looks for files to remove (etcd: purgeFileInterval).
const PURGE_EVERY: Duration = Duration::from_secs(30);

/// What the thread of snapshots needs to know.
pub(crate) struct Settings {
    /// The directory of the `.snap` files.
    pub(crate) dir: PathBuf,
    /// Entries after which a snapshot is made.
    pub(crate) count: u64,
    /// The most `.snap` files that stay.
    pub(crate) max_files: usize,
    /// The most segments of the log that stay, unless more are needed.
    pub(crate) max_segments: usize,
    /// Whether files are synced.
    pub(crate) fsync: bool,
}

/// A snapshot that apply wants: everything up to an entry that it has just applied.
#[derive(Debug)]
struct Wish {
    index: u64,
    term: u64,
    /// The configuration as of that entry, as JSON.
    conf_state: Option<Bytes>,
}

/// Apply's side: it counts entries, and asks for a snapshot when there are enough.
#[derive(Debug)]
pub(crate) struct Wishes {
    count: u64,
    last: Cell<u64>,
    thread: SyncSender<Wish>,
}

impl Wishes {
    /// Apply thread: notes the last applied entry. Never waits: while a snapshot is being made, the
    /// next batch asks again.
    pub(crate) fn note(&self, index: u64, term: u64, conf_state: impl FnOnce() -> Option<Bytes>) {
        if index <= self.last.get().saturating_add(self.count) {
            return;
        }
        let wish = Wish { index, term, conf_state: conf_state() };
        if self.thread.try_send(wish).is_ok() {
            self.last.set(index);
        }
    }

    /// Apply thread: a snapshot as of this index was installed.
    pub(crate) fn installed(&self, index: u64) {
        self.last.set(index);
    }

    /// Wishes that nobody fulfils.
    #[cfg(test)]
    pub(crate) fn unheard() -> Wishes {
        Wishes { count: u64::MAX, last: Cell::new(0), thread: sync_channel(1).0 }
    }
}

/// The thread's state.
struct Maker {
    settings: Settings,
    backend: Arc<Backend>,
    locations: Arc<Locations>,
    inbox: Inbox,
}

/// Starts the thread, which ends when the [`Wishes`] are dropped. `last` is the index of the newest
/// snapshot.
///
/// # Errors
/// The thread cannot be started.
pub(crate) fn start(
    settings: Settings,
    last: u64,
    backend: &Arc<Backend>,
    locations: &Arc<Locations>,
    inbox: Inbox,
) -> io::Result<(Wishes, JoinHandle<()>)> {
    let (sender, wishes) = sync_channel(1);
    let made = Wishes { count: settings.count, last: Cell::new(last), thread: sender };
    let (backend, locations) = (Arc::clone(backend), Arc::clone(locations));
    let maker = Maker { settings, backend, locations, inbox };
    let thread = Builder::new().name("snapshot".to_owned()).spawn(move || maker.run(&wishes))?;
    Ok((made, thread))
}

impl Maker {
    fn run(&self, wishes: &Receiver<Wish>) {
        trace::set_thread("background");
        self.purge();
        let mut next_purge = clock::now() + purge_every();
        loop {
            let patience = next_purge.saturating_duration_since(clock::now());
            match wishes.recv_timeout(patience) {
                Ok(wish) => self.make(wish),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    self.purge();
                    next_purge = clock::now() + purge_every();
                }
            }
        }
    }

    fn make(&self, wish: Wish) {
        let Wish { index, term, conf_state } = wish;
        let mut span = stage!(SnapshotMake, 0, index = index, term = term);
        self.backend.commit_now();
        let stored = self.backend.committed().index;
        if stored < index {
            // The member stops.
            return;
        }
        fail::fail_point!("snapshot-after-commit");
        let conf_state = conf_state.and_then(|json| bootstrap::parse_conf_state(&json).ok());
        let Some(conf_state) = conf_state else {
            tracing::error!(index, "no snapshot was made: the configuration cannot be read");
            return;
        };
        let (settings, stored_state) = (&self.settings, Some(snapshot::stored(&conf_state)));
        let (index, term) = (Some(index), Some(term));
        let metadata = raftpb::SnapshotMetadata { conf_state: stored_state, index, term };
        let saved = snap::save(&settings.dir, metadata, settings.fsync);
        let bytes = match saved {
            Ok(bytes) => bytes,
            Err(error) => {
                span.flag(trace::FLAG_ERROR);
                tracing::error!("no snapshot was made: {}", with_causes(&error));
                return;
            }
        };
        set!(span, SnapshotMake, stored = stored, bytes = bytes);
        drop(span);
        fail::fail_point!("snapshot-after-file");
        tracing::info!("snapshot-index" = index, "saved snapshot");
        let mut made = SnapshotMetadata::default();
        (made.index, made.term) = (index.unwrap_or(0), term.unwrap_or(0));
        made.set_conf_state(conf_state);
        // If raft has ended, the next start finds a file without a record, and ignores it.
        let _ = self.inbox.send(Input::SnapshotMade(made));
    }

    /// Removes old files. What cannot be removed is tried again the next time.
    fn purge(&self) {
        let settings = &self.settings;
        let segments = self.locations.purge(settings.max_segments);
        let segments = segments.inspect_err(complain).unwrap_or_default();
        let newest = self.locations.snapshot();
        let files = snap::purge(&settings.dir, settings.max_files, newest);
        let files = files.inspect_err(complain).unwrap_or_default();
        let stored = self.backend.committed().index;
        let _ = snap::remove_received(&settings.dir, |index| index <= stored).inspect_err(complain);
        for path in segments.iter().chain(&files) {
            tracing::info!(path = %path.display(), "purged");
        }
        if !(segments.is_empty() && files.is_empty()) {
            crate::mark!(LogPurge, 0, segments = segments.len(), files = files.len());
        }
    }
}

fn complain(error: &impl std::error::Error) {
    tracing::warn!("old files stay: {}", with_causes(error));
}

fn purge_every() -> Duration {
    fail::fail_point!("purge-every-ms", |ms| {
        let ms = ms.and_then(|ms| ms.parse().ok());
        ms.map_or(PURGE_EVERY, Duration::from_millis)
    });
    PURGE_EVERY
}
