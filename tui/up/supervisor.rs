//! The loop that owns all processes. It handles requests, ends of processes, signals and deadlines
//! one after the other. Nothing else touches a process.

use std::{
    path::PathBuf,
    process::ExitStatus,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use glass_etcd::clock;
use tokio::{
    process::Child,
    signal::unix::{Signal, SignalKind, signal},
    sync::{Notify, mpsc},
};

use super::{
    api::{Action, Command, Process, Reply, State},
    links::Links,
    plan::Plan,
    process::Slot,
};

/// How long a process may take to end before it is killed.
const STOP_TIME: Duration = Duration::from_secs(5);

/// Where a reply goes.
#[derive(Debug)]
pub(crate) enum ReplyTo {
    #[cfg(test)]
    /// To a thread that blocks or polls.
    Thread(std::sync::mpsc::SyncSender<Reply>),
    Task(tokio::sync::oneshot::Sender<Reply>),
}

impl ReplyTo {
    /// A receiver that is gone needs no reply.
    fn send(self, reply: Reply) {
        match self {
            #[cfg(test)]
            ReplyTo::Thread(sender) => drop(sender.try_send(reply)),
            ReplyTo::Task(sender) => drop(sender.send(reply)),
        }
    }
}

/// Inputs of the loop.
#[derive(Debug)]
pub(crate) enum Input {
    /// A command, and where its reply goes.
    Request(Command, ReplyTo),
    /// A process has ended.
    Ended {
        /// Position of its slot.
        slot: usize,
        /// The number of the start that has ended.
        run: u64,
        /// Its exit status; `None` if unknown.
        status: Option<ExitStatus>,
    },
}

/// A request whose processes have not reached their state yet.
struct Pending {
    slots: Vec<usize>,
    reply: ReplyTo,
}

/// The result of the whole run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Processes that ended by themselves; empty after a shutdown.
    pub(crate) failed: Vec<Process>,
}

/// Whether the supervisor outlives the one that has started it. Shared with the thread that notices
/// the end of that one.
#[derive(Clone, Debug)]
pub(crate) enum Release {
    /// A terminal shows the output of the processes.
    InTerminal,
    /// It stands behind a player, and this is whether the player has left it running.
    BehindPlayer(Arc<AtomicBool>),
}

impl Release {
    pub(crate) fn is_released(&self) -> bool {
        matches!(self, Release::BehindPlayer(released) if released.load(Ordering::Acquire))
    }

    fn release(&self) -> Result<(), &'static str> {
        match self {
            Release::InTerminal => Err("this glass up runs in a terminal, and ends there"),
            Release::BehindPlayer(released) => {
                released.store(true, Ordering::Release);
                Ok(())
            }
        }
    }

    fn adopt(&self) -> Result<(), &'static str> {
        match self.is_released() {
            true => Ok(()),
            false => Err("these members stop with the terminal that has started them"),
        }
    }
}

/// The state of the loop that starts, signals and watches all processes.
pub(crate) struct Supervisor {
    /// In the order of the Procfile.
    pub(crate) slots: Vec<Slot>,
    /// Directory of the log files.
    pub(crate) base: PathBuf,
    /// For the tasks that wait for processes.
    pub(crate) sender: mpsc::Sender<Input>,
    pub(crate) inbox: mpsc::Receiver<Input>,
    /// The links that are cut.
    links: Links,
    end: Arc<Notify>,
    pending: Vec<Pending>,
    shutting_down: bool,
    /// Whether it may outlive the one that has started it.
    release: Release,
}

impl Supervisor {
    /// A supervisor that has started nothing yet.
    pub(crate) fn new(
        slots: Vec<Slot>,
        base: PathBuf,
        end: Arc<Notify>,
        (sender, inbox): (mpsc::Sender<Input>, mpsc::Receiver<Input>),
        release: Release,
    ) -> Supervisor {
        Supervisor {
            slots,
            base,
            sender,
            inbox,
            links: Links::default(),
            end,
            pending: Vec::new(),
            shutting_down: false,
            release,
        }
    }

    /// Starts the processes that begin `at_once`, and runs until none is left.
    pub(crate) async fn run(mut self, at_once: Vec<bool>) -> std::io::Result<Outcome> {
        let mut signals = Signals::new()?;
        let end = self.end.clone();
        for (at, _) in at_once.into_iter().enumerate().filter(|(_, begins)| *begins) {
            self.start(at);
        }
        loop {
            self.answer();
            if let Some(outcome) = self.outcome() {
                return Ok(outcome);
            }
            let deadline = self.slots.iter().filter_map(|slot| slot.kill_at).min();
            tokio::select! {
                Some(input) = self.inbox.recv() => self.take(input),
                () = end.notified() => self.shutdown(),
                () = signals.next() => self.shutdown(),
                () = until(deadline) => self.kill_the_late(),
            }
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Request(command, reply) => self.request(&command, reply),
            Input::Ended { slot, run, status } => {
                if self.slots[slot].run == run {
                    self.slots[slot].ended(status);
                    if self.slots[slot].restart && !self.shutting_down {
                        self.start(slot);
                    }
                }
            }
        }
    }

    fn start(&mut self, at: usize) {
        let cut = self.links.of(at, &plans(&self.slots));
        let slot = &mut self.slots[at];
        if let Some(child) = slot.start(&self.base, &cut) {
            tokio::spawn(wait(child, at, slot.run, self.sender.clone()));
        }
    }

    /// Cuts or heals links, and tells all members which of theirs are cut now.
    fn change_links(&mut self, command: &Command, reply: ReplyTo) {
        let plans = plans(&self.slots);
        match self.links.change(command, &plans) {
            Ok(ends) => {
                let lists: Vec<_> = (0..plans.len()).map(|at| self.links.of(at, &plans)).collect();
                for (slot, urls) in self.slots.iter().zip(lists) {
                    slot.cut(urls);
                }
                self.pending.push(Pending { slots: ends, reply });
            }
            Err(why) => reply.send(Reply::refused(why)),
        }
    }

    fn request(&mut self, command: &Command, reply: ReplyTo) {
        if matches!(command.action, Action::Cut | Action::Heal) {
            return self.change_links(command, reply);
        }
        if command.peer.is_some() {
            return reply.send(Reply::refused("only cut and heal take two names"));
        }
        let chosen: Vec<usize> = (0..self.slots.len())
            .filter(|at| {
                command.name.as_ref().is_none_or(|name| *name == self.slots[*at].plan.name)
            })
            .collect();
        if chosen.is_empty() {
            let names: Vec<_> = self.slots.iter().map(|slot| slot.plan.name.as_str()).collect();
            let name = command.name.as_deref().unwrap_or("");
            let why = format!("no process {name}; there are {}", names.join(", "));
            return reply.send(Reply::refused(why));
        }
        if self.shutting_down && command.action != Action::Status {
            return reply.send(Reply::refused("glass up is ending"));
        }
        let refused = match command.action {
            Action::Release => self.release.release().err(),
            Action::Adopt => self.release.adopt().err(),
            _ => None,
        };
        if let Some(why) = refused {
            return reply.send(Reply::refused(why));
        }
        if command.action == Action::Down && command.name.is_some() {
            return reply.send(Reply::refused("down is for all processes, and takes no name"));
        }
        if command.action == Action::Down {
            self.shutdown();
        }
        for at in &chosen {
            if let Err(why) = self.act(command.action, *at, command.name.is_some()) {
                return reply.send(Reply::refused(why));
            }
        }
        self.pending.push(Pending { slots: chosen, reply });
    }

    /// Performs the action on one process. `is_named`: the request named this process, so an action
    /// that does not apply is an error; in a request for all, it is skipped.
    fn act(&mut self, action: Action, at: usize, is_named: bool) -> Result<(), String> {
        let slot = &mut self.slots[at];
        let kill_at = clock::now() + STOP_TIME;
        let refuse = |slot: &Slot, why: &str| match is_named {
            true => Err(format!("{} {why} ({})", slot.plan.name, slot.state)),
            false => Ok(()),
        };
        match action {
            // Links are changed before.
            Action::Status
            | Action::Cut
            | Action::Heal
            | Action::Down
            | Action::Release
            | Action::Adopt => (),
            Action::Start if slot.state == State::Stopping => slot.restart = true,
            Action::Start if slot.is_alive() => return refuse(slot, "has already started"),
            Action::Start => self.start(at),
            Action::Restart if slot.is_alive() => {
                slot.restart = true;
                slot.stop(kill_at);
            }
            Action::Restart => self.start(at),
            _ if !slot.is_alive() => return refuse(slot, "is not running"),
            Action::Stop => {
                slot.restart = false;
                slot.stop(kill_at);
            }
            Action::Kill => {
                slot.restart = false;
                slot.kill();
            }
            Action::Pause | Action::Resume if slot.state == State::Stopping => {
                return refuse(slot, "is stopping");
            }
            Action::Pause => {
                slot.pause().map_err(|errno| format!("{}: {errno}", slot.plan.name))?;
            }
            Action::Resume => {
                slot.resume().map_err(|errno| format!("{}: {errno}", slot.plan.name))?;
            }
        }
        Ok(())
    }

    /// Replies to requests that are complete.
    fn answer(&mut self) {
        let slots = &self.slots;
        let done = |pending: &mut Pending| {
            pending.slots.iter().all(|at| slots[*at].state != State::Stopping)
        };
        for pending in self.pending.extract_if(.., done) {
            let processes = pending.slots.iter().map(|at| slots[*at].view()).collect();
            let cut = self.links.named(&plans(slots));
            pending.reply.send(Reply { error: None, processes, cut });
        }
    }

    /// The first call sends SIGTERM, the second kills.
    fn shutdown(&mut self) {
        let kill_at = clock::now() + STOP_TIME;
        for slot in &mut self.slots {
            slot.restart = false;
            match self.shutting_down {
                true => slot.kill(),
                false => slot.stop(kill_at),
            }
        }
        self.shutting_down = true;
    }

    fn kill_the_late(&mut self) {
        let now = clock::now();
        for slot in self.slots.iter_mut().filter(|slot| slot.kill_at.is_some_and(|at| at <= now)) {
            slot.kill();
        }
    }

    /// `None` while a process runs, and while one is stopped that the user may want to start again;
    /// `Some` when all have ended in a shutdown or by themselves.
    fn outcome(&self) -> Option<Outcome> {
        if self.slots.iter().any(Slot::is_alive) {
            return None;
        }
        if self.shutting_down {
            return Some(Outcome::default());
        }
        let by_itself = |slot: &Slot| {
            matches!(slot.state, State::Exited(_) | State::Signalled(_) | State::Failed(_))
        };
        self.slots
            .iter()
            .all(by_itself)
            .then(|| Outcome { failed: self.slots.iter().map(Slot::view).collect() })
    }
}

fn plans(slots: &[Slot]) -> Vec<&Plan> {
    slots.iter().map(|slot| &slot.plan).collect()
}

/// Ends with the process; the inbox is bounded by the number of processes.
async fn wait(mut child: Child, slot: usize, run: u64, sender: mpsc::Sender<Input>) {
    let status = child.wait().await.ok();
    let _ = sender.send(Input::Ended { slot, run, status }).await;
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// The signals that request a shutdown.
pub(crate) struct Signals([Signal; 3]);

impl Signals {
    /// Must be called inside a runtime.
    pub(crate) fn new() -> std::io::Result<Signals> {
        Ok(Signals([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    /// The next of them. Cancel-safe.
    pub(crate) async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => (),
            _ = terminate.recv() => (),
            _ = hangup.recv() => (),
        }
    }
}
