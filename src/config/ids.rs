//! The ids of members and of the cluster: hashes of URLs and the token, so that every member
//! computes the same ones without asking (etcd: `membership.NewMember`, `RaftCluster.genID`).

use sha1::{Digest, Sha1};

/// The id of a member: the first eight bytes of SHA-1 over its peer URLs, sorted and joined, and
/// the cluster's token. A member that is added later also has the Unix time of that in it, so that
/// the same URLs can come back under a new id.
pub fn member_id(peer_urls: &[String], token: &str, unix_seconds: Option<u64>) -> u64 {
    let mut sorted: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    let mut hash = Sha1::new();
    for url in sorted {
        hash.update(url);
    }
    hash.update(token);
    if let Some(seconds) = unix_seconds {
        hash.update(seconds.to_string());
    }
    first_eight(hash)
}

/// The id of a cluster: the first eight bytes of SHA-1 over the ids of its first members, sorted,
/// eight bytes each.
pub fn cluster_id(member_ids: &[u64]) -> u64 {
    let mut sorted = member_ids.to_vec();
    sorted.sort_unstable();
    let mut hash = Sha1::new();
    for id in sorted {
        hash.update(id.to_be_bytes());
    }
    first_eight(hash)
}

fn first_eight(hash: Sha1) -> u64 {
    let digest = hash.finalize();
    digest.iter().take(8).fold(0, |id, byte| (id << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(port: u16, token: &str) -> u64 {
        member_id(&[format!("http://127.0.0.1:{port}")], token, None)
    }

    #[test]
    fn the_procfile_cluster_has_the_ids_that_etcd_gives_it() {
        assert_eq!(id(2380, "token-01"), 0x264a_e6bc_59e9_9892);
        assert_eq!(id(2480, "token-01"), 0xdbaf_e5ad_6b65_2eda);
        assert_eq!(id(2580, "token-01"), 0xf570_ae41_f524_bdcb);
    }

    #[test]
    fn a_single_default_member_has_the_ids_that_every_etcd_user_has_seen() {
        let member = member_id(&["http://localhost:2380".to_owned()], "etcd-cluster", None);
        assert_eq!(member, 0x8e9e_05c5_2164_694d);
        assert_eq!(cluster_id(&[member]), 0xcdf8_1819_4e3a_8c32);
    }

    #[test]
    fn order_does_not_matter_but_time_does() {
        let urls = ["http://a:1".to_owned(), "http://b:2".to_owned()];
        let turned = [urls[1].clone(), urls[0].clone()];
        assert_eq!(member_id(&urls, "t", None), member_id(&turned, "t", None));
        assert_eq!(cluster_id(&[1, 2]), cluster_id(&[2, 1]));
        assert_ne!(member_id(&urls, "t", None), member_id(&urls, "t", Some(1)));
        assert_ne!(member_id(&urls, "t", Some(2)), member_id(&urls, "t", Some(1)));
    }
}
