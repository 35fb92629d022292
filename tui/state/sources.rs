//! The source of a step: the file in which it happens, with the lines marked that record it.
//!
//! A step is recorded by `stage!`, `mark!` or `past!` with its name, and by nothing else; the few
//! records that the collector fills by hand name their stage. A file may record a step in several
//! places, and a record does not say which of them it was: all are marked.

use std::ops::RangeInclusive;

use glass_etcd::trace::Stage;

use super::page::{Line, Page, Role};

/// The page of a stage's source.
pub(crate) fn page(stage: Stage) -> Page {
    page_of(stage, stage.rust_source())
}

/// The page of a source of this text.
pub(crate) fn page_of(stage: Stage, text: &str) -> Page {
    let places = places(text, stage);
    let is_marked = |at: usize| places.iter().any(|place| place.contains(&at));
    let lines = text.lines().enumerate().map(|(at, line)| Line {
        number: Some(at + 1),
        role: match line.trim_start() {
            _ if is_marked(at) => Role::Marked,
            line if line.starts_with("//") => Role::Remark,
            _ => Role::Code,
        },
        text: line.to_owned(),
    });
    let numbers: Vec<String> = places.iter().map(|place| (place.start() + 1).to_string()).collect();
    let at = places.first().map_or(0, |place| *place.start());
    Page {
        title: format!("SOURCE src/{}:{}", stage.rust_path(), numbers.join(", ")),
        address: format!("Go: {}", stage.go_counterpart()),
        lines: lines.collect(),
        at,
    }
}

/// The lines that record the stage, counted from 0.
fn places(text: &str, stage: Stage) -> Vec<RangeInclusive<usize>> {
    let tests = text.find("\n#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let code = &text[..tests];
    let name = format!("{stage:?}");
    let calls = ["stage!(", "mark!(", "past!(", "open(", "mark("];
    let calls = calls.iter().flat_map(|call| code.match_indices(call));
    let calls = calls.filter(|(at, call)| is_name(code[at + call.len()..].trim_start(), &name));
    let mut places: Vec<RangeInclusive<usize>> = calls
        .map(|(at, call)| line_of(code, at)..=line_of(code, end_of_call(code, at + call.len())))
        .collect();
    if places.is_empty() {
        let named = format!("Stage::{name}");
        let named = code.match_indices(&named).filter(|(at, _)| is_name(&code[*at..], &name));
        places.extend(named.map(|(at, _)| line_of(code, at)..=line_of(code, at)));
    }
    places.retain(|place| {
        let line = code.lines().nth(*place.start()).unwrap_or_default();
        !line.trim_start().starts_with("//")
    });
    places.sort_by_key(|place| *place.start());
    places.dedup();
    places
}

/// Whether the text begins with this name of a stage.
fn is_name(text: &str, name: &str) -> bool {
    let text = text.strip_prefix("Stage::").unwrap_or(text);
    let rest = text.strip_prefix(name);
    rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count()
}

/// Where the call ends whose arguments begin here.
fn end_of_call(text: &str, begin: usize) -> usize {
    let mut depth = 1;
    for (at, character) in text[begin..].char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return begin + at;
        }
    }
    begin
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the source view shows that very step. Method: every stage of the vocabulary.
    #[test]
    fn every_stage_marks_the_lines_that_record_it() {
        for stage in Stage::ALL {
            let page = page(*stage);
            let marked: Vec<&str> = page
                .lines
                .iter()
                .filter(|line| line.role == Role::Marked)
                .map(|line| line.text.as_str())
                .collect();
            let marked = marked.join("\n");
            assert!(marked.contains(&format!("{stage:?}")), "{}: {marked:?}", stage.name());
            assert_eq!(Role::Marked, page.lines[page.at].role, "{}", stage.name());
            let on_disk = format!("{}/src/{}", env!("CARGO_MANIFEST_DIR"), stage.rust_path());
            assert_eq!(std::fs::read_to_string(on_disk).unwrap(), stage.rust_source());
        }
    }

    #[test]
    fn a_call_is_marked_from_its_name_to_its_last_bracket() {
        let text = "fn a() {\n    let s = stage!(\n        WalFsync,\n        id(1),\n    );\n}\n";
        assert_eq!(vec![1..=4], places(text, Stage::WalFsync));
        assert!(places(text, Stage::WalWrite).is_empty());
        let comment = "// stage!(WalFsync, 0)\nmark(Stage::WalFsync, 0);\n\n#[cfg(test)]\nmod tests { fn b() { stage!(WalFsync, 0); } }\n";
        assert_eq!(vec![1..=1], places(comment, Stage::WalFsync));
    }
}
