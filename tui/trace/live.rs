//! Commands that run until Ctrl-C: following, and recording.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, BufWriter, Write},
    time::Duration,
};

use glass_etcd::{
    pb::glasspb::ObserveRequest,
    story::{Event, Recording, order::Order, recording::Writer},
    trace::{FLAG_NOISE, Grain, Kind, Stage},
};

use super::{Error, RecordArgs, TailArgs, gather::warn_of_silence, plain, words};
use crate::source::{Live, memory::Change};

/// Events kept in memory to put late ones in order.
const REMEMBERED: usize = 10_000;
/// Events kept by a recorder: a member that reconnects sends its history again, up to 32 768
/// records, and the file must not contain them twice.
const RECORDED_REMEMBERED: usize = 100_000;
/// Whole traces per second that a recorder asks for: more than a member keeps.
const RECORDED_PER_SECOND: u32 = 1000;
/// How often `tail` writes: sorting each batch would cost too much.
const WRITE_EVERY: Duration = Duration::from_millis(100);

/// Follows all members and writes each event once, in playback order as far as known.
pub(super) async fn tail(args: &TailArgs) -> Result<(), Error> {
    let mut out = BufWriter::new(io::stdout());
    if let Some(path) = &args.from.from {
        let recording = super::open(path)?;
        let mut printer = Printer::new(args, Order::of(&recording));
        printer.write(&mut out, &recording)?;
        return Ok(out.flush()?);
    }
    let request = ObserveRequest {
        rpc: args.rpc.clone(),
        key_prefix: args.key_prefix.clone().into_bytes().into(),
        errors_only: args.errors,
        ..ObserveRequest::default()
    };
    let mut live = Live::connect(&args.from.endpoints, &request);
    let mut printer = Printer::new(args, Order::default());
    let mut ticks = tokio::time::interval(WRITE_EVERY);
    let end = tokio::signal::ctrl_c();
    tokio::pin!(end);
    let mut has_warned = false;
    loop {
        tokio::select! {
            _ = &mut end => return Ok(out.flush()?),
            change = live.next() => {
                if let Some(Change::Down { endpoint, reason }) = change && has_warned {
                    let endpoint = &live.seen()[endpoint].endpoint;
                    writeln!(io::stderr(), "glass trace: no records from {endpoint}: {reason}")?;
                }
                continue;
            }
            _ = ticks.tick() => (),
        }
        if !has_warned && live.is_settled() {
            has_warned = true;
            warn_of_silence(&live)?;
        }
        printer.order = live.order();
        let until = heard_until(&live, &printer.order);
        printer.order.rows.retain(|at| printer.order.times[*at] <= until);
        printer.write(&mut out, live.recording())?;
        out.flush()?;
        printer.forget(live.trim(REMEMBERED));
    }
}

/// The time up to which every member that is not silent has sent its records: an earlier event may
/// still arrive and precede later ones.
fn heard_until(live: &Live, order: &Order) -> i128 {
    let silent = live.silent();
    let mut heard = vec![i128::MIN; silent.len()];
    for (event, time) in live.recording().events.iter().zip(&order.times) {
        let member = &mut heard[usize::from(event.member)];
        *member = (*member).max(*time);
    }
    let loud = heard.iter().zip(&silent).filter(|(_, is_silent)| !**is_silent);
    loud.map(|(heard, _)| *heard).min().unwrap_or(i128::MAX)
}

/// Writes each event once.
struct Printer {
    order: Order,
    is_json: bool,
    grain: Grain,
    /// Whether only some requests were asked for, and nothing else.
    is_choosy: bool,
    members: usize,
    /// Whether each event was written, by position.
    written: Vec<bool>,
}

impl Printer {
    fn new(args: &TailArgs, order: Order) -> Printer {
        let (is_json, grain) = (args.form.json, args.grain.grain());
        let is_choosy = args.errors || !args.rpc.is_empty() || !args.key_prefix.is_empty();
        Printer { order, is_json, grain, is_choosy, members: 0, written: Vec::new() }
    }

    fn write(&mut self, out: &mut impl Write, recording: &Recording) -> io::Result<()> {
        self.written.resize(recording.events.len(), false);
        if self.is_json && self.members != recording.members.len() {
            // A new header: readers of a stream use the last table.
            self.members = recording.members.len();
            Writer::new(&mut *out, &recording.members)?;
        }
        let chosen = self.is_choosy.then(|| served(recording));
        for at in &self.order.rows {
            let event = &recording.events[*at];
            if chosen.as_ref().is_some_and(|chosen| !chosen.contains(&event.id)) {
                continue;
            }
            if std::mem::replace(&mut self.written[*at], true) || !self.is_shown(event) {
                continue;
            }
            if self.is_json {
                glass_etcd::story::recording::write_event(&mut *out, event)?;
            } else {
                let time = words::time_of_day(self.order.times[*at]);
                let line = plain::step_line(recording, &self.order, *at);
                let id =
                    if event.id == 0 { String::new() } else { format!(" id={:016x}", event.id) };
                writeln!(out, "{time}  {line}{id}")?;
            }
        }
        Ok(())
    }

    fn is_shown(&self, event: &Event) -> bool {
        let is_noise = event.flags & FLAG_NOISE != 0 || event.kind == Kind::Keyframe;
        event.stage.grain() <= self.grain && (!is_noise || self.grain == Grain::Raw)
    }

    fn forget(&mut self, gone: usize) {
        self.written.drain(..gone.min(self.written.len()));
    }
}

/// The requests that their own member let through the filter. Another member, which knows less
/// about them, may have sent more.
fn served(recording: &Recording) -> HashSet<u64> {
    let rpcs = recording.events.iter().filter(|event| event.stage == Stage::Rpc);
    rpcs.map(|event| event.id).collect()
}

/// Writes the records of all members to a file, as they arrive.
pub(super) async fn record(args: &RecordArgs) -> Result<(), Error> {
    if args.from.from.is_some() {
        return Err(Error::Usage(
            "a recording is made of live members, not --from a file".to_owned(),
        ));
    }
    let out: Box<dyn Write> = if args.file.as_os_str() == "-" {
        Box::new(io::stdout())
    } else {
        Box::new(File::create(&args.file).map_err(|error| super::of_file(&args.file, &error))?)
    };
    let traces_per_second = RECORDED_PER_SECOND;
    let request = ObserveRequest { history: true, traces_per_second, ..Default::default() };
    let mut live = Live::connect(&args.from.endpoints, &request);
    let end = tokio::time::sleep(Duration::from_secs(args.seconds.unwrap_or(u64::MAX / 1_000_000)));
    let stop = tokio::signal::ctrl_c();
    tokio::pin!(end, stop);
    let mut writer = Writer::new(BufWriter::new(out), &[])?;
    let (mut has_warned, mut written) = (false, 0);
    loop {
        tokio::select! {
            _ = &mut stop => break,
            () = &mut end => break,
            _ = live.next() => (),
        }
        if !has_warned && live.is_settled() {
            has_warned = true;
            warn_of_silence(&live)?;
        }
        writer.update(live.recording())?;
        for event in &live.recording().events[written..] {
            writer.event(event)?;
        }
        writer.flush()?;
        written = live.recording().events.len();
        // The keys of running steps are kept separately, so dropping events loses none of them.
        written -= live.trim(RECORDED_REMEMBERED);
    }
    writer.update(live.recording())?;
    writer.flush()?;
    let count = live.recording().members.len();
    writeln!(io::stderr(), "glass trace: recorded {count} members into {}", args.file.display())?;
    for (member, lost) in live.recording().members.iter().zip(&live.recording().dropped) {
        if *lost != 0 {
            let name = &member.name;
            writeln!(
                io::stderr(),
                "glass trace: {name} lost {lost} records before they were read"
            )?;
        }
    }
    Ok(())
}
