//! `glass play`: the player on a recording, on live endpoints, or beside `glass up`.

use std::{
    fs::File,
    io::{self, BufReader, IsTerminal as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use glass_etcd::{pb::glasspb::ObserveRequest, story::recording::ReadError};

use crate::{
    control::Control,
    fail, play,
    source::{self, Listener, log_files::LogFiles},
    state::{BYTES_MAX, State, room::Hands},
    trace,
    up::{
        self,
        api::{Action, Command},
    },
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
    #[command(flatten)]
    place: crate::Cluster,
    /// Write the stories as text instead of opening the player: those of the recording, or those
    /// that live members remember.
    #[arg(long)]
    plain: bool,
    #[command(flatten)]
    look: LookArgs,
}

/// What the terminal can show.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct LookArgs {
    /// Whether colours are used; NO_COLOR in the environment turns `auto` off.
    #[arg(long, value_enum, default_value = "auto")]
    color: ColorChoice,
    /// Draw with ASCII characters only.
    #[arg(long)]
    ascii: bool,
}

impl LookArgs {
    pub(crate) fn look(self) -> Look {
        Look::new(self.color, std::env::var("NO_COLOR").ok().as_deref(), self.ascii)
    }
}

pub(crate) fn run(args: &PlayArgs) -> ExitCode {
    let look = args.look.look();
    let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    let result = match &args.file {
        Some(file) if args.plain => plain(file, look),
        // A file that cannot be played is worth a word, with or without a terminal.
        Some(file) => state(file).and_then(|state| match is_terminal {
            true => block_on(play::run(state, None, None, (None, look))),
            false => Err(io::Error::other(format!(
                "the player needs a terminal; `glass play {} --plain` prints the stories",
                file.display()
            ))),
        }),
        None if args.plain => remembered(&args.endpoints, look),
        None if is_terminal => {
            let (control, names) = other(args).unzip();
            let logs = match (&control, &names) {
                (Some(Control::Other(base)), Some(names)) => Some(LogFiles::of(base, names)),
                _ => None,
            };
            live(&args.endpoints, control.zip(names), (logs, look))
        }
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

/// Plays what the members of this `glass up` do until the user quits.
pub(crate) fn beside(up: &up::Up, look: Look) -> io::Result<()> {
    let members = up.members().iter();
    let named = members
        .flat_map(|member| member.client_urls.iter().map(|url| (url.clone(), member.name.clone())));
    let (endpoints, names): (Vec<String>, Vec<String>) = named.unzip();
    let logs = LogFiles::of(up.base(), &names);
    live(&endpoints, Some((Control::Own(up.handle()), names)), (Some(logs), look))
}

/// The `glass up` of another process, and the process at each endpoint, if it runs all of them.
/// Members of the same names may run elsewhere, so the endpoints decide.
fn other(args: &PlayArgs) -> Option<(Control, Vec<String>)> {
    let (base, members) = up::members(&args.place.procfile, args.place.data_dir.as_deref()).ok()?;
    let names = names_of(&args.endpoints, &members)?;
    up::ask(&base, &Command::to_all(Action::Status)).ok()?;
    Some((Control::Other(base), names))
}

/// The member at each endpoint; `None` if one of them belongs to no member.
fn names_of(endpoints: &[String], members: &[up::Member]) -> Option<Vec<String>> {
    let address = |url: &str| url.strip_prefix("http://").unwrap_or(url).to_owned();
    let name = |endpoint: &String| {
        let is_own = |url: &String| address(url) == address(endpoint);
        let member = members.iter().find(|member| member.client_urls.iter().any(is_own))?;
        Some(member.name.clone())
    };
    endpoints.iter().map(name).collect()
}

/// Plays what these members do until the user quits.
fn live(
    endpoints: &[String],
    control: Option<(Control, Vec<String>)>,
    (logs, look): (Option<LogFiles>, Look),
) -> io::Result<()> {
    block_on(async {
        let request = ObserveRequest { history: true, ..ObserveRequest::default() };
        let listener = Listener::connect(endpoints, &request, WAITING_MAX);
        let mut state = State::of_endpoints(endpoints, BYTES_MAX);
        let (control, names) = control.unzip();
        match (&control, names) {
            (Some(Control::Own(_)), Some(names)) => state.connect(Hands::Own, names),
            (Some(Control::Other(_)), Some(names)) => state.connect(Hands::Other, names),
            _ => {}
        }
        play::run(state, Some(listener), control, (logs, look)).await
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
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(work);
    // A command to another process may still wait for its reply, which nobody needs now.
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_can_be_stopped_only_if_every_endpoint_is_one_of_theirs() {
        let member = |name: &str, url: &str| up::Member {
            name: name.to_owned(),
            client_urls: vec![url.to_owned()],
        };
        let members = [member("a", "http://127.0.0.1:2379"), member("b", "http://127.0.0.1:2479")];
        let names = |endpoints: &[&str]| {
            let endpoints: Vec<String> = endpoints.iter().map(|e| (*e).to_owned()).collect();
            names_of(&endpoints, &members)
        };
        let both = Some(vec!["b".to_owned(), "a".to_owned()]);
        assert_eq!(names(&["127.0.0.1:2479", "http://127.0.0.1:2379"]), both);
        assert_eq!(names(&["127.0.0.1:2379", "10.0.0.7:2379"]), None);
    }
}
