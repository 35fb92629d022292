//! Layer 4: logic. What a request means, and what it changes.
//!
//! ```text
//!   api ──▶ check ──▶ admit ──▶ propose ──▶ raft ··· committed ··· ──▶ apply ──▶ mvcc ──▶ backend
//!                                  ▲                                    │
//!                                  └────────────── wait ◀───────────────┘
//!   api ──▶ read_index ──▶ raft ··· confirmed ··· ──▶ wait until applied ──▶ mvcc
//! ```
//!
//! Reading order: [`kv`] (what each request does, a line a step), [`check`], [`admit`],
//! [`propose`], [`wait`], [`apply`], [`mvcc`], [`read_index`]. The write side runs on the `apply`
//! thread; everything that waits runs on the grpc thread.

pub mod kv;
pub mod check;
pub mod admit;
pub mod auth;
pub mod propose;
pub mod wait;
pub mod apply;
pub mod mvcc;
pub mod read_index;
pub mod alarm;
pub mod members;
pub mod publish;
pub mod views;
pub mod error;

pub use error::Error;
pub use kv::{Parts, Server, Settings};
