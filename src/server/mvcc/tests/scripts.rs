//! The golden scripts `tests/scripts/key_index` and `tests/scripts/mvcc`.

use std::{collections::HashSet, error::Error as StdError, fmt::Write as _};

use goldenscript::{Command, Context, Runner};

use super::*;
use crate::server::mvcc::key_index::KeyIndex;

fn run(runner: &mut impl Runner, script: &str) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts");
    goldenscript::run(runner, format!("{folder}/{script}")).unwrap();
}

#[test]
fn key_index_lives() {
    run(&mut Key::default(), "key_index/lives");
}

#[test]
fn key_index_compact() {
    run(&mut Key::default(), "key_index/compact");
}

#[test]
fn mvcc_revisions() {
    run(&mut Keys(Some(Space::new())), "mvcc/revisions");
}

#[test]
fn mvcc_compaction() {
    run(&mut Keys(Some(Space::new())), "mvcc/compaction");
}

#[test]
fn mvcc_restart() {
    run(&mut Keys(Some(Space::new())), "mvcc/restart");
}

/// Runs commands on one key's index.
#[derive(Default)]
struct Key(KeyIndex);

fn generations(index: &KeyIndex) -> String {
    let generation = |revisions: &[Revision]| {
        let mains: Vec<_> = revisions.iter().map(|it| it.main.to_string()).collect();
        format!("[{}]", mains.join(" "))
    };
    let all: Vec<_> = index.generations().iter().map(|it| generation(&it.revisions)).collect();
    all.join(" ")
}

fn mains(revisions: HashSet<Revision>) -> String {
    let mut mains: Vec<_> = revisions.into_iter().map(|it| it.main).collect();
    mains.sort_unstable();
    format!("{mains:?}")
}

impl Runner for Key {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn StdError>> {
        let mut args = command.consume_args();
        let main: i64 = args.next_pos().ok_or("a revision is needed")?.parse()?;
        args.reject_next()?;
        let mut keep = HashSet::new();
        Ok(match command.name.as_str() {
            "put" => {
                let effect = self.0.put(Revision::new(main, 0));
                format!(
                    "created {} version {}: {}\n",
                    effect.created,
                    effect.version,
                    generations(&self.0)
                )
            }
            "tombstone" if self.0.tombstone(Revision::new(main, 0)) => {
                format!("{}\n", generations(&self.0))
            }
            "tombstone" => "gone already\n".to_owned(),
            "get" => match self.0.get(main) {
                Some(it) => format!("{main}: at {}, version {}\n", it.modified.main, it.version),
                None => format!("{main}: not there\n"),
            },
            "keep" => {
                self.0.keep(main, &mut keep);
                format!("hash keeps {}\n", mains(keep))
            }
            "compact" => {
                self.0.compact(main, &mut keep);
                let empty = if self.0.is_empty() { "empty" } else { "still needed" };
                format!("keeps {}: {} ({empty})\n", mains(keep), generations(&self.0))
            }
            name => return Err(format!("unknown command {name}").into()),
        })
    }
}

/// Runs commands on a key space.
struct Keys(Option<Space>);

impl Keys {
    fn get(space: &Space, command: &Command) -> Result<String, Box<dyn StdError>> {
        let mut args = command.consume_args();
        let key = text(args.next_pos().ok_or("a key is needed")?);
        let range_end = text(args.next_pos().unwrap_or(""));
        let revision = args.take_key("rev").unwrap_or("0").parse()?;
        args.reject_next()?;
        let request = RangeRequest { key, range_end, revision, ..RangeRequest::default() };
        let response = match space.range(&request) {
            Ok(response) => response,
            Err(error) => return Ok(format!("{error:?}\n")),
        };
        let mut out = String::new();
        for kv in &response.kvs {
            writeln!(
                out,
                "{}={} created {} modified {} version {}",
                show(&kv.key),
                show(&kv.value),
                kv.create_revision,
                kv.mod_revision,
                kv.version
            )?;
        }
        if out.is_empty() {
            out.push_str("nothing\n");
        }
        Ok(out)
    }

    fn rows(space: &Space) -> Result<String, Box<dyn StdError>> {
        let rows = space.store.backend().range(Bucket::Key, &[], None, 0);
        let mut out = String::new();
        for (key, _) in rows {
            let (revision, is_tombstone) = Revision::from_row_key(&key).ok_or("no row key")?;
            write!(out, "{revision}{} ", if is_tombstone { "t" } else { "" })?;
        }
        Ok(format!("rows {}\n", out.trim_end()))
    }
}

impl Runner for Keys {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn StdError>> {
        let mut space = self.0.take().ok_or("the key space is lost")?;
        let mut args = command.consume_args();
        let mut next = || args.next_pos().ok_or("an argument is missing");
        let out = match command.name.as_str() {
            "put" => format!("revision {}\n", space.put(next()?, next()?)),
            "del" => {
                let (deleted, revision) = space.delete(next()?, "");
                format!("deleted {deleted}, revision {revision}\n")
            }
            "get" => Keys::get(&space, command)?,
            "rev" => format!("revision {}\n", space.store.revision()),
            "compact" => format!("{:?}\n", space.compact(next()?.parse()?)),
            "step" => match space.store.step_compaction(next()?.parse()?) {
                true => "more to do\n".to_owned(),
                false => format!("done, finished {}\n", space.store.finished_compaction()),
            },
            "rows" => Keys::rows(&space)?,
            "hash" => format!("hash {}\n", space.hash(0)),
            "history" => {
                let index = space.store.read();
                let key = index.tree.key_index(next()?.as_bytes());
                format!("{}\n", key.map(generations).unwrap_or_default())
            }
            "restart" => {
                space = space.restart();
                String::new()
            }
            name => return Err(format!("unknown command {name}").into()),
        };
        self.0 = Some(space);
        Ok(out)
    }
}
