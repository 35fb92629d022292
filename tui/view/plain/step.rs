//! Steps as text: what every lens says at a step, why it happened, its source, and the book.

use std::io::{self, Write};

use glass_etcd::story::order::Order;

use super::{
    super::{
        pen::Look,
        reading::{line_text, page},
        shelf::Shelf,
        steps::subject,
        why,
    },
    put, step_line,
};
use crate::state::{
    Action, State, lens,
    page::{Role, Text},
    steps::{Direction, Lens, Steps},
    story::Telling,
};

/// Before the lines about a step.
const INDENT: &str = "       ";
/// Lines of source around the one that records the step: those before it, and all.
const BEFORE: usize = 10;
const AROUND: usize = 40;
/// The width that the book is wrapped to.
const WIDTH: u16 = 100;

/// Writes the step that is looked at; without one, every story step of every story.
pub(super) fn write(state: &mut State, look: Look, out: &mut impl Write) -> io::Result<()> {
    if let Some(steps) = &state.steps {
        let title = format!("  {}", subject(state, steps));
        put(out, look, &[title])?;
        let lines = about(state);
        return put(out, look, &lines);
    }
    // A copy, because the steps of a story change the state.
    let recording = state.recording().clone();
    let order = Order::of(&recording);
    let telling = Telling::of(&recording, &order);
    for row in state.list.rows.clone() {
        state.steps = Some(Steps::of(&telling, row.subject));
        state.update(Action::Jump(Direction::Back));
        let title = state.steps.as_ref().map(|steps| format!("  {}", subject(state, steps)));
        put(out, look, &[title.unwrap_or_default()])?;
        loop {
            let lines = about(state);
            put(out, look, &lines)?;
            let now = state.steps.as_ref().map(|steps| steps.now);
            state.update(Action::Step(glass_etcd::trace::Grain::Story, Direction::Forward));
            if now == state.steps.as_ref().map(|steps| steps.now) {
                break;
            }
        }
        put(out, look, &[String::new()])?;
    }
    state.steps = None;
    Ok(())
}

/// Everything that is said of the step that is looked at.
fn about(state: &mut State) -> Vec<String> {
    let mut lines = Vec::new();
    let address = state.anchor().map(|anchor| anchor.text());
    if let Some(steps) = &state.steps
        && steps.look < steps.steps.len()
    {
        lines.push(step_line(state, (steps, steps.look), steps.position().0));
        lines.extend(address.map(|address| format!("{INDENT}@{address}")));
    }
    let Some(first) = state.steps.as_ref().map(|steps| steps.lens) else { return lines };
    let mut shown = first;
    loop {
        lines.extend(lens_lines(state, shown));
        shown = shown.next();
        if shown == first {
            break;
        }
    }
    state.steps.iter_mut().for_each(|steps| steps.lens = first);
    if let Some(steps) = &state.steps
        && let Some(step) = steps.steps.get(steps.look)
    {
        lines.push(format!("{INDENT}WHY  {}", why::meaning(step, state, steps)));
        lines.push(format!("{INDENT}     {}", why::numbers(step, state, steps).join("   ")));
        lines.push(format!("{INDENT}     {}", why::sources(step).join("   ")));
    }
    lines
}

/// What a lens says.
fn lens_lines(state: &mut State, shown: Lens) -> Vec<String> {
    state.steps.iter_mut().for_each(|steps| steps.lens = shown);
    let Some(steps) = &state.steps else { return Vec::new() };
    let answer = lens::lines(state.recording(), steps, (&state.lanes, &state.heads()));
    let title = lens::title(steps);
    let lines = answer.iter().enumerate().map(|(at, line)| {
        let title = if at == 0 { title.as_str() } else { "" };
        format!("{INDENT}{title:<11}  {}", line.join("   "))
    });
    lines.collect()
}

/// The source of the step that is looked at, around the lines that record it; or its section of the
/// book.
pub(super) fn read(state: &State, text: Text) -> io::Result<Vec<String>> {
    let page = state.steps.as_ref().and_then(|steps| page(steps, (Shelf::OWN, text), WIDTH));
    let Some(page) = page else {
        return Err(io::Error::other(
            "of which step? FILE@MEMBER:BOOT:CLOCK names one, and `--view steps` prints the \
             address of each",
        ));
    };
    let (first, last) = match text {
        Text::Source => {
            let first = page.at.saturating_sub(BEFORE);
            (first, first + AROUND)
        }
        Text::Book => {
            let is_next = |line: &crate::state::page::Line| line.role == Role::Heading;
            let after = page.lines.iter().skip(page.at + 1).position(is_next);
            (page.at, after.map_or(page.lines.len(), |after| page.at + 1 + after))
        }
    };
    let mut lines = vec![page.title.clone(), page.address.clone(), String::new()];
    let shown = page.lines.iter().take(last).skip(first);
    lines.extend(shown.map(|line| line_text(line, 0)));
    Ok(lines)
}
