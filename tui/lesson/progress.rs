//! What has been learned so far, in one file: `glass/lessons.toml` in the directory for state.
//!
//! ```toml
//! current = "put-one-member"
//! [put-one-member]
//! answers = ["right", "skipped"]
//! hints = 1
//! run = "own"
//! task = "done"
//! ```
//!
//! Progress is kept by slug, never by number or path, so new lessons and another order change
//! nothing. Invariants: the file is replaced as a whole or not at all; tables of lessons that this
//! version does not know stay as they are.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use toml::{Table, Value};

pub(crate) use crate::state::quiz::lesson::Came;

/// The words of the file.
const WORDS: [(Came, &str); 4] = [
    (Came::Right, "right"),
    (Came::Wrong, "wrong"),
    (Came::Skipped, "skipped"),
    (Came::Told, "told"),
];

fn word(came: Came) -> &'static str {
    WORDS.iter().find(|(known, _)| *known == came).map_or("", |(_, word)| word)
}

/// How far a lesson is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) answers: Vec<Came>,
    /// How many hints for the next question were shown.
    pub(crate) hints: usize,
    /// Whether the questions are about a run of the learner's own.
    pub(crate) is_own_run: bool,
    /// Whether the tasks were done on live members, or in a recording.
    pub(crate) is_task_done: bool,
}

impl Progress {
    /// Counts what came of the next question. The hints for it are done with.
    pub(super) fn answered(&mut self, came: Came) {
        self.answers.push(came);
        self.hints = 0;
    }
}

/// See the module's text.
#[derive(Clone, Debug)]
pub(crate) struct Notes {
    path: PathBuf,
    table: Table,
}

/// The directory for state: `$XDG_STATE_HOME/glass`, by default `~/.local/state/glass`.
pub(crate) fn state_dir(variable: impl Fn(&str) -> Option<String>) -> io::Result<PathBuf> {
    let given = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || given("HOME").map(|home| home.join(".local/state"));
    let base = given("XDG_STATE_HOME").or_else(home);
    let none = || io::Error::other("no directory for state: HOME is not set");
    base.map(|base| base.join("glass")).ok_or_else(none)
}

impl Notes {
    /// Reads the file in this directory; none yet is no error.
    pub(crate) fn read(dir: &Path) -> io::Result<Notes> {
        let path = dir.join("lessons.toml");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(io::Error::other(format!("{}: {error}", path.display()))),
        };
        let table = text.parse::<Table>();
        let table = table.map_err(|error| {
            let how = "mend it, or move it away to begin anew";
            let why = error.message();
            io::Error::other(format!("{} is no TOML: {why}; {how}", path.display()))
        })?;
        Ok(Notes { path, table })
    }

    /// The lesson that was begun last.
    pub(crate) fn current(&self) -> Option<&str> {
        self.table.get("current")?.as_str()
    }

    /// How far a lesson is; `None` if it was not begun.
    pub(crate) fn of(&self, slug: &str) -> Option<Progress> {
        let table = self.table.get(slug)?.as_table()?;
        let words = table.get("answers").and_then(Value::as_array).into_iter().flatten();
        let came = |value: &Value| {
            let word = value.as_str()?;
            WORDS.iter().find(|(_, known)| *known == word).map(|(came, _)| *came)
        };
        let hints = table.get("hints").and_then(Value::as_integer).unwrap_or(0);
        Some(Progress {
            answers: words.map_while(came).collect(),
            hints: usize::try_from(hints).unwrap_or(0),
            is_own_run: table.get("run").and_then(Value::as_str) == Some("own"),
            is_task_done: table.get("task").and_then(Value::as_str) == Some("done"),
        })
    }

    /// Notes how far a lesson is, and that it is the current one.
    ///
    /// # Errors
    /// Also if answers are there that only a later version knows: they would be forgotten.
    pub(crate) fn note(&mut self, slug: &str, progress: &Progress) -> io::Result<()> {
        if let Some(strange) = self.strange_answer(slug) {
            let path = self.path.display();
            return Err(io::Error::other(format!(
                "{path}: {slug} has the answer {strange}, which a later version wrote; `glass \
                 lesson reset {slug}` begins anew"
            )));
        }
        let answers = progress.answers.iter().map(|came| Value::from(word(*came)));
        let mut table = Table::new();
        table.insert("answers".to_owned(), Value::Array(answers.collect()));
        let hints = i64::try_from(progress.hints).unwrap_or(0);
        table.insert("hints".to_owned(), Value::Integer(hints));
        let run = if progress.is_own_run { "own" } else { "shipped" };
        table.insert("run".to_owned(), Value::from(run));
        if progress.is_task_done {
            table.insert("task".to_owned(), Value::from("done"));
        }
        self.table.insert(slug.to_owned(), Value::Table(table));
        self.table.insert("current".to_owned(), Value::from(slug));
        self.write()
    }

    /// What came of a question of a lesson in a word that this version does not know.
    fn strange_answer(&self, slug: &str) -> Option<String> {
        let words = self.table.get(slug)?.as_table()?.get("answers")?.as_array()?.iter();
        let is_known = |value: &&Value| {
            value.as_str().is_some_and(|word| WORDS.iter().any(|(_, known)| *known == word))
        };
        words.into_iter().find(|value| !is_known(value)).map(Value::to_string)
    }

    /// Forgets a lesson.
    pub(crate) fn reset(&mut self, slug: &str) -> io::Result<()> {
        self.table.remove(slug);
        self.write()
    }

    fn write(&self) -> io::Result<()> {
        let of_file = |error| io::Error::other(format!("{}: {error}", self.path.display()));
        if let Some(dir) = self.path.parent() {
            fs::create_dir_all(dir).map_err(of_file)?;
        }
        let text = toml::to_string(&self.table).map_err(io::Error::other)?;
        replace(&self.path, |mut file| file.write_all(text.as_bytes()))
    }
}

/// Replaces a file whole: it is written under another name first, so a full disk leaves the one
/// that was there. An error names the file.
pub(super) fn replace(
    path: &Path,
    write: impl FnOnce(fs::File) -> io::Result<()>,
) -> io::Result<()> {
    let new = path.with_extension(format!("new-{}", std::process::id()));
    let done = fs::File::create(&new).and_then(write).and_then(|()| fs::rename(&new, path));
    done.map_err(|error| {
        let _ = fs::remove_file(&new);
        io::Error::other(format!("{}: {error}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_kept_by_slug_and_unknown_slugs_stay() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("lessons.toml");
        fs::write(&file, "[of-a-later-version]\nanswers = [\"dreamt\"]\nstars = 3\n").unwrap();
        let mut notes = Notes::read(dir.path()).unwrap();
        assert_eq!((None, None), (notes.of("a"), notes.current()));
        let answers = vec![Came::Right, Came::Wrong, Came::Skipped, Came::Told];
        let progress = Progress { answers, hints: 2, is_own_run: true, is_task_done: true };
        notes.note("a", &progress).unwrap();
        let read = Notes::read(dir.path()).unwrap();
        assert_eq!((Some(progress), Some("a")), (read.of("a"), read.current()));
        let refused = notes.note("of-a-later-version", &Progress::default()).unwrap_err();
        assert!(refused.to_string().contains("dreamt"), "{refused}");
        notes.reset("a").unwrap();
        assert_eq!(None, Notes::read(dir.path()).unwrap().of("a"));
        assert!(fs::read_to_string(&file).unwrap().contains("stars = 3"));
        assert_eq!(1, fs::read_dir(dir.path()).unwrap().count(), "nothing is left behind");
    }

    #[test]
    fn the_directory_for_state_is_that_of_the_user() {
        let dir = |set: &[(&str, &str)]| {
            let of = |name: &str| set.iter().find(|(it, _)| *it == name).map(|it| it.1.to_owned());
            state_dir(of).map(|dir| dir.display().to_string()).unwrap_or_default()
        };
        assert_eq!("/s/glass", dir(&[("XDG_STATE_HOME", "/s"), ("HOME", "/h")]));
        assert_eq!("/h/.local/state/glass", dir(&[("XDG_STATE_HOME", "s"), ("HOME", "/h")]));
        assert_eq!("", dir(&[]));
    }
}
