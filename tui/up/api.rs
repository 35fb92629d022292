//! Requests to a running `glass up`, and its replies: the same for the player, which is in the same
//! process, and for `glass run`, which connects through the control socket.

use std::{fmt, fmt::Write as _};

use serde::{Deserialize, Serialize};

/// The requested action. Its docs are the help of `glass run`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    /// Start processes that are not running
    Start,
    /// SIGTERM, and after five seconds SIGKILL; the reply comes when the process is gone
    Stop,
    /// Stop, then start; the reply comes when the new process runs
    Restart,
    /// SIGKILL, like a crash of the process
    Kill,
    /// SIGSTOP: freeze the process; its connections stay open
    Pause,
    /// SIGCONT: continue a paused process
    Resume,
    /// Cut the link between two members, or all links of one: what they send each other is dropped
    Cut,
    /// Heal the link between two members, all links of one, or all there are
    Heal,
    /// Show the state of the processes
    Status,
    /// Stop all processes, and end `glass up` itself
    Down,
    /// Outlive the player that has started this `glass up`.
    #[value(skip)]
    Release,
    /// Let another player decide what becomes of the processes; refused while somebody else does.
    #[value(skip)]
    Adopt,
}

/// A request to act on one process or on all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Command {
    pub(crate) action: Action,
    /// The process's name; all processes if `None`.
    pub(crate) name: Option<String>,
    /// The process at the other end of a link.
    #[serde(default)]
    pub(crate) peer: Option<String>,
}

impl Command {
    /// A command that concerns one process.
    pub(crate) fn to(action: Action, name: impl Into<String>) -> Command {
        Command { action, name: Some(name.into()), peer: None }
    }

    /// A command that concerns all processes.
    pub(crate) const fn to_all(action: Action) -> Command {
        Command { action, name: None, peer: None }
    }
}

/// State of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Running,
    /// It was stopped by SIGSTOP.
    Paused,
    /// It was asked to end, and has not ended yet.
    Stopping,
    /// It ended when it was asked to.
    Stopped,
    /// `glass up` killed it.
    Killed,
    /// It ended by itself, with this exit code.
    Exited(i32),
    /// It was ended by this signal, which `glass up` did not send.
    Signalled(i32),
    /// It could not be started.
    Failed(String),
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Running => f.write_str("running"),
            State::Paused => f.write_str("paused"),
            State::Stopping => f.write_str("stopping"),
            State::Stopped => f.write_str("stopped"),
            State::Killed => f.write_str("killed"),
            State::Exited(code) => write!(f, "exited ({code})"),
            State::Signalled(signal) => write!(f, "ended by signal {signal}"),
            State::Failed(why) => write!(f, "cannot start: {why}"),
        }
    }
}

/// One process at the time of the reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    /// Its name in the Procfile.
    pub(crate) name: String,
    /// Its process id; `None` if it is not running.
    pub(crate) pid: Option<u32>,
    /// How it is doing.
    pub(crate) state: State,
    /// Time in this state, in milliseconds.
    pub(crate) since_ms: u64,
}

/// The answer to a command: an error, or the processes concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reply {
    /// Why the request was refused, in one line; `None` if it was not.
    pub(crate) error: Option<String>,
    /// The processes concerned, in their state after the action.
    pub(crate) processes: Vec<Process>,
    /// The names at both ends of each link that is cut.
    #[serde(default)]
    pub(crate) cut: Vec<(String, String)>,
}

impl Reply {
    /// A reply that refuses the request.
    pub(crate) fn refused(why: impl Into<String>) -> Reply {
        Reply { error: Some(why.into()), ..Reply::default() }
    }
}

/// The processes as a table, and below it the links that are cut.
pub(crate) fn table(reply: &Reply) -> String {
    let processes = &reply.processes;
    let width = processes.iter().map(|process| process.name.len()).max().unwrap_or(0).max(4);
    let mut text = format!("{:width$}  {:>7}  {:16}  since\n", "name", "pid", "state");
    for process in processes {
        let pid = process.pid.map_or("-".to_owned(), |pid| pid.to_string());
        let (state, since) = (process.state.to_string(), since(process.since_ms));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:width$}  {pid:>7}  {state:16}  {since}", process.name);
    }
    for (one, other) in &reply.cut {
        let _ = writeln!(text, "the link between {one} and {other} is cut");
    }
    text
}

/// A time in milliseconds, to the second: `41s`, `1m01s`, `2h02m`.
pub(crate) fn since(ms: u64) -> String {
    let seconds = ms / 1000;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (hours, minutes, _) => format!("{hours}h{minutes:02}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_name_state_and_time() {
        let process = |name: &str, pid, state, since_ms| Process {
            name: name.to_owned(),
            pid,
            state,
            since_ms,
        };
        let processes = vec![
            process("etcd-01", Some(4711), State::Running, 61_000),
            process("b", None, State::Exited(1), 7_320_000),
        ];
        let cut = vec![("etcd-01".to_owned(), "b".to_owned())];
        let text = table(&Reply { error: None, processes, cut });
        assert_eq!(
            text,
            "name         pid  state             since\n\
             etcd-01     4711  running           1m01s\n\
             b              -  exited (1)        2h02m\n\
             the link between etcd-01 and b is cut\n"
        );
    }
}
