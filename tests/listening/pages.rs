//! A page in a browser must not reach gRPC with requests that need no CORS. It can reach the JSON
//! gateway, as in etcd, unless that is turned off.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use glass_etcd::pb::etcdserverpb::PutRequest;
use prost::Message as _;

use super::{Alone, SOON, alone, ask, wait_for};
use crate::{client::Client, ports, programs::Kind};

/// Goal: HTTP/1.1 never reaches a gRPC service, regardless of the content type that it declares:
/// any page can send a form or plain text across origins (CVE-2018-1098). Method: a put, framed as
/// gRPC frames it.
#[tokio::test]
async fn a_put_over_http_1_is_not_carried_out() {
    let (dir, flags) = alone();
    let port = ports::free();
    let url = format!("http://127.0.0.1:{port}");
    let flags = format!("{flags} --listen-client-urls {url} --advertise-client-urls {url}");
    let _member = Alone::start(Kind::subject().command(), dir.path(), &flags);
    wait_for("a member that serves", || ask(port, "GET /version", "").is_some());
    let put = PutRequest { key: "k".into(), value: "v".into(), ..PutRequest::default() };
    let put = put.encode_to_vec();
    let mut body = vec![0];
    body.extend(u32::try_from(put.len()).unwrap().to_be_bytes());
    body.extend(put);
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/grpc", ""] {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let content =
            if kind.is_empty() { String::new() } else { format!("Content-Type: {kind}\r\n") };
        let head = format!(
            "POST /etcdserverpb.KV/Put HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{content}\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), &body].concat()).unwrap();
        let mut answer = Vec::new();
        // The member may close before it has read everything.
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 404"), "{kind}: {answer}");
    }
    let state = Client::new(port).everything(false).await.unwrap();
    assert_eq!(state.count, 0, "the put was applied");
}
