//! What happened to the cluster while a request ran, in words.
//!
//! The first line is one sentence, on what delayed the request; then come the leaders that were
//! lost, the members that started or stood still, and the messages that were dropped, whether the
//! request waited for them or not. Times are those since the request began or, if that was not
//! captured, since its first step that was.

use std::io::{self, Write};

use glass_etcd::{
    story::{
        MemberInfo, Recording,
        query::{
            cluster::{Because, Sign, StepDown, Unled},
            silence::Silence,
            through::{Fate, Loss, LostBefore, StoodStill, Through, Without},
            unbegun::{Unbegun, Why},
        },
    },
    trace::message::MESSAGES,
};
use serde_json::{Value, json};

use super::words;

/// Writes the section; nothing if nothing happened.
pub(super) fn section(
    out: &mut impl Write,
    recording: &Recording,
    (through, delaying): (&Through, &Through),
) -> io::Result<()> {
    titled(out, recording, (through, delaying), "meanwhile in the cluster")
}

/// The same below another title.
pub(super) fn titled(
    out: &mut impl Write,
    recording: &Recording,
    (through, delaying): (&Through, &Through),
    title: &str,
) -> io::Result<()> {
    if through.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{title}")?;
    for line in lines(recording, through, delaying) {
        writeln!(out, "  {line}")?;
    }
    Ok(())
}

/// All that happened, a sentence a line: the summary of what delayed the request first.
pub(crate) fn lines(recording: &Recording, through: &Through, delaying: &Through) -> Vec<String> {
    let members = &recording.members;
    let mut lines: Vec<String> = summary(members, delaying).into_iter().collect();
    for without in &through.without {
        lines.extend(lost(members, through, without));
    }
    let is_told = |event: usize| {
        let shown = through.without.iter().filter_map(|without| without.gap.shown);
        shown.into_iter().any(|known| known == event)
    };
    // The summary has told of the loss with which the request ended.
    let is_end = |event: usize| delaying.ended_by.is_some_and(|by| by.event() == event);
    let step_downs = through.step_downs.iter().filter(|one| !is_told(one.event));
    lines.extend(step_downs.filter(|one| !is_end(one.event)).map(|one| step_down(members, one)));
    let unled = through.unled.iter().filter(|one| !is_end(one.event));
    lines.extend(unled.map(|one| self::unled(members, one)));
    let first = lines.first().cloned();
    let stalls = through.stalls.iter().map(|one| stall(members, one));
    lines.extend(stalls.filter(|line| Some(line) != first.as_ref()));
    if let Some(ended) = through.ended {
        let name = words::name(ended.member, members);
        let at = words::millis(ended.at - through.from);
        lines.push(format!(
            "the request ended with the process of {name}: its last record is at +{at}, and start \
             {} of it followed",
            ended.next
        ));
    }
    for start in &through.starts {
        let name = words::name(start.member, members);
        lines.push(format!("start {} of {name} began during the request", start.boot));
    }
    for (one, other) in &through.cut {
        let (one, other) = (words::name(*one, members), words::member(*other, members));
        lines.push(format!("the link between {one} and {other} was cut"));
    }
    for dropped in &through.dropped {
        let name = words::name(dropped.member, members);
        let kind = usize::try_from(dropped.kind).ok().and_then(|kind| MESSAGES.get(kind));
        let kind = kind.copied().unwrap_or("message of an unknown type");
        let peer = words::member(dropped.peer, members);
        let number = words::count(dropped.messages, "message", "messages");
        lines.push(format!("{name} dropped {number} {kind} to or from {peer}"));
    }
    lines
}

/// `1 119 ms: etcd-03 died; etcd-02 led from +1 122 ms`, or `no leader for 5.0 s, 1 of 3 members
/// alive`. It is about what has delayed the request ([`Through::delaying`]), or ended it, and
/// nothing else.
pub(crate) fn summary(members: &[MemberInfo], through: &Through) -> Option<String> {
    let delayed = match through.without.last() {
        Some(last) => Some(leaderless(members, through, last)),
        None => stalled(members, through),
    };
    let is_told = through.without.last().is_some_and(|last| last.is_its_end);
    let ended = through.ended.filter(|_| !is_told).map(|ended| {
        let name = words::name(ended.member, members);
        let at = words::millis(ended.at - through.from);
        format!("the request ended with the process of {name}, whose last record is at +{at}")
    });
    let by = through.ended_by.and_then(|by| match by {
        Loss::Unled(one) => Some(format!("the request ended as {}", unled(members, &one))),
        Loss::SteppedDown(one) => {
            let is_told = through.without.last().is_some_and(|last| {
                last.gap.term == one.term && matches!(last.fate, Fate::SteppedDown(_))
            });
            (!is_told).then(|| format!("the request ended as {}", step_down(members, &one)))
        }
    });
    let unbegun = through.unbegun.map(|one| unbegun(members, one));
    let before = through.lost_before.map(|one| lost_before(members, one));
    let silence = through.silence.map(|one| silence(members, through, one));
    let first = unbegun.into_iter().chain(before);
    let all: Vec<String> = first.chain(delayed).chain(by).chain(ended).chain(silence).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

/// How the serving member had lost its leader before the request began.
fn lost_before(members: &[MemberInfo], LostBefore { member, loss }: LostBefore) -> String {
    let Some((loss, ago)) = loss else {
        let name = words::name(member, members);
        return format!("{name} had no leader when the request began");
    };
    let lost = match loss {
        Loss::Unled(one) => unled(members, &one),
        Loss::SteppedDown(one) => step_down(members, &one),
    };
    format!("{} before the request began, {lost}", words::millis(ago))
}

/// That nobody knows how the request ended, as its process was not heard of any more.
fn silence(members: &[MemberInfo], through: &Through, one: Silence) -> String {
    let name = words::name(one.member, members);
    let [last, after] = [one.from - through.from, one.to - one.from].map(words::millis);
    let why = match one.was_stopping {
        true => "it had been asked to stop",
        false => "it died, stood still or was cut off",
    };
    format!(
        "how the request ended is unknown: the last record of {name} is at +{last}, and the others \
         went on for {after}; {why}"
    )
}

/// Which leader a member ceased to follow, and why.
fn unled(members: &[MemberInfo], one: &Unled) -> String {
    let [name, leader] = [words::name(one.member, members), &words::member(one.leader, members)];
    let lost = format!("{name} gave up its leader, {leader}");
    match one.silent_ns {
        Some(ns) => {
            let silent = words::millis(i128::from(ns));
            format!("{lost}, of which it had not heard for {silent}, an election timeout")
        }
        None if one.term < one.term_new => format!("{lost}, for term {}", one.term_new),
        None => lost,
    }
}

/// Which member ceased to lead, and why.
fn step_down(members: &[MemberInfo], one: &StepDown) -> String {
    let (name, why) = (words::name(one.member, members), because(members, one.because));
    format!("{name} stopped leading term {}: {why}", one.term)
}

/// Why the beginning of the request is missing.
fn unbegun(members: &[MemberInfo], Unbegun { server, why }: Unbegun) -> String {
    let name = words::member(server, members);
    let why = match why {
        _ if server == 0 => "the member that served it is not known".to_owned(),
        Why::Ended(next) => {
            format!("the process of {name} that served it ended, and start {next} of it followed")
        }
        Why::Silent => format!("{name}, which served it, sent no records"),
        Why::Lost => format!("the records that {name}, which served it, made then are missing"),
    };
    format!("the beginning of the request was not captured: {why}")
}

/// What became of the leader, and who led next or how long nobody did.
fn leaderless(members: &[MemberInfo], through: &Through, last: &Without) -> String {
    let gone = fate(members, last);
    let next = last.next.zip(last.gap.to);
    let is_led = next.filter(|(_, to)| *to <= through.to || last.is_its_end);
    if let Some(((winner, _), to)) = is_led {
        let name = words::member(winner, members);
        let since = words::millis(to - through.from);
        let lost = gone.map_or_else(String::new, |gone| format!("{gone}; "));
        return format!("{lost}{name} led from +{since}{}", bound(last));
    }
    if last.is_its_end {
        let lost = gone.unwrap_or_else(|| "the leader was lost".to_owned());
        return format!("{lost}; no later leader was captured");
    }
    let without: i128 = last.to - last.from;
    let alive = format!("{} of {} members alive", through.alive.len(), through.members);
    let lost = gone.map_or_else(String::new, |gone| format!("{gone}: "));
    format!("{lost}no leader for {}, {alive}", words::millis(without))
}

/// What is to be added to the time since when a member leads, if its own record of that is missing:
/// another member had heard of it then.
fn bound(without: &Without) -> &'static str {
    if without.gap.next.is_some() { "" } else { " at the latest" }
}

/// The longest standstill, a leader's before all others.
fn stalled(members: &[MemberInfo], through: &Through) -> Option<String> {
    let length = |one: &&StoodStill| (one.stall.is_leader, one.stall.to - one.stall.from);
    Some(stall(members, through.stalls.iter().max_by_key(length)?))
}

/// How long a process stood still, and how much of that was before the rpc, within it, after it.
fn stall(members: &[MemberInfo], one: &StoodStill) -> String {
    let StoodStill { stall, before_ns, during_ns, after_ns, .. } = *one;
    let name = words::name(stall.member, members);
    let leader = if stall.is_leader { ", the leader," } else { "" };
    let parts =
        [(before_ns, "before `rpc`"), (during_ns, "during the rpc"), (after_ns, "after it")];
    let told = parts.into_iter().filter(|(ns, _)| 1_000 <= *ns);
    let parts: Vec<String> =
        told.map(|(ns, when)| format!("{} of it {when}", words::millis(i128::from(ns)))).collect();
    format!(
        "the process of {name}{leader} stood still for {}: {}",
        words::millis(stall.to - stall.from),
        parts.join(", ")
    )
}

/// What became of the leader before: `etcd-03 died`.
fn fate(members: &[MemberInfo], without: &Without) -> Option<String> {
    let name = words::member(without.gap.before, members);
    Some(match without.fate {
        Fate::Died(_) => format!("{name} died"),
        Fate::Stopped => format!("{name} was stopped"),
        Fate::SteppedDown(Because::HandedOver(to)) => {
            format!("{name} handed over to {}", words::member(to, members))
        }
        Fate::SteppedDown(_) => format!("{name} stepped down"),
        Fate::StoodStill => format!("{name} stood still"),
        Fate::CutOff => format!("{name} was cut off"),
        Fate::FellSilent => format!("{name} fell silent"),
        Fate::None => return None,
    })
}

/// Why a leader does not lead any more.
pub(crate) fn because(members: &[MemberInfo], because: Because) -> String {
    match because {
        Because::LaterTerm(term) => format!("a message of term {term} reached it"),
        Because::HandedOver(to) => format!("it handed over to {}", words::member(to, members)),
        Because::NoMajority => "no majority answered it for an election timeout".to_owned(),
    }
}

fn lost(members: &[MemberInfo], through: &Through, without: &Without) -> Vec<String> {
    let offset = |time: i128| {
        let since = words::millis(time - through.from);
        if time < through.from { since } else { format!("+{since}") }
    };
    let mut lines = Vec::new();
    let Without { gap, .. } = without;
    if gap.before != 0 {
        let name = words::member(gap.before, members);
        let fate = match without.fate {
            Fate::Died(boot) => format!("; its process ended, and start {boot} of it followed"),
            Fate::Stopped => "; it had been asked to stop".to_owned(),
            Fate::SteppedDown(cause) => format!("; it stepped down: {}", because(members, cause)),
            Fate::StoodStill => "; its process stood still".to_owned(),
            Fate::CutOff => "; its links left it no majority".to_owned(),
            Fate::FellSilent | Fate::None => String::new(),
        };
        let since = offset(gap.from);
        let sign = match gap.sign {
            Sign::Heard => format!("and the others last heard of it at {since}"),
            // What the others heard is not known: its step-down, or its own last record.
            Sign::Own => format!("and its own last sign of that is at {since}"),
            Sign::Shown => {
                format!("and was lost by {since}; its last message before that was not captured")
            }
        };
        lines.push(format!("{name} led term {}, {sign}{fate}", gap.term));
    }
    let is_told = |time: i128| time <= through.to || without.is_its_end;
    if let Some(asked) = without.asked.filter(|asked| is_told(*asked)) {
        let election = without.election.map(|election| election.text(members));
        let of = election.map_or_else(String::new, |election| format!(" ({election})"));
        lines.push(format!("an election began at {}{of}", offset(asked)));
    }
    let next = without.next.zip(gap.to).filter(|(_, to)| is_told(*to));
    if let Some(((winner, term), to)) = next {
        let name = words::member(winner, members);
        lines.push(format!("{name} led term {term} from {}{}", offset(to), bound(without)));
    }
    if without.is_its_end {
        return lines;
    }
    let names: Vec<String> = through.alive.iter().map(|id| words::member(*id, members)).collect();
    let heard = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    lines.push(format!(
        "no leader for {} of the request; heard of in that time: {heard}",
        words::millis(without.to - without.from)
    ));
    lines
}

/// The same for programs.
pub(super) fn json(recording: &Recording, (through, delaying): (&Through, &Through)) -> Value {
    let members = &recording.members;
    let offset = |time: i128| i64::try_from(time - through.from).unwrap_or(i64::MAX);
    let without = |one: &Without| {
        json!({
            "leader": words::member(one.gap.before, members),
            "term": one.gap.term,
            "fate": fate(members, one),
            "heard_ns": (one.gap.sign == Sign::Heard).then(|| offset(one.gap.from)),
            "from_ns": offset(one.from),
            "to_ns": offset(one.to),
            "next": one.next.map(|(winner, _)| words::member(winner, members)),
            "next_term": one.next.map(|(_, term)| term),
            "election": one.election.map(|election| election.text(members)),
        })
    };
    let alive: Vec<String> = through.alive.iter().map(|id| words::member(*id, members)).collect();
    json!({
        "summary": summary(members, delaying),
        "unbegun": through.unbegun.map(|one| json!({
            "member": words::member(one.server, members),
            "start": match one.why {
                Why::Ended(next) => Some(next),
                Why::Silent | Why::Lost => None,
            },
        })),
        "ended": through.ended.map(|ended| json!({
            "member": words::name(ended.member, members),
            "last_ns": offset(ended.at),
            "start": ended.next,
        })),
        "silence": through.silence.map(|one| json!({
            "member": words::name(one.member, members),
            "last_ns": offset(one.from),
            "until_ns": offset(one.to),
        })),
        "without_leader": through.without.iter().map(without).collect::<Vec<_>>(),
        "alive": alive,
        "members": through.members,
        "lines": lines(recording, through, delaying),
    })
}

#[cfg(test)]
mod tests {
    use glass_etcd::story::{
        order::Order,
        query::{Story, graph::Graph, path::critical_path},
        recording,
    };

    use super::*;

    /// A put that lay in its socket for 90 ms, while its process stood still, and again for a
    /// millisecond of its rpc.
    const PUT: &str = r#"{"glass":1,"members":[{"id":"01","cluster":"09","name":"etcd-01","version":"0.1.0","boots":[{"boot":1,"wall_ns":1000000000}]}]}
{"member":0,"boot":1,"stage":"process.stalled","kind":"span","clock":1,"end":2,"at":5000000,"took":85000000,"fields":{"cpu":10,"margin":25000000}}
{"member":0,"boot":1,"stage":"socket.queue","kind":"span","clock":3,"end":3,"at":10000000,"took":90000000,"id":"0203","fields":{}}
{"member":0,"boot":1,"stage":"process.stalled","kind":"span","clock":4,"end":6,"at":100500000,"took":1000000,"fields":{"cpu":10,"margin":25000000}}
{"member":0,"boot":1,"stage":"rpc","kind":"span","clock":5,"end":9,"at":100000000,"took":2000000,"id":"0203","fields":{"method":"KV/Put"}}
"#;

    #[test]
    fn a_standstill_names_its_part_of_the_wait() {
        let recording = recording::read(PUT.as_bytes()).unwrap().recording;
        let order = Order::of(&recording);
        let story = Story::of(&recording, &order, 0x203).unwrap();
        let graph = Graph::of(&recording, &order, &story);
        let expected = [
            "the process of etcd-01 stood still for 85.000 ms: 80.000 ms of it before `rpc`",
            "the process of etcd-01 stood still for 1.000 ms: 1.000 ms of it during the rpc",
        ];
        let path = critical_path(&recording, &order, &story, &graph);
        let delaying = graph.through.delaying(path.as_deref());
        assert_eq!(expected, lines(&recording, &graph.through, &delaying)[..]);
    }
}
