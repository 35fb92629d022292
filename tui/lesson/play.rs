//! A lesson in the player: its questions are handed over, and what came of them is noted.
//!
//! The player knows nothing of lessons but the questions that it asks at their steps. What came of
//! each, and each hint that was shown, goes to a thread that writes the progress down, so a
//! terminal that is closed loses none.

use std::{io, sync::mpsc, thread};

use super::{
    asked::{Asked, Kind, Right},
    course::Lesson,
    progress::{Notes, Progress},
    run::Run,
    session::Session,
};
use crate::{
    play,
    state::{
        State,
        quiz::{
            self, Question,
            lesson::{Course, News, Planned},
        },
    },
    view::Look,
};

/// The greatest number that a question of a lesson can be answered with: one key.
pub(super) const NUMBER_MAX: usize = 9;

/// Plays the rest of a lesson until the learner leaves. Returns how far it is then.
pub(super) async fn play(session: Session, look: Look) -> io::Result<(Lesson, Progress)> {
    let Session { lesson, run, mut progress, mut notes } = session;
    let wrong = |why| io::Error::other(format!("{}: {why}", lesson.slug()));
    let (sender, news) = mpsc::channel();
    let state = begun(run, &lesson, &progress, sender).map_err(wrong)?;
    let slug = lesson.slug();
    let noting = thread::Builder::new()
        .name("progress".to_owned())
        .spawn(move || noted(&mut progress, &mut notes, slug, &news).map(|()| progress))?;
    // The state goes with the player, and with it the sender that the thread waits for.
    play::run(state, None, None, (None, look)).await?;
    let progress = noting.join().map_err(|_| io::Error::other("the progress was not noted"))??;
    Ok((lesson, progress))
}

/// The player at the first of the questions that are left.
pub(super) fn begun(
    run: Run,
    lesson: &Lesson,
    progress: &Progress,
    sender: mpsc::Sender<News>,
) -> Result<State, String> {
    let Progress { answers, hints, .. } = progress;
    let planned = planned(lesson, &run, answers.len())?;
    let mut state = run.state;
    state.begin(Course::new(planned, (answers, *hints), sender));
    Ok(state)
}

fn noted(
    progress: &mut Progress,
    notes: &mut Notes,
    slug: &str,
    news: &mpsc::Receiver<News>,
) -> io::Result<()> {
    for news in news {
        match news {
            News::Hint => progress.hints += 1,
            News::Came(came) => progress.answered(came),
        }
        notes.note(slug, progress)?;
    }
    Ok(())
}

/// The questions that are left, as the player asks them.
pub(super) fn planned(lesson: &Lesson, run: &Run, answered: usize) -> Result<Vec<Planned>, String> {
    let asks = lesson.asks.iter().enumerate().skip(answered);
    asks.map(|(number, ask)| {
        let asked = Asked::of(ask, run)?;
        let hints = (1..).map_while(|level| lesson.hint(number, level));
        let hints = hints.map(|hint| hint.replace('\n', " ")).collect();
        Planned::at(&asked.scope.steps, asked.at, question(&asked), hints)
            .ok_or_else(|| "the step is not there any more".to_owned())
    })
    .collect()
}

fn question(asked: &Asked<'_>) -> Question {
    let (kind, right) = match (&asked.kind, asked.right) {
        (Kind::Choice(texts), Right::Choice(right)) => (quiz::Kind::Choice(texts.clone()), right),
        (Kind::Step, Right::Step(right)) => (quiz::Kind::Pick, right),
        (_, Right::Number(number)) => {
            (quiz::Kind::Number(NUMBER_MAX), usize::try_from(number).unwrap_or(usize::MAX))
        }
        (_, Right::Choice(right) | Right::Step(right)) => (quiz::Kind::Pick, right),
    };
    let (of, place) = &asked.decides;
    let is_here = of.steps.subject == asked.scope.steps.subject;
    let decides = if is_here { *place } else { asked.at };
    Question::of((asked.prompt.clone(), kind), right, asked.why.clone(), decides)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{super::progress::Came, *};
    use crate::state::{Screen, tests::press};

    /// The player where this learner has left the lesson, at its next question.
    fn continued(progress: &Progress) -> (State, mpsc::Receiver<News>) {
        let Session { lesson, run, .. } =
            Session::open(Path::new("/nowhere"), "put-one-member").unwrap();
        let (sender, news) = mpsc::channel();
        let mut state = begun(run, &lesson, progress, sender).unwrap();
        press(&mut state, "G");
        assert_eq!(Screen::Quiz, state.place());
        (state, news)
    }

    /// Goal: a learner who leaves a lesson in the middle and continues it finds the hints that were
    /// shown, and the answers that were given.
    #[test]
    fn a_lesson_that_is_continued_in_the_player_keeps_its_hints_and_its_score() {
        let dir = tempfile::tempdir().unwrap();
        let mut notes = Notes::read(dir.path()).unwrap();
        let answers = vec![Came::Wrong, Came::Told];
        let mut progress = Progress { answers, hints: 1, ..Progress::default() };
        let (mut state, news) = continued(&progress);
        let score = state.quiz.score;
        assert_eq!((0, 1, 1), (score.right, score.wrong, score.skipped));
        assert_eq!(1, state.quiz.course.as_ref().unwrap().hints().len());
        press(&mut state, "i");
        drop(state);
        noted(&mut progress, &mut notes, "put-one-member", &news).unwrap();
        let read = Notes::read(dir.path()).unwrap().of("put-one-member").unwrap();
        assert_eq!((2, 2), (read.answers.len(), read.hints));

        let (mut state, news) = continued(&read);
        assert_eq!(2, state.quiz.course.as_ref().unwrap().hints().len());
        press(&mut state, "c");
        drop(state);
        noted(&mut progress, &mut notes, "put-one-member", &news).unwrap();
        let read = Notes::read(dir.path()).unwrap().of("put-one-member").unwrap();
        assert_eq!((3, 0), (read.answers.len(), read.hints), "the next question has its own hints");
    }
}
