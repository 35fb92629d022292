//! `/metrics`: the names, types and labels of etcd, in a form that Prometheus reads.

use std::collections::{BTreeMap, BTreeSet};

use glass_etcd::{
    metrics::{Kind as Type, Source, families},
    pb::etcdserverpb::{
        DeleteRangeRequest, LeaseGrantRequest, RequestOp, TxnRequest, request_op::Request as Op,
    },
};

use super::{Alone, Answer, SOON, alone, ask, wait_for};
use crate::{
    client::{Client, eventually},
    cluster::Cluster,
    ports,
    programs::{Kind, left_out, reference},
};

/// The series that etcd's public dashboard and its alert rules read (contrib/mixin of etcd's
/// repository), apart from `up` and Go's runtime.
const READ_BY_MIXIN: &[&str] = &[
    "etcd_disk_backend_commit_duration_seconds_bucket",
    "etcd_disk_wal_fsync_duration_seconds_bucket",
    "etcd_mvcc_db_total_size_in_bytes",
    "etcd_mvcc_db_total_size_in_use_in_bytes",
    "etcd_network_client_grpc_received_bytes_total",
    "etcd_network_client_grpc_sent_bytes_total",
    "etcd_network_peer_received_bytes_total",
    "etcd_network_peer_round_trip_time_seconds_bucket",
    "etcd_network_peer_sent_bytes_total",
    "etcd_network_peer_sent_failures_total",
    "etcd_server_has_leader",
    "etcd_server_leader_changes_seen_total",
    "etcd_server_proposals_applied_total",
    "etcd_server_proposals_committed_total",
    "etcd_server_proposals_failed_total",
    "etcd_server_proposals_pending",
    "etcd_server_quota_backend_bytes",
    "grpc_server_handled_total",
    "grpc_server_handling_seconds_bucket",
    "grpc_server_started_total",
    "process_resident_memory_bytes",
];

/// A page, read as Prometheus reads it.
#[derive(Debug, Default)]
struct Page {
    types: BTreeMap<String, String>,
    /// Values by name and labels, as they are written.
    samples: BTreeMap<String, f64>,
}

impl Page {
    fn of(port: u16) -> Page {
        let answer = ask(port, "GET /metrics", "").expect("the member answers");
        assert_eq!(answer.status, "200");
        let kind = answer.header("content-type").unwrap();
        assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
        Page::read(&whole(answer))
    }

    /// Reads a page, and demands what a linter does of its form.
    fn read(text: &str) -> Page {
        let (mut page, mut helps, mut family) = (Page::default(), BTreeSet::new(), String::new());
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap_or((help, ""));
                assert!(!help.is_empty(), "no help: {line}");
                assert!(helps.insert(name.to_owned()), "a second HELP: {line}");
                name.clone_into(&mut family);
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect(line);
                assert_eq!(name, family, "TYPE follows HELP");
                assert_eq!(page.types.insert(name.to_owned(), kind.to_owned()), None, "{line}");
            } else {
                let (series, value) = line.rsplit_once(' ').expect(line);
                let name = series.split('{').next().unwrap();
                let suffixes = match page.types[&family].as_str() {
                    "histogram" => &["_bucket", "_sum", "_count"][..],
                    _ => &[""],
                };
                let of_family = suffixes.iter().any(|suffix| name == format!("{family}{suffix}"));
                assert!(of_family, "{line} below {family}");
                let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
                assert!(page.samples.insert(series.to_owned(), value).is_none(), "twice: {line}");
            }
        }
        page.check_histograms();
        page
    }

    /// Buckets never fall, and the last one is the count.
    fn check_histograms(&self) {
        let mut series = BTreeMap::<String, Vec<(f64, f64)>>::new();
        for (name, value) in &self.samples {
            let Some((before, bound)) = name.split_once("le=\"") else { continue };
            let bound = bound.trim_end_matches("\"}").replace("+Inf", "inf");
            let (bound, of) = (bound.parse().unwrap(), before.trim_end_matches(','));
            series.entry(of.to_owned()).or_default().push((bound, *value));
        }
        assert!(10 < series.len());
        for (name, mut buckets) in series {
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "{name}: {buckets:?}");
            let (bound, all) = *buckets.last().unwrap();
            let count = name.replacen("_bucket{", "_count{", 1);
            let count = match count.strip_suffix('{') {
                Some(bare) => bare.to_owned(),
                None => format!("{count}}}"),
            };
            assert_eq!((bound, Some(&all)), (f64::INFINITY, self.samples.get(&count)), "{count}");
        }
    }

    fn value(&self, series: &str) -> f64 {
        *self.samples.get(series).unwrap_or_else(|| panic!("no {series}"))
    }

    fn has(&self, name: &str) -> bool {
        self.samples.keys().any(|series| series.split('{').next() == Some(name))
    }

    fn unary(&self, family: &str, labels: &str) -> f64 {
        self.value(&format!("grpc_server_{family}{{{labels},grpc_type=\"unary\"}}"))
    }
}

/// One request of each kind, and one that is refused.
async fn requests(client: &mut Client) {
    client.put("a", "1").await.unwrap();
    client.put("b", "22").await.unwrap();
    client.everything(false).await.unwrap();
    let delete = DeleteRangeRequest { key: "a".into(), ..Default::default() };
    client.kv.delete_range(delete.clone()).await.unwrap();
    let op = || RequestOp { request: Some(Op::RequestDeleteRange(delete.clone())) };
    let put = |key: &str| RequestOp {
        request: Some(Op::RequestPut(glass_etcd::pb::etcdserverpb::PutRequest {
            key: key.to_owned().into(),
            ..Default::default()
        })),
    };
    let txn = TxnRequest { success: vec![put("c"), op()], ..Default::default() };
    client.kv.txn(txn).await.unwrap();
    client.lease.lease_grant(LeaseGrantRequest { ttl: 60, id: 7 }).await.unwrap();
    client.put("", "").await.unwrap_err();
}

/// Goal: a cluster has all series that the public dashboard and alerts read; the page has the form
/// that Prometheus demands; and what is counted is what was done. Method: three members and a known
/// list of requests.
#[tokio::test]
async fn a_cluster_has_every_series_that_the_dashboard_reads_and_counts_what_is_done() {
    let kind = Kind::subject();
    let mut cluster = Cluster::prepare(&kind, 3);
    (0..3).for_each(|at| cluster.set_env(at, &[("ETCD_METRICS", "extensive")]));
    (0..3).for_each(|at| cluster.spawn(at));
    cluster.wait_all_ready().await;
    let port = cluster.members[0].client_port;
    let before = Page::of(port);
    requests(&mut cluster.client(0)).await;
    // Each peer answers its first probe, and every member has applied what the first one has.
    let pages = eventually("all series", SOON, || async {
        let pages: Vec<Page> =
            cluster.members.iter().map(|member| Page::of(member.client_port)).collect();
        for page in &pages {
            if let Some(missing) = READ_BY_MIXIN.iter().find(|name| !page.has(name)) {
                return Err(format!("{missing} is missing"));
            }
            let puts = page.value("etcd_mvcc_put_total");
            if puts < 3.0 {
                return Err(format!("{puts} puts"));
            }
        }
        Ok(pages)
    })
    .await;
    for page in &pages {
        assert_eq!(page.value("etcd_mvcc_put_total"), 3.0);
        assert_eq!(page.value("etcd_mvcc_delete_total"), 2.0);
        assert_eq!(page.value("etcd_mvcc_txn_total"), 1.0);
        assert_eq!(page.value("etcd_debugging_mvcc_total_put_size_in_bytes"), 6.0);
        assert_eq!(page.value("etcd_debugging_lease_ttl_total_sum"), 60.0);
        let peers: Vec<&String> =
            page.samples.keys().filter(|name| name.starts_with("etcd_network_active")).collect();
        assert_eq!(peers.len(), 2, "{peers:?}");
        assert!(peers.iter().all(|name| page.value(name) == 1.0));
        // Followers have little to say to each other.
        let sent = page.samples.keys().filter(|name| name.starts_with("etcd_network_peer_sent_b"));
        assert!(sent.map(|name| page.value(name)).any(|bytes| 0.0 < bytes));
    }
    let page = &pages[0];
    let since =
        |family: &str, labels: &str| page.unary(family, labels) - before.unary(family, labels);
    let put = "grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\"";
    assert_eq!(since("started_total", put), 3.0);
    assert_eq!(since("msg_received_total", put), 3.0);
    assert_eq!(since("msg_sent_total", put), 2.0);
    let of = |code| format!("grpc_code=\"{code}\",{put}");
    assert_eq!(since("handled_total", &of("OK")), 2.0);
    assert_eq!(since("handled_total", &of("InvalidArgument")), 1.0);
    let applied = "{op=\"Put\",success=\"true\",version=\"v3\"}";
    assert!(2.0 <= page.value(&format!("etcd_server_apply_duration_seconds_count{applied}")));
    let bytes = "etcd_network_client_grpc_received_bytes_total";
    assert!(before.value(bytes) < page.value(bytes));
}

/// The body of an answer, which Go sends in chunks.
fn whole(answer: Answer) -> String {
    if answer.header("transfer-encoding") != Some("chunked") {
        return answer.body;
    }
    let (mut rest, mut text) = (answer.body.as_str(), String::new());
    while let Some((len, chunk)) = rest.split_once("\r\n") {
        let len = usize::from_str_radix(len, 16).expect("the length of a chunk");
        text.push_str(&chunk[..len]);
        rest = chunk[len..].trim_start_matches("\r\n");
    }
    text
}

/// Goal: every name that etcd exports is exported here, with its type and its help text, or the
/// table says why not; and a lone member asks for no name without a sample of it or a known reason.
/// Method: etcd and a member, each alone.
#[test]
fn every_name_of_etcd_is_here_or_the_table_says_why() {
    let Some(etcd) = reference() else { return left_out("names of metrics: no etcd 3.5.1") };
    let page = |kind: &Kind| {
        let (dir, flags) = alone();
        let port = ports::free();
        let url = format!("http://127.0.0.1:{port}");
        let flags = format!("{flags} --listen-client-urls {url} --advertise-client-urls {url}");
        let _member = Alone::start(kind.command(), dir.path(), &flags);
        let has_led = "\netcd_server_has_leader 1\n";
        let text = || ask(port, "GET /metrics", "").map(whole).unwrap_or_default();
        wait_for("a leader", || {
            text().contains(has_led) && text().contains("etcd_cluster_version")
        });
        text()
    };
    let (theirs, ours) = (page(&etcd), page(&Kind::Glass));
    Page::read(&ours);
    let heads = |text: &str| -> BTreeSet<String> {
        let is_head = |line: &&str| line.starts_with("# HELP ") || line.starts_with("# TYPE ");
        text.lines().filter(is_head).map(str::to_owned).collect()
    };
    let absent: BTreeSet<&str> = (families())
        .filter(|family| matches!(family.source, Source::Absent(_)))
        .map(|family| family.name)
        .collect();
    let (theirs, ours) = (heads(&theirs), heads(&ours));
    let name = |head: &str| head.split(' ').nth(2).unwrap_or_default().to_owned();
    let is_of_go = |name: &str| name.starts_with("go_") || name.starts_with("promhttp_");
    let missing: Vec<_> = (theirs.difference(&ours))
        .filter(|head| !is_of_go(&name(head)) && !absent.contains(name(head).as_str()))
        .collect();
    // Labels that a lone member of etcd has by chance of its start.
    let by_chance = ["etcd_server_client_requests_total"];
    let missing: Vec<_> =
        missing.into_iter().filter(|head| !by_chance.contains(&name(head).as_str())).collect();
    assert!(missing.is_empty(), "{missing:#?}");
    let known = |name: &str| families().any(|family| family.name == name);
    assert!(ours.iter().all(|head| known(&name(head))));
    let counters = families().filter(|family| family.kind == Type::Counter).count();
    assert!(30 < counters);
}
