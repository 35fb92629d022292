//! What this member counts, for `/metrics`.
//!
//! ```text
//!   any thread ──add, observe──▶ recorded, peers (relaxed atomics)
//!                                        │
//!                     families: name, type, help, source
//!                                        │
//!   GET /metrics ──▶ api/metrics ──▶ text, beside what is asked of the server
//! ```
//!
//! Counting belongs to the code that does what is counted; nothing here is computed from something
//! else. It takes no lock and allocates nothing.
//!
//! **Invariants.** A name has one row in [`families`], which also says why it is missing, if it is.
//! A counter never decreases.
//!
//! Left out: a library. `prometheus-client` appends `_total` to the names of all counters, which
//! etcd does not, and finds a labelled counter under a lock; `metrics` hashes the name at each
//! count. What a scrape needs of either is a hundred lines (`text.rs`). Go's runtime metrics
//! (`go_*`, `promhttp_*`) would be inventions here, so they are left out, too.

mod counter;
mod families;
mod histogram;
mod peers;
pub mod recorded;
mod text;
mod words;

pub use counter::{Counter, Gauge, InProgress};
pub use families::{Family, Kind, Of, Recorded, Source, families};
pub use histogram::Histogram;
pub use peers::{Peer, Snapshots, peer, peers};
pub use text::Text;
pub use words::ByWord;
