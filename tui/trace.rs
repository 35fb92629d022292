//! `glass trace`: the members' records, as text.
//!
//! `tail` follows live, `list` shows the requests that the members remember, `show` shows the story
//! of one, `chain` what followed from it, `diff` compares those of two, `why-slow` ranks what many
//! waited for, `record` writes a file that the player, the lessons and `--from` read, and `export`
//! writes one for other viewers.
//!
//! All of them listen to every endpoint at once and join what they receive. A member that sends no
//! records is named, on standard error and in the output of `show`, and its steps are unknown. The
//! text has a stable form, which the book documents line by line and a test of the book checks.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use glass_etcd::{
    story::{
        Recording,
        order::Order,
        query::{
            Stories, Story, address::Address, diff::Side, find::Found, incidents::incidents,
            silence::Silences,
        },
    },
    trace::Grain,
};

pub(crate) mod plain;
pub(crate) mod words;

mod ahead;
mod asked;
mod chain;
mod cost;
mod diff;
mod explain;
mod export;
mod find;
mod gather;
mod incidents;
mod live;
mod slow;
pub(crate) mod through;
mod usual;

use crate::{
    source,
    state::{anchor::Anchor, story::Subject, text},
};
use asked::Asked;
pub(crate) use export::{Wanted, WritePage, Written};
pub(crate) use gather::Gathered;
use gather::gather;

/// The command line of `glass trace`.
#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Follow the steps of all members as they happen, until Ctrl-C.
    Tail(TailArgs),
    /// List the requests that the members remember, and what happened to the cluster; all of them,
    /// or those about a key, a lease or a member.
    List {
        #[command(flatten)]
        find: find::Find,
        #[command(flatten)]
        from: From,
        #[command(flatten)]
        form: Form,
    },
    /// Show the story of one request, on all members: its steps, where its time went, what it cost,
    /// which members formed the quorum, where it is stored and which watchers received it.
    Show(ShowArgs),
    /// Show what followed from a request, across requests: a lease's keys, its renewals and its
    /// end, the watchers that received a write, the lock that a deletion woke.
    Chain(chain::ChainArgs),
    /// Compare two requests: the steps that only one of them has, and the steps that took longer.
    Diff(DiffArgs),
    /// Write the members' records to a file, until Ctrl-C.
    Record(RecordArgs),
    /// Convert a recording, or live records, for Perfetto and chrome://tracing, to OpenTelemetry
    /// spans, or to a page for a browser.
    Export(export::ExportArgs),
    /// Rank what the captured requests waited for, the largest cause first. `list` says how far
    /// back the members' memory reaches; a recording reaches further.
    WhySlow {
        #[command(flatten)]
        find: find::Find,
        #[command(flatten)]
        from: From,
        #[command(flatten)]
        form: Form,
        /// Only requests that ended within this time before now or, with --from, before the newest
        /// record: 30s, 5m, 1h30m, 500ms; without a unit, seconds.
        #[arg(long, value_name = "DURATION", value_parser = slow::parse_last)]
        last: Option<Duration>,
    },
    /// Measure the cost of recording a step on this machine.
    #[command(hide = true)]
    Cost,
}

/// The source of the records.
#[derive(Debug, Args)]
struct From {
    /// The members to connect to.
    #[arg(long, value_delimiter = ',', default_value = source::ENDPOINTS)]
    endpoints: Vec<String>,
    /// Read a recording instead of live members.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

/// How the output is written: plain text or JSON.
#[derive(Debug, Args)]
struct Form {
    /// Text in the documented form (the default).
    #[arg(long, conflicts_with = "json")]
    plain: bool,
    /// JSON, one object per line.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct TailArgs {
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    form: Form,
    /// Level of detail: the steps of a story, every boundary between layers, or everything.
    #[arg(long, value_enum, default_value = "story")]
    grain: GrainArg,
    /// Only this RPC, such as KV/Put.
    #[arg(long, default_value = "", conflicts_with = "from")]
    rpc: String,
    /// Only requests whose key has this prefix.
    #[arg(long, default_value = "", conflicts_with = "from")]
    key_prefix: String,
    /// Only requests that end in an error.
    #[arg(long, conflicts_with = "from")]
    errors: bool,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["id", "last"]))]
struct ShowArgs {
    /// The request's id in hex, or the address of an election, a step-down or a start of a member,
    /// as `list` shows them (`election:4`, `step-down:3`, `start:etcd-03:2`); or the trace of the
    /// request's caller, 32 hex digits; or the address of a step, as the player copies it
    /// (`FILE@etcd-01:1:4711`), for the story that has it.
    id: Option<String>,
    /// The request for keys, leases or locks that ended last; without any, another that ended last.
    #[arg(long)]
    last: bool,
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    form: Form,
}

#[derive(Debug, Args)]
struct DiffArgs {
    /// The first request's id in hex, as `list` shows it.
    a: String,
    /// The second request's id.
    b: String,
    /// Read recordings instead of live members: one with both requests, or one for each.
    #[arg(value_name = "FILE", num_args = 0..=2, conflicts_with = "from")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    form: Form,
}

#[derive(Debug, Args)]
struct RecordArgs {
    /// The file; `-` for standard output.
    file: PathBuf,
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    form: Form,
    /// Stop after this many seconds.
    #[arg(long = "for", value_name = "SECONDS")]
    seconds: Option<u64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum GrainArg {
    Story,
    Stage,
    Raw,
}

impl GrainArg {
    fn grain(self) -> Grain {
        match self {
            GrainArg::Story => Grain::Story,
            GrainArg::Stage => Grain::Stage,
            GrainArg::Raw => Grain::Raw,
        }
    }
}

/// Why a command fails. The text addresses the user.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Runs a command of `glass trace`.
pub(crate) async fn run(args: TraceArgs, write_page: WritePage) -> ExitCode {
    let result = match args.command {
        Command::Tail(args) => live::tail(&args).await,
        Command::List { find, from, form } => list(&find, &from, &form).await,
        Command::Show(args) => show(&args).await,
        Command::Chain(args) => chain::run(&args).await,
        Command::Diff(args) => compare(&args).await,
        Command::Record(args) => live::record(&args).await,
        Command::Export(args) => export::run(&args, write_page).await,
        Command::WhySlow { find, from, form, last } => why_slow(&find, &from, &form, last).await,
        Command::Cost => cost::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has seen enough: `glass trace tail | head`.
        Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "glass trace: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn list(find: &find::Find, from: &From, form: &Form) -> Result<(), Error> {
    find.check()?;
    let Gathered { recording, .. } = heard(from, |_| true).await?;
    let order = Order::of(&recording);
    let found = find.stories(&recording)?;
    let stories = Stories::new(&recording, &order);
    let mut out = std::io::stdout().lock();
    if !form.json {
        return Ok(write_list(&mut out, &recording, &stories, &found)?);
    }
    let others = incidents(&stories).into_iter();
    for incident in others.filter(|incident| found.has_incident(&stories, incident)) {
        writeln!(out, "{}", incidents::json(&recording, &order, &incident))?;
    }
    let silences = Silences::of(&recording, &order);
    for request in plain::by_time(&recording, &order).iter().filter(|one| found.has(one)) {
        writeln!(out, "{}", plain::list_json(request, &recording, &silences))?;
    }
    Ok(())
}

/// What `list` prints of a recording.
pub(crate) fn write_list(
    out: &mut impl Write,
    recording: &Recording,
    stories: &Stories<'_>,
    found: &Found,
) -> std::io::Result<()> {
    let mut others = incidents(stories);
    others.retain(|incident| found.has_incident(stories, incident));
    let others = incidents::rows(recording, stories.order(), &others);
    plain::list(out, recording, stories.order(), found, others)
}

/// What `show` prints of a request.
pub(crate) fn write_story(
    out: &mut impl Write,
    gathered: &Gathered,
    order: &Order,
    story: &Story,
) -> std::io::Result<()> {
    plain::story(out, gathered, order, story)?;
    explain::sections(out, &gathered.recording, order, story)
}

/// All that these members remember, for the player's text.
pub(crate) async fn remembered(endpoints: &[String]) -> std::io::Result<Recording> {
    let from = From { endpoints: endpoints.to_vec(), from: None };
    match gather(&from, |_| true).await {
        Ok(gathered) => Ok(gathered.recording),
        Err(Error::Io(error)) => Err(error),
        Err(Error::Usage(text)) => Err(std::io::Error::other(text)),
    }
}

/// Reads the file, or listens until `is_enough` holds.
async fn heard(from: &From, is_enough: impl Fn(&Recording) -> bool) -> Result<Gathered, Error> {
    let mut gathered = match &from.from {
        Some(path) => read(path)?,
        None => gather(from, is_enough).await?,
    };
    clean_names(&mut gathered.recording);
    Ok(gathered)
}

/// Makes the names of members, which are foreign text, fit for a terminal.
fn clean_names(recording: &mut Recording) {
    for member in &mut recording.members {
        member.name = text::clean(&member.name);
        member.members.iter_mut().for_each(|(_, name)| *name = text::clean(name));
    }
}

fn read(path: &Path) -> Result<Gathered, Error> {
    Ok(Gathered { recording: open(path)?, silent: Vec::new() })
}

/// Reads a file, and reports if its last line was cut short.
fn open(path: &Path) -> Result<Recording, Error> {
    let read = source::open(path).map_err(|error| of_file(path, &error))?;
    if read.is_cut {
        let path = path.display();
        writeln!(
            std::io::stderr(),
            "glass trace: {path}: the last line is incomplete and left out"
        )?;
    }
    Ok(read.recording)
}

/// Describes an error of a file, with the file's name and all causes.
fn of_file(path: &Path, error: &dyn std::error::Error) -> Error {
    let mut text = format!("{}: {error}", path.display());
    let mut reason = error.source();
    while let Some(source) = reason {
        // Some errors include their cause in their own text.
        if !text.ends_with(&source.to_string()) {
            text.push_str(&format!(": {source}"));
        }
        reason = source.source();
    }
    Error::Usage(text)
}

async fn why_slow(
    find: &find::Find,
    from: &From,
    form: &Form,
    last: Option<Duration>,
) -> Result<(), Error> {
    find.check()?;
    let Gathered { recording, .. } = heard(from, |_| true).await?;
    let window = slow::window(last, from.from.is_none());
    let found = find.stories(&recording)?;
    let mut out = std::io::stdout().lock();
    match form.json {
        true => slow::json(&mut out, &recording, &found, window)?,
        false => slow::plain(&mut out, &recording, &found, window)?,
    }
    Ok(())
}

/// The story that has the step with this address.
async fn show_step(file: Option<PathBuf>, anchor: &Anchor, args: &ShowArgs) -> Result<(), Error> {
    let from =
        From { endpoints: args.from.endpoints.clone(), from: file.or(args.from.from.clone()) };
    let gathered = heard(&from, |recording| anchor.event(recording).is_ok()).await?;
    let recording = &gathered.recording;
    anchor.event(recording).map_err(Error::Usage)?;
    let order = Order::of(recording);
    match anchor.subject(recording).map_err(Error::Usage)? {
        Subject::Cluster(address) => {
            incidents::show(&gathered, &address.text(&recording.members), args.form.json)
        }
        Subject::Request(id) => {
            let story = Story::of(recording, &order, id);
            let story = story.ok_or_else(|| Asked::Request(id).not_captured())?;
            tell(gathered, &order, &story, args.form.json)
        }
    }
}

/// What `diff` prints of two requests of one recording.
pub(crate) fn compared(recording: &Recording, ids: [u64; 2]) -> Result<Vec<String>, String> {
    let order = Order::of(recording);
    let story = |id: u64| {
        let missing = || format!("no step of request {id:016x} was captured");
        Story::of(recording, &order, id).ok_or_else(missing)
    };
    let stories = [story(ids[0])?, story(ids[1])?];
    let side = |at: usize| Side { recording, order: &order, story: &stories[at] };
    let mut text = Vec::new();
    diff::plain(&mut text, [side(0), side(1)]).map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
}

async fn show(args: &ShowArgs) -> Result<(), Error> {
    if let Some(id) = args.id.as_deref().filter(|id| !Address::is_one(id))
        && let (file, Some(anchor)) = step_of(id)
    {
        return show_step(file, &anchor, args).await;
    }
    if let Some(address) = args.id.as_deref().filter(|id| Address::is_one(id)) {
        let gathered = heard(&args.from, |_| true).await?;
        return incidents::show(&gathered, address, args.form.json);
    }
    let asked = args.id.as_deref().map(Asked::parse).transpose()?;
    let ids = |recording: &Recording, order: &Order| match asked {
        Some(asked) => asked.ids(recording),
        None => last(recording, order).into_iter().collect(),
    };
    let gathered = heard(&args.from, |recording| {
        let order = Order::of(recording);
        let stories = Stories::new(recording, &order);
        let ids = ids(recording, &order);
        let is_whole = |id: &u64| stories.of(*id).is_some_and(|story| story.missing.is_empty());
        !ids.is_empty() && ids.iter().all(is_whole)
    });
    let gathered = gathered.await?;
    let order = Order::of(&gathered.recording);
    let ids = ids(&gathered.recording, &order);
    let mut out = std::io::stdout().lock();
    if let (Some(Asked::Trace(trace)), [_, _, ..]) = (asked, &ids[..]) {
        return Ok(plain::of_trace(
            &mut out,
            &gathered.recording,
            &order,
            (trace, &ids),
            args.form.json,
        )?);
    }
    let story = ids.first().and_then(|id| Story::of(&gathered.recording, &order, *id));
    let Some(story) = story else {
        return Err(asked.map_or_else(
            || Error::Usage("no captured request has ended".to_owned()),
            Asked::not_captured,
        ));
    };
    tell(gathered, &order, &story, args.form.json)
}

/// The address of a step, with or without a file before it.
fn step_of(text: &str) -> (Option<PathBuf>, Option<Anchor>) {
    match Anchor::parse(text) {
        Some(anchor) => (None, Some(anchor)),
        None => Anchor::split(Path::new(text)),
    }
}

/// Prints one story.
fn tell(gathered: Gathered, order: &Order, story: &Story, is_json: bool) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    if !is_json {
        return Ok(write_story(&mut out, &gathered, order, story)?);
    }
    let explained = explain::json_line(&gathered, order, story);
    let Recording { members, events, dropped } = gathered.recording;
    let events = story.steps.iter().map(|step| events[step.event].clone()).collect();
    let told = Recording { members, events, dropped };
    glass_etcd::story::recording::write(&mut out, &told)?;
    Ok(writeln!(out, "{explained}")?)
}

async fn compare(args: &DiffArgs) -> Result<(), Error> {
    let ids = [request_id(&args.a)?, request_id(&args.b)?];
    let is_whole = |recording: &Recording| {
        let order = Order::of(recording);
        let stories = Stories::new(recording, &order);
        ids.iter().all(|id| stories.of(*id).is_some_and(|story| story.missing.is_empty()))
    };
    let first = match args.files.first() {
        Some(path) => read(path)?.recording,
        None => heard(&args.from, is_whole).await?.recording,
    };
    let second = args.files.get(1).map(|path| read(path)).transpose()?;
    let second = second.map(|gathered| gathered.recording);
    let recordings = [&first, second.as_ref().unwrap_or(&first)];
    let orders = recordings.map(Order::of);
    let story = |at: usize| {
        let story = Story::of(recordings[at], &orders[at], ids[at]);
        story.ok_or_else(|| Asked::Request(ids[at]).not_captured())
    };
    let stories = [story(0)?, story(1)?];
    let side =
        |at: usize| Side { recording: recordings[at], order: &orders[at], story: &stories[at] };
    let mut out = std::io::stdout().lock();
    match args.form.json {
        true => diff::json(&mut out, [side(0), side(1)])?,
        false => diff::plain(&mut out, [side(0), side(1)])?,
    }
    Ok(())
}

/// The client request that ended last: one about data, if there is one, because questions about the
/// member's health come all the time.
fn last(recording: &Recording, order: &Order) -> Option<u64> {
    let list = plain::by_time(recording, order);
    let ended = list.iter().rev().filter(|request| request.took_ns.is_some());
    const DATA: [&str; 4] = ["KV/", "Lease/", "Lock/", "Election/"];
    let is_data = |method: &str| DATA.iter().any(|service| method.starts_with(service));
    ended.clone().find(|request| is_data(request.method)).or(ended.clone().next()).map(|r| r.id)
}

fn request_id(text: &str) -> Result<u64, Error> {
    match Asked::parse(text)? {
        Asked::Request(id) => Ok(id),
        Asked::Trace(_) => Err(Error::Usage(format!("{text:?} is a trace id, not a request id"))),
    }
}
