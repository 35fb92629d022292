//! The requests that can be typed, and what a line means.
//!
//! Commands and flags are those of etcdctl, as far as they can stand in one line. A word that
//! contains blanks or begins with `-` is put in quotes. One table has all commands: the parser, the
//! completion and the hints below the line read it.

use bytes::Bytes;
use glass_etcd::pb::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest,
    LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    WatchCreateRequest,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op,
};
use glass_etcd::pb::v3lockpb::{LockRequest, UnlockRequest};

use super::{
    super::search,
    change::{Aim, Change},
};

/// A request, ready to be sent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Request {
    Put(PutRequest),
    Range(RangeRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    Watch(WatchCreateRequest),
    Grant(LeaseGrantRequest),
    KeepAlive(LeaseKeepAliveRequest),
    Revoke(LeaseRevokeRequest),
    TimeToLive(LeaseTimeToLiveRequest),
    Leases,
    Lock(LockRequest),
    /// An empty key stands for the last lock that was got here.
    Unlock(UnlockRequest),
    Compact(CompactionRequest),
    Members,
    Change(Change),
    Status,
    Defragment,
}

impl Request {
    /// The same, with the id or the URL of the member in place of its name, if that is known.
    pub(crate) fn named(mut self, known: impl Fn(&str) -> Option<String>) -> Request {
        if let Request::Change(change) = &mut self
            && let Some(subject) = known(&change.subject)
        {
            change.subject = subject;
        }
        self
    }

    /// How many requests the member sees in the trace: a stream has a story of its own, and its
    /// message another, which is the one that was asked for.
    pub(crate) fn stories(&self) -> usize {
        match self {
            Request::Watch(_) | Request::KeepAlive(_) => 2,
            _ => 1,
        }
    }

    /// Whether its answers have no end.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self, Request::Watch(_))
    }
}

/// A command of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Command {
    /// Its one or two words.
    pub(crate) name: &'static str,
    /// What follows them.
    pub(crate) form: &'static str,
    /// Its flags; a flag with a value has its name after a blank.
    pub(crate) flags: &'static [&'static str],
    make: fn(&Command, &[Word]) -> Result<Request, String>,
}

/// Every command.
pub(crate) const COMMANDS: &[Command] = &[
    Command {
        name: "put",
        form: "KEY VALUE [--lease ID] [--prev-kv]",
        flags: &["--lease ID", "--prev-kv"],
        make: put,
    },
    Command {
        name: "get",
        form: "KEY [END] [-s] [--prefix] [--rev N] [--limit N] [--keys-only] [--count-only]",
        flags: &["-s", "--prefix", "--rev N", "--limit N", "--keys-only", "--count-only"],
        make: get,
    },
    Command {
        name: "del",
        form: "KEY [END] [--prefix] [--prev-kv]",
        flags: &["--prefix", "--prev-kv"],
        make: delete,
    },
    Command {
        name: "txn",
        form: "[if mod(KEY) = N ...] then put KEY VALUE; get KEY [else get KEY; ...]",
        flags: &[],
        make: txn,
    },
    Command {
        name: "watch",
        form: "KEY [END] [--prefix] [--rev N]",
        flags: &["--prefix", "--rev N"],
        make: watch,
    },
    Command { name: "lease grant", form: "SECONDS [ID]", flags: &[], make: grant },
    Command { name: "lease keep-alive", form: "ID", flags: &[], make: keep_alive },
    Command { name: "lease revoke", form: "ID", flags: &[], make: revoke },
    Command {
        name: "lease timetolive",
        form: "ID [--keys]",
        flags: &["--keys"],
        make: time_to_live,
    },
    Command { name: "lease list", form: "", flags: &[], make: no_arguments },
    Command { name: "lock", form: "NAME [--lease ID]", flags: &["--lease ID"], make: lock },
    Command {
        name: "unlock",
        form: "[KEY], the last lock without a key",
        flags: &[],
        make: unlock,
    },
    Command {
        name: "compact",
        form: "REVISION [--physical]",
        flags: &["--physical"],
        make: compact,
    },
    Command { name: "member list", form: "", flags: &[], make: no_arguments },
    Command {
        name: "member add",
        form: "NAME --peer-urls URL [--learner]",
        flags: &["--peer-urls URL", "--learner"],
        make: add,
    },
    Command { name: "member promote", form: "MEMBER", flags: &[], make: change },
    Command { name: "member remove", form: "MEMBER", flags: &[], make: change },
    Command { name: "move-leader", form: "MEMBER", flags: &[], make: change },
    Command { name: "defrag", form: "", flags: &[], make: no_arguments },
    Command { name: "status", form: "", flags: &[], make: no_arguments },
];

impl Command {
    /// The command and what may follow it.
    pub(crate) fn usage(&self) -> String {
        format!("{} {}", self.name, self.form).trim_end().to_owned()
    }

    fn needs(&self, what: &str) -> String {
        format!("{} needs {what}: {}", self.name, self.usage())
    }
}

/// A word of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Word {
    text: String,
    /// Whether a part of it stood in quotes: it is then no keyword and no flag.
    is_quoted: bool,
}

impl Word {
    fn is(&self, keyword: &str) -> bool {
        !self.is_quoted && self.text == keyword
    }
}

/// The words after a command's name.
struct Arguments {
    plain: Vec<String>,
    flags: Vec<(&'static str, String)>,
}

impl Arguments {
    fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|(name, _)| *name == flag)
    }

    fn value(&self, flag: &str) -> Option<&String> {
        self.flags.iter().find(|(name, _)| *name == flag).map(|(_, value)| value)
    }

    fn number(&self, flag: &str) -> Result<i64, String> {
        self.value(flag).map_or(Ok(0), |value| number(value))
    }

    fn lease(&self) -> Result<i64, String> {
        self.value("--lease").map_or(Ok(0), |value| lease(value))
    }

    fn key(&self, at: usize) -> Option<Bytes> {
        self.plain.get(at).map(|text| bytes(text))
    }

    /// Refuses more words than these.
    fn at_most(&self, most: usize, command: &Command) -> Result<(), String> {
        match self.plain.get(most) {
            Some(word) => Err(format!("{word:?} is too much: {}", command.usage())),
            None => Ok(()),
        }
    }

    /// The key, and the end of its range.
    fn range(&self, command: &Command) -> Result<(Bytes, Bytes), String> {
        self.at_most(2, command)?;
        let Some(key) = self.key(0) else { return Err(command.needs("a key")) };
        match (self.key(1), self.has("--prefix")) {
            (Some(_), true) => Err("either an end or --prefix, not both".to_owned()),
            (Some(end), false) => Ok((key, end)),
            (None, true) => Ok(prefix(&key)),
            (None, false) => Ok((key, Bytes::new())),
        }
    }
}

/// A line with the member that it names, if it names one: `@2 put a 1`.
pub(crate) fn member_of(line: &str) -> (Option<&str>, &str) {
    let line = line.trim_start();
    match line.strip_prefix('@') {
        Some(rest) => {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            (Some(&rest[..end]), rest[end..].trim_start())
        }
        None => (None, line),
    }
}

/// The command that a line begins with.
pub(crate) fn command_of(line: &str) -> Option<&'static Command> {
    let mut words = member_of(line).1.split_whitespace();
    let first = words.next()?;
    let two = words.next().map(|second| format!("{first} {second}"));
    let is_it = |command: &&Command| command.name == first || two.as_deref() == Some(command.name);
    COMMANDS.iter().find(is_it)
}

/// The commands that begin like this line.
pub(crate) fn begun_by(line: &str) -> Vec<&'static Command> {
    let line = member_of(line).1;
    COMMANDS.iter().filter(|command| command.name.starts_with(line)).collect()
}

/// The request of a line that names no member.
pub(crate) fn parse(line: &str) -> Result<Request, String> {
    if let (Some(name), _) = member_of(line) {
        return Err(format!("a request goes to one member: @{name} is too many"));
    }
    let words = split(line)?;
    let Some(first) = words.first() else { return Err("nothing is typed".to_owned()) };
    let Some(command) = command_of(line) else {
        let begun = first.text.clone() + " ";
        let mut forms = COMMANDS.iter().filter(|command| command.name.starts_with(&begun));
        return Err(match forms.next() {
            Some(form) => {
                let rest = forms.map(|form| form.name).collect::<Vec<_>>().join(", ");
                format!("{} needs one more word: {}, {rest}", first.text, form.name)
                    .trim_end_matches(", ")
                    .to_owned()
            }
            None => format!("{:?} is no command: Tab shows all", first.text),
        });
    };
    let rest = &words[command.name.split(' ').count()..];
    (command.make)(command, rest)
}

/// Splits a line at blanks outside of quotes; `;` is a word of its own.
fn split(line: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut quote = None;
    for character in line.chars() {
        match (quote, character) {
            (Some(open), end) if open == end => quote = None,
            (None, '"' | '\'') => {
                quote = Some(character);
                let empty = Word { text: String::new(), is_quoted: true };
                word.get_or_insert(empty).is_quoted = true;
            }
            (None, ';') => {
                words.extend(word.take());
                words.push(Word { text: ";".to_owned(), is_quoted: false });
            }
            (None, blank) if blank.is_whitespace() => words.extend(word.take()),
            (_, character) => {
                let empty = Word { text: String::new(), is_quoted: false };
                word.get_or_insert(empty).text.push(character);
            }
        }
    }
    if let Some(open) = quote {
        return Err(format!("a quote is not closed: {open}"));
    }
    words.extend(word);
    Ok(words)
}

fn arguments(command: &Command, words: &[Word]) -> Result<Arguments, String> {
    let mut arguments = Arguments { plain: Vec::new(), flags: Vec::new() };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word.is_quoted || !word.text.starts_with('-') || word.text == "-" {
            arguments.plain.push(word.text.clone());
            continue;
        }
        let (name, joined) = match word.text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word.text.as_str(), None),
        };
        let of = |flag: &&&str| flag.split(' ').next() == Some(name);
        let Some(flag) = command.flags.iter().find(of) else {
            return Err(format!("{} has no flag {name}: {}", command.name, command.usage()));
        };
        let (name, takes) = flag.split_once(' ').map_or((*flag, false), |(name, _)| (name, true));
        let value = match (takes, joined) {
            (false, None) => String::new(),
            (false, Some(_)) => return Err(format!("{name} takes no value")),
            (true, Some(value)) => value,
            (true, None) => {
                let value = words.next().ok_or_else(|| format!("a value is missing: {flag}"))?;
                value.text.clone()
            }
        };
        arguments.flags.push((name, value));
    }
    Ok(arguments)
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn number(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number"))
}

fn lease(text: &str) -> Result<i64, String> {
    search::lease(text).map(u64::cast_signed)
}

/// The range of all keys that begin with this one.
fn prefix(key: &Bytes) -> (Bytes, Bytes) {
    const ALL: Bytes = Bytes::from_static(b"\0");
    if key.is_empty() {
        return (ALL, ALL);
    }
    let mut end = key.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return (key.clone(), end.into());
        }
    }
    (key.clone(), ALL)
}

fn put(command: &Command, words: &[Word]) -> Result<Request, String> {
    put_of(command, &arguments(command, words)?).map(Request::Put)
}

fn put_of(command: &Command, arguments: &Arguments) -> Result<PutRequest, String> {
    arguments.at_most(2, command)?;
    let (Some(key), Some(value)) = (arguments.key(0), arguments.key(1)) else {
        return Err(command.needs("a key and a value"));
    };
    let (lease, prev_kv) = (arguments.lease()?, arguments.has("--prev-kv"));
    Ok(PutRequest { key, value, lease, prev_kv, ..PutRequest::default() })
}

fn get(command: &Command, words: &[Word]) -> Result<Request, String> {
    get_of(command, &arguments(command, words)?).map(Request::Range)
}

fn get_of(command: &Command, arguments: &Arguments) -> Result<RangeRequest, String> {
    let (key, range_end) = arguments.range(command)?;
    Ok(RangeRequest {
        key,
        range_end,
        serializable: arguments.has("-s"),
        revision: arguments.number("--rev")?,
        limit: arguments.number("--limit")?,
        keys_only: arguments.has("--keys-only"),
        count_only: arguments.has("--count-only"),
        ..RangeRequest::default()
    })
}

fn delete(command: &Command, words: &[Word]) -> Result<Request, String> {
    delete_of(command, &arguments(command, words)?).map(Request::Delete)
}

fn delete_of(command: &Command, arguments: &Arguments) -> Result<DeleteRangeRequest, String> {
    let (key, range_end) = arguments.range(command)?;
    Ok(DeleteRangeRequest { key, range_end, prev_kv: arguments.has("--prev-kv") })
}

fn watch(command: &Command, words: &[Word]) -> Result<Request, String> {
    let arguments = arguments(command, words)?;
    let (key, range_end) = arguments.range(command)?;
    let start_revision = arguments.number("--rev")?;
    let created =
        WatchCreateRequest { key, range_end, start_revision, ..WatchCreateRequest::default() };
    Ok(Request::Watch(created))
}

fn grant(command: &Command, words: &[Word]) -> Result<Request, String> {
    let arguments = arguments(command, words)?;
    arguments.at_most(2, command)?;
    let Some(ttl) = arguments.plain.first() else { return Err(command.needs("a time to live")) };
    let id = arguments.plain.get(1).map_or(Ok(0), |id| lease(id))?;
    Ok(Request::Grant(LeaseGrantRequest { ttl: number(ttl)?, id }))
}

/// The lease that a command names.
fn named_lease(command: &Command, arguments: &Arguments) -> Result<i64, String> {
    arguments.at_most(1, command)?;
    let id = arguments.plain.first().ok_or_else(|| command.needs("the id of a lease"))?;
    lease(id)
}

fn keep_alive(command: &Command, words: &[Word]) -> Result<Request, String> {
    let arguments = arguments(command, words)?;
    let id = named_lease(command, &arguments)?;
    Ok(Request::KeepAlive(LeaseKeepAliveRequest { id }))
}

fn revoke(command: &Command, words: &[Word]) -> Result<Request, String> {
    let arguments = arguments(command, words)?;
    Ok(Request::Revoke(LeaseRevokeRequest { id: named_lease(command, &arguments)? }))
}

fn time_to_live(command: &Command, words: &[Word]) -> Result<Request, String> {
    let arguments = arguments(command, words)?;
    let (id, keys) = (named_lease(command, &arguments)?, arguments.has("--keys"));
    Ok(Request::TimeToLive(LeaseTimeToLiveRequest { id, keys }))
}

fn lock(command: &Command, words: &[Word]) -> Result<Request, String> {
    let arguments = arguments(command, words)?;
    arguments.at_most(1, command)?;
    let Some(name) = arguments.key(0) else { return Err(command.needs("a name")) };
    Ok(Request::Lock(LockRequest { name, lease: arguments.lease()? }))
}

fn unlock(command: &Command, words: &[Word]) -> Result<Request, String> {
    let arguments = arguments(command, words)?;
    arguments.at_most(1, command)?;
    Ok(Request::Unlock(UnlockRequest { key: arguments.key(0).unwrap_or_default() }))
}

fn compact(command: &Command, words: &[Word]) -> Result<Request, String> {
    let arguments = arguments(command, words)?;
    arguments.at_most(1, command)?;
    let Some(revision) = arguments.plain.first() else { return Err(command.needs("a revision")) };
    let (revision, physical) = (number(revision)?, arguments.has("--physical"));
    Ok(Request::Compact(CompactionRequest { revision, physical }))
}

fn no_arguments(command: &Command, words: &[Word]) -> Result<Request, String> {
    let arguments = arguments(command, words)?;
    arguments.at_most(0, command)?;
    Ok(match command.name {
        "lease list" => Request::Leases,
        "member list" => Request::Members,
        "defrag" => Request::Defragment,
        _ => Request::Status,
    })
}

/// A member that is to be added. Its name is what etcdctl prints; the cluster learns its URL.
fn add(command: &Command, words: &[Word]) -> Result<Request, String> {
    let arguments = arguments(command, words)?;
    arguments.at_most(1, command)?;
    let Some(name) = arguments.plain.first() else { return Err(command.needs("a name")) };
    let subject = arguments.value("--peer-urls").unwrap_or(name).to_owned();
    let aim = Aim::Add { is_learner: arguments.has("--learner") };
    Ok(Request::Change(Change { aim, subject }))
}

fn change(command: &Command, words: &[Word]) -> Result<Request, String> {
    let arguments = arguments(command, words)?;
    arguments.at_most(1, command)?;
    let Some(subject) = arguments.plain.first().cloned() else {
        return Err(command.needs("the id or the name of a member"));
    };
    let aim = match command.name {
        "member promote" => Aim::Promote,
        "member remove" => Aim::Remove,
        _ => Aim::Lead,
    };
    Ok(Request::Change(Change { aim, subject }))
}

/// A transaction: `if` comparisons `then` operations `else` operations.
fn txn(command: &Command, words: &[Word]) -> Result<Request, String> {
    let Some(then) = words.iter().position(|word| word.is("then")) else {
        return Err(command.needs("operations after `then`"));
    };
    let (before, after) = (&words[..then], &words[then + 1..]);
    let otherwise = after.iter().position(|word| word.is("else")).unwrap_or(after.len());
    let compares = match before.split_first() {
        Some((first, rest)) if first.is("if") => rest,
        Some((first, _)) => return Err(format!("{:?} is not `if` or `then`", first.text)),
        None => before,
    };
    let failure = after.get(otherwise + 1..).unwrap_or_default();
    Ok(Request::Txn(TxnRequest {
        compare: compares.chunks(3).map(compare).collect::<Result<_, _>>()?,
        success: operations(&after[..otherwise])?,
        failure: operations(failure)?,
    }))
}

fn operations(words: &[Word]) -> Result<Vec<RequestOp>, String> {
    let parts = words.split(|word| word.is(";")).filter(|part| !part.is_empty());
    parts.map(operation).collect()
}

fn operation(words: &[Word]) -> Result<RequestOp, String> {
    let name = &words[0].text;
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        return Err(format!("{name:?} is no operation of a transaction: put, get or del"));
    };
    let arguments = arguments(command, &words[1..])?;
    use request_op::Request as Op;
    let request = match command.name {
        "put" => Op::RequestPut(put_of(command, &arguments)?),
        "get" => Op::RequestRange(get_of(command, &arguments)?),
        "del" => Op::RequestDeleteRange(delete_of(command, &arguments)?),
        name => return Err(format!("{name} is no operation of a transaction: put, get or del")),
    };
    Ok(RequestOp { request: Some(request) })
}

/// A comparison in three words: `mod(a) = 3`.
fn compare(words: &[Word]) -> Result<Compare, String> {
    let wrong = || {
        let text: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
        format!("{:?} is no comparison like mod(a) = 3, value(a) = x", text.join(" "))
    };
    let [left, operator, right] = words else { return Err(wrong()) };
    let (target, key) = left.text.split_once('(').ok_or_else(wrong)?;
    let key = key.strip_suffix(')').ok_or_else(wrong)?;
    let result = match operator.text.as_str() {
        "=" | "==" => CompareResult::Equal,
        "!=" => CompareResult::NotEqual,
        "<" => CompareResult::Less,
        ">" => CompareResult::Greater,
        _ => return Err(wrong()),
    };
    let value = &right.text;
    let (target, union) = match target {
        "version" | "ver" => (CompareTarget::Version, TargetUnion::Version(number(value)?)),
        "create" | "c" => (CompareTarget::Create, TargetUnion::CreateRevision(number(value)?)),
        "mod" | "m" => (CompareTarget::Mod, TargetUnion::ModRevision(number(value)?)),
        "value" | "val" => (CompareTarget::Value, TargetUnion::Value(bytes(value))),
        "lease" => (CompareTarget::Lease, TargetUnion::Lease(lease(value)?)),
        _ => return Err(wrong()),
    };
    Ok(Compare {
        result: result.into(),
        target: target.into(),
        key: bytes(key),
        target_union: Some(union),
        ..Compare::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(line: &str) -> String {
        parse(line).unwrap_err()
    }

    #[test]
    fn a_second_member_on_a_line_is_refused() {
        for line in ["@2 put a", "@2 del", "@\"a lease list b\""] {
            assert!(parse(line).unwrap_err().contains("is too many"), "{line}");
        }
    }

    #[test]
    fn a_put_and_a_get_mean_what_they_mean_to_etcdctl() {
        let Ok(Request::Put(put)) = parse("put a 'two words' --lease 7f") else { panic!() };
        assert_eq!((&b"a"[..], &b"two words"[..], 0x7f), (&*put.key, &*put.value, put.lease));
        let Ok(Request::Range(get)) = parse("get --prefix a -s --rev 4") else { panic!() };
        assert_eq!((&b"a"[..], &b"b"[..]), (&*get.key, &*get.range_end));
        assert!(get.serializable && get.revision == 4);
        let Ok(Request::Range(all)) = parse("get \"\" --prefix --limit=3") else { panic!() };
        assert_eq!((&b"\0"[..], &b"\0"[..], 3), (&*all.key, &*all.range_end, all.limit));
        let Ok(Request::Put(put)) = parse("put - '-1'") else { panic!() };
        assert_eq!((&b"-"[..], &b"-1"[..]), (&*put.key, &*put.value));
    }

    #[test]
    fn the_end_of_a_prefix_is_the_first_key_without_it() {
        let end = |key: &'static [u8]| prefix(&Bytes::from_static(key)).1;
        assert_eq!(end(b"ab"), &b"ac"[..]);
        assert_eq!(end(b"a\xff"), &b"b"[..]);
        assert_eq!(end(b"\xff\xff"), &b"\0"[..]);
    }

    #[test]
    fn a_transaction_fits_into_a_line() {
        let line = "txn if mod(a) = 3 value('b c') != x then put a 2; get b else del a --prefix;";
        let Ok(Request::Txn(txn)) = parse(line) else { panic!("{:?}", parse(line)) };
        let keys: Vec<&[u8]> = txn.compare.iter().map(|compare| &*compare.key).collect();
        assert_eq!([&b"a"[..], b"b c"], keys[..]);
        assert_eq!((2, 1), (txn.success.len(), txn.failure.len()));
        assert!(parse("txn then get a").is_ok());
        assert!(refused("txn put a 1").contains("then"));
        assert!(refused("txn if mod(a) then get a").contains("mod(a)"));
        assert!(refused("txn if mod(a) = x then get a").contains("not a number"));
        assert!(refused("txn then status").contains("no operation"));
    }

    #[test]
    fn a_line_that_means_nothing_says_what_is_missing() {
        assert_eq!("put needs a key and a value: put KEY VALUE [--lease ID] [--prev-kv]", {
            refused("put a")
        });
        assert!(refused("puts a 1").contains("no command"));
        assert!(refused("lease").contains("lease grant"));
        assert!(refused("member").contains("member list"));
        assert!(refused("get a --previx").contains("no flag --previx"));
        assert!(refused("get a --rev").contains("--rev N"));
        assert!(refused("get a b c").contains("\"c\" is too much"));
        assert!(refused("put a 'b").contains("not closed"));
        assert!(refused("lease revoke xyz").contains("not a lease id"));
        assert!(refused("compact two").contains("not a number"));
    }

    #[test]
    fn every_command_of_the_table_can_be_typed() {
        let examples = [
            "put a 1",
            "get a",
            "del a",
            "txn then get a",
            "watch a",
            "lease grant 60",
            "lease keep-alive 7f",
            "lease revoke 7f",
            "lease timetolive 7f --keys",
            "lease list",
            "lock a",
            "unlock",
            "compact 3",
            "member list",
            "member add etcd-04 --peer-urls http://127.0.0.1:9 --learner",
            "member promote 7f",
            "member remove 7f",
            "move-leader 7f",
            "defrag",
            "status",
        ];
        for (command, example) in COMMANDS.iter().zip(examples) {
            assert!(example.starts_with(command.name), "{example}");
            assert!(parse(example).is_ok(), "{:?}", parse(example));
        }
        assert_eq!(COMMANDS.len(), examples.len());
    }

    #[test]
    fn a_member_is_named_by_its_id_or_its_name() {
        let change = |line: &str| {
            let known = |name: &str| (name == "etcd-02").then(|| "2f".to_owned());
            let Ok(Request::Change(change)) = parse(line).map(|request| request.named(known))
            else {
                panic!("{line}")
            };
            change
        };
        for (line, aim) in [
            ("member remove etcd-02", Aim::Remove),
            ("member promote 2f", Aim::Promote),
            ("move-leader etcd-02", Aim::Lead),
        ] {
            assert_eq!((aim, Ok(0x2f)), (change(line).aim, change(line).id()), "{line}");
        }
        let unknown = change("member remove etcd-03").id().unwrap_err();
        assert_eq!("\"etcd-03\" is no id of a member: member list shows them", unknown);
        let added = change("member add x --peer-urls=http://127.0.0.1:9");
        assert_eq!(Aim::Add { is_learner: false }, added.aim);
        assert_eq!("http://127.0.0.1:9", added.subject);
        assert_eq!("etcd-04", change("member add etcd-04 --learner").subject);
        assert!(refused("member remove").contains("the id or the name of a member"));
    }

    #[test]
    fn a_line_may_name_its_member() {
        assert_eq!((Some("2"), "put a 1"), member_of(" @2 put a 1"));
        assert_eq!((None, "put @2 1"), member_of("put @2 1"));
        assert_eq!((Some(""), ""), member_of("@"));
    }
}
