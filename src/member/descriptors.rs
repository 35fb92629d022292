//! File descriptors: how many there are, and who may have them.
//!
//! ```text
//!   limit   ├─ 54 own ─┼─ 112 to peers ─┼─ from peers ─┼────────── clients ──────────┤
//!            log, file,   8 peers × 6,     an eighth,     what is left; whoever comes
//!            runtimes     64 questions     48 to 1024     beyond waits (api::accept)
//! ```
//!
//! Clients decide how many connections they make, and a member that has none left for its next
//! segment or for a peer fails at the same entry as all others. So each kind has its own share.
//!
//! The soft limit is raised to the hard one first, as Go's runtime does it for etcd. etcd keeps 150
//! (`reservedInternalFDNum`); that is what this member has for itself and its own questions to
//! peers. Probes, and what comes in at the peer port, which etcd does not bound, have their shares
//! beside it.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::Error;
use crate::raft::rafthttp::questions::AT_ONCE;

/// Connections to `--listen-metrics-urls`: probes must get through when clients have taken theirs.
const METRICS: u64 = 16;
/// Log, database, ports, runtimes, files of the trace: 22 are open in an idle member, and some
/// older segments, the next one and a file that is being written may come to them.
const OWN: u64 = 38 + METRICS;
/// To the others: two streams and four connections of the pipeline to each of eight, and those of
/// questions, in use or idle.
const TO_PEERS: u64 = 48 + AT_ONCE as u64;
/// From the others, at least: what eight of them dial.
const FROM_PEERS_MIN: u64 = 48;
/// And at most: nobody has so many peers.
const FROM_PEERS_MAX: u64 = 1024;
/// What a member needs beside clients.
const RESERVED: u64 = OWN + TO_PEERS + FROM_PEERS_MIN;
/// macOS has a hard limit that cannot be asked for; this one can (there: `OPEN_MAX`).
const MODEST: u64 = 10_240;

/// How many connections may be open at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// At all client listeners together.
    pub clients: usize,
    /// At all listeners for metrics and probes together.
    pub metrics: usize,
    /// At all peer listeners together.
    pub from_peers: usize,
}

/// Raises the limit as far as this process may, and divides it.
///
/// # Errors
///
/// There are too few even for files and peers; etcd does not start either then.
pub fn shares() -> Result<Shares, Error> {
    let (before, limit) = raise();
    let shares = divide(limit).ok_or(Error::Descriptors { limit, reserved: RESERVED })?;
    let Shares { clients, from_peers, .. } = shares;
    tracing::info!(limit, before, clients, from_peers, "divided the file descriptors");
    Ok(shares)
}

/// Raises the soft limit to the hard one. Returns what it was, and what it is.
pub fn raise() -> (u64, u64) {
    let Ok((before, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        // It cannot fail for a resource that exists. What POSIX guarantees is not even enough.
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
