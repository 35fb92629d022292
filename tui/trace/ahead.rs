//! What the waits of a request stood behind, as a section of `glass trace show`, as JSON, and as a
//! table of `why-slow`.

use std::io::{self, Write};

use glass_etcd::{
    story::{
        Recording,
        query::{
            ahead::{Ahead, Behind},
            slow::Blocker,
        },
    },
    trace::Stage,
};
use serde_json::{Value, json};

use super::words;
use crate::state::ahead::{Titles, more, named, work};

/// Writes the section; nothing if nothing is known to have stood ahead, and nothing is unknown.
pub(super) fn section(
    out: &mut impl Write,
    recording: &Recording,
    ahead: &[Ahead],
) -> io::Result<()> {
    lines(out, recording, ahead, "what stood ahead")
}

/// The same below another title.
pub(super) fn lines(
    out: &mut impl Write,
    recording: &Recording,
    ahead: &[Ahead],
    title: &str,
) -> io::Result<()> {
    if ahead.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{title}")?;
    let titles = Titles::of(recording);
    for one in ahead {
        let name = words::name(one.member, &recording.members);
        writeln!(out, "  {name}: {}, {}", one.wait, words::millis(i128::from(one.ns)))?;
        for behind in named(one) {
            let took = words::millis(i128::from(behind.overlap_ns));
            let served = titles.served(behind).map_or(String::new(), |ids| format!(", for {ids}"));
            writeln!(out, "  {took:>13}  {}{served}", work(&recording.events[behind.event]))?;
        }
        if let Some((count, ns)) = more(one) {
            let took = words::millis(i128::from(ns));
            writeln!(out, "  {took:>13}  {count} more of them")?;
        }
        if let Some(ns) = one.idle_ns().filter(|ns| *ns != 0) {
            let took = words::millis(i128::from(ns));
            writeln!(out, "  {took:>13}  nothing that is recorded")?;
        }
        if one.is_unknown {
            let what = if one.behind.is_empty() { "what" } else { "what else" };
            writeln!(out, "  {:>13}  {what} was in progress was not captured", "unknown")?;
        }
    }
    Ok(())
}

/// The same as JSON.
pub(super) fn json(recording: &Recording, ahead: &[Ahead]) -> Vec<Value> {
    let behind = |one: &Behind| {
        let ids: Vec<String> = one.ids.iter().map(|id| format!("{id:016x}")).collect();
        json!({
            "stage": recording.events[one.event].stage.name(),
            "work": work(&recording.events[one.event]),
            "ns": one.overlap_ns,
            "ids": ids,
            "not_captured": one.others,
        })
    };
    let line = |one: &Ahead| {
        json!({
            "wait": one.wait.to_string(),
            "for": one.resource.name(),
            "member": one.member,
            "ns": one.ns,
            "behind": one.behind.iter().map(behind).collect::<Vec<Value>>(),
            "unknown": one.is_unknown,
        })
    };
    ahead.iter().map(line).collect()
}

/// The stage of work that requests stood behind.
pub(super) fn stage_name(stage: Option<Stage>) -> &'static str {
    stage.map_or("not captured", Stage::name)
}

/// Writes the table of what many requests stood behind; nothing if nothing is known.
pub(super) fn table(
    out: &mut impl Write,
    recording: &Recording,
    blockers: &[Blocker],
    total_ns: u64,
) -> io::Result<()> {
    if blockers.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n{:>7}  {:>12}  {:>8}  {:<23}  {:<18}  WORST",
        "SHARE", "TIME", "REQUESTS", "STOOD IN THE QUEUE FOR", "BEHIND"
    )?;
    for one in blockers {
        let behind = stage_name(one.stage);
        let worst = match one.worst_event {
            Some(at) => format!(", behind {}", work(&recording.events[at])),
            None => String::new(),
        };
        writeln!(
            out,
            "{:>7}  {:>12}  {:>8}  {:<23}  {behind:<18}  {:016x} {}{worst}",
            words::percent(one.ns, total_ns),
            words::millis(i128::from(one.ns)),
            one.requests,
            one.resource.name(),
            one.worst,
            words::millis(i128::from(one.worst_ns)),
        )?;
    }
    Ok(())
}
