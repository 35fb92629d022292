//! Clients that vanish without closing, or never send a request.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use crate::{cluster::Cluster, programs::Kind};

const OFTEN: &[(&str, &str)] =
    &[("ETCD_GRPC_KEEPALIVE_INTERVAL", "1s"), ("ETCD_GRPC_KEEPALIVE_TIMEOUT", "1s")];
/// HTTP/2's preface, and empty SETTINGS.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// The type of a PING frame.
const PING: u8 = 6;

/// Goal: a client that vanished without closing its connection does not hold it for ever. Method:
/// send the preface and nothing more; the member must ping, and hang up when it gets no answer.
#[tokio::test]
async fn a_client_that_does_not_answer_pings_is_hung_up_on() {
    let cluster = Cluster::start_with(&Kind::subject(), 1, OFTEN).await;
    let address = cluster.members[0].client_address();
    let heard = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        // Longer than both times of the flags, and shorter than the defaults.
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        stream.write_all(HELLO).unwrap();
        let mut heard = Vec::new();
        loop {
            let mut head = [0; 9];
            if stream.read_exact(&mut head).is_err_and(|error| is_end(&error)) {
                return heard;
            }
            heard.push(head[3]);
            let mut rest = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            stream.read_exact(&mut rest).unwrap();
        }
    });
    let heard = heard.await.unwrap();
    assert!(heard.contains(&PING), "{heard:?}");
}

/// A read timeout is not the end of the stream.
fn is_end(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionReset, UnexpectedEof};
    assert!(matches!(error.kind(), ConnectionReset | UnexpectedEof), "{error}");
    true
}
