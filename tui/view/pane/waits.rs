//! Who waits for what: watchers, leases with their countdowns, and the queues of locks.

use glass_etcd::story::KeyText;
use ratatui::layout::Rect;

use super::{
    super::{
        cluster::{banner, below},
        pen::{Pen, Tone},
    },
    ABOUT, draw_about, shown,
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
pub(in crate::view) type Drawn = (String, Tone, Option<usize>);

/// Draws those who wait.
pub(super) fn draw(pen: &mut Pen<'_>, area: Rect, state: &State, sight: &Sight) {
    banner::draw(pen, area, state, &sight.board);
    let waiting = state.panes.waits.at(sight);
    let width = usize::from(area.width);
    let lines = lines(&waiting, sight, width);
    let height = area.height.saturating_sub(1 + ABOUT);
    let rows = below(area, 1, height);
    let chosen = lines.iter().position(|(_, _, row)| *row == Some(waiting.chosen)).unwrap_or(0);
    for (place, line, is_chosen) in shown(rows, lines.len(), chosen) {
        let (text, tone, row) = &lines[place];
        let is_chosen = is_chosen && row.is_some();
        let mark = if is_chosen { '»' } else { ' ' };
        pen.text(line, 0, &format!("{mark}{text}"), *tone);
        if is_chosen {
            pen.tint(line, 0, Tone::Chosen);
        }
    }
    let about = below(area, 1 + height, ABOUT);
    let said = sentence(&waiting, sight);
    draw_about(pen, about, ("THIS ONE", &[said]), "what began before the records is not shown");
}

/// Width of what stands beside the key and the member in the row of a watcher.
const BESIDE: usize = 48;
/// The narrowest and the widest column of keys.
const KEY_MIN: usize = 12;
const KEY_MAX: usize = 120;

/// Widths of the columns that grow with the window.
#[derive(Clone, Copy)]
struct Widths {
    key: usize,
    member: usize,
    /// What is left for the keys of a lease.
    keys: usize,
}

impl Widths {
    fn of(waiting: &Waiting, sight: &Sight, width: usize) -> Widths {
        let names = sight.board.columns.iter().map(|column| text::width(&column.name));
        let member = names.max().unwrap_or(0).clamp(12, (width / 6).max(12));
        let key = key_width(waiting, width.saturating_sub(BESIDE + member));
        Widths { key, member, keys: width.saturating_sub(44) }
    }
}

/// All lines: of each kind a heading and a row for each.
pub(in crate::view) fn lines(waiting: &Waiting, sight: &Sight, width: usize) -> Vec<Drawn> {
    let widths = Widths::of(waiting, sight, width);
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
    let watchers = waiting.watchers.iter().map(|one| watcher(one, sight, widths)).collect();
    let Widths { key, member, .. } = widths;
    let head = format!(
        "  {:<key$} {:<member$} {:<12} {:>8} {:>8}",
        "key", "member", "state", "next", "sent ≥"
    );
    section("WATCHERS", head, watchers);
    let leases = waiting.leases.iter().map(|one| lease(one, widths)).collect();
    let head = format!("  {:<16} {:>8} {:>12}  {}", "lease", "ttl", "left", "keys");
    section("LEASES", head, leases);
    let places = waiting.places.iter().map(|one| place(one, sight, widths)).collect();
    let head = format!("  {:<key$} {:<member$} {:>8}  {}", "name", "member", "revision", "state");
    section("LOCKS AND ELECTIONS, BY LOCK AND CAMPAIGN CALLS", head, places);
    lines
}

/// The width of keys in this room, of which the names of calls get what no key needs.
fn key_width(waiting: &Waiting, room: usize) -> usize {
    let most = room.clamp(KEY_MIN, KEY_MAX);
    let calls = waiting.watchers.iter().filter_map(|one| one.of_call);
    let call = calls.map(|call| text::width(&format!("  of {call}"))).max().unwrap_or(0);
    // The name of a call has two characters more in the row of its watcher.
    let names = waiting.places.iter().map(|one| one.name.as_ref());
    let keys = waiting.watchers.iter().map(|one| one.key.as_ref()).chain(names);
    let longest = keys.map(|key| text::width(&key_of(key, most)) + 2).max().unwrap_or(0);
    room.saturating_sub(call).max(longest).clamp(KEY_MIN, most)
}

fn key_of(key: Option<&KeyText>, width: usize) -> String {
    key.map_or_else(|| "? unknown".to_owned(), |key| text::clean(&words::key(key, width)))
}

fn member(sight: &Sight, column: usize) -> &str {
    sight.board.columns.get(column).map_or("unknown", |column| &column.name)
}

fn number(number: Option<u64>) -> String {
    number.map_or_else(|| "?".to_owned(), |number| number.to_string())
}

fn watcher(watcher: &Watcher, sight: &Sight, widths: Widths) -> (String, Tone) {
    let Widths { key: width, member: member_width, .. } = widths;
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
    let member = words::cut(member(sight, watcher.column), member_width);
    let next = number(watcher.next);
    (
        format!("  {key:<width$} {member:<member_width$} {state:<12} {next:>8} {sent:>8}{of_call}"),
        tone,
    )
}

fn lease(lease: &Lease, widths: Widths) -> (String, Tone) {
    /// Width that each of many keys has at least.
    const KEY: usize = 30;
    let left = left(lease);
    let each = (widths.keys / lease.keys.len().max(1)).saturating_sub(1).max(KEY);
    let keys: Vec<String> =
        lease.keys.iter().map(|key| text::clean(&words::key(key, each))).collect();
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

fn place(place: &Place, sight: &Sight, widths: Widths) -> (String, Tone) {
    let Widths { key: width, member: member_width, .. } = widths;
    let name = key_of(place.name.as_ref(), width);
    let member = words::cut(member(sight, place.column), member_width);
    let (state, tone) = match (place.holds, place.before) {
        (true, _) => (holds(place).to_owned(), Tone::Good),
        (false, Some(before)) => (format!("waits for the key of revision {before}"), Tone::Plain),
        (false, None) => ("in the queue".to_owned(), Tone::Plain),
    };
    (format!("  {name:<width$} {member:<member_width$} {:>8}  {state}", place.own), tone)
}

fn holds(place: &Place) -> &'static str {
    if place.method.starts_with("Election/") { "leads" } else { "holds it" }
}

/// What is to be said of the chosen row.
pub(in crate::view) fn sentence(waiting: &Waiting, sight: &Sight) -> String {
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
