//! The log: a reader that stops reading it, and the lines about slow requests.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use glass_etcd::pb::etcdserverpb::{AlarmRequest, AlarmType, alarm_request::AlarmAction};

use super::{Alone, SOON, alone, ask, wait_for};
use crate::{client::Client, ports, programs::Kind};

/// More lines than the pipe and the queue of lines can take.
const LINES: usize = 3000;

fn started(flags: &str, stderr: Stdio) -> (std::process::Child, u16, tempfile::TempDir) {
    let (dir, alone) = alone();
    let port = ports::free();
    let url = format!("http://127.0.0.1:{port}");
    let all = format!("{alone} --listen-client-urls {url} --advertise-client-urls {url} {flags}");
    let mut command: Command = Kind::Glass.command();
    command.args(all.split_whitespace()).current_dir(dir.path());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
    let child = command.spawn().unwrap();
    wait_for("a member that serves", || {
        ask(port, "GET /readyz", "").is_some_and(|answer| answer.status == "200")
    });
    (child, port, dir)
}

/// Goal: a reader of the log that stops reading holds up no request; the lines that it misses are
/// counted. Method: the log goes into a pipe that nobody reads, and each failing /health is a line.
#[tokio::test]
async fn a_stalled_reader_of_the_log_holds_up_no_request() {
    let (mut child, port, _dir) = started("", Stdio::piped());
    let mut client = Client::new(port);
    let alarm = |action: AlarmAction| AlarmRequest {
        action: action as i32,
        member_id: 1,
        alarm: AlarmType::Nospace as i32,
    };
    client.maintenance.alarm(alarm(AlarmAction::Activate)).await.unwrap();
    let failing = tokio::task::spawn_blocking(move || {
        for _ in 0..LINES {
            let answer = ask(port, "GET /health?serializable=true", "").expect("it answers");
            assert_eq!(answer.status, "503");
        }
    });
    failing.await.unwrap();
    client.maintenance.alarm(alarm(AlarmAction::Deactivate)).await.unwrap();
    client.put("a", "1").await.unwrap();
    let page = ask(port, "GET /metrics", "").unwrap().body;
    let dropped = page.lines().find_map(|line| line.strip_prefix("glass_log_lines_dropped_total "));
    let dropped: f64 = dropped.expect("it is counted").parse().unwrap();
    // A reader that comes back is told.
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let told = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("were dropped")));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(0.0 < dropped, "{dropped}");
    assert!(told.is_some());
}

/// Goal: requests that take long are logged in etcd's words, with the id of their trace and the
/// command that shows it. Method: everything takes longer than a nanosecond.
#[tokio::test]
async fn slow_requests_are_logged_with_the_command_that_shows_their_trace() {
    let (dir, flags) = alone();
    let port = ports::free();
    let url = format!("http://127.0.0.1:{port}");
    let flags = format!(
        "{flags} --listen-client-urls {url} --advertise-client-urls {url} \
         --experimental-warning-apply-duration=1ns --warning-unary-request-duration=1ns"
    );
    let member = Alone::start(Kind::Glass.command(), dir.path(), &flags);
    wait_for("a member that serves", || {
        ask(port, "GET /readyz", "").is_some_and(|answer| answer.status == "200")
    });
    // The lines of a second are few, and the start has made some.
    let mut client = Client::new(port);
    let deadline = glass_etcd::clock::now() + SOON;
    let slow = loop {
        client.put("slow\nkey", "secret").await.unwrap();
        client.everything(false).await.unwrap();
        let log = member.log();
        let of = |text: &str, has: &str| {
            log.lines().find(|line| line.contains(text) && line.contains(has)).map(str::to_owned)
        };
        let apply = "\"msg\":\"apply request took too long\"";
        let found = [
            of(apply, "slow\\\\nkey"),
            of(apply, "\"prefix\":\"read-only range \""),
            of("\"msg\":\"request stats\"", "/etcdserverpb.KV/Put"),
        ];
        if let [Some(put), Some(range), Some(stats)] = found {
            break [put, range, stats];
        }
        assert!(glass_etcd::clock::now() < deadline, "{log}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    for line in slow {
        let id = line.split("\"trace-id\":\"").nth(1).expect("an id").split('"').next().unwrap();
        assert_eq!(id.len(), 16, "{line}");
        assert!(line.contains(&format!("\"show\":\"glass trace show {id}\"")), "{line}");
        assert!(line.starts_with("{\"level\":\"warn\",\"ts\":\"") && !line.contains("secret"));
    }
    assert!(member.log().contains("now serving peer/client/metrics"));
    assert!(member.log().contains("elected leader"));
}
