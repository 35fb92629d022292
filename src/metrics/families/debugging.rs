//! Names from `etcd_cluster` to `etcd_debugging`: what etcd may change without notice.

use super::{Family, Recorded, Source, counter, gauge, histogram};
use crate::metrics::recorded::{
    BACKEND_COMMIT_WRITE, COMPACTIONS, EVENTS_PENDING, EVENTS_SENT, INDEX_COMPACTION_PAUSES,
    LAST_COMPACTION, LEASE_TTLS, LEASES_EXPIRED, LEASES_GRANTED, LEASES_RENEWED, LEASES_REVOKED,
    PUT_BYTES, RANGES, ROW_COMPACTION_PAUSES, ROWS_COMPACTED, SNAP_MARSHALLING, SNAP_SAVES,
    WATCH_STREAMS,
};

const BEFORE_3_5: &str = "the name before 3.5; the name without `debugging` is here";
const NO_AUTH: &str = "there is no auth yet";
const NO_LOOP: &str = "of 3.7, about a loop of its goroutines";
const NO_V2: &str = "counts requests of the v2 API";
const OF_BBOLT: &str = "a step of bbolt's commit that redb does not have";

/// Their rows, in order.
pub(super) static ROWS: &[Family] = &[
    gauge(
        "etcd_cluster_version",
        "Which version is running. 1 for 'cluster_version' label with current cluster version",
        Source::Asked,
    ),
    gauge(
        "etcd_debugging_auth_revision",
        "The current revision of auth store.",
        Source::Absent(NO_AUTH),
    ),
    histogram(
        "etcd_debugging_disk_backend_commit_rebalance_duration_seconds",
        "The latency distributions of commit.rebalance called by bboltdb backend.",
        Source::Absent(OF_BBOLT),
    ),
    histogram(
        "etcd_debugging_disk_backend_commit_spill_duration_seconds",
        "The latency distributions of commit.spill called by bboltdb backend.",
        Source::Absent(OF_BBOLT),
    ),
    histogram(
        "etcd_debugging_disk_backend_commit_write_duration_seconds",
        "The latency distributions of commit.write called by bboltdb backend.",
        Source::Recorded(Recorded::Histogram(&BACKEND_COMMIT_WRITE)),
    ),
    counter(
        "etcd_debugging_lease_granted_total",
        "The total number of granted leases.",
        Source::Recorded(Recorded::Counter(&LEASES_GRANTED)),
    ),
    counter(
        "etcd_debugging_lease_renewed_total",
        "The number of renewed leases seen by the leader.",
        Source::Recorded(Recorded::Counter(&LEASES_RENEWED)),
    ),
    counter(
        "etcd_debugging_lease_revoked_total",
        "The total number of revoked leases.",
        Source::Recorded(Recorded::Counter(&LEASES_REVOKED)),
    ),
    histogram(
        "etcd_debugging_lease_ttl_total",
        "Bucketed histogram of lease TTLs.",
        Source::Recorded(Recorded::Histogram(&LEASE_TTLS)),
    ),
    gauge(
        "etcd_debugging_mvcc_compact_revision",
        "The revision of the last compaction in store.",
        Source::Asked,
    ),
    gauge("etcd_debugging_mvcc_current_revision", "The current revision of store.", Source::Asked),
    counter(
        "etcd_debugging_mvcc_db_compaction_keys_total",
        "Total number of db keys compacted.",
        Source::Recorded(Recorded::Counter(&ROWS_COMPACTED)),
    ),
    gauge(
        "etcd_debugging_mvcc_db_compaction_last",
        "The unix time of the last db compaction. Resets to 0 on start.",
        Source::Recorded(Recorded::Gauge(&LAST_COMPACTION)),
    ),
    histogram(
        "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
        "Bucketed histogram of db compaction pause duration.",
        Source::Recorded(Recorded::Histogram(&ROW_COMPACTION_PAUSES)),
    ),
    histogram(
        "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
        "Bucketed histogram of db compaction total duration.",
        Source::Recorded(Recorded::Histogram(&COMPACTIONS)),
    ),
    gauge(
        "etcd_debugging_mvcc_db_total_size_in_bytes",
        "Total size of the underlying database physically allocated in bytes.",
        Source::Absent(BEFORE_3_5),
    ),
    counter(
        "etcd_debugging_mvcc_delete_total",
        "Total number of deletes seen by this member.",
        Source::Absent(BEFORE_3_5),
    ),
    counter(
        "etcd_debugging_mvcc_events_total",
        "Total number of events sent by this member.",
        Source::Recorded(Recorded::Counter(&EVENTS_SENT)),
    ),
    histogram(
        "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds",
        "Bucketed histogram of index compaction pause duration.",
        Source::Recorded(Recorded::Histogram(&INDEX_COMPACTION_PAUSES)),
    ),
    gauge("etcd_debugging_mvcc_keys_total", "Total number of keys.", Source::Asked),
    gauge(
        "etcd_debugging_mvcc_pending_events_total",
        "Total number of pending events to be sent.",
        Source::Recorded(Recorded::Gauge(&EVENTS_PENDING)),
    ),
    counter(
        "etcd_debugging_mvcc_put_total",
        "Total number of puts seen by this member.",
        Source::Absent(BEFORE_3_5),
    ),
    counter(
        "etcd_debugging_mvcc_range_total",
        "Total number of ranges seen by this member.",
        Source::Recorded(Recorded::Counter(&RANGES)),
    ),
    gauge(
        "etcd_debugging_mvcc_slow_watcher_total",
        "Total number of unsynced slow watchers.",
        Source::Asked,
    ),
    gauge(
        "etcd_debugging_mvcc_total_put_size_in_bytes",
        "The total size of put kv pairs seen by this member.",
        Source::Recorded(Recorded::Gauge(&PUT_BYTES)),
    ),
    counter(
        "etcd_debugging_mvcc_txn_total",
        "Total number of txns seen by this member.",
        Source::Absent(BEFORE_3_5),
    ),
    gauge(
        "etcd_debugging_mvcc_watch_stream_total",
        "Total number of watch streams.",
        Source::Recorded(Recorded::Gauge(&WATCH_STREAMS)),
    ),
    gauge("etcd_debugging_mvcc_watcher_total", "Total number of watchers.", Source::Asked),
    gauge(
        "etcd_debugging_server_alarms",
        "Alarms for every member in cluster. 1 for 'server_id' label with current ID. 2 for 'alarm_type' label with type of this ",
        Source::Asked,
    ),
    counter(
        "etcd_debugging_server_lease_expired_total",
        "The total number of expired leases.",
        Source::Recorded(Recorded::Counter(&LEASES_EXPIRED)),
    ),
    histogram(
        "etcd_debugging_server_watch_send_loop_control_stream_duration_seconds",
        "The total duration in seconds of running through the send loop control stream response.",
        Source::Absent(NO_LOOP),
    ),
    histogram(
        "etcd_debugging_server_watch_send_loop_progress_duration_seconds",
        "The total duration in seconds of running through the progress loop control stream response.",
        Source::Absent(NO_LOOP),
    ),
    histogram(
        "etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds",
        "The average duration in seconds of running through the send loop watch stream response, per event.",
        Source::Absent(NO_LOOP),
    ),
    histogram(
        "etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds",
        "The total duration in seconds of running through the send loop watch stream response all events.",
        Source::Absent(NO_LOOP),
    ),
    histogram(
        "etcd_debugging_snap_save_marshalling_duration_seconds",
        "The marshalling cost distributions of save called by snapshot.",
        Source::Recorded(Recorded::Histogram(&SNAP_MARSHALLING)),
    ),
    histogram(
        "etcd_debugging_snap_save_total_duration_seconds",
        "The total latency distributions of save called by snapshot.",
        Source::Recorded(Recorded::Histogram(&SNAP_SAVES)),
    ),
    counter(
        "etcd_debugging_store_expires_total",
        "Total number of expired keys.",
        Source::Absent(NO_V2),
    ),
    counter(
        "etcd_debugging_store_reads_failed_total",
        "Failed read actions by (get/getRecursive), local to this member.",
        Source::Absent(NO_V2),
    ),
    counter(
        "etcd_debugging_store_reads_total",
        "Total number of reads action by (get/getRecursive), local to this member.",
        Source::Absent(NO_V2),
    ),
    counter(
        "etcd_debugging_store_watch_requests_total",
        "Total number of incoming watch requests (new or reestablished).",
        Source::Absent(NO_V2),
    ),
    gauge(
        "etcd_debugging_store_watchers",
        "Count of currently active watchers.",
        Source::Absent(NO_V2),
    ),
    counter(
        "etcd_debugging_store_writes_failed_total",
        "Failed write actions (e.g. set/compareAndDelete), seen by this member.",
        Source::Absent(NO_V2),
    ),
    counter(
        "etcd_debugging_store_writes_total",
        "Total number of writes (e.g. set/compareAndDelete) seen by this member.",
        Source::Absent(NO_V2),
    ),
];
