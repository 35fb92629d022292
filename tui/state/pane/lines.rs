//! The members' logs: what each has printed, in one list by time.
//!
//! The lines come from the log files of the `glass up` that runs the members, as etcd prints them:
//! JSON with a level, a time, the place in the code and a message, or the same as columns. Members
//! of one `glass up` have one wall clock, so their lines can be put in order.
//!
//! At a step, the chosen line is the last that was printed by then; later lines are dim. A
//! recording has no log lines.

use std::collections::VecDeque;

use serde_json::Value;

use super::{
    super::seek::{Forms, Told},
    Sight,
};
use crate::source::log_files::Said;

/// The most lines that are kept.
const LINES_MAX: usize = 5_000;

/// What lines have for a search; the kinds are the levels of etcd's log.
pub(crate) const FORMS: Forms = Forms {
    forms: &["m:", "is:"],
    kinds: &["debug", "info", "warn", "error", "dpanic", "panic", "fatal"],
};

/// The view of the logs.
#[derive(Debug, Default)]
pub(crate) struct Pane {
    /// By time.
    lines: VecDeque<Line>,
    /// The chosen line, by position from the end; `None` follows the cursor.
    pub(crate) chosen: Option<usize>,
}

/// A line of a member's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) name: String,
    /// When it was printed, in nanoseconds since 1970; `None` if it does not say so.
    pub(crate) at_ns: Option<u64>,
    pub(crate) level: String,
    pub(crate) text: String,
    /// The time by which it is sorted: its own, or that of its member's line before.
    order_ns: u64,
}

impl Line {
    /// What a search compares of the line.
    pub(crate) fn told(&self) -> Told {
        let level = FORMS.kinds.iter().copied().filter(|kind| *kind == self.level);
        Told {
            text: format!("{} {} {}", self.name, self.level, self.text),
            member: self.name.clone(),
            kinds: level.collect(),
            ..Told::default()
        }
    }
}

/// The lines at one moment.
#[derive(Debug)]
pub(crate) struct Printed<'a> {
    pub(crate) lines: &'a VecDeque<Line>,
    pub(crate) chosen: usize,
    /// How many of them had been printed.
    pub(crate) past: usize,
}

impl Pane {
    /// Adds lines in the order in which each member has printed them.
    pub(crate) fn add(&mut self, said: Vec<Said>) {
        for said in said {
            let mut line = parse(said);
            let before = self.lines.iter().rfind(|other| other.name == line.name);
            line.order_ns = line.at_ns.or(before.map(|line| line.order_ns)).unwrap_or(0);
            let place = self.lines.partition_point(|other| other.order_ns <= line.order_ns);
            self.lines.insert(place, line);
        }
        let excess = self.lines.len().saturating_sub(LINES_MAX);
        self.lines.drain(..excess);
    }

    /// The lines at a moment.
    pub(crate) fn at(&self, sight: &Sight) -> Printed<'_> {
        let past = match sight.board.is_now {
            true => self.lines.len(),
            false => self.lines.partition_point(|line| line.order_ns <= sight.board.at_ns),
        };
        let last = self.lines.len().saturating_sub(1);
        let chosen = match self.chosen {
            Some(from_end) => last.saturating_sub(from_end),
            None => past.saturating_sub(1),
        };
        Printed { lines: &self.lines, chosen, past }
    }

    /// Chooses the line at a position.
    pub(crate) fn choose(&mut self, place: usize) {
        self.chosen = Some(self.lines.len().saturating_sub(1).saturating_sub(place));
    }
}

fn parse(said: Said) -> Line {
    let Said { name, line } = said;
    let json = serde_json::from_str::<serde_json::Map<String, Value>>(&line).ok();
    let (at_ns, level, text) = match json {
        Some(fields) => of_json(&fields),
        None => match line.split_once('\t') {
            Some((time, rest)) if wall_ns(time).is_some() => {
                let (level, text) = rest.split_once('\t').unwrap_or(("", rest));
                (wall_ns(time), level.to_owned(), text.replace('\t', "  "))
            }
            _ => (None, String::new(), line),
        },
    };
    Line { name, at_ns, level, text, order_ns: 0 }
}

fn of_json(fields: &serde_json::Map<String, Value>) -> (Option<u64>, String, String) {
    let text_of = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut text = text_of("msg").to_owned();
    for (name, value) in fields {
        if !["level", "ts", "caller", "msg"].contains(&name.as_str()) {
            match value.as_str() {
                Some(value) => text.push_str(&format!("  {name}={value}")),
                None => text.push_str(&format!("  {name}={value}")),
            }
        }
    }
    (wall_ns(text_of("ts")), text_of("level").to_owned(), text)
}

/// The time of a line, `2026-11-21T04:00:43.484Z`, in nanoseconds since 1970.
fn wall_ns(time: &str) -> Option<u64> {
    let (date, clock) = time.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-').map(|part| part.parse::<u64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut clock = clock.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let is_valid = (1970..2262).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    let digits = u32::try_from(fraction.len()).ok().filter(|digits| *digits <= 9 && is_valid)?;
    let nanos = fraction.parse::<u64>().ok()? * 10_u64.pow(9 - digits);
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}

/// Days from 1 January 1970 to a date of the Gregorian calendar.
fn days(year: u64, month: u64, day: u64) -> u64 {
    // A year that begins in March has the leap day at its end.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let of_years = 365 * year + year / 4 - year / 100 + year / 400;
    of_years + (153 * month + 2) / 5 + (day - 1) - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, line: &str) -> Said {
        Said { name: name.to_owned(), line: line.to_owned() }
    }

    /// Goal: lines of all members are in the order of their times; one without a time stays behind
    /// the one before it.
    #[test]
    fn lines_are_in_the_order_of_their_times() {
        let mut pane = Pane::default();
        let json = |ts: &str, text: &str| {
            format!(
                "{{\"level\":\"info\",\"ts\":\"{ts}\",\"caller\":\"a.rs:1\",\"msg\":\"{text}\",\"n\":3}}"
            )
        };
        pane.add(vec![
            line("a", &json("1970-01-01T00:00:02.500Z", "second")),
            line("a", "a panic"),
            line("a", &json("1970-01-01T00:00:04.000Z", "fourth")),
            line("b", "1970-01-01T00:00:01.000Z\tinfo\tb.rs:1\tfirst"),
            line("b", "1970-01-01T00:00:03.000Z\twarn\tb.rs:1\tthird"),
        ]);
        let texts: Vec<&str> = pane.lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(
            texts,
            ["b.rs:1  first", "second  n=3", "a panic", "b.rs:1  third", "fourth  n=3"]
        );
        let levels: Vec<&str> = pane.lines.iter().map(|line| line.level.as_str()).collect();
        assert_eq!(levels, ["info", "info", "", "warn", "info"]);
        assert_eq!(pane.lines[1].at_ns, Some(2_500_000_000));
    }

    #[test]
    fn a_time_is_read_and_nonsense_is_none() {
        let second = |time| wall_ns(time).map(|ns| ns / 1_000_000_000);
        assert_eq!(second("2026-01-01T12:00:00.000Z"), Some(1_767_268_800));
        assert_eq!(second("2024-02-29T00:00:00Z"), Some(1_709_164_800));
        for time in
            ["", "Z", "2026-13-01T00:00:00Z", "2026-01-01T25:00:00Z", "9999999-01-01T0:0:0Z"]
        {
            assert_eq!(wall_ns(time), None, "{time}");
        }
    }
}
