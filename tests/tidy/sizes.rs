//! Sizes of files and functions.

use super::{File, expect_nothing, file, rust, without_comment};

/// Lines of a file without its tests.
const FILE_LINES_MAX: usize = 600;

/// Lines of code in a function, without blank lines and comments.
const FUNCTION_LINES_MAX: usize = 60;

fn lengths(file: &File) -> Vec<String> {
    let lines = file.code();
    let mut wrong = Vec::new();
    if lines.len() > FILE_LINES_MAX {
        wrong.push(file.at(0, format!("{} lines, at most {FILE_LINES_MAX}", lines.len())));
    }
    for (start, line) in lines.iter().enumerate() {
        let indent = &line[..line.len() - line.trim_start().len()];
        if !opens_function(&lines, start) {
            continue;
        }
        let close = format!("{indent}}}");
        let Some(length) = lines[start..].iter().position(|line| line.trim_end() == close) else {
            continue;
        };
        // As clippy counts: lines of code, without blank lines and comments.
        let counted = lines[start..start + length]
            .iter()
            .filter(|line| !without_comment(line).trim().is_empty())
            .count();
        if counted > FUNCTION_LINES_MAX {
            wrong.push(
                file.at(
                    start,
                    format!("function of {counted} lines, at most {FUNCTION_LINES_MAX}"),
                ),
            );
        }
    }
    wrong
}

/// Whether a function with a body begins in this line; its signature may span several lines.
fn opens_function(lines: &[&str], start: usize) -> bool {
    let words = without_comment(lines[start]).split(|c: char| !c.is_alphanumeric() && c != '_');
    let mut ends = lines[start..].iter().map(|line| without_comment(line).trim_end());
    words.into_iter().any(|word| word == "fn")
        && ends.find(|line| line.ends_with(['{', ';', '}'])).is_some_and(|line| line.ends_with('{'))
}

#[test]
fn files_and_functions_are_short() {
    let wrong: Vec<_> = rust().iter().flat_map(lengths).collect();
    expect_nothing("too long", &wrong);
}

#[test]
fn long_functions_are_found_and_comments_do_not_count() {
    let with = |line: &str, count| {
        let body = format!("        {line}\n").repeat(count);
        lengths(&file(
            "src/a.rs",
            &format!("impl A {{\n    fn a(\n        b: u8,\n    ) {{\n{body}    }}\n}}\n"),
        ))
    };
    assert_eq!(with("x();", 70), ["src/a.rs:2: function of 73 lines, at most 60"]);
    assert_eq!(with("x();", 50).len(), 0);
    assert_eq!(with("// x", 70).len(), 0);
    assert_eq!(lengths(&file("src/a.rs", &"x\n".repeat(601))).len(), 1);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "x\n".repeat(601));
    assert_eq!(lengths(&file("src/a.rs", &tests)).len(), 0);
}
