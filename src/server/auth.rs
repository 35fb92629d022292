//! Who is asking, and what they may do.
//!
//! Auth is off in every store that exists so far, and there is no RPC yet that could turn it on.
//! What is here is the two places where a request meets auth, each with its stage; a store in which
//! another program has enabled auth is refused when the member starts, because serving it without
//! the checks would open it to everybody.

use crate::{
    stage,
    storage::backend::{Backend, Bucket},
};

/// Key of the auth bucket that says whether auth is on (etcd: authEnabledKeyName).
const ENABLED_KEY: &[u8] = b"authEnabled";
/// Key of the auth bucket that holds the revision (etcd: authRevisionKey).
const REVISION_KEY: &[u8] = b"authRevision";

/// The auth state of the cluster.
#[derive(Debug)]
pub struct AuthStore {
    revision: u64,
}

/// Who asks, as it travels in the header of a proposal.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct AuthInfo {
    /// The user's name; empty while auth is off.
    pub name: String,
    /// The auth revision under which the user was recognised.
    pub auth_revision: u64,
}

/// The store says that auth is on, which this version does not check.
#[derive(Debug, thiserror::Error)]
#[error(
    "auth is enabled in this data directory, and this version does not check it yet: refusing to serve it to everybody"
)]
pub struct AuthEnabled;

impl AuthStore {
    /// Reads the state from the backend.
    pub fn open(backend: &Backend) -> Result<Self, AuthEnabled> {
        let get = |key| backend.get(Bucket::Auth, key).map(|(value, _)| value);
        if get(ENABLED_KEY).is_some_and(|value| value.first() == Some(&1)) {
            return Err(AuthEnabled);
        }
        let bytes = get(REVISION_KEY).and_then(|value| value.as_ref().try_into().ok());
        Ok(Self { revision: bytes.map_or(0, u64::from_be_bytes) })
    }

    /// Finds out who asks.
    pub fn authenticate(&self, id: u64) -> AuthInfo {
        let _span = stage!(AuthAuthenticate, id, enabled = false, auth_revision = self.revision);
        AuthInfo::default()
    }

    /// Says whether the entry may be applied.
    pub fn authorize(&self, id: u64) {
        let _span = stage!(AuthAuthorize, id, enabled = false, auth_revision = self.revision);
    }
}
