//! The form of single files: essays, module files, paths of one machine, and the manifest.

use std::path::Path;

use super::{File, expect_nothing, file, files, read, rust};

/// Dependencies that are used together may share a comment.
const SHARE_A_COMMENT_MAX: usize = 4;

fn essay(file: &File) -> Vec<String> {
    // The essay of a module covers its tests.
    let is_part = file.path.starts_with("src/") && file.is_test();
    match is_part || file.text.lines().next().is_some_and(|line| line.starts_with("//! ")) {
        true => Vec::new(),
        false => vec![file.at(0, "does not open with what it is for (`//!`)")],
    }
}

/// The one form of modules: `name.rs` beside `name/`. Below `tests/` cargo would treat the first as
/// a separate program.
fn module_form(file: &File) -> Vec<String> {
    let is_ours = file.path.starts_with("src/") || file.path.starts_with("tui/");
    match is_ours && file.path.ends_with("/mod.rs") {
        true => vec![file.at(0, "name the file after its folder, beside it")],
        false => Vec::new(),
    }
}

fn machine_paths(file: &File) -> Vec<String> {
    // Split, so that this file does not find itself.
    let homes = ["home", "Users", "root", "work", "var/folders"].map(|name| format!("/{name}/"));
    let mut wrong = Vec::new();
    for (at, line) in file.text.lines().enumerate() {
        for home in &homes {
            let starts_there = line.match_indices(home.as_str()).any(|(place, _)| {
                let before = line[..place].chars().next_back();
                before.is_none_or(|c| !c.is_alphanumeric() && !"-_./}~*".contains(c))
            });
            if starts_there {
                wrong.push(file.at(at, format!("a path of one machine ({home})")));
            }
        }
    }
    wrong
}

fn dependencies(manifest: &File) -> Vec<String> {
    let (mut in_section, mut since_comment, mut wrong) = (false, usize::MAX, Vec::new());
    for (at, line) in manifest.text.lines().enumerate() {
        if line.starts_with('[') {
            in_section = line.trim_end().ends_with("dependencies]");
            since_comment = usize::MAX;
        } else if line.trim().is_empty() {
            since_comment = usize::MAX;
        } else if line.starts_with('#') {
            since_comment = 0;
        } else if in_section && line.contains('=') {
            if since_comment >= SHARE_A_COMMENT_MAX {
                wrong.push(manifest.at(at, "a dependency without a comment that says what for"));
            }
            since_comment = since_comment.saturating_add(1);
        }
    }
    wrong
}

#[test]
fn every_file_opens_with_its_purpose() {
    let wrong: Vec<_> = rust().iter().flat_map(essay).collect();
    expect_nothing("no essay", &wrong);
}

#[test]
fn modules_have_one_form() {
    expect_nothing("module files", &rust().iter().flat_map(module_form).collect::<Vec<_>>());
    assert_eq!(1, module_form(&file("src/raft/mod.rs", "")).len());
    assert_eq!(0, module_form(&file("tests/faults/mod.rs", "")).len());
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    let kinds =
        [".rs", ".md", ".toml", ".yml", ".yaml", ".sh", ".txt", ".proto", "Procfile", ".snap"];
    let mut all = files(".", &kinds);
    all.extend(Some(Path::new(".ci/run")).filter(|path| path.exists()).map(read));
    let wrong: Vec<_> = all.iter().flat_map(machine_paths).collect();
    expect_nothing("paths", &wrong);
}

#[test]
fn every_dependency_has_its_reason_beside_it() {
    expect_nothing("dependencies", &dependencies(&read(Path::new("Cargo.toml"))));
}

#[test]
fn a_missing_essay_and_a_path_of_one_machine_are_found() {
    assert_eq!(essay(&file("src/a.rs", "use x;")).len(), 1);
    let home = ["see /", "home/me/x"].concat();
    assert_eq!(machine_paths(&file("a.md", &home)).len(), 1);
    assert_eq!(machine_paths(&file("a.md", "src/work/a and https://x.org/work/")).len(), 0);
}

#[test]
fn a_dependency_without_a_reason_is_found() {
    let toml = |text: &str| dependencies(&file("Cargo.toml", text));
    assert_eq!(
        toml("[dependencies]\na = \"1\"\n"),
        ["Cargo.toml:2: a dependency without a comment that says what for"]
    );
    assert_eq!(toml("[dependencies]\n# why\na = \"1\"\nb = \"1\"\n").len(), 0);
    assert_eq!(toml("[dependencies]\n# why\na = 1\nb = 1\nc = 1\nd = 1\ne = 1\n").len(), 1);
    assert_eq!(toml("[profile.dev]\na = 1\n").len(), 0);
}
