//! The JSON gateway: every path, with requests that succeed and requests that do not, beside etcd
//! 3.5.1; and the records of a request that came through it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

use glass_etcd::{
    field,
    story::{Event, query},
    trace::Stage,
};

use crate::{
    cluster::Cluster,
    programs::{self, Kind, left_out},
    traces::listen::Listener,
};

/// Fields whose value is specific to a cluster, or to the version of its file.
const OWN: [&str; 16] = [
    "cluster_id",
    "member_id",
    "raft_term",
    "raftTerm",
    "raftIndex",
    "raftAppliedIndex",
    "dbSize",
    "dbSizeInUse",
    "leader",
    "hash",
    "ID",
    "lease",
    "key",
    "peerURLs",
    "clientURLs",
    "remaining_bytes",
];

/// A request to the gateway.
#[derive(Clone, Copy)]
struct Ask {
    verb: &'static str,
    path: &'static str,
    headers: &'static str,
    body: &'static str,
    /// After how many lines of an answer that does not end the client hangs up.
    lines: usize,
}

const fn post(path: &'static str, body: &'static str) -> Ask {
    Ask { verb: "POST", path, headers: "", body, lines: usize::MAX }
}

impl Ask {
    const fn with(self, headers: &'static str) -> Ask {
        Ask { headers, ..self }
    }

    const fn verb(self, verb: &'static str) -> Ask {
        Ask { verb, ..self }
    }

    const fn lines(self, lines: usize) -> Ask {
        Ask { lines, ..self }
    }

    /// The status, the headers that say something, and the body.
    fn answer(self, cluster: &Cluster) -> String {
        let address = cluster.members[0].client_address();
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let Ask { verb, path, headers, body, .. } = self;
        let length = body.len();
        write!(
            stream,
            "{verb} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
             Content-Length: {length}\r\n{headers}\r\n{body}"
        )
        .unwrap();
        let mut answer = BufReader::new(stream);
        let (mut head, mut line) = (Vec::new(), String::new());
        while answer.read_line(&mut line).unwrap() != 0 && line != "\r\n" {
            head.push(line.trim_end().to_owned());
            line.clear();
        }
        let is_chunked =
            head.iter().any(|line| line.eq_ignore_ascii_case("transfer-encoding: chunked"));
        let body = match is_chunked {
            true => chunks(&mut answer, self.lines),
            false => {
                let mut body = String::new();
                answer.read_to_string(&mut body).unwrap();
                body
            }
        };
        format!("{}\n{body}", told_head(&head, is_chunked))
    }
}

/// What of the head has to agree.
fn told_head(head: &[String], is_chunked: bool) -> String {
    let names =
        ["content-type", "grpc-metadata-content-type", "x-content-type-options", "location"];
    let mut told: Vec<String> = head[1..]
        .iter()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| format!("{}: {value}", name.to_ascii_lowercase()))
        .filter(|line| names.iter().any(|name| line.starts_with(name)))
        .collect();
    told.sort();
    let status = head[0].splitn(3, ' ').nth(1).unwrap_or_default();
    format!("{status} {told:?} chunked={is_chunked}")
}

/// The body of an answer in chunks, up to this number of lines.
fn chunks(answer: &mut impl BufRead, lines: usize) -> String {
    let mut body = Vec::new();
    while body.iter().filter(|byte| **byte == b'\n').count() < lines {
        let mut size = String::new();
        answer.read_line(&mut size).unwrap();
        let size = usize::from_str_radix(size.trim(), 16).expect("a chunk begins with its size");
        let mut chunk = vec![0; size + 2];
        answer.read_exact(&mut chunk).unwrap();
        body.extend(&chunk[..size]);
        if size == 0 {
            break;
        }
    }
    String::from_utf8(body).unwrap()
}

/// The answer without what is the cluster's own: values of such fields are replaced.
fn masked(answer: &str) -> String {
    let mut text = answer.to_owned();
    for name in OWN {
        let start = format!("\"{name}\":");
        let mut at = 0;
        while let Some(found) = text[at..].find(&start) {
            at += found + start.len();
            let value = &text[at..];
            let end = match value.as_bytes()[0] {
                b'"' => value[1..].find('"').unwrap() + 2,
                b'[' => value.find(']').unwrap() + 1,
                b'{' => 0,
                _ => value.find([',', '}']).unwrap(),
            };
            let is_kept = name == "key" && end < 20;
            if !is_kept && 0 < end {
                text.replace_range(at..at + end, "#");
            }
        }
    }
    text
}

/// Requests whose answers agree with those of etcd 3.5.1, in this order.
const ASKS: &[Ask] = &[
    post("/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy"}"#),
    post("/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy","prevKv":true}"#),
    post("/v3/kv/range", r#"{"key":"Zm9v"}"#),
    post("/v3/kv/range", r#"{"key":"Zm9v","rangeEnd":"Zm9w","count_only":true}"#),
    post("/v3beta/kv/range", r#"{"key":"Zm9v"}"#),
    post("/v3/kv/range", r#"{"key":"Zm9v"}"#).with("Content-Type: application/json\r\n"),
    post("/v3/kv/range", r#"{"key":"Zm9v"} trailing"#),
    post("/v3/kv/range", ""),
    post(
        "/v3/kv/range",
        r#"{"key":"Zm9v","limit":"1","nope":[1,{"a":null}],"sort_order":"DESCEND"}"#,
    ),
    post("/v3/kv/range", r#"{"key":[102,111,111],"range_end":null,"limit":"null"}"#),
    post("/v3/kv/range", r#"{"key":"Zm9v","key":"YQ=="}"#),
    // What is wrong with JSON, in Go's words.
    post("/v3/kv/range", r#"{"key":"Zm9v""#),
    post("/v3/kv/range", "{x}"),
    post("/v3/kv/range", r#"{"a":tru}"#),
    post("/v3/kv/range", r#"{"a":"\x"}"#),
    post("/v3/kv/range", "[]"),
    post("/v3/kv/range", "\u{e9}"),
    post("/v3/kv/range", r#"{"key":"Zm9"}"#),
    post("/v3/kv/range", r#"{"key":"Zm9v=","limit":true}"#),
    post("/v3/kv/range", r#"{"key":"_-_-"}"#),
    post("/v3/kv/range", r#"{"key":5}"#),
    post("/v3/kv/range", r#"{"key":[300]}"#),
    post("/v3/kv/range", r#"{"key":{"a":1}}"#),
    post("/v3/kv/range", r#"{"limit":1.5}"#),
    post("/v3/kv/range", r#"{"limit":"x"}"#),
    post("/v3/kv/range", r#"{"limit":""}"#),
    post("/v3/kv/range", r#"{"limit":"5x"}"#),
    post("/v3/kv/range", r#"{"limit":"-"}"#),
    post("/v3/kv/range", r#"{"limit":99999999999999999999}"#),
    post("/v3/kv/range", r#"{"sort_order":"no\"pe"}"#),
    post("/v3/kv/range", r#"{"sort_order":1.5}"#),
    post("/v3/kv/range", r#"{"serializable":"true"}"#),
    post("/v3/kv/txn", r#"{"success":{}}"#),
    // Paths and verbs.
    post("/v3/nothing", "{}"),
    post("/v3/kv/range/", "{}"),
    post("/v3/", "{}"),
    post("/v3alpha/kv/range", "{}"),
    post("/v3", "").verb("GET"),
    post("/v3", "{}"),
    post("/v3/kv/range", "{}").verb("PUT"),
    post("/v3/kv/range", "").verb("GET"),
    post("/v3/nothing", "").verb("GET"),
    post("/v3/kv/range", "").verb("OPTIONS"),
    // Headers.
    post("/v3/kv/range", r#"{"key":"Zm9v"}"#).with("Grpc-Timeout: 5x\r\n"),
    post("/v3/kv/range", r#"{"key":"Zm9v"}"#).with("Grpc-Timeout: -1S\r\n"),
    post("/v3/kv/range", r#"{"key":"Zm9v"}"#).with("Grpc-Timeout: 9S\r\n"),
    post("/v3/kv/range", r#"{"key":"Zm9v"}"#).with("Grpc-Metadata-hasleader: true\r\n"),
    // The rest of KV.
    post(
        "/v3/kv/txn",
        r#"{"compare":[{"target":"VERSION","key":"Zm9v","version":"2"},
                       {"key":"Zm9v","target":3,"result":"NOT_EQUAL","value":""}],
            "success":[{"requestRange":{"key":"Zm9v"}},{"request_put":{"key":"YQ==","value":"YQ=="}},
                       {"request_txn":{"success":[{"request_delete_range":{"key":"Yg=="}},
                                                  {"request_range":{"key":"AA==","range_end":"AA=="}}]}}]}"#,
    ),
    post("/v3/kv/txn", r#"{"compare":[{"key":"Zm9v","version":"7"}],"failure":null}"#),
    post("/v3/kv/txn", r#"{"success":[null]}"#),
    post(
        "/v3/kv/txn",
        r#"{"success":[{"request_put":{"key":"YQ=="},"requestRange":{"key":"YQ=="}}]}"#,
    ),
    post("/v3/kv/deleterange", r#"{"key":"YQ==","prev_kv":true}"#),
    post("/v3/kv/compaction", r#"{"revision":"100"}"#),
    post("/v3/kv/compaction", r#"{"revision":"2","physical":true}"#),
    post("/v3/kv/range", r#"{"key":"Zm9v","revision":"1"}"#),
    // Watch: created, past events, an end; and mistakes.
    post("/v3/watch", r#"{"create_request":{"key":"Zm9v","start_revision":"3","prev_kv":true}}"#)
        .lines(2),
    post(
        "/v3/watch",
        r#"{"create_request":{"key":"Zm9v","filters":[0,"NOPUT"]}}{"cancelRequest":{}}"#,
    )
    .lines(2),
    post("/v3/watch", r#"{"create_request":{"key":"Zm9v","start_revision":1}}"#).lines(2),
    post("/v3/watch", r#"{"create_request":5}"#),
    post("/v3/watch", "{bad"),
    // Leases.
    post("/v3/lease/grant", r#"{"TTL":"1000","ID":"77"}"#),
    post("/v3/lease/grant", r#"{"TTL":"1000","ID":77}"#),
    post("/v3/lease/grant", r#"{"ttl":"5","ID":78}"#),
    post("/v3/lease/keepalive", r#"{"ID":"77"} {"ID":79}"#),
    post("/v3/lease/keepalive", ""),
    post("/v3/kv/put", r#"{"key":"bA==","lease":77}"#),
    post("/v3/lease/timetolive", r#"{"ID":79,"keys":true}"#),
    post("/v3/kv/lease/timetolive", r#"{"ID":79}"#),
    post("/v3/lease/revoke", r#"{"ID":78}"#),
    post("/v3/lease/leases", ""),
    post("/v3/kv/lease/leases", "{}"),
    post("/v3/lease/revoke", r#"{"ID":"77"}"#),
    post("/v3/kv/lease/revoke", r#"{"ID":77}"#),
    // Cluster and maintenance.
    post("/v3/cluster/member/list", "{}"),
    post("/v3/cluster/member/add", r#"{"peerURLs":["x"]}"#),
    post("/v3/cluster/member/update", r#"{"ID":"1","peerURLs":["http://127.0.0.1:1"]}"#),
    post("/v3/cluster/member/promote", r#"{"ID":"1"}"#),
    post("/v3/maintenance/hash", ""),
    post("/v3/maintenance/transfer-leadership", r#"{"targetID":"1"}"#),
    post("/v3/maintenance/alarm", r#"{"action":"ACTIVATE","memberID":"1","alarm":"NOSPACE"}"#),
    post("/v3/maintenance/alarm", "{}"),
    post("/health", "").verb("GET"),
    post("/health?exclude=NOSPACE", "").verb("GET"),
    post("/health?exclude=CORRUPT&serializable=true", "").verb("GET"),
    post("/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy"}"#),
    post("/v3/maintenance/alarm", r#"{"action":2,"memberID":"1","alarm":1}"#),
    post("/health?serializable=true", "").verb("GET"),
    // Not right after the other change of a member: etcd drops a change while one is not applied.
    post("/v3/cluster/member/remove", r#"{"ID":"1"}"#),
    // Locks and elections.
    post("/v3/lock/lock", r#"{"name":"bG9jaw=="}"#),
    post("/v3/lock/lock", r#"{"name":"bG9jaw=="}"#).with("Grpc-Timeout: 300m\r\n"),
    post("/v3/lock/unlock", r#"{"key":"bm9uZQ=="}"#),
    post("/v3/election/leader", r#"{"name":"YQ=="}"#),
    post("/v3/election/campaign", r#"{"name":"YQ==","lease":"1"}"#),
    post("/v3/election/campaign", r#"{"name":"YQ==","value":"dg=="}"#),
    post("/v3/election/observe", r#"{"name":"YQ=="}"#).lines(1),
    post("/v3/election/proclaim", r#"{"leader":{"name":"YQ==","key":"eA==","rev":"1"}}"#),
    post("/v3/election/resign", r#"{"leader":{"name":"YQ==","key":"eA==","rev":"1"}}"#),
    post("/v3/election/observe", "{\"name\":5}"),
    // The rest of the port.
    post("/", "").verb("GET"),
    post("/config/local/log", "{\"Level\":\"DEBUG\"}").verb("PUT"),
    post("/health", "").verb("HEAD"),
    post("/version", ""),
];

/// Goal: a client of the gateway sees no difference from etcd. Method: the same requests to a
/// member of each, every path among them; status, headers and bodies are compared, except for what
/// is a cluster's own. Then the records of one request: it was decoded before its rpc, and its
/// answer encoded after it.
#[tokio::test]
async fn a_client_of_the_gateway_gets_the_answers_of_etcd() {
    let subject = Cluster::start(&Kind::subject(), 1).await;
    let ours: Vec<_> = ASKS.iter().map(|ask| masked(&ask.answer(&subject))).collect();
    match programs::reference() {
        None => left_out("the JSON gateway beside etcd 3.5.1, which is not here"),
        Some(reference) => {
            let reference = Cluster::start(&reference, 1).await;
            let mut differ = Vec::new();
            for (ask, ours) in ASKS.iter().zip(&ours) {
                let theirs = masked(&ask.answer(&reference));
                if *ours != theirs {
                    let Ask { verb, path, body, .. } = ask;
                    differ.push(format!("{verb} {path} {body}\n- {ours}\n+ {theirs}"));
                }
            }
            assert!(differ.is_empty(), "{}", differ.join("\n\n"));
        }
    }
    if Kind::subject() == Kind::Glass {
        differs_on_purpose(&subject);
        is_recorded(&subject).await;
    }
}

/// Answers that are not those of etcd 3.5.1: methods that this version does not have, and what
/// later releases of etcd answer.
fn differs_on_purpose(cluster: &Cluster) {
    let unserved = post("/v3/auth/user/add", r#"{"name":"a"}"#).answer(cluster);
    let text = "unknown service etcdserverpb.Auth";
    let body = format!("{{\"error\":\"{text}\",\"code\":12,\"message\":\"{text}\"}}");
    assert!(unserved.starts_with("501 ") && unserved.ends_with(&body), "{unserved}");
    let hash = masked(&post("/v3/maintenance/hashkv", "{}").answer(cluster));
    assert!(hash.starts_with("200 ") && hash.contains(r#""hash":#"#), "{hash}");
    let status = masked(&post("/v3/maintenance/status", "").answer(cluster));
    assert!(status.contains(r#""dbSize":#,"leader":#,"raftIndex":#,"raftTerm":#,"#), "{status}");
    // etcd 3.5.1 sorts by an order that it does not know.
    let order = post("/v3/kv/range", r#"{"key":"Zm9v","sort_order":9}"#).answer(cluster);
    assert!(order.contains("etcdserver: invalid sort option"), "{order}");
    let snapshot = post("/v3/maintenance/snapshot", "").answer(cluster);
    let lines: Vec<_> = snapshot.lines().skip(1).collect();
    let is_part = |line: &&str| line.starts_with("{\"result\":{") && line.contains("\"blob\":\"");
    assert!(!lines.is_empty() && lines.iter().all(is_part), "{} lines", lines.len());
    let form = post("/v3/kv/range", "{\"limit\":\"x\"}").with("Content-Type: text/plain\r\n");
    assert!(form.answer(cluster).starts_with("400 "));
}

async fn is_recorded(cluster: &Cluster) {
    let listener = Listener::start(cluster).await;
    let body = r#"{"key":"Z2xhc3M=","value":"Z2xhc3M="}"#;
    let sampled = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";
    assert!(post("/v3/kv/put", body).with(sampled).answer(cluster).starts_with("200 "));
    let [decoded, rpc, encoded] = listener
        .until("the records of a put through the gateway", |recording| {
            let last = |stage, id| {
                let is_it = |event: &&Event| event.stage == stage && (id == 0 || event.id == id);
                recording.events.iter().rfind(is_it).ok_or(format!("no {stage:?}"))
            };
            let encoded = last(Stage::GatewayEncode, 0)?;
            let [decoded, rpc] = [Stage::GatewayDecode, Stage::Rpc].map(|s| last(s, encoded.id));
            Ok([decoded?.clone(), rpc?.clone(), encoded.clone()])
        })
        .await;
    let requests = query::requests(&listener.recording());
    let put = requests.iter().find(|request| request.id == rpc.id).expect("it is in the list");
    assert_eq!((put.method, put.is_over_http), ("KV/Put", true));
    assert!(
        decoded.clock_end < rpc.clock && rpc.clock_end < encoded.clock,
        "{decoded:?} {rpc:?} {encoded:?}"
    );
    assert_eq!(field!(decoded, GatewayDecode, json), body.len() as u64);
    assert_eq!(field!(decoded, GatewayDecode, message), field!(rpc, Rpc, bytes_in));
    assert_eq!(field!(encoded, GatewayEncode, message), field!(rpc, Rpc, bytes_out));
}
