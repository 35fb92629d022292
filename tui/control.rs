//! How the player reaches the `glass up` that runs its members.
//!
//! ```text
//!   Command ──▶ a task for each ──▶ its socket
//!   Input::Replied ◀────────────────────┘
//! ```
//!
//! A command may take seconds: a stop ends when the process is gone. So each has its own task, and
//! the player waits for none. Reports about the processes are commands too, one at a time.

use std::path::PathBuf;

use tokio::sync::mpsc;

use crate::up::{
    self,
    api::{Command, Reply},
};

/// Replies that wait for the player: a few commands of a person, and one report.
const REPLIES: usize = 16;

/// The `glass up` that runs the members: the directory of its socket.
#[derive(Clone, Debug)]
pub(crate) struct Control(pub(crate) PathBuf);

/// Sends commands, and gives out the replies.
#[derive(Debug)]
pub(crate) struct Controller {
    control: Control,
    sender: mpsc::Sender<(Command, Reply)>,
    replies: mpsc::Receiver<(Command, Reply)>,
    is_reporting: bool,
}

impl Controller {
    pub(crate) fn new(control: Control) -> Controller {
        let (sender, replies) = mpsc::channel(REPLIES);
        Controller { control, sender, replies, is_reporting: false }
    }

    /// Sends a command. Must be called inside a runtime.
    pub(crate) fn send(&self, command: Command) {
        let (control, sender) = (self.control.clone(), self.sender.clone());
        tokio::spawn(async move {
            let reply = ask(control, command.clone()).await;
            // A player that has ended needs no reply.
            let _ = sender.send((command, reply)).await;
        });
    }

    /// Asks for a report, unless one is under way.
    pub(crate) fn report(&mut self, command: Command) {
        if !self.is_reporting {
            self.is_reporting = true;
            self.send(command);
        }
    }

    /// The next reply, with its command. Cancel-safe.
    pub(crate) async fn next(&mut self) -> (Command, Reply) {
        match self.replies.recv().await {
            Some((command, reply)) => {
                self.is_reporting &= command.name.is_some();
                (command, reply)
            }
            // The controller itself holds a sender.
            None => std::future::pending().await,
        }
    }
}

async fn ask(Control(base): Control, command: Command) -> Reply {
    let asked = tokio::task::spawn_blocking(move || up::ask(&base, &command)).await;
    match asked {
        Ok(Ok(reply)) => reply,
        Ok(Err(error)) => Reply::refused(error.to_string()),
        Err(error) => Reply::refused(error.to_string()),
    }
}
