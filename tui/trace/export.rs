//! Exports a recording, or live records, to a file for other viewers, or to a page for a browser.
//!
//! A page is drawn from the player's state and with its words, and the screens use those of
//! `glass trace`. So the function that writes a page comes from the caller.

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
    story::{
        Recording,
        order::Order,
        query::{Stories, address::Address},
    },
};

use super::{
    Error, From,
    asked::Asked,
    gather::{gather, warn_of_silence},
    step_of,
};
use crate::{
    source::Live,
    state::{anchor::Anchor, story::Subject},
};

/// Largest number of events in memory; beyond it, listening ends early with a message.
const EVENTS_MAX: usize = 2_000_000;

/// After this time without an answer from the collector the command says that it waits.
const SILENCE: Duration = Duration::from_millis(1500);

/// The command line of `glass trace export`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("out").required(true).multiple(true)
    .args(["chrome", "otlp", "html"]))]
pub(super) struct ExportArgs {
    /// The file to write, in the format that Perfetto and chrome://tracing open; `-` for standard
    /// output.
    #[arg(long, value_name = "OUT")]
    chrome: Option<PathBuf>,
    /// The same for OpenTelemetry: a file of OTLP as JSON lines, `-`, or the URL of a collector,
    /// such as http://127.0.0.1:4318.
    #[arg(long, value_name = "OUT|URL")]
    otlp: Option<String>,
    /// A page for a browser, to step through as in the player: one file that loads nothing; `-` for
    /// standard output.
    #[arg(long, value_name = "OUT")]
    html: Option<PathBuf>,
    /// The story of the page, named as for `show`; the address of a step opens the page at it. All
    /// stories if left out.
    #[arg(value_name = "STORY", requires = "html")]
    story: Option<String>,
    #[command(flatten)]
    from: From,
    /// Listen for this many seconds. Without it, a page has what the members remember, and the
    /// other forms are written at Ctrl-C.
    #[arg(long = "for", value_name = "SECONDS", conflicts_with = "from")]
    seconds: Option<u64>,
}

/// The stories of a page.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// One, and the step at which the page opens; `None` for all.
    pub(crate) story: Option<(Subject, Option<Anchor>)>,
    /// Where the records come from, in the words of the page.
    pub(crate) from: String,
}

/// What a page has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// The stories in it.
    pub(crate) stories: usize,
    /// All that were wanted.
    pub(crate) of: usize,
    /// Its size in bytes.
    pub(crate) bytes: usize,
}

/// Writes a page of a recording.
pub(crate) type WritePage = fn(Recording, &Wanted, &mut dyn Write) -> io::Result<Written>;

/// Reads or listens, and writes the file.
pub(super) async fn run(args: &ExportArgs, write_page: WritePage) -> Result<(), Error> {
    let collector = match &args.otlp {
        Some(url) if url.contains("://") => Some(reach(url).await?),
        _ => None,
    };
    let (file, step) = args.story.as_deref().map(step_of).unwrap_or_default();
    let file = file.filter(|_| step.is_some()).or(args.from.from.clone());
    let is_page_only = args.chrome.is_none() && args.otlp.is_none();
    let recording = match &file {
        Some(path) => super::open(path)?,
        None if is_page_only && args.seconds.is_none() => {
            gather(&args.from, |_| true).await?.recording
        }
        None => listen(args).await?,
    };
    if let Some(path) = &args.chrome {
        write_chrome(&path.display().to_string(), &recording)?;
    }
    match (collector, &args.otlp) {
        (Some(target), _) => send_otlp(&target, &recording).await?,
        (None, Some(path)) => write_otlp(path, &recording)?,
        (None, None) => (),
    }
    match &args.html {
        Some(path) => write_html(path, (args, file.as_deref(), step), recording, write_page),
        None => Ok(()),
    }
}

/// Writes the page, and says what is in it.
fn write_html(
    path: &Path,
    (args, file, step): (&ExportArgs, Option<&Path>, Option<Anchor>),
    mut recording: Recording,
    write_page: WritePage,
) -> Result<(), Error> {
    super::clean_names(&mut recording);
    let story = match (step, args.story.as_deref()) {
        (Some(step), _) => {
            step.event(&recording).map_err(Error::Usage)?;
            Some((step.subject(&recording).map_err(Error::Usage)?, Some(step)))
        }
        (None, Some(story)) => Some((subject(story, &recording)?, None)),
        (None, None) => None,
    };
    // The page leaves this machine: its name says more than the reader needs.
    let name = file.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let from = name.unwrap_or_else(|| "live members".to_owned());
    let mut page = create(&path.display().to_string())?;
    let written = write_page(recording, &Wanted { story, from }, &mut page)?;
    let Written { stories, of, bytes } = written;
    writeln!(
        io::stderr(),
        "glass trace: exported {}, {} kB",
        exported(stories, of),
        bytes.div_ceil(1_000)
    )?;
    Ok(())
}

/// How many stories of how many are in the page.
fn exported(stories: usize, of: usize) -> String {
    match of {
        1 => format!("{stories} of 1 story"),
        _ => format!("{stories} of {of} stories"),
    }
}

/// The story that the user names by an id, a trace or an address.
fn subject(story: &str, recording: &Recording) -> Result<Subject, Error> {
    let order = Order::of(recording);
    let stories = Stories::new(recording, &order);
    if Address::is_one(story) {
        let address = Address::of(story, &recording.members);
        let known = address.filter(|address| stories.incident(*address).is_some());
        let missing = || Error::Usage(format!("{story} was not captured"));
        return known.map(Subject::Cluster).ok_or_else(missing);
    }
    let asked = Asked::parse(story)?;
    let mut ids = asked.ids(recording).into_iter();
    let captured = ids.find(|id| stories.of(*id).is_some());
    captured.map(Subject::Request).ok_or_else(|| asked.not_captured())
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

#[cfg(test)]
mod tests {
    use super::exported;

    #[test]
    fn one_story_is_not_called_stories() {
        assert_eq!(["1 of 1 story", "1 of 2 stories"], [exported(1, 1), exported(1, 2)]);
    }
}
