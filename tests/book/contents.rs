//! The table of contents, and the pages that are not written yet.
//!
//! `SUMMARY.md` lists a page that is not written yet within an HTML comment.
//! Stages, lessons and other pages may name it already. When its file is there, the line has to
//! become an ordinary one; nothing else has to be changed.

use std::{collections::BTreeSet, path::Path};

use super::{PAGES, Text, expect_nothing, files_below, sources};

const SUMMARY: &str = "book/src/SUMMARY.md";

/// A page with a number: a chapter, or an appendix with its letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chapter {
    /// `1.6`, or `A`; empty for the introduction.
    pub(crate) number: String,
    /// The title without the number.
    pub(crate) title: String,
    /// Its name in the folder of the pages.
    pub(crate) file: String,
    /// Whether it is part of the book already.
    pub(crate) is_written: bool,
}

impl Chapter {
    /// Whether it has the form of a chapter: appendices have not.
    pub(crate) fn is_chapter(&self) -> bool {
        self.number.starts_with(|c: char| c.is_ascii_digit())
    }

    /// The heading with which its file has to begin.
    fn heading(&self) -> String {
        format!("# {} {}", self.number, self.title).replace("#  ", "# ")
    }
}

/// The pages in a table of contents.
pub(crate) fn read(summary: &str) -> Vec<Chapter> {
    let chapter = |line: &str| {
        let inside = line.strip_prefix("<!--").and_then(|line| line.strip_suffix("-->"));
        let link = inside.unwrap_or(line).trim().trim_start_matches("- ");
        let (title, file) = link.strip_prefix('[')?.strip_suffix(')')?.rsplit_once("](")?;
        let (number, rest) = title.split_once(' ').unwrap_or((title, ""));
        let is_number = number.len() == 1 || number.contains('.');
        let (number, title) = if is_number { (number, rest) } else { ("", title) };
        let (number, title, file) = (number.to_owned(), title.to_owned(), file.to_owned());
        Some(Chapter { number, title, file, is_written: inside.is_none() })
    };
    summary.lines().filter_map(chapter).collect()
}

/// The pages of the book.
pub(crate) fn chapters() -> Vec<Chapter> {
    read(&Text::read(SUMMARY).text)
}

/// The pages of the built book that are not written yet.
pub(crate) fn to_come() -> BTreeSet<String> {
    let to_come = chapters().into_iter().filter(|chapter| !chapter.is_written);
    to_come.map(|chapter| chapter.file.replace(".md", ".html")).collect()
}

/// Where the table of contents and the files differ. `headings` has the first line of each file.
fn differences(chapters: &[Chapter], headings: &[(String, String)]) -> Vec<String> {
    let of = |file: &str| headings.iter().find(|(name, _)| name == file).map(|(_, line)| line);
    let wrong = |chapter: &Chapter| match of(&chapter.file) {
        None if chapter.is_written => Some("there is no such file".to_owned()),
        Some(_) if !chapter.is_written => {
            Some("it is written: make it an ordinary line".to_owned())
        }
        Some(line) if *line != chapter.heading() => {
            Some(format!("the page begins with {line:?}, not {:?}", chapter.heading()))
        }
        _ => None,
    };
    let listed = chapters.iter().filter_map(|one| Some(format!("{}: {}", one.file, wrong(one)?)));
    let is_listed = |file: &str| chapters.iter().any(|chapter| chapter.file == file);
    let others = headings.iter().filter(|(file, _)| !is_listed(file));
    listed.chain(others.map(|(file, _)| format!("{file}: not in the table of contents"))).collect()
}

/// Links whose text names another number than the page has.
fn wrong_numbers(page: &Text, chapters: &[Chapter]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (line, text) in page.text.lines().enumerate() {
        let parts: Vec<&str> = text.split("](").collect();
        for pair in parts.windows(2) {
            let words = pair[0].rsplit('[').next().unwrap_or_default();
            let number = words.split_whitespace().next().unwrap_or_default();
            let file = pair[1].split([')', '#']).next().unwrap_or_default();
            let chapter = chapters.iter().find(|chapter| chapter.file == file);
            let is_number = number.contains('.')
                && number.starts_with(|c: char| c.is_ascii_digit())
                || number.len() == 1 && number.starts_with(|c: char| c.is_ascii_uppercase());
            let other = chapter.filter(|chapter| is_number && chapter.number != number);
            wrong.extend(other.map(|one| page.at(line, format!("{file} is {}", one.number))));
        }
    }
    wrong
}

#[test]
fn a_link_that_names_a_number_names_that_of_its_page() {
    let wrong: Vec<_> =
        sources().iter().flat_map(|page| wrong_numbers(page, &chapters())).collect();
    expect_nothing("numbers of chapters", &wrong);
    let found = |body: &str| {
        let page = Text { path: "a.md".to_owned(), text: body.to_owned() };
        wrong_numbers(&page, &read("- [1.6 Log](wal.md)\n[A S](s.md)\n")).len()
    };
    assert_eq!(0, found("[1.6](wal.md), [the log](wal.md#x), [A Stages](s.md), [9.9](x.md)"));
    assert_eq!(2, found("[1.5 Log](wal.md#x) and [B](s.md)"));
}

#[test]
fn every_page_is_in_the_table_of_contents_with_its_title() {
    let pages = files_below(Path::new(PAGES)).into_iter().filter_map(Text::read_page);
    let headings = pages.map(|page| {
        let first = page.text.lines().next().unwrap_or_default().to_owned();
        (page.path.rsplit('/').next().unwrap_or_default().to_owned(), first)
    });
    let headings: Vec<(String, String)> =
        headings.filter(|(file, _)| file != "SUMMARY.md").collect();
    expect_nothing(SUMMARY, &differences(&chapters(), &headings));
}

#[test]
fn a_page_that_the_table_of_contents_has_wrongly_is_found() {
    let summary = "# x\n\n[Introduction](i.md)\n\n- [0.1 A b](a.md)\n<!-- - [1.6 Log](wal.md) -->\n\n[A S](s.md)\n";
    let chapters = read(summary);
    let found: Vec<(&str, &str, bool, bool)> = chapters
        .iter()
        .map(|one| (&*one.number, &*one.file, one.is_written, one.is_chapter()))
        .collect();
    let expected = [
        ("", "i.md", true, false),
        ("0.1", "a.md", true, true),
        ("1.6", "wal.md", false, true),
        ("A", "s.md", true, false),
    ];
    assert_eq!(expected, *found);
    let files = |files: &[(&str, &str)]| -> Vec<(String, String)> {
        files.iter().map(|(file, line)| ((*file).to_owned(), (*line).to_owned())).collect()
    };
    let all = [("i.md", "# Introduction"), ("a.md", "# 0.1 A b"), ("s.md", "# A S")];
    assert_eq!(Vec::<String>::new(), differences(&chapters, &files(&all)));
    let one_is_new = files(&[&all[..], &[("wal.md", "# 1.6 Log"), ("x.md", "# X")]].concat());
    let wrong = differences(&chapters, &one_is_new);
    assert_eq!(
        ["wal.md: it is written: make it an ordinary line", "x.md: not in the table of contents"],
        *wrong
    );
    let other = files(&[("i.md", "# Introduction"), ("a.md", "# 0.2 A b")]);
    assert_eq!(2, differences(&chapters, &other).len());
}
