//! Questions on the screen.

use super::{ASCII, UNICODE, opened, screen};
use crate::state::{Screen, State, quiz::Score, scenes, tests::press};

fn text(state: &State) -> String {
    screen(state, (80, 24), UNICODE).to_string()
}

/// A put in the mode that asks, at its first question.
fn asked() -> State {
    let mut state = opened(scenes::put(), "enter P");
    for _ in 0..60 {
        if state.place() == Screen::Quiz {
            return state;
        }
        press(&mut state, "right");
    }
    panic!("no question: {}", text(&state));
}

#[test]
fn a_question_covers_the_panels_and_hides_what_comes_later() {
    let state = asked();
    for size in [(80, 24), (120, 36), (200, 60)] {
        let name = format!("quiz_{}x{}", size.0, size.1);
        insta::assert_snapshot!(name, screen(&state, size, UNICODE));
    }
    insta::assert_snapshot!("quiz_80x24_ascii", screen(&state, (80, 24), ASCII));
}

#[test]
fn an_answer_is_graded_with_its_reason_and_a_wrong_one_shows_the_step_that_decides() {
    let mut state = asked();
    press(&mut state, "1");
    assert!(text(&state).contains("✘ No: it may be lost."), "{}", text(&state));
    assert!(text(&state).contains("1 of 3 disks are known to have it, and 2 are needed."));
    assert_eq!(Score { right: 0, wrong: 1, skipped: 0 }, state.quiz.score);
    let mut state = asked();
    press(&mut state, "2");
    assert!(text(&state).contains("✔ Right: it may be lost."), "{}", text(&state));
    press(&mut state, "right");
    assert!(!text(&state).contains("✔ Right"), "{}", text(&state));
}

#[test]
fn the_last_question_is_answered_with_a_step_of_the_past() {
    let mut state = asked();
    for _ in 0..80 {
        if text(&state).contains("From which step") {
            break;
        }
        press(&mut state, "right");
    }
    let now = state.steps.as_ref().unwrap().now;
    press(&mut state, "down down");
    assert_eq!(now, state.steps.as_ref().unwrap().look, "what comes later cannot be looked at");
    press(&mut state, "7");
    assert_eq!(Screen::Quiz, state.place(), "a number is no answer");
    press(&mut state, "enter");
    assert!(text(&state).contains("✘ No: wal.fsync on etcd-"), "{}", text(&state));
    let steps = state.steps.as_ref().unwrap();
    assert_eq!("wal.fsync", steps.steps[steps.look].event.stage.name());
}

#[test]
fn escape_skips_and_the_mode_ends_by_its_key() {
    let mut state = asked();
    press(&mut state, "esc");
    assert_eq!((Screen::Steps, 1), (state.place(), state.quiz.score.skipped));
    press(&mut state, "P");
    for _ in 0..60 {
        press(&mut state, "right");
        assert_eq!(Screen::Steps, state.place());
    }
}
