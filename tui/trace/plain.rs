//! Traces as text: one line per step. The form is stable, for screen readers, logs and tests.

use std::io::{self, Write};

use glass_etcd::{
    field,
    story::{
        Event, Recording,
        order::Order,
        query::{
            Outcome, Story, Summary, callers,
            find::Found,
            requests,
            silence::Silences,
            unbegun::{Unbegun, server_of},
            usual::Usuals,
        },
    },
    trace::{Kind, Stage},
};

use crate::state::text;
use serde_json::{Value, json};

use super::{
    gather::{Gathered, Silent},
    usual, words,
};

/// Width of a stage's name.
const STAGE: usize = 20;
/// Width of a step's usual duration.
const USUAL: usize = 24;

/// What is said where keys are compared that were recorded cut.
pub(super) const CUT: &str = "keys longer than 88 bytes are recorded cut: those that begin alike \
                              and are equally long are not told apart";

/// Writes the list of the requests that are wanted, the newest last, with these other rows at their
/// times.
pub(crate) fn list(
    out: &mut impl Write,
    recording: &Recording,
    order: &Order,
    found: &Found,
    others: Vec<(i128, String)>,
) -> io::Result<()> {
    rows(out, recording, order, |request| found.has(request), others)?;
    let requests = requests(recording);
    let unsure = |request: &Summary| found.has(request) && found.is_unsure(request);
    if requests.iter().any(unsure) {
        writeln!(out, "{CUT}")?;
    }
    if let Some(key) = found.whole_key().filter(|_| !requests.iter().any(|one| found.has(one))) {
        let key = key.escape_ascii();
        writeln!(
            out,
            "no step that was captured names the whole key \"{key}\", or a range with it"
        )?;
    }
    let unknown = requests.iter().filter(|request| found.may_have(request)).count();
    if unknown != 0 {
        let of = words::count(unknown as u64, "request", "requests");
        writeln!(out, "of {of} the key was not captured: kept late, as they failed or were slow")?;
    }
    let unbegun = requests.iter().filter(|one| found.has(one) && !one.has_rpc).count();
    if unbegun != 0 {
        let of = words::count(unbegun as u64, "request", "requests");
        writeln!(out, "of {of} the beginning was not captured: it was earlier than listed")?;
    }
    if let Some(clocks) = wall_clocks(recording, order) {
        writeln!(out, "{clocks}")?;
    }
    reach(out, recording, order)?;
    losses(out, recording)
}

/// The members whose wall clocks differ by more than a second from the one by which the times of
/// day are.
fn wall_clocks(recording: &Recording, order: &Order) -> Option<String> {
    let reference = order.clocks.reference()?;
    let far = (0_u8..).zip(&recording.members).filter_map(|(place, member)| {
        let ahead = order.clocks.ahead_ns(place);
        let tenths = ahead.unsigned_abs() / 100_000_000;
        let word = if 0 < ahead { "ahead" } else { "behind" };
        let far = format!("that of {} is {}.{} s {word}", member.name, tenths / 10, tenths % 10);
        (10 < tenths).then_some(far)
    });
    let far: Vec<String> = far.collect();
    let name = words::name(reference, &recording.members);
    (!far.is_empty())
        .then(|| format!("times of day are by the wall clock of {name}; {}", far.join(", ")))
}

/// The name of the member that serves a request: its id tells, also if it sent no records.
fn server(request: &Summary, recording: &Recording) -> String {
    match server_of(recording, request.id).filter(|_| request.member == u8::MAX) {
        Some(member_id) => words::member(member_id, &recording.members),
        None => words::name(request.member, &recording.members).to_owned(),
    }
}

/// A member's name, as wide as its column.
pub(super) fn member_column(place: u8, recording: &Recording) -> String {
    text::padded(words::name(place, &recording.members), 10)
}

/// How long a request took; for one that is open, its age when its member was last heard.
pub(crate) fn took(
    request: &Summary,
    outcome: Option<Outcome>,
    recording: &Recording,
    order: &Order,
) -> Option<i128> {
    if let Some(ns) = request.took_ns {
        return Some(i128::from(ns));
    }
    let of_member = |at: &&usize| recording.events[**at].member == request.member;
    let newest = order.rows.iter().filter(of_member).map(|at| order.times[*at]).max()?;
    (outcome == Some(Outcome::Open)).then(|| newest - began(request, recording, order))
}

/// Writes a header, a line for each request that is meant, and the other rows.
fn rows(
    out: &mut impl Write,
    recording: &Recording,
    order: &Order,
    is_meant: impl Fn(&Summary) -> bool,
    others: Vec<(i128, String)>,
) -> io::Result<()> {
    writeln!(
        out,
        "{:<16}  {:<15}  {:<10}  {:>12}  {:<12}  REQUEST",
        "ID", "BEGAN (UTC)", "MEMBER", "TOOK", "RESULT"
    )?;
    let silences = Silences::of(recording, order);
    let mut others = others.into_iter().peekable();
    for request in by_time(recording, order).into_iter().filter(is_meant) {
        let began = began(&request, recording, order);
        while let Some((_, row)) = others.next_if(|(at, _)| *at <= began) {
            writeln!(out, "{row}")?;
        }
        let key = request.key.as_ref().map(|key| format!(" {}", key.display())).unwrap_or_default();
        let trace = request.trace.map(|trace| format!("  trace {trace:032x}")).unwrap_or_default();
        let http = if request.is_over_http { "  over HTTP" } else { "" };
        let flow = request.flow.map(|flow| format!("  {}", words::flow(flow))).unwrap_or_default();
        let outcome = request.outcome(&silences);
        let took = took(&request, outcome, recording, order).map(words::millis);
        writeln!(
            out,
            "{:016x}  {:<15}  {}  {:>12}  {:<12}  {}{key}{http}{flow}{trace}",
            request.id,
            words::time_of_day(began),
            text::padded(&server(&request, recording), 10),
            took.unwrap_or_else(|| "…".to_owned()),
            words::outcome(outcome),
            request.method,
        )?;
    }
    others.try_for_each(|(_, row)| writeln!(out, "{row}"))
}

/// Writes the requests of a caller's trace, of which there are several.
pub(super) fn of_trace(
    out: &mut impl Write,
    recording: &Recording,
    order: &Order,
    (trace, ids): (u128, &[u64]),
    is_json: bool,
) -> io::Result<()> {
    let is_meant = |request: &Summary| ids.contains(&request.id);
    if is_json {
        let silences = Silences::of(recording, order);
        let mut requests = by_time(recording, order).into_iter().filter(is_meant);
        return requests
            .try_for_each(|one| writeln!(out, "{}", list_json(&one, recording, &silences)));
    }
    writeln!(out, "{} captured requests are in trace {trace:032x}", ids.len())?;
    rows(out, recording, order, is_meant, Vec::new())?;
    losses(out, recording)
}

/// A request of the list as JSON.
pub(super) fn list_json(request: &Summary, recording: &Recording, silences: &Silences) -> Value {
    json!({
        "id": format!("{:016x}", request.id),
        "member": server(request, recording),
        "method": request.method,
        "key": request.key.as_ref().map(|key| key.display()),
        "result": words::outcome(request.outcome(silences)),
        "code": request.code,
        "refused": request.refused,
        "took_ns": request.took_ns,
        "trace": request.trace.map(|trace| format!("{trace:032x}")),
        "flow": request.flow.map(|flow| {
            json!({"received": flow.received, "sent": flow.sent, "events": flow.events})
        }),
    })
}

/// How far back the records of each member reach.
fn reach(out: &mut impl Write, recording: &Recording, order: &Order) -> io::Result<()> {
    for (member, place) in recording.members.iter().zip(0_u8..) {
        let own = recording.events.iter().zip(&order.times);
        let oldest = own.filter(|(event, _)| event.member == place).map(|(_, time)| *time).min();
        if let Some(oldest) = oldest {
            writeln!(out, "{} reaches back to {}", member.name, words::time_of_day(oldest))?;
        }
    }
    Ok(())
}

/// The requests in the order in which they began.
pub(crate) fn by_time(recording: &Recording, order: &Order) -> Vec<Summary> {
    let mut list = requests(recording);
    list.sort_by_key(|request| began(request, recording, order));
    list
}

/// When its first byte arrived, as far as that was captured: from then on it took its time.
fn began(request: &Summary, recording: &Recording, order: &Order) -> i128 {
    let rpc = start_of(&recording.events[request.event], order.times[request.event]);
    rpc - i128::from(request.before_ns)
}

/// The time of a span is that of its end; this is that of its start.
pub(super) fn start_of(event: &Event, time: i128) -> i128 {
    let is_at_end = event.kind == Kind::Span && event.stage != Stage::RaftSend;
    if is_at_end { time - i128::from(event.took_ns) } else { time }
}

/// Writes the story of a request: a header, a line per step, and the unknown steps.
pub(super) fn story(
    out: &mut impl Write,
    gathered: &Gathered,
    order: &Order,
    story: &Story,
) -> io::Result<()> {
    let recording = &gathered.recording;
    header(out, recording, order, story)?;
    let events = &recording.events;
    let starts =
        story.steps.iter().map(|step| start_of(&events[step.event], order.times[step.event]));
    let own = |at: &usize| events[*at].id == story.id && events[*at].stage == Stage::Rpc;
    let rpc = story.steps.iter().map(|step| step.event).find(own);
    let zero = rpc.map(|at| start_of(&events[at], order.times[at])).or_else(|| starts.min());
    let zero = zero.unwrap_or(0);
    let usuals = Usuals::of(recording);
    let beside = |at: usize| usual::beside(usuals.of_step(&events[at]));
    let has_usual = story.steps.iter().any(|step| beside(step.event).is_some());
    for step in &story.steps {
        let offset = words::millis(order.times[step.event] - zero);
        let usual = has_usual.then(|| beside(step.event).unwrap_or_default());
        let line = line_of(recording, order, step.event, usual);
        writeln!(out, "{:>14}  {line}", format!("+{offset}").replace("+-", "-"))?;
    }
    for missing in &story.missing {
        let name = member_column(missing.member, recording);
        let (when, what) = match (missing.not_by, missing.is_never) {
            (Some(at), true) => ("never", ended_first(recording, order, at, zero)),
            (Some(at), false) => ("not yet", by_then(recording, order, at, zero)),
            (None, _) => ("unknown", "not captured".to_owned()),
        };
        writeln!(out, "{when:>14}  {name}  {:<STAGE$}  {what}", missing.stage.name())?;
    }
    for member in story.brief.iter().copied() {
        let name = member_column(member, recording);
        writeln!(out, "{:>14}  {name}  quick steps, which were left out under load", "unknown")?;
    }
    unheard(out, gathered, story)?;
    losses(out, recording)
}

/// What had not happened by this record, the newest of its member that says so.
fn by_then(recording: &Recording, order: &Order, at: usize, zero: i128) -> String {
    let name = words::name(recording.events[at].member, &recording.members);
    let offset = words::millis(order.times[at] - zero);
    format!("had not happened by +{offset}, as a record of {name} says").replace("+-", "-")
}

/// That the process with this last record has ended before the step.
fn ended_first(recording: &Recording, order: &Order, at: usize, zero: i128) -> String {
    let name = words::name(recording.events[at].member, &recording.members);
    let offset = words::millis(order.times[at] - zero);
    format!("the process of {name} ended first; its last record is at +{offset}").replace("+-", "-")
}

/// Writes the members of which nothing is known.
pub(super) fn unheard(out: &mut impl Write, gathered: &Gathered, story: &Story) -> io::Result<()> {
    for member_id in &story.unheard {
        let name = text::padded(&words::member(*member_id, &gathered.recording.members), 10);
        writeln!(out, "{:>14}  {name}  all steps: the member sent no records", "unknown")?;
    }
    for silent in &gathered.silent {
        let Silent { endpoint, reason } = silent;
        writeln!(out, "{:>14}  {endpoint}  no records from there: {reason}", "unknown")?;
    }
    Ok(())
}

fn header(
    out: &mut impl Write,
    recording: &Recording,
    order: &Order,
    story: &Story,
) -> io::Result<()> {
    writeln!(out, "{}", story.title)?;
    writeln!(out, "{}", facts(recording, order, story).join("  "))?;
    let since = match Unbegun::of(recording, story) {
        Some(_) => "the first step that was captured",
        None => "the request began",
    };
    writeln!(out, "each line: time since {since}, member, step, how long it took, fields")
}

/// Who served a request, how long it took, and how it ended, as far as is known.
pub(super) fn facts(recording: &Recording, order: &Order, story: &Story) -> Vec<String> {
    let request = requests(recording).into_iter().find(|request| request.id == story.id);
    let mut facts = vec![format!("request {:016x}", story.id)];
    match request {
        Some(request) => {
            facts.push(format!("served by {}", server(&request, recording)));
            if let Some(ends) = callers::connections(recording).get(&request.id) {
                facts.push(format!("called from {}", ends.from()));
            }
            let outcome = request.outcome_in(story, &Silences::of(recording, order));
            let open_for = took(&request, outcome, recording, order);
            facts.push(match (request.took_ns, open_for) {
                (Some(ns), _) => format!("took {}", words::millis(i128::from(ns))),
                (None, Some(ns)) => format!("open for {} so far", words::millis(ns)),
                (None, None) => "duration unknown".to_owned(),
            });
            facts.push(match outcome {
                None if request.has_rpc => "end not captured".to_owned(),
                Some(Outcome::Unknown) => "end unknown".to_owned(),
                outcome => words::outcome(outcome).to_owned(),
            });
        }
        None => facts.push("served by unknown".to_owned()),
    }
    if let Some(stream) = stream_of(recording, story.id) {
        facts.push(format!("on stream {stream:016x}"));
    }
    if let Some((term, index)) = story.entry {
        let fate = if story.is_lost { ", replaced before it was committed" } else { "" };
        facts.push(format!("entry {term}/{index}{fate}"));
    }
    facts
}

/// The stream of which a request was a message, as far as its story says.
fn stream_of(recording: &Recording, request: u64) -> Option<u64> {
    let flows = recording.events.iter().filter(|event| event.stage == Stage::StreamFlow);
    flows.filter(|event| field!(event, StreamFlow, request) == request).map(|event| event.id).next()
}

/// A step: member, stage, duration, fields, and what is unknown about it.
pub(crate) fn step_line(recording: &Recording, order: &Order, at: usize) -> String {
    line_of(recording, order, at, None)
}

/// A step, with the column of usual durations if it exists.
fn line_of(recording: &Recording, order: &Order, at: usize, usual: Option<String>) -> String {
    let event = &recording.events[at];
    let members = &recording.members;
    let took = match event.kind {
        Kind::Begin => "begins".to_owned(),
        Kind::Span => words::millis(i128::from(event.took_ns)),
        Kind::Mark | Kind::Key | Kind::Keyframe => String::new(),
    };
    let usual = usual.map_or(String::new(), |usual| format!("{usual:<USUAL$}  "));
    let mut line = format!(
        "{}  {:<STAGE$}  {took:>11}  {usual}{}",
        member_column(event.member, recording),
        event.stage.name(),
        words::fields(event, members),
    );
    if let Some(key) = &event.key {
        line.push_str(&format!(" key={}", key.display()));
    }
    if let Some(end) = &event.range_end {
        line.push_str(&format!(" range_end={}", end.display()));
    }
    if let Some(failure) = words::failure(event) {
        line.push_str(&format!(" [{failure}]"));
    }
    if order.is_unmatched(recording, at) {
        line.push_str(match event.stage {
            Stage::RaftSend => " [sent, its receive not captured]",
            _ => " [received, its send not captured]",
        });
    }
    line.trim_end().to_owned()
}

/// Writes how many records each member is known to have lost.
pub(super) fn losses(out: &mut impl Write, recording: &Recording) -> io::Result<()> {
    for (member, lost) in recording.members.iter().zip(&recording.dropped) {
        if *lost != 0 {
            let records = if *lost == 1 { "record" } else { "records" };
            writeln!(out, "{} lost {lost} {records} before they could be read", member.name)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use glass_etcd::story::recording;

    use super::*;

    /// A put served by the second of two members, whose wall clock is an hour ahead.
    const PUT: &str = r#"{"glass":1,"members":[{"id":"01","cluster":"09","name":"etcd-01","version":"0.1.0","boots":[{"boot":1,"wall_ns":1000000000}]},{"id":"02","cluster":"09","name":"etcd-02","version":"0.1.0","boots":[{"boot":1,"wall_ns":3601000000000}]}]}
{"member":1,"boot":1,"stage":"rpc","kind":"begin","clock":1,"end":1,"at":1000000,"took":0,"id":"0203","fields":{"method":"KV/Put","bytes_in":12}}
{"member":1,"boot":1,"stage":"raft.send","kind":"mark","clock":3,"end":3,"at":1200000,"took":0,"id":"0203","link":"07","fields":{"peer":"01","type":"MsgProp"}}
{"member":0,"boot":1,"stage":"raft.receive","kind":"mark","clock":10,"end":10,"at":1300000,"took":0,"id":"0203","link":"07","fields":{"peer":"02","type":"MsgProp"}}
{"member":0,"boot":1,"stage":"raft.entry","kind":"mark","clock":11,"end":11,"at":1350000,"took":0,"id":"0203","fields":{"term":3,"index":42,"bytes":20}}
{"member":0,"boot":1,"stage":"raft.send","kind":"mark","clock":12,"end":12,"at":1400000,"took":0,"link":"09","fields":{"peer":"02","type":"MsgApp","term":3,"index":41,"last":42}}
{"member":1,"boot":1,"stage":"raft.receive","kind":"mark","clock":4,"end":4,"at":1500000,"took":0,"link":"09","fields":{"peer":"01","type":"MsgApp","term":3,"index":41,"last":42}}
{"member":0,"boot":1,"stage":"wal.fsync","kind":"span","clock":13,"end":15,"at":1420000,"took":900000,"fields":{"first":41,"last":42,"synced.old":40,"synced.new":42,"bytes":90}}
{"member":0,"boot":1,"stage":"raft.send","kind":"mark","clock":16,"end":16,"at":2400000,"took":0,"link":"0a","fields":{"peer":"02","type":"MsgHeartbeat","term":3,"commit":42}}
{"member":1,"boot":1,"stage":"rpc","kind":"span","clock":1,"end":9,"at":1000000,"took":2000000,"id":"0203","key":{"text":"foo","length":3},"fields":{"method":"KV/Put","bytes_in":12,"bytes_out":30,"revision":8}}
{"dropped":[0,5]}
"#;

    fn lines(write: impl FnOnce(&mut Vec<u8>, &Recording, &Order)) -> Vec<String> {
        let recording = recording::read(PUT.as_bytes()).unwrap().recording;
        let mut out = Vec::new();
        write(&mut out, &recording, &Order::of(&recording));
        String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_story_is_a_header_a_line_per_step_and_the_unknown_steps() {
        let lines = lines(|out, recording, order| {
            let put = Story::of(recording, order, 0x203).unwrap();
            let silent = Silent { endpoint: "m3:2379".to_owned(), reason: "gone".to_owned() };
            let gathered = Gathered { recording: recording.clone(), silent: vec![silent] };
            story(out, &gathered, order, &put).unwrap();
        });
        let expected = [
            "KV/Put foo",
            "request 0000000000000203  served by etcd-02  took 2.000 ms  ok  entry 3/42",
            "each line: time since the request began, member, step, how long it took, fields",
            "     +0.000 ms  etcd-02     rpc                        begins  method=KV/Put bytes_in=12B",
            "     +0.200 ms  etcd-02     raft.send                          peer=etcd-01 type=MsgProp",
            "     +0.300 ms  etcd-01     raft.receive                       peer=etcd-02 type=MsgProp",
            "     +0.350 ms  etcd-01     raft.entry                         term=3 index=42 bytes=20B",
            "     +0.400 ms  etcd-01     raft.send                          peer=etcd-02 type=MsgApp term=3 index=41 last=42",
            "     +0.500 ms  etcd-02     raft.receive                       peer=etcd-01 type=MsgApp term=3 index=41 last=42",
            "     +1.320 ms  etcd-01     wal.fsync                0.900 ms  first=41 last=42 synced 40→42 bytes=90B",
            "     +1.400 ms  etcd-01     raft.send                          peer=etcd-02 type=MsgHeartbeat term=3 commit=42 [sent, its receive not captured]",
            "     +2.000 ms  etcd-02     rpc                      2.000 ms  method=KV/Put bytes_in=12B bytes_out=30B revision=8 code=0 key=foo",
            "       unknown  etcd-01     wal.write             not captured",
        ];
        for (expected, line) in expected.iter().zip(&lines) {
            assert_eq!(expected, line);
        }
        let silent = "       unknown  m3:2379  no records from there: gone";
        let lost = "etcd-02 lost 5 records before they could be read";
        assert_eq!([silent, lost], lines[lines.len() - 2..]);
        let unknown =
            lines.iter().filter(|line| line.contains("not captured") && line.contains("unknown"));
        assert_eq!(4 + 6, unknown.count());
    }

    #[test]
    fn a_member_without_records_has_the_name_that_others_know() {
        let mut recording = recording::read(PUT.as_bytes()).unwrap().recording;
        recording.members[0].members.push((3, "etcd-03".to_owned()));
        let order = Order::of(&recording);
        let mut put = Story::of(&recording, &order, 0x203).unwrap();
        put.unheard = vec![3, 7];
        let mut out = Vec::new();
        unheard(&mut out, &Gathered { recording, silent: Vec::new() }, &put).unwrap();
        let expected = "       unknown  etcd-03     all steps: the member sent no records\n       \
                        unknown  0000000000000007  all steps: the member sent no records\n";
        assert_eq!(expected, String::from_utf8(out).unwrap());
    }

    #[test]
    fn a_story_says_from_where_it_was_called() {
        let connection = r#"{"member":1,"boot":1,"stage":"rpc.connection","kind":"mark","clock":2,"end":2,"at":1000100,"took":0,"id":"0203","fields":{"from.low":"0000ffff0a010250","from.port":40312,"to.high":"20010db800000000","to.low":"0000000000000007","to.port":2379}}"#;
        let recording = PUT.replace("{\"dropped\"", &format!("{connection}\n{{\"dropped\""));
        let recording = recording::read(recording.as_bytes()).unwrap().recording;
        let order = Order::of(&recording);
        let put = Story::of(&recording, &order, 0x203).unwrap();
        let mut out = Vec::new();
        story(&mut out, &Gathered { recording, silent: Vec::new() }, &order, &put).unwrap();
        let text = String::from_utf8(out).unwrap();
        let facts = "served by etcd-02  called from 10.1.2.80:40312  took 2.000 ms";
        let step = "rpc.connection                     from=10.1.2.80:40312 to=[2001:db8::7]:2379";
        assert!(text.contains(facts) && text.contains(step), "{text}");
    }

    #[test]
    fn the_list_names_method_key_and_result() {
        let lines = lines(|out, recording, order| {
            list(out, recording, order, &Found::default(), Vec::new()).unwrap();
        });
        let line = &lines[1];
        assert!(line.starts_with("0000000000000203  "), "{line}");
        assert!(line.ends_with("etcd-02         2.000 ms  ok            KV/Put foo"), "{line}");
    }

    fn listed(recording: &Recording, found: &Found) -> String {
        let mut out = Vec::new();
        list(&mut out, recording, &Order::of(recording), found, Vec::new()).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_wall_clock_that_is_off_is_said_once() {
        // The clock of etcd-02 is an hour ahead.
        let mut recording = recording::read(PUT.as_bytes()).unwrap().recording;
        let wrong = listed(&recording, &Found::default());
        let said = "times of day are by the wall clock of etcd-01; that of etcd-02 is 3600.0 s \
                    ahead\n";
        assert!(wrong.contains(said), "{wrong}");
        let ahead = recording.members.iter_mut().find(|one| one.name == "etcd-02").unwrap();
        ahead.boots[0].wall_ns -= 3_600_000_000_000;
        let right = listed(&recording, &Found::default());
        assert!(!right.contains("wall clock"), "{right}");
    }

    #[test]
    fn what_did_not_match_is_said_exactly() {
        use glass_etcd::story::query::find::Wanted;
        let recording = recording::read(PUT.as_bytes()).unwrap().recording;
        let of = |key: &[u8]| Wanted { key: Some(key.to_vec()), ..Wanted::default() };
        let none = "no step that was captured names the whole key \"fo\", or a range with it\n";
        assert!(listed(&recording, &of(b"fo").find(&recording)).contains(none));
        assert!(!listed(&recording, &of(b"foo").find(&recording)).contains("no step"));
    }

    #[test]
    fn keys_that_are_recorded_cut_are_not_told_apart_silently() {
        use glass_etcd::story::query::find::Wanted;
        let text = "k".repeat(88);
        let long = PUT.replace(
            r#""key":{"text":"foo","length":3}"#,
            &format!(r#""key":{{"text":"{text}","length":90}}"#),
        );
        let recording = recording::read(long.as_bytes()).unwrap().recording;
        let wanted = Wanted { key: Some(vec![b'k'; 90]), ..Wanted::default() };
        let shown = listed(&recording, &wanted.find(&recording));
        assert!(shown.contains(CUT), "{shown}");
        assert!(!listed(&recording, &Found::default()).contains(CUT));
    }
}
