//! The element of a story: its picture, its text, and its data for the script.
//!
//! The same element stands in a chapter of the book and in a page of its own. It has no empty line,
//! because in Markdown an empty line ends a block of HTML.

use std::fmt::Write as _;

use serde_json::Value;

use super::{
    escape::{html, script},
    picture,
    told::{HeadSaid, Told},
};

/// Where the head of the first lane begins, in percent of the width.
const HEADS: usize = 14;

/// The element. `name` is unique in the page.
pub(super) fn figure(told: &Told, name: &str, data: &Value) -> String {
    let title = html(&told.title);
    let mut figure = format!(
        "<figure class=\"glass\" id=\"{name}\">\n<figcaption>{title}</figcaption>\n{}\n\
         <div class=\"rows\">\n{}\n</div>\n",
        heads(told),
        picture::svg(told, name)
    );
    for unknown in &told.unknown {
        let _ = writeln!(figure, "<p class=\"unknown\">{}</p>", html(unknown));
    }
    if told.left_out != 0 {
        let _ = writeln!(figure, "<p class=\"unknown\">{}</p>", left_out(told.left_out));
    }
    let text =
        told.text.iter().map(|line| if line.is_empty() { " ".to_owned() } else { html(line) });
    let text = text.collect::<Vec<_>>().join("\n");
    let _ = writeln!(figure, "<details><summary>As text</summary>\n<pre>{text}</pre></details>");
    let data = script(&data.to_string());
    let _ = write!(figure, "<script type=\"application/json\">{data}</script>\n</figure>\n");
    figure
}

fn left_out(steps: usize) -> String {
    format!("{steps} later steps are left out: glass play shows them")
}

/// The heads of the lanes as they are at the end of the story.
fn heads(told: &Told) -> String {
    let lanes = told.lanes.len();
    let place = |lane| picture::place(lane, lanes);
    let ends = (1..=lanes).map(|lane| match lane {
        last if last == lanes => 100,
        lane => usize::midpoint(place(lane - 1), place(lane)),
    });
    let ends: Vec<usize> = [0, HEADS].into_iter().chain(ends).collect();
    let widths = ends.windows(2).map(|ends| format!("{}%", ends[1] - ends[0]));
    let widths = widths.collect::<Vec<_>>().join(" ");
    let mut heads = format!(
        "<div class=\"heads\" style=\"grid-template-columns:{widths}\"><span>client <small>inferred\
         </small></span>"
    );
    let at_end = told.said.last().map(|said| &said.heads[..]).unwrap_or_default();
    for (name, head) in told.lanes.iter().zip(at_end) {
        let HeadSaid { role, numbers, tone } = head;
        let _ = write!(
            heads,
            "<span class=\"head {tone}\"><b>{}</b> <i>{}</i> <small>{}</small></span>",
            html(name),
            html(role),
            html(numbers)
        );
    }
    heads.push_str("</div>");
    heads
}
