//! Imports between rooms: the table, and the code that it forbids.

use std::path::Path;

use super::{File, expect_nothing, file, read, rust, without_comment};

/// The complete import table. The graph in ARCHITECTURE.md is drawn from it.
const MAY_USE: &[(&str, &[&str])] = &[
    (
        "member",
        &[
            "api", "server", "raft", "storage", "pb", "export", "story", "trace", "clock",
            "config", "metrics",
        ],
    ),
    ("api", &["server", "pb", "trace", "clock", "config", "metrics"]),
    ("server", &["raft", "storage", "pb", "trace", "clock", "config", "metrics"]),
    ("raft", &["storage", "pb", "trace", "clock", "metrics"]),
    ("storage", &["pb", "trace", "clock", "metrics"]),
    ("export", &["story", "trace"]),
    ("story", &["trace"]),
    ("trace", &[]),
    ("pb", &[]),
    ("clock", &[]),
    ("config", &[]),
    ("metrics", &[]),
];

/// Rooms of the library that the binary may use: `tui` starts members, and talks to them as a
/// client.
const TUI_MAY_USE: &[&str] =
    &["member", "export", "story", "trace", "pb", "config", "clock", "metrics"];

fn imports(file: &File) -> Vec<String> {
    // A test of the binary may start the service that the binary talks to.
    if file.path.starts_with("tui/") && file.is_test() {
        return Vec::new();
    }
    let Some((user, root, allowed)) = rule_for(&file.path) else { return Vec::new() };
    let mut wrong = Vec::new();
    for (line, used) in used_modules(&file.text, root) {
        let is_module = MAY_USE.iter().any(|(module, _)| *module == used);
        if is_module && used != user && !allowed.contains(&used.as_str()) {
            wrong.push(file.at(line, format!("{user} may not use {used}")));
        }
    }
    wrong
}

/// The room of a file, how it names the library, and what it may use.
fn rule_for(path: &str) -> Option<(&str, &'static str, &'static [&'static str])> {
    if path.starts_with("tui/") {
        return Some(("tui", "glass_etcd::", TUI_MAY_USE));
    }
    let first = path.strip_prefix("src/")?.split('/').next()?.trim_end_matches(".rs");
    let (_, allowed) = MAY_USE.iter().find(|(module, _)| *module == first)?;
    Some((first, "crate::", allowed))
}

/// Every `x` in `root::x` and in `use root::{x, ..}`, with its line.
fn used_modules(text: &str, root: &str) -> Vec<(usize, String)> {
    let code: String = text.lines().map(without_comment).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for (at, _) in code.match_indices(root) {
        let line = code[..at].matches('\n').count();
        let rest = &code[at + root.len()..];
        let names = match rest.strip_prefix('{') {
            Some(group) => top_level_names(group),
            None => leading_ident(rest).into_iter().collect(),
        };
        found.extend(names.into_iter().map(|name| (line, name)));
    }
    found
}

/// The first identifier of each item in a `use` group, up to its closing brace.
fn top_level_names(group: &str) -> Vec<String> {
    let (mut depth, mut at_start, mut names) = (0, true, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_start = true,
            c if at_start && c.is_alphabetic() => {
                names.extend(leading_ident(&group[at..]));
                at_start = false;
            }
            _ => (),
        }
    }
    names
}

fn leading_ident(text: &str) -> Option<String> {
    let ident: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!ident.is_empty()).then_some(ident)
}

#[test]
fn modules_use_only_modules_of_the_table() {
    let wrong: Vec<_> = rust().iter().flat_map(imports).collect();
    expect_nothing("imports against the graph", &wrong);
}

#[test]
fn the_table_has_every_module_of_the_library() {
    let text = read(Path::new("src/lib.rs")).text;
    let shipped = text.split("#[cfg(test)]").next().unwrap();
    let mods = shipped.lines().map(|line| line.strip_prefix("pub ").unwrap_or(line));
    let mods = mods.filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
    let missing: Vec<_> =
        mods.filter(|name| !MAY_USE.iter().any(|(module, _)| module == name)).collect();
    assert!(missing.is_empty(), "src/lib.rs: not in MAY_USE: {missing:?}");
}

#[test]
fn an_import_against_the_graph_is_found() {
    let found = |path: &str, text: &str| imports(&file(path, text));
    assert_eq!(
        found("src/raft/node.rs", "\nuse crate::server::x;"),
        ["src/raft/node.rs:2: raft may not use server"]
    );
    assert_eq!(found("src/raft/a.rs", "use crate::{clock, storage::{a, b},\n api::c};").len(), 1);
    assert_eq!(found("src/api/kv.rs", "let x = crate::raft::Node;").len(), 1);
    assert_eq!(found("tui/state/a.rs", "use glass_etcd::{trace, server::Error};").len(), 1);
    assert_eq!(found("src/config.rs", "// crate::api is not used\nuse crate::config::a;").len(), 0);
    assert_eq!(found("src/member.rs", "use crate::{api, server, raft, storage};").len(), 0);
}
