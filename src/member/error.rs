//! Why a member does not start: one clear line each.
//!
//! A variant says what could not be done and with which file, and leaves the reason to its source;
//! [`Error::report`] puts both into one line, which is what the user sees.

use std::{io, path::PathBuf};

use crate::config::Address;

use crate::storage::with_causes;

/// Why a member does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A port or a socket file is in use, or is not permitted.
    #[error("cannot listen on {address} (--{flag})")]
    Listen {
        /// The address that could not be bound.
        address: Address,
        /// The flag that names the address, without dashes.
        flag: &'static str,
        /// The operating system's error.
        source: io::Error,
    },
    /// etcd: "file descriptor limit of etcd process is too low".
    #[error(
        "the process may have {limit} file descriptors, and files and peers alone need {reserved}: \
         raise the limit (ulimit -n)"
    )]
    Descriptors {
        /// The hard limit of this process.
        limit: u64,
        /// The descriptors reserved for files and peers.
        reserved: u64,
    },
    /// The data directory cannot be made or written.
    #[error("cannot use the data directory: {}", path.display())]
    DataDir {
        /// The directory or a file in it.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// etcd: "member … has already been bootstrapped".
    #[error(
        "member {id:x} has already been bootstrapped, and has acknowledged what its log is missing: \
         remove it from the cluster (member remove), add it again (member add), and start it with \
         --initial-cluster-state existing"
    )]
    AlreadyBootstrapped {
        /// Raft's id of this member.
        id: u64,
    },
    /// `--trace-otlp` names no collector.
    #[error("--trace-otlp")]
    Otlp(#[from] super::otlp::TargetError),
    /// This member was removed from the cluster that it shall go on as.
    #[error("the member has been permanently removed from the cluster")]
    Removed,
    /// Nobody says which cluster there is to join (etcd: GetClusterFromRemotePeers).
    #[error(
        "cannot fetch cluster info from peer urls: could not retrieve cluster information from the \
         given URLs"
    )]
    NoCluster,
    /// The cluster to join has other members than `--initial-cluster` names.
    #[error("error validating peerURLs {cluster}: {why}")]
    OtherMembers {
        /// The cluster, as one of its members describes it.
        cluster: String,
        /// What does not fit, in etcd's words.
        why: String,
    },
    /// The cluster to join has another version, or has not decided on one.
    #[error("incompatible with current running cluster")]
    Incompatible,
    /// The log's tail is gone.
    #[error(
        "the database has applied entry {consistent}, but the WAL ends at entry {last}: its tail is \
         gone. Remove this member from the cluster, delete its data directory, add it again, and \
         start it with --initial-cluster-state existing"
    )]
    LogBehindBackend {
        /// The backend's consistent index.
        consistent: u64,
        /// The log's last index.
        last: u64,
    },
    /// The database is too old, or gone, and so is the log that could bring it forward.
    #[error(
        "{} has applied entry {applied}, and the log begins with entry {first}: what is between \
         them is gone",
        path.display()
    )]
    BackendBehindLog {
        /// The database file.
        path: PathBuf,
        /// The backend's consistent index; 0 for a file that is new.
        applied: u64,
        /// The first entry of the log.
        first: u64,
    },
    /// The database of a restored member is missing.
    #[error(
        "{} is gone, and the log does not have its rows, because it was restored from a snapshot",
        path.display()
    )]
    RestoredIsGone {
        /// The database file.
        path: PathBuf,
    },
    /// The log does not make the database, and nobody has given one.
    #[error(
        "{} is gone or too old for the log, which does not have all up to entry {least}, and no \
         other member has given its database ({why}). Start this member again when another one \
         runs, put the right file back, or remove this member from the cluster, delete its data \
         directory, and add it again",
        path.display()
    )]
    NobodyGives {
        /// The database file.
        path: PathBuf,
        /// The entry that the database would have to have applied.
        least: u64,
        /// What the others have said.
        why: String,
    },
    /// The log of a restored member is missing.
    #[error(
        "{} was restored from a snapshot, but there is no log in {}: give the --wal-dir with which \
         it was restored, or restore it again",
        db.display(), wal.display()
    )]
    RestoredWithoutLog {
        /// The database file.
        db: PathBuf,
        /// The directory of the log.
        wal: PathBuf,
    },
    /// `--force-new-cluster` in a data directory from which no cluster can be made.
    #[error(
        "--force-new-cluster makes a cluster of the log, and {} has no entries: give the --data-dir \
         of a member, or start without the flag to join the cluster",
        wal.display()
    )]
    NothingToForce {
        /// The directory of the log.
        wal: PathBuf,
    },
    /// A restore into the data directory was killed.
    #[error(
        "the restore that made {} has not ended: remove the data directory, and restore it again",
        path.display()
    )]
    RestoreUnfinished {
        /// The directory in which the restore works.
        path: PathBuf,
    },
    /// The log and the database do not belong together.
    #[error(
        "entry {index} has term {found} in the WAL, but the database has applied it with term {term}: \
         one of them is from another time or another member. Put the right one back, or remove \
         this member from the cluster, delete its data directory, and add it again"
    )]
    LogOfAnother {
        /// The backend's consistent index.
        index: u64,
        /// The term that the backend noted with it.
        term: u64,
        /// The term of that entry in the log.
        found: u64,
    },
    /// The configuration beside the consistent index is not readable.
    #[error("the database holds a configuration that is not valid")]
    ConfState(#[source] serde_json::Error),
    /// The log cannot be opened or read.
    #[error(transparent)]
    Wal(#[from] crate::storage::wal::Error),
    /// The files of snapshots cannot be read.
    #[error(transparent)]
    Snap(#[from] crate::storage::snap::Error),
    /// The database file cannot be opened.
    #[error(transparent)]
    Backend(#[from] crate::storage::backend::Error),
    /// The database file is damaged.
    #[error("{what}. {way_out}")]
    Damaged {
        /// What is damaged, with the file's path.
        what: String,
        /// What an operator can do.
        way_out: &'static str,
    },
    /// `--experimental-initial-corrupt-check`: other members have other keys.
    #[error(transparent)]
    Inconsistent(#[from] crate::server::corruption::Inconsistent),
    /// The key space in the database.
    #[error("cannot use {}", path.display())]
    Store {
        /// The database file.
        path: PathBuf,
        /// What is wrong with it.
        source: crate::server::mvcc::OpenError,
    },
    /// The members in the database.
    #[error(transparent)]
    Members(#[from] crate::server::members::Damaged),
    /// A row of the v2 store does not decode.
    #[error(transparent)]
    V2(#[from] crate::server::v2store::Damaged),
    /// The alarms in the database.
    #[error(transparent)]
    Alarms(#[from] crate::server::alarm::Damaged),
    /// Auth is on in the data directory.
    #[error(transparent)]
    Auth(#[from] crate::server::auth::AuthEnabled),
    /// raft-rs refuses the recovered state.
    #[error("raft does not start")]
    Raft(#[from] raft::Error),
    /// A thread or a runtime could not be made.
    #[error("cannot start a thread or a runtime")]
    Thread(#[from] io::Error),
}

impl Error {
    /// The error in one line: what could not be done, and all its causes.
    pub fn report(&self) -> String {
        with_causes(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        server::mvcc::OpenError,
        storage::{backend, wal},
    };

    /// Goal: each error that has a reason says it, and says it once. Method: one of each kind, made
    /// of the same refusal of the operating system where it comes from there.
    #[test]
    fn every_error_has_its_reason_in_it_once() {
        let refusal = || io::Error::from_raw_os_error(13);
        let path = || PathBuf::from("/data/member/x");
        let address = Address::Tcp(([127, 0, 0, 1], 2379).into());
        let io =
            wal::Error::Io { operation: "opening", path: path(), offset: 0, source: refusal() };
        let database = redb::Error::Io(refusal());
        let all = [
            (
                Error::Listen { address, flag: "listen-client-urls", source: refusal() },
                "127.0.0.1:2379 (--listen-client-urls)",
            ),
            (Error::DataDir { path: path(), source: refusal() }, "/data/member/x"),
            (io.into(), "/data/member/x"),
            (backend::Error::Open { path: path(), source: refusal() }.into(), "/data/member/x"),
            (backend::Error::Database { path: path(), source: database }.into(), "/data/member/x"),
            (backend::Error::Thread(refusal()).into(), "the commit thread"),
            (Error::Thread(refusal()), "a thread"),
        ];
        for (error, what) in all {
            let text = error.report();
            assert_eq!(text.matches("Permission denied").count(), 1, "{text}");
            assert_eq!(text.matches(what).count(), 1, "{text}");
        }
        let json = serde_json::from_str::<u8>("x").unwrap_err();
        let reason = json.to_string();
        assert_eq!(Error::ConfState(json).report().matches(&reason).count(), 1);
        let decode = <crate::pb::mvccpb::KeyValue as prost::Message>::decode(&b"\xff"[..]);
        let source = OpenError::Lease(decode.unwrap_err());
        let damaged = Error::Store { path: path(), source }.report();
        assert_eq!(damaged.matches("failed to decode").count(), 1, "{damaged}");
        assert_eq!(damaged.matches("/data/member/x").count(), 1, "{damaged}");
    }
}
