//! `unix://` URLs of clients.

use std::{fs, path::Path, process::Command};

use glass_etcd::pb::etcdserverpb::{PutRequest, kv_client::KvClient};
use nix::sys::signal::Signal;
use tonic::transport::Endpoint;

use super::{Alone, alone, ask_file, wait_for};
use crate::{
    ports,
    programs::{self, Kind, left_out},
};

fn flags(listen: &str) -> (tempfile::TempDir, String) {
    let (dir, flags) = alone();
    let flags =
        format!("{flags} --listen-client-urls {listen} --advertise-client-urls unix://localhost:1");
    (dir, flags)
}

fn is_served(path: &Path) -> bool {
    ask_file(path, "GET /version").is_some_and(|answer| answer.status == "200")
}

/// Goal: a member serves clients at a socket file, and the file is gone after the member. Method:
/// etcd's own form of such a URL, its etcdctl, a kill that leaves the file behind, a stop that does
/// not.
#[tokio::test]
async fn clients_are_served_at_a_socket_file() {
    for kind in [Some(Kind::subject()), programs::reference()].into_iter().flatten() {
        let (dir, flags) = flags("unix://localhost:1");
        let path = dir.path().join("localhost:1");
        let mut member = Alone::start(kind.command(), dir.path(), &flags);
        wait_for("a member that serves", || is_served(&path));

        let channel = Endpoint::from_shared(format!("unix://{}", path.display())).unwrap();
        let mut client = KvClient::new(channel.connect().await.unwrap());
        let put = PutRequest { key: "a".into(), value: "b".into(), ..PutRequest::default() };
        client.put(put).await.unwrap();
        for etcdctl in programs::etcdctls() {
            let run = |words: &[&str]| {
                let mut command = Command::new(&etcdctl.path);
                command.env("ETCDCTL_API", "3").current_dir(dir.path());
                let output = command.args(["--endpoints", "unix://localhost:1"]).args(words);
                String::from_utf8_lossy(&output.output().unwrap().stdout).into_owned()
            };
            assert_eq!(run(&["get", "a"]), "a\nb\n", "{}", etcdctl.version);
            assert!(run(&["member", "list"]).contains("unix://localhost:1"), "{}", etcdctl.version);
            let status = run(&["endpoint", "status"]);
            assert!(status.starts_with("unix://localhost:1, "), "{}: {status}", etcdctl.version);
        }

        member.signal(Signal::SIGKILL);
        member.ended();
        assert!(path.exists(), "a killed process removes nothing");
        let mut member = Alone::start(kind.command(), dir.path(), &flags);
        wait_for("the same after a kill", || is_served(&path));
        member.signal(Signal::SIGTERM);
        member.ended();
        assert!(!path.exists(), "{kind:?}");
    }
}

/// Goal: a start removes neither the socket of a running member nor another kind of file. Method: a
/// second member at the path of a first, and one at the path of a file. etcd removes both.
#[test]
fn a_start_removes_nothing_that_is_in_use() {
    if Kind::subject() != Kind::Glass {
        left_out("socket files in use: etcd removes them");
        return;
    }
    let (dir, flags) = alone();
    let path = dir.path().join("s");
    let at = |file: &str| {
        let url = format!("unix://{}", dir.path().join(file).display());
        format!("{flags} --listen-client-urls {url} --advertise-client-urls http://localhost:1")
    };
    let _member = Alone::start(Kind::Glass.command(), dir.path(), &at("s"));
    wait_for("a member that serves", || is_served(&path));

    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    let peer = format!("http://127.0.0.1:{}", ports::free());
    let elsewhere = |file: &str| {
        format!(
            "{} --listen-peer-urls {peer} --initial-advertise-peer-urls {peer} \
             --initial-cluster m={peer}",
            at(file)
        )
    };
    let mut second = Alone::start(Kind::Glass.command(), &other, &elsewhere("s"));
    assert!(!second.ended().success());
    let log = second.log();
    assert!(log.contains(&format!("cannot listen on unix://{}", path.display())), "{log}");
    assert!(log.contains("Address already in use"), "{log}");
    assert!(is_served(&path));

    fs::write(dir.path().join("file"), "precious").unwrap();
    let mut third = Alone::start(Kind::Glass.command(), &other, &elsewhere("file"));
    assert!(!third.ended().success());
    assert!(third.log().contains("it is not a socket"), "{}", third.log());
    assert_eq!(fs::read_to_string(dir.path().join("file")).unwrap(), "precious");
}
