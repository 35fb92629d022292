//! Statements about stages: the Go map of a chapter, the table of all stages, and their chapters.

use std::collections::BTreeSet;

use glass_etcd::trace::{Family, Stage};

use super::{Text, code, expect_nothing, text};

const SUMMARY: &str = "book/src/SUMMARY.md";

const CHAPTER: &str = "book/src/five-minutes.md";

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
fn vocabulary(family: Family) -> String {
    let mut table =
        "| stage | what happens, and its fields | here, and in etcd |\n|---|---|---|\n".to_owned();
    for stage in Stage::ALL.iter().filter(|stage| stage.family() == family) {
        let fields: Vec<&str> = stage.fields().iter().map(|field| field.name).collect();
        let meaning = stage.meaning().trim();
        let (name, rust, go) = (stage.name(), stage.rust_path(), stage.go_counterpart());
        let fields = match fields.join(", ") {
            none if none.is_empty() => none,
            fields => format!("<br>*{fields}*"),
        };
        table.push_str(&format!("| `{name}` | {meaning}{fields} | `src/{rust}`<br>{go} |\n"));
    }
    table
}

/// Sections that stages refer to but the table of contents lacks.
fn missing_sections(summary: &str) -> Vec<String> {
    let sections: BTreeSet<&str> = Stage::ALL.iter().map(|stage| stage.book_section()).collect();
    let has = |section: &&&str| summary.contains(&format!("[{section} "));
    let missing = sections.iter().filter(|section| !has(section));
    missing.map(|section| format!("{SUMMARY}: no chapter {section}")).collect()
}

#[test]
fn the_chapter_says_where_each_of_its_stages_is_in_etcd() {
    let chapter = Text::read(CHAPTER);
    expect_nothing("Go map", &missing_in_go_map(&chapter));
    assert!(chapter.text.contains(&go_row(Stage::RaftCommit)), "no Go map at all");
}

#[test]
fn every_stage_points_to_a_chapter() {
    expect_nothing("sections", &missing_sections(&Text::read(SUMMARY).text));
}

#[test]
fn the_vocabulary_is_the_one_of_the_code() {
    let page = Text::read(VOCABULARY);
    for family in [Family::Request, Family::Loop] {
        let table = vocabulary(family);
        assert!(page.text.contains(&table), "{VOCABULARY}: {family:?} has to be\n\n{table}");
    }
}

#[test]
fn a_stage_without_its_counterpart_is_found() {
    let chapter = |rows: &str| {
        missing_in_go_map(&text("c.md", &format!("`wal.fsync` of a `key`\n\n{rows}\n"))).len()
    };
    assert_eq!(chapter(&go_row(Stage::WalFsync)), 0);
    assert_eq!(chapter(""), 1);
    assert_eq!(chapter(&go_row(Stage::WalFsync).replace("wal WAL", "wal WAR")), 1);
    assert_eq!(missing_sections("- [9.9 Nothing](x.md)").len(), 1);
}
