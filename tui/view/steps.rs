//! The step view: time flows down, members are columns.
//!
//! ```text
//!  title        what, where, which step of how many
//!  heads        each member as it stood at the cursor
//!  rows         one step a line; below ◆ NOW is the future
//!  lens         changed, durable now, who knows, cost
//!  why          the step at the look cursor, in words
//! ```

use ratatui::layout::Rect;

use super::{
    list::{result, role, since, unwell, what, window},
    pen::{Pen, Tone, pack_words},
    why,
};
use crate::{
    state::{
        State, lens,
        player::{Head, Heard},
        steps::{Lens, Row, Steps},
        story::{Arrow, Moment, OtherEnd, Step, Subject, Unknown},
        watermarks::Water,
        words,
    },
    trace::through,
};
use glass_etcd::trace::{Grain, value::LEADER};

/// Narrowest readable lane, in columns.
const LANE_MIN: u16 = 21;
/// Width of the client's column.
const CLIENT: u16 = 10;

/// Layout of the columns.
pub(crate) struct Columns {
    /// Width of a lane, without its border.
    lane: u16,
    /// The first lane that is shown.
    first: usize,
    /// How many are shown.
    shown: usize,
}

impl Columns {
    /// As many lanes as fit; if not all fit, those around the wanted one.
    fn of(width: u16, lanes: usize, wanted: usize) -> Columns {
        let room = width.saturating_sub(CLIENT + 1);
        let fit = usize::from(room / (LANE_MIN + 1)).max(1);
        let shown = lanes.min(fit).max(1);
        let first = wanted.saturating_sub(shown / 2).min(lanes.saturating_sub(shown));
        let lane = (room / u16::try_from(shown).unwrap_or(1)).saturating_sub(1);
        Columns { lane, first, shown }
    }

    /// Region of a lane, without its border; `None` if it is not shown.
    fn lane(&self, area: Rect, lane: usize) -> Option<Rect> {
        let at = lane.checked_sub(self.first).filter(|at| *at < self.shown)?;
        let at = u16::try_from(at).ok()?;
        let x = area.x + CLIENT + 1 + at * (self.lane + 1) + 1;
        Some(Rect {
            x: x.min(area.right()),
            width: self.lane.min(area.right().saturating_sub(x)),
            ..area
        })
    }
}

/// Draws the lanes, the panel below them, and the keys.
pub(crate) fn draw(pen: &mut Pen<'_>, area: Rect, state: &State, steps: &Steps) {
    let (lens_lines, why_lines) = if area.height < 28 { (2, 4) } else { (3, 5) };
    let lists_all = steps.shows_all && steps.lens == Lens::Changed;
    let lens_lines = if lists_all { 4 } else { lens_lines };
    let wanted = steps.focus.unwrap_or_else(|| steps.steps.get(steps.look).map_or(0, |s| s.lane));
    let columns = Columns::of(area.width, state.lanes.len(), wanted);
    pen.text(area, 0, &title(pen, state, steps, &columns, area.width), Tone::Strong);
    draw_heads(pen, Rect { y: area.y + 1, height: 2, ..area }, state, &columns);
    pen.rule(area, 3, "");
    let bottom = lens_lines + why_lines + 2;
    let rows = Rect { y: area.y + 4, height: area.height.saturating_sub(4 + bottom), ..area };
    draw_rows(pen, rows, state, steps, &columns);
    let panels = Rect { y: rows.bottom(), height: bottom, ..area };
    draw_lens(pen, Rect { height: lens_lines + 1, ..panels }, state, steps);
    let why_area = Rect { y: panels.y + lens_lines + 1, height: why_lines + 1, ..panels };
    why::draw(pen, why_area, state, steps);
}

fn title(pen: &Pen<'_>, state: &State, steps: &Steps, columns: &Columns, width: u16) -> String {
    let (at, total) = steps.position();
    let grain = match steps.grain {
        Grain::Story => "story",
        Grain::Stage => "stage",
        Grain::Raw => "raw",
    };
    let playing = if steps.is_playing { "▶ playing" } else { "paused" };
    let focus = steps.focus.and_then(|lane| state.lanes.get(lane));
    let focus = focus.map_or_else(String::new, |lane| format!("   only {}", lane.name));
    let hidden = state.lanes.len() - columns.shown.min(state.lanes.len());
    let hidden = match hidden {
        0 => String::new(),
        1 => "   1 lane not shown".to_owned(),
        more => format!("   {more} lanes not shown"),
    };
    let right = format!("{grain} {at}/{total}   {playing} {}{focus}{hidden} ", steps.speed_word());
    let room = usize::from(width).saturating_sub(right.chars().count() + 1);
    let left = pen.words(&format!(" {}", subject(state, steps)));
    format!("{:<room$} {right}", words::cut(&left, room))
}

/// One line about the subject of the story.
pub(crate) fn subject(state: &State, steps: &Steps) -> String {
    let row = state.list.rows.iter().find(|row| row.subject == steps.subject);
    let Some(row) = row else {
        return match steps.subject {
            Subject::Request(id) => format!("request {id:016x}"),
            Subject::Cluster(address) => address.text(&state.recording().members),
        };
    };
    let (rpc, key) = what(row, 24);
    let member = state.lanes.iter().find(|lane| lane.place == Some(row.member));
    let member = member.map_or("unknown", |lane| &lane.name);
    let revision = row.revision.map_or_else(String::new, |revision| format!("   rev {revision}"));
    let lost = if steps.is_lost { "   its entry is lost" } else { "" };
    let through = through::summary(&state.recording().members, &steps.through);
    let through = through.map_or_else(String::new, |through| format!("   {through}"));
    format!("{rpc} {key} on {member}{revision}   {}{lost}{through}", result(row))
}

fn draw_heads(pen: &mut Pen<'_>, area: Rect, state: &State, columns: &Columns) {
    let client = Rect { width: CLIENT, ..area };
    pen.text(client, 0, " client", Tone::Plain);
    pen.text(client, 1, " inferred", Tone::Dim);
    for (lane, head) in state.heads().iter().enumerate() {
        let Some(cell) = columns.lane(area, lane) else { continue };
        for line in 0..2 {
            pen.text(Rect { x: cell.x - 1, width: 1, ..cell }, line, "│", Tone::Dim);
        }
        let is_leader = head.marks.get(Water::Role) == Some(LEADER);
        let tone = match head.heard {
            Heard::Fresh if is_leader => Tone::Good,
            Heard::Fresh | Heard::Silent(_) | Heard::Starting(_) => Tone::Plain,
            Heard::Never | Heard::Down(_) | Heard::Paused(_) => Tone::Bad,
        };
        let role = if head.heard == Heard::Never { "" } else { role(head) };
        pen.text(cell, 0, &format!("{} {} {role}", lane + 1, head.name), tone);
        let (line, tone) = head_numbers(head);
        pen.text(cell, 1, &line, tone);
    }
}

/// The numbers of a lane's head, or why there are none.
fn head_numbers(head: &Head) -> (String, Tone) {
    let mark = |name: &str, water| match head.marks.get(water) {
        Some(value) => format!("{name}{value}"),
        None => format!("{name}?"),
    };
    let numbers = [
        mark("t", Water::Term),
        mark("c", Water::Commit),
        mark("a", Water::Applied),
        mark("r", Water::Revision),
    ];
    let numbers = numbers.join(" ");
    let is_known = Water::ALL.iter().any(|water| head.marks.get(*water).is_some());
    match head.heard {
        Heard::Never if !is_known => ("unknown, no records".to_owned(), Tone::Bad),
        Heard::Down(_) | Heard::Silent(_) | Heard::Paused(_) | Heard::Starting(_) => {
            (since(head.heard), unwell(head.heard))
        }
        Heard::Never | Heard::Fresh => (numbers, Tone::Plain),
    }
}

fn draw_rows(pen: &mut Pen<'_>, area: Rect, state: &State, steps: &Steps, columns: &Columns) {
    let rows = steps.rows();
    if rows.is_empty() {
        pen.text(area, 0, " unknown: no record of this request is left", Tone::Bad);
        return;
    }
    let place = |step| rows.iter().position(|row| *row == Row::Step(step)).unwrap_or(0);
    let first = window(rows.len(), usize::from(area.height), place(steps.look));
    for (row, line) in rows.iter().skip(first).take(usize::from(area.height)).zip(0..) {
        let line = Rect { y: area.y + line, height: 1, ..area };
        draw_borders(pen, line, columns);
        match row {
            Row::Step(at) => draw_step(pen, line, state, (steps, *at), columns),
            Row::Folded { noise, others } => {
                let text = folded(*noise, *others);
                let cell = columns.lane(line, columns.first).unwrap_or(line);
                pen.text(Rect { width: line.right() - cell.x, ..cell }, 0, &text, Tone::Dim);
            }
            Row::Unknown(at) => {
                let text = unknown(&steps.unknown[*at], state);
                let cell = columns.lane(line, columns.first).unwrap_or(line);
                pen.text(Rect { width: line.right() - cell.x, ..cell }, 0, &text, Tone::Bad);
            }
        }
    }
}

/// A line for events that only happened meanwhile.
pub(crate) fn folded(noise: usize, others: usize) -> String {
    let noise = match noise {
        0 => None,
        1 => Some("1 heartbeat or keyframe".to_owned()),
        more => Some(format!("{more} heartbeats and keyframes")),
    };
    let others = match others {
        0 => None,
        1 => Some("1 record of other work".to_owned()),
        more => Some(format!("{more} records of other work")),
    };
    let parts: Vec<String> = noise.into_iter().chain(others).collect();
    format!("· {} ·", parts.join(", "))
}

/// A line for the missing records of a member.
pub(crate) fn unknown(unknown: &Unknown, state: &State) -> String {
    let name = &state.lanes[unknown.lane].name;
    if unknown.stages.is_empty() {
        return format!("? {name} unknown: it sent no records");
    }
    let stages: Vec<&str> = unknown.stages.iter().map(|stage| stage.name()).collect();
    format!("? {name} unknown: no record of {}", stages.join(", "))
}

fn draw_borders(pen: &mut Pen<'_>, line: Rect, columns: &Columns) {
    for lane in columns.first..columns.first + columns.shown {
        if let Some(cell) = columns.lane(line, lane) {
            pen.text(Rect { x: cell.x - 1, width: 1, ..cell }, 0, "│", Tone::Dim);
        }
    }
}

fn draw_step(
    pen: &mut Pen<'_>,
    line: Rect,
    state: &State,
    (steps, at): (&Steps, usize),
    columns: &Columns,
) {
    let step = &steps.steps[at];
    let tone = match at {
        _ if !step.is_captured => Tone::Bad,
        _ if steps.now < at => Tone::Dim,
        _ if steps.now == at => Tone::Strong,
        _ => Tone::Plain,
    };
    let client = Rect { width: CLIENT, ..line };
    let is_client_free = !steps.is_of_client(step);
    if !is_client_free {
        draw_client(pen, client, step, tone);
    }
    draw_arrow(pen, line, step, columns);
    if let Some(cell) = columns.lane(line, step.lane) {
        let mark = if step.is_own { "" } else { "· " };
        let room = usize::from(cell.width).saturating_sub(mark.chars().count());
        let text = format!("{mark}{}", cell_words(step, state, room, pen));
        let used = pen.text(cell, 0, &text, tone);
        if at == steps.now {
            let rest = Rect { x: cell.x + used, width: cell.width - used, ..cell };
            draw_now(pen, rest, client, is_client_free);
        }
    }
    if at == steps.look {
        pen.text(Rect { width: 1, ..line }, 0, "»", Tone::Strong);
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
        let inner = Rect { x: client.x + 1, width: client.width - 1, ..client };
        pen.text(inner, 0, &now, Tone::Strong);
    }
}

/// The words of a step. A message names its peer; if the name does not fit, it gives the number of
/// the peer's lane.
fn cell_words(step: &Step, state: &State, width: usize, pen: &Pen<'_>) -> String {
    let Some(arrow) = step.arrow else {
        let mut pieces = words::step(step, &state.lanes);
        while 1 < pieces.len() && width < pen.words(&pieces.join(" ")).chars().count() {
            pieces.pop();
        }
        return pieces.join(" ");
    };
    let number = (arrow.peer + 1).to_string();
    let fits = |text: &String| pen.words(text).chars().count() <= width;
    [state.lanes[arrow.peer].name.clone(), number]
        .iter()
        .map(|peer| message_words(step, arrow, peer, state))
        .find(fits)
        .unwrap_or_else(|| short_message_words(step, arrow, state))
}

/// A message with its direction, its peer, and what is missing of it.
pub(crate) fn message_words(step: &Step, arrow: Arrow, peer: &str, state: &State) -> String {
    let text = words::step(step, &state.lanes).join(" ");
    match (arrow.is_out, arrow.other_end) {
        (true, _) if !step.is_captured => format!("{text} ►{peer}: sent, not captured"),
        (true, OtherEnd::Captured) => format!("{text} ►{peer}"),
        (true, OtherEnd::Unknown) => format!("{text} ►{peer} arrival?"),
        (false, _) => format!("{peer}► {text}"),
    }
}

fn short_message_words(step: &Step, arrow: Arrow, state: &State) -> String {
    let (text, peer) = (words::step(step, &state.lanes).join(" "), arrow.peer + 1);
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
        (Moment::Begin, _) => " ask ──►",
        (Moment::Done, 0) => "◄── ok",
        (Moment::Done, _) => "◄── err",
    };
    let inner = Rect { x: cell.x + 1, width: cell.width - 1, ..cell };
    pen.text(inner, 0, words.trim_start(), tone);
}

/// The line of a message, from its sender's lane to the receiver's.
fn draw_arrow(pen: &mut Pen<'_>, line: Rect, step: &Step, columns: &Columns) {
    let Some(arrow) = step.arrow.filter(|arrow| arrow.is_out) else { return };
    let (Some(from), Some(to)) = (columns.lane(line, step.lane), columns.lane(line, arrow.peer))
    else {
        return;
    };
    // A message that names its own sender as the receiver has no line.
    if from.x == to.x {
        return;
    }
    // To the right, the line ends at the receiver's border; to the left, it extends into its lane.
    let is_rightward = from.x < to.x;
    let (left, right) =
        if is_rightward { (from.x, to.x - 1) } else { (to.right().saturating_sub(2), from.x - 1) };
    let dashes = "─".repeat(usize::from(right.saturating_sub(left)));
    let drawn = if is_rightward { dashes + "►" } else { "◄".to_owned() + &dashes };
    pen.text(Rect { x: left, width: right + 1 - left, ..line }, 0, &drawn, Tone::Dim);
}

fn draw_lens(pen: &mut Pen<'_>, area: Rect, state: &State, steps: &Steps) {
    pen.rule(area, 0, steps.lens.title());
    let width = usize::from(area.width).saturating_sub(2);
    let lines = lens::lines(state.recording(), steps, &state.lanes);
    let lines: Vec<String> = lines.iter().flat_map(|line| pack_words(pen, line, width)).collect();
    let room = usize::from(area.height.saturating_sub(1));
    for (line, at) in lines.iter().take(room).zip(1..) {
        pen.text(area, at, &format!(" {line}"), Tone::Plain);
    }
}
