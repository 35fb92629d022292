//! The numbers of a record as text, for recordings, log lines and exports.
//!
//! A field is a number with a [`Unit`]. Methods, messages and roles have names, and are written by
//! them; ids are sixteen hex digits; everything else stays a number. Recordings are read back by
//! the same tables, so each of them is append-only.

use serde_json::Value;

use super::{
    message::MESSAGES,
    record::{FLAG_CANCELLED, FLAG_ERROR, FLAG_NOISE, FLAG_REPLAY},
    record::{FLAG_CUT, FLAG_KEPT},
    stage::{Field, METHODS, Stage, Unit},
};

/// Names of roles, by number.
pub const ROLES: &[&str] = &["follower", "candidate", "leader", "pre-candidate"];
/// Names of what a comparison looks at, by etcd's number, in the words of etcdctl.
pub const TARGETS: &[&str] = &["version", "create", "mod", "value", "lease"];
/// The number of the target that is a key's value.
pub const VALUE: u64 = 3;
/// Names of the operators of comparisons, by etcd's number.
pub const OPERATORS: &[&str] = &["equal", "greater", "less", "not equal"];
/// Names of the two lists of operations that a transaction has.
pub const BRANCHES: &[&str] = &["failure", "success"];
/// Why a watcher ended. New reasons go to the end.
pub const WATCH_ENDS: &[&str] = &[
    "unknown",
    "the client cancelled it",
    "its next revision is compacted",
    "there is no leader",
    "the stream ended",
    "the client reset the stream",
    "its id is taken",
    "its range is empty",
    "its start is below zero",
    "the member stops",
];
/// What blocking threads do, a bounded number of each at a time. Recordings of earlier versions do
/// not say.
pub const POOLS: &[&str] = &["unknown", "reads", "hashes", "copies"];
/// The numbers of these.
pub const READS: u64 = 1;
/// Hashes of the key space.
pub const HASHES: u64 = 2;
/// Copies of the database file.
pub const COPIES: u64 = 3;
/// How the members of the cluster change.
pub const CHANGES: &[&str] = &["unknown", "add", "add learner", "promote", "remove", "update"];
/// What a request of v2 does, in etcd's words.
pub const V2_ACTIONS: &[&str] = &[
    "unknown",
    "get",
    "set",
    "create",
    "update",
    "compareAndSwap",
    "delete",
    "compareAndDelete",
    "expire",
];
/// The number of the leader's role.
pub const LEADER: u64 = 2;
const FLAGS: &[(u8, &str)] = &[
    (FLAG_KEPT, "kept"),
    (FLAG_ERROR, "error"),
    (FLAG_CANCELLED, "cancelled"),
    (FLAG_REPLAY, "replay"),
    (FLAG_NOISE, "noise"),
    (FLAG_CUT, "cut"),
];

/// The names of the flags that are set.
pub(crate) fn flag_names(flags: u8) -> Vec<&'static str> {
    FLAGS.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect()
}

/// The flags with these names; others are passed over.
pub(crate) fn flags_of(names: &[String]) -> u8 {
    let known = FLAGS.iter().filter(|(_, name)| names.iter().any(|given| given == name));
    known.fold(0, |flags, (bit, _)| flags | bit)
}

/// The names of the stages, by number.
pub const STAGES: [&str; Stage::ALL.len()] = {
    let mut names = [""; Stage::ALL.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = Stage::ALL[at].name();
        at += 1;
    }
    names
};

fn names_of(unit: Unit) -> Option<&'static [&'static str]> {
    match unit {
        Unit::Method => Some(METHODS),
        Unit::Message => Some(MESSAGES),
        Unit::Role => Some(ROLES),
        Unit::Target => Some(TARGETS),
        Unit::Operator => Some(OPERATORS),
        Unit::Branch => Some(BRANCHES),
        Unit::Stage => Some(&STAGES),
        Unit::WatchEnd => Some(WATCH_ENDS),
        Unit::Pool => Some(POOLS),
        Unit::Change => Some(CHANGES),
        Unit::V2Action => Some(V2_ACTIONS),
        Unit::Count
        | Unit::Bytes
        | Unit::Nanos
        | Unit::Index
        | Unit::Term
        | Unit::Revision
        | Unit::Member
        | Unit::Flag
        | Unit::Signed
        | Unit::Id => None,
    }
}

/// A number as its field's unit says: a name, hex, a truth value, or the number.
pub(crate) fn value_of(field: &Field, value: u64) -> Value {
    match field.unit {
        Unit::Member | Unit::Id => Value::from(hex(value)),
        Unit::Flag if value < 2 => Value::from(value == 1),
        Unit::Signed => Value::from(value.cast_signed()),
        unit => match names_of(unit).and_then(|names| names.get(usize::try_from(value).ok()?)) {
            Some(name) => Value::from(*name),
            None => Value::from(value),
        },
    }
}

/// The number for a value that [`value_of`] has written; `None` if the field has no such value.
pub(crate) fn number_of(field: &Field, value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64().or_else(|| Some(number.as_i64()?.cast_unsigned())),
        Value::Bool(is_set) => Some(u64::from(*is_set)),
        Value::String(text) => match names_of(field.unit) {
            Some(names) => {
                let at = names.iter().position(|name| name == text).map(|at| at as u64);
                // A later version may know more stages: no number of this one is theirs.
                at.or((field.unit == Unit::Stage).then_some(u64::MAX))
            }
            None => unhex(text),
        },
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The number as sixteen hex digits.
pub(crate) fn hex(value: u64) -> String {
    format!("{value:016x}")
}

/// Reads hex digits back.
pub(crate) fn unhex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}
