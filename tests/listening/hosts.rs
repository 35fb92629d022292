//! `--host-whitelist`: by which names HTTP may call a member.

use std::net::TcpStream;

use super::{Alone, Answer, SOON, alone, ask, exchange_as, wait_for};
use crate::{
    ports,
    programs::{self, Kind, left_out},
};

const HOSTS: [&str; 6] = ["x", "a.example", "a.example:99", "b.example:99", "[::1]:99", ""];

/// The answers of a member with a list of names, to requests by each of these names.
fn answers(kind: &Kind) -> Vec<Answer> {
    let (dir, flags) = alone();
    let port = ports::free();
    let url = format!("http://127.0.0.1:{port}");
    let flags = format!(
        "{flags} --listen-client-urls {url} --advertise-client-urls {url} \
         --host-whitelist x,a.example,::1 --cors=http://a.example:8080"
    );
    let _member = Alone::start(kind.command(), dir.path(), &flags);
    wait_for("a member that serves", || ask(port, "GET /version", "").is_some());
    let mut answers = Vec::new();
    for request in ["GET /health", "OPTIONS /health", "POST /v3/kv/range", "GET /no/such/path"] {
        for host in HOSTS {
            let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.set_read_timeout(Some(SOON)).unwrap();
            let answer = exchange_as(stream, request, host, "Origin: http://a.example:8080\r\n");
            answers.push(answer.expect(request));
        }
    }
    answers
}

/// Goal: a page whose own name was made to lead to the member gets nothing but a refusal. Method:
/// requests by names that are on the list and by others; etcd, if it is here, answers the same.
#[test]
fn a_name_that_is_not_on_the_list_is_refused() {
    let ours = answers(&Kind::subject());
    for four in ours.chunks(HOSTS.len()) {
        let refused: Vec<bool> = four.iter().map(|answer| answer.status == "421").collect();
        assert_eq!(refused, [false, false, false, true, false, true], "{four:?}");
        assert!(four[3].body.contains("--host-whitelist \"b.example\""), "{}", four[3].body);
        assert_eq!(four[3].header("access-control-allow-origin"), None);
    }
    match programs::reference() {
        Some(reference) => assert_eq!(ours, answers(&reference)),
        None => left_out("names of hosts beside etcd 3.5.1, which is not here"),
    }
}
