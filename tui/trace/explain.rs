//! What stands behind a story, in plain words: where its time went, what it cost, who made the
//! quorum, where it is stored, and who heard of it. `--json` says the same, and what is missing, in
//! a line that readers of recordings take for the one that counts losses.

use std::io::{self, Write};

use glass_etcd::trace::{
    Recording,
    order::Order,
    query::{
        Story,
        graph::{Graph, Verdict},
        path::{Segment, Wait, critical_path},
    },
};
use serde_json::{Value, json};

use super::words;

/// Writes the sections that follow the steps.
pub(super) fn sections(
    out: &mut impl Write,
    recording: &Recording,
    order: &Order,
    story: &Story,
) -> io::Result<()> {
    let graph = Graph::of(recording, order, story);
    let path = critical_path(recording, order, story, &graph);
    time(out, recording, path.as_deref())?;
    cost(out, recording, &graph)?;
    if story.entry.is_some() {
        quorum(out, recording, order, &graph)?;
        stored(out, recording, &graph)?;
        heard(out, recording, &graph)?;
    }
    Ok(())
}

fn time(out: &mut impl Write, recording: &Recording, path: Option<&[Segment]>) -> io::Result<()> {
    writeln!(out, "\nwhere the time went (~ depends on how the members' clocks were set)")?;
    let Some(path) = path else {
        return writeln!(out, "  the end of the rpc was not captured");
    };
    let total = path.iter().map(|segment| segment.ns).sum::<u64>().max(1);
    for segment in path.iter().filter(|segment| segment.ns != 0) {
        let share = u128::from(segment.ns) * 1000 / u128::from(total);
        let took = words::millis(i128::from(segment.ns));
        writeln!(
            out,
            "  {:>5} %  {took:>11}{}  {:<10}  {}, until {}",
            format!("{}.{}", share / 10, share % 10),
            if segment.is_estimated { "~" } else { " " },
            words::name(segment.member, &recording.members),
            reason(segment.wait),
            recording.events[segment.to].stage.name(),
        )?;
    }
    Ok(())
}

/// For what is waited, in a few words.
pub(super) fn reason(wait: Wait) -> &'static str {
    match wait {
        Wait::Checks => "checks",
        Wait::Inbox => "in the inbox of raft",
        Wait::Raft => "raft's thread",
        Wait::Network => "on the way to it",
        Wait::WalQueue => "before the disk",
        Wait::Fsync => "the disk",
        Wait::Backlog => "before apply",
        Wait::Apply => "apply",
        Wait::Round => "before the next read round",
        Wait::Read => "reading",
        Wait::Wake => "waking the request",
        Wait::Answer => "the answer",
        Wait::Own => "the member itself",
        Wait::Unknown => "not captured what",
    }
}

fn cost(out: &mut impl Write, recording: &Recording, graph: &Graph) -> io::Result<()> {
    writeln!(out, "\ncost")?;
    for fsync in &graph.fsyncs {
        writeln!(
            out,
            "  an fsync on {}: {} bytes, {}",
            words::name(fsync.member, &recording.members),
            fsync.bytes,
            shared(fsync.entries, "entry", "entries"),
        )?;
    }
    if let Some(round) = graph.round {
        match round.reads {
            Some(reads) => writeln!(out, "  a read round: {}", shared(reads, "read", "reads"))?,
            None => writeln!(out, "  a read round: not captured for how many reads")?,
        }
        for member_id in &graph.confirmed_by {
            let name = words::member(*member_id, &recording.members);
            writeln!(out, "  confirmed by {name}, which still followed the leader")?;
        }
    }
    writeln!(out, "  {} messages between members; their bytes are not recorded", graph.messages)
}

fn shared(count: u64, one: &str, many: &str) -> String {
    match count {
        1 => format!("for this {one} alone"),
        _ => format!("shared with {} other {many}", count.saturating_sub(1)),
    }
}

fn quorum(
    out: &mut impl Write,
    recording: &Recording,
    order: &Order,
    graph: &Graph,
) -> io::Result<()> {
    writeln!(out, "\nquorum")?;
    let Some(leader) = graph.quorum.leader else {
        return writeln!(out, "  not captured");
    };
    writeln!(out, "  {} leads", words::name(leader, &recording.members))?;
    for ack in &graph.quorum.acks {
        let name = words::member(ack.member_id, &recording.members);
        let what = if ack.is_own { "its own disk" } else { "its acknowledgement" };
        let late = graph.quorum.commit.map_or(0, |at| order.times[ack.event] - order.times[at]);
        let verdict = match ack.verdict {
            Verdict::Counted => "counted".to_owned(),
            Verdict::Completed => "completed the quorum".to_owned(),
            Verdict::Late if late <= 0 => "was not counted yet".to_owned(),
            Verdict::Late => format!("came {} too late to matter", words::millis(late)),
            Verdict::Unknown => "came; the commit was not captured".to_owned(),
        };
        writeln!(out, "  {name}: {what} {verdict}")?;
    }
    Ok(())
}

fn stored(out: &mut impl Write, recording: &Recording, graph: &Graph) -> io::Result<()> {
    writeln!(out, "\nstored")?;
    for stored in &graph.stored {
        let name = words::name(stored.member, &recording.members);
        let shared = shared(stored.writes, "write", "writes");
        writeln!(out, "  {name}: by a transaction {shared}")?;
    }
    if graph.stored.is_empty() {
        writeln!(out, "  not captured")?;
    }
    Ok(())
}

fn heard(out: &mut impl Write, recording: &Recording, graph: &Graph) -> io::Result<()> {
    writeln!(out, "\nheard by")?;
    for who in &graph.heard {
        let path = match who.path {
            Some(0) => "sent, from apply",
            Some(_) => "sent, after catching up",
            None => "in its queue; its sending was not captured",
        };
        let name = words::name(who.member, &recording.members);
        writeln!(out, "  watcher {} of {name}: {path}", who.watcher)?;
    }
    if graph.heard.is_empty() {
        writeln!(out, "  no watcher, as far as captured")?;
    }
    Ok(())
}

/// What is missing, and the path: a line with `dropped`, so that every reader of recordings knows
/// it and skips the rest.
pub(super) fn json_line(recording: &Recording, order: &Order, story: &Story) -> Value {
    let graph = Graph::of(recording, order, story);
    let path = critical_path(recording, order, story, &graph);
    let missing: Vec<Value> = (story.missing.iter())
        .map(|missing| json!({"member": missing.member, "stage": missing.stage.name()}))
        .collect();
    let unheard: Vec<String> = story.unheard.iter().map(|id| format!("{id:016x}")).collect();
    let segment = |segment: &Segment| {
        json!({
            "wait": segment.wait.name(),
            "member": segment.member,
            "ns": segment.ns,
            "estimated": segment.is_estimated,
        })
    };
    let path: Option<Vec<Value>> = path.map(|path| path.iter().map(segment).collect());
    json!({
        "dropped": recording.dropped,
        "missing": missing,
        "unheard": unheard,
        "path": path,
    })
}

#[cfg(test)]
mod tests {
    use glass_etcd::trace::recording;

    use super::*;

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

    #[test]
    fn what_is_missing_is_told_in_a_line_that_readers_of_recordings_skip() {
        let mut recording = recording::read(PUTS_AND_GETS.as_bytes()).unwrap().recording;
        recording.events.retain(|event| event.member != 0);
        let order = Order::of(&recording);
        let story = Story::of(&recording, &order, 0x0ae2_a1fd_5979_a505).unwrap();
        let line = json_line(&recording, &order, &story);
        let fsync = json!({"member": 0, "stage": "wal.fsync"});
        assert!(line["missing"].as_array().unwrap().contains(&fsync), "{line}");
        let mut file = Vec::new();
        recording::write(&mut file, &recording).unwrap();
        writeln!(file, "{line}").unwrap();
        let read = recording::read(file.as_slice()).unwrap();
        assert_eq!((recording, 0), (read.recording, read.unknown));
    }
}
