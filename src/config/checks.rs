//! Builds a valid configuration from the given values, or fails with etcd's error texts.
//!
//! The checks are etcd's (`embed.Config.Validate`, `ServerConfig.VerifyBootstrap`), in its order,
//! with one addition: flags that would silently endanger data or security are refused first.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use super::{
    Keepalive, LeaseCheckpoint, Parsed, ServerConfig, Snapshots, Warnings,
    args::Given,
    compaction::compaction,
    corruption::corrupt_check,
    error::ConfigError,
    flags::Effect,
    listen::{self, advertised},
    logging,
    urls::{self, Url},
    values,
};

const GIB: u64 = 1 << 30;
const QUOTA_DEFAULT: u64 = 2 * GIB;
/// The quota above which etcd warns, because a backup or a new member would take too long.
const QUOTA_ADVISED: u64 = 8 * GIB;
/// The largest request that etcd advises, because a larger one delays all others.
const REQUEST_ADVISED: u64 = 10 << 20;
/// The highest `--max-request-bytes`. A request becomes one entry, and passes the raft inbox, a
/// segment of the log and a transaction of the backend, each of which is made for about this size.
/// It also stays far below the 512 MiB of a raft message.
const REQUEST_MAX: u64 = 64 << 20;
/// The defaults of Go's gRPC.
const KEEPALIVE_DEFAULT: Keepalive = Keepalive {
    interval: Duration::from_secs(2 * 60 * 60),
    timeout: Duration::from_secs(20),
    min_time: Duration::from_secs(5 * 60),
};
const KEEPALIVE_INTERVAL_MIN: Duration = Duration::from_secs(1);
const ELECTION_MS_MAX: u64 = 50_000;
/// The highest `--threads`, more than any machine can use.
const THREADS_MAX: u64 = 256;

/// Builds the configuration. `warnings` are those from reading the sources.
pub(super) fn build(
    given: &Given,
    from_file: bool,
    mut warnings: Vec<String>,
) -> Result<Parsed, ConfigError> {
    one_bootstrap(given)?;
    refuse(given)?;
    warnings.extend(without_effect(given));
    let process = logging::process_options(given, &mut warnings)?;
    let (heartbeat, election) = timing(given)?;
    let cluster = Cluster::of(given, from_file)?;
    let config = ServerConfig {
        name: given.text("name").to_owned(),
        data_dir: data_dir(given, &mut warnings),
        wal_dir: Some(given.text("wal-dir")).filter(|dir| !dir.is_empty()).map(PathBuf::from),
        listen: listen::listen(given)?,
        advertise_client_urls: strings(&advertised(given, "advertise-client-urls")?),
        cors: listen::cors(given),
        hosts: listen::hosts(given),
        grpc_gateway: given.boolean("enable-grpc-gateway"),
        listen_peer: listen::peers(given)?,
        advertise_peer_urls: strings(&cluster.own),
        initial_cluster: cluster.members.iter().map(|(n, u)| (n.clone(), strings(u))).collect(),
        new_cluster: given.text("initial-cluster-state") == "new",
        force_new_cluster: given.boolean("force-new-cluster"),
        strict_reconfig_check: given.boolean("strict-reconfig-check"),
        enable_v2: given.boolean("enable-v2"),
        max_learners: usize::try_from(given.int("max-learners")).unwrap_or(0),
        cluster_token: given.text("initial-cluster-token").to_owned(),
        heartbeat,
        election,
        election_tick_advance: given.boolean("initial-election-tick-advance"),
        pre_vote: given.boolean("pre-vote"),
        max_request_bytes: max_request_bytes(given, &mut warnings)?,
        max_txn_ops: size(given, "max-txn-ops")?,
        max_concurrent_streams: concurrent_streams(given),
        keepalive: keepalive(given),
        progress_interval: progress_interval(given),
        quota_bytes: quota(given, &mut warnings),
        batch_interval: batch_interval(given),
        batch_limit: batch_limit(given),
        unsafe_no_fsync: given.boolean("unsafe-no-fsync"),
        compaction: compaction(given)?,
        corrupt_check: corrupt_check(given)?,
        warnings: slow_warnings(given),
        extensive_metrics: given.text("metrics") == "extensive",
        snapshots: snapshots(given),
        lease_checkpoint: lease_checkpoint(given, &mut warnings)?,
        threads: threads(given)?,
        trace_observe: given.boolean("trace-observe"),
        trace_slow: Duration::from_millis(given.uint("trace-slow-ms")),
        trace_brief_above: given.uint("trace-brief-above"),
        trace_capture: given.boolean("trace-capture"),
        trace_redact_keys: given.boolean("trace-redact-keys"),
        trace_otlp: Some(given.text("trace-otlp")).filter(|url| !url.is_empty()).map(str::to_owned),
    };
    // If there is a log, it names the members, and the flags do not count any more.
    if !has_log(&config) {
        cluster.check(&config.name, config.new_cluster)?;
    }
    Ok(Parsed { config, process, warnings })
}

fn concurrent_streams(given: &Given) -> u32 {
    u32::try_from(given.uint("max-concurrent-streams")).expect("checked when it was given")
}

/// Only one way of naming the first members may be given (etcd: `ErrConflictBootstrapFlags`).
fn one_bootstrap(given: &Given) -> Result<(), ConfigError> {
    let ways = ["initial-cluster", "discovery", "discovery-srv"];
    let is_given = |name: &&'static str| given.has(name) && !given.text(name).is_empty();
    match ways.iter().filter(|name| is_given(name)).count() {
        0 | 1 => Ok(()),
        _ => Err(ConfigError::ConflictingBootstrap),
    }
}

/// Refuses flags that must not be ignored.
fn refuse(given: &Given) -> Result<(), ConfigError> {
    for (flag, value) in given.iter() {
        let same = value == flag.default
            || (flag.default == "false" && !values::boolean(value).unwrap_or(true));
        if let Effect::Refused(why) = flag.effect
            && !same
        {
            // The value may be a password or a token, and is not shown.
            let secret = matches!(flag.name, "discovery-token" | "auth-token");
            let value = if secret { "…".to_owned() } else { value.to_owned() };
            return Err(ConfigError::Refused { flag: flag.name, value, why });
        }
    }
    Ok(())
}

/// A warning for each flag that has no effect here, with the reason, and one that names those that
/// etcd ignores as well.
fn without_effect(given: &Given) -> Vec<String> {
    let mut lines: Vec<String> = given
        .iter()
        .filter_map(|(flag, _)| match flag.effect {
            Effect::Inert(why) => Some(format!("--{} has no effect here: {why}", flag.name)),
            Effect::Works(_) | Effect::Refused(_) | Effect::Legacy => None,
        })
        .collect();
    let ignored = given.iter().filter(|(flag, _)| flag.effect == Effect::Legacy);
    let ignored: Vec<String> = ignored.map(|(flag, _)| format!("--{}", flag.name)).collect();
    if !ignored.is_empty() {
        lines.push(format!("no longer supported by etcd, ignored: {}", ignored.join(" ")));
    }
    lines
}

/// The heartbeat, and the election timeout in whole heartbeats, which is how etcd counts it
/// (`ElectionTicks`): the rest is cut off, also for what depends on it, such as the shortest TTL of
/// a lease and how long a request may wait.
fn timing(given: &Given) -> Result<(Duration, Duration), ConfigError> {
    let (heartbeat, election) = (given.uint("heartbeat-interval"), given.uint("election-timeout"));
    for (flag, value) in [("heartbeat-interval", heartbeat), ("election-timeout", election)] {
        if value == 0 {
            return Err(ConfigError::NotPositive { flag, value: 0, unit: "ms" });
        }
    }
    if heartbeat.saturating_mul(5) > election {
        return Err(ConfigError::ElectionTooShort { election, heartbeat });
    }
    if election > ELECTION_MS_MAX {
        return Err(ConfigError::ElectionTooLong(election));
    }
    let election = election / heartbeat * heartbeat;
    Ok((Duration::from_millis(heartbeat), Duration::from_millis(election)))
}

/// The initial cluster, from the flags.
struct Cluster {
    /// The peer URLs that this member advertises.
    own: Vec<Url>,
    /// Names and URLs, by name.
    members: BTreeMap<String, Vec<Url>>,
    /// The text, for errors.
    text: String,
}

impl Cluster {
    fn of(given: &Given, from_file: bool) -> Result<Cluster, ConfigError> {
        if !from_file && given.has("listen-client-urls") && !given.has("advertise-client-urls") {
            return Err(ConfigError::AdvertiseMissing);
        }
        let own = advertised(given, "initial-advertise-peer-urls")?;
        urls::no_unix(&own).map_err(ConfigError::Bind)?;
        let (name, text) = (given.text("name"), given.text("initial-cluster"));
        // A name alone is a cluster of one (etcd: `UpdateDefaultClusterFromName`).
        let default = !given.has("initial-cluster") || text.is_empty();
        let text = match default && name != "default" {
            true => own.iter().map(|url| format!("{name}={url}")).collect::<Vec<_>>().join(","),
            false => text.to_owned(),
        };
        let mut members = BTreeMap::<String, Vec<Url>>::new();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (name, url) = pair.split_once('=').unwrap_or((pair, ""));
            let url = urls::parse_list(url).map_err(ConfigError::InitialCluster)?;
            urls::no_unix(&url).map_err(ConfigError::InitialCluster)?;
            members.entry(name.to_owned()).or_default().extend(url);
        }
        for urls in members.values_mut() {
            urls.sort_by_key(Url::to_string);
        }
        Ok(Cluster { own, members, text })
    }

    /// Checks this member's entry of `--initial-cluster` (etcd: `ServerConfig.VerifyBootstrap`). A
    /// member that joins was added with its URLs (`VerifyJoinExisting`).
    fn check(&self, name: &str, is_new: bool) -> Result<(), ConfigError> {
        let Some(listed) = self.members.get(name) else {
            return Err(ConfigError::NameMissing(name.to_owned()));
        };
        let mut all: Vec<String> = self.members.values().flatten().map(Url::to_string).collect();
        let total = all.len();
        all.sort();
        all.dedup();
        if all.len() < total {
            return Err(ConfigError::DuplicateUrl(self.text.clone()));
        }
        if is_new && !urls::same_places(listed, &self.own) {
            let pairs: Vec<_> = listed.iter().map(|url| format!("{name}={url}")).collect();
            return Err(ConfigError::AdvertiseMismatch {
                cluster: pairs.join(","),
                own: urls::joined(&self.own),
            });
        }
        Ok(())
    }
}

fn data_dir(given: &Given, warnings: &mut Vec<String>) -> PathBuf {
    match given.text("data-dir") {
        "" => {
            let dir = format!("{}.etcd", given.text("name"));
            warnings.push(format!("'data-dir' was empty; using default {dir}"));
            PathBuf::from(dir)
        }
        dir => PathBuf::from(dir),
    }
}

/// Whether the member has a log, which then names the cluster's members (etcd: `wal.Exist`).
fn has_log(config: &ServerConfig) -> bool {
    let dir = config.wal_dir.clone().unwrap_or_else(|| config.data_dir.join("member/wal"));
    fs::read_dir(dir).is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.path().extension().is_some_and(|e| e == "wal"))
    })
}

fn strings(urls: &[Url]) -> Vec<String> {
    urls.iter().map(Url::to_string).collect()
}

/// A number that must be greater than 0.
fn size(given: &Given, flag: &'static str) -> Result<usize, ConfigError> {
    match usize::try_from(given.uint(flag)) {
        Ok(0) => Err(ConfigError::NotPositive { flag, value: 0, unit: "" }),
        Ok(value) => Ok(value),
        Err(_) => Ok(usize::MAX),
    }
}

fn max_request_bytes(given: &Given, warnings: &mut Vec<String>) -> Result<usize, ConfigError> {
    let flag = "max-request-bytes";
    let (value, max) = (given.uint(flag), REQUEST_MAX);
    if value > max {
        return Err(ConfigError::TooLarge { flag, value, max });
    }
    if value > REQUEST_ADVISED {
        warnings.push(format!(
            "--{flag}={value} exceeds the advised {REQUEST_ADVISED}; an etcd member before 3.5.5 \
             that has a larger entry in its log does not start again"
        ));
    }
    size(given, flag)
}

fn quota(given: &Given, warnings: &mut Vec<String>) -> Option<u64> {
    match u64::try_from(given.int("quota-backend-bytes")) {
        Err(_) => {
            warnings.push("backend quota is disabled: the disk is the only limit".to_owned());
            None
        }
        Ok(0) => Some(QUOTA_DEFAULT),
        Ok(quota) => {
            if quota > QUOTA_ADVISED {
                warnings.push(format!("backend quota {quota} exceeds the advised {QUOTA_ADVISED}"));
            }
            Some(quota)
        }
    }
}

fn threads(given: &Given) -> Result<usize, ConfigError> {
    let value = given.uint("threads");
    if value > THREADS_MAX {
        return Err(ConfigError::TooLarge { flag: "threads", value, max: THREADS_MAX });
    }
    size(given, "threads")
}

/// The batch interval. 0 and negative values mean the default.
fn batch_interval(given: &Given) -> Duration {
    match values::duration(given.text("backend-batch-interval")) {
        Duration::ZERO => Duration::from_millis(100),
        interval => interval,
    }
}

/// As in etcd, 0 means gRPC's default: for the first two together, for the third by itself. gRPC
/// pings once a second at most.
fn keepalive(given: &Given) -> Keepalive {
    let [interval, timeout, min_time] =
        ["grpc-keepalive-interval", "grpc-keepalive-timeout", "grpc-keepalive-min-time"]
            .map(|flag| values::duration(given.text(flag)));
    let mut keepalive = KEEPALIVE_DEFAULT;
    if !interval.is_zero() && !timeout.is_zero() {
        keepalive.interval = interval.max(KEEPALIVE_INTERVAL_MIN);
        keepalive.timeout = timeout;
    }
    if !min_time.is_zero() {
        keepalive.min_time = min_time;
    }
    keepalive
}

/// 3.6 has another name for the flag than 3.5. Too short an interval is raised, as in etcd.
fn progress_interval(given: &Given) -> Duration {
    const NAMES: [&str; 2] =
        ["watch-progress-notify-interval", "experimental-watch-progress-notify-interval"];
    let name = if given.has(NAMES[0]) { NAMES[0] } else { NAMES[1] };
    match values::duration(given.text(name)) {
        Duration::ZERO => Duration::from_secs(600),
        interval => interval.max(Duration::from_millis(100)),
    }
}

/// 3.6 has other names for the flags than 3.5.
fn slow_warnings(given: &Given) -> Warnings {
    let named = |new, old| values::duration(given.text(if given.has(new) { new } else { old }));
    let unary = "experimental-warning-unary-request-duration";
    Warnings {
        apply: named("warning-apply-duration", "experimental-warning-apply-duration"),
        unary: named("warning-unary-request-duration", unary),
    }
}

/// Persisting checkpoints without making them is an error; making them without persisting them is a
/// warning, as in etcd.
fn lease_checkpoint(
    given: &Given,
    warnings: &mut Vec<String>,
) -> Result<LeaseCheckpoint, ConfigError> {
    let is_sent = given.boolean("experimental-enable-lease-checkpoint");
    let is_kept = given.boolean("experimental-enable-lease-checkpoint-persist");
    match (is_sent, is_kept) {
        (false, false) => Ok(LeaseCheckpoint::Off),
        (false, true) => Err(ConfigError::LeaseCheckpointPersist),
        (true, true) => Ok(LeaseCheckpoint::Persisted),
        (true, false) => {
            let advice = "Consider enabling experimental-enable-lease-checkpoint-persist";
            warnings.push(format!(
                "Detected that checkpointing is enabled without persistence. {advice}"
            ));
            Ok(LeaseCheckpoint::InMemory)
        }
    }
}

/// The flags of snapshots and of old files. As in etcd, a count of 0 means the default, and a
/// number of files of 0 means that all stay.
fn snapshots(given: &Given) -> Snapshots {
    let (new, old) = ("snapshot-catchup-entries", "experimental-snapshot-catchup-entries");
    let files = |name| match usize::try_from(given.uint(name)) {
        Ok(0) | Err(_) => usize::MAX,
        Ok(max) => max,
    };
    Snapshots {
        count: Some(given.uint("snapshot-count")).filter(|count| *count != 0).unwrap_or(100_000),
        catch_up_entries: given.uint(if given.has(new) { new } else { old }),
        max_files: files("max-snapshots"),
        max_wals: files("max-wals"),
    }
}

/// The batch limit. 0 and negative values mean the default.
fn batch_limit(given: &Given) -> usize {
    match usize::try_from(given.int("backend-batch-limit")) {
        Ok(0) | Err(_) => 10_000,
        Ok(limit) => limit,
    }
}
