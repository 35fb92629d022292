//! The first screen: the members, and the requests as they come.

use glass_etcd::{
    story::query::{
        Flow, address::Address, cluster::Because, incidents::Outcome, unbegun::server_of,
    },
    trace::value::LEADER,
};
use ratatui::layout::Rect;

use super::pen::{Pen, Tone, fitting};
use crate::state::{
    Action, State,
    lanes::name_of,
    list::Sort,
    player::{Head, Heard},
    story::{Read, RequestSummary, Subject},
    text,
    watermarks::{Water, Watermarks},
    words,
};

/// Draws the list of requests below the members' heads.
pub(crate) fn draw(pen: &mut Pen<'_>, area: Rect, state: &State) {
    let forms = titles(state).into_iter().map(|form| pen.words(&form)).collect();
    pen.text(area, 0, &fitting(forms, usize::from(area.width)), Tone::Strong);
    let heads = state.heads();
    let members = u16::try_from(heads.len() + state.unreachable().len()).unwrap_or(area.height);
    let members = members.min(area.height / 3).max(1);
    draw_members(pen, Rect { y: area.y + 1, height: members, ..area }, state, &heads);
    let top = 1 + members;
    let rows = Rect { y: area.y + top, height: area.height - top, ..area };
    draw_requests(pen, rows, state);
}

fn plural(number: u64, noun: &str) -> String {
    format!("{noun}{}", if number == 1 { "" } else { "s" })
}

/// The title, in forms that leave out more and more.
fn titles(state: &State) -> Vec<String> {
    let (requests, narrow, rest) = (counted(state), narrowed(state), condition(state));
    let doubt = state.find.doubt();
    vec![
        format!(" Glass etcd   {requests}{narrow}{doubt}{rest}"),
        format!(" {requests}{narrow}{doubt}{rest}"),
        format!(" {requests}{narrow}{}{rest}", if doubt.is_empty() { "" } else { " (or others)" }),
        format!(" {requests}{rest}{narrow}"),
    ]
}

/// How many requests are listed.
fn counted(state: &State) -> String {
    let (shown, seen) = state.thinning();
    let others = state.list.rows.len().saturating_sub(shown);
    match seen {
        // Elections, step-downs and starts are no requests, and a search may mean just them.
        _ if state.find.is_narrow() && 0 < others => {
            let events =
                format!("{} {}", words::count(others as u64), plural(others as u64, "event"));
            match shown as u64 {
                0 => format!("{events} of the cluster"),
                shown => format!(
                    "{} {}, {events} of the cluster",
                    words::count(shown),
                    plural(shown, "request")
                ),
            }
        }
        // Of those that were not captured nobody knows what they were about.
        Some(seen) if !state.find.is_narrow() && (shown as u64) < seen => {
            format!("{} of {} requests", words::count(shown as u64), words::count(seen))
        }
        _ => format!("{} {}", words::count(shown as u64), plural(shown as u64, "request")),
    }
}

/// What the list is narrowed to.
fn narrowed(state: &State) -> String {
    match state.find.is_narrow() {
        true => format!("   only /{}", text::clean(&state.find.words)),
        false => String::new(),
    }
}

/// How the list is arranged, and what is missing from it.
fn condition(state: &State) -> String {
    let lost: u64 = state.recording().dropped.iter().sum();
    let lost = match lost {
        0 => String::new(),
        _ => format!("   {} {} lost", words::count(lost), plural(lost, "record")),
    };
    let follow = match (state.list.is_frozen(), state.list.sort, state.list.is_following) {
        (true, ..) => "   FROZEN",
        (_, Sort::Slowest, _) => "   slowest first",
        (_, Sort::Rpc, _) => "   by RPC",
        (_, Sort::Member, _) => "   by member",
        (.., true) => "   following",
        _ => "",
    };
    let closed = if state.is_closed { "   source closed" } else { "" };
    let forgotten = if state.forgotten() == 0 { "" } else { "   oldest forgotten" };
    format!("{follow}{lost}{forgotten}{closed}")
}

fn draw_members(pen: &mut Pen<'_>, area: Rect, state: &State, heads: &[Head]) {
    let unreachable = state.unreachable().into_iter();
    let longest = heads.iter().map(|head| head.name.chars().count()).max().unwrap_or(0);
    let widths = (longest, usize::from(area.width));
    let lines = heads.iter().map(|head| member_line(head, widths)).chain(unreachable.map(
        |(endpoint, why)| {
            (format!(" {}  unknown: {}", text::clean(endpoint), text::clean(why)), Tone::Bad)
        },
    ));
    let lines: Vec<(String, Tone)> = lines.collect();
    if lines.is_empty() {
        pen.text(area, 0, " no member has sent records yet", Tone::Dim);
    }
    for ((line, tone), at) in lines.iter().zip(0..) {
        pen.text(area, at, line, *tone);
    }
}

/// Width of the shortest column of names, and of all that stands beside it.
const NAME_MIN: usize = 10;
const NUMBERS: usize = 70;

/// One line about one member; the longest name and the window have these widths.
fn member_line(head: &Head, (longest, width): (usize, usize)) -> (String, Tone) {
    let name_width = longest.clamp(NAME_MIN, width.saturating_sub(NUMBERS).max(NAME_MIN));
    let name = text::padded(&words::cut(&head.name, name_width), name_width);
    let number = |water, digits: usize| number(&head.marks, water, digits);
    let line = format!(
        " {name} {:<10} term {} commit {} applied {} rev {}",
        role(head),
        number(Water::Term, 2),
        number(Water::Commit, 5),
        number(Water::Applied, 5),
        number(Water::Revision, 4),
    );
    let is_leader = head.marks.get(Water::Role) == Some(LEADER);
    match head.heard {
        Heard::Never => (format!(" {name} unknown: it sent no records"), Tone::Bad),
        Heard::Down(_) | Heard::Paused(_) | Heard::Silent(_) | Heard::Starting(_) => {
            let since = since(head.heard);
            let room = width.saturating_sub(text::width(&since) + 1);
            let line = format!("{:<room$} {since}", words::cut(line.trim_end(), room));
            (line, unwell(head.heard))
        }
        Heard::Fresh if is_leader => (line, Tone::Good),
        Heard::Fresh => (line, Tone::Plain),
    }
}

/// The word for a member's role. A member that is down or silent has only the role that it had.
pub(crate) fn role(head: &Head) -> &'static str {
    let role = head.marks.get(Water::Role);
    match head.heard {
        Heard::Fresh => words::standing(head.standing, role.map_or("unknown", words::role)),
        Heard::Down(_) | Heard::Paused(_) | Heard::Silent(_) => {
            words::standing(head.standing, role.map_or("unknown", words::former_role))
        }
        Heard::Never | Heard::Starting(_) => "unknown",
    }
}

/// The tone of a member that does not run as it should. A start is no fault.
pub(crate) fn unwell(heard: Heard) -> Tone {
    if matches!(heard, Heard::Starting(_) | Heard::Fresh) { Tone::Plain } else { Tone::Bad }
}

/// For how long a member has been down, silent, or starting; empty for others.
pub(crate) fn since(heard: Heard) -> String {
    match heard {
        Heard::Down(ns) => format!("DOWN for {}", words::duration(ns)),
        Heard::Silent(ns) => format!("SILENT for {}", words::duration(ns)),
        Heard::Paused(ns) => format!("PAUSED for {}", words::duration(ns)),
        Heard::Starting(ns) => format!("starting for {}", words::duration(ns)),
        Heard::Never | Heard::Fresh => String::new(),
    }
}

/// A watermark with at least this many digits; `?` when it is unknown.
fn number(marks: &Watermarks, water: Water, digits: usize) -> String {
    let value = marks.get(water).map_or_else(|| "?".to_owned(), |value| value.to_string());
    format!("{value:<digits$}")
}

fn draw_requests(pen: &mut Pen<'_>, area: Rect, state: &State) {
    pen.rule(area, 0, "REQUESTS");
    let widths = Widths::of(usize::from(area.width), state);
    pen.text(area, 1, &format!("   {}", widths.heading()), Tone::Dim);
    let rows = Rect { y: area.y + 2, height: area.height.saturating_sub(2), ..area };
    if state.list.rows.is_empty() && state.find.is_narrow() {
        let nothing = text::clean(&state.find.nothing());
        pen.text(rows, 0, &format!("   {nothing}"), Tone::Plain);
        return;
    }
    if state.list.rows.is_empty() {
        return draw_nothing(pen, rows);
    }
    let (height, chosen) = (usize::from(rows.height), state.list.chosen());
    let first = window(state.list.len(), height, chosen);
    for ((place, row), line) in state.list.shown().enumerate().skip(first).take(height).zip(0..) {
        let is_chosen = place == chosen;
        let cursor = if is_chosen { '»' } else { ' ' };
        let marked = state.list.marked.iter().position(|marked| *marked == row.subject);
        let marked = [" ", "A", "B"][marked.map_or(0, |at| 1 + at.min(1))];
        let tone = if row.result.is_some_and(|code| code != 0) { Tone::Bad } else { Tone::Plain };
        pen.text(
            rows,
            line,
            &format!(" {cursor}{marked}{}", request_line(state, row, widths)),
            tone,
        );
        if is_chosen {
            pen.tint(rows, line, Tone::Chosen);
        }
        let row = Rect { y: rows.y + line, height: 1, ..rows };
        pen.target(row, Action::ChooseAt(place));
    }
}

/// What to do while there is no request.
pub(super) fn draw_nothing(pen: &mut Pen<'_>, area: Rect) {
    pen.text(area, 0, "   Nothing yet. Send a request from another window:", Tone::Plain);
    pen.text(area, 1, "     etcdctl put foo bar", Tone::Plain);
}

/// The first row to show, so that the wanted row is visible: at the bottom if there are more rows
/// than lines.
pub(crate) fn window(rows: usize, height: usize, wanted: usize) -> usize {
    let last_first = rows.saturating_sub(height);
    wanted.saturating_sub(height / 2).min(last_first)
}

/// Widths of the columns that grow with the window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Widths {
    rpc: usize,
    key: usize,
    member: usize,
    result: usize,
    /// Whether the address has a column, by which `glass trace show` and others find the story.
    has_id: bool,
}

/// Width of the narrowest column of members, and of the widest.
const MEMBER_MIN: usize = 8;
const MEMBER_MAX: usize = 24;
/// The widest is this part of a wide window.
const MEMBER_PART: usize = 5;
/// Width of an id, with the blank after it.
const ID: usize = 17;

impl Widths {
    /// For a window of this width.
    pub(crate) fn of(width: usize, state: &State) -> Widths {
        let result = if width < 100 { 9 } else { 19 };
        let rpc = if width < 110 { 11 } else { 22 };
        let names = state.lanes.iter().map(|lane| text::width(&lane.name)).max();
        let widest = MEMBER_MAX.max(width / MEMBER_PART);
        let longest = if width < 110 { MEMBER_MIN } else { widest };
        let member = names.unwrap_or(0).clamp(MEMBER_MIN, longest);
        let has_id = 140 <= width;
        let id = if has_id { ID } else { 0 };
        let key = width.saturating_sub(43 + rpc + member + result + id).max(8);
        Widths { rpc, key, member, result, has_id }
    }

    /// The names of the columns.
    fn heading(self) -> String {
        let Widths { rpc, key, member, result, .. } = self;
        let id = if self.has_id { format!("{:<ID$}", "id") } else { String::new() };
        format!(
            "{:<12} {id}{:<rpc$} {:<key$} {:<member$} {:>6} {:>8} {:<result$} {:>7}",
            "time UTC", "rpc", "key", "member", "rev", "took", "result", "records"
        )
    }
}

/// The name of the member that serves a request, or to which something happened; also of one that
/// sent no records, if others tell which it is.
pub(crate) fn member_of(state: &State, row: &RequestSummary) -> String {
    if let Some(lane) = state.lanes.iter().find(|lane| lane.place == Some(row.member)) {
        return lane.name.clone();
    }
    let told = match (row.subject, row.outcome) {
        (Subject::Request(id), _) => server_of(state.recording(), id),
        (_, Some(Outcome::Won(winner))) => Some(winner),
        _ => None,
    };
    told.map_or_else(|| "unknown".to_owned(), |id| name_of(&state.lanes, id))
}

/// One line about one request; the player and `--plain` share it.
pub(crate) fn request_line(state: &State, row: &RequestSummary, widths: Widths) -> String {
    let Widths { rpc: rpc_width, key: key_width, member, result: result_width, has_id } = widths;
    let (rpc, key) = short(what(row, key_width), rpc_width);
    let rpc = format!("{rpc}{}", read(row, rpc_width));
    let is_ahead = state.quiz.is_ahead(row.subject);
    let revision = row.revision.filter(|_| !is_ahead);
    let revision = revision.map_or_else(String::new, |revision| revision.to_string());
    let took = match row.took_ns {
        _ if is_ahead => String::new(),
        Some(ns) => words::duration(ns),
        None if row.result.is_some() => String::new(),
        None => "…".to_owned(),
    };
    let id = if has_id { format!("{:<ID$}", id(state, row)) } else { String::new() };
    format!(
        "{} {id}{:<rpc_width$} {key:<key_width$} {} {revision:>6} {took:>8} \
         {:<result_width$} {:>7}",
        words::time_of_day(row.wall_ns),
        words::cut(&rpc, rpc_width),
        text::padded(&words::cut(&member_of(state, row), member), member),
        words::cut(if is_ahead { "asked later" } else { result(row) }, result_width),
        row.records,
    )
}

/// The name of an RPC and its key, where the name has this room. A long name goes without its
/// service. That of a request which the member sent itself stands where a key would.
fn short((rpc, key): (String, String), room: usize) -> (String, String) {
    let rpc = rpc.strip_prefix("KV/").unwrap_or(&rpc);
    match rpc.split_once('/') {
        Some((service, name)) if room < text::width(rpc) => match key.is_empty() {
            true if service == "internal" => (service.to_owned(), name.to_owned()),
            _ if room < text::width(name) => {
                (name.strip_prefix(service).unwrap_or(name).to_owned(), key)
            }
            _ => (name.to_owned(), key),
        },
        _ => (rpc.to_owned(), key),
    }
}

/// The address of a story.
fn id(state: &State, row: &RequestSummary) -> String {
    match row.subject {
        Subject::Request(id) => format!("{id:016x}"),
        Subject::Cluster(address) => words::cut(&address.text(&state.recording().members), ID - 1),
    }
}

/// Which kind of read a range is, if that is known.
fn read(row: &RequestSummary, width: usize) -> &'static str {
    let is_wide = 20 <= width;
    match row.read.filter(|_| row.method.starts_with("KV/Range")) {
        None => "",
        Some(Read::Linearizable) if is_wide => " linearizable",
        Some(Read::Linearizable) => " lin",
        Some(Read::Serializable) if is_wide => " serializable",
        Some(Read::Serializable) => " ser",
    }
}

/// The RPC and the key; for an election, its term.
pub(crate) fn what(row: &RequestSummary, key_width: usize) -> (String, String) {
    match row.subject {
        Subject::Cluster(Address::Election { term, .. } | Address::StepDown { term }) => {
            (row.method.to_owned(), format!("term {term}"))
        }
        Subject::Cluster(Address::Start { boot, .. }) => {
            (row.method.to_owned(), format!("boot {boot}"))
        }
        Subject::Request(_) => {
            let flow = || match row.flow {
                Some(Flow { received, sent, .. }) => format!("in {received}, out {sent}"),
                None => String::new(),
            };
            let key = row.key.as_ref().map_or_else(flow, |key| words::key(key, key_width));
            (row.method.to_owned(), words::cut(&key, key_width))
        }
    }
}

/// The outcome of a request: `ok`, the name of its gRPC code, `cancelled`, `under way`, `unknown`,
/// or `not finished`.
pub(crate) fn result(row: &RequestSummary) -> &'static str {
    match row.outcome {
        Some(Outcome::Won(_)) => return "won",
        Some(Outcome::NobodyWon) => return "nobody won",
        Some(Outcome::SteppedDown(Because::HandedOver(_))) => return "handed over",
        Some(Outcome::SteppedDown(_)) => return "stepped down",
        Some(Outcome::Serves) => return "serves",
        Some(Outcome::Open | Outcome::Starts) | None => (),
    }
    match row.result {
        _ if row.is_cancelled => "cancelled",
        Some(0) if row.refused.is_some() => row.refused.unwrap_or("ok"),
        None if row.is_open => "under way",
        // Its member was not heard of any more.
        None if row.unknown_since.is_some() => "unknown",
        None if !row.has_rpc => "not captured",
        // Its member has started again since.
        None => "not finished",
        Some(code) => words::code(u64::from(code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_of_an_rpc_goes_without_its_service() {
        let short = |rpc: &str, key: &str, room| {
            let (rpc, key) = short((rpc.to_owned(), key.to_owned()), room);
            format!("{rpc}|{key}")
        };
        assert_eq!("Put|foo", short("KV/Put", "foo", 11));
        assert_eq!("LeaseGrant|", short("Lease/LeaseGrant", "", 11));
        assert_eq!("Lease/LeaseGrant|", short("Lease/LeaseGrant", "", 22));
        assert_eq!("internal|PublishMember", short("internal/PublishMember", "", 11));
        assert_eq!("LeaseRevoke|foo", short("internal/LeaseRevoke", "foo", 11));
        assert_eq!("KeepAlive|", short("Lease/LeaseKeepAlive", "", 11));
        assert_eq!("election|term 3", short("election", "term 3", 11));
    }
}
