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
