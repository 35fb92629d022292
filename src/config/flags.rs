//! The table of all flags of etcd 3.4 to 3.7, and the effect of each here.
//!
//! A start script written for etcd must either have the same effect here or cause a warning or an
//! error:
//!
//! | effect    | when it is given                                               |
//! |-----------|----------------------------------------------------------------|
//! | `Works`   | it does what etcd's does                                       |
//! | `Inert`   | accepted; one warning line names all of these that were given  |
//! | `Refused` | an error, unless it is given as etcd's default, which changes nothing |
//! | `Legacy`  | etcd accepts and ignores it as well                            |
//!
//! *Refused* is for flags whose silent absence would endanger data or security: an operator who
//! asks for TLS must not get plain text with a warning. Everything else that is not built yet is
//! *inert*. Defaults are those of 3.5 where 3.5 has the flag. Variables (`ETCD_NAME`) and keys of
//! the YAML file (`name:`) follow from the flags' names, so they are listed nowhere else.

/// The form of a flag's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`; alone, it means `true`.
    Bool,
    /// A number from 0, 64 bits.
    Uint,
    /// A number from 0, 32 bits.
    Uint32,
    /// A number, 64 bits.
    Int,
    /// Go's form: `1h30m`, `250ms`, `0`. In YAML: nanoseconds.
    Duration,
    /// Text of any form, checked later.
    Text,
    /// URLs, separated by commas.
    Urls,
    /// `*`, or origins as URLs, separated by commas.
    Origins,
    /// One of a few words.
    OneOf(&'static [&'static str]),
}

/// The effect of giving a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The same as in etcd; the text is its line of `--help`.
    Works(&'static str),
    /// No effect yet, and a warning.
    Inert,
    /// An error with this text, unless the value is the default.
    Refused(&'static str),
    /// No effect, as in etcd.
    Legacy,
}

/// A flag of etcd, or one of ours.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// The name, without dashes.
    pub name: &'static str,
    /// The form of its value.
    pub kind: Kind,
    /// The default, in the form of a value.
    pub default: &'static str,
    /// The effect of giving it.
    pub effect: Effect,
}

/// The flag of this name.
pub fn find(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name)
}

const fn works(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Flag {
    Flag { name, kind, default, effect: Effect::Works(help) }
}

const fn inert(name: &'static str, kind: Kind, default: &'static str) -> Flag {
    Flag { name, kind, default, effect: Effect::Inert }
}

const fn refused(name: &'static str, kind: Kind, default: &'static str, why: &'static str) -> Flag {
    Flag { name, kind, default, effect: Effect::Refused(why) }
}

const fn tls(name: &'static str, kind: Kind, default: &'static str) -> Flag {
    refused(name, kind, default, "TLS is not supported yet")
}

const fn legacy(name: &'static str) -> Flag {
    Flag { name, kind: Kind::Bool, default: "false", effect: Effect::Legacy }
}

use Kind::{Bool, Duration, Int, OneOf, Origins, Text, Uint, Uint32, Urls};

const NO_DISCOVERY: &str = "discovery is not supported yet; use --initial-cluster";
const NO_PROXY: &str = "a member cannot be a proxy";
const NO_JWT: &str = "only simple tokens are supported yet";
const NO_WHITELIST: &str = "the list would not be enforced yet";

/// Every flag, by etcd's groups.
pub const FLAGS: &[Flag] = &[
    // Member.
    works("name", Text, "default", "human-readable name for this member"),
    works("data-dir", Text, "", "where the data lives; NAME.etcd if empty"),
    works("wal-dir", Text, "", "where the write-ahead log lives, if not in the data directory"),
    works("config-file", Text, "", "read a YAML file, and ignore all other flags and variables"),
    works("version", Bool, "false", "print the version and exit"),
    works("heartbeat-interval", Uint, "100", "milliseconds between a leader's heartbeats"),
    works("election-timeout", Uint, "1000", "milliseconds without a leader until an election"),
    works("initial-election-tick-advance", Bool, "true", "be quick about the first election"),
    works("listen-peer-urls", Urls, "http://localhost:2380", "where to listen for other members"),
    works("listen-client-urls", Urls, "http://localhost:2379", "where to listen for clients"),
    works("max-request-bytes", Uint, "1572864", "the largest request that is taken"),
    works("max-txn-ops", Uint, "128", "the most operations that one transaction may have"),
    works("max-concurrent-streams", Uint32, "4294967295", "streams that one client may have open"),
    works("quota-backend-bytes", Int, "0", "room for the backend; 0 is 2 GiB, below 0 no limit"),
    works("backend-batch-interval", Duration, "0", "time until a backend commit; 0 is 100ms"),
    works("backend-batch-limit", Int, "0", "writes until a backend commit; 0 is 10000"),
    works("snapshot-count", Uint, "100000", "entries after which a snapshot is made"),
    works("snapshot-catchup-entries", Uint, "5000", "entries before it that stay for followers"),
    works("max-snapshots", Uint, "5", "the most snapshot files that stay; 0 is no limit"),
    works("max-wals", Uint, "5", "the most segments of the log that stay; 0 is no limit"),
    works("max-learners", Int, "1", "learners at a time; the same on all members"),
    inert("memory-mlock", Bool, "false"),
    inert("backend-bbolt-freelist-type", Text, "map"),
    inert("enable-grpc-gateway", Bool, "true"),
    inert("feature-gates", Text, ""),
    works("grpc-keepalive-interval", Duration, "2h", "silence after which a client is pinged"),
    works("grpc-keepalive-min-time", Duration, "5s", "shortest time between a client's pings"),
    works("grpc-keepalive-timeout", Duration, "20s", "time that a client has to answer a ping"),
    works("listen-client-http-urls", Urls, "", "where to serve HTTP, apart from gRPC"),
    inert("raft-read-timeout", Duration, "5s"),
    inert("raft-write-timeout", Duration, "5s"),
    inert("socket-reuse-address", Bool, "false"),
    inert("socket-reuse-port", Bool, "false"),
    // Clustering.
    works("initial-advertise-peer-urls", Urls, "http://localhost:2380", "how members reach this"),
    works("advertise-client-urls", Urls, "http://localhost:2379", "how clients reach this member"),
    works("initial-cluster", Text, "default=http://localhost:2380", "the members at the start"),
    works("initial-cluster-state", OneOf(&["new", "existing"]), "new", "is the cluster new?"),
    works("initial-cluster-token", Text, "etcd-cluster", "keeps clusters apart from each other"),
    works("pre-vote", Bool, "true", "ask before campaigning, so that nobody is disturbed"),
    works("strict-reconfig-check", Bool, "true", "refuse changes that endanger the quorum"),
    works("auto-compaction-mode", Text, "periodic", "what the retention is: periodic or revision"),
    works("auto-compaction-retention", Text, "0", "hours, 5m or revisions that are kept; 0 is all"),
    refused("discovery", Text, "", NO_DISCOVERY),
    refused("discovery-srv", Text, "", NO_DISCOVERY),
    refused("discovery-token", Text, "", NO_DISCOVERY),
    refused("discovery-endpoints", Text, "", NO_DISCOVERY),
    inert("discovery-srv-name", Text, ""),
    inert("discovery-proxy", Text, ""),
    inert("discovery-fallback", OneOf(&["proxy", "exit"]), "proxy"),
    inert("discovery-cacert", Text, ""),
    inert("discovery-cert", Text, ""),
    inert("discovery-key", Text, ""),
    inert("discovery-user", Text, ""),
    inert("discovery-password", Text, ""),
    inert("discovery-dial-timeout", Duration, "2s"),
    inert("discovery-request-timeout", Duration, "5s"),
    inert("discovery-keepalive-time", Duration, "2s"),
    inert("discovery-keepalive-timeout", Duration, "6s"),
    inert("discovery-insecure-skip-tls-verify", Bool, "false"),
    inert("discovery-insecure-transport", Bool, "true"),
    // Security.
    tls("cert-file", Text, ""),
    tls("key-file", Text, ""),
    tls("client-cert-file", Text, ""),
    tls("client-key-file", Text, ""),
    tls("client-cert-auth", Bool, "false"),
    tls("client-cert-allowed-hostname", Text, ""),
    tls("client-crl-file", Text, ""),
    tls("trusted-ca-file", Text, ""),
    tls("auto-tls", Bool, "false"),
    tls("peer-cert-file", Text, ""),
    tls("peer-key-file", Text, ""),
    tls("peer-client-cert-file", Text, ""),
    tls("peer-client-key-file", Text, ""),
    tls("peer-client-cert-auth", Bool, "false"),
    tls("peer-cert-allowed-cn", Text, ""),
    tls("peer-cert-allowed-hostname", Text, ""),
    tls("peer-crl-file", Text, ""),
    tls("peer-trusted-ca-file", Text, ""),
    tls("peer-auto-tls", Bool, "false"),
    tls("peer-skip-client-san-verification", Bool, "false"),
    tls("experimental-peer-skip-client-san-verification", Bool, "false"),
    tls("cipher-suites", Text, ""),
    tls("tls-min-version", Text, "TLS1.2"),
    tls("tls-max-version", Text, ""),
    refused("host-whitelist", Text, "*", NO_WHITELIST),
    works("cors", Origins, "*", "origins whose pages may read answers over HTTP; * is all"),
    inert("self-signed-cert-validity", Uint, "1"),
    // Auth.
    refused("auth-token", Text, "simple", NO_JWT),
    inert("auth-token-ttl", Uint, "300"),
    inert("bcrypt-cost", Uint, "10"),
    // Logging.
    works("log-level", Text, "info", "debug, info, warn, error, panic or fatal"),
    works("log-format", OneOf(&["json", "console"]), "json", "how log lines look"),
    works("log-outputs", Text, "default", "stderr, stdout or files, separated by commas"),
    works("logger", Text, "zap", "zap, as in etcd"),
    inert("enable-log-rotation", Bool, "false"),
    inert("log-rotation-config-json", Text, ""),
    inert("log-output", Text, "default"),
    inert("log-package-levels", Text, ""),
    inert("debug", Bool, "false"),
    inert("warning-apply-duration", Duration, "100ms"),
    inert("warning-unary-request-duration", Duration, "300ms"),
    // Profiling, monitoring, tracing.
    inert("enable-pprof", Bool, "false"),
    works("listen-metrics-urls", Urls, "", "where to serve /metrics, /health, /livez and /readyz"),
    inert("metrics", Text, "basic"),
    inert("enable-distributed-tracing", Bool, "false"),
    inert("distributed-tracing-address", Text, "localhost:4317"),
    inert("distributed-tracing-service-name", Text, "etcd"),
    inert("distributed-tracing-instance-id", Text, ""),
    inert("distributed-tracing-sampling-rate", Int, "0"),
    // Unsafe.
    works("unsafe-no-fsync", Bool, "false", "do not sync files: a power failure loses data"),
    works("force-new-cluster", Bool, "false", "leave all other members behind, for good"),
    // Tuning, and what was experimental once.
    inert("bootstrap-defrag-threshold-megabytes", Uint, "0"),
    works("compact-hash-check-time", Duration, "1m", "the same as in 3.5, below"),
    works("compaction-batch-limit", Int, "1000", "rows that a step of a compaction deletes"),
    works("compaction-sleep-interval", Duration, "10ms", "the pause after such a step"),
    works("corrupt-check-time", Duration, "0s", "how often the leader compares all keys"),
    inert("downgrade-check-time", Duration, "5s"),
    works("watch-progress-notify-interval", Duration, "10m", "how often a quiet watcher hears so"),
    inert("experimental-backend-bbolt-freelist-type", Text, "array"),
    inert("experimental-bootstrap-defrag-threshold-megabytes", Uint, "0"),
    works("experimental-compact-hash-check-enabled", Bool, "false", "compare compacted keys"),
    works("experimental-compact-hash-check-time", Duration, "1m", "how soon, at the latest"),
    works("experimental-compaction-batch-limit", Int, "1000", "rows that a step deletes, in 3.5"),
    works("experimental-compaction-sleep-interval", Duration, "10ms", "the pause, as in 3.5"),
    works("experimental-corrupt-check-time", Duration, "0s", "the same, as in 3.5"),
    inert("experimental-distributed-tracing-address", Text, "localhost:4317"),
    inert("experimental-distributed-tracing-instance-id", Text, ""),
    inert("experimental-distributed-tracing-sampling-rate", Int, "0"),
    inert("experimental-distributed-tracing-service-name", Text, "etcd"),
    inert("experimental-downgrade-check-time", Duration, "5s"),
    inert("experimental-enable-distributed-tracing", Bool, "false"),
    works(
        "experimental-enable-lease-checkpoint",
        Bool,
        "false",
        "leases keep their remaining time",
    ),
    works("experimental-enable-lease-checkpoint-persist", Bool, "false", "in the file as well"),
    inert("experimental-enable-v2v3", Text, ""),
    works("experimental-initial-corrupt-check", Bool, "false", "compare keys before serving"),
    inert("experimental-memory-mlock", Bool, "false"),
    works("experimental-snapshot-catchup-entries", Uint, "5000", "the same, as in 3.5"),
    inert("experimental-stop-grpc-service-on-defrag", Bool, "false"),
    inert("experimental-txn-mode-write-with-shared-buffer", Bool, "true"),
    inert("experimental-warning-apply-duration", Duration, "100ms"),
    inert("experimental-warning-unary-request-duration", Duration, "300ms"),
    works("experimental-watch-progress-notify-interval", Duration, "10m", "the same, as in 3.5"),
    // The v2 world.
    works("enable-v2", Bool, "false", "serve the v2 API, as etcd does until 3.5"),
    inert("v2-deprecation", Text, "not-yet"),
    inert("next-cluster-version-compatible", Bool, "false"),
    refused("proxy", OneOf(&["off", "readonly", "on"]), "off", NO_PROXY),
    inert("proxy-dial-timeout", Uint, "1000"),
    inert("proxy-failure-wait", Uint, "5000"),
    inert("proxy-read-timeout", Uint, "0"),
    inert("proxy-refresh-interval", Uint, "30000"),
    inert("proxy-write-timeout", Uint, "5000"),
    // Before 2.0; etcd: IgnoredFlag.
    legacy("cluster-active-size"),
    legacy("cluster-remove-delay"),
    legacy("cluster-sync-interval"),
    legacy("config"),
    legacy("force"),
    legacy("max-result-buffer"),
    legacy("max-retry-attempts"),
    legacy("peer-heartbeat-interval"),
    legacy("peer-election-timeout"),
    legacy("retry-interval"),
    legacy("snapshot"),
    legacy("v"),
    legacy("vv"),
    // Ours: etcd has none of these.
    works("threads", Uint, "1", "threads that serve clients (glass only)"),
    works("trace-observe", Bool, "true", "let clients watch the traces (glass only)"),
    works("trace-slow-ms", Uint, "100", "milliseconds from which a request is slow (glass only)"),
    works(
        "trace-brief-above",
        Uint,
        "50000",
        "records a second above which quick steps of requests not kept are left out (glass only)",
    ),
    works("trace-capture", Bool, "true", "leave records of every step (glass only)"),
    works("trace-redact-keys", Bool, "false", "leave keys out of the traces (glass only)"),
    works(
        "trace-chrome",
        Text,
        "",
        "write kept requests to FILE for Perfetto; the old one: FILE.1 (glass only)",
    ),
    works(
        "trace-otlp",
        Text,
        "",
        "URL of a collector of OpenTelemetry for kept requests (glass only)",
    ),
];
