//! The table of all flags of etcd 3.4 to 3.7, and the effect of each here.
//!
//! A start script written for etcd must either have the same effect here or cause a warning or an
//! error:
//!
//! | effect    | when it is given                                               |
//! |-----------|----------------------------------------------------------------|
//! | `Works`   | it does what etcd's does                                       |
//! | `Inert`   | accepted; one warning line says why it has no effect here      |
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
    /// No effect here, for this reason, and a warning that has it.
    Inert(&'static str),
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

const fn inert(name: &'static str, kind: Kind, default: &'static str, why: &'static str) -> Flag {
    Flag { name, kind, default, effect: Effect::Inert(why) }
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

const BESIDE_DISCOVERY: &str = "it is about discovery, which is not supported yet";
const BESIDE_PROXY: &str = "it is about the proxy of 3.5, which a member here cannot be";
const FIXED_TIMEOUTS: &str = "the timeouts between members are always 5s, etcd's default";
const NO_AUTH: &str = "there is no auth yet";
const NO_BOOT_DEFRAG: &str =
    "a file is not defragmented at the start; `glass utl defrag` does that";
const NO_DOWNGRADE: &str = "no version before this one can open its files";
const NO_GATES: &str = "there are no feature gates here";
const NO_MLOCK: &str = "the database file is read through a cache of its own, which is not locked";
const NO_PPROF: &str = "there is no Go runtime to profile; perf works, and so do the traces";
const NO_REUSE: &str = "a second process on a port would get requests that are meant for this one";
const NO_TLS: &str = "TLS is not supported yet";
const BY_FLAG_V2: &str = "--enable-v2 alone decides whether the v2 API is served";
const NO_V2V3: &str = "v2 requests are not kept as v3 keys here, nor in 3.6";
const OF_3_4: &str = "it is about joining members of 3.4 and 3.5";
const OF_BBOLT: &str = "the database file is redb's, and has no such list";
const OF_CAPNSLOG: &str = "it is about the logger of 3.4; use --log-outputs and --log-level";
const REUSES: &str = "every listener sets SO_REUSEADDR anyway";
const SERVES_ON: &str = "reads and writes go on while a file is defragmented";
const SHARES: &str = "transactions always read the buffers in place, which is what true means";
const USE_LEVEL: &str = "use --log-level=debug";
const USE_OTLP: &str = "use --trace-otlp with the URL of the collector";
const NO_DISCOVERY: &str = "discovery is not supported yet; use --initial-cluster";
const NO_PROXY: &str = "a member cannot be a proxy";
const NO_JWT: &str = "only simple tokens are supported yet";

/// The groups of `--help`: each begins at a flag of the table, and ends where the next one begins.
pub const GROUPS: &[(&str, &str)] = &[
    ("Member", "name"),
    ("Clustering", "initial-advertise-peer-urls"),
    ("Security", "cert-file"),
    ("Auth", "auth-token"),
    ("Logging", "log-level"),
    ("Profiling and Monitoring", "enable-pprof"),
    ("Distributed tracing", "enable-distributed-tracing"),
    ("Unsafe feature", "unsafe-no-fsync"),
    ("Tuning, and what is or was experimental", "bootstrap-defrag-threshold-megabytes"),
    ("v2", "enable-v2"),
    ("Ignored, as by etcd", "cluster-active-size"),
    ("Glass only", "threads"),
];

/// The flags of each group, in order.
pub fn groups() -> impl Iterator<Item = (&'static str, &'static [Flag])> {
    let place = |first: &str| FLAGS.iter().position(|flag| flag.name == first);
    GROUPS.iter().enumerate().filter_map(move |(at, (title, first))| {
        let end = GROUPS.get(at + 1).map_or(Some(FLAGS.len()), |(_, next)| place(next))?;
        Some((*title, FLAGS.get(place(first)?..end)?))
    })
}

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
    inert("memory-mlock", Bool, "false", NO_MLOCK),
    inert("backend-bbolt-freelist-type", Text, "map", OF_BBOLT),
    works("enable-grpc-gateway", Bool, "true", "serve gRPC's methods over HTTP too, as JSON"),
    inert("feature-gates", Text, "", NO_GATES),
    works("grpc-keepalive-interval", Duration, "2h", "silence after which a client is pinged"),
    works("grpc-keepalive-min-time", Duration, "5s", "shortest time between a client's pings"),
    works("grpc-keepalive-timeout", Duration, "20s", "time that a client has to answer a ping"),
    works("listen-client-http-urls", Urls, "", "where to serve HTTP, apart from gRPC"),
    inert("raft-read-timeout", Duration, "5s", FIXED_TIMEOUTS),
    inert("raft-write-timeout", Duration, "5s", FIXED_TIMEOUTS),
    inert("socket-reuse-address", Bool, "false", REUSES),
    inert("socket-reuse-port", Bool, "false", NO_REUSE),
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
    inert("discovery-srv-name", Text, "", BESIDE_DISCOVERY),
    inert("discovery-proxy", Text, "", BESIDE_DISCOVERY),
    inert("discovery-fallback", OneOf(&["proxy", "exit"]), "proxy", BESIDE_DISCOVERY),
    inert("discovery-cacert", Text, "", BESIDE_DISCOVERY),
    inert("discovery-cert", Text, "", BESIDE_DISCOVERY),
    inert("discovery-key", Text, "", BESIDE_DISCOVERY),
    inert("discovery-user", Text, "", BESIDE_DISCOVERY),
    inert("discovery-password", Text, "", BESIDE_DISCOVERY),
    inert("discovery-dial-timeout", Duration, "2s", BESIDE_DISCOVERY),
    inert("discovery-request-timeout", Duration, "5s", BESIDE_DISCOVERY),
    inert("discovery-keepalive-time", Duration, "2s", BESIDE_DISCOVERY),
    inert("discovery-keepalive-timeout", Duration, "6s", BESIDE_DISCOVERY),
    inert("discovery-insecure-skip-tls-verify", Bool, "false", BESIDE_DISCOVERY),
    inert("discovery-insecure-transport", Bool, "true", BESIDE_DISCOVERY),
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
    works("host-whitelist", Text, "*", "names by which HTTP may call this member; * is all"),
    works("cors", Origins, "*", "origins whose pages may read answers over HTTP; * is all"),
    inert("self-signed-cert-validity", Uint, "1", NO_TLS),
    // Auth.
    refused("auth-token", Text, "simple", NO_JWT),
    inert("auth-token-ttl", Uint, "300", NO_AUTH),
    inert("bcrypt-cost", Uint, "10", NO_AUTH),
    // Logging.
    works("log-level", Text, "info", "debug, info, warn, error, panic or fatal"),
    works("log-format", OneOf(&["json", "console"]), "json", "how log lines look"),
    works("log-outputs", Text, "default", "stderr, stdout or files, separated by commas"),
    works("logger", Text, "zap", "zap, as in etcd"),
    works("enable-log-rotation", Bool, "false", "begin a new log file when one is full"),
    works(
        "log-rotation-config-json",
        Text,
        "{\"maxsize\": 100, \"maxage\": 0, \"maxbackups\": 0, \"localtime\": false, \"compress\": false}",
        "megabytes of a log file; days and number of old ones that stay, 0 is all",
    ),
    inert("log-output", Text, "default", OF_CAPNSLOG),
    inert("log-package-levels", Text, "", OF_CAPNSLOG),
    inert("debug", Bool, "false", USE_LEVEL),
    works("warning-apply-duration", Duration, "100ms", "a request that takes longer is logged"),
    works(
        "warning-unary-request-duration",
        Duration,
        "300ms",
        "a call that takes longer is logged",
    ),
    // Profiling, monitoring, tracing.
    inert("enable-pprof", Bool, "false", NO_PPROF),
    works("listen-metrics-urls", Urls, "", "where to serve /metrics, /health, /livez and /readyz"),
    works("metrics", Text, "basic", "extensive also counts how long calls take"),
    inert("enable-distributed-tracing", Bool, "false", USE_OTLP),
    inert("distributed-tracing-address", Text, "localhost:4317", USE_OTLP),
    inert("distributed-tracing-service-name", Text, "etcd", USE_OTLP),
    inert("distributed-tracing-instance-id", Text, "", USE_OTLP),
    inert("distributed-tracing-sampling-rate", Int, "0", USE_OTLP),
    // Unsafe.
    works("unsafe-no-fsync", Bool, "false", "do not sync files: a power failure loses data"),
    works("force-new-cluster", Bool, "false", "leave all other members behind, for good"),
    // Tuning, and what was experimental once.
    inert("bootstrap-defrag-threshold-megabytes", Uint, "0", NO_BOOT_DEFRAG),
    works("compact-hash-check-time", Duration, "1m", "the same as in 3.5, below"),
    works("compaction-batch-limit", Int, "1000", "rows that a step of a compaction deletes"),
    works("compaction-sleep-interval", Duration, "10ms", "the pause after such a step"),
    works("corrupt-check-time", Duration, "0s", "how often the leader compares all keys"),
    inert("downgrade-check-time", Duration, "5s", NO_DOWNGRADE),
    works("watch-progress-notify-interval", Duration, "10m", "how often a quiet watcher hears so"),
    inert("experimental-backend-bbolt-freelist-type", Text, "array", OF_BBOLT),
    inert("experimental-bootstrap-defrag-threshold-megabytes", Uint, "0", NO_BOOT_DEFRAG),
    works("experimental-compact-hash-check-enabled", Bool, "false", "compare compacted keys"),
    works("experimental-compact-hash-check-time", Duration, "1m", "how soon, at the latest"),
    works("experimental-compaction-batch-limit", Int, "1000", "rows that a step deletes, in 3.5"),
    works("experimental-compaction-sleep-interval", Duration, "10ms", "the pause, as in 3.5"),
    works("experimental-corrupt-check-time", Duration, "0s", "the same, as in 3.5"),
    inert("experimental-distributed-tracing-address", Text, "localhost:4317", USE_OTLP),
    inert("experimental-distributed-tracing-instance-id", Text, "", USE_OTLP),
    inert("experimental-distributed-tracing-sampling-rate", Int, "0", USE_OTLP),
    inert("experimental-distributed-tracing-service-name", Text, "etcd", USE_OTLP),
    inert("experimental-downgrade-check-time", Duration, "5s", NO_DOWNGRADE),
    inert("experimental-enable-distributed-tracing", Bool, "false", USE_OTLP),
    works(
        "experimental-enable-lease-checkpoint",
        Bool,
        "false",
        "leases keep their remaining time",
    ),
    works("experimental-enable-lease-checkpoint-persist", Bool, "false", "in the file as well"),
    inert("experimental-enable-v2v3", Text, "", NO_V2V3),
    works("experimental-initial-corrupt-check", Bool, "false", "compare keys before serving"),
    inert("experimental-memory-mlock", Bool, "false", NO_MLOCK),
    works("experimental-snapshot-catchup-entries", Uint, "5000", "the same, as in 3.5"),
    inert("experimental-stop-grpc-service-on-defrag", Bool, "false", SERVES_ON),
    inert("experimental-txn-mode-write-with-shared-buffer", Bool, "true", SHARES),
    works(
        "experimental-warning-apply-duration",
        Duration,
        "100ms",
        "a request that takes longer is logged",
    ),
    works(
        "experimental-warning-unary-request-duration",
        Duration,
        "300ms",
        "a call that takes longer is logged",
    ),
    works("experimental-watch-progress-notify-interval", Duration, "10m", "the same, as in 3.5"),
    // The v2 world.
    works("enable-v2", Bool, "false", "serve the v2 API, as etcd does until 3.5"),
    inert("v2-deprecation", Text, "not-yet", BY_FLAG_V2),
    inert("next-cluster-version-compatible", Bool, "false", OF_3_4),
    refused("proxy", OneOf(&["off", "readonly", "on"]), "off", NO_PROXY),
    inert("proxy-dial-timeout", Uint, "1000", BESIDE_PROXY),
    inert("proxy-failure-wait", Uint, "5000", BESIDE_PROXY),
    inert("proxy-read-timeout", Uint, "0", BESIDE_PROXY),
    inert("proxy-refresh-interval", Uint, "30000", BESIDE_PROXY),
    inert("proxy-write-timeout", Uint, "5000", BESIDE_PROXY),
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
    works("threads", Uint, "1", "threads that serve clients"),
    works("trace-observe", Bool, "true", "let clients watch the traces"),
    works("trace-slow-ms", Uint, "100", "milliseconds from which a request is slow"),
    works(
        "trace-brief-above",
        Uint,
        "50000",
        "records a second above which quick steps of requests not kept are left out",
    ),
    works("trace-capture", Bool, "true", "leave records of every step"),
    works("trace-redact-keys", Bool, "false", "leave keys out of the traces"),
    works(
        "trace-chrome",
        Text,
        "",
        "write kept requests to FILE for Perfetto; the old one: FILE.1",
    ),
    works("trace-otlp", Text, "", "URL of a collector of OpenTelemetry for kept requests"),
];
