//! Names from `etcd_disk` to `etcd_network`: the log, the database, the key space, the connections.

use super::{Family, Of, Recorded, Source, counter, gauge, histogram};
use crate::metrics::recorded::{
    BACKEND_COMMIT, BACKEND_SNAPSHOTS, CLIENT_BYTES_RECEIVED, CLIENT_BYTES_SENT, DEFRAGS,
    DEFRAGS_IN_PROGRESS, DELETES, HASHES, HASHES_BY_REVISION, PUTS, RANGES, READS_IN_PROGRESS,
    TXNS, WAL_BYTES, WAL_FSYNC, WAL_WRITE,
};

const NO_PROXY: &str = "a member is no proxy";
const NO_V2: &str = "counts requests of the v2 API";

/// Their rows, in order.
pub(super) static ROWS: &[Family] = &[
    histogram(
        "etcd_disk_backend_commit_duration_seconds",
        "The latency distributions of commit called by backend.",
        Source::Recorded(Recorded::Histogram(&BACKEND_COMMIT)),
    ),
    histogram(
        "etcd_disk_backend_defrag_duration_seconds",
        "The latency distribution of backend defragmentation.",
        Source::Recorded(Recorded::Histogram(&DEFRAGS)),
    ),
    histogram(
        "etcd_disk_backend_snapshot_duration_seconds",
        "The latency distribution of backend snapshots.",
        Source::Recorded(Recorded::Histogram(&BACKEND_SNAPSHOTS)),
    ),
    gauge(
        "etcd_disk_defrag_inflight",
        "Whether or not defrag is active on the member. 1 means active, 0 means not.",
        Source::Recorded(Recorded::Gauge(&DEFRAGS_IN_PROGRESS)),
    ),
    histogram(
        "etcd_disk_wal_fsync_duration_seconds",
        "The latency distributions of fsync called by WAL.",
        Source::Recorded(Recorded::Histogram(&WAL_FSYNC)),
    ),
    gauge(
        "etcd_disk_wal_write_bytes_total",
        "Total number of bytes written in WAL.",
        Source::Recorded(Recorded::Gauge(&WAL_BYTES)),
    ),
    histogram(
        "etcd_disk_wal_write_duration_seconds",
        "The latency distributions of write called by WAL.",
        Source::Recorded(Recorded::Histogram(&WAL_WRITE)),
    ),
    gauge(
        "etcd_grpc_proxy_cache_hits_total",
        "Total number of cache hits",
        Source::Absent(NO_PROXY),
    ),
    gauge(
        "etcd_grpc_proxy_cache_keys_total",
        "Total number of keys/ranges cached",
        Source::Absent(NO_PROXY),
    ),
    gauge(
        "etcd_grpc_proxy_cache_misses_total",
        "Total number of cache misses",
        Source::Absent(NO_PROXY),
    ),
    counter(
        "etcd_grpc_proxy_events_coalescing_total",
        "Total number of events coalescing",
        Source::Absent(NO_PROXY),
    ),
    gauge(
        "etcd_grpc_proxy_watchers_coalescing_total",
        "Total number of current watchers coalescing",
        Source::Absent(NO_PROXY),
    ),
    counter(
        "etcd_http_failed_total",
        "Counter of handle failures of requests (non-watches), by method (GET/PUT etc.) and code (400, 500 etc.).",
        Source::Absent(NO_V2),
    ),
    counter(
        "etcd_http_received_total",
        "Counter of requests received into the system (successfully parsed and authd).",
        Source::Absent(NO_V2),
    ),
    histogram(
        "etcd_http_successful_duration_seconds",
        "Bucketed histogram of processing time (s) of successfully handled requests (non-watches), by method (GET/PUT etc.).",
        Source::Absent(NO_V2),
    ),
    gauge(
        "etcd_mvcc_db_open_read_transactions",
        "The number of currently open read transactions",
        Source::Recorded(Recorded::Gauge(&READS_IN_PROGRESS)),
    ),
    gauge(
        "etcd_mvcc_db_total_size_in_bytes",
        "Total size of the underlying database physically allocated in bytes.",
        Source::Asked,
    ),
    gauge(
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "Total size of the underlying database logically in use in bytes.",
        Source::Asked,
    ),
    counter(
        "etcd_mvcc_delete_total",
        "Total number of deletes seen by this member.",
        Source::Recorded(Recorded::Counter(&DELETES)),
    ),
    histogram(
        "etcd_mvcc_hash_duration_seconds",
        "The latency distribution of storage hash operation.",
        Source::Recorded(Recorded::Histogram(&HASHES)),
    ),
    histogram(
        "etcd_mvcc_hash_rev_duration_seconds",
        "The latency distribution of storage hash by revision operation.",
        Source::Recorded(Recorded::Histogram(&HASHES_BY_REVISION)),
    ),
    counter(
        "etcd_mvcc_put_total",
        "Total number of puts seen by this member.",
        Source::Recorded(Recorded::Counter(&PUTS)),
    ),
    counter(
        "etcd_mvcc_range_total",
        "Total number of ranges seen by this member.",
        Source::Recorded(Recorded::Counter(&RANGES)),
    ),
    counter(
        "etcd_mvcc_txn_total",
        "Total number of txns seen by this member.",
        Source::Recorded(Recorded::Counter(&TXNS)),
    ),
    gauge(
        "etcd_network_active_peers",
        "The current number of active peer connections.",
        Source::Peer(Of::Pair, |peer| Recorded::Gauge(&peer.active)),
    ),
    counter(
        "etcd_network_client_grpc_received_bytes_total",
        "The total number of bytes received from grpc clients.",
        Source::Recorded(Recorded::Counter(&CLIENT_BYTES_RECEIVED)),
    ),
    counter(
        "etcd_network_client_grpc_sent_bytes_total",
        "The total number of bytes sent to grpc clients.",
        Source::Recorded(Recorded::Counter(&CLIENT_BYTES_SENT)),
    ),
    counter(
        "etcd_network_disconnected_peers_total",
        "The total number of disconnected peers.",
        Source::Peer(Of::Pair, |peer| Recorded::Counter(&peer.disconnected)),
    ),
    gauge("etcd_network_known_peers", "The current number of known peers.", Source::Asked),
    counter(
        "etcd_network_peer_received_bytes_total",
        "The total number of bytes received from peers.",
        Source::Peer(Of::From, |peer| Recorded::Counter(&peer.received_bytes)),
    ),
    counter(
        "etcd_network_peer_received_failures_total",
        "The total number of receive failures from peers.",
        Source::Peer(Of::From, |peer| Recorded::Counter(&peer.received_failures)),
    ),
    histogram(
        "etcd_network_peer_round_trip_time_seconds",
        "Round-Trip-Time histogram between peers",
        Source::Peer(Of::To, |peer| Recorded::Histogram(&peer.round_trip)),
    ),
    counter(
        "etcd_network_peer_sent_bytes_total",
        "The total number of bytes sent to peers.",
        Source::Peer(Of::To, |peer| Recorded::Counter(&peer.sent_bytes)),
    ),
    counter(
        "etcd_network_peer_sent_failures_total",
        "The total number of send failures from peers.",
        Source::Peer(Of::To, |peer| Recorded::Counter(&peer.sent_failures)),
    ),
    counter(
        "etcd_network_server_stream_failures_total",
        "The total number of stream failures from the local server.",
        Source::StreamFailures,
    ),
    counter(
        "etcd_network_snapshot_receive_failures",
        "Total number of snapshot receive failures",
        Source::Peer(Of::From, |peer| Recorded::Counter(&peer.snapshots_received.failed)),
    ),
    gauge(
        "etcd_network_snapshot_receive_inflights_total",
        "Total number of inflight snapshot receives",
        Source::Peer(Of::From, |peer| Recorded::Gauge(&peer.snapshots_received.in_flight)),
    ),
    counter(
        "etcd_network_snapshot_receive_success",
        "Total number of successful snapshot receives",
        Source::Peer(Of::From, |peer| Recorded::Counter(&peer.snapshots_received.succeeded)),
    ),
    histogram(
        "etcd_network_snapshot_receive_total_duration_seconds",
        "Total latency distributions of v3 snapshot receives",
        Source::Peer(Of::From, |peer| Recorded::Histogram(&peer.snapshots_received.took)),
    ),
    counter(
        "etcd_network_snapshot_send_failures",
        "Total number of snapshot send failures",
        Source::Peer(Of::To, |peer| Recorded::Counter(&peer.snapshots_sent.failed)),
    ),
    gauge(
        "etcd_network_snapshot_send_inflights_total",
        "Total number of inflight snapshot sends",
        Source::Peer(Of::To, |peer| Recorded::Gauge(&peer.snapshots_sent.in_flight)),
    ),
    counter(
        "etcd_network_snapshot_send_success",
        "Total number of successful snapshot sends",
        Source::Peer(Of::To, |peer| Recorded::Counter(&peer.snapshots_sent.succeeded)),
    ),
    histogram(
        "etcd_network_snapshot_send_total_duration_seconds",
        "Total latency distributions of v3 snapshot sends",
        Source::Peer(Of::To, |peer| Recorded::Histogram(&peer.snapshots_sent.took)),
    ),
];
