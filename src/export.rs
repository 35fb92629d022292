//! Recordings in other programs' formats.
//!
//! ```text
//!   recording ──▶ order (times) ──▶ lanes (what nests) ──▶ chrome ──▶ one JSON file
//!                               ├──▶ flows (arrows) ─────────────┘
//!                               │      └──▶ links ──┐
//!                               └──▶ parents, ids ──┴──▶ otlp ──▶ JSON lines, or a collector
//! ```
//!
//! Glass has its own player, which knows what a put is. It does not replace the tools that people
//! already use: Perfetto and `chrome://tracing` open the file that [`chrome`] writes, with the
//! members below each other on one time axis.
//!
//! [`otlp`] makes spans of OpenTelemetry, for a recording and for a member that exports while it
//! runs.
//!
//! Invariants: every element written is in the recording, once; no time is bent so that it looks
//! better (what does not nest gets a row of its own); an arrow has both of its ends.
//!
//! Left out: the values of keys, which no recording has, and reading such files back.

pub mod chrome;
pub mod otlp;

mod flows;
mod lanes;
#[cfg(test)]
mod tests;
