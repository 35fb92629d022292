//! Questions along stories, and their grades.

use super::{
    super::{
        lanes::lanes,
        scenes::{self, GET, PUT, Scene},
        steps::Direction,
    },
    *,
};

/// Every question that is asked along a story, with the position of its step.
fn asked(scene: &Scene, id: u64) -> Vec<(usize, Question)> {
    let lanes = lanes(&scene.recording);
    let mut steps = Steps::open(&scene.recording, Subject::Request(id));
    let mut quiz = Quiz::default();
    quiz.toggle();
    let mut all = Vec::new();
    loop {
        quiz.ask(&steps, &lanes, &[]);
        if let Some(asked) = quiz.asked.take() {
            all.push((steps.now, asked.question));
        }
        let now = steps.now;
        steps.step(Grain::Story, Direction::Forward);
        if steps.now == now {
            return all;
        }
    }
}

#[test]
fn a_put_is_asked_about_at_its_disks_its_commit_its_application_and_its_end() {
    let all = asked(&scenes::put(), PUT);
    let texts: Vec<&str> = all.iter().map(|(_, question)| question.text.as_str()).collect();
    for part in ["kept or lost", "know now that entry 42", "serializable read", "From which step"] {
        assert!(texts.iter().any(|text| text.contains(part)), "{part}: {texts:?}");
    }
    // One disk is not enough, two are.
    let kept: Vec<usize> = all
        .iter()
        .filter(|(_, one)| one.text.contains("kept or lost"))
        .map(|(_, one)| one.right)
        .collect();
    assert_eq!([1, 0, 0], kept[..]);
    let known: Vec<usize> = (all.iter())
        .filter(|(_, one)| matches!(one.kind, Kind::Number(3)))
        .map(|(_, one)| one.right)
        .collect();
    assert_eq!([1, 2, 3], known[..]);
    for (now, question) in &all {
        assert!(question.decides <= *now, "what decides has happened: {question:?}");
    }
}

#[test]
fn of_a_read_it_is_asked_what_comes_next_and_no_answer_stands_first_by_being_right() {
    let all = asked(&scenes::get(), GET);
    let (now, next) = all.iter().find(|(_, one)| one.text.contains("next on")).unwrap();
    let Kind::Choice(choices) = &next.kind else { panic!("{next:?}") };
    assert!(choices.is_sorted() && 2 <= choices.len(), "{choices:?}");
    assert!(*now < next.decides);
}

#[test]
fn a_question_is_asked_once_and_a_step_key_skips_it() {
    let scene = scenes::put();
    let lanes = lanes(&scene.recording);
    let mut steps = Steps::open(&scene.recording, Subject::Request(PUT));
    let mut quiz = Quiz::default();
    quiz.toggle();
    let at = steps.steps.iter().position(|step| {
        step.is_own && step.event.stage == Stage::WalFsync && step.moment == Moment::Done
    });
    steps.now = at.unwrap();
    quiz.ask(&steps, &lanes, &[]);
    assert!(quiz.is_open(&steps) && quiz.hides(&steps));
    quiz.pass();
    quiz.ask(&steps, &lanes, &[]);
    assert_eq!((false, 1), (quiz.is_open(&steps), quiz.score.skipped));
}

#[test]
fn a_wrong_answer_leads_to_the_step_that_decides_and_a_digit_that_is_none_is_ignored() {
    let question = Question {
        text: String::new(),
        kind: Kind::Choice(vec!["a".to_owned(), "b".to_owned()]),
        right: 1,
        why: String::new(),
        decides: 7,
    };
    let open = || Quiz {
        asked: Some(Asked { question: question.clone(), at: Vec::new(), came: None }),
        ..Quiz::default()
    };
    let mut quiz = open();
    assert_eq!(None, quiz.give_digit(3));
    assert_eq!(None, quiz.give_digit(0));
    assert_eq!(Some(7), quiz.give_digit(1));
    assert_eq!(None, quiz.give_digit(2), "it is answered");
    assert_eq!(Score { right: 0, wrong: 1, skipped: 0 }, quiz.score);
    let mut quiz = open();
    assert_eq!(None, quiz.give_digit(2));
    assert_eq!((1, Some(Came::Right)), (quiz.score.right, quiz.asked.unwrap().came));
}

#[test]
fn on_the_first_run_one_question_is_asked_at_the_commit_and_noted() {
    let scene = scenes::put();
    let lanes = lanes(&scene.recording);
    let mut steps = Steps::open(&scene.recording, Subject::Request(PUT));
    let mut quiz = Quiz::default();
    quiz.expect_first(PathBuf::from("note"));
    let mut all = Vec::new();
    loop {
        quiz.ask(&steps, &lanes, &[]);
        all.extend(quiz.asked.take());
        let now = steps.now;
        steps.step(Grain::Story, Direction::Forward);
        if steps.now == now {
            break;
        }
    }
    assert_eq!(1, all.len());
    assert!(all[0].question.text.contains("kept or lost"));
    assert_eq!(0, all[0].question.right, "it is committed");
    assert_eq!(Some(PathBuf::from("note")), quiz.take_note());
    assert_eq!(None, quiz.take_note());
}
