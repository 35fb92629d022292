//! Layer 3: Raft. One thread owns raft-rs's state machine; everything else talks to its inbox.
//!
//! ```text
//!   server ──Propose, ReadIndex──▶ ┌────────────┐ ──committed entries──▶ apply thread
//!   rafthttp ────────Step────────▶ │ raft thread│ ──messages──────────▶ rafthttp
//!   wal thread ────Persisted─────▶ │  (node.rs) │ ──Write─────────────▶ wal thread
//!   apply ───ApplyConfChange─────▶ └────────────┘ ──read states───────▶ server
//! ```
//!
//! Reading order: [`inbox`], [`node`], [`proposals`], [`log`], [`bootstrap`], [`rafthttp`]. `raft`
//! does not know what a key is: of an entry's data it reads the request's id, for the trace, and
//! of a forwarded proposal also whether apply can carry it out.

mod arrivals;
pub(crate) mod backlog;
pub(crate) mod bootstrap;
pub(crate) mod changes;
pub(crate) mod deferred;
mod first_election;
mod heartbeats;
pub(crate) mod inbox;
mod leader;
pub(crate) mod log;
pub(crate) mod logger;
pub(crate) mod node;
pub(crate) mod proposals;
pub(crate) mod rafthttp;
mod reads;
pub(crate) mod snapshot;
pub(crate) mod sound;
pub(crate) mod status;
pub(crate) mod timing;
pub(crate) mod writes;

pub(crate) use status::{Leadership, Status};
