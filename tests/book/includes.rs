//! Includes: mdBook renders one without its file or anchor as nothing, or as written.

use std::{fs, path::Path};

use super::{Text, expect_nothing, sources, text};

/// Includes whose file, lines or anchor do not exist.
fn broken_includes(page: &Text) -> Vec<String> {
    let mut wrong = Vec::new();
    for (line, text) in page.text.lines().enumerate() {
        for directive in text.split("{{#").skip(1) {
            let directive = directive.split("}}").next().unwrap_or("");
            let (name, argument) = directive.split_once(' ').unwrap_or((directive, ""));
            let why = match name {
                "include" | "rustdoc_include" => broken_include(&page.path, argument.trim()),
                "title" => None,
                _ => Some("nothing here knows what this does".to_owned()),
            };
            wrong.extend(why.map(|why| page.at(line, format!("{directive}: {why}"))));
        }
    }
    wrong
}

fn broken_include(page: &str, argument: &str) -> Option<String> {
    let (file, part) = argument.split_once(':').unwrap_or((argument, ""));
    let path = Path::new(page).parent()?.join(file);
    let Ok(text) = fs::read_to_string(&path) else { return Some("no such file".to_owned()) };
    let first = part.split(':').next().unwrap_or("");
    if !part.is_empty() && first.chars().all(|c| c.is_ascii_digit()) {
        return Some("line numbers move; use an anchor".to_owned());
    }
    (!part.is_empty() && !has_anchor(&text, part)).then(|| format!("no anchor {part}, or empty"))
}

/// Whether there is any text between the anchor's two ends.
fn has_anchor(text: &str, anchor: &str) -> bool {
    let is = |line: &str, mark: &str| {
        let name = line.split_once(mark).map(|(_, rest)| rest.trim_start());
        name.and_then(|rest| rest.strip_prefix(anchor)).is_some_and(|rest| {
            !rest.starts_with(|c: char| c.is_alphanumeric() || "_-".contains(c))
        })
    };
    let mut lines = text.lines().skip_while(|line| !is(line, "ANCHOR:")).skip(1).peekable();
    let has_end = lines.clone().any(|line| is(line, "ANCHOR_END:"));
    let mut inside = lines.by_ref().take_while(|line| !is(line, "ANCHOR_END:"));
    has_end && inside.any(|line| !line.trim().is_empty() && !line.contains("ANCHOR"))
}

#[test]
fn every_include_has_its_file_and_anchor() {
    let wrong: Vec<_> = sources().iter().flat_map(broken_includes).collect();
    expect_nothing("includes", &wrong);
}

#[test]
fn a_broken_include_is_found() {
    let include = |argument: &str| {
        broken_includes(&text("book/src/x.md", &format!("a {{{{#include {argument}}}}}"))).len()
    };
    assert_eq!(include("../../Cargo.toml"), 0);
    assert_eq!(include("../../Cargo.toml:no-such-anchor"), 1);
    assert_eq!(include("../../Cargo.toml:1:2"), 1);
    assert_eq!(include("no-such-file.txt"), 1);
    assert!(has_anchor("// ANCHOR: a\nx\n// ANCHOR_END: a", "a"));
    assert!(!has_anchor("// ANCHOR: ab\nx\n// ANCHOR_END: ab", "a"), "another anchor");
    assert!(!has_anchor("// ANCHOR: a\n// ANCHOR_END: a", "a"), "nothing in it");
    assert!(!has_anchor("// ANCHOR: a\nx", "a"), "no end");
}
