//! Storage.

pub mod backend;
