//! `/metrics`: this member's counters, under etcd's names, in Prometheus's text format.
//!
//! [`metrics::families`] has all names, in the order of the page. Most
//! samples come from what code has counted; the rest is asked of the server here, when the page is
//! made. As in Go's handler, a name without samples is left out.

mod process;

use self::process::Process;
use super::{calls, probes};
use crate::{
    config::ETCD_VERSION,
    metrics::{self, Family, Of, Recorded, Source, Text, recorded},
    pb::etcdserverpb::AlarmType,
    server::Server,
    trace,
};

/// All metrics, as text.
pub fn render(server: &Server) -> String {
    let page = Page { server, process: Process::read(), text: Text::default() };
    page.render()
}

/// A page in the making.
struct Page<'s> {
    server: &'s Server,
    process: Process,
    text: Text,
}

impl Page<'_> {
    fn render(mut self) -> String {
        for family in metrics::families() {
            self.family(family);
        }
        self.text.into_string()
    }

    fn family(&mut self, family: &Family) {
        match family.source {
            Source::Absent(_) => {}
            Source::Asked => self.asked(family),
            Source::Recorded(recorded) => self.recorded(family, [(&[][..], recorded)]),
            Source::Labelled(by) => {
                let labels: Vec<_> =
                    by.iter().map(|(label, value, of)| ([(*label, *value)], *of)).collect();
                self.recorded(family, labels.iter().map(|(labels, of)| (&labels[..], *of)));
            }
            Source::Peer(of, recorded) => self.peers(family, of, recorded),
            Source::ByWord(label, by) => self.by_word(family, label, by),
            Source::Applied => self.applied(family),
            Source::StreamFailures => {
                let of = [
                    ("lease-keepalive", &recorded::KEEP_ALIVE_RECEIVE_FAILURES),
                    ("watch", &recorded::WATCH_RECEIVE_FAILURES),
                ];
                let of = of.map(|(api, count)| ([("API", api), ("Type", "receive")], count));
                let of = of.iter().filter(|(_, count)| 0 < count.get());
                let of = of.map(|(labels, count)| (&labels[..], Recorded::Counter(count)));
                self.recorded(family, of);
            }
        }
    }

    fn head(&mut self, family: &Family) {
        self.text.head(family.name, family.help, family.kind);
    }

    /// Samples that code has counted, with their labels.
    fn recorded<'r>(
        &mut self,
        family: &Family,
        all: impl IntoIterator<Item = (&'r [(&'r str, &'r str)], Recorded<'r>)>,
    ) {
        for (place, (labels, recorded)) in all.into_iter().enumerate() {
            if place == 0 {
                self.head(family);
            }
            match recorded {
                Recorded::Counter(count) => {
                    self.text.sample(family.name, labels, count.get() as f64);
                }
                Recorded::Gauge(gauge) => {
                    self.text.sample(family.name, labels, gauge.get() as f64);
                }
                Recorded::Histogram(histogram) => {
                    self.text.histogram(family.name, labels, histogram);
                }
            }
        }
    }

    fn peers(&mut self, family: &Family, of: Of, recorded: fn(&metrics::Peer) -> Recorded<'_>) {
        let peers = metrics::peers();
        let names: Vec<(String, String)> =
            peers.iter().map(|peer| (id(peer.local), id(peer.remote))).collect();
        let labels = names.iter().map(|(local, remote)| match of {
            Of::From => vec![("From", remote.as_str())],
            Of::To => vec![("To", remote.as_str())],
            Of::Pair => vec![("Local", local.as_str()), ("Remote", remote.as_str())],
        });
        let labels: Vec<_> = labels.collect();
        let all = labels.iter().zip(&peers);
        self.recorded(family, all.map(|(labels, peer)| (&labels[..], recorded(peer))));
    }

    fn by_word(
        &mut self,
        family: &Family,
        label: &str,
        by: &[(&str, &str, &'static metrics::ByWord)],
    ) {
        let mut is_first = true;
        for (beside, value, counts) in by {
            for (word, count) in counts.counts() {
                if std::mem::take(&mut is_first) {
                    self.head(family);
                }
                let labels = [(label, word), (*beside, *value)];
                let count = count as f64;
                match beside.is_empty() {
                    true => self.text.sample(family.name, &labels[..1], count),
                    false => self.text.sample(family.name, &labels, count),
                }
            }
        }
    }

    /// An operation has series once it was carried out.
    fn applied(&mut self, family: &Family) {
        let mut series = Vec::new();
        for ((version, op), took) in recorded::OPERATIONS.iter().zip(&recorded::APPLIED) {
            for (success, took) in ["false", "true"].iter().zip(took) {
                if 0 < took.snapshot().count {
                    let labels = [("op", *op), ("success", *success), ("version", *version)];
                    series.push((labels, Recorded::Histogram(took)));
                }
            }
        }
        self.recorded(family, series.iter().map(|(labels, took)| (&labels[..], *took)));
    }

    /// Samples that are asked for now.
    fn asked(&mut self, family: &Family) {
        let name = family.name;
        if let Some(value) = self.number(name) {
            self.head(family);
            return self.text.sample(name, &[], value);
        }
        let value = match name {
            "etcd_server_version" => Some(("server_version", ETCD_VERSION.to_owned())),
            "etcd_server_id" => Some(("server_id", id(self.server.member_id))),
            "etcd_cluster_version" => self.server.members.version().map(|version| {
                let short = version.rsplit_once('.').map_or(version.as_str(), |(short, _)| short);
                ("cluster_version", short.to_owned())
            }),
            _ => None,
        };
        if let Some((label, value)) = value {
            self.head(family);
            return self.text.sample(name, &[(label, &value)], 1.0);
        }
        match name {
            "etcd_debugging_server_alarms" => self.alarms(family),
            "etcd_network_known_peers" => self.known_peers(family),
            "etcd_server_healthcheck" | "etcd_server_healthchecks_total" => self.checks(family),
            "grpc_server_handling_seconds" if !calls::is_extensive() => {}
            _ if name.starts_with("grpc_server_") => {
                self.head(family);
                calls::write(&mut self.text, name);
            }
            _ => {}
        }
    }

    /// A number of the member; `None` for a name with labels, and for what the system does not
    /// tell.
    fn number(&self, name: &str) -> Option<f64> {
        let server = self.server;
        let status = || server.member_status();
        let [failures, successes] = probes::counted_health();
        let (synced, unsynced, victims) = server.store.watcher_counts();
        let slow = unsynced + victims;
        let (large, small) = server.room.in_flight();
        let quota = server.settings.quota_bytes.map_or(-1.0, |bytes| bytes as f64);
        Some(match name {
            "etcd_debugging_mvcc_compact_revision" => server.store.newest_and_compacted().1 as f64,
            "etcd_debugging_mvcc_current_revision" => server.store.revision() as f64,
            "etcd_debugging_mvcc_keys_total" => server.store.keys() as f64,
            "etcd_debugging_mvcc_slow_watcher_total" => slow as f64,
            "etcd_debugging_mvcc_watcher_total" => (synced + slow) as f64,
            "etcd_mvcc_db_total_size_in_bytes" => status().db_size as f64,
            "etcd_mvcc_db_total_size_in_use_in_bytes" => status().db_size_in_use as f64,
            "etcd_server_has_leader" => truth(status().leader != 0),
            "etcd_server_health_failures" => failures as f64,
            "etcd_server_health_success" => successes as f64,
            "etcd_server_is_leader" => truth(status().leader == server.member_id),
            "etcd_server_is_learner" => truth(server.is_learner()),
            "etcd_server_proposals_applied_total" => status().raft_applied_index as f64,
            "etcd_server_proposals_committed_total" => status().raft_index as f64,
            "etcd_server_proposals_pending" => server.proposer.wait.pending() as f64,
            "etcd_server_quota_backend_bytes" => quota,
            "glass_answer_bytes" => (large + small) as f64,
            "glass_trace_records_lost_total" => trace::lost_records() as f64,
            "glass_watch_bytes" => server.store.watch_bytes() as f64,
            _ => return self.process.number(name),
        })
    }

    fn alarms(&mut self, family: &Family) {
        let alarms = self.server.alarms.list(AlarmType::None as i32);
        for (place, alarm) in alarms.iter().enumerate() {
            if place == 0 {
                self.head(family);
            }
            let member = id(alarm.member_id);
            let labels = [("alarm_type", alarm.alarm().as_str_name()), ("server_id", &member)];
            self.text.sample(family.name, &labels, 1.0);
        }
    }

    fn known_peers(&mut self, family: &Family) {
        let local = id(self.server.member_id);
        let members = self.server.members.list();
        let others = members.iter().filter(|member| member.id != self.server.member_id);
        for (place, member) in others.enumerate() {
            if place == 0 {
                self.head(family);
            }
            let labels = [("Local", local.as_str()), ("Remote", &id(member.id))];
            self.text.sample(family.name, &labels, 1.0);
        }
    }

    /// The results of the probes; a check that has not run yet has no sample.
    fn checks(&mut self, family: &Family) {
        let counted = probes::counted();
        if counted.is_empty() {
            return;
        }
        self.head(family);
        for of in &counted {
            if family.name == "etcd_server_healthcheck" {
                let labels = [("name", of.name), ("type", of.probe)];
                self.text.sample(family.name, &labels, of.last as f64);
                continue;
            }
            for (status, count) in of.results.iter().filter(|(_, count)| *count != 0) {
                let labels = [("name", of.name), ("status", *status), ("type", of.probe)];
                self.text.sample(family.name, &labels, *count as f64);
            }
        }
    }
}

fn truth(is_true: bool) -> f64 {
    f64::from(u8::from(is_true))
}

/// An id as etcd writes it.
fn id(id: u64) -> String {
    format!("{id:x}")
}
