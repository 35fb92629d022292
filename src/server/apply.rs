//! The state machine: applies committed entries, each once, in log order, on every member alike.
//!
//! ```text
//!   committed ──▶ one batch: index and buffer locked once
//!                  ├─ entry: decode, alarms, authorize, dispatch ──▶ mvcc, alarms, members
//!                  │         and the consistent index
//!                  └─ entry: …
//!                 unlock: revision, index and buffer become visible together
//!   then: the applied index moves, and the outcomes go to the waiting requests
//! ```
//!
//! Invariants
//! * Answers and writes depend neither on a clock nor on settings that may differ between members.
//!   The exceptions are etcd's too: the quota, the shortest TTL of a lease, and whether the
//!   remaining time of a lease is kept in its row.
//! * A rejection is an outcome like any other.
//! * An entry's writes and its consistent index enter the buffer under one lock, so they are always
//!   committed together.
//! * An entry at or below the consistent index is not applied again.

mod applier;
pub(crate) mod key_space;
pub(crate) mod lease;
mod txn;
mod write;

pub(crate) use applier::Applier;
