//! `--trace-chrome`: kept requests as a file for Perfetto and `chrome://tracing`, while they happen.
//!
//! ```text
//!   trace::bridge ──spans──▶ StageLayer ──▶ tracing-chrome ──messages──▶ its thread ──▶ TraceFile
//!        ▲                      │ sent          queue without a bound                      │ taken
//!        └────── off, on ───── Valve ◀──────────────────────────────────────────────────────┘
//! ```
//!
//! `tracing-chrome` makes the entries. What it does not do is done around it:
//!
//! * it would write what any crate says, so only what the glass says gets to it;
//! * its queue has no bound, so entries are counted on both sides of it, and while
//!   [`BACKLOG_MAX`] are under way no more spans are opened;
//! * its thread panics when a write fails, which would end the member, so [`TraceFile`] never fails:
//!   it logs the first error and takes no more;
//! * its file grows for ever, so at [`FILE_MAX`] bytes it is ended, in good order;
//! * it buffers, so once a second it is told to flush, and only whole entries get into the file: what
//!   a member leaves that was killed lacks the closing bracket, and nothing else.
//!
//! Left as it is: numbers are text in the file, the process has the number 1 on every member, and
//! times count from the start of the layer. The first entries say which member this is, and an
//! instant `member` says at which wall clock. Where several members are to be in one picture,
//! `glass trace export --chrome` makes it.

use std::{
    fs::File,
    io::{self, Write},
    mem,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::Duration,
};

use glass_etcd::trace::bridge;
use serde_json::json;
use tracing::{
    Event, Id, Metadata, Subscriber,
    span::{Attributes, Record},
};
use tracing_chrome::{ChromeLayer, ChromeLayerBuilder, FlushGuard, TraceStyle};
use tracing_subscriber::{
    layer::{Context, Layer},
    registry::LookupSpan,
};

/// Entries that may be on their way to the file: some tens of megabytes.
const BACKLOG_MAX: u64 = 32_768;
/// More than that no viewer opens.
const FILE_MAX: u64 = 1 << 30;
/// How much of what has happened may be lost when the member is killed.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// How long the end waits for a disk that does not answer.
const FINISH_WITHIN: Duration = Duration::from_secs(5);

/// Hands the glass's spans, and nothing else, to `tracing-chrome`.
pub(crate) struct StageLayer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    chrome: ChromeLayer<S>,
    valve: Arc<Valve>,
}

/// Opens the file for the member of this name. If `path` is a directory, the file is
/// `NAME.trace.json` in it: one setting serves the members of a whole cluster. Keep the [`Finish`]
/// until the end of the process.
///
/// # Errors
///
/// The file cannot be opened.
pub(crate) fn layer<S>(path: &Path, name: &str) -> io::Result<(StageLayer<S>, Finish)>
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    let path = match path.is_dir() {
        true => path.join(format!("{}.trace.json", name.replace(['/', '\\'], "_"))),
        false => path.to_owned(),
    };
    let file = File::create(&path).map_err(|error| {
        let what = format!("cannot open --trace-chrome {}: {error}", path.display());
        io::Error::new(error.kind(), what)
    })?;
    build(TraceFile::new(Box::new(file), path, name, FILE_MAX))
}

fn build<S>(file: TraceFile) -> io::Result<(StageLayer<S>, Finish)>
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    let valve = Arc::clone(&file.valve);
    let (chrome, guard) = ChromeLayerBuilder::new()
        .writer(file)
        // One row a request, across threads, and from a span's opening to its end.
        .trace_style(TraceStyle::Async)
        .include_args(true)
        // They would all name the one macro that makes the callsites.
        .include_locations(false)
        .build();
    let finish = Finish::start(guard, Arc::clone(&valve))?;
    Ok((StageLayer { chrome, valve }, finish))
}

fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.target() == bridge::TARGET
}

/// `tracing-chrome` does nothing at entering and leaving in this style, so that is not passed on.
impl<S> Layer<S> for StageLayer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if is_ours(attributes.metadata()) {
            self.valve.sent();
            self.chrome.on_new_span(attributes, id, context);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if context.metadata(id).is_some_and(is_ours) {
            self.chrome.on_record(id, values, context);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if is_ours(event.metadata()) {
            self.valve.sent();
            self.chrome.on_event(event, context);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        if context.metadata(&id).is_some_and(is_ours) {
            self.valve.sent();
            self.chrome.on_close(id, context);
        }
    }
}

/// How much is under way, and whether more may come.
#[derive(Debug, Default)]
struct Valve {
    sent: AtomicU64,
    taken: AtomicU64,
    /// How often too much was under way.
    pauses: AtomicU64,
    is_paused: AtomicBool,
    /// Nothing more can be written.
    is_closed: AtomicBool,
}

impl Valve {
    fn sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        if BACKLOG_MAX <= self.backlog() && !self.is_paused.swap(true, Ordering::Relaxed) {
            self.pauses.fetch_add(1, Ordering::Relaxed);
            bridge::set_on(false);
        }
    }

    /// Names of threads are entries too, and nobody has counted them when they were sent.
    fn backlog(&self) -> u64 {
        self.sent.load(Ordering::Relaxed).saturating_sub(self.taken.load(Ordering::Relaxed))
    }

    fn taken(&self, entries: usize) {
        self.taken.fetch_add(entries as u64, Ordering::Relaxed);
        let is_low = self.backlog() < BACKLOG_MAX / 2;
        if is_low && self.is_paused.load(Ordering::Relaxed) && !self.is_closed() {
            self.is_paused.store(false, Ordering::Relaxed);
            bridge::set_on(true);
        }
    }

    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
        bridge::set_on(false);
    }
}

/// The end of `tracing-chrome`'s writer: never fails, never grows beyond its limit, and writes whole
/// entries. An entry is a line; JSON has no other newlines in it.
struct TraceFile {
    out: Box<dyn Write + Send>,
    path: PathBuf,
    /// The entry that goes before all others.
    first: Option<Vec<u8>>,
    /// What has come but is not in the file; at most the longest entry and one buffer.
    pending: Vec<u8>,
    written: u64,
    limit: u64,
    valve: Arc<Valve>,
}

/// The last entry of a file that became too long: viewers show it as the label of the process.
const CUT: &str = concat!(
    r#"{"ph":"M","pid":1,"tid":0,"name":"process_labels","#,
    r#""args":{"labels":"cut: the file has its largest size"}}"#,
    "\n]\n"
);

impl TraceFile {
    fn new(out: Box<dyn Write + Send>, path: PathBuf, name: &str, limit: u64) -> TraceFile {
        let named = json!({
            "ph": "M", "pid": 1, "tid": 0, "name": "process_name", "args": { "name": name },
        });
        let first = Some(format!("{named},\n").into_bytes());
        let valve = Arc::new(Valve::default());
        TraceFile { out, path, first, pending: Vec::new(), written: 0, limit, valve }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.valve.taken(bytes.iter().filter(|byte| **byte == b'\n').count());
        if self.valve.is_closed() {
            return;
        }
        let mut bytes = bytes;
        // Behind the opening bracket, and only if an entry follows.
        if let Some(at) = bytes.iter().position(|byte| *byte == b'{')
            && let Some(first) = self.first.take()
        {
            self.pending.extend_from_slice(&bytes[..at]);
            self.pending.extend(first);
            bytes = &bytes[at..];
        }
        self.pending.extend_from_slice(bytes);
        let lines = self.pending.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let rest = self.pending.split_off(lines);
        let lines = mem::replace(&mut self.pending, rest);
        self.put(&lines);
        if self.limit <= self.written && !self.valve.is_closed() {
            self.put(CUT.as_bytes());
            self.valve.close();
            let path = self.path.display();
            tracing::warn!(%path, bytes = self.written, "the file of --trace-chrome is full");
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        match self.out.write_all(bytes) {
            Ok(()) => self.written += bytes.len() as u64,
            Err(error) => {
                self.valve.close();
                let path = self.path.display();
                tracing::warn!(
                    %path,
                    %error,
                    "the file of --trace-chrome cannot be written: nothing more goes into it"
                );
            }
        }
    }
}

impl Write for TraceFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.take(bytes);
        Ok(bytes.len())
    }

    /// Called between entries, and at the end.
    fn flush(&mut self) -> io::Result<()> {
        self.valve.taken(0);
        if !self.valve.is_closed() {
            let rest = mem::take(&mut self.pending);
            self.put(&rest);
        }
        Ok(())
    }
}

/// Ends the file when it is dropped; until then it is flushed every second.
pub(crate) struct Finish {
    valve: Arc<Valve>,
    stop: Option<Sender<()>>,
    done: Receiver<()>,
}

impl Finish {
    fn start(guard: FlushGuard, valve: Arc<Valve>) -> io::Result<Finish> {
        let (stop, stopped) = channel();
        let (done, finished) = channel();
        let flusher = Flusher { guard, valve: Arc::clone(&valve), pauses: 0 };
        thread::Builder::new().name("trace-chrome".to_owned()).spawn(move || {
            flusher.run(&stopped);
            // Whoever has given up waiting needs to know nothing.
            let _ = done.send(());
        })?;
        Ok(Finish { valve, stop: Some(stop), done: finished })
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        bridge::set_on(false);
        self.stop = None;
        if self.done.recv_timeout(FINISH_WITHIN).is_err() {
            tracing::warn!("the file of --trace-chrome is not finished: its disk does not answer");
        }
        // In case its writer has found room at last.
        self.valve.close();
    }
}

struct Flusher {
    guard: FlushGuard,
    valve: Arc<Valve>,
    pauses: u64,
}

impl Flusher {
    /// Returns when the file is ended.
    fn run(mut self, stopped: &Receiver<()>) {
        while stopped.recv_timeout(FLUSH_EVERY) == Err(RecvTimeoutError::Timeout) {
            self.guard.flush();
            let pauses = self.valve.pauses.load(Ordering::Relaxed);
            if pauses != mem::replace(&mut self.pauses, pauses) {
                tracing::warn!(pauses, "requests are missing in --trace-chrome: its disk is slow");
            }
        }
        // Dropping it writes the closing bracket, and waits for that.
        drop(self.guard);
    }
}

#[cfg(test)]
mod tests;
