//! `glass run`: controls the `glass up` in another terminal, as `goreman run` does.

use std::process::ExitCode;

use crate::up::{
    self,
    api::{Action, Command, table},
};

/// The cluster, the action, and the processes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to do with the processes
    #[arg(value_enum)]
    action: Action,
    /// The process of the Procfile; all of them by default
    name: Option<String>,
    /// The member at the other end of the link, for `cut` and `heal`
    peer: Option<String>,
    #[command(flatten)]
    place: crate::Cluster,
}

/// Sends the request, and prints the table of the processes concerned.
pub(crate) fn run(args: &Args) -> ExitCode {
    let (name, peer) = (args.name.clone(), args.peer.clone());
    let command = Command { action: args.action, name, peer };
    let reply = up::base(&args.place.procfile, args.place.data_dir.as_deref())
        .map_err(up::AskError::Io)
        .and_then(|base| up::ask(&base, &command));
    match reply {
        Ok(reply) => match reply.error {
            None => crate::print(&table(&reply)),
            Some(why) => crate::fail(&why),
        },
        Err(error) => crate::fail(&error),
    }
}
