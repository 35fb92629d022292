//! The state machine: takes committed entries, once, in log order, on every member alike.
//!
//! ```text
//!   committed ──▶ one batch: index and buffer locked once
//!                  ├─ entry: a command; alarms, authorize, dispatch ──▶ mvcc, alarms, members
//!                  └─ entry: …                              and the consistent index with each
//!                 publish: revision, index and buffer become visible together
//!   then: the applied index moves, and the outcomes go to those who wait
//! ```
//!
//! Invariants: what apply answers and writes depends on no clock and on no configuration that may
//! differ between members, but for the quota, the shortest TTL of a lease and whether its remaining
//! time is kept in its row, as in etcd. A rejection is an outcome like any other. An entry's writes
//! and its consistent index enter the buffer under one lock, so no commit can part them. An entry at
//! or below the consistent index is not applied again.

mod applier;
pub mod key_space;
pub mod lease;
mod txn;
mod write;

pub use applier::Applier;
pub use key_space::KvRequest;
