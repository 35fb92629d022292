//! `glass serve`: one member, from etcd's command line to its end.

use std::{
    io::{self, BufRead as _, Read as _, Write as _},
    process::ExitCode,
    thread,
    time::Duration,
};

use glass_etcd::{
    config::{self, Asked, LogLevel, Parsed, ServerConfig},
    member::{self, Cuts, flight},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::sync::watch;
use tracing::Subscriber;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::{chrome, lines, log};

/// Set by `glass up` for its children: the member ends when its standard input does.
pub(crate) const EXIT_WITH_PARENT: &str = "GLASS_EXIT_WITH_PARENT";
/// The environment variable with the peer URLs to which a member's links are cut at its start. It
/// says that later lists come on the standard input.
pub(crate) const LINKS: &str = "GLASS_LINKS";
/// Longest list of cut links, in bytes.
const LINKS_BYTES: u64 = 1 << 16;
/// How long a member that has lost its parent may take to shut down.
const ORPHAN_TIME: Duration = Duration::from_secs(5);

/// Runs a member. `args` are etcd's flags, without the program's name.
pub(crate) fn run(args: &[String]) -> ExitCode {
    let env: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    match config::parse(args, &env) {
        Ok(Asked::Help) => print(&config::help()),
        Ok(Asked::Version) => print(&config::version_text()),
        Ok(Asked::Start(parsed)) => start(&parsed),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// Prints to standard output; a reader that closes early (`| head`) is no error.
fn print(text: &str) -> ExitCode {
    let _ = io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// A member that has lost one of its threads must not continue with the others: any panic ends the
/// process, and leaves its data as a crash does.
fn end_on_panic(config: ServerConfig) {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // It is over a file that is not the member's own, and becomes an error.
        if member::restore::is_caught(panic) {
            return;
        }
        member::end_if_damaged(&config, panic);
        report(panic);
        if let Some(Ok(path)) = flight::write(flight::Cause::Panic) {
            eprintln!("the member's last records are in {}", path.display());
        }
        std::process::exit(101);
    }));
}

/// Outputs to finish on drop, in this order: the trace, which may still log something, then the
/// log.
struct Outputs {
    _trace: Option<chrome::Finish>,
    _log: lines::Flush,
}

/// Opens the log and `--trace-chrome`, and installs the `tracing` subscriber that writes to them.
fn subscribe(parsed: &Parsed) -> io::Result<Outputs> {
    let (log, flush) = log::layer(&parsed.process)?;
    let registry = tracing_subscriber::registry().with(log);
    let Some(path) = &parsed.process.trace_chrome else {
        set_global(registry);
        return Ok(Outputs { _trace: None, _log: flush });
    };
    let (stages, finish) = chrome::layer(path, &parsed.config.name)?;
    set_global(registry.with(stages));
    finish.open();
    Ok(Outputs { _trace: Some(finish), _log: flush })
}

fn set_global(subscriber: impl Subscriber + Send + Sync) {
    tracing::subscriber::set_global_default(subscriber).expect("no other code sets it");
}

fn start(parsed: &Parsed) -> ExitCode {
    let _outputs = match subscribe(parsed) {
        Ok(outputs) => outputs,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    end_on_panic(parsed.config.clone());
    for warning in &parsed.warnings {
        tracing::warn!("{warning}");
    }
    let is_debug = parsed.process.log_level == LogLevel::Debug;
    if is_debug && tracing::level_filters::STATIC_MAX_LEVEL < tracing::Level::DEBUG {
        tracing::warn!("release builds have no debug lines in them: --log-level=debug shows info");
    }
    let cuts = std::env::var_os(EXIT_WITH_PARENT).and_then(|_| follow_parent());
    match member::run(&parsed.config, cuts) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = %error.report(), "the member has failed");
            ExitCode::FAILURE
        }
    }
}

/// Ends this process when its parent is gone, however the parent ended: a killed parent sends no
/// message, but the pipe that it held closes. If the parent may ask for links to be cut, returns
/// the requests: its first in the environment, later ones through the pipe.
fn follow_parent() -> Option<Cuts> {
    let first = std::env::var(LINKS).ok().and_then(|text| links(&text));
    let (sender, cuts) = first.map(watch::channel).unzip();
    let watch = move || {
        read_parent(sender.as_ref());
        // A regular shutdown first, by the signal that an operator would send.
        let _ = kill(Pid::this(), Signal::SIGTERM);
        thread::sleep(ORPHAN_TIME);
        std::process::exit(1);
    };
    thread::Builder::new()
        .name("parent".to_owned())
        .spawn(watch)
        .expect("there is room for a thread");
    cuts
}

/// A list of peer URLs in the form that members read.
pub(crate) fn links_text(urls: &[String]) -> String {
    serde_json::Value::from(urls).to_string()
}

/// Reads such a list.
fn links(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

/// Reads what the parent sends, until it is gone.
fn read_parent(cuts: Option<&watch::Sender<Vec<String>>>) {
    let mut pipe = io::stdin().lock();
    let mut line = String::new();
    while matches!((&mut pipe).take(LINKS_BYTES).read_line(&mut line), Ok(1..)) {
        match (cuts, links(&line)) {
            (Some(cuts), Some(urls)) => _ = cuts.send_replace(urls),
            _ => tracing::warn!("a line on the standard input makes no sense"),
        }
        line.clear();
    }
}
