//! The page on the recording format against recordings: everything that a line has is on the page.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use super::{Text, expect_nothing, files_below};

const PAGE: &str = "book/src/recording.md";

/// Recordings of the repository.
fn recordings() -> Vec<PathBuf> {
    let folders = ["book/src/figures", "lessons"].into_iter();
    let files = folders.flat_map(|folder| files_below(Path::new(folder)));
    files.filter(|file| file.extension().is_some_and(|end| end == "ndjson")).collect()
}

/// The names in the first column of the tables below a heading, and in the row of some of them what
/// the second column names.
struct Section<'t>(&'t str);

impl<'t> Section<'t> {
    fn of(page: &'t str, heading: &str) -> Section<'t> {
        let (_, rest) = page.split_once(&format!("\n## {heading}\n")).unwrap();
        Section(rest.split("\n## ").next().unwrap())
    }

    fn rows(&self) -> impl Iterator<Item = (&'t str, &'t str)> {
        self.0.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
    }

    fn names(&self) -> BTreeSet<&'t str> {
        self.rows().map(|(name, _)| name).collect()
    }

    fn values(&self, name: &str) -> BTreeSet<&'t str> {
        let (_, text) = self.rows().find(|(known, _)| *known == name).unwrap();
        text.split('`').skip(1).step_by(2).collect()
    }
}

/// What these lines have and the page does not name.
fn unnamed<'l>(page: &str, lines: impl Iterator<Item = &'l str>) -> BTreeSet<String> {
    let section = Section::of(page, "The lines after it");
    let names = section.names();
    let [kinds, threads, flags] = ["kind", "thread", "flags"].map(|name| section.values(name));
    let mut wrong = BTreeSet::new();
    for line in lines {
        let Ok(line) = serde_json::from_str::<Map<String, Value>>(line) else { continue };
        if !line.contains_key("stage") {
            continue;
        }
        let unknown = line.keys().filter(|name| !names.contains(name.as_str()));
        wrong.extend(unknown.map(|name| format!("{PAGE}: no row `{name}`")));
        let flag_names = line.get("flags").and_then(Value::as_array);
        let values = [(&kinds, &line["kind"]), (&threads, &line["thread"])].into_iter();
        let values = values.chain(flag_names.into_iter().flatten().map(|flag| (&flags, flag)));
        let unknown = values.filter(|(known, value)| !known.contains(value.as_str().unwrap()));
        wrong.extend(unknown.map(|(_, value)| format!("{PAGE}: {value} is not named")));
    }
    wrong
}

#[test]
fn the_page_on_the_format_names_everything_that_a_line_has() {
    let page = Text::read(PAGE).text;
    let recordings = recordings();
    assert!(10 < recordings.len());
    let texts: Vec<String> =
        recordings.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let wrong = unnamed(&page, texts.iter().flat_map(|text| text.lines()));
    expect_nothing("what the page does not name", &Vec::from_iter(wrong));
}

#[test]
fn a_name_that_is_not_on_the_page_is_found() {
    let page = Text::read(PAGE).text;
    let line = r#"{"stage":"rpc","kind":"nap","thread":"grpc","flags":["kept","x"],"news":1}"#;
    let expected = ["\"nap\" is not named", "\"x\" is not named", "no row `news`"];
    let expected = expected.map(|what| format!("{PAGE}: {what}"));
    assert_eq!(BTreeSet::from(expected), unnamed(&page, [line].into_iter()));
    assert_eq!(BTreeSet::new(), unnamed(&page, ["{\"members\":[]}", "{cut short"].into_iter()));
}
