//! Stages: some code opens each of them, in the file that its declaration names, and code reads
//! their fields by name.

use std::{collections::BTreeSet, path::Path};

use super::{File, expect_nothing, file, files, read, rust, without_comment};

/// Stages that no code opens by name, and why.
const STAGES_ELSEWHERE: &[(&str, &str)] = &[
    ("Keyframe", "written by the collector, which fills whole records"),
    ("KeyframeBackend", "as Keyframe"),
    ("KeyframeProcess", "as Keyframe"),
    ("RaftMembers", "as Keyframe"),
    ("Usual", "as Keyframe"),
    ("Key", "the extension record of a span, written with it"),
    ("Lost", "written by the reader of a ring that finds a gap"),
    ("Brief", "as Keyframe"),
    ("Shared", "as Keyframe"),
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

/// Faults of the list of stages: one that no code opens, or one whose Rust path is another file
/// than those that open it.
fn misplaced_stages(stages: &File, sources: &[File]) -> Vec<String> {
    let flat = sources.iter().map(|file| {
        let code = file.code().into_iter();
        let code =
            code.flat_map(|line| without_comment(line).split_whitespace().collect::<Vec<_>>());
        (file.path.as_str(), code.collect::<String>())
    });
    let flat: Vec<(&str, String)> = flat.collect();
    let opened_in = |stage: &str| -> Vec<&str> {
        let calls = ["stage!(", "mark!(", "past!(", "open(Stage::", "mark(Stage::"];
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
fn every_stage_is_a_step_that_some_code_takes() {
    let stages = read(Path::new("src/trace/stage.rs"));
    let sources = files("src", &[".rs"]);
    let sources: Vec<File> =
        sources.into_iter().filter(|file| !file.path.starts_with("src/trace/stage")).collect();
    expect_nothing("stages", &misplaced_stages(&stages, &sources));
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
