//! The times in which the threads of a member had no CPU: a section of their own.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use glass_etcd::{
    story::{Event, query::diff::Side},
    trace::Stage,
};

use super::words;

/// Writes a sentence for each member with such times in the story; nothing if there is none.
pub(super) fn write(out: &mut impl Write, side: Side<'_>) -> io::Result<()> {
    let mut members: BTreeMap<u8, Waits> = BTreeMap::new();
    for event in side.story.steps.iter().map(|step| &side.recording.events[step.event]) {
        if event.stage == Stage::CpuWait {
            members.entry(event.member).or_default().add(event);
        }
    }
    if !members.is_empty() {
        writeln!(out, "\nwaited for a CPU")?;
    }
    for (member, waits) in members {
        writeln!(out, "  {}", waits.sentence(words::name(member, &side.recording.members)))?;
    }
    Ok(())
}

/// What the threads of one member waited, in all such times of a story.
#[derive(Default)]
struct Waits {
    /// How long these times were, in nanoseconds.
    during_ns: u64,
    /// For each thread that waited: its name, and for how long in nanoseconds.
    threads: Vec<(&'static str, u64)>,
}

impl Waits {
    fn add(&mut self, event: &Event) {
        self.during_ns = self.during_ns.saturating_add(event.took_ns);
        for (field, ns) in event.named().filter(|(_, ns)| *ns != 0) {
            match self.threads.iter_mut().find(|(name, _)| *name == field.name) {
                Some((_, all)) => *all = all.saturating_add(ns),
                None => self.threads.push((field.name, ns)),
            }
        }
    }

    fn sentence(&self, member: &str) -> String {
        let millis = |ns: u64| words::millis(i128::from(ns));
        let waits = self.threads.iter().map(|(name, ns)| format!("{name} {}", millis(*ns)));
        format!(
            "threads of {member} waited for a CPU during {}: {}",
            millis(self.during_ns),
            waits.collect::<Vec<_>>().join(", "),
        )
    }
}

#[cfg(test)]
mod tests {
    use glass_etcd::story::{order::Order, query::Story, recording};

    use super::*;

    /// A put on a busy machine.
    const PUT: &str = r#"{"glass":1,"members":[{"id":"01","cluster":"09","name":"etcd-01","version":"0.1.0","boots":[{"boot":1,"wall_ns":1000000000}]}]}
{"member":0,"boot":1,"stage":"rpc","kind":"span","clock":5,"end":9,"at":100000000,"took":2000000,"id":"0203","fields":{"method":"KV/Put"}}
{"member":0,"boot":1,"stage":"cpu.wait","kind":"span","clock":4,"end":10,"at":100000000,"took":100000000,"fields":{"grpc":3100000,"wal":70000}}
{"member":0,"boot":1,"stage":"cpu.wait","kind":"span","clock":11,"end":12,"at":101900000,"took":100000000,"fields":{"grpc":1000000,"raft":5000000}}
"#;

    #[test]
    fn a_busy_machine_names_the_threads_that_waited_for_it() {
        let recording = recording::read(PUT.as_bytes()).unwrap().recording;
        let order = Order::of(&recording);
        let story = Story::of(&recording, &order, 0x203).unwrap();
        let mut out = Vec::new();
        let side = Side { recording: &recording, order: &order, story: &story };
        write(&mut out, side).unwrap();
        let expected = "\nwaited for a CPU\n  threads of etcd-01 waited for a CPU during 200.000 ms: grpc 4.100 ms, wal 0.070 ms, raft 5.000 ms\n";
        assert_eq!(expected, String::from_utf8(out).unwrap());
    }
}
