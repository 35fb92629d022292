//! Glass etcd: an etcd-compatible server whose every read and write can be watched on its way
//! through all members.
//!
//! Four of the folders are layers of etcd's architecture figure. In reading order:
//!
//! 1. [`trace`], the glass: the vocabulary of steps, and their records;
//! 2. [`api`], layer 2: the surface that clients use;
//! 3. [`server`], layer 4: the meaning of requests, and their effects;
//! 4. [`raft`], layer 3: how the members agree, and how they talk;
//! 5. [`storage`], layer 5: the log and the database;
//! 6. [`member`]: the layers, put together;
//! 7. [`story`] and [`export`]: the meaning of recordings, and their form for other programs;
//! 8. [`pb`], [`config`], [`clock`] and [`metrics`]: the ground floor.
//!
//! Layer 1, the client, is etcd's own so far. ARCHITECTURE.md has the way of a request, file by
//! file.

pub mod api;
pub mod clock;
pub mod config;
pub mod export;
pub mod member;
pub mod metrics;
pub mod pb;
mod raft;
pub mod server;
pub mod storage;
pub mod story;
pub mod trace;

#[cfg(test)]
#[path = "../tests/it/random.rs"]
mod random;
