//! A lesson under way: the run that it is about, and how far the learner is.
//!
//! The run is the one that is shipped, or the learner's own, which is kept beside the progress.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter},
    path::{Path, PathBuf},
};

use glass_etcd::story::{
    Recording,
    recording::{self, Read},
};

use super::{
    asked::Asked,
    course::{Check, Lesson},
    progress::{Came, Notes, Progress, replace},
    run::Run,
    scenario::Scenario,
};
use crate::state::story::RequestSummary;

/// How many stories a check looks at, the newest first.
const CHECKED_MAX: usize = 50;

/// See the module's text.
pub(crate) struct Session {
    pub(crate) lesson: Lesson,
    pub(crate) run: Run,
    pub(crate) progress: Progress,
    pub(crate) notes: Notes,
}

impl Session {
    /// Continues a lesson where it was left, or begins it.
    pub(crate) fn open(dir: &Path, slug: &str) -> io::Result<Session> {
        let lesson = Lesson::of(slug).map_err(io::Error::other)?;
        let notes = Notes::read(dir)?;
        let mut progress = notes.of(slug).unwrap_or_default();
        progress.answers.truncate(lesson.asks.len());
        let own = own_run(dir, slug);
        let recording = match progress.is_own_run {
            true => read_file(&own).map_err(|error| of_own_run(slug, &error.to_string()))?,
            false => shipped(&lesson)?,
        };
        Ok(Session { lesson, run: Run::of(recording), progress, notes })
    }

    /// Whether questions are left.
    pub(crate) fn is_open(&self) -> bool {
        self.progress.answers.len() < self.lesson.asks.len()
    }

    /// The next question; `None` if all are answered.
    pub(crate) fn question(&self) -> io::Result<Option<Asked<'_>>> {
        let ask = self.lesson.asks.get(self.progress.answers.len());
        let asked = ask.map(|ask| Asked::of(ask, &self.run)).transpose();
        let slug = self.lesson.slug();
        asked.map_err(|why| match self.progress.is_own_run {
            true => of_own_run(slug, &format!("{slug}: {why}")),
            false => io::Error::other(format!("{slug}: {why}")),
        })
    }

    /// Notes what came of the question.
    pub(crate) fn note(&mut self, came: Came) -> io::Result<()> {
        self.progress.answered(came);
        self.save()
    }

    /// The next hint for the question; `None` if there is none any more.
    pub(crate) fn hint(&mut self) -> io::Result<Option<&'static str>> {
        let hint = self.lesson.hint(self.progress.answers.len(), self.progress.hints + 1);
        if hint.is_some() {
            self.progress.hints += 1;
            self.save()?;
        }
        Ok(hint)
    }

    /// Writes the progress down.
    pub(crate) fn save(&mut self) -> io::Result<()> {
        self.notes.note(self.lesson.slug(), &self.progress)
    }
}

/// An error of the learner's own run, with the way out.
fn of_own_run(slug: &str, why: &str) -> io::Error {
    let how = format!("`glass lesson reset {slug}` goes back to the run that is shipped");
    io::Error::other(format!("{why}; {how}"))
}

/// Where a learner's own run of a lesson is kept.
pub(crate) fn own_run(dir: &Path, slug: &str) -> PathBuf {
    dir.join("lessons").join(format!("{slug}.ndjson"))
}

/// The recording that comes with a lesson.
pub(crate) fn shipped(lesson: &Lesson) -> io::Result<Recording> {
    let read = recording::read(lesson.files.recording.as_bytes()).map_err(io::Error::other)?;
    Ok(read.recording)
}

fn read_file(path: &Path) -> io::Result<Recording> {
    let of_file = |why: String| io::Error::other(format!("{}: {why}", path.display()));
    let file = File::open(path).map_err(|error| of_file(error.to_string()))?;
    let read: Result<Read, _> = recording::read(BufReader::new(file));
    Ok(read.map_err(|error| of_file(error.to_string()))?.recording)
}

/// Keeps the learner's own run of a lesson, which begins anew with it.
pub(crate) fn keep_run(dir: &Path, slug: &str, recording: &Recording) -> io::Result<()> {
    let path = own_run(dir, slug);
    let of_file = |error| io::Error::other(format!("{}: {error}", path.display()));
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(of_file)?;
    }
    replace(&path, |file| recording::write(BufWriter::new(file), recording))?;
    let mut notes = Notes::read(dir)?;
    let is_task_done = notes.of(slug).is_some_and(|progress| progress.is_task_done);
    notes.note(slug, &Progress { is_own_run: true, is_task_done, ..Progress::default() })
}

/// Removes the learner's own run of a lesson.
pub(super) fn forget_run(dir: &Path, slug: &str) -> io::Result<()> {
    match fs::remove_file(own_run(dir, slug)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The scenario of a lesson.
pub(crate) fn scenario(lesson: &Lesson) -> Result<Scenario, super::scenario::Wrong> {
    let file = format!("lessons/{}/scenario.txt", lesson.slug());
    Scenario::parse(&file, lesson.files.scenario)
}

/// Whether a story of this run does what the task demands, among the newest of its kind.
pub(crate) fn holds(check: &Check, run: &Run) -> bool {
    let is_meant = |row: &&RequestSummary| row.method == check.story;
    let rows = run.state.list.rows.iter().rev().filter(is_meant).take(CHECKED_MAX);
    // What the records do not tell is not proved.
    rows.map(|row| run.scope_of(row.subject)).any(|scope| scope.is_true(&check.holds) == Ok(true))
}
