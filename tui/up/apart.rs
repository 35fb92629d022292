//! The `glass up` in a process of its own, as the player that has started it sees it.
//!
//! Its standard input is a pipe that is never written to. While the pipe is open, the members run;
//! [`Apart::release`] makes the supervisor outlive it. Its standard output says in one line whether
//! everything has started, and at the end why all has failed, if it has.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, ChildStdout, Command as Program, Stdio},
};

use super::{
    api::{Action, Command},
    control,
};

/// What it prints once the members run.
pub(crate) const READY: &str = "ready";
/// Longest text that is read from it, in bytes.
const TEXT_BYTES: u64 = 1 << 16;

/// A running supervisor. Its drop closes the pipe, which stops the members.
#[derive(Debug)]
pub(crate) struct Apart {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Apart {
    /// Starts this program with these arguments, and waits until the members run. The error is one
    /// line for the user.
    pub(crate) fn start(args: &[impl AsRef<OsStr>]) -> Result<Apart, String> {
        let exe = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut program = Program::new(exe);
        program.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = program.spawn().map_err(|error| format!("cannot start: {error}"))?;
        let Some(said) = child.stdout.take() else { return Err("no pipe".to_owned()) };
        let mut apart = Apart { child, said: BufReader::new(said) };
        let mut line = String::new();
        // An error of the pipe is an early end.
        let _ = apart.said.by_ref().take(TEXT_BYTES).read_line(&mut line);
        if line.trim_end() == READY { Ok(apart) } else { Err(apart.end(line)) }
    }

    /// What it has said at its end, after this beginning.
    fn end(&mut self, mut said: String) -> String {
        let _ = self.said.by_ref().take(TEXT_BYTES).read_to_string(&mut said);
        let _ = self.child.wait();
        match said.trim_end() {
            "" => "glass up has ended without a word".to_owned(),
            said => said.to_owned(),
        }
    }

    /// Makes it outlive this process.
    pub(crate) fn release(self, base: &Path) -> Result<(), String> {
        let release = Command::to_all(Action::Release);
        match control::ask(base, &release) {
            Ok(reply) => reply.error.map_or(Ok(()), Err),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Stops it and its members, and waits for that. The error says why all had ended before.
    pub(crate) fn stop(mut self) -> Result<(), String> {
        drop(self.child.stdin.take());
        let mut said = String::new();
        let _ = self.said.by_ref().take(TEXT_BYTES).read_to_string(&mut said);
        let _ = self.child.wait();
        match said.trim_end() {
            "" => Ok(()),
            said => Err(said.to_owned()),
        }
    }
}
