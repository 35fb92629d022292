//! `glass boot`: starts members from what the disks had at a moment, to see what a power failure
//! then would have left.
//!
//! ```text
//!   recording, moment ─▶ state::disk ─▶ what each disk had
//!   Procfile ─▶ where each log is ─▶ scratch: a copy of each log up to there
//!   outlook: who can be elected on these logs, and so what survives
//!   scratch/Procfile, free ports ─▶ up ─▶ members ─▶ reads: revision; did the write survive?
//! ```
//!
//! The members that run are not touched: their logs are only read. The new members belong to
//! another cluster and know only each other's ports (see `member::moment`).
//!
//! Invariants: the scratch directory is removed when this ends, unless it is to be kept; the
//! members in it end with this process; the bytes that are copied are bounded.
//!
//! Left out: the database files. Each member applies its log again from the first entry.

use std::{io, io::Write as _, path::PathBuf, process::ExitCode};

use glass_etcd::{
    story::{
        Recording,
        order::{Order, point},
        query::Story,
        state::States,
    },
    trace::Stage,
};

use crate::{
    fail, source,
    state::disk::{self, Disk, Wanted},
    trace,
};

pub(crate) mod outlook;
pub(crate) mod scratch;
pub(crate) mod trial;

use trial::Trial;

/// The command line of `glass boot`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// FILE, or FILE@MEMBER:BOOT:CLOCK: a recording and a moment of it, its end by default; what
    /// the live members have now if left out
    recording: Option<String>,
    /// The request whose write is looked for afterwards: its id in hex
    #[arg(long)]
    id: Option<String>,
    /// Live members to ask for their records
    #[arg(long, value_delimiter = ',', default_value = source::ENDPOINTS)]
    endpoints: Vec<String>,
    /// Keep the copies, and say how to start them again
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    place: crate::Cluster,
}

/// Says what will be, does it, and prints what came of it.
pub(crate) fn run(args: &Args) -> ExitCode {
    match try_run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn try_run(args: &Args) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (file, at) = match args.recording.as_deref().map(|text| text.split_once('@').ok_or(text)) {
        None => (None, None),
        Some(Err(file)) => (Some(file), None),
        Some(Ok((file, moment))) => (Some(file), Some(moment)),
    };
    let recording = match file {
        Some(file) => {
            source::open(file.as_ref())
                .map_err(|error| io::Error::other(format!("{file}: {error}")))?
                .recording
        }
        None => runtime.block_on(trace::remembered(&args.endpoints))?,
    };
    let (disks, wanted) = found(&recording, at, args.id.as_deref()).map_err(io::Error::other)?;
    let say = |line: &str| drop(writeln!(io::stdout().lock(), "{line}"));
    say(&disk::said(&disks));
    let scratch = scratch::make(&args.place, &disks).map_err(io::Error::other)?;
    let outlook = outlook::told(&scratch.members, &scratch.open, wanted.as_ref());
    outlook.iter().for_each(|line| say(line));
    let trial = Trial::start(scratch, wanted)?;
    let told = runtime.block_on(trial.watch());
    told.iter().for_each(|line| say(line));
    if args.keep {
        let path: PathBuf = trial.keep()?;
        say(&format!("kept: glass up --procfile {}", path.join("Procfile").display()));
    }
    Ok(())
}

/// Does it for the player: starts the members, looks, and ends them. Blocks for some seconds.
pub(crate) fn perform(place: &crate::Cluster, moment: &disk::Trial) -> Vec<String> {
    let tried = || -> io::Result<Vec<String>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let scratch = scratch::make(place, &moment.disks).map_err(io::Error::other)?;
        let wanted = moment.wanted.as_ref();
        let mut told = outlook::told(&scratch.members, &scratch.open, wanted);
        let trial = Trial::start(scratch, moment.wanted)?;
        told.extend(runtime.block_on(trial.watch()));
        Ok(told)
    };
    let said = moment.said[..moment.said.len() - 1].iter().cloned();
    match tried() {
        Ok(told) => said.chain(told).collect(),
        Err(error) => vec![format!("This moment cannot be booted: {error}")],
    }
}

/// The disks at this moment of the recording, and the write to look for.
fn found(
    recording: &Recording,
    moment: Option<&str>,
    id: Option<&str>,
) -> Result<(Vec<Disk>, Option<Wanted>), String> {
    let order = Order::of(recording);
    let rank = match moment {
        None => order.rows.len(),
        Some(text) => 1 + rank_of(recording, &order, text)?,
    };
    let cut = |place: u8| {
        let rows = order.rows[..rank].iter().map(|at| &recording.events[*at]);
        let own = rows.filter(|event| event.member == place);
        own.map(|event| (event.boot, point(event))).max()
    };
    let states = States::of(recording, &order);
    let disks = disk::disks(recording, &states, cut);
    if let Some(why) = disk::refusal(&disks) {
        return Err(why);
    }
    let wanted = match id {
        None => None,
        Some(id) => {
            let number = u64::from_str_radix(id, 16).map_err(|_| format!("{id} is no id"))?;
            let story = Story::of(recording, &order, number);
            let story = story.ok_or_else(|| format!("the recording has no request {id}"))?;
            let entry = story.entry.ok_or_else(|| without_entry(recording, &story))?;
            Some(Wanted::of(recording, number, entry))
        }
    };
    Ok((disks, wanted))
}

/// Why a request has no entry to look for.
fn without_entry(recording: &Recording, story: &Story) -> String {
    let mut own = story.steps.iter().map(|step| &recording.events[step.event]);
    let is_proposed = own.any(|event| event.stage == Stage::RaftPropose && event.id == story.id);
    match is_proposed {
        true => format!("no record says which entry {:016x} became", story.id),
        false => format!("{:016x} proposed nothing, as far as captured", story.id),
    }
}

/// The place in the playback order of the moment `MEMBER:BOOT:CLOCK`: of the last event of the
/// member that had happened by then.
fn rank_of(recording: &Recording, order: &Order, text: &str) -> Result<usize, String> {
    let wrong = || format!("{text} is no moment: MEMBER:BOOT:CLOCK is one");
    let (rest, clock) = text.rsplit_once(':').ok_or_else(wrong)?;
    let (name, boot) = rest.rsplit_once(':').ok_or_else(wrong)?;
    let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
    let (clock, boot) = (number(clock)?, number(boot)?);
    let member = recording
        .members
        .iter()
        .position(|member| member.name == name || format!("{:x}", member.member_id) == name);
    let member = member.ok_or_else(|| format!("the recording has no member {name}"))?;
    let is_past = |at: &usize| {
        let event = &recording.events[*at];
        let here = (u64::from(event.boot), point(event));
        usize::from(event.member) == member && here <= (boot, clock)
    };
    let last = order.rows.iter().rposition(is_past);
    last.ok_or_else(|| format!("{name} had recorded nothing by {boot}:{clock}"))
}

#[cfg(test)]
mod tests;
