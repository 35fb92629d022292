//! Numbers as words: what a role, a message type, a duration or a key looks like on the screen.
//!
//! Everything here is plain text. Words use a few characters beyond ASCII (`→ ≤ … µ`); the view
//! replaces them when it is told to keep to ASCII. What comes from the network (names, keys) is
//! escaped first, so that nobody can write escape sequences into somebody else's terminal.

use glass_etcd::trace::{
    Event, KeyText, Kind, METHODS, Stage, Unit,
    message::{self, MESSAGES},
    query::method_of,
};

use super::{
    lanes::{Lane, name_of},
    story::{Moment, Step},
};

/// gRPC's codes in words, by number.
const CODES: &[&str] = &[
    "ok",
    "cancelled",
    "unknown error",
    "invalid argument",
    "deadline exceeded",
    "not found",
    "already exists",
    "permission denied",
    "resource exhausted",
    "failed precondition",
    "aborted",
    "out of range",
    "unimplemented",
    "internal",
    "unavailable",
    "data loss",
    "unauthenticated",
];

/// The raft message with this number.
fn message_name(number: u64) -> &'static str {
    pick(MESSAGES, number, "Msg?")
}

/// The RPC with this number.
fn method(number: u64) -> &'static str {
    pick(METHODS, number, "unknown")
}

/// The gRPC code with this number, in words.
pub(crate) fn code(number: u64) -> &'static str {
    pick(CODES, number, "unknown error")
}

/// The word for a role. The leader's is in capitals, so that it is found without colour.
pub(crate) fn role(number: u64) -> &'static str {
    pick(&["follower", "candidate", "LEADER", "pre-candidate"], number, "unknown")
}

fn pick(names: &[&'static str], number: u64, otherwise: &'static str) -> &'static str {
    usize::try_from(number).ok().and_then(|at| names.get(at).copied()).unwrap_or(otherwise)
}

/// A duration with a unit that fits it: `870 ns`, `12 µs`, `1.2 ms`, `3.4 s`.
pub(crate) fn duration(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{} µs", ns / 1_000),
        1_000_000..100_000_000 => format!("{}.{} ms", ns / 1_000_000, ns / 100_000 % 10),
        100_000_000..1_000_000_000 => format!("{} ms", ns / 1_000_000),
        _ => format!("{}.{} s", ns / 1_000_000_000, ns / 100_000_000 % 10),
    }
}

/// A count in groups of three: `20 113`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at != 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}

/// Time of day, UTC, for nanoseconds since 1970.
pub(crate) fn time_of_day(wall_ns: u64) -> String {
    let ms = wall_ns / 1_000_000;
    let seconds = ms / 1_000 % 86_400;
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{hour:02}:{minute:02}:{second:02}.{:03}", ms % 1_000)
}

/// A key, escaped and cut to `width` characters. A key of which only the start was captured also
/// ends in `…`.
pub(crate) fn key(key: &KeyText, width: usize) -> String {
    let text = escaped(&key.bytes);
    let is_cut = u64::try_from(key.bytes.len()).is_ok_and(|length| length < key.length);
    cut(&if is_cut { text + "…" } else { text }, width)
}

/// Bytes as printable ASCII; everything else as `\x1b`.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// Text from elsewhere, without anything that a terminal would obey.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// The first `width` characters; the last of them is `…` when something was cut.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    if 0 < width {
        short.push('…');
    }
    short
}

/// A field's number in its unit.
pub(crate) fn value(unit: Unit, number: u64, lanes: &[Lane]) -> String {
    match unit {
        Unit::Count | Unit::Index | Unit::Term | Unit::Revision => number.to_string(),
        Unit::Bytes => format!("{} B", count(number)),
        Unit::Nanos => duration(number),
        Unit::Member if number == 0 => "none".to_owned(),
        Unit::Member => name_of(lanes, number),
        Unit::Flag => if number == 0 { "no" } else { "yes" }.to_owned(),
        Unit::Method => method(number).to_owned(),
        Unit::Message => message_name(number).to_owned(),
        Unit::Role => role(number).to_owned(),
        Unit::Id => format!("{number:016x}"),
    }
}

/// All fields of an event as `name value`, with `x.old` and `x.new` as one change. Of a beginning
/// only what is known by then: the rest of its fields is not set yet.
pub(crate) fn fields(event: &Event, lanes: &[Lane]) -> Vec<String> {
    let fields = event.stage.fields();
    let is_begin = event.kind == Kind::Begin;
    let mut words = Vec::new();
    for (at, field) in fields.iter().enumerate() {
        let number = event.fields[at];
        let now =
            if is_begin && number == 0 { "?".to_owned() } else { value(field.unit, number, lanes) };
        if let Some(name) = field.name.strip_suffix(".new") {
            let before = at.checked_sub(1).filter(|old| fields[*old].name.ends_with(".old"));
            let old = before.map_or_else(String::new, |old| {
                value(fields[old].unit, event.fields[old], lanes) + " → "
            });
            words.push(format!("{name} {old}{now}"));
        } else if !(field.name.ends_with(".old") || (is_begin && number == 0)) {
            words.push(format!("{} {now}", field.name));
        }
    }
    words
}

/// What a step says in its lane, in pieces: the stage, the one or two numbers that matter most, and
/// how long it took. Where there is no room, the last pieces go first.
pub(crate) fn step(step: &Step, lanes: &[Lane]) -> Vec<String> {
    let event = &step.event;
    if step.moment == Moment::Begin {
        return begin(event);
    }
    let mut pieces = vec![short_name(event)];
    pieces.extend(detail(event, lanes));
    pieces.extend(about_whom(event, lanes));
    if event.result != 0 {
        pieces.push(code(u64::from(event.result)).to_owned());
    }
    if SAY_TOOK_FROM_NS <= event.took_ns {
        pieces.push(duration(event.took_ns));
    }
    pieces
}

/// The other member that the step is about, where that is no message's peer.
fn about_whom(event: &Event, lanes: &[Lane]) -> Option<String> {
    match event.stage {
        Stage::RaftProgress => Some(format!("of {}", name_of(lanes, event.fields[0]))),
        Stage::ElectionVote => Some(format!("for {}", name_of(lanes, event.fields[0]))),
        _ => None,
    }
}

/// What is shorter than this is not said in a lane; the why panel has it.
const SAY_TOOK_FROM_NS: u64 = 50_000;

fn begin(event: &Event) -> Vec<String> {
    let name = event.stage.name();
    match event.stage {
        Stage::Rpc => {
            let key = event.key.as_ref().map(|text| key(text, 24));
            [format!("rpc {}", method_of(event))].into_iter().chain(key).collect()
        }
        Stage::RaftPropose | Stage::ReadIndexWait | Stage::ReadIndexRound => vec![name.to_owned()],
        Stage::LockWait => vec![name.to_owned(), waits_for(&event.fields)],
        _ => vec![format!("{name} begins")],
    }
}

fn short_name(event: &Event) -> String {
    match event.stage {
        Stage::Rpc if event.result == 0 => "rpc answers".to_owned(),
        Stage::Rpc => "rpc fails".to_owned(),
        Stage::RaftPropose => "raft.propose done".to_owned(),
        Stage::ReadIndexWait => "read_index.wait done".to_owned(),
        Stage::ReadIndexRound => "read_index.round done".to_owned(),
        Stage::LockWait => "lock.wait done".to_owned(),
        Stage::RaftSend | Stage::RaftReceive => message_name(event.fields[1]).to_owned(),
        Stage::RaftRole => "becomes".to_owned(),
        stage => stage.name().to_owned(),
    }
}

/// The numbers that matter most.
fn detail(event: &Event, lanes: &[Lane]) -> Option<String> {
    let f = &event.fields;
    Some(match event.stage {
        Stage::Rpc if event.result == 0 && f[3] != 0 => format!("rev {}", f[3]),
        Stage::RpcValidate if f[0] != 0 => format!("{} op", f[0]),
        Stage::RaftEntry => format!("{}/{}", f[0], f[1]),
        Stage::RaftSend | Stage::RaftReceive => return message_detail(f),
        Stage::WalWrite | Stage::WalFsync if f[1] != 0 => format!("≤{}", f[1]),
        Stage::WalFsync if f[6] != 0 => format!("vote {}", name_of(lanes, f[6])),
        Stage::RaftProgress => format!("{}→{}", f[1], f[2]),
        Stage::RaftCommit => format!("{}→{}", f[1], f[2]),
        Stage::ApplyEntry => f[1].to_string(),
        Stage::MvccWrite => format!("rev {}→{}", f[0], f[1]),
        Stage::TreeIndexPut | Stage::TreeIndexTombstone => format!("{{{},{}}}", f[0], f[1]),
        Stage::BufferPut => format!("{}→{}", f[0], f[1]),
        Stage::BufferFreeze => format!("{} rows", f[0]),
        Stage::BackendCommit => format!("≤{}", f[1]),
        Stage::MvccRange => format!("rev {}, {} keys", f[0], f[1]),
        Stage::TreeIndexGet => format!("{{{},{}}}", f[1], f[2]),
        Stage::BufferGet => format!("{} hits", f[0].saturating_add(f[1])),
        Stage::BackendGet => format!("{} rows", f[0]),
        Stage::AnswerRoom => format!("{} MiB", f[1] >> 20),
        Stage::AnswerPiece => format!("{} rows", f[1]),
        Stage::ReadIndexRound => format!("index {}", f[2]),
        Stage::ReadIndexConfirmed => f[0].to_string(),
        Stage::ReadWaitApplied => format!("{}≤{}", f[0], f[1]),
        Stage::Lost => format!("{} records", f[2]),
        _ => return election_detail(event),
    })
}

fn election_detail(event: &Event) -> Option<String> {
    let f = &event.fields;
    Some(match event.stage {
        Stage::ElectionCampaign if f[0] != 0 => "pre".to_owned(),
        Stage::ElectionCampaign => format!("{}→{}", f[1], f[2]),
        Stage::ElectionVote if f[1] == 0 => "no".to_owned(),
        Stage::ElectionVote => "yes".to_owned(),
        Stage::ElectionTally => format!("{} to {}", f[3], f[4]),
        Stage::RaftRole => format!("{} t{}", role(f[1]), f[3]),
        _ => return lock_detail(event),
    })
}

/// The queue of a lock: keys are named by the revision that created them.
fn lock_detail(event: &Event) -> Option<String> {
    let f = &event.fields;
    Some(match event.stage {
        Stage::LockEnter if f[0] == f[1] => format!("own {}, first", f[0]),
        Stage::LockEnter => format!("own {} behind {}", f[0], f[1]),
        Stage::LockWait if f[3] != 0 => format!("{} deleted at {}", f[1], f[3]),
        Stage::LockWait => waits_for(f),
        Stage::LockAcquired | Stage::LockRelease => format!("own {}", f[0]),
        Stage::ObserveLeader if f[0] == f[1] => format!("{} at {}", f[1], f[2]),
        Stage::ObserveLeader => format!("{}→{}", f[0], f[1]),
        _ => return None,
    })
}

fn waits_for(f: &[u64; 8]) -> String {
    format!("for {}, {} ahead", f[1], f[2])
}

/// What a raft message is about: its last entry, or what it acknowledges or tells.
fn message_detail(f: &[u64; 8]) -> Option<String> {
    let (number, term, index, last, commit, reject) = (f[1], f[2], f[3], f[4], f[5], f[6]);
    Some(match number {
        _ if reject != 0 => "reject".to_owned(),
        message::APP if index < last => last.to_string(),
        message::APP | message::HEARTBEAT if commit != 0 => format!("c{commit}"),
        message::APP_RESP | message::READ_INDEX_RESP => index.to_string(),
        message::VOTE | message::PRE_VOTE | message::VOTE_RESP | message::PRE_VOTE_RESP => {
            format!("t{term}")
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_choose_a_unit_that_fits() {
        let said = [870, 12_345, 1_234_567, 123_456_789, 3_456_000_000].map(duration);
        assert_eq!(said, ["870 ns", "12 µs", "1.2 ms", "123 ms", "3.4 s"]);
    }

    #[test]
    fn counts_are_grouped_by_three() {
        assert_eq!([7, 999, 20_113, 1_234_567].map(count), ["7", "999", "20 113", "1 234 567"]);
    }

    #[test]
    fn a_key_cannot_command_the_terminal() {
        let text = KeyText { bytes: b"a\x1b[2Jb".to_vec(), length: 6 };
        assert_eq!(key(&text, 40), "a\\x1b[2Jb");
        assert_eq!(clean("n\x1b[1m1"), "n?[1m1");
    }

    #[test]
    fn a_key_that_was_cut_says_so() {
        let text = KeyText { bytes: b"abc".to_vec(), length: 90 };
        assert_eq!(key(&text, 10), "abc…");
        assert_eq!(key(&text, 3), "ab…");
    }

    #[test]
    fn numbers_out_of_the_tables_are_named_unknown() {
        assert_eq!(message_name(99), "Msg?");
        assert_eq!(role(9), "unknown");
        assert_eq!(code(u64::MAX), "unknown error");
    }
}
