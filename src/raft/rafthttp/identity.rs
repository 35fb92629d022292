//! The headers by which members identify themselves in every request, and their check.

use http::{HeaderMap, HeaderName, HeaderValue, header::InvalidHeaderValue};

/// The sender's id, as hex.
const FROM: HeaderName = HeaderName::from_static("x-server-from");
/// The version of the sender's program.
const VERSION: HeaderName = HeaderName::from_static("x-server-version");
/// The oldest version that the sender can share a cluster with.
const MIN_VERSION: HeaderName = HeaderName::from_static("x-min-cluster-version");
/// The cluster's id, as hex.
const CLUSTER: HeaderName = HeaderName::from_static("x-etcd-cluster-id");
/// The sender's peer URLs, separated by commas.
const PEER_URLS: HeaderName = HeaderName::from_static("x-peerurls");
/// The id of the member that a stream request is meant for, as hex.
pub(super) const TO: HeaderName = HeaderName::from_static("x-raft-to");

/// The oldest version that this member can share a cluster with (etcd: version.MinClusterVersion).
const MIN_CLUSTER_VERSION: &str = "3.0.0";

/// The headers that identify a member.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) member_id: u64,
    pub(super) cluster_id: u64,
    server_version: &'static str,
    headers: HeaderMap,
}

/// Why two members must not talk to each other. The texts are etcd's, because its members compare
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Mismatch {
    /// One is too old for the other.
    #[error("incompatible version")]
    Version,
    /// They belong to different clusters.
    #[error("cluster ID mismatch")]
    Cluster,
}

impl Identity {
    /// Prepares the headers; fails when a URL contains what a header cannot.
    pub(super) fn new(
        member_id: u64,
        cluster_id: u64,
        server_version: &'static str,
        peer_urls: &[String],
    ) -> Result<Identity, InvalidHeaderValue> {
        let mut headers = HeaderMap::new();
        headers.insert(FROM, HeaderValue::from_str(&format!("{member_id:x}"))?);
        headers.insert(VERSION, HeaderValue::from_static(server_version));
        headers.insert(MIN_VERSION, HeaderValue::from_static(MIN_CLUSTER_VERSION));
        headers.insert(CLUSTER, HeaderValue::from_str(&format!("{cluster_id:x}"))?);
        headers.insert(PEER_URLS, HeaderValue::from_str(&peer_urls.join(","))?);
        Ok(Identity { member_id, cluster_id, server_version, headers })
    }

    /// Adds the headers of every request to a peer.
    pub(super) fn stamp_request(&self, headers: &mut HeaderMap) {
        headers.extend(self.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
    }

    /// Adds the headers of every answer to a peer.
    pub(super) fn stamp_answer(&self, headers: &mut HeaderMap) {
        for name in [VERSION, CLUSTER] {
            let value = self.headers[&name].clone();
            headers.insert(name, value);
        }
    }

    /// Checks a request's sender: versions first, then the cluster.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), Mismatch> {
        let theirs = version(text(headers, &VERSION));
        let their_min = version(text(headers, &MIN_VERSION));
        let too_old = theirs < version(MIN_CLUSTER_VERSION);
        if too_old || version(self.server_version) < their_min {
            return Err(Mismatch::Version);
        }
        if text(headers, &CLUSTER) != format!("{:x}", self.cluster_id) {
            return Err(Mismatch::Cluster);
        }
        Ok(())
    }
}

/// The sender that a request names, for log lines; 0 if it names none.
pub(super) fn sender(headers: &HeaderMap) -> u64 {
    parse_id(text(headers, &FROM)).unwrap_or(0)
}

/// The cluster that a request names, for log lines.
pub(super) fn cluster(headers: &HeaderMap) -> &str {
    text(headers, &CLUSTER)
}

/// The peer URLs of a request's sender.
pub(super) fn peer_urls(headers: &HeaderMap) -> Vec<String> {
    let urls = text(headers, &PEER_URLS).split(',');
    urls.filter(|url| !url.is_empty()).map(str::to_owned).collect()
}

/// Reads an id as etcd writes it. (etcd: types.IDFromString)
pub(super) fn parse_id(text: &str) -> Option<u64> {
    let hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    hex.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

/// A header as text; empty when it is not there or not text.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}

/// Major and minor version. A missing or malformed version counts as 2.0, the last etcd that sent
/// none.
fn version(text: &str) -> (u64, u64) {
    let mut numbers = text.split('.').map(|number| number.parse().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor),
        _ => (2, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(version: &'static str) -> Identity {
        Identity::new(0xa1, 0xc1, version, &["http://127.0.0.1:2380".to_owned()]).unwrap()
    }

    #[test]
    fn a_request_carries_etcds_headers() {
        let mut headers = HeaderMap::new();
        identity("3.5.33").stamp_request(&mut headers);
        for (name, value) in [
            ("X-Server-From", "a1"),
            ("X-Server-Version", "3.5.33"),
            ("X-Min-Cluster-Version", "3.0.0"),
            ("X-Etcd-Cluster-ID", "c1"),
            ("X-PeerURLs", "http://127.0.0.1:2380"),
        ] {
            assert_eq!(headers[name], value);
        }
        assert_eq!(headers.len(), 5);
    }

    #[test]
    fn versions_are_compared_before_clusters_and_by_major_and_minor_only() {
        let check = |version: &'static str, min: &'static str, cluster: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(VERSION, HeaderValue::from_static(version));
            headers.insert(MIN_VERSION, HeaderValue::from_static(min));
            headers.insert(CLUSTER, HeaderValue::from_static(cluster));
            identity("3.5.33").check(&headers)
        };
        assert_eq!(check("3.5.1", "3.0.0", "c1"), Ok(()));
        assert_eq!(check("3.7.1", "3.5.99", "c1"), Ok(()));
        assert_eq!(check("3.7.1", "3.6.0", "c1"), Err(Mismatch::Version));
        assert_eq!(check("2.3.8", "2.1.0", "c1"), Err(Mismatch::Version));
        assert_eq!(check("nonsense", "3.0.0", "c2"), Err(Mismatch::Version));
        assert_eq!(check("3.5.1", "3.0.0", "c2"), Err(Mismatch::Cluster));
        assert_eq!(check("3.5.1", "3.0.0", ""), Err(Mismatch::Cluster));
    }

    #[test]
    fn ids_are_hex_digits_and_nothing_else() {
        assert_eq!(parse_id("264ae6bc59e99892"), Some(0x264a_e6bc_59e9_9892));
        for text in ["", "+1", "-1", "0x1", "1 ", "g", "11111111111111111"] {
            assert_eq!(parse_id(text), None, "{text:?}");
        }
    }
}
