//! The Trace Event Format, which Perfetto and `chrome://tracing` open.
//!
//! | in the recording               | in the file                                               |
//! |--------------------------------|-----------------------------------------------------------|
//! | a member                       | a process, named and in the order of the recording        |
//! | a thread                       | a thread; more rows where its spans overlap in part       |
//! | a loop's span                  | a complete event (`X`) on its thread                      |
//! | a request's span               | an async pair (`b`, `e`) of the request's id, below `rpc` |
//! | a mark, a keyframe             | an instant (`i`) on its thread                            |
//! | a beginning without its end    | an instant whose name ends in `begins`                    |
//! | a message; an entry's way into a batch | an arrow (`s`, `f`)                               |
//!
//! An async id is local to its process: the steps of a request on a follower are in the follower's
//! rows. An arrow can only leave a thread, so where a request's span points to a batch, there is an
//! instant of the category `flow` on its thread.
//!
//! Times are microseconds since the earliest step, by the first member's clock; the other members'
//! clocks are aligned by the messages between them (see [`story::order`](crate::story::order)).
//! That is an estimate. An arrow that would go back in time ends when it begins.
//!
//! Fields become args with the names of the vocabulary, and `record` holds the parts that every
//! record has.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io::{self, BufWriter, Write},
};

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::json;

use super::{
    flows::{Flow, flows},
    lanes::{Slice, extent, spread},
};
use crate::{
    story::{Event, Recording, order::Order, recording::json::optional_parts},
    trace::{
        THREADS,
        record::Kind,
        stage::{Family, Stage},
        value::{hex, value_of},
    },
};

/// Distance between the row numbers of two threads: no thread needs more rows.
const ROWS: usize = 1_000;

/// Number of elements written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Processes: one for each member.
    pub processes: usize,
    /// Spans of loops, in the rows of their threads.
    pub slices: usize,
    /// Spans of requests, each with a beginning and an end.
    pub requests: usize,
    /// Marks, and beginnings without ends.
    pub marks: usize,
    /// Arrows, from a send to its receive or from an entry to its batch.
    pub flows: usize,
}

/// Writes a recording as one JSON object. Errors are those of `out`.
pub fn write<W: Write>(out: W, recording: &Recording) -> io::Result<Counts> {
    let order = Order::of(recording);
    let plan = Plan::new(recording, &order);
    let mut file = File { out: BufWriter::new(out), is_first: true };
    file.out.write_all(b"{\"displayTimeUnit\":\"ns\",\"otherData\":")?;
    let other = json!({ "producer": "glass", "began_unix_ns": plan.zero.to_string() });
    serde_json::to_writer(&mut file.out, &other)?;
    file.out.write_all(b",\"traceEvents\":[\n")?;
    plan.names(&mut file)?;
    plan.slices(&mut file)?;
    plan.requests(&mut file)?;
    plan.marks(&mut file)?;
    plan.flows(&mut file)?;
    file.out.write_all(b"\n]}\n")?;
    file.out.flush()?;
    Ok(Counts {
        processes: recording.members.len(),
        slices: plan.slices.len(),
        requests: plan.requests.len(),
        marks: plan.marks.len(),
        flows: plan.flows.len(),
    })
}

struct File<W: Write> {
    out: BufWriter<W>,
    is_first: bool,
}

impl<W: Write> File<W> {
    fn entry(&mut self, entry: &impl Serialize) -> io::Result<()> {
        if !std::mem::replace(&mut self.is_first, false) {
            self.out.write_all(b",\n")?;
        }
        serde_json::to_writer(&mut self.out, entry)?;
        Ok(())
    }
}

/// One line of `traceEvents`.
#[derive(Serialize)]
struct Entry<'a> {
    ph: &'static str,
    pid: usize,
    tid: usize,
    ts: f64,
    name: &'a str,
    cat: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<f64>,
    /// Scope of an instant: `t`, its thread.
    #[serde(skip_serializing_if = "Option::is_none")]
    s: Option<&'static str>,
    /// Binding of an arrow's end: `e`, the enclosing slice.
    #[serde(skip_serializing_if = "Option::is_none")]
    bp: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id2: Option<Local>,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<Args<'a>>,
}

/// An id that is local to its process.
#[derive(Serialize)]
struct Local {
    local: String,
}

/// An event's fields, and the parts that every record has.
struct Args<'a>(&'a Event);

impl Serialize for Args<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let event = self.0;
        let mut map = serializer.serialize_map(None)?;
        for (field, value) in event.named() {
            map.serialize_entry(field.name, &value_of(field, value))?;
        }
        map.serialize_entry("record", &Details(event))?;
        map.end()
    }
}

struct Details<'a>(&'a Event);

impl Serialize for Details<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let event = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("boot", &event.boot)?;
        map.serialize_entry("clock", &event.clock)?;
        map.serialize_entry("end", &event.clock_end)?;
        optional_parts(&mut map, event)?;
        map.end()
    }
}

/// The elements of the file, by kind.
struct Plan<'a> {
    recording: &'a Recording,
    order: &'a Order,
    /// Spans of loops, by thread.
    slices: Vec<Slice>,
    /// Spans of requests, by member and request.
    requests: Vec<Slice>,
    /// Events without a length, by position.
    marks: Vec<usize>,
    flows: Vec<Flow>,
    /// The row of each slice.
    lanes: HashMap<usize, usize>,
    /// The earliest start, in nanoseconds since 1970: times in the file count from it.
    zero: i128,
}

fn is_request(event: &Event) -> bool {
    event.kind == Kind::Span && event.id != 0 && event.stage.family() == Family::Request
}

impl<'a> Plan<'a> {
    fn new(recording: &'a Recording, order: &'a Order) -> Plan<'a> {
        let events = &recording.events;
        let mut threads: BTreeMap<(u8, u8), Vec<Slice>> = BTreeMap::new();
        let mut requests: BTreeMap<(u8, u64), Vec<Slice>> = BTreeMap::new();
        let step = |event: &Event| (event.member, event.boot, event.stage, event.clock);
        let mut ended = HashSet::new();
        for (at, event) in events.iter().enumerate().filter(|(_, e)| e.kind == Kind::Span) {
            ended.insert(step(event));
            let slice = Slice::of(recording, order, at);
            if is_request(event) {
                requests.entry((event.member, event.id)).or_default().push(slice);
            } else {
                threads.entry((event.member, event.thread)).or_default().push(slice);
            }
        }
        threads.values_mut().for_each(|slices| spread(slices, events));
        requests.values_mut().for_each(|slices| spread(slices, events));
        let slices: Vec<Slice> = threads.into_values().flatten().collect();
        let is_mark = |at: &usize| match events[*at].kind {
            Kind::Span => false,
            Kind::Begin => !ended.contains(&step(&events[*at])),
            Kind::Mark | Kind::Key | Kind::Keyframe => true,
        };
        let marks: Vec<usize> = order.rows.iter().copied().filter(is_mark).collect();
        let start = |(event, time): (&Event, &i128)| extent(event, *time).0;
        Plan {
            recording,
            order,
            requests: requests.into_values().flatten().collect(),
            marks,
            flows: flows(recording, order),
            lanes: slices.iter().map(|slice| (slice.event, slice.lane)).collect(),
            slices,
            zero: events.iter().zip(&order.times).map(start).min().unwrap_or(0),
        }
    }

    fn event(&self, at: usize) -> &'a Event {
        &self.recording.events[at]
    }

    /// A line about this event, at this time, on its thread.
    fn entry(&self, ph: &'static str, at: usize, time: i128) -> Entry<'a> {
        let event = self.event(at);
        let lane = self.lanes.get(&at).copied().unwrap_or(0);
        Entry {
            ph,
            pid: usize::from(event.member) + 1,
            tid: tid(event.thread, lane),
            ts: micros(time - self.zero),
            name: event.stage.name(),
            cat: "loop",
            dur: None,
            s: None,
            bp: None,
            id: None,
            id2: None,
            args: None,
        }
    }

    /// Names and sort order of processes and threads.
    fn names<W: Write>(&self, file: &mut File<W>) -> io::Result<()> {
        let meta = |pid: usize, tid: usize, name: &str, args: serde_json::Value| json!({ "ph": "M", "pid": pid, "tid": tid, "name": name, "args": args });
        for (place, member) in self.recording.members.iter().enumerate() {
            let (pid, id) = (place + 1, hex(member.member_id));
            let name = format!("{} ({id})", member.name);
            file.entry(&meta(pid, 0, "process_name", json!({ "name": name })))?;
            file.entry(&meta(pid, 0, "process_sort_index", json!({ "sort_index": place })))?;
            let lost = self.recording.dropped.get(place).copied().unwrap_or(0);
            if lost != 0 {
                let labels = format!("{lost} records lost");
                file.entry(&meta(pid, 0, "process_labels", json!({ "labels": labels })))?;
            }
        }
        let mut rows: BTreeMap<(u8, usize), (u8, usize)> = BTreeMap::new();
        for (at, event) in self.recording.events.iter().enumerate() {
            let lane = self.lanes.get(&at).copied().unwrap_or(0);
            for lane in [0, lane] {
                rows.insert((event.member, tid(event.thread, lane)), (event.thread, lane));
            }
        }
        for ((member, tid), (thread, lane)) in rows {
            let pid = usize::from(member) + 1;
            let name = *THREADS.get(usize::from(thread)).unwrap_or(&THREADS[0]);
            let name = if lane == 0 { name.to_owned() } else { format!("{name} {}", lane + 1) };
            file.entry(&meta(pid, tid, "thread_name", json!({ "name": name })))?;
            file.entry(&meta(pid, tid, "thread_sort_index", json!({ "sort_index": tid })))?;
        }
        Ok(())
    }

    fn slices<W: Write>(&self, file: &mut File<W>) -> io::Result<()> {
        for slice in &self.slices {
            let entry = self.entry("X", slice.event, slice.start);
            let dur = Some(micros(slice.end - slice.start));
            file.entry(&Entry { dur, args: Some(Args(self.event(slice.event))), ..entry })?;
        }
        Ok(())
    }

    /// Pairs, in the order in which they nest: a row's spans are closed before later ones open.
    fn requests<W: Write>(&self, file: &mut File<W>) -> io::Result<()> {
        let row = |slice: &Slice| {
            let event = self.event(slice.event);
            (event.member, event.id, slice.lane)
        };
        let mut rows: BTreeMap<(u8, u64, usize), Vec<&Slice>> = BTreeMap::new();
        for slice in &self.requests {
            rows.entry(row(slice)).or_default().push(slice);
        }
        for ((_, id, lane), slices) in rows {
            let local = if lane == 0 { hex(id) } else { format!("{} {}", hex(id), lane + 1) };
            let mut open: Vec<&Slice> = Vec::new();
            for slice in slices {
                while let Some(last) = open.pop_if(|last| last.end <= slice.start) {
                    self.pair(file, "e", last, &local)?;
                }
                self.pair(file, "b", slice, &local)?;
                open.push(slice);
            }
            while let Some(last) = open.pop() {
                self.pair(file, "e", last, &local)?;
            }
        }
        Ok(())
    }

    fn pair<W: Write>(
        &self,
        file: &mut File<W>,
        ph: &'static str,
        slice: &Slice,
        local: &str,
    ) -> io::Result<()> {
        let (time, args) = match ph {
            "b" => (slice.start, Some(Args(self.event(slice.event)))),
            _ => (slice.end, None),
        };
        let id2 = Some(Local { local: local.to_owned() });
        let entry = self.entry(ph, slice.event, time);
        file.entry(&Entry { cat: "request", id2, args, ..entry })
    }

    fn marks<W: Write>(&self, file: &mut File<W>) -> io::Result<()> {
        for at in &self.marks {
            let event = self.event(*at);
            let name = match event.kind {
                Kind::Begin => format!("{} begins", event.stage.name()),
                _ => event.stage.name().to_owned(),
            };
            let cat = if event.stage.family() == Family::Request { "request" } else { "loop" };
            let entry = self.entry("i", *at, self.order.times[*at]);
            let (s, args) = (Some("t"), Some(Args(event)));
            file.entry(&Entry { name: &name, cat, s, args, ..entry })?;
        }
        Ok(())
    }

    fn flows<W: Write>(&self, file: &mut File<W>) -> io::Result<()> {
        for (number, flow) in self.flows.iter().enumerate() {
            let (from, to) = (self.event(flow.from), self.event(flow.to));
            let extent_of = |event, at: usize| extent(event, self.order.times[at]);
            // A wait points to its round from the moment it waits; an entry once it is applied.
            let start = match from.stage {
                Stage::ReadIndexWait => extent_of(from, flow.from).0,
                _ => self.order.times[flow.from],
            };
            let (begin, end) = extent_of(to, flow.to);
            let end = start.max(begin).min(end).max(start);
            if is_request(from) {
                let entry = self.entry("i", flow.from, start);
                file.entry(&Entry { cat: "flow", s: Some("t"), ..entry })?;
            }
            let (name, cat, id) = (flow.name, flow.category, Some(number + 1));
            let entry = self.entry("s", flow.from, start);
            file.entry(&Entry { name, cat, id, bp: Some("e"), ..entry })?;
            let entry = self.entry("f", flow.to, end);
            file.entry(&Entry { name, cat, id, bp: Some("e"), ..entry })?;
        }
        Ok(())
    }
}

fn tid(thread: u8, lane: usize) -> usize {
    usize::from(thread) * ROWS + lane.min(ROWS - 1) + 1
}

/// Nanoseconds as the format's microseconds; exact for the 104 days that 53 bits hold.
fn micros(ns: i128) -> f64 {
    ns as f64 / 1_000.0
}

#[cfg(test)]
mod tests;
