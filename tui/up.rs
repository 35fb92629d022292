//! `glass up`: starts the processes of a Procfile together, and ends them together.
//!
//! ```text
//!   Procfile ─> procfile ─> plan ──────────> supervisor ──> process ──> children
//!                           (ports, flags,    ^      ^                 (a group each)
//!                            data checked)    │      └ signals, ends, deadlines
//!   glass run stop etcd-02 ─> control ────────┤
//!   player (another process) ─> control ───────┘
//! ```
//!
//! Each member is a child process: a kill is a real SIGKILL, a pause a real SIGSTOP, and a member
//! that fails does not affect the others. The loop runs on its own thread and runtime, so that a
//! slow screen does not delay a signal.
//!
//! **Invariants.** A lock allows one `glass up` per data directory. Nothing starts before the
//! Procfile, every member's flags and every port have been checked. No child outlives `glass up`:
//! children receive SIGTERM, and SIGKILL after five seconds, and members end by themselves when
//! their parent is gone. Behind a player, `glass up` ends with it, unless the user left the members
//! running.
//!
//! Members cut the links between them when `glass up` asks (see [`links`]).
//!
//! **Left out.** A process that ends is not restarted: the point is to see how the others react.
//! There is no PORT variable and no scaling; a Procfile of members needs neither.
pub(crate) mod apart;
pub(crate) mod api;
mod control;
pub(crate) mod links;
mod output;
mod plan;
mod process;
mod procfile;
mod supervisor;

#[cfg(test)]
mod tests;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
};

use tokio::sync::{Notify, mpsc, oneshot};

use self::{
    api::{Command, Reply},
    control::Claim,
    process::{Sink, Slot},
    supervisor::{Input, Release, ReplyTo, Supervisor},
};
pub(crate) use self::{
    control::{AskError, ask},
    plan::{StartError, base},
    supervisor::{Outcome, Signals},
};
use crate::lines::{Flush, Lines};

/// How many requests may be queued.
const INBOX: usize = 64;

/// Where the processes' output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// To standard output, each line prefixed with the process's name.
    Prefixed {
        /// Whether the prefixes are coloured.
        colour: bool,
    },
    /// To one file per process in the data directory, because the player, in another process, uses
    /// the screen.
    Files,
}

/// Options of `glass up`.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Path of the Procfile.
    pub(crate) procfile: PathBuf,
    /// Data directory to use instead of the Procfile's.
    pub(crate) data_dir: Option<PathBuf>,
    /// Remove the members' data first.
    pub(crate) fresh: bool,
    /// Where the output of the processes goes.
    pub(crate) output: Output,
    /// The processes that are not started with the others, by name: a member that is to join.
    pub(crate) late: Vec<String>,
}

/// A started member, with the addresses for its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its name in the Procfile.
    pub(crate) name: String,
    /// URLs at which it serves clients.
    pub(crate) client_urls: Vec<String>,
}

/// Sends requests to the supervisor; cheap to clone, usable from every thread and task.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    inbox: mpsc::Sender<Input>,
    end: Arc<Notify>,
}

impl Handle {
    /// Sends a request and awaits the reply, in a task.
    pub(crate) async fn command(&self, command: Command) -> Reply {
        let (sender, reply) = oneshot::channel();
        self.send(command, ReplyTo::Task(sender));
        reply.await.unwrap_or_else(|_| Reply::refused("glass up has ended"))
    }

    #[cfg(test)]
    /// Sends a request and returns at once; the receiver can be polled or waited on.
    pub(crate) fn ask(&self, command: Command) -> std::sync::mpsc::Receiver<Reply> {
        let (sender, reply) = std::sync::mpsc::sync_channel(1);
        self.send(command, ReplyTo::Thread(sender));
        reply
    }

    /// Begins the shutdown; a second call kills everything at once. Bypasses the inbox, which may
    /// be full.
    pub(crate) fn shutdown(&self) {
        self.end.notify_one();
    }

    /// If the inbox is full or closed, `reply` is dropped, and the waiting side notices.
    fn send(&self, command: Command, reply: ReplyTo) {
        let _ = self.inbox.try_send(Input::Request(command, reply));
    }
}

/// A running `glass up`. Its drop ends all processes, and waits for their end.
pub(crate) struct Up {
    handle: Handle,
    members: Vec<Member>,
    release: Release,
    thread: Option<JoinHandle<io::Result<Outcome>>>,
    _flush: Option<Flush>,
}

/// The directory of a Procfile's `glass up`, and its members, running or not.
///
/// # Errors
///
/// The Procfile cannot be read, or has a mistake.
pub(crate) fn members(
    procfile: &Path,
    data_dir: Option<&Path>,
) -> Result<(PathBuf, Vec<Member>), StartError> {
    let plans = plan::read(procfile, data_dir)?;
    let members = members_of(&plans);
    Ok((plans.base, members))
}

/// Where a member of a Procfile has its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DataDir {
    /// Its `--name`.
    pub(crate) member: String,
    /// The directory of its log.
    pub(crate) wal: PathBuf,
}

/// The directory of a Procfile's `glass up`, and where its members have their logs.
///
/// # Errors
///
/// The Procfile cannot be read, or has a mistake.
pub(crate) fn data_dirs(
    procfile: &Path,
    data_dir: Option<&Path>,
) -> Result<(PathBuf, Vec<DataDir>), StartError> {
    let plans = plan::read(procfile, data_dir)?;
    let of = |plan: &plan::Plan| {
        let config = &plan.member.as_ref()?.config;
        let wal = config
            .wal_dir
            .as_ref()
            .map_or_else(|| config.data_dir.join("member/wal"), |wal_dir| plan.dir.join(wal_dir));
        Some(DataDir { member: config.name.clone(), wal })
    };
    Ok((plans.base, plans.plans.iter().filter_map(of).collect()))
}

/// The Glass etcd members among the processes.
fn members_of(plans: &plan::Plans) -> Vec<Member> {
    let member = |plan: &plan::Plan| {
        let urls = plan.member.as_ref()?.config.advertise_client_urls.clone();
        Some(Member { name: plan.name.clone(), client_urls: urls })
    };
    plans.plans.iter().filter_map(member).collect()
}

/// Checks everything, then starts all processes.
///
/// # Errors
///
/// See [`StartError`]; in that case nothing was started.
pub(crate) fn start(options: &Options) -> Result<Up, StartError> {
    let plans = plan::read(&options.procfile, options.data_dir.as_deref())?;
    let claim = control::claim(&plans.base)?;
    plan::check_ports(&plans.plans)?;
    if options.fresh {
        plan::remove_data(&plans)?;
    }
    let members = members_of(&plans);
    let (lines, flush) = match options.output {
        Output::Prefixed { .. } => {
            let say_dropped = |count| format!("glass: {count} lines dropped, the terminal is slow");
            let (lines, flush) = Lines::start(vec![Box::new(io::stdout())], say_dropped)
                .map_err(StartError::Thread)?;
            (Some(lines), Some(flush))
        }
        Output::Files => (None, None),
    };
    let is_late = |plan: &plan::Plan| options.late.contains(&plan.name);
    let at_once = plans.plans.iter().map(|plan| !is_late(plan)).collect();
    let slots = slots(plans.plans, options.output, lines.as_ref());
    let (sender, inbox) = mpsc::channel(INBOX);
    let handle = Handle { inbox: sender.clone(), end: Arc::default() };
    let release = match options.output {
        Output::Prefixed { .. } => Release::InTerminal,
        Output::Files => Release::BehindPlayer(Arc::default()),
    };
    let end = handle.end.clone();
    let supervisor = Supervisor::new(slots, plans.base, end, (sender, inbox), release.clone());
    let thread = run((supervisor, at_once), claim, handle.clone())?;
    Ok(Up { handle, members, release, thread: Some(thread), _flush: flush })
}

fn slots(plans: Vec<plan::Plan>, output: Output, lines: Option<&Lines>) -> Vec<Slot> {
    let width = plans.iter().map(|plan| plan.name.len()).max().unwrap_or(0);
    let sink = |at: usize, name: &str| match (output, lines) {
        (Output::Prefixed { colour }, Some(lines)) => {
            Sink::Lines { lines: lines.clone(), prefix: output::prefix(name, width, at, colour) }
        }
        _ => Sink::File,
    };
    let numbered = plans.into_iter().enumerate();
    numbered.map(|(at, plan)| (sink(at, &plan.name), plan)).map(|(s, p)| Slot::new(p, s)).collect()
}

/// Starts the thread and its runtime. The flags say which processes begin at once.
fn run(
    (supervisor, at_once): (Supervisor, Vec<bool>),
    claim: Claim,
    handle: Handle,
) -> Result<JoinHandle<io::Result<Outcome>>, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(StartError::Thread)?;
    let listener = {
        let _entered = runtime.enter();
        claim.listen()?
    };
    thread::Builder::new()
        .name("up".to_owned())
        .spawn(move || {
            // Kept until the last process is gone; then the next `glass up` may start.
            let _claim = claim;
            runtime.block_on(async {
                let places = control::places();
                let control = tokio::spawn(control::serve(listener, handle, places.clone()));
                let outcome = supervisor.run(at_once).await;
                control.abort();
                control::finish(&places).await;
                outcome
            })
        })
        .map_err(StartError::Thread)
}

impl Up {
    /// A handle for other threads.
    pub(crate) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The Glass etcd members, in the order of the Procfile.
    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    /// Shuts down at the end of this input, unless it has been released. The thread ends with the
    /// input, or with the process.
    pub(crate) fn end_with(&self, mut input: impl io::Read + Send + 'static) {
        let (handle, release) = (self.handle(), self.release.clone());
        let watch = move || {
            let mut unread = [0; 64];
            while matches!(input.read(&mut unread), Ok(1..)) {}
            if !release.is_released() {
                handle.shutdown();
            }
        };
        let thread = thread::Builder::new().name("player".to_owned()).spawn(watch);
        if thread.is_err() {
            self.handle.shutdown();
        }
    }

    #[cfg(test)]
    /// Sends a request and blocks for the reply; a stop takes up to five seconds.
    pub(crate) fn command(&self, command: Command) -> Reply {
        let reply = self.handle.ask(command);
        reply.recv().unwrap_or_else(|_| Reply::refused("glass up has ended"))
    }

    #[cfg(test)]
    /// Whether all processes have ended, by a signal or by themselves.
    pub(crate) fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until all processes have ended; [`Handle::shutdown`] makes them end.
    pub(crate) fn wait(mut self) -> io::Result<Outcome> {
        self.join()
    }

    fn join(&mut self) -> io::Result<Outcome> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(outcome)) => outcome,
            Some(Err(_)) => Err(io::Error::other("the supervisor has panicked")),
            None => Ok(Outcome::default()),
        }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.handle.shutdown();
            let _ = self.join();
        }
    }
}
