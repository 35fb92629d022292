//! `glass play`: the player on a recording, on live endpoints, or beside `glass up`.

use std::{
    fs::File,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io::{self, BufReader, IsTerminal as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use glass_etcd::{pb::glasspb::ObserveRequest, story::recording::ReadError};

use crate::{
    control::Control,
    fail, play,
    source::{self, Listener, log_files::LogFiles},
    state::{
        BYTES_MAX, Origin, State,
        anchor::Anchor,
        room::{Hands, Left},
    },
    trace,
    up::{
        self,
        api::{Action, Command},
    },
    view::{
        Look, Shelf,
        plain::{View as PlainView, write_view},
        theme::{ColorChoice, Palette, Terminal, ThemeChoice},
    },
};

/// Messages queued for the player; beyond that, the members' streams are held back.
const WAITING_MAX: usize = 64;
/// The file in the data directory that says that the question of the first run was asked.
const FIRST_QUESTION: &str = "first-question-asked";

/// The command line of `glass play`.
#[derive(Debug, clap::Args)]
pub(crate) struct PlayArgs {
    /// A recording; live members if left out. With @MEMBER:BOOT:CLOCK behind it, or alone for live
    /// members, the player opens at that step.
    #[arg(value_name = "FILE[@STEP]")]
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
    /// Which view to write: at the step, if one is named, or at the end of the records.
    #[arg(long, value_enum, default_value = "stories", requires = "plain")]
    view: PlainView,
    #[command(flatten)]
    look: LookArgs,
}

/// What the terminal can show.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct LookArgs {
    /// Whether colours are used; NO_COLOR in the environment turns `auto` off.
    #[arg(long, value_enum, default_value = "auto")]
    color: ColorChoice,
    /// The ground that colours have to be readable on; `auto` takes the terminal's own palette,
    /// unless COLORFGBG in the environment says that the ground is light.
    #[arg(long, value_enum, default_value = "auto")]
    theme: ThemeChoice,
    /// Draw with ASCII characters only.
    #[arg(long)]
    ascii: bool,
    /// Take the mouse: a click moves the cursor, the wheel steps. Text can then be selected only as
    /// the terminal allows beside that, mostly with Shift.
    #[arg(long)]
    mouse: bool,
}

impl LookArgs {
    pub(crate) fn look(self) -> Look {
        let palette = Palette::of((self.color, self.theme), &Terminal::of_environment());
        let is_ascii = self.ascii || is_ascii_locale(|name| std::env::var(name).ok());
        Look { palette, is_ascii, has_mouse: self.mouse, shelf: Shelf::OWN }
    }
}

/// Whether the locale has no characters but ASCII's. The first of these variables that is set
/// decides; if none is, the terminal is taken for one of today.
fn is_ascii_locale(variable: impl Fn(&str) -> Option<String>) -> bool {
    let mut values = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(variable);
    values.find(|value| !value.is_empty()).is_some_and(|it| it == "C" || it == "POSIX")
}

/// What the player lacks here, if anything.
pub(crate) fn lack() -> Option<&'static str> {
    let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    lack_of(is_terminal, std::env::var("TERM").ok().as_deref())
}

fn lack_of(is_terminal: bool, term: Option<&str>) -> Option<&'static str> {
    match (is_terminal, term) {
        (false, _) => Some("a terminal"),
        (true, Some("dumb")) => Some("a terminal whose cursor moves, and TERM is dumb"),
        (true, _) => None,
    }
}

pub(crate) fn run(args: &PlayArgs) -> ExitCode {
    let look = args.look.look();
    let lack = lack();
    let (file, anchor) = args.file.as_deref().map(Anchor::split).unwrap_or_default();
    let result = match &file {
        Some(file) if args.plain => plain(file, anchor, (args.view, look)),
        // A file that cannot be played is worth a word, with or without a terminal.
        Some(file) => state(file, anchor).and_then(|state| match lack {
            None => block_on(play::run(state, None, None, (None, look))).map(|_| ()),
            Some(lack) => Err(io::Error::other(format!(
                "the player needs {lack}; `glass play {} --plain` prints the stories",
                file.display()
            ))),
        }),
        None if args.plain => remembered(args, anchor, look),
        None if lack.is_none() => {
            let control = other(args);
            let place = control.is_some().then_some(&args.place);
            let files = |(Control(base), _, names): &Supervisor| LogFiles::of(base, names);
            let logs = control.as_ref().map(files);
            live(&args.endpoints, (control, place, None), anchor, (logs, look)).map(|_| ())
        }
        None => Err(io::Error::other(format!(
            "the player needs {}; `glass trace tail` prints what live members do",
            lack.unwrap_or_default()
        ))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // A reader that closes early (`| head`) is no error.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// Plays what the members of the `glass up` in this directory do until the user quits.
pub(crate) fn beside(
    (base, place): (&Path, &crate::Cluster),
    members: &[up::Member],
    hands: Hands,
    look: Look,
) -> io::Result<Left> {
    // The first run of a data directory has a question of its own.
    let note = Some(base.join(FIRST_QUESTION)).filter(|note| !note.exists());
    of_members((base, place), members, (hands, note), look)
}

/// Plays the members of this directory, which end with this process in any case, and asks no
/// question.
pub(crate) fn practice(
    (base, place): (&Path, &crate::Cluster),
    members: &[up::Member],
    look: Look,
) -> io::Result<Left> {
    of_members((base, place), members, (Hands::Other, None), look)
}

fn of_members(
    (base, place): (&Path, &crate::Cluster),
    members: &[up::Member],
    (hands, note): (Hands, Option<PathBuf>),
    look: Look,
) -> io::Result<Left> {
    let members = members.iter();
    let named = members
        .flat_map(|member| member.client_urls.iter().map(|url| (url.clone(), member.name.clone())));
    let (endpoints, names): (Vec<String>, Vec<String>) = named.unzip();
    let logs = LogFiles::of(base, &names);
    let control = Some((Control(base.to_owned()), hands, names));
    live(&endpoints, (control, Some(place), note), None, (Some(logs), look))
}

/// The `glass up` of another process, and the process at each endpoint, if it runs all of them.
/// Members of the same names may run elsewhere, so the endpoints decide.
fn other(args: &PlayArgs) -> Option<(Control, Hands, Vec<String>)> {
    let (base, members) = up::members(&args.place.procfile, args.place.data_dir.as_deref()).ok()?;
    let names = names_of(&args.endpoints, &members)?;
    up::ask(&base, &Command::to_all(Action::Status)).ok()?;
    Some((Control(base), Hands::Other, names))
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

/// The `glass up` of the members, whether the player may stop them, and the process at each
/// endpoint.
type Supervisor = (Control, Hands, Vec<String>);

/// Plays what these members do until the user quits. `note` is where to note that the question of
/// the first run was asked, if it is to be asked.
fn live(
    endpoints: &[String],
    (control, place, note): (Option<Supervisor>, Option<&crate::Cluster>, Option<PathBuf>),
    anchor: Option<Anchor>,
    (logs, look): (Option<LogFiles>, Look),
) -> io::Result<Left> {
    block_on(async {
        let request = ObserveRequest { history: true, ..ObserveRequest::default() };
        let listener = Listener::connect(endpoints, &request, WAITING_MAX);
        let mut state = State::of_endpoints(endpoints, BYTES_MAX);
        state.origin = Origin::Live(endpoints.to_vec());
        state.trials.place = place.cloned();
        state.console.connect(traces());
        note.into_iter().for_each(|note| state.quiz.expect_first(note));
        if let Some(anchor) = anchor {
            state.await_step(anchor).map_err(io::Error::other)?;
        }
        let control = control.map(|(control, hands, names)| {
            state.connect(hands, names);
            control
        });
        play::run(state, Some(listener), control, (logs, look)).await
    })
}

/// The first half of the ids of this player's traces: random, so that no other player has the same.
fn traces() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn state(file: &Path, anchor: Option<Anchor>) -> io::Result<State> {
    let read = File::open(file).map_err(ReadError::Io);
    let state = read.and_then(|read| State::of_file(BufReader::new(read), BYTES_MAX));
    let mut state = state.map_err(|error| of_file(file, &error))?;
    state.origin = Origin::File(file.display().to_string());
    open_step(&mut state, anchor, file)?;
    Ok(state)
}

/// Writes a view of the file, without a memory limit.
fn plain(file: &Path, anchor: Option<Anchor>, (view, look): (PlainView, Look)) -> io::Result<()> {
    let read = source::open(file).map_err(|error| of_file(file, &error))?;
    let mut state = State::of_recording(read.recording);
    open_step(&mut state, anchor, file)?;
    write_view(&mut state, view, look, &mut io::stdout().lock())
}

/// Writes a view of what these members remember.
fn remembered(args: &PlayArgs, anchor: Option<Anchor>, look: Look) -> io::Result<()> {
    let recording = block_on(trace::remembered(&args.endpoints))?;
    let mut state = State::of_recording(recording);
    state.room.hands = Hands::Nobody;
    if let Some(anchor) = anchor {
        state.await_step(anchor).map_err(io::Error::other)?;
    }
    if let (PlainView::Logs, Some((Control(base), hands, names))) = (args.view, other(args)) {
        state.room.hands = hands;
        state.printed(LogFiles::of(&base, &names).read());
    }
    write_view(&mut state, args.view, look, &mut io::stdout().lock())
}

/// Opens the step with this address, if there is one.
fn open_step(state: &mut State, anchor: Option<Anchor>, file: &Path) -> io::Result<()> {
    let wrong = |why| io::Error::other(format!("{}: {why}", file.display()));
    anchor.map_or(Ok(()), |anchor| state.await_step(anchor).map_err(wrong))
}

/// Names the file and the cause: the file is missing, is a directory, or is no recording.
fn of_file(file: &Path, error: &ReadError) -> io::Error {
    match error {
        ReadError::Io(cause) => io::Error::other(format!("{}: {cause}", file.display())),
        _ => io::Error::other(format!("{}: {error}", file.display())),
    }
}

fn block_on<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
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
    fn the_locale_of_c_means_ascii_by_the_rule_of_posix() {
        let is_ascii = |set: &[(&str, &str)]| {
            let of = |name: &str| set.iter().find(|(it, _)| *it == name).map(|it| it.1.to_owned());
            is_ascii_locale(of)
        };
        assert!(is_ascii(&[("LC_ALL", "C"), ("LANG", "en_US.UTF-8")]));
        assert!(is_ascii(&[("LC_ALL", ""), ("LC_CTYPE", "POSIX"), ("LANG", "de_DE.UTF-8")]));
        assert!(is_ascii(&[("LANG", "C")]));
        assert!(!is_ascii(&[("LC_ALL", "C.UTF-8"), ("LANG", "C")]));
        assert!(!is_ascii(&[]));
    }

    #[test]
    fn a_dumb_terminal_is_no_terminal_for_the_player() {
        assert_eq!(None, lack_of(true, Some("xterm")));
        assert_eq!(None, lack_of(true, None));
        assert_eq!(Some("a terminal"), lack_of(false, Some("xterm")));
        assert!(lack_of(true, Some("dumb")).is_some_and(|lack| lack.contains("TERM")));
    }

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
