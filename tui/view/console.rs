//! The line that is typed, below the requests that were sent before; and, while nothing is typed, a
//! line about the newest of them.

use ratatui::layout::Rect;

use super::{
    field,
    pen::{Pen, Tone},
};
use crate::state::{
    State,
    console::{Progress, Sent, request},
    text, words,
};

/// How many lines the requests of one's own take above the keys, at most.
pub(crate) fn height(state: &State, area: Rect) -> u16 {
    let count = |lines: usize| u16::try_from(lines).unwrap_or(u16::MAX);
    match &state.console.typed {
        // The rule, the line that is typed, and the line below it.
        Some(_) => count(transcript(state).len()).min(area.height / 3).saturating_add(3),
        None => count(state.console.shown().len()),
    }
}

/// Draws them at the bottom of the screen.
pub(crate) fn draw(pen: &mut Pen<'_>, area: Rect, state: &State) {
    let Some(typed) = &state.console.typed else {
        for (sent, at) in state.console.shown().into_iter().zip(0..) {
            let (line, tone) = summary(state, sent);
            pen.text(area, at, &format!(" {line}"), tone);
        }
        return;
    };
    pen.rule(area, 0, "REQUESTS OF YOUR OWN");
    let all = transcript(state);
    let room = usize::from(area.height.saturating_sub(3));
    for ((line, tone), at) in all.iter().skip(all.len().saturating_sub(room)).zip(1..) {
        pen.text(area, at, &format!(" {line}"), *tone);
    }
    let line = Rect { y: area.y + area.height - 2, height: 1, ..area };
    field::draw(pen, line, &format!(" {}> ", state.chosen_member()), typed);
    let hint = hint(state, &typed.text());
    let hint_area = Rect { y: area.y + area.height - 1, height: 1, ..area };
    pen.text(hint_area, 0, &format!(" {hint}"), Tone::Dim);
}

/// A mistake, what may complete the line, or what may follow the command.
fn hint(state: &State, typed: &str) -> String {
    if let Some(hint) = &state.console.hint {
        return text::clean(hint);
    }
    if request::member_of(typed).1.is_empty() {
        return "put, get, del, txn, watch, lease, lock ...   Tab shows all   @2 first: to the second"
            .to_owned();
    }
    let begun = request::begun_by(typed);
    match (request::command_of(typed), &begun[..]) {
        (Some(command), _) => command.usage(),
        (None, [only]) => only.usage(),
        (None, []) => "no command begins like this".to_owned(),
        (None, several) => {
            let names: Vec<&str> = several.iter().map(|command| command.name).collect();
            names.join(", ")
        }
    }
}

/// What was sent and answered, one line each, the newest last.
fn transcript(state: &State) -> Vec<(String, Tone)> {
    let mut lines = Vec::new();
    for sent in &state.console.sent {
        lines.push((text::clean(&format!("{}> {}", sent.member, sent.line)), Tone::Dim));
        if sent.dropped != 0 {
            lines.push((format!("  {} lines left out", sent.dropped), Tone::Dim));
        }
        let (end, tone) = progress(state, sent);
        lines.extend(sent.lines.iter().map(|line| (format!("  {}", text::clean(line)), tone)));
        match lines.last_mut() {
            Some((last, _)) if sent.lines.len() == 1 => *last = format!("{last}   {end}"),
            _ => lines.push((format!("  {end}"), tone)),
        }
    }
    lines
}

/// One line about a request: what was sent, and what came of it.
fn summary(state: &State, sent: &Sent) -> (String, Tone) {
    let (end, tone) = progress(state, sent);
    // Of a stream the newest line counts; of an answer, as much as there is room for.
    let told = if sent.is_stream { sent.lines.len().saturating_sub(1) } else { 0 };
    let answer: Vec<&str> = sent.lines.iter().skip(told).map(String::as_str).collect();
    let parts = [format!("{}> {}", sent.member, sent.line), end, answer.join("   ")];
    (text::clean(parts.join("   ").trim_end()), tone)
}

/// How far a request is.
fn progress(state: &State, sent: &Sent) -> (String, Tone) {
    match sent.progress {
        Progress::Waits if sent.is_stream => ("open; Ctrl-X ends it".to_owned(), Tone::Plain),
        Progress::Waits => {
            let age = words::duration(state.age_ns(sent.sent_ns));
            (format!("waits for {age}; Ctrl-X gives it up"), Tone::Plain)
        }
        Progress::Ended { took_ns, is_error } => {
            let tone = if is_error { Tone::Bad } else { Tone::Plain };
            (words::duration(took_ns), tone)
        }
        Progress::GivenUp(after_ns) => {
            (format!("given up after {}", words::duration(after_ns)), Tone::Plain)
        }
    }
}
