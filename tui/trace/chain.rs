//! `glass trace chain`: what one request made others do, as an indented tree.

use std::{
    collections::HashMap,
    io::{self, Write},
};

use clap::Args;
use glass_etcd::{
    change, field, fields,
    story::{
        KeyText, Recording,
        order::Order,
        query::{
            Summary,
            chain::{Delivery, KeepAlives, Link, Target, What, Why, chains},
            find::is_redacted,
            requests,
            silence::Silences,
            typed,
        },
    },
    trace::{Kind, Stage},
};
use serde_json::{Value, json};

use super::{
    Error, Form, From, Gathered,
    asked::Asked,
    explain::times,
    find::{parse_lease, redacted},
    heard, plain, words,
};

/// The command line of `glass trace chain`.
#[derive(Debug, Args)]
#[group(id = "target", required = true, multiple = false, args = ["id", "key", "lease"])]
pub(super) struct ChainArgs {
    /// A request's id in hex, as `list` shows it, or the trace id of its caller.
    id: Option<String>,
    /// Every request that wrote or deleted this key.
    #[arg(long, value_name = "K")]
    key: Option<String>,
    /// A lease, by its id in hex, as etcdctl shows it.
    #[arg(long, value_name = "L")]
    lease: Option<String>,
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    form: Form,
}

/// Runs the command.
pub(super) async fn run(args: &ChainArgs) -> Result<(), Error> {
    let asked = args.id.as_deref().map(Asked::parse).transpose()?;
    let lease = args.lease.as_deref().map(parse_lease).transpose()?;
    let found = |recording: &Recording, order: &Order| {
        let target = match (asked, &args.key, lease) {
            (Some(asked), ..) => Target::Requests(asked.ids(recording)),
            (_, Some(key), _) => Target::Key(typed::key(recording, key, false)),
            (.., lease) => Target::Lease(lease.unwrap_or(0)),
        };
        let mut links = chains(recording, order, &target);
        links.retain(|link| link.began.is_some() || !link.then.is_empty());
        links
    };
    let is_enough = |recording: &Recording| !found(recording, &Order::of(recording)).is_empty();
    let Gathered { recording, .. } = heard(&args.from, is_enough).await?;
    let order = Order::of(&recording);
    let links = found(&recording, &order);
    if links.is_empty() {
        return Err(match (asked, &args.key) {
            (Some(asked), _) => asked.not_captured(),
            (None, Some(key)) => no_key(&recording, key),
            (None, None) => {
                Error::Usage(format!("nothing of lease {:016x} was captured", lease.unwrap_or(0)))
            }
        });
    }
    let marked = asked.map_or(Vec::new(), |asked| asked.ids(&recording));
    let teller = Teller::new(&recording, &order, &marked);
    let mut out = io::stdout().lock();
    match args.form.json {
        true => links.iter().try_for_each(|link| writeln!(out, "{}", teller.json(link, link)))?,
        false => teller.plain(&mut out, &links)?,
    }
    Ok(())
}

fn no_key(recording: &Recording, key: &str) -> Error {
    match is_redacted(recording) {
        true => redacted(),
        false => Error::Usage(format!("no write of key {key:?} was captured")),
    }
}

/// The facts of the requests in the chains.
struct Teller<'a> {
    recording: &'a Recording,
    /// The requests that the user named.
    marked: &'a [u64],
    summaries: HashMap<u64, Summary>,
    silences: Silences,
    /// The lease that a request granted, and its TTL in seconds.
    leases: HashMap<u64, [u64; 2]>,
    /// The revision that a request wrote.
    wrote: HashMap<u64, u64>,
    /// The revision at which a waiting call got its lock, or was elected.
    acquired: HashMap<u64, u64>,
}

impl<'a> Teller<'a> {
    fn new(recording: &'a Recording, order: &Order, marked: &'a [u64]) -> Teller<'a> {
        let summaries = requests(recording).into_iter().map(|one| (one.id, one)).collect();
        let (mut leases, mut wrote, mut acquired) =
            (HashMap::new(), HashMap::new(), HashMap::new());
        for event in recording.events.iter().filter(|event| event.kind != Kind::Begin) {
            match event.stage {
                Stage::LeaseGrant => {
                    leases.insert(event.id, fields!(event, LeaseGrant: lease, ttl));
                }
                Stage::MvccWrite => {
                    let [old, new] = change!(event, MvccWrite, revision);
                    if old < new {
                        wrote.insert(event.id, new);
                    }
                }
                Stage::LockAcquired => {
                    acquired.insert(event.id, field!(event, LockAcquired, revision));
                }
                _ => (),
            }
        }
        let silences = Silences::of(recording, order);
        Teller { recording, marked, summaries, silences, leases, wrote, acquired }
    }

    fn plain(&self, out: &mut impl Write, links: &[Link]) -> io::Result<()> {
        writeln!(
            out,
            "each line: time since its chain began, and what followed from the line above that stands further left"
        )?;
        for link in links {
            writeln!(out)?;
            self.line(out, link, link.began, 0)?;
        }
        if links.iter().any(|link| self.has_cut(link)) {
            writeln!(out, "{}", plain::CUT)?;
        }
        plain::losses(out, self.recording)
    }

    /// Whether a key in this chain is longer than what records hold of it.
    fn has_cut(&self, link: &Link) -> bool {
        let key = match &link.what {
            What::Request(id) | What::More(id) => {
                self.summaries.get(id).and_then(|request| request.key.as_ref())
            }
            What::Deletion(deletion) => deletion.key.as_ref(),
            _ => None,
        };
        key.is_some_and(KeyText::is_cut) || link.then.iter().any(|below| self.has_cut(below))
    }

    fn line(
        &self,
        out: &mut impl Write,
        link: &Link,
        zero: Option<i128>,
        depth: usize,
    ) -> io::Result<()> {
        // Without a captured grant a lease has no beginning: its first captured use is one.
        let zero = zero.or(link.began);
        let at = link.began.zip(zero).map_or("unknown".to_owned(), |(at, zero)| offset(at - zero));
        let is_marked =
            matches!(&link.what, What::Request(id) | What::More(id) if self.marked.contains(id));
        let mark = if is_marked { '*' } else { ' ' };
        let indent = "  ".repeat(depth);
        writeln!(out, "{at:>14} {mark}{indent}{}", self.words(link, zero.unwrap_or(0)))?;
        let zero = zero.or(link.then.iter().find_map(|below| below.began));
        link.then.iter().try_for_each(|below| self.line(out, below, zero, depth + 1))
    }

    fn words(&self, link: &Link, zero: i128) -> String {
        let text = match &link.what {
            What::Request(id) => self.request(*id, link.why),
            What::Again(id) => format!("request {id:016x}, shown elsewhere"),
            What::More(id) => {
                format!(
                    "{}  more follows: glass trace chain {id:016x}",
                    self.request(*id, link.why)
                )
            }
            What::Lease(lease) => format!("lease {lease:016x}, its grant not captured"),
            What::KeepAlives(all) => keep_alives(all, zero),
            What::Expiry(at) => self.expiry(*at),
            What::Deletion(deletion) => {
                let key = deletion
                    .key
                    .as_ref()
                    .map_or("a key, its text not captured".to_owned(), |k| k.display());
                match deletion.wrote {
                    Some(id) => format!("{key}, whose last captured write is {id:016x}"),
                    None => key,
                }
            }
            What::Uncaptured(1) => "1 more key, its deletion not captured".to_owned(),
            What::Uncaptured(keys) => format!("{keys} more keys, their deletions not captured"),
            What::Delivery(delivery) => self.delivery(delivery),
        };
        match link.why {
            Why::First | Why::Renewed | Why::Expired | Why::Delivered => text,
            Why::Attached => format!("attached  {text}"),
            Why::Revoked => format!("revoked  {text}"),
            Why::Session => format!("session  {text}"),
            Why::Released => format!("released  {text}"),
            Why::Proclaimed => format!("proclaimed  {text}"),
            Why::Deleted => format!("deleted  {text}"),
            Why::Woken => format!("woke  {text}"),
        }
    }

    fn request(&self, id: u64, why: Why) -> String {
        // A request that a waiting call makes belongs to that call's rpc.
        let is_part = matches!(why, Why::Session | Why::Released | Why::Proclaimed);
        let mut facts = match self.summaries.get(&id) {
            Some(request) if request.has_rpc => self.summary(request),
            Some(_) if !is_part => vec![format!("request {id:016x}, its rpc not captured")],
            Some(_) => vec![format!("request {id:016x}")],
            None if is_part => vec![format!("request {id:016x}")],
            None => vec![format!("request {id:016x}, its rpc not captured")],
        };
        if let Some([lease, ttl]) = self.leases.get(&id) {
            facts.push(format!("lease {lease:016x} for {ttl} s"));
        }
        if let Some(revision) = self.wrote.get(&id) {
            facts.push(format!("wrote revision {revision}"));
        }
        if let Some(revision) = self.acquired.get(&id) {
            facts.push(format!("acquired at revision {revision}"));
        }
        facts.join("  ")
    }

    fn summary(&self, request: &Summary) -> Vec<String> {
        let key = request.key.as_ref().map(|key| format!(" {}", key.display())).unwrap_or_default();
        let member = words::name(request.member, &self.recording.members);
        vec![
            format!("{}{key}", request.method),
            format!("request {:016x}", request.id),
            format!("served by {member}"),
            match request.took_ns {
                Some(ns) => format!("took {}", words::millis(i128::from(ns))),
                None => "duration unknown".to_owned(),
            },
            words::outcome(request.outcome(&self.silences)).to_owned(),
        ]
    }

    fn expiry(&self, at: usize) -> String {
        let event = &self.recording.events[at];
        let name = words::name(event.member, &self.recording.members);
        let overdue = words::millis(i128::from(field!(event, LeaseExpire, overdue)));
        format!("expired  on {name}, {overdue} overdue")
    }

    fn delivery(&self, delivery: &Delivery) -> String {
        let event = &self.recording.events[delivery.event];
        let name = words::name(event.member, &self.recording.members);
        let watcher = field!(event, WatchQueue | WatchSend, watcher);
        let how = match event.stage {
            Stage::WatchSend if field!(event, WatchSend, path) != 0 => "sent, after catching up",
            Stage::WatchSend => "sent, from apply",
            _ => "queued; its send was not captured",
        };
        let creator = match delivery.creator {
            Some(id) => format!("created by {id:016x}"),
            None => "its creation not captured".to_owned(),
        };
        format!("watcher {watcher} of {name}: {how}  {creator}")
    }

    fn json(&self, link: &Link, first: &Link) -> Value {
        let then: Vec<Value> = link.then.iter().map(|below| self.json(below, first)).collect();
        let since =
            link.began.zip(first.began).and_then(|(at, zero)| i64::try_from(at - zero).ok());
        let mut line = json!({ "why": why(link.why), "since_ns": since, "then": then });
        let members = &self.recording.members;
        let parts = match &link.what {
            What::Request(id) => self.request_json(*id),
            What::Again(id) => json!({ "request": format!("{id:016x}"), "again": true }),
            What::More(id) => {
                let mut line = self.request_json(*id);
                line["more"] = Value::Bool(true);
                line
            }
            What::Lease(lease) => json!({ "lease": format!("{lease:016x}") }),
            What::KeepAlives(all) => json!({ "keep_alives": all.count, "failed": all.failed }),
            What::Expiry(at) => {
                let event = &self.recording.events[*at];
                let [lease, overdue] = fields!(event, LeaseExpire: lease, overdue);
                let member = words::name(event.member, members);
                json!({ "expired": format!("{lease:016x}"), "member": member, "overdue_ns": overdue })
            }
            What::Deletion(deletion) => json!({
                "deleted": deletion.key.as_ref().map(|key| key.display()),
                "wrote": deletion.wrote.map(|id| format!("{id:016x}")),
            }),
            What::Uncaptured(keys) => json!({ "uncaptured_deletions": keys }),
            What::Delivery(delivery) => {
                let event = &self.recording.events[delivery.event];
                let is_sent = event.stage == Stage::WatchSend;
                json!({
                    "watcher": field!(event, WatchQueue | WatchSend, watcher),
                    "member": words::name(event.member, members),
                    "sent": is_sent,
                    "caught_up": is_sent && field!(event, WatchSend, path) != 0,
                    "creator": delivery.creator.map(|id| format!("{id:016x}")),
                })
            }
        };
        if let (Some(line), Value::Object(parts)) = (line.as_object_mut(), parts) {
            line.extend(parts);
        }
        line
    }

    fn request_json(&self, id: u64) -> Value {
        let mut line = match self.summaries.get(&id) {
            Some(request) => plain::list_json(request, self.recording, &self.silences),
            None => json!({}),
        };
        line["request"] = Value::from(format!("{id:016x}"));
        line["asked"] = Value::Bool(self.marked.contains(&id));
        line["revision"] = Value::from(self.wrote.get(&id).copied());
        if let Some(parts) = line.as_object_mut() {
            parts.remove("id");
        }
        line
    }
}

fn offset(ns: i128) -> String {
    format!("+{}", words::millis(ns)).replace("+-", "-")
}

fn keep_alives(all: &KeepAlives, zero: i128) -> String {
    let mut text =
        format!("renewed  {}, the last at {}", times(all.count), offset(all.last - zero));
    if all.failed != 0 {
        text.push_str(&format!("; {} of them in vain", all.failed));
    }
    text
}

fn why(why: Why) -> &'static str {
    match why {
        Why::First => "first",
        Why::Attached => "attached",
        Why::Renewed => "renewed",
        Why::Expired => "expired",
        Why::Revoked => "revoked",
        Why::Session => "session",
        Why::Released => "released",
        Why::Proclaimed => "proclaimed",
        Why::Deleted => "deleted",
        Why::Delivered => "delivered",
        Why::Woken => "woken",
    }
}

#[cfg(test)]
mod tests {
    use glass_etcd::story::{Event, KeyText, recording};

    use super::*;

    const LEASE: &str = include_str!("../../tests/recordings/lease.ndjson");

    fn recorded() -> Recording {
        recording::read(LEASE.as_bytes()).unwrap().recording
    }

    fn told(recording: &Recording, target: &Target) -> String {
        let order = Order::of(recording);
        let mut out = Vec::new();
        let links = chains(recording, &order, target);
        Teller::new(recording, &order, &[]).plain(&mut out, &links).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// Goal: what is missing is called so, and times count from the first thing that is known.
    #[test]
    fn a_lease_without_a_grant_is_called_so() {
        let mut recording = recorded();
        recording.events.retain(|event| event.stage != Stage::LeaseGrant);
        let text = told(&recording, &Target::Lease(0x7ea5e));
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!("       unknown  lease 000000000007ea5e, its grant not captured", lines[0]);
        assert!(lines[1].starts_with("     +0.000 ms    attached  KV/Put chains/key"), "{text}");
    }

    #[test]
    fn a_request_without_an_rpc_and_deletions_without_records_are_called_so() {
        let mut recording = recorded();
        recording.events.retain(|event| {
            !(matches!(event.stage, Stage::Rpc | Stage::TreeIndexTombstone)
                && event.id == 0x407a_a22a_8ec4_a71d)
        });
        let text = told(&recording, &Target::Lease(0x7ea5e));
        let revoked = "revoked  request 407aa22a8ec4a71d, its rpc not captured";
        assert!(text.contains(revoked), "{text}");
        assert!(text.contains("deleted  2 more keys, their deletions not captured"), "{text}");
    }

    #[test]
    fn a_key_that_is_not_found_may_have_been_left_out() {
        let mut recording = recorded();
        assert!(no_key(&recording, "gone").to_string().contains("no write of key \"gone\""));
        let key = Some(KeyText { bytes: Vec::new(), length: 3 });
        recording.events.push(Event { key, ..Event::mark(0, Stage::TreeIndexPut, 1) });
        assert!(no_key(&recording, "gone").to_string().contains("--trace-redact-keys"));
    }
}
