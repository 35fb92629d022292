//! A strict reader of the Trace Event Format: anything that the viewers would silently drop or draw
//! wrongly is an error here.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;

/// The content of a file.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Names of processes, by number.
    pub(crate) processes: BTreeMap<u64, String>,
    /// Names of threads, by process and number.
    pub(crate) threads: BTreeMap<(u64, u64), String>,
    /// Complete events: process, thread, name, start and end in nanoseconds.
    pub(crate) slices: Vec<(u64, u64, String, i64, i64)>,
    /// Async pairs: process, id, name, and nesting depth.
    pub(crate) pairs: Vec<(u64, String, String, usize)>,
    /// Instants except those that only carry an arrow: process, thread, name, time.
    pub(crate) marks: Vec<(u64, u64, String, i64)>,
    /// Arrows: category and name, and the processes of both ends.
    pub(crate) flows: Vec<(String, String, u64, u64)>,
    /// Ends of arrows that touch no slice on their thread.
    pub(crate) loose: Vec<String>,
    /// Every element of `traceEvents`, unchanged.
    pub(crate) events: Vec<Value>,
}

type End = (u64, u64, String, String, i64);

#[derive(Default)]
struct Reader {
    seen: Seen,
    open: HashMap<(u64, String), Vec<(String, i64)>>,
    last: HashMap<(u64, String), i64>,
    anchors: BTreeSet<(u64, u64, i64)>,
    starts: BTreeMap<u64, End>,
    ends: BTreeMap<u64, End>,
}

/// Reads a file; the error names the line and its mistake.
pub(crate) fn parse(text: &str) -> Result<Seen, String> {
    let file: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let events = file["traceEvents"].as_array().ok_or("no traceEvents")?;
    let mut reader = Reader::default();
    for event in events {
        reader.take(event).map_err(|what| format!("{what}: {event}"))?;
    }
    reader.seen.events.clone_from(events);
    reader.finish()
}

fn number(event: &Value, name: &str) -> Result<u64, String> {
    event[name].as_u64().ok_or_else(|| format!("no {name}"))
}

fn text(event: &Value, name: &str) -> Result<String, String> {
    event[name].as_str().map(str::to_owned).ok_or_else(|| format!("no {name}"))
}

fn nanos(event: &Value, name: &str) -> Result<i64, String> {
    let micros = event[name].as_f64().ok_or_else(|| format!("no {name}"))?;
    if micros < 0.0 {
        Err(format!("{name} is negative"))
    } else {
        Ok((micros * 1e3).round() as i64)
    }
}

impl Reader {
    fn take(&mut self, event: &Value) -> Result<(), String> {
        let (pid, tid) = (number(event, "pid")?, number(event, "tid")?);
        let (ph, name) = (text(event, "ph")?, text(event, "name")?);
        if ph == "M" {
            let args = &event["args"];
            let is_new = match name.as_str() {
                "process_name" => self.seen.processes.insert(pid, text(args, "name")?).is_none(),
                "thread_name" => {
                    self.seen.threads.insert((pid, tid), text(args, "name")?).is_none()
                }
                "process_sort_index" | "thread_sort_index" => args["sort_index"].is_u64(),
                "process_labels" => args["labels"].is_string(),
                _ => false,
            };
            return if is_new { Ok(()) } else { Err("metadata twice, or unknown".to_owned()) };
        }
        let (ts, cat) = (nanos(event, "ts")?, text(event, "cat")?);
        match ph.as_str() {
            "X" => self.seen.slices.push((pid, tid, name, ts, ts + nanos(event, "dur")?)),
            "i" if event["s"] != "t" => return Err("an instant without reach".to_owned()),
            "i" if cat == "flow" => _ = self.anchors.insert((pid, tid, ts)),
            "i" => self.seen.marks.push((pid, tid, name, ts)),
            "b" | "e" => return self.pair(&ph, (pid, text(&event["id2"], "local")?), name, ts),
            "s" | "f" => {
                let ends = if ph == "s" { &mut self.starts } else { &mut self.ends };
                if event["bp"] != "e"
                    || ends.insert(number(event, "id")?, (pid, tid, cat, name, ts)).is_some()
                {
                    return Err("an arrow's end twice, or without bp".to_owned());
                }
            }
            _ => return Err("unknown phase".to_owned()),
        }
        Ok(())
    }

    fn pair(&mut self, ph: &str, row: (u64, String), name: String, ts: i64) -> Result<(), String> {
        let last = self.last.insert(row.clone(), ts).unwrap_or(i64::MIN);
        if ts < last {
            return Err("goes back in time".to_owned());
        }
        let open = self.open.entry(row.clone()).or_default();
        if ph == "b" {
            if name == "rpc" && !open.is_empty() {
                return Err("the rpc is inside something else".to_owned());
            }
            self.seen.pairs.push((row.0, row.1, name.clone(), open.len()));
            open.push((name, ts));
            return Ok(());
        }
        match open.pop() {
            Some((begun, _)) if begun == name => Ok(()),
            other => Err(format!("an end, but open is {other:?}")),
        }
    }

    fn finish(mut self) -> Result<Seen, String> {
        if let Some(row) = self.open.iter().find(|(_, open)| !open.is_empty()) {
            return Err(format!("no end: {row:?}"));
        }
        self.nest()?;
        if !self.starts.keys().eq(self.ends.keys()) {
            return Err("arrows with one end".to_owned());
        }
        for (id, from) in &self.starts {
            let to = &self.ends[id];
            if (&from.2, &from.3) != (&to.2, &to.3) || to.4 < from.4 {
                return Err(format!("no arrow: {from:?} to {to:?}"));
            }
            let loose = [from, to].into_iter().filter(|end| !self.touches(end));
            let loose: Vec<String> = loose.map(|end| format!("{end:?}")).collect();
            self.seen.loose.extend(loose);
            self.seen.flows.push((from.2.clone(), from.3.clone(), from.0, to.0));
        }
        let used = (self.seen.slices.iter().map(|slice| (slice.0, slice.1)))
            .chain(self.seen.marks.iter().map(|mark| (mark.0, mark.1)));
        for thread in used {
            if !self.seen.threads.contains_key(&thread)
                || !self.seen.processes.contains_key(&thread.0)
            {
                return Err(format!("{thread:?} has no name"));
            }
        }
        Ok(self.seen)
    }

    /// On each thread, two slices nest or are disjoint.
    fn nest(&self) -> Result<(), String> {
        let mut slices: Vec<_> = self.seen.slices.iter().collect();
        slices.sort_by_key(|(pid, tid, _, start, end)| (*pid, *tid, *start, -end));
        let mut open: Vec<&(u64, u64, String, i64, i64)> = Vec::new();
        for slice in slices {
            open.retain(|o| (o.0, o.1) == (slice.0, slice.1) && slice.3 < o.4);
            if let Some(parent) = open.iter().find(|o| o.4 < slice.4) {
                return Err(format!("{slice:?} overlaps {parent:?}"));
            }
            open.push(slice);
        }
        Ok(())
    }

    fn touches(&self, (pid, tid, _, _, ts): &End) -> bool {
        let is_in = |slice: &(u64, u64, String, i64, i64)| {
            (slice.0, slice.1) == (*pid, *tid) && (slice.3..=slice.4).contains(ts)
        };
        let is_at = |mark: &(u64, u64, String, i64)| (mark.0, mark.1, mark.3) == (*pid, *tid, *ts);
        self.anchors.contains(&(*pid, *tid, *ts))
            || self.seen.slices.iter().any(is_in)
            || self.seen.marks.iter().any(is_at)
    }
}
