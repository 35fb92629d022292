//! The glass: the records that every step of every request writes.
//!
//! ```text
//!   where work happens            in the member                    at the reader's
//!   stage!, mark!, key ──▶ ring ──▶ collect ──▶ observe (api) ──▶ story
//!   (span)          a ring a thread   25 ms       gRPC
//!        └──▶ bridge ──▶ `tracing`
//! ```
//!
//! A step costs two clock readings and one record of 128 bytes in the ring of its thread. It
//! allocates nothing and never waits. The collector copies the kept records out of the rings.
//! [`story`](crate::story) puts the records of all members together.
//!
//! Invariants: only the code that does the work writes a record of it; every record that is wanted
//! is either read or counted as lost.
//!
//! In reading order: [`stage`] (the vocabulary), [`methods`], [`unit`](mod@unit), [`span`] (the
//! guard), [`id`], [`record`], [`reason`], [`field`] (reading a record's numbers by name),
//! [`value`] (as text), [`message`], [`waiting`], [`raw_clock`], [`ring`],
//! [`watermarks`](mod@watermarks), [`collect`], [`context`], [`ends`], [`bridge`] (to `tracing`).
//!
//! Left out: floating point and text in fields (eight numbers are enough, and cost nothing), and
//! parents (the tree of a request follows from its id and the stages; the loops make it a graph).

pub mod bridge;
pub mod collect;
pub mod context;
pub mod ends;
pub mod field;
pub mod id;
#[cfg(test)]
pub(crate) mod log_lines;
pub mod message;
pub mod methods;
pub mod raw_clock;
pub mod reason;
pub mod record;
pub mod ring;
mod source;
pub mod span;
pub mod stage;
pub mod unit;
pub mod value;
pub mod waiting;
pub mod watermarks;

pub use collect::{Batch, Collector, Filter, Hello, Info, Subscription, lost_records, start};
pub use field::Slot;
pub use id::{IdGenerator, Sampler, forget_peer, is_keeping_soon, kept, note_peer};
pub use reason::Reason;
pub use record::{
    FLAG_CANCELLED, FLAG_CUT, FLAG_ERROR, FLAG_KEPT, FLAG_NOISE, FLAG_RANGE_END, FLAG_REPLAY, Kind,
    Record,
};
pub use ring::{
    EntryMarks, NewEntry, THREADS, is_capturing, is_redacting, is_slow, is_too_short, key,
    range_end, set_capture, set_redact, set_thread,
};
#[cfg(test)]
pub(crate) use ring::{own_records, thread_name};
pub use span::{
    CANCELED, DEADLINE_EXCEEDED, Moment, Span, handed_over, mark, mark_because, past, waited_ns,
};
pub use stage::{Family, Field, Grain, METHODS, Stage, Unit};
pub use watermarks::{Configuration, Watermarks, watermarks};
