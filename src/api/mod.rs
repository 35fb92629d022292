//! api.

pub mod observe;
