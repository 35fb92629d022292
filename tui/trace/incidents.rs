//! Elections, step-downs and starts of members, as `list` and `show` print them.

use std::io::{self, Write};

use glass_etcd::{
    fields,
    story::{
        MemberInfo, Recording,
        order::Order,
        query::{
            Stories, Story,
            address::Address,
            cluster::{Because, Cluster, StepDown},
            election::Election,
            incidents::{Incident, Outcome, known_at},
        },
        recording,
    },
    trace::message::MESSAGES,
};
use serde_json::{Value, json};

use super::{Error, gather::Gathered, plain, through, words};
use crate::state::text;

/// When it began, on the common axis.
fn began(incident: &Incident, recording: &Recording, order: &Order) -> i128 {
    plain::start_of(&recording.events[incident.first], order.times[incident.first])
}

/// From its first event to the one that ended it, in nanoseconds. A step-down takes no time, and
/// how long an election took is not known if its beginning is not.
fn took(incident: &Incident, recording: &Recording, order: &Order) -> Option<i128> {
    let end = incident.end.filter(|end| *end != incident.first && incident.is_begun)?;
    Some(order.times[end] - began(incident, recording, order))
}

/// The rows of these in the list, each with the time at which it began.
pub(super) fn rows(recording: &Recording, order: &Order, all: &[Incident]) -> Vec<(i128, String)> {
    all.iter().map(|one| (began(one, recording, order), row(recording, order, one))).collect()
}

fn row(recording: &Recording, order: &Order, incident: &Incident) -> String {
    let took = match took(incident, recording, order) {
        Some(ns) => words::millis(ns),
        None if incident.end.is_some() => String::new(),
        None => "…".to_owned(),
    };
    format!(
        "{:<16}  {:<15}  {}  {:>12}  {:<12}  {}",
        incident.address.text(&recording.members),
        words::time_of_day(began(incident, recording, order)),
        text::padded(&words::member(incident.by, &recording.members), 10),
        took,
        result(incident, &recording.members),
        what(incident.address),
    )
}

/// What the address is of.
fn what(address: Address) -> String {
    match address {
        Address::Election { term, .. } => format!("election, term {term}"),
        Address::StepDown { term } => format!("step-down, term {term}"),
        Address::Start { boot, .. } => format!("start {boot}"),
    }
}

/// How it ended, for the column of results.
fn result(incident: &Incident, members: &[MemberInfo]) -> String {
    match incident.outcome {
        Outcome::Won(winner) => format!("{} won", words::member(winner, members)),
        Outcome::NobodyWon => "nobody won".to_owned(),
        Outcome::Open => "not over".to_owned(),
        Outcome::SteppedDown(Because::HandedOver(_)) => "handed over".to_owned(),
        Outcome::SteppedDown(_) => "stepped down".to_owned(),
        Outcome::Serves => "serves".to_owned(),
        Outcome::Starts => "not finished".to_owned(),
    }
}

/// A row of the list as JSON.
pub(super) fn json(recording: &Recording, order: &Order, incident: &Incident) -> Value {
    let took = took(incident, recording, order);
    json!({
        "id": incident.address.text(&recording.members),
        "member": words::member(incident.by, &recording.members),
        "method": what(incident.address),
        "result": result(incident, &recording.members),
        "took_ns": took.and_then(|ns| u64::try_from(ns).ok()),
    })
}

/// Shows the one with this address.
pub(super) fn show(gathered: &Gathered, text: &str, is_json: bool) -> Result<(), Error> {
    let (recording, order) = (&gathered.recording, Order::of(&gathered.recording));
    let address = Address::of(text, &recording.members);
    let address = address.ok_or_else(|| Error::Usage(format!("{text:?} is not an address")))?;
    let stories = Stories::new(recording, &order);
    let known = known_at(&stories, address);
    let Some((incident, story)) = known.zip(stories.incident(address)) else {
        return Err(Error::Usage(format!("{text} was not captured")));
    };
    let mut out = std::io::stdout().lock();
    if !is_json {
        return Ok(told(&mut out, gathered, &order, (&incident, &story))?);
    }
    let events = story.steps.iter().map(|step| recording.events[step.event].clone()).collect();
    let (members, dropped) = (recording.members.clone(), recording.dropped.clone());
    recording::write(&mut out, &Recording { members, events, dropped })?;
    let mut line = json(recording, &order, &incident);
    line["reasons"] = json!(reasons(gathered, &order, &incident));
    line["dropped"] = json!(recording.dropped);
    Ok(writeln!(out, "{line}")?)
}

fn told(
    out: &mut impl Write,
    gathered: &Gathered,
    order: &Order,
    (incident, story): (&Incident, &Story),
) -> io::Result<()> {
    let recording = &gathered.recording;
    let mut facts = vec![incident.address.text(&recording.members)];
    facts.push(result(incident, &recording.members));
    if let Some(took) = took(incident, recording, order) {
        facts.push(format!("took {}", words::millis(took)));
    }
    if let Some((term, index)) = story.entry {
        facts.push(format!("first entry {term}/{index}"));
    }
    writeln!(out, "{}", story.title)?;
    writeln!(out, "{}", facts.join("  "))?;
    writeln!(out, "each line: time since it began, member, step, how long it took, fields")?;
    let zero = began(incident, recording, order);
    for step in &story.steps {
        let offset = words::millis(order.times[step.event] - zero);
        let line = plain::step_line(recording, order, step.event);
        writeln!(out, "{:>14}  {line}", format!("+{offset}").replace("+-", "-"))?;
    }
    for line in reasons(gathered, order, incident) {
        writeln!(out, "\n{line}")?;
    }
    plain::unheard(out, gathered, story)?;
    plain::losses(out, recording)
}

/// Why it came to this, and what of it was not captured.
fn reasons(gathered: &Gathered, order: &Order, incident: &Incident) -> Vec<String> {
    let (recording, members) = (&gathered.recording, &gathered.recording.members);
    let cluster = Cluster::of(recording, order);
    match incident.address {
        Address::Election { .. } => {
            let is_it = |one: &&Election| one.is_at(incident.address, recording);
            let Some(election) = cluster.elections.iter().find(is_it) else { return Vec::new() };
            let old = words::member(election.old, members);
            let line = |place: &u8| {
                let name = words::name(*place, members);
                format!("the last message that {name} received of {old}: not captured")
            };
            let unsure = |place: &u8| {
                let name = words::name(*place, members);
                format!(
                    "the last message that {name} received of {old}, as far as captured: later ones may be lost"
                )
            };
            let begun = (!incident.is_begun).then(|| unbegun(members, election));
            let unknown = begun.into_iter().chain(election.unknown.iter().map(line));
            unknown.chain(election.unsure.iter().map(unsure)).collect()
        }
        Address::StepDown { term } => {
            let is_it = |one: &&StepDown| one.term == term;
            let known = cluster.step_downs.iter().find(is_it);
            known.map(|one| format!("reason: {}", why(recording, one))).into_iter().collect()
        }
        Address::Start { .. } => Vec::new(),
    }
}

/// What is missing of an election that begins with the question of a member without records.
fn unbegun(members: &[MemberInfo], election: &Election) -> String {
    let first = election.candidates.first().map(|id| words::member(*id, members));
    let whose = first.map_or_else(String::new, |name| format!(": records of {name} are missing"));
    format!("the beginning of the election was not captured{whose}")
}

/// Why a leader stepped down; with the message of a later term, if that was captured.
fn why(recording: &Recording, step_down: &StepDown) -> String {
    let because = through::because(&recording.members, step_down.because);
    let Some(event) = step_down.by.map(|at| &recording.events[at]) else { return because };
    let [peer, kind] = fields!(event, RaftReceive: peer, type);
    let kind = usize::try_from(kind).ok().and_then(|kind| MESSAGES.get(kind));
    let kind = kind.copied().unwrap_or("a message of an unknown type");
    format!("{because}: {kind} of {}", words::member(peer, &recording.members))
}
