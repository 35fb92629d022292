//! The figures of the book: those that `book/figures.toml` lists, drawn from their recordings.
//!
//! The drawn files are in the repository, and have to be what the program draws now.
//! `GLASS_DRAW=1 cargo test --bin glass figures` writes them.

use std::{collections::BTreeMap, fs, path::Path};

use glass_etcd::{
    set,
    story::{Event, Recording, query::address::Address},
    trace::Stage,
};
use serde_json::json;

use super::{
    data::{self, Texts},
    figure::figure,
    told::{Told, told},
};
use crate::{
    lesson::labels::labels,
    source,
    state::{
        State,
        scenes::{self, PUT},
        story::Subject,
    },
};

const LIST: &str = "book/figures.toml";
const FOLDER: &str = "book/src/figures";
/// The most bytes that a chapter should load for a figure.
const FIGURE_MAX: usize = 60_000;

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    figure: Vec<Figure>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Figure {
    name: String,
    recording: String,
    story: String,
    #[serde(default)]
    excerpts: BTreeMap<String, [usize; 2]>,
}

impl Figure {
    /// The two files of the figure, each with its name.
    fn draw(&self) -> [(String, String); 2] {
        let recording = source::open(Path::new(&self.recording)).unwrap().recording;
        let subject = subject(&self.story, &recording);
        let subject = subject.unwrap_or_else(|| panic!("{}: no {}", self.recording, self.story));
        let told = told(&mut State::of_recording(recording), subject);
        assert!(!told.said.is_empty(), "{}: no step of {}", self.recording, self.story);
        let (html, text) = (fragment(&told, &self.name), self.text(&told));
        [(format!("{}.html", self.name), html), (format!("{}.txt", self.name), text)]
    }

    /// The story as text, with a mark at each end of an excerpt.
    fn text(&self, told: &Told) -> String {
        let begins = |number: usize, line: &str| line.starts_with(&format!("  {number:>3}  "));
        let (mut text, mut open) = (String::new(), None);
        for line in &told.text {
            let ends = open.filter(|(_, last): &(_, usize)| begins(last + 1, line));
            if let Some((name, _)) = ends {
                text.push_str(&format!("ANCHOR_END: {name}\n"));
                open = None;
            }
            let starts = self.excerpts.iter().find(|(_, [first, _])| begins(*first, line));
            if let Some((name, [_, last])) = starts {
                assert!(open.is_none(), "{}: {name} begins in another excerpt", self.name);
                text.push_str(&format!("ANCHOR: {name}\n"));
                open = Some((name, *last));
            }
            text.push_str(&format!("{line}\n"));
        }
        open.iter().for_each(|(name, _)| text.push_str(&format!("ANCHOR_END: {name}\n")));
        text
    }
}

/// The element for a chapter, with all that it says in it.
fn fragment(told: &Told, name: &str) -> String {
    let mut texts = Texts::default();
    let steps = data::steps(&told.said, &mut texts);
    let mut data = texts.shared();
    data["steps"] = json!(steps);
    figure(told, &format!("figure-{name}"), &data)
}

/// The story of this name: an address, a scenario's label, or an id.
fn subject(story: &str, recording: &Recording) -> Option<Subject> {
    if Address::is_one(story) {
        return Address::of(story, &recording.members).map(Subject::Cluster);
    }
    let labelled = labels(recording).get(story).copied();
    let id = labelled.or_else(|| u64::from_str_radix(story, 16).ok());
    id.map(Subject::Request)
}

#[test]
fn a_label_of_a_scenario_names_its_request() {
    let mut recording = scenes::put().recording;
    let mut labelled = Event::mark(0, Stage::RpcContext, 1);
    set!(labelled, RpcContext, trace_high = u64::from_be_bytes(*b"l:put\0\0\0"), parent = 1);
    recording.events.push(Event { id: PUT, ..labelled });
    let id = format!("{PUT:016x}");
    for story in ["put", &*id] {
        assert_eq!(Some(Subject::Request(PUT)), subject(story, &recording), "{story}");
    }
    assert_eq!(None, subject("get", &recording));
}

fn list() -> Vec<Figure> {
    let text = fs::read_to_string(LIST).unwrap();
    toml::from_str::<List>(&text).unwrap_or_else(|error| panic!("{LIST}: {error}")).figure
}

/// Goal: no figure of the book is older than the program, and none is too heavy.
#[test]
fn the_figures_of_the_book_are_what_the_program_draws() {
    let mut stale = Vec::new();
    for figure in list() {
        for (name, drawn) in figure.draw() {
            let path = Path::new(FOLDER).join(&name);
            assert!(drawn.len() <= FIGURE_MAX, "{name}: {} bytes", drawn.len());
            if std::env::var_os("GLASS_DRAW").is_some() {
                fs::write(&path, &drawn).unwrap();
            }
            if !fs::read_to_string(&path).is_ok_and(|there| there == drawn) {
                stale.push(name);
            }
        }
    }
    let how = "GLASS_DRAW=1 cargo test --bin glass figures draws them";
    assert!(stale.is_empty(), "other than the program draws: {stale:?}; {how}");
}

/// Goal: nobody edits, or keeps, a figure that is not drawn. An excerpt names steps that are there.
#[test]
fn every_drawn_figure_is_listed_with_excerpts_that_are_in_it() {
    let figures = list();
    for entry in fs::read_dir(FOLDER).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let of = name.strip_suffix(".html").or_else(|| name.strip_suffix(".txt"));
        let is_listed = |of: &str| figures.iter().any(|figure| figure.name == of);
        assert!(of.is_none_or(is_listed), "{FOLDER}/{name} is not in {LIST}");
    }
    for figure in &figures {
        let [_, (_, text)] = figure.draw();
        for excerpt in figure.excerpts.keys() {
            let ends = ["ANCHOR", "ANCHOR_END"].map(|end| format!("{end}: {excerpt}\n"));
            assert!(ends.iter().all(|end| text.contains(end)), "{}: {excerpt}", figure.name);
        }
    }
}
