//! The queue of connections that the member has not accepted yet.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use nix::sys::signal::Signal;

use super::{Alone, SOON, alone, ask, wait_for};
use crate::{ports, programs::Kind};

/// Clients that connect together.
const CLIENTS: usize = 500;

/// Goal: 500 clients that connect together need no second attempt. Method: a stopped member accepts
/// nothing, so every connection needs a place in the queue. One without a place is tried again
/// after a second, which is longer than the test waits. When the member resumes, it serves all of
/// them, at the ports for clients, for metrics and for members.
#[test]
fn five_hundred_connections_find_a_place_in_the_queue() {
    let allowed = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap_or_default();
    let clients = CLIENTS.min(allowed.trim().parse().unwrap_or(128));
    let (dir, flags) = alone();
    let peer = flags.rsplit(':').next().and_then(|port| port.parse().ok()).expect("it ends so");
    let [client, metrics] = [ports::free(), ports::free()];
    let flags = format!(
        "{flags} --listen-client-urls http://127.0.0.1:{client} \
         --advertise-client-urls http://127.0.0.1:{client} \
         --listen-metrics-urls http://127.0.0.1:{metrics}"
    );
    let member = Alone::start(Kind::subject().command(), dir.path(), &flags);
    wait_for("a member that serves", || ask(client, "GET /health", "").is_some());

    for (port, path) in [(client, "/version"), (metrics, "/metrics"), (peer, "/version")] {
        member.signal(Signal::SIGSTOP);
        let address = ([127, 0, 0, 1], port).into();
        let connect = |at| {
            let within = Duration::from_millis(900);
            let stream = TcpStream::connect_timeout(&address, within);
            let mut stream =
                stream.unwrap_or_else(|error| panic!("connection {at} to {port}: {error}"));
            stream.set_read_timeout(Some(SOON)).unwrap();
            let head = "Host: x\r\nConnection: close\r\n\r\n";
            write!(stream, "GET {path} HTTP/1.1\r\n{head}").unwrap();
            stream
        };
        let waiting: Vec<TcpStream> = (0..clients).map(connect).collect();
        member.signal(Signal::SIGCONT);
        for mut stream in waiting {
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "port {port}: {answer}");
        }
    }
}
