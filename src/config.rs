//! The configuration of a member: etcd's flags, variables and file.
//!
//! ```text
//!   --name x ──> args ──┐
//!   ETCD_NAME ─> args ──┤ Given: checked texts,     checks      ServerConfig
//!   name: x ───> yaml ──┘ by the flag's name    ──────────────> + warnings
//!                  ^
//!            flags (the one table), values, urls
//! ```
//!
//! All three sources are brought into one form: a value becomes the text that it would have on the
//! command line, is checked once against the table, and is parsed once while [`ServerConfig`] is
//! built. No other module sees a flag.
//!
//! **Invariants.** A [`ServerConfig`] is complete and consistent, so its users check nothing again.
//! No flag is silently ignored: see [`flags`].
//!
//! Left out: etcd replaces the advertised `localhost` by the address of the default route when it
//! listens on `0.0.0.0`; here a member advertises exactly what was given, because such a guess
//! works on one network and fails on the next.

mod args;
mod checks;
mod compaction;
mod corruption;
mod error;
pub mod flags;
mod help;
pub mod ids;
mod listen;
mod logging;
mod urls;
mod values;
mod yaml;

#[cfg(test)]
mod tests;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

pub use compaction::{AutoCompaction, Compaction};
pub use corruption::CorruptCheck;
pub use error::ConfigError;
pub use help::{ETCD_VERSION, help, version_text};
pub use listen::{Cors, Hosts, Listen};
pub use logging::Rotation;
pub use urls::{Address, UrlError};
pub use values::{ValueError, positive_duration};

/// The action that the command line asks for.
#[derive(Debug)]
pub enum Asked {
    /// To run a member with this configuration.
    Start(Box<Parsed>),
    /// `--help`: print [`help`] and exit with 0.
    Help,
    /// `--version`: print [`version_text`] and exit with 0.
    Version,
}

/// A configuration, with warnings about it.
#[derive(Debug)]
pub struct Parsed {
    /// The configuration of the member.
    pub config: ServerConfig,
    /// The options of the process.
    pub process: ProcessOptions,
    /// Warnings, to be logged once the log is set up.
    pub warnings: Vec<String>,
}

/// Options of the process and not of the member: its log, and the file for `--trace-chrome`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessOptions {
    /// The least severe line that is written (`--log-level`).
    pub log_level: LogLevel,
    /// JSON or columns (`--log-format`).
    pub log_format: LogFormat,
    /// `--log-outputs`, at least one.
    pub log_outputs: Vec<LogOutput>,
    /// `--enable-log-rotation`: when the log file is full, and which old ones stay.
    pub log_rotation: Option<Rotation>,
    /// `--trace-chrome` (ours): the file that kept requests are written to, or its directory.
    pub trace_chrome: Option<PathBuf>,
}

/// The least severe line that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Everything; release builds leave debug lines out when they are compiled.
    Debug,
    /// Events of normal operation.
    Info,
    /// Conditions that an operator should look at.
    Warn,
    /// Failures; also stands for etcd's `dpanic`, `panic` and `fatal`.
    Error,
}

impl LogLevel {
    fn from_name(name: &str) -> Option<LogLevel> {
        match name {
            "debug" | "DEBUG" => Some(LogLevel::Debug),
            "info" | "INFO" | "" => Some(LogLevel::Info),
            "warn" | "WARN" => Some(LogLevel::Warn),
            "error" | "ERROR" | "dpanic" | "DPANIC" | "panic" | "PANIC" | "fatal" | "FATAL" => {
                Some(LogLevel::Error)
            }
            _ => None,
        }
    }
}

/// Whether the leader shares the remaining TTL of leases with the other members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseCheckpoint {
    /// It does not: a new leader gives every lease its whole TTL again.
    Off,
    /// `--experimental-enable-lease-checkpoint`: the members keep it in memory.
    InMemory,
    /// Also `--experimental-enable-lease-checkpoint-persist`: they keep it in the database file.
    Persisted,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object on each line, with zap's keys.
    Json,
    /// Columns for a terminal.
    Console,
}

/// Where log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOutput {
    /// Standard error; etcd's `default`.
    Stderr,
    /// Standard output, on request only: the default is standard error.
    Stdout,
    /// A file, to which lines are appended.
    File(PathBuf),
}

/// Reads etcd's command line (without the program's name) and variables.
///
/// # Errors
///
/// The first error, as one line; [`ConfigError::exit_code`] gives the code with which etcd exits.
pub fn parse(args: &[String], env: &[(String, String)]) -> Result<Asked, ConfigError> {
    let mut given = args::from_command_line(args)?;
    if given.help {
        return Ok(Asked::Help);
    }
    if given.boolean("version") {
        return Ok(Asked::Version);
    }
    let variable = args::variable("config-file");
    let file = match given.text("config-file") {
        "" => env.iter().find(|(name, _)| *name == variable).map_or("", |(_, value)| value),
        file => file,
    };
    let parsed = if file.is_empty() {
        let warnings = args::add_variables(&mut given, env)?;
        checks::build(&given, false, warnings)?
    } else {
        let (from_file, warnings) = yaml::read(file.as_ref())?;
        checks::build(&from_file, true, warnings)?
    };
    Ok(Asked::Start(Box::new(parsed)))
}

/// Peer URLs in the form in which etcd keeps them: trimmed and sorted. `None` if there is none, or
/// one at which no member can be reached (etcd: `types.NewURLs`).
pub fn peer_urls(list: &[String]) -> Option<Vec<String>> {
    let urls = urls::parse_each(list).ok().filter(|urls| !urls.is_empty())?;
    urls::no_unix(&urls).ok()?;
    Some(urls.iter().map(ToString::to_string).collect())
}

/// The same, or why there is no such list, in etcd's words.
///
/// # Errors
/// The text about the first URL that is wrong, or about a list without one.
pub fn checked_peer_urls(list: &[String]) -> Result<Vec<String>, String> {
    if list.is_empty() {
        return Err("no valid URLs given".to_owned());
    }
    let urls = urls::parse_each(list).map_err(|error| error.to_string())?;
    urls::no_unix(&urls).map_err(|error| error.to_string())?;
    Ok(urls.iter().map(ToString::to_string).collect())
}

/// Whether two lists of URLs name the same places, by text or by the addresses of their names. Asks
/// the resolver only if the texts differ.
pub fn same_places(left: &[String], right: &[String]) -> bool {
    match (urls::parse_each(left), urls::parse_each(right)) {
        (Ok(left), Ok(right)) => urls::same_places(&left, &right),
        _ => left == right,
    }
}

/// The pings between a member and its clients, by which each finds out that the other has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// `--grpc-keepalive-interval`: how long a client may be silent before it is pinged.
    pub interval: Duration,
    /// `--grpc-keepalive-timeout`: how long it has to answer a ping.
    pub timeout: Duration,
    /// `--grpc-keepalive-min-time`: the least time between two pings of a client that has calls
    /// under way.
    pub min_time: Duration,
}

/// Durations from which something is logged as slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Warnings {
    /// `--warning-apply-duration`, or the experimental flag of 3.5: applying a request, and a read.
    pub apply: Duration,
    /// `--warning-unary-request-duration`, or the experimental flag of 3.6: a unary call.
    pub unary: Duration,
}

/// When snapshots are made, and which old files stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshots {
    /// Applied entries after which a snapshot is made (`--snapshot-count`).
    pub count: u64,
    /// Entries before a snapshot that stay for slow followers (`--snapshot-catchup-entries`).
    pub catch_up_entries: u64,
    /// The most `.snap` files that stay (`--max-snapshots`).
    pub max_files: usize,
    /// The most segments of the log that stay, unless more are needed (`--max-wals`).
    pub max_wals: usize,
}

/// A member's configuration, complete and checked.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The member's name in `--initial-cluster`, logs and member lists (`--name`).
    pub name: String,
    /// `--data-dir`; `member/wal` and `member/snap` are made below it.
    pub data_dir: PathBuf,
    /// `--wal-dir`, if it is not below the data directory.
    pub wal_dir: Option<PathBuf>,
    /// Where clients are served.
    pub listen: Listen,
    /// Origins whose pages may use the HTTP interface (`--cors`).
    pub cors: Cors,
    /// Names by which HTTP may call the member (`--host-whitelist`).
    pub hosts: Hosts,
    /// Whether HTTP has the JSON gateway (`--enable-grpc-gateway`).
    pub grpc_gateway: bool,
    /// URLs that clients are to use (`--advertise-client-urls`), sorted.
    pub advertise_client_urls: Vec<String>,
    /// Addresses for other members (`--listen-peer-urls`), with names resolved.
    pub listen_peer: Vec<SocketAddr>,
    /// URLs that other members are to use (`--initial-advertise-peer-urls`), sorted.
    pub advertise_peer_urls: Vec<String>,
    /// `--initial-cluster`: names and peer URLs, one entry a name; both sorted.
    pub initial_cluster: Vec<(String, Vec<String>)>,
    /// `--initial-cluster-state`: true for `new`.
    pub new_cluster: bool,
    /// `--force-new-cluster`: whether this member leaves all others behind.
    pub force_new_cluster: bool,
    /// `--strict-reconfig-check`: whether a change of the members that could endanger the quorum is
    /// refused.
    pub strict_reconfig_check: bool,
    /// `--enable-v2`: whether the v2 API is served.
    pub enable_v2: bool,
    /// `--max-learners`: the most learners at a time, the same for all members.
    pub max_learners: usize,
    /// Goes into the ids of members and cluster (`--initial-cluster-token`).
    pub cluster_token: String,
    /// The length of a tick (`--heartbeat-interval`).
    pub heartbeat: Duration,
    /// `--election-timeout`, cut to whole heartbeats.
    pub election: Duration,
    /// Whether the first election may come early (`--initial-election-tick-advance`).
    pub election_tick_advance: bool,
    /// Whether a candidate asks for votes before it raises its term (`--pre-vote`).
    pub pre_vote: bool,
    /// The largest request of a client in bytes, at most 64 MiB (`--max-request-bytes`).
    pub max_request_bytes: usize,
    /// The most operations of a transaction (`--max-txn-ops`).
    pub max_txn_ops: usize,
    /// Concurrent streams of a client's connection (`--max-concurrent-streams`).
    pub max_concurrent_streams: u32,
    /// The pings between the member and its clients.
    pub keepalive: Keepalive,
    /// `--watch-progress-notify-interval`, or the experimental flag of 3.5; at least 100 ms.
    pub progress_interval: Duration,
    /// `--quota-backend-bytes`, after its default; `None` when negative (no quota).
    pub quota_bytes: Option<u64>,
    /// `--backend-batch-interval`, after its default.
    pub batch_interval: Duration,
    /// `--backend-batch-limit`, after its default.
    pub batch_limit: usize,
    /// Whether nothing is synced, so that a power failure may lose data (`--unsafe-no-fsync`).
    pub unsafe_no_fsync: bool,
    /// When and how revisions are compacted.
    pub compaction: Compaction,
    /// When this member's keys are compared with those of others.
    pub corrupt_check: CorruptCheck,
    /// When something is logged as slow.
    pub warnings: Warnings,
    /// `--metrics`: whether the durations of calls are counted (`extensive`).
    pub extensive_metrics: bool,
    /// When snapshots are made, and which old files stay.
    pub snapshots: Snapshots,
    /// Whether leases keep their remaining time at a change of leader.
    pub lease_checkpoint: LeaseCheckpoint,
    /// `--threads` (ours): grpc threads.
    pub threads: usize,
    /// `--trace-observe` (ours): whether the observe service is served.
    pub trace_observe: bool,
    /// `--trace-slow-ms` (ours): the duration from which a request counts as slow.
    pub trace_slow: Duration,
    /// `--trace-brief-above` (ours): how many records a second the member may write before quick
    /// steps are left out of requests that were not chosen to be kept.
    pub trace_brief_above: u64,
    /// `--trace-capture` (ours): whether steps leave records at all.
    pub trace_capture: bool,
    /// `--trace-redact-keys` (ours): whether the traces leave out the text of keys.
    pub trace_redact_keys: bool,
    /// `--trace-otlp` (ours): the URL of the OpenTelemetry collector for kept requests, if any.
    pub trace_otlp: Option<String>,
}
