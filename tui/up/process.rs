//! One process: starts it, signals it, and waits for its end.
//!
//! Each process leads a process group. So a Ctrl-C in the terminal reaches only `glass up`, which
//! then shuts its children down, and a signal to the group also reaches processes that a shell
//! started. Its standard input is a pipe: when `glass up` is gone, for any reason, the pipe closes,
//! and a Glass etcd member ends (see `serve`). Only lists of cut links are written to it, and only
//! to such a member (see [`links`]).

use std::{
    io,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Instant,
};

use glass_etcd::clock;
use nix::{
    errno::Errno,
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    process::{Child, ChildStdin, Command},
    sync::watch,
};

use super::{
    api::{Process, State},
    links, output,
    plan::Plan,
};
use crate::{lines::Lines, serve};

/// Where the output of a process goes.
#[derive(Clone, Debug)]
pub(crate) enum Sink {
    /// To the terminal, with a prefix.
    Lines {
        /// The queue to the terminal.
        lines: Lines,
        /// The prefix of each line.
        prefix: String,
    },
    /// Into a file in the data directory.
    File,
}

/// The standard input of a process.
#[derive(Debug)]
enum Input {
    /// The pipe itself, to which nothing is written.
    Silent { _pipe: ChildStdin },
    /// A member's: it gets the peer URLs that it must not reach.
    Links(watch::Sender<Vec<String>>),
}

/// A process of the Procfile, running or not.
#[derive(Debug)]
pub(crate) struct Slot {
    /// How to start it.
    pub(crate) plan: Plan,
    pub(crate) state: State,
    /// When it entered this state.
    since: Instant,
    /// Where its output goes.
    sink: Sink,
    /// Number of its starts; the end of an earlier one is ignored.
    pub(crate) run: u64,
    /// Its process id, and the id of its group; `None` if it is not running.
    pid: Option<Pid>,
    /// Held open while the process should live.
    input: Option<Input>,
    /// When to kill it, if it is stopping.
    pub(crate) kill_at: Option<Instant>,
    /// Whether to start it again once it has ended.
    pub(crate) restart: bool,
    /// Whether `glass up` killed it.
    killed: bool,
}

impl Slot {
    /// A process that has not started yet.
    pub(crate) fn new(plan: Plan, sink: Sink) -> Slot {
        Slot {
            plan,
            state: State::Stopped,
            since: clock::now(),
            sink,
            run: 0,
            pid: None,
            input: None,
            kill_at: None,
            restart: false,
            killed: false,
        }
    }

    /// Whether the process exists.
    pub(crate) fn is_alive(&self) -> bool {
        self.pid.is_some()
    }

    /// Its state, for a reply.
    pub(crate) fn view(&self) -> Process {
        Process {
            name: self.plan.name.clone(),
            pid: self.pid.and_then(|pid| u32::try_from(pid.as_raw()).ok()),
            state: self.state.clone(),
            since_ms: u64::try_from((clock::now() - self.since).as_millis()).unwrap_or(u64::MAX),
        }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.since = clock::now();
    }

    /// Starts it, and returns the child to wait for. `cut`: the peer URLs that it must not reach.
    pub(crate) fn start(&mut self, base: &Path, cut: &[String]) -> Option<Child> {
        self.run += 1;
        (self.restart, self.killed, self.kill_at) = (false, false, None);
        match self.spawn(base, cut) {
            Ok(mut child) => {
                self.pid = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
                self.input = child.stdin.take().map(|pipe| self.input(pipe));
                self.enter(State::Running);
                Some(child)
            }
            Err(error) => {
                self.enter(State::Failed(format!("{}: {error}", self.plan.program.display())));
                None
            }
        }
    }

    fn input(&self, pipe: ChildStdin) -> Input {
        if self.plan.member.is_none() {
            return Input::Silent { _pipe: pipe };
        }
        let (sender, lists) = watch::channel(Vec::new());
        // Ends when the sender is gone, or the process.
        tokio::spawn(links::tell(pipe, lists));
        Input::Links(sender)
    }

    /// Tells a member which peer URLs it must not reach from now on.
    pub(crate) fn cut(&self, urls: Vec<String>) {
        if let Some(Input::Links(sender)) = &self.input {
            sender.send_replace(urls);
        }
    }

    fn spawn(&self, base: &Path, cut: &[String]) -> io::Result<Child> {
        let mut command = Command::new(&self.plan.program);
        command
            .args(&self.plan.args)
            // That socket is for messages about `glass up`: a member's "stopping" would end it.
            .env_remove("NOTIFY_SOCKET")
            .envs(self.plan.env.iter().map(|(name, value)| (name, value)))
            .env(serve::EXIT_WITH_PARENT, "1")
            .current_dir(&self.plan.dir)
            .process_group(0)
            .stdin(Stdio::piped());
        if self.plan.member.is_some() {
            command.env(serve::LINKS, serve::links_text(cut));
        }
        match &self.sink {
            Sink::File => {
                let file = output::log_file(base, &self.plan.name)?;
                command.stdout(file.try_clone()?).stderr(file);
                command.spawn()
            }
            Sink::Lines { lines, prefix } => {
                command.stdout(Stdio::piped()).stderr(Stdio::piped());
                let mut child = command.spawn()?;
                // Both tasks end with their pipes.
                if let Some(pipe) = child.stdout.take() {
                    tokio::spawn(output::copy(pipe, prefix.clone(), lines.clone()));
                }
                if let Some(pipe) = child.stderr.take() {
                    tokio::spawn(output::copy(pipe, prefix.clone(), lines.clone()));
                }
                Ok(child)
            }
        }
    }

    /// Sends SIGTERM; `kill_at` is the time of the SIGKILL.
    pub(crate) fn stop(&mut self, kill_at: Instant) {
        if self.is_alive() {
            let _ = self.signal(Signal::SIGTERM);
            // A frozen process would not notice the signal.
            let _ = self.signal(Signal::SIGCONT);
            self.kill_at = Some(kill_at);
            self.enter(State::Stopping);
        }
    }

    /// Kills it at once.
    pub(crate) fn kill(&mut self) {
        if self.is_alive() {
            self.killed = self.state != State::Stopping;
            let _ = self.signal(Signal::SIGKILL);
            self.kill_at = None;
            if self.killed {
                self.enter(State::Stopping);
            }
        }
    }

    /// Stops the process with SIGSTOP, until it is resumed.
    pub(crate) fn pause(&mut self) -> Result<(), Errno> {
        self.signal(Signal::SIGSTOP)?;
        self.enter(State::Paused);
        Ok(())
    }

    /// Continues a paused process with SIGCONT.
    pub(crate) fn resume(&mut self) -> Result<(), Errno> {
        self.signal(Signal::SIGCONT)?;
        self.enter(State::Running);
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<(), Errno> {
        self.pid.map_or(Err(Errno::ESRCH), |pid| killpg(pid, signal))
    }

    /// Notes that the process has ended, and how.
    pub(crate) fn ended(&mut self, status: Option<ExitStatus>) {
        // A shell may have left a process behind that still holds its ports.
        if self.plan.is_shell {
            let _ = self.signal(Signal::SIGKILL);
        }
        let asked = self.state == State::Stopping;
        (self.pid, self.input, self.kill_at) = (None, None, None);
        let state = match (asked, self.killed, status) {
            (true, true, _) => State::Killed,
            (true, false, _) => State::Stopped,
            (false, _, Some(status)) => match (status.code(), status.signal()) {
                (Some(code), _) => State::Exited(code),
                (None, signal) => State::Signalled(signal.unwrap_or(0)),
            },
            (false, _, None) => State::Signalled(0),
        };
        self.enter(state);
    }
}
