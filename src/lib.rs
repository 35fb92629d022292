//! Glass etcd: an etcd-compatible server whose every read and write can be watched.

pub mod api;
pub mod client;
pub mod clock;
pub mod config;
pub mod member;
pub mod pb;
pub mod raft;
pub mod server;
pub mod storage;
pub mod trace;
