//! Which user sends a request, and which keys that user may access.
//!
//! Auth is off in every store that this version creates, and no RPC can turn it on yet. This file
//! has the two places where a request meets auth, each with its stage. A member refuses to start on
//! a store in which another program has enabled auth: without the checks, everybody could read and
//! write it.

use crate::{
    stage,
    storage::backend::{Backend, Bucket},
};

/// Key of the auth bucket that says whether auth is on (etcd: authEnabledKeyName).
const ENABLED_KEY: &[u8] = b"authEnabled";
/// Key of the auth bucket that holds the revision (etcd: authRevisionKey).
const REVISION_KEY: &[u8] = b"authRevision";

/// The auth state, which all members share.
#[derive(Debug)]
pub struct AuthStore {
    revision: u64,
}

/// The user who sends a request, as the header of the proposal names them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct AuthInfo {
    /// Empty while auth is off.
    pub name: String,
    /// The auth revision at which the user was authenticated.
    pub auth_revision: u64,
}

/// Auth is enabled in the store, and this version cannot check it.
#[derive(Debug, thiserror::Error)]
#[error(
    "auth is enabled in this data directory, and this version does not check it yet: refusing to serve it to everybody"
)]
pub struct AuthEnabled;

impl AuthStore {
    /// Reads the auth revision from the backend. Fails if auth is enabled there.
    pub fn open(backend: &Backend) -> Result<Self, AuthEnabled> {
        let get = |key| backend.get(Bucket::Auth, key).map(|(value, _)| value);
        if get(ENABLED_KEY).is_some_and(|value| value.first() == Some(&1)) {
            return Err(AuthEnabled);
        }
        let bytes = get(REVISION_KEY).and_then(|value| value.as_ref().try_into().ok());
        Ok(Self { revision: bytes.map_or(0, u64::from_be_bytes) })
    }

    /// The user who sends request `id`.
    pub fn authenticate(&self, id: u64) -> AuthInfo {
        let _span = stage!(AuthAuthenticate, id, enabled = false, auth_revision = self.revision);
        AuthInfo::default()
    }

    /// Apply thread: checks whether the user may access the keys of request `id`.
    pub fn authorize(&self, id: u64) {
        let _span = stage!(AuthAuthorize, id, enabled = false, auth_revision = self.revision);
    }
}
