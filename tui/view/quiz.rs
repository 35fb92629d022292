//! The question of the mode "predict", in the place of the panels that would answer it.

use ratatui::layout::Rect;

use super::pen::{Pen, Tone, wrap};
use crate::state::{
    State,
    quiz::{
        Asked, Kind, Score,
        lesson::{Came, Course},
    },
    steps::Steps,
    text,
};

/// Said in the last line if there is no room for all of them.
const MORE: &str = "… a taller window shows the rest";

/// Draws the question; and once it is answered, what is right, and why.
pub(crate) fn draw(pen: &mut Pen<'_>, area: Rect, (state, steps): (&State, &Steps), asked: &Asked) {
    let number = state.quiz.course.as_ref().map(Course::number);
    let title = match (number, asked.came) {
        (None, _) => "PREDICT".to_owned(),
        (Some((next, of)), None) => format!("QUESTION {next} of {of}"),
        (Some((next, of)), Some(_)) => format!("QUESTION {} of {of}", next - 1),
    };
    pen.rule(area, 0, format!("{title} {}", score(&state.quiz.score)).trim_end());
    let mut lines = lines((state, steps), asked, area.width);
    let room = usize::from(area.height.saturating_sub(1));
    if room < lines.len() {
        lines.truncate(room.saturating_sub(1));
        lines.push((MORE.to_owned(), Tone::Dim));
    }
    for ((line, tone), at) in lines.iter().take(room).zip(1..) {
        pen.text(area, at, &format!(" {line}"), *tone);
    }
}

/// What is said, in lines for a room of this width.
pub(crate) fn lines(
    (state, steps): (&State, &Steps),
    asked: &Asked,
    width: u16,
) -> Vec<(String, Tone)> {
    let width = usize::from(width).saturating_sub(2);
    let mut lines: Vec<(String, Tone)> = Vec::new();
    let mut say = |said: &str, tone| {
        lines.extend(wrap(&text::clean(said), width).into_iter().map(|line| (line, tone)));
    };
    let question = &asked.question;
    say(&question.text, Tone::Strong);
    match asked.came {
        None => {
            answers(&question.kind).iter().for_each(|line| say(line, Tone::Plain));
            let hints = state.quiz.course.iter().flat_map(Course::hints).zip(1..);
            hints.for_each(|(hint, number)| say(&format!("Hint {number}: {hint}"), Tone::Plain));
        }
        Some(came) => {
            let answer = question.answer(steps, &state.lanes);
            let (word, tone) = match came {
                Came::Right => ("✔ Right", Tone::Good),
                Came::Wrong => ("✘ No", Tone::Bad),
                Came::Told | Came::Skipped => ("The answer", Tone::Good),
            };
            say(&format!("{word}: {answer}."), tone);
            say(&question.why, Tone::Plain);
            if came != Came::Right {
                say("» stands at the step that decides.", Tone::Plain);
            }
            if state.quiz.is_over() {
                say("That was the last question. Q leads to what you know now.", Tone::Strong);
            }
        }
    }
    lines
}

/// What may be answered.
fn answers(kind: &Kind) -> Vec<String> {
    match kind {
        Kind::Choice(choices) => {
            let numbered = choices.iter().zip(1..);
            numbered.map(|(choice, number)| format!("{number}  {choice}")).collect()
        }
        Kind::Number(most) => vec![format!("A number from 0 to {most}.")],
        Kind::Pick => vec!["Choose a step with ↑ and ↓; Enter answers.".to_owned()],
    }
}

/// How many answers were right.
fn score(score: &Score) -> String {
    let Score { right, wrong, skipped } = *score;
    match right + wrong + skipped {
        0 => String::new(),
        _ => format!("({right} right, {wrong} wrong, {skipped} skipped)"),
    }
}
