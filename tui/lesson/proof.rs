//! The proof that a lesson is sound, on one run: every selector resolves, every answer is in the
//! records and is the only one, and every task is open at the start and solved by the scenario.

use std::io;

use glass_etcd::story::Recording;

use super::{
    asked::{Asked, Right},
    course::Lesson,
    play::NUMBER_MAX,
    run::Run,
    session::{holds, scenario},
};

/// Everything that is wrong with the lesson on this run, and the right answers. A step is known by
/// its stage, because its position differs from run to run.
pub(super) fn of(lesson: &Lesson, recording: Recording) -> (Vec<String>, Vec<String>) {
    let run = Run::of(recording);
    let (mut wrong, mut right) = (Vec::new(), Vec::new());
    for (ask, number) in lesson.asks.iter().zip(1..) {
        match Asked::of(ask, &run) {
            Ok(asked) if !asked.scope.shown(asked.at).contains(&asked.at) => {
                wrong.push(format!("question {number}: it is asked at a step that is not shown"));
            }
            Ok(Asked { right: Right::Number(number), .. })
                if !(0..=NUMBER_MAX as i64).contains(&number) =>
            {
                wrong.push(format!("one key cannot answer {number}"));
            }
            Ok(asked) => right.push(match asked.right {
                Right::Choice(place) => format!("choice {}", place + 1),
                Right::Number(number) => format!("number {number}"),
                Right::Step(place) => {
                    format!("step {}", asked.scope.steps.steps[place].event.stage.name())
                }
            }),
            Err(why) => wrong.push(format!("question {number}: {why}")),
        }
    }
    let solved = lesson.checks.iter().filter(|check| !holds(check, &run));
    wrong.extend(solved.map(|check| format!("the scenario does not solve: {}", check.task)));
    (wrong, right)
}

/// The tasks that count as solved before anything was done.
pub(super) fn solved_at_start(lesson: &Lesson, before: Recording) -> Vec<String> {
    let run = Run::of(before);
    let solved = lesson.checks.iter().filter(|check| holds(check, &run));
    solved.map(|check| format!("solved before it is begun: {}", check.task)).collect()
}

/// What the scenario's labels and those of a recording do not have in common.
pub(super) fn labels(lesson: &Lesson, recording: &Recording) -> io::Result<Vec<String>> {
    let scenario = scenario(lesson).map_err(io::Error::other)?;
    let known = super::labels::labels(recording);
    let is_missing = |label: &&str| !known.contains_key(*label);
    let missing = scenario.labels().filter(is_missing);
    Ok(missing.map(|label| format!("the recording has no story {label}")).collect())
}

#[cfg(test)]
mod tests {
    use glass_etcd::story::{Event, order::wall_ns};

    use super::{super::course::LESSONS, super::session::shipped, *};

    #[test]
    fn every_question_has_one_answer_in_the_shipped_recording() {
        for files in LESSONS {
            let lesson = Lesson::of(files.slug).unwrap();
            let recording = shipped(&lesson).unwrap();
            let mut wrong = labels(&lesson, &recording).unwrap();
            let first = super::super::labels::labels(&recording);
            let begun =
                recording.events.iter().find(|event| first.values().any(|id| *id == event.id));
            // Each boot counts its own nanoseconds.
            let wall = begun.map(|event| wall_ns(&recording, event));
            let is_before =
                |event: &Event| wall.is_none_or(|wall| wall_ns(&recording, event) < wall);
            let mut before = recording.clone();
            before.events.retain(is_before);
            wrong.extend(of(&lesson, recording).0);
            wrong.extend(solved_at_start(&lesson, before));
            assert_eq!(Vec::<String>::new(), wrong, "{}", files.slug);
        }
    }
}
