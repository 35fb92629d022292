//! `/livez` and `/readyz`, as etcd has them from 3.5.11 on.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use glass_etcd::{
    clock,
    pb::etcdserverpb::{AlarmRequest, AlarmType, alarm_request::AlarmAction},
};

use super::{Alone, Answer, SOON, alone, ask, wait_for};
use crate::{
    client::Client,
    ports,
    programs::{Kind, left_out},
};

const TEXT: &str = "text/plain; charset=utf-8";

fn get(port: u16, path: &str) -> Answer {
    ask(port, &format!("GET {path}"), "").unwrap_or_else(|| panic!("no answer to {path}"))
}

/// Checks status and body, and the headers that all answers of probes have.
fn is(port: u16, path: &str, status: &str, body: &str) {
    let answer = get(port, path);
    assert_eq!((answer.status.as_str(), answer.body.as_str()), (status, body), "{path}");
    assert_eq!(answer.header("content-type"), Some(TEXT), "{path}");
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
}

/// The value of a metric, by its name and labels.
fn metric(port: u16, name: &str) -> Option<String> {
    let text = get(port, "/metrics").body;
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(' ')?.to_owned()))
}

fn is_etcd_351() -> bool {
    let is_etcd = Kind::subject() != Kind::Glass;
    if is_etcd {
        left_out("/livez and /readyz: etcd 3.5.1 does not have them");
    }
    is_etcd
}

/// Goal: paths, parameters, bodies and metrics are those of etcd. Method: a lone member, all forms
/// of both paths; then with the alarm CORRUPT.
#[tokio::test]
async fn probes_report_each_check_and_fail_with_one() {
    if is_etcd_351() {
        return;
    }
    let (dir, flags) = alone();
    let port = ports::free();
    let url = format!("http://127.0.0.1:{port}");
    let flags = format!("{flags} --listen-client-urls {url} --advertise-client-urls {url}");
    let _member = Alone::start(Kind::Glass.command(), dir.path(), &flags);
    wait_for("a member that serves", || ask(port, "GET /livez", "").is_some());

    let all = "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n\
               [+]non_learner ok\n";
    is(port, "/livez", "200", "ok\n");
    is(port, "/livez?verbose", "200", "[+]serializable_read ok\nok\n");
    is(port, "/livez/serializable_read", "200", "ok\n");
    is(port, "/readyz", "200", "ok\n");
    is(port, "/readyz?verbose=false", "200", &format!("{all}ok\n"));
    is(port, "/readyz/non_learner?verbose", "200", "[+]non_learner ok\nok\n");
    let some = "/readyz?exclude=linearizable_read&verbose&exclude=data%5Fcorruption&exclude=bogus";
    is(port, some, "200", "[+]serializable_read ok\n[+]non_learner ok\nok\n");
    is(port, "/livez?exclude=serializable_read&verbose", "200", "ok\n");
    is(port, "/livez/linearizable_read", "404", "404 page not found\n");
    is(port, "/readyz/", "404", "404 page not found\n");
    let refused = ask(port, "POST /readyz", "").unwrap();
    assert_eq!((refused.status.as_str(), refused.header("allow")), ("405", Some("GET")));

    let raise = AlarmRequest {
        action: AlarmAction::Activate as i32,
        member_id: 1,
        alarm: AlarmType::Corrupt as i32,
    };
    Client::new(port).maintenance.alarm(raise).await.unwrap();
    let corrupt = "[-]data_corruption failed: alarm activated: CORRUPT\n";
    is(port, "/readyz/data_corruption", "503", &format!("{corrupt}\n"));
    let rest = all.strip_prefix("[+]data_corruption ok\n").unwrap();
    is(port, "/readyz", "503", &format!("{corrupt}{rest}\n"));
    is(port, "/readyz?exclude=data_corruption", "200", "ok\n");
    is(port, "/livez", "200", "ok\n");

    let of = |name: &str, labels: &str| metric(port, &format!("etcd_server_{name}{{{labels}}}"));
    let corrupt = "name=\"data_corruption\",type=\"readyz\"";
    assert_eq!(of("healthcheck", corrupt).as_deref(), Some("0"));
    assert_eq!(
        of("healthcheck", "name=\"serializable_read\",type=\"livez\"").as_deref(),
        Some("1")
    );
    let failed = "name=\"data_corruption\",status=\"error\",type=\"readyz\"";
    assert_eq!(of("healthchecks_total", failed).as_deref(), Some("2"));
    is(port, "/health", "503", "{\"health\":\"false\",\"reason\":\"ALARM CORRUPT\"}\n");
    assert_eq!(metric(port, "etcd_server_health_failures").as_deref(), Some("1"));
}

/// Goal: without a quorum a member is alive and not ready, and its metrics port says so, while
/// clients wait. Method: one of three members alone, with a metrics port.
#[test]
fn without_a_quorum_a_member_is_alive_and_not_ready() {
    let (dir, flags) = alone();
    let [client, metrics] = [ports::free(), ports::free()];
    let url = format!("http://127.0.0.1:{client}");
    let others: Vec<_> =
        (1..3).map(|at| format!("m{at}=http://127.0.0.1:{}", ports::free())).collect();
    let flags = format!(
        "{flags},{} --listen-client-urls {url} --advertise-client-urls {url} \
         --listen-metrics-urls http://127.0.0.1:{metrics}",
        others.join(",")
    );
    let _member = Alone::start(Kind::subject().command(), dir.path(), &flags);
    wait_for("an answer for probes", || ask(metrics, "GET /health", "").is_some());
    is(metrics, "/health", "503", "{\"health\":\"false\",\"reason\":\"RAFT NO LEADER\"}\n");
    // A client's request waits until the member is ready.
    let waiting = std::thread::spawn(move || ask(client, "GET /version", ""));
    if !is_etcd_351() {
        is(metrics, "/livez", "200", "ok\n");
        let local = get(metrics, "/health?serializable=true");
        assert_eq!(local.body, "{\"health\":\"true\",\"reason\":\"\"}");
        let late = "[-]linearizable_read failed: etcdserver: request timed out\n\n";
        is(metrics, "/readyz/linearizable_read", "503", late);
        is(metrics, "/readyz?exclude=linearizable_read", "200", "ok\n");
    }
    assert!(!waiting.is_finished(), "clients are served without a quorum");
}

/// Goal: connections that do nothing at the metrics port do not hold up a probe. Method: more of
/// them than there are places, which send nothing, or have had an answer and stay.
#[test]
fn idle_connections_at_the_metrics_port_hold_up_no_probe() {
    let (dir, flags) = alone();
    let [client, metrics] = [ports::free(), ports::free()];
    let url = format!("http://127.0.0.1:{client}");
    let flags = format!(
        "{flags} --listen-client-urls {url} --advertise-client-urls {url} \
         --listen-metrics-urls http://127.0.0.1:{metrics}"
    );
    let _member = Alone::start(Kind::subject().command(), dir.path(), &flags);
    wait_for("a member that serves", || ask(client, "GET /health", "").is_some());
    for have_asked in [true, false] {
        let idle: Vec<TcpStream> = (0..20)
            .map(|_| {
                let mut stream = TcpStream::connect(("127.0.0.1", metrics)).unwrap();
                stream.set_read_timeout(Some(SOON)).unwrap();
                if have_asked {
                    stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
                    assert_ne!(stream.read(&mut [0; 1000]).unwrap(), 0);
                }
                stream
            })
            .collect();
        let start = clock::now();
        assert_eq!(get(metrics, "/health").status, "200");
        let took = start.elapsed();
        assert!(took < Duration::from_secs(15), "{took:?} behind {} connections", idle.len());
    }
}
