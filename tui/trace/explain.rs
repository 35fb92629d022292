//! Explains a story in words: where its time went, what it cost, which members formed the quorum,
//! where it is stored, and which watchers received it. `--json` writes this, and the missing steps,
//! as a line that readers of recordings accept as the line of lost records.

use std::{
    collections::HashSet,
    io::{self, Write},
};

use glass_etcd::{
    field, fields,
    story::{
        Event, Recording,
        order::Order,
        query::{
            Missing, Stories, Story,
            afterwards::Afterwards,
            ahead::{Ahead, ahead as of_path},
            callers,
            diff::{Consistency, Facts, Side},
            graph::{GaveUp, Graph, Verdict},
            method_of,
            path::{Segment, critical_path},
            usual::{Usual, Usuals},
        },
        uncaptured,
    },
    trace::Stage,
};
use serde_json::{Value, json};

mod cpu;
mod passes;
mod stored;

use super::{ahead, gather::Gathered, through, usual, words};
use crate::state::{afterwards, sentence::needed, story::openings, text};

/// Writes the sections that follow the steps.
pub(super) fn sections(
    out: &mut impl Write,
    recording: &Recording,
    order: &Order,
    story: &Story,
) -> io::Result<()> {
    let graph = Graph::of(recording, order, story);
    let path = critical_path(recording, order, story, &graph);
    let usuals = Usuals::of(recording);
    let is_unknown = graph.through.silence.is_some();
    time(out, Side { recording, order, story }, &usuals, (path.as_deref(), is_unknown))?;
    let delaying = graph.through.delaying(path.as_deref());
    through::section(out, recording, (&graph.through, &delaying))?;
    if let Some(known) = Afterwards::of(recording, order, story, &graph) {
        writeln!(out, "\nafterwards\n  {}", afterwards::sentence(&recording.members, known))?;
    }
    cpu::write(out, Side { recording, order, story })?;
    let stories = Stories::new(recording, order);
    ahead::section(out, recording, &stood_behind(&stories, story, path.as_deref()))?;
    passes::write(out, &stories, story)?;
    cost(out, recording, &graph)?;
    parts(out, recording, story)?;
    read(out, Side { recording, order, story }, &graph)?;
    if story.entry.is_some() {
        quorum(out, Side { recording, order, story }, &graph)?;
        inherited(out, recording, story, &graph)?;
        stored::write(out, recording, story, &graph)?;
        heard(out, recording, &graph, story)?;
    }
    if let (Some(rpc), Some(path)) = (graph.rpc, &path) {
        usual::ending(out, recording, &usuals, rpc, path)?;
    }
    Ok(())
}

fn time(
    out: &mut impl Write,
    side: Side<'_>,
    usuals: &Usuals,
    (path, is_unknown): (Option<&[Segment]>, bool),
) -> io::Result<()> {
    let recording = side.recording;
    writeln!(out, "\nwhere the time went (~ depends on how the members' clocks were set)")?;
    let Some(path) = path else {
        let rpc = side.story.missing.iter().find(|missing| missing.stage == Stage::Rpc);
        let known = match rpc {
            _ if is_unknown => {
                "the end of the rpc is unknown: its process was not heard of any more"
            }
            Some(rpc) if rpc.is_never => "the rpc never ended: its process did first",
            Some(rpc) if rpc.not_by.is_some() => "the rpc had not ended",
            _ => "the end of the rpc was not captured",
        };
        return writeln!(out, "  {known}");
    };
    let total = path.iter().map(|segment| segment.ns).sum::<u64>().max(1);
    let known = usual::of_path(recording, usuals, path);
    for (segment, known) in path.iter().zip(known).filter(|(segment, _)| segment.ns != 0) {
        let usual = usual::beside(known).map(|usual| format!("  {usual}")).unwrap_or_default();
        let share = u128::from(segment.ns) * 1000 / u128::from(total);
        let took = words::millis(i128::from(segment.ns));
        writeln!(
            out,
            "  {:>5} %  {took:>11}{}  {}  {}{usual}",
            format!("{}.{}", share / 10, share % 10),
            if segment.is_estimated() { "~" } else { " " },
            text::padded(words::waited_for(segment.wait, segment.member, &recording.members), 10),
            segment.wait,
        )?;
    }
    Ok(())
}

fn stood_behind(stories: &Stories<'_>, story: &Story, path: Option<&[Segment]>) -> Vec<Ahead> {
    path.map_or(Vec::new(), |path| of_path(stories, story, path))
}

fn cost(out: &mut impl Write, recording: &Recording, graph: &Graph) -> io::Result<()> {
    writeln!(out, "\ncost")?;
    for fsync in &graph.fsyncs {
        writeln!(
            out,
            "  an fsync on {}: {}, {}",
            words::name(fsync.member, &recording.members),
            words::count(fsync.bytes, "byte", "bytes"),
            shared(fsync.entries, "entry", "entries"),
        )?;
    }
    if let Some(round) = graph.round {
        match round.reads {
            _ if round.gave_up == Some(GaveUp::BeforeRound) => {
                writeln!(out, "  a read round: none began before the call ended")?;
            }
            Some(reads) => writeln!(out, "  a read round: {}", shared(reads, "read", "reads"))?,
            None => writeln!(out, "  a read round: the number of its reads was not captured")?,
        }
        for member_id in &graph.confirmed_by {
            let name = words::member(*member_id, &recording.members);
            writeln!(out, "  confirmed by {name}, which still followed the leader")?;
        }
    }
    for at in &graph.forwards {
        let event = &recording.events[*at];
        let leader = words::member(field!(event, LeaseForward, leader), &recording.members);
        let took = words::millis(i128::from(event.took_ns));
        let end = answer(event);
        writeln!(out, "  a question to {leader} over HTTP, {took}: {end}")?;
    }
    let messages = words::count(graph.messages as u64, "message", "messages");
    writeln!(out, "  {messages} between members; their bytes are not recorded")
}

/// The requests that the member has made to carry this one out. Their steps are in the story, and
/// their fsyncs and messages in stories of their own.
fn parts(out: &mut impl Write, recording: &Recording, story: &Story) -> io::Result<()> {
    let mut named = HashSet::new();
    let own = story.steps.iter().map(|step| &recording.events[step.event]);
    for event in own.filter(|event| event.id == story.id) {
        let (what, request) = match event.stage {
            Stage::SessionGrant => ("the grant of its lease", field!(event, SessionGrant, request)),
            Stage::LockRelease => ("the deletion of its key", field!(event, LockRelease, request)),
            Stage::CampaignProclaim => {
                ("the new value of its key", field!(event, CampaignProclaim, request))
            }
            _ => continue,
        };
        if request != 0 && named.insert(request) {
            writeln!(out, "  not counted here: {what}, request {request:016x}")?;
        }
    }
    Ok(())
}

/// What came of a question to the leader. One with a reason was answered with it, or the reason
/// says that no answer came; one that failed without a reason was cut off with its call.
fn answer(question: &Event) -> String {
    match (question.reason, words::failure(question)) {
        (Some(reason), _) => reason.text().to_owned(),
        (None, Some(failure)) => format!("no answer, as its call ended first: {failure}"),
        (None, None) => "answered".to_owned(),
    }
}

/// How many others shared something, of `number` in all.
pub(super) fn shared(number: u64, one: &str, many: &str) -> String {
    match number {
        0 => format!("for no {one} that was counted"),
        1 => format!("for this {one} alone"),
        2 => format!("shared with 1 other {one}"),
        _ => format!("shared with {} other {many}", number - 1),
    }
}

/// How often: `once`, `2 times`.
pub(super) fn times(number: u64) -> String {
    if number == 1 { "once".to_owned() } else { format!("{number} times") }
}

/// For a read: how it was confirmed, and where its values were.
fn read(out: &mut impl Write, side: Side<'_>, graph: &Graph) -> io::Result<()> {
    let facts = Facts::of(side);
    let Some(consistency) = facts.consistency else { return Ok(()) };
    let members = &side.recording.members;
    writeln!(out, "\nread")?;
    let confirmed = graph.round.and_then(|round| round.confirmed.zip(round.acks));
    let has_given_up = graph.round.is_some_and(|round| round.gave_up.is_some());
    match (consistency, confirmed) {
        (Consistency::Serializable, _) => {
            writeln!(out, "  serializable: no other member was asked")?;
        }
        (Consistency::Linearizable, _) if has_given_up => {
            writeln!(out, "  linearizable: the call ended before a confirmation reached it")?;
        }
        (Consistency::Linearizable, Some((at, acks))) => {
            let leader = words::name(side.recording.events[at].member, members);
            let acks = words::count(acks, "member", "members");
            writeln!(
                out,
                "  linearizable: {leader} leads, as {acks} confirmed, itself among them"
            )?;
        }
        (Consistency::Linearizable, None) if graph.is_alone => {
            writeln!(out, "  linearizable: there is no other member to ask")?;
        }
        (Consistency::Linearizable, None) => {
            writeln!(out, "  linearizable: its confirmation was not captured")?;
        }
    }
    let Some(found) = facts.found else { return writeln!(out, "  no value was looked up") };
    for (number, place) in [
        (found.active, "the write buffer"),
        (found.frozen, "the frozen buffer, on its way to the file"),
        (found.file, "the file"),
    ] {
        if number != 0 {
            writeln!(out, "  {} from {place}", words::count(number, "value", "values"))?;
        }
    }
    Ok(())
}

/// The record that proves that a step of this stage had not happened, on this member or on any.
fn not_yet(story: &Story, stage: Stage, member: Option<u8>) -> Option<usize> {
    let is_it = |missing: &&Missing| {
        missing.stage == stage && member.is_none_or(|member| member == missing.member)
    };
    story.missing.iter().find(is_it)?.not_by
}

fn quorum(out: &mut impl Write, side: Side<'_>, graph: &Graph) -> io::Result<()> {
    let Side { recording, order, story } = side;
    writeln!(out, "\nquorum")?;
    if story.is_lost {
        return writeln!(out, "  never: another entry replaced this one before it was committed");
    }
    let Some(leader) = graph.quorum.leader else {
        return writeln!(out, "  not captured");
    };
    writeln!(out, "  {} leads", words::name(leader, &recording.members))?;
    let is_open = not_yet(story, Stage::RaftCommit, Some(leader)).is_some();
    for ack in &graph.quorum.acks {
        let name = words::member(ack.member_id, &recording.members);
        let what = if ack.is_own { "its own disk" } else { "its acknowledgement" };
        let late = graph.quorum.commit.map_or(0, |at| order.times[ack.event] - order.times[at]);
        let verdict = match ack.verdict {
            Verdict::Counted => "counted".to_owned(),
            Verdict::Completed => "completed the quorum".to_owned(),
            Verdict::Late if late <= 0 => "was not counted yet".to_owned(),
            // Less than the least that a time is printed with.
            Verdict::Late if late < 1_000 => "came after the commit".to_owned(),
            Verdict::Late => format!("came {} too late to matter", words::millis(late)),
            Verdict::Unknown if is_open => "came; the commit had not happened".to_owned(),
            Verdict::Unknown => "came; the commit was not captured".to_owned(),
        };
        writeln!(out, "  {name}: {what} {verdict}")?;
    }
    Ok(())
}

/// For an entry of an earlier term than the one in which it was committed.
fn inherited(
    out: &mut impl Write,
    recording: &Recording,
    story: &Story,
    graph: &Graph,
) -> io::Result<()> {
    let Some((commit, (entry_term, _))) = graph.quorum.commit.zip(story.entry) else {
        return Ok(());
    };
    let term = field!(recording.events[commit], RaftCommit, term);
    match openings(recording).get(&term) {
        Some(empty) if entry_term < term => {
            writeln!(out, "  entries of term {entry_term}: {}", needed(*empty, term))
        }
        _ => Ok(()),
    }
}

fn heard(
    out: &mut impl Write,
    recording: &Recording,
    graph: &Graph,
    story: &Story,
) -> io::Result<()> {
    writeln!(out, "\ndelivered to")?;
    for watcher in &graph.heard {
        let name = words::name(watcher.member, &recording.members);
        if let Some(call) = watcher.call {
            let verb = if woke(recording, story.id, call) { "woke" } else { "queued for" };
            let method = method_of_call(recording, call);
            writeln!(out, "  {verb} {method} {call:016x} on {name}")?;
            continue;
        }
        let path = match watcher.path {
            Some(0) => "sent, from apply",
            Some(_) => "sent, after catching up",
            None => "queued; its send was not captured",
        };
        writeln!(out, "  watcher {} of {name}: {path}", watcher.watcher)?;
    }
    for at in &story.maybe_told {
        let event = &recording.events[*at];
        let name = words::name(event.member, &recording.members);
        let [watcher, first, last] = fields!(event, WatchSend: watcher, first, last);
        writeln!(
            out,
            "  watcher {watcher} of {name}: caught up over revisions {first} to {last}; it is unknown whether this event was among them",
        )?;
    }
    if story.is_lost && graph.heard.is_empty() {
        return writeln!(out, "  no watcher: the entry was never applied");
    }
    if graph.heard.is_empty() && story.maybe_told.is_empty() {
        writeln!(out, "  no watcher, as far as captured")?;
    }
    Ok(())
}

/// Whether the call's own records say that this write ended its wait, or gave it a leader to tell.
fn woke(recording: &Recording, id: u64, call: u64) -> bool {
    let writes = recording.events.iter().filter(|event| event.id == id);
    let revisions: HashSet<u64> = writes
        .filter(|event| event.stage == Stage::MvccWrite)
        .map(|event| field!(event, MvccWrite, revision_new))
        .collect();
    let mut own = recording.events.iter().filter(|event| event.id == call);
    own.any(|event| match event.stage {
        Stage::LockWait => field!(event, LockWait, by) == id,
        Stage::ObserveLeader => revisions.contains(&field!(event, ObserveLeader, revision)),
        _ => false,
    })
}

/// The method of a call, as far as it was captured.
fn method_of_call(recording: &Recording, call: u64) -> &'static str {
    let mut rpcs = recording.events.iter().filter(|event| event.stage == Stage::Rpc);
    rpcs.find(|event| event.id == call).map_or("a waiting call", method_of)
}

/// The missing steps and the path, in a line with `dropped`, so that every reader of recordings
/// recognises it and skips the rest.
pub(super) fn json_line(gathered: &Gathered, order: &Order, story: &Story) -> Value {
    let Gathered { recording, silent } = gathered;
    let graph = Graph::of(recording, order, story);
    let path = critical_path(recording, order, story, &graph);
    let missing: Vec<Value> = (story.missing.iter())
        .map(|missing| {
            let mut line = json!({"member": missing.member, "stage": missing.stage.name()});
            match missing.not_by {
                Some(_) if missing.is_never => line["never"] = Value::Bool(true),
                Some(_) => line["not_yet"] = Value::Bool(true),
                None => (),
            }
            line
        })
        .collect();
    let silent: Vec<Value> = (silent.iter())
        .map(|silent| json!({"endpoint": silent.endpoint, "reason": silent.reason}))
        .collect();
    let unheard: Vec<String> = story.unheard.iter().map(|id| format!("{id:016x}")).collect();
    let known = Afterwards::of(recording, order, story, &graph);
    let known = known.map(|known| afterwards::sentence(&recording.members, known));
    let stories = Stories::new(recording, order);
    let stood = stood_behind(&stories, story, path.as_deref());
    let usuals = Usuals::of(recording);
    let delaying = graph.through.delaying(path.as_deref());
    let path: Option<Vec<Value>> = path.map(|path| {
        path.iter().zip(usual::of_path(recording, &usuals, &path)).map(segment_json).collect()
    });
    let rpc = graph.rpc.and_then(|rpc| usuals.of_step(&recording.events[rpc]));
    json!({
        "dropped": recording.dropped,
        "missing": missing,
        "brief": story.brief,
        "replaced": story.is_lost,
        "unheard": unheard,
        "silent": silent,
        "gaps": gaps_json(recording, story),
        "path": path,
        "through": through::json(recording, (&graph.through, &delaying)),
        "afterwards": known,
        "passes": passes::json(&stories, story),
        "ahead": ahead::json(recording, &stood),
        "usual": usual::json_of(rpc),
        "connection": connection_json(recording, story),
    })
}

/// The ends of the connection on which the request came; null if they were not captured.
fn connection_json(recording: &Recording, story: &Story) -> Value {
    let ends = callers::connections(recording).get(&story.id).copied();
    ends.map_or(
        Value::Null,
        |ends| json!({"from": ends.from().to_string(), "to": ends.to().to_string()}),
    )
}

fn segment_json((segment, usual): (&Segment, Option<Usual>)) -> Value {
    json!({
        "wait": segment.wait.to_string(),
        "member": segment.wait.is_for_member().then_some(segment.member),
        "ns": segment.ns,
        "estimated": segment.is_estimated(),
        "usual": usual::json_of(usual),
    })
}

/// Steps of the story that begin with another value than the preceding step left: something between
/// the two was not captured.
fn gaps_json(recording: &Recording, story: &Story) -> Vec<Value> {
    let steps: HashSet<usize> = story.steps.iter().map(|step| step.event).collect();
    let found = uncaptured::gaps(recording).into_iter().filter(|gap| steps.contains(&gap.event));
    let line = |gap: uncaptured::Gap| {
        let event = &recording.events[gap.event];
        json!({
            "member": event.member,
            "stage": event.stage.name(),
            "field": gap.field,
            "expected": gap.expected,
            "found": gap.found,
        })
    };
    found.map(line).collect()
}

#[cfg(test)]
mod tests {
    use glass_etcd::{
        story::recording,
        trace::{Kind, Reason},
    };

    use super::{super::gather::Silent, *};

    const PUTS_AND_GETS: &str = include_str!("../../tests/recordings/puts_and_gets.ndjson");

    fn explained(id: u64) -> String {
        let recording = recording::read(PUTS_AND_GETS.as_bytes()).unwrap().recording;
        let order = Order::of(&recording);
        let story = Story::of(&recording, &order, id).unwrap();
        let mut out = Vec::new();
        sections(&mut out, &recording, &order, &story).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_put_on_a_follower_is_explained() {
        insta::assert_snapshot!(explained(0x0ae2_a1fd_5979_a505));
    }

    #[test]
    fn a_put_that_shared_its_fsync_is_explained() {
        insta::assert_snapshot!(explained(0x561f_a1fd_5979_ce0d));
    }

    #[test]
    fn a_get_on_a_follower_is_explained() {
        insta::assert_snapshot!(explained(0x0ae2_a1fd_5979_a507));
    }

    /// Goal: no round confirms a call that ended before its answer. Method: the same get, whose
    /// wait for the round was cancelled.
    #[test]
    fn a_get_that_ended_before_its_confirmation_is_not_explained_as_confirmed() {
        let mut recording = recording::read(PUTS_AND_GETS.as_bytes()).unwrap().recording;
        let get = 0x0ae2_a1fd_5979_a507;
        let waits = |stage| matches!(stage, Stage::ReadIndexWait | Stage::Rpc);
        for event in &mut recording.events {
            if event.id == get && waits(event.stage) {
                event.result = 1;
            }
        }
        let order = Order::of(&recording);
        let story = Story::of(&recording, &order, get).unwrap();
        let mut out = Vec::new();
        sections(&mut out, &recording, &order, &story).unwrap();
        let text = String::from_utf8(out).unwrap();
        let said = "linearizable: the call ended before a confirmation reached it";
        assert!(text.contains(said) && !text.contains("leads, as"), "{text}");
    }

    #[test]
    fn a_question_is_answered_only_if_it_neither_failed_nor_was_cut_off() {
        let question = Event { kind: Kind::Span, ..Event::mark(0, Stage::LeaseForward, 1) };
        let asked = |change: fn(&mut Event)| {
            let mut question = question.clone();
            change(&mut question);
            answer(&question)
        };
        assert_eq!("answered", asked(|_| ()));
        assert_eq!(
            "no answer, as its call ended first: DeadlineExceeded",
            asked(|question| question.result = 4)
        );
        assert_eq!(
            "no answer, as its call ended first: Canceled",
            asked(|question| question.result = 1)
        );
        assert_eq!(
            "the peer gave no answer",
            asked(|question| question.reason = Some(Reason::PeerSilent))
        );
    }

    /// A lock whose client has gone while it waited: its lease was granted and its key deleted.
    const LOCK: &str = r#"{"glass":1,"members":[{"id":"01","cluster":"09","name":"etcd-01","version":"0.1.0","boots":[{"boot":1,"wall_ns":1000000000}]}]}
{"member":0,"boot":1,"stage":"session.grant","kind":"span","clock":2,"end":3,"at":100,"took":50,"id":"0203","fields":{"lease":"07","ttl":60,"request":"0204"}}
{"member":0,"boot":1,"stage":"wal.fsync","kind":"span","clock":4,"end":5,"at":110,"took":9,"id":"0204","fields":{"first":7,"last":7,"bytes":9}}
{"member":0,"boot":1,"stage":"rpc","kind":"span","clock":1,"end":10,"at":50,"took":1000,"id":"0203","code":1,"fields":{"method":"Lock/Lock","code":1}}
{"member":0,"boot":1,"stage":"lock.release","kind":"mark","clock":11,"end":11,"at":1100,"took":0,"id":"0203","fields":{"own":65,"request":"0205"}}
"#;

    #[test]
    fn the_cost_of_a_lock_names_the_requests_that_are_not_counted_in_it() {
        let recording = recording::read(LOCK.as_bytes()).unwrap().recording;
        let order = Order::of(&recording);
        let story = Story::of(&recording, &order, 0x203).unwrap();
        let mut out = Vec::new();
        sections(&mut out, &recording, &order, &story).unwrap();
        let text = String::from_utf8(out).unwrap();
        let cost = text.split_once("\ncost\n").unwrap().1;
        let expected = "  0 messages between members; their bytes are not recorded
  not counted here: the grant of its lease, request 0000000000000204
  not counted here: the deletion of its key, request 0000000000000205
";
        assert!(cost.starts_with(expected), "{cost}");
    }

    #[test]
    fn json_lists_missing_steps_in_a_line_that_readers_of_recordings_skip() {
        let mut recording = recording::read(PUTS_AND_GETS.as_bytes()).unwrap().recording;
        recording.events.retain(|event| event.member != 0);
        let order = Order::of(&recording);
        let story = Story::of(&recording, &order, 0x561f_a1fd_5979_ce0d).unwrap();
        let silent = Silent { endpoint: "m3:2379".to_owned(), reason: "gone".to_owned() };
        let gathered = Gathered { recording, silent: vec![silent] };
        let line = json_line(&gathered, &order, &story);
        let recording = gathered.recording;
        assert_eq!(json!([{"endpoint": "m3:2379", "reason": "gone"}]), line["silent"]);
        // Entry 11 belongs to another request, which was left out of the recording.
        let gap = json!({
            "member": 1, "stage": "raft.commit", "field": "commit", "expected": 10, "found": 11,
        });
        assert!(line["gaps"].as_array().unwrap().contains(&gap), "{line}");
        let fsync = json!({"member": 0, "stage": "wal.fsync"});
        assert!(line["missing"].as_array().unwrap().contains(&fsync), "{line}");
        let mut file = Vec::new();
        recording::write(&mut file, &recording).unwrap();
        writeln!(file, "{line}").unwrap();
        let read = recording::read(file.as_slice()).unwrap();
        assert_eq!((recording, 0), (read.recording, read.unknown));
    }
}
