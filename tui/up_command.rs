//! `glass up`, and `glass` alone: members with their logs in this terminal, or behind the player.
//!
//! ```text
//!   glass ─┬─ player ◄── socket ──► glass up --behind-player ─┬─ etcd-01
//!          └─ a pipe: its end stops the members ─────────────►├─ etcd-02
//!                                                             └─ etcd-03
//! ```
//!
//! The player and the supervisor of the members are two processes, so that the player can end and
//! leave the members running. A pipe holds the two together: when the player's process ends, for
//! any reason, the pipe closes, and the supervisor stops its members. Only `d` in the player
//! releases it before.
//!
//! A `glass` that finds a running `glass up` in its directory plays its members. If that one was
//! released, this player is asked like the first what becomes of the members; if it belongs to
//! another terminal, the end of this player changes nothing.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use nix::unistd::setsid;

use crate::{
    Cluster, fail,
    play_command::{self, LookArgs},
    state::room::{Hands, Left},
    up::{
        self,
        apart::Apart,
        api::{self, Action, Command},
    },
};

/// The command line of `glass up`.
#[derive(Debug, clap::Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) place: Cluster,
    /// Print the members' logs instead of opening the player
    #[arg(long)]
    pub(crate) no_tui: bool,
    /// Remove the members' data first
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Run the members for a player that holds the standard input.
    #[arg(long, hide = true)]
    pub(crate) behind_player: bool,
    #[command(flatten)]
    pub(crate) look: LookArgs,
}

pub(crate) fn run(args: &UpArgs) -> ExitCode {
    let has_player = play_command::lack().is_none() && !args.no_tui;
    match (args.behind_player, has_player) {
        (true, _) => behind(args),
        (false, true) => match play(args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => fail(&why),
        },
        (false, false) => in_terminal(args),
    }
}

fn options(args: &UpArgs, output: up::Output) -> up::Options {
    up::Options {
        procfile: args.place.procfile.clone(),
        data_dir: args.place.data_dir.clone(),
        fresh: args.fresh,
        output,
        late: Vec::new(),
    }
}

/// Runs the members in this terminal, with their logs.
fn in_terminal(args: &UpArgs) -> ExitCode {
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colour = io::stdout().is_terminal() && !no_colour;
    let up = match up::start(&options(args, up::Output::Prefixed { colour })) {
        Ok(up) => up,
        Err(error) => return fail(&error),
    };
    announce(&up);
    match outcome(up.wait()) {
        None => ExitCode::SUCCESS,
        Some(why) => fail(&why),
    }
}

/// Why the run is a failure; `None` if it is not.
fn outcome(result: io::Result<up::Outcome>) -> Option<String> {
    match result {
        Ok(outcome) if outcome.failed.is_empty() => None,
        Ok(outcome) => {
            let failed = api::Reply { processes: outcome.failed, ..Default::default() };
            Some(format!("every process has ended:\n{}", api::table(&failed).trim_end()))
        }
        Err(error) => Some(error.to_string()),
    }
}

/// Prints where the members serve clients.
fn announce(up: &up::Up) {
    for member in up.members() {
        let urls = member.client_urls.join(",");
        let _ = writeln!(io::stderr(), "glass: {} serves clients at {urls}", member.name);
    }
    let _ =
        writeln!(io::stderr(), "glass: Ctrl-C stops all; `glass run status` from another shell");
}

/// Runs the members for a player, which reads the standard output: [`up::apart::READY`] once they
/// run, then nothing, or why all of it has failed.
fn behind(args: &UpArgs) -> ExitCode {
    // Out of the terminal's session: its signals and its end are the player's.
    let _ = setsid();
    let said = match up::start(&options(args, up::Output::Files)) {
        Ok(up) => {
            let _ = writeln!(io::stdout(), "{}", up::apart::READY);
            up.end_with(io::stdin());
            outcome(up.wait())
        }
        Err(error) => Some(error.to_string()),
    };
    // A player that has gone reads nothing.
    match said.map(|why| writeln!(io::stdout(), "{why}")) {
        None => ExitCode::SUCCESS,
        Some(_) => ExitCode::FAILURE,
    }
}

/// Opens the player on the members that run here, or starts them first.
fn play(args: &UpArgs) -> Result<(), String> {
    let (base, members) = up::members(&args.place.procfile, args.place.data_dir.as_deref())
        .map_err(|error| error.to_string())?;
    if members.is_empty() {
        let procfile = args.place.procfile.display();
        return Err(format!(
            "no line of {procfile} is `glass serve` with its flags, so the player has nobody to \
             show; `glass up --no-tui` runs its processes"
        ));
    }
    let look = args.look.look();
    let play = |hands| play_command::beside((&base, &args.place), &members, hands, look);
    let adopt = Command::to_all(Action::Adopt);
    match up::ask(&base, &adopt) {
        Ok(_) if args.fresh => {
            Err("members run here: `glass run down` stops them, and only then can their data go"
                .to_owned())
        }
        Ok(reply) if reply.error.is_none() => {
            match play(Hands::Own).map_err(|error| error.to_string())? {
                Left::StopAll => stop(&base),
                Left::Running | Left::AtOnce => Ok(()),
            }
        }
        Ok(_) => play(Hands::Other).map(|_| ()).map_err(|error| error.to_string()),
        Err(up::AskError::NotRunning(_)) => {
            let apart = Apart::start(&arguments(args))?;
            let left = play(Hands::Own);
            if let Ok(Left::Running) = left {
                apart.release(&base)?;
                println(&format!("the members run on: `glass` plays them, {DOWN} stops them"));
                return Ok(());
            }
            apart.stop().and(left.map(|_| ()).map_err(|error| error.to_string()))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// The command that stops everything.
const DOWN: &str = "`glass run down`";

fn println(line: &str) {
    let _ = writeln!(io::stderr(), "glass: {line}");
}

/// Stops a released `glass up` and its members.
fn stop(base: &Path) -> Result<(), String> {
    let down = Command::to_all(Action::Down);
    match up::ask(base, &down) {
        Ok(reply) => reply.error.map_or(Ok(()), Err),
        // It has ended meanwhile.
        Err(up::AskError::NotRunning(_)) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// The arguments for the process behind the player.
fn arguments(args: &UpArgs) -> Vec<PathBuf> {
    let mut words: Vec<PathBuf> = ["up", "--behind-player", "--procfile"].map(PathBuf::from).into();
    words.push(args.place.procfile.clone());
    if let Some(dir) = &args.place.data_dir {
        words.extend([PathBuf::from("--data-dir"), dir.clone()]);
    }
    if args.fresh {
        words.push(PathBuf::from("--fresh"));
    }
    words
}
