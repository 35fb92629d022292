//! File descriptors: their number, and the share of each use.
//!
//! ```text
//!   limit   ├─ 54 own ─┼─ 112 to peers ─┼─ from peers ─┼────────── clients ──────────┤
//!            log, file,   8 peers × 6,     an eighth,     the rest, for any client
//!            runtimes     64 questions     48 to 1024     beyond waits (api::accept)
//! ```
//!
//! Clients decide how many connections they open. Without a descriptor for the next segment or for
//! a peer all members would fail at the same entry. So each use has its own share.
//!
//! The soft limit is raised to the hard one first, as Go's runtime does for etcd. etcd reserves 150
//! (`reservedInternalFDNum`); this member has as many for itself and its connections to peers.
//! Probes and connections from peers, which etcd does not bound, have separate shares.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::Error;
use crate::raft::rafthttp::questions::AT_ONCE;

/// Connections to `--listen-metrics-urls`, so that probes are answered when clients have used up
/// their share.
const METRICS: u64 = 16;
/// Log, database, ports, runtimes, files of the trace: 22 are open in an idle member. Added to them
/// are a few older segments, the next one, and a file that is being written.
const OWN: u64 = 38 + METRICS;
/// Connections to peers: two streams and four connections of the pipeline to each of eight peers,
/// and those of questions, in use or idle.
const TO_PEERS: u64 = 48 + AT_ONCE as u64;
/// The least share for connections from peers: those of eight peers.
const FROM_PEERS_MIN: u64 = 48;
/// The largest share for connections from peers; more are never needed.
const FROM_PEERS_MAX: u64 = 1024;
/// The descriptors that a member needs beside those for clients.
const RESERVED: u64 = OWN + TO_PEERS + FROM_PEERS_MIN;
/// The limit to ask for where the hard one cannot be set, as on macOS (there: `OPEN_MAX`).
const MODEST: u64 = 10_240;

/// The most connections that may be open at a time, by use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// At all client listeners together; more wait to be accepted.
    pub clients: usize,
    /// At all listeners for metrics and probes together.
    pub metrics: usize,
    /// At all peer listeners together.
    pub from_peers: usize,
}

/// Raises the limit as far as this process may, and divides it into shares.
///
/// # Errors
///
/// If there are too few even for files and peers; etcd does not start either then.
pub fn shares() -> Result<Shares, Error> {
    let (before, limit) = raise();
    let shares = divide(limit).ok_or(Error::Descriptors { limit, reserved: RESERVED })?;
    let Shares { clients, from_peers, .. } = shares;
    tracing::info!(limit, before, clients, from_peers, "divided the file descriptors");
    Ok(shares)
}

/// Raises the soft limit to the hard one. Returns the old and the new soft limit.
pub fn raise() -> (u64, u64) {
    let Ok((before, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        // This cannot fail for a resource that exists. The limit that POSIX guarantees would be too
        // small.
        return (MODEST, MODEST);
    };
    for wanted in [hard, hard.min(MODEST)] {
        if before < wanted && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok() {
            return (before, wanted);
        }
    }
    (before, before)
}

fn divide(limit: u64) -> Option<Shares> {
    let from_peers = (limit / 8).clamp(FROM_PEERS_MIN, FROM_PEERS_MAX);
    let clients = limit.checked_sub(OWN + TO_PEERS + from_peers).filter(|clients| 0 < *clients)?;
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    Some(Shares { clients: count(clients), metrics: count(METRICS), from_peers: count(from_peers) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_shares_together_are_the_limit_and_few_descriptors_are_refused() {
        let shares = |clients, from_peers| Some(Shares { clients, metrics: 16, from_peers });
        for limit in [0, 1, RESERVED] {
            assert_eq!(divide(limit), None, "{limit}");
        }
        assert_eq!(divide(RESERVED + 1), shares(1, 48));
        assert_eq!(divide(256), shares(42, 48));
        assert_eq!(divide(512), shares(282, 64));
        assert_eq!(divide(1 << 20), shares((1 << 20) - 1024 - 166, 1024));
        for limit in RESERVED + 1..5000 {
            let Shares { clients, from_peers, .. } = divide(limit).unwrap();
            assert_eq!((clients + from_peers) as u64 + OWN + TO_PEERS, limit);
        }
        assert!(divide(u64::MAX).is_some());
    }

    #[test]
    fn the_limit_is_raised_once() {
        let (_, limit) = raise();
        assert_eq!(raise(), (limit, limit));
    }
}
