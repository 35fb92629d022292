//! The first line of the control room: the verdict on all members, and the moment that is shown.

use glass_etcd::trace::value::LEADER;
use ratatui::layout::Rect;

use super::super::{
    pen::{Pen, Tone},
    steps::subject,
};
use crate::state::{
    State,
    alive::Heard,
    figures::Alarms,
    lanes::{Lane, name_of},
    room::START_NS,
    room::{Board, Column, Hands, Quorum},
    watermarks::Water,
    words,
};

/// Draws the line.
pub(in crate::view) fn draw(pen: &mut Pen<'_>, area: Rect, state: &State, board: &Board) {
    let mut left = area;
    let mut piece = |pen: &mut Pen<'_>, text: &str, tone| {
        let used = pen.text(left, 0, text, tone);
        left = Rect { x: left.x + used, width: left.width - used, ..left };
    };
    let (verdict, running, total) = board.quorum();
    if total != 0 {
        let (word, tone) = match verdict {
            Quorum::Yes => ("QUORUM", Tone::Good),
            Quorum::No => ("NO QUORUM", Tone::Bad),
            Quorum::Soon => ("STARTING", Tone::Plain),
            Quorum::Unknown => ("QUORUM UNKNOWN", Tone::Bad),
        };
        piece(pen, &format!(" {word} {running}/{total}"), tone);
        let (leads, tone) = match leading(state, board) {
            // The members cannot have one yet.
            (leads, _) if verdict == Quorum::Soon => (leads, Tone::Plain),
            other => other,
        };
        piece(pen, &format!("   {leads}"), tone);
    }
    if let Some(cut) = board.cut_words() {
        piece(pen, &format!("   {cut}"), Tone::Bad);
    }
    if let Some(alarms) = alarms_of_all(state, board) {
        piece(pen, &format!("   {alarms}"), Tone::Bad);
    }
    let when = pen.words(&when(state, board));
    let length = u16::try_from(when.chars().count() + 1).unwrap_or(u16::MAX);
    let x = left.right().saturating_sub(length).max((left.x + 3).min(left.right()));
    pen.text(Rect { x, width: left.right() - x, ..left }, 0, &when, Tone::Dim);
}

/// Who leads, or for how long nobody has.
fn leading(state: &State, board: &Board) -> (String, Tone) {
    let number = |column: &Column, water| column.marks.get(water);
    if let Some(leader) = board.leader() {
        let column = &board.columns[leader];
        let term = number(column, Water::Term).map_or("?".to_owned(), |term| term.to_string());
        return (format!("{} leads term {term}", column.name), Tone::Plain);
    }
    let silent = board.columns.iter().find_map(|column| match column.heard {
        Heard::Silent(ns) if number(column, Water::Role) == Some(LEADER) => Some((column, ns)),
        _ => None,
    });
    if let Some((column, ns)) = silent {
        return (format!("LEADER {} SILENT {}", column.name, words::duration(ns)), Tone::Bad);
    }
    if let Some(told) = led_elsewhere(state, board) {
        return (told, Tone::Plain);
    }
    // Any member of which nothing is heard may lead.
    let cannot_lead = |column: &Column| is_young(column) || matches!(column.heard, Heard::Down(_));
    let is_early = board.columns.iter().any(is_young) && board.columns.iter().all(cannot_lead);
    match board.leaderless_ns() {
        Some(ns) => (format!("NO LEADER {}", words::duration(ns)), Tone::Bad),
        None if is_early => ("no leader yet".to_owned(), Tone::Plain),
        None => ("leader unknown".to_owned(), Tone::Bad),
    }
}

/// The leader that the running members follow in their newest term, if it is a member whose records
/// are not here.
fn led_elsewhere(state: &State, board: &Board) -> Option<String> {
    let running = board.columns.iter().filter(|column| column.heard == Heard::Fresh);
    let of_term = |column: &Column| {
        let term = column.marks.get(Water::Term)?;
        Some((term, column.marks.get(Water::Leader).unwrap_or(0)))
    };
    let (term, leader) = running.filter_map(of_term).max()?;
    let is_here = |lane: &Lane| lane.member_id == leader && lane.place.is_some();
    let is_elsewhere = leader != 0 && !state.lanes.iter().any(is_here);
    let name = || name_of(&state.lanes, leader);
    is_elsewhere.then(|| format!("{} leads term {term}, not played here", name()))
}

/// Whether a member has only just started, so that it may not have elected a leader yet.
fn is_young(column: &Column) -> bool {
    match column.heard {
        Heard::Starting(_) => true,
        Heard::Fresh => column.runs_ns.is_some_and(|ns| ns < START_NS),
        _ => false,
    }
}

/// The alarms that the members know, in one line; `None` if there are none.
fn alarms_of_all(state: &State, board: &Board) -> Option<String> {
    let known = board.columns.iter().filter_map(|column| alarms(state, board, column));
    let worst = known.max_by_key(|alarms| alarms.count).filter(|alarms| alarms.count != 0)?;
    Some(alarm_words(state, worst))
}

/// The alarms that a member knew at this moment.
pub(super) fn alarms(state: &State, board: &Board, column: &Column) -> Option<Alarms> {
    state.figures(column.place?)?.alarms(board.at_ns)
}

/// The alarms in words, each with a member that raised it.
pub(super) fn alarm_words(state: &State, alarms: Alarms) -> String {
    let raised = [("NOSPACE", alarms.no_space), ("CORRUPT", alarms.corrupt)];
    let raised = raised.iter().filter(|(_, by)| *by != 0);
    let named: Vec<String> =
        raised.map(|(name, by)| format!("{name} {}", name_of(&state.lanes, *by))).collect();
    match alarms.count {
        0 => "none".to_owned(),
        count => match count.saturating_sub(named.len() as u64) {
            0 => named.join(" "),
            more => format!("{} and {more} more", named.join(" ")),
        },
    }
}

/// The moment that is shown.
fn when(state: &State, board: &Board) -> String {
    let time = words::time_of_day(board.at_ns);
    match &state.steps {
        Some(steps) if !board.is_now => {
            let (at, total) = steps.position();
            format!("step {at}/{total} of {}   {time} UTC", subject(state, steps))
        }
        _ if state.room.hands == Hands::Recording => format!("end of the recording {time} UTC"),
        _ if board.at_ns == 0 => "now".to_owned(),
        _ => format!("now {time} UTC"),
    }
}
