//! The panel below the lanes: five questions that can be asked at every cursor.
//!
//! *Changed* is about the step at the look cursor; the others are about the cluster after the step
//! at the time cursor has happened. An answer that needs a member without records says so, and
//! counts that member neither way.

use glass_etcd::{
    fields,
    story::{Recording, query::address::Address},
    trace::Stage,
};

pub(crate) mod reads;

use super::{
    head::Head,
    kept::{Kept, Log},
    lanes::Lane,
    steps::{Lens, Steps},
    story::{Moment, Step, Subject},
    voters::Voters,
    watermarks::{self, Water},
    words,
};

/// A line of an answer: pieces that must not be broken.
pub(crate) type Line = Vec<String>;

/// The heading of the panel.
pub(crate) fn title(steps: &Steps) -> String {
    match steps.lens {
        Lens::Changed => "CHANGED".to_owned(),
        Lens::Durable => "DURABLE NOW".to_owned(),
        Lens::WhoKnows => "WHO KNOWS".to_owned(),
        Lens::Reads => reads::title(steps),
        Lens::Cost => "COST".to_owned(),
    }
}

/// The answer, most important line first. `heads` say which members run at the cursor.
pub(crate) fn lines(
    recording: &Recording,
    steps: &Steps,
    (lanes, heads): (&[Lane], &[Head]),
) -> Vec<Line> {
    match steps.lens {
        Lens::Changed => changed(recording, steps, lanes, steps.shows_all),
        Lens::Durable => durable(steps, lanes),
        Lens::WhoKnows => who_knows(steps, lanes),
        Lens::Reads => reads::lines(steps, lanes, heads),
        Lens::Cost => cost(steps, lanes),
    }
}

/// The changes of the step at the look cursor, with all watermarks of its member on request.
pub(crate) fn changed(
    recording: &Recording,
    steps: &Steps,
    lanes: &[Lane],
    shows_all: bool,
) -> Vec<Line> {
    let Some(step) = steps.steps.get(steps.look) else { return Vec::new() };
    let name = lanes[step.lane].name.clone();
    if !step.is_captured {
        return vec![vec![name, "unknown: this step has no record".to_owned()]];
    }
    let mut line = vec![name.clone()];
    let changes = watermarks::changes(&step.event);
    line.extend(changes.iter().map(|change| change_words(change, lanes)));
    if changes.is_empty() {
        line.push("no watermark changed".to_owned());
    }
    let mut lines = vec![line];
    lines.extend(gap(recording, step).map(|gap| vec![name, gap]));
    if shows_all {
        lines.extend(all(steps, step, lanes));
    }
    lines
}

fn change_words(change: &watermarks::Change, lanes: &[Lane]) -> String {
    let (name, unit) = change.water.named();
    let name = match change.water {
        Water::Match(peer) => format!("{name} of {}", super::lanes::name_of(lanes, peer)),
        _ => name.to_owned(),
    };
    let new = words::value(unit, change.new, lanes);
    match change.old {
        Some(old) if old != change.new => {
            format!("{name} {} → {new}", words::value(unit, old, lanes))
        }
        Some(_) => format!("{name} stays {new}"),
        None => format!("{name} {new}"),
    }
}

/// All watermarks of the member of the step, at the cursor.
fn all(steps: &Steps, step: &Step, lanes: &[Lane]) -> Option<Line> {
    let marks = steps.watermarks(&lanes[step.lane])?;
    let known = Water::ALL.iter().map(|water| {
        let (name, unit) = water.named();
        let value = marks.get(*water).map(|value| words::value(unit, value, lanes));
        format!("{name} {}", value.as_deref().unwrap_or("?"))
    });
    Some(known.collect())
}

/// An old value that differs from the previous new one proves that some step was not captured: its
/// records were lost, or belong to a request that was not kept.
fn gap(recording: &Recording, step: &Step) -> Option<String> {
    let here = watermarks::moment(&step.event);
    let change = watermarks::changes(&step.event).into_iter().find(|c| c.old.is_some())?;
    let of_member = || {
        let events = recording.events.iter();
        events.filter(|event| (event.member, event.boot) == (step.event.member, here.0))
    };
    let before = of_member()
        .filter(|event| event.stage == step.event.stage && watermarks::moment(event) < here)
        .filter(|event| watermarks::changes(event).iter().any(|c| c.water == change.water))
        .max_by_key(|event| watermarks::moment(event))?;
    let since = watermarks::moment(before);
    let mut between =
        of_member().filter(|event| (since..here).contains(&watermarks::moment(event)));
    if between.any(|event| begins_anew(event.stage, change.water)) {
        return None;
    }
    let previous = watermarks::changes(before).into_iter().find(|c| c.water == change.water)?.new;
    let old = change.old.filter(|old| *old != previous)?;
    let is_lost = of_member().filter(|event| event.stage == Stage::Lost).any(|event| {
        let [from, to] = fields!(event, Lost: from, to);
        from <= here.1 && since.1 <= to
    });
    let what = if is_lost { "was lost unread" } else { "was not kept" };
    Some(format!("{} {previous} → {old} {what} before this", change.water.named().0))
}

/// Whether the watermark does not continue from its value before this step: a new leader counts
/// anew, and the log is cut where another's entries replace it.
fn begins_anew(stage: Stage, water: Water) -> bool {
    match water {
        Water::Match(_) => stage == Stage::RaftRole,
        Water::Written | Water::Synced => stage == Stage::LogTruncate,
        _ => false,
    }
}

/// Once an entry was replaced, its index proves nothing any more.
pub(crate) const LOST: &str =
    "this entry is lost: a new leader's replaced it before a majority had it";
/// What is said of such an entry before that has happened.
const LOST_LATER: &str = "later a new leader's entry replaced it";

/// Whether the entry is lost, at the cursor; and otherwise whether it will be.
fn is_lost(steps: &Steps, log: &Log) -> [bool; 2] {
    let is_lost = steps.is_lost && steps.is_replaced(log);
    [is_lost, steps.is_lost && !is_lost]
}

/// Whether the write survives a power failure at the cursor, and the state of each disk.
pub(crate) fn durable(steps: &Steps, lanes: &[Lane]) -> Vec<Line> {
    let Some(log) = &steps.log else {
        return vec![vec![nothing_to_keep(steps.subject).to_owned()]];
    };
    let [is_lost, will_be] = is_lost(steps, log);
    if is_lost {
        return vec![vec![LOST.to_owned()]];
    }
    if let Some(said) = before_entry(steps, log, lanes) {
        return vec![vec![said]];
    }
    let kept = kept(steps, log, lanes);
    let is_committed = !will_be && lanes.iter().any(|lane| steps.knows(log, lane) == Some(true));
    let voters = steps.voters(lanes);
    let states = lanes.iter().zip(&kept).enumerate().map(|(at, (lane, kept))| {
        let state = match kept {
            Kept::Unknown => "? unknown",
            Kept::No => "✘ not yet",
            Kept::Written => "✘ written",
            Kept::Synced => "✔ synced",
            Kept::InFile => "✔ in file",
        };
        let standing = voters.as_ref().and_then(|voters| voters.standing(at).word());
        let standing = standing.map_or_else(String::new, |word| format!(" ({word})"));
        format!("{} {state}{standing}", lane.name)
    });
    let states = [format!("entry {}:", log.entry.1)].into_iter().chain(states).collect();
    let verdict = [verdict(&kept, voters.as_ref(), is_committed)].into_iter();
    vec![verdict.chain(will_be.then(|| LOST_LATER.to_owned())).collect(), states]
}

fn nothing_to_keep(subject: Subject) -> &'static str {
    match subject {
        Subject::Request(_) => "no log entry: nothing here has to survive a power failure",
        Subject::Cluster(Address::Election { .. }) => "no entry of the new term was captured",
        Subject::Cluster(_) => "no log entry: nothing here has to survive a power failure",
    }
}

/// What is said of an election whose term has no entry yet at the cursor: the leader that it elects
/// appends that entry.
fn before_entry(steps: &Steps, log: &Log, lanes: &[Lane]) -> Option<String> {
    let term = match steps.subject {
        Subject::Cluster(Address::Election { term, .. }) => term,
        _ => return None,
    };
    let has_got = |place: u8, cut| log.known(place, cut).iter().any(|known| known.term == term);
    let places = || lanes.iter().filter_map(|lane| lane.place);
    let has_now = places().any(|place| steps.cut(place).is_some_and(|cut| has_got(place, cut)));
    let gets_later = places().any(|place| has_got(place, (u16::MAX, u64::MAX)));
    let is_kept = |kept: &Kept| !matches!(kept, Kept::No | Kept::Unknown);
    let is_on_disk = kept(steps, log, lanes).iter().any(is_kept);
    (gets_later && !has_now && !is_on_disk)
        .then(|| format!("term {term} has no entry yet: a power failure can take none away"))
}

/// Whether the story's write survives a power failure at the cursor; `None` if it has no entry, or
/// if that is unknown.
pub(crate) fn survives(steps: &Steps, lanes: &[Lane]) -> Option<bool> {
    let log = steps.log.as_ref().filter(|_| !steps.is_lost)?;
    if before_entry(steps, log, lanes).is_some() {
        return None;
    }
    let voters = steps.voters(lanes);
    let is_committed = lanes.iter().any(|lane| steps.knows(log, lane) == Some(true));
    if is_committed {
        return Some(true);
    }
    let voters = voters?;
    let [safe, unknown] = counted(&kept(steps, log, lanes), &voters);
    match voters.needed() {
        needed if needed <= safe => Some(true),
        needed if needed <= safe + unknown => None,
        _ => Some(false),
    }
}

/// How many voters' disks are known to have the story's entry at the cursor, and how many voters
/// there are.
pub(crate) fn synced(steps: &Steps, lanes: &[Lane]) -> Option<(usize, usize)> {
    let log = steps.log.as_ref()?;
    let voters = steps.voters(lanes)?;
    Some((counted(&kept(steps, log, lanes), &voters)[0], voters.count()))
}

fn kept(steps: &Steps, log: &Log, lanes: &[Lane]) -> Vec<Kept> {
    lanes.iter().map(|lane| steps.kept(log, lane)).collect()
}

/// How many voters' disks have the entry, and of how many that is unknown.
fn counted(kept: &[Kept], voters: &Voters) -> [usize; 2] {
    let of_voters = || kept.iter().enumerate().filter(|(at, _)| voters.votes(*at));
    let safe = of_voters().filter(|(_, kept)| kept.is_safe()).count();
    let unknown = of_voters().filter(|(_, kept)| matches!(kept, Kept::Unknown)).count();
    [safe, unknown + voters.others()]
}

/// Whether a majority of the voters' disks has the entry. Once it is committed, one has, even if
/// not all of its records were captured.
pub(crate) fn verdict(kept: &[Kept], voters: Option<&Voters>, is_committed: bool) -> String {
    let Some(voters) = voters else {
        return match is_committed {
            true => {
                "power cut now: the write SURVIVES (committed, so a majority has it)".to_owned()
            }
            false => "power cut now: UNKNOWN (which members vote was not captured)".to_owned(),
        };
    };
    let (members, needed) = (voters.count(), voters.needed());
    let [safe, unknown] = counted(kept, voters);
    let of = format!("synced on {safe} of {members}, {needed} needed");
    if needed <= safe {
        format!("power cut now: the write SURVIVES ({of})")
    } else if is_committed {
        format!(
            "power cut now: the write SURVIVES (committed, so a majority has it; captured of {safe})"
        )
    } else if needed <= safe + unknown {
        format!("power cut now: UNKNOWN ({of}, {unknown} unknown)")
    } else {
        format!("power cut now: the write MAY BE LOST ({of})")
    }
}

fn who_knows(steps: &Steps, lanes: &[Lane]) -> Vec<Line> {
    let Some(log) = &steps.log else {
        return vec![vec!["no log entry: there is no commit to know of".to_owned()]];
    };
    let [is_lost, will_be] = is_lost(steps, log);
    if is_lost {
        return vec![vec![LOST.to_owned()]];
    }
    if before_entry(steps, log, lanes).is_some() {
        return vec![vec!["no entry yet: there is no commit to know of".to_owned()]];
    }
    let knows = lanes.iter().map(|lane| {
        let word = match steps.knows(log, lane) {
            None => "? unknown",
            Some(true) if will_be => "? unknown",
            Some(true) => "✔ knows",
            Some(false) => "✘ not yet",
        };
        format!("{} {word}", lane.name)
    });
    let knows = [format!("{} committed?", log.entry.1)].into_iter().chain(knows).collect();
    let answer = steps.happened().iter().rfind(|step| is_answer(steps, step));
    // Without a record of the rpc, a client may well have asked.
    let is_internal = |step: &Step| steps.is_request(step) && !steps.is_of_client(step);
    let is_of_member = steps.steps.iter().any(is_internal);
    let client = match answer.map(|step| step.event.result) {
        _ if is_of_member || matches!(steps.subject, Subject::Cluster(_)) => {
            "no client asked for this"
        }
        None => "client ✘ has no answer yet",
        Some(0) => "client ✔ received ok",
        Some(_) => "client ✘ received an error",
    };
    vec![knows, vec![client.to_owned()]]
}

fn is_answer(steps: &Steps, step: &Step) -> bool {
    steps.is_request(step) && step.moment == Moment::Done
}

fn cost(steps: &Steps, lanes: &[Lane]) -> Vec<Line> {
    let Some(step) = steps.steps.get(steps.look) else { return Vec::new() };
    let took = match step.moment {
        Moment::Begin => "this step begins".to_owned(),
        Moment::Done => format!("this step {}", words::duration(step.event.took_ns)),
    };
    let far = words::duration(step.wall_ns.abs_diff(steps.zero_ns));
    let side = if step.wall_ns < steps.zero_ns { "before it began" } else { "after it began" };
    let mut line = vec![took, format!("{far} {side}")];
    let whole = Whole::of(steps);
    if let Some(whole) = &whole {
        let what = if whole.has_edges { ", from its first byte to its last" } else { "" };
        line.push(format!("whole request {}{what}", words::duration(whole.took_ns)));
    }
    if let Some(waited) = step.on_path.filter(|waited| *waited != 0) {
        line.push(format!("the request waited {} up to here", words::duration(waited)));
    }
    // What waits for other steps, and what is a window of time and no step.
    let waits = [
        Stage::Rpc,
        Stage::RaftPropose,
        Stage::ReadIndexWait,
        Stage::ReadIndexRound,
        Stage::CpuWait,
    ];
    let dear = steps
        .steps
        .iter()
        .filter(|step| step.is_own && step.moment == Moment::Done && step.event.took_ns != 0)
        .filter(|step| !waits.contains(&step.event.stage));
    // What ended after the answer is no part of the whole, and may be longer.
    let until = whole.map_or(u64::MAX, |whole| whole.until);
    let (mut dear, later): (Vec<&Step>, Vec<&Step>) = dear.partition(|step| step.wall_ns <= until);
    dear.sort_by_key(|step| std::cmp::Reverse(step.event.took_ns));
    let dear = dear.iter().take(4).map(|step| {
        let took = words::duration(step.event.took_ns);
        format!("{} {} {took}", step.event.stage.name(), lanes[step.lane].name)
    });
    let later = (!later.is_empty()).then(|| format!("{} more ended after the answer", later.len()));
    vec![line, ["longest:".to_owned()].into_iter().chain(dear).chain(later).collect()]
}

/// The whole of a request that was answered.
struct Whole {
    /// From its first byte to the last byte of its answer, as far as these were captured, in
    /// nanoseconds: as the list of requests counts.
    took_ns: u64,
    /// Whether anything before its rpc or after it was captured.
    has_edges: bool,
    /// When it ended, in nanoseconds since 1970, with the members' clocks aligned.
    until: u64,
}

impl Whole {
    fn of(steps: &Steps) -> Option<Whole> {
        let own = || steps.steps.iter().filter(|step| step.is_own);
        let rpc = own().find(|step| is_answer(steps, step))?;
        let edges = || {
            let is_edge =
                |step: &&Step| step.event.stage.is_at_edge() && step.event.id == rpc.event.id;
            own().filter(is_edge).filter(|step| step.moment == Moment::Done)
        };
        let (after, before): (Vec<&Step>, Vec<&Step>) =
            edges().partition(|step| step.event.stage == Stage::AnswerFlush);
        let first = before.iter().map(|step| step.event.at_ns).min();
        let before_ns = first.map_or(0, |first| rpc.event.at_ns.saturating_sub(first));
        let after_ns: u64 = after.iter().fold(0, |ns, step| step.event.took_ns.saturating_add(ns));
        Some(Whole {
            took_ns: rpc.event.took_ns.saturating_add(before_ns).saturating_add(after_ns),
            has_edges: edges().next().is_some(),
            until: after.iter().map(|step| step.wall_ns).max().unwrap_or(rpc.wall_ns),
        })
    }
}
