//! `glass lesson`: a mechanism a lesson, learned by questions about a run of it.
//!
//! ```text
//!   scenario.txt ─▶ scenario ─▶ perform ─▶ recording.ndjson, with its labels
//!                               (a cluster of its own: cluster, labels)
//! ```

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use glass_etcd::story::recording;

use crate::fail;

mod cluster;
pub(crate) mod labels;
mod perform;
pub(crate) mod scenario;

use scenario::Scenario;

/// The command line of `glass lesson`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Perform a scenario on a cluster of its own, and write the recording beside it. For those who
    /// write lessons and figures
    Record {
        /// A lesson's directory with a scenario.txt, or a file NAME.scenario
        path: PathBuf,
    },
}

/// Runs a command of `glass lesson`.
pub(crate) fn run(args: &Args) -> ExitCode {
    let done = match &args.command {
        Command::Record { path } => record(path),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn record(path: &Path) -> io::Result<()> {
    let (from, to) = match path.is_dir() {
        true => (path.join("scenario.txt"), path.join("recording.ndjson")),
        false => (path.to_owned(), path.with_extension("ndjson")),
    };
    let of_file = |error| io::Error::other(format!("{}: {error}", from.display()));
    let text = fs::read_to_string(&from).map_err(of_file)?;
    let scenario = Scenario::parse(&from.display().to_string(), &text).map_err(io::Error::other)?;
    let performed = block_on(perform::perform(&scenario))?.map_err(io::Error::other)?;
    recording::write(BufWriter::new(File::create(&to)?), &performed.recording)?;
    let labels = labels::labels(&performed.recording);
    let mut out = io::stdout().lock();
    for (label, id) in labels {
        writeln!(out, "{label:14} {id:016x}")?;
    }
    writeln!(out, "recorded into {}", to.display())
}

fn block_on<T>(work: impl Future<Output = T>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(work);
    // A request that nobody waits for any more may still be under way.
    runtime.shutdown_background();
    Ok(result)
}
