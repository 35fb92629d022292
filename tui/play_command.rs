//! `glass play`: the player on a recording, on live endpoints, or beside `glass up`.

use std::{
    fs::File,
    io::{self, BufReader, IsTerminal as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use glass_etcd::{pb::glasspb::ObserveRequest, story::recording::ReadError};

use crate::{
    fail, play,
    source::{self, Listener},
    state::{BYTES_MAX, State},
    trace,
    view::{self, Look, pen::ColorChoice},
};

/// Messages queued for the player; beyond that, the members' streams are held back.
const WAITING_MAX: usize = 64;

/// The command line of `glass play`.
#[derive(Debug, clap::Args)]
pub(crate) struct PlayArgs {
    /// A recording; live members if left out.
    file: Option<PathBuf>,
    /// The members to connect to.
    #[arg(long, value_delimiter = ',', default_value = source::ENDPOINTS)]
    endpoints: Vec<String>,
    /// Write the stories as text instead of opening the player: those of the recording, or those
    /// that live members remember.
    #[arg(long)]
    plain: bool,
    /// Whether colours are used; NO_COLOR in the environment turns `auto` off.
    #[arg(long, value_enum, default_value = "auto")]
    color: ColorChoice,
    /// Draw with ASCII characters only.
    #[arg(long)]
    ascii: bool,
}

impl PlayArgs {
    fn look(&self) -> Look {
        Look::new(self.color, std::env::var("NO_COLOR").ok().as_deref(), self.ascii)
    }
}

pub(crate) fn run(args: &PlayArgs) -> ExitCode {
    let look = args.look();
    let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    let result = match &args.file {
        Some(file) if args.plain => plain(file, look),
        // A file that cannot be played is worth a word, with or without a terminal.
        Some(file) => state(file).and_then(|state| match is_terminal {
            true => block_on(play::run(state, None, look)),
            false => Err(io::Error::other(format!(
                "the player needs a terminal; `glass play {} --plain` prints the stories",
                file.display()
            ))),
        }),
        None if args.plain => remembered(&args.endpoints, look),
        None if is_terminal => live(&args.endpoints, look),
        None => Err(io::Error::other(
            "the player needs a terminal; `glass trace tail` prints what live members do",
        )),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // A reader that closes early (`| head`) is no error.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// Plays what these members do until the user quits.
pub(crate) fn live(endpoints: &[String], look: Look) -> io::Result<()> {
    block_on(async {
        let request = ObserveRequest { history: true, ..ObserveRequest::default() };
        let listener = Listener::connect(endpoints, &request, WAITING_MAX);
        play::run(State::of_endpoints(endpoints, BYTES_MAX), Some(listener), look).await
    })
}

fn state(file: &Path) -> io::Result<State> {
    let read = File::open(file).map_err(ReadError::Io);
    let state = read.and_then(|read| State::of_file(BufReader::new(read), BYTES_MAX));
    state.map_err(|error| of_file(file, &error))
}

/// Writes all stories of the file, without a memory limit.
fn plain(file: &Path, look: Look) -> io::Result<()> {
    let read = source::open(file).map_err(|error| of_file(file, &error))?;
    view::plain::write(read.recording, look, &mut io::stdout().lock())
}

/// Writes all stories that these members remember.
fn remembered(endpoints: &[String], look: Look) -> io::Result<()> {
    block_on(async {
        let recording = trace::remembered(endpoints).await?;
        view::plain::write(recording, look, &mut io::stdout().lock())
    })
}

/// Names the file and the cause: the file is missing, is a directory, or is no recording.
fn of_file(file: &Path, error: &ReadError) -> io::Error {
    match error {
        ReadError::Io(cause) => io::Error::other(format!("{}: {cause}", file.display())),
        _ => io::Error::other(format!("{}: {error}", file.display())),
    }
}

fn block_on(work: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
