//! A lesson in the player: its questions are handed over, and what came of them is noted.
//!
//! The player knows nothing of lessons but the questions that it asks at their steps. What came of
//! each goes to a thread that writes the progress down, so a terminal that is closed loses none.

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
            lesson::{Came, Course, Planned},
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
    let (sender, came) = mpsc::channel();
    let state = begun(run, &lesson, progress.answers.len(), sender).map_err(wrong)?;
    let slug = lesson.slug();
    let noting = thread::Builder::new()
        .name("progress".to_owned())
        .spawn(move || noted(&mut progress, &mut notes, slug, &came).map(|()| progress))?;
    // The state goes with the player, and with it the sender that the thread waits for.
    play::run(state, None, None, (None, look)).await?;
    let progress = noting.join().map_err(|_| io::Error::other("the progress was not noted"))??;
    Ok((lesson, progress))
}

/// The player at the first of the questions that are left.
pub(super) fn begun(
    run: Run,
    lesson: &Lesson,
    answered: usize,
    sender: mpsc::Sender<Came>,
) -> Result<State, String> {
    let planned = planned(lesson, &run, answered)?;
    let mut state = run.state;
    state.begin(Course::new(planned, lesson.asks.len(), sender));
    Ok(state)
}

fn noted(
    progress: &mut Progress,
    notes: &mut Notes,
    slug: &str,
    came: &mpsc::Receiver<Came>,
) -> io::Result<()> {
    for came in came {
        progress.answers.push(came);
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
