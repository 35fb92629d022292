//! Names from `etcd_proxy` to `etcd_snap`: the member itself, and its snapshots.

use super::{Family, Recorded, Source, counter, gauge, histogram};
use crate::metrics::ByWord;
use crate::metrics::recorded::{
    FAILED_RANGES_TOOK, HEARTBEAT_SEND_FAILURES, INSTALLS_IN_PROGRESS, LEADER_CHANGES, PROMOTIONS,
    PROMOTIONS_REFUSED, PROPOSALS_FAILED, RANGES_TOOK, READ_INDEXES_FAILED, SLOW_APPLIES,
    SLOW_READ_INDEXES, SNAP_DB_FSYNCS, SNAP_DB_SAVES, SNAP_FSYNCS, STREAMS, UNARY_CALLS,
};

const BY_GRPC: &str = "of 3.7: `grpc_server_handling_seconds` says it for each RPC";
const NO_GATES: &str = "of 3.6: there are no feature gates here";
const NO_PROXY: &str = "a member is no proxy";
const OF_GO: &str = "no Go here";

/// Calls by the version that the client names.
static CALLS: [(&str, &str, &ByWord); 2] =
    [("type", "unary", &UNARY_CALLS), ("type", "stream", &STREAMS)];
/// Why learners were not promoted.
static REFUSALS: [(&str, &str, &ByWord); 1] = [("", "", &PROMOTIONS_REFUSED)];
/// Ranges, by whether they were answered.
static RANGES: [(&str, &str, Recorded<'_>); 2] = [
    ("success", "false", Recorded::Histogram(&FAILED_RANGES_TOOK)),
    ("success", "true", Recorded::Histogram(&RANGES_TOOK)),
];

/// Their rows, in order.
pub(super) static ROWS: &[Family] = &[
    counter(
        "etcd_proxy_dropped_total",
        "Counter of requests dropped on the proxy.",
        Source::Absent(NO_PROXY),
    ),
    counter(
        "etcd_proxy_handled_total",
        "Counter of requests fully handled (by authoratitave servers)",
        Source::Absent(NO_PROXY),
    ),
    histogram(
        "etcd_proxy_handling_duration_seconds",
        "Bucketed histogram of handling time of successful events (non-watches), by method (GET/PUT etc.).",
        Source::Absent(NO_PROXY),
    ),
    counter(
        "etcd_proxy_requests_total",
        "Counter requests incoming by method.",
        Source::Absent(NO_PROXY),
    ),
    histogram(
        "etcd_server_apply_duration_seconds",
        "The latency distributions of v2 apply called by backend.",
        Source::Applied,
    ),
    counter(
        "etcd_server_client_requests_total",
        "The total number of client requests per client version.",
        Source::ByWord("client_api_version", &CALLS),
    ),
    gauge(
        "etcd_server_feature_enabled",
        "Whether or not a feature is enabled. 1 is enabled, 0 is not.",
        Source::Absent(NO_GATES),
    ),
    gauge(
        "etcd_server_go_version",
        "Which Go version server is running with. 1 for 'server_go_version' label with current version.",
        Source::Absent(OF_GO),
    ),
    gauge(
        "etcd_server_has_leader",
        "Whether or not a leader exists. 1 is existence, 0 is not.",
        Source::Asked,
    ),
    counter(
        "etcd_server_health_failures",
        "The total number of failed health checks",
        Source::Asked,
    ),
    counter(
        "etcd_server_health_success",
        "The total number of successful health checks",
        Source::Asked,
    ),
    gauge("etcd_server_healthcheck", "The result of each kind of healthcheck.", Source::Asked),
    counter(
        "etcd_server_healthchecks_total",
        "The total number of each kind of healthcheck.",
        Source::Asked,
    ),
    counter(
        "etcd_server_heartbeat_send_failures_total",
        "The total number of leader heartbeat send failures (likely overloaded from slow disk).",
        Source::Recorded(Recorded::Counter(&HEARTBEAT_SEND_FAILURES)),
    ),
    gauge(
        "etcd_server_id",
        "Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID.",
        Source::Asked,
    ),
    gauge(
        "etcd_server_is_leader",
        "Whether or not this member is a leader. 1 if is, 0 otherwise.",
        Source::Asked,
    ),
    gauge(
        "etcd_server_is_learner",
        "Whether or not this member is a learner. 1 if is, 0 otherwise.",
        Source::Asked,
    ),
    counter(
        "etcd_server_leader_changes_seen_total",
        "The number of leader changes seen.",
        Source::Recorded(Recorded::Counter(&LEADER_CHANGES)),
    ),
    counter(
        "etcd_server_learner_promote_failures",
        "The total number of failed learner promotions (likely learner not ready) while this member is leader.",
        Source::ByWord("Reason", &REFUSALS),
    ),
    counter(
        "etcd_server_learner_promote_successes",
        "The total number of successful learner promotions while this member is leader.",
        Source::Recorded(Recorded::Counter(&PROMOTIONS)),
    ),
    gauge(
        "etcd_server_proposals_applied_total",
        "The total number of consensus proposals applied.",
        Source::Asked,
    ),
    gauge(
        "etcd_server_proposals_committed_total",
        "The total number of consensus proposals committed.",
        Source::Asked,
    ),
    counter(
        "etcd_server_proposals_failed_total",
        "The total number of failed proposals seen.",
        Source::Recorded(Recorded::Counter(&PROPOSALS_FAILED)),
    ),
    gauge(
        "etcd_server_proposals_pending",
        "The current number of pending proposals to commit.",
        Source::Asked,
    ),
    gauge(
        "etcd_server_quota_backend_bytes",
        "Current backend storage quota size in bytes.",
        Source::Asked,
    ),
    histogram(
        "etcd_server_range_duration_seconds",
        "The latency distributions of txn.Range",
        Source::Labelled(&RANGES),
    ),
    counter(
        "etcd_server_read_indexes_failed_total",
        "The total number of failed read indexes seen.",
        Source::Recorded(Recorded::Counter(&READ_INDEXES_FAILED)),
    ),
    histogram(
        "etcd_server_request_duration_seconds",
        "Response latency distribution in seconds for each type.",
        Source::Absent(BY_GRPC),
    ),
    counter(
        "etcd_server_slow_apply_total",
        "The total number of slow apply requests (likely overloaded from slow disk).",
        Source::Recorded(Recorded::Counter(&SLOW_APPLIES)),
    ),
    counter(
        "etcd_server_slow_read_indexes_total",
        "The total number of pending read indexes not in sync with leader's or timed out read index requests.",
        Source::Recorded(Recorded::Counter(&SLOW_READ_INDEXES)),
    ),
    gauge(
        "etcd_server_snapshot_apply_in_progress_total",
        "1 if the server is applying the incoming snapshot. 0 if none.",
        Source::Recorded(Recorded::Gauge(&INSTALLS_IN_PROGRESS)),
    ),
    gauge(
        "etcd_server_version",
        "Which version is running. 1 for 'server_version' label with current version.",
        Source::Asked,
    ),
    histogram(
        "etcd_snap_db_fsync_duration_seconds",
        "The latency distributions of fsyncing .snap.db file",
        Source::Recorded(Recorded::Histogram(&SNAP_DB_FSYNCS)),
    ),
    histogram(
        "etcd_snap_db_save_total_duration_seconds",
        "The total latency distributions of v3 snapshot save",
        Source::Recorded(Recorded::Histogram(&SNAP_DB_SAVES)),
    ),
    histogram(
        "etcd_snap_fsync_duration_seconds",
        "The latency distributions of fsync called by snap.",
        Source::Recorded(Recorded::Histogram(&SNAP_FSYNCS)),
    ),
];
