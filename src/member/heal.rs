//! A member whose database is gone, damaged, or too old for its log.
//!
//! ```text
//!   glass utl drop-database ──▶ can it be made anew? ──▶ db ─ rename ─▶ db.dropped
//!                                 │ by the log, if that begins with the first entry
//!                                 │ by another member, if one answers that belongs to the cluster
//!   a start without a database ──▶ the log, from its first entry
//!                              └─▶ or, if that is gone: GET /glass/database of the others, in turn
//! ```
//!
//! The log stays what it was: the member has acknowledged its entries. A database that another
//! member gives has applied committed entries only. If the log reaches beyond it, the member
//! applies the rest. If the log ends before it, or has another entry there, then the database takes
//! the place of the whole log, as a snapshot does that raft has accepted: everything before is
//! committed, and an entry of another term at a committed index was never acknowledged by a
//! majority.
//!
//! Invariants
//! * A member that was killed here finds, at its next start, what it had before, or the database
//!   that it was given, with the record that belongs to it.
//! * A database is put aside only if something is there that makes it anew, and it is not deleted.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use raft::eraftpb::{HardState, SnapshotMetadata};

use super::{
    Error as DataError,
    peers::{self, Answer},
    recover::{Log, Place},
};
use crate::{
    config::{ETCD_VERSION, ServerConfig},
    pb::raftpb,
    raft::{
        rafthttp::database::{self, Given, NotGiven, Question},
        snapshot,
    },
    server::members::{Member, hex},
    storage::{
        damage::RESTORED_MARK,
        disk::{folder_of, sync_dir},
        redb_file::RedbFile,
        snap, wal, with_causes,
    },
};

/// How long another member may take to say that it is there.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);
/// The end of the name of a database that was put aside.
const DROPPED: &str = "dropped";

/// Gets a database that has applied entry `least` from another member, in the place of the one at
/// `db`. Blocks.
///
/// # Errors
/// No other member has given one, and the reasons; or the disk fails.
pub(super) fn from_peers(
    config: &ServerConfig,
    place: &Place<'_>,
    db: &Path,
    least: u64,
) -> Result<(), DataError> {
    let log = place.open()?;
    let others = config.initial_cluster.iter().filter(|(name, _)| *name != config.name);
    let mut reasons = Vec::new();
    for url in others.flat_map(|(_, urls)| urls) {
        tracing::warn!(url, least, "asking another member for its database");
        let question = Question {
            member_id: log.recovered.metadata.node_id,
            cluster_id: log.recovered.metadata.cluster_id,
            server_version: ETCD_VERSION,
            peer_urls: &config.advertise_peer_urls,
            dir: place.snap,
            fsync: place.options.fsync,
            least,
        };
        match database::ask(url, &question) {
            Ok(given) => return put_in_place(place, log, db, given),
            Err(NotGiven::Removed) => return Err(DataError::Removed),
            Err(why) => reasons.push(format!("{url}: {why}")),
        }
    }
    if reasons.is_empty() {
        reasons.push("--initial-cluster names no other".to_owned());
    }
    Err(DataError::NobodyGives { path: db.to_owned(), least, why: reasons.join("; ") })
}

fn put_in_place(place: &Place<'_>, log: Log, db: &Path, given: Given) -> Result<(), DataError> {
    let Given { path, metadata } = given;
    let (index, term) = (metadata.index, metadata.term);
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| DataError::DataDir { path, source }
    };
    let goes_on = log.locations.term(index) == Some(term);
    tracing::info!("snapshot-index" = index, goes_on, "another member has given its database");
    if goes_on {
        // A symbolic link stays, and leads to the new file.
        let db = fs::canonicalize(db).unwrap_or_else(|_| db.to_owned());
        fs::rename(&path, &db).map_err(failed(&db))?;
        return sync_dir(folder_of(&db)).map_err(failed(&db));
    }
    // The file has its name before the log names it, so the next start finds both, or neither.
    let received = snap::received_path(place.snap, index);
    fs::rename(&path, &received).map_err(failed(&received))?;
    let (stored, fsync) = (snapshot::stored(metadata.get_conf_state()), place.options.fsync);
    let file =
        raftpb::SnapshotMetadata { conf_state: Some(stored), index: Some(index), term: Some(term) };
    snap::save(place.snap, file, fsync)?;
    sync_dir(place.snap).map_err(failed(place.snap))?;
    fail::fail_point!("heal-before-record");
    write_record(log, &metadata);
    Ok(())
}

/// Lets the database take the place of the log, as the `wal` thread does when raft has accepted a
/// snapshot. A failure ends the process, as there.
fn write_record(log: Log, metadata: &SnapshotMetadata) {
    let before = log.recovered.hard_state;
    // A later term than its own was never voted in by this member.
    let vote = if before.term < metadata.term { 0 } else { before.vote };
    let term = before.term.max(metadata.term);
    let hard_state = HardState { term, vote, commit: metadata.index, ..HardState::default() };
    let snapshot = Some(snapshot::record(metadata, true));
    let writer = wal::spawn(log.wal, |_| ());
    writer.write(wal::Write {
        snapshot,
        hard_state: Some(hard_state),
        sync: true,
        ..wal::Write::default()
    });
    writer.stop();
}

/// Which database is to be put aside.
#[derive(Clone, Debug)]
pub struct Request {
    /// The data directory of a member that does not run.
    pub data_dir: PathBuf,
    /// Its `--wal-dir`, if it has one.
    pub wal_dir: Option<PathBuf>,
    /// The peer URLs of other members.
    pub peer_urls: Vec<String>,
}

/// What makes the database anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The log, which has all entries up to this one.
    Log(u64),
    /// Another member.
    Member(String),
}

/// A database was put aside.
#[derive(Debug)]
pub struct Dropped {
    /// Its new name.
    pub aside: PathBuf,
    /// What makes it anew at the next start.
    pub source: Source,
}

/// Why a database is not put aside. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum Kept {
    /// There is none.
    #[error("there is no database: {}", path.display())]
    NoDatabase {
        /// Where it should be.
        path: PathBuf,
    },
    /// A member runs, or another tool.
    #[error("{} is in use: stop the member first", path.display())]
    InUse {
        /// The database.
        path: PathBuf,
    },
    /// Without a log nobody knows whose database it is.
    #[error("there is no log in {}: give the --wal-dir of the member", path.display())]
    NoLog {
        /// Where it should be.
        path: PathBuf,
    },
    /// The log is too short, and no other member is there.
    #[error(
        "the database stays: the log {}, and {why}. Start another member, and name its peer URL with \
         --peer-urls; or remove this member from the cluster and add it with an empty data directory",
        if *restored {
            "does not have its rows, because it was restored from a snapshot".to_owned()
        } else {
            format!("begins with entry {first}")
        }
    )]
    NothingMakesItAnew {
        /// The first entry of the log.
        first: u64,
        /// Whether the database was restored from a snapshot.
        restored: bool,
        /// Why no member was found.
        why: String,
    },
    /// The log or the files of snapshots cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The disk refuses.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}

/// Puts the database of a member that does not run aside, if it can be made anew.
///
/// # Errors
/// See [`Kept`].
pub fn drop_database(request: &Request) -> Result<Dropped, Kept> {
    let member = request.data_dir.join("member");
    let (snap, db) = (member.join("snap"), member.join("snap/db"));
    let wal_dir = request.wal_dir.clone().unwrap_or_else(|| member.join("wal"));
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| Kept::File { path, source }
    };
    if !db.try_exists().map_err(file(&db))? {
        return Err(Kept::NoDatabase { path: db });
    }
    let db = fs::canonicalize(&db).map_err(file(&db))?;
    // Opening for writing is what shows whether a member has it.
    let lock = RedbFile::open(&db, true).map_err(file(&db))?;
    if !lock.is_free().map_err(file(&db))? {
        return Err(Kept::InUse { path: db });
    }
    if !wal::exists(&wal_dir).map_err(DataError::from)? {
        return Err(Kept::NoLog { path: wal_dir });
    }
    let restored = snap.join(RESTORED_MARK).try_exists().map_err(file(&snap))?;
    let place =
        Place { wal: &wal_dir, snap: &snap, options: wal::Options::default(), catch_up_entries: 0 };
    let log = place.open_at(0)?;
    let source = source(&log, restored, &request.peer_urls)?;
    drop(log);
    let aside = db.with_extension(DROPPED);
    fs::rename(&db, &aside).map_err(file(&db))?;
    sync_dir(folder_of(&db)).map_err(file(&db))?;
    Ok(Dropped { aside, source })
}

fn source(log: &Log, restored: bool, peer_urls: &[String]) -> Result<Source, Kept> {
    let (first, last) = (log.locations.first_index(), log.locations.last_index());
    if first <= 1 && !restored {
        return Ok(Source::Log(last));
    }
    let wal::Metadata { node_id, cluster_id } = log.recovered.metadata;
    let why = match peer_urls {
        [] => "no other member was named".to_owned(),
        urls => {
            let knows = |url: &&String| {
                let answers = peers::ask_urls(&[(*url).clone()], "/members", PATIENCE);
                answers.is_ok_and(|all| all.iter().any(|it| knows(it, node_id, cluster_id)))
            };
            match urls.iter().find(knows) {
                Some(url) => return Ok(Source::Member(url.clone())),
                None => format!(
                    "no member of cluster {} that knows this one ({}) answers at {}",
                    hex(cluster_id),
                    hex(node_id),
                    urls.join(", ")
                ),
            }
        }
    };
    Err(Kept::NothingMakesItAnew { first, restored, why })
}

/// Whether the answer comes from a member of this cluster that knows this member.
fn knows(answer: &Answer, node_id: u64, cluster_id: u64) -> bool {
    let members: Vec<Member> = serde_json::from_slice(&answer.body).unwrap_or_default();
    answer.cluster_id == Some(cluster_id) && members.iter().any(|member| member.id == node_id)
}

impl Kept {
    /// The error in one line, with all its causes.
    pub fn report(&self) -> String {
        with_causes(self)
    }
}

#[cfg(test)]
mod tests {
    use raft::eraftpb::Entry;

    use super::*;
    use crate::storage::backend::{Backend, Options};

    /// A data directory with a database, and a log with entries up to 40 of which the first is
    /// `first`.
    fn directory(dir: &Path, first: u64) -> Request {
        let (snap, wal) = (dir.join("member/snap"), dir.join("member/wal"));
        fs::create_dir_all(&snap).unwrap();
        Backend::open(&snap.join("db"), Options::default()).unwrap().stop();
        let metadata = wal::Metadata { node_id: 1, cluster_id: 2 };
        let (mut log, _) = wal::create(&wal, &metadata, &wal::Options::default()).unwrap();
        let entry = |index| Entry { index, term: 2, ..Entry::default() };
        let state = HardState { term: 2, commit: 40, ..HardState::default() };
        if first == 1 {
            let entries: Vec<Entry> = (1..=40).map(entry).collect();
            log.save(&entries, Some(&state), true).unwrap();
        } else {
            let mut place = SnapshotMetadata { index: first - 1, term: 2, ..Default::default() };
            place.set_conf_state((vec![1], vec![]).into());
            let writer = wal::spawn(log, |_| ());
            writer.write(wal::Write {
                snapshot: Some(snapshot::record(&place, true)),
                entries: (first..=40).map(entry).collect(),
                hard_state: Some(state),
                sync: true,
                ready: 1,
            });
            writer.stop();
        }
        Request { data_dir: dir.to_owned(), wal_dir: None, peer_urls: Vec::new() }
    }

    #[test]
    fn a_database_that_the_log_makes_anew_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let request = directory(dir.path(), 1);
        let dropped = drop_database(&request).unwrap();
        assert_eq!(dropped.source, Source::Log(40));
        assert!(dropped.aside.ends_with("member/snap/db.dropped") && dropped.aside.exists());
        let again = drop_database(&request).unwrap_err();
        assert!(matches!(again, Kept::NoDatabase { .. }), "{again}");
    }

    #[test]
    fn a_database_that_nothing_makes_anew_stays() {
        for (first, is_restored, text) in [
            (31, false, "the log begins with entry 31, and no other member was named"),
            (1, true, "restored from a snapshot"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let request = directory(dir.path(), first);
            let snap = dir.path().join("member/snap");
            if is_restored {
                fs::write(snap.join(RESTORED_MARK), "").unwrap();
            }
            let kept = drop_database(&request).unwrap_err().report();
            assert!(kept.contains(text), "{kept}");
            assert!(snap.join("db").exists());
        }
    }

    #[test]
    fn a_database_in_use_or_without_a_log_stays() {
        let dir = tempfile::tempdir().unwrap();
        let request = directory(dir.path(), 1);
        let db = dir.path().join("member/snap/db");
        let backend = Backend::open(&db, Options::default()).unwrap();
        assert!(matches!(drop_database(&request), Err(Kept::InUse { .. })));
        backend.stop();
        drop(backend);
        let elsewhere = Request { wal_dir: Some(dir.path().join("wal")), ..request };
        assert!(matches!(drop_database(&elsewhere), Err(Kept::NoLog { .. })));
        assert!(db.exists());
    }
}
