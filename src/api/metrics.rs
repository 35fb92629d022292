//! `/metrics`: this member's counters, under etcd's names, in Prometheus's text format.

use std::fmt::{Display, Write as _};

use super::{probes, process};
use crate::{
    config::ETCD_VERSION,
    server::Server,
    trace::{
        counts,
        histogram::{self, BUCKETS, Histogram},
    },
};

/// All metrics, as text. Metrics of etcd have etcd's help text.
pub fn render(server: &Server) -> String {
    let mut text = Text::default();
    text.histogram(
        "etcd_disk_wal_fsync_duration_seconds",
        "The latency distributions of fsync called by WAL.",
        &histogram::WAL_FSYNC,
    );
    text.histogram(
        "etcd_disk_backend_commit_duration_seconds",
        "The latency distributions of commit called by backend.",
        &histogram::BACKEND_COMMIT,
    );
    raft(&mut text, server);
    key_space(&mut text, server);
    text.checks();
    for (name, help, count) in [
        (
            "glass_otlp_spans_exported_total",
            "Spans accepted by the collector of --trace-otlp.",
            &counts::EXPORTED,
        ),
        ("glass_otlp_spans_dropped_total", "Spans dropped by --trace-otlp.", &counts::DROPPED),
        ("glass_otlp_failures_total", "Failed attempts to send spans.", &counts::FAILED),
    ] {
        text.counter(name, help, count.get());
    }
    text.info("etcd_server_version", "server_version", ETCD_VERSION);
    text.info("etcd_server_id", "server_id", &format!("{:x}", server.member_id));
    descriptors(&mut text);
    if let Some(version) = server.members.version() {
        let short = version.rsplit_once('.').map_or(version.as_str(), |(short, _)| short);
        text.info("etcd_cluster_version", "cluster_version", short);
    }
    text.0
}

fn raft(text: &mut Text, server: &Server) {
    let status = server.member_status();
    let (has_leader, is_leader) = (status.leader != 0, status.leader == server.member_id);
    for (name, help, value) in [
        (
            "etcd_server_has_leader",
            "Whether or not a leader exists. 1 is existence, 0 is not.",
            u64::from(has_leader),
        ),
        (
            "etcd_server_is_leader",
            "Whether or not this member is a leader. 1 if is, 0 otherwise.",
            u64::from(is_leader),
        ),
        (
            "etcd_server_proposals_committed_total",
            "The total number of consensus proposals committed.",
            status.raft_index,
        ),
        (
            "etcd_server_proposals_applied_total",
            "The total number of consensus proposals applied.",
            status.raft_applied_index,
        ),
    ] {
        text.gauge(name, help, value);
    }
    text.gauge(
        "etcd_server_proposals_pending",
        "The current number of pending proposals to commit.",
        server.proposer.wait.pending(),
    );
}

fn key_space(text: &mut Text, server: &Server) {
    let status = server.member_status();
    let quota = server.settings.quota_bytes.and_then(|bytes| i64::try_from(bytes).ok());
    for (name, help, value) in [
        (
            "etcd_mvcc_db_total_size_in_bytes",
            "Total size of the underlying database physically allocated in bytes.",
            status.db_size,
        ),
        (
            "etcd_mvcc_db_total_size_in_use_in_bytes",
            "Total size of the underlying database logically in use in bytes.",
            status.db_size_in_use,
        ),
        (
            "etcd_server_quota_backend_bytes",
            "Current backend storage quota size in bytes.",
            quota.unwrap_or(-1),
        ),
        (
            "etcd_debugging_mvcc_current_revision",
            "The current revision of store.",
            server.store.revision(),
        ),
    ] {
        text.gauge(name, help, value);
    }
    let (synced, unsynced, victims) = server.store.watcher_counts();
    let slow = unsynced + victims;
    let (large, small) = server.room.in_flight();
    let events = server.store.watch_bytes();
    for (name, help, value) in [
        ("etcd_debugging_mvcc_watcher_total", "Total number of watchers.", synced + slow),
        ("etcd_debugging_mvcc_slow_watcher_total", "Total number of unsynced slow watchers.", slow),
        ("glass_answer_bytes", "Bytes of answers in memory that are not sent yet.", large + small),
        ("glass_watch_bytes", "Bytes of events in the queues of watch streams.", events),
    ] {
        text.gauge(name, help, value);
    }
}

fn descriptors(text: &mut Text) {
    if let Some(open) = process::open_descriptors() {
        text.gauge("process_open_fds", "Number of open file descriptors.", open);
        text.gauge("os_fd_used", "The number of used file descriptors.", open);
    }
    if let Some(limit) = process::descriptor_limit() {
        text.gauge("process_max_fds", "Maximum number of open file descriptors.", limit);
        text.gauge("os_fd_limit", "The file descriptor limit.", limit);
    }
}

/// Prometheus's text format. Writing into a string cannot fail.
#[derive(Default)]
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, help, "gauge");
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, help, "counter");
        let _ = writeln!(self.0, "{name} {value}");
    }

    /// The results of the probes; a check that has not run yet has no line.
    fn checks(&mut self) {
        let [failures, successes] = probes::counted_health();
        self.counter("etcd_server_health_failures", "Failing answers of /health.", failures);
        self.counter("etcd_server_health_success", "Healthy answers of /health.", successes);
        let counted = probes::counted();
        if counted.is_empty() {
            return;
        }
        let name = "etcd_server_healthcheck";
        self.head(name, "The last result of a check of /livez or /readyz: 1 for success.", "gauge");
        for of in &counted {
            let labels = format!("name=\"{}\",type=\"{}\"", of.name, of.probe);
            let _ = writeln!(self.0, "{name}{{{labels}}} {}", of.last);
        }
        let name = "etcd_server_healthchecks_total";
        self.head(name, "Checks of /livez and /readyz, by result.", "counter");
        for of in &counted {
            for (status, count) in of.results.iter().filter(|(_, count)| *count != 0) {
                let labels =
                    format!("name=\"{}\",status=\"{status}\",type=\"{}\"", of.name, of.probe);
                let _ = writeln!(self.0, "{name}{{{labels}}} {count}");
            }
        }
    }

    fn info(&mut self, name: &str, label: &str, value: &str) {
        self.head(name, "The label names it; the value is 1.", "gauge");
        let _ = writeln!(self.0, "{name}{{{label}=\"{value}\"}} 1");
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, help, "histogram");
        let snapshot = histogram.snapshot();
        for bucket in 0..BUCKETS {
            let (bound, count) = (histogram::bound_seconds(bucket), snapshot.cumulative[bucket]);
            let _ = writeln!(self.0, "{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        let all = snapshot.cumulative[BUCKETS];
        let sum = snapshot.sum_ns as f64 / 1e9;
        let _ = writeln!(
            self.0,
            "{name}_bucket{{le=\"+Inf\"}} {all}\n{name}_sum {sum}\n{name}_count {all}"
        );
    }
}
