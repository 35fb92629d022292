//! Names of stages and files in the style of code, and links between the documents at the root.

use std::{collections::BTreeSet, path::Path};

use glass_etcd::{
    export::otlp::{CONNECTION_ATTRIBUTES, HTTP_ATTRIBUTES, LINK, REASON, RPC_ATTRIBUTES},
    trace::Stage,
};

use super::{AT_THE_ROOT, Text, code, documents, expect_nothing, is_elsewhere, text};

/// Endings of file names. Other names with a dot, in the style of code, are stages.
const FILE_ENDINGS: [&str; 11] =
    ["rs", "go", "md", "toml", "lock", "snap", "txt", "wal", "json", "ndjson", "log"];

/// Names of etcd's own that look like stages: methods of types with a small letter.
const OF_ETCD: [&str; 1] = ["node.run"];

/// Folders with which paths to the repository's files begin.
const FOLDERS: [&str; 6] = ["src/", "tui/", "tests/", "examples/", "book/", ".ci/"];

/// Whether it looks like `raft.commit`.
fn is_dotted(word: &str) -> bool {
    let mut parts = word.split('.');
    let is_name =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    word.contains('.') && parts.all(is_name)
}

/// Names in the style of code that look like stages but are none.
fn unknown_stages(document: &Text) -> Vec<String> {
    let fields: BTreeSet<&str> =
        Stage::ALL.iter().flat_map(|stage| stage.fields()).map(|field| field.name).collect();
    let prefixes: BTreeSet<&str> = Stage::ALL
        .iter()
        .filter_map(|stage| stage.name().split_once('.'))
        .map(|(a, _)| a)
        .collect();
    // A field is an attribute of an exported span, with the same name after a prefix.
    let is_attribute = |word: &str| {
        word == LINK
            || word == REASON
            || RPC_ATTRIBUTES.contains(&word)
            || HTTP_ATTRIBUTES.contains(&word)
            || CONNECTION_ATTRIBUTES.contains(&word)
            || word.strip_prefix("etcd.").is_some_and(|field| fields.contains(field))
    };
    let is_known = |word: &str| {
        OF_ETCD.contains(&word)
            || Stage::from_name(word).is_some()
            || fields.contains(word)
            || is_attribute(word)
    };
    let mut wrong = Vec::new();
    for code in code(document) {
        let is_part = |c: char| c.is_alphanumeric() || "_./-".contains(c);
        for word in code.text.split(|c| !is_part(c)).map(|word| word.trim_end_matches('.')) {
            let (prefix, _) = word.split_once('.').unwrap_or((word, ""));
            let is_file = word.rsplit('.').next().is_some_and(|end| FILE_ENDINGS.contains(&end));
            // Output of commands contains other dots; there only the stages' own prefixes count.
            let is_meant = prefixes.contains(prefix) || (code.is_inline && code.text == word);
            if is_dotted(word) && !is_file && is_meant && !is_known(word) {
                wrong.push(document.at(code.line, format!("there is no stage {word}")));
            }
        }
    }
    wrong
}

/// Paths in the style of code, and links, that lead to no file of the repository.
fn unknown_files(document: &Text) -> Vec<String> {
    let exists = |path: &str| Path::new(path.trim_end_matches('/')).exists();
    let mut wrong = Vec::new();
    for code in code(document).iter().filter(|code| code.is_inline) {
        let is_path = FOLDERS.iter().any(|folder| code.text.starts_with(folder))
            && !code.text.contains(|c: char| c.is_whitespace() || "<*{".contains(c));
        if is_path && !exists(&code.text) {
            wrong.push(document.at(code.line, format!("there is no file {}", code.text)));
        }
    }
    if !AT_THE_ROOT.contains(&document.path.as_str()) {
        return wrong;
    }
    // Links between the book's pages are checked in the built book.
    for (line, text) in document.text.lines().enumerate() {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or("");
            if !is_elsewhere(link) && !path.is_empty() && !exists(path) {
                wrong.push(document.at(line, format!("the link {link} leads nowhere")));
            }
        }
    }
    wrong
}

#[test]
fn every_stage_that_the_texts_name_exists() {
    let wrong: Vec<_> = documents().iter().flat_map(unknown_stages).collect();
    expect_nothing("stages", &wrong);
}

#[test]
fn every_file_that_the_texts_name_exists() {
    let wrong: Vec<_> = documents().iter().flat_map(unknown_files).collect();
    expect_nothing("files", &wrong);
}

#[test]
fn a_stage_that_does_not_exist_is_found() {
    let found = |path: &str, body: &str| unknown_stages(&text(path, body)).len();
    assert_eq!(found("a.md", "`raft.commit` and `commit.old` in `node.rs`, raft.gone in words"), 0);
    assert_eq!(found("a.md", "`raft.gone`"), 1);
    assert_eq!(found("a.md", "`never.was`"), 1);
    assert_eq!(found("a.md", "```text\nn1 wal.gone 1.5 ms at example.org\nwal.fsync\n```"), 1);
    assert_eq!(found("a.txt", "n1  apply.gone"), 1);
}

#[test]
fn a_file_that_does_not_exist_is_found() {
    let found = |body: &str| unknown_files(&text("README.md", body)).len();
    assert_eq!(
        found("`src/trace/stage.rs`, `src/<name>`, [x](Cargo.toml#a), [y](https://a.b/c)"),
        0
    );
    assert_eq!(found("`src/gone.rs`"), 1);
    assert_eq!(found("[x](GONE.md)"), 1);
}
