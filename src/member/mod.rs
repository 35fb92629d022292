//! member.

use crate::config::ServerConfig;

/// Why a member ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Placeholder of this branch; the integrator's module replaces this file.
    #[error("this build has no member in it")]
    NotBuilt,
}

/// Placeholder of this branch; the integrator's module replaces this file.
#[allow(clippy::needless_pass_by_value, reason = "the real one keeps it")]
pub fn run(_config: ServerConfig) -> Result<(), Error> {
    Err(Error::NotBuilt)
}
