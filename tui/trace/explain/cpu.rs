//! The times in which the threads of a member had no CPU: a section of their own.

use std::io::{self, Write};

use glass_etcd::{story::query::diff::Side, trace::Stage};

use super::words;

/// Writes a sentence for each such time in the story; nothing if there is none.
pub(super) fn write(out: &mut impl Write, side: Side<'_>) -> io::Result<()> {
    let waits = side.story.steps.iter().map(|step| step.event);
    let waits = waits.filter(|at| side.recording.events[*at].stage == Stage::CpuWait);
    for (number, at) in waits.enumerate() {
        if number == 0 {
            writeln!(out, "\nwaited for a CPU")?;
        }
        writeln!(out, "  {}", no_cpu(side, at))?;
    }
    Ok(())
}

/// Which threads of a member waited for a CPU.
fn no_cpu(side: Side<'_>, at: usize) -> String {
    let event = &side.recording.events[at];
    let waits = event.named().filter(|(_, ns)| *ns != 0);
    let waits =
        waits.map(|(field, ns)| format!("{} {}", field.name, words::millis(i128::from(ns))));
    format!(
        "threads of {} waited for a CPU during {}: {}",
        words::name(event.member, &side.recording.members),
        words::millis(i128::from(event.took_ns)),
        waits.collect::<Vec<_>>().join(", "),
    )
}

#[cfg(test)]
mod tests {
    use glass_etcd::story::{order::Order, query::Story, recording};

    use super::*;

    /// A put on a busy machine.
    const PUT: &str = r#"{"glass":1,"members":[{"id":"01","cluster":"09","name":"etcd-01","version":"0.1.0","boots":[{"boot":1,"wall_ns":1000000000}]}]}
{"member":0,"boot":1,"stage":"rpc","kind":"span","clock":5,"end":9,"at":100000000,"took":2000000,"id":"0203","fields":{"method":"KV/Put"}}
{"member":0,"boot":1,"stage":"cpu.wait","kind":"span","clock":4,"end":10,"at":100000000,"took":100000000,"fields":{"grpc":3100000,"wal":70000}}
"#;

    #[test]
    fn a_busy_machine_names_the_threads_that_waited_for_it() {
        let recording = recording::read(PUT.as_bytes()).unwrap().recording;
        let order = Order::of(&recording);
        let story = Story::of(&recording, &order, 0x203).unwrap();
        let mut out = Vec::new();
        let side = Side { recording: &recording, order: &order, story: &story };
        write(&mut out, side).unwrap();
        let expected = "\nwaited for a CPU\n  threads of etcd-01 waited for a CPU during 100.000 ms: grpc 3.100 ms, wal 0.070 ms\n";
        assert_eq!(expected, String::from_utf8(out).unwrap());
    }
}
