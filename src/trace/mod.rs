//! The glass: what every step of every request leaves behind.
//!
//! ```text
//!   where work happens            in the member                    at the reader's
//!   stage!, mark!, key ──▶ ring ──▶ collect ──▶ observe (api) ──▶ intake ──▶ order ──▶ query
//!   (span)          a ring a thread   25 ms       gRPC                │
//!                                                                     └──▶ recording (NDJSON)
//!                                                                              └──▶ export
//! ```
//!
//! The left half writes: a step costs two looks at the clock and one record of 128 bytes in the
//! ring of its thread; it allocates nothing and waits for nobody. The middle copies out what is
//! kept. The right half reads: it puts members together, orders what they say, and finds what
//! belongs to one request. The player, `glass trace`, the lessons and the tests all use it.
//!
//! Invariants: nothing makes a record but the place where the work happens; a record is either read
//! or counted as lost; no receive is told before its send.
//!
//! In reading order: `stage` (the vocabulary), `span` (the guard), `id`, `record`, `ring`,
//! `watermarks`, `collect`, `flight`, `context`, `bridge` (to `tracing`); then `event`,
//! `field`, `intake`, `recording`, `order`, `causes`, `gap`, `state`, `query`, `export`.
//!
//! Left out: floating point and text in fields (eight numbers are enough, and cost nothing), and
//! parents (the tree of a request follows from its id and the stages; the loops make it a graph).

pub mod bridge;
pub mod causes;
pub mod collect;
pub mod context;
pub mod event;
pub mod export;
pub mod field;
pub mod flight;
pub mod gap;
pub mod histogram;
pub mod id;
pub mod intake;
pub mod message;
pub mod order;
pub mod query;
pub mod record;
pub mod recording;
pub mod ring;
pub mod span;
pub mod stage;
pub mod state;
pub mod tick;
#[cfg(test)]
pub(crate) mod told;
pub mod watermarks;

pub use collect::{Batch, Collector, Filter, Hello, Info, Subscription, start};
pub use event::{BootInfo, Event, KeyText, MemberInfo, Recording, THREADS};
pub use field::Slot;
pub use id::{IdGenerator, Sampler, kept, note_peer};
pub use record::{FLAG_CUT, FLAG_KEPT, Kind, Record};
#[cfg(test)]
pub(crate) use ring::thread_name;
pub use ring::{is_redacting, key, set_capture, set_redact, set_thread};
pub use span::{
    CANCELED, DEADLINE_EXCEEDED, FLAG_CANCELLED, FLAG_ERROR, FLAG_NOISE, FLAG_REPLAY, Span, mark,
};
pub use stage::{Family, Field, Grain, METHODS, Stage, Unit};
pub use watermarks::{Watermarks, watermarks};
