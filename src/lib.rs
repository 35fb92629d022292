//! Glass etcd: an etcd-compatible server whose every read and write can be watched.

pub mod clock;
pub mod config;
pub mod pb;
pub mod trace;
pub mod storage;
pub mod raft;
pub mod server;
pub mod api;
pub mod client;
pub mod member;
