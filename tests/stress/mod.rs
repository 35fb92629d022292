//! Stress: much at once, for as long as one likes, with everything that was promised checked
//! against an own record.
//!
//! Each test has a short form for `cargo test`; environment variables make it long. Seeds are
//! printed. Nothing is asserted about speed.
//!
//! * `properties`: watchers under writes, compaction and kills; judged by `nine` on what `history`
//!   keeps, against what `traffic` was answered;
//! * `lease_questions`: what is known of leases at any member, against what was acknowledged;
//! * `lease_storm`: leases in time, over a change of leaders;
//! * `many_watchers`: thousands of watchers, every event, in order.

mod history;
mod lease_questions;
mod lease_storm;
mod many_watchers;
mod nine;
mod properties;
mod traffic;
