//! The member's log: `tracing` events as the lines that etcd prints.
//!
//! The format is zap's JSON (`level ts caller msg`, then the event's own fields), so that tools for
//! etcd's logs read ours, or columns for people. From other crates only warnings and errors are
//! logged, and from each place in them one line in [`THEIRS_EVERY`]: h2 logs a line for a frame
//! that a client can send without end. Our own code limits its lines itself.
//!
//! Spans are not logged. Those of the glass pass through, to `chrome` if it is enabled. Those of
//! all other crates are disabled here at the callsite: the callsites of h2 alone would cost as much
//! as a request.

use std::{
    collections::HashMap,
    fmt::{self, Write as _},
    fs::OpenOptions,
    io::{self, Write},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use glass_etcd::{
    clock,
    config::{LogFormat, LogLevel, LogOutput, ProcessOptions, Rotation},
    trace::bridge,
};
use serde_json::{Map, Value};
use tracing::{
    Event, Level, Metadata, Subscriber, field::Field, level_filters::LevelFilter,
    subscriber::Interest,
};
use tracing_subscriber::layer::{Context, Layer};

use crate::{
    lines::{Flush, Lines},
    rotate::Rotating,
    timestamp::timestamp,
};

/// Writes events; add it to a registry.
#[derive(Debug)]
pub(crate) struct LogLayer {
    lines: Lines,
    format: LogFormat,
    level: LevelFilter,
    theirs: Theirs,
}

/// How long a place in another crate keeps silent after a line.
const THEIRS_EVERY: Duration = Duration::from_secs(5);

/// The target of raft-rs's lines: all of it comes from one place of ours (`raft/logger.rs`).
const RAFT: &str = "raft";

/// When each place in other crates has spoken last. There are as many as have been compiled in.
#[derive(Debug, Default)]
struct Theirs(Mutex<HashMap<CallSite, Instant>>);

/// The file and the line that logged.
type CallSite = (Option<&'static str>, Option<u32>);

impl Theirs {
    /// Whether a place may speak now; it is noted if so.
    fn may_speak(&self, place: CallSite, now: Instant) -> bool {
        let mut spoken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = spoken.get(&place);
        let is_quiet = before.is_some_and(|before| now.duration_since(*before) < THEIRS_EVERY);
        if !is_quiet {
            spoken.insert(place, now);
        }
        !is_quiet
    }
}

/// Opens the outputs. Keep the [`Flush`] until the end of the process.
///
/// # Errors
///
/// A log file cannot be opened.
pub(crate) fn layer(options: &ProcessOptions) -> io::Result<(LogLayer, Flush)> {
    let outputs = options
        .log_outputs
        .iter()
        .map(|output| open(output, options.log_rotation))
        .collect::<io::Result<Vec<_>>>()?;
    let say_dropped: fn(u64) -> String = match options.log_format {
        LogFormat::Json => |count| {
            let fields = Map::from_iter([("lines".to_owned(), Value::from(count))]);
            json("warn", clock::wall(), "tui/log.rs", &Message { text: DROPPED.to_owned(), fields })
        },
        LogFormat::Console => |count| {
            let fields = Map::from_iter([("lines".to_owned(), Value::from(count))]);
            console(
                "warn",
                clock::wall(),
                "tui/log.rs",
                &Message { text: DROPPED.to_owned(), fields },
            )
        },
    };
    let (lines, flush) = Lines::start(outputs, say_dropped)?;
    let level = match options.log_level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    };
    Ok((LogLayer { lines, format: options.log_format, level, theirs: Theirs::default() }, flush))
}

const DROPPED: &str = "log lines were dropped: the output is too slow";

fn open(output: &LogOutput, rotation: Option<Rotation>) -> io::Result<Box<dyn Write + Send>> {
    Ok(match output {
        LogOutput::Stderr => Box::new(io::BufWriter::new(io::stderr())),
        LogOutput::Stdout => Box::new(io::BufWriter::new(io::stdout())),
        LogOutput::File(path) => {
            let failed = |error: io::Error| {
                let text = format!("cannot open log file {}: {error}", path.display());
                io::Error::new(error.kind(), text)
            };
            match rotation {
                Some(rotation) => Box::new(Rotating::open(path, rotation).map_err(failed)?),
                None => {
                    let file = OpenOptions::new().create(true).append(true).open(path);
                    Box::new(io::BufWriter::new(file.map_err(failed)?))
                }
            }
        }
    })
}

impl LogLayer {
    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && metadata.target() != bridge::TARGET
            && *metadata.level() <= self.level
            && (is_ours(metadata) || *metadata.level() <= Level::WARN)
    }

    fn lets_pass(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == bridge::TARGET || self.wants(metadata)
    }
}

fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("glass")
}

/// A callsite that this layer disables is disabled for all layers of the registry.
impl<S: Subscriber> Layer<S> for LogLayer {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.lets_pass(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _context: Context<'_, S>) -> bool {
        self.lets_pass(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level.max(LevelFilter::INFO))
    }

    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let metadata = event.metadata();
        if !self.wants(metadata) {
            return;
        }
        let is_bounded = is_ours(metadata) || metadata.target() == RAFT;
        let place = (metadata.file(), metadata.line());
        if !is_bounded && !self.theirs.may_speak(place, clock::now()) {
            return;
        }
        let mut message = Message::default();
        event.record(&mut message);
        let level = match *metadata.level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            _ => "debug",
        };
        let caller = caller(metadata);
        let line = match self.format {
            LogFormat::Json => json(level, clock::wall(), &caller, &message),
            LogFormat::Console => console(level, clock::wall(), &caller, &message),
        };
        self.lines.put(line);
    }
}

/// Directory, file and line, as in zap's short form.
fn caller(metadata: &Metadata<'_>) -> String {
    let path = metadata.file().unwrap_or("unknown");
    let start = path.rmatch_indices('/').nth(1).map_or(0, |(at, _)| at + 1);
    format!("{}:{}", &path[start..], metadata.line().unwrap_or(0))
}

/// The message and the fields of an event.
#[derive(Default)]
struct Message {
    text: String,
    fields: Map<String, Value>,
}

impl Message {
    fn add(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.text = text,
            (name, value) => drop(self.fields.insert(name.replace('_', "-"), value)),
        }
    }
}

impl tracing::field::Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, Value::String(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, Value::String(value.to_owned()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Value::Bool(value));
    }
}

fn json(level: &str, wall: Duration, caller: &str, message: &Message) -> String {
    // Written by hand up to the fields, because a map would sort the keys, and the order helps
    // human readers.
    let mut line = format!(
        "{{\"level\":\"{level}\",\"ts\":\"{}\",\"caller\":{},\"msg\":{}",
        timestamp(wall),
        Value::from(caller),
        Value::from(message.text.as_str())
    );
    for (name, value) in &message.fields {
        // Writing to a String cannot fail.
        let _ = write!(line, ",{}:{value}", Value::from(name.as_str()));
    }
    line.push('}');
    line
}

fn console(level: &str, wall: Duration, caller: &str, message: &Message) -> String {
    let mut line = format!("{}\t{level}\t{caller}\t{}", timestamp(wall), one_line(&message.text));
    if !message.fields.is_empty() {
        let _ = write!(line, "\t{}", Value::Object(message.fields.clone()));
    }
    line
}

/// Escapes control characters, so that text from a client cannot forge a line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, level: LevelFilter, say: impl FnOnce()) -> Vec<String> {
        let memory = Memory::default();
        let (lines, flush) =
            Lines::start(vec![Box::new(memory.clone())], |count| format!("{count}")).unwrap();
        let layer = LogLayer { lines, format, level, theirs: Theirs::default() };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), say);
        drop(flush);
        let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_line_has_the_keys_of_zap_in_their_order() {
        let lines = logged(LogFormat::Json, LevelFilter::INFO, || {
            tracing::info!(member_id = "8e9e05c52164694d", term = 2_u64, "became \"leader\"\n");
        });
        assert_eq!(lines.len(), 1);
        let line: Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(line["level"], "info");
        assert_eq!(line["msg"], "became \"leader\"\n");
        assert_eq!(line["member-id"], "8e9e05c52164694d");
        assert_eq!(line["term"], 2);
        assert!(line["caller"].as_str().unwrap().starts_with("tui/log.rs:"));
        let places: Vec<_> = ["level", "ts", "caller", "msg"]
            .map(|key| lines[0].find(&format!("\"{key}\":")))
            .into();
        assert!(places.is_sorted() && places[0].is_some(), "{}", lines[0]);
    }

    #[test]
    fn less_severe_lines_and_the_chatter_of_other_crates_are_left_out() {
        let lines = logged(LogFormat::Console, LevelFilter::WARN, || {
            tracing::info!("ours, but info");
            tracing::warn!("ours");
            tracing::warn!(target: "h2::codec", "theirs");
        });
        assert_eq!(lines.len(), 2);
        let lines = logged(LogFormat::Console, LevelFilter::INFO, || {
            tracing::info!("ours");
            tracing::info!(target: "h2::codec", "theirs");
        });
        assert_eq!(lines.len(), 1);
    }

    #[test]
    fn a_line_of_another_crate_that_a_client_can_repeat_is_logged_once() {
        let lines = logged(LogFormat::Console, LevelFilter::INFO, || {
            for number in 0..100 {
                tracing::warn!(target: "h2::proto", "a frame too many: {number}");
                tracing::warn!(target: "raft", "raft-rs: {number}");
            }
            tracing::warn!(target: "h2::proto", "another place");
        });
        assert_eq!(lines.iter().filter(|line| line.contains("a frame too many")).count(), 1);
        assert_eq!(lines.len(), 102);
        let (theirs, place, now) = (Theirs::default(), (Some("h2"), Some(1)), clock::now());
        assert!(theirs.may_speak(place, now));
        assert!(!theirs.may_speak(place, now + THEIRS_EVERY / 2));
        assert!(theirs.may_speak(place, now + THEIRS_EVERY));
    }

    #[test]
    fn spans_of_the_glass_pass_unlogged_and_those_of_other_crates_do_not_exist() {
        let lines = logged(LogFormat::Console, LevelFilter::WARN, || {
            let span = tracing::info_span!(target: "glass::stage", "rpc");
            assert!(!span.is_disabled());
            tracing::info!(target: "glass::stage", parent: &span, "said below it");
            assert!(tracing::info_span!(target: "h2::proto", "poll").is_disabled());
            assert!(tracing::error_span!("ours, but of no stage").is_disabled());
        });
        assert_eq!(lines, Vec::<String>::new());
    }

    #[test]
    fn text_of_a_client_cannot_forge_a_line() {
        let lines = logged(LogFormat::Console, LevelFilter::INFO, || {
            tracing::info!("key a\n2026 fatal");
        });
        assert_eq!(lines.len(), 1);
    }
}
