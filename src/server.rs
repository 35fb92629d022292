//! Layer 4: logic. What a request means, and what it changes.
//!
//! ```text
//!   api ──▶ check ──▶ admit ──▶ propose ──▶ raft ··· committed ··· ──▶ apply ──▶ mvcc ──▶ backend
//!                                  ▲                                    │
//!                                  └────────────── wait ◀───────────────┘
//!   api ──▶ read_index ──▶ raft ··· confirmed ··· ──▶ wait until applied ──▶ mvcc
//! ```
//!
//! Reading order: [`kv`] (what each request does, a line a step), [`check`], [`txn`], [`admit`],
//! [`propose`], [`wait`], [`apply`], [`mvcc`], [`answer`], [`lease`], [`read_index`], [`compactor`],
//! [`concurrency`]. The write side runs on the `apply` thread; everything that waits runs on the grpc
//! thread, and what reads for long on others ([`aside`]).

pub mod admit;
pub mod alarm;
pub mod answer;
pub mod apply;
pub(crate) mod aside;
pub mod auth;
pub mod check;
pub mod compactor;
pub mod concurrency;
pub mod dropped;
pub mod error;
pub mod health;
pub mod kv;
pub mod lease;
pub mod members;
pub mod mvcc;
mod own;
pub mod propose;
pub mod publish;
pub mod read_index;
mod stopping;
pub mod txn;
pub mod views;
pub mod wait;

pub mod no_space;

pub use error::Error;
pub use kv::{Parts, Server, Settings};
