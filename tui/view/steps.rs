//! The step view: time flows down, members are columns.
//!
//! ```text
//!  title        what, where, which step of how many
//!  heads        each member as it stood at the cursor
//!  rows         one step a line; below ◆ NOW is the future
//!  lens         changed, durable now, who knows, what reads answer, cost
//!  why          the step at the look cursor, in words
//! ```
//!
//! A window with more room shows more: times and bars ([`columns`]), the requests and the panels
//! beside the lanes ([`rooms`]).

mod beside;
mod columns;
mod rooms;
mod row;

use ratatui::layout::Rect;

use super::{
    list::{member_of, result, role, since, unwell, what, window},
    pen::{Pen, Tone, pack_words, wrap},
    quiz, reading, why,
};
use crate::{
    state::{
        State, lens,
        page::Text,
        player::{Head, Heard},
        steps::{Row, Steps},
        story::{Known, RequestSummary, Subject, Unknown},
        text,
        watermarks::Water,
        words,
    },
    trace::through,
};
use columns::Columns;
use glass_etcd::{
    story::query::incidents::Outcome,
    trace::{Grain, value::LEADER},
};
use rooms::Rooms;
pub(crate) use row::message_words;

/// Draws the lanes, and the panels below or beside them.
pub(crate) fn draw(pen: &mut Pen<'_>, area: Rect, state: &State, steps: &Steps) {
    let below = Rect { y: area.y + 1, height: area.height - 1, ..area };
    let narrow = usize::from(area.width).saturating_sub(2);
    let answer = lens::lines(state.recording(), steps, (&state.lanes, &state.heads()));
    let lens_lines = packed(pen, &answer, narrow).len();
    let rooms = Rooms::of(below, state.lanes.len(), u16::try_from(lens_lines).unwrap_or(u16::MAX));
    let asked = state.quiz.asked(steps);
    let question = asked.map(|asked| {
        let lines = |width| quiz::lines((state, steps), asked, width).len();
        rooms.with_question(lines)
    });
    let rooms = question.map_or(rooms, |(rooms, _)| rooms);
    let wanted = steps.focus.unwrap_or_else(|| steps.steps.get(steps.look).map_or(0, |s| s.lane));
    let columns = Columns::of(rooms.lanes.width, state.lanes.len(), wanted);
    let [title, more] = title(pen, state, steps, &columns, area.width);
    pen.text(area, 0, &title, Tone::Strong);
    let lanes = rooms.lanes;
    draw_heads(pen, Rect { height: lanes.height.min(2), ..lanes }, (state, steps), &columns);
    let head = draw_rule(pen, lanes, &more);
    let height = lanes.height.saturating_sub(head);
    let rows = Rect { y: lanes.bottom() - height, height, ..lanes };
    draw_rows(pen, rows, state, steps, &columns);
    if let Some(list) = rooms.list {
        beside::draw(pen, list, state, steps);
        pen.border(Rect { x: list.right() - 1, width: 1, ..list });
    }
    let panel = |pen: &mut Pen<'_>, room: Rect| {
        if !rooms.is_beside() {
            return room;
        }
        pen.border(room);
        Rect { x: room.x + 1, width: room.width - 1, ..room }
    };
    if let Some((asked, (_, room))) = asked.zip(question) {
        let room = panel(pen, room);
        return quiz::draw(pen, room, (state, steps), asked);
    }
    let lens = panel(pen, rooms.lens);
    draw_lens(pen, lens, steps, &answer);
    let why_area = panel(pen, rooms.why);
    why::draw(pen, why_area, state, steps);
    for (room, text) in [(rooms.source, Text::Source), (rooms.book, Text::Book)] {
        let Some(room) = room else { continue };
        let room = panel(pen, room);
        reading::draw_excerpt(pen, room, steps, text);
    }
}

/// The title, and what of it has no room there: that stands on the rule below the heads.
fn title(
    pen: &Pen<'_>,
    state: &State,
    steps: &Steps,
    columns: &Columns,
    width: u16,
) -> [String; 2] {
    let right = position(state, steps, columns);
    let room = usize::from(width).saturating_sub(right.chars().count() + 1);
    let [left, more] = subject_within(pen, state, steps, room.saturating_sub(1));
    let left = words::cut(&format!(" {left}"), room);
    let gap = room.saturating_sub(text::width(&left));
    [format!("{left}{:gap$} {right}", ""), more]
}

/// The most lines below the rule that the rest of a title takes from the rows.
const MORE_MAX: usize = 2;

/// Draws the rule below the heads, with what of the title had no room in its line. Returns how many
/// lines of the lanes are above the rows.
fn draw_rule(pen: &mut Pen<'_>, lanes: Rect, more: &str) -> u16 {
    let width = usize::from(lanes.width.saturating_sub(6));
    let lines = if more.is_empty() { Vec::new() } else { wrap(more, width) };
    pen.rule(lanes, 2, lines.first().map_or("", String::as_str));
    let mut line = 3;
    for more in lines.iter().skip(1).take(MORE_MAX) {
        pen.text(lanes, line, &format!("   {more}"), Tone::Strong);
        line += 1;
    }
    line.min(lanes.height)
}

/// Where in the story the cursor is, and how it is played.
fn position(state: &State, steps: &Steps, columns: &Columns) -> String {
    let (at, total) = steps.position();
    let grain = match steps.grain {
        Grain::Story => "story",
        Grain::Stage => "stage",
        Grain::Raw => "raw",
    };
    let speed = steps.speed_word();
    let playing = match (&steps.felt, steps.is_playing) {
        (Some(_), _) => "▶ felt 1 ms = 1 s".to_owned(),
        (None, true) => format!("▶ playing {speed}"),
        (None, false) => format!("paused {speed}"),
    };
    let predicts = match (&state.quiz.course, state.quiz.is_on) {
        (Some(_), _) => "   LESSON",
        (None, true) => "   PREDICT",
        (None, false) => "",
    };
    let focus = steps.focus.and_then(|lane| state.lanes.get(lane));
    let focus = focus.map_or_else(String::new, |lane| format!("   only {}", lane.name));
    let hidden = match state.lanes.len() - columns.shown.min(state.lanes.len()) {
        0 => String::new(),
        1 => "   1 lane not shown".to_owned(),
        more => format!("   {more} lanes not shown"),
    };
    format!("{grain} {at}/{total}   {playing}{predicts}{focus}{hidden} ")
}

/// The longest key in a title that has no room to spare.
pub(super) const KEY: usize = 40;

/// The subject of the story, as far as it is shown, with as much of the key as this room allows;
/// and those parts of it that do not fit.
fn subject_within(pen: &Pen<'_>, state: &State, steps: &Steps, room: usize) -> [String; 2] {
    let parts = |key| match state.quiz.hides(steps) {
        true => vec![asked_for(state, steps, key)],
        false => parts_of(state, steps, key),
    };
    let parts = |key| parts(key).iter().map(|part| pen.words(part)).collect::<Vec<_>>();
    let (shortest, longest) = (parts(KEY).join(GAP), parts(usize::MAX).join(GAP));
    if text::width(&longest) <= room {
        return [longest, String::new()];
    }
    let spare = room.saturating_sub(text::width(&shortest));
    if text::width(&shortest) <= room {
        return [parts(KEY + spare).join(GAP), String::new()];
    }
    let parts = parts(KEY);
    let fits = (1..parts.len()).rfind(|count| text::width(&parts[..*count].join(GAP)) <= room);
    let (first, rest) = parts.split_at(fits.unwrap_or(1));
    let excess = text::width(&first.join(GAP)).saturating_sub(room);
    let first = match excess {
        0 => first.join(GAP),
        excess => pen.words(&asked_for(state, steps, KEY.saturating_sub(excess).max(1))),
    };
    [first, rest.join(GAP)]
}

/// Between two parts of a title.
const GAP: &str = "   ";

/// The subject of the story without what came of it.
pub(super) fn asked_for(state: &State, steps: &Steps, key_room: usize) -> String {
    match state.row_of(steps.subject) {
        Some(row) => format!("{} on {}", of_row(row, key_room), member_of(state, row)),
        None => name_of(state, steps),
    }
}

/// The same in a few words, without the member.
pub(super) fn brief(state: &State, steps: &Steps, key_room: usize) -> String {
    match state.row_of(steps.subject) {
        Some(row) => {
            let words = of_row(row, key_room);
            words.strip_prefix("KV/").unwrap_or(&words).trim_end().to_owned()
        }
        None => name_of(state, steps),
    }
}

fn of_row(row: &RequestSummary, key_room: usize) -> String {
    let (rpc, key) = what(row, key_room);
    format!("{rpc} {key}")
}

/// The subject of a story that has no row any more.
fn name_of(state: &State, steps: &Steps) -> String {
    match steps.subject {
        Subject::Request(id) => format!("request {id:016x}"),
        Subject::Cluster(address) => address.text(&state.recording().members),
    }
}

/// One line about the subject of the story.
pub(crate) fn subject(state: &State, steps: &Steps) -> String {
    parts_of(state, steps, KEY).join(GAP)
}

/// The subject of the story, and what came of it.
fn parts_of(state: &State, steps: &Steps, key_room: usize) -> Vec<String> {
    let mut parts = vec![asked_for(state, steps, key_room)];
    let Some(row) = state.row_of(steps.subject) else { return parts };
    parts.extend(row.revision.map(|revision| format!("rev {revision}")));
    let because = match row.outcome {
        Some(Outcome::SteppedDown(because)) => {
            format!(": {}", through::because(&state.recording().members, because))
        }
        _ => String::new(),
    };
    parts.push(format!("{}{because}", result(row)));
    parts.extend(steps.is_lost.then(|| "its entry is lost".to_owned()));
    parts.extend(through::summary(&state.recording().members, &steps.through));
    parts
}

fn draw_heads(pen: &mut Pen<'_>, area: Rect, (state, steps): (&State, &Steps), columns: &Columns) {
    let client = columns.client(area);
    if let Some(time) = columns.time(area) {
        pen.text(time, 0, "     since", Tone::Plain);
        pen.text(time, 1, "     start", Tone::Plain);
    }
    if let Some(took) = columns.took(area) {
        pen.border(took);
        let inner = Rect { x: took.x + 1, width: took.width.saturating_sub(1), ..took };
        let width = usize::from(inner.width);
        pen.text(inner, 0, &format!("{:>width$}", "took"), Tone::Plain);
        let whole = format!("of {}, linear", words::duration(steps.whole_ns));
        let whole = if whole.chars().count() <= width { &*whole } else { "linear" };
        pen.text(inner, 1, &format!("{whole:>width$}"), Tone::Dim);
    }
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
        let is_back = steps.focus.is_some_and(|focus| focus != lane);
        let dimmed = |tone| if is_back { Tone::Dim } else { tone };
        pen.text(cell, 0, &format!("{} {} {role}", lane + 1, head.name), dimmed(tone));
        let (line, tone) = head_numbers(head);
        pen.text(cell, 1, &line, dimmed(tone));
    }
}

/// The numbers of a lane's head, or why there are none.
pub(crate) fn head_numbers(head: &Head) -> (String, Tone) {
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
    let mut rows = steps.rows();
    if state.quiz.hides(steps) {
        let shown = steps.now.max(steps.look);
        let last = rows.iter().rposition(|row| matches!(row, Row::Step(at) if *at <= shown));
        rows.truncate(last.map_or(0, |last| last + 1));
    }
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
            Row::Step(at) => row::draw(pen, line, state, (steps, *at), columns),
            Row::Folded { .. } => {
                pen.text(columns.lanes(line), 0, &folded(*row), Tone::Dim);
            }
            Row::Unknown(at) => {
                let text = unknown(steps, &steps.unknown[*at], state);
                pen.text(columns.lanes(line), 0, &text, Tone::Bad);
            }
        }
    }
}

/// A line for events that only happened meanwhile, and for rounds of pre-votes that are like those
/// around them.
pub(crate) fn folded(row: Row) -> String {
    let Row::Folded { noise, others, rounds } = row else { return String::new() };
    let rounds = match rounds {
        0 => None,
        1 => Some("1 more round of pre-votes that nobody heard".to_owned()),
        more => Some(format!("{more} more rounds of pre-votes that nobody heard")),
    };
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
    let parts: Vec<String> = rounds.into_iter().chain(noise).chain(others).collect();
    format!("· {} ·", parts.join(", "))
}

/// A line for the missing records of a member.
pub(crate) fn unknown(steps: &Steps, unknown: &Unknown, state: &State) -> String {
    let name = &state.lanes[unknown.lane].name;
    if unknown.stages.is_empty() {
        return format!("? {name} unknown: it sent no records");
    }
    let when = match unknown.known {
        Known::NotYet => Some("not yet"),
        // Its process ended first.
        Known::Never => Some("never"),
        Known::Uncaptured => None,
    };
    if let Some(when) = when {
        let names: Vec<&str> = unknown.stages.iter().map(|stage| stage.name()).collect();
        return format!("· {name} {when}: {}", names.join(", "));
    }
    let said = steps.missing(unknown).map(|stages| {
        let names: Vec<&str> = stages.iter().map(|stage| stage.name()).collect();
        names.join(", ")
    });
    match [said[0].as_str(), said[1].as_str()] {
        [happened, ""] => format!("? {name} unknown: no record of {happened}"),
        ["", maybe] => format!("? {name} unknown, perhaps not yet: {maybe}"),
        [happened, maybe] => {
            format!("? {name} unknown: no record of {happened}; perhaps not yet: {maybe}")
        }
    }
}

fn draw_borders(pen: &mut Pen<'_>, line: Rect, columns: &Columns) {
    for lane in columns.first..columns.first + columns.shown {
        if let Some(cell) = columns.lane(line, lane) {
            pen.text(Rect { x: cell.x - 1, width: 1, ..cell }, 0, "│", Tone::Dim);
        }
    }
    if let Some(took) = columns.took(line) {
        pen.border(took);
    }
}

/// The answer of the lens in lines of this width.
fn packed(pen: &Pen<'_>, answer: &[lens::Line], width: usize) -> Vec<String> {
    answer.iter().flat_map(|line| pack_words(pen, line, width)).collect()
}

fn draw_lens(pen: &mut Pen<'_>, area: Rect, steps: &Steps, answer: &[lens::Line]) {
    pen.rule(area, 0, &lens::title(steps));
    let lines = packed(pen, answer, usize::from(area.width).saturating_sub(2));
    let room = usize::from(area.height.saturating_sub(1));
    for (line, at) in lines.iter().take(room).zip(1..) {
        pen.text(area, at, &format!(" {line}"), Tone::Plain);
    }
}
