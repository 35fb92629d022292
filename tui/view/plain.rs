//! The same rows as text, for screen readers, logs, pipes and the book.

use std::io::{self, Write};

use glass_etcd::story::Recording;

use super::{
    list::{Widths, request_line, role, since},
    pen::Look,
    steps::{folded, message_words, subject, unknown},
};
use crate::state::{
    State,
    player::{Head, Heard},
    steps::{Direction, Row, Steps},
    story::{Moment, Step},
    watermarks::Water,
    words,
};

/// Width of a line of the list, in columns.
const WIDTH: usize = 100;

/// Writes the members, the list of requests, and the story of each of them.
pub(crate) fn write(recording: Recording, look: Look, out: &mut impl Write) -> io::Result<()> {
    let state = State::of_recording(recording);
    let mut line = |text: &str| writeln!(out, "{}", look.words(text.trim_end()));
    for head in state.heads() {
        line(&member(&head))?;
    }
    for row in &state.list.rows {
        line("")?;
        line(&request_line(&state, row, Widths::of(WIDTH, &state)))?;
        let mut steps = Steps::open(state.recording(), row.subject);
        // A story as text is that at its end.
        steps.jump(Direction::Forward);
        for step in story(&state, &steps) {
            line(&step)?;
        }
    }
    Ok(())
}

fn member(head: &Head) -> String {
    let mark = |water| head.marks.get(water).map_or("?".to_owned(), |value| value.to_string());
    let heard = match head.heard {
        Heard::Never => "unknown: it sent no records".to_owned(),
        heard => since(heard),
    };
    format!(
        "{:<12} {:<13} term {}  commit {}  applied {}  rev {}  {heard}",
        head.name,
        role(head),
        mark(Water::Term),
        mark(Water::Commit),
        mark(Water::Applied),
        mark(Water::Revision),
    )
}

/// The rows of a story, one per line, after a line about its subject.
pub(crate) fn story(state: &State, steps: &Steps) -> Vec<String> {
    let mut lines = vec![format!("  {}", subject(state, steps))];
    let mut number = 0;
    for row in steps.rows() {
        match row {
            Row::Folded { noise, others } => {
                lines.push(format!("       {}", folded(noise, others)));
            }
            Row::Unknown(at) => {
                lines.push(format!("       {}", unknown(steps, &steps.unknown[at], state)));
            }
            Row::Step(at) => {
                let step = &steps.steps[at];
                number += 1;
                let after = words::offset(step.wall_ns, steps.zero_ns);
                let name = &state.lanes[step.lane].name;
                let text = words::step(step, &state.lanes).join(" ");
                let text = match step.arrow {
                    Some(arrow) => message_words(&text, step, arrow, &state.lanes[arrow.peer].name),
                    None => text,
                };
                let client = client(steps, step);
                lines.push(format!("  {number:>3}  {after:<9} {name:<12} {text}{client}"));
            }
        }
    }
    lines
}

/// The step as the client sees it, whose own actions are inferred.
fn client(steps: &Steps, step: &Step) -> &'static str {
    match step.moment {
        _ if !steps.is_of_client(step) => "",
        Moment::Begin => "   ◄ client asks (inferred)",
        Moment::Done => "   ► client has its answer (inferred)",
    }
}
