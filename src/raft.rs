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
//! does not know what a key is: of an entry's data it reads nothing but the request's id, for the
//! trace.

pub mod backlog;
pub mod bootstrap;
pub mod changes;
pub mod deferred;
mod first_election;
pub mod inbox;
pub mod log;
pub mod logger;
pub mod node;
pub mod proposals;
pub mod rafthttp;
pub mod sound;
pub mod status;
pub mod timing;
pub mod writes;

pub use status::{Leadership, Status};
