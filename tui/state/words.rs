//! Numbers as words: how a role, a message type, a duration or a key appears on the screen.
//!
//! Everything here is plain text. Words use a few characters beyond ASCII (`→ ≤ … µ`); the view
//! replaces them in ASCII mode. Text from the network (names, keys) is escaped first, so that a
//! client cannot send escape sequences to the reader's terminal.

mod upkeep;

use std::net::SocketAddr;

use glass_etcd::{
    change, field, fields,
    story::{
        Event, KeyText,
        query::{callers, method_of},
    },
    trace::{
        FLAG_CANCELLED, FLAG_ERROR, Kind, METHODS, Stage, Unit,
        message::{self, MESSAGES},
        value::{
            BRANCHES, CHANGES, OPERATORS, POOLS, STAGES, TARGETS, V2_ACTIONS, VALUE, WATCH_ENDS,
        },
    },
};

pub(crate) use super::text::duration;

/// A time before or after another, both in nanoseconds since 1970: `+1.2 ms`, `-40 µs`.
pub(crate) fn offset(at_ns: u64, zero_ns: u64) -> String {
    let sign = if at_ns < zero_ns { '-' } else { '+' };
    format!("{sign}{}", duration(at_ns.abs_diff(zero_ns)))
}
use super::{
    lanes::{Lane, name_of},
    story::{Moment, Step},
    text,
    voters::Standing,
};

/// gRPC's codes in words, by number.
const CODES: &[&str] = &[
    "ok",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// The raft message with this number.
fn message_name(number: u64) -> &'static str {
    pick(MESSAGES, number, "Msg?")
}

/// The RPC with this number.
pub(crate) fn method(number: u64) -> &'static str {
    pick(METHODS, number, "unknown")
}

/// The name of the gRPC code with this number.
pub(crate) fn code(number: u64) -> &'static str {
    pick(CODES, number, "unknown code")
}

/// The word for a role. The leader's is in capitals, so that it stands out without colour.
pub(crate) fn role(number: u64) -> &'static str {
    pick(&["follower", "candidate", "LEADER", "pre-candidate"], number, "unknown")
}

/// The word for the role that a member had before it went down or silent.
pub(crate) fn former_role(number: u64) -> &'static str {
    pick(&["was follower", "was candidate", "was leader", "was candidate"], number, "unknown")
}

/// The word for what a member is: its role, unless it only learns or is not of the cluster.
pub(crate) fn standing(standing: Option<Standing>, role: &'static str) -> &'static str {
    let word = standing.and_then(Standing::word);
    match (standing, word) {
        (Some(Standing::Removed), Some(word)) if role != "LEADER" => word,
        (_, Some(word)) if role == "follower" => word,
        _ => role,
    }
}

fn pick(names: &[&'static str], number: u64, otherwise: &'static str) -> &'static str {
    usize::try_from(number).ok().and_then(|at| names.get(at).copied()).unwrap_or(otherwise)
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

/// A key, escaped and cut to `width` characters. It ends in `…` also if only its start was
/// captured.
pub(crate) fn key(key: &KeyText, width: usize) -> String {
    let text = escaped(&key.bytes);
    let is_cut = u64::try_from(key.bytes.len()).is_ok_and(|length| length < key.length);
    cut(&if is_cut { text + "…" } else { text }, width)
}

/// Bytes as printable ASCII; everything else as `\x1b`. Quotes stay as they are.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    let shown = |byte: &u8| match byte {
        b'"' | b'\'' => char::from(*byte).to_string(),
        byte => byte.escape_ascii().to_string(),
    };
    bytes.iter().map(shown).collect()
}

/// As much of the beginning as fits into `width` columns; it ends in `…` if the text was cut.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text::width(text) <= width {
        return text.to_owned();
    }
    let mut short = text::beginning(text, width.saturating_sub(1)).to_owned();
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
        Unit::Stage => pick(&STAGES, number, "unknown").to_owned(),
        Unit::Target => pick(TARGETS, number, "unknown").to_owned(),
        Unit::Operator => pick(OPERATORS, number, "unknown").to_owned(),
        Unit::Branch => pick(BRANCHES, number, "unknown").to_owned(),
        Unit::WatchEnd => pick(WATCH_ENDS, number, "unknown").to_owned(),
        Unit::Pool => pick(POOLS, number, "unknown").to_owned(),
        Unit::Change => pick(CHANGES, number, "unknown").to_owned(),
        Unit::V2Action => pick(V2_ACTIONS, number, "unknown").to_owned(),
        Unit::Signed => number.cast_signed().to_string(),
        Unit::Id if number == 0 => "none".to_owned(),
        Unit::Id => format!("{number:016x}"),
    }
}

/// All fields of an event as `name value`, with `x.old` and `x.new` as one change. For a beginning,
/// only the fields that are set by then.
pub(crate) fn fields(event: &Event, lanes: &[Lane]) -> Vec<String> {
    if let Some(ends) = ends(event) {
        return ends.map(|(name, socket)| format!("{name} {socket}")).to_vec();
    }
    let is_begin = event.kind == Kind::Begin;
    let mut words = Vec::new();
    let mut before = None;
    for (field, number) in event.named() {
        let before = before.replace((field, number));
        if number == 0 && is_absent_at_zero(event, field.name) {
            continue;
        }
        let now =
            if is_begin && number == 0 { "?".to_owned() } else { value(field.unit, number, lanes) };
        if let Some(name) = field.name.strip_suffix(".new") {
            let old = before.filter(|(field, _)| field.name.ends_with(".old"));
            let old = old.map_or_else(String::new, |(field, number)| {
                value(field.unit, number, lanes) + " → "
            });
            words.push(format!("{name} {old}{now}"));
        } else if !(field.name.ends_with(".old") || (is_begin && number == 0)) {
            words.push(format!("{} {now}", field.name));
        }
    }
    words
}

/// The ends of a connection, which are six numbers in its record, by their names.
pub(crate) fn ends(event: &Event) -> Option<[(&'static str, SocketAddr); 2]> {
    callers::connection(event).map(|ends| [("from", ends.from()), ("to", ends.to())])
}

/// Whether this is the rpc of a whole stream, which has no request and no answer of its own.
fn is_stream(rpc: &Event) -> bool {
    method(field!(rpc, Rpc, method)).ends_with("(stream)")
}

/// Whether 0 means that the field is absent: all types of raft messages share one record format, of
/// which each uses a part; a commit is either counted or learned; most fsyncs write neither term
/// nor vote; most ranges ask for the newest revision and have no limit; and a wait of 0 was not
/// measured, because nothing was handed over. A step that failed has none of its results.
pub(crate) fn is_absent_at_zero(event: &Event, field: &str) -> bool {
    let has_failed = event.flags & (FLAG_ERROR | FLAG_CANCELLED) != 0 || event.result != 0;
    if has_failed && is_of_success(event.stage, field) {
        return true;
    }
    match event.stage {
        // No key space has revision 0: a failed call has none, and some calls have no header.
        // Its messages are counted by `stream.flow`.
        Stage::Rpc if is_stream(event) => ["revision", "bytes_in", "bytes_out"].contains(&field),
        Stage::Rpc => field == "revision",
        // A lease's keys are counted only if the client asks for them.
        Stage::LeaseRemaining | Stage::LeaseServe => field == "keys",
        Stage::MvccRange => ["asked", "limit", "more"].contains(&field),
        Stage::TreeIndexGet => ["visited", "again"].contains(&field),
        Stage::BufferGet | Stage::TxnBranch => field == "again",
        Stage::WatchQueue => ["created_by", "of_call"].contains(&field),
        // A record is about the one or the other, or about neither.
        Stage::StreamFlow => ["request", "write"].contains(&field),
        Stage::WatchCancel => ["watcher", "compacted"].contains(&field),
        // Earlier versions did not number the passes, or tell the sizes.
        Stage::WatchSync => field == "pass",
        Stage::QuotaCheck => ["adds", "in_use", "file"].contains(&field),
        Stage::LeaseGrant if field == "asked" => field!(event, LeaseGrant, raised) == 0,
        Stage::LeaseGrant => field == "raised",
        Stage::TxnCompare if field == "again" => true,
        // Values are not recorded.
        Stage::TxnCompare => {
            field!(event, TxnCompare, target) == VALUE && ["wanted", "found"].contains(&field)
        }
        Stage::RaftSend | Stage::RaftReceive => !["peer", "type"].contains(&field),
        Stage::RaftDrop => ["index", "last"].contains(&field),
        Stage::WalFsync => ["term", "vote"].contains(&field),
        Stage::RaftCommit => ["completed_by", "learned_from", "waited"].contains(&field),
        Stage::RaftInbox => ["queued", "waited", "from"].contains(&field),
        Stage::ReadIndexRound => ["answered", "woken", "before"].contains(&field),
        Stage::ElectionTimeout => field == "silent",
        _ => ["waited", "woken", "gathered"].contains(&field),
    }
}

/// Whether the field is a result, which a step has only if it succeeds.
fn is_of_success(stage: Stage, field: &str) -> bool {
    match stage {
        Stage::MvccRange => true,
        Stage::MvccHash => field != "asked",
        Stage::LeaseRemaining | Stage::LeaseServe => ["ttl", "granted"].contains(&field),
        Stage::LeaseRenew | Stage::LeaseForward => field == "ttl",
        Stage::LeaseRevoke => field == "keys",
        Stage::SessionGrant => field == "lease",
        Stage::LockWait => ["deleted", "by"].contains(&field),
        _ => false,
    }
}

/// The text of a step in its lane, in pieces: the stage, the one or two most important numbers, and
/// how long it took. Where there is no room, the last pieces are cut first.
pub(crate) fn step(step: &Step, lanes: &[Lane]) -> Vec<String> {
    let mut pieces = doing(step, lanes);
    if step.moment == Moment::Done && SAY_TOOK_FROM_NS <= step.event.took_ns {
        pieces.push(duration(step.event.took_ns));
    }
    pieces
}

/// The text of a step without how long it took.
pub(crate) fn doing(step: &Step, lanes: &[Lane]) -> Vec<String> {
    let event = &step.event;
    if step.moment == Moment::Begin {
        return begin(event);
    }
    let mut pieces = vec![short_name(event)];
    pieces.extend(detail(event, lanes));
    pieces.extend(other_member(event, lanes));
    if let Some(reason) = event.reason {
        pieces.push(reason.text().to_owned());
    } else if event.result != 0 {
        pieces.push(code(u64::from(event.result)).to_owned());
    } else if event.flags & FLAG_ERROR != 0 {
        pieces.push("fails".to_owned());
    }
    pieces
}

/// The other member that the step concerns, if it is no message's peer.
fn other_member(event: &Event, lanes: &[Lane]) -> Option<String> {
    match event.stage {
        Stage::RaftProgress => {
            Some(format!("of {}", name_of(lanes, field!(event, RaftProgress, peer))))
        }
        Stage::ElectionVote => {
            Some(format!("for {}", name_of(lanes, field!(event, ElectionVote, candidate))))
        }
        Stage::MembersCheck | Stage::MembersChange => {
            let member = field!(event, MembersCheck | MembersChange, subject);
            Some(name_of(lanes, member))
        }
        Stage::RaftDrop | Stage::RaftLink => {
            let peer = field!(event, RaftDrop | RaftLink, peer);
            Some(format!("peer {}", name_of(lanes, peer)))
        }
        _ => None,
    }
}

/// The longest key in a row.
const KEY_MAX: usize = 88;

/// Shorter durations are not shown in a lane; the why panel shows them.
const SAY_TOOK_FROM_NS: u64 = 50_000;

fn begin(event: &Event) -> Vec<String> {
    let name = event.stage.name();
    match event.stage {
        Stage::Rpc => {
            let key = event.key.as_ref().map(|text| key(text, KEY_MAX));
            [format!("rpc {}", method_of(event))].into_iter().chain(key).collect()
        }
        Stage::RaftPropose
        | Stage::ReadIndexWait
        | Stage::ReadIndexRound
        | Stage::AnswerRoom
        | Stage::ReadQueue => vec![name.to_owned()],
        Stage::LockWait => vec![name.to_owned(), waits_for(event)],
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
        Stage::AnswerRoom => "answer.room done".to_owned(),
        Stage::ReadQueue => "read.queue done".to_owned(),
        Stage::RaftSend | Stage::RaftReceive => {
            message_name(field!(event, RaftSend | RaftReceive, type)).to_owned()
        }
        Stage::RaftRole => "becomes".to_owned(),
        stage => stage.name().to_owned(),
    }
}

/// The most important numbers.
fn detail(event: &Event, lanes: &[Lane]) -> Option<String> {
    Some(match event.stage {
        Stage::Rpc => match field!(event, Rpc, revision) {
            revision if event.result == 0 && revision != 0 => format!("rev {revision}"),
            _ => return None,
        },
        Stage::RpcValidate => match field!(event, RpcValidate, operations) {
            0 => return None,
            operations => format!("{operations} op"),
        },
        Stage::MvccWrite => format!("rev {}", arrow(change!(event, MvccWrite, revision))),
        Stage::TreeIndexPut | Stage::TreeIndexTombstone => {
            braced(fields!(event, TreeIndexPut | TreeIndexTombstone: main, sub))
        }
        Stage::TreeIndexGet => braced(fields!(event, TreeIndexGet: main, sub)),
        Stage::BufferPut => arrow(change!(event, BufferPut, length)),
        Stage::BufferFreeze => format!("{} rows", field!(event, BufferFreeze, length)),
        Stage::BackendCommit => format!("≤{}", field!(event, BackendCommit, index_new)),
        Stage::MvccRange if event.flags & FLAG_ERROR != 0 => return None,
        Stage::MvccRange => {
            let [revision, keys] = fields!(event, MvccRange: revision, keys);
            format!("rev {revision}, {keys} keys")
        }
        Stage::BufferGet => {
            let [active, frozen] = fields!(event, BufferGet: active, frozen);
            format!("{} hits", active.saturating_add(frozen))
        }
        Stage::BackendGet => format!("{} rows", field!(event, BackendGet, file)),
        Stage::AnswerRoom => format!("{} MiB unread", field!(event, AnswerRoom, in_flight) >> 20),
        Stage::ReadQueue => format!("{} ahead", field!(event, ReadQueue, ahead)),
        Stage::AnswerPiece => format!("{} rows again", field!(event, AnswerPiece, rows)),
        Stage::GatewayDecode => format!("{} B of JSON", field!(event, GatewayDecode, json)),
        Stage::GatewayEncode => format!("{} B of JSON", field!(event, GatewayEncode, json)),
        Stage::Lost => format!("{} records", field!(event, Lost, records)),
        Stage::TxnCompare => match fields!(event, TxnCompare: target, holds) {
            [target, 0] => format!("{} no", pick(TARGETS, target, "unknown")),
            [target, _] => format!("{} yes", pick(TARGETS, target, "unknown")),
        },
        Stage::WatchCancel => {
            pick(WATCH_ENDS, field!(event, WatchCancel, why), "unknown").to_owned()
        }
        Stage::TxnBranch => pick(BRANCHES, field!(event, TxnBranch, branch), "unknown").to_owned(),
        _ => return log_detail(event, lanes),
    })
}

/// The progress of the log, its copies and the state machine.
fn log_detail(event: &Event, lanes: &[Lane]) -> Option<String> {
    Some(match event.stage {
        Stage::RaftEntry => {
            let [term, index] = fields!(event, RaftEntry: term, index);
            format!("{term}/{index}")
        }
        Stage::RaftSend | Stage::RaftReceive => return message_detail(event),
        Stage::RaftDrop => {
            let [kind, cut] = fields!(event, RaftDrop: type, cut);
            let why = if cut != 0 { ", link cut" } else { "" };
            format!("{}{why}", message_name(kind))
        }
        Stage::RaftLink if field!(event, RaftLink, cut_new) != 0 => "cut".to_owned(),
        Stage::RaftLink => "healed".to_owned(),
        Stage::WalWrite => match field!(event, WalWrite, last) {
            0 => return None,
            last => format!("≤{last}"),
        },
        Stage::WalFsync => match fields!(event, WalFsync: last, vote) {
            [0, 0] => return None,
            [0, vote] => format!("vote {}", name_of(lanes, vote)),
            [last, _] => format!("≤{last}"),
        },
        Stage::MembersCheck | Stage::MembersChange => {
            let change = field!(event, MembersCheck | MembersChange, change);
            pick(CHANGES, change, "unknown").to_owned()
        }
        Stage::RaftProgress => arrow(change!(event, RaftProgress, match)),
        Stage::RaftStable => arrow(change!(event, RaftStable, stable)),
        Stage::RaftCommit => arrow(change!(event, RaftCommit, commit)),
        Stage::ApplyEntry => field!(event, ApplyEntry, index).to_string(),
        Stage::ReadIndexRound => format!("index {}", field!(event, ReadIndexRound, index)),
        Stage::ReadIndexConfirmed => field!(event, ReadIndexConfirmed, index).to_string(),
        Stage::ReadWaitApplied => {
            let [index, applied] = fields!(event, ReadWaitApplied: index, applied);
            format!("{index}≤{applied}")
        }
        _ => return election_detail(event),
    })
}

fn arrow([old, new]: [u64; 2]) -> String {
    format!("{old}→{new}")
}

/// A revision in the notation of etcd's index.
fn braced([main, sub]: [u64; 2]) -> String {
    format!("{{{main},{sub}}}")
}

fn election_detail(event: &Event) -> Option<String> {
    Some(match event.stage {
        Stage::ElectionCampaign => match field!(event, ElectionCampaign, pre) {
            0 => arrow(change!(event, ElectionCampaign, term)),
            _ => "pre".to_owned(),
        },
        Stage::ElectionVote => match field!(event, ElectionVote, granted) {
            0 => "no".to_owned(),
            _ => "yes".to_owned(),
        },
        Stage::ElectionTally => {
            let [in_favour, against] = fields!(event, ElectionTally: in_favour, against);
            format!("{in_favour} to {against}")
        }
        Stage::RaftRole => {
            let [number, term] = fields!(event, RaftRole: role_new, term_new);
            format!("{} t{term}", role(number))
        }
        _ => return lock_detail(event),
    })
}

/// The queue of a lock: keys are named by the revision that created them.
fn lock_detail(event: &Event) -> Option<String> {
    Some(match event.stage {
        Stage::LockEnter => match fields!(event, LockEnter: own, first) {
            [own, first] if own == first => format!("own {own}, first"),
            [own, first] => format!("own {own} behind {first}"),
        },
        Stage::LockWait => match fields!(event, LockWait: before, deleted) {
            [_, 0] => waits_for(event),
            [before, deleted] => format!("{before} deleted at {deleted}"),
        },
        Stage::LockAcquired | Stage::LockRelease => {
            format!("own {}", field!(event, LockAcquired | LockRelease, own))
        }
        Stage::ObserveLeader => match change!(event, ObserveLeader, leader) {
            [old, new] if old == new => {
                format!("{new} at {}", field!(event, ObserveLeader, revision))
            }
            leader => arrow(leader),
        },
        _ => return upkeep::detail(event),
    })
}

fn waits_for(event: &Event) -> String {
    let [before, ahead] = fields!(event, LockWait: before, ahead);
    format!("for {before}, {ahead} ahead")
}

/// The content of a raft message: its last entry, or the index that it acknowledges or announces.
fn message_detail(event: &Event) -> Option<String> {
    let [number, term, index, last, commit, reject] =
        fields!(event, RaftSend | RaftReceive: type, term, index, last, commit, reject);
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
        assert_eq!(escaped(b"\"quoted\" 'too' \\"), "\"quoted\" 'too' \\\\");
        assert_eq!((cut("漢字漢字", 5), cut("漢字", 4)), ("漢字…".to_owned(), "漢字".to_owned()));
    }

    #[test]
    fn a_key_that_was_cut_says_so() {
        let text = KeyText { bytes: b"abc".to_vec(), length: 90 };
        assert_eq!(key(&text, 10), "abc…");
        assert_eq!(key(&text, 3), "ab…");
    }

    #[test]
    fn a_result_that_a_failed_step_does_not_have_is_not_shown_as_zero() {
        for (stage, failed, succeeded) in [
            (Stage::MvccHash, "asked", "asked revision compacted rows"),
            (Stage::LeaseRenew, "lease forwarded", "lease ttl forwarded"),
            (Stage::LeaseForward, "lease leader", "lease leader ttl"),
            (Stage::LeaseRevoke, "lease", "lease keys"),
            (Stage::SessionGrant, "ttl request", "lease ttl request"),
            (Stage::LockWait, "own before ahead", "own before ahead deleted by"),
            (Stage::MvccRange, "", "revision keys bytes total"),
        ] {
            let step = Event { kind: Kind::Span, ..Event::mark(0, stage, 1) };
            assert_eq!(succeeded, shown(&step), "{stage:?}");
            assert_eq!(failed, shown(&Event { flags: FLAG_ERROR, ..step }), "{stage:?}");
        }
    }

    #[test]
    fn keys_that_nobody_asked_for_and_a_revision_that_is_not_there_are_not_shown_as_zero() {
        for (stage, expected) in [
            (Stage::LeaseRemaining, "lease ttl granted forwarded"),
            (Stage::LeaseServe, "lease from renews ttl"),
            (Stage::Rpc, "method bytes_in bytes_out code"),
        ] {
            let step = Event { kind: Kind::Span, ..Event::mark(0, stage, 1) };
            assert_eq!(expected, shown(&step), "{stage:?}");
        }
    }

    /// The names of the fields that are shown of a step whose numbers are all 0.
    fn shown(step: &Event) -> String {
        let shown = fields(step, &[]);
        let names = shown.iter().filter_map(|field| field.split(' ').next());
        names.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn numbers_out_of_the_tables_are_named_unknown() {
        assert_eq!(message_name(99), "Msg?");
        assert_eq!(role(9), "unknown");
        assert_eq!(code(u64::MAX), "unknown code");
    }
}
