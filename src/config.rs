//! What a member is told when it starts: etcd's flags, variables and file.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// A member's configuration, complete and checked.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// `--name`.
    pub name: String,
    /// `--data-dir`; `member/wal` and `member/snap` are made below it.
    pub data_dir: PathBuf,
    /// `--wal-dir`, if it is not below the data directory.
    pub wal_dir: Option<PathBuf>,
    /// `--listen-client-urls`, resolved.
    pub listen_client: Vec<SocketAddr>,
    /// `--advertise-client-urls`, as given.
    pub advertise_client_urls: Vec<String>,
    /// `--listen-peer-urls`, resolved.
    pub listen_peer: Vec<SocketAddr>,
    /// `--initial-advertise-peer-urls`, as given.
    pub advertise_peer_urls: Vec<String>,
    /// `--initial-cluster`: names and peer URLs, one entry a name.
    pub initial_cluster: Vec<(String, Vec<String>)>,
    /// `--initial-cluster-state`: true for `new`.
    pub new_cluster: bool,
    /// `--initial-cluster-token`.
    pub cluster_token: String,
    /// `--heartbeat-interval`.
    pub heartbeat: Duration,
    /// `--election-timeout`.
    pub election: Duration,
    /// `--initial-election-tick-advance`.
    pub election_tick_advance: bool,
    /// `--pre-vote`.
    pub pre_vote: bool,
    /// `--max-request-bytes`.
    pub max_request_bytes: usize,
    /// `--max-txn-ops`.
    pub max_txn_ops: usize,
    /// `--max-concurrent-streams`.
    pub max_concurrent_streams: u32,
    /// `--quota-backend-bytes`, after its default; `None` when negative (no quota).
    pub quota_bytes: Option<u64>,
    /// `--backend-batch-interval`, after its default.
    pub batch_interval: Duration,
    /// `--backend-batch-limit`, after its default.
    pub batch_limit: usize,
    /// `--unsafe-no-fsync`.
    pub unsafe_no_fsync: bool,
    /// `--threads` (ours): grpc threads.
    pub threads: usize,
    /// `--trace-observe` (ours): whether the observe service is served.
    pub trace_observe: bool,
    /// `--trace-chrome FILE` (ours): kept requests for chrome://tracing.
    pub trace_chrome: Option<PathBuf>,
    /// `--trace-slow-ms` (ours): from when on a request counts as slow.
    pub trace_slow: Duration,
}
