//! Names that do not begin with `etcd`: ours, grpc-prometheus's, and those of the process.

use super::{Family, Recorded, Source, counter, gauge, histogram};
use crate::metrics::recorded::{
    APPLY_BATCH_ENTRIES, LOG_LINES_DROPPED, PEER_MESSAGES_DROPPED, READ_ROUND_READS,
    SPAN_EXPORTS_FAILED, SPANS_DROPPED, SPANS_EXPORTED, WAL_BATCH_BYTES,
};

/// Their rows, in order.
pub(super) static ROWS: &[Family] = &[
    gauge("glass_answer_bytes", "Bytes of answers in memory that are not sent yet.", Source::Asked),
    histogram(
        "glass_apply_batch_entries",
        "Entries that apply takes under its locks at a time.",
        Source::Recorded(Recorded::Histogram(&APPLY_BATCH_ENTRIES)),
    ),
    counter(
        "glass_log_lines_dropped_total",
        "Lines of the log that were dropped because an output was too slow.",
        Source::Recorded(Recorded::Counter(&LOG_LINES_DROPPED)),
    ),
    counter(
        "glass_otlp_failures_total",
        "Failed attempts to send spans.",
        Source::Recorded(Recorded::Counter(&SPAN_EXPORTS_FAILED)),
    ),
    counter(
        "glass_otlp_spans_dropped_total",
        "Spans dropped by --trace-otlp.",
        Source::Recorded(Recorded::Counter(&SPANS_DROPPED)),
    ),
    counter(
        "glass_otlp_spans_exported_total",
        "Spans accepted by the collector of --trace-otlp.",
        Source::Recorded(Recorded::Counter(&SPANS_EXPORTED)),
    ),
    counter(
        "glass_peer_messages_dropped_total",
        "Messages to and from other members that were dropped.",
        Source::Recorded(Recorded::Counter(&PEER_MESSAGES_DROPPED)),
    ),
    histogram(
        "glass_read_round_reads",
        "Reads that share a round of ReadIndex.",
        Source::Recorded(Recorded::Histogram(&READ_ROUND_READS)),
    ),
    counter(
        "glass_trace_records_lost_total",
        "Records of the trace that were overwritten before they were read.",
        Source::Asked,
    ),
    histogram(
        "glass_wal_batch_bytes",
        "Bytes in one write of the log, which serves all that was queued.",
        Source::Recorded(Recorded::Histogram(&WAL_BATCH_BYTES)),
    ),
    gauge("glass_watch_bytes", "Bytes of events in the queues of watch streams.", Source::Asked),
    counter(
        "grpc_server_handled_total",
        "Total number of RPCs completed on the server, regardless of success or failure.",
        Source::Asked,
    ),
    histogram(
        "grpc_server_handling_seconds",
        "Histogram of response latency (seconds) of gRPC that had been application-level handled by the server.",
        Source::Asked,
    ),
    counter(
        "grpc_server_msg_received_total",
        "Total number of RPC stream messages received on the server.",
        Source::Asked,
    ),
    counter(
        "grpc_server_msg_sent_total",
        "Total number of gRPC stream messages sent by the server.",
        Source::Asked,
    ),
    counter(
        "grpc_server_started_total",
        "Total number of RPCs started on the server.",
        Source::Asked,
    ),
    gauge("os_fd_limit", "The file descriptor limit.", Source::Asked),
    gauge("os_fd_used", "The number of used file descriptors.", Source::Asked),
    counter(
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
        Source::Asked,
    ),
    gauge("process_max_fds", "Maximum number of open file descriptors.", Source::Asked),
    gauge("process_open_fds", "Number of open file descriptors.", Source::Asked),
    gauge("process_resident_memory_bytes", "Resident memory size in bytes.", Source::Asked),
    gauge(
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        Source::Asked,
    ),
    gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", Source::Asked),
    gauge(
        "process_virtual_memory_max_bytes",
        "Maximum amount of virtual memory available in bytes.",
        Source::Asked,
    ),
];
