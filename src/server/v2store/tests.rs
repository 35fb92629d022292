//! The golden scripts `tests/scripts/v2`. After each command the rows in the backend must make the
//! same store.

use std::{error::Error as StdError, fmt::Write as _, sync::Arc};

use goldenscript::{Command, Context, Runner};
use tokio::sync::mpsc::Receiver;

use super::{
    event::{Action, Event, View, WINDOW},
    hub::Wish,
    path::Path,
    state::{Answer, State},
    stats::{Kind, Writes},
};
use crate::{
    pb::etcdserverpb::Request,
    storage::backend::{self, Backend},
};

const SECOND: i64 = 1_000_000_000;

/// The clock of a script begins here: 2026-01-01.
const BEGIN: i64 = 1_767_225_600 * SECOND;

struct World {
    state: State,
    now: i64,
    watchers: Vec<(String, Receiver<Arc<Event>>)>,
    backend: Arc<Backend>,
    _dir: tempfile::TempDir,
}

fn run(script: &str) {
    let dir = tempfile::tempdir().unwrap();
    let backend = Backend::open(&dir.path().join("db"), backend::Options::default()).unwrap();
    let (state, watchers) = (State::default(), Vec::new());
    let mut world = World { state, now: BEGIN, watchers, backend, _dir: dir };
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts/v2");
    goldenscript::run(&mut world, format!("{folder}/{script}")).unwrap();
    world.backend.stop();
}

#[test]
fn v2_keys_are_set_created_updated_compared_and_deleted() {
    run("keys");
}

#[test]
fn v2_directories_hold_keys_and_hide_some() {
    run("directories");
}

#[test]
fn v2_keys_expire_when_the_log_says_so() {
    run("expiry");
}

#[test]
fn v2_watchers_are_told_as_etcd_tells_them() {
    run("watchers");
}

#[test]
fn v2_events_leave_the_window_after_a_thousand_others() {
    run("window");
}

fn shown(view: &View, now: i64) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut out = text(&view.key.text());
    match &view.value {
        Some(value) => write!(out, "={}", text(value)).unwrap(),
        None if view.is_dir => out.push('/'),
        None => {}
    }
    write!(out, " @{}", view.modified).unwrap();
    if view.created != view.modified {
        write!(out, " created {}", view.created).unwrap();
    }
    if view.expires != 0 {
        let left = view.expires - now;
        write!(out, " ttl {} ({} ms)", view.ttl, left / 1_000_000).unwrap();
    }
    out
}

fn event(event: &Event, now: i64) -> String {
    let mut out = format!("{} {}", event.action.name(), shown(&event.node, now));
    if let Some(prev) = &event.prev {
        write!(out, "; was {}", shown(prev, now)).unwrap();
    }
    if event.is_created() {
        out.push_str("; created");
    }
    out
}

fn answer(answer: &Answer, now: i64) -> String {
    let mut out = format!("{}: {}\n", answer.index, event(&answer.event, now));
    for view in &answer.below {
        writeln!(out, "   {}", shown(view, now)).unwrap();
    }
    out
}

/// The request of a command: its flags and its parameters have etcd's names.
fn request(command: &Command, now: i64) -> Result<Request, Box<dyn StdError>> {
    let mut args = command.consume_args();
    let path = format!("/1/{}", args.next_pos().unwrap_or(""));
    let owned = |value: Option<&str>| value.map(|value| value.to_owned().into());
    let val = owned(args.take_key("value"));
    let prev_value = owned(args.take_key("prevValue"));
    let prev_index = args.take_key("prevIndex").map(str::parse).transpose()?;
    let prev_exist = args.take_key("prevExist").map(str::parse).transpose()?;
    let ttl: Option<i64> = args.take_key("ttl").map(str::parse).transpose()?;
    let mut request = Request {
        method: Some(command.name.to_uppercase()),
        path: Some(path.into()),
        val,
        prev_value,
        prev_index,
        prev_exist,
        expiration: ttl.map(|ttl| now + ttl * SECOND),
        time: Some(now),
        ..Request::default()
    };
    while let Some(flag) = args.next_pos() {
        match flag {
            "dir" => request.dir = Some(true),
            "recursive" => request.recursive = Some(true),
            "refresh" => request.refresh = Some(true),
            flag => return Err(format!("unknown flag {flag}").into()),
        }
    }
    args.reject_next()?;
    Ok(request)
}

impl World {
    fn apply(&mut self, request: &Request) -> Result<String, Box<dyn StdError>> {
        let before = self.state.index;
        let action = Action::of(request).ok_or("unknown method")?;
        let (nodes, writes) = (self.state.nodes.clone(), self.state.index);
        let applied = self.state.apply(action, request, self.now);
        if applied.is_err() {
            assert_eq!((&nodes, writes), (&self.state.nodes, self.state.index));
        }
        self.state.flush(before, &mut self.backend.write());
        Ok(match applied {
            Ok(Some(done)) => answer(&done, self.now),
            Ok(None) => format!("{}\n", self.state.index),
            Err(refusal) => {
                let cause = String::from_utf8_lossy(&refusal.cause);
                format!("{}: {} {:?} {cause}\n", refusal.index, refusal.code as u16, refusal.code)
            }
        })
    }

    fn watch(&mut self, command: &Command) -> Result<String, Box<dyn StdError>> {
        let mut args = command.consume_args();
        let text = args.next_pos().ok_or("a path is needed")?;
        let since = args.take_key("since").unwrap_or("0").parse()?;
        let mut wish = Wish { since, ..Wish::default() };
        while let Some(flag) = args.next_pos() {
            match flag {
                "recursive" => wish.recursive = true,
                "stream" => wish.stream = true,
                flag => return Err(format!("unknown flag {flag}").into()),
            }
        }
        let (key, index) = (Path::clean(format!("/1/{text}").as_bytes()), self.state.index);
        wish.since = if since == 0 { index + 1 } else { since };
        Ok(match self.state.window.scan(&key, wish.recursive, wish.since, index) {
            Ok(Some(found)) => format!("found {}\n", event(&found, self.now)),
            Ok(None) => {
                let (number, events) = self.state.hub.add(&key, wish);
                self.watchers.push((format!("watcher {number}"), events));
                format!("watcher {number} waits\n")
            }
            Err(refusal) => {
                let cause = String::from_utf8_lossy(&refusal.cause);
                format!("{}: {} {cause}\n", refusal.index, refusal.code as u16)
            }
        })
    }

    /// What the watchers were told since the last command.
    fn told(&mut self) -> String {
        let mut out = String::new();
        for (name, events) in &mut self.watchers {
            while let Ok(told) = events.try_recv() {
                writeln!(out, "{name}: {}", event(&told, self.now)).unwrap();
            }
        }
        out
    }

    /// The rows make the same store. The TTLs of its events are those of now.
    fn check_rows(&self) {
        let read = State::read(&self.backend, self.now).unwrap();
        assert_eq!(read.nodes, self.state.nodes);
        assert_eq!(read.expiring, self.state.expiring);
        assert_eq!((read.index, &read.writes), (self.state.index, &self.state.writes));
        let bare = |view: &View| View { ttl: 0, ..view.clone() };
        let window = |state: &State| -> Vec<Event> {
            let events = state.window.since(0).map(|event| Event {
                node: bare(&event.node),
                prev: event.prev.as_ref().map(bare),
                ..(**event).clone()
            });
            events.collect()
        };
        let kept = window(&read);
        assert_eq!(kept, window(&self.state));
        let indexes: Vec<u64> = kept.iter().map(Event::index).collect();
        assert!(indexes.windows(2).all(|pair| pair[0] + 1 == pair[1]) && indexes.len() <= WINDOW);
        let timed = self.state.nodes.iter().filter(|(_, node)| node.expires != 0);
        let mut timed: Vec<_> = timed.map(|(path, node)| (node.expires, path.clone())).collect();
        timed.sort_unstable();
        assert_eq!(timed, self.state.expiring.iter().cloned().collect::<Vec<_>>());
    }
}

fn counters(writes: &Writes) -> String {
    let kinds = [
        Kind::Set,
        Kind::Create,
        Kind::Update,
        Kind::Delete,
        Kind::CompareAndSwap,
        Kind::CompareAndDelete,
    ];
    let mut out = String::new();
    for kind in kinds {
        let at = kind as usize;
        writeln!(out, "{kind:?} {} failed {}", writes.succeeded[at], writes.failed[at]).unwrap();
    }
    writeln!(out, "expired {}", writes.expired).unwrap();
    out
}

impl Runner for World {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn StdError>> {
        let mut args = command.consume_args();
        let mut number = || -> Result<i64, Box<dyn StdError>> {
            Ok(args.next_pos().ok_or("a number is needed")?.parse()?)
        };
        let mut out = match command.name.as_str() {
            "put" | "post" | "delete" | "sync" | "qget" => {
                let request = request(command, self.now)?;
                self.apply(&request)?
            }
            "watch" => self.watch(command)?,
            "wait" => {
                self.now += number()? * 1_000_000;
                String::new()
            }
            "fill" => {
                for _ in 0..number()? {
                    let path = Some("/1/filler".into());
                    let method = Some("PUT".to_owned());
                    self.apply(&Request { method, path, ..Request::default() })?;
                }
                format!("{}\n", self.state.index)
            }
            "members" => {
                let before = self.state.index;
                (0..number()?).for_each(|_| self.state.note_cluster(Kind::Create));
                self.state.flush(before, &mut self.backend.write());
                format!("{}\n", self.state.index)
            }
            "restart" => {
                self.state = State::read(&self.backend, self.now)?;
                String::new()
            }
            "count" => {
                format!("{}watchers {}\n", counters(&self.state.writes), self.state.hub.count)
            }
            name => return Err(format!("unknown command {name}").into()),
        };
        out += &self.told();
        self.check_rows();
        Ok(out)
    }
}
