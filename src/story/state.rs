//! Where each member stood at any step of a recording: role, term, and how far each part of it had
//! come.
//!
//! ```text
//!   events of one boot   ──●───────●─────k────●──────────●──▶   ● old → new,  k keyframe
//!   commit                 │ 5→7   │ 7→9       11→12     │
//!                          ▼       ▼     ▼    ▼          ▼
//!   looked up         5    │   7   │ 9  ?│ 11 │     12
//! ```
//!
//! Whatever changes a watermark is recorded with the old and the new value, and keyframes repeat
//! all of them. So what holds between two records is told twice: by the new value of the one
//! before, and by the old value of the one after. Where the two agree the value is *known*; where
//! they do not, something happened in between that was not captured: from there on the value is
//! *unknown*, or, of what only rises, known to lie *within* the two. A keyframe ends that, if what
//! comes after it agrees with it.
//!
//! Invariants: walking forward by the new values and backward by the old ones gives the same at
//! every step, because both are read off one table; nothing is guessed; a look-up is a binary
//! search. A new boot knows nothing of the old one.
//!
//! At both ends of a boot only one record speaks, and it is believed unless a `lost` mark stands
//! there: the first old value holds before it, the last new value after it.
//!
//! What cannot be noticed: a value that does not only rise (a buffer's length, a role) and that
//! went away and came back, both unseen, between two records that agree. Where a `lost` mark says
//! that records are missing, such a value is unknown for that time.
//!
//! In reading order: `watermark` (which there are, and which event sets which), `timeline` (one
//! watermark of one boot), `index` (all of them, and the look-up).

mod index;
mod timeline;
mod watermark;

pub use index::{Loss, Moment, States};
pub use timeline::Value;
pub use watermark::{Change, Watermark, changes};

#[cfg(test)]
mod tests;
