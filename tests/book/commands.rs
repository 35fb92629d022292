//! Commands and flags of `glass` that the texts name, against what the program says it has.
//!
//! The program is asked for its help, command by command, as a reader would. So a flag counts if
//! `--help` lists it. A command is one in a block of `console`, after the `$`, and one in a code
//! span that begins with `glass`. A flag in a span of its own has to be one of any command, or of
//! another program that is listed here.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
    sync::OnceLock,
};

use super::{Text, documents, expect_nothing, text};

/// Flags of other programs that the texts name: etcdctl, cargo, ps, curl.
const OF_OTHERS: &[&str] = &[
    "--all-targets",
    "--bin",
    "--endpoints",
    "--keys-only",
    "--lib",
    "--prefix",
    "--release",
    "--rev",
    "--test",
    "--physical",
];

/// Commands that the README says are not here yet.
const NOT_HERE: &[&str] = &["ctl"];

/// A command: what it takes.
#[derive(Debug, Default)]
struct Has {
    commands: BTreeSet<String>,
    flags: BTreeSet<String>,
}

/// All commands by their words: `` for `glass` itself, `trace show`.
type Tree = BTreeMap<String, Has>;

fn help_of(words: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO_BIN_EXE_glass")).args(words).arg("--help").output().unwrap();
    assert!(output.status.success(), "{words:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a help lists. A command or a flag begins its line, before the text about it.
fn read_help(help: &str) -> Has {
    let (mut has, mut is_commands) = (Has::default(), false);
    for line in help.lines() {
        if !line.starts_with(' ') {
            is_commands = line.starts_with("Commands:");
            continue;
        }
        let words = line.split_whitespace().map(|word| word.trim_end_matches(','));
        let mut words = words.take(2);
        let first = words.next().unwrap_or_default();
        let is_indented = line.starts_with("   ");
        match first {
            name if is_commands && !is_indented => drop(has.commands.insert(name.to_owned())),
            flag if flag.starts_with('-') => {
                let second = words.next().filter(|word| word.starts_with("--"));
                has.flags.extend([flag].into_iter().chain(second).map(str::to_owned));
            }
            _ => {}
        }
    }
    has
}

fn tree() -> &'static Tree {
    static TREE: OnceLock<Tree> = OnceLock::new();
    TREE.get_or_init(|| {
        let (mut found, mut left) = (Tree::new(), vec![String::new()]);
        while let Some(path) = left.pop() {
            let words: Vec<&str> = path.split_whitespace().collect();
            let has = read_help(&help_of(&words));
            let below = has.commands.iter().filter(|name| *name != "help");
            left.extend(below.map(|name| format!("{path} {name}").trim().to_owned()));
            found.insert(path, has);
        }
        found
    })
}

/// Whether it is a command that the help does not list.
fn is_hidden(path: &str, word: &str) -> bool {
    let mut command = Command::new(env!("CARGO_BIN_EXE_glass"));
    let command = command.args(path.split_whitespace()).args([word, "--help"]);
    command.output().unwrap().status.success()
}

/// What is wrong with the words after `glass`.
fn wrong_call(words: &[&str], tree: &Tree) -> Option<String> {
    let (mut path, mut is_command) = (String::new(), true);
    for word in words {
        let has = &tree[&path];
        let flag = word.split('=').next().unwrap_or_default();
        if flag.len() > 1 && flag.starts_with('-') {
            if !has.flags.contains(flag) && flag != "--help" {
                return Some(format!("glass {path} has no {flag}"));
            }
            // What follows may be the value of the flag.
            is_command = false;
        } else if is_command && has.commands.contains(*word) {
            path = format!("{path} {word}").trim().to_owned();
        } else {
            let takes_one = is_command && !has.commands.is_empty();
            let is_name = word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
            // `glass lesson SLUG`: words in capitals stand for something else.
            if takes_one && is_name && !is_hidden(&path, word) {
                return Some(format!("glass {path} has no command {word}"));
            }
            is_command = false;
        }
    }
    None
}

/// The words of each call of `glass` in a command line of a shell.
fn calls(line: &str) -> Vec<Vec<&str>> {
    let ends = |word: &str| ["|", "||", "&&", ";", ">", "2>", "&", "#", "<<END"].contains(&word);
    let words: Vec<&str> = line.split_whitespace().collect();
    let commands = words.split(|word| ends(word));
    let call = |words: &[&'_ str]| -> Option<usize> {
        let at = words.iter().position(|word| *word == "glass" || word.ends_with("/glass"))?;
        // Before it stand only settings of the environment, `nohup` and their like.
        words[..at].iter().all(|word| word.contains('=') || *word == "time").then_some(at + 1)
    };
    commands.filter_map(|words| Some(words[call(words)?..].to_vec())).collect()
}

/// Calls in a document: each with its line, and whether it is a command to be typed.
fn called(document: &Text) -> Vec<(usize, String)> {
    let (mut fence, mut found) = (None, Vec::new());
    for (line, text) in document.text.lines().enumerate() {
        let trimmed = text.trim_start();
        if let Some(kind) = trimmed.strip_prefix("```") {
            fence = if fence.is_some() { None } else { Some(kind.trim()) };
        } else if fence.is_some() {
            let typed = trimmed.strip_prefix("$ ").filter(|_| fence == Some("console"));
            found.extend(typed.map(|typed| (line, typed.to_owned())));
        } else {
            let spans = text.split('`').skip(1).step_by(2);
            found.extend(spans.map(|span| (line, span.trim_start_matches("$ ").to_owned())));
        }
    }
    found
}

/// Commands, flags and files of commands that are not there.
fn wrong_commands(document: &Text, tree: &Tree) -> Vec<String> {
    let all: BTreeSet<&str> =
        tree.values().flat_map(|has| has.flags.iter().map(|f| &**f)).collect();
    let mut wrong = Vec::new();
    for (line, span) in called(document) {
        let calls = calls(&span).into_iter();
        for call in calls.filter(|call| !call.first().is_some_and(|one| NOT_HERE.contains(one))) {
            wrong.extend(wrong_call(&call, tree).map(|why| document.at(line, why)));
            wrong.extend(missing_file(&call).map(|file| document.at(line, format!("no {file}"))));
            wrong.extend(no_lesson(&call).map(|slug| document.at(line, format!("no {slug}"))));
        }
        let flag = span.split([' ', '=']).next().unwrap_or_default();
        let is_flag = flag.starts_with("--") && flag.len() > 3;
        if is_flag && !all.contains(flag) && !OF_OTHERS.contains(&flag) {
            wrong.push(document.at(line, format!("no command has {flag}")));
        }
    }
    wrong
}

/// A file of the repository that a command reads and that is not there.
fn missing_file<'a>(call: &[&'a str]) -> Option<&'a str> {
    let is_ours = |word: &&&str| {
        let inside = ["book/", "lessons/", "tests/"].iter().any(|dir| word.starts_with(dir));
        // `lessons/SLUG`: a part in capitals stands for something else.
        let is_name = |part: &str| part.chars().all(|c| c.is_ascii_uppercase());
        inside && !word.contains(['<', '*', '@']) && !word.split('/').any(is_name)
    };
    call.iter().filter(is_ours).find(|file| !Path::new(file).exists()).copied()
}

/// A lesson that a command names and that is not there.
fn no_lesson<'a>(call: &[&'a str]) -> Option<&'a str> {
    let ["lesson", _, slug, ..] = call else { return None };
    let is_slug =
        slug.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !slug.starts_with('-');
    (is_slug && !Path::new("lessons").join(slug).is_dir()).then_some(*slug)
}

#[test]
fn every_command_and_flag_that_the_texts_name_exists() {
    let wrong: Vec<_> = documents().iter().flat_map(|one| wrong_commands(one, tree())).collect();
    expect_nothing("commands", &wrong);
}

#[test]
fn the_programs_help_is_read_as_it_is_printed() {
    let tree = tree();
    for (path, flag) in [
        ("", "--no-tui"),
        ("up", "--fresh"),
        ("serve", "--trace-chrome"),
        ("trace show", "--last"),
        ("trace export", "--html"),
        ("bench put", "--total"),
        ("book", "--listen"),
    ] {
        assert!(tree.get(path).is_some_and(|has| has.flags.contains(flag)), "{path} {flag}");
    }
    assert!(!tree["trace show"].flags.contains("--listen"));
}

#[test]
fn a_command_or_a_flag_that_does_not_exist_is_found() {
    let found = |body: &str| wrong_commands(&text("a.md", body), tree()).len();
    let right = "`glass`, `glass trace show ID --last`, `glass book --listen=127.0.0.1:0`\n\
        ```console\n$ ETCD_NAME=x glass serve --name y | grep --invented\n  glass gone\n\
        $ glass up --no-tui > glass.log\n```\n\
        `--last`, `--endpoints`, `glass lesson start tree-index`, `glass play Cargo.toml`";
    assert_eq!(found(right), 0);
    assert_eq!(found("`glass trace cost` is hidden"), 0);
    assert_eq!(found("`glass lesson record lessons/SLUG` is a form"), 0);
    assert_eq!(found("`glass gone`"), 1);
    assert_eq!(found("`glass trace shwo`"), 1);
    assert_eq!(found("`glass up --latest`"), 1);
    assert_eq!(found("`--latest`"), 1);
    assert_eq!(found("`glass lesson start gone`"), 1);
    assert_eq!(found("`glass play book/src/figures/gone.ndjson`"), 1);
    assert_eq!(found("```console\n$ true && glass serve --latest\n```"), 1);
}
