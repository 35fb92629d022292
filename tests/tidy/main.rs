//! Checks on the code itself, and promises of the documentation.
//!
//! Everything that a reviewer would otherwise have to remember is a test here, so that `cargo test`
//! is the only gate. A remark made in two reviews becomes a check here. Each check returns its
//! findings as lines with file and line number. Tests run it on the repository, and on small
//! samples, so that a check without findings is known to work.

use std::{fs, path::Path};

mod circles;
mod comments;
mod form;
mod imports;
mod places;
mod rooms;
mod sizes;
mod stages;

/// A file of the repository, by its path from the root.
struct File {
    path: String,
    text: String,
}

impl File {
    fn at(&self, line: usize, what: impl std::fmt::Display) -> String {
        format!("{}:{}: {what}", self.path, line + 1)
    }

    fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || format!("/{}", self.path).contains("/tests/")
    }

    /// The lines up to the tests at the end.
    fn code(&self) -> Vec<&str> {
        if self.is_test() {
            return Vec::new();
        }
        let lines: Vec<&str> = self.text.lines().collect();
        let tests = lines.windows(2).position(|pair| {
            pair[0].trim() == "#[cfg(test)]" && pair[1].trim_start().starts_with("mod tests {")
        });
        lines[..tests.unwrap_or(lines.len())].to_vec()
    }
}

/// A line without its comment. This is good enough: the only strings of ours with `//` are URLs,
/// and the text after it is no import.
fn without_comment(line: &str) -> &str {
    line.split("//").next().unwrap_or("")
}

/// The files below `dir` with one of these endings, by path.
fn files(dir: &str, endings: &[&str]) -> Vec<File> {
    let mut found = Vec::new();
    collect(Path::new(dir), endings, &mut found);
    found.sort_by(|left, right| left.path.cmp(&right.path));
    found
}

fn collect(dir: &Path, endings: &[&str], found: &mut Vec<File>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            // `target`, `.git`, `.glass`, and members' data do not belong to the repository.
            if name != "target" && !name.starts_with('.') && !name.ends_with(".etcd") {
                collect(&path, endings, found);
            }
        } else if endings.iter().any(|ending| name.ends_with(ending)) {
            found.push(read(&path));
        }
    }
}

fn read(path: &Path) -> File {
    let path_text = path.display().to_string();
    let path_text = path_text.strip_prefix("./").unwrap_or(&path_text).to_owned();
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path_text}: {error}"));
    File { path: path_text, text }
}

/// Our Rust: the library, the binary, tests, examples.
fn rust() -> Vec<File> {
    ["src", "tui", "tests", "examples"].iter().flat_map(|dir| files(dir, &[".rs"])).collect()
}

fn expect_nothing(title: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{title}:\n{}", wrong.join("\n"));
}

/// A sample.
fn file(path: &str, text: &str) -> File {
    File { path: path.to_owned(), text: text.to_owned() }
}
