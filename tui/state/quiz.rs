//! Predict: at the steps that matter the player asks a question, hides what comes later, and grades
//! the answer from the trace.
//!
//! ```text
//!   step key ──▶ a step that matters ──▶ Question ── digit, or a chosen step ──▶ right or wrong
//!                                           │                                      │
//!                                           └── any step key: skipped              └──▶ the step
//!                                                                                     that decides
//! ```
//!
//! Questions and answers are computed from the records, by the functions that draw the lenses. A
//! question whose answer the records do not tell is not asked.
//!
//! There are three kinds of answers: a choice, a number, and a step that is picked.
//!
//! A lesson brings its own questions ([`lesson`]), and then no others are asked. They are noted, so
//! no step key skips them by accident.
//!
//! Invariants: each question is asked once in a session, so stepping back and forth does not repeat
//! it; a step key skips a question, except in a lesson.

use std::{collections::BTreeSet, path::PathBuf};

use glass_etcd::trace::{Grain, Stage};

use super::{
    head::Head,
    lanes::Lane,
    lens::{
        self,
        reads::{self, Found, Linearizable},
    },
    steps::Steps,
    story::{Moment, Step, Subject},
};

pub(crate) mod lesson;

use lesson::{Came, Course};

/// How a question is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One of these, by its number from 1 on.
    Choice(Vec<String>),
    /// A number from 0 to this one.
    Number(usize),
    /// A step that has happened, chosen with the look cursor.
    Pick,
}

/// A question about the step at the cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) text: String,
    pub(crate) kind: Kind,
    /// The choice, counted from 0; the number; or the position of the step.
    right: usize,
    /// Why that is right.
    pub(crate) why: String,
    /// The step that decides.
    decides: usize,
}

impl Question {
    /// A question of a lesson. `right` is the choice, counted from 0, the number, or the position
    /// of the step; `decides` is the position of the step that decides.
    pub(crate) fn of(
        (text, kind): (String, Kind),
        right: usize,
        why: String,
        decides: usize,
    ) -> Question {
        Question { text, kind, right, why, decides }
    }

    /// The right answer in words.
    pub(crate) fn answer(&self, steps: &Steps, lanes: &[Lane]) -> String {
        match &self.kind {
            Kind::Choice(choices) => choices.get(self.right).cloned().unwrap_or_default(),
            Kind::Number(_) => self.right.to_string(),
            Kind::Pick => steps.steps.get(self.right).map_or_else(String::new, |step| {
                format!("{} on {}", step.event.stage.name(), lanes[step.lane].name)
            }),
        }
    }
}

/// A question that is open, or has just been answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) question: Question,
    /// The step that it is about.
    at: Key,
    /// What came of it, once it is answered.
    pub(crate) came: Option<Came>,
}

/// What has been answered so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Score {
    pub(crate) right: usize,
    pub(crate) wrong: usize,
    pub(crate) skipped: usize,
}

impl Score {
    fn count(&mut self, came: Came) {
        match came {
            Came::Right => self.right += 1,
            Came::Wrong => self.wrong += 1,
            Came::Skipped | Came::Told => self.skipped += 1,
        }
    }
}

/// The identity of a question: its story, and the step.
type Key = Vec<u64>;

/// See the module's text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Quiz {
    /// Whether all questions are asked.
    pub(crate) is_on: bool,
    asked: Option<Asked>,
    pub(crate) score: Score,
    /// Where it is noted that the question of the first run was asked; `None` if it need not be.
    first: Option<PathBuf>,
    /// The note that has to be written.
    note: Option<PathBuf>,
    known: BTreeSet<Key>,
    /// The lesson whose questions are asked.
    pub(crate) course: Option<Course>,
}

impl Quiz {
    /// One question is asked at the first commit, also while the mode is off.
    pub(crate) fn expect_first(&mut self, note: PathBuf) {
        self.first = Some(note);
    }

    /// The note that the question of the first run was asked, to be written by the loop.
    pub(crate) fn take_note(&mut self) -> Option<PathBuf> {
        self.note.take()
    }

    /// Whether anything may be asked.
    pub(crate) fn is_in_use(&self) -> bool {
        self.is_on || self.first.is_some()
    }

    /// Asks the questions of a lesson.
    pub(crate) fn begin(&mut self, course: Course) {
        self.is_on = course.story().is_some();
        self.score = course.before;
        self.course = Some(course);
    }

    /// The story of the lesson's next question, while its questions are asked.
    pub(crate) fn next_story(&self) -> Option<Subject> {
        self.course.as_ref().filter(|_| self.is_on)?.story()
    }

    /// The position of the step of the lesson's next question, if this is its story.
    pub(crate) fn next_place(&self, steps: &Steps) -> Option<usize> {
        let course = self.course.as_ref().filter(|_| self.is_on)?;
        course.story().filter(|story| *story == steps.subject)?;
        let is_it = |step: &Step| course.question(&key(steps.subject, step)).is_some();
        steps.steps.iter().position(is_it)
    }

    /// Whether the lesson's next question is about the step at the cursor.
    pub(crate) fn has_more(&self, steps: &Steps) -> bool {
        self.next_place(steps) == Some(steps.now)
    }

    /// Whether a question of the lesson is still to come in this story, so that what came of it is
    /// not told yet.
    pub(crate) fn is_ahead(&self, subject: Subject) -> bool {
        self.is_on && self.course.as_ref().is_some_and(|course| course.has(subject))
    }

    /// Whether all questions of the lesson have been dealt with.
    pub(crate) fn is_over(&self) -> bool {
        self.course.as_ref().is_some_and(|course| course.story().is_none())
    }

    /// Shows one hint more of the lesson. Returns whether there was one.
    pub(crate) fn hint(&mut self) -> bool {
        self.course.as_mut().is_some_and(Course::hint)
    }

    /// Gives the right answer away. Returns the step that decides.
    pub(crate) fn tell(&mut self) -> Option<usize> {
        let asked = self.asked.as_mut().filter(|asked| asked.came.is_none())?;
        asked.came = Some(Came::Told);
        self.score.count(Came::Told);
        let decides = asked.question.decides;
        self.close(Came::Told);
        Some(decides)
    }

    /// Notes what came of a question, for the lesson that it is of. After the last one nothing is
    /// hidden any more.
    fn close(&mut self, came: Came) {
        let Some(course) = &mut self.course else { return };
        course.close(came);
        self.is_on &= course.story().is_some();
    }

    /// Turns the mode on or off.
    pub(crate) fn toggle(&mut self) {
        self.is_on = !self.is_on;
        self.asked = None;
    }

    /// The question about the step at the cursor, also once it is answered.
    pub(crate) fn asked(&self, steps: &Steps) -> Option<&Asked> {
        let here = key(steps.subject, steps.steps.get(steps.now)?);
        self.asked.as_ref().filter(|asked| asked.at == here)
    }

    /// Whether a question about the step at the cursor waits for its answer.
    pub(crate) fn is_open(&self, steps: &Steps) -> bool {
        self.asked(steps).is_some_and(|asked| asked.came.is_none())
    }

    /// Whether what comes after the cursor is hidden.
    pub(crate) fn hides(&self, steps: &Steps) -> bool {
        self.is_on || self.is_open(steps)
    }

    /// A step key was pressed: an open question is skipped, unless it is one of a lesson; an
    /// answered one is done.
    pub(crate) fn pass(&mut self) {
        let is_answered = self.asked.as_ref().is_some_and(|asked| asked.came.is_some());
        if self.course.is_none() || is_answered {
            self.skip();
        }
    }

    /// An open question is skipped, an answered one is done.
    pub(crate) fn skip(&mut self) {
        let asked = self.asked.take();
        let is_open = asked.is_some_and(|asked| asked.came.is_none());
        if is_open {
            self.score.count(Came::Skipped);
            self.close(Came::Skipped);
        }
    }

    /// Asks about the step at the cursor, if there is something to ask.
    pub(crate) fn ask(&mut self, steps: &Steps, lanes: &[Lane], heads: &[Head]) {
        let is_first = self.first.is_some() && is_commit_of_put(steps);
        if !self.is_on && !is_first {
            return;
        }
        let Some(step) = steps.steps.get(steps.now) else { return };
        if let Some(course) = &mut self.course {
            let at = key(steps.subject, step);
            let is_asked = self.asked.as_ref().is_some_and(|asked| asked.at == at);
            if let Some(question) = course.question(&at).filter(|_| !is_asked) {
                course.open();
                self.asked = Some(Asked { question, at, came: None });
            }
            return;
        }
        let found = if is_first { kept(steps, lanes) } else { question(steps, lanes, heads) };
        let Some(question) = found else { return };
        let at = key(steps.subject, step);
        if self.known.insert(at.clone()) {
            self.asked = Some(Asked { question, at, came: None });
            if is_first {
                self.note = self.first.take();
            }
        }
    }

    /// Gives an answer. Returns the step that decides, if the answer was wrong.
    pub(crate) fn give(&mut self, given: usize) -> Option<usize> {
        let asked = self.asked.as_mut().filter(|asked| asked.came.is_none())?;
        let is_right = given == asked.question.right;
        let came = if is_right { Came::Right } else { Came::Wrong };
        asked.came = Some(came);
        self.score.count(came);
        let decides = asked.question.decides;
        self.close(came);
        (!is_right).then_some(decides)
    }

    /// Gives the digit that was pressed. One that is no answer is ignored.
    pub(crate) fn give_digit(&mut self, digit: u8) -> Option<usize> {
        let digit = usize::from(digit);
        let given = match &self.asked.as_ref()?.question.kind {
            Kind::Choice(choices) => {
                digit.checked_sub(1).filter(|choice| *choice < choices.len())?
            }
            Kind::Number(most) => Some(digit).filter(|number| number <= most)?,
            Kind::Pick => return None,
        };
        self.give(given)
    }
}

fn key(subject: Subject, step: &Step) -> Key {
    let subject = match subject {
        Subject::Request(id) => [0, id],
        Subject::Cluster(address) => [1, hash(&address)],
    };
    let (event, is_done) = (&step.event, u64::from(step.moment == Moment::Done));
    let place = [u64::from(event.member), u64::from(event.boot), event.clock];
    [&subject[..], &place, &[event.stage as u64, is_done]].concat()
}

/// A number for something that has no id.
fn hash(value: &impl std::hash::Hash) -> u64 {
    use std::hash::Hasher as _;
    let mut hasher = std::hash::DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Whether the cursor is on the first commit of a client's put.
fn is_commit_of_put(steps: &Steps) -> bool {
    let is_commit = |step: &&Step| step.is_own && step.event.stage == Stage::RaftCommit;
    let mut commits = steps.happened().iter().filter(is_commit);
    let is_put = steps.steps.iter().any(|step| {
        steps.is_of_client(step) && glass_etcd::story::query::method_of(&step.event) == "KV/Put"
    });
    let here = steps.steps.get(steps.now).is_some_and(|step| is_commit(&step));
    is_put && here && commits.nth(1).is_none()
}

/// The question that suits the step at the cursor.
fn question(steps: &Steps, lanes: &[Lane], heads: &[Head]) -> Option<Question> {
    let step = steps.steps.get(steps.now).filter(|step| step.is_own && step.is_captured)?;
    if step.moment != Moment::Done || step.event.result != 0 {
        return None;
    }
    match step.event.stage {
        Stage::WalFsync => kept(steps, lanes),
        Stage::RaftCommit => who_knows(steps, lanes),
        Stage::ApplyEntry => read(steps, lanes, heads),
        Stage::ReadIndexConfirmed | Stage::ElectionVote => next(steps, lanes),
        Stage::Rpc if steps.is_request(step) => safe_since(steps, lanes),
        _ => None,
    }
}

/// The last own step of this stage up to the cursor.
fn last(steps: &Steps, stage: Stage) -> usize {
    let is_it = |step: &Step| step.is_own && step.event.stage == stage;
    steps.happened().iter().rposition(is_it).unwrap_or(steps.now)
}

/// If the power fails now: kept or lost?
fn kept(steps: &Steps, lanes: &[Lane]) -> Option<Question> {
    let is_kept = lens::survives(steps, lanes)?;
    let (safe, of) = lens::synced(steps, lanes)?;
    let needed = of / 2 + 1;
    Some(Question {
        text: "The power of all members fails now. Is the write kept or lost?".to_owned(),
        kind: Kind::Choice(vec![
            "kept: every leader that can be elected has it".to_owned(),
            "it may be lost".to_owned(),
        ]),
        right: usize::from(!is_kept),
        why: format!("{safe} of {of} disks are known to have it, and {needed} are needed."),
        decides: last(steps, Stage::WalFsync),
    })
}

/// How many members know that it is committed?
fn who_knows(steps: &Steps, lanes: &[Lane]) -> Option<Question> {
    let log = steps.log.as_ref().filter(|_| !steps.is_lost)?;
    let known: Vec<bool> =
        lanes.iter().map(|lane| steps.knows(log, lane)).collect::<Option<_>>()?;
    let names = lanes.iter().zip(&known).filter(|(_, knows)| **knows);
    let names: Vec<&str> = names.map(|(lane, _)| lane.name.as_str()).collect();
    let (entry, of) = (log.entry.1, lanes.len());
    Some(Question {
        text: format!("How many of the {of} members know now that entry {entry} is committed?"),
        kind: Kind::Number(of),
        right: names.len(),
        why: format!("Those that know it: {}.", names.join(", ")),
        decides: last(steps, Stage::RaftCommit),
    })
}

/// What would a serializable read answer on a member that has not applied the entry yet?
fn read(steps: &Steps, lanes: &[Lane], heads: &[Head]) -> Option<Question> {
    let all = reads::reads(steps, lanes, heads);
    let is_asked = |(_, reads): &(usize, &reads::Reads)| {
        let is_known = |found| !matches!(found, Found::Unknown | Found::AsOf(_));
        let Linearizable::Answer { found, .. } = reads.linearizable else { return false };
        is_known(found) && reads.serializable.is_some_and(is_known)
    };
    let mut asked: Vec<(usize, &reads::Reads)> = all.iter().enumerate().filter(is_asked).collect();
    // A stale one is the better question.
    asked.sort_by_key(|(_, reads)| !reads.is_stale());
    let (lane, reads) = *asked.first()?;
    let (found, name) = (reads.serializable?, &lanes[lane].name);
    let here = format!("it finds {}", reads::found(found));
    let why = match reads.is_stale() {
        true => format!("{name} has not applied the write yet, and does not ask: {here}."),
        false => format!("{name} has applied the write: {here}."),
    };
    Some(Question {
        text: format!("A serializable read on {name}, sent now: what does it answer?"),
        kind: Kind::Choice(vec![
            "what this write has written".to_owned(),
            "what was there before this write".to_owned(),
        ]),
        right: usize::from(reads.is_stale()),
        why,
        decides: last(steps, Stage::ApplyEntry),
    })
}

/// What happens next on the member of this step?
fn next(steps: &Steps, lanes: &[Lane]) -> Option<Question> {
    /// How many answers there are to choose from.
    const CHOICES: usize = 3;
    let here = steps.steps.get(steps.now)?;
    let is_told = |step: &Step| step.is_own && step.is_captured && step.grain <= Grain::Story;
    let of_lane = |step: &Step| is_told(step) && step.lane == here.lane;
    let later = steps.steps.iter().enumerate().skip(steps.now + 1);
    let (decides, next) = later.clone().find(|(_, step)| of_lane(step))?;
    let right = next.event.stage;
    let mut stages = vec![right];
    for (_, step) in later {
        let stage = step.event.stage;
        if is_told(step) && !stages.contains(&stage) && stages.len() < CHOICES {
            stages.push(stage);
        }
    }
    if stages.len() < 2 {
        return None;
    }
    // By name: the order must not tell which is right.
    stages.sort_by_key(|stage| stage.name());
    let name = &lanes[here.lane].name;
    Some(Question {
        text: format!("What happens next on {name}?"),
        kind: Kind::Choice(stages.iter().map(|stage| stage.name().to_owned()).collect()),
        right: stages.iter().position(|stage| *stage == right)?,
        why: format!("The next step of this story on {name} is {}.", right.name()),
        decides,
    })
}

/// From which step on could the write not be lost?
fn safe_since(steps: &Steps, lanes: &[Lane]) -> Option<Question> {
    if lens::survives(steps, lanes) != Some(true) {
        return None;
    }
    let mut at = steps.clone();
    let is_shown = |place: &usize| steps.steps[*place].grain <= Grain::Story;
    let first = (0..=steps.now).filter(is_shown).find(|place| {
        at.now = *place;
        lens::survives(&at, lanes) == Some(true)
    })?;
    // If the records begin too late, it was safe from the first step on, which is no answer.
    if first == 0 || !matches!(steps.steps[first].event.stage, Stage::WalFsync) {
        return None;
    }
    let lane = &lanes[steps.steps[first].lane].name;
    Some(Question {
        text: "From which step on could no power failure take the write away?".to_owned(),
        kind: Kind::Pick,
        right: first,
        why: format!("With this fsync on {lane}, a majority of the disks has the entry."),
        decides: first,
    })
}

#[cfg(test)]
mod tests;
