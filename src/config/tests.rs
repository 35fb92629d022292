//! The rules of etcd's command line, each with the words that etcd itself prints.

use std::{io::Write as _, net::SocketAddr};

use super::*;

/// Every flag of etcd 3.5.
const FLAGS_3_5: &str = "
    advertise-client-urls auth-token auth-token-ttl auto-compaction-mode
    auto-compaction-retention auto-tls backend-batch-interval backend-batch-limit
    backend-bbolt-freelist-type bcrypt-cost cert-file cipher-suites client-cert-allowed-hostname
    client-cert-auth client-cert-file client-crl-file client-key-file config-file cors data-dir
    discovery discovery-fallback discovery-proxy discovery-srv discovery-srv-name
    election-timeout enable-grpc-gateway enable-log-rotation enable-pprof enable-v2
    experimental-bootstrap-defrag-threshold-megabytes experimental-compact-hash-check-enabled
    experimental-compact-hash-check-time experimental-compaction-batch-limit
    experimental-compaction-sleep-interval experimental-corrupt-check-time
    experimental-distributed-tracing-address experimental-distributed-tracing-instance-id
    experimental-distributed-tracing-sampling-rate experimental-distributed-tracing-service-name
    experimental-downgrade-check-time experimental-enable-distributed-tracing
    experimental-enable-lease-checkpoint experimental-enable-lease-checkpoint-persist
    experimental-enable-v2v3 experimental-initial-corrupt-check experimental-memory-mlock
    experimental-peer-skip-client-san-verification experimental-snapshot-catchup-entries
    experimental-stop-grpc-service-on-defrag experimental-txn-mode-write-with-shared-buffer
    experimental-warning-apply-duration experimental-watch-progress-notify-interval
    force-new-cluster grpc-keepalive-interval grpc-keepalive-min-time grpc-keepalive-timeout
    heartbeat-interval host-whitelist initial-advertise-peer-urls initial-cluster
    initial-cluster-state initial-cluster-token initial-election-tick-advance key-file
    listen-client-http-urls listen-client-urls listen-metrics-urls listen-peer-urls log-level
    log-outputs log-rotation-config-json logger max-concurrent-streams max-request-bytes
    max-snapshots max-txn-ops max-wals metrics name peer-auto-tls peer-cert-allowed-cn
    peer-cert-allowed-hostname peer-cert-file peer-client-cert-auth peer-client-cert-file
    peer-client-key-file peer-crl-file peer-key-file peer-trusted-ca-file pre-vote proxy
    proxy-dial-timeout proxy-failure-wait proxy-read-timeout proxy-refresh-interval
    proxy-write-timeout quota-backend-bytes raft-read-timeout raft-write-timeout
    self-signed-cert-validity snapshot-count socket-reuse-address socket-reuse-port
    strict-reconfig-check tls-max-version tls-min-version trusted-ca-file unsafe-no-fsync
    v2-deprecation version wal-dir
";
/// Flags that only 3.4, 3.6 and 3.7 have.
const FLAGS_OTHERS: &str = "
    bootstrap-defrag-threshold-megabytes compact-hash-check-time compaction-batch-limit
    compaction-sleep-interval corrupt-check-time debug discovery-cacert discovery-cert
    discovery-dial-timeout discovery-endpoints discovery-insecure-skip-tls-verify
    discovery-insecure-transport discovery-keepalive-time discovery-keepalive-timeout
    discovery-key discovery-password discovery-request-timeout discovery-token discovery-user
    distributed-tracing-address distributed-tracing-instance-id
    distributed-tracing-sampling-rate distributed-tracing-service-name downgrade-check-time
    enable-distributed-tracing experimental-backend-bbolt-freelist-type
    experimental-warning-unary-request-duration feature-gates log-format log-output
    log-package-levels max-learners memory-mlock next-cluster-version-compatible
    peer-skip-client-san-verification snapshot-catchup-entries warning-apply-duration
    warning-unary-request-duration watch-progress-notify-interval
";
/// Flags that etcd takes and ignores.
const FLAGS_LEGACY: &str = "
    cluster-active-size cluster-remove-delay cluster-sync-interval config force max-result-buffer
    max-retry-attempts peer-heartbeat-interval peer-election-timeout retry-interval snapshot v vv
";
const FLAGS_OURS: &str =
    "threads trace-observe trace-slow-ms trace-brief-above trace-capture trace-redact-keys
    trace-chrome trace-otlp";

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn parsed(args: &str) -> Result<Box<Parsed>, ConfigError> {
    parsed_with(args, &[])
}

fn parsed_with(args: &str, env: &[(&str, &str)]) -> Result<Box<Parsed>, ConfigError> {
    let env: Vec<_> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    match parse(&words(args), &env)? {
        Asked::Start(parsed) => Ok(parsed),
        other => panic!("{args:?} asks for {other:?}"),
    }
}

fn config(args: &str) -> ServerConfig {
    parsed(args).unwrap_or_else(|error| panic!("{args:?}: {error}")).config
}

/// Checks the one line and the exit code.
fn refused(args: &str, code: u8, line: &str) {
    let error = parsed(args).map(|_| ()).expect_err(args);
    assert_eq!(error.to_string(), line, "{args:?}");
    assert_eq!(error.exit_code(), code, "{args:?}");
}

fn from_yaml(text: &str) -> Result<Box<Parsed>, ConfigError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    parsed(&format!("--config-file {} --name ignored --bcrypt-cost 12", file.path().display()))
}

#[test]
fn the_table_has_every_flag_and_no_other() {
    let mut expected = words(FLAGS_3_5);
    expected.extend(words(FLAGS_OTHERS));
    expected.extend(words(FLAGS_LEGACY));
    expected.extend(words(FLAGS_OURS));
    expected.sort();
    let mut table: Vec<String> = flags::FLAGS.iter().map(|flag| flag.name.to_owned()).collect();
    table.sort();
    assert_eq!(table, expected);
}

#[test]
fn every_default_is_in_the_form_of_its_own_flag() {
    for flag in flags::FLAGS {
        assert_eq!(values::check(flag.kind, flag.default), Ok(()), "--{}", flag.name);
    }
}

#[test]
fn with_no_flags_the_defaults_are_those_of_etcd() {
    let config = config("");
    assert_eq!(config.name, "default");
    assert_eq!(config.data_dir, PathBuf::from("default.etcd"));
    let port = Address::Tcp("127.0.0.1:2379".parse().unwrap());
    assert_eq!(config.listen, Listen { clients: vec![port], http: vec![], metrics: vec![] });
    assert_eq!(config.cors, Cors::Any);
    assert_eq!(config.listen_peer, ["127.0.0.1:2380".parse::<SocketAddr>().unwrap()]);
    let cluster = [("default".to_owned(), vec!["http://localhost:2380".to_owned()])];
    assert_eq!(config.initial_cluster, cluster);
    assert!(config.new_cluster && config.pre_vote && config.election_tick_advance);
    assert_eq!(config.quota_bytes, Some(2 << 30));
    assert_eq!(config.batch_interval, Duration::from_millis(100));
    assert_eq!(config.batch_limit, 10_000);
    assert_eq!((config.max_request_bytes, config.max_txn_ops), (1_572_864, 128));
    assert_eq!(config.max_concurrent_streams, u32::MAX);
    assert_eq!((config.heartbeat.as_millis(), config.election.as_millis()), (100, 1000));
}

#[test]
fn flags_take_one_dash_or_two_and_the_last_wins() {
    assert_eq!(config("-name x").name, "x");
    assert_eq!(config("--name=x").name, "x");
    assert_eq!(config("-name=x --name y").name, "y");
    assert!(!config("--pre-vote=false").pre_vote);
    assert!(config("--unsafe-no-fsync").unsafe_no_fsync);
    assert_eq!(config("--initial-cluster-token a=b=c").cluster_token, "a=b=c");
    assert_eq!(config("--heartbeat-interval 0x32 --").heartbeat.as_millis(), 50);
}

#[test]
fn a_command_line_that_cannot_be_read_ends_with_2() {
    refused("--bogus", 2, "flag provided but not defined: -bogus");
    refused("--bogus=1", 2, "flag provided but not defined: -bogus");
    refused("---x", 2, "bad flag syntax: ---x");
    refused("--=x", 2, "bad flag syntax: --=x");
    refused("--name", 2, "flag needs an argument: -name");
    refused(
        "--heartbeat-interval=abc",
        2,
        "invalid value \"abc\" for flag -heartbeat-interval: parse error",
    );
    refused(
        "--heartbeat-interval=-1",
        2,
        "invalid value \"-1\" for flag -heartbeat-interval: parse error",
    );
    refused(
        "--heartbeat-interval=99999999999999999999",
        2,
        "invalid value \"99999999999999999999\" for flag -heartbeat-interval: value out of range",
    );
    refused("--pre-vote=maybe", 2, "invalid boolean value \"maybe\" for -pre-vote: parse error");
    refused(
        "--grpc-keepalive-interval=5",
        2,
        "invalid value \"5\" for flag -grpc-keepalive-interval: parse error",
    );
    refused(
        "--initial-cluster-state=foo",
        2,
        "invalid value \"foo\" for flag -initial-cluster-state: invalid value",
    );
    refused(
        "--listen-peer-urls=http://127.0.0.1",
        2,
        "invalid value \"http://127.0.0.1\" for flag -listen-peer-urls: \
         URL address does not have the form \"host:port\": http://127.0.0.1",
    );
}

#[test]
fn a_word_that_is_no_flag_is_refused() {
    refused("positional", 1, "'positional' is not a valid flag");
    refused("-", 1, "'-' is not a valid flag");
    refused("--name x -- y", 1, "'y' is not a valid flag");
    // A boolean never takes the next word.
    refused("--pre-vote false", 1, "'false' is not a valid flag");
}

#[test]
fn help_and_version_ask_for_themselves() {
    assert!(matches!(parse(&words("--name x --help --bogus"), &[]), Ok(Asked::Help)));
    assert!(matches!(parse(&words("-h"), &[]), Ok(Asked::Help)));
    assert!(matches!(parse(&words("--version"), &[]), Ok(Asked::Version)));
    assert!(version_text().starts_with("etcd Version: 3.5.33\n"));
    for flag in flags::FLAGS.iter().filter(|flag| flag.effect != flags::Effect::Legacy) {
        assert!(help().contains(&format!("--{}", flag.name)), "--{}", flag.name);
    }
}

#[test]
fn variables_fill_in_flags_that_were_not_given() {
    let parsed = parsed_with(
        "--pre-vote=true",
        &[
            ("ETCD_NAME", "from-env"),
            ("ETCD_PRE_VOTE", "false"),
            ("ETCD_BOGUS", "secret"),
            ("ETCD_DATA_DIR", ""),
            ("ETCDCTL_API", "3"),
        ],
    );
    let parsed = parsed.unwrap();
    assert_eq!(parsed.config.name, "from-env");
    assert!(parsed.config.pre_vote);
    assert!(parsed.warnings.contains(&"unrecognized environment variable ETCD_BOGUS".to_owned()));
    assert!(parsed.warnings.iter().any(|line| line.contains("ETCD_PRE_VOTE is not used")));
    assert!(
        !parsed.warnings.iter().any(|line| line.contains("ETCDCTL") || line.contains("secret"))
    );
    let error = parsed_with("", &[("ETCD_HEARTBEAT_INTERVAL", "abc")]).map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "invalid value \"abc\" for ETCD_HEARTBEAT_INTERVAL: parse error");
    assert_eq!(error.exit_code(), 1);
}

#[test]
fn a_file_replaces_flags_and_variables() {
    let parsed = from_yaml(
        "name: y1\nheartbeat-interval: 50\nelection-timeout: 500\nBackend-Batch-Interval: 5000000\n\
         pre-vote: false\nlog-outputs: [stdout, stderr]\ninitial-cluster: y1=http://localhost:2380\n\
         bogus: 1\nlisten-client-urls: http://127.0.0.1:1,http://127.0.0.1:2\n",
    )
    .unwrap();
    assert_eq!(parsed.config.name, "y1");
    assert_eq!(parsed.config.heartbeat.as_millis(), 50);
    assert_eq!(parsed.config.batch_interval.as_millis(), 5);
    assert_eq!(parsed.config.listen.clients.len(), 2);
    assert!(!parsed.config.pre_vote);
    assert_eq!(parsed.process.log_outputs, [LogOutput::Stdout, LogOutput::Stderr]);
    assert!(parsed.warnings.iter().any(|line| line.ends_with("unknown keys: bogus")));
    assert!(!parsed.warnings.iter().any(|line| line.contains("bcrypt-cost")));
}

#[test]
fn a_variable_can_name_the_file_too() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"name: y2").unwrap();
    let path = file.path().display().to_string();
    let env = [("ETCD_CONFIG_FILE", path.as_str()), ("ETCD_NAME", "not used")];
    assert_eq!(parsed_with("--name unused", &env).unwrap().config.name, "y2");
}

#[test]
fn a_file_with_a_mistake_names_the_key() {
    let line = |text| from_yaml(text).map(|_| ()).unwrap_err().to_string();
    assert!(
        line("heartbeat-interval: abc")
            .ends_with("cannot use text for heartbeat-interval, which takes a number from 0")
    );
    assert!(line("grpc-keepalive-interval: 5s").ends_with("takes a whole number of nanoseconds"));
    assert!(line("name: [1").contains("line"));
    assert!(line("- name").ends_with("expected keys and values"));
    assert!(line("listen-peer-urls: http://foo").contains("\"host:port\": http://foo"));
    assert!(line("peer-transport-security: {cert-file: a}").contains("--peer-cert-file=a: TLS"));
    assert!(line("client-transport-security: {auto-tls: true}").contains("--auto-tls=true: TLS"));
    assert!(line("client-transport-security: {crl-file: a}").contains("--client-crl-file=a: TLS"));
    assert_eq!(
        line("client-transport-security: {bogus: 1}"),
        "unknown key bogus in client-transport-security"
    );
    assert!(from_yaml("peer-transport-security: {cert-file: '', auto-tls: false}").is_ok());
    assert!(from_yaml("").is_ok());
    let missing = parsed("--config-file /does/not/exist").map(|_| ()).unwrap_err();
    assert!(missing.to_string().starts_with("open /does/not/exist: "), "{missing}");
}

#[test]
fn flags_that_would_endanger_security_or_data_are_refused() {
    for args in [
        "--cert-file=a",
        "--client-cert-auth",
        "--peer-auto-tls=true",
        "--tls-min-version=TLS1.3",
        "--cipher-suites=x",
        "--auth-token=jwt,pub-key=a",
        "--host-whitelist=example.com",
        "--discovery=http://x",
        "--discovery-srv=x",
        "--proxy=on",
        "--discovery-token=t",
        "--peer-skip-client-san-verification",
    ] {
        assert!(matches!(parsed(args), Err(ConfigError::Refused { .. })), "{args}");
    }
    refused("--cert-file=a.crt", 1, "--cert-file=a.crt: TLS is not supported yet");
    refused("--auth-token=jwt,k=secret", 1, "--auth-token=…: only simple tokens are supported yet");
    assert!(config("--client-cert-auth=F --auth-token=simple --proxy off").pre_vote);
    refused(
        "--listen-client-urls=https://127.0.0.1:1 --advertise-client-urls=http://127.0.0.1:1",
        2,
        "invalid value \"https://127.0.0.1:1\" for flag -listen-client-urls: \
         TLS is not supported yet: https://127.0.0.1:1",
    );
}

#[test]
fn flags_without_effect_are_named_together_in_one_line() {
    let parsed = parsed("--enable-v2 --bcrypt-cost=5 --metrics extensive -vv --force=x").unwrap();
    let lines: Vec<_> = parsed.warnings.iter().filter(|line| line.contains("--")).collect();
    assert_eq!(
        lines,
        [
            "accepted, but without effect yet: --bcrypt-cost --metrics",
            "no longer supported by etcd, ignored: --force --vv",
        ]
    );
}

#[test]
fn times_and_sizes_that_make_no_sense_are_refused() {
    refused("--heartbeat-interval=0", 1, "--heartbeat-interval must be >0 (set to 0ms)");
    let election = |args: &str| config(args).election.as_millis();
    assert_eq!(5000, election("--heartbeat-interval=1000 --election-timeout=5999"));
    refused("--election-timeout=0", 1, "--election-timeout must be >0 (set to 0ms)");
    refused(
        "--heartbeat-interval=1000 --election-timeout=2000",
        1,
        "--election-timeout[2000ms] should be at least as 5 times as --heartbeat-interval[1000ms]",
    );
    refused(
        "--heartbeat-interval=1000 --election-timeout=60000",
        1,
        "--election-timeout[60000ms] is too long, and should be set less than 50000ms",
    );
    refused("--threads=0", 1, "--threads must be >0 (set to 0)");
    refused("--threads=1000", 1, "--threads=1000 is too large; the most is 256");
    refused("--log-level=foo", 1, "unrecognized level: \"foo\"");
    refused("--logger=capnslog", 1, "unknown logger option \"capnslog\"");
    let quota =
        |args: &str| parsed(args).map(|p| (p.config.quota_bytes, p.warnings.len())).unwrap();
    assert_eq!(quota("--data-dir d --quota-backend-bytes=-1"), (None, 1));
    assert_eq!(quota("--data-dir d --quota-backend-bytes=0"), (Some(2 << 30), 0));
    assert_eq!(quota("--data-dir d --quota-backend-bytes=8589934593"), (Some((8 << 30) + 1), 1));
}

#[test]
fn urls_to_listen_on_need_urls_to_be_reached_at() {
    refused(
        "--listen-client-urls=http://127.0.0.1:32379",
        1,
        "--advertise-client-urls is required when --listen-client-urls is set explicitly",
    );
    refused(
        "--listen-peer-urls=http://example.com:1",
        1,
        "expected IP in URL for binding (http://example.com:1)",
    );
    refused("--listen-peer-urls=", 1, "--listen-peer-urls must have at least one URL");
    refused(
        "--listen-client-urls=unix:///run/x --advertise-client-urls=unix:///run/x",
        1,
        "--advertise-client-urls \"unix:///run/x\" must be \"host:port\" (missing port in address)",
    );
    refused(
        "--initial-advertise-peer-urls=http://:2380",
        1,
        "--initial-advertise-peer-urls \"http://:2380\" must be \"host:port\" \
         (unexpected empty host (http://:2380))",
    );
}

#[test]
fn clients_are_served_on_ports_and_on_socket_files_together_or_apart() {
    let all = config(
        "--listen-client-urls=unix://localhost:1,http://127.0.0.1:2,http://localhost:2 \
         --advertise-client-urls=unix://localhost:1 --listen-client-http-urls=http://127.0.0.1:3 \
         --listen-metrics-urls=unix:///run/m,http://[::1]:4",
    );
    let tcp = |text: &str| Address::Tcp(text.parse().unwrap());
    let unix = |text: &str| Address::Unix(PathBuf::from(text));
    assert_eq!(all.listen.clients, [tcp("127.0.0.1:2"), unix("localhost:1")]);
    assert_eq!(all.listen.http, [tcp("127.0.0.1:3")]);
    assert_eq!(all.listen.metrics, [tcp("[::1]:4"), unix("/run/m")]);
    assert_eq!(all.advertise_client_urls, ["unix://localhost:1"]);
    refused(
        "--listen-client-urls=http://127.0.0.1:1 --advertise-client-urls=http://a:1 \
         --listen-client-http-urls=http://localhost:1",
        1,
        "cannot bind both --client-listen-urls and --client-listen-http-urls on the same url \
         http://127.0.0.1:1",
    );
    refused(
        "--listen-metrics-urls=https://127.0.0.1:1",
        2,
        "invalid value \"https://127.0.0.1:1\" for flag -listen-metrics-urls: \
         TLS is not supported yet: https://127.0.0.1:1",
    );
    let between = "unix sockets are not supported between members yet: unix://a:1";
    refused("--listen-peer-urls=unix://a:1", 1, between);
    refused("--initial-advertise-peer-urls=unix://a:1", 1, between);
    refused(
        "--initial-cluster=default=unix://a:1",
        1,
        &format!("error setting up initial cluster: {between}"),
    );
}

#[test]
fn origins_are_all_or_those_that_are_named() {
    assert_eq!(config("--cors=*").cors, Cors::Any);
    let origins = ["http://a.example:8080", "https://b.example"].map(str::to_owned);
    assert_eq!(
        config("--cors=http://a.example:8080,https://b.example:443").cors,
        Cors::Origins(origins.into())
    );
    let file = from_yaml("cors: [\"http://a.example:8080\", \"https://b.example:443\"]");
    assert_eq!(
        file.unwrap().config.cors,
        config("--cors=https://b.example:443,http://a.example:8080").cors
    );
    refused(
        "--cors=http://a.example",
        2,
        "invalid value \"http://a.example\" for flag -cors: \
         URL address does not have the form \"host:port\": http://a.example",
    );
}

#[test]
fn the_initial_cluster_must_have_this_member_as_it_describes_itself() {
    refused(
        "--name a --initial-cluster b=http://127.0.0.1:1",
        1,
        "couldn't find local name \"a\" in the initial cluster configuration",
    );
    refused(
        "--name a --initial-cluster a=http://127.0.0.1:1",
        1,
        "--initial-cluster has a=http://127.0.0.1:1 but missing from \
         --initial-advertise-peer-urls=http://localhost:2380",
    );
    refused(
        "--name a --initial-cluster a=http://h:1,b=http://h:1 --initial-advertise-peer-urls http://h:1",
        1,
        "initial cluster a=http://h:1,b=http://h:1 has duplicate url",
    );
    refused(
        "--name a --initial-cluster a=",
        1,
        "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: ",
    );
    // The same place under two names is the same place.
    config("--name a --initial-cluster a=http://127.0.0.1:2380");
    // A name alone is a cluster of one.
    assert_eq!(config("--name a").initial_cluster[0].0, "a");
    let two = config(
        "--name b --initial-cluster b=http://h:3,a=http://h:1,b=http://h:2 \
         --initial-advertise-peer-urls http://h:3,http://h:2",
    );
    let urls: Vec<_> =
        two.initial_cluster.iter().map(|(name, urls)| (name.as_str(), urls.len())).collect();
    assert_eq!(urls, [("a", 1), ("b", 2)]);
}

#[test]
fn a_member_with_a_log_takes_no_members_from_the_flags() {
    let dir = tempfile::tempdir().unwrap();
    let args =
        format!("--name a --initial-cluster b=http://h:1 --data-dir {}", dir.path().display());
    assert!(matches!(parsed(&args), Err(ConfigError::NameMissing(_))));
    std::fs::create_dir_all(dir.path().join("member/wal")).unwrap();
    std::fs::write(dir.path().join("member/wal/0000000000000000-0000000000000000.wal"), "")
        .unwrap();
    assert!(parsed(&args).is_ok());
}

#[test]
fn requests_that_are_too_large_to_pass_are_not_allowed() {
    // Late 3.5 takes any size, and warns of what is more than it advises.
    for (size, warned) in [("10485760", 0), ("10485761", 1), ("33554432", 1), ("67108864", 1)] {
        let parsed = parsed(&format!("--name a --max-request-bytes {size}")).unwrap();
        assert_eq!(parsed.config.max_request_bytes, size.parse().unwrap_or(0));
        let warnings = parsed.warnings.iter();
        assert_eq!(warnings.filter(|line| line.contains("max-request-bytes")).count(), warned);
    }
    for size in ["67108865", "4294967296"] {
        let refused = parsed_with(&format!("--name a --max-request-bytes {size}"), &[]);
        let refused = refused.expect_err("it is too large").to_string();
        assert!(refused.contains("max-request-bytes"), "{refused}");
    }
}

#[test]
fn revisions_are_kept_for_ever_unless_it_is_asked_otherwise() {
    let compaction = |args| config(args).compaction;
    let defaults = compaction("");
    assert_eq!(defaults.auto, None);
    assert_eq!((defaults.batch_limit, defaults.pause), (1000, Duration::from_millis(10)));
    assert_eq!(
        compaction("--auto-compaction-retention 72").auto,
        Some(AutoCompaction::Periodic(Duration::from_secs(72 * 3600)))
    );
    let revision = "--auto-compaction-mode=revision --auto-compaction-retention=1000";
    assert_eq!(compaction(revision).auto, Some(AutoCompaction::Revision(1000)));
    refused("--auto-compaction-mode=x", 1, "unknown auto-compaction-mode \"x\"");
    let portions = compaction(
        "--experimental-compaction-batch-limit=7 --experimental-compaction-sleep-interval=1s",
    );
    assert_eq!((portions.batch_limit, portions.pause), (7, Duration::from_secs(1)));
    let newer = compaction("--compaction-batch-limit=8 --compaction-sleep-interval=0");
    assert_eq!((newer.batch_limit, newer.pause), (8, Duration::from_millis(10)));
    let file = from_yaml("auto-compaction-mode: revision\nauto-compaction-retention: \"5\"\n");
    assert_eq!(file.unwrap().config.compaction.auto, Some(AutoCompaction::Revision(5)));
}

#[test]
fn checkpoints_of_leases_are_kept_only_where_they_are_made() {
    let (made, kept) = (
        "--experimental-enable-lease-checkpoint",
        "--experimental-enable-lease-checkpoint-persist",
    );
    assert_eq!(config("").lease_checkpoint, LeaseCheckpoint::Off);
    let both = parsed(&format!("{made} {kept}")).unwrap();
    assert_eq!(both.config.lease_checkpoint, LeaseCheckpoint::Persisted);
    let one = parsed(made).unwrap();
    assert_eq!(one.config.lease_checkpoint, LeaseCheckpoint::InMemory);
    assert!(one.warnings.iter().any(|line| line.contains("without persistence")));
    refused(
        kept,
        1,
        "setting experimental-enable-lease-checkpoint-persist requires \
         experimental-enable-lease-checkpoint",
    );
}

#[test]
fn clients_are_pinged_as_the_flags_say_and_zero_leaves_it_to_grpc() {
    let keepalive = |args: &str| {
        let Keepalive { interval, timeout, min_time } = config(args).keepalive;
        (interval.as_millis(), timeout.as_millis(), min_time.as_millis())
    };
    assert_eq!(keepalive(""), (7_200_000, 20_000, 5_000));
    let both = "--grpc-keepalive-interval=30s --grpc-keepalive-timeout";
    assert_eq!(keepalive(&format!("{both}=5s")), (30_000, 5_000, 5_000));
    assert_eq!(keepalive(&format!("{both}=0s")), (7_200_000, 20_000, 5_000));
    assert_eq!(keepalive("--grpc-keepalive-interval=0"), (7_200_000, 20_000, 5_000));
    assert_eq!(keepalive("--grpc-keepalive-interval=10ms"), (1_000, 20_000, 5_000));
    let min_time = |value| keepalive(&format!("--grpc-keepalive-min-time={value}")).2;
    assert_eq!((min_time("7ms"), min_time("0s"), min_time("-1s")), (7, 300_000, 300_000));
}

#[test]
fn checks_of_corruption_are_off_unless_they_are_asked_for() {
    let check = |args: &str| config(args).corrupt_check;
    assert_eq!(check(""), CorruptCheck::default());
    let seconds = |number| Some(Duration::from_secs(number));
    let period = check("--experimental-corrupt-check-time 2s");
    assert_eq!(period, CorruptCheck { period: seconds(2), ..CorruptCheck::default() });
    assert_eq!(check("--corrupt-check-time 3s").period, seconds(3));
    assert!(check("--experimental-initial-corrupt-check").initial);
    let time = "--experimental-compact-hash-check-time";
    assert_eq!(check(&format!("{time} 4s")).compaction, None);
    let enabled = "--experimental-compact-hash-check-enabled";
    assert_eq!(check(enabled).compaction, seconds(60));
    assert_eq!(check(&format!("{enabled} {time}=4s")).compaction, seconds(4));
    assert_eq!(check(&format!("{enabled} --compact-hash-check-time=5s")).compaction, seconds(5));
    refused(&format!("{time} 0s"), 1, &format!("{time} must be >0 (set to 0s)"));
}
