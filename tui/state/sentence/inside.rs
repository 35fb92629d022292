//! The steps inside a request: what a transaction compared and chose, and what a range found.

use glass_etcd::{
    field, fields,
    story::{Event, query::callers},
    trace::{
        FLAG_CANCELLED, FLAG_ERROR, Kind, Stage,
        value::{OPERATORS, VALUE},
    },
};

use crate::state::words::{self, count};

mod watch;

/// The sentence for a step of a request; `None` if its record says no more than its stage.
pub(super) fn sentence(event: &Event, own: &str) -> Option<String> {
    match event.stage {
        Stage::Rpc => Some(called(event, own)),
        Stage::TxnCompare => Some(compared(event)),
        Stage::TxnBranch => Some(chosen(event)),
        Stage::MvccRange => ranged(event),
        Stage::TreeIndexGet => looked_up(event),
        Stage::WatchQueue => queued(event),
        Stage::RpcConnection => connected(event),
        Stage::WatchCancel => Some(watch::ended(event)),
        Stage::WatchForward => Some(watch::brought_forward(event)),
        Stage::QuotaCheck => quota(event),
        Stage::LeaseGrant => granted(event),
        Stage::LeaseRevoke => (field!(event, LeaseRevoke, keys) == 0
            && event.flags & FLAG_ERROR == 0)
            .then(|| "The lease ends. No key was attached to it.".to_owned()),
        _ => None,
    }
}

/// The call as its member sees it. It begins with the whole request, and ends before the answer is
/// on its way.
fn called(event: &Event, own: &str) -> String {
    let method = words::method(field!(event, Rpc, method));
    let of_member = method.starts_with("internal/");
    if event.kind == Kind::Begin {
        return match of_member {
            true => format!("{own} begins a request of its own, {method}: no client has sent it."),
            false => format!("{own} has read the whole request, and begins to work on {method}."),
        };
    }
    let took = words::duration(event.took_ns);
    let [code, revision] = fields!(event, Rpc: code, revision);
    let what = if of_member { "request of its own" } else { "call" };
    let ended = match (event.flags & FLAG_CANCELLED != 0, code) {
        (true, _) => "because the caller gave up or was gone".to_owned(),
        (false, 0) => match (of_member, revision) {
            (true, _) => "well".to_owned(),
            (false, 0) => "with an answer".to_owned(),
            (false, revision) => format!("with an answer of revision {revision}"),
        },
        (false, code) => format!("with an error: {}", words::code(code)),
    };
    format!("On {own} the {what}, {method}, ended after {took} {ended}.")
}

fn connected(event: &Event) -> Option<String> {
    let ends = callers::connection(event)?;
    let (from, to) = (ends.from(), ends.to());
    Some(format!("The request came from {from}, on a connection to this member's {to}."))
}

/// What counts against the quota, and what the request would add. Recordings of earlier versions do
/// not say.
fn quota(event: &Event) -> Option<String> {
    let [used, limit, adds] = fields!(event, QuotaCheck: used, limit, adds);
    let [in_use, file] = fields!(event, QuotaCheck: in_use, file);
    if in_use == 0 {
        return None;
    }
    let bytes = |number| format!("{} B", count(number));
    let verdict =
        if event.flags & FLAG_ERROR != 0 { "There is no room for it" } else { "There is room" };
    Some(format!(
        "Of the quota of {}, {} are used: after the last commit the pages in use had {}, of a file \
         of {}. The request would add {} at most. {verdict}.",
        bytes(limit),
        bytes(used),
        bytes(in_use),
        bytes(file),
        bytes(adds),
    ))
}

/// A lease whose TTL is another than the one asked for.
fn granted(event: &Event) -> Option<String> {
    let [ttl, raised, asked] = fields!(event, LeaseGrant: ttl, raised, asked);
    (raised != 0 && event.flags & FLAG_ERROR == 0).then(|| {
        format!(
            "The lease is granted for {ttl} s. The client asked for {} s, which is less than the \
             shortest TTL that this cluster grants.",
            asked.cast_signed()
        )
    })
}

/// What a comparison looks at, in words, by etcd's number of the target.
const TARGETS: &[&str] = &["version", "create revision", "mod revision", "value", "lease"];

fn pick(names: &[&'static str], number: u64) -> &'static str {
    let at = usize::try_from(number).ok();
    at.and_then(|at| names.get(at)).copied().unwrap_or("unknown")
}

fn compared(event: &Event) -> String {
    let [target, operator, keys, holds] = fields!(event, TxnCompare: target, operator, keys, holds);
    let [wanted, found] =
        fields!(event, TxnCompare: wanted, found).map(|number| number.cast_signed());
    let what = pick(TARGETS, target);
    let relation = match pick(OPERATORS, operator) {
        "greater" => "greater than",
        "less" => "less than",
        "not equal" => "unequal to",
        other => other,
    };
    let relation = if relation == "equal" { "equal to" } else { relation };
    let of = match &event.key {
        Some(key) => format!("of {} ", words::key(key, 40)),
        None => String::new(),
    };
    let verdict = if holds == 0 { "That does not hold" } else { "That holds" };
    if target == VALUE {
        let without = if keys == 0 { ", for there is no such key" } else { "" };
        return format!(
            "The {what} {of}is to be {relation} one that the client names. {verdict}{without}. \
             Values are not recorded."
        );
    }
    let is = match keys {
        0 => "there is no such key, and that counts as 0".to_owned(),
        1 => format!("it is {found}"),
        _ if holds == 0 => format!("of {keys} keys, the first that differs has {found}"),
        _ => format!("{keys} keys were compared"),
    };
    format!("The {what} {of}is to be {relation} {wanted}: {is}. {verdict}.")
}

fn chosen(event: &Event) -> String {
    let [level, compares, branch, operations] =
        fields!(event, TxnBranch: level, compares, branch, operations);
    let whose = if level == 0 { "the transaction" } else { "this nested transaction" };
    let why = match (branch, compares) {
        (0, 1) => "Its only comparison does not hold".to_owned(),
        (0, _) => format!("One of the {compares} comparisons does not hold"),
        (_, 1) => "Its only comparison holds".to_owned(),
        _ => format!("All {compares} comparisons hold"),
    };
    let list = if branch == 0 { "failure" } else { "success" };
    let operations = match operations {
        0 => "which is empty".to_owned(),
        1 => "which is 1 operation".to_owned(),
        _ => format!("which is {operations} operations"),
    };
    format!("{why}, so {whose} carries out its {list} list, {operations}.")
}

/// A watcher inside a waiting call is that call.
fn queued(event: &Event) -> Option<String> {
    let [creator, of_call] = fields!(event, WatchQueue: created_by, of_call);
    (of_call != 0).then(|| {
        format!("The event enters the queue of request {creator:016x}, a call that waits for it.")
    })
}

fn ranged(event: &Event) -> Option<String> {
    if event.flags & FLAG_ERROR != 0 {
        return None;
    }
    let [asked, revision, keys, total, limit, more] =
        fields!(event, MvccRange: asked, revision, keys, total, limit, more);
    let at = if asked == 0 { "" } else { ", for which the client asked" };
    let exist = match total {
        0 => "no key of the range exists".to_owned(),
        1 => "1 key of the range exists".to_owned(),
        _ => format!("{total} keys of the range exist"),
    };
    let rest = match more {
        0 => String::new(),
        _ => format!(" The limit of {limit} leaves out others."),
    };
    Some(format!("At revision {revision}{at}, {exist}. The values of {keys} are read.{rest}"))
}

fn looked_up(event: &Event) -> Option<String> {
    let [revisions, main, sub, visited] =
        fields!(event, TreeIndexGet: revisions, main, sub, visited);
    if visited == 0 {
        return None;
    }
    let keys = if visited == 1 { "1 key".to_owned() } else { format!("{visited} keys") };
    let gave = match revisions {
        0 => "none of them has a revision to read".to_owned(),
        1 => format!("the value to read has revision {{{main},{sub}}}"),
        _ => format!("{revisions} values are to be read, the first at revision {{{main},{sub}}}"),
    };
    let again = match field!(event, TreeIndexGet, again) {
        0 => "",
        _ => " The read had begun before, and began again.",
    };
    Some(format!("The index in memory looks at {keys}: {gave}.{again}"))
}

#[cfg(test)]
mod tests {
    use glass_etcd::{numbers, story::KeyText, trace::Reason};

    use super::*;

    fn said(stage: Stage, fields: [u64; 8], key: &str) -> Option<String> {
        let text = KeyText { bytes: key.as_bytes().to_vec(), length: key.len() as u64 };
        let key = (!key.is_empty()).then_some(text);
        sentence(&Event { fields, key, ..Event::mark(0, stage, 2) }, "etcd-02")
    }

    #[test]
    fn an_rpc_says_how_it_ended() {
        let fields = numbers!(Rpc, method = 2, bytes_in = 12, bytes_out = 28, revision = 8);
        let took = 14_400_000;
        let ended =
            Event { kind: Kind::Span, took_ns: took, fields, ..Event::mark(0, Stage::Rpc, 2) };
        let said = |event: &Event| sentence(event, "etcd-02").unwrap();
        assert_eq!(
            "On etcd-02 the call, KV/Put, ended after 14.4 ms with an answer of revision 8.",
            said(&ended)
        );
        let begun = Event { kind: Kind::Begin, ..ended.clone() };
        assert_eq!(
            "etcd-02 has read the whole request, and begins to work on KV/Put.",
            said(&begun)
        );
        let gone = Event { flags: FLAG_CANCELLED, ..ended.clone() };
        assert!(said(&gone).contains("because the caller gave up"), "{}", said(&gone));
        let fields = numbers!(Rpc, method = 2, code = 14);
        let failed = Event { fields, ..ended };
        assert!(said(&failed).ends_with("with an error: Unavailable."), "{}", said(&failed));
    }

    #[test]
    fn a_connection_has_its_ends_as_addresses() {
        let low = 0xffff_7f00_0001_u64;
        let fields = numbers!(
            RpcConnection,
            from_low = low,
            from_port = 49_608,
            to_low = low,
            to_port = 2379
        );
        let event = Event { fields, ..Event::mark(0, Stage::RpcConnection, 2) };
        assert_eq!(["from 127.0.0.1:49608", "to 127.0.0.1:2379"], words::fields(&event, &[])[..]);
        let expected = "The request came from 127.0.0.1:49608, on a connection to this member's \
                        127.0.0.1:2379.";
        assert_eq!(Some(expected), sentence(&event, "etcd-02").as_deref());
    }

    #[test]
    fn a_comparison_says_what_was_wanted_and_what_was_found() {
        let of = |target: u64, operator: u64, [wanted, found]: [i64; 2], keys: u64, holds: bool| {
            let (wanted, found) = (wanted.cast_unsigned(), found.cast_unsigned());
            let fields = numbers!(
                TxnCompare,
                target = target,
                operator = operator,
                wanted = wanted,
                found = found,
                keys = keys,
                holds = holds
            );
            said(Stage::TxnCompare, fields, "foo").unwrap()
        };
        let cases = [
            (
                of(2, 0, [7, 9], 1, false),
                "The mod revision of foo is to be equal to 7: it is 9. That does not hold.",
            ),
            (
                of(1, 1, [-1, 0], 0, true),
                "The create revision of foo is to be greater than -1: there is no such key, and \
                 that counts as 0. That holds.",
            ),
            (
                of(0, 2, [5, 6], 3, false),
                "The version of foo is to be less than 5: of 3 keys, the first that differs has 6. \
                 That does not hold.",
            ),
            (
                of(4, 3, [5, 6], 3, true),
                "The lease of foo is to be unequal to 5: 3 keys were compared. That holds.",
            ),
            (
                of(3, 0, [0, 0], 0, false),
                "The value of foo is to be equal to one that the client names. That does not hold, \
                 for there is no such key. Values are not recorded.",
            ),
        ];
        for (said, expected) in cases {
            assert_eq!(expected, said);
        }
    }

    #[test]
    fn a_check_of_the_quota_says_what_was_compared_and_whether_there_is_room() {
        let fields = numbers!(
            QuotaCheck,
            used = 49_152,
            limit = 2_000_000,
            adds = 267,
            in_use = 45_056,
            file = 102_400
        );
        let expected = "Of the quota of 2 000 000 B, 49 152 B are used: after the last commit the \
                        pages in use had 45 056 B, of a file of 102 400 B. The request would add \
                        267 B at most. There is room.";
        assert_eq!(Some(expected), said(Stage::QuotaCheck, fields, "").as_deref());
        let event = Event::mark(0, Stage::QuotaCheck, 2);
        let refused = sentence(&Event { fields, flags: FLAG_ERROR, ..event }, "etcd-02").unwrap();
        assert!(refused.ends_with("There is no room for it."), "{refused}");
        let older = numbers!(QuotaCheck, used = 49_152, limit = 2_000_000);
        assert_eq!(None, said(Stage::QuotaCheck, older, ""), "it does not tell the sizes");
    }

    #[test]
    fn a_lease_with_another_ttl_than_the_one_asked_for_says_both() {
        let of = |ttl: u64, raised: bool, asked: i64| {
            let asked = asked.cast_unsigned();
            let fields = numbers!(LeaseGrant, ttl = ttl, raised = raised, asked = asked);
            said(Stage::LeaseGrant, fields, "")
        };
        let expected = "The lease is granted for 2 s. The client asked for -1 s, which is less than \
                        the shortest TTL that this cluster grants.";
        assert_eq!(Some(expected), of(2, true, -1).as_deref());
        assert_eq!(None, of(600, false, 0), "its own sentence is enough");
    }

    #[test]
    fn a_branch_says_why_it_was_taken() {
        let of = |level: u64, compares: u64, branch: u64, operations: u64| {
            let fields = numbers!(
                TxnBranch,
                level = level,
                compares = compares,
                branch = branch,
                operations = operations
            );
            said(Stage::TxnBranch, fields, "").unwrap()
        };
        assert_eq!(
            "One of the 4 comparisons does not hold, so the transaction carries out its failure \
             list, which is 1 operation.",
            of(0, 4, 0, 1)
        );
        assert_eq!(
            "Its only comparison holds, so this nested transaction carries out its success list, \
             which is empty.",
            of(2, 1, 1, 0)
        );
    }

    #[test]
    fn a_range_says_at_which_revision_it_read_and_what_the_limit_left_out() {
        let fields = numbers!(
            MvccRange,
            asked = 7,
            revision = 7,
            keys = 2,
            total = 9,
            limit = 2,
            more = true
        );
        let said_of_it = said(Stage::MvccRange, fields, "");
        let expected = "At revision 7, for which the client asked, 9 keys of the range exist. The \
                        values of 2 are read. The limit of 2 leaves out others.";
        assert_eq!(Some(expected), said_of_it.as_deref());
        let refused = Event {
            flags: FLAG_ERROR,
            reason: Some(Reason::Compacted),
            fields: numbers!(MvccRange, asked = 7),
            ..Event::mark(0, Stage::MvccRange, 2)
        };
        assert_eq!(None, sentence(&refused, "etcd-02"), "it has read nothing");
    }

    #[test]
    fn the_index_says_how_many_keys_it_looked_at() {
        let of = |visited: u64, revisions: u64, again: u64| {
            let fields = numbers!(
                TreeIndexGet,
                visited = visited,
                revisions = revisions,
                main = 7,
                sub = 0,
                again = again
            );
            said(Stage::TreeIndexGet, fields, "")
        };
        assert_eq!(None, of(0, 1, 0), "an older recording does not say");
        assert_eq!(
            Some("The index in memory looks at 1 key: none of them has a revision to read."),
            of(1, 0, 0).as_deref()
        );
        let said = of(9, 2, 1);
        let expected = "The index in memory looks at 9 keys: 2 values are to be read, the first at \
                        revision {7,0}. The read had begun before, and began again.";
        assert_eq!(Some(expected), said.as_deref());
    }
}
