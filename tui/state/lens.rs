//! The panel below the lanes: four questions that can be asked at every cursor.
//!
//! *Changed* is about the step at the look cursor; the others are about the cluster after the step
//! at the time cursor has happened. An answer that needs a member without records says so, and
//! counts that member neither way.

use glass_etcd::{
    story::{Recording, query::address::Address},
    trace::Stage,
};

use super::{
    lanes::Lane,
    steps::{Lens, Steps},
    story::{Moment, Step, Subject},
    watermarks::{self, Water},
    words,
};

/// A line of an answer: pieces that must not be broken.
pub(crate) type Line = Vec<String>;

/// The answer, most important line first.
pub(crate) fn lines(recording: &Recording, steps: &Steps, lanes: &[Lane]) -> Vec<Line> {
    match steps.lens {
        Lens::Changed => changed(recording, steps, lanes, steps.shows_all),
        Lens::Durable => durable(recording, steps, lanes),
        Lens::WhoKnows => who_knows(recording, steps, lanes),
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
        lines.extend(all(recording, steps, step, lanes));
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
fn all(recording: &Recording, steps: &Steps, step: &Step, lanes: &[Lane]) -> Option<Line> {
    let marks = steps.watermarks(recording, &lanes[step.lane])?;
    let known = Water::ALL.iter().map(|water| {
        let (name, unit) = water.named();
        let value = marks.get(*water).map(|value| words::value(unit, value, lanes));
        format!("{name} {}", value.as_deref().unwrap_or("?"))
    });
    Some(known.collect())
}

/// An old value that differs from the previous new one proves that some step was not captured.
fn gap(recording: &Recording, step: &Step) -> Option<String> {
    let here = watermarks::moment(&step.event);
    let change = watermarks::changes(&step.event).into_iter().find(|c| c.old.is_some())?;
    let before = recording
        .events
        .iter()
        .filter(|event| event.member == step.event.member && event.stage == step.event.stage)
        .filter(|event| event.boot == here.0 && watermarks::moment(event) < here)
        .max_by_key(|event| watermarks::moment(event))?;
    let previous = watermarks::changes(before).into_iter().find(|c| c.water == change.water)?.new;
    let old = change.old.filter(|old| *old != previous)?;
    Some(format!("{} {previous} → {old} was not recorded before this", change.water.named().0))
}

/// The progress of the entry on one member.
enum Kept {
    Unknown,
    No,
    Written,
    Synced,
    InFile,
}

fn kept(recording: &Recording, steps: &Steps, lane: &Lane, index: u64) -> Kept {
    let Some(marks) = steps.watermarks(recording, lane) else { return Kept::Unknown };
    let reaches = |water| marks.reaches(water, index);
    match (reaches(Water::Stored), reaches(Water::Synced), reaches(Water::Written)) {
        (Some(true), _, _) => Kept::InFile,
        (_, Some(true), _) => Kept::Synced,
        (_, None, _) => Kept::Unknown,
        (_, Some(false), Some(true)) => Kept::Written,
        (_, Some(false), _) => Kept::No,
    }
}

/// Once an entry was replaced, its index proves nothing any more.
const LOST: &str = "this entry is lost: a new leader's replaced it before a majority had it";

fn durable(recording: &Recording, steps: &Steps, lanes: &[Lane]) -> Vec<Line> {
    if steps.is_lost {
        return vec![vec![LOST.to_owned()]];
    }
    let Some(index) = steps.indexes().max() else {
        return vec![vec![nothing_to_keep(steps.subject).to_owned()]];
    };
    let kept: Vec<Kept> = lanes.iter().map(|lane| kept(recording, steps, lane, index)).collect();
    let states = lanes.iter().zip(&kept).map(|(lane, kept)| {
        let state = match kept {
            Kept::Unknown => "? unknown",
            Kept::No => "✘ not yet",
            Kept::Written => "✘ written",
            Kept::Synced => "✔ synced",
            Kept::InFile => "✔ in file",
        };
        format!("{} {state}", lane.name)
    });
    let states = [format!("entry {index}:")].into_iter().chain(states).collect();
    vec![vec![verdict(&kept)], states]
}

fn nothing_to_keep(subject: Subject) -> &'static str {
    match subject {
        Subject::Request(_) => "no log entry: nothing here has to survive a power failure",
        Subject::Cluster(Address::Election { .. }) => "no entry of the new term was captured",
        Subject::Cluster(_) => "no log entry: nothing here has to survive a power failure",
    }
}

fn verdict(kept: &[Kept]) -> String {
    let members = kept.len();
    let needed = members / 2 + 1;
    let safe = kept.iter().filter(|kept| matches!(kept, Kept::Synced | Kept::InFile)).count();
    let unknown = kept.iter().filter(|kept| matches!(kept, Kept::Unknown)).count();
    let of = format!("synced on {safe} of {members}, {needed} needed");
    if needed <= safe {
        format!("power cut now: the write SURVIVES ({of})")
    } else if needed <= safe + unknown {
        format!("power cut now: UNKNOWN ({of}, {unknown} unknown)")
    } else {
        format!("power cut now: the write MAY BE LOST ({of})")
    }
}

fn who_knows(recording: &Recording, steps: &Steps, lanes: &[Lane]) -> Vec<Line> {
    if steps.is_lost {
        return vec![vec![LOST.to_owned()]];
    }
    let Some(index) = steps.indexes().max() else {
        return vec![vec!["no log entry: there is no commit to know of".to_owned()]];
    };
    let knows = lanes.iter().map(|lane| {
        let marks = steps.watermarks(recording, lane);
        let word = match marks.and_then(|marks| marks.reaches(Water::Commit, index)) {
            None => "? unknown",
            Some(true) => "✔ knows",
            Some(false) => "✘ not yet",
        };
        format!("{} {word}", lane.name)
    });
    let knows = [format!("{index} committed:")].into_iter().chain(knows).collect();
    let mut happened = steps.steps.iter().take(steps.now + 1);
    let answer = happened.rfind(|step| is_answer(step));
    let client = match answer.map(|step| step.event.result) {
        _ if matches!(steps.subject, Subject::Cluster(_)) => "no client asked for this",
        None => "client ✘ has no answer yet",
        Some(0) => "client ✔ received ok",
        Some(_) => "client ✘ received an error",
    };
    vec![knows, vec![client.to_owned()]]
}

fn is_answer(step: &Step) -> bool {
    step.is_own && step.event.stage == Stage::Rpc && step.moment == Moment::Done
}

fn cost(steps: &Steps, lanes: &[Lane]) -> Vec<Line> {
    let Some(step) = steps.steps.get(steps.look) else { return Vec::new() };
    let own = || steps.steps.iter().filter(|step| step.is_own);
    let start = own().map(|step| step.wall_ns).min().unwrap_or(0);
    let took = match step.moment {
        Moment::Begin => "this step begins".to_owned(),
        Moment::Done => format!("this step {}", words::duration(step.event.took_ns)),
    };
    let after = words::duration(step.wall_ns.saturating_sub(start));
    let mut line = vec![took, format!("{after} after the first")];
    if let Some(whole) = own().find(|step| is_answer(step)) {
        line.push(format!("whole request {}", words::duration(whole.event.took_ns)));
    }
    let waits = [Stage::Rpc, Stage::RaftPropose, Stage::ReadIndexWait, Stage::ReadIndexRound];
    let mut dear: Vec<&Step> = own()
        .filter(|step| step.moment == Moment::Done && !waits.contains(&step.event.stage))
        .filter(|step| step.event.took_ns != 0)
        .collect();
    dear.sort_by_key(|step| std::cmp::Reverse(step.event.took_ns));
    let dear = dear.iter().take(4).map(|step| {
        let took = words::duration(step.event.took_ns);
        format!("{} {} {took}", step.event.stage.name(), lanes[step.lane].name)
    });
    vec![line, ["longest:".to_owned()].into_iter().chain(dear).collect()]
}
