//! Layer 4: logic.

pub mod error;
pub mod mvcc;
pub use error::Error;
