//! Lessons as plain text, for a terminal, a screen reader and a pipe.

use std::io::{self, BufRead, Write};

use super::{
    asked::{Asked, Kind},
    course::{LESSONS, Lesson},
    progress::{Came, Notes, Progress},
    run::Scope,
    session::Session,
};
use crate::{
    state::{
        story::{RequestSummary, Subject},
        text::{clean, wrap},
    },
    view::plain::step_line,
};

/// The greatest width of a line, in columns.
const WIDTH_MAX: usize = 100;
/// The least one: a narrower window breaks lines itself.
const WIDTH_MIN: usize = 20;

/// Where a lesson is written to, and how wide its lines may be.
pub(super) struct Paper<W> {
    to: W,
    width: usize,
}

impl<W: Write> Paper<W> {
    /// Lines of at most this many columns.
    pub(super) fn new(to: W, columns: usize) -> Paper<W> {
        Paper { to, width: columns.clamp(WIDTH_MIN, WIDTH_MAX) }
    }

    /// A page of a lesson: headings, items, and paragraphs with one sentence a line.
    pub(super) fn page(&mut self, text: &str) -> io::Result<()> {
        let mut paragraph = String::new();
        for line in text.trim().lines().map(str::trim) {
            if line.is_empty() || line.starts_with("* ") || paragraph.starts_with('#') {
                self.paragraph(&paragraph)?;
                paragraph.clear();
            }
            match (line, paragraph.is_empty()) {
                ("", _) => writeln!(self.to)?,
                (_, true) => paragraph.push_str(line),
                (_, false) => paragraph.extend([" ", line]),
            }
        }
        self.paragraph(&paragraph)
    }

    /// Wraps a paragraph; the lines of an item stand below each other.
    fn paragraph(&mut self, text: &str) -> io::Result<()> {
        let indent = if text.starts_with("* ") { "  " } else { "" };
        for (line, number) in wrap(text, self.width - indent.len()).iter().zip(0..) {
            let indent = if number == 0 { "" } else { indent };
            writeln!(self.to, "{indent}{line}")?;
        }
        Ok(())
    }

    pub(super) fn said(&mut self, text: &str) -> io::Result<()> {
        wrap(&clean(text.trim()), self.width)
            .iter()
            .try_for_each(|line| writeln!(self.to, "{line}"))
    }
}

impl<W: Write> Write for Paper<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// What is said when questions are left.
pub(super) const LATER: &str = "The rest is left for later: glass lesson start";

/// What may be typed instead of an answer.
const KEYS: &str = "hint, skip, choose (tells the answer), quit";

/// The lessons, and what is done.
pub(super) fn list(out: &mut impl Write, notes: &Notes) -> io::Result<()> {
    let mut minutes = 0;
    for files in LESSONS {
        let lesson = Lesson::of(files.slug).map_err(io::Error::other)?;
        let progress = notes.of(files.slug);
        let done = done(&lesson, progress.as_ref());
        let Lesson { title, .. } = &lesson;
        writeln!(out, "{:18} {:>2} min  {done:22} {title}", files.slug, lesson.minutes)?;
        minutes += lesson.minutes;
    }
    writeln!(out, "{} lessons, {minutes} minutes; `glass lesson start` continues", LESSONS.len())
}

/// What is done of a lesson, in a few words.
pub(crate) fn done(lesson: &Lesson, progress: Option<&Progress>) -> String {
    let Some(progress) = progress else { return "not begun".to_owned() };
    let (answered, of) = (progress.answers.len().min(lesson.asks.len()), lesson.asks.len());
    let right = progress.answers.iter().filter(|came| **came == Came::Right).count();
    match (answered == of, progress.is_task_done) {
        (true, true) => format!("all done, {right} of {of} right"),
        (true, false) => format!("done, {right} of {of} right"),
        (false, true) => format!("{answered} of {of}, task done"),
        (false, false) => format!("{answered} of {of} answered"),
    }
}

/// The first page of a lesson.
pub(super) fn intro(out: &mut Paper<impl Write>, lesson: &Lesson) -> io::Result<()> {
    writeln!(out, "# {} ({} minutes)\n", lesson.title, lesson.minutes)?;
    out.said(&format!("Goal: {}", lesson.goal))?;
    if !lesson.needs.is_empty() {
        writeln!(out, "Needs: {}", lesson.needs.join(", "))?;
    }
    writeln!(out, "Book: book/src/{}\n", lesson.book)?;
    out.page(lesson.files.text)
}

/// The last page.
pub(super) fn outro(out: &mut Paper<impl Write>, lesson: &Lesson) -> io::Result<()> {
    writeln!(out)?;
    out.page(lesson.files.after)?;
    let slug = lesson.slug();
    if !lesson.checks.is_empty() {
        let how = format!("`glass lesson try {slug}` starts one, and looks at what you did:");
        writeln!(out)?;
        out.said(&format!("To do on a cluster of your own; {how}"))?;
    }
    lesson.checks.iter().try_for_each(|check| out.page(&format!("* {}", check.task)))?;
    match lesson.next() {
        Some(next) => writeln!(out, "\nNext: glass lesson start {next}"),
        None => writeln!(out, "\nThis was the last lesson."),
    }
}

/// The question, after the steps up to it; without those that were shown last, as `shown` says: a
/// story, and the position of a step in it.
pub(super) fn question(
    out: &mut Paper<impl Write>,
    session: &Session,
    asked: &Asked<'_>,
    shown: Option<(Subject, usize)>,
) -> io::Result<()> {
    let shown = shown.filter(|(subject, _)| *subject == asked.scope.steps.subject);
    writeln!(out, "\n  {}", title(&asked.scope))?;
    rows(out, &asked.scope, shown.map(|(_, place)| place), asked.at)?;
    let (number, of) = (session.progress.answers.len() + 1, session.lesson.asks.len());
    writeln!(out, "\nQuestion {number} of {of}")?;
    out.said(&asked.prompt)?;
    if let Kind::Choice(texts) = &asked.kind {
        for (text, number) in texts.iter().zip(1..) {
            writeln!(out, "  {number}  {}", clean(text))?;
        }
    }
    Ok(())
}

/// The commands that deal with the question, for where no line is read.
pub(super) fn commands(
    out: &mut Paper<impl Write>,
    lesson: &Lesson,
    asked: &Asked<'_>,
) -> io::Result<()> {
    let command = format!("`glass lesson answer NUMBER {}`", lesson.slug());
    let others = "`hint`, `skip` and `choose` (tells the answer) take the place of `answer NUMBER`";
    out.said(&format!("Answer with {}: {command}; {others}.", asked.form()))
}

/// What a story is about, without what came of it.
fn title(scope: &Scope<'_>) -> String {
    let subject = scope.steps.subject;
    let is_it = |row: &&RequestSummary| row.subject == subject;
    let row = scope.run.state.list.rows.iter().find(is_it);
    row.map_or_else(String::new, |row| {
        let key = row.key.as_ref().map(|key| format!(" {}", key.display())).unwrap_or_default();
        clean(&format!("{}{key}", row.method))
    })
}

/// The rows of a story behind the step at `after`, up to the one at `until`.
fn rows(
    out: &mut impl Write,
    scope: &Scope<'_>,
    after: Option<usize>,
    until: usize,
) -> io::Result<()> {
    let shown = scope.shown(until);
    let is_new = |place: &usize| after.is_none_or(|after| after < *place);
    let first = shown.iter().position(is_new).unwrap_or(shown.len());
    match first {
        0 => {}
        1 => writeln!(out, "  … the first step as above")?,
        _ => writeln!(out, "  … the first {first} steps as above")?,
    }
    for (place, number) in shown.iter().zip(1..).skip(first) {
        writeln!(out, "{}", step_line(&scope.run.state, (&scope.steps, *place), number))?;
    }
    Ok(())
}

/// What came of an answer: whether it was right, why, and the step that decides.
pub(super) fn graded(out: &mut Paper<impl Write>, asked: &Asked<'_>, came: Came) -> io::Result<()> {
    let word = match came {
        Came::Right => "Right:",
        Came::Wrong => "No. The answer is:",
        Came::Skipped => return writeln!(out, "Skipped."),
        Came::Told => "The answer is:",
    };
    out.said(&format!("{word} {}.", asked.answer()))?;
    out.said(&asked.why)?;
    if came != Came::Right {
        let (scope, place) = &asked.decides;
        writeln!(out, "The step that decides:")?;
        let number = scope.shown(*place).len();
        writeln!(out, "{}", step_line(&scope.run.state, (&scope.steps, *place), number))?;
    }
    Ok(())
}

/// Asks one question after the other, and reads a line for each, until the input ends.
pub(super) fn talk(
    session: &mut Session,
    input: &mut impl BufRead,
    out: &mut Paper<impl Write>,
) -> io::Result<()> {
    if !session.is_open() {
        let how = format!("`glass lesson reset {}` begins it anew", session.lesson.slug());
        writeln!(out)?;
        out.said(&format!("All questions are answered; {how}."))?;
    }
    let (mut is_new, mut shown) = (true, None);
    while let Some(asked) = session.question()? {
        if is_new {
            question(out, session, &asked, shown)?;
            writeln!(out, "Answer with {}; or {KEYS}.", asked.form())?;
            shown = Some((asked.scope.steps.subject, asked.at));
        }
        write!(out, "> ")?;
        out.flush()?;
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return writeln!(out, "\n{LATER}");
        }
        is_new = match line.trim() {
            "quit" | "q" => {
                return writeln!(out, "{LATER}");
            }
            "hint" | "h" => {
                drop(asked);
                hint(out, session)?;
                false
            }
            typed => match came(&asked, typed) {
                Ok(came) => {
                    // Noted first, also if nobody reads the rest.
                    let said = graded(out, &asked, came);
                    drop(asked);
                    session.note(came)?;
                    said?;
                    true
                }
                Err(form) => {
                    writeln!(out, "That is no answer: {form}; or {KEYS}.")?;
                    false
                }
            },
        };
    }
    outro(out, &session.lesson)
}

/// What comes of a line that is typed; the error says what an answer looks like.
pub(super) fn came(asked: &Asked<'_>, typed: &str) -> Result<Came, String> {
    match typed.trim() {
        "skip" | "s" => Ok(Came::Skipped),
        "choose" | "c" => Ok(Came::Told),
        typed => Ok(if asked.is_right(typed)? { Came::Right } else { Came::Wrong }),
    }
}

/// Shows the next hint.
pub(super) fn hint(out: &mut Paper<impl Write>, session: &mut Session) -> io::Result<()> {
    match session.hint()? {
        Some(hint) => out.said(&format!("Hint {}: {hint}", session.progress.hints)),
        None => writeln!(out, "There are no more hints; `choose` tells the answer."),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// What is printed when these lines are typed.
    fn typed(dir: &Path, lines: &str) -> String {
        typed_in(dir, "put-one-member", lines)
    }

    fn typed_in(dir: &Path, slug: &str, lines: &str) -> String {
        let mut session = Session::open(dir, slug).unwrap();
        let mut out = Paper::new(Vec::new(), WIDTH_MAX);
        talk(&mut session, &mut lines.as_bytes(), &mut out).unwrap();
        String::from_utf8(out.to).unwrap()
    }

    #[test]
    fn what_comes_later_is_hidden_until_the_question_is_answered() {
        let dir = tempfile::tempdir().unwrap();
        let said = typed(dir.path(), "");
        assert!(!said.contains("rev ") && !said.contains("ok"), "{said}");
        assert!(said.contains("Question 1 of 5") && !said.contains("raft.entry"), "{said}");
        let said = typed(dir.path(), "2\n");
        assert!(said.contains("Right: it gets a place in the log."), "{said}");
        assert!(said.contains("raft.entry") && !said.contains("wal.fsync"), "{said}");
        assert!(said.contains("  … the first 2 steps as above\n"), "{said}");
        let said = typed_in(dir.path(), "read-index", "3\n");
        assert!(said.contains("  … the first step as above\n"), "{said}");
        assert!(said.contains("The rest is left for later"), "{said}");
    }

    #[test]
    fn a_lesson_goes_on_where_it_was_left_and_ends_with_what_is_known_now() {
        let dir = tempfile::tempdir().unwrap();
        let said = typed(dir.path(), "1\nhint\nhint\nhint\nhint\nx\nskip\nquit\n");
        assert!(said.contains("No. The answer is: it gets a place"), "{said}");
        assert!(said.contains("The step that decides:\n    3 "), "{said}");
        assert!(said.contains("Hint 3:") && said.contains("no more hints"), "{said}");
        assert!(said.contains("That is no answer: a number from 1 to 2"), "{said}");
        let said = typed(dir.path(), "4\nchoose\n3\n");
        assert!(said.contains("Question 3 of 5") && said.contains("Right: step 4"), "{said}");
        assert!(said.contains("What you know now") && said.contains("Next:"), "{said}");
        let notes = Notes::read(dir.path()).unwrap();
        let answers = [Came::Wrong, Came::Skipped, Came::Right, Came::Told, Came::Right];
        assert_eq!(answers, notes.of("put-one-member").unwrap().answers[..]);
        let mut list = Vec::new();
        super::list(&mut list, &notes).unwrap();
        assert!(String::from_utf8(list).unwrap().contains("done, 2 of 5 right"));
    }

    /// Takes what it gets until it has read an answer.
    struct Impatient(Vec<u8>);

    impl Write for Impatient {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if String::from_utf8_lossy(&self.0).contains("The answer is:") {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.0.extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_answer_is_kept_when_the_reader_closes_early() {
        let dir = tempfile::tempdir().unwrap();
        let mut session = Session::open(dir.path(), "put-one-member").unwrap();
        let mut out = Paper::new(Impatient(Vec::new()), WIDTH_MAX);
        let ended = talk(&mut session, &mut &b"choose\n2\n"[..], &mut out).unwrap_err();
        assert_eq!(io::ErrorKind::BrokenPipe, ended.kind());
        let notes = Notes::read(dir.path()).unwrap();
        assert_eq!([Came::Told], notes.of("put-one-member").unwrap().answers[..]);
    }
}
