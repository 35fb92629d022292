//! One process: started, signalled, and watched until it ends.
//!
//! Each process leads a group of its own. A Ctrl-C in the terminal so reaches `glass up` alone,
//! which ends its children in good order, and a signal to the group reaches what a shell started,
//! too. Its standard input is a pipe that nobody writes to: when `glass up` is gone, however that
//! went, the pipe closes, and a member of ours ends (see `serve`).

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
use tokio::process::{Child, ChildStdin, Command};

use super::{
    api::{Process, State},
    output,
    plan::Plan,
};
use crate::{lines::Lines, serve};

/// Where what a process prints goes.
#[derive(Clone, Debug)]
pub(crate) enum Sink {
    /// To the terminal, with its name in front.
    Lines {
        /// The queue.
        lines: Lines,
        /// The text in front.
        prefix: String,
    },
    /// Into a file in the data directory.
    File,
}

/// A process of the Procfile, whether it runs or not.
#[derive(Debug)]
pub(crate) struct Slot {
    /// How it is started.
    pub(crate) plan: Plan,
    /// How it is doing.
    pub(crate) state: State,
    /// Since when.
    since: Instant,
    /// Where its output goes.
    sink: Sink,
    /// Which start this is; an end of an earlier one does not count.
    pub(crate) run: u64,
    /// Its process, and its group.
    pid: Option<Pid>,
    /// Held open while it should live.
    stdin: Option<ChildStdin>,
    /// When patience ends.
    pub(crate) kill_at: Option<Instant>,
    /// Start it again once it has ended.
    pub(crate) restart: bool,
    /// It was us who killed it.
    killed: bool,
}

impl Slot {
    /// A process that has not been started yet.
    pub(crate) fn new(plan: Plan, sink: Sink) -> Slot {
        Slot {
            plan,
            state: State::Stopped,
            since: clock::now(),
            sink,
            run: 0,
            pid: None,
            stdin: None,
            kill_at: None,
            restart: false,
            killed: false,
        }
    }

    /// Whether there is a process.
    pub(crate) fn is_alive(&self) -> bool {
        self.pid.is_some()
    }

    /// How it is, for an answer.
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

    /// Starts it, and returns the child to wait for.
    pub(crate) fn start(&mut self, base: &Path) -> Option<Child> {
        self.run += 1;
        (self.restart, self.killed, self.kill_at) = (false, false, None);
        match self.spawn(base) {
            Ok(mut child) => {
                self.pid = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
                self.stdin = child.stdin.take();
                self.enter(State::Running);
                Some(child)
            }
            Err(error) => {
                self.enter(State::Failed(format!("{}: {error}", self.plan.program.display())));
                None
            }
        }
    }

    fn spawn(&self, base: &Path) -> io::Result<Child> {
        let mut command = Command::new(&self.plan.program);
        command
            .args(&self.plan.args)
            // That socket is for messages about this process: a member's "stopping" would end it.
            .env_remove("NOTIFY_SOCKET")
            .envs(self.plan.env.iter().map(|(name, value)| (name, value)))
            .env(serve::EXIT_WITH_PARENT, "1")
            .current_dir(&self.plan.dir)
            .process_group(0)
            .stdin(Stdio::piped());
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

    /// Asks it to end; `kill_at` says when asking is over.
    pub(crate) fn stop(&mut self, kill_at: Instant) {
        if self.is_alive() {
            let _ = self.signal(Signal::SIGTERM);
            // A process that holds still would not notice.
            let _ = self.signal(Signal::SIGCONT);
            self.kill_at = Some(kill_at);
            self.enter(State::Stopping);
        }
    }

    /// Ends it at once.
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

    /// Lets it hold still.
    pub(crate) fn pause(&mut self) -> Result<(), Errno> {
        self.signal(Signal::SIGSTOP)?;
        self.enter(State::Paused);
        Ok(())
    }

    /// Lets it go on.
    pub(crate) fn resume(&mut self) -> Result<(), Errno> {
        self.signal(Signal::SIGCONT)?;
        self.enter(State::Running);
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<(), Errno> {
        self.pid.map_or(Err(Errno::ESRCH), |pid| killpg(pid, signal))
    }

    /// Notes that it has ended.
    pub(crate) fn ended(&mut self, status: Option<ExitStatus>) {
        // A shell may have left something behind that still holds its ports.
        if self.plan.is_shell {
            let _ = self.signal(Signal::SIGKILL);
        }
        let asked = self.state == State::Stopping;
        (self.pid, self.stdin, self.kill_at) = (None, None, None);
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
