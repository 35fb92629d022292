//! One row of the step view: a step in its lane, with its time, its arrow and its bar.

use glass_etcd::trace::Stage;
use ratatui::layout::Rect;

use super::{
    super::pen::{Pen, Tone},
    columns::{BAR, Columns, KIND},
};
use crate::state::{
    Action, State,
    kind::StepKind,
    steps::Steps,
    story::{Arrow, Moment, OtherEnd, Step},
    text, words,
};

/// Draws the step at this position into a line.
pub(super) fn draw(
    pen: &mut Pen<'_>,
    line: Rect,
    state: &State,
    (steps, at): (&Steps, usize),
    columns: &Columns,
) {
    let step = &steps.steps[at];
    let tone = tone(steps, at);
    let client = columns.client(line);
    let is_client_free = !steps.is_of_client(step);
    if !is_client_free {
        draw_client(pen, client, step, tone);
    }
    draw_arrow(pen, line, (steps, step), columns);
    if let Some(time) = columns.time(line) {
        let after = format!(" {:>9}", words::offset(step.wall_ns, steps.zero_ns));
        let tone = if tone == Tone::Dim { Tone::Dim } else { Tone::Plain };
        pen.text(time, 0, &after, tone);
    }
    if let Some(cell) = columns.lane(line, step.lane) {
        let mark = if step.is_own { "" } else { "· " };
        let room = usize::from(cell.width).saturating_sub(mark.chars().count());
        let text = format!("{mark}{}", cell_words(step, state, (room, columns), pen));
        let used = pen.text(cell, 0, &text, tone);
        if at == steps.now {
            let rest = Rect { x: cell.x + used, width: cell.width - used, ..cell };
            draw_now(pen, rest, client, is_client_free);
        }
    }
    if let Some(took) = columns.took(line) {
        draw_took(pen, took, (steps, step), columns, tone);
    }
    if at == steps.look {
        pen.text(Rect { width: 1, ..line }, 0, "»", Tone::Strong);
    }
    pen.target(line, Action::GoAt(at));
}

/// The past has the colour of its kind, the future is dim.
fn tone(steps: &Steps, at: usize) -> Tone {
    let step = &steps.steps[at];
    match at {
        _ if !step.is_captured => Tone::Bad,
        _ if steps.now == at => Tone::Strong,
        _ if steps.now < at && !steps.shows_path => Tone::Dim,
        _ if steps.stands_back(step) || !step.is_own => Tone::Dim,
        _ if steps.shows_path => Tone::Strong,
        _ => Tone::Of(StepKind::of(step.event.stage)),
    }
}

/// Marks the step at the cursor: after its words if there is room, otherwise in the client's
/// column.
fn draw_now(pen: &mut Pen<'_>, rest: Rect, client: Rect, is_client_free: bool) {
    let now = pen.words(" ◆ NOW");
    let fits = now.chars().count() <= usize::from(rest.width);
    if fits || !is_client_free {
        pen.text(rest, 0, &now, Tone::Strong);
    } else {
        let inner = Rect { x: client.x + 1, width: client.width.saturating_sub(1), ..client };
        pen.text(inner, 0, &now, Tone::Strong);
    }
}

/// The words of a step. A message names its peer; if the name does not fit, it gives the number of
/// the peer's lane.
fn cell_words(
    step: &Step,
    state: &State,
    (width, columns): (usize, &Columns),
    pen: &Pen<'_>,
) -> String {
    let has_bar = 0 < columns.took;
    let words = if has_bar { words::doing } else { words::step };
    let mut pieces = words(step, &state.lanes);
    let text = pieces.join(" ");
    let fits = |text: &String| text::width(&pen.words(text)) <= width;
    if step.event.stage == Stage::Rpc && step.moment == Moment::Begin {
        return words::cut(&text, width);
    }
    let Some(arrow) = step.arrow else {
        while 1 < pieces.len() && !fits(&pieces.join(" ")) {
            pieces.pop();
        }
        return pieces.join(" ");
    };
    let number = (arrow.peer + 1).to_string();
    [state.lanes[arrow.peer].name.clone(), number]
        .iter()
        .map(|peer| message_words(&text, step, arrow, peer))
        .find(fits)
        .unwrap_or_else(|| short_message_words(&text, step, arrow))
}

/// A message with its direction, its peer, and what is missing of it.
pub(crate) fn message_words(text: &str, step: &Step, arrow: Arrow, peer: &str) -> String {
    match (arrow.is_out, arrow.other_end) {
        (true, _) if !step.is_captured => format!("{text} ►{peer}: sent, not captured"),
        (true, OtherEnd::Captured) => format!("{text} ►{peer}"),
        (true, OtherEnd::Unknown) => format!("{text} ►{peer} arrival?"),
        (false, _) => format!("{peer}► {text}"),
    }
}

fn short_message_words(text: &str, step: &Step, arrow: Arrow) -> String {
    let peer = arrow.peer + 1;
    match (arrow.is_out, arrow.other_end) {
        (true, _) if !step.is_captured => "sent, not captured".to_owned(),
        (true, OtherEnd::Captured) => format!("{text} ►{peer}"),
        (true, OtherEnd::Unknown) => format!("{text} ►{peer}?"),
        (false, _) => format!("{peer}► {text}"),
    }
}

/// The client's column is inferred: a client must have sent what the member received.
fn draw_client(pen: &mut Pen<'_>, cell: Rect, step: &Step, tone: Tone) {
    let words = match (step.moment, step.event.result) {
        (Moment::Begin, _) => "ask ──►",
        (Moment::Done, 0) => "◄── ok",
        (Moment::Done, _) => "◄── err",
    };
    let inner = Rect { x: cell.x + 1, width: cell.width.saturating_sub(1), ..cell };
    pen.text(inner, 0, words, tone);
}

/// The line of a message, from its sender's lane to the receiver's, with the time in transit where
/// both ends are known. That stands in the receiver's lane, which is free on this row.
fn draw_arrow(pen: &mut Pen<'_>, line: Rect, (steps, step): (&Steps, &Step), columns: &Columns) {
    let Some(arrow) = step.arrow.filter(|arrow| arrow.is_out) else { return };
    let (Some(from), Some(to)) = (columns.lane(line, step.lane), columns.lane(line, arrow.peer))
    else {
        return;
    };
    // A message that names its own sender as the receiver has no line.
    if from.x == to.x {
        return;
    }
    let transit = arrow
        .transit_ns
        .map_or_else(String::new, |ns| pen.words(&format!(" {}~ ", words::duration(ns))));
    let length = u16::try_from(transit.chars().count()).unwrap_or(u16::MAX);
    let is_bare = to.width < length.saturating_add(3);
    let (transit, length) = if is_bare { ("", 0) } else { (transit.as_str(), length) };
    // To the right, the line ends at the receiver's border; to the left, it extends into its lane.
    let is_rightward = from.x < to.x;
    let (left, right) = if is_rightward {
        (from.x, to.x - 1 + if length == 0 { 0 } else { length + 2 })
    } else {
        (to.right().saturating_sub(2 + length), from.x - 1)
    };
    let dashes = "─".repeat(usize::from(right.saturating_sub(left).saturating_sub(length)));
    let drawn = match is_rightward {
        true if length == 0 => format!("{dashes}►"),
        true => format!("{}{transit}─►", "─".repeat(usize::from(to.x - left))),
        false => match dashes.strip_prefix('─') {
            Some(rest) => format!("◄─{transit}{rest}"),
            None => format!("◄{transit}"),
        },
    };
    let tone = if steps.shows_path && step.on_path.is_some() { Tone::Plain } else { Tone::Dim };
    pen.text(Rect { x: left, width: right + 1 - left, ..line }, 0, &drawn, tone);
}

/// The kind of the step, and how long it took: as a number, and as a bar that is full at the
/// duration of the whole request.
fn draw_took(
    pen: &mut Pen<'_>,
    cell: Rect,
    (steps, step): (&Steps, &Step),
    columns: &Columns,
    tone: Tone,
) {
    let kind = StepKind::of(step.event.stage);
    let inner = Rect { x: cell.x + 1, width: cell.width.saturating_sub(1), ..cell };
    let mut bar = inner;
    if columns.has_kind() {
        pen.text(inner, 0, kind.word(), tone);
        bar = Rect { x: inner.x + KIND, width: inner.width.saturating_sub(KIND), ..inner };
    }
    let took_ns = step.event.took_ns;
    if step.moment == Moment::Begin || took_ns == 0 {
        return;
    }
    let blocks = blocks(took_ns, steps.whole_ns, usize::from(BAR));
    pen.text(bar, 0, &blocks, tone);
    let number =
        Rect { x: (bar.x + BAR).min(bar.right()), width: bar.width.saturating_sub(BAR), ..bar };
    pen.text(number, 0, &format!("{:>8}", words::duration(took_ns)), tone);
}

/// A bar of at most `width` blocks, in halves: linear, and full from `whole` on.
fn blocks(took: u64, whole: u64, width: usize) -> String {
    let halves = u128::from(took) * 2 * width as u128 / u128::from(whole.max(1));
    let halves = usize::try_from(halves).unwrap_or(usize::MAX).min(2 * width);
    match halves {
        0 => "▏".to_owned(),
        halves => "█".repeat(halves / 2) + if halves % 2 == 1 { "▌" } else { "" },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_part_of_the_whole() {
        assert_eq!("▏", blocks(1, 1_000_000, 8), "a step that took time is seen");
        assert_eq!("████", blocks(500, 1_000, 8));
        assert_eq!("▌", blocks(100, 1_000, 8));
        assert_eq!("████████", blocks(9_000, 1_000, 8), "one that outlasts the request");
        assert_eq!("████████", blocks(u64::MAX, 0, 8));
    }
}
