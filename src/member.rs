//! A member: the five layers, put together, started and stopped.
//!
//! ```text
//!   grpc    tokio  ── clients, waiters, read rounds, publication, cluster version
//!   peer    tokio  ── rafthttp
//!   raft    thread ── consensus          wal     thread ── log files
//!   apply   thread ── state machine      commit  thread ── the database file
//!   compact thread ── rows of forgotten revisions
//! ```
//!
//! Reading order: [`start`] (the threads, in the order in which they need each other), [`assemble`]
//! (the server that they serve), [`sockets`] (where it listens), [`descriptors`] (how many
//! connections there may be), [`notify`] (messages to the service manager), [`data`] (what is on
//! disk, and whether it may be used), [`modes`] (its permissions), [`moment`] (a copy of them as
//! they were), [`restore`] (a data directory made of a saved snapshot), [`peers`] (questions to
//! other members before and while this one runs), [`join`] (a running cluster), [`standalone`]
//! (a cluster of this member alone), [`leave`] (the steps of a stop), [`compaction`]
//! (rows of forgotten revisions), [`corrupt_check`] (when members compare their keys), [`version`]
//! (the leader decides the cluster's version), [`keep`] (which traces all members keep), [`otlp`]
//! (which traces leave for other programs), [`flight`] (what a member still remembers, written out
//! at its end).

mod assemble;
mod compaction;
mod corrupt_check;
mod damaged_start;
pub mod data;
pub mod descriptors;
mod error;
pub mod flight;
pub mod heal;
mod join;
pub mod keep;
mod leave;
mod modes;
pub mod moment;
mod notify;
pub mod otlp;
pub mod peer_port;
pub mod peers;
mod recover;
pub mod restore;
mod sockets;
mod standalone;
pub mod start;
pub mod version;

pub use crate::raft::rafthttp::Cuts;
pub use data::end_if_damaged;
pub use error::Error;
pub use start::run;
