//! The form of a chapter: what each of them has, and how much a page weighs.
//!
//! A chapter says what the reader can do after it, asks for a prediction, shows a recorded run,
//! says how to play it, lets the reader break something, and asks questions whose answers say what
//! makes an answer right. An appendix has no form.

use std::{collections::BTreeMap, path::Path};

use super::{PAGES, Text, code, contents, expect_nothing, text};

/// The most bytes of a rendered page, figures included; what they share with other pages is not
/// counted. The chapter with four figures has two thirds of that.
pub(crate) const PAGE_MAX: usize = 200_000;

/// Headings that every chapter has; the others are its walk.
const HEADINGS: [&str; 4] = ["Break it", "Questions", "Go map", "Further"];

/// What a line of a chapter has to begin with, and what that is.
const BEGINNINGS: [(&str, &str); 5] = [
    ("**After it you can** ", "goal"),
    ("**Minutes**: ", "minutes"),
    ("**Needs**: ", "needs"),
    ("> **Predict.** ", "predict box"),
    ("> **A myth.** ", "myth card"),
];

/// The least number of questions.
const QUESTIONS_MIN: usize = 3;

/// The parts that a chapter lacks.
fn lacks(chapter: &Text) -> Vec<String> {
    let lines: Vec<&str> = chapter.text.lines().collect();
    let has = |begin: &str| lines.iter().any(|line| line.starts_with(begin));
    let headings: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("## ")).collect();
    let mut lacks: Vec<String> = BEGINNINGS
        .iter()
        .filter(|(begin, _)| !has(begin))
        .map(|(begin, part)| format!("{part} ({begin}…)"))
        .collect();
    let missing = HEADINGS.iter().filter(|heading| !headings.contains(heading));
    lacks.extend(missing.map(|heading| format!("## {heading}")));
    if headings.iter().all(|heading| HEADINGS.contains(heading)) {
        lacks.push("walk: a section between the prediction and ## Break it".to_owned());
    }
    if !lines.iter().any(|line| line.starts_with("{{#include figures/") && line.contains(".html")) {
        lacks.push("figure ({{#include figures/NAME.html}})".to_owned());
    }
    let plays = |text: &str| text.contains("glass play ") || text.contains("glass lesson start ");
    if !code(chapter).iter().any(|code| plays(&code.text)) {
        lacks.push("how to play it (glass play FILE, or glass lesson start SLUG)".to_owned());
    }
    lacks.extend(questions(&chapter.text));
    lacks.into_iter().map(|lack| format!("{}: no {lack}", chapter.path)).collect()
}

/// What is missing in the questions: some, an answer each, and what makes it right.
fn questions(text: &str) -> Vec<String> {
    let part = text.split("\n## Questions\n").nth(1).unwrap_or_default();
    let part = part.split("\n## ").next().unwrap_or_default();
    let is_question = |line: &&str| {
        line.split_once(". ").is_some_and(|(number, _)| number.parse::<usize>().is_ok())
    };
    let asked = part.lines().filter(is_question).count();
    let answered = part.matches("<details>").count();
    let mut lacks = Vec::new();
    if asked < QUESTIONS_MIN {
        lacks.push(format!("{QUESTIONS_MIN} questions"));
    }
    if asked != answered {
        lacks.push(format!("answer for each question: {asked} and {answered}"));
    }
    if part.matches("\nRight, if ").count() != answered {
        lacks.push("Right, if … in each answer".to_owned());
    }
    lacks
}

/// Chapters that are written, in their order.
pub(crate) fn written() -> Vec<Text> {
    let chapters = contents::chapters().into_iter();
    let written = chapters.filter(|chapter| chapter.is_chapter() && chapter.is_written);
    written.map(|chapter| Text::read(Path::new(PAGES).join(&chapter.file))).collect()
}

/// Pages that are too heavy.
pub(crate) fn heavy(pages: &BTreeMap<String, usize>) -> Vec<String> {
    let heavy = pages.iter().filter(|(page, bytes)| PAGE_MAX < **bytes && *page != "print.html");
    heavy.map(|(page, bytes)| format!("{page}: {bytes} bytes, at most {PAGE_MAX}")).collect()
}

#[test]
fn every_chapter_has_all_parts() {
    let wrong: Vec<_> = written().iter().flat_map(lacks).collect();
    expect_nothing("form of the chapters", &wrong);
}

#[test]
fn a_part_that_is_missing_is_found() {
    let whole = "# 1.1 X\n\n**After it you can** x.\n\n**Minutes**: 5.\n\n**Needs**: x.\n\n\
        > [!NOTE]\n> **Predict.** x?\n\n## Walk\n\n{{#include figures/x.html}}\n\n\
        `glass play x`\n\n> **A myth.** \"x\"\n\n## Break it\n\n## Questions\n\n\
        1. x\n\n<details>\n\nRight, if x.\n\n</details>\n\n2. y\n\n<details>\n\nRight, if y.\n\n\
        </details>\n\n3. z\n\n<details>\n\nRight, if z.\n\n</details>\n\n## Go map\n\n## Further\n";
    let found = |body: &str| lacks(&text("a.md", body));
    assert_eq!(Vec::<String>::new(), found(whole));
    for part in [
        "**After it you can** x.",
        "**Minutes**: 5.",
        "**Needs**: x.",
        "> **Predict.** x?",
        "## Walk",
        "{{#include figures/x.html}}",
        "`glass play x`",
        "> **A myth.** \"x\"",
        "## Break it",
        "Right, if y.",
        "2. y",
        "<details>\n\nRight, if z.",
        "## Go map",
        "## Further",
    ] {
        assert!(!found(&whole.replacen(part, "", 1)).is_empty(), "{part}");
    }
    let pages = [("a.html", PAGE_MAX), ("b.html", PAGE_MAX + 1), ("print.html", PAGE_MAX + 1)];
    let pages = pages.map(|(page, bytes)| (page.to_owned(), bytes)).into();
    assert_eq!(1, heavy(&pages).len());
}
