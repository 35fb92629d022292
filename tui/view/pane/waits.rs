//! Who waits for what: watchers, leases with their countdowns, and the queues of locks.

use glass_etcd::story::KeyText;
use ratatui::layout::Rect;

use super::{
    super::{
        cluster::{banner, below},
        list::window,
        pen::{Pen, Tone},
    },
    ABOUT, draw_about,
};
use crate::state::{
    State,
    pane::{
        Sight,
        waits::{Lease, Place, Progress, Waiting, Watcher},
    },
    text, words,
};

/// A line: its text, and the position of the row that it is, if it is one.
type Drawn = (String, Tone, Option<usize>);

/// Draws those who wait.
pub(super) fn draw(pen: &mut Pen<'_>, area: Rect, state: &State, sight: &Sight) {
    banner::draw(pen, area, state, &sight.board);
    let waiting = state.panes.waits.at(sight);
    let width = usize::from(area.width);
    let lines = lines(&waiting, sight, width);
    let height = area.height.saturating_sub(1 + ABOUT);
    let rows = below(area, 1, height);
    let chosen = lines.iter().position(|(_, _, row)| *row == Some(waiting.chosen)).unwrap_or(0);
    let first = window(lines.len(), usize::from(height), chosen);
    for ((text, tone, row), line) in lines.iter().skip(first).zip(0..height) {
        let is_chosen = *row == Some(waiting.chosen);
        let mark = if is_chosen { '»' } else { ' ' };
        pen.text(rows, line, &format!("{mark}{text}"), *tone);
        if is_chosen {
            pen.tint(rows, line, Tone::Chosen);
        }
    }
    let about = below(area, 1 + height, ABOUT);
    let said = sentence(&waiting, sight);
    draw_about(pen, about, ("THIS ONE", &[said]), "what began before the records is not shown");
}

/// All lines: of each kind a heading and a row for each.
fn lines(waiting: &Waiting, sight: &Sight, width: usize) -> Vec<Drawn> {
    let key_width = key_width(waiting, width.saturating_sub(60).clamp(12, 60), width);
    let mut lines: Vec<Drawn> = Vec::new();
    let mut row = 0;
    let mut section = |title: &str, head: String, rows: Vec<(String, Tone)>| {
        let count = rows.len();
        lines.push((format!("{title}  {count}"), Tone::Strong, None));
        if count != 0 {
            lines.push((head, Tone::Dim, None));
        }
        for (text, tone) in rows {
            lines.push((text, tone, Some(row)));
            row += 1;
        }
        lines.push((String::new(), Tone::Plain, None));
    };
    let watchers = waiting.watchers.iter().map(|one| watcher(one, sight, key_width)).collect();
    let head = format!(
        "  {:<key_width$} {:<12} {:<12} {:>8} {:>8}",
        "key", "member", "state", "next", "sent ≥"
    );
    section("WATCHERS", head, watchers);
    let leases = waiting.leases.iter().map(lease).collect();
    let head = format!("  {:<16} {:>8} {:>12}  {}", "lease", "ttl", "left", "keys");
    section("LEASES", head, leases);
    let places = waiting.places.iter().map(|one| place(one, sight, key_width)).collect();
    let head = format!("  {:<key_width$} {:<12} {:>8}  {}", "name", "member", "revision", "state");
    section("LOCKS AND ELECTIONS, BY LOCK AND CAMPAIGN CALLS", head, places);
    lines
}

/// The width of keys, of which the names of calls get what no key needs.
fn key_width(waiting: &Waiting, most: usize, width: usize) -> usize {
    let calls = waiting.watchers.iter().filter_map(|one| one.of_call);
    let call = calls.map(|call| text::width(&format!("  of {call}"))).max().unwrap_or(0);
    // The name of a call has two characters more in the row of its watcher.
    let names = waiting.places.iter().map(|one| one.name.as_ref());
    let keys = waiting.watchers.iter().map(|one| one.key.as_ref()).chain(names);
    let longest = keys.map(|key| text::width(&key_of(key, most)) + 2).max().unwrap_or(0);
    width.saturating_sub(60 + call).max(longest).clamp(12, most)
}

fn key_of(key: Option<&KeyText>, width: usize) -> String {
    key.map_or_else(|| "? unknown".to_owned(), |key| text::clean(&words::key(key, width)))
}

fn member(sight: &Sight, column: usize) -> String {
    words::cut(sight.board.columns.get(column).map_or("unknown", |column| &column.name), 12)
}

fn number(number: Option<u64>) -> String {
    number.map_or_else(|| "?".to_owned(), |number| number.to_string())
}

fn watcher(watcher: &Watcher, sight: &Sight, width: usize) -> (String, Tone) {
    // A call waits for one of the keys below its name.
    let key = match watcher.of_call {
        Some(_) => key_of(watcher.key.as_ref(), width.saturating_sub(2)) + "/…",
        None => key_of(watcher.key.as_ref(), width),
    };
    let (state, tone) = match watcher.progress {
        Progress::Synced => ("synced", Tone::Plain),
        Progress::Unsynced(_) => ("unsynced", Tone::Bad),
        Progress::Victim(_) => ("victim", Tone::Bad),
    };
    let sent = watcher.sent.map_or_else(|| "-".to_owned(), |sent| sent.to_string());
    let of_call = watcher.of_call.map_or_else(String::new, |call| format!("  of {call}"));
    let member = member(sight, watcher.column);
    let next = number(watcher.next);
    (format!("  {key:<width$} {member:<12} {state:<12} {next:>8} {sent:>8}{of_call}"), tone)
}

fn lease(lease: &Lease) -> (String, Tone) {
    let left = left(lease);
    let keys: Vec<String> =
        lease.keys.iter().map(|key| text::clean(&words::key(key, 30))).collect();
    let keys = if keys.is_empty() { "none captured".to_owned() } else { keys.join(" ") };
    let tone = if lease.left_ns <= 0 { Tone::Bad } else { Tone::Plain };
    let ttl = format!("{} s", lease.ttl);
    (format!("  {:016x} {ttl:>8} {left:>12}  {keys}", lease.lease), tone)
}

/// How much time a lease has left.
fn left(lease: &Lease) -> String {
    match (lease.left_ns, lease.is_at_most) {
        (left, _) if left <= 0 => format!("over {}", words::duration(left.unsigned_abs())),
        (left, true) => format!("≤ {}", words::duration(left.unsigned_abs())),
        (left, false) => words::duration(left.unsigned_abs()),
    }
}

fn place(place: &Place, sight: &Sight, width: usize) -> (String, Tone) {
    let name = key_of(place.name.as_ref(), width);
    let member = member(sight, place.column);
    let (state, tone) = match (place.holds, place.before) {
        (true, _) => (holds(place).to_owned(), Tone::Good),
        (false, Some(before)) => (format!("waits for the key of revision {before}"), Tone::Plain),
        (false, None) => ("in the queue".to_owned(), Tone::Plain),
    };
    (format!("  {name:<width$} {member:<12} {:>8}  {state}", place.own), tone)
}

fn holds(place: &Place) -> &'static str {
    if place.method.starts_with("Election/") { "leads" } else { "holds it" }
}

/// What is to be said of the chosen row.
fn sentence(waiting: &Waiting, sight: &Sight) -> String {
    let at = waiting.chosen;
    if let Some(one) = waiting.watchers.get(at) {
        let name = member(sight, one.column);
        return match one.progress {
            Progress::Synced => format!(
                "Watcher {} of {name} is synced: apply hands it every write of its keys.",
                one.number
            ),
            Progress::Unsynced(next) => format!(
                "Watcher {} of {name} catches up: it reads the backend from revision {next} on.",
                one.number
            ),
            Progress::Victim(revision) => format!(
                "Watcher {} of {name} was too slow at revision {revision}: the queue of its \
                 stream was full, and it catches up later.",
                one.number
            ),
        };
    }
    let at = at.saturating_sub(waiting.watchers.len());
    if let Some(one) = waiting.leases.get(at) {
        return match one.expires {
            true => "Its time is over: the leader proposes to revoke it, and its keys with it.",
            false => {
                "Without a renewal it ends then, and its keys are deleted with it. Only the \
                 leader counts: from the last grant or renewal that was captured."
            }
        }
        .to_owned();
    }
    match waiting.places.get(at.saturating_sub(waiting.leases.len())) {
        Some(one) if one.holds => format!(
            "{} of {}: no older key is left in this queue.",
            one.method,
            member(sight, one.column)
        ),
        Some(one) => format!(
            "{} of {} waits until the key before its own is deleted.",
            one.method,
            member(sight, one.column)
        ),
        None => "As far as was captured, nobody waits.".to_owned(),
    }
}
