//! The Procfile: a name and a command per line, as goreman, foreman and overmind read it.
//!
//! ```text
//! etcd-01: target/release/glass serve --name etcd-01 …
//! ```
//!
//! A command runs without a shell if it needs none, so that signals reach its own process. A
//! command with shell syntax runs under `sh -c`. Settings before it (`A=1 glass …`) go into the
//! environment.

use std::collections::BTreeSet;

/// A line of a Procfile: a name and a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// The name that `glass run stop` takes.
    pub(crate) name: String,
    /// The command to run.
    pub(crate) command: Command,
}

/// A command, parsed as far as possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Words that need no shell.
    Words {
        /// Settings such as `A=1` before the program.
        env: Vec<(String, String)>,
        /// The program and its arguments; at least one.
        words: Vec<String>,
    },
    /// A command for `sh -c`.
    Shell(String),
}

/// Why a Procfile cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProcfileError {
    /// A line that is neither empty, nor a comment, nor a process.
    #[error("line {0}: expected `name: command`")]
    Form(usize),
    /// Two processes with one name.
    #[error("line {line}: there is already a process {name}")]
    Twice {
        /// Line number, from 1.
        line: usize,
        /// The name that two lines have.
        name: String,
    },
    /// The file names no process.
    #[error("no processes in it")]
    Empty,
}

/// Parses the text of a Procfile.
pub(crate) fn parse(text: &str) -> Result<Vec<Line>, ProcfileError> {
    let (mut lines, mut names) = (Vec::new(), BTreeSet::new());
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let form = ProcfileError::Form(at + 1);
        let (name, command) = line.split_once(':').ok_or(form.clone())?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let command = command.trim();
        if name.is_empty() || !name.chars().all(is_name) || command.is_empty() {
            return Err(form);
        }
        if !names.insert(name.to_owned()) {
            return Err(ProcfileError::Twice { line: at + 1, name: name.to_owned() });
        }
        lines.push(Line { name: name.to_owned(), command: take_apart(command) });
    }
    if lines.is_empty() { Err(ProcfileError::Empty) } else { Ok(lines) }
}

fn take_apart(command: &str) -> Command {
    let Some(mut words) = split(command) else {
        return Command::Shell(command.to_owned());
    };
    let mut env = Vec::new();
    while let Some((name, value)) = words.first().and_then(|word| setting(word)) {
        env.push((name.to_owned(), value.to_owned()));
        words.remove(0);
    }
    match words.is_empty() {
        true => Command::Shell(command.to_owned()),
        false => Command::Words { env, words },
    }
}

fn setting(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    (starts && is_name).then_some((name, value))
}

/// Splits into words as a shell would; `None` if that takes a shell.
fn split(command: &str) -> Option<Vec<String>> {
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let mut chars = command.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '"' => break,
                        '\\' | '$' | '`' => return None,
                        c => word.push(c),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(chars.next()?),
            c if "$`;&|<>()*?[]~#!{}".contains(c) => return None,
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(command: &str) -> Option<Vec<String>> {
        match take_apart(command) {
            Command::Words { words, .. } => Some(words),
            Command::Shell(_) => None,
        }
    }

    #[test]
    fn names_and_commands_are_read_and_comments_are_not() {
        let lines = parse("# three\n\netcd-01:  a b\n b_2:c\n").unwrap();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].name, "etcd-01");
        assert_eq!(words("a b"), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(lines[1].name, "b_2");
    }

    #[test]
    fn a_line_that_makes_no_sense_is_named() {
        assert_eq!(parse("a: b\nno command"), Err(ProcfileError::Form(2)));
        assert_eq!(parse("a b: c"), Err(ProcfileError::Form(1)));
        assert_eq!(parse("a:"), Err(ProcfileError::Form(1)));
        assert_eq!(
            parse("a: b\na: c"),
            Err(ProcfileError::Twice { line: 2, name: "a".to_owned() })
        );
        assert_eq!(parse("# nothing"), Err(ProcfileError::Empty));
    }

    #[test]
    fn quotes_keep_words_together_and_shell_syntax_needs_a_shell() {
        let of = |list: &[&str]| Some(list.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        assert_eq!(words("a 'b c' \"d e\" f\\ g ''"), of(&["a", "b c", "d e", "f g", ""]));
        assert_eq!(words("a --x=http://h:1,b=2"), of(&["a", "--x=http://h:1,b=2"]));
        for shell in ["a $PORT", "a; b", "a > b", "a \"$B\"", "a 'b", "a | b", "a *"] {
            assert_eq!(words(shell), None, "{shell}");
        }
    }

    #[test]
    fn settings_in_front_go_into_the_environment() {
        let Command::Words { env, words } = take_apart("A=1 B='x y' glass C=3") else {
            panic!("needs no shell")
        };
        assert_eq!(env, [("A".into(), "1".into()), ("B".into(), "x y".into())]);
        assert_eq!(words, ["glass", "C=3"]);
    }

    #[test]
    fn the_procfile_of_this_repository_has_three_members_that_need_no_shell() {
        let lines = parse(include_str!("../../Procfile")).unwrap();
        let names: Vec<_> = lines.iter().map(|line| line.name.as_str()).collect();
        assert_eq!(names, ["etcd-01", "etcd-02", "etcd-03"]);
        for line in &lines {
            assert!(matches!(&line.command, Command::Words { words, .. } if words[1] == "serve"));
        }
    }
}
