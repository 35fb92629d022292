//! `glass run`: controls the `glass up` in another terminal, as `goreman run` does.

use std::process::ExitCode;

use crate::up::{
    self,
    api::{Action, Command, table},
};

/// The cluster, the action, and the process.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to do
    #[arg(value_enum)]
    action: Verb,
    /// The process of the Procfile; all of them by default
    name: Option<String>,
    #[command(flatten)]
    place: crate::Cluster,
}

/// The actions, as typed on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Verb {
    /// Start processes that are not running
    Start,
    /// SIGTERM, and after five seconds SIGKILL
    Stop,
    /// Stop, and start again
    Restart,
    /// SIGKILL: what a crash looks like
    Kill,
    /// SIGSTOP: freeze the process
    Pause,
    /// SIGCONT: continue it
    Resume,
    /// Show the state of the processes
    Status,
}

/// Sends the request, and prints the table of the processes concerned.
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
