//! The appendix of myths: the myth cards of all chapters, each with the figure that decides it.
//!
//! `GLASS_DRAW=1 cargo test --test book myths` writes it; without `GLASS_DRAW` it is compared.

use std::{fs, path::Path};

use super::{
    PAGES, Text,
    contents::{self, Chapter},
};

const PAGE: &str = "book/src/myths.md";
/// How the first line of a card begins.
const CARD: &str = "> **A myth.** ";

/// A card.
#[derive(Debug, PartialEq, Eq)]
struct Myth {
    said: String,
    answer: Vec<String>,
    /// The figure before it, or the first one of the chapter.
    figure: Option<String>,
}

/// The figure that a line includes.
fn figure(line: &str) -> Option<&str> {
    line.strip_prefix("{{#include figures/")?.strip_suffix(".html}}")
}

/// The cards of a chapter.
fn myths(chapter: &str) -> Vec<Myth> {
    let lines: Vec<&str> = chapter.lines().collect();
    let card = |(at, line): (usize, &&str)| {
        let said = line.strip_prefix(CARD)?.to_owned();
        let rest = lines[at + 1..].iter().map_while(|line| line.strip_prefix("> "));
        let before = lines[..at].iter().rev().find_map(|line| figure(line));
        let figure = before.or_else(|| lines.iter().find_map(|line| figure(line)));
        let answer = rest.map(str::to_owned).collect();
        Some(Myth { said, answer, figure: figure.map(str::to_owned) })
    };
    lines.iter().enumerate().filter_map(card).collect()
}

/// A part of the appendix.
fn entry(chapter: &Chapter, myth: &Myth) -> String {
    let Chapter { number, title, file, .. } = chapter;
    let figure = myth.figure.as_deref().unwrap_or_default();
    let lines = myth.answer.join("\n");
    format!(
        "## {}\n\n{lines}\n\nLook at [the figure]({file}#figure-{figure}) in [{number} {title}]({file}).\n",
        myth.said
    )
}

/// The appendix up to its first entry, and all entries.
fn with_entries(page: &str) -> String {
    let head = page.split("\n## ").next().unwrap_or_default().trim_end();
    let chapters = contents::chapters().into_iter();
    let written = chapters.filter(|chapter| chapter.is_chapter() && chapter.is_written);
    let entries = written.flat_map(|chapter| {
        let text = Text::read(Path::new(PAGES).join(&chapter.file)).text;
        myths(&text).iter().map(|myth| entry(&chapter, myth)).collect::<Vec<_>>()
    });
    let entries: Vec<String> = entries.collect();
    format!("{head}\n\n{}", entries.join("\n"))
}

#[test]
fn the_appendix_has_the_myths_of_all_chapters() {
    let page = Text::read(PAGE).text;
    let expected = with_entries(&page);
    if std::env::var_os("GLASS_DRAW").is_some() {
        fs::write(PAGE, &expected).unwrap();
        return;
    }
    let how = "GLASS_DRAW=1 cargo test --test book myths writes it";
    assert!(page == expected, "{PAGE} has to be ({how})\n\n{expected}");
}

#[test]
fn a_card_is_read_with_its_figure() {
    let card = "{{#include figures/a.html}}\n\n> [!WARNING]\n> **A myth.** \"X.\"\n> It is not.\n\n\
        {{#include figures/b.html}}\n";
    let found = myths(card);
    let expected = Myth {
        said: "\"X.\"".to_owned(),
        answer: vec!["It is not.".to_owned()],
        figure: Some("a".to_owned()),
    };
    assert_eq!(vec![expected], found);
}
