//! Layer 3: Raft.

pub mod inbox;
pub mod rafthttp;
