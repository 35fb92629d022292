//! The counters themselves, each named after what the code beside it does.
//!
//! They are statics, because a process is one member: the code that counts needs no handle, and a
//! count costs one addition. [`families`](super::families) says under which name each is shown, and
//! what it means.

use super::{ByWord, Counter, Gauge, Histogram};

/// A counter.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident)*) => {
        $($(#[$doc])* pub static $name: Counter = Counter::new();)*
    };
}

/// A gauge.
macro_rules! gauges {
    ($($(#[$doc:meta])* $name:ident)*) => {
        $($(#[$doc])* pub static $name: Gauge = Gauge::new();)*
    };
}

/// A histogram of durations: the first bound in microseconds, and the number of buckets.
macro_rules! durations {
    ($($(#[$doc:meta])* $name:ident ($first:literal $unit:ident x $buckets:literal))*) => {
        $($(#[$doc])* pub static $name: Histogram = Histogram::$unit($first, $buckets);)*
    };
}

counters! {
    /// Leases that apply has granted.
    LEASES_GRANTED
    /// Renewals of leases, on the leader.
    LEASES_RENEWED
    /// Leases that apply has revoked, also those that had expired.
    LEASES_REVOKED
    /// Leases that have expired, on the leader.
    LEASES_EXPIRED
    /// Rows that compactions have deleted.
    ROWS_COMPACTED
    /// Events that were handed to watch streams.
    EVENTS_SENT
    /// Puts, each one of a transaction too.
    PUTS
    /// Delete ranges, each one of a transaction too.
    DELETES
    /// Ranges, each one of a transaction too.
    RANGES
    /// Transactions with more than one operation.
    TXNS
    /// Bytes of the requests that gRPC clients have sent, without frames.
    CLIENT_BYTES_RECEIVED
    /// Bytes of the answers to gRPC clients, without frames.
    CLIENT_BYTES_SENT
    /// Watch streams that broke when the member read from them.
    WATCH_RECEIVE_FAILURES
    /// Streams of renewals that broke when the member read from them.
    KEEP_ALIVE_RECEIVE_FAILURES
    /// Heartbeats that the leader sent later than it should.
    HEARTBEAT_SEND_FAILURES
    /// How often this member has learned of another leader.
    LEADER_CHANGES
    /// Learners that were promoted while this member led.
    PROMOTIONS
    /// Proposals of this member that have failed.
    PROPOSALS_FAILED
    /// Rounds of ReadIndex that have failed.
    READ_INDEXES_FAILED
    /// Attempts of rounds of ReadIndex that had no answer in time.
    SLOW_READ_INDEXES
    /// Requests that took longer than `--experimental-warning-apply-duration`.
    SLOW_APPLIES
    /// Spans that a collector of OpenTelemetry has accepted.
    SPANS_EXPORTED
    /// Spans that were dropped: the queue was full, or the collector refused them or did not answer
    /// for too long. Includes steps that were lost before they became spans.
    SPANS_DROPPED
    /// Failed attempts to export spans, whether repeated or given up.
    SPAN_EXPORTS_FAILED
    /// Lines of the log that were dropped because an output was too slow.
    LOG_LINES_DROPPED
    /// Messages to and from other members that were dropped.
    PEER_MESSAGES_DROPPED
}

gauges! {
    /// Bytes of all keys and values that were put; grows only, and etcd calls it a gauge.
    PUT_BYTES
    /// Bytes written to the log; grows only, and etcd calls it a gauge.
    WAL_BYTES
    /// The Unix time of the last compaction that has ended since the start.
    LAST_COMPACTION
    /// Defragmentations in progress.
    DEFRAGS_IN_PROGRESS
    /// Received databases that are being installed.
    INSTALLS_IN_PROGRESS
    /// Watch streams.
    WATCH_STREAMS
    /// Events in the queues of watch streams.
    EVENTS_PENDING
    /// Reads of the database file in progress.
    READS_IN_PROGRESS
}

durations! {
    /// `wal.fsync`.
    WAL_FSYNC(1000 seconds x 14)
    /// `wal.write`.
    WAL_WRITE(1000 seconds x 14)
    /// `backend.commit`.
    BACKEND_COMMIT(1000 seconds x 14)
    /// The end of `backend.commit`: redb writes the pages and syncs.
    BACKEND_COMMIT_WRITE(1000 seconds x 14)
    /// Defragmentations.
    DEFRAGS(100_000 seconds x 13)
    /// Copies of the database file for a client.
    BACKEND_SNAPSHOTS(10_000 seconds x 17)
    /// Hashes of the whole database (Maintenance.Hash).
    HASHES(10_000 seconds x 15)
    /// Hashes of the key space at a revision (Maintenance.HashKV).
    HASHES_BY_REVISION(10_000 seconds x 15)
    /// How long a step of a compaction keeps the index locked.
    INDEX_COMPACTION_PAUSES(500 milliseconds x 14)
    /// How long a step of a compaction takes to delete rows.
    ROW_COMPACTION_PAUSES(1000 milliseconds x 13)
    /// Whole compactions.
    COMPACTIONS(100_000 milliseconds x 14)
    /// How long it takes to encode a `.snap` file.
    SNAP_MARSHALLING(1000 seconds x 14)
    /// How long it takes to write a `.snap` file, in all.
    SNAP_SAVES(1000 seconds x 14)
    /// How long the fsync of a `.snap` file takes.
    SNAP_FSYNCS(1000 seconds x 14)
    /// How long the fsync of a received database takes.
    SNAP_DB_FSYNCS(1000 seconds x 14)
    /// How long it takes to receive a database, in all.
    SNAP_DB_SAVES(100_000 seconds x 10)
    /// Ranges that were answered.
    RANGES_TOOK(100 seconds x 20)
    /// Ranges that were refused.
    FAILED_RANGES_TOOK(100 seconds x 20)
}

/// The TTLs of granted leases, in seconds.
pub static LEASE_TTLS: Histogram = Histogram::numbers(24);
/// Bytes in one write of the log, which serves all that was queued.
pub static WAL_BATCH_BYTES: Histogram = Histogram::numbers(24);
/// Entries that apply takes under its locks at a time.
pub static APPLY_BATCH_ENTRIES: Histogram = Histogram::numbers(8);
/// Reads that share a round of ReadIndex.
pub static READ_ROUND_READS: Histogram = Histogram::numbers(13);

/// Unary calls by the version that the client names.
pub static UNARY_CALLS: ByWord = ByWord::new();
/// Streams by the version that the client names.
pub static STREAMS: ByWord = ByWord::new();
/// Why learners were not promoted while this member led.
pub static PROMOTIONS_REFUSED: ByWord = ByWord::new();

/// Counts one write to the log of these bytes.
pub fn wal_written(ns: u64, bytes: usize) {
    WAL_WRITE.observe(ns);
    WAL_BYTES.add(i64::try_from(bytes).unwrap_or(0));
    WAL_BATCH_BYTES.observe(bytes as u64);
}

/// What apply carries out, under etcd's names for API and operation. What members publish about
/// themselves are requests of the v2 API, as in etcd 3.5.
pub const OPERATIONS: [(&str, &str); 14] = [
    ("v3", "Range"),
    ("v3", "Put"),
    ("v3", "DeleteRange"),
    ("v3", "Txn"),
    ("v3", "Compaction"),
    ("v3", "LeaseGrant"),
    ("v3", "LeaseRevoke"),
    ("v3", "LeaseCheckpoint"),
    ("v3", "Alarm"),
    ("v2", "PUT"),
    ("v2", "POST"),
    ("v2", "DELETE"),
    ("v2", "QGET"),
    ("v2", "SYNC"),
];

/// How long apply takes for an operation: refused ones, and others.
pub static APPLIED: [[Histogram; 2]; OPERATIONS.len()] =
    [const { [const { Histogram::seconds(100, 20) }; 2] }; OPERATIONS.len()];

/// Counts an operation (a position in [`OPERATIONS`]) that apply has carried out or refused.
pub fn applied(operation: usize, is_success: bool, ns: u64) {
    if let Some(of) = APPLIED.get(operation) {
        of[usize::from(is_success)].observe(ns);
    }
}
