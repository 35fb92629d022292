//! Builds the book and checks the result, so that no page can contain outdated statements.
//!
//! mdBook is lenient. An include whose anchor does not exist renders as nothing, one whose file
//! does not exist stays in the page as written, and both end with success. So these tests build the
//! book and read its pages as a browser would (`site`). They also compare what the text says about
//! the code with the code: names of stages and files (`names`), the stages' counterparts in etcd
//! (`stages`), outputs and the player's screen (`outputs`), and lines of recordings (`recording`).
//! The documents at the root are checked in the same way.
//!
//! Each check returns its findings as lines. Tests run it on the repository, and on samples, so
//! that a check without findings is known to work. Left out: links to other sites are not followed,
//! and outputs on other pages than that of the plain form are left to the tests of their commands.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::{
    fs,
    path::{Path, PathBuf},
};

mod chromium;
mod commands;
mod contents;
mod figures;
mod form;
mod html;
mod includes;
mod keys;
mod myths;
mod names;
mod outputs;
mod recording;
mod served;
mod site;
mod stages;
mod stepper;
mod tables;

const PAGES: &str = "book/src";
/// Documents outside the book that refer to the code.
const AT_THE_ROOT: [&str; 3] = ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md"];

/// A text, by its path from the root.
struct Text {
    path: String,
    text: String,
}

impl Text {
    fn read(path: impl AsRef<Path>) -> Text {
        let path = path.as_ref();
        let text = fs::read_to_string(path);
        let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Text { path: path.display().to_string(), text }
    }

    /// Reads a file if it is Markdown.
    fn read_page(path: PathBuf) -> Option<Text> {
        path.extension().is_some_and(|end| end == "md").then(|| Text::read(path))
    }

    fn at(&self, line: usize, what: impl std::fmt::Display) -> String {
        format!("{}:{}: {what}", self.path, line + 1)
    }
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
        match path.is_dir() {
            true => found.extend(files_below(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

/// The book's pages, and the files included from its folder.
fn sources() -> Vec<Text> {
    let files = files_below(Path::new(PAGES)).into_iter();
    let is_text = |path: &PathBuf| path.extension().is_some_and(|end| end == "md" || end == "txt");
    files.filter(is_text).map(Text::read).collect()
}

/// The book's sources and the documents at the root.
fn documents() -> Vec<Text> {
    sources().into_iter().chain(AT_THE_ROOT.map(Text::read)).collect()
}

/// Text in the style of code.
#[derive(Debug, PartialEq, Eq)]
struct Code {
    line: usize,
    text: String,
    is_inline: bool,
}

/// Everything between backticks, and every line between fences. A file that is not Markdown counts
/// as fenced.
fn code(document: &Text) -> Vec<Code> {
    let is_markdown = document.path.ends_with(".md");
    let (mut in_fence, mut found) = (!is_markdown, Vec::new());
    for (line, text) in document.text.lines().enumerate() {
        if is_markdown && text.trim_start().starts_with("```") {
            in_fence = !in_fence;
        } else if in_fence {
            found.push(Code { line, text: text.to_owned(), is_inline: false });
        } else {
            let inside = text.split('`').skip(1).step_by(2);
            found.extend(inside.map(|text| Code { line, text: text.to_owned(), is_inline: true }));
        }
    }
    found
}

fn is_elsewhere(link: &str) -> bool {
    link.contains("://") || link.starts_with("//") || link.starts_with("mailto:")
}

fn expect_nothing(title: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{title}:\n{}", wrong.join("\n"));
}

/// A sample.
fn text(path: &str, text: &str) -> Text {
    Text { path: path.to_owned(), text: text.to_owned() }
}
