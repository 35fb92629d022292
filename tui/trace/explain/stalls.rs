//! Sentences about the times in which a member could not run: its process stood still, or its
//! threads had no CPU.

use std::io::{self, Write};

use glass_etcd::{
    story::query::{diff::Side, graph::Graph},
    trace::{Kind, Stage},
};

use super::words;

/// Writes a sentence for each such time in the story.
pub(super) fn write(out: &mut impl Write, side: Side<'_>, graph: &Graph) -> io::Result<()> {
    for step in &side.story.steps {
        let event = &side.recording.events[step.event];
        let sentence = match event.stage {
            Stage::ProcessStalled if event.kind == Kind::Span => {
                stood_still(side, graph, step.event)
            }
            Stage::CpuWait => no_cpu(side, step.event),
            _ => continue,
        };
        writeln!(out, "  {sentence}")?;
    }
    Ok(())
}

/// How much of the caller's wait a standstill took: before the rpc, within it, after it.
fn stood_still(side: Side<'_>, graph: &Graph, at: usize) -> String {
    let Side { recording, order, story } = side;
    let event = &recording.events[at];
    let extent = |at: usize| {
        let end = order.times[at];
        [end - i128::from(recording.events[at].took_ns), end]
    };
    let [from, to] = extent(at);
    let own = story.steps.iter().map(|step| step.event);
    let serving = graph.rpc.map(|rpc| recording.events[rpc].member);
    let edge = own.filter(|at| recording.events[*at].stage.is_at_edge()).map(extent);
    let shared = |[begin, end]: [i128; 2]| (end.min(to) - begin.max(from)).max(0);
    let rpc = graph.rpc.map(extent);
    let mut parts = Vec::new();
    if let Some([begin, end]) = rpc {
        let edge: Vec<[i128; 2]> = edge.collect();
        let is_before = |extent: &&[i128; 2]| extent[0] < begin;
        let before: i128 = edge.iter().filter(is_before).map(|extent| shared(*extent)).sum();
        let after: i128 =
            edge.iter().filter(|extent| !is_before(extent)).map(|extent| shared(*extent)).sum();
        let all =
            [(before, "before `rpc`"), (shared([begin, end]), "during it"), (after, "after it")];
        let is_server = serving == Some(event.member);
        let told =
            all.into_iter().filter(|(ns, when)| *ns != 0 && (is_server || *when == "during it"));
        parts.extend(told.map(|(ns, when)| format!("{} of it {when}", words::millis(ns))));
    }
    let parts = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
    format!(
        "the process of {} stood still for {}{parts}",
        words::name(event.member, &recording.members),
        words::millis(to - from),
    )
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

    /// A put that lay in its socket for 90 ms, while its process stood still, and a busy machine.
    const PUT: &str = r#"{"glass":1,"members":[{"id":"01","cluster":"09","name":"etcd-01","version":"0.1.0","boots":[{"boot":1,"wall_ns":1000000000}]}]}
{"member":0,"boot":1,"stage":"process.stalled","kind":"span","clock":1,"end":2,"at":5000000,"took":85000000,"fields":{"cpu":10,"margin":25000000}}
{"member":0,"boot":1,"stage":"socket.queue","kind":"span","clock":3,"end":3,"at":10000000,"took":90000000,"id":"0203","fields":{}}
{"member":0,"boot":1,"stage":"rpc","kind":"span","clock":5,"end":9,"at":100000000,"took":2000000,"id":"0203","fields":{"method":"KV/Put"}}
{"member":0,"boot":1,"stage":"cpu.wait","kind":"span","clock":4,"end":10,"at":100000000,"took":100000000,"fields":{"grpc":3100000,"wal":70000}}
"#;

    #[test]
    fn a_standstill_names_its_part_of_the_wait_and_a_busy_machine_its_threads() {
        let recording = recording::read(PUT.as_bytes()).unwrap().recording;
        let order = Order::of(&recording);
        let story = Story::of(&recording, &order, 0x203).unwrap();
        let graph = Graph::of(&recording, &order, &story);
        let mut out = Vec::new();
        write(&mut out, Side { recording: &recording, order: &order, story: &story }, &graph)
            .unwrap();
        let expected =
            "  the process of etcd-01 stood still for 85.000 ms: 80.000 ms of it before `rpc`
  threads of etcd-01 waited for a CPU during 100.000 ms: grpc 3.100 ms, wal 0.070 ms
";
        assert_eq!(expected, String::from_utf8(out).unwrap());
    }
}
