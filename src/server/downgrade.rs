//! Maintenance.Downgrade: why this cluster is not taken back to an older version of etcd.
//!
//! etcd 3.5 goes back to 3.4 in three steps: the request is written into the log, the leader lowers
//! the version of the cluster, and then each member is replaced by one of the older version, which
//! opens the same data directory. No older version opens the files of this one, so no version is a
//! target here. A client gets etcd's answers about targets that etcd does not accept, and about a
//! downgrade that was never begun.
//!
//! The checks come in etcd's order: the form of the version, a read round, the cluster's version.

use super::{Error, Server};
use crate::pb::etcdserverpb::{DowngradeRequest, downgrade_request::DowngradeAction};

impl Server {
    /// Maintenance.Downgrade: always refused, for one reason or another.
    pub(crate) async fn downgrade(&self, id: u64, request: &DowngradeRequest) -> Error {
        let Ok(action) = DowngradeAction::try_from(request.action) else {
            return Error::UnknownMethod;
        };
        if action != DowngradeAction::Cancel && !is_version(&request.version) {
            return Error::WrongDowngradeVersion;
        }
        if let Err(error) = self.reads.linearize(id).await {
            return error;
        }
        match action {
            DowngradeAction::Cancel => Error::NoInflightDowngrade,
            _ if self.members.version().is_none() => Error::ClusterVersionUnavailable,
            DowngradeAction::Validate | DowngradeAction::Enable => Error::InvalidDowngradeTarget,
        }
    }
}

/// Whether a text is a version: major and minor, or a patch level too, which may be followed by a
/// pre-release and metadata (etcd: convertToClusterVersion).
fn is_version(text: &str) -> bool {
    is_semver(text) || is_semver(&format!("{text}.0"))
}

/// As etcd's parser of semantic versions: three decimal numbers, then `-` or `+` and anything.
fn is_semver(text: &str) -> bool {
    let core = text.split(['-', '+']).next().unwrap_or_default();
    let parts: Vec<&str> = core.split('.').collect();
    parts.len() == 3 && parts.iter().all(|part| part.parse::<i64>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::is_version;

    #[test]
    fn versions_have_two_or_three_numbers() {
        for text in ["3.4", "3.4.0", "3.4.0-rc.1", "3.4.0+git", "30.40"] {
            assert!(is_version(text), "{text}");
        }
        for text in ["", "3", "3.4.0.1", "v3.4", "3.x", "3.4.", "three.four"] {
            assert!(!is_version(text), "{text}");
        }
    }
}
