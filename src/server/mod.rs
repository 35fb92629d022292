//! Layer 4: logic.

pub mod apply;
pub mod check;
pub mod error;
pub mod mvcc;
pub use error::Error;
