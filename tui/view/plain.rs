//! The same rows as text, for screen readers, logs, pipes and the book.
//!
//! Each view of the player has such a form: [`write()`] has the members and the stories, [`step`]
//! what is said of steps, [`panes`] the control room and the views beside the stories. What stands
//! side by side on a screen stands one below the other here, with the member's name before it, so
//! that it can be read aloud. Rows and sentences come from the functions that draw the screens.

mod panes;
mod step;

use std::io::{self, Write};

use glass_etcd::story::order::Order;

use super::{
    list::{Widths, request_line, role, since},
    pen::Look,
    steps::{folded, message_words, subject, unknown},
};
use crate::state::{
    State,
    page::Text,
    player::{Head, Heard},
    steps::{Direction, Row, Steps},
    story::{Moment, Step, Telling},
    watermarks::Water,
    words,
};

/// Width of a line of the list, in columns.
const WIDTH: usize = 100;

/// Values of `--view`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum View {
    /// The steps of all stories, a line for each.
    Stories,
    /// What every lens says at each story step, and why it happened; of one step if one is named.
    Steps,
    /// The members, with their watermarks and measures.
    Cluster,
    /// The members' raft logs.
    Log,
    /// The keys with their revisions.
    Keys,
    /// Watchers, leases and locks.
    Waits,
    /// What the members print.
    Logs,
    /// The source of the named step.
    Source,
    /// What the book says of the named step.
    Book,
}

/// Writes a view of the step that is looked at, or else of the end of the records.
pub(crate) fn write_view(
    state: &mut State,
    view: View,
    look: Look,
    out: &mut impl Write,
) -> io::Result<()> {
    let lines = match view {
        View::Stories => return write(state, look, out),
        View::Steps => return step::write(state, look, out),
        View::Source => step::read(state, Text::Source)?,
        View::Book => step::read(state, Text::Book)?,
        View::Cluster => panes::cluster(state),
        View::Log => panes::log(state),
        View::Keys => panes::keys(state),
        View::Waits => panes::waits(state),
        View::Logs => panes::printed(state),
    };
    put(out, look, &lines)
}

/// Writes lines in this look.
fn put(out: &mut impl Write, look: Look, lines: &[String]) -> io::Result<()> {
    lines.iter().try_for_each(|line| writeln!(out, "{}", look.words(line.trim_end())))
}

/// Writes the members, the list of requests, and the story of each of them.
pub(crate) fn write(state: &State, look: Look, out: &mut impl Write) -> io::Result<()> {
    let mut line = |text: &str| writeln!(out, "{}", look.words(text.trim_end()));
    for head in state.heads() {
        line(&member(&head))?;
    }
    let order = Order::of(state.recording());
    let telling = Telling::of(state.recording(), &order);
    let widths = Widths::of(WIDTH, state);
    for row in &state.list.rows {
        line("")?;
        line(&request_line(state, row, widths))?;
        let mut steps = Steps::of(&telling, row.subject);
        // A story as text is that at its end.
        steps.jump(Direction::Forward);
        for step in story(state, &steps) {
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
            row @ Row::Folded { .. } => {
                lines.push(format!("       {}", folded(row)));
            }
            Row::Unknown(at) => {
                lines.push(format!("       {}", unknown(steps, &steps.unknown[at], state)));
            }
            Row::Step(at) => {
                number += 1;
                lines.push(step_line(state, (steps, at), number));
            }
        }
    }
    lines
}

/// The row of the step at a position.
pub(crate) fn step_line(state: &State, (steps, at): (&Steps, usize), number: usize) -> String {
    let step = &steps.steps[at];
    let after = words::offset(step.wall_ns, steps.zero_ns);
    let name = &state.lanes[step.lane].name;
    let text = row_words(state, step);
    let client = client(steps, step);
    format!("  {number:>3}  {after:<9} {name:<12} {text}{client}")
}

/// What happens at the step; of a message also where to, or where from.
pub(crate) fn row_words(state: &State, step: &Step) -> String {
    let text = words::step(step, &state.lanes).join(" ");
    match step.arrow {
        Some(arrow) => message_words(&text, step, arrow, &state.lanes[arrow.peer].name),
        None => text,
    }
}

/// The step as the client sees it, whose own actions are inferred.
fn client(steps: &Steps, step: &Step) -> &'static str {
    match step.moment {
        _ if !steps.is_of_client(step) => "",
        Moment::Begin => "   ◄ client asks (inferred)",
        Moment::Done => "   ► client has its answer (inferred)",
    }
}
