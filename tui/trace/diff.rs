//! `glass trace diff`: two requests side by side, in words and figures.
//!
//! `query::diff` of the library does the comparison; this module puts it into words. The first line
//! is a sentence on the most important difference, the second on its cost and its cause; then come
//! the facts that differ, the steps of both, what each of them waited for, what it stood behind
//! meanwhile, and what happened to the cluster.

use std::io::{self, Write};

use glass_etcd::{
    story::{
        MemberInfo,
        query::{
            Outcome,
            diff::{
                Causes, Completed, Consistency, Diff, Difference, Facts, Found, Pair, Part, Side,
                Taken, What,
            },
            path::Wait,
        },
    },
    trace::message::MESSAGES,
};
use serde_json::{Value, json};

use super::{ahead, explain, plain, through, words};
use crate::state::ahead::{Titles, work};

/// Names of the two requests, in order.
const NAMES: [&str; 2] = ["A", "B"];

/// Writes the comparison as text.
pub(super) fn plain(out: &mut impl Write, sides: [Side<'_>; 2]) -> io::Result<()> {
    let diff = Diff::of(sides[0], sides[1]);
    writeln!(out, "{}", summary(&diff))?;
    writeln!(out, "{}", cost(sides, &diff))?;
    for (name, side) in NAMES.iter().zip(&sides) {
        // What `show` says of it.
        let facts = plain::facts(side.recording, side.order, side.story).join("  ");
        writeln!(out, "{name}  {}  {facts}", side.story.title)?;
    }
    facts(out, sides, &diff)?;
    steps(out, &diff)?;
    waited(out, &diff)?;
    blocked(out, &diff)?;
    for ((name, side), causes) in NAMES.iter().zip(sides).zip(&diff.causes) {
        ahead::lines(out, side.recording, &causes.ahead, &format!("what stood ahead of {name}"))?;
        let title = format!("meanwhile in the cluster of {name}");
        let happened = (&causes.through, &causes.delaying);
        through::titled(out, side.recording, happened, &title)?;
    }
    unknown(out, sides)
}

/// A sentence on the most important difference.
fn summary(diff: &Diff) -> String {
    let told = diff.differences.iter().find_map(|difference| sentence(*difference, &diff.facts));
    told.unwrap_or_else(|| {
        let is_single = |pair: &&Pair| pair.taken.iter().any(Option::is_none);
        match diff.pairs.iter().filter(is_single).count() {
            0 => "A and B took the same steps.".to_owned(),
            1 => "1 step is in only one of them.".to_owned(),
            count => format!("{count} steps are in only one of them."),
        }
    })
}

fn sentence(difference: Difference, facts: &[Facts; 2]) -> Option<String> {
    let [a, b] = facts;
    // The name of the request for which it holds, then the other.
    let which = |is_so: bool| if is_so { ("A", "B") } else { ("B", "A") };
    match difference {
        Difference::Method => Some(format!("A is {}, B is {}.", a.method?, b.method?)),
        Difference::Result => {
            // The half sentences may have commas of their own.
            let and = if a.is_replaced || b.is_replaced { ";" } else { "," };
            Some(format!("A {}{and} B {}.", ended(a), ended(b)))
        }
        Difference::Consistency => {
            let (yes, no) = which(a.consistency == Some(Consistency::Linearizable));
            Some(format!(
                "{yes} went through the leader's ReadIndex round, {no} did not: {no} was serializable."
            ))
        }
        Difference::Asked => {
            let (leader, follower) = which(a.is_leader == Some(true));
            let why = match (a.entry.or(b.entry), a.consistency) {
                _ if a.is_forwarded || b.is_forwarded => "which asked the leader over HTTP",
                (Some(_), _) => "which forwarded the proposal to the leader",
                (None, Some(Consistency::Linearizable)) => "which asked the leader for the index",
                (None, _) => "which answered by itself",
            };
            Some(format!(
                "{follower} was sent to a follower, {why}; {leader} was sent to the leader."
            ))
        }
        Difference::Found => {
            let (file, buffer) = which(a.found?.file != 0);
            Some(format!(
                "{buffer} was answered from the write buffer, {file} had to read the file."
            ))
        }
        Difference::Fsync => {
            let (more, less) = which(b.fsynced < a.fsynced);
            let counts = [a, b].map(|facts| facts.fsynced.unwrap_or(0));
            let (most, least) = (counts[0].max(counts[1]), counts[0].min(counts[1]));
            let most = explain::shared(most, "entry", "entries");
            let least = explain::shared(least, "entry", "entries");
            Some(format!("The leader's fsync was {most} in {more}, and {least} in {less}."))
        }
        Difference::Round => round(a, b, which),
        Difference::CompletedBy => {
            let (leader, follower) = which(a.completed_by == Some(Completed::Leader));
            Some(format!(
                "The quorum of {leader} was completed by the leader's own disk, that of {follower} by a follower's."
            ))
        }
        Difference::Keys => {
            let read = words::count(a.keys?, "key", "keys");
            Some(format!("A read {read}, B {}.", b.keys?))
        }
    }
}

/// How a request ended, and that its entry was replaced, if it was.
fn ended(facts: &Facts) -> String {
    let how = match facts.outcome {
        Some(Outcome::Code(0)) => "succeeded".to_owned(),
        Some(Outcome::Code(code)) => format!("ended with {}", words::code(code)),
        Some(Outcome::Refused(why)) => format!("was refused: {why}"),
        Some(Outcome::Open) => "has not ended yet".to_owned(),
        Some(Outcome::Unknown) => "ended in a way that is unknown, if it did".to_owned(),
        Some(Outcome::NotFinished) => "did not finish".to_owned(),
        None => "ended in a way that was not captured".to_owned(),
    };
    let fate = if facts.is_replaced { ", and another entry replaced its own" } else { "" };
    format!("{how}{fate}")
}

fn round<'a>(a: &Facts, b: &Facts, which: impl Fn(bool) -> (&'a str, &'a str)) -> Option<String> {
    if a.attempts != b.attempts {
        let (more, less) = which(b.attempts < a.attempts);
        return Some(format!("{more} had to ask the quorum more often than {less}."));
    }
    let (a, b) = (a.reads?, b.reads?);
    let (most, least) = (a.max(b), a.min(b));
    let (more, less) = which(b < a);
    let most = explain::shared(most, "read", "reads");
    let least = explain::shared(least, "read", "reads");
    Some(format!("The round was {most} in {more}, and {least} in {less}."))
}

/// A sentence on the difference of the durations, and its main cause.
fn cost(sides: [Side<'_>; 2], diff: &Diff) -> String {
    let [Some(a), Some(b)] = [diff.facts[0].took_ns, diff.facts[1].took_ns] else {
        let which = endless(&diff.facts);
        return format!("The difference between their durations is unknown: {which}.");
    };
    let by = i128::from(b) - i128::from(a);
    if by == 0 {
        return "They took equally long.".to_owned();
    }
    let slower = usize::from(0 < by);
    let longer = format!("{} took {} longer", NAMES[slower], words::millis(by.abs()));
    // The slower request need not have waited longer for everything.
    let most =
        diff.waited.iter().flatten().find(|waited| waited.difference().signum() == by.signum());
    match most {
        Some(waited) => {
            let ns = words::millis(waited.difference().abs());
            let why = because(sides[slower], &diff.causes[slower], waited.wait);
            let why = why.map_or(String::new(), |why| format!(" {}: {why}.", NAMES[slower]));
            format!("{longer}; the largest part is {}, {ns}.{why}", waited.wait)
        }
        None => format!("{longer}."),
    }
}

/// Which of them have no duration, and why.
fn endless(facts: &[Facts; 2]) -> String {
    let why = |(name, facts): (&str, &Facts)| {
        let why = match (facts.took_ns, facts.outcome) {
            (Some(_), _) => return None,
            (None, Some(Outcome::Open)) => "has not ended yet",
            (None, Some(Outcome::Unknown)) => "has an end that is unknown",
            (None, Some(Outcome::NotFinished)) => "did not finish",
            (None, _) => "has an end that was not captured",
        };
        Some(format!("{name} {why}"))
    };
    let all: Vec<String> = NAMES.into_iter().zip(facts).filter_map(why).collect();
    all.join(", ")
}

/// Why a request waited like this, as far as it is known: what became of the leader, or what it
/// stood behind longest.
fn because(side: Side<'_>, causes: &Causes, wait: Wait) -> Option<String> {
    let recording = side.recording;
    if matches!(wait, Wait::NoLeader | Wait::SilentLeader) {
        return through::summary(&recording.members, &causes.delaying);
    }
    let behind = causes.of_wait(wait).flat_map(|one| one.behind.iter().map(move |it| (one, it)));
    let (one, it) = behind.max_by_key(|(_, it)| it.overlap_ns)?;
    let served = Titles::of(recording).served(it);
    let served = served.map_or(String::new(), |served| format!(" ({served})"));
    let [part, all] = [it.overlap_ns, one.ns].map(|ns| words::millis(i128::from(ns)));
    let work = work(&recording.events[it.event]);
    Some(format!("{part} of {all} behind {work}{served}"))
}

/// The facts that differ, one per line.
fn facts(out: &mut impl Write, sides: [Side<'_>; 2], diff: &Diff) -> io::Result<()> {
    writeln!(out, "\nfacts that differ")?;
    let rows = [0, 1].map(|at| fact_rows(&diff.facts[at], &sides[at].recording.members));
    let mut is_same = true;
    for ((name, a), (_, b)) in rows[0].iter().zip(&rows[1]) {
        if a != b {
            is_same = false;
            let [a, b] = [a, b].map(|text| text.as_deref().unwrap_or("-"));
            writeln!(out, "  {name:<20}  A: {a:<26}  B: {b}")?;
        }
    }
    if is_same { writeln!(out, "  none") } else { Ok(()) }
}

/// The facts in words, always the same ones in the same order; `None` for a fact that does not
/// apply to the request, or was not captured.
fn fact_rows(facts: &Facts, members: &[MemberInfo]) -> Vec<(&'static str, Option<String>)> {
    let shared =
        |count: Option<u64>, one, many| count.map(|count| explain::shared(count, one, many));
    let number = |number: Option<u64>| number.map(|number| number.to_string());
    vec![
        ("method", facts.method.map(str::to_owned)),
        ("member asked", asked(facts, members)),
        ("its role", facts.is_leader.map(|is| if is { "leader" } else { "follower" }.to_owned())),
        (
            "consistency",
            facts.consistency.map(|consistency| consistency_name(consistency).to_owned()),
        ),
        ("result", facts.outcome.map(|outcome| words::outcome(Some(outcome)).to_owned())),
        ("revision", number(facts.revision)),
        ("keys", number(facts.keys)),
        ("values were in", facts.found.map(found)),
        ("entry", facts.entry.map(|entry| entry_text(entry, facts.is_replaced))),
        ("leader's fsync", shared(facts.fsynced, "entry", "entries")),
        ("quorum completed by", facts.completed_by.map(|by| completed_name(by).to_owned())),
        ("read round", shared(facts.reads, "read", "reads")),
        ("asked the quorum", facts.attempts.map(explain::times)),
        ("delivered to", facts.watchers.map(|count| words::count(count, "watcher", "watchers"))),
    ]
}

/// The name of the member that served a request.
fn asked(facts: &Facts, members: &[MemberInfo]) -> Option<String> {
    let known = facts.asked.map(|at| words::name(at, members).to_owned());
    known.or_else(|| Some(words::member(facts.server?, members)))
}

fn entry_text((term, index): (u64, u64), is_replaced: bool) -> String {
    let fate = if is_replaced { ", replaced" } else { "" };
    format!("{term}/{index}{fate}")
}

fn consistency_name(consistency: Consistency) -> &'static str {
    match consistency {
        Consistency::Linearizable => "linearizable",
        Consistency::Serializable => "serializable",
    }
}

fn completed_name(by: Completed) -> &'static str {
    match by {
        Completed::Leader => "the leader's own disk",
        Completed::Follower => "a follower's disk",
    }
}

fn found(found: Found) -> String {
    let places =
        [(found.active, "active buffer"), (found.frozen, "frozen buffer"), (found.file, "file")];
    let words: Vec<String> = (places.iter().filter(|(count, _)| *count != 0))
        .map(|(count, place)| format!("{place} {count}"))
        .collect();
    if words.is_empty() { "nowhere".to_owned() } else { words.join(", ") }
}

/// All steps of both: which request has them, how long, what, and by which role.
fn steps(out: &mut impl Write, diff: &Diff) -> io::Result<()> {
    writeln!(out, "\nsteps (~ depends on how the members' clocks were set)")?;
    writeln!(out, "  {:<8}  {:>15}  {:>15}  {:<20}  BY", "IN", "A", "B", "STEP")?;
    for pair in &diff.pairs {
        let [a, b] = pair.taken.map(|taken| taken.map_or("-".to_owned(), cell));
        let (step, by) = step_words(pair.what);
        writeln!(out, "  {:<8}  {a:>15}  {b:>15}  {step:<20}  {by}", mark(pair))?;
    }
    Ok(())
}

/// `only A`, `only B`, `longer A`, `longer B` or `both`.
fn mark(pair: &Pair) -> &'static str {
    match (pair.taken, pair.longer()) {
        ([Some(_), None], _) => "only A",
        ([None, _], _) => "only B",
        (_, Some((0, _))) => "longer A",
        (_, Some(_)) => "longer B",
        (_, None) => "both",
    }
}

fn cell(taken: Taken) -> String {
    let times = if taken.count == 1 { String::new() } else { format!("{}x ", taken.count) };
    match taken.ns {
        Some(ns) => {
            let estimate = if taken.is_estimated { "~" } else { " " };
            format!("{times}{}{estimate}", words::millis(i128::from(ns)))
        }
        None => format!("{times}yes "),
    }
}

fn step_words(what: What) -> (String, String) {
    match what.message {
        None => (what.stage.name().to_owned(), part(what.part).to_owned()),
        Some((kind, to)) => {
            let name = usize::try_from(kind).ok().and_then(|at| MESSAGES.get(at));
            let name = name.map_or_else(|| format!("message {kind}"), |name| (*name).to_owned());
            (name, format!("{} to {}", part(what.part), part(to)))
        }
    }
}

fn part(part: Part) -> &'static str {
    match part {
        Part::Asked => "asked",
        Part::Others => "others",
        Part::Leader => "leader",
        Part::Followers => "followers",
        Part::Unknown => "unknown",
    }
}

/// Their waits: these lines sum to the difference of the two durations.
fn waited(out: &mut impl Write, diff: &Diff) -> io::Result<()> {
    writeln!(out, "\nwaited for (the differences add up to that of the durations)")?;
    let Some(list) = &diff.waited else {
        return writeln!(out, "  {}", endless(&diff.facts));
    };
    writeln!(out, "  {:>12}  {:>12}  {:>13}  WAITED FOR", "A", "B", "B - A")?;
    for waited in list {
        let [a, b] = waited.ns.map(|ns| words::millis(i128::from(ns)));
        let by = signed(waited.difference());
        writeln!(out, "  {a:>12}  {b:>12}  {by:>13}  {}", waited.wait)?;
    }
    Ok(())
}

/// What they stood behind; nothing if nothing is known.
fn blocked(out: &mut impl Write, diff: &Diff) -> io::Result<()> {
    if diff.blocked.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nstood behind, while it waited")?;
    let queue = "STOOD IN THE QUEUE FOR";
    writeln!(out, "  {:>12}  {:>12}  {:>13}  {queue:<23}  BEHIND", "A", "B", "B - A")?;
    for one in &diff.blocked {
        let [a, b] = one.ns.map(|ns| words::millis(i128::from(ns)));
        let by = signed(one.difference());
        let (queue, behind) = (one.resource.name(), ahead::stage_name(one.stage));
        writeln!(out, "  {a:>12}  {b:>12}  {by:>13}  {queue:<23}  {behind}")?;
    }
    Ok(())
}

/// A difference, with a sign.
fn signed(by: i128) -> String {
    let text = words::millis(by);
    if 0 < by { format!("+{text}") } else { text }
}

/// The steps of either that are unknown, so that they do not look like differences.
fn unknown(out: &mut impl Write, sides: [Side<'_>; 2]) -> io::Result<()> {
    for (name, side) in NAMES.iter().zip(sides) {
        for missing in &side.story.missing {
            let member = words::name(missing.member, &side.recording.members);
            let stage = missing.stage.name();
            match (missing.not_by, missing.is_never) {
                (_, true) => {
                    writeln!(
                        out,
                        "never in {name}: {stage} of {member}, whose process ended first"
                    )?;
                }
                (Some(_), _) => writeln!(out, "not yet in {name}: {stage} of {member}")?,
                (None, _) => {
                    writeln!(out, "unknown in {name}: {stage} of {member} was not captured")?;
                }
            }
        }
        for member_id in &side.story.unheard {
            let member = words::member(*member_id, &side.recording.members);
            writeln!(out, "unknown in {name}: all of {member}, which sent no records")?;
        }
    }
    Ok(())
}

/// Writes the comparison as JSON: a line about both, a line per step, and a line per wait.
pub(super) fn json(out: &mut impl Write, sides: [Side<'_>; 2]) -> io::Result<()> {
    let diff = Diff::of(sides[0], sides[1]);
    let [a, b] = [0, 1].map(|at| side_json(&sides[at], &diff.facts[at], &diff.causes[at]));
    let summary = format!("{} {}", summary(&diff), cost(sides, &diff));
    writeln!(out, "{}", json!({"summary": summary, "a": a, "b": b}))?;
    for pair in &diff.pairs {
        let (step, by) = step_words(pair.what);
        let [a, b] = pair.taken.map(|taken| taken.map(taken_json));
        writeln!(out, "{}", json!({"step": step, "by": by, "in": mark(pair), "a": a, "b": b}))?;
    }
    for waited in diff.waited.iter().flatten() {
        let [a, b] = waited.ns;
        writeln!(out, "{}", json!({"wait": waited.wait.to_string(), "a_ns": a, "b_ns": b}))?;
    }
    for one in &diff.blocked {
        let (queue, stage) = (one.resource.name(), one.stage.map(|stage| stage.name()));
        // Not the names of the waits' lines: these add up to the durations, and this does not.
        let [a, b] = one.ns;
        let line = json!({"for": queue, "behind": stage, "a_behind_ns": a, "b_behind_ns": b});
        writeln!(out, "{line}")?;
    }
    Ok(())
}

fn taken_json(taken: Taken) -> Value {
    json!({"count": taken.count, "ns": taken.ns, "estimated": taken.is_estimated})
}

fn side_json(side: &Side<'_>, facts: &Facts, causes: &Causes) -> Value {
    let members = &side.recording.members;
    let missing: Vec<Value> = (side.story.missing.iter())
        .map(|missing| {
            let member = words::name(missing.member, members);
            json!({"member": member, "stage": missing.stage.name()})
        })
        .collect();
    let unheard: Vec<String> = side.story.unheard.iter().map(|id| format!("{id:016x}")).collect();
    let found = facts
        .found
        .map(|found| json!({"active": found.active, "frozen": found.frozen, "file": found.file}));
    json!({
        "id": format!("{:016x}", side.story.id),
        "title": side.story.title,
        "method": facts.method,
        "asked": asked(facts, members),
        "is_leader": facts.is_leader,
        "consistency": facts.consistency.map(consistency_name),
        "code": facts.code,
        "outcome": facts.outcome.map(|outcome| words::outcome(Some(outcome))),
        "took_ns": facts.took_ns,
        "revision": facts.revision,
        "keys": facts.keys,
        "found": found,
        "term": facts.entry.map(|(term, _)| term),
        "index": facts.entry.map(|(_, index)| index),
        "replaced": facts.is_replaced,
        "fsynced": facts.fsynced,
        "completed_by": facts.completed_by.map(completed_name),
        "reads": facts.reads,
        "attempts": facts.attempts,
        "watchers": facts.watchers,
        "missing": missing,
        "unheard": unheard,
        "ahead": ahead::json(side.recording, &causes.ahead),
        "through": through::json(side.recording, (&causes.through, &causes.delaying)),
    })
}

#[cfg(test)]
mod tests;
