//! Checks on the code itself: imports between rooms, sizes of files and functions, and promises of
//! the documentation.
//!
//! Everything that a reviewer would otherwise have to remember is a test here, so that `cargo test`
//! is the only gate. A remark made in two reviews becomes a check here. Each check returns its
//! findings as lines with file and line number; the tests at the end run them on the repository,
//! and on small samples, so that a check without findings is known to work.

use std::{collections::BTreeSet, fs, path::Path};

#[path = "tidy/circles.rs"]
mod circles;
#[path = "tidy/comments.rs"]
mod comments;

/// The complete import table. The graph in ARCHITECTURE.md is drawn from it.
const MAY_USE: &[(&str, &[&str])] = &[
    (
        "member",
        &["api", "server", "raft", "storage", "pb", "export", "story", "trace", "clock", "config"],
    ),
    ("api", &["server", "pb", "trace", "clock", "config"]),
    ("server", &["raft", "storage", "pb", "trace", "clock", "config"]),
    ("raft", &["storage", "pb", "trace", "clock"]),
    ("storage", &["pb", "trace", "clock"]),
    ("export", &["story", "trace"]),
    ("story", &["trace"]),
    ("trace", &[]),
    ("pb", &[]),
    ("clock", &[]),
    ("config", &[]),
];
/// What the binary may use of the library: `tui` starts members, and talks to them as a client.
const TUI_MAY_USE: &[&str] = &["member", "export", "story", "trace", "pb", "config", "clock"];
const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 60;
/// Dependencies that are used together may share a comment.
const SHARE_A_COMMENT_MAX: usize = 4;
/// Stages that no code opens by name, and why.
const STAGES_ELSEWHERE: &[(&str, &str)] = &[
    ("Keyframe", "written by the collector, which fills whole records"),
    ("KeyframeBackend", "as Keyframe"),
    ("Key", "the extension record of a span, written with it"),
    ("Lost", "written by the reader of a ring that finds a gap"),
];
/// Files that may access the eight numbers of a record by position, and why.
const FIELDS_BY_PLACE: &[(&str, &str)] = &[
    ("src/story/event.rs", "has them, and gives them out by name"),
    ("src/trace/record.rs", "as event.rs"),
    ("src/trace/span.rs", "fills them in, by slots that were checked"),
    ("src/trace/ring.rs", "copies all of them"),
    ("src/trace/bridge", "as span.rs"),
    ("src/story/recording/json.rs", "reads the names that stand in a file"),
    ("tui/log.rs", "fields of log lines"),
    ("tui/state/scenes.rs", "scripts of tests"),
    ("src/story/spoiled.rs", "as scenes.rs"),
];
/// Files that may read the two clocks.
const CLOCKS: &[&str] = &["src/clock.rs", "src/trace/raw_clock.rs"];

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

// ---- the checks ----

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

fn essay(file: &File) -> Vec<String> {
    // The essay of a module covers its tests.
    let is_part = file.path.starts_with("src/") && file.is_test();
    match is_part || file.text.lines().next().is_some_and(|line| line.starts_with("//! ")) {
        true => Vec::new(),
        false => vec![file.at(0, "does not open with what it is for (`//!`)")],
    }
}

fn clocks(file: &File) -> Vec<String> {
    if CLOCKS.contains(&file.path.as_str()) {
        return Vec::new();
    }
    // Split, so that this file does not find itself.
    let reads = ["Instant", "SystemTime"].map(|clock| format!("{clock}::now("));
    let lines = file.text.lines().enumerate();
    lines
        .filter(|(_, line)| reads.iter().any(|read| without_comment(line).contains(read.as_str())))
        .map(|(at, _)| file.at(at, "time enters through clock.rs only"))
        .collect()
}

/// The library reports by log lines and results, and never prints to a terminal.
fn prints(file: &File) -> Vec<String> {
    if !file.path.starts_with("src/") {
        return Vec::new();
    }
    let calls = ["println!(", "eprintln!(", "print!(", "dbg!("];
    let lines = file.code().into_iter().enumerate();
    lines
        .filter(|(_, line)| calls.iter().any(|call| without_comment(line).contains(call)))
        .map(|(at, _)| file.at(at, "the library prints nothing"))
        .collect()
}

/// The player's state does not depend on screens, so that it can be tested without one.
fn screens(file: &File) -> Vec<String> {
    if !file.path.starts_with("tui/state") || file.is_test() {
        return Vec::new();
    }
    let lines = file.text.lines().enumerate();
    lines
        .filter(|(_, line)| without_comment(line).contains("ratatui::"))
        .map(|(at, _)| file.at(at, "state knows no screen"))
        .collect()
}

/// Fields of a known stage are read by `field!`, `fields!` and `change!`, so that a wrong position
/// or name does not compile.
fn fields_by_place(file: &File) -> Vec<String> {
    let is_ours = ["src/", "tui/"].iter().any(|room| file.path.starts_with(room));
    if !is_ours || FIELDS_BY_PLACE.iter().any(|(path, _)| file.path.starts_with(path)) {
        return Vec::new();
    }
    let code: Vec<&str> = file.code().into_iter().map(without_comment).collect();
    let code = code.join("\n");
    let line = |at: usize| code[..at].matches('\n').count();
    let continues =
        |rest: &str| rest.starts_with(|c: char| c.is_alphanumeric() || "_(".contains(c));
    let by_place =
        code.match_indices(".fields").filter(|(at, word)| !continues(&code[at + word.len()..]));
    let by_place = by_place.map(|(at, _)| file.at(line(at), "a field by its place, not by field!"));
    let by_text = code
        .match_indices(".field(")
        .filter(|(at, call)| is_one_argument(&code[at + call.len()..]));
    let by_text = by_text.map(|(at, _)| file.at(line(at), "a field by text, not by field!"));
    by_place.chain(by_text).collect()
}

/// Whether the arguments of a call, given from the first one on, are only one: `debug_struct` and
/// similar types have a method of the same name with two.
fn is_one_argument(rest: &str) -> bool {
    let mut depth = 0;
    let mut is_text = false;
    for (at, c) in rest.char_indices() {
        match c {
            '"' => is_text = !is_text,
            _ if is_text => {}
            '(' | '[' | '{' => depth += 1,
            ')' if depth == 0 => return true,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => return rest[at + 1..].trim_start().starts_with(')'),
            _ => {}
        }
    }
    false
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

/// What is wrong with the list of stages: one that no code opens, or one whose Rust path is another
/// file than those that open it.
fn misplaced_stages(stages: &File, sources: &[File]) -> Vec<String> {
    let flat = sources.iter().map(|file| {
        let code = file.code().into_iter();
        let code =
            code.flat_map(|line| without_comment(line).split_whitespace().collect::<Vec<_>>());
        (file.path.as_str(), code.collect::<String>())
    });
    let flat: Vec<(&str, String)> = flat.collect();
    let opened_in = |stage: &str| -> Vec<&str> {
        let calls = ["stage!(", "mark!(", "open(Stage::", "mark(Stage::"];
        let calls = calls.map(|call| format!("{call}{stage},"));
        let opens = |text: &String| calls.iter().any(|call| text.contains(call));
        flat.iter().filter(|(_, text)| opens(text)).map(|(path, _)| *path).collect()
    };
    let mut wrong = Vec::new();
    let mut names = BTreeSet::new();
    let lines: Vec<&str> = stages.text.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let Some(stage) = declared_stage(line) else { continue };
        names.insert(stage);
        let homes = opened_in(stage);
        let is_elsewhere = STAGES_ELSEWHERE.iter().any(|(name, _)| *name == stage);
        match (is_elsewhere, homes.is_empty()) {
            (true, true) => continue,
            (true, false) => wrong.push(stages.at(at, format!("{stage} is opened by its name"))),
            (false, true) => wrong.push(stages.at(at, format!("nothing opens the stage {stage}"))),
            (false, false) => {}
        }
        let path = lines[at..].iter().find_map(|line| rust_path(line));
        if !homes.is_empty() && !homes.iter().any(|home| home.strip_prefix("src/") == path) {
            let homes = homes.join(", ");
            wrong.push(stages.at(at, format!("{stage} is opened in {homes}")));
        }
    }
    for (name, _) in STAGES_ELSEWHERE.iter().filter(|(name, _)| !names.contains(name)) {
        wrong.push(stages.at(0, format!("there is no stage {name} any more")));
    }
    wrong
}

/// `server/kv_server.rs` in a line that names it: the first text of a stage that ends in `.rs`.
fn rust_path(line: &str) -> Option<&str> {
    line.split('"').find(|text| text.ends_with(".rs"))
}

/// `Put` in `    Put = "put" Request Story`.
fn declared_stage(line: &str) -> Option<&str> {
    let (name, rest) = line.strip_prefix("    ")?.split_once(" = \"")?;
    let (_, kind) = rest.split_once("\" ")?;
    let is_stage = kind.starts_with("Request ") || kind.starts_with("Loop ");
    (is_stage && name.chars().all(char::is_alphanumeric)).then_some(name)
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

/// The one form of modules: `name.rs` beside `name/`. Below `tests/` cargo would treat the first as
/// a separate program.
fn module_form(file: &File) -> Vec<String> {
    let is_ours = file.path.starts_with("src/") || file.path.starts_with("tui/");
    match is_ours && file.path.ends_with("/mod.rs") {
        true => vec![file.at(0, "name the file after its folder, beside it")],
        false => Vec::new(),
    }
}

// ---- on the repository ----

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

#[test]
fn modules_use_only_what_they_may() {
    let wrong: Vec<_> = rust().iter().flat_map(imports).collect();
    expect_nothing("imports against the graph", &wrong);
}

#[test]
fn files_and_functions_are_short() {
    let wrong: Vec<_> = rust().iter().flat_map(lengths).collect();
    expect_nothing("too long", &wrong);
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    expect_nothing("circles", &circles::circles(&rust()));
}

#[test]
fn modules_have_one_form() {
    expect_nothing("module files", &rust().iter().flat_map(module_form).collect::<Vec<_>>());
    assert_eq!(1, module_form(&file("src/raft/mod.rs", "")).len());
    assert_eq!(0, module_form(&file("tests/faults/mod.rs", "")).len());
}

#[test]
fn comments_keep_the_margin_of_the_code() {
    let is_elsewhere = |line: &String| !line.starts_with(comments::WIDE);
    let (wrong, left): (Vec<_>, Vec<_>) =
        rust().iter().flat_map(comments::widths).partition(is_elsewhere);
    expect_nothing("wide comments", &wrong);
    assert!(!left.is_empty(), "{} has none any more: strike it", comments::WIDE);
}

#[test]
fn comments_name_only_documents_that_are_there() {
    let documents: Vec<String> = files(".", &[".md"]).into_iter().map(|file| file.path).collect();
    let wrong: Vec<_> =
        rust().iter().flat_map(|file| comments::references(file, &documents)).collect();
    expect_nothing("references", &wrong);
}

#[test]
fn every_file_says_what_it_is_for() {
    let wrong: Vec<_> = rust().iter().flat_map(essay).collect();
    expect_nothing("no essay", &wrong);
}

#[test]
fn time_enters_in_one_place() {
    let wrong: Vec<_> = rust().iter().flat_map(clocks).collect();
    expect_nothing("clocks", &wrong);
}

#[test]
fn the_library_does_not_print_and_state_does_not_draw() {
    let wrong: Vec<_> =
        rust().iter().flat_map(|file| [prints(file), screens(file)].concat()).collect();
    expect_nothing("output in the wrong place", &wrong);
}

#[test]
fn fields_of_a_known_stage_are_read_by_name() {
    let wrong: Vec<_> = rust().iter().flat_map(fields_by_place).collect();
    expect_nothing("fields", &wrong);
    let paths: Vec<String> = rust().into_iter().map(|file| file.path).collect();
    for (path, _) in FIELDS_BY_PLACE {
        assert!(paths.iter().any(|known| known.starts_with(path)), "there is no {path} any more");
    }
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
fn every_stage_is_a_step_that_some_code_takes() {
    let stages = read(Path::new("src/trace/stage.rs"));
    let sources = files("src", &[".rs"]);
    let sources: Vec<File> =
        sources.into_iter().filter(|file| !file.path.starts_with("src/trace/stage")).collect();
    expect_nothing("stages", &misplaced_stages(&stages, &sources));
}

#[test]
fn every_dependency_says_what_it_is_for() {
    expect_nothing("dependencies", &dependencies(&read(Path::new("Cargo.toml"))));
}

#[test]
fn the_table_has_every_module_of_the_library() {
    let text = read(Path::new("src/lib.rs")).text;
    let mods = text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let missing: Vec<_> =
        mods.filter(|name| !MAY_USE.iter().any(|(module, _)| module == name)).collect();
    assert!(missing.is_empty(), "src/lib.rs: not in MAY_USE: {missing:?}");
}

// ---- on samples ----

fn file(path: &str, text: &str) -> File {
    File { path: path.to_owned(), text: text.to_owned() }
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

#[test]
fn a_clock_a_path_and_a_missing_essay_are_found() {
    let now = ["let a = Instant", "::now();"].concat();
    assert_eq!(clocks(&file("src/a.rs", &now)), ["src/a.rs:1: time enters through clock.rs only"]);
    assert_eq!(clocks(&file("src/clock.rs", &now)).len(), 0);
    assert_eq!(prints(&file("src/a.rs", "// println!()\n println!();")).len(), 1);
    assert_eq!(prints(&file("tui/a.rs", "println!();")).len(), 0);
    assert_eq!(screens(&file("tui/state/a.rs", "use ratatui::Frame;")).len(), 1);
    assert_eq!(screens(&file("tui/view/a.rs", "use ratatui::Frame;")).len(), 0);
    let home = ["see /", "home/me/x"].concat();
    assert_eq!(machine_paths(&file("a.md", &home)).len(), 1);
    assert_eq!(machine_paths(&file("a.md", "src/work/a and https://x.org/work/")).len(), 0);
    assert_eq!(essay(&file("src/a.rs", "use x;")).len(), 1);
}

#[test]
fn a_field_by_its_place_or_by_text_is_found() {
    let found = |text: &str| fields_by_place(&file("src/trace/a.rs", text));
    let by_place = ["src/trace/a.rs:2: a field by its place, not by field!"];
    assert_eq!(found("\nlet term = event.fields[0];"), by_place);
    assert_eq!(found("\nlet f = &event.fields;"), by_place);
    assert_eq!(found("\nlet term = event.fields.get(0);"), by_place);
    let by_text = ["src/trace/a.rs:2: a field by text, not by field!"];
    assert_eq!(found("\nlet term = event.field(\"term\");"), by_text);
    assert_eq!(
        found("\nlet term = event.field(\n    &format!(\"{name}.{end}\", end = 1),\n);"),
        by_text
    );
    assert_eq!(found("// event.fields[0]\nlet all = stage.fields();").len(), 0);
    assert_eq!(found("out.debug_struct(\"A, B\").field(\"a\", &self.a);").len(), 0);
    assert_eq!(found("let fields = event.fields_by_name; field!(event, RaftEntry, term)").len(), 0);
    assert_eq!(fields_by_place(&file("src/story/event.rs", "self.fields[0]")).len(), 0);
    assert_eq!(found("#[cfg(test)]\nmod tests {\nlet a = event.fields[0]; }").len(), 0);
}

#[test]
fn a_stage_that_no_code_opens_and_one_in_another_file_are_found() {
    let elsewhere: String =
        STAGES_ELSEWHERE.iter().map(|(name, _)| format!("    {name} = \"x\" Loop Raw\n")).collect();
    let declared =
        "    WalFsync = \"wal.fsync\" Loop Story\n        \"a.rs\", \"none\", \"0.1\";\n";
    let stages = file("s.rs", &format!("{declared}{elsewhere}"));
    let used = file("src/a.rs", "let span = stage!(\n    WalFsync, 0);");
    let only_in_a_comment = file("src/a.rs", "/// `stage!(WalFsync, 0)` opens it.");
    assert_eq!(misplaced_stages(&stages, &[only_in_a_comment]).len(), 1);
    let only_in_a_test = file("src/a.rs", "#[cfg(test)]\nmod tests {\nstage!(WalFsync, 0) }");
    assert!(misplaced_stages(&stages, &[used]).is_empty());
    assert_eq!(
        misplaced_stages(&stages, &[only_in_a_test]),
        ["s.rs:1: nothing opens the stage WalFsync"]
    );
    let in_another = file("src/b.rs", "mark!(WalFsync, 0)");
    assert_eq!(
        misplaced_stages(&stages, &[in_another]),
        ["s.rs:1: WalFsync is opened in src/b.rs"]
    );
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
