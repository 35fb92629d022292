//! Listening: separate ports, socket files, probes, metrics, the log, CORS, names of hosts, the
//! queue of connections, and the service manager.
//!
//! Each test starts single members with its own flags in its own directory. If etcd 3.5.1 has the
//! feature, it runs the same test; otherwise one line says that the test is left out.

mod cors;
mod hosts;
mod log;
mod manager;
mod metrics;
mod pages;
mod probes;
mod queue;
mod split;
mod unix;

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use glass_etcd::clock;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::ports;

/// Enough for a step that takes a second or two on any machine.
const SOON: Duration = Duration::from_secs(30);

/// A member that is killed when the test ends; a failed test prints its log.
struct Alone {
    process: Child,
    log: PathBuf,
}

impl Alone {
    /// Starts it in this directory. `flags` are separated by blanks.
    fn start(mut command: Command, dir: &Path, flags: &str) -> Self {
        let log = dir.join("log");
        let file = File::options().create(true).append(true).open(&log).unwrap();
        command.args(flags.split_whitespace()).current_dir(dir);
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        Self { process: command.spawn().unwrap(), log }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process.id()).expect("process ids fit");
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Waits until it has ended.
    fn ended(&mut self) -> ExitStatus {
        let mut exit = None;
        wait_for("its end", || {
            exit = self.process.try_wait().unwrap();
            exit.is_some()
        });
        exit.expect("just seen")
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.log());
        }
    }
}

/// A directory, and the flags of a lone member with its data there; the client URLs are missing.
fn alone() -> (TempDir, String) {
    let dir = TempDir::with_prefix("glass-ports-").unwrap();
    let peer = ports::free();
    let flags = format!(
        "--name m --data-dir data --listen-peer-urls http://127.0.0.1:{peer} \
         --initial-advertise-peer-urls http://127.0.0.1:{peer} \
         --initial-cluster m=http://127.0.0.1:{peer}"
    );
    (dir, flags)
}

/// Polls until the condition holds.
fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = clock::now();
    while !is_so() {
        assert!(clock::now() - start < SOON, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// An answer over HTTP/1.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    /// The status after HTTP/1.1.
    status: String,
    /// In lower case, sorted; without those of the connection and the clock.
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

/// The answer of a port on loopback.
fn ask(port: u16, request: &str, headers: &str) -> Option<Answer> {
    let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(SOON)).unwrap();
    exchange(stream, request, headers)
}

/// The answer of a socket file.
fn ask_file(path: &Path, request: &str) -> Option<Answer> {
    let stream = UnixStream::connect(path).ok()?;
    stream.set_read_timeout(Some(SOON)).unwrap();
    exchange(stream, request, "")
}

/// Sends "GET /path" with these headers, each with its line end; `None` if no HTTP answer comes.
fn exchange(stream: impl Read + Write, request: &str, headers: &str) -> Option<Answer> {
    exchange_as(stream, request, "x", headers)
}

/// As [`exchange`], for a member that the client calls by this name.
fn exchange_as(
    mut stream: impl Read + Write,
    request: &str,
    host: &str,
    headers: &str,
) -> Option<Answer> {
    let end = "Connection: close\r\nContent-Length: 0\r\n\r\n";
    write!(stream, "{request} HTTP/1.1\r\nHost: {host}\r\n{headers}{end}").ok()?;
    let mut answer = Vec::new();
    // A connection that the member closes may end with a reset.
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.strip_prefix("HTTP/1.1 ")?.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').next()?.to_owned();
    let mut headers: Vec<_> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .filter(|(name, _)| !matches!(name.as_str(), "date" | "connection"))
        .collect();
    headers.sort();
    Some(Answer { status, headers, body: body.to_owned() })
}
