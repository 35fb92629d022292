//! The binary as a user sees it: names, exit codes, one clear line, and nothing left behind.

use std::{
    fs,
    io::Read as _,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use glass_etcd::clock;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const GLASS: &str = env!("CARGO_BIN_EXE_glass");
/// Far longer than any of these steps takes, on any machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn glass(dir: &Path, args: &[&str]) -> Output {
    Command::new(GLASS).args(args).current_dir(dir).output().expect("glass runs")
}

/// Checks the exit code and the one line on standard error.
fn fails(output: &Output, code: i32, line: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    assert!(text.contains(line), "{text}");
}

/// Polls until the condition holds.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = clock::now();
    while !is_so() {
        assert!(clock::now() - start < PATIENCE, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A `glass up` that is killed if the test does not end it.
struct Up(Child);

impl Up {
    fn start(dir: &Path, procfile: &str) -> Up {
        fs::write(dir.join("Procfile"), procfile).expect("written");
        let mut command = Command::new(GLASS);
        command.args(["up", "--no-tui"]).current_dir(dir);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        Up(command.spawn().expect("glass runs"))
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.0.id()).expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("it runs");
    }

    fn end(mut self) -> (Option<i32>, String) {
        let code = self.0.wait().expect("a child").code();
        let mut text = String::new();
        self.0.stdout.take().expect("piped").read_to_string(&mut text).expect("UTF-8");
        (code, text)
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn under_the_name_etcd_it_is_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let etcd = dir.path().join("etcd");
    std::os::unix::fs::symlink(GLASS, &etcd).unwrap();
    let run = |args: &[&str]| Command::new(&etcd).args(args).output().unwrap();
    let version = run(&["--version"]);
    assert!(version.status.success());
    assert!(String::from_utf8_lossy(&version.stdout).starts_with("etcd Version: 3.5.33\n"));
    assert!(run(&["--help"]).status.success());
    fails(&run(&["--bogus"]), 2, "flag provided but not defined: -bogus");
    fails(&run(&["up"]), 1, "'up' is not a valid flag");
}

#[test]
fn a_server_that_cannot_start_says_why_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let serve = |args: &[&str]| glass(dir.path(), &[&["serve"], args].concat());
    fails(&serve(&["--heartbeat-interval"]), 2, "flag needs an argument: -heartbeat-interval");
    fails(&serve(&["--cert-file=x"]), 1, "TLS is not supported yet");
    fails(&serve(&["--log-outputs", "/does/not/exist"]), 1, "cannot open log file");
}

#[test]
fn requests_of_recordings_are_compared_and_errors_are_one_line() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = "tests/recordings/puts_and_gets.ndjson";
    let diff = |words: &[&str]| glass(root, &[&["trace", "diff"], words].concat());
    let [a, b] = ["0ae2a1fd5979a505", "0xb98ea1fd5979f40b"];
    let of_one = diff(&[a, b, file]);
    assert!(of_one.status.success() && !of_one.stdout.is_empty());
    for same in [vec![a, b, "--from", file], vec![a, b, file, file, "--plain"]] {
        assert_eq!(of_one.stdout, diff(&same).stdout);
    }
    fails(&diff(&[a, "1", file]), 1, "no step of request 0000000000000001 was captured");
    fails(&diff(&[a, "x", file]), 1, "\"x\" is not a request id");
    // The request of one recording is not in the other.
    let other = "tests/recordings/version-1.ndjson";
    fails(&diff(&[a, b, file, other]), 1, "no step of request b98ea1fd5979f40b was captured");
    assert!(diff(&[a, "0203", file, other]).status.success());
    let both = diff(&[a, b, file, "--from", file]);
    assert_eq!(Some(2), both.status.code(), "a file, and --from");
    let wrong = glass(root, &["trace", "why-slow", "--last", "5x", "--from", file]);
    let text = String::from_utf8_lossy(&wrong.stderr);
    assert_eq!(Some(2), wrong.status.code());
    assert!(text.contains("\"5x\" is not a duration: 30s, 5m, 1h30m, 500ms"), "{text}");
}

#[test]
fn without_glass_up_there_is_one_clear_line() {
    let dir = tempfile::tempdir().unwrap();
    fails(&glass(dir.path(), &["run", "status"]), 1, "glass up is not running here");
    fails(&glass(dir.path(), &["up"]), 1, "cannot read Procfile");
}

#[test]
fn what_cannot_be_played_is_one_line_with_the_cause() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = tempfile::tempdir().unwrap();
    let directory = dir.path().display().to_string();
    let recording = "tests/recordings/version-1.ndjson";
    for plain in [&["--plain"][..], &[]] {
        let play = |file: &str| glass(root, &[&["play", file], plain].concat());
        fails(&play("no/such/file"), 1, "no/such/file: No such file or directory");
        fails(&play(&directory), 1, &format!("{directory}: Is a directory"));
        fails(&play("Cargo.toml"), 1, "Cargo.toml: not a recording of `glass trace record`");
    }
    let way_out = format!("needs a terminal; `glass play {recording} --plain` prints");
    fails(&glass(root, &["play", recording]), 1, &way_out);
    fails(&glass(root, &["play"]), 1, "needs a terminal; `glass trace tail` prints");
}

#[test]
fn a_second_glass_up_says_what_shows_the_members() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("Procfile"), "a: echo x > started; sleep 600\n").unwrap();
    let up = &["up", "--no-tui"];
    let mut first = Command::new(GLASS).args(up).current_dir(dir.path()).spawn().unwrap();
    eventually("the first has started", || dir.path().join("started").exists());
    fails(&glass(dir.path(), up), 1, "members run already");
    kill(Pid::from_raw(first.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    first.wait().unwrap();
}

#[test]
fn a_port_in_use_is_one_line_and_nothing_was_started() {
    let dir = tempfile::tempdir().unwrap();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", held.local_addr().unwrap());
    let member = format!(
        "a: glass serve --listen-client-urls {url} --advertise-client-urls {url} \
         --listen-peer-urls http://127.0.0.1:0\nb: echo x > started\n"
    );
    fs::write(dir.path().join("Procfile"), member).unwrap();
    fails(&glass(dir.path(), &["up", "--no-tui"]), 1, "a: cannot listen on 127.0.0.1:");
    assert!(!dir.path().join("started").exists());
}

#[test]
fn output_has_names_in_front_and_ctrl_c_stops_everything() {
    let dir = tempfile::tempdir().unwrap();
    let script =
        "trap 'echo bye; exit' TERM; echo hello; echo > NAME.up; while true; do sleep 0.05; done";
    let lines =
        ["a", "long-name"].map(|name| format!("{name}: {}\n", script.replace("NAME", name)));
    let up = Up::start(dir.path(), &lines.concat());
    for name in ["a.up", "long-name.up"] {
        eventually("both are up", || dir.path().join(name).exists());
    }
    let status = glass(dir.path(), &["run", "status"]);
    assert_eq!(String::from_utf8_lossy(&status.stdout).matches("running").count(), 2);
    up.signal(Signal::SIGINT);
    let (code, text) = up.end();
    assert_eq!(code, Some(0));
    for line in ["a         | hello", "long-name | hello", "a         | bye", "long-name | bye"] {
        assert!(text.lines().any(|found| found == line), "{line:?} in {text}");
    }
    // The output is not a terminal, so there are no colours.
    assert!(!text.contains('\x1b'));
    assert!(!dir.path().join(".glass/up.sock").exists());
}

#[test]
fn when_glass_up_is_killed_its_children_learn_of_it() {
    let dir = tempfile::tempdir().unwrap();
    // As `glass serve` does: read standard input to its end.
    let up = Up::start(dir.path(), "a: echo > up; cat; echo > alone\n");
    eventually("it is up", || dir.path().join("up").exists());
    assert!(!dir.path().join("alone").exists());
    up.signal(Signal::SIGKILL);
    eventually("it knows", || dir.path().join("alone").exists());
    drop(up);
    // The files that the killed one left behind do not prevent the next start.
    let _ = fs::remove_file(dir.path().join("up"));
    let up = Up::start(dir.path(), "a: echo > up; cat\n");
    eventually("it is up again", || dir.path().join("up").exists());
    let status = glass(dir.path(), &["run", "stop", "a"]);
    assert!(String::from_utf8_lossy(&status.stdout).contains("stopped"));
    up.signal(Signal::SIGTERM);
    assert_eq!(up.end().0, Some(0));
}

#[test]
fn when_every_process_fails_so_does_glass_up() {
    let dir = tempfile::tempdir().unwrap();
    let (code, _) = Up::start(dir.path(), "a: sh -c 'exit 3'\n").end();
    assert_eq!(code, Some(1));
}

/// Goal: a player can end and leave its members running, and they can be found and stopped later.
/// Method: the process that stands behind a player, held by this test instead.
#[test]
fn members_that_a_player_has_left_running_run_on_until_they_are_stopped() {
    use std::io::{BufRead as _, BufReader, Write as _};
    let dir = tempfile::tempdir().unwrap();
    let member = "a: trap 'exit 0' TERM; echo > up; while true; do sleep 0.05; done\n";
    fs::write(dir.path().join("Procfile"), member).unwrap();
    let mut command = Command::new(GLASS);
    command.args(["up", "--behind-player"]).current_dir(dir.path());
    let mut behind = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(behind.stdout.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    eventually("it is up", || dir.path().join("up").exists());
    let mut socket =
        std::os::unix::net::UnixStream::connect(dir.path().join(".glass/up.sock")).unwrap();
    socket.write_all(b"{\"action\":\"release\",\"name\":null}\n").unwrap();
    let mut reply = String::new();
    BufReader::new(socket).read_line(&mut reply).unwrap();
    assert!(reply.contains("\"error\":null"), "{reply}");
    drop((behind.stdin.take(), said));
    let status = glass(dir.path(), &["run", "status"]);
    assert!(String::from_utf8_lossy(&status.stdout).contains("running"));
    let down = glass(dir.path(), &["run", "down"]);
    assert!(String::from_utf8_lossy(&down.stdout).contains("stopped"), "{down:?}");
    assert_eq!(behind.wait().unwrap().code(), Some(0));
    fails(&glass(dir.path(), &["run", "status"]), 1, "glass up is not running here");
}

/// Goal: a panic leaves the terminal as it was. Method: a failpoint where a real player draws, on a
/// pseudo-terminal of `script`.
#[test]
fn a_panic_of_the_player_gives_the_terminal_back() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let player = format!(
        "FAILPOINTS='player::draw=panic(while drawing)' {GLASS} play --mouse \
         tests/recordings/busy.ndjson; stty -a"
    );
    let script = ["-qec", &player, "/dev/null"];
    let output =
        Command::new("script").args(script).current_dir(root).stdin(Stdio::null()).output();
    let Some(output) = output.ok().filter(|output| output.status.success()) else {
        return crate::programs::left_out("a panic of the player: no `script` of util-linux");
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("while drawing"), "{text}");
    let (_, after) = text.rsplit_once("\x1b[?1049l").expect("the first screen is back");
    assert!(after.contains(" icanon") && after.contains(" echo "), "{after}");
    assert!(text.contains("\x1b[?1000l"), "the mouse is free: {text}");
}

/// Goal: a page is written only if there is something to write, and the reason is one line.
#[test]
fn a_page_of_a_story_that_is_not_there_is_refused_and_no_file_is_left() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recordings/picture.ndjson");
    for (story, why) in [
        ("1234", "no step of request 0000000000001234 was captured"),
        ("election:99", "election:99 was not captured"),
        ("foo", "\"foo\" is not a request id or a trace id"),
        ("nobody:1:1", "nobody"),
        ("etcd-01:1:1", "no record of etcd-01 has start 1 and clock 1"),
    ] {
        let words = ["trace", "export", "--html", "x.html", story, "--from", file];
        fails(&glass(dir.path(), &words), 1, why);
        assert!(!dir.path().join("x.html").exists(), "{story}");
    }
    let to_itself = glass(dir.path(), &["trace", "export", "--html", ".", "--from", file]);
    fails(&to_itself, 1, ".: ");
    let without = glass(dir.path(), &["trace", "export", "--chrome", "-", "1234", "--from", file]);
    assert_eq!(Some(2), without.status.code());
    let page = glass(dir.path(), &["trace", "export", "--html", "-", "election:3", "--from", file]);
    assert!(page.status.success() && page.stdout.starts_with(b"<!doctype html>"));
}
