//! `glass lesson`: a mechanism a lesson, learned by questions about a run of it.
//!
//! ```text
//!   scenario.txt ─▶ scenario ─▶ perform ─▶ recording.ndjson, with its labels
//!                               (a cluster of its own)        │
//!   lesson.toml ─▶ course ─▶ language ─────────────▶ run ◀────┘
//!                                                     │
//!   progress ◀──── session ◀──── asked: the question, and its answer as the records have it
//!                     ▲
//!                     ├── text ◀── typed
//!                     └── play ─▶ the player, which asks the questions at their steps
//!   practice: the tasks, on a cluster of its own
//! ```
//!
//! Invariants: no answer is written down; all are read from the records of the run that is asked
//! about. A lesson touches no cluster and no data of the learner. [`proof`] holds each lesson to
//! this, on the shipped recording and on fresh ones.
//!
//! Left out: lessons from files of the learner's own; they are in the binary.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufWriter, IsTerminal as _, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use glass_etcd::story::recording;

use crate::{
    fail,
    play_command::{LookArgs, lack},
    source, trace,
    view::Look,
};

mod asked;
mod cluster;
mod course;
pub(crate) mod labels;
mod language;
mod links;
mod perform;
mod play;
mod practice;
mod progress;
mod proof;
mod run;
pub(crate) mod scenario;
mod session;
mod text;
mod typed;

use course::{LESSONS, Lesson};
use progress::{Came, Notes, Progress};
use scenario::Scenario;
use session::Session;
use text::Paper;
use typed::Typed;

/// The command line of `glass lesson`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the lessons with their minutes, and what is done; the default
    List,
    /// Begin or continue a lesson: in the player or, without a terminal, as text, which reads a
    /// line for each answer
    Start {
        /// The lesson; the one that was begun last if left out
        slug: Option<String>,
        /// Run the scenario first, on a cluster of its own, and ask about that run
        #[arg(long)]
        run: bool,
        /// Text instead of the player, which needs a terminal
        #[arg(long)]
        plain: bool,
        #[command(flatten)]
        look: LookArgs,
    },
    /// Show where a lesson stands: its text, and the next question
    Show {
        /// The lesson; the one that was begun last if left out
        slug: Option<String>,
    },
    /// Answer the next question. The exit code is 1 if the answer is wrong
    Answer {
        /// The number of the choice or of the step, or the number itself
        answer: String,
        /// The lesson; the one that was begun last if left out
        slug: Option<String>,
    },
    /// Show the next of three hints: where to look, what to compare, the reason
    Hint {
        /// The lesson; the one that was begun last if left out
        slug: Option<String>,
    },
    /// Leave the next question unanswered
    Skip {
        /// The lesson; the one that was begun last if left out
        slug: Option<String>,
    },
    /// Have the next question answered, with the reason
    Choose {
        /// The lesson; the one that was begun last if left out
        slug: Option<String>,
    },
    /// Do the tasks of a lesson on a cluster of its own, in the player or, without a terminal, from
    /// another one. The exit code is 1 if one was not done
    Try {
        /// The lesson; the one that was begun last if left out
        slug: Option<String>,
        /// Text instead of the player, which needs a terminal
        #[arg(long)]
        plain: bool,
        #[command(flatten)]
        look: LookArgs,
    },
    /// Look whether the tasks of a lesson were done on live members, or in a recording. The exit
    /// code is 1 if one was not
    Check {
        /// The lesson; the one that was begun last if left out
        slug: Option<String>,
        /// The members to ask for their records
        #[arg(long, value_delimiter = ',', default_value = source::ENDPOINTS)]
        endpoints: Vec<String>,
        /// Look into a recording instead
        #[arg(long, value_name = "FILE", visible_alias = "file", conflicts_with = "endpoints")]
        from: Option<PathBuf>,
    },
    /// Forget the answers to a lesson
    Reset {
        /// The lesson; the one that was begun last if left out
        slug: Option<String>,
    },
    /// Perform a scenario on a cluster of its own, and write the recording beside it. For those who
    /// write lessons and figures
    Record {
        /// A lesson's directory with a scenario.txt, or a file NAME.scenario
        path: PathBuf,
    },
    /// Run the scenario of each lesson, and prove that its questions have one answer each. For
    /// those who write lessons
    Prove {
        /// The lessons; all if left out
        slugs: Vec<String>,
    },
}

/// Runs a command of `glass lesson`.
pub(crate) fn run(args: &Args) -> ExitCode {
    match try_run(args.command.as_ref().unwrap_or(&Command::List)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // A reader that closes early (`| head`) is no error.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// Whether what was asked for is so.
fn try_run(command: &Command) -> io::Result<bool> {
    let mut out = paper();
    let dir = || progress::state_dir(|name| std::env::var(name).ok());
    match command {
        Command::List => text::list(&mut out, &Notes::read(&dir()?)?)?,
        Command::Start { slug, run, plain, look } => {
            start(&dir()?, slug.as_deref(), *run, look_of(*plain, look))?;
        }
        Command::Show { slug } => {
            show(&session_of(&dir()?, slug.as_deref())?)?;
        }
        Command::Answer { answer, slug } => return self::answer(&dir()?, slug.as_deref(), answer),
        Command::Hint { slug } => {
            hint(&mut session_of(&dir()?, slug.as_deref())?)?;
        }
        Command::Skip { slug } => {
            self::answer(&dir()?, slug.as_deref(), "skip")?;
        }
        Command::Choose { slug } => {
            self::answer(&dir()?, slug.as_deref(), "choose")?;
        }
        Command::Try { slug, plain, look } => {
            return practise(&dir()?, slug.as_deref(), look_of(*plain, look));
        }
        Command::Check { slug, endpoints, from } => {
            return check(&dir()?, slug.as_deref(), endpoints, from.as_deref());
        }
        Command::Reset { slug } => {
            let dir = dir()?;
            let mut notes = Notes::read(&dir)?;
            let slug = slug_of(&notes, slug.as_deref())?;
            notes.reset(&slug)?;
            session::forget_run(&dir, &slug)?;
            writeln!(out, "{slug} is not begun any more")?;
        }
        Command::Record { path } => record(path)?,
        Command::Prove { slugs } => return prove(slugs),
    }
    Ok(true)
}

/// The player at the beginning of a lesson, and what comes of its questions.
#[cfg(test)]
pub(crate) fn begun(
    slug: &str,
) -> (crate::state::State, std::sync::mpsc::Receiver<crate::state::quiz::lesson::News>) {
    let session = Session::open(Path::new("/nowhere"), slug).unwrap();
    let (sender, news) = std::sync::mpsc::channel();
    (play::begun(session.run, &session.lesson, &Progress::default(), sender).unwrap(), news)
}

/// The slugs of all lessons.
#[cfg(test)]
pub(crate) fn slugs() -> impl Iterator<Item = &'static str> {
    LESSONS.iter().map(|files| files.slug)
}

/// Standard output, as wide as its terminal.
fn paper() -> Paper<io::Stdout> {
    let out = io::stdout();
    let columns = if out.is_terminal() { crossterm::terminal::size().ok() } else { None };
    Paper::new(out, columns.map_or(usize::MAX, |(columns, _)| usize::from(columns)))
}

/// How the player looks; `None` if it cannot be shown, or is not wanted.
fn look_of(is_plain: bool, look: &LookArgs) -> Option<Look> {
    Some(look.look()).filter(|_| !is_plain && lack().is_none())
}

/// The lesson that was begun last, unless another version of the program has begun one that this
/// one does not know.
fn current(notes: &Notes) -> Option<&str> {
    notes.current().filter(|slug| LESSONS.iter().any(|files| files.slug == *slug))
}

/// The lesson that is named, or was begun last, or is the first one.
fn slug_of(notes: &Notes, slug: Option<&str>) -> io::Result<String> {
    let slug = slug.or_else(|| current(notes)).unwrap_or(LESSONS[0].slug);
    Lesson::of(slug).map(|lesson| lesson.slug().to_owned()).map_err(io::Error::other)
}

fn session_of(dir: &Path, slug: Option<&str>) -> io::Result<Session> {
    Session::open(dir, &slug_of(&Notes::read(dir)?, slug)?)
}

/// Begins or continues a lesson: in the player if it can have this look, or else as text.
fn start(dir: &Path, slug: Option<&str>, is_run: bool, look: Option<Look>) -> io::Result<()> {
    let notes = Notes::read(dir)?;
    let slug = match (slug, current(&notes)) {
        (None, Some(current)) => after_done(&notes, current)?,
        (slug, _) => slug_of(&notes, slug)?,
    };
    if is_run {
        run_own(dir, &slug)?;
    }
    let mut session = Session::open(dir, &slug)?;
    session.save()?;
    let mut out = paper();
    text::intro(&mut out, &session.lesson)?;
    let mut input = Typed::open()?;
    let Some(look) = look.filter(|_| session.is_open()) else {
        return text::talk(&mut session, &mut input, &mut out);
    };
    writeln!(out, "\nEnter opens the player. → leads to the next step; ? lists the keys.")?;
    if input.read_line(&mut String::new())? == 0 {
        return Ok(());
    }
    drop(input);
    let (lesson, progress) = block_on(play::play(session, look))??;
    match progress.answers.len() < lesson.asks.len() {
        true => writeln!(out, "{}", text::LATER),
        false => text::outro(&mut out, &lesson),
    }
}

/// Performs a lesson's scenario, and keeps the recording as the learner's own.
fn run_own(dir: &Path, slug: &str) -> io::Result<()> {
    let said = "running the scenario on a cluster of its own";
    writeln!(io::stderr(), "glass lesson: {said}; this takes some seconds")?;
    let lesson = Lesson::of(slug).map_err(io::Error::other)?;
    let scenario = session::scenario(&lesson).map_err(io::Error::other)?;
    let performed = block_on(perform::perform(&scenario))?.map_err(io::Error::other)?;
    let (wrong, _) = proof::of(&lesson, performed.recording.clone());
    if let Some(why) = wrong.first() {
        let how = "--run makes another one, and without it the lesson is about the run it brings";
        return Err(io::Error::other(format!("this run does not show it: {why}; {how}")));
    }
    session::keep_run(dir, slug, &performed.recording)
}

/// The lesson that was begun last or, if that is done, the one after it.
fn after_done(notes: &Notes, current: &str) -> io::Result<String> {
    let lesson = Lesson::of(&slug_of(notes, Some(current))?).map_err(io::Error::other)?;
    let answered = notes.of(current).map_or(0, |progress| progress.answers.len());
    let next = lesson.next().filter(|_| lesson.asks.len() <= answered);
    Ok(next.unwrap_or(lesson.slug()).to_owned())
}

/// Where a lesson stands: its text, and the next question or what is known after the last.
fn show(session: &Session) -> io::Result<()> {
    let mut out = paper();
    text::intro(&mut out, &session.lesson)?;
    let Some(asked) = session.question()? else {
        return text::outro(&mut out, &session.lesson);
    };
    text::question(&mut out, session, &asked, None)?;
    text::commands(&mut out, &session.lesson, &asked)
}

fn hint(session: &mut Session) -> io::Result<()> {
    match session.is_open() {
        true => text::hint(&mut paper(), session),
        false => Err(all_answered(&session.lesson)),
    }
}

fn answer(dir: &Path, slug: Option<&str>, typed: &str) -> io::Result<bool> {
    let mut session = session_of(dir, slug)?;
    let mut out = paper();
    let Some(asked) = session.question()? else {
        return Err(all_answered(&session.lesson));
    };
    let came = text::came(&asked, typed)
        .map_err(|form| io::Error::other(format!("{typed:?} is no answer: {form}")))?;
    // Noted first: a reader that closes early (`| head`) has seen the answer all the same.
    let said = text::graded(&mut out, &asked, came);
    drop(asked);
    session.note(came)?;
    said?;
    if session.question()?.is_none() {
        text::outro(&mut out, &session.lesson)?;
    }
    Ok(came != Came::Wrong)
}

/// Nothing is asked any more.
fn all_answered(lesson: &Lesson) -> io::Error {
    let slug = lesson.slug();
    let how = format!("`glass lesson reset {slug}` forgets the answers");
    io::Error::other(format!("all questions of {slug} are answered; {how}"))
}

fn check(
    dir: &Path,
    slug: Option<&str>,
    endpoints: &[String],
    from: Option<&Path>,
) -> io::Result<bool> {
    let mut notes = Notes::read(dir)?;
    let lesson = Lesson::of(&slug_of(&notes, slug)?).map_err(io::Error::other)?;
    let recording = match from {
        Some(path) => {
            let of_file = |error| io::Error::other(format!("{}: {error}", path.display()));
            source::open(path).map_err(of_file)?.recording
        }
        None => block_on(trace::remembered(endpoints))?.map_err(|error| {
            let how = format!("`glass lesson try {}` starts members for it", lesson.slug());
            io::Error::other(format!("{error}; {how}"))
        })?,
    };
    let is_all = practice::checked(&lesson, recording, &mut paper())?;
    note_task(&mut notes, &lesson, is_all)
}

/// Notes that the tasks of a lesson were done, if they were.
fn note_task(notes: &mut Notes, lesson: &Lesson, is_all: bool) -> io::Result<bool> {
    if is_all {
        let progress = notes.of(lesson.slug()).unwrap_or_default();
        notes.note(lesson.slug(), &Progress { is_task_done: true, ..progress })?;
    }
    Ok(is_all)
}

fn practise(dir: &Path, slug: Option<&str>, look: Option<Look>) -> io::Result<bool> {
    let mut notes = Notes::read(dir)?;
    let lesson = Lesson::of(&slug_of(&notes, slug)?).map_err(io::Error::other)?;
    let mut input = Typed::open()?;
    let is_all = practice::practise(&lesson, look, &mut input, &mut paper())?;
    note_task(&mut notes, &lesson, is_all)
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

/// Proves each lesson on a fresh run, and that its answers are those of the shipped one.
fn prove(slugs: &[String]) -> io::Result<bool> {
    let all = LESSONS.iter().map(|files| files.slug.to_owned()).collect();
    let slugs = if slugs.is_empty() { all } else { slugs.to_vec() };
    let mut is_sound = true;
    for slug in slugs {
        let lesson = Lesson::of(&slug).map_err(io::Error::other)?;
        let scenario = session::scenario(&lesson).map_err(io::Error::other)?;
        let performed = block_on(perform::perform(&scenario))?.map_err(io::Error::other)?;
        let mut wrong = proof::labels(&lesson, &performed.recording)?;
        let (more, fresh) = proof::of(&lesson, performed.recording);
        wrong.extend(more);
        wrong.extend(proof::solved_at_start(&lesson, performed.before));
        let (more, shipped) = proof::of(&lesson, session::shipped(&lesson)?);
        wrong.extend(more.into_iter().map(|why| format!("shipped: {why}")));
        if fresh != shipped {
            wrong.push(format!("the answers are {fresh:?}, and shipped are {shipped:?}"));
        }
        let mut out = io::stdout().lock();
        match wrong.is_empty() {
            true => writeln!(out, "{slug}: {}", fresh.join(", "))?,
            false => wrong.iter().try_for_each(|why| writeln!(out, "{slug}: WRONG: {why}"))?,
        }
        is_sound &= wrong.is_empty();
    }
    Ok(is_sound)
}

fn block_on<T>(work: impl Future<Output = T>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(work);
    // A request that nobody waits for any more may still be under way.
    runtime.shutdown_background();
    Ok(result)
}
