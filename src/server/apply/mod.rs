//! Apply.

pub mod kv;
