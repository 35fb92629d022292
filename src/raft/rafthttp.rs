//! rafthttp: the connections between members, in etcd's form.
//!
//! ```text
//!  raft thread          peer thread (tokio, current_thread)                     a peer
//!              Vec<Message>
//!   Sender ──────────────▶ hub ──┬─ MsgApp ──────▶ queue 4096 ─▶ stream writer ═══▶ reads
//!                                ├─ all others ──▶ queue 4096 ─▶ stream writer ═══▶ reads
//!                                └─ no stream ───▶ queue 64 ───▶ pipeline ×4 ─POST▶ /raft
//!
//!   Inbox ◀──Input::Step── hub ◀── stream reader ◀══════════════════════════════════ writes
//! ```
//!
//! Every member dials two streams to each peer, `GET /raft/stream/msgapp/<own id>` and
//! `…/message/<own id>`, whose answers never end, and *reads* raft's messages from them; it writes
//! to the streams that peers have opened to it. MsgApp has a stream of its own, because it is
//! bulky and always follows on from the one before (`msgapp_codec`); a heartbeat must not wait
//! behind it. While a stream is missing, messages go as single requests through the `pipeline`.
//!
//! The layers above ask peers other things as well, for example about leases. Such `questions` are
//! sent by the thread that asks; the router that the member gives to `spawn` answers them.
//!
//! Invariants
//! * The raft thread never waits for a peer. A message that cannot be sent is dropped, and the peer
//!   is reported to raft as unreachable; raft repeats what matters.
//! * On one channel messages arrive in the order in which they were sent, or not at all. Between
//!   channels there is no order, and raft needs none.
//! * A newer stream replaces the older one of the same kind, because the peer reads the one that it
//!   opened last.
//! * Nothing that a peer sends can make this member panic or use memory beyond the limits in
//!   `wire` and `bodies`: a malformed frame closes its connection.
//! * The bytes are etcd's, so a cluster may mix both; `glass` says what headers carry in addition.
//!
//! Left out, and why
//! * Snapshots between a member of etcd and one of these (see `snapshots`).
//! * TLS: only `http://host:port` is dialled and served.
//! * Probes of others: `/raft/probing` is answered, but this member sends none and logs no clock
//!   differences.
//!
//! Read in this order: `transport` (what the raft layer sees), `hub`, `local`, `peer`, `stream`,
//! the codecs, `pipeline`, `server`, `snapshots`, `database`; [`questions`] stands by itself, and
//! so does `links`, by which `glass up` cuts off peers. (etcd: server/etcdserver/api/rafthttp)

mod active;
mod bodies;
mod channel;
pub(crate) mod database;
mod dial;
mod drops;
mod glass;
mod hub;
mod identity;
mod links;
mod local;
mod log_limit;
mod message_codec;
mod msgapp_codec;
mod peer;
mod pipeline;
mod probing;
pub(crate) mod questions;
mod server;
mod snapshot_receiver;
mod snapshot_sender;
mod snapshots;
mod stream;
mod traffic;
mod transport;
mod wire;

#[cfg(test)]
mod tests;

pub(crate) use active::Active;
pub(super) use glass::round;
pub use links::Cuts;
pub(crate) use peer::Peer;
pub(crate) use snapshots::Database;
pub(crate) use transport::{Config, Sender, Transport, spawn};
