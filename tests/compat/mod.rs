//! Compatible means: the same clients, the same requests, the same answers as etcd 3.5.1.
//!
//! Each test starts a cluster of ours and one of etcd's, does the same to both, and compares.
//! What may differ (ids, ports, terms, times, file sizes) is replaced before; what differs on
//! purpose, because 3.5.1 has a bug that later 3.5 or 3.6 has not, is listed where it is left out.

mod etcdctl;
mod hash;
pub(crate) mod http;
mod large;
mod lease;
mod lock;
mod normal;
mod random;
mod requests;
mod table;
mod tokens;
mod watch;
// Foreign client libraries and their own tests.
mod clients;
mod watchers;
