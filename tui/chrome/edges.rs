//! Steps that were over before they were told: what precedes an rpc, and what follows it.
//!
//! ```text
//!   rpc.queue   rpc                         answer.flush
//!   ├───────┤ ├────────────────────────────┤ ├──────────┤     one row
//!           ▲ told here                                 ▲ and here
//! ```
//!
//! The glass tells such a step in one entry, an instant, with how long ago it began and how long it
//! took. Here it becomes a pair. The rpc's own entries are made a few microseconds before the clock
//! of its record is read, and after. So a step that precedes the rpc would seem to end after the
//! rpc has begun, and viewers would nest the two. Therefore it is cut at the rpc's entry, and one
//! that follows begins at the rpc's end. For the same reason, of two steps in a row the second
//! begins no earlier than the first ends.
//!
//! Left out: cutting at an rpc that is not among the last [`RPCS_MAX`].

use std::collections::VecDeque;

use glass_etcd::trace::Stage;
use serde_json::{Map, Value};

/// How many rpcs are remembered: as many as are kept in a second.
const RPCS_MAX: usize = 512;
/// Microseconds between two times that differ for certain: times since 1970 have this resolution.
const APART: f64 = 0.25;

/// The entry of an rpc.
struct Rpc {
    row: String,
    begin: f64,
    /// `None` if it has not ended.
    end: Option<f64>,
    /// The end of the last step that precedes it.
    before: f64,
}

/// The last rpcs of the file.
#[derive(Default)]
pub(super) struct Rpcs(VecDeque<Rpc>);

fn text<'a>(entry: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    entry.get(name)?.as_str()
}

fn row(entry: &Map<String, Value>) -> Option<&str> {
    entry.get("id2")?["local"].as_str()
}

impl Rpcs {
    /// The entry, or the pair that a step becomes which was over before it was told.
    pub(super) fn at_the_edge(&mut self, mut entry: Map<String, Value>) -> Vec<Map<String, Value>> {
        self.note(&entry);
        match self.extent(&mut entry) {
            Some((begin, end)) => pair(entry, begin, end),
            None => vec![entry],
        }
    }

    fn note(&mut self, entry: &Map<String, Value>) {
        let (Some(row), Some(time)) = (row(entry), entry.get("ts").and_then(Value::as_f64)) else {
            return;
        };
        let is_rpc = text(entry, "name") == Some(Stage::Rpc.name());
        match text(entry, "ph") {
            Some("b") if is_rpc => {
                if RPCS_MAX <= self.0.len() {
                    self.0.pop_front();
                }
                self.0.push_back(Rpc { row: row.to_owned(), begin: time, end: None, before: 0.0 });
            }
            Some("e") if is_rpc => {
                let own = self.0.iter_mut().rev().find(|rpc| rpc.row == row);
                own.into_iter().for_each(|rpc| rpc.end = Some(time));
            }
            _ => (),
        }
    }

    /// When the step began and ended; `None` if this is no step that was over.
    fn extent(&mut self, entry: &mut Map<String, Value>) -> Option<(f64, f64)> {
        let told = entry.get("ts")?.as_f64()?;
        let args = entry.get_mut("args")?.as_object_mut()?;
        let mut micros = |name| Some(args.remove(name)?.as_f64()? / 1_000.0);
        let (past, took) = (micros("past_ns")?, micros("took_ns")?);
        let (begin, end) = (told - past, told - past + took);
        let row = row(entry)?;
        let Some(rpc) = self.0.iter_mut().rev().find(|rpc| rpc.row == row) else {
            return Some((begin, end));
        };
        if let Some(ended) = rpc.end {
            let begin = begin.max(ended + APART);
            return Some((begin, end.max(begin)));
        }
        let latest = rpc.begin - APART;
        let begin = begin.max(rpc.before).min(latest);
        rpc.before = end.clamp(begin, latest);
        Some((begin, rpc.before))
    }
}

fn pair(entry: Map<String, Value>, begin: f64, end: f64) -> Vec<Map<String, Value>> {
    let (mut first, mut last) = (entry.clone(), entry);
    first.remove("args");
    for (half, phase, time) in [(&mut first, "b", begin), (&mut last, "e", end)] {
        half.insert("ph".to_owned(), phase.into());
        half.insert("ts".to_owned(), time.into());
    }
    vec![first, last]
}
