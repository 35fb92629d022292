//! `glass up`: the processes of a Procfile, started together and ended together.
//!
//! ```text
//!   Procfile ─> procfile ─> plan ──────────> supervisor ──> process ──> children
//!                           (ports, flags,    ^      ^                 (a group each)
//!                            data checked)    │      └ signals, ends, deadlines
//!   glass run stop etcd-02 ─> control ────────┤
//!   player ─> Up, Handle ─────────────────────┘
//! ```
//!
//! Each member is a child process: a kill is a real SIGKILL, a pause a real SIGSTOP, and a member
//! that fails takes nobody with it. The loop runs on a thread and a runtime of its own, so that a
//! slow screen does not delay a signal.
//!
//! **Invariants.** One `glass up` a data directory, kept by a lock. Nothing starts before the
//! Procfile, every member's flags and every port are checked. After the end no child is left: they
//! are asked, killed after five seconds, and members end by themselves when their parent is gone.
//!
//! **Left out.** A process that ends is not started again: to see what the others do then is the
//! point. No PORT variable, no scaling; a Procfile of members needs neither.
pub(crate) mod api;
mod control;
mod output;
mod plan;
mod process;
mod procfile;
mod supervisor;

#[cfg(test)]
mod tests;

use std::{
    io,
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
};

use tokio::sync::{Notify, mpsc, oneshot};

use self::{
    api::{Command, Reply},
    control::Claim,
    process::{Sink, Slot},
    supervisor::{Input, ReplyTo, Supervisor},
};
pub(crate) use self::{
    control::{AskError, ask},
    plan::{StartError, base},
    supervisor::Outcome,
};
use crate::lines::{Flush, Lines};

/// How many requests may wait.
const INBOX: usize = 64;

/// How the processes' output is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// On standard output, with names in front.
    Prefixed {
        /// With colours.
        colour: bool,
    },
    /// In a file each, in the data directory: the screen belongs to the player.
    Files,
}

/// What to run, and how.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// The Procfile.
    pub(crate) procfile: PathBuf,
    /// Instead of what the Procfile says.
    pub(crate) data_dir: Option<PathBuf>,
    /// Remove the members' data first.
    pub(crate) fresh: bool,
    /// How output is shown.
    pub(crate) output: Output,
}

/// A member that was started, for who wants to talk to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its name in the Procfile.
    pub(crate) name: String,
    /// Where clients reach it.
    pub(crate) client_urls: Vec<String>,
}

/// A way to ask; cheap to clone, usable from every thread and task.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    inbox: mpsc::Sender<Input>,
    end: Arc<Notify>,
}

impl Handle {
    /// Asks, and waits in a task.
    pub(crate) async fn command(&self, command: Command) -> Reply {
        let (sender, reply) = oneshot::channel();
        self.send(command, ReplyTo::Task(sender));
        reply.await.unwrap_or_else(|_| Reply::refused("glass up has ended"))
    }

    #[cfg(test)]
    /// Asks, and returns at once; the answer can be looked for, or waited for.
    pub(crate) fn ask(&self, command: Command) -> std::sync::mpsc::Receiver<Reply> {
        let (sender, reply) = std::sync::mpsc::sync_channel(1);
        self.send(command, ReplyTo::Thread(sender));
        reply
    }

    /// Begins to end everything; a second time, ends it at once. Passes by the inbox, which may be
    /// full.
    pub(crate) fn shutdown(&self) {
        self.end.notify_one();
    }

    /// An inbox that is full or gone drops `reply`, and who waits for it sees that.
    fn send(&self, command: Command, reply: ReplyTo) {
        let _ = self.inbox.try_send(Input::Request(command, reply));
    }
}

/// A running `glass up`. Dropping it ends everything, and waits for that.
pub(crate) struct Up {
    handle: Handle,
    members: Vec<Member>,
    thread: Option<JoinHandle<io::Result<Outcome>>>,
    _flush: Option<Flush>,
}

/// Checks everything, then starts everything.
///
/// # Errors
///
/// See [`StartError`]; nothing was started then.
pub(crate) fn start(options: &Options) -> Result<Up, StartError> {
    let plans = plan::read(&options.procfile, options.data_dir.as_deref())?;
    let claim = control::claim(&plans.base)?;
    plan::check_ports(&plans.plans)?;
    if options.fresh {
        plan::remove_data(&plans)?;
    }
    let members = plans
        .plans
        .iter()
        .filter_map(|plan| Some((plan, plan.member.as_ref()?)))
        .map(|(plan, parsed)| Member {
            name: plan.name.clone(),
            client_urls: parsed.config.advertise_client_urls.clone(),
        })
        .collect();
    let (lines, flush) = match options.output {
        Output::Prefixed { .. } => {
            let say_dropped = |count| format!("glass: {count} lines dropped, the terminal is slow");
            let (lines, flush) = Lines::start(vec![Box::new(io::stdout())], say_dropped)
                .map_err(StartError::Thread)?;
            (Some(lines), Some(flush))
        }
        Output::Files => (None, None),
    };
    let slots = slots(plans.plans, options.output, lines.as_ref());
    let (sender, inbox) = mpsc::channel(INBOX);
    let handle = Handle { inbox: sender.clone(), end: Arc::default() };
    let supervisor = Supervisor::new(slots, plans.base, handle.end.clone(), (sender, inbox));
    let thread = run(supervisor, claim, handle.clone())?;
    Ok(Up { handle, members, thread: Some(thread), _flush: flush })
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

/// Starts the thread, with a runtime of its own.
fn run(
    supervisor: Supervisor,
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
            // Kept until the last process is gone: then the next `glass up` may come.
            let _claim = claim;
            runtime.block_on(async {
                let control = tokio::spawn(control::serve(listener, handle));
                let outcome = supervisor.run().await;
                control.abort();
                outcome
            })
        })
        .map_err(StartError::Thread)
}

impl Up {
    /// A way to ask, for other threads.
    pub(crate) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The members of ours, in the order of the Procfile.
    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    #[cfg(test)]
    /// Asks, and waits; a stop takes up to five seconds.
    pub(crate) fn command(&self, command: Command) -> Reply {
        let reply = self.handle.ask(command);
        reply.recv().unwrap_or_else(|_| Reply::refused("glass up has ended"))
    }

    #[cfg(test)]
    /// Whether everything has ended, by a signal or by itself.
    pub(crate) fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until everything has ended; call [`Handle::shutdown`] to make it end.
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
