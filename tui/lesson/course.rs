//! The lessons: their files, which are in the binary, and what those say.
//!
//! ```text
//!   lessons/SLUG/lesson.toml   title, minutes, needs, goal, book; questions, tasks
//!                lesson.md     what is read first
//!                scenario.txt, recording.ndjson
//!                hints/1.md, 2.md, 3.md   where to look, what to compare, the reason
//!                after.md      what is known now, and a question to take along
//! ```
//!
//! A hint file has a part for each question, and a line `---` between two of them.
//!
//! Invariant: no answer is written down. Of a choice, each text comes with the condition that makes
//! it right; numbers and steps are expressions.

use serde::Deserialize;

use super::language::{Expr, Selector, expression, selector};

/// How many levels of hints a lesson has.
const HINTS: usize = 3;

/// The files of a lesson.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Files {
    pub(crate) slug: &'static str,
    toml: &'static str,
    pub(crate) text: &'static str,
    pub(crate) scenario: &'static str,
    pub(crate) recording: &'static str,
    hints: [&'static str; HINTS],
    pub(crate) after: &'static str,
}

macro_rules! lessons {
    ($($slug:literal),+ $(,)?) => {
        /// All lessons, in the order in which they are best learned.
        pub(crate) const LESSONS: &[Files] = &[$(Files {
            slug: $slug,
            toml: include_str!(concat!("../../lessons/", $slug, "/lesson.toml")),
            text: include_str!(concat!("../../lessons/", $slug, "/lesson.md")),
            scenario: include_str!(concat!("../../lessons/", $slug, "/scenario.txt")),
            recording: include_str!(concat!("../../lessons/", $slug, "/recording.ndjson")),
            hints: [
                include_str!(concat!("../../lessons/", $slug, "/hints/1.md")),
                include_str!(concat!("../../lessons/", $slug, "/hints/2.md")),
                include_str!(concat!("../../lessons/", $slug, "/hints/3.md")),
            ],
            after: include_str!(concat!("../../lessons/", $slug, "/after.md")),
        }),+];
    };
}

lessons!(
    "put-one-member",
    "refusals",
    "crash-and-recovery",
    "tree-index",
    "buffer-and-backend",
    "get-layers",
    "put-three-members",
    "elections",
    "log-repair",
    "snapshot",
    "learner",
    "read-index",
    "stale-read",
    "unknown-outcome",
    "watch",
    "compaction",
);

/// `lesson.toml` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    title: String,
    minutes: u32,
    #[serde(default)]
    needs: Vec<String>,
    goal: String,
    book: String,
    ask: Vec<WrittenAsk>,
    #[serde(default)]
    check: Vec<WrittenCheck>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenAsk {
    story: String,
    at: String,
    prompt: String,
    why: String,
    /// The step that a wrong answer is shown.
    decides: Option<String>,
    #[serde(default)]
    choice: Vec<WrittenChoice>,
    number: Option<String>,
    step: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenChoice {
    text: String,
    when: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCheck {
    task: String,
    story: String,
    holds: String,
}

/// How a question is answered, and when an answer is right.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    /// Texts, and when each is the right one.
    Choice(Vec<(String, Expr)>),
    Number(Expr),
    Step(Selector),
}

/// A question.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ask {
    /// The story in which it is asked, and the step.
    pub(super) story: String,
    pub(super) at: Selector,
    pub(super) prompt: String,
    pub(super) answer: Answer,
    pub(super) why: String,
    pub(super) decides: Option<Selector>,
}

/// Something to be done on a cluster of one's own.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Check {
    pub(crate) task: String,
    /// The method of a request, or `election`.
    pub(crate) story: String,
    /// What holds of one such story at least.
    pub(super) holds: Expr,
}

/// A lesson.
#[derive(Clone, Debug)]
pub(crate) struct Lesson {
    pub(crate) files: Files,
    pub(crate) title: String,
    pub(crate) minutes: u32,
    pub(crate) needs: Vec<String>,
    pub(crate) goal: String,
    /// The chapter of the book.
    pub(crate) book: String,
    pub(crate) asks: Vec<Ask>,
    pub(crate) checks: Vec<Check>,
}

impl Lesson {
    /// The lesson with this slug.
    pub(crate) fn of(slug: &str) -> Result<Lesson, String> {
        let files = LESSONS.iter().find(|files| files.slug == slug);
        let files = files.ok_or_else(|| {
            let known: Vec<&str> = LESSONS.iter().map(|files| files.slug).collect();
            format!("no lesson {slug}; there are {}", known.join(", "))
        })?;
        Lesson::read(files).map_err(|why| format!("lessons/{slug}/lesson.toml: {why}"))
    }

    fn read(files: &Files) -> Result<Lesson, String> {
        let written: Written = toml::from_str(files.toml).map_err(|error| error.to_string())?;
        let of = |what: &str, number: i32, why| format!("{what} {number}: {why}");
        let asks = written.ask.into_iter().zip(1..);
        let asks = asks.map(|(one, number)| ask(one).map_err(|why| of("question", number, why)));
        let asks = asks.collect::<Result<_, _>>()?;
        let checks = written.check.into_iter().zip(1..);
        let checks = checks.map(|(one, number)| check(one).map_err(|why| of("task", number, why)));
        let checks = checks.collect::<Result<_, _>>()?;
        let Written { title, minutes, needs, goal, book, .. } = written;
        Ok(Lesson { files: *files, title, minutes, needs, goal, book, asks, checks })
    }

    pub(crate) fn slug(&self) -> &'static str {
        self.files.slug
    }

    /// A hint for a question: the level counts from 1. `None` behind the last.
    pub(crate) fn hint(&self, ask: usize, level: usize) -> Option<&'static str> {
        let file = self.files.hints.get(level.checked_sub(1)?)?;
        file.split("\n---\n").nth(ask).map(str::trim)
    }

    /// The lesson after this one.
    pub(crate) fn next(&self) -> Option<&'static str> {
        let here = LESSONS.iter().position(|files| files.slug == self.slug())?;
        LESSONS.get(here + 1).map(|files| files.slug)
    }
}

fn ask(written: WrittenAsk) -> Result<Ask, String> {
    let WrittenAsk { story, at, prompt, why, decides, choice, number, step } = written;
    let answer = match (&choice[..], number, step) {
        ([_, _, ..], None, None) => {
            let read = |one: &WrittenChoice| Ok((one.text.clone(), expression(&one.when)?));
            Answer::Choice(choice.iter().map(read).collect::<Result<_, String>>()?)
        }
        ([], Some(number), None) => Answer::Number(expression(&number)?),
        ([], None, Some(step)) => Answer::Step(selector(&step)?),
        _ => return Err(format!("two choices or more, a number, or a step: {prompt:?}")),
    };
    let decides = decides.map(|decides| selector(&decides)).transpose()?;
    Ok(Ask { story, at: selector(&at)?, prompt, answer, why, decides })
}

fn check(written: WrittenCheck) -> Result<Check, String> {
    let holds = expression(&written.holds)?;
    Ok(Check { task: written.task, story: written.story, holds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lesson_is_whole() {
        for files in LESSONS {
            let lesson = Lesson::of(files.slug).unwrap();
            let slug = files.slug;
            assert!((2..=6).contains(&lesson.asks.len()), "{slug}");
            assert!((5..=30).contains(&lesson.minutes), "{slug}");
            assert!(!lesson.checks.is_empty(), "{slug}");
            for level in 1..=HINTS {
                let parts = files.hints[level - 1].split("\n---\n").count();
                assert_eq!(lesson.asks.len(), parts, "{slug}/hints/{level}.md");
            }
            let earlier = LESSONS.iter().take_while(|one| one.slug != slug).map(|one| one.slug);
            let earlier: Vec<&str> = earlier.collect();
            assert!(lesson.needs.iter().all(|need| earlier.contains(&&**need)), "{slug}");
            assert!(lesson.hint(0, HINTS + 1).is_none() && lesson.hint(0, 0).is_none());
        }
    }

    /// Goal: the page of the book lists the lessons as they are. The failure prints the rows that
    /// the page has to end in.
    #[test]
    fn the_page_of_the_book_has_a_row_for_each_lesson() {
        let row = |files: &Files| {
            let Lesson { goal, book, minutes, .. } = Lesson::of(files.slug).unwrap();
            let (first, rest) = goal.split_at(1);
            let goal = first.to_lowercase() + rest;
            format!("| `{}` ([chapter]({book})) | {minutes} | {goal} |\n", files.slug)
        };
        let rows: String = LESSONS.iter().map(row).collect();
        let page = std::fs::read_to_string("book/src/lessons.md").unwrap();
        assert!(page.ends_with(&rows), "book/src/lessons.md has to end in\n\n{rows}");
    }

    #[test]
    fn a_broken_lesson_says_what_is_wrong_and_where() {
        let said = |old: &str, new: &str| {
            let whole = LESSONS[0].toml;
            assert!(whole.contains(old), "{old}");
            let toml = String::leak(whole.replacen(old, new, 1));
            Lesson::read(&Files { toml, ..LESSONS[0] }).unwrap_err()
        };
        let wrong = said("minutes = 10", "minutes = \"ten\"");
        assert!(wrong.contains("line 2") && wrong.contains("minutes"), "{wrong}");
        let wrong = said("goal = ", "gaol = ");
        assert!(wrong.contains("unknown field `gaol`"), "{wrong}");
        let wrong = said("at = \"raft.entry\"", "at = \"raft.entree\"");
        assert_eq!("question 2: no stage raft.entree", wrong);
        let wrong = said("code() == 0", "code( == 0");
        assert!(wrong.starts_with("task 1: "), "{wrong}");
        let wrong = said("[[check]]", "[[check]");
        assert!(wrong.contains("TOML parse error"), "{wrong}");
    }

    #[test]
    fn a_question_has_one_kind_of_answer() {
        let with = |rest: &str| {
            let ask = format!("story = 'a'\nat = 'rpc'\nprompt = 'p'\nwhy = 'w'\n{rest}");
            super::ask(toml::from_str(&ask).unwrap())
        };
        assert!(with("number = '1'").is_ok() && with("step = 'rpc'").is_ok());
        let one = "[[choice]]\ntext = 't'\nwhen = '1'\n";
        assert!(with(&one.repeat(2)).is_ok());
        for wrong in ["", one, "number = '1'\nstep = 'rpc'"] {
            assert!(with(wrong).unwrap_err().contains("two choices or more"), "{wrong}");
        }
    }
}
