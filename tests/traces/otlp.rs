//! Live export from members to an OpenTelemetry collector; the test acts as the collector, on a
//! real socket.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use glass_etcd::pb::{
    etcdserverpb::{LeaseGrantRequest, PutRequest},
    otlp::{ExportTraceServiceRequest, Span, any_value::Value, span::Link},
};
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{
    client::eventually,
    cluster::Cluster,
    locks::Locks,
    programs::{Kind, left_out},
};

/// How long spans may take to arrive: they are held for a second, and a collector may be down.
const HEARD_WITHIN: Duration = Duration::from_secs(30);
/// The trace and the span of a caller, in a `traceparent`.
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: &[u8] = &0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes();

/// A span's trace id and span id.
type SpanIds = (Bytes, Bytes);

/// The requests that a collector has received.
#[derive(Default)]
pub(super) struct Got {
    /// How many requests are still to be answered with 503.
    refusals: usize,
    paths: HashSet<String>,
    pub(super) raw: Vec<u8>,
    /// Spans with the member that sent them.
    pub(super) spans: HashMap<SpanIds, (Span, String)>,
    twice: usize,
}

/// A collector; ends when it is dropped.
pub(super) struct Collector {
    pub(super) url: String,
    got: Arc<Mutex<Got>>,
    _tasks: JoinSet<()>,
}

impl Collector {
    /// Answers the first `refusals` requests as a busy collector does.
    pub(super) async fn start(refusals: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let got = Arc::new(Mutex::new(Got { refusals, ..Got::default() }));
        let mut tasks = JoinSet::new();
        let shared = Arc::clone(&got);
        tasks.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let got = Arc::clone(&shared);
                let take = service_fn(move |request| take(Arc::clone(&got), request));
                let server = hyper::server::conn::http1::Builder::new();
                tokio::spawn(server.serve_connection(TokioIo::new(stream), take));
            }
        });
        Self { url, got, _tasks: tasks }
    }

    /// Waits until `look` accepts what was received.
    pub(super) async fn until<T>(&self, what: &str, look: impl Fn(&Got) -> Result<T, String>) -> T {
        eventually(what, HEARD_WITHIN, || async { look(&self.got.lock().unwrap()) }).await
    }
}

async fn take(
    got: Arc<Mutex<Got>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let mut got = got.lock().unwrap();
    got.paths.insert(path);
    if 0 < got.refusals {
        got.refusals -= 1;
        let busy = Response::builder().status(503).header("retry-after", "0");
        return Ok(busy.body(Full::default()).unwrap());
    }
    got.raw.extend(&body);
    for portion in ExportTraceServiceRequest::decode(body).unwrap().resource_spans {
        let name = text(&portion.resource.unwrap().attributes, "etcd.member.name").unwrap();
        for span in portion.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let place = (span.trace_id.clone(), span.span_id.clone());
            let known = got.spans.insert(place, (span, name.clone()));
            got.twice += usize::from(known.is_some());
        }
    }
    Ok(Response::new(Full::default()))
}

fn text(attributes: &[glass_etcd::pb::otlp::KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.clone()?.value? {
        Value::StringValue(text) => Some(text),
        other => panic!("{key} is {other:?}"),
    }
}

fn holds(bytes: &[u8], part: &str) -> bool {
    bytes.windows(part.len()).any(|at| at == part.as_bytes())
}

/// A put by a caller with a trace of its own. Returns the `traceresponse`.
async fn traced_put(cluster: &Cluster, at: usize, key: &str, value: &str) -> String {
    let (key, value) = (key.to_owned().into(), value.to_owned().into());
    let mut request = tonic::Request::new(PutRequest { key, value, ..PutRequest::default() });
    request.metadata_mut().insert("traceparent", PARENT.parse().unwrap());
    let response = cluster.client(at).kv.put(request).await.unwrap();
    let told = response.metadata().get("traceresponse").expect("the caller's trace is known");
    told.to_str().unwrap().to_owned()
}

/// The answer to a GET, with its head.
async fn get(cluster: &Cluster, at: usize, path: &str) -> String {
    let mut stream = TcpStream::connect(cluster.members[at].client_address()).await.unwrap();
    let question = format!("GET {path} HTTP/1.1\r\nHost: glass\r\nConnection: close\r\n\r\n");
    stream.write_all(question.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// The value of a metric at `/metrics`.
async fn metric(cluster: &Cluster, at: usize, name: &str) -> u64 {
    let answer = get(cluster, at, "/metrics").await;
    let found = answer.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    found.unwrap_or_else(|| panic!("no {name} in {answer}")).parse().unwrap()
}

/// What precedes and follows an rpc: like the rpc, children of the caller's span.
const EDGE: [&str; 4] = ["socket.queue", "rpc.receive", "rpc.queue", "answer.flush"];

/// Checks that each span's parent was received, or that it has none, and that the targets of its
/// links were received.
fn hangs_together(got: &Got, spans: &[&Span]) -> Result<(), String> {
    for span in spans {
        let parent = (span.trace_id.clone(), span.parent_span_id.clone());
        let is_first = span.name.starts_with("etcdserverpb.") || EDGE.contains(&span.name.as_str());
        let is_callers = is_first && span.trace_id == TRACE;
        if !parent.1.is_empty() && !is_callers && !got.spans.contains_key(&parent) {
            return Err(format!("the parent of {} is missing", span.name));
        }
        for link in &span.links {
            if !got.spans.contains_key(&(link.trace_id.clone(), link.span_id.clone())) {
                return Err(format!("{} points to what is missing", span.name));
            }
        }
    }
    Ok(())
}

/// Checks that the end of a lease, proposed by a member itself, was received, and that all spans of
/// requests are connected.
fn all_hangs_together(got: &Got) -> Result<(), String> {
    let all = || got.spans.values().map(|(span, _)| span);
    let ends = all().filter(|span| span.name == "lease.revoke").count();
    if ends != 3 {
        return Err(format!("the end of the lease on {ends} members"));
    }
    let of_request = |span: &&Span| text(&span.attributes, "etcd.request.id").is_some();
    hangs_together(got, &all().filter(of_request).collect::<Vec<_>>())
}

/// Checks that the spans of one put are connected, on all members.
fn put_is_whole(got: &Got) -> Result<(), String> {
    let rpc =
        |(span, _): &&(Span, String)| span.name == "etcdserverpb.KV/Put" && span.trace_id == TRACE;
    let (rpc, asked) = got.spans.values().find(rpc).ok_or("no rpc in the caller's trace")?;
    let link = rpc.links.first().ok_or("the rpc points nowhere")?;
    let of_request: Vec<&(Span, String)> = (got.spans.values())
        .filter(|(span, _)| span.trace_id == TRACE || span.trace_id == link.trace_id)
        .collect();
    let of = |name: &str| -> Vec<&(Span, String)> {
        of_request.iter().filter(|(span, _)| span.name == name).copied().collect()
    };
    let (entries, applied) = (of("raft.entry"), of("apply.entry"));
    if (entries.len(), applied.len()) != (3, 3) {
        return Err(format!("{} entries, {} applied", entries.len(), applied.len()));
    }
    for (span, member) in &applied {
        if (span.trace_id == TRACE) != (member == asked) {
            return Err(format!("{member} exports into the wrong trace"));
        }
    }
    let points = |(span, member): &&(Span, String), to: &str| {
        span.links.iter().any(|link| {
            let place = (link.trace_id.clone(), link.span_id.clone());
            got.spans.get(&place).is_some_and(|(span, of)| span.name == to && of == member)
        })
    };
    if !entries.iter().all(|entry| points(entry, "wal.fsync") && points(entry, "raft.commit")) {
        return Err("an entry without its fsync or its commit".to_owned());
    }
    if !applied.iter().all(|applied| points(applied, "backend.commit")) {
        return Err("an entry without its transaction".to_owned());
    }
    let spans: Vec<&Span> = of_request.iter().map(|(span, _)| span).collect();
    hangs_together(got, &spans)?;
    let all: Vec<&Span> = got.spans.values().map(|(span, _)| span).collect();
    let receive = all.iter().any(|span| span.name == "raft.receive");
    if receive { Ok(()) } else { Err("no message has arrived".to_owned()) }
}

fn number(attributes: &[glass_etcd::pb::otlp::KeyValue], key: &str) -> Option<i64> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.clone()?.value? {
        Value::IntValue(number) => Some(number),
        other => panic!("{key} is {other:?}"),
    }
}

/// Checks that a span names the ends of a connection to this port of loopback.
fn names_its_connection(span: &Span, port: u16) {
    let of = |key| text(&span.attributes, key);
    let loopback = Some("127.0.0.1".to_owned());
    assert_eq!([&loopback; 2], [&of("server.address"), &of("network.peer.address")], "{span:?}");
    assert_eq!(Some(i64::from(port)), number(&span.attributes, "server.port"));
    let from = number(&span.attributes, "network.peer.port").unwrap();
    assert!(0 < from && from != i64::from(port), "{span:?}");
}

/// Goal: each check of a probe is a route of its own, with the attributes of an HTTP server.
async fn a_check_of_a_probe_is_exported(cluster: &Cluster, at: usize, collector: &Collector) {
    let path = "/readyz/linearizable_read";
    assert_eq!("ok\n", get(cluster, at, path).await.rsplit_once("\r\n\r\n").unwrap().1);
    let look = |got: &Got| {
        let is_meant = |(span, _): &&(Span, String)| span.name == format!("GET {path}");
        got.spans.values().find(is_meant).map(|(span, _)| span.clone()).ok_or("none".to_owned())
    };
    let span = collector.until("the probe", look).await;
    for (key, value) in [
        ("http.request.method", "GET"),
        ("http.route", path),
        ("url.path", path),
        ("url.scheme", "http"),
        ("client.address", "127.0.0.1"),
    ] {
        assert_eq!(Some(value.to_owned()), text(&span.attributes, key), "{key}");
    }
    assert_eq!(Some(200), number(&span.attributes, "http.response.status_code"));
    assert_eq!((2, None), (span.kind, span.status.as_ref().map(|status| status.code)));
    names_its_connection(&span, cluster.members[at].client_port);
}

/// Goal: the grant that a lock call makes for itself is a request of its own, whose proposal links
/// to the step of the call that made it.
async fn a_lock_and_the_grant_of_its_lease_are_joined(
    cluster: &Cluster,
    at: usize,
    collector: &Collector,
) {
    Locks::of(cluster, at).lock("otlp/lock", 0).await.unwrap();
    let look = |got: &Got| {
        let all = || got.spans.values().map(|(span, _)| span);
        let grant = all().find(|span| span.name == "session.grant").ok_or("no grant")?;
        let request = text(&grant.attributes, "etcd.request").expect("it names its request");
        let of_request = |span: &&Span| {
            span.name == "raft.propose"
                && text(&span.attributes, "etcd.request.id").as_ref() == Some(&request)
        };
        let propose = all().find(of_request).ok_or("no proposal of the grant")?;
        let to = |link: &Link| (link.trace_id.clone(), link.span_id.clone());
        let place = (grant.trace_id.clone(), grant.span_id.clone());
        let link = propose.links.iter().find(|link| to(link) == place).ok_or("not joined")?;
        Ok((text(&link.attributes, "glass.link"), propose.trace_id != grant.trace_id))
    };
    let joined = collector.until("the grant of a lock's lease", look).await;
    assert_eq!((Some("request".to_owned()), true), joined);
}

/// Goal: three members that export separately produce one trace of a put, the caller's own, even if
/// the collector is busy at first; no value is exported. Method: a put on a follower, by a caller
/// with a `traceparent`; the collector refuses five times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_export_one_put_into_the_trace_of_its_caller() {
    if Kind::subject() != Kind::Glass {
        left_out("export to a collector: etcd leaves no traces");
        return;
    }
    let collector = Collector::start(5).await;
    let env = [("ETCD_TRACE_OTLP", collector.url.as_str())];
    let cluster = Cluster::start_with(&Kind::Glass, 3, &env).await;
    let follower = (cluster.leader().await + 1) % 3;
    let value = "what-nobody-may-read";
    let told = traced_put(&cluster, follower, "otlp/told", value).await;
    collector.until("the put on all members", put_is_whole).await;
    let lease = LeaseGrantRequest { ttl: 1, id: 0 };
    cluster.client(follower).lease.lease_grant(lease).await.unwrap();
    collector.until("whole requests, and the end of a lease", all_hangs_together).await;
    {
        let got = collector.got.lock().unwrap();
        assert_eq!(HashSet::from(["/v1/traces".to_owned()]), got.paths);
        assert_eq!(0, got.refusals, "it was never busy");
        assert!(holds(&got.raw, "otlp/told") && !holds(&got.raw, value));
        let named = |(span, _): &&(Span, String)| {
            let hex: String = span.span_id.iter().map(|byte| format!("{byte:02x}")).collect();
            span.trace_id == TRACE && told == format!("{}-{hex}-01", &PARENT[..35])
        };
        let (rpc, _) = got.spans.values().find(named).expect("the span of the answer");
        let parent = 0xb7ad_6b71_6920_3331_u64.to_be_bytes();
        assert_eq!(("etcdserverpb.KV/Put", 2), (rpc.name.as_str(), rpc.kind));
        names_its_connection(rpc, cluster.members[follower].client_port);
        assert_eq!((parent.as_slice(), 0x301), (rpc.parent_span_id.as_ref(), rpc.flags));
        assert_eq!(0, got.twice, "a span was sent again though it had been taken");
    }
    a_check_of_a_probe_is_exported(&cluster, follower, &collector).await;
    a_lock_and_the_grant_of_its_lease_are_joined(&cluster, follower, &collector).await;
    let mut sums = [0; 2];
    for at in 0..3 {
        for (sum, name) in sums.iter_mut().zip(["failures", "spans_exported"]) {
            *sum += metric(&cluster, at, &format!("glass_otlp_{name}_total")).await;
        }
    }
    assert!(5 <= sums[0] && 0 < sums[1], "{sums:?}");
    let mut client = cluster.client(follower);
    let request = PutRequest { key: "k".into(), ..PutRequest::default() };
    let mut refused = tonic::Request::new(PutRequest::default());
    refused.metadata_mut().insert("traceparent", PARENT.parse().unwrap());
    let status = client.kv.put(refused).await.unwrap_err();
    assert!(status.metadata().get("traceresponse").is_some(), "{status:?}");
    let untraced = client.kv.put(request).await.unwrap();
    assert!(untraced.metadata().get("traceresponse").is_none(), "the client sent no traceparent");
}

/// Goal: a collector that never answers costs the clients nothing: puts continue, and spans that do
/// not fit are dropped and counted. Method: a socket that accepts and sends nothing; puts that are
/// all kept, until spans are dropped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_collector_blocks_no_client() {
    if Kind::subject() != Kind::Glass {
        left_out("export to a collector: etcd leaves no traces");
        return;
    }
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let accept = tokio::spawn(async move {
        let mut streams = Vec::new();
        loop {
            streams.push(silent.accept().await.unwrap());
        }
    });
    let env = [("ETCD_TRACE_OTLP", url.as_str()), ("ETCD_UNSAFE_NO_FSYNC", "true")];
    let cluster = Arc::new(Cluster::start_with(&Kind::Glass, 1, &env).await);
    let mut writers = JoinSet::new();
    for writer in 0..16 {
        let cluster = Arc::clone(&cluster);
        writers.spawn(async move {
            loop {
                traced_put(&cluster, 0, &format!("otlp/{writer}"), "v").await;
            }
        });
    }
    let dropped = "glass_otlp_spans_dropped_total";
    eventually("spans are dropped", HEARD_WITHIN * 2, || async {
        let dropped = metric(&cluster, 0, dropped).await;
        if 0 < dropped { Ok(()) } else { Err("none so far".to_owned()) }
    })
    .await;
    assert_eq!(0, metric(&cluster, 0, "glass_otlp_spans_exported_total").await);
    assert_eq!(None, writers.try_join_next().map(|ended| ended.is_err()), "a put has failed");
    writers.shutdown().await;
    traced_put(&cluster, 0, "otlp/last", "v").await;
    accept.abort();
}

/// Goal: with `--trace-redact-keys` no key is exported. Method: search what a collector has
/// received.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_are_redacted_are_not_exported() {
    if Kind::subject() != Kind::Glass {
        left_out("export to a collector: etcd leaves no traces");
        return;
    }
    let collector = Collector::start(0).await;
    let env = [("ETCD_TRACE_OTLP", collector.url.as_str()), ("ETCD_TRACE_REDACT_KEYS", "true")];
    let cluster = Cluster::start_with(&Kind::Glass, 1, &env).await;
    traced_put(&cluster, 0, "a-key-that-nobody-may-see", "a-value-that-nobody-may-see").await;
    let look = |got: &Got| {
        let is_put = |(span, _): &&(Span, String)| span.name == "etcdserverpb.KV/Put";
        let (rpc, _) = got.spans.values().find(is_put).ok_or("no put")?;
        let lengths = rpc.attributes.iter().find(|pair| pair.key == "etcd.key.length");
        lengths.and_then(|pair| pair.value.clone()?.value).ok_or("no length".to_owned())
    };
    let length = collector.until("the put", look).await;
    assert_eq!(Value::IntValue(25), length);
    let got = collector.got.lock().unwrap();
    assert!(!holds(&got.raw, "nobody-may-see") && !holds(&got.raw, "a-key-"));
}

/// Goal: a URL at which nobody listens is in the log within two seconds, before there is anything
/// to export, and the member serves. Method: the port of a listener that is closed again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_collector_is_in_the_log_at_once_and_stops_nothing() {
    if Kind::subject() != Kind::Glass {
        left_out("export to a collector: etcd leaves no traces");
        return;
    }
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = format!("http://{closed}");
    let env = [("ETCD_TRACE_OTLP", url.as_str())];
    let cluster = Cluster::start_with(&Kind::Glass, 1, &env).await;
    let lines = |part: &str| -> Vec<String> {
        let log = cluster.log(0);
        log.lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
    };
    let complaint = "the collector cannot be reached, or refuses spans";
    eventually("a line about the collector", HEARD_WITHIN, || async {
        if lines(complaint).is_empty() { Err(cluster.log(0)) } else { Ok(()) }
    })
    .await;
    let time = |line: &str| -> f64 {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let (_, seconds) = line["ts"].as_str().unwrap().rsplit_once(':').unwrap();
        seconds.trim_end_matches('Z').parse().unwrap()
    };
    let [begun] = &lines("kept requests are exported")[..] else { panic!("{}", cluster.log(0)) };
    let waited = (time(&lines(complaint)[0]) - time(begun)).rem_euclid(60.0);
    assert!(waited < 2.0, "{waited} s\n{}", cluster.log(0));
    cluster.client(0).put("otlp/dead", "v").await.unwrap();
    assert_eq!(1, lines(complaint).len(), "said once");
}
