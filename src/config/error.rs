//! The ways in which a configuration can be wrong, with etcd's texts where it has one.

use std::{io, path::PathBuf};

use super::{urls::UrlError, values::ValueError};

/// Why a member does not start: always one line.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A flag that is not defined.
    #[error("flag provided but not defined: -{0}")]
    Undefined(String),
    /// A flag with a third dash or without a name: `---x`, `--=x`.
    #[error("bad flag syntax: {0}")]
    Syntax(String),
    /// The last flag has no value.
    #[error("flag needs an argument: -{0}")]
    NoArgument(&'static str),
    /// A flag's value is not in its form.
    #[error("invalid value {value:?} for flag -{flag}: {source}")]
    Value {
        /// The flag, without dashes.
        flag: &'static str,
        /// The value as typed.
        value: String,
        /// What is wrong with it.
        source: ValueError,
    },
    /// A boolean flag's value is not in its form.
    #[error("invalid boolean value {value:?} for -{flag}: parse error")]
    Boolean {
        /// The flag, without dashes.
        flag: &'static str,
        /// The value as typed.
        value: String,
    },
    /// Something that is no flag; etcd takes nothing else.
    #[error("'{0}' is not a valid flag")]
    Positional(String),
    /// A variable's value is not in its flag's form.
    #[error("invalid value {value:?} for {variable}: {source}")]
    Variable {
        /// The environment variable, `ETCD_` and the flag's name.
        variable: String,
        /// The variable's content, as given.
        value: String,
        /// What is wrong with it.
        source: ValueError,
    },
    /// The configuration file cannot be read.
    #[error("open {path}: {source}")]
    File {
        /// The argument of `--config-file`.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The configuration file is not YAML.
    #[error("{path}: {source}")]
    Yaml {
        /// The argument of `--config-file`.
        path: PathBuf,
        /// The parser's message, with line and column.
        source: serde_yaml_ng::Error,
    },
    /// The configuration file is YAML, but not a mapping of keys to values.
    #[error("{0}: expected keys and values")]
    NotAMapping(PathBuf),
    /// A key of the configuration file has a value of the wrong type.
    #[error("{path}: cannot use {found} for {key}, which takes {expected}")]
    Type {
        /// The argument of `--config-file`.
        path: PathBuf,
        /// The key in the file: a flag's name.
        key: String,
        /// The type of its value in the file.
        found: &'static str,
        /// What should stand there.
        expected: &'static str,
    },
    /// A key of the configuration file has a wrong value.
    #[error("{path}: invalid value {value:?} for {key}: {source}")]
    Key {
        /// The argument of `--config-file`.
        path: PathBuf,
        /// The key in the file: a flag's name.
        key: String,
        /// Its value in the file.
        value: String,
        /// What is wrong with it.
        source: ValueError,
    },
    /// An unknown key in a security section: ignoring it could leave the member open.
    #[error("unknown key {key} in {section}")]
    SecurityKey {
        /// `client-transport-security` or `peer-transport-security`.
        section: String,
        /// The key as written in the file; its value is not shown.
        key: String,
    },
    /// A flag that must not be ignored, and is not supported.
    #[error("--{flag}={value}: {why}")]
    Refused {
        /// The flag, without dashes.
        flag: &'static str,
        /// The value as typed.
        value: String,
        /// Why it must not be ignored.
        why: &'static str,
    },
    /// Listening URLs without advertised ones (etcd: `ErrUnsetAdvertiseClientURLsFlag`).
    #[error("--advertise-client-urls is required when --listen-client-urls is set explicitly")]
    AdvertiseMissing,
    /// A list of URLs is empty.
    #[error("--{0} must have at least one URL")]
    NoUrls(&'static str),
    /// A URL to listen on that cannot be listened on.
    #[error(transparent)]
    Bind(UrlError),
    /// One address for gRPC only and for HTTP only. The text is etcd's, which misspells the flags.
    #[error(
        "cannot bind both --client-listen-urls and --client-listen-http-urls on the same url {0}"
    )]
    SameUrl(String),
    /// An advertised URL that no client could use.
    #[error("--{flag} {urls:?} must be \"host:port\" ({why})")]
    Advertise {
        /// The flag, without dashes.
        flag: &'static str,
        /// The list as typed, with commas.
        urls: String,
        /// What is wrong with one of its URLs.
        why: String,
    },
    /// A number of milliseconds, or a size, that must be greater than 0.
    #[error("--{flag} must be >0 (set to {value}{unit})")]
    NotPositive {
        /// The flag, without dashes.
        flag: &'static str,
        /// The number as typed.
        value: i64,
        /// `ms`, or an empty text.
        unit: &'static str,
    },
    /// Too few heartbeats before an election: a single late one would cause it.
    #[error(
        "--election-timeout[{election}ms] should be at least as 5 times as \
         --heartbeat-interval[{heartbeat}ms]"
    )]
    ElectionTooShort {
        /// `--election-timeout`, in milliseconds.
        election: u64,
        /// `--heartbeat-interval`, in milliseconds.
        heartbeat: u64,
    },
    /// An election timeout above 50 s.
    #[error("--election-timeout[{0}ms] is too long, and should be set less than 50000ms")]
    ElectionTooLong(u64),
    /// A number above the flag's maximum.
    #[error("--{flag}={value} is too large; the most is {max}")]
    TooLarge {
        /// The flag, without dashes.
        flag: &'static str,
        /// The number as typed.
        value: u64,
        /// The largest number that the flag accepts.
        max: u64,
    },
    /// A word that etcd does not know for `--log-level`.
    #[error("unrecognized level: {0:?}")]
    LogLevel(String),
    /// A `--logger` other than zap, the only one in etcd.
    #[error("unknown logger option {0:?}")]
    Logger(String),
    /// The logger of 3.4.
    #[error("--logger=capnslog is removed in v3.5")]
    Capnslog,
    /// `default` is not the only output.
    #[error("multi logoutput for \"default\" is not supported yet")]
    DefaultAmongOutputs,
    /// Rotation needs one file.
    #[error("--log-outputs requires a single file path when --log-rotate-config-json is defined")]
    RotationWithoutFile,
    /// `--log-rotation-config-json` does not parse.
    #[error("invalid log rotation config: {0}")]
    Rotation(String),
    /// More than one way of naming the first members.
    #[error(
        "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \
         \"discovery\" or \"discovery-srv\""
    )]
    ConflictingBootstrap,
    /// `--log-outputs` without anything in it.
    #[error("--log-outputs must name at least one output")]
    NoLogOutput,
    /// `--initial-cluster` has something that is no URL.
    #[error("error setting up initial cluster: {0}")]
    InitialCluster(UrlError),
    /// `--initial-cluster` does not have this member.
    #[error("couldn't find local name {0:?} in the initial cluster configuration")]
    NameMissing(String),
    /// Two members of `--initial-cluster` with one URL.
    #[error("initial cluster {0} has duplicate url")]
    DuplicateUrl(String),
    /// The member's advertised URLs differ from those in `--initial-cluster`.
    #[error("--initial-cluster has {cluster} but missing from --initial-advertise-peer-urls={own}")]
    AdvertiseMismatch {
        /// `name=url` pairs of this member.
        cluster: String,
        /// The list of `--initial-advertise-peer-urls`.
        own: String,
    },
    /// `--auto-compaction-mode` is neither `periodic` nor `revision`.
    #[error("unknown auto-compaction-mode {0:?}")]
    AutoCompactionMode(String),
    /// A retention without a mode.
    #[error("--auto-compaction-mode is undefined")]
    NoAutoCompactionMode,
    /// `--auto-compaction-retention` is neither a number nor a duration; with Go's words for why.
    #[error("error parsing CompactionRetention: {0}")]
    Retention(String),
    /// `--auto-compaction-retention` is below zero; 0 would turn compaction off.
    #[error("--auto-compaction-retention must not be negative (set to {0})")]
    NegativeRetention(String),
    /// Checkpoints of leases are to be persisted, but not made.
    #[error(
        "setting experimental-enable-lease-checkpoint-persist requires \
         experimental-enable-lease-checkpoint"
    )]
    LeaseCheckpointPersist,
    /// The leader would look for compactions all the time.
    #[error("--{flag} must be >0 (set to {value})")]
    CompactHashCheckTime {
        /// The flag, without dashes.
        flag: &'static str,
        /// The value as typed.
        value: String,
    },
}

impl ConfigError {
    /// The exit code of the process: 2 for a command line that cannot be parsed, as in Go's flag
    /// package, and 1 for an invalid configuration.
    pub fn exit_code(&self) -> u8 {
        match self {
            ConfigError::Undefined(_)
            | ConfigError::Syntax(_)
            | ConfigError::NoArgument(_)
            | ConfigError::Value { .. }
            | ConfigError::Boolean { .. } => 2,
            _ => 1,
        }
    }
}
