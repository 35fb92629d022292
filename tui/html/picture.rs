//! The picture of a story: lanes, steps and messages, as SVG within the page.
//!
//! ```text
//!   0 %   11 %     20 %            57 %            94 %
//!   time  client   etcd-01         etcd-02         etcd-03
//!           ┆        │               │               │
//!           ┆- - - ->● rpc KV/Put    │               │      20 pixels a row
//!           ┆        ●──────__       │               │
//!           ┆        │        ──────►● raft.receive  │      a message from row to row
//! ```
//!
//! Rows have a fixed height, and lanes stand at a share of the width. So the picture fills a phone
//! as well as a screen, and its letters keep their size. The words of a step stand beside its dot.
//! What has no room is cut, on a phone earlier than on a screen; the panel and the text have it
//! whole.
//!
//! `book/stepper.css` knows the classes of the parts: their colours on light and dark ground, and
//! where words stand at which width.

use std::fmt::Write as _;

use super::{
    escape::html,
    told::{Client, Drawn, Line, Told},
};
use crate::state::{text, words};

/// The height of a row, in pixels.
pub(super) const ROW: usize = 20;
/// The narrowest picture on a phone and on a screen, and the width of a letter there, in tenths of
/// pixels. `book/stepper.css` tells the two apart.
const PHONE: Widths = Widths { picture: 3_200, letter: 67 };
const SCREEN: Widths = Widths { picture: 6_200, letter: 76 };
/// From the middle of a row to the base line of its words, in pixels.
const BASE: usize = 4;
/// From a dot to its words, in pixels.
const BESIDE: usize = 9;
/// Where the lifelines of the client, of the first and of the last member stand, in percent.
const CLIENT: usize = 11;
const FIRST: usize = 20;
const LAST: usize = 94;

/// What decides how many letters have room, in tenths of pixels.
#[derive(Clone, Copy)]
struct Widths {
    picture: usize,
    letter: usize,
}

impl Widths {
    /// How many letters fit between a dot and an edge at this distance, in percent of the width.
    fn room(self, percent: usize) -> usize {
        (percent * self.picture / 100).saturating_sub(BESIDE * 10) / self.letter
    }
}

/// The place of a lane, in percent of the width.
pub(super) fn place(lane: usize, lanes: usize) -> usize {
    FIRST + lane * (LAST - FIRST) / lanes.saturating_sub(1).max(1)
}

/// The picture. `name` is part of its ids, which are unique in a page.
pub(super) fn svg(told: &Told, name: &str) -> String {
    let height = told.rows.len() * ROW + ROW / 2;
    let title = html(&told.title);
    let mut svg = format!(
        "<svg role=\"img\" aria-label=\"{title}\" width=\"100%\" height=\"{height}\">\n\
         <defs><marker id=\"{name}-tip\" viewBox=\"0 0 8 8\" refX=\"11\" refY=\"4\" \
         markerWidth=\"8\" markerHeight=\"8\" orient=\"auto\"><path d=\"M0 1 8 4 0 7z\"/></marker>\
         </defs>\n"
    );
    let lanes = told.lanes.len();
    write_life(&mut svg, (CLIENT, height), "client");
    (0..lanes).for_each(|lane| write_life(&mut svg, (place(lane, lanes), height), "lane"));
    // All lines before all words, so that none is drawn over a word.
    let mut number = 0;
    for (row, line) in told.rows.iter().enumerate() {
        if let Line::Step(step) = line {
            write_lines(&mut svg, (told, name), (step, row, number));
            number += 1;
        }
    }
    let mut number = 0;
    for (row, line) in told.rows.iter().enumerate() {
        match line {
            Line::Step(step) => {
                write_step(&mut svg, lanes, (step, row, number));
                number += 1;
            }
            Line::Folded(words) => {
                let room = |widths: Widths| widths.room(100 - FIRST);
                let words = shortened(words, room(PHONE), room(SCREEN));
                let y = middle(row) + BASE;
                let _ =
                    writeln!(svg, "<text class=\"fold\" x=\"{FIRST}%\" y=\"{y}\">{words}</text>");
            }
        }
    }
    svg.push_str("</svg>");
    svg
}

/// The middle of a row, in pixels.
fn middle(row: usize) -> usize {
    row * ROW + ROW / 2
}

fn write_life(svg: &mut String, (x, height): (usize, usize), class: &str) {
    let _ =
        writeln!(svg, "<line class=\"{class}\" x1=\"{x}%\" x2=\"{x}%\" y1=\"0\" y2=\"{height}\"/>");
}

/// The lines of the step with this number: its message, and what the client does.
fn write_lines(
    svg: &mut String,
    (told, name): (&Told, &str),
    (step, row, number): (&Drawn, usize, usize),
) {
    let lanes = told.lanes.len();
    let from = (place(step.lane, lanes), middle(row));
    let path = if step.is_on_path { " path" } else { "" };
    let mut write = |class: &str, (x1, y1): (usize, usize), (x2, y2): (usize, usize)| {
        let _ = writeln!(
            svg,
            "<line class=\"{class}{path}\" data-of=\"{number}\" x1=\"{x1}%\" y1=\"{y1}\" \
             x2=\"{x2}%\" y2=\"{y2}\" marker-end=\"url(#{name}-tip)\"/>"
        );
    };
    if let Some(sent) = step.sent {
        let arrives = sent.arrives.and_then(|number| row_of(told, number));
        let class = if arrives.is_some() { "message" } else { "message unknown" };
        write(class, from, (place(sent.to, lanes), middle(arrives.unwrap_or(row))));
    }
    // What the client does is inferred, so its line is dashed.
    match step.client {
        Some(Client::Asks) => write("asked", (CLIENT, from.1), from),
        Some(Client::HasAnswer | Client::HasError) => write("asked", from, (CLIENT, from.1)),
        None => (),
    }
}

/// The step with its number: its time, its dot and its words.
fn write_step(svg: &mut String, lanes: usize, (step, row, number): (&Drawn, usize, usize)) {
    let (x, y) = (place(step.lane, lanes), middle(row));
    let kind = if step.is_captured { step.kind } else { "missing" };
    let path = if step.is_on_path { " path" } else { "" };
    let after = html(&step.after);
    let base = y + BASE;
    let _ = write!(
        svg,
        "<g class=\"step {kind}{path}\" data-step=\"{number}\">\
         <text class=\"time\" x=\"0\" y=\"{base}\">{after}</text>"
    );
    let word = step.client.map(|client| match client {
        Client::Asks => "ask",
        Client::HasAnswer => "ok",
        Client::HasError => "err",
    });
    if let Some(word) = word {
        let _ = write!(
            svg,
            "<text class=\"said\" x=\"{CLIENT}%\" dx=\"-6\" y=\"{base}\" \
             text-anchor=\"end\">{word}</text>"
        );
    }
    let _ = write!(svg, "<circle cx=\"{x}%\" cy=\"{y}\" r=\"3.5\"/>");
    write_words(svg, &step.words, (x, base));
    svg.push_str("</g>\n");
}

/// The row of the step with this number.
fn row_of(told: &Told, number: usize) -> Option<usize> {
    let rows = told.rows.iter().enumerate();
    let mut steps = rows.filter(|(_, line)| matches!(line, Line::Step(_)));
    steps.nth(number).map(|(row, _)| row)
}

/// The words, to the right of the dot. In the last lane they stand to its left, and elsewhere on a
/// phone (`turned`) if only that side has room for them.
fn write_words(svg: &mut String, said: &str, (x, y): (usize, usize)) {
    let (left, right) = (PHONE.room(x), PHONE.room(100 - x));
    let is_turned = right < left && right < text::width(said);
    let (class, phone, screen) = match () {
        () if x == LAST => (" class=\"last\"", left, SCREEN.room(x)),
        () if is_turned => (" class=\"turned\"", left, SCREEN.room(100 - x)),
        () => ("", right, SCREEN.room(100 - x)),
    };
    let words = shortened(said, phone, screen);
    let _ = write!(svg, "<text{class} x=\"{x}%\" y=\"{y}\">{words}</text>");
}

/// The words for both widths: what has room on a phone, and then either the sign that they go on
/// (`less`) or the rest of what has room on a screen (`more`).
fn shortened(said: &str, phone: usize, screen: usize) -> String {
    let (short, long) = (words::cut(said, phone), words::cut(said, screen));
    let begins = short.strip_suffix('…').unwrap_or(&short);
    match long.strip_prefix(begins) {
        Some(rest) if short != long => format!(
            "{}<tspan class=\"less\">…</tspan><tspan class=\"more\">{}</tspan>",
            html(begins),
            html(rest)
        ),
        _ => html(&short),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_shows_more_of_the_words_than_a_phone() {
        assert_eq!("a&lt;b", shortened("a<b", 3, 9));
        let both = "ab<tspan class=\"less\">…</tspan><tspan class=\"more\">cdef</tspan>";
        assert_eq!(both, shortened("abcdef", 3, 9));
        let both = "ab<tspan class=\"less\">…</tspan><tspan class=\"more\">cd…</tspan>";
        assert_eq!(both, shortened("abcdef", 3, 5));
        assert_eq!("ab…", shortened("abcdef", 3, 3));
    }

    #[test]
    fn no_words_are_cut_on_a_screen_earlier_than_on_a_phone() {
        for percent in 0..=100 {
            assert!(PHONE.room(percent) <= SCREEN.room(percent), "{percent}");
        }
    }
}
