//! Traces as text: one line a step. The form is stable, for screen readers, logs and tests.

use std::io::{self, Write};

use glass_etcd::trace::{
    Event, Kind, Recording, Stage,
    order::Order,
    query::{Story, Summary, requests},
};

use super::words;

/// Width of a stage's name.
const STAGE: usize = 20;

/// Writes the list of requests, the newest last.
pub(crate) fn list(out: &mut impl Write, recording: &Recording, order: &Order) -> io::Result<()> {
    writeln!(
        out,
        "{:<16}  {:<15}  {:<10}  {:>12}  {:<12}  REQUEST",
        "ID", "BEGAN (UTC)", "MEMBER", "TOOK", "RESULT"
    )?;
    for request in by_time(recording, order) {
        let key = request.key.as_ref().map(|key| format!(" {}", key.display())).unwrap_or_default();
        let took = request.took_ns.map(|ns| words::millis(i128::from(ns)));
        writeln!(
            out,
            "{:016x}  {:<15}  {:<10}  {:>12}  {:<12}  {}{key}",
            request.id,
            words::time_of_day(began(&request, recording, order)),
            words::name(request.member, &recording.members),
            took.unwrap_or_else(|| "…".to_owned()),
            words::code(request.code),
            request.method,
        )?;
    }
    losses(out, recording)
}

/// The requests in the order of their beginnings.
pub(crate) fn by_time(recording: &Recording, order: &Order) -> Vec<Summary> {
    let mut list = requests(recording);
    list.sort_by_key(|request| began(request, recording, order));
    list
}

fn began(request: &Summary, recording: &Recording, order: &Order) -> i128 {
    start_of(&recording.events[request.event], order.times[request.event])
}

/// A span's time is that of its end; this is that of its start.
fn start_of(event: &Event, time: i128) -> i128 {
    let is_at_end = event.kind == Kind::Span && event.stage != Stage::RaftSend;
    if is_at_end { time - i128::from(event.took_ns) } else { time }
}

/// Writes the story of a request: what it was, and a line for each step.
pub(crate) fn story(
    out: &mut impl Write,
    recording: &Recording,
    order: &Order,
    story: &Story,
) -> io::Result<()> {
    header(out, recording, story)?;
    let events = &recording.events;
    let starts =
        story.steps.iter().map(|step| start_of(&events[step.event], order.times[step.event]));
    let own = |at: &usize| events[*at].id == story.id && events[*at].stage == Stage::Rpc;
    let rpc = story.steps.iter().map(|step| step.event).find(own);
    let zero = rpc.map(|at| start_of(&events[at], order.times[at])).or_else(|| starts.min());
    for step in &story.steps {
        let offset = words::millis(order.times[step.event] - zero.unwrap_or(0));
        let line = step_line(recording, order, step.event);
        writeln!(out, "{:>14}  {line}", format!("+{offset}").replace("+-", "-"))?;
    }
    for missing in &story.missing {
        let name = words::name(missing.member, &recording.members);
        writeln!(
            out,
            "{:>14}  {name:<10}  {:<STAGE$}  not captured",
            "unknown",
            missing.stage.name()
        )?;
    }
    losses(out, recording)
}

fn header(out: &mut impl Write, recording: &Recording, story: &Story) -> io::Result<()> {
    writeln!(out, "{}", story.title)?;
    let request = requests(recording).into_iter().find(|request| request.id == story.id);
    let mut facts = vec![format!("request {:016x}", story.id)];
    match request {
        Some(request) => {
            facts.push(format!("served by {}", words::name(request.member, &recording.members)));
            facts.push(match request.took_ns {
                Some(ns) => format!("took {}", words::millis(i128::from(ns))),
                None => "duration unknown".to_owned(),
            });
            facts.push(words::code(request.code));
        }
        None => facts.push("served by unknown".to_owned()),
    }
    if let Some((term, index)) = story.entry {
        facts.push(format!("entry {term}/{index}"));
    }
    writeln!(out, "{}", facts.join("  "))?;
    writeln!(out, "each line: time since the request began, member, step, how long it took, fields")
}

/// A step: member, stage, duration, fields, and what is not known of it.
pub(crate) fn step_line(recording: &Recording, order: &Order, at: usize) -> String {
    let event = &recording.events[at];
    let members = &recording.members;
    let took = match event.kind {
        Kind::Begin => "begins".to_owned(),
        Kind::Span => words::millis(i128::from(event.took_ns)),
        Kind::Mark | Kind::Key | Kind::Keyframe => String::new(),
    };
    let mut line = format!(
        "{:<10}  {:<STAGE$}  {took:>11}  {}",
        words::name(event.member, members),
        event.stage.name(),
        words::fields(event, members),
    );
    if let Some(key) = &event.key {
        line.push_str(&format!(" key={}", key.display()));
    }
    if event.result != 0 {
        line.push_str(&format!(" [{}]", words::code(Some(event.result))));
    }
    if order.is_unmatched(recording, at) {
        line.push_str(match event.stage {
            Stage::RaftSend => " [sent, its receive not captured]",
            _ => " [received, its send not captured]",
        });
    }
    line.trim_end().to_owned()
}

fn losses(out: &mut impl Write, recording: &Recording) -> io::Result<()> {
    for (member, lost) in recording.members.iter().zip(&recording.dropped) {
        if *lost != 0 {
            writeln!(out, "{} lost {lost} records before they could be read", member.name)?;
        }
    }
    Ok(())
}
