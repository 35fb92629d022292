//! Layer 3: Raft. One thread owns raft-rs's state machine; everything else talks to its inbox.
//!
//! ```text
//!   server ──Propose, ReadIndex──▶ ┌────────────┐ ──committed entries──▶ apply thread
//!   rafthttp ────────Step────────▶ │ raft thread│ ──messages──────────▶ rafthttp
//!   wal thread ────Persisted─────▶ │  (node.rs) │ ──Write─────────────▶ wal thread
//!   apply ───ApplyConfChange─────▶ └────────────┘ ──read states───────▶ server
//! ```
//!
//! Reading order: [`inbox`], [`node`], [`log`], [`bootstrap`], [`rafthttp`]. `raft` does not know
//! what a key is: of an entry's data it reads nothing but the request's id, for the trace.

pub mod inbox;
pub mod node;
pub mod held;
pub mod changes;
pub mod log;
pub mod status;
pub mod bootstrap;
pub mod logger;
pub mod rafthttp;

pub use status::{Leadership, Status};
