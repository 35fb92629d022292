//! Checks on comments: how wide they are, whether the documents that they name exist, and words
//! that plain English does without.
//!
//! rustfmt leaves comments as they are, so prose grows past the margin one word at a time. Tables,
//! diagrams and URLs cannot be wrapped, and may be wider.

use super::{File, expect_nothing, files, rust};

/// The margin that rustfmt keeps for code.
const COLUMNS_MAX: usize = 100;

/// Words that leave the actor out, or that a native engineer would not write.
const UNPLAIN: [&str; 8] =
    ["whoever", "whatever", "goes on", "for good", "so many", "so long", "is told", "are told"];

/// Comment lines of prose that are wider than the margin.
fn widths(file: &File) -> Vec<String> {
    let mut is_diagram = false;
    let mut wrong = Vec::new();
    for (at, line) in file.text.lines().enumerate() {
        let Some(text) = comment(line) else {
            is_diagram = false;
            continue;
        };
        if text.starts_with("```") {
            is_diagram = !is_diagram;
        }
        let is_exempt = is_diagram || text.starts_with('|') || text.contains("://");
        let columns = line.chars().count();
        if COLUMNS_MAX < columns && !is_exempt {
            wrong.push(file.at(at, format!("a comment of {columns} columns, at most 100")));
        }
    }
    wrong
}

/// Comments that send the reader to a document that is not in the repository. `documents` are the
/// paths of those that are.
fn references(file: &File, documents: &[String]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (at, text) in file.text.lines().enumerate().filter_map(|(at, l)| Some((at, comment(l)?))) {
        // A paper's section is cited by its number: "Raft thesis, 10.2.1".
        if text.contains('§') {
            wrong.push(file.at(at, "a section of a document that is not named (§)"));
        }
        let is_of_path = |c: char| c.is_alphanumeric() || "_-./*".contains(c);
        for word in text.split(|c| !is_of_path(c)).map(|word| word.trim_end_matches('.')) {
            let is_known = |path: &String| path == word || path.ends_with(&format!("/{word}"));
            if word.ends_with(".md") && !word.contains('*') && !documents.iter().any(is_known) {
                wrong.push(file.at(at, format!("there is no {word}")));
            }
        }
    }
    wrong
}

/// Comments with one of the words in [`UNPLAIN`].
fn unplain(file: &File) -> Vec<String> {
    let mut wrong = Vec::new();
    for (at, text) in file.text.lines().enumerate().filter_map(|(at, l)| Some((at, comment(l)?))) {
        let text = format!(" {} ", text.to_lowercase().replace(|c: char| !c.is_alphabetic(), " "));
        let found = UNPLAIN.iter().filter(|word| text.contains(&format!(" {word} ")));
        wrong.extend(found.map(|word| file.at(at, format!("\"{word}\": name the actor"))));
    }
    wrong
}

/// The text of a line that is nothing but a comment.
fn comment(line: &str) -> Option<&str> {
    let text = line.trim_start().strip_prefix("//")?;
    Some(text.trim_start_matches(['/', '!']).trim_start())
}

#[test]
fn comments_keep_the_margin_of_the_code() {
    let wrong: Vec<_> = rust().iter().flat_map(widths).collect();
    expect_nothing("wide comments", &wrong);
}

#[test]
fn comments_name_only_documents_that_are_there() {
    let documents: Vec<String> = files(".", &[".md"]).into_iter().map(|file| file.path).collect();
    let wrong: Vec<_> = rust().iter().flat_map(|file| references(file, &documents)).collect();
    expect_nothing("references", &wrong);
}

#[test]
fn comments_are_plain_english() {
    expect_nothing("unplain comments", &rust().iter().flat_map(unplain).collect::<Vec<_>>());
}

#[test]
fn a_wide_comment_is_found_and_a_diagram_is_none() {
    let long = "word ".repeat(21);
    let found = |text: String| widths(&File { path: "src/a.rs".to_owned(), text });
    assert_eq!(
        found(format!("\n//! {long}")),
        ["src/a.rs:2: a comment of 109 columns, at most 100"]
    );
    assert_eq!(found(format!("    // {long}")).len(), 1);
    assert_eq!(found(format!("/// ```text\n/// {long}\n/// ```\n/// {long}")).len(), 1);
    assert_eq!(
        found(format!("//! | {long} |\n// see https://x.org/{long}\nlet a = \"{long}\";")).len(),
        0
    );
    // A block that is not closed ends with its comment.
    assert_eq!(found(format!("/// ```text\nfn a() {{}}\n/// {long}")).len(), 1);
    assert_eq!(found(format!("/// {}", "é".repeat(96))).len(), 0);
}

#[test]
fn a_document_that_is_not_there_is_found() {
    let documents = ["ARCHITECTURE.md", "book/src/stages.md"].map(str::to_owned);
    let found = |text: &str| {
        let file = File { path: "src/a.rs".to_owned(), text: text.to_owned() };
        references(&file, &documents)
    };
    assert_eq!(found("\n//! See `notes.md`."), ["src/a.rs:2: there is no notes.md"]);
    assert_eq!(found("/// (docs/design.md)").len(), 1);
    assert_eq!(found("// (as the paper says, \u{a7}6.7)").len(), 1);
    assert_eq!(
        found("//! ARCHITECTURE.md, and the rows of book/src/stages.md, stages.md.").len(),
        0
    );
    assert_eq!(found("let name = \"notes.md\"; // all *.md").len(), 0);
}

#[test]
fn a_comment_without_an_actor_is_found() {
    let found = |text: &str| unplain(&File { path: "src/a.rs".to_owned(), text: text.to_owned() });
    let word = ["what", "ever"].concat();
    let expected = format!("src/a.rs:2: \"{word}\": name the actor");
    assert_eq!(found(&format!("\n    /// Takes {word}, and when.")), [expected]);
    assert_eq!(found(&format!("let {word} = 1; // a line of code\n// some{word}")).len(), 0);
}
