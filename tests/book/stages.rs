//! Statements about stages: the Go map of a chapter, the table of all stages, and their chapters.

use std::collections::BTreeSet;

use glass_etcd::trace::{Family, Stage};

use super::{
    Text, code,
    contents::{self, Chapter},
    expect_nothing, form, text,
};

/// The chapter whose walk is about etcd's functions; its Go map has what that leaves out.
const OF_ETCD: &str = "real-etcd.md";

const VOCABULARY: &str = "book/src/stages.md";

/// The row of a stage in a chapter's Go map.
fn go_row(stage: Stage) -> String {
    format!("| `{}` | `src/{}` | {} |", stage.name(), stage.rust_path(), stage.go_counterpart())
}

/// Stages that a chapter names but its Go map lacks, or lists wrongly.
fn missing_in_go_map(chapter: &Text) -> Vec<String> {
    let named: BTreeSet<Stage> = (code(chapter).iter().filter(|code| code.is_inline))
        .filter_map(|code| Stage::from_name(&code.text))
        .filter(|stage| stage.name().contains('.') || chapter.text.contains(&go_start(*stage)))
        .collect();
    let rows: BTreeSet<&str> = chapter.text.lines().collect();
    let missing = named.into_iter().map(go_row).filter(|row| !rows.contains(row.as_str()));
    missing.map(|row| format!("{}: the Go map lacks\n{row}", chapter.path)).collect()
}

/// How the row begins; `key` and `admit` are also ordinary words.
fn go_start(stage: Stage) -> String {
    format!("\n| `{}` |", stage.name())
}

/// The table of all stages of a family.
fn vocabulary(family: Family, chapters: &[Chapter]) -> String {
    let mut table =
        "| stage | what happens, and its fields | here, in etcd, and in this book |\n|---|---|---|\n"
            .to_owned();
    for stage in Stage::ALL.iter().filter(|stage| stage.family() == family) {
        let fields: Vec<&str> = stage.fields().iter().map(|field| field.name).collect();
        let meaning = stage.meaning().trim();
        let (name, rust, go) = (stage.name(), stage.rust_path(), stage.go_counterpart());
        let fields = match fields.join(", ") {
            none if none.is_empty() => none,
            fields => format!("<br>*{fields}*"),
        };
        let book = match chapter_of(*stage, chapters) {
            Some(chapter) => format!("<br>[{}]({})", chapter.number, stage.book_section()),
            None => String::new(),
        };
        let places = format!("`src/{rust}`<br>{go}{book}");
        table.push_str(&format!("| `{name}` | {meaning}{fields} | {places} |\n"));
    }
    table
}

fn chapter_of(stage: Stage, chapters: &[Chapter]) -> Option<&Chapter> {
    let file = stage.book_section().split('#').next();
    chapters.iter().find(|chapter| Some(&*chapter.file) == file)
}

/// Stages whose page the table of contents lacks.
fn without_chapter(chapters: &[Chapter]) -> Vec<String> {
    let stages = Stage::ALL.iter().filter(|stage| chapter_of(**stage, chapters).is_none());
    let lacks = |stage: &Stage| format!("{}: no page {}", stage.name(), stage.book_section());
    stages.map(lacks).collect()
}

/// Rows of a Go map that are other than in the code.
fn wrong_in_go_map(chapter: &Text) -> Vec<String> {
    let map = chapter.text.split("\n## Go map\n").nth(1).unwrap_or_default();
    let map = map.split("\n## ").next().unwrap_or_default().lines();
    let stage_of = |line: &str| {
        let (name, _) = line.strip_prefix("| `")?.split_once('`')?;
        Stage::from_name(name)
    };
    let wrong = map.filter(|line| stage_of(line).is_some_and(|stage| go_row(stage) != **line));
    wrong.map(|line| format!("{}: not as in the code: {line}", chapter.path)).collect()
}

#[test]
fn each_chapter_says_where_its_stages_are_in_etcd() {
    let chapters = form::written();
    assert!(!chapters.is_empty());
    let wrong = chapters.iter().flat_map(|chapter| {
        let is_complete = !chapter.path.ends_with(OF_ETCD);
        let missing = if is_complete { missing_in_go_map(chapter) } else { Vec::new() };
        [missing, wrong_in_go_map(chapter)].concat()
    });
    expect_nothing("Go map", &wrong.collect::<Vec<_>>());
}

#[test]
fn every_stage_points_to_a_chapter() {
    expect_nothing("sections", &without_chapter(&contents::chapters()));
}

/// The page with its tables as the code has them.
fn with_tables(page: &str) -> String {
    let mut families = [Family::Request, Family::Loop].into_iter();
    let (mut out, mut is_in_table) = (String::new(), false);
    for line in page.lines() {
        if line.starts_with('|') {
            if !std::mem::replace(&mut is_in_table, true) {
                let family = families.next().expect("two tables");
                out.push_str(&vocabulary(family, &contents::chapters()));
            }
        } else {
            is_in_table = false;
            out.push_str(&format!("{line}\n"));
        }
    }
    out
}

#[test]
fn the_vocabulary_is_the_one_of_the_code() {
    let page = Text::read(VOCABULARY);
    let expected = with_tables(&page.text);
    if std::env::var_os("GLASS_DRAW").is_some() {
        std::fs::write(VOCABULARY, &expected).unwrap();
        return;
    }
    let lines: BTreeSet<&str> = page.text.lines().collect();
    let other: Vec<&str> = expected.lines().filter(|line| !lines.contains(line)).collect();
    assert!(
        page.text == expected,
        "{VOCABULARY} is not what GLASS_DRAW=1 cargo test --test book vocabulary writes:\n{}",
        other.join("\n")
    );
}

#[test]
fn a_stage_without_its_counterpart_is_found() {
    let chapter = |rows: &str| {
        missing_in_go_map(&text("c.md", &format!("`wal.fsync` of a `key`\n\n{rows}\n"))).len()
    };
    assert_eq!(chapter(&go_row(Stage::WalFsync)), 0);
    assert_eq!(chapter(""), 1);
    let wrong = go_row(Stage::WalFsync).replace("wal WAL", "wal WAR");
    assert_eq!(chapter(&wrong), 1);
    let map = |row: &str| wrong_in_go_map(&text("c.md", &format!("\n## Go map\n\n{row}\n"))).len();
    assert_eq!((1, 0), (map(&wrong), map(&go_row(Stage::WalFsync))));
    let chapters = contents::read("- [1.6 The log](wal.md)\n");
    let lacks = without_chapter(&chapters);
    assert!(lacks.contains(&"raft.commit: no page three-members.md".to_owned()), "{lacks:?}");
    assert!(!lacks.iter().any(|lack| lack.starts_with("wal.fsync")), "{lacks:?}");
}
