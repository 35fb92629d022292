//! Numbers for readers: fields by name, with their units, old and new value together.

use crate::state::words::{code as name_of_code, ends, is_absent_at_zero};
use glass_etcd::{
    story::{
        Event, MemberInfo, name_of,
        query::{Flow, Outcome, path::Wait},
    },
    trace::{
        FLAG_ERROR, Field, METHODS, Unit,
        message::MESSAGES,
        value::{
            BRANCHES, CHANGES, OPERATORS, POOLS, ROLES, STAGES, TARGETS, V2_ACTIONS, WATCH_ENDS,
        },
    },
};

/// The event's fields, as `commit 41→42 peer=etcd-02`. For a beginning, only those known already;
/// for a message, only those that its type uses.
pub(crate) fn fields(event: &Event, members: &[MemberInfo]) -> String {
    if let Some(ends) = ends(event) {
        return ends.map(|(name, socket)| format!("{name}={socket}")).join(" ");
    }
    let is_begin = event.kind == glass_etcd::trace::Kind::Begin;
    let mut words = Vec::new();
    let mut before = None;
    for (field, number) in event.named() {
        let before = before.replace((field, number));
        if number == 0 && (is_begin || is_absent_at_zero(event, field.name)) {
            continue;
        }
        if let Some(name) = field.name.strip_suffix(".new")
            && let Some((old_field, old)) = before
            && old_field.name.strip_suffix(".old") == Some(name)
        {
            let old = value(old_field, old, members);
            let new = value(field, number, members);
            words.push(if old == new {
                format!("{name}={new}")
            } else {
                format!("{name} {old}→{new}")
            });
        } else if !field.name.ends_with(".old") {
            words.push(format!("{}={}", field.name, value(field, number, members)));
        }
    }
    words.join(" ")
}

/// `1 message`, `2 messages`.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// What has come through a stream: `3 messages received, 20 sent, 17 events`.
pub(crate) fn flow(flow: Flow) -> String {
    let received = count(flow.received, "message", "messages");
    let events = count(flow.events, "event", "events");
    format!("{received} received, {} sent, {events}", flow.sent)
}

/// One value in its unit.
pub(crate) fn value(field: &Field, number: u64, members: &[MemberInfo]) -> String {
    let named = |names: &[&str]| {
        let name = usize::try_from(number).ok().and_then(|at| names.get(at));
        name.map_or_else(|| number.to_string(), |name| (*name).to_owned())
    };
    match field.unit {
        Unit::Member => member(number, members),
        Unit::Id if number == 0 => "none".to_owned(),
        Unit::Id => format!("{number:016x}"),
        Unit::Method => named(METHODS),
        Unit::Message => named(MESSAGES),
        Unit::Role => named(ROLES),
        Unit::Stage => named(&STAGES),
        Unit::Target => named(TARGETS),
        Unit::Operator => named(OPERATORS),
        Unit::Branch => named(BRANCHES),
        Unit::WatchEnd => named(WATCH_ENDS),
        Unit::Pool => named(POOLS),
        Unit::Change => named(CHANGES),
        Unit::V2Action => named(V2_ACTIONS),
        Unit::Signed => number.cast_signed().to_string(),
        Unit::Flag => (if number == 0 { "no" } else { "yes" }).to_owned(),
        Unit::Bytes => format!("{number}B"),
        Unit::Nanos => millis(i128::from(number)),
        Unit::Count | Unit::Index | Unit::Term | Unit::Revision => number.to_string(),
    }
}

/// A member's name if known, otherwise its id.
pub(crate) fn member(member_id: u64, members: &[MemberInfo]) -> String {
    if member_id == 0 {
        return "none".to_owned();
    }
    let known = name_of(members, member_id);
    known.map_or_else(|| format!("{member_id:016x}"), str::to_owned)
}

/// The name of the member at a position.
pub(crate) fn name(place: u8, members: &[MemberInfo]) -> &str {
    members.get(usize::from(place)).map_or("unknown", |member| &member.name)
}

/// The member that is waited for, if it is one.
pub(crate) fn waited_for(wait: Wait, place: u8, members: &[MemberInfo]) -> &str {
    if wait.is_for_member() { name(place, members) } else { "-" }
}

/// Nanoseconds as `1.234 ms`.
pub(crate) fn millis(ns: i128) -> String {
    let micros = ns.unsigned_abs() / 1000;
    // Less than a microsecond is shown as none, and none has no sign.
    let sign = if ns < 0 && micros != 0 { "-" } else { "" };
    format!("{sign}{}.{:03} ms", micros / 1000, micros % 1000)
}

/// A share, as `40.7 %`.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    let share = u128::from(part) * 1000 / u128::from(whole.max(1));
    format!("{}.{} %", share / 10, share % 10)
}

/// Nanoseconds since 1970 as the time of day, UTC.
pub(crate) fn time_of_day(ns: i128) -> String {
    let micros = ns.max(0) / 1000;
    let seconds = micros / 1_000_000 % 86_400;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{:06}", seconds % 60, micros % 1_000_000)
}

/// How a step failed: its gRPC code, if it has one, and the reason. `None` if it did not fail.
pub(crate) fn failure(event: &Event) -> Option<String> {
    let reason = event.reason.map(|reason| reason.text().to_owned());
    match (event.result, reason) {
        (0, None) if event.flags & FLAG_ERROR != 0 => {
            Some("failed, for no recorded reason".to_owned())
        }
        (0, reason) => reason,
        (result, None) => Some(code(result).to_owned()),
        (result, Some(reason)) => Some(format!("{}: {reason}", code(result))),
    }
}

/// A request's outcome: `ok`, the name of its gRPC code, `open`, and so on.
pub(crate) fn outcome(outcome: Option<Outcome>) -> &'static str {
    match outcome {
        Some(Outcome::Code(number)) => code(number),
        Some(Outcome::Refused(why)) => why,
        Some(Outcome::Open) => "open",
        Some(Outcome::Unknown) => "unknown",
        Some(Outcome::NotFinished) => "not finished",
        None => "not captured",
    }
}

/// The name of a gRPC code; `ok` for success.
pub(crate) fn code(number: u8) -> &'static str {
    name_of_code(u64::from(number))
}

#[cfg(test)]
mod tests {
    use glass_etcd::{
        numbers, set,
        trace::{Reason, Stage},
    };

    use super::*;

    #[test]
    fn a_time_that_is_shown_as_none_has_no_sign() {
        let said = [0, 999, -999, -1_000, -1_500_000].map(millis);
        assert_eq!(said, ["0.000 ms", "0.000 ms", "0.000 ms", "-0.001 ms", "-1.500 ms"]);
    }

    #[test]
    fn a_failure_says_its_code_and_its_reason_as_far_as_they_are_recorded() {
        let of = |result, flags, reason| {
            failure(&Event { result, flags, reason, ..Event::mark(0, Stage::Rpc, 1) })
        };
        let lease = Some(Reason::LeaseNotFound);
        assert_eq!(None, of(0, 0, None));
        assert_eq!(Some("requested lease not found"), of(0, FLAG_ERROR, lease).as_deref());
        assert_eq!(
            Some("NotFound: requested lease not found"),
            of(5, FLAG_ERROR, lease).as_deref()
        );
        assert_eq!(Some("Canceled"), of(1, 4, None).as_deref());
        let unknown = of(0, FLAG_ERROR, None);
        assert_eq!(Some("failed, for no recorded reason"), unknown.as_deref());
    }

    /// Goal: a question that its client has cancelled tells no time to live, and one that was
    /// answered does.
    #[test]
    fn a_step_that_was_cancelled_has_no_result() {
        let asked = |result: u8| {
            let event = Event {
                kind: glass_etcd::trace::Kind::Span,
                fields: numbers!(LeaseRemaining, lease = 0x7777, ttl = 0, forwarded = 1),
                result,
                ..Event::mark(0, Stage::LeaseRemaining, 1)
            };
            fields(&event, &[])
        };
        assert_eq!("lease=0000000000007777 forwarded=yes", asked(1));
        assert!(asked(0).contains(" ttl=0 "), "{}", asked(0));
    }

    #[test]
    fn an_id_of_none_is_not_a_number() {
        let detached = Event {
            fields: numbers!(LeaseAttach, lease_old = 7),
            ..Event::mark(0, Stage::LeaseAttach, 1)
        };
        assert_eq!("lease 0000000000000007→none", fields(&detached, &[]));
    }

    #[test]
    fn the_rpc_of_a_stream_has_no_bytes_of_its_own() {
        let of = |method: u64| {
            let fields = numbers!(Rpc, method = method);
            self::fields(&Event { fields, ..Event::mark(0, Stage::Rpc, 1) }, &[])
        };
        assert_eq!("method=Watch/Watch(stream) code=0", of(63));
        assert_eq!("method=KV/Put bytes_in=0B bytes_out=0B code=0", of(2));
    }

    #[test]
    fn times_are_read_as_times() {
        assert_eq!(["0.001 ms", "12.345 ms", "-0.002 ms"], [1_999, 12_345_678, -2_000].map(millis));
        assert_eq!("01:02:03.000004", time_of_day(86_400_000_000_000 + 3_723_000_004_999));
    }

    #[test]
    fn old_and_new_stand_together_and_members_have_names() {
        let mut event = Event {
            fields: numbers!(
                RaftCommit,
                term = 3,
                commit_old = 41,
                commit_new = 42,
                completed_by = 7
            ),
            ..Event::mark(0, Stage::RaftCommit, 1)
        };
        let members = [MemberInfo {
            member_id: 7,
            cluster_id: 1,
            name: "etcd-02".to_owned(),
            version: String::new(),
            boots: vec![],
            members: vec![(8, "etcd-03".to_owned()), (9, String::new())],
        }];
        assert_eq!(["etcd-02", "etcd-03"], [7, 8].map(|id| member(id, &members)));
        assert_eq!("0000000000000009", member(9, &members), "its name is not known");

        assert_eq!("term=3 commit 41→42 completed_by=etcd-02", fields(&event, &members));
        set!(event, RaftCommit, completed_by = 0x2a_u64);
        assert_eq!("term=3 commit 41→42 completed_by=000000000000002a", fields(&event, &members));
        set!(event, RaftCommit, commit_old = 42_u64);
        assert!(fields(&event, &members).starts_with("term=3 commit=42 "));
    }
}
