//! The section on storage: which transactions wrote the request's rows to the members' files, if it
//! wrote any.

use std::io::{self, Write};

use glass_etcd::{
    change, field, fields,
    story::{
        Event, Recording,
        query::{Missing, Relation, Story, graph::Graph, method_of},
    },
    trace::{FLAG_ERROR, Kind, Stage},
};

use super::{shared, words};

/// gRPC codes with which apply refuses a request: invalid argument, not found, failed precondition,
/// out of range.
const APPLY_REFUSED: [u8; 4] = [3, 5, 9, 11];

/// What the request's entry did to the key space and the other tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// It wrote rows, or it is of a kind whose effect no step reports.
    Rows,
    /// Apply refused it, so it wrote nothing.
    Refused,
    /// It was applied and changed nothing.
    Unchanged,
    /// The step that would tell was not captured, or does not tell.
    Unknown,
}

/// Writes the section.
pub(super) fn write(
    out: &mut impl Write,
    recording: &Recording,
    story: &Story,
    graph: &Graph,
) -> io::Result<()> {
    writeln!(out, "\nstored")?;
    if story.is_lost {
        return writeln!(out, "  never: the entry was never applied");
    }
    match effect(recording, story, graph) {
        Effect::Rows => (),
        Effect::Refused => return writeln!(out, "  no row of its own: apply refused it"),
        Effect::Unchanged => return writeln!(out, "  no row of its own: it changed nothing"),
        Effect::Unknown if graph.stored.is_empty() => (),
        Effect::Unknown => writeln!(out, "  whether it wrote a row was not captured")?,
    }
    for stored in &graph.stored {
        let name = words::name(stored.member, &recording.members);
        let event = &recording.events[stored.event];
        // Entries, not rows: one entry may write many rows, or none.
        let [old, new] = change!(event, BackendCommit, index);
        let entries = new.saturating_sub(old);
        let shared = shared(entries, "entry", "entries");
        let rows = words::count(stored.writes, "row", "rows");
        writeln!(out, "  {name}: by a transaction of {rows}, {shared}")?;
    }
    match graph.stored.is_empty() {
        true => not_stored(out, recording, story),
        false => Ok(()),
    }
}

/// Without a transaction that stored it: on which members that had not happened yet, and on which
/// it may have.
fn not_stored(out: &mut impl Write, recording: &Recording, story: &Story) -> io::Result<()> {
    let missing = story.missing.iter().filter(|missing| missing.stage == Stage::BackendCommit);
    let (not_yet, unknown): (Vec<_>, Vec<_>) =
        missing.partition(|missing| missing.not_by.is_some());
    let names = |list: Vec<&Missing>| {
        let names = list.iter().map(|missing| words::name(missing.member, &recording.members));
        names.collect::<Vec<_>>().join(", ")
    };
    if not_yet.is_empty() {
        return writeln!(out, "  not captured");
    }
    writeln!(out, "  not yet, as the newest records say: {}", names(not_yet))?;
    match unknown.is_empty() {
        true => Ok(()),
        false => writeln!(out, "  not captured: {}", names(unknown)),
    }
}

/// What came of the entry. Every member applies the same, so the members' steps are read together.
fn effect(recording: &Recording, story: &Story, graph: &Graph) -> Effect {
    let own = story.steps.iter();
    let own = own.filter(|step| !matches!(step.relation, Relation::Part | Relation::Delivery));
    let own = own.map(|step| &recording.events[step.event]);
    let mut effects: Vec<Effect> = own.filter_map(effect_of).collect();
    let rpc = graph.rpc.map(|rpc| &recording.events[rpc]);
    if rpc.is_some_and(|rpc| APPLY_REFUSED.contains(&rpc.result)) {
        effects.push(Effect::Refused);
    }
    let known = [Effect::Rows, Effect::Refused, Effect::Unchanged, Effect::Unknown];
    let known = known.into_iter().find(|effect| effects.contains(effect));
    known.unwrap_or(if rpc.is_some_and(reports) { Effect::Unknown } else { Effect::Rows })
}

/// The effect of an entry, as this step of it records it.
fn effect_of(event: &Event) -> Option<Effect> {
    if event.kind == Kind::Begin {
        return None;
    }
    let has_failed = event.reason.is_some() || event.flags & FLAG_ERROR != 0;
    Some(match event.stage {
        Stage::ApplyEntry if !has_failed => return None,
        Stage::MvccWrite if field!(event, MvccWrite, operations) != 0 => Effect::Rows,
        Stage::ApplyEntry
        | Stage::MvccWrite
        | Stage::LeaseGrant
        | Stage::LeaseRevoke
        | Stage::MvccCompact
        | Stage::MembersChange
            if has_failed =>
        {
            Effect::Refused
        }
        Stage::MvccWrite => Effect::Unchanged,
        Stage::LeaseGrant | Stage::LeaseRevoke | Stage::MvccCompact | Stage::MembersChange => {
            Effect::Rows
        }
        Stage::AlarmApply => match fields!(event, AlarmApply: raise, disarm, answered) {
            [0, 0, _] | [_, _, 0] => Effect::Unchanged,
            [_, 0, _] => Effect::Unknown, // It may have been raised before.
            _ => Effect::Rows,
        },
        _ => return None,
    })
}

/// Whether a step reports each row that this call writes.
fn reports(rpc: &Event) -> bool {
    let method = method_of(rpc);
    ["KV/", "Lease/", "Lock/", "Election/"].iter().any(|service| method.starts_with(service))
}

#[cfg(test)]
mod tests {
    use glass_etcd::story::{order::Order, recording};

    use super::*;

    /// A call of one member, and the transaction that followed it.
    const CALL: &str = r#"{"glass":1,"members":[{"id":"01","cluster":"09","name":"etcd-01","version":"0.1.0","boots":[{"boot":1,"wall_ns":1000000000}]}]}
{"member":0,"boot":1,"stage":"raft.entry","kind":"mark","clock":2,"end":2,"at":200,"took":0,"id":"0203","fields":{"term":2,"index":7,"bytes":9}}
{"member":0,"boot":1,"stage":"STEP","kind":"span","clock":4,"end":5,"at":400,"took":9,"id":"0203","REASON":"requested lease not found","fields":{FIELDS}}
{"member":0,"boot":1,"stage":"apply.entry","kind":"span","clock":3,"end":6,"at":300,"took":200,"id":"0203","fields":{"term":2,"index":7,"applied.old":6,"applied.new":7}}
{"member":0,"boot":1,"stage":"rpc","kind":"span","clock":1,"end":10,"at":50,"took":1000,"id":"0203","code":CODE,"fields":{"method":"METHOD","code":CODE}}
{"member":0,"boot":1,"stage":"backend.commit","kind":"span","clock":20,"end":21,"at":2000,"took":100,"fields":{"index.old":5,"index.new":7,"writes":14}}
"#;

    /// The section for a call of this method that ended with this code and whose entry had this
    /// step.
    fn told(method: &str, code: u8, (step, reason, fields): (&str, &str, &str)) -> String {
        let lines = CALL.replace("METHOD", method).replace("CODE", &code.to_string());
        let lines = lines.replace("STEP", step).replace("REASON", reason).replace("FIELDS", fields);
        let is_twice = |line: &&str| step == "apply.entry" && line.contains("applied.old");
        let lines: Vec<&str> = lines.lines().filter(|line| !is_twice(line)).collect();
        let recording = recording::read(lines.join("\n").as_bytes()).unwrap().recording;
        let order = Order::of(&recording);
        let story = Story::of(&recording, &order, 0x203).unwrap();
        let graph = Graph::of(&recording, &order, &story);
        let mut out = Vec::new();
        write(&mut out, &recording, &story, &graph).unwrap();
        String::from_utf8(out).unwrap()
    }

    const TRANSACTION: &str = "  etcd-01: by a transaction of 14 rows, shared with 1 other entry\n";

    #[test]
    fn a_request_that_wrote_rows_lists_its_transactions() {
        let expected = format!("\nstored\n{TRANSACTION}");
        for code in [0, 1, 4] {
            let put = ("mvcc.write", "-", r#""revision.old":3,"revision.new":4,"operations":1"#);
            assert_eq!(expected, told("KV/Put", code, put));
        }
        let raised = ("lease.grant", "-", r#""lease":"07","ttl":60"#);
        assert_eq!(expected, told("Lease/LeaseGrant", 0, raised));
        let disarmed = ("alarm.apply", "-", r#""disarm":1,"alarm":1,"answered":1"#);
        assert_eq!(expected, told("Maintenance/Alarm", 0, disarmed));
    }

    #[test]
    fn a_request_that_wrote_nothing_lists_no_transaction() {
        let unchanged = "\nstored\n  no row of its own: it changed nothing\n";
        let nothing = ("mvcc.write", "-", r#""revision.old":3,"revision.new":3,"operations":0"#);
        for (method, code) in
            [("KV/DeleteRange", 0), ("KV/Txn", 1), ("Lock/Unlock", 0), ("Election/Proclaim", 2)]
        {
            assert_eq!(unchanged, told(method, code, nothing));
        }
        let listed = ("alarm.apply", "-", r#""raise":0,"answered":2"#);
        assert_eq!(unchanged, told("Maintenance/Alarm", 0, listed));
        let disarmed = ("alarm.apply", "-", r#""disarm":1,"alarm":1,"answered":0"#);
        assert_eq!(unchanged, told("Maintenance/Alarm", 0, disarmed));
    }

    #[test]
    fn a_request_that_apply_refused_lists_no_transaction_whatever_its_code() {
        let refused = "\nstored\n  no row of its own: apply refused it\n";
        let write = ("mvcc.write", "reason", r#""revision.old":3,"revision.new":3"#);
        let entry = ("apply.entry", "reason", r#""term":2,"index":7,"applied.new":7"#);
        for code in [0, 1, 2, 4, 5] {
            assert_eq!(refused, told("Lock/Lock", code, write), "{code}");
            assert_eq!(refused, told("KV/Put", code, entry), "{code}");
        }
        assert_eq!(refused, told("KV/Compact", 11, ("admit", "-", "")));
    }

    #[test]
    fn a_request_without_a_step_of_its_writes_is_not_said_to_have_written() {
        let expected =
            format!("\nstored\n  whether it wrote a row was not captured\n{TRANSACTION}");
        assert_eq!(expected, told("KV/Put", 4, ("admit", "-", "")));
        let raised = ("alarm.apply", "-", r#""raise":1,"alarm":1,"answered":1"#);
        assert_eq!(expected, told("Maintenance/Alarm", 0, raised));
        assert_eq!(
            format!("\nstored\n{TRANSACTION}"),
            told("Cluster/MemberAdd", 0, ("admit", "-", ""))
        );
    }
}
