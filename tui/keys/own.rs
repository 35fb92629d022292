//! The keys for requests that are typed, and answers to questions.

use crossterm::event::KeyCode;
use glass_etcd::trace::Grain;

use super::{
    ALL, Action, Back, Binding, Edit, Forward, Now,
    Press::{self, Char, Code, Ctrl, Digit, Text},
    STORIES, Screen, State, edit, has_steps, only_if, row,
};
use crate::state::console::{self, Key};

const CONSOLE: &[Screen] = &[Screen::Console];
/// The screens on which a line is typed.
const TYPING: &[Screen] = &[Screen::Console, Screen::Find, Screen::Seek];
const QUIZ: &[Screen] = &[Screen::Quiz];
/// The screens from which a request can be sent.
const SEND: &[Screen] = &STORIES;

/// The rows of these keys.
pub(super) const ROWS: &[Binding] = &[
    row(&[Digit], "0-9", ("answer with this number", "answer"), QUIZ, Action::Answer(0))
        .with_digit(Action::Answer)
        .when(is_counting),
    row(
        &[Code(KeyCode::Enter)],
        "Enter",
        ("answer with the step of »", "this step"),
        QUIZ,
        Action::Pick,
    )
    .when(is_picking),
    row(&[Code(KeyCode::Up), Char('k')], "↑ k", ("look one row up", ""), QUIZ, Action::Look(Back)),
    row(
        &[Code(KeyCode::Down), Char('j')],
        "↓ j",
        ("look one row down", ""),
        QUIZ,
        Action::Look(Forward),
    ),
    row(
        &[Code(KeyCode::Right), Char('l')],
        "→ l",
        ("skip, and the next step", "skip"),
        QUIZ,
        Action::Step(Grain::Story, Forward),
    )
    .when(may_pass),
    row(
        &[Code(KeyCode::Left), Char('h')],
        "← h",
        ("skip, and the step before", ""),
        QUIZ,
        Action::Step(Grain::Story, Back),
    )
    .when(may_pass),
    row(
        &[Code(KeyCode::Left), Char('h')],
        "← h",
        ("back; the question waits", ""),
        QUIZ,
        Action::Step(Grain::Story, Back),
    )
    .when(is_lesson),
    row(
        &[Char(']')],
        "]",
        ("skip, and a finer step", ""),
        QUIZ,
        Action::Step(Grain::Stage, Forward),
    )
    .when(may_pass),
    row(
        &[Char('.')],
        ".",
        ("skip, and the next record", ""),
        QUIZ,
        Action::Step(Grain::Raw, Forward),
    )
    .when(may_pass),
    row(
        &[Char('P')],
        "P",
        ("predict: answer questions", ""),
        &[Screen::Steps, Screen::Quiz],
        Action::Predict,
    )
    .when(may_predict),
    row(
        &[Code(KeyCode::Esc), Char('q')],
        "Esc q",
        ("skip the question", "skip"),
        QUIZ,
        Action::Skip,
    )
    .when(may_pass),
    row(&[Char('i')], "i", ("a hint of the lesson", "hint"), QUIZ, Action::Hint).when(is_lesson),
    row(&[Char('s')], "s", ("skip the question", "skip"), QUIZ, Action::Skip).when(is_lesson),
    row(&[Char('c')], "c", ("tell the answer, in a lesson", "tell me"), QUIZ, Action::Tell)
        .when(is_lesson),
    row(
        &[Char('Q')],
        "Q",
        ("leave the lesson for now", "leave"),
        &[Screen::Steps, Screen::Quiz],
        Action::Quit,
    )
    .when(is_lesson),
    row(
        &[Char('i')],
        "i",
        ("send a request of your own", "send"),
        SEND,
        Action::Console(Key::Open),
    )
    .when(takes_requests),
    edit(&[Text], "a-z …", ("put, get, del, txn, lock …", ""), CONSOLE, Edit::Type(' ')),
    while_typing(&[Code(KeyCode::Enter)], "Enter", ("send it", "send"), Key::Send),
    while_typing(&[Code(KeyCode::Tab)], "Tab", ("complete the word", "complete"), Key::Complete),
    while_typing(&[Code(KeyCode::Up)], "↑", ("the line sent before", "earlier"), Key::Earlier),
    while_typing(&[Code(KeyCode::Down)], "↓", ("the line sent after it", ""), Key::Later),
    while_typing(&[Code(KeyCode::Esc)], "Esc", ("back", "back"), Key::Close),
    row(
        &[Ctrl('x')],
        "Ctrl-X",
        ("give up your last request", "give up"),
        ALL,
        Action::Console(Key::Cancel),
    )
    .when(has_waiting),
    edit(&[Code(KeyCode::Left)], "←", ("one character back", ""), TYPING, Edit::Left),
    edit(&[Code(KeyCode::Right)], "→", ("one character on", ""), TYPING, Edit::Right),
    edit(&[Code(KeyCode::Home), Ctrl('a')], "Home", ("to the beginning", ""), TYPING, Edit::Home),
    edit(&[Code(KeyCode::End), Ctrl('e')], "End", ("to the end", ""), TYPING, Edit::End),
    edit(
        &[Code(KeyCode::Backspace)],
        "Backspace",
        ("take back a character", ""),
        TYPING,
        Edit::Erase,
    ),
    edit(&[Code(KeyCode::Delete)], "Delete", ("remove a character", ""), TYPING, Edit::Delete),
    edit(&[Ctrl('w')], "Ctrl-W", ("take back a word", ""), TYPING, Edit::EraseWord),
    edit(&[Ctrl('k')], "Ctrl-K", ("remove the rest of it", ""), TYPING, Edit::Cut),
    edit(&[Ctrl('u')], "Ctrl-U", ("empty the line", ""), TYPING, Edit::Clear),
    edit(
        &[Text],
        "a-z …",
        ("key m: l: r:rpc >1ms is:read", "type"),
        &[Screen::Find],
        Edit::Type(' '),
    ),
    edit(&[Text], "a-z …", ("words of it; m: k: is: …", "type"), &[Screen::Seek], Edit::Type(' ')),
];

/// A row for the line that is typed.
const fn while_typing(
    presses: &'static [Press],
    shown: &'static str,
    words: (&'static str, &'static str),
    key: Key,
) -> Binding {
    row(presses, shown, words, CONSOLE, Action::Console(key))
}

fn takes_requests(state: &State) -> Now {
    only_if(state.console.is_connected(), console::NOBODY)
}

/// Whether a request of one's own is under way.
fn has_waiting(state: &State) -> Now {
    only_if(state.console.waiting().is_some(), "none of your requests is under way")
}

/// Whether the questions are those of a lesson.
fn is_lesson(state: &State) -> Now {
    only_if(state.quiz.course.is_some(), "this key is for lessons")
}

/// Whether a step key skips the question.
fn may_pass(state: &State) -> Now {
    let why = "answer first: i is a hint, s skips, c tells the answer, Q leaves the lesson";
    only_if(state.quiz.course.is_none(), why)
}

/// Whether questions may be turned on and off.
fn may_predict(state: &State) -> Now {
    has_steps(state)?;
    only_if(state.quiz.course.is_none(), "the lesson asks its own questions")
}

/// Whether the open question is answered with a step.
fn is_picking(state: &State) -> Now {
    only_if(is_pick(state), "this question is answered with a number")
}

/// Whether the open question is answered with a number.
fn is_counting(state: &State) -> Now {
    only_if(!is_pick(state), "this question is answered with a step: ↑ and ↓ choose it, then Enter")
}

fn is_pick(state: &State) -> bool {
    use crate::state::quiz::Kind;
    let asked = state.steps.as_ref().and_then(|steps| state.quiz.asked(steps));
    asked.is_some_and(|asked| asked.question.kind == Kind::Pick)
}
