//! Keys of the player that the texts name, against the appendix that lists them.
//!
//! That appendix is compared with the program's own table by a test of the binary. A key is what
//! stands in the style of code after "press", and any arrow or named key. "The key" is no sign of
//! one: `foo` is a key too.

use std::collections::BTreeSet;

use super::{Text, documents, expect_nothing, text};

const PAGE: &str = "book/src/keys.md";

/// Keys of a terminal that have names.
const NAMED: [&str; 12] =
    ["Enter", "Esc", "Tab", "Home", "End", "PgUp", "PgDn", "F1", "→", "←", "↑", "↓"];

/// Words after which a key stands.
const BEFORE: [&str; 3] = ["press", "Press", "pressing"];

/// All keys in the tables of the appendix.
fn known(page: &str) -> BTreeSet<String> {
    let tables = page.split("\n| key | does |\n").skip(1);
    let rows = tables.flat_map(|table| table.lines().take_while(|line| line.starts_with('|')));
    let cells = rows.filter_map(|row| row.split(" | ").next().map(str::to_owned));
    cells.flat_map(|cell| spans(&cell).map(|(_, key)| key.to_owned()).collect::<Vec<_>>()).collect()
}

/// What stands in the style of code in a line, each with the text before it.
fn spans(line: &str) -> impl Iterator<Item = (&str, &str)> {
    let parts: Vec<&str> = line.split('`').collect();
    let pairs = (0..parts.len() / 2).map(move |at| (parts[2 * at], parts[2 * at + 1]));
    pairs.collect::<Vec<_>>().into_iter()
}

/// Keys that the player does not have.
fn unknown_keys(document: &Text, known: &BTreeSet<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut is_code = false;
    for (at, line) in document.text.lines().enumerate() {
        is_code ^= line.trim_start().starts_with("```");
        if is_code {
            continue;
        }
        for (before, key) in spans(line) {
            let is_pressed = BEFORE.iter().any(|word| before.trim_end().ends_with(word));
            if (is_pressed || NAMED.contains(&key)) && !known.contains(key) {
                wrong.push(document.at(at, format!("the player has no key {key}")));
            }
        }
    }
    wrong
}

#[test]
fn every_key_that_the_texts_name_exists() {
    let known = known(&Text::read(PAGE).text);
    assert!(["→", "]", "x", "Enter", "b"].iter().all(|key| known.contains(*key)), "{known:?}");
    let wrong: Vec<_> = documents().iter().flat_map(|page| unknown_keys(page, &known)).collect();
    expect_nothing("keys", &wrong);
}

#[test]
fn a_key_that_does_not_exist_is_found() {
    let known = known("\n| key | does |\n|---|---|\n| `→` `l` | next |\n| `b` | book |\n\nx\n");
    let found = |body: &str| unknown_keys(&text("a.md", body), &known).len();
    assert_eq!(0, found("Press `l` or `→`; the value of `k`, and `kill` the process with `b`."));
    assert_eq!(1, found("Press `k`."));
    assert_eq!(1, found("`←` leads back, `→` on."));
    assert_eq!(0, found("a put of the key `z`"));
}
