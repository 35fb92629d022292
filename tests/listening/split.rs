//! `--listen-client-http-urls` and `--listen-metrics-urls`.

use tonic::transport::Endpoint;

use super::{Alone, SOON, alone, ask, wait_for};
use crate::{
    client::Client,
    ports,
    programs::{Kind, left_out},
};

/// Whether a port serves gRPC.
async fn has_grpc(port: u16) -> bool {
    let url = format!("http://127.0.0.1:{port}");
    let reached = Endpoint::from_shared(url).unwrap().connect_timeout(SOON).connect().await;
    reached.is_ok() && Client::new(port).status().await.is_ok()
}

fn status(port: u16, path: &str) -> Option<String> {
    ask(port, &format!("GET {path}"), "").map(|answer| answer.status)
}

/// Goal: each port serves what its flag says and nothing else. Method: one member with a port for
/// each flag, and every path at each of them.
#[tokio::test]
async fn grpc_http_and_metrics_are_served_apart() {
    if Kind::subject() != Kind::Glass {
        left_out("--listen-client-http-urls: etcd 3.5.1 does not have it");
        return;
    }
    let (dir, flags) = alone();
    let [grpc, http, metrics] = [ports::free(), ports::free(), ports::free()];
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let flags = format!(
        "{flags} --listen-client-urls {0} --advertise-client-urls {0} \
         --listen-client-http-urls {1} --listen-metrics-urls {2}",
        url(grpc),
        url(http),
        url(metrics)
    );
    let _member = Alone::start(Kind::Glass.command(), dir.path(), &flags);
    wait_for("a member that serves", || status(http, "/version").is_some());

    for path in ["/health", "/livez", "/readyz", "/metrics"] {
        assert_eq!(status(http, path).as_deref(), Some("200"), "{path}");
        assert_eq!(status(metrics, path).as_deref(), Some("200"), "{path}");
        assert_eq!(status(grpc, path), None, "{path}");
    }
    assert_eq!(status(http, "/version").as_deref(), Some("200"));
    assert_eq!(status(metrics, "/version").as_deref(), Some("404"));
    assert_eq!(status(grpc, "/version"), None);
    assert!(has_grpc(grpc).await);
    assert!(!has_grpc(http).await);
    assert!(!has_grpc(metrics).await);
}

/// Goal: a start error names address, flag and cause. Method: a metrics port that is in use, and
/// one port for two flags.
#[test]
fn a_start_error_names_address_flag_and_cause() {
    let (dir, flags) = alone();
    let [client, taken] = [ports::free(), ports::free()];
    let _other = std::net::TcpListener::bind(("127.0.0.1", taken)).unwrap();
    let url = format!("http://127.0.0.1:{client}");
    let flags = format!("{flags} --listen-client-urls {url} --advertise-client-urls {url}");
    let metrics = format!("{flags} --listen-metrics-urls http://127.0.0.1:{taken}");
    let mut member = Alone::start(Kind::subject().command(), dir.path(), &metrics);
    assert!(!member.ended().success());
    let log = member.log();
    assert!(log.contains(&format!("127.0.0.1:{taken}")), "{log}");
    assert!(log.to_lowercase().contains("address already in use"), "{log}");
    if Kind::subject() != Kind::Glass {
        return;
    }
    assert!(log.contains("--listen-metrics-urls"), "{log}");
    let same = format!("{flags} --listen-client-http-urls {url}");
    let mut member = Alone::start(Kind::Glass.command(), dir.path(), &same);
    assert_eq!(member.ended().code(), Some(1));
    assert!(member.log().contains("cannot bind both"), "{}", member.log());
}
