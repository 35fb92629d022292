//! Stress: much at once, for as long as one likes, with everything that was promised checked
//! against an own record.
//!
//! Each test has a short form for `cargo test`; environment variables make it long. Seeds are
//! printed. Nothing is asserted about speed.

mod history;
mod lease_storm;
mod many_watchers;
mod nine;
mod properties;
mod traffic;
