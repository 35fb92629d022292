//! Clients that take as many file descriptors as they can get.

use std::time::Duration;

use glass_etcd::member::descriptors;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, task::JoinSet};

use crate::{
    client::{Client, eventually},
    cluster::Cluster,
    programs::Kind,
};

/// `ulimit -n` of each member: far more than files and peers take, but less than the clients want.
const LIMIT: &str = "ulimit -n 256; exec \"$0\" \"$@\"";
/// Idle clients of each member.
const IDLE: usize = 300;
/// Short segments, so that the puts fill several.
const SHORT: &[(&str, &str)] = &[("FAILPOINTS", "wal-segment-bytes=return(200000)")];
/// HTTP/2's preface, and empty SETTINGS.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Goal: idle clients do not bring a cluster down. Method: more of them at each of three members
/// than it may have descriptors, while earlier clients fill several segments of the log. All
/// members must continue, log once that clients have to wait, and serve them when others leave.
#[tokio::test]
async fn idle_clients_take_no_descriptor_that_the_log_or_a_peer_needs() {
    descriptors::raise();
    let kind = Kind::subject();
    let mut cluster = Cluster::prepare(&kind, 3);
    for at in 0..3 {
        cluster.set_env(at, SHORT);
        cluster.members[at].prefix = ["sh", "-c", LIMIT].map(str::to_owned).to_vec();
        cluster.spawn(at);
    }
    cluster.wait_all_ready().await;
    let mut before: Vec<Client> = (0..3).map(|at| cluster.client(at)).collect();
    for client in &mut before {
        client.put("before", "x").await.unwrap();
    }
    let mut idle = JoinSet::new();
    for _ in 0..IDLE {
        for at in 0..3 {
            idle.spawn(say_hello(cluster.members[at].client_address()));
        }
    }
    if kind == Kind::Glass {
        for at in 0..3 {
            said(&cluster, at, "all file descriptors for clients are in use").await;
        }
    }
    fill_segments(&mut before).await;
    for at in 0..3 {
        assert_eq!(cluster.exited(at), None, "member {at}");
    }
    idle.shutdown().await;
    for at in 0..3 {
        let mut late = cluster.client(at);
        eventually("a client that came late is served", Duration::from_secs(30), || {
            let mut late = late.clone();
            async move { late.put("late", "x").await.map_err(|status| status.to_string()) }
        })
        .await;
        assert_eq!(late.everything(false).await.unwrap().kvs.len(), 12);
        if kind != Kind::Glass {
            continue;
        }
        said(&cluster, at, "clients are accepted again").await;
        let log = cluster.log(at);
        for line in ["all file descriptors for clients are in use", "clients are accepted again"] {
            assert_eq!(log.matches(line).count(), 1, "{line}\n{log}");
        }
        let segments = std::fs::read_dir(cluster.members[at].data_dir.join("member/wal")).unwrap();
        assert!(3 < segments.count(), "the puts have filled too little");
    }
}

/// Puts 2 MB through each member.
async fn fill_segments(clients: &mut [Client]) {
    let value = "v".repeat(100_000);
    for number in 0..20 {
        for client in &mut *clients {
            client.put(&format!("fill/{}", number % 10), &value).await.unwrap();
        }
    }
}

/// Keeps its connection until it is aborted.
async fn say_hello(address: String) {
    // A client that finds no room is equivalent: it waits in the kernel's queue.
    if let Ok(mut stream) = TcpStream::connect(address).await {
        let _ = stream.write_all(HELLO).await;
        std::future::pending::<()>().await;
    }
}

async fn said(cluster: &Cluster, at: usize, what: &str) {
    eventually(what, Duration::from_secs(30), || async {
        if cluster.log(at).contains(what) { Ok(()) } else { Err(format!("not member {at}")) }
    })
    .await;
}
