//! Stress: heavy load for as long as configured, with every promise checked against an independent
//! record.
//!
//! Each test has a short form for `cargo test`; environment variables make it long. Seeds are
//! printed. Nothing is asserted about speed.
//!
//! * `properties`: watchers under writes, compaction and kills; `nine` judges what `history` keeps,
//!   against the answers in `traffic`;
//! * `lease_questions`: queries about leases at any member, against what was acknowledged;
//! * `lease_storm`: leases end in time, over a change of leaders;
//! * `many_watchers`: thousands of watchers, every event, in order.

mod history;
mod lease_questions;
mod lease_storm;
mod many_watchers;
mod nine;
mod properties;
mod traffic;
