//! Shares of the code: no room may be so large that it is most of what a reader has to learn.

use std::collections::BTreeMap;

use super::{File, expect_nothing, rust, without_comment};

/// A room stays below one part in this many of all code.
const SHARE: usize = 5;

/// The room of a file: `server/mvcc` for `src/server/mvcc.rs` and `src/server/mvcc/watch/queue.rs`,
/// `server` for `src/server/admit.rs`. A room is a folder of `src`, or `tui`, or a folder directly
/// below one of these, each with the file of its name and without the rooms in it. `folders` are
/// those with code that is no test.
fn room(path: &str, folders: &[&str]) -> Option<String> {
    let inside = path.strip_prefix("src/").or_else(|| path.starts_with("tui/").then_some(path))?;
    let names: Vec<&str> = inside.strip_suffix(".rs")?.split('/').collect();
    let is_room = names.len() > 2 || folders.contains(&path.strip_suffix(".rs")?);
    Some(names[..names.len().min(if is_room { 2 } else { 1 })].join("/"))
}

/// Lines of code by room: no tests, no comments, no blank lines.
fn lines(files: &[File]) -> BTreeMap<String, usize> {
    let code: Vec<&File> = files.iter().filter(|file| !file.is_test()).collect();
    let folders: Vec<&str> =
        code.iter().filter_map(|file| Some(file.path.rsplit_once('/')?.0)).collect();
    let mut rooms = BTreeMap::new();
    for file in &code {
        let Some(room) = room(&file.path, &folders) else { continue };
        let lines = file.code().into_iter().map(without_comment);
        *rooms.entry(room).or_default() += lines.filter(|line| !line.trim().is_empty()).count();
    }
    rooms
}

fn too_large(files: &[File]) -> Vec<String> {
    let rooms = lines(files);
    let all: usize = rooms.values().sum();
    let large = rooms.iter().filter(|(_, lines)| all <= SHARE * **lines);
    large.map(|(room, lines)| format!("{room}: {lines} of {all} lines of code")).collect()
}

#[test]
fn no_room_holds_a_fifth_of_the_code() {
    expect_nothing("too large", &too_large(&rust()));
}

#[test]
fn a_room_that_holds_a_fifth_is_found_and_only_code_counts() {
    let file = |path: &str, text: String| File { path: path.to_owned(), text };
    let code = |lines: usize| "x();\n".repeat(lines);
    let mut files = vec![
        file("src/a.rs", code(1)),
        file(
            "src/a/b.rs",
            format!("//! b\n\n{}#[cfg(test)]\nmod tests {{\n{}}}\n", code(3), code(9)),
        ),
        file("src/a/b/c.rs", code(1)),
        file("src/a/b/tests.rs", code(9)),
        file("src/a/d.rs", code(2)),
        file("src/e.rs", code(3)),
        file("tui/main.rs", code(2)),
        file("tui/f.rs", code(1)),
        file("tui/f/g.rs", code(2)),
        file("tests/it/main.rs", code(9)),
        file("src/h.rs", code(3)),
        file("src/i/j.rs", code(3)),
    ];
    let rooms = [("a", 3), ("a/b", 4), ("e", 3), ("h", 3), ("i", 3), ("tui", 2), ("tui/f", 3)];
    let rooms = rooms.map(|(room, lines)| (room.to_owned(), lines));
    assert_eq!(lines(&files), BTreeMap::from(rooms));
    assert_eq!(too_large(&files), Vec::<String>::new());
    files.push(file("src/a/b/k.rs", code(1)));
    files.push(file("src/a/b/l.rs", code(1)));
    assert_eq!(too_large(&files), ["a/b: 6 of 23 lines of code"]);
}
