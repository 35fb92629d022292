//! The service manager: `READY=1` and `STOPPING=1` at the socket that `NOTIFY_SOCKET` names.

use std::{
    io,
    os::unix::{fs::symlink, net::UnixDatagram},
    path::Path,
    process::Command,
    time::Duration,
};

use nix::sys::signal::Signal;

use super::{Alone, SOON, alone, ask, wait_for};
use crate::{
    ports,
    programs::{Kind, left_out},
};

/// The next message, if one arrives within this time.
fn said(manager: &UnixDatagram, within: Duration) -> Option<String> {
    manager.set_read_timeout(Some(within)).unwrap();
    let mut buf = [0; 256];
    match manager.recv(&mut buf) {
        Ok(len) => Some(String::from_utf8(buf[..len].to_vec()).unwrap()),
        Err(error) => {
            assert!(matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut));
            None
        }
    }
}

fn with_clients(flags: &str) -> (u16, String) {
    let port = ports::free();
    let url = format!("http://127.0.0.1:{port}");
    (port, format!("{flags} --listen-client-urls {url} --advertise-client-urls {url}"))
}

/// Glass's binary, under the name that a unit file written for etcd uses.
fn as_etcd(dir: &Path) -> Command {
    let path = dir.join("etcd");
    symlink(env!("CARGO_BIN_EXE_glass"), &path).unwrap();
    Command::new(path)
}

/// Goal: a unit of `Type=notify` is started when the member serves, and the member announces its
/// end. Method: a manager's socket, a member under each of its names, SIGTERM. etcd sends nothing
/// at its end.
#[test]
fn a_member_notifies_the_service_manager_when_it_serves_and_when_it_ends() {
    let is_glass = Kind::subject() == Kind::Glass;
    for has_etcds_name in [false, true] {
        let (dir, flags) = alone();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let (port, flags) = with_clients(&flags);
        let mut command = match has_etcds_name && is_glass {
            true => as_etcd(dir.path()),
            false => Kind::subject().command(),
        };
        command.env("NOTIFY_SOCKET", &path);
        let mut member = Alone::start(command, dir.path(), &flags);
        assert_eq!(said(&manager, SOON).as_deref(), Some("READY=1"));
        assert_eq!(ask(port, "GET /health", "").expect("it serves").status, "200");
        member.signal(Signal::SIGTERM);
        if is_glass {
            assert_eq!(said(&manager, SOON).as_deref(), Some("STOPPING=1"));
        }
        member.ended();
        assert_eq!(said(&manager, Duration::from_millis(1)), None);
    }
}

/// Goal: a member that cannot serve yet is not reported as ready. Method: one of two members alone;
/// then the other starts.
#[test]
fn a_member_without_a_quorum_is_not_ready() {
    let (dir, flags) = alone();
    let path = dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let (port, flags) = with_clients(&flags);
    let first = flags.rsplit("m=").next().unwrap().split(' ').next().unwrap().to_owned();
    let second = format!("http://127.0.0.1:{}", ports::free());
    let both = flags.replace(&format!("m={first}"), &format!("m={first},n={second}"));
    let start = || {
        let mut command = Kind::subject().command();
        command.env("NOTIFY_SOCKET", &path);
        command
    };
    let _member = Alone::start(start(), dir.path(), &both);
    assert_eq!(said(&manager, Duration::from_secs(2)), None);

    let (_, other) = with_clients(&format!(
        "--name n --data-dir other --listen-peer-urls {second} \
         --initial-advertise-peer-urls {second} --initial-cluster m={first},n={second}"
    ));
    let _other = Alone::start(Kind::subject().command(), dir.path(), &other);
    assert_eq!(said(&manager, SOON).as_deref(), Some("READY=1"));
    assert_eq!(ask(port, "GET /health", "").expect("it serves").status, "200");
}

/// Goal: a member without a manager runs as usual. Method: the name of a missing socket; one line
/// in the log.
#[test]
fn a_dead_socket_is_one_warning() {
    if Kind::subject() != Kind::Glass {
        left_out("a dead NOTIFY_SOCKET: etcd calls it an error");
        return;
    }
    let (dir, flags) = alone();
    let (port, flags) = with_clients(&flags);
    let mut command = Kind::Glass.command();
    command.env("NOTIFY_SOCKET", dir.path().join("nobody"));
    let mut member = Alone::start(command, dir.path(), &flags);
    let serves = || ask(port, "GET /health", "").is_some_and(|answer| answer.status == "200");
    wait_for("a member that serves", serves);
    member.signal(Signal::SIGTERM);
    assert!(member.ended().success());
    let lines = member.log();
    let lines = lines.lines().filter(|line| line.contains("could not notify")).count();
    assert_eq!(lines, 1, "{}", member.log());
}

/// Goal: members do not send messages for `glass up`, because the end of one is not the end of all.
/// Method: a Procfile with a process that prints the variable.
#[test]
fn members_of_a_procfile_do_not_inherit_the_socket_of_glass_up() {
    let dir = tempfile::tempdir().unwrap();
    let procfile = "one: sh -c 'echo \"inherited:${NOTIFY_SOCKET:-nothing}\"'\n\
                    two: NOTIFY_SOCKET=own sh -c 'echo \"given:${NOTIFY_SOCKET:-nothing}\"'\n";
    std::fs::write(dir.path().join("Procfile"), procfile).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_glass"));
    command.args(["up", "--no-tui"]).current_dir(dir.path()).env("NOTIFY_SOCKET", "/run/x");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("inherited:nothing"), "{text}");
    assert!(text.contains("given:own"), "{text}");
}
