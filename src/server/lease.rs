//! Leases: keys that go away when nobody says any more that they should stay (etcd: `lease`).
//!
//! ```text
//!   Grant, Revoke ──▶ raft ──▶ apply ──▶ Lessor: lease ⇄ keys        on every member, alike
//!                                          │
//!   KeepAlive, TimeToLive ──▶ Primary ─────┤ deadlines               on the leader alone
//!        └── a follower asks the leader    │
//!            over its peer port            └─▶ expiry ──▶ Revoke ──▶ raft
//! ```
//!
//! Which leases there are and which keys are attached is replicated. How long a lease has still to
//! live is not: a renewal would otherwise cost an entry in the log. Only the leader counts, and a
//! new leader begins by giving every lease its whole time again, so a lease may live longer than it
//! was granted, and never shorter. Where leaders change often, long leases never end; for those the
//! leader can write down every five minutes what is left of them ([`checkpoint`]).
//!
//! Invariants
//! * What apply answers and writes depends on the log and, as in etcd, on the shortest TTL, which
//!   follows from this member's own `--heartbeat-interval` and `--election-timeout` and goes into
//!   the lease's row: members must be given the same. Deadlines are told to nobody but the leader's
//!   own clients, and they move by the monotonic clock.
//! * A member counts only after a quorum has confirmed that it leads, and asks again before each
//!   pass of revocations. A revocation that it proposes counts only in the term of that answer: a
//!   member that was stopped for a while, and replaced meanwhile, revokes nothing (etcd #15247).
//! * What is written down of a lease's time is never less than what its client was promised: a
//!   renewal is answered only after that is cleared on a majority.
//! * An attached key's row names its lease, so the attachments are rebuilt from the key space.
//! * The lessor's lock is taken after the index and the buffers, and held briefly; no other lock is
//!   taken below it. (The watchers' lock comes after it, when it is free again.)
//!
//! Reading order: [`lessor`], [`crate::server::apply::lease`], [`primary`], [`forward`],
//! [`requests`], [`expiry`], [`checkpoint`].

pub mod checkpoint;
pub mod expiry;
pub mod forward;
pub mod lessor;
pub mod primary;
pub mod requests;
#[cfg(test)]
mod tests;

pub use self::{
    lessor::{Lessor, View, min_ttl},
    primary::{Primary, Question, Refusal},
};
