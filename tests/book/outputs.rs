//! Checks that the outputs shown on a page are what the program prints.
//!
//! A block of `console` begins with the command after a `$`. The test runs the command at the root
//! of the repository, and its output must be the rest of the block. A line with nothing but `…`
//! stands for omitted lines.

use std::{fs, process::Command};

use super::Text;

/// The page on the plain form.
const PAGE: &str = "book/src/plain.md";
/// The screen shown in README.md.
const PLAYER: &str = "tui/view/snapshots/glass__view__tests__put_who_knows.snap";

/// A command, and its expected output.
struct Example {
    words: Vec<String>,
    lines: Vec<String>,
}

fn examples(page: &str) -> Vec<Example> {
    let mut found = Vec::new();
    for block in page.split("\n```console\n").skip(1) {
        let block = block.split("\n```").next().unwrap_or("");
        let mut lines = block.lines().map(str::to_owned);
        let command = lines.next().unwrap_or_default();
        let words = command.strip_prefix("$ glass ").unwrap_or_else(|| panic!("{command}"));
        let words = words.split_whitespace().map(str::to_owned).collect();
        found.push(Example { words, lines: lines.collect() });
    }
    found
}

/// Whether the output has exactly these lines, except where lines are omitted.
fn is_printed(shown: &[String], printed: &[&str]) -> bool {
    let pieces: Vec<&[String]> = shown.split(|line| line == "…").collect();
    let mut rest = printed;
    for (at, piece) in pieces.iter().enumerate() {
        let is_last = at + 1 == pieces.len();
        let starts = match (at, is_last) {
            (0, true) if piece.len() != rest.len() => return false,
            (0, _) => 0..=0,
            // The last piece has to end where the output ends.
            (_, true) => match rest.len().checked_sub(piece.len()) {
                Some(start) => start..=start,
                None => return false,
            },
            (_, false) => 0..=rest.len(),
        };
        let is_at = |start: &usize| {
            let end = start + piece.len();
            end <= rest.len() && rest[*start..end].iter().zip(*piece).all(|(a, b)| a == b)
        };
        match starts.into_iter().find(is_at) {
            Some(start) => rest = &rest[start + piece.len()..],
            None => return false,
        }
    }
    true
}

/// The lines of a screen in a snapshot of the player's tests.
fn screen(snapshot: &str) -> Vec<&str> {
    snapshot
        .lines()
        .filter_map(|line| line.strip_prefix('"')?.strip_suffix('"'))
        .map(str::trim_end)
        .collect()
}

#[test]
fn the_picture_in_the_readme_is_a_screen_that_the_player_draws() {
    let (readme, snapshot) = (Text::read("README.md").text, Text::read(PLAYER).text);
    let screen = screen(&snapshot).join("\n");
    assert!(20 < screen.lines().count(), "{PLAYER} is no screen");
    assert!(readme.contains(&screen), "README.md: the player has to be\n\n{screen}");
}

#[test]
fn the_page_shows_the_plain_form_that_the_program_prints() {
    let examples = examples(&fs::read_to_string(PAGE).unwrap());
    for command in ["list", "show", "tail", "diff", "why-slow"] {
        let is_shown = |example: &Example| example.words[..2] == ["trace", command];
        assert!(examples.iter().any(is_shown), "no example of {command}");
    }
    for Example { words, lines } in examples {
        let output = Command::new(env!("CARGO_BIN_EXE_glass")).args(&words).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let printed: Vec<&str> = text.lines().map(str::trim_end).collect();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(
            is_printed(&lines, &printed),
            "glass {} prints\n{text}\nand the page shows\n{}",
            words.join(" "),
            lines.join("\n")
        );
    }
}

#[test]
fn an_output_that_is_another_is_found() {
    let shown = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let printed = ["a", "b", "c", "d", "b", "e"];
    for same in
        ["a\nb\nc\nd\nb\ne", "a\n…\ne", "…", "…\nb\ne", "a\nb\n…", "a\n…\nd\n…", "a\n…\nb\n…\nb\ne"]
    {
        assert!(is_printed(&shown(same), &printed), "{same}");
    }
    for other in [
        "a\nb\nc\nd\nb",
        "b\n…",
        "…\nb",
        "a\n…\ne\n…\nb",
        "a\n…\nc\ne",
        "",
        "a\n…\na\n…",
        "a\nb\nc\nd\nb\ne\nf",
    ] {
        assert!(!is_printed(&shown(other), &printed), "{other}");
    }
    let page = "x\n\n```console\n$ glass trace list\none\n```\n\n```text\n$ glass x\n```\n";
    let found = examples(page);
    assert_eq!((1, vec!["one".to_owned()]), (found.len(), found[0].lines.clone()));
}

#[test]
fn a_screen_is_read_from_its_snapshot() {
    assert_eq!(screen("---\nsource: x\n---\n\"a │ \"\n\"b\"\n"), ["a │", "b"]);
}
