//! Small shell programs under supervision, over the API and over the socket.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use glass_etcd::clock;

use super::{
    api::{Action, Command, Process, State},
    *,
};

/// Runs until SIGTERM, and then writes to a file.
const POLITE: &str = "trap 'echo bye >> NAME.out; exit 0' TERM; echo up >> NAME.out; \
                      while true; do sleep 0.05; done";
/// As [`POLITE`], without starting a program after "up". A shell that has called vfork stops for
/// SIGSTOP only once its child runs a program, and never if the child is stopped before that.
const CALM: &str = "trap 'echo bye >> NAME.out; exit 0' TERM; mkfifo NAME.pipe; \
                    exec 3<> NAME.pipe; echo up >> NAME.out; while true; do read -r line <&3; done";
/// Runs until it is killed.
const STUBBORN: &str = "trap '' TERM; echo up >> NAME.out; while true; do sleep 0.05; done";
/// Far longer than any of these steps takes, on any machine.
const PATIENCE: Duration = Duration::from_secs(30);

struct Cluster {
    dir: tempfile::TempDir,
    options: Options,
}

impl Cluster {
    fn of(processes: &[(&str, &str)]) -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        let procfile = dir.path().join("Procfile");
        let lines: Vec<_> = processes
            .iter()
            .map(|(name, script)| format!("{name}: {}", script.replace("NAME", name)))
            .collect();
        fs::write(&procfile, lines.join("\n")).unwrap();
        let options = Options {
            procfile,
            data_dir: None,
            fresh: false,
            output: Output::Files,
            late: Vec::new(),
        };
        Cluster { dir, options }
    }

    fn start(&self) -> Up {
        start(&self.options).unwrap()
    }

    fn base(&self) -> PathBuf {
        self.dir.path().join(".glass")
    }

    fn said(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(format!("{name}.out"))).unwrap_or_default()
    }

    /// Waits until a process has set its traps.
    fn wait_until_said(&self, name: &str, text: &str) {
        eventually(&format!("{name} says {text:?}"), || self.said(name) == text);
    }
}

/// Polls until the condition holds.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = clock::now();
    while !is_so() {
        assert!(clock::now() - start < PATIENCE, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn command(action: Action, name: &str) -> Command {
    Command { action, name: (!name.is_empty()).then(|| name.to_owned()), peer: None }
}

fn only(reply: Reply) -> Process {
    assert_eq!(reply.error, None);
    let [process] = <[Process; 1]>::try_from(reply.processes).expect("one process");
    process
}

fn is_alive(pid: u32) -> bool {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    nix::sys::signal::kill(pid, None).is_ok()
}

/// The state letter of the process: `T` while it is frozen.
fn letter(pid: u32) -> String {
    let output =
        std::process::Command::new("ps").args(["-o", "state=", "-p", &pid.to_string()]).output();
    String::from_utf8(output.unwrap().stdout).unwrap().trim().chars().take(1).collect()
}

#[test]
fn processes_start_stop_and_start_again() {
    let cluster = Cluster::of(&[("a", POLITE), ("b", POLITE)]);
    let up = cluster.start();
    cluster.wait_until_said("a", "up\n");
    let before = only(up.command(command(Action::Status, "a")));
    assert_eq!(before.state, State::Running);
    let stopped = only(up.command(command(Action::Stop, "a")));
    assert_eq!((stopped.state, stopped.pid), (State::Stopped, None));
    assert_eq!(cluster.said("a"), "up\nbye\n");
    assert_eq!(only(up.command(command(Action::Status, "b"))).state, State::Running);
    let again = only(up.command(command(Action::Start, "a")));
    assert_eq!(again.state, State::Running);
    assert_ne!(again.pid, before.pid);
    cluster.wait_until_said("a", "up\nbye\nup\n");
    cluster.wait_until_said("b", "up\n");
    up.handle().shutdown();
    assert_eq!(up.wait().unwrap(), Outcome::default());
    assert_eq!(cluster.said("b"), "up\nbye\n");
}

#[test]
fn a_restart_is_another_process() {
    let cluster = Cluster::of(&[("a", POLITE)]);
    let up = cluster.start();
    cluster.wait_until_said("a", "up\n");
    let before = only(up.command(command(Action::Status, "a")));
    let after = only(up.command(command(Action::Restart, "a")));
    assert_eq!(after.state, State::Running);
    assert_ne!(after.pid, before.pid);
    assert_eq!(cluster.said("a").lines().nth(1), Some("bye"));
}

#[test]
fn a_process_that_ignores_sigterm_is_killed_after_five_seconds() {
    let cluster = Cluster::of(&[("a", STUBBORN)]);
    let up = cluster.start();
    cluster.wait_until_said("a", "up\n");
    let start = clock::now();
    assert_eq!(only(up.command(command(Action::Stop, "a"))).state, State::Stopped);
    assert!(clock::now() - start >= Duration::from_secs(5));
}

#[test]
fn a_kill_is_a_kill() {
    let cluster = Cluster::of(&[("a", POLITE)]);
    let up = cluster.start();
    cluster.wait_until_said("a", "up\n");
    assert_eq!(only(up.command(command(Action::Kill, "a"))).state, State::Killed);
    assert_eq!(cluster.said("a"), "up\n", "it had no time to say anything");
}

#[test]
fn a_paused_process_holds_still_and_can_still_be_stopped() {
    let cluster = Cluster::of(&[("a", CALM)]);
    let up = cluster.start();
    cluster.wait_until_said("a", "up\n");
    let paused = only(up.command(command(Action::Pause, "a")));
    assert_eq!(paused.state, State::Paused);
    let pid = paused.pid.unwrap();
    eventually("it holds still", || letter(pid) == "T");
    assert_eq!(only(up.command(command(Action::Resume, "a"))).state, State::Running);
    eventually("it runs again", || letter(pid) != "T");
    up.command(command(Action::Pause, "a"));
    assert_eq!(only(up.command(command(Action::Stop, "a"))).state, State::Stopped);
    assert_eq!(cluster.said("a"), "up\nbye\n", "it was woken to end in good order");
}

#[test]
fn an_impossible_action_is_refused_for_one_process_and_skipped_for_all() {
    let cluster = Cluster::of(&[("a", POLITE), ("b", POLITE)]);
    let up = cluster.start();
    let error = |action, name: &str| up.command(command(action, name)).error.unwrap();
    assert_eq!(error(Action::Stop, "x"), "no process x; there are a, b");
    assert_eq!(error(Action::Start, "a"), "a has already started (running)");
    up.command(command(Action::Stop, "a"));
    assert_eq!(error(Action::Pause, "a"), "a is not running (stopped)");
    let all = up.command(command(Action::Start, ""));
    assert_eq!((all.error, all.processes.len()), (None, 2));
    assert!(all.processes.iter().all(|process| process.state == State::Running));
}

#[test]
fn another_process_can_ask_through_the_socket() {
    let cluster = Cluster::of(&[("a", POLITE), ("b", POLITE)]);
    let up = cluster.start();
    let reply = ask(&cluster.base(), &command(Action::Status, "")).unwrap();
    assert_eq!(reply.processes.len(), 2);
    assert_eq!(
        only(ask(&cluster.base(), &command(Action::Kill, "b")).unwrap()).state,
        State::Killed
    );
    assert_eq!(only(up.command(command(Action::Status, "b"))).state, State::Killed);
    let wrong = ask(&cluster.base(), &command(Action::Stop, "x")).unwrap();
    assert_eq!(wrong.error.as_deref(), Some("no process x; there are a, b"));
}

#[test]
fn a_request_that_is_none_or_too_long_is_refused() {
    use std::io::{Read as _, Write as _};
    let cluster = Cluster::of(&[("a", POLITE)]);
    let _up = cluster.start();
    for request in [b"dance\n".to_vec(), vec![b'x'; 100_000]] {
        let mut stream =
            std::os::unix::net::UnixStream::connect(cluster.base().join("up.sock")).unwrap();
        // The other side may close before it has read everything.
        let _ = stream.write_all(&request);
        let mut reply = String::new();
        let _ = stream.read_to_string(&mut reply);
        assert!(reply.is_empty() || reply.contains("not a request"), "{reply}");
    }
    assert!(ask(&cluster.base(), &command(Action::Status, "")).is_ok());
}

#[test]
fn without_a_running_glass_up_there_is_one_clear_line() {
    let cluster = Cluster::of(&[("a", POLITE)]);
    let error = ask(&cluster.base(), &command(Action::Status, "")).unwrap_err().to_string();
    assert!(error.starts_with("glass up is not running here"), "{error}");
}

#[test]
fn a_socket_that_was_left_over_is_no_obstacle_but_a_running_one_is() {
    let cluster = Cluster::of(&[("a", POLITE)]);
    fs::create_dir(cluster.base()).unwrap();
    // A dropped listener leaves its socket behind, as a killed process does.
    drop(std::os::unix::net::UnixListener::bind(cluster.base().join("up.sock")).unwrap());
    let error = ask(&cluster.base(), &command(Action::Status, "")).unwrap_err().to_string();
    assert!(error.starts_with("glass up is not running here"), "{error}");
    let up = cluster.start();
    assert!(ask(&cluster.base(), &command(Action::Status, "")).is_ok());
    assert!(matches!(start(&cluster.options), Err(StartError::Running(_))));
    drop(up);
    assert!(!cluster.base().join("up.sock").exists());
    drop(cluster.start());
}

#[test]
fn a_path_that_is_too_long_for_a_socket_is_no_obstacle() {
    let mut cluster = Cluster::of(&[("a", POLITE)]);
    let deep = cluster.dir.path().join("d".repeat(120));
    cluster.options.data_dir = Some(deep.clone());
    let up = cluster.start();
    assert!(ask(&deep, &command(Action::Status, "a")).is_ok());
    let socket = PathBuf::from(fs::read_to_string(deep.join("up.path")).unwrap());
    assert!(socket.exists());
    drop(up);
    assert!(!socket.exists() && !socket.parent().is_some_and(Path::exists));
}

#[test]
fn when_every_process_ends_by_itself_so_does_glass_up() {
    let cluster = Cluster::of(&[("a", "exit 3"), ("b", "kill -9 $$"), ("c", "/does/not/exist")]);
    let outcome = cluster.start().wait().unwrap();
    let states: Vec<_> = outcome.failed.into_iter().map(|process| process.state).collect();
    assert_eq!(states[1], State::Signalled(9));
    assert!(matches!(states[0], State::Exited(3) | State::Failed(_)), "{states:?}");
    assert!(matches!(states[2], State::Failed(_)), "{states:?}");
}

#[test]
fn one_process_that_ends_leaves_the_others_alone() {
    let cluster = Cluster::of(&[("a", "exit $((3))"), ("b", POLITE)]);
    let up = cluster.start();
    let status = |name: &str| only(up.command(command(Action::Status, name))).state;
    eventually("a has ended", || status("a") == State::Exited(3));
    assert_eq!(status("b"), State::Running);
    assert!(!up.is_finished());
}

#[test]
fn a_drop_leaves_no_process_not_even_one_that_a_shell_started() {
    let cluster = Cluster::of(&[("a", "sleep 1000 & echo $! > NAME.out; wait")]);
    let up = cluster.start();
    let leader = only(up.command(command(Action::Status, "a"))).pid.unwrap();
    eventually("it has a child", || cluster.said("a").ends_with('\n'));
    let child: u32 = cluster.said("a").trim().parse().unwrap();
    assert!(is_alive(leader) && is_alive(child));
    drop(up);
    assert!(!is_alive(leader));
    // Reaped by the process that inherits it.
    eventually("its child is gone", || !is_alive(child) || letter(child) == "Z");
}

#[test]
fn the_standard_input_of_a_process_ends_with_its_parent_and_not_before() {
    let cluster =
        Cluster::of(&[("a", "echo up >> NAME.out; cat; echo alone >> NAME.out; sleep 9")]);
    let up = cluster.start();
    cluster.wait_until_said("a", "up\n");
    assert_eq!(only(up.command(command(Action::Status, "a"))).state, State::Running);
    assert_eq!(cluster.said("a"), "up\n");
}

#[test]
fn output_goes_into_a_file_for_each_process() {
    let cluster = Cluster::of(&[("a", "echo one; echo two >&2; sleep 1000")]);
    let _up = cluster.start();
    let log = || fs::read_to_string(cluster.base().join("a.log")).unwrap_or_default();
    eventually("both lines are there", || log() == "one\ntwo\n");
}

/// Goal: the player of another process stops a process through the socket, and hears when there is
/// no `glass up` any more.
#[tokio::test]
async fn a_player_in_another_process_has_the_same_commands() {
    use crate::control::{Control, Controller};
    let cluster = Cluster::of(&[("a", POLITE), ("b", POLITE)]);
    let up = cluster.start();
    let mut player = Controller::new(Control(cluster.base()));
    let report = command(Action::Status, "");
    player.report(report.clone());
    player.report(report.clone());
    let (asked, reply) = player.next().await;
    assert_eq!((asked, reply.error, reply.processes.len()), (report.clone(), None, 2));
    let kill = command(Action::Kill, "a");
    player.send(kill.clone());
    let (asked, reply) = player.next().await;
    assert_eq!(asked, kill, "the second report was not sent while the first was under way");
    assert_eq!(only(reply).state, State::Killed);
    tokio::task::spawn_blocking(move || drop(up)).await.unwrap();
    player.report(report);
    let why = player.next().await.1.error.unwrap();
    assert!(why.contains("not running"), "{why}");
}

/// Goal: the members stop when their player ends in any way, unless it has left them running. Then
/// another player may decide, and `down` ends them.
#[test]
fn members_stop_with_their_player_unless_it_has_left_them_running() {
    use std::os::unix::net::UnixStream;
    let cluster = Cluster::of(&[("a", POLITE)]);
    let ask = |action| ask(&cluster.base(), &command(action, "")).unwrap();
    let up = cluster.start();
    let (player, held) = UnixStream::pair().unwrap();
    up.end_with(held);
    cluster.wait_until_said("a", "up\n");
    assert!(ask(Action::Adopt).error.unwrap().contains("stop with the terminal"));
    drop(player);
    assert_eq!(up.wait().unwrap(), Outcome::default());
    assert_eq!(cluster.said("a"), "up\nbye\n");
    let up = cluster.start();
    let (player, held) = UnixStream::pair().unwrap();
    up.end_with(held);
    cluster.wait_until_said("a", "up\nbye\nup\n");
    assert_eq!(ask(Action::Release).error, None);
    drop(player);
    assert_eq!(only(ask(Action::Adopt)).state, State::Running);
    assert_eq!(only(ask(Action::Down)).state, State::Stopped);
    assert_eq!(up.wait().unwrap(), Outcome::default());
}
