//! `glass trace`: what the members leave behind, as text.
//!
//! `tail` follows live, `list` shows the requests of the last seconds, `show` tells the story of
//! one, `record` writes a file that the player, the lessons and `--from` read, and `export` one that
//! other viewers open. All of them listen to every endpoint at once and put together what they hear; a member that cannot be
//! reached is named on standard error and its steps are unknown.

use std::{io::Write, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Subcommand, ValueEnum};
use glass_etcd::{
    pb::glasspb::ObserveRequest,
    trace::{Grain, Recording, order::Order},
};

pub(crate) mod plain;
pub(crate) mod words;

mod cost;
mod explain;
mod export;
mod live;
mod slow;

use crate::source::{self, Live};

/// How long members are waited for.
const SETTLE: Duration = Duration::from_secs(3);
/// How often it is looked whether they have said enough.
const TURN: Duration = Duration::from_millis(100);

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
    /// List the requests of the last seconds.
    List {
        #[command(flatten)]
        from: From,
        #[command(flatten)]
        form: Form,
    },
    /// Tell the story of one request, on all members.
    Show(ShowArgs),
    /// Write what the members say into a file, until Ctrl-C.
    Record(RecordArgs),
    /// Write a recording, or what the members say, for Perfetto and chrome://tracing, or as spans of
    /// OpenTelemetry.
    Export(export::ExportArgs),
    /// Rank what all the captured requests have waited for.
    WhySlow {
        #[command(flatten)]
        from: From,
        /// Only requests that ended in the last so many seconds before the newest record.
        #[arg(long, value_name = "SECONDS")]
        last: Option<u64>,
    },
    /// Measure what a step costs on this machine.
    #[command(hide = true)]
    Cost,
}

/// Where the traces come from.
#[derive(Debug, Args)]
struct From {
    /// The members to listen to.
    #[arg(long, value_delimiter = ',', default_value = source::ENDPOINTS)]
    endpoints: Vec<String>,
    /// Read a recording in place of live members.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

/// How they are written.
#[derive(Debug, Args)]
struct Form {
    /// Text, one line a step (the default).
    #[arg(long, conflicts_with = "json")]
    plain: bool,
    /// JSON, one object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct TailArgs {
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    form: Form,
    /// How much: the steps of a story, every boundary between layers, or everything.
    #[arg(long, value_enum, default_value = "story")]
    grain: GrainArg,
    /// Only this RPC, as KV/Put.
    #[arg(long, default_value = "")]
    rpc: String,
    /// Only requests whose key begins so.
    #[arg(long, default_value = "")]
    key_prefix: String,
    /// Only requests that end in an error.
    #[arg(long)]
    errors: bool,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// The request, in hex as the list shows it.
    #[arg(required_unless_present = "last")]
    id: Option<String>,
    /// The request that ended last.
    #[arg(long, conflicts_with = "id")]
    last: bool,
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
    /// Stop after so many seconds.
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

/// Why a command fails. Its text is for whoever typed it.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Read(#[from] glass_etcd::trace::recording::ReadError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Runs a command of `glass trace`.
pub(crate) async fn run(args: TraceArgs) -> ExitCode {
    let result = match args.command {
        Command::Tail(args) => live::tail(&args).await,
        Command::List { from, form } => list(&from, &form).await,
        Command::Show(args) => show(&args).await,
        Command::Record(args) => live::record(&args).await,
        Command::Export(args) => export::run(&args).await,
        Command::WhySlow { from, last } => why_slow(&from, last).await,
        Command::Cost => cost::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has seen enough: `glass trace tail | head`.
        Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "glass trace: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn list(from: &From, form: &Form) -> Result<(), Error> {
    let recording = match &from.from {
        Some(path) => source::open(path)?.recording,
        None => gather(from, |_| true).await?,
    };
    let order = Order::of(&recording);
    let mut out = std::io::stdout().lock();
    if !form.json {
        return Ok(plain::list(&mut out, &recording, &order)?);
    }
    for request in plain::by_time(&recording, &order) {
        let line = serde_json::json!({
            "id": format!("{:016x}", request.id),
            "member": words::name(request.member, &recording.members),
            "method": request.method,
            "key": request.key.as_ref().map(|key| key.display()),
            "code": request.code,
            "took_ns": request.took_ns,
        });
        writeln!(out, "{line}")?;
    }
    Ok(())
}

async fn why_slow(from: &From, last: Option<u64>) -> Result<(), Error> {
    let recording = match &from.from {
        Some(path) => source::open(path)?.recording,
        None => gather(from, |_| true).await?,
    };
    let last_ns = last.map(|seconds| seconds.saturating_mul(1_000_000_000));
    Ok(slow::why_slow(&mut std::io::stdout().lock(), &recording, last_ns)?)
}

async fn show(args: &ShowArgs) -> Result<(), Error> {
    let asked = args.id.as_deref().map(parse_id).transpose()?;
    let find = |recording: &Recording, order: &Order| {
        let id = asked.or_else(|| last(recording, order))?;
        glass_etcd::trace::query::Story::of(recording, order, id)
    };
    let recording = match &args.from.from {
        Some(path) => source::open(path)?.recording,
        None => {
            let is_complete = |recording: &Recording| {
                find(recording, &Order::of(recording)).is_some_and(|story| story.missing.is_empty())
            };
            gather(&args.from, is_complete).await?
        }
    };
    let order = Order::of(&recording);
    let Some(story) = find(&recording, &order) else {
        let text = match asked {
            Some(id) => format!("nothing was captured of request {id:016x}"),
            None => "no request was captured that has ended".to_owned(),
        };
        return Err(Error::Usage(text));
    };
    let mut out = std::io::stdout().lock();
    if !args.form.json {
        plain::story(&mut out, &recording, &order, &story)?;
        return Ok(explain::sections(&mut out, &recording, &order, &story)?);
    }
    let explained = explain::json_line(&recording, &order, &story);
    let events = story.steps.iter().map(|step| recording.events[step.event].clone()).collect();
    let Recording { members, dropped, .. } = recording;
    let told = Recording { members, events, dropped };
    glass_etcd::trace::recording::write(&mut out, &told)?;
    Ok(writeln!(out, "{explained}")?)
}

/// The request that ended last, of those that a client sent.
fn last(recording: &Recording, order: &Order) -> Option<u64> {
    let list = plain::by_time(recording, order);
    let ended = list.iter().rev().filter(|request| request.took_ns.is_some());
    let is_data = |method: &str| method.starts_with("KV/");
    ended.clone().find(|request| is_data(request.method)).or(ended.clone().next()).map(|r| r.id)
}

fn parse_id(text: &str) -> Result<u64, Error> {
    let digits = text.trim_start_matches("0x");
    u64::from_str_radix(digits, 16)
        .map_err(|_| Error::Usage(format!("{text:?} is not a request id")))
}

/// Listens to all members until they have told what they hold of the past, and until `is_enough`,
/// or for three seconds.
async fn gather(from: &From, is_enough: impl Fn(&Recording) -> bool) -> Result<Recording, Error> {
    let request = ObserveRequest { history: true, ..ObserveRequest::default() };
    let mut live = Live::connect(&from.endpoints, &request);
    let mut turn = tokio::time::interval(TURN);
    let listening = async {
        loop {
            tokio::select! {
                _ = live.next() => (),
                _ = turn.tick() => {
                    if live.is_settled() && is_enough(live.recording()) {
                        return;
                    }
                }
            }
        }
    };
    // What comes too late is unknown, which is what the output says then.
    let _ = tokio::time::timeout(SETTLE, listening).await;
    warn_of_silence(&live)?;
    Ok(live.intake.recording)
}

/// Names the members that are not heard; an error if there are no others.
fn warn_of_silence(live: &Live) -> Result<(), Error> {
    let silent = |seen: &&source::Seen| seen.member.is_none();
    for seen in live.seen.iter().filter(silent) {
        let reason = seen.down.as_deref().unwrap_or("no answer");
        let _ =
            writeln!(std::io::stderr(), "glass trace: {} is not heard: {reason}", seen.endpoint);
    }
    if live.seen.iter().filter(silent).count() == live.seen.len() {
        return Err(Error::Usage("none of the endpoints can be heard".to_owned()));
    }
    Ok(())
}
