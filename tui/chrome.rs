//! `--trace-chrome`: kept requests as a file for Perfetto and `chrome://tracing`, while they
//! happen.
//!
//! ```text
//!   trace::bridge ──spans──▶ StageLayer ──▶ tracing-chrome ──messages──▶ its thread ──▶ TraceFile
//!        ▲                      │ sent          queue without a bound                      │ taken
//!        └────── off, on ───── Valve ◀──────────────────────────────────────────────────────┘
//! ```
//!
//! `tracing-chrome` makes the entries. This module adds what it lacks:
//!
//! * it would write the spans of any crate, so it receives only those of the glass;
//! * its queue has no bound, so entries are counted on both sides of it, and while [`BACKLOG_MAX`]
//!   are in flight no more spans are opened;
//! * its thread panics when a write fails, which would end the member, so [`TraceFile`] never
//!   fails: it logs the first error and accepts no more;
//! * its file grows without limit, so at [`FILE_MAX`] bytes the file is closed properly;
//! * it buffers, so it is flushed once a second, and only whole entries get into the file: a killed
//!   member leaves a file that lacks only the closing bracket; the next start with the same flags
//!   renames that file to `FILE.1`, and replaces an older one;
//! * its rows are numbered by the registry, which reuses numbers, and numbers larger than the
//!   viewers can tell apart: here a request's row has the request's id;
//! * its instants are on threads: here those of a request are in the request's row;
//! * its process has the number 1, and its times count from its own start: here they are the
//!   process's number and the wall clock, so that the files of a cluster can be merged;
//! * its numbers are text: here they are numbers again ([`TraceFile::mend`] does these four);
//! * it knows no step that was over before it was told: the glass sends one as an instant that says
//!   when it began, and here that is a pair in the request's row ([`edges`]).
//!
//! Left out: order between members beyond their wall clocks, arrows, and the text of keys. `glass
//! trace export --chrome` has all of these.

use std::{
    fs::{self, File},
    io::{self, Write},
    mem,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::Duration,
};

use glass_etcd::{clock, trace::bridge};
use serde_json::{Map, Value, json};
use tracing::{
    Event, Id, Metadata, Subscriber,
    span::{Attributes, Record},
};
use tracing_chrome::{ChromeLayer, ChromeLayerBuilder, FlushGuard, TraceStyle};
use tracing_subscriber::{
    layer::{Context, Layer},
    registry::LookupSpan,
};

mod edges;

use edges::Rpcs;

/// Entries that may be on their way to the file: some tens of megabytes.
const BACKLOG_MAX: u64 = 32_768;
/// Largest file in bytes; viewers cannot open a larger one.
const FILE_MAX: u64 = 1 << 30;
/// Interval between flushes: the longest period that a kill of the member can lose.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// How long the end waits for an unresponsive disk.
const FINISH_WITHIN: Duration = Duration::from_secs(5);

/// Passes the glass's spans, and no others, to `tracing-chrome`.
pub(crate) struct StageLayer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    chrome: ChromeLayer<S>,
    valve: Arc<Valve>,
}

/// Opens the file for the member of this name. If `path` is a directory, the file is
/// `NAME.trace.json` in it, so one setting serves a whole cluster. An existing file is kept as
/// `FILE.1`. Keep the [`Finish`] until the end of the process.
///
/// # Errors
///
/// The file cannot be opened, the existing one cannot be renamed, or it is of a kind whose opening
/// could block, such as a FIFO.
pub(crate) fn layer<S>(path: &Path, name: &str) -> io::Result<(StageLayer<S>, Finish)>
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    let path = match path.is_dir() {
        true => path.join(format!("{}.trace.json", name.replace(['/', '\\'], "_"))),
        false => path.to_owned(),
    };
    let file = open(&path).map_err(|error| {
        let what = format!("cannot open --trace-chrome {}: {error}", path.display());
        io::Error::new(error.kind(), what)
    })?;
    build(TraceFile::new(Box::new(file), path, name, FILE_MAX))
}

/// Opens the file empty, and keeps the previous one. Devices have nothing to keep; anything else
/// that is not a regular file is refused before it is opened, because opening it might block.
fn open(path: &Path) -> io::Result<File> {
    // A path without metadata, or a directory, fails below, with the error of opening it.
    if let Ok(metadata) = fs::metadata(path) {
        let kind = metadata.file_type();
        if !(kind.is_file() || kind.is_char_device() || kind.is_dir()) {
            let what = "it is neither a file nor a directory nor a character device";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        if kind.is_file() && 0 < metadata.len() {
            keep(path)?;
        }
    }
    File::create(path)
}

/// Renames the file to `FILE.1`, replacing an older one. A link stays, and its target is renamed.
fn keep(path: &Path) -> io::Result<()> {
    let from = fs::canonicalize(path)?;
    let mut to = from.clone().into_os_string();
    to.push(".1");
    fs::rename(&from, &to).map_err(|error| {
        let what = format!("its content cannot be kept as {}: {error}", to.display());
        io::Error::new(error.kind(), what)
    })
}

fn build<S>(file: TraceFile) -> io::Result<(StageLayer<S>, Finish)>
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    let valve = Arc::clone(&file.valve);
    let (chrome, guard) = ChromeLayerBuilder::new()
        .writer(file)
        // One row per request, across threads, from the opening of a span to its end.
        .trace_style(TraceStyle::Async)
        .include_args(true)
        // Every location would be that of the one macro that declares the callsites.
        .include_locations(false)
        .build();
    let finish = Finish::start(guard, Arc::clone(&valve))?;
    Ok((StageLayer { chrome, valve }, finish))
}

fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.target() == bridge::TARGET
}

/// `tracing-chrome` ignores enter and exit in this style, so they are not passed on.
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

/// How many entries are in flight, and whether more may come.
///
/// The bridge and the flags that say why it is off change together, under `gate`, and only at a
/// transition. So no late call can turn off a bridge that another call has turned on since, and
/// after [`Valve::end`] no call turns it on.
#[derive(Debug, Default)]
struct Valve {
    sent: AtomicU64,
    taken: AtomicU64,
    /// How often the bridge was paused because too many entries were in flight.
    pauses: AtomicU64,
    gate: Mutex<Gate>,
    /// A copy of the gate's flag, to be read without the lock. The next entry, or the flush of the
    /// next second, corrects a reader of an old value.
    is_paused: AtomicBool,
    /// Nothing more can be written.
    is_closed: AtomicBool,
}

/// Why the bridge is off; it is on if neither is set.
#[derive(Debug, Default)]
struct Gate {
    /// Too many entries are in flight.
    is_paused: bool,
    /// No new spans are accepted. Entries in flight are still written.
    has_ended: bool,
}

impl Valve {
    /// A panic under the lock leaves no change half done, so poisoning is ignored.
    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets spans through, unless the file has failed already.
    fn open(&self) {
        let gate = self.gate();
        if !gate.has_ended && !gate.is_paused {
            bridge::set_on(true);
        }
    }

    fn sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        if BACKLOG_MAX <= self.backlog() && !self.is_paused.load(Ordering::Relaxed) {
            self.pause();
        }
    }

    fn pause(&self) {
        let mut gate = self.gate();
        // The writer may have taken all of it before this thread got the lock.
        if !gate.is_paused && !gate.has_ended && BACKLOG_MAX <= self.backlog() {
            gate.is_paused = true;
            self.is_paused.store(true, Ordering::Relaxed);
            self.pauses.fetch_add(1, Ordering::Relaxed);
            bridge::set_on(false);
        }
    }

    /// Names of threads are entries too, but are not counted when they are sent.
    fn backlog(&self) -> u64 {
        self.sent.load(Ordering::Relaxed).saturating_sub(self.taken.load(Ordering::Relaxed))
    }

    fn taken(&self, entries: usize) {
        self.taken.fetch_add(entries as u64, Ordering::Relaxed);
        let is_low = self.backlog() < BACKLOG_MAX / 2;
        if is_low && self.is_paused.load(Ordering::Relaxed) {
            self.resume();
        }
    }

    fn resume(&self) {
        let mut gate = self.gate();
        if gate.is_paused && !gate.has_ended {
            gate.is_paused = false;
            self.is_paused.store(false, Ordering::Relaxed);
            bridge::set_on(true);
        }
    }

    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    /// Stops opening spans, until the process ends; those in flight are still written.
    fn end(&self) {
        let mut gate = self.gate();
        gate.has_ended = true;
        bridge::set_on(false);
    }

    /// Stops new spans, and all writing.
    fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
        self.end();
    }
}

/// The destination of `tracing-chrome`'s writer: never fails, never grows beyond its limit, and
/// writes whole entries. An entry is a line; its JSON contains no other newlines.
struct TraceFile {
    out: Box<dyn Write + Send>,
    path: PathBuf,
    /// The member's name, until its entry is written, which is the first.
    name: Option<String>,
    /// The incomplete last line; whole lines are written at once.
    pending: Vec<u8>,
    written: u64,
    limit: u64,
    /// The wall clock at the time 0 of the layer, in microseconds since 1970.
    began: f64,
    rpcs: Rpcs,
    valve: Arc<Valve>,
}

/// An entry about the process, for the viewers.
fn about_process(name: &str, args: &Value) -> String {
    json!({ "ph": "M", "pid": std::process::id(), "tid": 0, "name": name, "args": args })
        .to_string()
}

/// Converts a number or truth value back from the text that `tracing-chrome` makes of it. Ids,
/// which are sixteen hexadecimal digits, stay text, and so do numbers that would lose precision.
fn plain(text: &str) -> Option<Value> {
    let is_short = text.len() < 16 && (text == "0" || !text.starts_with('0'));
    match text {
        "true" => Some(Value::Bool(true)),
        "false" => Some(Value::Bool(false)),
        _ if is_short => text.parse::<u64>().ok().map(Value::from),
        _ => None,
    }
}

impl TraceFile {
    fn new(out: Box<dyn Write + Send>, path: PathBuf, name: &str, limit: u64) -> TraceFile {
        TraceFile {
            out,
            path,
            name: Some(name.to_owned()),
            pending: Vec::new(),
            written: 0,
            limit,
            began: clock::wall().as_micros() as f64,
            rpcs: Rpcs::default(),
            valve: Arc::new(Valve::default()),
        }
    }

    /// Turns an entry into what the viewers need. A row that has the request's id is one row of its
    /// process, even for steps after the answer; all other rows keep their numbers, as text.
    fn mend(&self, entry: &mut Map<String, Value>) {
        entry.insert("pid".to_owned(), std::process::id().into());
        if let Some(time) = entry.get("ts").and_then(Value::as_f64) {
            entry.insert("ts".to_owned(), (self.began + time).into());
        }
        let mut request = None;
        if let Some(Value::Object(args)) = entry.get_mut("args") {
            request = args.get("request_id").and_then(Value::as_str).map(str::to_owned);
            for value in args.values_mut() {
                if let Some(number) = value.as_str().and_then(plain) {
                    *value = number;
                }
            }
        }
        let row = match entry.remove("id") {
            Some(number) => Some(request.unwrap_or_else(|| format!("loop {number}"))),
            None => request,
        };
        if let Some(row) = row {
            entry.insert("id2".to_owned(), json!({ "local": row }));
            if entry.get("ph").is_some_and(|phase| phase == "i") {
                entry.insert("ph".to_owned(), "n".into());
                entry.remove("s");
            }
        }
    }

    /// Appends a line to `out`: a mended entry, or the brackets around the entries unchanged.
    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let body = line.trim_ascii_end();
        let body = body.strip_suffix(b",").unwrap_or(body);
        let Ok(mut entry) = serde_json::from_slice(body) else {
            out.extend_from_slice(line);
            return;
        };
        if let Some(name) = self.name.take() {
            out.extend(about_process("process_name", &json!({ "name": name })).into_bytes());
            out.extend_from_slice(b",\n");
        }
        self.mend(&mut entry);
        let entries = self.rpcs.at_the_edge(entry).into_iter();
        let entries: Vec<String> = entries.map(|entry| Value::Object(entry).to_string()).collect();
        out.extend(entries.join(",\n").into_bytes());
        out.extend_from_slice(&line[body.len()..]);
    }

    fn take(&mut self, bytes: &[u8]) {
        self.valve.taken(bytes.iter().filter(|byte| **byte == b'\n').count());
        if self.valve.is_closed() {
            return;
        }
        self.pending.extend_from_slice(bytes);
        let end = self.pending.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let rest = self.pending.split_off(end);
        let whole = mem::replace(&mut self.pending, rest);
        let mut lines = Vec::with_capacity(whole.len() * 2);
        whole.split_inclusive(|byte| *byte == b'\n').for_each(|line| self.line(line, &mut lines));
        self.put(&lines);
        if self.limit <= self.written && !self.valve.is_closed() {
            // After a comma, which follows every entry but the last.
            let labels = json!({ "labels": "cut: the file has its largest size" });
            self.put(format!("{}\n]\n", about_process("process_labels", &labels)).as_bytes());
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
            let (rest, mut line) = (mem::take(&mut self.pending), Vec::new());
            self.line(&rest, &mut line);
            self.put(&line);
        }
        Ok(())
    }
}

/// Closes the file when it is dropped; until then it flushes every second.
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
            // The waiting side may have given up; then the result is of no use.
            let _ = done.send(());
        })?;
        Ok(Finish { valve, stop: Some(stop), done: finished })
    }

    /// Lets spans through; call it once the subscriber is installed.
    pub(crate) fn open(&self) {
        self.valve.open();
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        self.valve.end();
        self.stop = None;
        if self.done.recv_timeout(FINISH_WITHIN).is_err() {
            tracing::warn!("the file of --trace-chrome is incomplete: its disk does not answer");
        }
        // In case the writer recovers after all.
        self.valve.close();
    }
}

struct Flusher {
    guard: FlushGuard,
    valve: Arc<Valve>,
    pauses: u64,
}

impl Flusher {
    /// Returns when the file is closed.
    fn run(mut self, stopped: &Receiver<()>) {
        while stopped.recv_timeout(FLUSH_EVERY) == Err(RecvTimeoutError::Timeout) {
            self.guard.flush();
            let pauses = self.valve.pauses.load(Ordering::Relaxed);
            if pauses != mem::replace(&mut self.pauses, pauses) {
                tracing::warn!(pauses, "requests are missing in --trace-chrome: its disk is slow");
            }
        }
        // The drop writes the closing bracket, and waits until it is written.
        drop(self.guard);
    }
}

#[cfg(test)]
mod tests;
