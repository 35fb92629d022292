//! The one binary: finds the command, and passes it to its module.
//!
//! Commands with flags of their own (etcd's, those of its `benchmark` tool) receive their arguments
//! unchanged; clap parses the rest. Called by the name `etcd`, the binary is `glass serve`, so
//! scripts written for etcd run unchanged.

mod bench;
mod book;
mod boot;
mod chrome;
mod client;
mod control;
mod html;
mod keys;
mod lesson;
mod lines;
mod log;
mod play;
mod play_command;
#[cfg(test)]
#[path = "../tests/it/random.rs"]
mod random;
mod rotate;
mod run;
mod serve;
mod source;
mod state;
mod svg;
mod timestamp;
#[cfg(test)]
#[path = "tests/told.rs"]
mod told;
mod trace;
mod up;
mod up_command;
mod utl;
mod view;

use std::{
    ffi::OsString,
    fmt::Display,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser as _;

/// An etcd-compatible server that shows the path of every read and write.
#[derive(Debug, clap::Parser)]
#[command(name = "glass", version)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// The flags of `glass up`, which is the default command.
    #[command(flatten)]
    up: up_command::UpArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run the members of the Procfile; the default command
    Up(up_command::UpArgs),
    /// Start, stop, restart, kill, pause or resume a process of the running `glass up`
    Run(run::Args),
    /// Run one member, with etcd's flags
    #[command(disable_help_flag = true)]
    Serve(Words),
    /// Show the traces of running members, or record them
    Trace(trace::TraceArgs),
    /// Step through traces, live or from a recording
    Play(play_command::PlayArgs),
    /// Start members from what the disks had at a moment, as after a power failure
    Boot(boot::Args),
    /// Restore a saved snapshot, or defragment the file of a member that does not run
    Utl(utl::Args),
    /// Learn by questions about a run: predict, look, and have the answer graded by the trace
    Lesson(lesson::Args),
    /// Read the book in a browser: serve it on this machine
    Book(book::Args),
    /// Put load on a cluster, with the flags of etcd's benchmark tool
    #[command(disable_help_flag = true)]
    Bench(Words),
}

/// Arguments for a command that parses its own flags.
#[derive(Debug, clap::Args)]
struct Words {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// Selects a cluster on this machine.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(crate) struct Cluster {
    /// The Procfile with the cluster's commands
    #[arg(long, value_name = "FILE", default_value = "Procfile")]
    pub(crate) procfile: PathBuf,
    /// Directory of data, logs and the control socket; by default .glass beside the Procfile
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

fn main() -> ExitCode {
    // Failpoints from the environment, in builds that include them.
    let _failpoints = fail::FailScenario::setup();
    let args: Vec<OsString> = std::env::args_os().collect();
    match raw(&args) {
        Some((command, words)) => match words {
            Ok(words) => own_flags(command, words),
            Err(word) => fail(&format!("not UTF-8: {}", word.display())),
        },
        None => command(Cli::parse_from(args)),
    }
}

fn command(cli: Cli) -> ExitCode {
    match cli.command {
        None => up_command::run(&cli.up),
        Some(Command::Up(args)) => up_command::run(&args),
        Some(Command::Run(args)) => run::run(&args),
        Some(Command::Serve(args)) => own_flags(Raw::Serve, args.words),
        Some(Command::Trace(args)) => trace(args),
        Some(Command::Play(args)) => play_command::run(&args),
        Some(Command::Boot(args)) => boot::run(&args),
        Some(Command::Utl(args)) => utl::run(&args),
        Some(Command::Lesson(args)) => lesson::run(&args),
        Some(Command::Book(args)) => book::run(&args),
        Some(Command::Bench(args)) => own_flags(Raw::Bench, args.words),
    }
}

/// The commands that parse their own flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Raw {
    Serve,
    Bench,
}

fn own_flags(command: Raw, words: Vec<String>) -> ExitCode {
    match command {
        Raw::Serve => serve::run(&words),
        Raw::Bench => bench::run(words),
    }
}

fn trace(args: trace::TraceArgs) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(trace::run(args, html::write)),
        Err(error) => fail(&error),
    }
}

/// A command and its arguments, or the argument that is not UTF-8.
type RawCall = (Raw, Result<Vec<String>, OsString>);

/// Finds the commands that receive their arguments unchanged: clap would interpret `--help` and
/// `--`.
fn raw(args: &[OsString]) -> Option<RawCall> {
    let called = args.first().map(Path::new).and_then(Path::file_name);
    let (command, words) = if called.is_some_and(|name| name == "etcd") {
        (Raw::Serve, &args[1..])
    } else {
        let command = match args.get(1)?.to_str()? {
            "serve" => Raw::Serve,
            "bench" => Raw::Bench,
            _ => return None,
        };
        (command, &args[2..])
    };
    Some((command, words.iter().map(|word| word.clone().into_string()).collect()))
}

/// Prints to standard output; a reader that closes early (`| head`) is no error.
pub(crate) fn print(text: &str) -> ExitCode {
    let _ = io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// Prints one line on standard error.
pub(crate) fn fail(why: &dyn Display) -> ExitCode {
    let _ = writeln!(io::stderr(), "glass: {why}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw_of(words: &[&str]) -> Option<(Raw, Vec<String>)> {
        let args: Vec<OsString> = words.iter().map(OsString::from).collect();
        raw(&args).map(|(command, words)| (command, words.expect("UTF-8")))
    }

    #[test]
    fn called_etcd_it_serves_with_all_words() {
        let (command, words) = raw_of(&["/usr/local/bin/etcd", "--name", "up", "--help"]).unwrap();
        assert_eq!(command, Raw::Serve);
        assert_eq!(words, ["--name", "up", "--help"]);
        assert_eq!(raw_of(&["etcd"]), Some((Raw::Serve, vec![])));
    }

    #[test]
    fn commands_with_their_own_flags_get_their_words_untouched() {
        let (command, words) = raw_of(&["glass", "serve", "--version", "--", "-x"]).unwrap();
        assert_eq!((command, words.len()), (Raw::Serve, 3));
        assert_eq!(raw_of(&["glass", "bench", "put"]).unwrap().0, Raw::Bench);
        assert_eq!(raw_of(&["glass", "up", "--fresh"]), None);
        assert_eq!(raw_of(&["glass"]), None);
        assert_eq!(raw_of(&["/x/etcdctl", "get"]), None);
    }

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
        let cli =
            Cli::parse_from(["glass", "up", "--procfile", "P", "--data-dir", "D", "--no-tui"]);
        let Some(Command::Up(args)) = cli.command else { panic!("up") };
        assert!(args.no_tui && !args.fresh && args.place.data_dir.is_some());
        let alone = Cli::parse_from(["glass", "--ascii", "--data-dir", "D"]);
        assert!(alone.command.is_none() && alone.up.place.data_dir.is_some());
        assert!(Cli::try_parse_from(["glass", "run", "pause", "etcd-01"]).is_ok());
        assert!(Cli::try_parse_from(["glass", "run", "dance"]).is_err());
    }
}
