//! The services of etcd's v3 API, one file each.

pub mod cluster;
pub mod election;
pub mod health;
pub mod kv;
pub mod lease;
pub mod lock;
pub mod maintenance;
mod snapshot;
pub mod watch;
