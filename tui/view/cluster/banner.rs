//! The first line of the control room: the verdict on all members, and the moment that is shown.

use ratatui::layout::Rect;

use super::super::{
    pen::{Pen, Tone, fitting},
    steps::{KEY, asked_for, brief, subject},
};
use crate::state::{
    State,
    alive::Heard,
    figures::Alarms,
    lanes::name_of,
    room::START_NS,
    room::{Board, Column, Hands, Lead, Quorum},
    text,
    watermarks::Water,
    words,
};

/// Draws the line.
pub(in crate::view) fn draw(pen: &mut Pen<'_>, area: Rect, state: &State, board: &Board) {
    let mut left = area;
    for (at, (text, tone)) in verdict(state, board).into_iter().enumerate() {
        let gap = if at == 0 { " " } else { "   " };
        let used = pen.text(left, 0, &format!("{gap}{text}"), tone);
        left = Rect { x: left.x + used, width: left.width - used, ..left };
    }
    let room = usize::from(left.width.saturating_sub(4));
    let forms = whens(state, board).into_iter().map(|form| pen.words(&form));
    let when = fitting(forms.collect(), room);
    let length = u16::try_from(text::width(&when) + 1).unwrap_or(u16::MAX);
    let x = left.right().saturating_sub(length).max((left.x + 3).min(left.right()));
    pen.text(Rect { x, width: left.right() - x, ..left }, 0, &when, Tone::Dim);
}

/// The verdict on all members, in pieces: the quorum, the leader, links that are cut, alarms.
pub(in crate::view) fn verdict(state: &State, board: &Board) -> Vec<(String, Tone)> {
    let mut pieces = Vec::new();
    let (verdict, running, total) = board.quorum();
    if total != 0 {
        let (word, tone) = match verdict {
            Quorum::Yes => ("QUORUM", Tone::Good),
            Quorum::No => ("NO QUORUM", Tone::Bad),
            Quorum::Soon => ("STARTING", Tone::Plain),
            Quorum::Unknown => ("QUORUM UNKNOWN", Tone::Bad),
        };
        pieces.push((format!("{word} {running}/{total}"), tone));
        pieces.push(match leading(state, board) {
            // The members cannot have one yet.
            (leads, _) if verdict == Quorum::Soon => (leads, Tone::Plain),
            other => other,
        });
    }
    pieces.extend(board.cut_words().map(|cut| (cut, Tone::Bad)));
    pieces.extend(alarms_of_all(state, board).map(|alarms| (alarms, Tone::Bad)));
    pieces
}

/// Who leads, or for how long nobody has.
fn leading(state: &State, board: &Board) -> (String, Tone) {
    let name = |at: usize| &board.columns[at].name;
    let since = |ns: u64| words::duration(ns);
    match board.lead() {
        Lead::Member(at) => {
            let term = board.columns[at].marks.get(Water::Term);
            let term = term.map_or("?".to_owned(), |term| term.to_string());
            (format!("{} leads term {term}", name(at)), Tone::Plain)
        }
        Lead::Silent(at, ns) => (format!("LEADER {} SILENT {}", name(at), since(ns)), Tone::Bad),
        Lead::Named(id, term) => {
            let name = name_of(&state.lanes, id);
            (format!("{name} leads term {term}, others say"), Tone::Plain)
        }
        Lead::Nobody(Some(ns)) => (format!("NO LEADER {}", since(ns)), Tone::Bad),
        Lead::Unknown(_) | Lead::Nobody(None) if is_early(board) => {
            ("no leader yet".to_owned(), Tone::Plain)
        }
        Lead::Unknown(Some(ns)) => (format!("LEADER UNKNOWN {}", since(ns)), Tone::Bad),
        Lead::Unknown(None) | Lead::Nobody(None) => ("leader unknown".to_owned(), Tone::Bad),
    }
}

/// Whether the members have only just started, so that none of them can lead yet: one of which
/// nothing is heard may, and of one that has records only its role says that it does not.
fn is_early(board: &Board) -> bool {
    let mut all = board.columns.iter();
    let cannot_lead = |column: &Column| is_young(column) || matches!(column.heard, Heard::Down(_));
    let has_none =
        |column: &Column| column.heard != Heard::Fresh || column.marks.get(Water::Role).is_some();
    all.clone().all(cannot_lead) && all.any(|column| is_young(column) && has_none(column))
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
pub(in crate::view) fn when(state: &State, board: &Board) -> String {
    whens(state, board).swap_remove(0)
}

/// The longest key in the title of a story beside a verdict that leaves little room.
const SHORT_KEY: usize = 16;

/// The moment that is shown, in words that leave out more and more.
fn whens(state: &State, board: &Board) -> Vec<String> {
    let time = words::time_of_day(board.at_ns);
    match state.looked_at() {
        Some(steps) => {
            let (at, total) = steps.position();
            let step = format!("step {at}/{total}");
            let brief = brief(state, steps, SHORT_KEY);
            vec![
                format!("{step} of {}   {time} UTC", subject(state, steps)),
                format!("{step} of {}   {time} UTC", asked_for(state, steps, KEY)),
                format!("{step} of {brief}   {time} UTC"),
                format!("{step} of {brief}"),
                format!("{step}   {time} UTC"),
                step,
            ]
        }
        _ if state.room.hands == Hands::Recording => {
            vec![format!("end of the recording {time} UTC"), format!("end {time} UTC"), time]
        }
        _ if board.at_ns == 0 => vec!["now".to_owned()],
        _ => vec![format!("now {time} UTC"), "now".to_owned()],
    }
}
