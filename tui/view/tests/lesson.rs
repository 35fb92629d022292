//! The questions of a lesson on the screen.

use std::sync::mpsc;

use super::{UNICODE, screen};
use crate::state::{
    Screen, State,
    quiz::{
        Kind, Question,
        lesson::{Came, Course, News, Planned},
    },
    scenes::{self, GET, PUT},
    steps::Steps,
    story::Subject,
    tests::press,
};

fn text(state: &State) -> String {
    screen(state, (100, 30), UNICODE).to_string()
}

/// A question at the first step of this stage.
fn at(state: &State, id: u64, stage: &str, kind: Kind) -> Planned {
    let steps = Steps::open(state.recording(), Subject::Request(id));
    let is_it = |step: &crate::state::story::Step| {
        step.is_own && step.is_captured && step.event.stage.name() == stage
    };
    let place = steps.steps.iter().position(is_it).unwrap();
    let asked = (format!("What about {stage}?"), kind);
    let question = Question::of(asked, 1, "Because it is so.".to_owned(), place);
    Planned::at(&steps, place, question, vec!["Look.".to_owned(), "Compare.".to_owned()]).unwrap()
}

/// A lesson of three questions: two at one step of a put, and one about a get.
fn begun() -> (State, mpsc::Receiver<News>) {
    let mut recording = scenes::put().recording;
    let get = scenes::get().recording;
    assert_eq!(recording.members, get.members);
    recording.events.extend(get.events);
    let mut state = State::of_recording(recording);
    let choice = || Kind::Choice(vec!["one".to_owned(), "two".to_owned()]);
    let planned = vec![
        at(&state, PUT, "raft.entry", choice()),
        at(&state, PUT, "raft.entry", Kind::Number(9)),
        at(&state, GET, "read_index.wait", choice()),
    ];
    let (sender, news) = mpsc::channel();
    state.begin(Course::new(planned, (&[], 0), sender));
    (state, news)
}

/// What came of the questions since the last look.
fn came(news: &mpsc::Receiver<News>) -> Vec<Came> {
    let came = |news| match news {
        News::Came(came) => Some(came),
        News::Hint => None,
    };
    news.try_iter().filter_map(came).collect()
}

fn until_asked(state: &mut State) {
    for _ in 0..60 {
        press(state, "right");
        if state.place() == Screen::Quiz {
            return;
        }
    }
    panic!("no question: {}", text(state));
}

#[test]
fn a_lesson_asks_its_questions_at_their_steps_and_hides_what_comes_later() {
    let (mut state, news) = begun();
    until_asked(&mut state);
    let said = text(&state);
    assert!(said.contains("QUESTION 1 of 3") && said.contains("What about raft.entry?"), "{said}");
    assert!(!said.contains("wal.fsync"), "{said}");
    press(&mut state, "i i");
    assert!(text(&state).contains("Hint 2: Compare."), "{}", text(&state));
    press(&mut state, "i");
    assert!(text(&state).contains("no more hints"), "{}", text(&state));
    press(&mut state, "2");
    assert!(text(&state).contains("✔ Right: two."), "{}", text(&state));
    press(&mut state, "right");
    assert!(text(&state).contains("QUESTION 2 of 3"), "two at one step: {}", text(&state));
    press(&mut state, "4");
    assert!(text(&state).contains("✘ No: 1."), "{}", text(&state));
    let all = [News::Hint, News::Hint, News::Came(Came::Right), News::Came(Came::Wrong)];
    assert_eq!(all.to_vec(), news.try_iter().collect::<Vec<_>>());
}

#[test]
fn the_last_step_of_a_story_leads_to_the_next_question_and_the_last_question_uncovers_all() {
    let (mut state, news) = begun();
    until_asked(&mut state);
    press(&mut state, "s");
    assert!(text(&state).contains("QUESTION 2 of 3"), "{}", text(&state));
    press(&mut state, "c");
    assert!(text(&state).contains("Because it is so."), "{}", text(&state));
    until_asked(&mut state);
    assert_eq!(Subject::Request(GET), state.steps.as_ref().unwrap().subject);
    assert!(text(&state).contains("QUESTION 3 of 3"), "{}", text(&state));
    press(&mut state, "2 right");
    assert!(text(&state).contains("read_index.confirmed"), "{}", text(&state));
    let all = vec![Came::Skipped, Came::Told, Came::Right];
    assert_eq!(all, came(&news));
    press(&mut state, "g right right right right right right");
    assert_ne!(Screen::Quiz, state.place(), "each question is asked once");
}

/// Goal: an answer is noted because it was given, and not because a key was pressed once too often.
#[test]
fn no_key_leads_past_a_question_by_accident() {
    let (mut state, news) = begun();
    press(&mut state, "G");
    assert!(text(&state).contains("QUESTION 1 of 3"), "from afar: {}", text(&state));
    press(&mut state, "i");
    for keys in
        ["right", "]", ".", "space", "P", "esc", "q", "left G", "left left right right right"]
    {
        press(&mut state, keys);
        let said = text(&state);
        assert!(
            said.contains("QUESTION 1 of 3") && said.contains("Hint 1: Look."),
            "{keys}: {said}"
        );
        assert!(!said.contains("wal.fsync"), "{keys}: {said}");
    }
    assert!(came(&news).is_empty());
    press(&mut state, "s");
    assert!(text(&state).contains("QUESTION 2 of 3"), "two at one step: {}", text(&state));
    press(&mut state, "4 right : 3 0 enter");
    assert!(!text(&state).contains("QUESTION"), "that of another story comes there");
}

#[test]
fn the_list_does_not_tell_what_is_asked_later() {
    let (mut state, _news) = begun();
    press(&mut state, "esc");
    assert_eq!(Screen::List, state.place());
    let said = text(&state);
    assert_eq!(2, said.matches("asked later").count(), "{said}");
    press(&mut state, "enter G s s");
    press(&mut state, "right R");
    assert_eq!(1, text(&state).matches("asked later").count(), "{}", text(&state));
}

/// Goal: no screen shows a later moment than the lesson has come to, also when its story is left.
#[test]
fn the_cluster_is_shown_at_the_cursor_of_the_lesson_and_not_at_its_end() {
    let (mut state, _came) = begun();
    press(&mut state, "right C");
    let members = |state: &State| {
        let told = text(state);
        let rows = told
            .lines()
            .filter(|line| ["commit", "applied", "WAL"].iter().any(|row| line.contains(row)));
        rows.map(str::to_owned).collect::<Vec<_>>()
    };
    let at_cursor = members(&state);
    assert!(text(&state).contains("step 2/"), "{}", text(&state));
    press(&mut state, "f");
    assert!(text(&state).contains("no later moment"), "{}", text(&state));
    assert_eq!(at_cursor, members(&state));
    press(&mut state, "esc esc");
    assert_eq!(Screen::List, state.place());
    press(&mut state, "C");
    assert_eq!((Screen::Cluster, &at_cursor), (state.place(), &members(&state)));
    assert!(text(&state).contains("step 2/"), "{}", text(&state));
    press(&mut state, "L");
    assert!(text(&state).contains("step 2/"), "{}", text(&state));
    press(&mut state, "esc R enter");
    until_asked(&mut state);
    press(&mut state, "s s right");
    until_asked(&mut state);
    press(&mut state, "s esc esc");
    assert!(!text(&state).contains("step "), "after the last question: {}", text(&state));
    assert_ne!(at_cursor, members(&state), "the end of the records");
}

#[test]
fn the_end_of_a_lesson_is_said_together_with_the_way_out() {
    let (mut state, _news) = begun();
    for _ in 0..3 {
        until_asked(&mut state);
        assert!(!text(&state).contains("the last question"), "{}", text(&state));
        press(&mut state, "1");
    }
    assert!(text(&state).contains("That was the last question. Q leads"), "{}", text(&state));
    assert!(!state.update(crate::state::Action::Quit));
}

/// The words on the screen, without the frame.
fn words(state: &State, size: (u16, u16)) -> String {
    let said = screen(state, size, UNICODE).to_string().replace(['"', '│', '─'], " ");
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Goal: no part of a question, a hint or an answer is cut off. Method: each lesson is done by its
/// keys, in the smallest window; every answer is given away after three hints.
#[test]
fn every_question_of_every_lesson_fits_into_a_small_window() {
    for slug in crate::lesson::slugs() {
        let (mut state, news) = crate::lesson::begun(slug);
        let (_, of) = state.quiz.course.as_ref().unwrap().number();
        for number in 1..=of {
            for _ in 0..500 {
                if state.place() == Screen::Quiz {
                    break;
                }
                press(&mut state, "right");
            }
            let here = format!("{slug}, question {number}");
            press(&mut state, "i i i");
            let said = words(&state, (80, 24));
            assert!(said.contains(&format!("QUESTION {number} of {of}")), "{here}: {said}");
            assert!(
                said.contains("Hint 3:") && !said.contains("a taller window"),
                "{here}: {said}"
            );
            press(&mut state, "c");
            let said = words(&state, (80, 24));
            assert!(said.contains("The answer:") && !said.contains("a taller window"), "{said}");
            let whole = words(&state, (300, 90));
            assert!(!whole.contains("a taller window"), "{here}: {whole}");
        }
        assert_eq!(vec![Came::Told; of], came(&news), "{slug}");
        assert!(words(&state, (80, 24)).contains("the last question"), "{slug}");
    }
}
