//! The HTTP paths of the client port, as `curl` sees them.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::Value;

use super::normal::minor;
use crate::{client::eventually, cluster::Cluster};

/// Goal: a client that polls a member over HTTP sees no difference from etcd. Method: compare
/// status line, content type and body of the same requests to each member of both clusters.
pub(super) async fn answers_as_etcd_does(subject: &Cluster, reference: &Cluster) {
    for at in 0..subject.members.len() {
        for (verb, path) in [("GET", "/health"), ("POST", "/health"), ("GET", "/no/such/path")] {
            let ours = ask(subject, at, verb, path);
            assert_eq!(ours, ask(reference, at, verb, path), "{verb} {path} on m{at}");
        }
        // The cluster version is decided some seconds after the start.
        let [ours, theirs] = [version(subject, at).await, version(reference, at).await];
        assert_eq!(ours, theirs, "GET /version on m{at}");
    }
}

async fn version(cluster: &Cluster, at: usize) -> (String, Vec<(String, String)>) {
    eventually("a cluster version", Duration::from_secs(20), || async move {
        let (head, body) = ask(cluster, at, "GET", "/version");
        let Ok(Value::Object(fields)) = serde_json::from_str(&body) else {
            return Err(format!("not an object: {body}"));
        };
        if fields.get("etcdcluster").and_then(Value::as_str) != Some("3.5.0") {
            return Err(body);
        }
        let text = |value: &Value| minor(value.as_str().unwrap_or_default());
        Ok((head, fields.iter().map(|(name, value)| (name.clone(), text(value))).collect()))
    })
    .await
}

/// The value of one of a member's metrics.
pub(crate) fn metric(cluster: &Cluster, at: usize, name: &str) -> Option<u64> {
    let (_, body) = ask(cluster, at, "GET", "/metrics");
    let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<f64>().ok();
    // Whole numbers, which etcd writes with an exponent when they are large.
    body.lines().find_map(value).map(|value| value as u64)
}

/// Status and content type, and the body.
fn ask(cluster: &Cluster, at: usize, verb: &str, path: &str) -> (String, String) {
    let address = cluster.members[at].client_address();
    let mut stream = TcpStream::connect(&address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let close = "Connection: close\r\nContent-Length: 0\r\n\r\n";
    write!(stream, "{verb} {path} HTTP/1.1\r\nHost: {address}\r\n{close}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default().split(' ').nth(1).unwrap_or_default();
    let kind = lines
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-type"))
        .map_or("none", |(_, kind)| kind);
    let body = if head.to_lowercase().contains("transfer-encoding: chunked") {
        unchunk(body)
    } else {
        body.to_owned()
    };
    (format!("{status} {kind}"), body)
}

fn unchunk(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a chunk begins with its size");
        text.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
        if size == 0 {
            break;
        }
    }
    text
}
