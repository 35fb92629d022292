//! Layer 2: the API. Turns requests of the network into calls of the server, and its answers into
//! etcd's responses, codes and texts.
//!
//! ```text
//!   socket ──▶ in_time (does it say anything?)
//!          ──▶ authority (none that h2 accepts?)
//!          ──▶ front (HTTP/1 or HTTP/2; known method? frame not too large?) ──▶ router
//!      router ──▶ v3::kv, v3::maintenance, v3::cluster, health     gRPC, by tonic
//!             ──▶ http                                              /health, /version, /metrics
//!             ──▶ observe                                           the glass's own service
//!   each RPC: interceptor::begin ──▶ server ──▶ header ──▶ finish (status)
//! ```
//!
//! `api` decides nothing: whether a request is allowed or sound is the server's business. What is
//! here is etcd's surface, to the letter.

pub mod answers;
pub mod authority;
pub mod front;
pub mod header;
pub mod http;
pub mod interceptor;
pub mod leader;
pub mod limit;
pub mod metrics;
pub mod observe;
pub mod status;
pub mod v3;

mod in_time;

pub use front::{Limits, serve};
