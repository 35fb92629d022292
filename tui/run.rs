//! `glass run`: tells the `glass up` in another terminal what to do, as `goreman run` does.

use std::process::ExitCode;

use crate::up::{
    self,
    api::{Action, Command, table},
};

/// Which `glass up`, what, and with which process.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to do
    #[arg(value_enum)]
    action: Verb,
    /// The process of the Procfile; all of them, if left out
    name: Option<String>,
    #[command(flatten)]
    place: crate::Place,
}

/// The actions, as they are typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Verb {
    /// Start what is not running
    Start,
    /// SIGTERM, and after five seconds SIGKILL
    Stop,
    /// Stop, and start again
    Restart,
    /// SIGKILL: what a crash looks like
    Kill,
    /// SIGSTOP: hold still
    Pause,
    /// SIGCONT: go on
    Resume,
    /// Say how things are
    Status,
}

/// Asks, and prints the table of what was meant.
pub(crate) fn run(args: &Args) -> ExitCode {
    let action = match args.action {
        Verb::Start => Action::Start,
        Verb::Stop => Action::Stop,
        Verb::Restart => Action::Restart,
        Verb::Kill => Action::Kill,
        Verb::Pause => Action::Pause,
        Verb::Resume => Action::Resume,
        Verb::Status => Action::Status,
    };
    let reply = up::base(&args.place.procfile, args.place.data_dir.as_deref())
        .map_err(up::AskError::Io)
        .and_then(|base| up::ask(&base, &Command { action, name: args.name.clone() }));
    match reply {
        Ok(reply) => match reply.error {
            None => crate::print(&table(&reply.processes)),
            Some(why) => crate::fail(&why),
        },
        Err(error) => crate::fail(&error),
    }
}
