//! Leases: keys that are deleted unless a client keeps renewing their lease (etcd: `lease`).
//!
//! ```text
//!   Grant, Revoke ──▶ raft ──▶ apply ──▶ Lessor: lease ⇄ keys        on every member, alike
//!                                          │
//!   KeepAlive, TimeToLive ──▶ Primary ─────┤ deadlines               on the leader alone
//!        └── a follower asks the leader    │
//!            over its peer port            └─▶ expiry ──▶ Revoke ──▶ raft
//! ```
//!
//! The leases and their attached keys are replicated. The remaining time of a lease is not, because
//! a renewal would then cost an entry in the log. Only the leader keeps deadlines. A new leader
//! starts every lease with its whole TTL, so a lease may live longer than granted, and never
//! shorter. Where leaders change often, long leases never end; for those the leader can log the
//! remaining time every five minutes ([`checkpoint`]).
//!
//! A member that leads and keeps deadlines is the *primary* of its term.
//!
//! Invariants
//! * The results and the rows of apply depend on the log and, as in etcd, on the shortest TTL. It
//!   follows from this member's own `--heartbeat-interval` and `--election-timeout` and goes into
//!   the lease's row, so all members must have the same flags. Deadlines move by the monotonic
//!   clock, and stay on the leader, which answers clients from them.
//! * A member becomes the primary only after a quorum has confirmed that it leads, and asks again
//!   before each pass of revocations. It proposes a revocation only for the term of that
//!   confirmation: a member that was paused, and replaced meanwhile, revokes nothing (etcd #15247).
//! * A logged remaining time is never less than the client was promised: a renewal is answered only
//!   after a majority has cleared it.
//!
//! Reading order: [`lessor`](super::lessor), [`apply::lease`](super::apply::lease), [`primary`],
//! [`forward`], [`requests`], [`expiry`], [`checkpoint`].

pub mod checkpoint;
pub mod expiry;
pub mod forward;
pub mod primary;
pub mod requests;

pub use self::primary::{Asking, Primary, Question, Refusal};
pub(crate) use self::requests::LeaseServer;
