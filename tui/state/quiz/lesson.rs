//! The questions of a lesson, in the player: one after the other, each at its own step.
//!
//! ```text
//!   lesson ──▶ Course: the questions that are left ──▶ asked at their steps
//!                 │
//!                 └── News ──▶ the thread that notes the progress
//! ```
//!
//! While questions are left, what comes after the cursor is hidden, and no other question is asked.
//! Invariant: the questions come in their order, and each hint, and what came of each question, is
//! sent once. A lesson that is continued counts from what came of it before.

use std::sync::mpsc::Sender;

use super::{super::story::Subject, Key, Question, Score, Steps, key};

/// What came of a question of a lesson.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    Right,
    /// Answered wrongly.
    Wrong,
    Skipped,
    /// The answer was asked for.
    Told,
}

/// What has to be noted of a lesson.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// One hint more for the question that is open was shown.
    Hint,
    /// The question was dealt with, and the next one is to come.
    Came(Came),
}

/// A question, and where it is asked.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(super) subject: Subject,
    pub(super) at: Key,
    pub(super) question: Question,
    pub(super) hints: Vec<String>,
}

impl Planned {
    /// A question that is asked at this step of this story.
    pub(crate) fn at(
        steps: &Steps,
        place: usize,
        question: Question,
        hints: Vec<String>,
    ) -> Option<Planned> {
        let at = key(steps.subject, steps.steps.get(place)?);
        Some(Planned { subject: steps.subject, at, question, hints })
    }
}

/// See the module's text.
#[derive(Clone, Debug)]
pub(crate) struct Course {
    /// The questions that are left, the next one first.
    planned: std::collections::VecDeque<Planned>,
    /// How many there are in all.
    of: usize,
    news: Sender<News>,
    /// What came of the questions that were dealt with before.
    pub(super) before: Score,
    /// The hints for the question that is open, and how many of them are shown; until the first one
    /// is open, how many of its hints were shown before.
    hints: Vec<String>,
    shown: usize,
}

impl Course {
    /// The questions that are left of a lesson, what came of those before them, and how many hints
    /// for the first one were shown already.
    pub(crate) fn new(
        planned: Vec<Planned>,
        (answers, hints): (&[Came], usize),
        news: Sender<News>,
    ) -> Course {
        let mut before = Score::default();
        answers.iter().for_each(|came| before.count(*came));
        let of = answers.len() + planned.len();
        Course { planned: planned.into(), of, news, before, hints: Vec::new(), shown: hints }
    }

    /// The number of the next question, counted from 1, and of how many.
    pub(crate) fn number(&self) -> (usize, usize) {
        (self.of - self.planned.len() + 1, self.of)
    }

    /// The story of the next question.
    pub(crate) fn story(&self) -> Option<Subject> {
        self.planned.front().map(|planned| planned.subject)
    }

    /// Whether a question that is left is about this story.
    pub(super) fn has(&self, subject: Subject) -> bool {
        self.planned.iter().any(|planned| planned.subject == subject)
    }

    /// The next question, if it is asked at this step.
    pub(super) fn question(&self, at: &Key) -> Option<Question> {
        let next = self.planned.front().filter(|planned| planned.at == *at)?;
        Some(next.question.clone())
    }

    /// Begins to wait for the answer.
    pub(super) fn open(&mut self) {
        self.hints = self.planned.front().map(|next| next.hints.clone()).unwrap_or_default();
        self.shown = self.shown.min(self.hints.len());
    }

    /// Notes what came of the question that was open.
    pub(super) fn close(&mut self, came: Came) {
        if self.planned.pop_front().is_some() {
            self.send(News::Came(came));
        }
        self.hints.clear();
        self.shown = 0;
    }

    /// A thread that has ended could not write to the disk.
    fn send(&self, news: News) {
        _ = self.news.send(news);
    }

    /// Shows one hint more. Returns whether there was one.
    pub(super) fn hint(&mut self) -> bool {
        let has_more = self.shown < self.hints.len();
        if has_more {
            self.shown += 1;
            self.send(News::Hint);
        }
        has_more
    }

    /// The hints that are shown.
    pub(crate) fn hints(&self) -> &[String] {
        &self.hints[..self.shown.min(self.hints.len())]
    }
}
