//! The watermarks of each member at any step of a recording: role, term, and the progress of each
//! of its parts.
//!
//! ```text
//!   events of one boot   ──●───────●─────k────●──────────●──▶   ● old → new,  k keyframe
//!   commit                 │ 5→7   │ 7→9       11→12     │
//!                          ▼       ▼     ▼    ▼          ▼
//!   looked up         5    │   7   │ 9  ?│ 11 │     12
//! ```
//!
//! Every change of a watermark is recorded with the old and the new value, and keyframes repeat all
//! of them. So the value between two records is recorded twice: as the new value of the earlier
//! one, and as the old value of the later one. Where the two agree the value is *known*. Where they
//! differ, something in between was not captured: from there on the value is *unknown* or, for a
//! watermark that only rises, known to lie *within* the two. A keyframe ends the uncertainty, if
//! the record after it agrees with it.
//!
//! Invariants: walking forward by the new values and backward by the old ones gives the same result
//! at every step, because both come from one table; nothing is guessed; a look-up is a binary
//! search. No value carries over from one boot to the next.
//!
//! At both ends of a boot there is only one record, and its value is taken as true unless there is
//! a `lost` mark: the first old value holds before it, the last new value after it.
//!
//! Limit: a value that does not only rise (a buffer's length, a role) may change and change back
//! unseen between two records that agree. Where a `lost` mark says that records are missing, such a
//! value is unknown for that time.
//!
//! In reading order: `watermark` (the list, and which event sets which), `timeline` (one watermark
//! of one boot), `index` (all of them, and the look-up).

mod index;
mod timeline;
mod watermark;

pub use index::{Loss, Moment, States};
pub use timeline::Value;
pub use watermark::{Change, Watermark, changes};

#[cfg(test)]
mod tests;
