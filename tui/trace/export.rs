//! Exports a recording, or live records, to a file for other viewers.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    pin::pin,
    time::Duration,
};

use clap::{ArgGroup, Args};
use glass_etcd::{
    export::{
        chrome,
        otlp::{chunks, json},
    },
    member::otlp::{self as collector, Target},
    pb::glasspb::ObserveRequest,
    story::{Recording, order::Order},
};

use super::{Error, From, gather::warn_of_silence};
use crate::source::Live;

/// Largest number of events in memory; beyond it, listening ends early with a message.
const EVENTS_MAX: usize = 2_000_000;

/// After this time without an answer from the collector the command says that it waits.
const SILENCE: Duration = Duration::from_millis(1500);

/// The command line of `glass trace export`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("out").required(true).multiple(true).args(["chrome", "otlp"]))]
pub(super) struct ExportArgs {
    /// The file to write, in the format that Perfetto and chrome://tracing open; `-` for standard
    /// output.
    #[arg(long, value_name = "OUT")]
    chrome: Option<PathBuf>,
    /// The same for OpenTelemetry: a file of OTLP as JSON lines, `-`, or the URL of a collector,
    /// such as http://127.0.0.1:4318.
    #[arg(long, value_name = "OUT|URL")]
    otlp: Option<String>,
    #[command(flatten)]
    from: From,
    /// Listen for this many seconds instead of until Ctrl-C.
    #[arg(long = "for", value_name = "SECONDS", conflicts_with = "from")]
    seconds: Option<u64>,
}

/// Reads or listens, and writes the file.
pub(super) async fn run(args: &ExportArgs) -> Result<(), Error> {
    let collector = match &args.otlp {
        Some(url) if url.contains("://") => Some(reach(url).await?),
        _ => None,
    };
    let recording = match &args.from.from {
        Some(path) => super::open(path)?,
        None => listen(args).await?,
    };
    if let Some(path) = &args.chrome {
        write_chrome(&path.display().to_string(), &recording)?;
    }
    match (collector, &args.otlp) {
        (Some(target), _) => send_otlp(&target, &recording).await,
        (None, Some(path)) => write_otlp(path, &recording),
        (None, None) => Ok(()),
    }
}

/// The collector at a URL. Fails at once if nobody listens there, before anything is read.
async fn reach(url: &str) -> Result<Target, Error> {
    let target = Target::parse(url).map_err(|error| Error::Usage(format!("{url}: {error}")))?;
    collector::reach(&target).await.map_err(|why| not_taken(&target, &why))?;
    Ok(target)
}

fn not_taken(target: &Target, why: &str) -> Error {
    Error::Usage(format!("{target}: the collector has not taken the spans: {why}"))
}

fn create(path: &str) -> Result<Box<dyn Write>, Error> {
    if path == "-" {
        return Ok(Box::new(io::stdout()));
    }
    let file = File::create(path).map_err(|error| super::of_file(Path::new(path), &error))?;
    Ok(Box::new(file))
}

fn write_chrome(path: &str, recording: &Recording) -> Result<(), Error> {
    let counts = chrome::write(create(path)?, recording)?;
    writeln!(
        io::stderr(),
        "glass trace: exported {} members, {} spans of requests, {} of loops, {} marks, {} arrows",
        counts.processes,
        counts.requests,
        counts.slices,
        counts.marks,
        counts.flows
    )?;
    Ok(())
}

fn write_otlp(path: &str, recording: &Recording) -> Result<(), Error> {
    let counts = json::write(create(path)?, recording)?;
    writeln!(
        io::stderr(),
        "glass trace: exported {} members, {} spans, {} links",
        counts.members,
        counts.spans,
        counts.links
    )?;
    Ok(())
}

async fn send_otlp(target: &Target, recording: &Recording) -> Result<(), Error> {
    let resources = json::resources(recording, &Order::of(recording));
    let portions = chunks(resources).iter().map(collector::portion).collect();
    let mut delivery = pin!(collector::deliver(target, portions));
    let delivered = tokio::select! {
        delivered = &mut delivery => delivered,
        () = tokio::time::sleep(SILENCE) => {
            writeln!(
                io::stderr(),
                "glass trace: {target}: the collector has not taken the spans yet; trying on"
            )?;
            delivery.await
        }
    };
    let taken = delivered.map_err(|why| not_taken(target, &why))?;
    writeln!(io::stderr(), "glass trace: sent {taken} spans to {target}")?;
    Ok(())
}

/// Listens from the members' history on, until the time is up or Ctrl-C.
async fn listen(args: &ExportArgs) -> Result<Recording, Error> {
    let request = ObserveRequest { history: true, ..ObserveRequest::default() };
    let mut live = Live::connect(&args.from.endpoints, &request);
    let end = tokio::time::sleep(Duration::from_secs(args.seconds.unwrap_or(u64::MAX / 1_000_000)));
    let stop = tokio::signal::ctrl_c();
    tokio::pin!(end, stop);
    while live.recording().events.len() < EVENTS_MAX {
        tokio::select! {
            _ = &mut stop => break,
            () = &mut end => break,
            _ = live.next() => (),
        }
    }
    if EVENTS_MAX <= live.recording().events.len() {
        writeln!(io::stderr(), "glass trace: stopped early, at {EVENTS_MAX} events")?;
    }
    warn_of_silence(&live)?;
    Ok(live.into_recording())
}
