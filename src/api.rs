//! Layer 2: the API. Turns requests of the network into calls of the server, and its answers into
//! etcd's responses, codes and texts.
//!
//! ```text
//!   socket ──▶ listen (accepted; what is served there?)
//!          ──▶ accept (is there a place for it?)
//!          ──▶ in_time (does it say anything?)
//!          ──▶ authority (none that h2 accepts?)
//!          ──▶ pings (too many?)
//!          ──▶ pace (enough for this turn? are answers taken?)
//!          ──▶ hyper and h2, with the settings of http2
//!          ──▶ front (metadata, deadline; known method? frame not too large?) ──▶ router
//!      router ──▶ v3::kv, v3::maintenance, v3::cluster, health     gRPC, by tonic
//!             ──▶ hosts ──▶ cors ──▶ http, probes    /health, /version, /metrics, /livez, /readyz
//!                                ──▶ gateway ──▶ router      /v3: JSON, by gRPC's own services
//!                                ──▶ v2                       /v2, with --enable-v2
//!             ──▶ observe                                           the glass's own service
//!   each RPC: origin, interceptor::begin ──▶ server ──▶ header ──▶ finish (status)
//! ```
//!
//! `api` decides nothing: whether a request is allowed or sound is the server's business. It is
//! etcd's surface, to the letter.

pub mod accept;
pub mod answers;
pub mod authority;
mod backlog;
pub mod calls;
pub mod front;
pub mod header;
pub mod http;
pub mod interceptor;
pub mod leader;
pub mod limit;
pub mod listen;
pub mod method;
pub mod metrics;
pub mod observe;
pub mod origin;
pub mod status;
mod v2;
pub mod v3;

mod cors;
mod deadline;
mod edge;
mod ending;
mod first_bytes;
mod flow;
mod frame;
mod gateway;
mod hosts;
mod http2;
mod metadata;
mod pace;
mod pings;
mod probes;
mod refused;
pub mod slow_calls;
pub mod text;
mod through;
mod vars;

pub use front::{Phase, Ports, serve};
pub use http2::Limits;
