//! Compatibility: the same clients and the same requests get the same answers as from etcd 3.5.1.
//!
//! Each test starts a cluster of ours and one of etcd's, does the same to both, and compares.
//! Values that may differ (ids, ports, terms, times, file sizes) are replaced before; deliberate
//! differences, where 3.5.1 has a bug that later 3.5 or 3.6 does not have, are listed where they
//! are left out.

mod etcdctl;
mod gateway;
mod hash;
pub(crate) mod http;
mod large;
mod lease;
mod lock;
mod maintenance;
mod normal;
mod random;
mod requests;
mod table;
mod tokens;
mod v2;
mod watch;
// Foreign client libraries and their own tests.
mod clients;
mod watchers;
