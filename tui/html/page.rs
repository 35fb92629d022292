//! A page of its own, with one story or those of a whole recording: one file that can be mailed.
//!
//! The file has its style and its script in it, and loads nothing. Its policy tells the browser so,
//! and names the script by its hash, so that no other script can run in the page.
//!
//! A page has at most [`STORIES_MAX`] stories and about [`BYTES_MAX`] bytes. If a recording has
//! more, the page says how many are left out: those that went well and were quick.

use std::{
    cmp::Reverse,
    io::{self, Write},
};

use glass_etcd::story::Recording;
use serde_json::json;

use super::{
    data::{self, Texts},
    escape::{html, script},
    figure::figure,
    told::{Told, told},
};
use crate::{
    state::{
        State,
        anchor::Anchor,
        steps::Row,
        story::{RequestSummary, Subject},
        watermarks::moment,
    },
    trace::{Wanted, Written},
    view::list::{Widths, request_line},
};

const STYLE: &str = include_str!("../../book/stepper.css");
const SCRIPT: &str = include_str!("../../book/stepper.js");
/// The hash of the script, as a policy names it.
pub(super) const SCRIPT_HASH: &str = "sha256-xa2EHjfXDf/PZI7lKFUGwG1n1EZgxVQSCUrwOI+oCDM=";

/// The most stories of a page.
const STORIES_MAX: usize = 40;
/// When a page has grown to this many bytes, no story is added.
const BYTES_MAX: usize = 4_000_000;
/// Width of a line in the list of stories, in columns.
const WIDTH: usize = 100;

/// Writes the page of one story, or of all.
pub(crate) fn write(
    recording: Recording,
    wanted: &Wanted,
    out: &mut dyn Write,
) -> io::Result<Written> {
    let mut state = State::of_recording(recording);
    let (page, written) = page(&mut state, wanted);
    out.write_all(page.as_bytes())?;
    out.flush()?;
    Ok(written)
}

/// The page, and what is in it.
pub(super) fn page(state: &mut State, wanted: &Wanted) -> (String, Written) {
    let all = state.list.rows.iter();
    let (rows, of) = match &wanted.story {
        Some((story, _)) => (all.filter(|row| row.subject == *story).cloned().collect(), 1),
        None => (chosen(&state.list.rows), all.len()),
    };
    let Body { list, figures, stories, texts } = body(state, &rows, wanted);
    let from = &wanted.from;
    let heading = match (stories, &wanted.story) {
        (0, _) => format!("No story in {from}"),
        (1, Some(_)) => format!("One story of {from}"),
        (_, _) => format!("{stories} of {of} stories of {from}"),
    };
    let head = head(&heading, if stories < of { LEFT_OUT } else { "" });
    let list = if 1 < stories { format!("<nav><ol>\n{list}</ol></nav>\n") } else { String::new() };
    let shared = script(&texts.shared().to_string());
    let page = format!(
        "{head}{list}{figures}<script type=\"application/json\" id=\"glass-shared\">{shared}\
         </script>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    );
    let bytes = page.len();
    (page, Written { stories, of, bytes })
}

/// The stories of a page, until it is full.
#[derive(Default)]
struct Body {
    /// A line for each.
    list: String,
    figures: String,
    /// How many.
    stories: usize,
    /// What all of them say.
    texts: Texts,
}

fn body(state: &mut State, rows: &[RequestSummary], wanted: &Wanted) -> Body {
    let mut body = Body::default();
    for row in rows {
        if BYTES_MAX < body.figures.len() {
            break;
        }
        body.stories += 1;
        let name = format!("story-{}", body.stories);
        let told = told(state, row.subject);
        let start = wanted.story.as_ref().and_then(|(_, anchor)| start(state, anchor.as_ref()?));
        let line = request_line(state, row, Widths::of(WIDTH, state));
        body.list
            .push_str(&format!("<li><a href=\"#{name}\">{}</a></li>\n", html(line.trim_end())));
        let steps = steps(&told, start, &mut body.texts);
        body.figures.push_str(&figure(&told, &name, &steps));
    }
    body
}

/// What is said of stories that have no room.
const LEFT_OUT: &str = "The others are left out: requests that went well and were quicker than \
                        these. glass trace export --html OUT ID writes the page of one.";

/// The stories of a page, in the order of the list: what happened to the cluster, then requests
/// that failed, then the slowest.
fn chosen(rows: &[RequestSummary]) -> Vec<RequestSummary> {
    let rank = |row: &RequestSummary| match row.subject {
        Subject::Cluster(_) => 0,
        Subject::Request(_) => {
            if row.result == Some(0) {
                2
            } else {
                1
            }
        }
    };
    let mut places: Vec<usize> = (0..rows.len()).collect();
    places.sort_by_key(|place| (rank(&rows[*place]), Reverse(rows[*place].took_ns)));
    places.truncate(STORIES_MAX);
    places.sort_unstable();
    places.iter().map(|place| rows[*place].clone()).collect()
}

/// The steps for the script, and at which of them the page opens.
fn steps(told: &Told, start: Option<usize>, texts: &mut Texts) -> serde_json::Value {
    json!({ "steps": data::steps(&told.said, texts), "start": start.unwrap_or(0) })
}

/// The number of the story step at this address, or of the one before it. The story is open.
fn start(state: &State, anchor: &Anchor) -> Option<usize> {
    let steps = state.steps.as_ref()?;
    let event = &state.recording().events[anchor.event(state.recording()).ok()?];
    let is_it =
        |of: &glass_etcd::story::Event| (of.member, moment(of)) == (event.member, moment(event));
    let place = steps.steps.iter().position(|step| is_it(&step.event))?;
    let rows = steps.rows().into_iter();
    let before = rows.filter(|row| matches!(row, Row::Step(at) if *at <= place)).count();
    before.checked_sub(1)
}

fn head(title: &str, left_out: &str) -> String {
    let title = html(title);
    let left_out = html(left_out);
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'; script-src '{SCRIPT_HASH}'\">\n\
         <title>Glass etcd: {title}</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body class=\"glass-page\">\n<header><h1>{title}</h1>\n\
         <p>Drawn from a recording by glass {version}. {left_out}</p></header>\n"
    )
}
