//! The why panel: one step in words, with its numbers and where to read on.

use ratatui::layout::Rect;

use super::pen::{Pen, Tone, pack_words, wrap};
use crate::{
    state::{
        State, book,
        kind::StepKind,
        lens,
        sentence::{Around, sentence},
        steps::Steps,
        story::{Moment, OtherEnd, Step},
        watermarks::Water,
        words,
    },
    trace::through,
};
use glass_etcd::{
    story::query::usual::Usual,
    trace::{FLAG_CANCELLED, FLAG_ERROR, FLAG_REPLAY, Kind, Stage, THREADS},
};

/// Draws the panel below the lens.
pub(crate) fn draw(pen: &mut Pen<'_>, area: Rect, state: &State, steps: &Steps) {
    let Some(step) = steps.steps.get(steps.look) else { return };
    pen.rule(area, 0, &format!("WHY {}", title(step)));
    let width = usize::from(area.width).saturating_sub(2);
    let room = usize::from(area.height.saturating_sub(1));
    let said: Vec<String> = wrap(&meaning(step, state, steps), width);
    let numbers = numbers(step, state, steps);
    let mut lines: Vec<(String, Tone)> = plain(said, Tone::Plain);
    lines.extend(plain(pack_words(pen, &numbers, width), Tone::Plain));
    lines.extend(plain(pack_words(pen, &sources(step), width), Tone::Dim));
    let is_cut = room < lines.len();
    lines.truncate(room);
    for ((line, tone), row) in lines.iter().zip(1..) {
        pen.text(area, row, &format!(" {line}"), *tone);
    }
    if is_cut {
        draw_more(pen, area);
    }
}

fn plain(lines: Vec<String>, tone: Tone) -> Vec<(String, Tone)> {
    lines.into_iter().map(|line| (line, tone)).collect()
}

/// Says at the end of the panel that there is more.
fn draw_more(pen: &mut Pen<'_>, area: Rect) {
    let more = pen.words(" … Enter ");
    let width = u16::try_from(more.chars().count()).unwrap_or(0).min(area.width);
    let corner = Rect { x: area.right() - width, width, ..area };
    pen.text(corner, 0, &more, Tone::Strong);
}

/// The numbers of the step, in pieces.
pub(crate) fn numbers(step: &Step, state: &State, steps: &Steps) -> Vec<String> {
    let mut numbers = words::fields(&step.event, &state.lanes);
    if let Some(reason) = step.event.reason {
        numbers.insert(0, format!("FAILED: {}", reason.text()));
    }
    numbers.splice(0..0, beside_usual(step, steps));
    if numbers.is_empty() {
        numbers.push("no numbers".to_owned());
    }
    numbers
}

/// How long the step took, beside how long it usually takes. `None` if that is unknown.
fn beside_usual(step: &Step, steps: &Steps) -> Option<String> {
    let usual = steps.usuals.of_step(&step.event).filter(Usual::is_known)?;
    let took = words::duration(step.event.took_ns);
    let p99 = usual.p99().map(|ns| format!(", p99 {}", words::duration(ns))).unwrap_or_default();
    Some(format!("took {took}, usual {}{p99}", words::duration(usual.p50_ns)))
}

/// Where to read on.
pub(crate) fn sources(step: &Step) -> Vec<String> {
    let stage = step.event.stage;
    vec![
        format!("src/{}", stage.rust_path()),
        format!("book {}", book::number(stage)),
        format!("Go: {}", stage.go_counterpart()),
    ]
}

/// The step, and what it works with.
pub(crate) fn title(step: &Step) -> String {
    format!("{}  {}", name(step), StepKind::of(step.event.stage).word())
}

/// The stage, and whether this is only its beginning.
fn name(step: &Step) -> String {
    let name = step.event.stage.name();
    match step.moment {
        _ if !step.is_captured => format!("{name}  (sent, not captured)"),
        Moment::Begin => format!("{name}  (begins)"),
        Moment::Done => name.to_owned(),
    }
}

/// What this step says, what its wait stood behind, and what the request lived through. A step that
/// was not recorded has a sentence of its own.
pub(crate) fn meaning(step: &Step, state: &State, steps: &Steps) -> String {
    if step.is_captured {
        let lane = &state.lanes[step.lane];
        let before = steps.before(step);
        let (own, own_id) = (&*lane.name, lane.member_id);
        let openings = &steps.openings;
        let voters = steps.voters_at(before.least(Water::Applied), &state.lanes);
        let voters = voters.as_ref();
        let lanes = &state.lanes;
        let around = Around { lanes, own, own_id, before: &before, openings, voters };
        let said = sentence(&step.event, around);
        let more = [step.ahead.clone(), lived_through(step, state, steps)];
        let said = [Some(said)].into_iter().chain(more).flatten();
        return said.collect::<Vec<_>>().join(" ");
    }
    "Unknown. The message was received, so it must have been sent before this point, but no record \
     of the send was received. The numbers are those of the receiver."
        .to_owned()
}

/// What the request lived through, where its answer is explained.
fn lived_through(step: &Step, state: &State, steps: &Steps) -> Option<String> {
    if !step.is_own || (step.event.stage, step.moment) != (Stage::Rpc, Moment::Done) {
        return None;
    }
    let summary = through::summary(&state.recording().members, &steps.through)?;
    Some(format!("Meanwhile in the cluster: {summary}."))
}

/// Draws everything that is known of the step, over the whole screen.
pub(crate) fn draw_zoomed(pen: &mut Pen<'_>, area: Rect, state: &State, steps: &Steps) {
    let Some(step) = steps.steps.get(steps.look) else { return };
    pen.rule(area, 0, &format!("{}  on {}", name(step), state.lanes[step.lane].name));
    let width = usize::from(area.width).saturating_sub(4);
    let mut lines = wrap(&meaning(step, state, steps), width);
    lines.push(String::new());
    lines.extend(words::fields(&step.event, &state.lanes));
    lines.push(String::new());
    lines.extend(record_lines(step, state, steps));
    lines.push(String::new());
    for line in lens::changed(state.recording(), steps, &state.lanes, true) {
        lines.extend(pack_words(pen, &line, width));
    }
    lines.push(String::new());
    lines.push(format!("Rust  src/{}", step.event.stage.rust_path()));
    lines.push(format!("Go    {}", step.event.stage.go_counterpart()));
    lines.push(format!("book  {}", book::number(step.event.stage)));
    for (line, row) in lines.iter().zip(1..) {
        pen.text(area, row, &format!("  {line}"), Tone::Plain);
    }
}

/// The record itself: when, how long, on which thread, and its link.
fn record_lines(step: &Step, state: &State, steps: &Steps) -> Vec<String> {
    let event = &step.event;
    let took = beside_usual(step, steps).unwrap_or_else(|| match event.took_ns {
        0 => "takes no time".to_owned(),
        ns => format!("took {}", words::duration(ns)),
    });
    let mut lines = vec![format!(
        "{} UTC   {took}   member clock {} to {}   boot {}",
        words::time_of_day(step.wall_ns),
        event.clock,
        event.clock_end,
        event.boot,
    )];
    let thread = THREADS.get(usize::from(event.thread)).copied().unwrap_or("other");
    let id = if event.id == 0 {
        "belongs to no single request: the loop serves many".to_owned()
    } else {
        format!("id {:016x}", event.id)
    };
    lines.push(format!("thread {thread}   {id}"));
    if let Some(key) = &event.key {
        lines.push(format!("key {} ({} bytes)", words::key(key, 60), key.length));
    }
    if let Some(end) = &event.range_end {
        lines.push(match end.bytes.as_slice() {
            [0] => "and all keys after it".to_owned(),
            _ => format!("and the keys after it, before {}", words::key(end, 60)),
        });
    }
    if let Some(arrow) = step.arrow {
        let peer = &state.lanes[arrow.peer].name;
        let end = match arrow.other_end {
            OtherEnd::Captured => "captured",
            OtherEnd::Unknown => "unknown: not captured",
        };
        let transit = arrow.transit_ns.map_or_else(String::new, |ns| {
            format!("   in transit {}~, by clocks of two members", words::duration(ns))
        });
        lines.push(format!("other end on {peer}: {end}   link {:016x}{transit}", event.link));
    }
    // In older recordings, a beginning says how its step would have ended without an answer.
    let has = if event.kind == Kind::Begin { event.flags & FLAG_REPLAY } else { event.flags };
    let flags = [
        (FLAG_ERROR, "failed"),
        (FLAG_CANCELLED, "cancelled: the client disconnected or gave up"),
        (FLAG_REPLAY, "applied again after a start: it was committed before"),
    ];
    lines.extend(flags.iter().filter(|(bit, _)| has & bit != 0).map(|(_, w)| (*w).to_owned()));
    if let Some(reason) = event.reason {
        lines.push(format!("reason: {}", reason.text()));
    }
    if event.result != 0 {
        lines.push(format!("ended with: {}", words::code(u64::from(event.result))));
    }
    lines
}
