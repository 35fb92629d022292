//! CORS: `--cors`, `OPTIONS`, and the headers of every answer.

use super::{Alone, Answer, alone, ask, wait_for};
use crate::{
    ports,
    programs::{self, Kind, left_out},
};

const ORIGIN: &str = "Origin: http://a.example:8080\r\n";
const OTHER: &str = "Origin: http://b.example:8080\r\n";

/// Starts a member with additional flags, and returns its answers to a list of requests.
fn answers(kind: &Kind, more: &str) -> Vec<Answer> {
    let (dir, flags) = alone();
    let [client, metrics] = [ports::free(), ports::free()];
    let flags = format!(
        "{flags} --listen-client-urls http://127.0.0.1:{client} \
         --advertise-client-urls http://127.0.0.1:{client} \
         --listen-metrics-urls http://127.0.0.1:{metrics} {more}"
    );
    let _member = Alone::start(kind.command(), dir.path(), &flags);
    wait_for("a member that serves", || ask(client, "GET /version", "").is_some());
    let mut answers = Vec::new();
    for request in [
        "OPTIONS /version",
        "OPTIONS /health",
        "OPTIONS /no/such/path",
        "GET /health",
        "POST /health",
        "POST /version",
        "HEAD /version",
        "GET /no/such/path",
        "OPTIONS /metrics",
    ] {
        for headers in ["", ORIGIN, OTHER] {
            answers.push(ask(client, request, headers).expect(request));
        }
    }
    for request in ["OPTIONS /health", "GET /health", "GET /version"] {
        answers.push(ask(metrics, request, ORIGIN).expect(request));
    }
    answers
}

/// Goal: browsers get the same headers as from etcd. Method: the same requests to both, with every
/// origin allowed and with a list; status, all headers and bodies are compared.
#[test]
fn other_origins_get_the_headers_that_etcd_sends() {
    let Some(reference) = programs::reference() else {
        left_out("CORS beside etcd 3.5.1, which is not here");
        return;
    };
    for more in ["", "--cors=http://a.example:8080,https://c.example:1"] {
        assert_eq!(answers(&Kind::subject(), more), answers(&reference, more), "{more}");
    }
}

/// Goal: a list of origins excludes all others, also on a machine without etcd. Method: one origin
/// that is on the list and one that is not.
#[test]
fn only_listed_origins_get_the_headers() {
    let answers = answers(&Kind::subject(), "--cors=http://a.example:8080");
    let allowed = |at: usize| answers[at].header("access-control-allow-origin");
    assert_eq!([allowed(0), allowed(1), allowed(2)], [None, Some("http://a.example:8080"), None]);
    assert_eq!(answers[0].status, "200");
    assert_eq!(answers[0].body, "");
}
