//! The story: the meaning of all members' records together.
//!
//! ```text
//!   members ──batches──▶ intake ─┐                ┌▶ query       the steps of one request, and why
//!                                ├▶ Recording ─▶ order           one axis for all events
//!   a file ──lines──▶ recording ─┘                ├▶ state       where each member stood at any step
//!                                                 └▶ uncaptured  losses that the records prove
//! ```
//!
//! [`trace`](crate::trace) writes records where the work happens, and knows nothing of this. Here
//! they are read: put together, ordered, and joined into requests. The player, `glass trace`, the
//! exports and the tests all use the same answers.
//!
//! Invariants: no receive is shown before its send; a step belongs to a story because a number in
//! its record says so; a step that must have happened and is not in the recording is called
//! missing.
//!
//! In reading order: [`event`] (one record, decoded), [`intake`] (batches of live members),
//! [`recording`] (the file), [`order`], [`uncaptured`], [`state`], [`links`], [`Memberships`] (who
//! votes), [`query`].
//!
//! Left out: drawing, which is the player's, and other programs' formats
//! ([`export`](crate::export)).

pub mod event;
pub mod intake;
pub mod links;
mod memberships;
pub mod order;
pub mod query;
pub mod recording;
#[cfg(test)]
pub(crate) mod spoiled;
pub mod state;
pub mod uncaptured;

pub use event::{BootInfo, Event, KeyText, MemberInfo, Recording, name_of};
pub use memberships::Memberships;
